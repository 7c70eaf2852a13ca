"""Make a deck of slides of each notebook, from what is stored: nothing is executed.

    python tools/slides.py [NUMBER ...]      build/slides/NN.html, and index.html

Which cells are slides is said by the notebooks, in the cells' metadata, as Jupyter has it: slide
(begins a section of the deck), subslide, fragment (comes into the slide before), notes (what the
speaker may say), skip.  A text that is a slide shows its formula, or what docs/slides/decks/NN.toml
chooses; its other words become notes.  Code shows its figure, or itself and what it prints.  That
file also has the questions that are asked before a slide, and their answers.
"""

import base64
import functools
import html
import json
import re
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import figures
import npm
import typeset
from execute import ROOT, chosen, notebooks, number

HERE = ROOT / "docs" / "slides"
OUT = ROOT / "build" / "slides"
TYPES = ("slide", "subslide", "fragment", "notes", "skip", "-")
KEYS = {"answer", "ask", "code", "lines", "output", "rows", "say", "show", "title"}
WIDTH, HEIGHT = 1280, 720  # of a slide, in pixels
WIDE, HIGH = 1160, 560  # what is left for its content
LARGEST = 25  # pixels: code need not be larger than this
ENLARGED = {".png": 2.2, ".gif": 5.0}  # a picture may be shown as many times as wide, and no larger
HEADING = re.compile(r"(?m)^## +(.*)$")
FILES = {  # what is served beside the decks, from npm
    "reveal/reveal.js": "reveal.js/dist/reveal.js",
    "reveal/reveal.css": "reveal.js/dist/reveal.css",
    "reveal/notes.js": "reveal.js/dist/plugin/notes.js",
    "reveal/LICENSE": "reveal.js/LICENSE",
    **{
        f"fonts/source-sans-pro-{style}.woff": (
            f"reveal.js/css/theme/fonts/source-sans-pro/source-sans-pro-{style}.woff"
        )
        for style in ("regular", "italic", "semibold", "semibolditalic")
    },
}


@dataclass
class Slide:
    """One slide: its heading, what it shows as HTML, and what the speaker may say as Markdown."""

    title: str
    body: list[str]
    notes: list[str] = field(default_factory=list)
    kind: str = "plain"
    cell: str = ""
    begins: bool = False  # a section of the deck


class DeckError(Exception):
    """A deck that cannot be made as its notebook and its file of words say."""


def main() -> int:
    """Parse the command line and do what it says."""
    paths = chosen(__doc__)
    packages = npm.fetch(HERE, typeset.NPM, "Slides")
    for name, source in FILES.items():
        typeset.place(OUT / name, (packages / source).read_bytes())
    for name in ("slides.css", "code.css"):
        typeset.place(OUT / name, (HERE / name).read_bytes())
    formulas, pages = typeset.Formulas(), {}
    try:
        for path in paths:
            pages[path] = page(path, deck(path, formulas, OUT), formulas)
    except DeckError as error:
        sys.exit(str(error))
    draw = functools.cache(lambda: typeset.draw(list(formulas.found)))
    for path, text in pages.items():
        text = formulas.fill(text, lambda _: draw())
        typeset.place(OUT / f"{number(path)}.html", text.encode())
    typeset.place(OUT / "index.html", index().encode())
    print(f"{len(pages)} decks in {OUT}. Open index.html; S opens the speaker's notes.")
    return 0


# --- what a deck says


def words(path: Path) -> dict[str, list[dict]]:
    """What a notebook's slides say beyond their cells: by a cell's id, one table a slide."""
    file = HERE / "decks" / f"{number(path)}.toml"
    found = tomllib.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    tables = {cell: one if isinstance(one, list) else [one] for cell, one in found.items()}
    for cell, several in tables.items():
        for table in several:
            if unknown := table.keys() - KEYS:
                raise DeckError(f"{file.name}, {cell}: no such key as {', '.join(sorted(unknown))}")
            if ("ask" in table) != ("answer" in table):
                raise DeckError(f"{file.name}, {cell}: a question needs its answer, and vice versa")
    return tables


