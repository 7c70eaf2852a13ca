"""Paths in continuous time: slopes, marginals of SDE and ODE, and the samplers of the chain."""

import math
from itertools import pairwise

import pytest
import torch
from conftest import best
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from tutorial_lib.beyond import paths
from tutorial_lib.beyond.paths import CIRCLE, STRAIGHT, Path, ve, vp
from tutorial_lib.denoise import denoiser
from tutorial_lib.sample import ddim, final
from tutorial_lib.schedule import cosine, even_tau, from_betas
from tutorial_lib.toys import Mixture

DOUBLE = torch.float64
MEAN, STD = 0.4, 0.3
PATHS = {"vp": vp(), "ve": ve(), "straight": STRAIGHT, "circle": CIRCLE}


def knowing(path: Path):
    """E[x_0 | x] for data N(MEAN, STD^2)."""

    def denoise(x, t):
        a, b = path.at(float(t[0]))
        return MEAN + a * STD**2 / (a**2 * STD**2 + b**2) * (x - a * MEAN)

    return denoise


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))


def times(steps: int, first: float = 1.0, root: float = 1.0) -> torch.Tensor:
    even = torch.linspace(1, 0, steps + 1, dtype=DOUBLE)
    return first * even**root


@pytest.mark.parametrize("name", PATHS)
@given(t=st.floats(0.02, 0.98))
def test_slopes_are_those_of_a_difference(name, t):
    path, h = PATHS[name], 1e-5
    before, after = path.at(t - h), path.at(t + h)
    naive = [(y - x) / (2 * h) for x, y in zip(before, after, strict=True)]
    assert_close(path.slopes(t), tuple(naive), rtol=1e-5, atol=1e-6)


@pytest.mark.equation("SDE 5")
@pytest.mark.parametrize("name", PATHS)
@given(t=st.floats(0.05, 0.95), V=st.floats(0.1, 4))
def test_the_sde_has_the_variance_of_the_path(name, t, V):
    """d Var / dt = 2 f Var + g^2 for data of variance V: the derivative of a^2 V + b^2."""
    path = PATHS[name]
    (a, b), (of_a, of_b) = path.at(t), path.slopes(t)
    f, g_square = path.rates(t)
    assert g_square > 0
    variance = a**2 * V + b**2
    assert_close(2 * f * variance + g_square, 2 * a * of_a * V + 2 * b * of_b, rtol=1e-9, atol=1e-9)


