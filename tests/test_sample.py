"""Samplers on Gaussian data, where the best prediction is a formula, and against diffusers."""

import math
from itertools import pairwise

import pytest
import torch
from conftest import best
from diffusers import DDPMScheduler
from torch.testing import assert_close

from tutorial_lib import sample
from tutorial_lib.denoise import denoiser
from tutorial_lib.diffusion import q_posterior
from tutorial_lib.sample import ddpm, final
from tutorial_lib.schedule import even_tau, from_betas, linear, same_t

MEAN, STD = 0.5, 0.3  # of the data in most tests


def knowing(schedule, target: str = "eps", clip: bool = False, mean=MEAN, std=STD):
    """The best denoiser of data N(mean, std^2), by a network that predicts `target`."""
    return denoiser(best(schedule, target, mean, std), schedule, target=target, clip=clip)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def law_of_the_sampler(schedule, S: int, variance: str) -> tuple[float, float]:
    """Mean and standard deviation of what Algorithm 2 makes of the best network, by exact recursion
    over numbers.
    """
    tau = [round(i * schedule.T / S) for i in range(S + 1)]
    bars = [float(schedule.alpha_bar[k]) for k in tau]
    mean, var = 0.0, 1.0
    for i in range(S, 0, -1):
        now, before = bars[i], bars[i - 1]
        beta = 1 - now / before
        gain = math.sqrt(now) * STD**2 / (now * STD**2 + 1 - now)  # x_0_hat = offset + gain x
        offset = MEAN - gain * math.sqrt(now) * MEAN
        of_x_0 = math.sqrt(before) * beta / (1 - now)
        of_x_t = math.sqrt(1 - beta) * (1 - before) / (1 - now)
        sigma2 = beta if variance == "beta" else beta * (1 - before) / (1 - now)
        mean = (of_x_0 * gain + of_x_t) * mean + of_x_0 * offset
        var = (of_x_0 * gain + of_x_t) ** 2 * var + (sigma2 if i > 1 else 0.0)
    return mean, math.sqrt(var)


@pytest.fixture
def long():
    """A schedule of 200 steps that ends in noise."""
    return linear(200, rescaled=True)


@pytest.mark.equation("Algorithm 2")
@pytest.mark.parametrize("S", [200, 50, 7])
@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
def test_samples_follow_the_law_that_recursion_gives(long, generator, variance, S):
    n = 40_000
    x_T = torch.randn(n, 1, dtype=torch.float64, generator=generator)
    x = final(ddpm(knowing(long), long, x_T, generator=generator, steps=S, variance=variance))
    mean, std = law_of_the_sampler(long, S, variance)
    assert_close(float(x.mean()), mean, rtol=0, atol=4 * std / math.sqrt(n))
    assert_close(float(x.std()), std, rtol=4 / math.sqrt(2 * n), atol=0)


@pytest.mark.equation("1")
@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
def test_all_states_together_have_the_law_of_the_product_of_the_kernels(generator, variance):
    """To multiply Gaussian densities is to add their precisions; the inverse is the covariance of
    x_0, ..., x_T.
    """
    betas, n = [0.1, 0.3, 0.5, 0.7, 0.9, 0.99], 40_000
    bars = [math.prod(1 - beta for beta in betas[:k]) for k in range(7)]
    steps_back = []  # x_{t-1} = a x_t + b + sigma z, by Eq. 11
    for beta, now, before in zip(betas, bars[1:], bars, strict=False):
        share = beta / (now * STD**2 + 1 - now)
        a, b = (1 - share) / math.sqrt(1 - beta), share * math.sqrt(now / (1 - beta)) * MEAN
        sigma2 = beta if variance == "beta" else beta * (1 - before) / (1 - now)
        steps_back.append((a, b, sigma2))
    precision = torch.zeros(6, 6, dtype=torch.float64)  # of x_1, ..., x_6
    tilt = torch.zeros(6, dtype=torch.float64)
    precision[5, 5] = 1.0  # p(x_T)
    for i, (a, b, sigma2) in enumerate(steps_back[1:]):
        residual = torch.zeros(6, dtype=torch.float64)
        residual[i], residual[i + 1] = 1.0, -a
        precision += residual.outer(residual) / sigma2
        tilt += residual * b / sigma2
    identity = torch.eye(6, dtype=torch.float64)
    to_all = torch.cat([identity[:1] * steps_back[0][0], identity])  # the last step adds no noise
    covariance = to_all @ precision.inverse() @ to_all.T  # (7, 7)
    mean = to_all @ precision.inverse() @ tilt + torch.tensor([steps_back[0][1], *[0.0] * 6])

    schedule = from_betas(betas)
    x_T = torch.randn(n, 1, dtype=torch.float64, generator=generator)
    frames = ddpm(knowing(schedule), schedule, x_T, generator=generator, variance=variance)
    x = torch.cat([frame.x for frame in reversed(list(frames))], dim=1)  # (n, 7)
    spread = covariance.diagonal()
    z_mean = (x.mean(0) - mean) / (spread / n).sqrt()
    z_covariance = (x.T.cov() - covariance) / ((spread.outer(spread) + covariance**2) / n).sqrt()
    for z in (z_mean, z_covariance):
        assert_close(z, torch.zeros_like(z), rtol=0, atol=4.5)