def deck(path: Path, formulas: typeset.Formulas, out: Path) -> list[Slide]:
    """The slides of a notebook; its pictures are written below `out`."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    said, made = words(path), []
    pictures = Pictures(path, out)
    section, waiting = "", []  # the section's heading; notes for the slide to come
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        kind = cell["metadata"].get("slideshow", {}).get("slide_type", "-")
        if kind not in TYPES:
            raise DeckError(f"{path.name}, {cell['id']}: no such type of slide as {kind!r}")
        if cell["cell_type"] == "markdown" and kind in ("notes", "-"):
            before, after = split_at_heading(text)
            if made and before:
                made[-1].notes.append(before)
            waiting += [after] if after else []
        for table in said.get(cell["id"], [{}]) if kind in TYPES[:3] else []:
            try:
                new = slides_of(cell, table, section, pictures, formulas, title_slide=not made)
            except DeckError as error:
                raise DeckError(f"{path.name}, {cell['id']}: {error}") from None
            if kind == "fragment":
                if not made:
                    raise DeckError(f"{path.name}, {cell['id']}: a fragment without a slide")
                made[-1].body += [f'<div class="fragment">{"".join(new[-1].body)}</div>']
                made[-1].notes += new[-1].notes
                continue
            new[0].notes[:0], waiting = waiting, []
            new[0].begins = kind == "slide"
            made += new
            kind = "subslide"  # for the cell's other slides
        section = heading(text, section) if cell["cell_type"] == "markdown" else section
    if not made:
        raise DeckError(f"{path.name}: none of its cells is a slide")
    add_guide(made, number(path))
    return made


def split_at_heading(text: str) -> tuple[str, str]:
    """A text before its last heading, and from there on."""
    found = list(HEADING.finditer(text))
    return (text[: found[-1].start()], text[found[-1].start() :]) if found else (text, "")


def heading(text: str, before: str) -> str:
    """The section that a text ends in; `before` if it begins none."""
    found = HEADING.findall(text)
    return found[-1] if found else before


def slides_of(
    cell: dict,
    table: dict,
    section: str,
    pictures: "Pictures",
    formulas: typeset.Formulas,
    title_slide: bool,
) -> list[Slide]:
    """The slide that a cell becomes, behind a slide with its question if there is one."""
    text = "".join(cell["source"])
    if cell["cell_type"] == "code":
        slide = of_code(cell, table, section, pictures)
    elif title_slide:
        slide = of_title(text, pictures, formulas)
    else:
        slide = of_text(text, table, section, formulas)
    slide.cell = cell["id"]
    slide.title = table.get("title", slide.title)
    if "say" in table:
        slide.body.append(f'<p class="say">{inline(table["say"], formulas)}</p>')
    if "ask" not in table:
        return [slide]
    question = f'<p class="question">{inline(table["ask"], formulas)}</p>'
    answer = f'<p class="answer fragment">{inline(table["answer"], formulas)}</p>'
    asked = Slide(slide.title, [question, answer], kind="ask", cell=cell["id"])
    return [asked, slide]


def of_title(text: str, pictures: "Pictures", formulas: typeset.Formulas) -> Slide:
    """The first slide: the notebook's number and title, its question, its picture."""
    numbered, title = re.search(r"(?m)^# (\w+) · (.*)$", text).groups()
    question = re.search(r"\*\*The question:\*\* (.*)", text)[1]
    question = question[0].upper() + question[1:]
    shown = pictures.in_text(text)
    body = [
        f'<div class="words"><p class="number">{numbered}</p><h1>{html.escape(title)}</h1>',
        f'<p class="question">{inline(question, formulas)}</p></div>{shown}',
    ]
    return Slide(title, body, [without_pictures(text)], kind="title", begins=True)


