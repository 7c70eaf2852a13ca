"""The bound in continuous time: closed forms of Gaussians, pixels of known entropy, the limit of
many steps.
"""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

from tutorial_lib import checkpoint, data, diffusion
from tutorial_lib.beyond import variational
from tutorial_lib.beyond.variational import (
    Monotone,
    bits,
    continuous,
    decoder_nats,
    diffusion_nats,
    fitted_sigma,
    noised,
    plain_decoder,
    prior_nats,
    signal_and_noise,
    spread,
    t_of,
)
from tutorial_lib.denoise import denoiser
from tutorial_lib.nets.unet import restore
from tutorial_lib.schedule import cosine, from_betas, linear

LEVELS = torch.arange(256, dtype=torch.float64) / 127.5 - 1


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.equation("Kingma")
@given(st.floats(-14, 10))
def test_signal_and_noise(gamma):
    a, b = signal_and_noise(torch.tensor([gamma]), like=torch.zeros(1, 2, 2, dtype=torch.float64))
    assert a.shape == b.shape == (1, 1, 1)
    assert_close(a**2 + b**2, torch.ones_like(a))
    # gamma went through 32 bits
    assert_close(float((b**2 / a**2).log()), gamma, rtol=1e-5, atol=1e-5)


def test_noised_data_at_a_step_of_a_schedule(generator):
    """The gamma of step t gives what `q_sample` gives at t."""
    schedule, x_0 = linear(1000), torch.randn(3, 1, 2, 2, generator=generator)
    eps, t = torch.randn(3, 1, 2, 2, generator=generator), torch.tensor([1, 300, 990])
    gamma = -schedule.snr[t].log()
    assert_close(noised(x_0, gamma, eps), diffusion.q_sample(schedule, x_0, t, eps))


@given(st.integers(1, 60), st.integers(0, 10**6))
def test_times_that_are_spread_fall_one_into_each_part(count, seed):
    t = spread(count, seeded(seed))
    assert ((t >= 0) & (t < 1)).all()
    assert len((t * count).floor().unique()) == count


def test_each_of_the_spread_times_is_uniform():
    t = torch.stack([spread(5, seeded(k)) for k in range(4000)])  # (4000, 5)
    error = (1 / 12) ** 0.5 / 4000**0.5
    assert ((t.mean(0) - 0.5).abs() < 5 * error).all()
    assert ((t.square().mean(0) - 1 / 3).abs() < 5 * error).all()


def test_a_learned_schedule_rises_between_its_ends(generator):
    gamma = Monotone(-10.0, 6.0).double()
    for parameter in gamma.parameters():
        with torch.no_grad():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(noise)
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    found = gamma(t)
    assert_close(found[[0, -1]].detach(), torch.tensor([-10.0, 6.0], dtype=torch.float64))
    assert (found.diff() > 0).all()


def test_the_prior_against_torch(generator):
    x_0 = torch.randn(4, 3, 2, generator=generator, dtype=torch.float64)
    a, b = signal_and_noise(torch.full((4,), 5.0), like=x_0)
    expected = kl_divergence(Normal(a * x_0, b.expand(x_0.shape)), Normal(0.0, 1.0))
    assert_close(prior_nats(x_0, 5.0), expected.flatten(1).sum(1))


def gaussian_estimate(V: float):
    """The best estimate for data N(0, V)."""

    def denoise(z, gamma):
        a, b = signal_and_noise(gamma, like=z)
        return a * V / (a**2 * V + b**2) * z

    return denoise


@pytest.mark.equation("Kingma")
@pytest.mark.parametrize("V", [0.2, 1.0, 4.0])
def test_the_integral_is_the_information_between_the_ends(V):
    r"""For Gaussian data it is $\frac12 \log (1 + V e^{-\gamma})$ at one end less the other."""
    low, high, generator = -8.0, 6.0, seeded(1)
    gamma = low + (high - low) * spread(200_000, generator)
    x_0 = V**0.5 * torch.randn(200_000, 1, generator=generator, dtype=torch.float64)
    z = noised(x_0, gamma, torch.randn(x_0.shape, generator=generator, dtype=torch.float64))
    nats = (high - low) * diffusion_nats(x_0, gaussian_estimate(V)(z, gamma), gamma)
    exact = 0.5 * (math.log1p(V * math.exp(-low)) - math.log1p(V * math.exp(-high)))
    assert_close(float(nats.mean()), exact, rtol=0, atol=5 * float(nats.std()) / 200_000**0.5)


