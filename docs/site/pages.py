"""What this site does beyond Sphinx: notebooks with folded cells and words for their pictures,
links between sections and functions, links that hold outside of the repository, links to the pages
in the browser and to the glossary, launch buttons.
"""

import json
import re
from functools import cache
from pathlib import Path, PurePosixPath

import api_pages
import introductions
import terms
from docutils import nodes
from PIL import Image
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from typeset import FILM, LINK

FOLDED = {"code_prompt_hide": "Fold"}
# what a notebook says of the page that shows the same in the browser
POINTS = "[Learn in your browser](../live/points/index.html)"
GARMENTS = "[Garments in your browser](../live/garments/index.html)"
LIVE = {
    "00": f"{POINTS} trains this model in the page, on points that you draw.",
    "06": f"{GARMENTS} draws with this network; a slider goes along the way from noise.",
    "09": f"{POINTS} has bumps to move, with their exact score, and two samplers side by side.",
    "10": f"{GARMENTS} draws what you ask for, fills in what you cut out, redraws your sketches.",
}
END = """\
```{container} at-the-end
The [glossary](../docs/glossary.md) has the words of this course in six languages; words over a
dotted line lead there. Symbols are in the [notation](../docs/notation.md).
```
"""
SMALL = 250  # pixels: a picture that is narrower is shown enlarged


def read(app: Sphinx, docname: str, source: list[str]) -> None:
    """Prepare what Sphinx has read of a page, before it is parsed."""
    folder = PurePosixPath(docname).parent
    if app.env.doc2path(docname).suffix != ".ipynb":
        source[0] = relinked(app, folder, source[0])
        return
    notebook = json.loads(source[0])
    number = PurePosixPath(docname).name.partition("_")[0]
    taught = {}
    for name, section in introductions.introductions().items():
        if section.notebook == number and not name.startswith("course."):
            taught.setdefault(section.number, []).append(name)
    section = None
    for i, cell in enumerate(notebook["cells"]):
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            prepare(cell, text, first=i == 1)
        else:
            text, section = with_sections(text, section, taught)
            if i == 0 and number in LIVE:
                text += f"\n\n```{{container}} in-the-browser\n{LIVE[number]}\n```\n"
            cell["source"] = relinked(app, folder, text)
    end = {"cell_type": "markdown", "id": "at-the-end", "metadata": {}}
    notebook["cells"].append(end | {"source": relinked(app, folder, END)})
    source[0] = json.dumps(notebook)


def with_sections(text: str, section: str | None, taught: dict) -> tuple[str, str | None]:
    """A markdown cell in which numbered sections can be linked to, and end with what they teach.

    section: the number of the one that the cell begins in.  Returns also the one it ends in.
    """
    parts = re.split(r"(?m)^(?=## )", text)
    made = [parts[0]]
    for part in parts[1:]:
        if names := taught.pop(section, None):
            links = ", ".join(f"{{py:obj}}`{name} <tutorial_lib.{name}>`" for name in names)
            made.append(f"```{{container}} in-the-library\nIn the library: {links}\n```\n\n")
        found = introductions.HEADING.match(part)
        section = found[1] if found else None
        made.append(f"(section-{section.replace('.', '-')})=\n{part}" if section else part)
    return "".join(made), section


def prepare(cell: dict, text: str, first: bool) -> None:
    """Give the pictures of a code cell their words, and fold what is not for reading."""
    tags = cell["metadata"].setdefault("tags", [])
    shown = cell["metadata"].setdefault("mystnb", {})
    if alt := cell["metadata"].get("alt"):
        shown["image"] = {"alt": alt}
    if first:
        tags.append("hide-cell")
        shown |= {"code_prompt_show": "Imports, and a check of the environment"} | FOLDED
    elif any(tag.startswith("exercise-") for tag in tags):
        tags.append("hide-cell")
        shown |= {"code_prompt_show": "Your turn: the cell to fill in, and its check"} | FOLDED
    elif re.fullmatch(r"(show_source\([^()]*\)\s*)+", text):
        shown["text_lexer"] = "python"
    for output in cell["outputs"]:
        page = output.get("data", {}).get("text/html")
        if page and (film := FILM.fullmatch("".join(page).strip())):
            output["data"] = {"image/gif": film[1]}
            shown["image"] = {"alt": film[2]}


def relinked(app: Sphinx, folder: PurePosixPath, text: str) -> str:
    """The text with links to files outside of the site led to the repository, or undone."""

    def follow(found: re.Match) -> str:
        words, target = found[1], found[2]
        if f'<a id="{target[1:]}">' in text:  # an anchor in HTML, of which Sphinx knows nothing
            return f'<a href="{target}">{words}</a>'
        if re.match(r"[a-z]+:|#", target):
            return found[0]
        path, _, anchor = target.partition("#")
        place = Path(app.srcdir, folder, path).resolve()
        name = place.relative_to(Path(app.srcdir).resolve()).as_posix()
        up = "../" * len(folder.parts)
        if live := re.fullmatch(r"(?:docs/site/)?(live/\w+/index\.html)", name):
            return f'<a href="{up}{live[1]}">{words}</a>'
        if place.is_file():
            if place.suffix == ".md" and f'<a id="{anchor}">' in place.read_text(encoding="utf-8"):
                page = place.relative_to(Path(app.srcdir).resolve()).with_suffix(".html")
                return f'<a href="{up}{page.as_posix()}#{anchor}">{words}</a>'
            return found[0]
        if not (api_pages.ROOT / name).exists():
            return found[0]  # a mistake, and Sphinx says so
        if app.config.repository:
            anchor = f"#{anchor}" if anchor else ""
            return f"[{words}](https://github.com/{app.config.repository}/blob/main/{name}{anchor})"
        return words

    return LINK.sub(follow, text)


