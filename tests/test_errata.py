"""Each row of docs/errata.md stands in a box of its notebook, beside a cell that proves it; and no
box is missing.
"""

import re
from typing import NamedTuple

import equations
import nbformat
import pytest
from conftest import ROOT

BOX = "You may meet this elsewhere."


class Row(NamedTuple):
    """A slip: its name, the notebook that shows it, its words there, what is correct, and the
    equations it is about.
    """

    name: str
    notebook: str
    slip: str
    correct: str
    about: str


def read(line: str) -> Row:
    """A line of the table."""
    name, notebook, slip, correct, about = (
        field.strip() for field in line.removeprefix("| ").removesuffix("|").split("| ")
    )
    number = re.match(r"\[(\w+)\]\(\.\./notebooks/\1_\w+\.ipynb\)$", notebook)[1]
    return Row(name, number, slip.strip('"'), correct, about)


PAGE = (ROOT / "docs" / "errata.md").read_text(encoding="utf-8")
HEAD, *TABLE = [line for line in PAGE.splitlines() if line.startswith("| ")]
ROWS = [read(line) for line in TABLE]
NOTEBOOKS = {
    path.name.split("_")[0]: nbformat.read(path, as_version=4)
    for path in (ROOT / "notebooks").glob("[0-9][0-9]*_*.ipynb")
}


def told(number: str, slip: str) -> list[int]:
    """The places of the Markdown cells that quote a slip, among a notebook's cells."""
    return [
        i
        for i, cell in enumerate(NOTEBOOKS[number].cells)
        if cell.cell_type == "markdown" and slip in cell.source
    ]


def beside(number: str, place: int) -> str:
    """The code of the cells around a Markdown cell: the last before it, and those up to the next
    Markdown cell.
    """
    cells, found = NOTEBOOKS[number].cells, []
    if cells[place - 1].cell_type == "code":
        found.append(cells[place - 1].source)
    for cell in cells[place + 1 :]:
        if cell.cell_type != "code":
            break
        found.append(cell.source)
    return "\n".join(found)


def boxes(number: str) -> list[str]:
    """Every box of a notebook, up to the end of its paragraph."""
    text = "\n".join(
        cell.source for cell in NOTEBOOKS[number].cells if cell.cell_type == "markdown"
    )
    return re.findall(rf"> \*\*{re.escape(BOX)}\*\*.*", text)


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_each_row_has_its_box_and_its_proof(row):
    assert row.correct
    (place,) = told(row.notebook, row.slip)
    assert any(row.slip in box for box in boxes(row.notebook)), f"{row.slip!r} is not in a box"
    if "*terminology*" not in row.about:
        code = beside(row.notebook, place)
        assert "assert" in code, f"no cell beside {row.slip!r} asserts it"


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_the_equations_a_slip_is_about_are_known(row):
    about = set(row.about.split(", ")) - {"", "*terminology*"}
    assert about <= equations.EQUATIONS.keys(), "not on the page of equations"


def test_names_are_plain_and_each_is_there_once():
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names) > 30
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", name) for name in names)


@pytest.mark.parametrize("number", sorted(NOTEBOOKS))
def test_each_box_is_listed(number):
    listed = [row.slip for row in ROWS if row.notebook == number]
    for box in boxes(number):
        assert any(slip in box for slip in listed), f"not in docs/errata.md: {box[:100]}"