@pytest.mark.equation("Kingma")
@pytest.mark.filterwarnings("ignore:alpha_bar_T")
def test_many_steps_come_to_the_integral_from_above():
    """The sum of L_{t-1} of a chain of T steps even in gamma, for data N(0, V), exactly."""
    V, low, high = 0.5, -8.0, 6.0
    exact = 0.5 * (math.log1p(V * math.exp(-low)) - math.log1p(V * math.exp(-high)))
    gaps = []
    for T in (20, 200, 2000):
        gamma = torch.linspace(low, high, T + 1, dtype=torch.float64)
        signal = (-gamma).sigmoid()  # alpha_bar
        schedule = from_betas(1 - torch.cat([signal[:1], signal[1:] / signal[:-1]]))
        # T + 1 steps, the first of them to gamma = low; L_{t-1} of the others with beta_tilde
        of_x_0, _ = schedule.mu_tilde_weights
        t = torch.arange(2, T + 2)
        mmse = (
            V
            * (1 - schedule.alpha_bar[t])
            / (schedule.alpha_bar[t] * V + 1 - schedule.alpha_bar[t])
        )
        total = (0.5 * of_x_0[t] ** 2 * mmse / schedule.beta_tilde[t]).sum()
        gaps.append(float(total) - exact)
    assert gaps[0] > gaps[1] > gaps[2] > 0
    assert 8 < gaps[1] / gaps[2] < 12  # of first order


def test_the_decoder_by_loops(generator):
    x_0 = LEVELS[torch.randint(0, 256, (2, 3), generator=generator)]
    mean = x_0 + 0.01 * torch.randn(2, 3, generator=generator, dtype=torch.float64)
    sigma = torch.tensor([0.004, 0.02, 0.3], dtype=torch.float64).expand(2, 3)
    expected = torch.zeros(2, dtype=torch.float64)
    for i in range(2):
        for j in range(3):
            weight = [
                math.exp(-0.5 * ((float(v) - float(mean[i, j])) / float(sigma[i, j])) ** 2)
                for v in LEVELS
            ]
            k = round((float(x_0[i, j]) + 1) * 127.5)
            expected[i] -= math.log(weight[k] / sum(weight))
    assert_close(decoder_nats(x_0, mean, sigma), expected)


@pytest.mark.parametrize("sigma", [1e-4, 0.01, 3.0])
def test_the_decoder_is_a_distribution(sigma):
    mean = torch.full((256, 1), 0.3003, dtype=torch.float64)
    nats = decoder_nats(LEVELS[:, None], mean, torch.tensor(sigma, dtype=torch.float64))
    assert_close(float((-nats).exp().sum()), 1.0)


def level_estimate(z, gamma):
    """The best estimate for pixels that are uniform on the 256 levels."""
    a, b = signal_and_noise(gamma, like=z)
    levels = LEVELS.to(z)
    log_weight = -0.5 * ((z[..., None] - a[..., None] * levels) / b[..., None]).square()
    return log_weight.softmax(-1) @ levels


@pytest.mark.equation("Kingma")
@pytest.mark.parametrize("low", [-9.0, -13.0])
def test_random_pixels_cost_eight_bits(low):
    """Whichever the clean end: with the best estimates nothing is lost but the prior's gap."""
    pixels = torch.randint(0, 256, (2000, 1, 2, 2), generator=seeded(3)).to(torch.uint8)
    found = bits(
        level_estimate, pixels, generator=seeded(4), low=low, high=8.0,
        decoder=plain_decoder(low), draws=16,
    )  # fmt: skip
    assert found["count"] == 2000 and found["error"] < 0.08
    assert_close(found["bpd"], 8.0, rtol=0, atol=5 * found["error"])
    assert 0 < found["prior"] < 1e-3
    assert (found["decoder"] < 0.05) == (low < -12)


@pytest.mark.parametrize(
    ("pixels", "draws", "low"),
    [
        (torch.zeros(3, 1, 2, 2), 4, -9.0),
        (torch.zeros(1, 1, 2, 2, dtype=torch.uint8), 4, -9.0),
        (torch.zeros(3, 1, 2, 2, dtype=torch.uint8), 0, -9.0),
        (torch.zeros(3, 1, 2, 2, dtype=torch.uint8), 4, 9.0),
    ],
)
def test_the_bound_refuses_what_makes_no_sense(pixels, draws, low):
    with pytest.raises(ValueError, match="at least 2 uint8 images, 1 draw and low < high"):
        bits(
            level_estimate, pixels, generator=seeded(), low=low, high=8.0,
            decoder=plain_decoder(-9.0), draws=draws,
        )  # fmt: skip


