"""Pages to print: HTML that shows its formulas without a connection, and PDF where Chromium is.

python tools/printable.py [FOLDER, build/print by default]
"""

import html
import re
import sys
from pathlib import Path

import printing
from nbconvert.filters import markdown2html

DOCS = Path(__file__).resolve().parents[1] / "docs"
MINUTES = 2  # the longest that Chromium may take to print one
PAGES = ("theory_on_one_page", "notation")
LETTERS = {">E<": ">𝔼<", ">R<": ">ℝ<", ">N<": ">𝒩<", ">I<": ">I<"}  # browsers know no other way
SHEET = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
@page {{ size: A4; margin: 13mm 15mm }}
body {{ font: 10.5pt/1.35 "Liberation Serif", "Times New Roman", serif; max-width: 180mm; margin: auto }}
h1 {{ font-size: 16pt }} h2 {{ font-size: 12pt }} code {{ font-size: 9pt }}
table {{ border-collapse: collapse; width: 100%; margin: 2mm 0; break-inside: avoid }}
.anchor-link {{ display: none }}
th, td {{ border-bottom: .3pt solid #888; padding: .6mm 2mm .6mm 0; text-align: left }}
a {{ color: inherit; text-decoration: none }} li, p {{ margin: .8mm 0 }}
</style></head><body>
{body}
</body></html>
"""  # noqa: E501 - CSS


def page(name: str) -> str:
    """A page of docs/ as HTML with MathML, which browsers draw by themselves.

    Raises ImportError where latex2mathml is not installed.
    """
    from latex2mathml.converter import convert

    def drawn(found: re.Match) -> str:
        made = convert(html.unescape(found[2]), "block" if found[1] else "inline")
        return re.sub(r' mathvariant="(double-struck|script)"(>\w<)', letter, made)

    def letter(found: re.Match) -> str:
        return LETTERS.get(found[2], found[2])

    text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    body = re.sub(r"(\$?)\$([^$]+)\$\1", drawn, markdown2html(text))
    title = text.splitlines()[0].removeprefix("# ")
    return SHEET.format(title=title, body=body)


def write(folder: Path) -> None:
    """All pages, and beside each its PDF if Chromium is there.

    Raises, before anything is written, ImportError where latex2mathml is not installed, and
    ValueError where CHROMIUM names no program.
    """
    pages, browser = {name: page(name) for name in PAGES}, printing.chromium()
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        path = folder / f"{name}.html"
        path.write_text(text, encoding="utf-8")
        if browser:
            to_pdf(browser, path)


def to_pdf(browser: str, path: Path) -> None:
    """Print an HTML page with Chromium; where that fails, there is the HTML alone."""
    try:
        printing.to_pdf(browser, path, path.with_suffix(".pdf"), MINUTES)
    except RuntimeError as error:
        print(error, file=sys.stderr)


def main() -> None:
    """Write the pages into the folder that the command line names."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "build/print")
    try:
        write(folder)
    except ValueError as error:
        sys.exit(str(error))
    print(f"wrote {', '.join(sorted(path.name for path in folder.iterdir()))} into {folder}")


if __name__ == "__main__":
    main()
