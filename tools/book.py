"""Print the whole course as one PDF, from what is stored: nothing is executed.

    python tools/book.py [NUMBER ...]      build/book/course.pdf; these notebooks, or all of them

Title page, contents with page numbers, the notebooks in order with code and outputs (imports,
checks and explorers left to the notebooks), glossary, notation, equations.  Chromium prints it.
Figures of `make figures` are taken where they belong to the notebook as it is: they stay sharp.
"""

import base64
import html
import io
import json
import logging
import re
import shutil
import sys
from pathlib import Path

import figures
import printing
import typeset
from execute import ROOT, chosen, number
from PIL import Image
from slides import png, size_of

import tutorial_lib

HERE = ROOT / "docs" / "slides"
OUT = ROOT / "build" / "book"
PAGES = ("glossary", "notation", "equations")
PARTS = {
    "00": "Part I: the core path",
    "07": "Part II: beyond the basic model",
    "19": "Part III: the other families",
}
MINUTES = 20  # the longest that Chromium may take to print it, on a busy machine
SHOWN = 0.2  # millimetres that a pixel of a stored figure is wide; at most the page's width
ANCHOR = re.compile(r'<a href="#([^"]*)"([^>]*)>(.*?)</a>', re.DOTALL)


def main() -> int:
    """Parse the command line and do what it says."""
    paths = chosen(__doc__)
    try:
        browser = printing.chromium()
    except ValueError as error:
        sys.exit(str(error))
    if not browser:
        sys.exit("The book is printed by Chromium: install it, or say in CHROMIUM where it is.")
    blurred = [number(path) for path in paths if figures.current(path) is None]
    if blurred:
        print(f"Figures of {', '.join(blurred)} are the stored ones. `make figures` sharpens them.")
    if boxes := printing.without_font({"zh": "Chinese", "ja": "Japanese", "ko": "Korean"}):
        print(f"No font here has {', '.join(boxes)}: these words of the glossary become boxes.")
        print("Noto Sans CJK has all of them (on Debian and Ubuntu: fonts-noto-cjk).")
    formulas = typeset.Formulas()
    text = formulas.fill(page(paths, formulas), typeset.draw)
    OUT.mkdir(parents=True, exist_ok=True)
    for name in ("book.css", "code.css"):
        shutil.copy(HERE / name, OUT)
    source, target = OUT / "course.html", OUT / "course.pdf"
    found: dict[str, int] = {}
    for _ in range(3):  # the numbers in the contents may move what follows them
        source.write_text(numbered(text, found), encoding="utf-8")
        try:
            printing.to_pdf(browser, source, target, MINUTES)
        except RuntimeError as error:
            sys.exit(str(error))
        before, found = found, places(target)
        if found == before:
            break
    finish(target, found, headings(text))
    print(f"{target}: {target.stat().st_size / 1e6:.0f} MB")
    return 0


# --- the book as one page of HTML


def page(paths: list[Path], formulas: typeset.Formulas) -> str:
    """The book as HTML, with marks for its formulas and for the page numbers of its contents."""
    chapters = [chapter(path, formulas) for path in paths]
    chapters += [appendix(name, formulas) for name in PAGES]
    names = [re.search(r'<section class="chapter" id="(.*?)"', one)[1] for one in chapters]
    titles = [re.search(r"(?s)<h1[^>]*>(.*?)</h1>", one)[1] for one in chapters]
    running = "\n".join(
        f'@page {name} {{ @top-left {{ content: "{plain(title)}" }} }}\n#{name} {{ page: {name} }}'
        for name, title in zip(names, titles, strict=True)
    )
    text = (HERE / "book.html").read_text(encoding="utf-8")
    values = {
        "version": tutorial_lib.__version__,
        "cover": cover(),
        "running": running,
        "contents": contents(chapters),
        "chapters": "\n".join(chapters),
    }
    text = re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], text)
    return linked(text)


def plain(title: str) -> str:
    """A heading as plain text."""
    return html.unescape(re.sub(r"<[^>]*>|[\ue000\ue001\"\\]", "", title)).strip()


def chapter(path: Path, formulas: typeset.Formulas) -> str:
    """A notebook as a chapter: its words, its code, and what that prints and draws."""
    name, cells = number(path), json.loads(path.read_text(encoding="utf-8"))["cells"]
    sharp = figures.current(path) or {}
    made = []
    for i, cell in enumerate(cells):
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            made.append(prose(text, f"nb-{name}", path.parent, formulas))
        elif i == 1:
            made.append(left_out("Imports, and a check of the environment, are in the notebook."))
        elif any(tag.startswith("exercise-") for tag in cell["metadata"].get("tags", [])):
            made.append(left_out("The cell to fill in, and its check, are in the notebook."))
        elif explorer(cell):
            made.append(left_out("Here the notebook has an explorer, with controls."))
        else:
            made.append(code_cell(cell, text, sharp))
    return f'<section class="chapter" id="nb-{name}">\n{"".join(made)}\n</section>'


