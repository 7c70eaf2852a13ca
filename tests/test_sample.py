"""Samplers on Gaussian data, where the best prediction is a formula, and against diffusers."""

import math
from itertools import pairwise

import pytest
import torch
from diffusers import DDPMScheduler
from torch.testing import assert_close

from tutorial_lib import sample
from tutorial_lib.diffusion import q_posterior
from tutorial_lib.sample import ddpm, final
from tutorial_lib.schedule import even_tau, from_betas, linear, same_t

MEAN, STD = 0.5, 0.3  # of the data in most tests


def best(schedule, target: str, mean: float = MEAN, std: float = STD):
    """The network that knows: for data N(mean, std^2) E[x_0 | x_t] is linear in x_t, and so is
    every other target.
    """

    def network(x_t, t):
        ab = schedule.alpha_bar[t].to(x_t).view(-1, *[1] * (x_t.ndim - 1))
        x_0 = mean + ab.sqrt() * std**2 / (ab * std**2 + 1 - ab) * (x_t - ab.sqrt() * mean)
        eps = (x_t - ab.sqrt() * x_0) / (1 - ab).sqrt()
        if target == "mu":
            return q_posterior(schedule, x_0, x_t, t)[0]
        return {"x_0": x_0, "eps": eps, "v": ab.sqrt() * eps - (1 - ab).sqrt() * x_0}[target]

    return network


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
    x = final(ddpm(best(long, "eps"), long, x_T, generator, "eps", S, variance, clip=False))
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
        sigma2 = beta if variance == "beta" else beta * (1 - before) / (1 - now)
        steps_back.append(
            ((1 - share) / math.sqrt(1 - beta), share * math.sqrt(now / (1 - beta)) * MEAN, sigma2)
        )
    precision, tilt = (
        torch.zeros(6, 6, dtype=torch.float64),
        torch.zeros(6, dtype=torch.float64),
    )  # of x_1, ..., x_6
    precision[5, 5] = 1.0  # p(x_T)
    for i, (a, b, sigma2) in enumerate(steps_back[1:]):
        residual = torch.zeros(6, dtype=torch.float64)
        residual[i], residual[i + 1] = 1.0, -a
        precision += residual.outer(residual) / sigma2
        tilt += residual * b / sigma2
    to_all = torch.cat(
        [
            torch.eye(6, dtype=torch.float64)[:1] * steps_back[0][0],
            torch.eye(6, dtype=torch.float64),
        ]
    )
    covariance = to_all @ precision.inverse() @ to_all.T  # (7, 7); the last step adds no noise
    mean = to_all @ precision.inverse() @ tilt + torch.tensor([steps_back[0][1], *[0.0] * 6])

    schedule = from_betas(betas)
    x_T = torch.randn(n, 1, dtype=torch.float64, generator=generator)
    frames = list(
        ddpm(best(schedule, "eps"), schedule, x_T, generator, "eps", variance=variance, clip=False)
    )
    x = torch.cat([frame.x for frame in reversed(frames)], dim=1)  # (n, 7)
    spread = covariance.diagonal()
    errors = ((spread.outer(spread) + covariance**2) / n).sqrt()
    assert_close(
        (x.mean(0) - mean) / (spread / n).sqrt(),
        torch.zeros(7, dtype=torch.float64),
        rtol=0,
        atol=4.5,
    )
    assert_close(
        (x.T.cov() - covariance) / errors, torch.zeros(7, 7, dtype=torch.float64), rtol=0, atol=4.5
    )


@pytest.mark.equation("Algorithm 2")
@pytest.mark.parametrize(("variance", "expected"), [("beta_tilde", 0.296), ("beta", 0.301)])
def test_a_thousand_steps_recover_mean_and_variance_of_the_data(generator, variance, expected):
    schedule, n = linear(1000), 10_000
    assert_close(law_of_the_sampler(schedule, 1000, variance), (MEAN, expected), rtol=0, atol=1e-3)
    x_T = torch.randn(n, 1, generator=generator)
    x = final(
        ddpm(best(schedule, "v"), schedule, x_T, generator, "v", variance=variance, clip=False)
    )
    assert_close(float(x.mean()), MEAN, rtol=0, atol=4 * STD / math.sqrt(n) + 1e-3)
    assert_close(float(x.std()), expected, rtol=0, atol=4 * STD / math.sqrt(2 * n) + 1e-3)


