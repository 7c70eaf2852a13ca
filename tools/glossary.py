"""Write docs/glossary.md: the words of the course in six languages.

    python tools/glossary.py

All of it is in docs/glossary.yml, whose head explains the fields.  PyYAML, which reads it, comes
with the extra `tests`.
"""

import re
from itertools import groupby
from pathlib import Path

import yaml
from equations import PAPERS, sections

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "glossary.md"
ENTRIES = yaml.safe_load((ROOT / "docs" / "glossary.yml").read_text(encoding="utf-8"))
LANGUAGES = {
    "id": "Indonesian",
    "ko": "Korean",
    "ja": "Japanese",
    "zh": "Chinese",
    "de": "German",
}
BETWEEN = " / "  # several terms of one language

HEAD = """\
# Glossary

The words of this course in English, Indonesian, Korean, Japanese, Chinese (simplified) and German,
as textbooks and encyclopaedias have them; where there are several, the usual one comes first.

- *In italics* stands an English word or abbreviation that is kept in that language.
- (?) marks a term that is not settled, or was made up here for want of one. Corrections by those
  who teach in that language are welcome.
- (!) marks a term with which machine translation goes wrong. The
  [slips](#slips-of-machine-translation) stand at the end.
- Symbols are those of the [notation page](notation.md). Keys such as `Ho 4` lead to the
  [page of equations](equations.md), which has the formula.

This page is made by `python tools/glossary.py` from `docs/glossary.yml`; a test keeps it current.
"""
TABLE = f"""\
| term | what it is | introduced in | {" | ".join(LANGUAGES.values())} |
|{"---|" * (3 + len(LANGUAGES))}
"""
SLIPS = """
## Slips of machine translation

Seen in translated texts on these subjects, or offered by translators for the single word.

| term | wrong | right |
|---|---|---|
"""


def notebooks() -> dict[str, str]:
    """The file of each section of the notebooks, "2.3", and of each notebook, "02"."""
    found = {}
    for path, number, _, _ in sections():
        found |= {number: path.name} if number else {path.name.split("_")[0]: path.name}
    return found


NOTEBOOKS = notebooks()


def place(where: str) -> str:
    """Where a term is introduced: a section with its link, or a notebook that is still to come."""
    if where in NOTEBOOKS:
        return f"[{where}](../notebooks/{NOTEBOOKS[where]})"
    return f"notebook {where}, to come"


def equation(key: str) -> str:
    """The key of an equation, and a link to its paper on the page of equations."""
    paper = next(paper for paper in PAPERS if key == paper or key.startswith(f"{paper} "))
    heading = f"{PAPERS[paper]['authors']} {PAPERS[paper]['year']}".lower()
    anchor = re.sub(r"[^\w\- ]", "", heading).replace(" ", "-")
    return f"[`{key}`](equations.md#{anchor})"


def meaning(entry: dict) -> str:
    """What a term is, with its symbols and equations."""
    symbols = [s if s.isalpha() and s.isupper() else f"${s}$" for s in entry.get("symbols", [])]
    also = symbols + [equation(key) for key in entry.get("equations", [])]
    return f"{entry['says']} ({', '.join(also)})" if also else entry["says"]


def translation(entry: dict, language: str) -> str:
    """The terms of one language, marked as such, for the voice that reads and the font that draws.

    An English word that is kept stands first, in italics and read as English; (?) stands behind
    what is not sure.
    """
    own = entry[language].split(BETWEEN)
    kept = [f"*{own.pop(0)}*"] if language in entry.get("keep", []) else []
    marked = [f'<span lang="{language}">{BETWEEN.join(own)}</span>'] if own else []
    unsure = " (?)" if language in entry.get("unsure", []) else ""
    return BETWEEN.join(kept + marked) + unsure


def row(entry: dict) -> str:
    """One line of a table."""
    sign = " (!)" if "warning" in entry else ""
    cells = [f'<a id="{entry["key"]}"></a>**{entry["term"]}**{sign}', meaning(entry)]
    cells += [place(entry["where"]), *(translation(entry, language) for language in LANGUAGES)]
    return f"| {' | '.join(cells)} |\n"


def slip(entry: dict) -> str:
    """One line of the table of slips."""
    wrong, right = (entry["warning"][part] for part in ("wrong", "right"))
    return f"| [{entry['term']}](#{entry['key']}) | {wrong} | {right} |\n"


def page() -> str:
    """The text of docs/glossary.md."""
    text = HEAD
    for letter, entries in groupby(ENTRIES, key=lambda entry: entry["term"][0].upper()):
        text += f"\n## {letter}\n\n{TABLE}{''.join(map(row, entries))}"
    return text + SLIPS + "".join(slip(entry) for entry in ENTRIES if "warning" in entry)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"Wrote {PAGE.relative_to(ROOT)}: {len(ENTRIES)} terms")