def of_text(text: str, table: dict, section: str, formulas: typeset.Formulas) -> Slide:
    """A slide of a text: its formulas, or the blocks that begin as its table's `show` says."""
    title, shown, left = section, [], []
    chosen = list(table.get("show", []))
    keep = "**Keep this" in text and not chosen
    for block in typeset.blocks(text):
        if found := re.match(r"## +(.*)", block):
            section = found[1]
            title = section if not shown else title
            continue
        if keep:
            take = block.startswith("**Keep this") or (
                bool(shown) and block.startswith("- ") and len(shown) == 1
            )
        elif "show" in table:
            take = any(one in block for one in chosen)
            chosen = [one for one in chosen if one not in block]
        else:
            take = block.startswith(("$$", "> **You may meet"))
        block = chosen_rows(block, table["rows"]) if take and "rows" in table else block
        (shown if take else left).append(block)
    if chosen:
        raise DeckError(f"no block of the cell has the words {chosen[0]!r}")
    if not shown and "say" not in table:
        raise DeckError(
            "the slide would be empty: say what it shows, in its table in docs/slides/decks"
        )
    body = [f'<div class="block">{block_html(block, formulas)}</div>' for block in shown]
    boxed = bool(shown) and shown[0].startswith(("> **", "**You may", "**One may"))
    kind = "box" if boxed else "keep" if keep else "text"
    left = [block for block in left if not block.startswith(("|", "<details", "</details"))]
    return Slide("Keep this" if keep else title, body, ["\n\n".join(left)], kind=kind)


def chosen_rows(block: str, wanted: list[int]) -> str:
    """A Markdown table with these of its rows, counted from 0; other blocks stay as they are."""
    lines = block.split("\n")
    if not lines[0].startswith("|"):
        return block
    return "\n".join([*lines[:2], *(lines[2 + k] for k in wanted)])


def block_html(block: str, formulas: typeset.Formulas) -> str:
    """A block of Markdown as HTML; links become their words."""
    block = typeset.LINK.sub(r"\1", block)
    block = re.sub(r"^\*\*Keep this\.?\*\*\s*", "", block)
    block = re.sub(r":$", ".", block) if block.startswith((">", "**You may")) else block
    return typeset.markdown(formulas.mark(block)) if block else ""


def inline(text: str, formulas: typeset.Formulas) -> str:
    """A sentence of Markdown as HTML."""
    return re.sub(r"</?p>", "", block_html(text, formulas)).strip()


def of_code(cell: dict, table: dict, section: str, pictures: "Pictures") -> Slide:
    """A slide of a code cell: its figures, or its lines and what they print."""
    source = "".join(cell["source"])
    shown = pictures.of_cell(cell)
    printed = "".join(map(typeset.text_of, cell["outputs"])).rstrip("\n")
    body = []
    if re.fullmatch(r"(show_source\([^()]*\)\s*)+", source):
        lines = without_docstring(printed).split("\n")
        body.append(lines_html(cut(lines, table), "code", HIGH))
    else:
        code = cut(source.split("\n"), table) if table.get("code", not shown) else []
        out = printed.split("\n") if printed and table.get("output", not shown) else []
        room = (HIGH - 40 * bool(code and out)) * (0.4 if shown else 1)
        share = room / max(1, len(code) + len(out))
        for lines, kind in ((code, "code"), (out, "out")):
            if lines:
                body.append(lines_html(lines, kind, share * len(lines)))
    body += shown
    if not body:
        raise DeckError("the slide would be empty: the cell has neither figure nor output")
    return Slide(section, body, kind="figure" if shown else "code")


def cut(lines: list[str], table: dict) -> list[str]:
    """The lines that a table's `lines` chooses, "3-9" for example, without their common indent."""
    if "lines" in table:
        first, _, last = table["lines"].partition("-")
        lines = lines[int(first) - 1 : int(last or first)]
    indent = min((len(one) - len(one.lstrip()) for one in lines if one.strip()), default=0)
    return [one[indent:].replace("  # fmt: skip", "") for one in lines]