@pytest.mark.parametrize("S", [None, 13])
@pytest.mark.parametrize("clip", [True, False])
def test_networks_of_every_target_draw_the_same_samples(schedule, clip, S):
    x_T = torch.randn(5, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def drawn(target):
        generator = torch.Generator().manual_seed(2)
        return final(
            ddpm(best(schedule, target, 0.9), schedule, x_T, generator, target, S, clip=clip)
        )

    for target in ("x_0", "v", "mu"):
        assert_close(drawn(target), drawn("eps"), rtol=0, atol=1e-6)


def test_clipping_clamps_the_estimate_and_nothing_else(schedule, generator):
    def wild(x, t):
        return 3 * torch.ones_like(x)

    x_T = torch.randn(2, 1, 2, 2, generator=generator)
    clipped = list(ddpm(wild, schedule, x_T, torch.Generator().manual_seed(0), "x_0"))
    free = list(ddpm(wild, schedule, x_T, torch.Generator().manual_seed(0), "x_0", clip=False))
    assert all(bool((frame.x_0_hat == 1).all()) for frame in clipped[1:])
    assert all(bool((frame.x_0_hat == 3).all()) for frame in free[1:])
    assert (
        max(float(frame.x.abs().max()) for frame in clipped[1:]) > 1
    )  # the state itself is not clamped
    inside = [list(ddpm(best(schedule, "x_0", 0, 0.01), schedule, x_T, torch.Generator().manual_seed(0), "x_0", clip=c))
              for c in (True, False)]  # fmt: skip
    assert_close(
        inside[0][-1].x, inside[1][-1].x, rtol=0, atol=0
    )  # nothing to clamp, nothing changes


@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
@pytest.mark.parametrize("S", [None, 9])
def test_the_last_step_adds_no_noise(schedule, generator, variance, S):
    *_, frame = ddpm(
        best(schedule, "v"),
        schedule,
        torch.randn(3, 1, 2, 2, generator=generator),
        generator,
        "v",
        S,
        variance,
    )
    assert_close(frame.x, frame.x_0_hat, rtol=0, atol=1e-6)


@pytest.mark.equation("7")
@pytest.mark.equation("Algorithm 2")
@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
def test_every_step_is_posterior_mean_plus_matched_noise(schedule, generator, variance):
    x_T = torch.randn(4, 1, 3, 3, dtype=torch.float64, generator=generator)
    frames = list(
        ddpm(
            best(schedule, "eps"),
            schedule,
            x_T,
            torch.Generator().manual_seed(5),
            "eps",
            variance=variance,
        )
    )
    noise = torch.Generator().manual_seed(5)
    sigma2 = schedule.beta if variance == "beta" else schedule.beta_tilde
    for before, after in pairwise(frames):
        mean, _ = q_posterior(schedule, after.x_0_hat, before.x, same_t(before.t, 4))
        if before.t > 1:
            mean = mean + sigma2[before.t].sqrt() * torch.randn(
                mean.shape, dtype=mean.dtype, generator=noise
            )
        assert_close(after.x, mean)


@pytest.mark.parametrize("S", [None, 1, 2, 7, 100])
def test_frames_and_the_steps_that_the_network_sees(schedule, generator, S):
    asked = []

    def watched(x, t):
        assert t.shape == (2,) and t.dtype == torch.int64
        asked.append(t.unique().item())
        return torch.zeros_like(x)

    x_T = torch.randn(2, 1, 2, 2, generator=generator)
    frames = list(ddpm(watched, schedule, x_T, generator, "x_0", S))
    tau = even_tau(100, S or 100).tolist()
    assert [frame.t for frame in frames] == tau[::-1]
    assert asked == tau[:0:-1]
    assert torch.equal(frames[0].x, x_T)
    assert all(frame.x.shape == frame.x_0_hat.shape == x_T.shape for frame in frames)


def test_a_chain_may_begin_half_way(schedule, generator):
    """With the first 40 steps of the schedule it goes on from x_40 as the whole chain did."""
    network = best(schedule, "v")
    frames = ddpm(
        network,
        schedule,
        torch.randn(3, 1, 2, 2, dtype=torch.float64, generator=generator),
        generator,
        "v",
    )
    half_way = next(frame for frame in frames if frame.t == 40)
    state = generator.get_state()
    rest = list(frames)
    generator.set_state(state)
    first, *again = ddpm(network, schedule.strided(torch.arange(41)), half_way.x, generator, "v")
    assert first.t == 40 and torch.equal(first.x, half_way.x)
    for one, other in zip(again, rest, strict=True):
        assert one.t == other.t
        assert_close(one.x, other.x)
        assert_close(one.x_0_hat, other.x_0_hat)


def test_one_seed_one_result_to_the_last_bit(schedule):
    def drawn(seed):
        generator = torch.Generator().manual_seed(seed)
        return final(
            ddpm(
                best(schedule, "eps"),
                schedule,
                sample.start(3, (1, 4, 4), generator),
                generator,
                "eps",
                20,
            )
        )

    torch.manual_seed(1)
    once = drawn(0)
    torch.manual_seed(2)
    assert torch.equal(once, drawn(0))
    assert not torch.equal(once, drawn(1))


def test_samples_carry_no_gradient(schedule, generator):
    weight = torch.ones((), requires_grad=True)
    x = final(
        ddpm(
            lambda x, t: weight * x,
            schedule,
            sample.start(1, (1, 2, 2), generator),
            generator,
            steps=3,
        )
    )
    assert not x.requires_grad


def test_start(generator):
    x = sample.start(500, (3, 8, 8), generator)
    assert x.shape == (500, 3, 8, 8)
    assert_close(float(x.std()), 1.0, rtol=4 / math.sqrt(2 * x.numel()), atol=0)
    for count in (0, -4):
        with pytest.raises(ValueError, match="count must be at least 1"):
            sample.start(count, (1, 8, 8), generator)


@pytest.mark.parametrize("S", [0, -1, 101])
def test_illegal_numbers_of_steps(schedule, generator, S):
    with pytest.raises(ValueError, match=r"must lie in 1\.\.100"):
        final(ddpm(best(schedule, "eps"), schedule, torch.zeros(1, 1), generator, steps=S))


def test_unknown_variance_and_target(schedule, generator):
    with pytest.raises(
        ValueError, match=r"unknown variance 'learned'; choose one of beta, beta_tilde"
    ):
        final(
            ddpm(best(schedule, "eps"), schedule, torch.zeros(1, 1), generator, variance="learned")
        )
    with pytest.raises(ValueError, match=r"unknown target 'score'; choose one of eps"):
        final(ddpm(best(schedule, "eps"), schedule, torch.zeros(1, 1), generator, target="score"))


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
        num_train_timesteps=30, trained_betas=schedule.beta[1:].float().numpy(), variance_type=theirs, clip_sample=clip,
        prediction_type=name,
    )  # fmt: skip
    network = best(schedule, target, 0.9, 0.5)
    frames = list(ddpm(network, schedule, torch.randn(4, 1, 4, 4, generator=generator),
                       torch.Generator().manual_seed(6), target, variance=ours, clip=clip))  # fmt: skip
    noise = torch.Generator().manual_seed(6)
    for before, after in pairwise(frames):
        output = network(before.x, same_t(before.t, 4))
        stepped = reference.step(output, their_t(before.t), before.x, generator=noise)
        assert_close(after.x, stepped.prev_sample, rtol=1e-4, atol=1e-4)
        assert_close(after.x_0_hat, stepped.pred_original_sample, rtol=1e-4, atol=1e-3)


def test_subtracting_the_predicted_noise_is_not_a_sampler(generator):
    """z - w, once a step, collapses: the errata's counter-example, in exact recursion."""
    schedule = linear(1000)
    mean, std = 0.0, 1.0
    for t in range(1000, 0, -1):
        ab = float(schedule.alpha_bar[t])
        gain = math.sqrt(1 - ab) / (ab * STD**2 + 1 - ab)  # E[eps | x] = gain (x - sqrt(ab) MEAN)
        mean, std = mean - gain * (mean - math.sqrt(ab) * MEAN), abs(1 - gain) * std
    assert_close(mean, 0.4998, rtol=0, atol=2e-4)
    assert std < 1e-6