def left_out(said: str) -> str:
    """A line in the place of what a book cannot do."""
    return f'<p class="left-out">{said}</p>\n'


def explorer(cell: dict) -> bool:
    """Whether a cell shows nothing but controls."""
    return "".join(map(typeset.text_of, cell["outputs"])).startswith("An explorer:")


def appendix(name: str, formulas: typeset.Formulas) -> str:
    """A page of docs/ as a chapter."""
    folder = ROOT / "docs"
    text = (folder / f"{name}.md").read_text(encoding="utf-8")
    text = re.sub(r"(?m)^This page is made by .*\n(.+\n)*", "", text)
    inside = prose(text, name, folder, formulas)
    return f'<section class="chapter" id="{name}">\n{inside}\n</section>'


def prose(text: str, chapter: str, folder: Path, formulas: typeset.Formulas) -> str:
    """Markdown as HTML: what was folded is open, pictures are inside, links lead into the book."""
    text = typeset.LINK.sub(lambda found: f"[{found[1]}]({target(found[2], chapter)})", text)
    made = typeset.markdown(formulas.mark(text))
    made = re.sub(
        r"<details>\s*<summary>(.*?)</summary>", r'<div class="answer"><p><b>\1</b></p>', made
    )
    made = made.replace("</details>", "</div>")
    made = re.sub(r'(<h\d[^>]*?) id="(.*?)"', rf'\1 id="{chapter}--\2"', made)
    made = re.sub(r'<a id="(.*?)">', rf'<a id="{chapter}--\1">', made)
    return re.sub(r"<img [^>]*>", lambda found: inside(found[0], folder), made)


def target(link: str, chapter: str) -> str:
    """Where a link leads inside of the book; an address stays, and what is not in it is dropped."""
    if re.match(r"[a-z]+:", link):
        return link
    path, _, anchor = link.partition("#")
    stem = Path(path).name
    if stem.endswith(".ipynb"):
        chapter = f"nb-{number(Path(stem))}"
    elif stem.endswith(".md"):
        chapter = stem.removesuffix(".md")
    elif stem:
        chapter, anchor = "outside", ""
    return f"#{chapter}--{anchor}" if anchor else f"#{chapter}"


def linked(text: str) -> str:
    """The book with those of its links that lead somewhere; the others become their words."""
    there = set(re.findall(r' id="([^"]*)"', text))
    lower = {name.lower(): name for name in there}

    def follow(found: re.Match) -> str:
        name = html.unescape(found[1])
        name = name if name in there else lower.get(name.lower(), name.partition("--")[0])
        return f'<a href="#{name}"{found[2]}>{found[3]}</a>' if name in there else found[3]

    return ANCHOR.sub(follow, text)


def inside(tag: str, folder: Path) -> str:
    """A picture's tag with the picture in it."""
    source = re.search(r'src="([^"]+)"', tag)[1]
    alt = html.unescape(re.search(r'alt="([^"]*)"', tag)[1])
    if source.startswith("data:"):
        return tag
    return picture((folder / source).read_bytes(), alt)


def code_cell(cell: dict, source: str, sharp: dict) -> str:
    """A code cell: its lines, what it prints, and its figures."""
    printed = "".join(map(typeset.text_of, cell["outputs"])).rstrip("\n")
    listing = re.fullmatch(r"(show_source\([^()]*\)\s*)+", source)
    made = [f'<pre class="code">{typeset.code(source)}</pre>']
    if printed:
        shown = typeset.code(printed) if listing else html.escape(printed)
        made.append(f'<pre class="out">{shown}</pre>')
    shown = [one for one in cell["outputs"] if png(one) or typeset.films(one)]
    for place, output in enumerate(shown):
        if film := typeset.films(output):
            made.append(picture(*film))
        else:
            stored, better = png(output), sharp.get((cell["id"], place))
            width = size_of(stored)[0]
            content = better.read_bytes() if better else stored
            made.append(picture(content, cell["metadata"].get("alt", ""), width))
    return "\n".join(made) + "\n"


