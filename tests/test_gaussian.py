"""Gaussians in closed form against torch.distributions and sums over grids."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import distributions
from torch.testing import assert_close

from tutorial_lib import gaussian

means = st.floats(-3, 3)
variances = st.floats(0.01, 10)
GRID = torch.linspace(-30, 30, 60_001, dtype=torch.float64)
STEP = float(GRID[1] - GRID[0])


def double(*numbers: float) -> tuple[torch.Tensor, ...]:
    return tuple(torch.tensor(number, dtype=torch.float64) for number in numbers)


def density(mean: float, variance: float) -> torch.Tensor:
    return distributions.Normal(*double(mean, math.sqrt(variance))).log_prob(GRID).exp()


@given(means, means, variances)
def test_log_density(x, mean, variance):
    x, mean, variance = double(x, mean, variance)
    expected = distributions.Normal(mean, variance.sqrt()).log_prob(x)
    assert_close(gaussian.log_density(x, mean, variance), expected)


@given(variances)
def test_entropy(variance):
    (variance,) = double(variance)
    assert_close(gaussian.entropy(variance), distributions.Normal(0.0, variance.sqrt()).entropy())


def test_entropy_of_the_standard_normal():
    assert_close(float(gaussian.entropy(torch.tensor(1.0))), 1.419, rtol=0, atol=5e-4)
    assert_close(float(gaussian.entropy(torch.tensor(4.0))), 2.112, rtol=0, atol=5e-4)


@given(means, variances, means, variances)
def test_divergence(mean_q, variance_q, mean_p, variance_p):
    q, vq, p, vp = double(mean_q, variance_q, mean_p, variance_p)
    law_q, law_p = distributions.Normal(q, vq.sqrt()), distributions.Normal(p, vp.sqrt())
    expected = distributions.kl_divergence(law_q, law_p)
    assert_close(gaussian.kl(q, vq, p, vp), expected, rtol=1e-6, atol=1e-9)
    assert float(gaussian.kl(q, vq, q, vq)) == 0


@pytest.mark.parametrize(
    ("q", "p"), [((0.0, 1.0), (1.0, 2.0)), ((-1.0, 0.3), (0.5, 1.0)), ((2.0, 4.0), (2.0, 1.5))]
)
def test_divergence_as_a_sum_over_a_grid(q, p):
    laws = (distributions.Normal(*double(m, math.sqrt(v))) for m, v in (q, p))
    log_q, log_p = (law.log_prob(GRID) for law in laws)
    expected = (log_q.exp() * (log_q - log_p)).sum() * STEP
    assert_close(gaussian.kl(*double(*q), *double(*p)), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.equation("7")
@given(means, variances, means, variances)
def test_product_is_bayes_rule_on_a_grid(mean_a, variance_a, mean_b, variance_b):
    log_a = distributions.Normal(mean_a, variance_a**0.5).log_prob(GRID)
    log_b = distributions.Normal(mean_b, variance_b**0.5).log_prob(GRID)
    weight = log_a + log_b
    weight = (weight - weight.max()).exp()
    weight = weight / weight.sum()
    expected_mean = (weight * GRID).sum()
    expected_variance = (weight * (GRID - expected_mean) ** 2).sum()
    mean, variance = gaussian.product(*double(mean_a, variance_a, mean_b, variance_b))
    assert_close(mean, expected_mean, rtol=1e-6, atol=1e-6)
    assert_close(variance, expected_variance, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("mean", "variance"), [(0.0, 1.0), (2.0, 0.1), (-1.0, 4.0)])
def test_grid_density(mean, variance):
    got = gaussian.grid_density(GRID, mean, variance)
    assert got.shape == GRID.shape
    assert_close(float(got.sum() * STEP), 1.0)
    assert_close(got, density(mean, variance), rtol=1e-6, atol=1e-12)


def test_grid_density_sums_to_one_on_a_coarse_grid_too():
    grid = torch.linspace(-1, 1, 5, dtype=torch.float64)
    assert_close(float(gaussian.grid_density(grid, 0.3, 0.04).sum() * 0.5), 1.0)


@pytest.mark.equation("2")
def test_adding_noise_is_a_convolution_of_densities():
    """sqrt(1 - beta) x + sqrt(beta) eps: the scaled density of x convolved with the noise's."""
    grid = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    step, beta = float(grid[1] - grid[0]), 0.3
    scaled = gaussian.grid_density(grid, math.sqrt(1 - beta) * 1.5, (1 - beta) * 0.5)
    noise = gaussian.grid_density(grid, 0.0, beta)
    filters = noise.flip(0)[None, None]
    summed = torch.nn.functional.conv1d(scaled[None, None], filters, padding=2000)[0, 0] * step
    expected = gaussian.grid_density(grid, math.sqrt(1 - beta) * 1.5, (1 - beta) * 0.5 + beta)
    assert_close(summed, expected, rtol=0, atol=1e-9)


def test_means_and_variances_broadcast():
    x, mean, variance = torch.zeros(2, 3), torch.zeros(3), torch.ones(2, 1)
    assert gaussian.log_density(x, mean, variance).shape == (2, 3)
    assert gaussian.kl(x, variance, mean, torch.ones(())).shape == (2, 3)
    assert gaussian.log_density(x.double(), 0.0, 1.0).dtype == torch.float64


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan])
def test_variances_must_be_positive(bad):
    one, wrong = torch.tensor(1.0), torch.tensor(bad)
    calls = [
        lambda: gaussian.log_density(one, 0.0, bad),
        lambda: gaussian.entropy(wrong),
        lambda: gaussian.kl(one, wrong, one, one),
        lambda: gaussian.kl(one, one, one, wrong),
        lambda: gaussian.product(one, wrong, one, one),
        lambda: gaussian.product(one, one, one, wrong),
        lambda: gaussian.grid_density(GRID, 0.0, bad),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="a variance must be positive"):
            call()
