"""Flow matching and EDM: closed forms on Gaussians; assignment and schedulers of others."""

import itertools
import math

import pytest
import torch
from conftest import best
from diffusers import EDMEulerScheduler, FlowMatchEulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch.testing import assert_close

from tutorial_lib.beyond import edm, flow, paths
from tutorial_lib.diffusion import target_from, x_0_from
from tutorial_lib.sample import ddim, final
from tutorial_lib.schedule import cosine
from tutorial_lib.toys import Mixture

DOUBLE = torch.float64
MEAN, STD = 0.4, 0.3


def knowing(x, t):
    """The mean velocity E[eps - x_0 | x_t] for data N(MEAN, STD^2)."""
    t = t.view(-1, *[1] * (x.ndim - 1))
    a, b = 1 - t, t
    gain = (x - a * MEAN) / (a**2 * STD**2 + b**2)
    return b * gain - (MEAN + a * STD**2 * gain)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


@given(st.floats(0.01, 0.99))
def test_a_line_has_two_ends(t):
    x_0, eps = noise(2, 3, 1, 4, 4)
    time = torch.full((3,), t, dtype=DOUBLE)
    x = flow.between(x_0, eps, time)
    assert_close(flow.ends_of(x, eps - x_0, time), (x_0, eps))
    a, b = paths.STRAIGHT.at(t)
    assert_close(x, a * x_0 + b * eps)


@pytest.mark.equation("Lipman")
@pytest.mark.equation("Liu")
def test_no_network_beats_the_mean_velocity(generator):
    """100,000 lines: any change of the known best makes the loss larger by its mean square."""
    x_0, eps = MEAN + STD * noise(100_000, 1, seed=5), noise(100_000, 1, seed=6)
    t = torch.rand(100_000, generator=generator, dtype=DOUBLE)
    least = flow.flow_loss(knowing, x_0, t, eps)
    assert least.shape == (100_000,)
    for bend in (lambda x: 0.1 + 0 * x, torch.sin):
        other = flow.flow_loss(lambda x, t, bend=bend: knowing(x, t) + bend(x), x_0, t, eps)
        added = bend(flow.between(x_0, eps, t)).square().flatten(1).mean(1)
        error = float((other - least).std()) / 100_000**0.5
        assert abs(float((other - least - added).mean())) < 5 * error


def test_the_mean_velocity_is_that_of_the_path():
    """Of a mixture: E[eps - x_0 | x] from the posterior is `paths.velocity` on the line."""
    weights = torch.tensor([0.3, 0.7], dtype=DOUBLE)
    mixture = Mixture(weights, torch.tensor([[-1.0, 0.2], [0.5, 1.0]], dtype=DOUBLE), 0.04)
    x, t = noise(20, 2), 0.35
    length = math.hypot(1 - t, t)
    x_0_hat = mixture.x_0_hat(x / length, (1 - t) ** 2 / length**2)
    eps_hat = (x - (1 - t) * x_0_hat) / t
    assert_close(paths.velocity(paths.STRAIGHT, x, x_0_hat, t), eps_hat - x_0_hat)


def test_v_is_the_velocity_on_the_circle():
    """Up to the speed pi / 2; on the schedule whose signal is the same cosine."""
    x_0, eps = noise(2, 5, 1, 2, 2)
    schedule = cosine(1000, s=0.0)
    for step in (10, 400, 900):
        t = torch.full((5,), step)
        v = target_from(schedule, "v", x_0, eps, t)
        x = schedule.alpha_bar[step].sqrt() * x_0 + (1 - schedule.alpha_bar[step]).sqrt() * eps
        found = paths.velocity(paths.CIRCLE, x, x_0, step / 1000)
        assert_close(found, math.pi / 2 * v, rtol=1e-8, atol=1e-8)


def test_a_flow_is_a_schedule_and_euler_on_it_is_ddim():
    T, x = 50, noise(4, 1, 2, 2)
    schedule = flow.as_schedule(T)
    denoise = flow.as_denoiser(knowing, T, clip=False)
    t = torch.tensor([1, 20, 49, 50])
    known = best(schedule, "x_0", MEAN, STD)
    assert_close(denoise(x, t), known(x, t))
    by_ddim = final(ddim(denoise, schedule, x, steps=T))
    y = x
    for k in range(T, 0, -1):
        y = y - knowing(y, torch.full((4,), k / T, dtype=DOUBLE)) / T
    assert_close(by_ddim, y)


def test_estimates_are_clipped_if_asked():
    x, t = 5 * noise(4, 1, 2, 2), torch.tensor([5, 20, 30, 50])
    free, clipped = (flow.as_denoiser(knowing, 50, clip=clip)(x, t) for clip in (False, True))
    assert float(free.abs().max()) > 1
    assert_close(clipped, free.clamp(-1, 1))


def test_euler_is_that_of_diffusers():
    """Their clock counts 1000 t; their steps of the same sigmas."""
    theirs = FlowMatchEulerDiscreteScheduler()
    theirs.set_timesteps(sigmas=torch.linspace(1, 0.1, 10).tolist())
    x = noise(3, 1, 2, 2).float()
    y = x.clone()
    for t in theirs.timesteps:
        u = knowing(y, t.expand(3) / 1000)
        y = theirs.step(u, t, y).prev_sample

    def denoise(x, t):
        return flow.ends_of(x, knowing(x, t), t)[0]

    *_, last = paths.probability_flow(denoise, paths.STRAIGHT, x, torch.linspace(1, 0, 11))
    assert_close(last.x, y, rtol=1e-4, atol=1e-5)