def link_names(app: Sphinx, doctree: nodes.document) -> None:
    """Make `diffusion.q_sample` in a text a link to what is said of it."""
    known = api_pages.names()
    aliases = introductions.imported([], known)
    docname = app.env.current_document.docname
    own = docname.removeprefix("api/") if docname.startswith("api/") else None
    for literal in list(doctree.findall(nodes.literal)):
        if isinstance(literal.parent, nodes.title | nodes.reference | pending_xref):
            continue
        quoted = re.sub(r"\(.*\)$", "", literal.astext())
        name = aliases.get(quoted.removeprefix("tutorial_lib."))
        if own and f"{own}.{quoted}" in known:
            name = f"{own}.{quoted}"
        if name:
            link = pending_xref("", refdomain="py", reftype="obj", refdoc=docname)
            link["reftarget"], link["refexplicit"] = f"tutorial_lib.{name}", True
            literal.replace_self(link)
            link += literal


def find_source(app: Sphinx, module: str) -> tuple[str, dict] | None:
    """The lines of a module, and where each function stands in them, without importing it."""
    found = api_pages.modules().get(module.removeprefix("tutorial_lib."))
    if not found:
        return None
    return found.source, ModuleAnalyzer.for_string(found.source, module).find_tags()


def launch_buttons(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    """Where the repository is known, let a notebook be opened where it can run."""
    repository = app.config.repository
    if not repository or not page.startswith("notebooks/"):
        return
    places = {  # Binder builds what .binder/ says; Colab takes the copies whose first cell installs
        "Colab": f"https://colab.research.google.com/github/{repository}/blob/launch/{page}.ipynb",
        "Binder": f"https://mybinder.org/v2/gh/{repository}/main?urlpath=lab/tree/{page}.ipynb",
    }
    buttons = [
        {"type": "link", "text": place, "tooltip": f"Run on {place}", "url": url, "icon": ""}
        for place, url in places.items()
    ]
    group = {"type": "group", "tooltip": "Run this notebook", "icon": "fas fa-rocket"}
    context["header_buttons"].append(group | {"buttons": buttons, "label": "launch-buttons"})


def finish(app: Sphinx, exception: Exception | None) -> None:
    """Say in each page how large its pictures are, let all but the first come when they are needed,
    give each film the still that stands for it when it is stopped, and name every control.
    """
    if exception:
        return
    for leftover in Path(app.outdir, "_static").glob("*macros.html"):
        leftover.unlink()  # the theme's own, and no page
    for page in Path(app.outdir).rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        head, mark, body = named(text).partition("<article")
        pictures = re.split(r"(<img [^>]*>)", body)
        for i in range(1, len(pictures), 2):
            pictures[i] = finished(pictures[i], page.parent, first=i == 1)
        changed = head + mark + "".join(pictures)
        if changed != text:
            page.write_text(changed, encoding="utf-8")


def named(text: str) -> str:
    """A page whose controls are called by what is written on them, or have a name at all, in which
    the lines of a long signature do not pretend to be definitions, and whose title does not say the
    site's name twice, as that of the front page would.
    """
    text = re.sub(r"<title>(.+?) &#8212; \1</title>", r"<title>\1</title>", text)
    text = re.sub(r'(?s)<dl>\s*((?:<dd><em class="sig-param.*?</dd>\s*)+)</dl>', lines_of, text)
    text = re.sub(
        r'(<button class="btn search-button-field[^>]*?) aria-label="Search"', r"\1", text
    )
    text = text.replace('<summary aria-label="Toggle hidden content">', "<summary>")
    nameless = '<summary><span class="toctree-toggle"'
    return text.replace(nameless, nameless.replace("<summary>", '<summary aria-label="More">'))


def lines_of(found: re.Match) -> str:
    """The lines of a signature as plain lines; `site.css` sets them in."""
    inside = re.sub(r"<dd>", '<span class="sig-line">', found[1]).replace("</dd>", "</span>")
    return f'<span class="sig-lines">{inside}</span>'


def finished(tag: str, folder: Path, first: bool) -> str:
    """One picture's tag with what `finish` adds."""
    source = re.search(r'src="([^":?]+)"', tag)
    path = folder / source[1] if source else folder
    if path.suffix not in (".png", ".gif", ".jpeg", ".jpg"):
        return tag
    width, height, still = measured(path.resolve())
    added = "" if first else ' loading="lazy"'
    added += " data-small" if width < SMALL else ""
    if given := re.search(r' width="(\d+)"', tag):  # as its notebook says
        width, height = int(given[1]), round(int(given[1]) * height / width)
    else:
        added += f' width="{width}"'
    added += f' height="{height}"'
    added += f' data-still="{source[1].removesuffix(path.name)}{still}"' if still else ""
    return tag.rstrip("/>").rstrip() + f"{added} />"


@cache
def measured(path: Path) -> tuple[int, int, str]:
    """Width and height of a picture, and of a film the name of its last frame, a file beside it."""
    with Image.open(path) as picture:
        frames = getattr(picture, "n_frames", 1)
        if frames > 1:
            picture.seek(frames - 1)
            picture.convert("RGB").save(path.with_suffix(".still.png"), optimize=True)
        return *picture.size, path.with_suffix(".still.png").name if frames > 1 else ""


def setup(app: Sphinx) -> dict:
    """Register all of it."""
    app.add_config_value("repository", "", "env", types=frozenset({str}))
    app.connect("source-read", read)
    app.connect("doctree-read", link_names)
    app.connect("doctree-read", terms.link_terms, priority=600)
    app.connect("viewcode-find-source", find_source)
    app.connect("html-page-context", launch_buttons, priority=600)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