def without_docstring(source: str) -> str:
    """The lines of a function without its docstring."""
    return re.sub(r'(?ms)^\s+r?""".*?"""\n', "", source)


def lines_html(lines: list[str], kind: str, room: float) -> str:
    """Lines of code or of output, as large as fits into a height."""
    size = min(LARGEST, (WIDE - 30) / (0.605 * max(map(len, lines))), room / (1.4 * len(lines)))
    text = "\n".join(lines)
    inside = typeset.code(text) if kind == "code" else html.escape(text)
    return f'<pre class="{kind}" style="font-size: {size:.1f}px"><code>{inside}</code></pre>'


class Pictures:
    """The pictures of a notebook, written below `out` when a slide needs them.

    Drawings of `make figures` are taken where they belong to the notebook as it is.
    """

    def __init__(self, path: Path, out: Path) -> None:
        self.path, self.out = path, out
        self.folder = out / "pictures" / number(path)
        self.sharp = figures.current(path) or {}

    def of_cell(self, cell: dict) -> list[str]:
        """The figures and films of a code cell."""
        made, alt = [], cell["metadata"].get("alt", "")
        outputs = [one for one in cell["outputs"] if typeset.films(one) or png(one)]
        for place, output in enumerate(outputs):
            if film := typeset.films(output):
                made.append(self.tag(f"{cell['id']}-{place}.gif", *film))
            elif sharp := self.sharp.get((cell["id"], place)):
                content = sharp.read_bytes()
                made.append(self.tag(f"{cell['id']}-{place}{sharp.suffix}", content, alt))
            else:
                made.append(self.tag(f"{cell['id']}-{place}.png", png(output), alt))
        return made

    def in_text(self, text: str) -> str:
        """The first picture of a text."""
        if found := re.search(r'<img src="([^"]+)"[^>]*?alt="([^"]*)"', text):
            name, alt = found[1], html.unescape(found[2])
        elif found := re.search(r"!\[([^\]]*)\]\(([^)]+)\)", text):
            name, alt = found[2], found[1]
        else:
            return ""
        file = self.path.parent / name
        return self.tag(file.name, file.read_bytes(), alt)

    def tag(self, name: str, content: bytes, alt: str) -> str:
        """A picture as HTML, with its words; the file is written."""
        file = typeset.place(self.folder / name, content)
        width, height = size_of(content)
        source = file.relative_to(self.out).as_posix()
        limit = WIDE if name.endswith(".svg") else int(ENLARGED[file.suffix] * width)
        shape = "wide" if width > 1.5 * height else "tall"
        return (
            f'<figure class="{shape}" style="--limit: {limit}px">'
            f'<img src="{source}" alt="{html.escape(alt)}"></figure>'
        )


def png(output: dict) -> bytes:
    """The picture of an output; nothing if it has none."""
    return base64.b64decode("".join(output.get("data", {}).get("image/png", "")))


def size_of(content: bytes) -> tuple[float, float]:
    """Width and height of a PNG, a GIF or an SVG."""
    if content.startswith(b"\x89PNG"):
        return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")
    if content.startswith(b"GIF"):
        return int.from_bytes(content[6:8], "little"), int.from_bytes(content[8:10], "little")
    width, height = re.search(rb'<svg[^>]*? viewBox="0 0 ([\d.]+) ([\d.]+)"', content).groups()
    return float(width), float(height)


# --- what the guide for teachers says


