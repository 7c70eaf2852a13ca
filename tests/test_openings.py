"""A picture at the top of a notebook is one that the notebook itself draws."""

import base64

import nbformat
import pytest
from conftest import ROOT

OPENINGS = [
    ("04b_published_networks", "nb04b-062", "unet_and_transformer"),
    ("05b_faster_and_better", "nb05b-41", "seconds_a_step"),
    ("06b_judging_samples", "nb06b-04", "three_rows"),
    ("19_errata_lab", "nb19-020", "snow"),
]


@pytest.mark.parametrize(("stem", "cell_id", "name"), OPENINGS)
def test_an_opening_picture_is_drawn_below(stem, cell_id, name):
    """Byte by byte.  If it differs, store the output of that cell in figures/ anew."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{stem}.ipynb", as_version=4)
    assert f"figures/{name}.png" in notebook.cells[0].source
    (cell,) = [cell for cell in notebook.cells if cell.id == cell_id]
    (drawn,) = [o.data["image/png"] for o in cell.outputs if "image/png" in o.get("data", {})]
    shown = (ROOT / "notebooks" / "figures" / f"{name}.png").read_bytes()
    assert base64.b64decode(drawn) == shown
