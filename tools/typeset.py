"""Set Markdown, code and formulas as HTML that needs no script: for the slides and for the book."""

import base64
import html
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import npm
from execute import ROOT

from tutorial_lib import files

SLIDES = ROOT / "docs" / "slides"
NPM = ROOT / "build" / "npm-slides"
DRAWN = ROOT / "build" / "formulas.json"  # pictures of formulas that were drawn before
# code, in which a dollar is a dollar; a formula on a line of its own; one in a line
MATHEMATICS = re.compile(
    r"(?P<code>^```.*?^```|`[^`\n]+`)|\$\$(?P<display>.+?)\$\$|(?<![\\$\w])\$(?P<inline>[^$`]+?)\$(?!\d)",
    re.MULTILINE | re.DOTALL,
)
MARK = re.compile("\ue000(\\d+)\ue001")
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")  # but no picture
FILM = re.compile(r'<img src="data:image/gif;base64,([^"]+)" alt="([^"]*)"[^>]*>')
Draw = Callable[[list[tuple[str, bool]]], list[str]]


class Formulas:
    """Formulas on their way through a page: marks stand for them until all are drawn at once."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, bool], int] = {}

    def mark(self, text: str) -> str:
        """Markdown with a mark in the place of each formula."""

        def keep(found: re.Match) -> str:
            if found["code"]:
                return found[0]
            tex, display = found["display"] or found["inline"], bool(found["display"])
            place = self.found.setdefault((tex.strip(), display), len(self.found))
            return f"\ue000{place}\ue001"

        return MATHEMATICS.sub(keep, text)

    def fill(self, page: str, draw: Draw) -> str:
        """The page with all formulas drawn."""
        formulas = list(self.found)
        drawn = draw(formulas) if formulas else []

        def picture(found: re.Match) -> str:
            (tex, display), svg = formulas[int(found[1])], drawn[int(found[1])]
            said = html.escape(re.sub(r"\s+", " ", tex))
            svg = svg.replace("<svg ", f'<svg role="img" aria-label="{said}" ', 1)
            return f'<span class="{"display" if display else "inline"}">{svg}</span>'

        return MARK.sub(picture, page)


def draw(formulas: list[tuple[str, bool]]) -> list[str]:
    """SVG pictures of formulas (TeX, whether on a line of its own), by MathJax under Node.

    Ends the program with a sentence where Node is missing or a formula is wrong.
    """
    known = json.loads(DRAWN.read_text(encoding="utf-8")) if DRAWN.exists() else {}
    keys = [f"{'display' if display else 'inline'} {tex}" for tex, display in formulas]
    new = [(key, one) for key, one in zip(keys, formulas, strict=True) if key not in known]
    if new:
        drawn = mathjax([one for _, one in new])
        known |= dict(zip([key for key, _ in new], drawn, strict=True))
        place(DRAWN, json.dumps(known).encode())
    return [known[key] for key in keys]


def mathjax(formulas: list[tuple[str, bool]]) -> list[str]:
    """The same, whether they were drawn before or not."""
    node = shutil.which("node")
    if not node:
        sys.exit("Formulas are drawn by MathJax, which needs Node.js (https://nodejs.org).")
    package = npm.fetch(SLIDES, NPM, "Slides and book") / "mathjax"
    command = [node, str(SLIDES / "formulas.cjs"), str(package)]
    run = subprocess.run(command, input=json.dumps(formulas), capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"MathJax failed: {run.stderr.strip()}")
    drawn = json.loads(run.stdout)
    for (tex, _), one in zip(formulas, drawn, strict=True):
        if not isinstance(one, str):
            sys.exit(f"A formula that MathJax does not understand ({one['wrong']}): {tex}")
    return [re.sub(r' (role="img"|focusable="false"|xmlns="[^"]*")', "", svg) for svg in drawn]


def markdown(text: str) -> str:
    """Markdown as HTML; headings lose the links that a web page would have."""
    from nbconvert.filters import markdown2html

    made = markdown2html(text)
    return re.sub(r'<a class="anchor-link"[^>]*>.*?</a>', "", made)


def code(source: str, language: str = "python") -> str:
    """Code with its words coloured."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_by_name

    lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    return highlight(source, lexer, HtmlFormatter(nowrap=True))


def blocks(text: str) -> list[str]:
    """The paragraphs, formulas, lists and tables of a Markdown text, in order."""
    parts = re.split(r"(^```.*?^```)", text, flags=re.MULTILINE | re.DOTALL)
    found = []
    for i, part in enumerate(parts):
        found += [part] if i % 2 else re.split(r"\n[ \t]*\n", part)
    return [block.strip("\n") for block in found if block.strip()]


def films(output: dict) -> tuple[bytes, str] | None:
    """The GIF that an output shows, and its words."""
    page = "".join(output.get("data", {}).get("text/html", ""))
    found = FILM.fullmatch(page.strip())
    return (base64.b64decode(found[1]), html.unescape(found[2])) if found else None


def text_of(output: dict) -> str:
    """What an output prints."""
    if output["output_type"] == "stream":
        return "".join(output["text"])
    data = output.get("data", {})
    if "image/png" in data or "text/html" in data:
        return ""
    return "".join(data.get("text/plain", "")) + "\n" if "text/plain" in data else ""


def place(path: Path, content: bytes) -> Path:
    """Write a file, whole at once for whoever reads it now, unless it is there and the same."""
    if not path.exists() or path.read_bytes() != content:
        files.write(path, content)
    return path
