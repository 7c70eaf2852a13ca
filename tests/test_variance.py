"""A variance that is learned: the best one of Gaussian data, the library of others, the bound."""

import math

import pytest
import torch
from diffusers import DDPMScheduler
from torch import nn
from torch.testing import assert_close

from tutorial_lib import diffusion, sample
from tutorial_lib.beyond import variance
from tutorial_lib.beyond.likelihood import bits_per_dimension
from tutorial_lib.beyond.variance import (
    Importance,
    bits_of_steps,
    halves,
    hybrid_step,
    learned_ddpm,
    log_ends,
    log_variance,
    sure,
    vlb_nats,
)
from tutorial_lib.schedule import cosine, even_tau, linear, same_t


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some(generator, count=3, schedule=None):
    """Images whose values are pixels, noise, steps, and an estimate."""
    pixels = torch.randint(0, 256, (count, 1, 4, 4), generator=generator)
    x_0 = (pixels / 127.5 - 1).double()
    eps, off = torch.randn(2, *x_0.shape, generator=generator, dtype=torch.float64)
    return x_0, eps, x_0 + 0.05 * off


@pytest.mark.equation("Nichol 15")
def test_the_ends_of_the_share(generator):
    schedule, t = linear(50, rescaled=True), torch.tensor([2, 20, 50])
    share = torch.zeros(3, 1, 4, 4, dtype=torch.float64)
    low, high = (log_variance(schedule, share + one, t).exp()[:, 0, 0, 0] for one in (0, 1))
    assert_close(low, schedule.beta_tilde[t])
    assert_close(high, schedule.beta[t])
    middle = log_variance(schedule, share + 0.5, t).exp()[:, 0, 0, 0]
    assert_close(middle, (low * high).sqrt())
    assert_close(log_ends(schedule)[0][1].exp(), schedule.beta_tilde[2])


@pytest.mark.equation("Nichol 15")
@pytest.mark.filterwarnings("ignore:alpha_bar_T")
def test_the_variance_against_diffusers(generator):
    theirs = DDPMScheduler(
        num_train_timesteps=100, beta_schedule="linear", variance_type="learned_range"
    )
    schedule, raw = linear(100), 2 * torch.rand(1, 1, 2, 2, generator=generator) - 1
    _, share = halves(torch.cat([raw, raw], dim=1))
    for t in (2, 50, 100):
        expected = theirs._get_variance(t - 1, predicted_variance=raw)
        assert_close(
            log_variance(schedule, share, torch.tensor([t])), expected, rtol=1e-4, atol=1e-4
        )


@pytest.mark.equation("5")
@pytest.mark.parametrize("kind", ["beta", "beta_tilde"])
def test_a_share_at_an_end_gives_the_terms_of_a_fixed_variance(kind, generator):
    schedule, t = linear(50, rescaled=True), torch.tensor([2, 20, 50])
    x_0, eps, x_0_hat = some(generator)
    x_t = diffusion.q_sample(schedule, x_0, t, eps)
    share = torch.full_like(x_0, float(kind == "beta"))
    found = vlb_nats(schedule, x_0, x_t, t, x_0_hat, log_variance(schedule, share, t))
    assert_close(found, diffusion.L_t_minus_1(schedule, x_0, x_t, t, x_0_hat, variance=kind))


@pytest.mark.equation("13")
def test_the_first_step_is_the_decoder(generator):
    """Nearly that of Eq. 13, whose buckets are areas where ours are heights."""
    schedule, t = linear(1000), same_t(1, 3)
    x_0, eps, _ = some(generator)
    x_0 = x_0.clamp(-0.9, 0.9).mul(127.5).sub(0.5).round().add(0.5).div(127.5)  # inner pixels
    x_1 = diffusion.q_sample(schedule, x_0, t, eps)
    x_0_hat = x_0 + 0.01 * eps.flip(0)
    log_beta = schedule.at(schedule.beta.log(), t, x_0).expand(x_0.shape)
    found = vlb_nats(schedule, x_0, x_1, t, x_0_hat, log_beta)
    assert_close(found, diffusion.L_0(schedule, x_0, x_0_hat), rtol=0.01, atol=0)


