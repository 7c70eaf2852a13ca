"""Annealed Langevin: against its own recursion on a Gaussian, and on two bumps far apart."""

import math

import pytest
import torch
from torch.testing import assert_close

from tutorial_lib.beyond.langevin import annealed, geometric, score_of
from tutorial_lib.toys import Mixture

DOUBLE = torch.float64


def two_bumps(share: float = 0.8) -> Mixture:
    weights = torch.tensor([share, 1 - share], dtype=DOUBLE)
    return Mixture(weights, torch.tensor([[-4.0, 0.0], [4.0, 0.0]], dtype=DOUBLE), 0.25)


def exact(mixture):
    return lambda x, sigma: mixture.blurred(float(sigma[0])).score(x)


@pytest.mark.equation("Karras 3")
def test_score_of_a_denoiser_is_that_of_the_blurred_data(generator):
    mixture, sigma = two_bumps(), torch.full((50,), 1.7, dtype=DOUBLE)
    x = 3 * torch.randn(50, 2, generator=generator, dtype=DOUBLE)

    def denoise(x, sigma):
        alpha_bar = 1 / (1 + float(sigma[0]) ** 2)
        return mixture.x_0_hat(alpha_bar**0.5 * x, alpha_bar)

    assert_close(score_of(denoise)(x, sigma), mixture.blurred(1.7).score(x))


@pytest.mark.equation("NCSN Algorithm 1")
@pytest.mark.parametrize("step_size", [0.1, 0.5])
def test_mean_and_variance_on_a_gaussian_follow_their_recursion(generator, step_size):
    """For data N(m, s^2) a step multiplies by 1 - h / (2 (s^2 + sigma^2)), and adds noise."""
    m, s, sigmas = 1.5, 0.4, geometric(5, 0.1, 6)
    gaussian = Mixture(torch.ones(1, dtype=DOUBLE), torch.tensor([[m]], dtype=DOUBLE), s**2)
    x = 5 * torch.randn(100_000, 1, generator=generator, dtype=DOUBLE)
    given = {"steps": 4, "step_size": step_size, "generator": generator}
    frames = list(annealed(exact(gaussian), x, sigmas, **given))
    mean, variance = 0.0, 25.0
    for sigma, frame in zip(sigmas.tolist(), frames, strict=True):
        h, V = step_size * sigma**2, s**2 + sigma**2
        for _ in range(4):
            mean = m + (1 - h / (2 * V)) * (mean - m)
            variance = (1 - h / (2 * V)) ** 2 * variance + h
        error = math.sqrt(variance / len(x))
        assert abs(float(frame.x.mean()) - mean) < 5 * error
        assert abs(float(frame.x.var()) / variance - 1) < 5 * math.sqrt(2 / len(x))
        shown = (s**2 * frame.x + sigma**2 * m) / V  # E[x_0 | x]
        assert_close(frame.x_0_hat, shown)
    assert [frame.t for frame in frames] == [5, 4, 3, 2, 1, 0]


def test_annealing_finds_the_weights_and_plain_langevin_keeps_those_of_its_start(generator):
    mixture, x = two_bumps(), torch.randn(4000, 2, generator=generator, dtype=DOUBLE)
    given = {"generator": generator, "step_size": 0.5}
    *_, end = annealed(exact(mixture), 8 * x, geometric(8, 0.1, 15), steps=15, **given)
    share = float((end.x[:, 0] < 0).double().mean())
    assert abs(share - 0.8) < 0.03
    plain = annealed(exact(mixture), 8 * x, geometric(0.2, 0.1, 2), steps=100, **given)
    *_, end = plain
    kept = float((end.x[:, 0] < 0).double().mean())
    assert abs(kept - 0.5) < 0.05


def test_levels_fall_by_one_factor():
    sigmas = geometric(50, 0.01, 12)
    assert_close(sigmas[[0, -1]], torch.tensor([50, 0.01], dtype=DOUBLE))
    ratio = sigmas[1:] / sigmas[:-1]
    assert_close(ratio, ratio[0].expand(11))
    for wrong in ((1, 1, 3), (1, 2, 3), (1, 0, 3), (1, 0.1, 1)):
        with pytest.raises(ValueError, match="levels fall"):
            geometric(*wrong)


@pytest.mark.parametrize(
    ("sigmas", "steps"), [([1.0, 2.0], 1), ([1.0, 0.0], 1), ([1.0, -1.0], 1), ([2.0, 1.0], 0)]
)
def test_wrong_levels_and_steps_are_told(generator, sigmas, steps):
    walk = annealed(
        lambda x, sigma: -x,
        torch.zeros(2, 1),
        torch.tensor(sigmas),
        steps=steps,
        step_size=0.1,
        generator=generator,
    )
    with pytest.raises(ValueError, match="sigmas must fall"):
        next(walk)


def test_same_seed_same_walk():
    def end():
        generator, x = torch.Generator().manual_seed(3), torch.ones(3, 1, 4, 4)
        given = {"steps": 2, "step_size": 0.3, "generator": generator}
        *_, last = annealed(lambda x, sigma: -x, x, geometric(2, 0.5, 3), **given)
        return last.x

    assert torch.equal(end(), end())
    assert end().dtype == torch.float32 and end().shape == (3, 1, 4, 4)