@pytest.mark.equation("Algorithm 2")
@pytest.mark.parametrize(("variance", "expected"), [("beta_tilde", 0.296), ("beta", 0.301)])
def test_a_thousand_steps_recover_mean_and_variance_of_the_data(generator, variance, expected):
    schedule, n = linear(1000), 10_000
    assert_close(law_of_the_sampler(schedule, 1000, variance), (MEAN, expected), rtol=0, atol=1e-3)
    x_T = torch.randn(n, 1, generator=generator)
    denoise = knowing(schedule, "v")
    x = final(ddpm(denoise, schedule, x_T, generator=generator, variance=variance))
    assert_close(float(x.mean()), MEAN, rtol=0, atol=4 * STD / math.sqrt(n) + 1e-3)
    assert_close(float(x.std()), expected, rtol=0, atol=4 * STD / math.sqrt(2 * n) + 1e-3)


@pytest.mark.parametrize("S", [None, 13])
@pytest.mark.parametrize("clip", [True, False])
def test_networks_of_every_target_draw_the_same_samples(schedule, clip, S):
    x_T = torch.randn(5, 1, 4, 4, dtype=torch.float64, generator=seeded(1))

    def drawn(target):
        denoise = knowing(schedule, target, clip, mean=0.9)
        return final(ddpm(denoise, schedule, x_T, generator=seeded(2), steps=S))

    for target in ("x_0", "v", "mu"):
        assert_close(drawn(target), drawn("eps"), rtol=0, atol=1e-6)


def test_clipping_clamps_the_estimate_and_nothing_else(schedule, generator):
    x_T = torch.randn(2, 1, 2, 2, generator=generator)

    def walk(network, clip):
        denoise = denoiser(network, schedule, target="x_0", clip=clip)
        return list(ddpm(denoise, schedule, x_T, generator=seeded(0)))

    def wild(x, t):
        return 3 * torch.ones_like(x)

    clipped, free = walk(wild, True), walk(wild, False)
    assert all(bool((frame.x_0_hat == 1).all()) for frame in clipped[1:])
    assert all(bool((frame.x_0_hat == 3).all()) for frame in free[1:])
    # the state itself is not clamped
    assert max(float(frame.x.abs().max()) for frame in clipped[1:]) > 1
    inside = best(schedule, "x_0", 0, 0.01)  # nothing to clamp, nothing changes
    assert_close(walk(inside, True)[-1].x, walk(inside, False)[-1].x, rtol=0, atol=0)


@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
@pytest.mark.parametrize("S", [None, 9])
def test_the_last_step_adds_no_noise(schedule, generator, variance, S):
    x_T, denoise = torch.randn(3, 1, 2, 2, generator=generator), knowing(schedule, "v", clip=True)
    *_, frame = ddpm(denoise, schedule, x_T, generator=generator, steps=S, variance=variance)
    assert_close(frame.x, frame.x_0_hat, rtol=0, atol=1e-6)


@pytest.mark.equation("7")
@pytest.mark.equation("Algorithm 2")
@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
def test_every_step_is_posterior_mean_plus_matched_noise(schedule, generator, variance):
    x_T = torch.randn(4, 1, 3, 3, dtype=torch.float64, generator=generator)
    denoise = knowing(schedule, clip=True)
    frames = list(ddpm(denoise, schedule, x_T, generator=seeded(5), variance=variance))
    noise = seeded(5)
    sigma2 = schedule.beta if variance == "beta" else schedule.beta_tilde
    for before, after in pairwise(frames):
        mean, _ = q_posterior(schedule, after.x_0_hat, before.x, same_t(before.t, 4))
        if before.t > 1:
            z = torch.randn(mean.shape, dtype=mean.dtype, generator=noise)
            mean = mean + sigma2[before.t].sqrt() * z
        assert_close(after.x, mean)


@pytest.mark.parametrize("S", [None, 1, 2, 7, 100])
def test_frames_and_the_steps_that_the_denoiser_sees(schedule, generator, S):
    asked = []

    def watched(x, t):
        assert t.shape == (2,) and t.dtype == torch.int64
        asked.append(t.unique().item())
        return torch.zeros_like(x)

    x_T = torch.randn(2, 1, 2, 2, generator=generator)
    frames = list(ddpm(watched, schedule, x_T, generator=generator, steps=S))
    tau = even_tau(100, S or 100).tolist()
    assert [frame.t for frame in frames] == tau[::-1]
    assert asked == tau[:0:-1]
    assert torch.equal(frames[0].x, x_T)
    assert all(frame.x.shape == frame.x_0_hat.shape == x_T.shape for frame in frames)