def picture(content: bytes, alt: str, width: float | None = None) -> str:
    """A picture, inside of the page, with its words.  Of a film four moments are shown.

    width: in pixels, of the stored figure that it stands for.
    """
    if content.startswith(b"GIF"):
        return film(content, alt)
    kind = "svg+xml" if content.lstrip()[:1] == b"<" else "png"
    wide = min(170.0, SHOWN * (width or size_of(content)[0]))
    data = base64.b64encode(content).decode()
    return (
        f'<img class="figure" style="width: {wide:.0f}mm" alt="{html.escape(alt)}" '
        f'src="data:image/{kind};base64,{data}">'
    )


def film(content: bytes, alt: str) -> str:
    """Four moments of a film, side by side, from its first frame to its last."""
    with Image.open(io.BytesIO(content)) as frames:
        moments = [round(k * (frames.n_frames - 1) / 3) for k in range(4)]
        made = []
        for moment in moments:
            frames.seek(moment)
            file = io.BytesIO()
            frames.convert("RGB").save(file, "PNG", optimize=True)
            made.append(base64.b64encode(file.getvalue()).decode())
    words = html.escape(alt)
    shown = "".join(
        f'<img src="data:image/png;base64,{one}" alt="{words if i == 0 else ""}">'
        for i, one in enumerate(made)
    )
    return f'<span class="film">{shown}</span>'


def cover() -> str:
    """The picture of the title page: four moments of garments out of noise."""
    content = (ROOT / "notebooks" / "figures" / "denoising.gif").read_bytes()
    return film(content, "Sixteen squares of noise become sixteen garments, in four moments.")


# --- contents, page numbers, outline


def headings(text: str) -> list[tuple[int, str, str]]:
    """Level 1 or 2, place and words of each heading that the contents list."""
    found = []
    for chapter in re.split(r'(?=<section class="chapter")', text)[1:]:
        name = re.match(r'<section class="chapter" id="(.*?)"', chapter)[1]
        for level, place, words in re.findall(
            r'(?s)<h([12])[^>]*? id="(.*?)">(.*?)</h\1>', chapter
        ):
            if level == "1":
                found.append((1, name, words))
            elif name.startswith("nb-") and re.match(r"\d", words):
                found.append((2, place, words))
    return found


def contents(chapters: list[str]) -> str:
    """The table of contents, with a mark in the place of each page number."""
    rows = []
    for level, place, words in headings("\n".join(chapters)):
        part = PARTS.get(place.removeprefix("nb-")) if level == 1 else None
        part = "At the end" if place == PAGES[0] else part
        rows += [f'<p class="part">{part}</p>'] if part else []
        rows.append(
            f'<p class="level-{level}"><a href="#{place}"><span>{words}</span>'
            f'<span class="at" data-place="{place}"></span></a></p>'
        )
    return "\n".join(rows)


def numbered(text: str, found: dict[str, int]) -> str:
    """The page with the page numbers of its contents."""

    def fill(mark: re.Match) -> str:
        return f"{mark[0]}{found.get(html.unescape(mark[1]), '000')}"

    return re.sub(r'<span class="at" data-place="(.*?)">', fill, text)


def places(path: Path) -> dict[str, int]:
    """The page on which each place that is linked to lies, from 1."""
    from pypdf import PdfReader

    logging.getLogger("pypdf").setLevel(logging.ERROR)  # it warns of what Chromium leaves out
    reader = PdfReader(path)
    pages = {page.indirect_reference.idnum: i for i, page in enumerate(reader.pages, 1)}
    found = {}
    for name, destination in reader.named_destinations.items():
        reference = destination.raw_get("/Page")
        if getattr(reference, "idnum", None) in pages:
            found[name.lstrip("/")] = pages[reference.idnum]
    return found


def finish(path: Path, found: dict[str, int], listed: list[tuple[int, str, str]]) -> None:
    """Give the PDF its outline, its title and its language."""
    from pypdf import PdfWriter
    from pypdf.generic import NameObject, TextStringObject

    writer = PdfWriter(clone_from=path)
    parent = None
    for level, place, words in listed:
        if place in found:
            page = found[place] - 1
            if level == 1:
                parent = writer.add_outline_item(title=plain(words), page_number=page)
            else:
                writer.add_outline_item(title=plain(words), page_number=page, parent=parent)
    writer.add_metadata(
        {
            "/Title": "Diffusion models from first principles",
            "/Author": "The Diffusion Tutorial authors",
        }
    )
    writer.root_object[NameObject("/Lang")] = TextStringObject("en-GB")
    writer.write(path)


if __name__ == "__main__":
    raise SystemExit(main())
