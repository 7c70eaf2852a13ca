"""The suspects of notebooks 04 to 10 are slips of the library's functions.

Two are not, because the library has no such line: those of 08.4, where a density becomes a price,
and of 09.9, a walk that notebook 09 types.  Those of the errata lab are in `test_errata.py`.
"""

import answers
import mutants
import pytest
import torch
from test_mutations import break_library
from torch import nn

from tutorial_lib import diffusion, markov, sample, train
from tutorial_lib.course.exercises import n04, n04b, n05, n05b, n07, n09
from tutorial_lib.engine import rates
from tutorial_lib.gaussian import noise_like
from tutorial_lib.nets import blocks
from tutorial_lib.schedule import cosine, same_t


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


def half(x, t):
    """In the place of a denoiser."""
    return 0.5 * x


def line_of(number: str):
    """The function with a bug that stands in the cell of an exercise."""
    scope = dict(answers.AT_HAND) | {"check": lambda *_: None}
    exec(answers.cells("stubs")[number], scope)
    return scope[answers.handed_in(number)]


def test_line_with_a_bug_of_the_smooth_garments(monkeypatch, generator):
    break_library(monkeypatch, "sample.ddpm", mutants.drop_root(0))
    schedule, x = cosine(10), torch.randn(3, 1, 4, 4, generator=generator)
    frames = sample.ddpm(half, schedule, x, generator=torch.Generator().manual_seed(1))
    assert next(frames).t == 10
    generator = torch.Generator().manual_seed(1)
    for t, frame in zip(range(10, 1, -1), frames, strict=False):
        mean, _ = diffusion.q_posterior(schedule, half(x, t), x, same_t(t, 3))
        x = line_of("06.4")(mean, float(schedule.beta_tilde[t]), noise_like(x, generator))
        torch.testing.assert_close(frame.x, x)


def test_suspect_of_the_old_noise(monkeypatch, generator):
    break_library(monkeypatch, "sample.ddim", mutants.drop_term(13))
    schedule, x = cosine(10), torch.randn(3, 1, 4, 4, generator=generator, dtype=torch.float64)
    seeded = torch.Generator().manual_seed(1)
    frames = sample.ddim(half, schedule, x, generator=seeded, eta=0.3)
    assert next(frames).t == 10
    generator = torch.Generator().manual_seed(1)
    for t, frame in zip(range(10, 1, -1), frames, strict=False):
        alpha_bar_t, alpha_bar_prev = schedule.alpha_bar[t], float(schedule.alpha_bar[t - 1])
        eps_hat = (x - alpha_bar_t.sqrt() * half(x, t)) / (1 - alpha_bar_t).sqrt()
        sigma, z = 0.3 * float(schedule.beta_tilde[t].sqrt()), noise_like(x, generator)
        x = n07.SUSPECTS["07.4"](half(x, t), eps_hat, alpha_bar_prev, sigma, z)
        torch.testing.assert_close(frame.x, x)


def test_suspect_of_the_narrow_walk(monkeypatch, generator):
    break_library(monkeypatch, "markov.langevin", mutants.drop_term(0))
    x = torch.randn(5, generator=generator, dtype=torch.float64)
    walk = markov.langevin(torch.sin, x, 0.2, torch.Generator().manual_seed(1))
    z = torch.randn(5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(n09.SUSPECTS["09.6"](x, x.sin(), 0.2, z), next(walk))


def test_line_with_a_bug_of_the_known_half(monkeypatch, generator):
    first = mutants.drop_root(0)  # without it the second root is the first
    slip = "schedule.NoiseSchedule.signal_and_noise"
    break_library(monkeypatch, slip, lambda tree: first(first(tree)))
    known, eps, x_t = torch.randn(3, 2, 1, 4, 4, generator=generator, dtype=torch.float64)
    mask, t = torch.ones(4, 4, dtype=torch.float64), torch.tensor([3, 8])
    got = line_of("10.5")(cosine(10), x_t, known, mask, t, eps)
    torch.testing.assert_close(got, diffusion.q_sample(cosine(10), known, t, eps))


@pytest.mark.parametrize(
    ("module", "known"),
    [(n04, "04.7"), (n04b, "04b.3"), (n05, "05.8"), (n05b, "05b.4")],
)
def test_there_is_no_other_suspect(module, known):
    with pytest.raises(ValueError, match=f"no suspect '19.1'; there are {known}"):
        module.suspect("19.1")