def test_a_chain_may_begin_half_way(schedule, generator):
    """With the first 40 steps of the schedule it goes on from x_40 as the whole chain did."""
    denoise = knowing(schedule, "v", clip=True)
    x_T = torch.randn(3, 1, 2, 2, dtype=torch.float64, generator=generator)
    frames = ddpm(denoise, schedule, x_T, generator=generator)
    half_way = next(frame for frame in frames if frame.t == 40)
    state = generator.get_state()
    rest = list(frames)
    generator.set_state(state)
    short = schedule.strided(torch.arange(41))
    first, *again = ddpm(denoise, short, half_way.x, generator=generator)
    assert first.t == 40 and torch.equal(first.x, half_way.x)
    for one, other in zip(again, rest, strict=True):
        assert one.t == other.t
        assert_close(one.x, other.x)
        assert_close(one.x_0_hat, other.x_0_hat)


def test_one_seed_one_result_to_the_last_bit(schedule):
    def drawn(seed):
        generator = seeded(seed)
        x_T = sample.start(3, (1, 4, 4), generator=generator)
        denoise = knowing(schedule, clip=True)
        return final(ddpm(denoise, schedule, x_T, generator=generator, steps=20))

    torch.manual_seed(1)
    once = drawn(0)
    torch.manual_seed(2)
    assert torch.equal(once, drawn(0))
    assert not torch.equal(once, drawn(1))


@pytest.mark.parametrize("shape", [(3, 8, 8), (2,), ()])
def test_start(generator, shape):
    x = sample.start(50_000 if len(shape) < 3 else 500, shape, generator=generator)
    assert x.shape[1:] == shape
    assert_close(float(x.std()), 1.0, rtol=4 / math.sqrt(2 * x.numel()), atol=0)
    for count in (0, -4):
        with pytest.raises(ValueError, match="count must be at least 1"):
            sample.start(count, shape, generator=generator)


@pytest.mark.parametrize("S", [0, -1, 101])
def test_illegal_numbers_of_steps(schedule, generator, S):
    with pytest.raises(ValueError, match=r"must lie in 1\.\.100"):
        final(ddpm(knowing(schedule), schedule, torch.zeros(1, 1), generator=generator, steps=S))


def test_unknown_variance(schedule, generator):
    walk = ddpm(
        knowing(schedule), schedule, torch.zeros(1, 1), generator=generator, variance="learned"
    )
    with pytest.raises(ValueError, match=r"unknown variance 'learned'; choose one of beta, beta_t"):
        next(walk)


@pytest.mark.equation("Algorithm 2")
@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize(
    ("ours", "theirs"), [("beta_tilde", "fixed_small"), ("beta", "fixed_large")]
)
@pytest.mark.parametrize(
    ("target", "name"), [("eps", "epsilon"), ("v", "v_prediction"), ("x_0", "sample")]
)
def test_each_step_agrees_with_diffusers(generator, ours, theirs, clip, target, name, their_t):
    schedule = linear(30, rescaled=True)
    reference = DDPMScheduler(
        num_train_timesteps=30,
        trained_betas=schedule.beta[1:].float().numpy(),
        variance_type=theirs,
        clip_sample=clip,
        prediction_type=name,
    )
    network = best(schedule, target, 0.9, 0.5)
    denoise = denoiser(network, schedule, target=target, clip=clip)
    x_T = torch.randn(4, 1, 4, 4, generator=generator)
    frames = list(ddpm(denoise, schedule, x_T, generator=seeded(6), variance=ours))
    noise = seeded(6)
    for before, after in pairwise(frames):
        output = network(before.x, same_t(before.t, 4))
        stepped = reference.step(output, their_t(before.t), before.x, generator=noise)
        assert_close(after.x, stepped.prev_sample, rtol=1e-4, atol=1e-4)
        assert_close(after.x_0_hat, stepped.pred_original_sample, rtol=1e-4, atol=1e-3)


def test_subtracting_the_predicted_noise_is_not_a_sampler():
    """z - w, once a step, collapses: the errata's counter-example, in exact recursion."""
    schedule = linear(1000)
    mean, std = 0.0, 1.0
    for t in range(1000, 0, -1):
        ab = float(schedule.alpha_bar[t])
        gain = math.sqrt(1 - ab) / (ab * STD**2 + 1 - ab)  # E[eps | x] = gain (x - sqrt(ab) MEAN)
        mean, std = mean - gain * (mean - math.sqrt(ab) * MEAN), abs(1 - gain) * std
    assert_close(mean, 0.4998, rtol=0, atol=2e-4)
    assert std < 1e-6
