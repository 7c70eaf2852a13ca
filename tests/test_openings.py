"""A picture at the top of a notebook is one that the notebook itself draws."""

import base64
import io

import nbformat
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

OPENINGS = [
    ("04b_published_networks", "nb04b-062", "unet_and_transformer"),
    ("05b_faster_and_better", "nb05b-41", "seconds_a_step"),
    ("06b_judging_samples", "nb06b-04", "three_rows"),
    ("19_errata_lab", "nb19-020", "snow"),
]


def pixels(file) -> np.ndarray:
    return np.asarray(Image.open(file).convert("L"), dtype=float)


@pytest.mark.parametrize(("stem", "cell_id", "name"), OPENINGS)
def test_an_opening_picture_is_drawn_below(stem, cell_id, name):
    """Up to the lettering.  If it differs, store the output of that cell in figures/ anew."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{stem}.ipynb", as_version=4)
    assert f"figures/{name}.png" in notebook.cells[0].source
    (cell,) = [cell for cell in notebook.cells if cell.id == cell_id]
    (drawn,) = [o.data["image/png"] for o in cell.outputs if "image/png" in o.get("data", {})]
    shown = pixels(ROOT / "notebooks" / "figures" / f"{name}.png")
    again = pixels(io.BytesIO(base64.b64decode(drawn)))
    assert shown.shape == again.shape
    assert np.abs(shown - again).mean() < 3  # grey levels
