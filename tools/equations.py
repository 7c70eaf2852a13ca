"""Write docs/equations.md: where each equation is taught, computed and tested, a section a paper.

    python tools/equations.py

The papers, and what their equations say, are read from docs/equations.toml.  The rest is read from
where it stands: sections of notebooks whose prose names an equation, docstrings that do, and tests
marked with it, `@pytest.mark.equation("4")` or `@pytest.mark.equation("Song 12")`.

Such a key is the paper's and the number: "Song 12", "Karras Algorithm 1"; "Ho 4" may be written "4"
in marks, and "Eq. 4" without a paper in texts.  What its paper does not number goes by the paper's
key alone: "Dowson".
"""

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "equations.md"
PAPERS = tomllib.loads((ROOT / "docs" / "equations.toml").read_text(encoding="utf-8"))
OURS = "Ho"  # whose numbers may stand alone


def equations_of(paper: str) -> dict[str, dict]:
    """The equations of a paper, given by its key: what each says and its formula, by their keys."""
    about = PAPERS[paper]
    alone = {paper: about} if "formula" in about else {}
    return alone | {f"{paper} {n}": row for n, row in about.items() if isinstance(row, dict)}


EQUATIONS = {key: row for paper in PAPERS for key, row in equations_of(paper).items()}


def names() -> dict[str, str]:
    """What a text may call each paper, and the paper's key.

    "Song, Meng & Ermon 2021"; and without the year where that names one paper only.
    """
    dated, short = {}, {}
    for key, paper in PAPERS.items():
        for authors in (paper["authors"], *paper.get("also", [])):
            dated[f"{authors} {paper['year']}"] = key
            short.setdefault(authors, []).append(key)
    return dated | {authors: keys[0] for authors, keys in short.items() if len(keys) == 1}


NAMES = names()
KNOWN = "|".join(re.escape(name) for name in sorted(NAMES, key=len, reverse=True))
AUTHOR = r"[A-Z][\w'-]+"
SEVERAL = rf"{AUTHOR}(?:(?:, {AUTHOR})* & {AUTHOR}| et al\.)"
YEAR = r"(?:19|20)\d\d[a-z]?\b"
DATED = rf"(?:{SEVERAL}|{AUTHOR}) {YEAR}"  # any paper, known or not
PAPER = rf"({KNOWN}|{DATED}|{SEVERAL})(?!\w| {YEAR})"
PLACE = r"(?:,? \(?(?:section|appendix|arXiv) [\w.]*\w\)?)?"  # of which part a paper is cited
KIND = r"\b(?:Eqs?\.|Algorithms?)"
NUMBER = r"(?:[A-Z]\.?)?\d+[a-z]?\b(?!,\d)"  # 4, 4a, A.3; and not the 1 of 1,000
NUMBERS = rf"{NUMBER}(?:(?:,| and| to|, and) {NUMBER})*"
ITEM = rf"{KIND} {NUMBERS}(?:, lines? \d+(?: to \d+)?)?"
ITEMS = rf"{ITEM}(?:(?:,| and|, and) {ITEM})*"
CITED = re.compile(
    rf"(?:\b{PAPER}{PLACE}(?:, | \()|\b([Tt]heir|[Ii]ts) )?({ITEMS})(?: of {PAPER})?"
)


def named_in(text: str) -> set[str]:
    """The keys of the equations and algorithms that a text names.

    "Eq. 6, 7", "Eq. 1 to 3" and "Algorithm 2" are those of Ho et al. unless a paper stands before
    them or behind: "Nichol & Dhariwal 2021, Eq. 17", "Karras et al. 2022 (Eq. 7)", "Eq. 5 of Karras
    et al."  "Their Algorithm 2" and "its Eq. 3" are those of the paper that was named last, or of
    none.  A semicolon ends what the paper in front governs.  A paper that is not in the list keeps
    its name: "Lin 2023 3".
    """
    text = _plain(text)
    found = papers_in(text) & EQUATIONS.keys()
    for match in CITED.finditer(text):
        before, whose, items, behind = match.groups()
        cited = before or behind
        if whose:
            named = re.findall(rf"\b{PAPER}", text[: match.start()])
            if not named:
                continue
            cited = named[-1]
        paper = _key(cited) if cited else OURS
        for kind, numbers in re.findall(rf"({KIND}) ({NUMBERS})", items):
            kind = "" if kind.startswith("Eq") else "Algorithm "
            found |= {f"{paper} {kind}{number}" for number in _spelled_out(numbers)}
    return found


