"""Each row of docs/errata.md stands in a box of its notebook, beside a cell that proves it; and no
box is missing.
"""

import re

import nbformat
import pytest
from conftest import ROOT

BOX = "You may meet this elsewhere."
ROWS = [
    [field.strip() for field in line.strip("| \n").split(" | ")]
    for line in (ROOT / "docs" / "errata.md").read_text().splitlines()
    if line.startswith("| [")
]
NOTEBOOKS = {
    path.name[:2]: nbformat.read(path, as_version=4)
    for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")
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


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1][:40])
def test_each_row_has_its_box_and_its_proof(row):
    number, slip, correct = re.match(r"\[(\d\d)\]", row[0])[1], row[1].strip('"'), row[2]
    assert correct
    (place,) = told(number, slip)
    assert any(slip in box for box in boxes(number)), f"{slip!r} is not in a box"
    if row[3:] != ["terminology"]:
        assert "assert" in beside(number, place), f"no cell beside {slip!r} asserts it"


@pytest.mark.parametrize("number", sorted(NOTEBOOKS))
def test_each_box_is_listed(number):
    listed = [row[1].strip('"') for row in ROWS if row[0].startswith(f"[{number}]")]
    for box in boxes(number):
        assert any(slip in box for slip in listed), f"not in docs/errata.md: {box[:100]}"
