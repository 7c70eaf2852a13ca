"""Exact likelihood by the walk without noise: Gaussians and mixtures, and the trace by signs."""

import itertools
import math

import pytest
import torch
from torch.testing import assert_close

from tutorial_lib import gaussian, toys
from tutorial_lib.beyond import exact
from tutorial_lib.beyond.exact import exact_trace, hutchinson, middle_nats, signs
from tutorial_lib.beyond.variational import signal_and_noise

LOW, HIGH = -8.0, 12.0


def log_density(denoise, z, *, trace=exact_trace, **ends):
    return exact.log_density(denoise, z, trace=trace, **ends)


def of_gaussian(mean, V):
    """The best estimate for data N(mean, V), coordinate by coordinate."""

    def denoise(z, gamma):
        a, b = signal_and_noise(gamma, like=z)
        return mean + a * V / (a**2 * V + b**2) * (z - a * mean)

    return denoise


def of_mixture(mixture):
    def denoise(z, gamma):
        return mixture.x_0_hat(z, float((-gamma[0]).sigmoid()))

    return denoise


@pytest.fixture
def mixture():
    means = torch.tensor([[-0.6, 0.2], [0.7, -0.3], [0.1, 0.9]], dtype=torch.float64)
    return toys.Mixture(torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), means, 0.02)


@pytest.mark.equation("SDE")
def test_of_a_gaussian_the_density_is_known(generator):
    mean = torch.tensor([0.3, -0.2, 0.8], dtype=torch.float64)
    V = torch.tensor([0.1, 1.0, 3.0], dtype=torch.float64)
    a, b = signal_and_noise(torch.tensor([LOW]), like=V)
    noise = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    z = a * mean + (a**2 * V + b**2).sqrt() * noise
    expected = gaussian.log_density(z, a * mean, a**2 * V + b**2).sum(1)
    errors = []
    for steps in (50, 100, 200):
        found = log_density(of_gaussian(mean, V), z, low=LOW, high=HIGH, steps=steps)
        errors.append(float((found - expected).abs().max()))
    assert errors[2] < 0.06 and 2.5 < errors[1] / errors[2] < 5  # of second order


def test_the_noise_that_dequantises_costs_what_its_density_says(generator):
    """Of points of N(0, V) the mean is that of log q(z | x_0) less log p(z), both Gaussian."""
    V, ends = torch.tensor([0.1, 1.0, 3.0], dtype=torch.float64), {"low": LOW, "high": HIGH}
    x_0 = V.sqrt() * torch.randn(20_000, 3, generator=generator, dtype=torch.float64)
    found, z = middle_nats(of_gaussian(0.0, V), x_0, steps=200, generator=generator, **ends)
    a, b = signal_and_noise(torch.tensor([LOW]), like=V)
    expected = 0.5 * ((a**2 * V + b**2) / b**2).log().sum()
    error = float(found.std()) / 20_000**0.5
    assert found.shape == (20_000,) and abs(float(found.mean() - expected)) < 0.06 + 4 * error
    assert_close((z - a * x_0).std(0), b.expand(3), rtol=0.03, atol=0)


@pytest.mark.equation("SDE")
def test_of_a_mixture_the_density_is_known(mixture, generator):
    x_0 = mixture.sample(40, generator)
    a, b = signal_and_noise(torch.tensor([LOW]), like=x_0)
    z = a * x_0 + b * torch.randn(x_0.shape, generator=generator, dtype=torch.float64)
    noisy = toys.Mixture(mixture.weights, float(a) * mixture.means, float(a**2 * 0.02 + b**2))
    found = log_density(of_mixture(mixture), z, low=LOW, high=HIGH, steps=300)
    assert_close(found, noisy.log_density(z), rtol=0, atol=0.04)


def test_the_trace_against_the_jacobian(generator):
    W = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    y = torch.randn(3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    output = (y @ W).tanh()
    expected = torch.stack(
        [torch.autograd.functional.jacobian(lambda one: (one @ W).tanh(), row).trace() for row in y]
    )
    assert_close(exact_trace(output, y), expected)


@pytest.mark.equation("Hutchinson")
def test_the_mean_over_all_signs_is_the_trace(generator):
    W = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    y = torch.randn(3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    found = []
    for one in itertools.product((-1.0, 1.0), repeat=4):
        probe = torch.tensor(one, dtype=torch.float64).expand(3, 4)
        found.append(hutchinson(probe)((y @ W).tanh(), y))
    assert_close(torch.stack(found).mean(0), exact_trace((y @ W).tanh(), y))


@pytest.mark.equation("Hutchinson")
def test_the_estimate_agrees_with_the_exact_trace_within_its_error(mixture, generator):
    z = mixture.sample(1, generator).expand(2000, 2)
    probe = signs(z, generator)
    assert set(probe.unique().tolist()) == {-1.0, 1.0} and probe.dtype == z.dtype
    run = {"low": LOW, "high": HIGH, "steps": 100}
    exact = float(log_density(of_mixture(mixture), z[:1], **run))
    found = log_density(of_mixture(mixture), z, trace=hutchinson(probe), **run)
    error = float(found.std()) / math.sqrt(len(found))
    assert 0 < error < 0.2
    assert_close(float(found.mean()), exact, rtol=0, atol=5 * error + 1e-9)


def test_images_and_precision(generator):
    z = torch.randn(2, 1, 3, 3, generator=generator)
    found = log_density(of_gaussian(0.0, 0.5), z, low=LOW, high=HIGH, steps=60)
    assert found.shape == (2,) and found.dtype == torch.float32 and not found.requires_grad
    probed = log_density(
        of_gaussian(0.0, 0.5),
        z,
        low=LOW,
        high=HIGH,
        steps=60,
        trace=hutchinson(signs(z, generator)),
    )
    assert_close(found, probed, rtol=1e-4, atol=1e-3)  # of a diagonal map signs tell all