def test_the_variance_that_costs_least_is_the_true_one():
    """For data N(0, V) it is beta_tilde plus what is unsure about the mean, in closed form."""
    schedule, V, generator = linear(50, rescaled=True), 0.4, seeded(2)
    for step in (2, 10, 40):
        t, bar = same_t(step, 5000), float(schedule.alpha_bar[step])
        x_0, eps = V**0.5 * torch.randn(2, 5000, 1, generator=generator, dtype=torch.float64)
        eps = eps / V**0.5
        x_t = diffusion.q_sample(schedule, x_0, t, eps)
        x_0_hat = bar**0.5 * V / (bar * V + 1 - bar) * x_t
        mmse = V * (1 - bar) / (bar * V + 1 - bar)
        exact = schedule.beta_tilde[step] + schedule.mu_tilde_weights[0][step] ** 2 * mmse
        tried = torch.linspace(-0.5, 1.5, 81, dtype=torch.float64)
        costs = [
            float(
                vlb_nats(
                    schedule, x_0, x_t, t, x_0_hat,
                    log_variance(schedule, torch.full_like(x_0, float(one)), t),
                ).mean()
            )
            for one in tried
        ]  # fmt: skip
        best = float(tried[costs.index(min(costs))])
        low, high = (float(end[step]) for end in log_ends(schedule))
        # chance: the variance of 20,000 numbers is known to one per cent
        assert abs(low + best * (high - low) - math.log(float(exact))) < 0.08 + 0.025 * (high - low)


class Net(nn.Module):
    """A slope for v and one for the share."""

    def __init__(self):
        super().__init__()
        self.slopes = nn.Parameter(torch.tensor([0.3, 0.2], dtype=torch.float64))

    def forward(self, x, t):
        return torch.cat([self.slopes[0] * x, self.slopes[1] * x], dim=1)


@pytest.mark.equation("Nichol 16")
def test_the_bound_teaches_the_variance_and_not_the_mean(generator):
    schedule, t = cosine(50), torch.tensor([1, 7, 44])
    x_0, eps, _ = some(generator)
    net = Net()
    loss = hybrid_step(net, schedule, x_0, t, eps, target="v")
    (slopes,) = torch.autograd.grad(loss.mean(), net.slopes)
    x_t = diffusion.q_sample(schedule, x_0, t, eps)
    wanted = diffusion.target_from(schedule, "v", x_0, eps, t)
    simple = (net.slopes[0] * x_t - wanted).square().flatten(1).mean(1)
    (alone,) = torch.autograd.grad(simple.mean(), net.slopes)
    assert_close(slopes[0], alone[0])
    assert slopes[1] != 0
    x_0_hat = diffusion.x_0_from(schedule, "v", net.slopes[0] * x_t, x_t, t)
    share = (net.slopes[1] * x_t + 1) / 2
    vlb = vlb_nats(schedule, x_0, x_t, t, x_0_hat, log_variance(schedule, share, t)) / 16
    assert_close(loss, simple + 0.001 * 50 * vlb)


def gaussian_net(V, share_of):
    """The best v for data N(0, V), and a share by t, as (x, t) -> both."""

    def network(x, t):
        bar = schedule_of[0].alpha_bar[t.long()].view(-1, 1, 1, 1).to(x)
        x_0_hat = bar.sqrt() * V / (bar * V + 1 - bar) * x
        v = (bar.sqrt() * x - x_0_hat) / (1 - bar).sqrt()
        return torch.cat([v, 2 * share_of(t).view(-1, 1, 1, 1).to(x).expand(x.shape) - 1], dim=1)

    schedule_of = [cosine(1000)]
    return network


def test_with_the_best_variance_few_steps_keep_the_spread():
    """Data N(0, V), a perfect mean: with the true variance of the step back any number of steps
    ends right, with beta too wide and with beta_tilde too narrow.
    """
    schedule, V, S = cosine(1000), 0.09, 5
    tau = even_tau(1000, S)
    visited = schedule.strided(tau)
    bar = visited.alpha_bar
    mmse = V * (1 - bar) / (bar * V + 1 - bar)
    exact = (visited.beta_tilde + visited.mu_tilde_weights[0] ** 2 * mmse).log()
    low, high = log_ends(visited)
    shares = torch.zeros(1001, dtype=torch.float64)
    shares[tau] = ((exact - low) / (high - low)).nan_to_num(0.0)
    estimate = sure(gaussian_net(V, lambda t: shares[t.long()]), schedule, target="v", clip=False)
    x_T = torch.randn(40_000, 1, 1, 1, generator=seeded(1), dtype=torch.float64)
    spreads = {}
    for kind in variance.VARIANCES:
        frames = learned_ddpm(estimate, schedule, x_T, generator=seeded(2), steps=S, variance=kind)
        spreads[kind] = float(sample.final(frames).std())
    # the last step shows its mean: what is left is the spread of the best guess from x_tau1
    at_1 = bar[1] * V / (bar[1] * V + 1 - bar[1])
    assert_close(spreads["learned"], float((at_1 * V).sqrt()), rtol=0.02, atol=0)
    assert spreads["beta_tilde"] < spreads["learned"] < spreads["beta"]