def papers_in(text: str) -> set[str]:
    """The papers that a text cites as a whole, without the number of an equation.

    Returns their keys, or the names of those that are not in the list.
    """
    cited = re.findall(rf"\b{PAPER}", CITED.sub("", _plain(text)))
    return {_key(name) for name in cited if re.search(YEAR, name)}


def _plain(text: str) -> str:
    """The text in one line, with "Ho et al. (2020)" as "Ho et al. 2020"."""
    return re.sub(rf"(?<=[\w.]) \(({YEAR})\)", r" \1", " ".join(text.split()))


def _key(cited: str) -> str:
    """The key of a paper; words before its authors ("in DDIM, Song, ...") may have been caught."""
    fits = [name for name in NAMES if f", {cited}".endswith(f", {name}")]
    return NAMES[max(fits, key=len)] if fits else cited


def _spelled_out(numbers: str) -> set[str]:
    """Each number of "3, 4 and 7 to 9"."""
    found = set(re.findall(NUMBER, numbers))
    for first, last in re.findall(r"(\d+) to (\d+)", numbers):
        found |= {str(number) for number in range(int(first), int(last) + 1)}
    return found


def marked(argument: str) -> str:
    """The key that a mark means: those of Ho et al. stand there without their paper."""
    return f"{OURS} {argument}" if re.fullmatch(rf"(Algorithm )?{NUMBER}", argument) else argument


def sections() -> Iterator[tuple[Path, str, str, str]]:
    """Notebook, number, prose and code of each numbered section of every notebook.

    Such a section begins with "## 3.3 ...".
    """
    for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]*_*.ipynb")):
        number, prose, code = "", [], []
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"])
            parts = re.split(r"(?m)^(?=## )", source) if cell["cell_type"] == "markdown" else []
            code += [source] if cell["cell_type"] == "code" else []
            for part in parts:
                if part.startswith("## "):
                    yield path, number, "\n".join(prose), "\n".join(code)
                    heading = re.match(r"## (\d+[a-z]?\.\d+) ", part)
                    number, prose, code = heading[1] if heading else "", [], []
                prose.append(part)
        yield path, number, "\n".join(prose), "\n".join(code)


def taught() -> dict[str, list[tuple[Path, str, str]]]:
    """For each equation the sections that name it and run code: notebook, number and code."""
    found = {}
    for path, number, prose, code in sections():
        for equation in named_in(prose) if number and code else ():
            found.setdefault(equation, []).append((path, number, code))
    return found


def modules(folder: str, pattern: str = "*.py") -> Iterator[tuple[str, ast.Module]]:
    """Each module in a folder and in the folders below, with its dotted name: "nets.blocks"."""
    for path in sorted((ROOT / folder).rglob(pattern)):
        parts = path.relative_to(ROOT / folder).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        yield name or folder, ast.parse(path.read_text(encoding="utf-8"))


Documented = ast.Module | ast.ClassDef | ast.FunctionDef


def definitions(node: Documented, name: str) -> Iterator[tuple[str, Documented]]:
    """A module, its public functions and classes, and their methods, each with its dotted name."""
    yield name, node
    for inner in () if isinstance(node, ast.FunctionDef) else node.body:
        if isinstance(inner, ast.FunctionDef | ast.ClassDef) and not inner.name.startswith("_"):
            yield from definitions(inner, f"{name}.{inner.name}")


