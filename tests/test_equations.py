"""docs/equations.md is current and complete: each equation of Ho et al. is taught beside an assert,
computed, and tested; those of other papers are computed and tested; and whoever cites an equation
cites one that is there.
"""

import ast
import re

import equations
import pytest
from conftest import ROOT

TAUGHT, COMPUTED, TESTED = equations.taught(), equations.computed(), equations.tested()
OURS = equations.equations_of("Ho")


def test_page_is_current():
    assert equations.PAGE.read_text(encoding="utf-8") == equations.page(), (
        "run: python tools/equations.py"
    )


def test_every_equation_of_our_paper_is_described():
    numbers = [*map(str, range(1, 16)), "Algorithm 1", "Algorithm 2"]
    assert list(OURS) == [f"Ho {number}" for number in numbers]


@pytest.mark.parametrize("equation", OURS)
def test_equation_is_taught_beside_an_assert(equation):
    assert any("assert" in code for _, _, code in TAUGHT[equation]), (
        "no section that names it asserts anything"
    )


@pytest.mark.parametrize("equation", equations.EQUATIONS)
def test_equation_is_computed_and_tested(equation):
    assert COMPUTED.get(equation), "no docstring names it"
    assert TESTED.get(equation), f'no test is marked @pytest.mark.equation("{equation}")'


@pytest.mark.parametrize("equation", equations.EQUATIONS)
def test_formulas_are_whole(equation):
    """A bar would end the table's cell: `\\mid` and `\\lVert` are written instead."""
    says, formula = (equations.EQUATIONS[equation][part] for part in ("says", "formula"))
    assert says and "|" not in says + formula
    assert formula.count("{") == formula.count("}")
    assert formula.count(r"\Big(") == formula.count(r"\Big)")
    assert says.count("$") % 2 == formula.count("$") == 0


def test_papers_are_told_apart():
    fields = {"authors", "also", "year", "title", "arxiv", "where", "note", "says", "formula"}
    called = []
    for paper in equations.PAPERS.values():
        numbered = {number for number, value in paper.items() if isinstance(value, dict)}
        assert {"authors", "year", "title"} <= paper.keys() - numbered <= fields
        assert ("arxiv" in paper) != ("where" in paper)
        assert ("says" in paper) == ("formula" in paper)
        assert all(re.fullmatch(rf"(Algorithm )?{equations.NUMBER}", number) for number in numbered)
        authors = [paper["authors"], *paper.get("also", [])]
        called += [f"{name} {paper['year']}" for name in authors]
    assert len(set(called)) == len(called)


# --- citations


def unknown(text: str) -> set[str]:
    """The equations and papers that a text cites and that docs/equations.toml does not know."""
    equations_and_papers = equations.EQUATIONS.keys() | equations.PAPERS.keys()
    return (equations.named_in(text) | equations.papers_in(text)) - equations_and_papers


@pytest.mark.parametrize("folder", ["tutorial_lib", "tests", "tools"])
def test_docstrings_cite_what_is_listed(folder):
    """All of them, also of what is private; but for the examples of `named_in`."""
    wrong = {}
    for module, tree in equations.modules(folder):
        for node in ast.walk(tree):
            name = getattr(node, "name", "")
            if isinstance(node, equations.Documented) and name != "named_in":
                text = ast.get_docstring(node) or ""
                wrong |= {f"{module}.{name}": unknown(text)} if unknown(text) else {}
    assert not wrong, "not in docs/equations.toml"


def test_notebooks_and_marks_name_equations_that_are_listed():
    named = {key for _, _, prose, _ in equations.sections() for key in equations.named_in(prose)}
    assert named | TESTED.keys() <= equations.EQUATIONS.keys(), "not in docs/equations.toml"


def test_every_mark_is_found():
    """None hides where the page does not look: on a parameter, in a fixture, or on a module."""
    written = sum(
        len(re.findall(r"mark\.equation\(", path.read_text(encoding="utf-8")))
        for path in (ROOT / "tests").rglob("test_*.py")
        if path.name != "test_equations.py"
    )
    assert sum(map(len, TESTED.values())) == written


def test_modules_in_folders_have_dotted_names():
    found = dict(equations.modules("tutorial_lib"))
    assert {"tutorial_lib", "schedule", "nets.blocks", "course.widgets.n06"} <= found.keys()


def test_a_module_is_named_where_nothing_inside_is_more_precise(monkeypatch):
    source = '"""By Eq. 4."""\ndef f():\n    """Eq. 4."""\ndef _g():\n    """Eq. 5; Eq. 4."""'
    two = {"beyond.a": source, "beyond.b": '"""Eq. 5."""\ndef f():\n    """Nothing."""'}
    parsed = [(name, ast.parse(text)) for name, text in two.items()]
    monkeypatch.setattr(equations, "modules", lambda _: parsed)
    assert equations.computed() == {"Ho 4": ["beyond.a.f"], "Ho 5": ["beyond.b"]}


def test_a_new_paper_is_a_few_lines_of_data(monkeypatch):
    new = {
        "authors": "Rezende et al.", "year": 2021, "title": "A title", "arxiv": "2107.00630",
        "11": {"says": "the loss", "formula": r"\frac12 L"},
    }  # fmt: skip
    monkeypatch.setitem(equations.PAPERS, "Rezende 2021", new)
    monkeypatch.setitem(equations.EQUATIONS, "Rezende 2021 11", new["11"])
    text = equations.page()
    assert "\n## Rezende et al. 2021\n\n*A title*, [arXiv:2107.00630](https://arxiv.org" in text
    assert "\n| Eq. 11 | the loss<br>$\\frac12 L$ | – | – | – |\n" in text
    assert equations.names()["Rezende et al."] == "Rezende 2021"
    monkeypatch.setitem(equations.PAPERS, "Rezende 2022", new | {"year": 2022})
    assert equations.names()["Rezende et al. 2022"] == "Rezende 2022"
    assert "Rezende et al." not in equations.names()  # of which of them?