def test_a_fixed_variance_is_the_sampler_of_notebook_06():
    schedule, generator = cosine(1000), seeded(3)
    estimate = sure(gaussian_net(0.3, lambda t: 0.0 * t), schedule, target="v", clip=True)
    x_T = torch.randn(4, 1, 2, 2, generator=generator, dtype=torch.float64)
    for kind in ("beta", "beta_tilde"):
        ours = learned_ddpm(estimate, schedule, x_T, generator=seeded(4), steps=9, variance=kind)
        theirs = sample.ddpm(
            lambda x, t: estimate(x, t)[0],
            schedule,
            x_T,
            generator=seeded(4),
            steps=9,
            variance=kind,
        )
        for one, other in zip(ours, theirs, strict=True):
            assert one.t == other.t
            assert_close(one.x, other.x)


def test_unknown_variances_are_refused():
    with pytest.raises(ValueError, match="learned, beta, beta_tilde"):
        next(learned_ddpm(None, cosine(9), torch.zeros(1), generator=seeded(), variance="wide"))


@pytest.mark.parametrize("steps", [4, 40])
def test_the_bound_of_few_steps_against_the_one_of_the_core(steps):
    """Uniform pixels, a fixed variance: both estimates of one number; L_0 differs by its buckets
    and by the variance at t = 1.
    """
    schedule, V = linear(40, rescaled=True), 1 / 3
    pixels = torch.randint(0, 256, (800, 1, 2, 2), generator=seeded(1)).to(torch.uint8)

    def estimate(x, t):
        bar = schedule.alpha_bar[t.long()].view(-1, 1, 1, 1).to(x)
        return bar.sqrt() * V / (bar * V + 1 - bar) * x, torch.ones_like(x)

    ask = {"generator": seeded(2), "steps": steps, "draws": 8}
    found = bits_of_steps(estimate, schedule, pixels, variance="beta", **ask)
    same = bits_of_steps(
        estimate, schedule, pixels, variance="learned", **ask | {"generator": seeded(2)}
    )
    assert found == same  # a share of 1 is beta
    visited = schedule.strided(even_tau(40, steps))

    def denoise(x, t):
        return estimate(x, even_tau(40, steps)[t])[0]

    core = bits_per_dimension(denoise, visited, pixels, generator=seeded(3), draws=8)
    error = math.hypot(found["error"], core["error"])
    assert_close(found["L_t"], core["L_t"], rtol=0, atol=5 * error)
    assert found["count"] == 800 and found["bpd"] == found["L_t"] + found["L_0"]


@pytest.mark.equation("Nichol 18")
def test_steps_are_drawn_as_often_as_they_matter():
    kept, generator = Importance(4, keep=3), seeded(1)
    assert_close(kept.chances(), torch.full((4,), 0.25, dtype=torch.float64))
    t, weight = kept.draw(10, generator)
    assert set(t.tolist()) <= {1, 2, 3, 4} and (weight == 1).all()
    size = torch.tensor([8.0, 4.0, 2.0, 2.0])
    for _ in range(3):
        kept.update(torch.arange(1, 5), size)
    assert_close(kept.chances(), 0.999 * size.double() / 16 + 0.001 / 4)
    t, weight = kept.draw(200_000, generator)
    estimate = weight * size[t - 1]
    assert_close(float(estimate.mean()), 4.0, rtol=0.005, atol=0)  # that of uniform steps
    assert float(estimate.std()) < 0.1 * float(size.std())
    kept.update(torch.tensor([1]), torch.tensor([0.0]))  # the oldest of three is forgotten
    assert_close(kept.recent[0], torch.tensor([8.0, 8.0, 0.0], dtype=torch.float64))