def computed() -> dict[str, list[str]]:
    """For each equation the public functions, methods and classes whose docstring names it.

    Or the module whose docstring does, where nothing inside is more precise.
    """
    found = {}
    for module, tree in modules("tutorial_lib"):
        for name, node in definitions(tree, module):
            for equation in named_in(ast.get_docstring(node) or ""):
                found.setdefault(equation, []).append(name)
    return {
        equation: sorted(n for n in named if not any(m.startswith(f"{n}.") for m in named))
        for equation, named in found.items()
    }


def tested() -> dict[str, list[str]]:
    """For each equation the tests that are marked with it, as pytest names them."""
    found = {}
    for module, tree in modules("tests", "test_*.py"):
        for name, node in definitions(tree, module):
            for mark in getattr(node, "decorator_list", []):
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.equation":
                    test = module.replace(".", "/") + name.removeprefix(module).replace(".", "::")
                    for argument in mark.args:
                        key = marked(ast.literal_eval(argument))
                        found.setdefault(key, []).append(test)
    return found


HEAD = """\
# Equations

The equations that this course uses, paper by paper: the sections in which they are taught, beside
code that runs; the functions that compute them; and the tests that check them. A dash stands where
no section runs code beside an equation yet. "Paper alone" stands where a formula is cited by its
paper: it has no number there, or is numbered in an appendix or under another form, as the note
above the table then says. Letters are those of the [notation page](notation.md) throughout; in
texts and marks, a number without a paper is one of Ho, Jain & Abbeel 2020.

This page is made by `python tools/equations.py` from `docs/equations.toml`, the notebooks, the
docstrings and the tests; a test keeps it current and complete.
"""
TABLE = """\
| | what it says | taught in | computed by | tested by |
|---|---|---|---|---|
"""


def reference(paper: str) -> str:
    """Title and place of a paper, in Markdown."""
    about = PAPERS[paper]
    where = about.get("where", "")
    if "arxiv" in about:
        where = f"[arXiv:{about['arxiv']}](https://arxiv.org/abs/{about['arxiv']})"
    elif where.startswith("http"):
        where = f"<{where}>"
    return f"*{about['title']}*, {where}"


def section(paper: str, found: list[dict[str, list]]) -> str:
    """The heading of a paper, its reference, and its table.

    found: what `taught`, `computed` and `tested` return.
    """
    about = PAPERS[paper]
    text = f"{reference(paper)}. Key: `{paper}`."
    if "note" in about:
        note = " ".join(about["note"].split())
        text += f" {note[0].upper()}{note[1:]}."
    rows = []
    for key in equations_of(paper):
        number = key.removeprefix(paper).strip()
        rows.append(row(key, number, *(part.get(key, []) for part in found)))
    return f"\n## {about['authors']} {about['year']}\n\n{text}\n\n{TABLE}{''.join(rows)}"


def row(equation: str, number: str, places: list, functions: list[str], tests: list[str]) -> str:
    """One line of a table."""
    says, formula = (EQUATIONS[equation][part] for part in ("says", "formula"))
    numbers = {}
    for path, place, _ in places:
        numbers.setdefault(path, []).append(place)
    links = [
        f"[{path.name.split('_')[0]}](../notebooks/{path.name}): {', '.join(found)}"
        for path, found in numbers.items()
    ]
    cells = [
        number if number.startswith("Algorithm") else f"Eq. {number}" if number else "paper alone",
        f"{says}<br>${' '.join(formula.split())}$",
        "<br>".join(links) or "–",
        "<br>".join(f"`{name}`" for name in functions) or "–",
        "<br>".join(f"`{name}`" for name in tests) or "–",
    ]
    return f"| {' | '.join(cells)} |\n"


def page() -> str:
    """The text of docs/equations.md."""
    found = [taught(), computed(), tested()]
    text, others = HEAD, "\n## Cited without an equation\n\n"
    for paper, about in PAPERS.items():
        if equations_of(paper):
            text += section(paper, found)
        else:
            others += f"- {about['authors']} {about['year']}. {reference(paper)}\n"
    return text + others


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"Wrote {PAGE.relative_to(ROOT)}: {len(EQUATIONS)} rows")