# --- couplings


@pytest.mark.equation("Tong")
@given(st.integers(1, 6), st.integers(0, 1000))
def test_no_other_pairing_is_shorter(count, seed):
    """All permutations of a few."""
    x_0, eps = noise(2, count, 3, seed=seed)
    found = flow.optimal_pairs(x_0, eps)
    assert sorted(found.tolist()) == list(range(count))
    lengths = [
        float((x_0 - eps[list(order)]).square().sum())
        for order in itertools.permutations(range(count))
    ]
    assert abs(float((x_0 - eps[found]).square().sum()) - min(lengths)) < 1e-9


@pytest.mark.equation("Jonker")
def test_pairs_are_those_of_scipy():
    x_0, eps = noise(2, 60, 1, 3, 3)
    cost = torch.cdist(x_0.flatten(1), eps.flatten(1)).square().numpy()
    rows, columns = linear_sum_assignment(cost)
    found = flow.optimal_pairs(x_0, eps)
    assert_close(cost[rows, found].sum(), cost[rows, columns].sum())
    assert found.tolist() == columns.tolist()


def test_on_a_line_pairs_keep_their_order():
    x_0, eps = noise(2, 40, 1)
    found = flow.optimal_pairs(x_0, eps)
    assert torch.equal(x_0.flatten().argsort(), eps[found].flatten().argsort())


def test_pairs_need_equal_shapes():
    with pytest.raises(ValueError, match="same shape"):
        flow.optimal_pairs(noise(3, 2), noise(4, 2))


# --- EDM


@pytest.mark.equation("Karras 7")
@given(st.floats(-6, 6), st.floats(0.1, 3))
def test_input_and_target_have_unit_variance_and_errors_are_least_enlarged(log_sigma, sigma_data):
    sigma = torch.tensor(math.exp(log_sigma), dtype=DOUBLE)
    skip, out, inward = edm.coefficients(sigma, sigma_data)
    assert_close(inward**2 * (sigma**2 + sigma_data**2), torch.ones_like(sigma))
    # the target (x_0 - skip x) / out for independent x_0 and eps
    variance = ((1 - skip) ** 2 * sigma_data**2 + skip**2 * sigma**2) / out**2
    assert_close(variance, torch.ones_like(sigma))
    for other in (skip + 1e-3, skip - 1e-3):
        needed = (1 - other) ** 2 * sigma_data**2 + other**2 * sigma**2
        assert needed >= out**2


def test_preconditioning_is_that_of_diffusers():
    theirs = EDMEulerScheduler(sigma_data=0.5)
    x, sigma = noise(3, 1, 4, 4).float(), torch.tensor([0.02, 1.0, 40.0])
    heard = []

    def network(x, c_noise):
        heard.append((x, c_noise))
        return x.sin()

    got = edm.preconditioned(network, 0.5)(x, sigma)
    for k, level in enumerate(sigma):
        inputs = theirs.precondition_inputs(x[k], level)
        assert_close(heard[0][0][k], inputs)
        assert_close(heard[0][1][k], theirs.precondition_noise(level))
        assert_close(got[k], theirs.precondition_outputs(x[k], inputs.sin(), level))


@pytest.mark.equation("Karras 8")
def test_the_loss_is_a_plain_square_of_what_the_network_answers():
    x_0, eps = noise(2, 4, 1, 3, 3)
    sigma = edm.log_normal(noise(4, seed=2))

    def network(x, c_noise):
        return x.sin() + c_noise.view(-1, 1, 1, 1)

    each = sigma.view(-1, 1, 1, 1)
    skip, out, inward = edm.coefficients(each, 0.5)
    x = x_0 + each * eps
    wanted = (x_0 - skip * x) / out
    plain = (network(inward * x, sigma.log() / 4) - wanted).square().flatten(1).mean(1)
    assert_close(edm.edm_loss(network, x_0, sigma, eps, sigma_data=0.5), plain)


def test_with_unit_data_edm_is_v_prediction():
    """F is -v on the schedule's own scale; so the denoisers agree."""
    schedule = cosine(1000)
    x_0, eps = noise(2, 3, 1, 2, 2)
    for step in (5, 500, 950):
        t = torch.full((3,), step)
        alpha_bar = schedule.alpha_bar[step]
        sigma = ((1 - alpha_bar) / alpha_bar).sqrt().expand(3)
        x_t = alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * eps

        def network(x, _):
            return x.cos()

        by_v = x_0_from(schedule, "v", -network(x_t, t), x_t, t)
        by_edm = edm.preconditioned(network, 1.0)(x_t / alpha_bar.sqrt(), sigma)
        assert_close(by_edm, by_v)


def test_levels_for_training_are_log_normal():
    sigma = edm.log_normal(noise(100_000))
    assert abs(float(sigma.log().mean()) + 1.2) < 0.02
    assert abs(float(sigma.log().std()) - 1.2) < 0.02