def test_tables_have_no_stray_bars():
    rows = [line for line in equations.page().splitlines() if line.startswith("| ")]
    tables = sum(bool(equations.equations_of(paper)) for paper in equations.PAPERS)
    assert len(rows) == tables + len(equations.EQUATIONS)
    assert {row.count("|") for row in rows} == {6}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(Eq. 4; notebook 02)", ["Ho 4"]),
        ("two Gaussians (Eq. 6, 7):", ["Ho 6", "Ho 7"]),
        ("Eq. 1 to 3 say", ["Ho 1", "Ho 2", "Ho 3"]),
        ("Eq. 8 and 12 divide", ["Ho 8", "Ho 12"]),
        ("Eq. 8 = Eq. 12", ["Ho 8", "Ho 12"]),
        ("Eqs. 9, 10 and 11", ["Ho 9", "Ho 10", "Ho 11"]),
        ("(Eq. 2 of Ho, Jain & Abbeel 2020)", ["Ho 2"]),
        ("Ho et al. 2020, Eq. 13", ["Ho 13"]),
        ("Ho et al. (2020), Eq. 13", ["Ho 13"]),
        ("Algorithm 1, Eq. 14", ["Ho Algorithm 1", "Ho 14"]),
        ("Algorithms 1 and 2", ["Ho Algorithm 1", "Ho Algorithm 2"]),
        ("(Algorithm 1, line 5; Eq. 14)", ["Ho Algorithm 1", "Ho 14"]),
        ("in Eq. 7, 1,000 times", ["Ho 7"]),
        ("section 4.5, nothing", []),
        ("Nichol & Dhariwal 2021, Eq. 17", ["Nichol 17"]),
        ("| Nichol & Dhariwal, Eq. 17 |", ["Nichol 17"]),
        ("(Song, Meng & Ermon 2021, Eq. 12, 16; arXiv 2010.02502.)", ["Song 12", "Song 16"]),
        ("in NeurIPS, Song, Meng & Ermon 2021, Eq. 12", ["Song 12"]),
        ("(Karras\n    et al. 2022, Algorithm 1; arXiv 2206.00364)", ["Karras Algorithm 1"]),
        ("Of Eq. 5 of Karras et al., with", ["Karras 5"]),
        ("Karras et al. 2022, appendix B.1, Eq. 9", ["Karras 9"]),
        ("Karras et al. 2022, Algorithm 1, lines 3 to 5, Eq. 5",
         ["Karras Algorithm 1", "Karras 5"]),
        ("Lu et al. 2022, Algorithm 2; Eq. 5", ["Lu Algorithm 2", "Ho 5"]),
        ("of two Gaussians (Dowson\n& Landau 1982).", ["Dowson"]),
        ("Dowson & Landau 1982, Eq. 4", ["Dowson 4"]),
        ("Dowson and Landau, long ago", []),
        ("(Ho & Salimans 2022, Eq. 6)", ["Guidance 6"]),
        ("Eq. 6 of Ho et al. 2022", ["Ho et al. 2022 6"]),
        ("Lu et al. 2022b, Eq. A.3", ["Lu et al. 2022b A.3"]),
        ("Lin 2023, Eq. 3, 4a; Eq. 5", ["Lin 2023 3", "Lin 2023 4a", "Ho 5"]),
        ("By Karras et al. 2022 (Eq. 7) it is", ["Karras 7"]),
        ("Karras et al. (2022) (Eq. 3, 5; Eq. 7)", ["Karras 3", "Karras 5", "Ho 7"]),
        ("Lin 2023 (Algorithm 1)", ["Lin 2023 Algorithm 1"]),
        ("Dhariwal & Nichol (2021) steer. Their Algorithm 2 and Eq. 4",
         ["Dhariwal Algorithm 2", "Dhariwal 4"]),
        ("Lu et al. 2022; Karras et al. 2022. In its Eq. 3. By Eq. 4.", ["Karras 3", "Ho 4"]),
        ("Their Algorithm 2 takes a root.", []),
    ],
)  # fmt: skip
def test_reading_prose(text, expected):
    assert equations.named_in(text) == set(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(Vaswani et al. 2017, section 3.5; Ho et al. 2020, appendix B)", ["Vaswani", "Ho"]),
        ("(Ho, Jain & Abbeel 2020, section 2)", ["Ho"]),
        ("Salimans & Ho (2022) say", ["Salimans"]),
        ("chosen by Jordan et al. to lift", []),
        ("Karras et al. 2022, Eq. 5", []),
        ("Eq. 5 of Karras et al. 2022", []),
        ("Dowson & Landau 1983", ["Dowson & Landau 1983"]),
        ("Ho et al. 2022", ["Ho et al. 2022"]),
    ],
)
def test_reading_citations_of_whole_papers(text, expected):
    assert equations.papers_in(text) == set(expected)


@pytest.mark.parametrize(
    ("mark", "key"),
    [("4", "Ho 4"), ("Algorithm 1", "Ho Algorithm 1"), ("Song 12", "Song 12"),
     ("Karras Algorithm 1", "Karras Algorithm 1"), ("Dowson", "Dowson"),
     ("Rezende 2021 11", "Rezende 2021 11")],
)  # fmt: skip
def test_reading_marks(mark, key):
    assert equations.marked(mark) == key
