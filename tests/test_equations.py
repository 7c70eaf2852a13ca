"""docs/equations.md is current and complete: each equation is taught beside an assert, computed,
and tested.
"""

import re

import equations
import pytest
from conftest import ROOT

TAUGHT, COMPUTED, TESTED = equations.taught(), equations.computed(), equations.tested()


def test_page_is_current():
    assert equations.PAGE.read_text(encoding="utf-8") == equations.page(), (
        "run: python tools/equations.py"
    )


def test_every_equation_of_the_paper_is_described():
    assert list(equations.SAYS) == [*map(str, range(1, 16)), "Algorithm 1", "Algorithm 2"]


@pytest.mark.parametrize("equation", equations.SAYS)
def test_equation_is_taught_computed_and_tested(equation):
    assert any("assert" in code for _, _, code in TAUGHT[equation]), (
        "no section that names it asserts anything"
    )
    assert COMPUTED.get(equation), "no docstring names it"
    assert TESTED.get(equation), f'no test is marked @pytest.mark.equation("{equation}")'


@pytest.mark.parametrize(
    "found", [TAUGHT, COMPUTED, TESTED], ids=["notebooks", "docstrings", "marks"]
)
def test_nobody_names_an_equation_that_does_not_exist(found):
    assert found.keys() <= equations.SAYS.keys()


def test_every_mark_is_found():
    """None hides where the page does not look: on a parameter, in a fixture, or on a module."""
    written = sum(
        len(re.findall(r"mark\.equation\(", path.read_text(encoding="utf-8")))
        for path in (ROOT / "tests").rglob("test_*.py")
        if path.name != "test_equations.py"
    )
    assert sum(map(len, TESTED.values())) == written


def test_tables_have_no_stray_bars():
    """A bar inside a formula would end the cell: `\\mid` and `\\lVert` are written instead."""
    rows = [line for line in equations.page().splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + len(equations.SAYS)
    assert {row.count("|") for row in rows} == {6}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(Eq. 4; notebook 02)", "4"), ("two Gaussians (Eq. 6, 7):", "6 7"), ("Eq. 1 to 3 say", "1 2 3"),
        ("Eq. 8 and 12 divide", "8 12"), ("Eq. 8 = Eq. 12", "8 12"), ("Eqs. 9, 10 and 11", "9 10 11"),
        ("(Eq. 2 of Ho, Jain & Abbeel 2020)", "2"), ("Ho et al. 2020, Eq. 13", "13"), ("Algorithm 1, Eq. 14", "A1 14"),
        ("Nichol & Dhariwal 2021, Eq. 17", ""), ("Song et al. 2021, Eq. 12", ""), ("Lin 2023, Eq. 3, 4; Eq. 5", "5"),
        ("(Karras et al. 2022, Algorithm 1)", ""),
        ("in Eq. 7, 1,000 times", "7"), ("Algorithms 1 and 2", "A1 A2"), ("section 4.5, nothing", ""),
    ],
)  # fmt: skip
def test_reading_prose(text, expected):
    assert equations.named_in(text) == {
        number.replace("A", "Algorithm ") for number in expected.split()
    }