@pytest.mark.equation("SDE 11")
def test_vp_is_the_limit_of_the_linear_schedule():
    """Of betas beta(t) / T: alpha_bar after T steps nears a^2 as 1 / T."""
    path, gaps = vp(), []
    for T in (1000, 2000):
        t = torch.arange(1, T + 1, dtype=DOUBLE) / T
        alpha_bar = (1 - (0.1 + 19.9 * t) / T).cumprod(0)
        gaps.append(abs(float(alpha_bar[T // 2 - 1]) / path.at(0.5)[0] ** 2 - 1))
    assert gaps[0] < 0.05 and 0.45 < gaps[1] / gaps[0] < 0.55
    f, g_square = path.rates(0.5)
    beta = 0.1 + 19.9 * 0.5
    assert_close((f, g_square), (-beta / 2, beta), rtol=1e-9, atol=0)


@pytest.mark.equation("SDE 9")
def test_ve_grows_by_one_factor():
    path = ve(0.1, 10)
    assert_close([path.at(t)[1] for t in (0.0, 0.5, 1.0)], [0.1, 1.0, 10.0])
    assert path.at(0.3)[0] == 1 and path.slopes(0.3)[0] == 0


def ode_end(path: Path, x: torch.Tensor) -> torch.Tensor:
    """Where a point goes for a Gaussian: as many standard deviations from the mean as before."""
    a, b = path.at(1.0)
    return MEAN + STD * (b * x - a * MEAN) / math.sqrt(a**2 * STD**2 + b**2)


@pytest.mark.equation("SDE 13")
@pytest.mark.equation("Lipman")
@pytest.mark.parametrize("name", ["straight", "circle", "ve"])
@pytest.mark.parametrize(("heun", "order"), [(False, 1), (True, 2)])
def test_the_flow_ends_where_it_should_with_the_order_of_its_solver(name, heun, order):
    """Steps that end in a last one from t = 0.02 on, whose error is below what is measured."""
    path, x, errors = PATHS[name], noise(100, 1), []
    for steps in (40, 80, 160):
        way = times(steps, root=1 if name == "ve" else 2)
        *_, last = paths.probability_flow(knowing(path), path, x, way, heun=heun)
        errors.append(float((last.x - ode_end(path, x)).abs().max()))
    measured = [math.log2(a / b) for a, b in pairwise(errors)]
    assert errors[-1] < (0.2 if order == 1 else 0.005), errors
    assert measured[-1] > order - 0.3 or errors[-1] < 1e-3, (errors, measured)


def test_velocity_is_the_slope_of_the_probability_flow(generator):
    """f x - g^2 / 2 times the score, with the score by automatic differentiation."""
    weights = torch.tensor([0.3, 0.7], dtype=DOUBLE)
    means = torch.tensor([[-1.0, 0.5], [0.9, 0.0]], dtype=DOUBLE)
    mixture = Mixture(weights, means, 0.05)
    for name, path in PATHS.items():
        t = 0.6
        a, b = path.at(t)
        x = math.hypot(a, b) * torch.randn(50, 2, generator=generator, dtype=DOUBLE)
        noised = Mixture(weights, a * means, a**2 * 0.05 + b**2)
        x_0_hat = mixture.x_0_hat(x / math.hypot(a, b), a**2 / (a**2 + b**2))
        f, g_square = path.rates(t)
        expected = f * x - g_square / 2 * noised.score(x)
        found = paths.velocity(path, x, x_0_hat, t)
        assert_close(found, expected, rtol=1e-7, atol=1e-7, msg=lambda said, n=name: f"{n}: {said}")


@pytest.mark.equation("SDE 6")
@pytest.mark.equation("Anderson")
@pytest.mark.parametrize("name", ["vp", "ve", "circle"])
@pytest.mark.parametrize("heat", [0.5, 1.0, 2.0])
def test_with_noise_or_without_the_marginals_are_the_same(name, heat, generator):
    """Mean and standard deviation of 10,000 walks, at the end and half-way."""
    path = PATHS[name]
    way = times(200, first=0.995, root=1 if name == "ve" else 1.5)
    walk = paths.reverse_sde(
        knowing(path), path, noise(10_000, 1), way, generator=generator, heat=heat
    )
    frames = {frame.t: frame.x for frame in walk}
    for left in (100, 0):
        a, b = path.at(float(way[200 - left])) if left else (1.0, 0.0)
        std = math.sqrt(a**2 * STD**2 + b**2)
        x = frames[left]
        assert abs(float(x.mean()) - a * MEAN) < 0.05 * std
        assert abs(float(x.std()) / std - 1) < 0.04


def test_without_heat_the_sde_is_the_flow(generator):
    way, x = times(20, first=0.99), noise(7, 1)
    calm = paths.reverse_sde(knowing(CIRCLE), CIRCLE, x, way, generator=generator, heat=0)
    flow = paths.probability_flow(knowing(CIRCLE), CIRCLE, x, way)
    for one, other in zip(calm, flow, strict=True):
        assert one.t == other.t
        assert_close(one.x, other.x)


def test_euler_on_the_straight_path_is_ddim():
    """And on any other schedule's points, if x is divided by the signal: the same rule."""
    S, x = 20, noise(4, 1, 2, 2)
    a = 1 - torch.arange(1, S + 1, dtype=DOUBLE) / S
    b = 1 - a
    alpha_bar = torch.cat([torch.ones(1, dtype=DOUBLE), a**2 / (a**2 + b**2)])
    schedule = from_betas(1 - alpha_bar[1:] / alpha_bar[:-1])
    known = denoiser(best(schedule, "x_0", MEAN, STD), schedule, target="x_0", clip=False)
    expected = final(ddim(known, schedule, x))
    got = final(paths.probability_flow(knowing(STRAIGHT), STRAIGHT, x, times(S)))
    assert_close(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", PATHS)
def test_a_denoiser_of_a_schedule_serves_every_path(name):
    """Exact up to the distance of neighbouring steps; asked about whole steps only."""
    schedule, path, asked = cosine(1000), PATHS[name], []
    known = denoiser(best(schedule, "x_0", MEAN, STD), schedule, target="x_0", clip=False)

    def denoise(x_t, t):
        asked.append(int(t[0]))
        return known(x_t, t)

    seen = paths.seen_by(denoise, schedule, path)
    for t in (0.1, 0.5, 0.9, 1.0):
        a, b = path.at(t)
        x = math.hypot(a, b) * noise(30, 1)
        moment = torch.full((30,), t, dtype=DOUBLE)
        assert_close(seen(x, moment), knowing(path)(x, moment), rtol=0, atol=0.01)
    assert asked == sorted(asked) and asked[0] >= 1 and asked[-1] <= 1000


def test_the_same_start_ends_at_the_same_place_on_every_path():
    schedule, x = cosine(1000), noise(50, 1)
    known = denoiser(best(schedule, "x_0", MEAN, STD), schedule, target="x_0", clip=False)
    ends = []
    for name, path in PATHS.items():
        seen = paths.seen_by(known, schedule, path)
        way = times(60, root=1 if name == "ve" else 2)
        ends.append(final(paths.probability_flow(seen, path, x, way, heun=True)))
    for end in ends[1:]:
        assert_close(end, ends[0], rtol=0, atol=0.02)


@pytest.mark.parametrize("wrong", [[1.0], [1.0, 0.5], [0.5, 0.6, 0.0], [1.5, 0.0], [0.5, 0.5, 0.0]])
def test_times_that_do_not_fall_to_0_are_told(wrong):
    walk = paths.probability_flow(knowing(CIRCLE), CIRCLE, noise(2, 1), torch.tensor(wrong))
    with pytest.raises(ValueError, match="times must fall"):
        next(walk)


def test_where_no_signal_is_left_there_is_no_sde(generator):
    walk = paths.reverse_sde(
        knowing(STRAIGHT), STRAIGHT, noise(2, 1), times(3), generator=generator
    )
    next(walk)
    with pytest.raises(ValueError, match="no signal is left at t = 1"):
        next(walk)


def test_steps_of_a_schedule_need_not_be_even():
    assert even_tau(10, 5).tolist() == [0, 2, 4, 6, 8, 10]  # what `times` is beside it
    frames = list(paths.probability_flow(knowing(CIRCLE), CIRCLE, noise(2, 1), times(5, root=3)))
    assert [frame.t for frame in frames] == [5, 4, 3, 2, 1, 0]
    assert_close(frames[-1].x, frames[-1].x_0_hat)