def test_the_time_of_a_noise_level():
    schedule = cosine(1000)
    t = torch.tensor([1, 2, 500, 999])
    assert_close(t_of(schedule, -schedule.snr[t].log()), t.double())
    half = -schedule.snr[1:2].log() - 2 * math.log(2)  # half the noise b / a of t = 1
    assert_close(t_of(schedule, half), torch.tensor([0.5], dtype=torch.float64))
    assert float(t_of(schedule, torch.tensor([500.0]))) == 1000


@pytest.mark.parametrize("target", ["v", "eps", "x_0"])
def test_a_network_of_steps_at_whole_steps(target, generator):
    schedule = cosine(1000)

    def network(x, t):
        return (0.3 * x + t.view(-1, 1, 1, 1) / 1000).to(x)

    x = torch.randn(3, 1, 2, 2, generator=generator, dtype=torch.float64)
    t = torch.tensor([1, 40, 700])
    found = continuous(network, schedule, target=target, clip=True)(x, -schedule.snr[t].log())
    assert_close(found, denoiser(network, schedule, target=target, clip=True)(x, t))


def test_a_mean_is_no_target_here():
    with pytest.raises(ValueError, match="eps, x_0, v"):
        continuous(lambda x, t: x, cosine(10), target="mu", clip=True)


def test_sigmas_are_fitted_to_how_sure_estimates_are(generator):
    """Near black the truth scatters by a fifth of the noise, elsewhere by all of it."""
    noise = 0.01
    near = torch.rand(8000, generator=generator) < 0.5
    x_0_hat = torch.where(near, torch.tensor(-0.9997), torch.tensor(0.1))
    scatter = torch.where(near, 0.2 * noise, noise) * torch.randn(8000, generator=generator)
    x_0 = ((x_0_hat + scatter + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1
    sigma = fitted_sigma(x_0, x_0_hat, noise)
    assert float(sigma[0]) < 0.4 * noise
    assert_close(float(sigma[len(variational.NEAR)]), noise, rtol=0.25, atol=0)


def test_the_shipped_weights_are_worth_less_than_their_discrete_bound_says():
    """No training: the ends moved, the same network: 0.45 bits a pixel less, on 80 pictures."""
    tensors, about = checkpoint.load("fashion_mnist")
    schedule, model = cosine(1000), restore(tensors, about)
    denoise = continuous(model, schedule, target="v", clip=True)
    images = data.load("embedded", "train").pixels[:24], data.load("embedded", "test").pixels[:24]
    x_0 = data.to_model(images[0])
    z = noised(x_0, torch.full((24,), -10.0), torch.randn(x_0.shape, generator=seeded()))
    with torch.no_grad():
        x_0_hat = denoise(z, torch.full((24,), -10.0))
    sigma = fitted_sigma(x_0, x_0_hat, math.exp(-5))
    ask = {"generator": seeded(1), "low": -10.0, "high": 8.0, "draws": 1}
    asking = bits(
        denoise, images[1], decoder=variational.asking_decoder(denoise, -10.0, sigma), **ask
    )
    x_0 = data.to_model(images[1])
    z = noised(x_0, torch.full((24,), -10.0), torch.randn(x_0.shape, generator=seeded(2)))
    plain = float(plain_decoder(-10.0)(x_0, z).mean()) / (784 * math.log(2))
    assert asking["decoder"] < plain - 0.2
    assert asking["bpd"] < 3.5 and asking["prior"] < 0.001


def test_the_integral_is_one_of_gamma_whatever_the_schedule():
    """A learned schedule draws other noise levels and divides by how often: the same mean."""
    V, low, high = 0.5, -8.0, 6.0
    torch.manual_seed(0)
    gamma = Monotone(low, high).double()
    t = spread(100_000, seeded(2)).requires_grad_()
    drawn = gamma(t)
    (slope,) = torch.autograd.grad(drawn.sum(), t)
    drawn = drawn.detach()
    x_0 = V**0.5 * torch.randn(100_000, 1, generator=seeded(3), dtype=torch.float64)
    z = noised(x_0, drawn, torch.randn(x_0.shape, generator=seeded(4), dtype=torch.float64))
    nats = slope * diffusion_nats(x_0, gaussian_estimate(V)(z, drawn), drawn)
    exact = 0.5 * (math.log1p(V * math.exp(-low)) - math.log1p(V * math.exp(-high)))
    assert_close(float(nats.mean()), exact, rtol=0, atol=5 * float(nats.std()) / 100_000**0.5)
