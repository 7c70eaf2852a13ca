"""The suspects of notebooks 04 and 04b are slips of the library's functions."""

import mutants
import pytest
import torch
from test_mutations import break_library
from torch import nn

from tutorial_lib.course.exercises import n04, n04b
from tutorial_lib.nets import blocks


def test_suspect_of_the_clocks(monkeypatch):
    break_library(monkeypatch, "nets.blocks.time_embedding", mutants.flip_sign(1))
    t = torch.tensor([0, 1, 2, 7])
    angle = t[:, None] * n04.suspect("04.7")(12, 50.0)
    expected = torch.cat([angle.sin(), angle.cos()], dim=1).float()
    torch.testing.assert_close(blocks.time_embedding(t, 12, 50.0), expected, rtol=0, atol=1e-3)


def test_suspect_of_the_filters(monkeypatch, generator):
    break_library(monkeypatch, "nets.blocks.StandardizedConv2d.forward", mutants.drop_term(0))
    layer = blocks.StandardizedConv2d(2, 4, 3, bias=False)
    x = torch.randn(1, 2, 8, 8, generator=generator)
    expected = nn.functional.conv2d(x, n04b.suspect("04b.3")(layer.weight))
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize(("module", "known"), [(n04, "04.7"), (n04b, "04b.3")])
def test_there_is_no_other_suspect(module, known):
    with pytest.raises(ValueError, match=f"no suspect '19.1'; there are {known}"):
        module.suspect("19.1")