def guide() -> str:
    """The guide's text."""
    return (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")


def add_guide(made: list[Slide], numbered: str) -> None:
    """Bring aims, times, questions and misconceptions into the notes of their slides."""
    found = re.search(rf"(?ms)^### {numbered} .*?(?=^##)", guide())
    if not found:
        return
    rows = re.findall(r"(?m)^\| (.+?) \| (.+?) \|$", found[0])
    rows = [row for row in rows if row[0] not in ("students may think",) and "---" not in row[0]]
    told = re.sub(r"(?m)^(###|\|).*\n?", "", found[0]).strip()
    first = [told, *in_two_hours(numbered)]
    for thought, cure in rows:
        note = f"**Students may think:** {thought}. *What cures it:* {cure}."
        sections = re.findall(r"\d+b?\.\d+", re.sub(r"exercises? [\d.b, and]+", "", cure))
        places = [slide for slide in made if slide.title.split(" ")[0] in sections]
        places[0].notes.insert(0, note) if places else first.append(note)
    made[0].notes = [*first, *made[0].notes]
    made[-1].notes.append(f"**At the end of a lecture of two hours:** {takeaways()}")


def in_two_hours(numbered: str) -> list[str]:
    """What a lecture of two hours shows of a notebook, and for how long."""
    rows = re.findall(r"(?m)^\| (\d+) \| (.+?) \| (.+?) \|$", guide())
    return [
        f"**In a lecture of two hours:** {minutes} minutes. {what}. Show: {shown}."
        for minutes, what, named in rows
        for notebook, _, shown in [named.partition(": ")]
        if notebook == numbered
    ]


def takeaways() -> str:
    """The four things to take away from a lecture of two hours."""
    text = re.search(
        r"(?ms)^### Two hours$.*?\*\*Four things to take away\.\*\* (.*?)\n\n", guide()
    )
    return re.sub(r"\s+", " ", text[1])


# --- pages


def page(path: Path, slides: list[Slide], formulas: typeset.Formulas) -> str:
    """A deck as one page of HTML, with marks for its formulas."""
    stacks: list[list[Slide]] = []
    for slide in slides:
        if slide.begins or not stacks:
            stacks.append([])
        stacks[-1].append(slide)
    made = []
    for stack in stacks:
        inside = "\n".join(slide_html(slide, formulas) for slide in stack)
        made.append(f"<section>\n{inside}\n</section>" if len(stack) > 1 else inside)
    text = (HERE / "deck.html").read_text(encoding="utf-8")
    values = {
        "number": number(path),
        "title": html.escape(slides[0].title),
        "slides": "\n".join(made),
        "width": str(WIDTH),
        "height": str(HEIGHT),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], text)


def slide_html(slide: Slide, formulas: typeset.Formulas) -> str:
    """One slide as HTML."""
    header = "" if slide.kind == "title" else f"<h2>{inline(slide.title, formulas)}</h2>"
    notes = "\n\n".join(note for note in slide.notes if note.strip())
    aside = f'<aside class="notes">{notes_html(notes, formulas)}</aside>' if notes else ""
    body = "\n".join(slide.body)
    return (
        f'<section class="{slide.kind}" data-cell="{slide.cell}"><div class="frame">{header}\n'
        f'<div class="body">{body}</div></div>{aside}</section>'
    )


def notes_html(text: str, formulas: typeset.Formulas) -> str:
    """Notes as HTML, without pictures, and with links as words."""
    text = re.sub(r"(?m)^#+ (.*)$", r"**\1**", without_pictures(text))
    return block_html(text, formulas)


def without_pictures(text: str) -> str:
    """A text without its pictures, and without what is folded away in it."""
    text = re.sub(r"(?s)<details>.*?</details>|<img [^>]*>|!\[[^\]]*\]\([^)]*\)", "", text)
    return re.sub(r"<[^>]*>", "", text)


def index() -> str:
    """The page that leads to the decks that there are."""
    rows = []
    for path in notebooks():
        if (OUT / f"{number(path)}.html").exists():
            first = json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]
            title = re.search(r"(?m)^# \w+ · (.*)$", "".join(first))[1]
            rows.append(f'<li><a href="{number(path)}.html">{number(path)} {title}</a></li>')
    text = (HERE / "index.html").read_text(encoding="utf-8")
    return text.replace("<!-- decks -->", "\n".join(rows))


if __name__ == "__main__":
    raise SystemExit(main())
