"""The suspects of notebooks 04 to 05b are slips of the library's functions."""

import mutants
import pytest
import torch
from test_mutations import break_library
from torch import nn

from tutorial_lib import train
from tutorial_lib.course.exercises import n04, n04b, n05, n05b
from tutorial_lib.engine import rates
from tutorial_lib.nets import blocks
from tutorial_lib.schedule import cosine


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


def test_suspect_of_the_training_step(monkeypatch, generator):
    break_library(monkeypatch, "train.training_step", mutants.other_name(0, target="'x_0'"))
    x_0, eps = torch.randn(2, 3, 1, 4, 4, generator=generator, dtype=torch.float64)
    inputs = (lambda x_t, t: 0.5 * x_t, cosine(100), x_0, torch.tensor([5, 40, 100]), eps)
    expected = train.training_step(*inputs, target="eps")
    torch.testing.assert_close(n05.suspect("05.8")(*inputs), expected)


def test_suspect_of_the_learning_rate(monkeypatch):
    break_library(monkeypatch, "engine.rates.learning_rate", mutants.flip_sign(2))
    for step in (1, 10, 11, 50, 100):
        expected = rates.learning_rate(step, steps=100, warmup=10, lr=0.01, lr_end=0.0)
        assert n05b.suspect("05b.4")(step, 100, 10, 0.01) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("module", "known"),
    [(n04, "04.7"), (n04b, "04b.3"), (n05, "05.8"), (n05b, "05b.4")],
)
def test_there_is_no_other_suspect(module, known):
    with pytest.raises(ValueError, match=f"no suspect '19.1'; there are {known}"):
        module.suspect("19.1")
