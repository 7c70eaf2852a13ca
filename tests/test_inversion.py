"""Encoding against the exact map of a Gaussian, and arcs against the geometry of a circle."""

import math

import pytest
import torch
from conftest import best
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from tutorial_lib.beyond.inversion import encode, slerp
from tutorial_lib.denoise import denoiser
from tutorial_lib.sample import ddim, final
from tutorial_lib.schedule import cosine, even_tau

MEAN, STD = 0.4, 0.3
SCHEDULE = cosine(4000)
DENOISE = denoiser(best(SCHEDULE, "x_0", MEAN, STD), SCHEDULE, target="x_0", clip=False)


@pytest.fixture
def x_0(generator):
    return MEAN + STD * torch.randn(200, 1, generator=generator, dtype=torch.float64)


@pytest.mark.equation("Song 14")
def test_a_gaussian_picture_is_encoded_as_its_distance_from_the_mean(x_0):
    """In standard deviations: so far from the mean as it is among the data.  The error halves."""
    exact = (x_0 - MEAN) / STD
    error = [
        float((final(encode(DENOISE, SCHEDULE, x_0, steps=S)) - exact).abs().max())
        for S in (200, 400, 800)
    ]
    assert 0.8 < math.log2(error[0] / error[1]) < 1.4 and 0.8 < math.log2(error[1] / error[2]) < 1.4
    assert error[2] < 0.05


def test_the_way_back_returns_the_nearer_the_smaller_the_steps(x_0):
    away = []
    for S in (50, 100, 200):
        x_T = final(encode(DENOISE, SCHEDULE, x_0, steps=S))
        back = final(ddim(DENOISE, SCHEDULE, x_T, steps=S))
        away.append(float((back - x_0).square().mean().sqrt()))
    assert away[1] < 0.6 * away[0] and away[2] < 0.6 * away[1] and away[2] < 0.02


@pytest.mark.equation("Song 14")
def test_each_step_is_the_formula_typed_again(x_0):
    tau = [0, 300, 700, 2000]
    frames = list(encode(DENOISE, SCHEDULE, x_0, steps=torch.tensor(tau)))
    assert [frame.t for frame in frames] == tau
    alpha_bar = SCHEDULE.alpha_bar
    x = alpha_bar[300].sqrt() * x_0  # data have no noise to be made larger
    assert_close(frames[1].x, x)
    for i in (1, 2):
        now, then = alpha_bar[tau[i]], alpha_bar[tau[i + 1]]
        guess = DENOISE(x, torch.full((200,), tau[i]))
        eps = (x - now.sqrt() * guess) / (1 - now).sqrt()
        x = then.sqrt() * guess + (1 - then).sqrt() * eps
        assert_close(frames[i + 1].x, x)
        assert_close(frames[i + 1].x_0_hat, guess)


def test_one_call_a_step_but_the_first(x_0):
    asked = []

    def denoise(x, t):
        asked.append(int(t[0]))
        return DENOISE(x, t)

    frames = list(encode(denoise, SCHEDULE, x_0, steps=4))
    assert asked == even_tau(4000, 4)[1:-1].tolist() and len(frames) == 5
    assert torch.equal(frames[0].x, x_0) and frames[-1].t == 4000
    assert final(encode(DENOISE, SCHEDULE, x_0.float(), steps=5)).dtype == torch.float32


@pytest.mark.parametrize("S", [0, 4001])
def test_illegal_numbers_of_steps(x_0, S):
    with pytest.raises(ValueError, match=r"must lie in 1\.\.4000"):
        next(encode(DENOISE, SCHEDULE, x_0, steps=S))


@pytest.mark.parametrize("tau", [[5, 10], [0, 20, 10], [0, 5, 5], [0], [0, 4001]])
def test_steps_that_do_not_rise_from_0_to_at_most_T_are_refused(x_0, tau):
    with pytest.raises(ValueError, match="tau must begin at 0, where the data are, and rise to at"):
        next(encode(DENOISE, SCHEDULE, x_0, steps=torch.tensor(tau)))


# --- arcs


@pytest.mark.equation("Shoemake")
@given(st.floats(0.01, 3.1), st.floats(0, 1), st.floats(0.1, 10))
def test_on_a_circle_the_angle_grows_evenly(theta, share, radius):
    """The point at a share of the way is the one at that share of the angle."""
    a = torch.tensor([radius, 0.0], dtype=torch.float64)
    b = radius * torch.tensor([math.cos(theta), math.sin(theta)], dtype=torch.float64)
    on_arc = radius * torch.tensor(
        [[math.cos(share * theta), math.sin(share * theta)]], dtype=torch.float64
    )
    assert_close(slerp(a, b, torch.tensor([share])), on_arc, rtol=1e-6, atol=1e-6 * radius)


def test_between_two_noises_all_are_as_long_as_noise(generator):
    a, b = torch.randn(2, 1, 28, 28, generator=generator, dtype=torch.float64)
    share = torch.linspace(0, 1, 9)
    arc = slerp(a, b, share)
    assert arc.shape == (9, 1, 28, 28)
    assert_close(arc[0], a)
    assert_close(arc[-1], b)
    assert_close(arc.flatten(1).std(1), torch.ones(9, dtype=torch.float64), rtol=0.06, atol=0)
    line = (a + b) / 2
    assert abs(float(line.std()) - 0.5**0.5) < 0.03  # a straight line cuts the corner


def test_neighbours_are_joined_by_a_straight_line():
    a = torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert_close(slerp(a, a, torch.tensor([0.3])), a[None])


def test_what_has_no_shortest_way():
    a = torch.randn(3, 4)
    with pytest.raises(ValueError, match="opposite"):
        slerp(a, -a, torch.tensor([0.5]))
    with pytest.raises(ValueError, match="zero"):
        slerp(a, torch.zeros(3, 4), torch.tensor([0.5]))
    with pytest.raises(ValueError, match="agree in shape"):
        slerp(a, a[:2], torch.tensor([0.5]))
