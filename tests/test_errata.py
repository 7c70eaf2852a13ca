"""Each row of docs/errata.md stands in a box of its notebook, beside a cell that proves it; and no box is missing."""

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
    path.name[:2]: nbformat.read(path, as_version=4) for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")
}


def sections(number: str) -> list[tuple[str, str]]:
    """The sections of a notebook: the Markdown and the code of each."""
    found: list[list[str]] = []
    for cell in NOTEBOOKS[number].cells:
        if cell.cell_type == "code":
            found[-1][1] += cell.source + "\n"
            continue
        for part in re.split(r"(?m)^(?=## )", cell.source):
            if part.startswith("#") or not found:
                found.append(["", ""])
            found[-1][0] += part + "\n"
    return [(text, code) for text, code in found]


def boxes(number: str) -> list[str]:
    """Every box of a notebook, up to the end of its paragraph."""
    return re.findall(rf"> \*\*{re.escape(BOX)}\*\*.*", "\n".join(text for text, _ in sections(number)))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[1][:40])
def test_each_row_has_its_box_and_its_proof(row):
    number, slip, correct = re.match(r"\[(\d\d)\]", row[0])[1], row[1].strip('"'), row[2]
    assert correct
    here = [(text, code) for text, code in sections(number) if slip in text]
    assert len(here) == 1, f"{slip!r} should stand in one section of notebook {number}"
    text, code = here[0]
    assert BOX in text or "You may read" in text
    if row[3:] != ["terminology"]:
        assert "assert" in code, f"no cell beside {slip!r} asserts it"


@pytest.mark.parametrize("number", sorted(NOTEBOOKS))
def test_each_box_is_listed(number):
    listed = [row[1].strip('"') for row in ROWS if row[0].startswith(f"[{number}]")]
    for box in boxes(number):
        assert any(slip in box for slip in listed), f"not in docs/errata.md: {box[:100]}"
