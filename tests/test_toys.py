"""Toy data, against quadrature, torch.distributions and simulation."""

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
from torch.testing import assert_close

from tutorial_lib import gaussian, toys

TWO = toys.Mixture(torch.tensor([0.3, 0.7]).double(), torch.tensor([[-1.0], [1.0]]).double(), 0.09)
FLAT = toys.Mixture(
    torch.tensor([0.2, 0.3, 0.5]).double(),
    torch.tensor([[0.0, 1.0], [2.0, -1.0], [-1.0, 0.5]]).double(),
    0.25,
)


@pytest.mark.parametrize("mixture", [TWO, FLAT])
def test_density_against_torch(mixture):
    components = Independent(Normal(mixture.means, mixture.variance**0.5), 1)
    reference = MixtureSameFamily(Categorical(mixture.weights), components)
    shape, generator = (50, mixture.means.shape[1]), torch.Generator().manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64, generator=generator)
    assert_close(mixture.log_density(x), reference.log_prob(x))


def test_samples_have_the_moments_of_the_mixture():
    x = FLAT.sample(40_000, torch.Generator().manual_seed(0))
    mean = FLAT.weights @ FLAT.means
    apart = FLAT.means - mean
    cov = apart.T @ torch.diag(FLAT.weights) @ apart + 0.25 * torch.eye(2).double()
    assert_close(x.mean(0), mean, rtol=0, atol=4 * float(cov.diag().max() / 40_000) ** 0.5)
    assert_close(x.T.cov(), cov, rtol=0, atol=0.05)


@pytest.mark.parametrize("alpha_bar", [0.999, 0.5, 0.01])
def test_the_perfect_network_is_bayes_on_a_grid(alpha_bar):
    grid = torch.linspace(-4, 4, 8001, dtype=torch.float64)
    prior = TWO.log_density(grid[:, None]).exp()
    noised = Normal(math.sqrt(alpha_bar) * grid, math.sqrt(1 - alpha_bar))
    for x_t in (-1.5, 0.1, 0.9):
        likelihood = noised.log_prob(torch.tensor(x_t)).exp()
        expected = (grid * prior * likelihood).sum() / (prior * likelihood).sum()
        got = TWO.x_0_hat(torch.tensor([[x_t]]).double(), alpha_bar)[0, 0]
        assert_close(got, expected, rtol=1e-6, atol=1e-8)


def test_the_perfect_network_in_the_plane_beats_every_other_guess():
    """E[x_0 | x_t] minimises the squared error: by simulation, it beats its own neighbours."""
    generator = torch.Generator().manual_seed(1)
    x_0 = FLAT.sample(50_000, generator)
    eps = torch.randn(x_0.shape, generator=generator, dtype=x_0.dtype)
    x_t = math.sqrt(0.6) * x_0 + math.sqrt(0.4) * eps
    guess = FLAT.x_0_hat(x_t, 0.6)
    error = (guess - x_0).square().mean()
    for other in (1.02 * guess, guess + 0.03, guess + 0.02 * x_t):
        assert error < (other - x_0).square().mean()
    product = ((guess - x_0) * x_t).mean()
    assert_close(product, torch.tensor(0.0).double(), rtol=0, atol=0.02)  # orthogonality


@pytest.mark.parametrize("shape", toys.SHAPES)
def test_shapes_have_about_unit_variance_and_repeat(shape):
    draw = toys.SHAPES[shape]
    points = draw(20_000, torch.Generator().manual_seed(0))
    assert points.shape == (20_000, 2)
    assert torch.equal(points[:5], draw(20_000, torch.Generator().manual_seed(0))[:5])
    assert float(points.mean(0).abs().max()) < 0.3
    assert 0.7 < float(points.var(0).mean()) < 1.3


def test_rings_moons_and_squares_are_what_they_are_called():
    generator = torch.Generator().manual_seed(0)
    radius = toys.two_rings(1000, generator).norm(dim=1)
    assert float(torch.minimum((radius - 0.8).abs(), (radius - 1.8).abs()).max()) < 1e-5
    assert 400 < int((radius > 1).sum()) < 600
    squares = ((toys.checkerboard(1000, generator) / 0.85 + 2).floor()).long()
    assert bool((squares.sum(dim=1) % 2 == 0).all())
    assert len(squares.unique(dim=0)) == 8
    moons = toys.two_moons(1000, generator) / 1.4
    upper = (moons - torch.tensor([-0.5, -0.25])).norm(dim=1)
    lower = (moons - torch.tensor([0.5, 0.25])).norm(dim=1)
    assert float(torch.minimum((upper - 1).abs(), (lower - 1).abs()).max()) < 1e-5


def test_swiss_roll_is_a_spiral_of_unit_size():
    points = toys.swiss_roll(2000, torch.Generator().manual_seed(0))
    radius, angle = points.norm(dim=1), torch.atan2(points[:, 1], points[:, 0])
    turns = (radius * 7.2 - angle) / (2 * math.pi)  # r = angle: a whole number of turns
    assert_close(turns, turns.round(), rtol=0, atol=1e-3)
    assert 0.7 < float(points.var(0).mean()) < 1.3


@pytest.mark.parametrize(
    ("std", "beta", "nats"),
    [
        (0.1, 0.5, 1.33),
        (0.1, 0.1, 0.0364),
        (0.1, 0.02, 8.9e-8),
        (0.3, 0.5, 0.399),  # as notebook 02 prints them
        (0.3, 0.1, 0.0253),
        (0.3, 0.02, 4.25e-4),
    ],
)
def test_a_small_step_back_is_nearly_gaussian(std, beta, nats):
    """The mean KL of the step back from the Gaussian of its own mean and variance, for bumps at -1
    and 1.
    """
    narrow = toys.Mixture(torch.tensor([0.5, 0.5]).double(), TWO.means, std**2)
    line = torch.linspace(-3, 3, 6001, dtype=torch.float64)
    x_1 = torch.linspace(-3, 3, 601, dtype=torch.float64)[:, None]
    log_step = gaussian.log_density(x_1, (1 - beta) ** 0.5 * line, beta)  # (601, 6001)
    log_joint = narrow.log_density(line[:, None]) + log_step
    density = log_joint.exp().sum(1) / 1000
    posterior = log_joint.softmax(1) * 1000
    mean = (posterior * line).sum(1, keepdim=True) / 1000
    variance = (posterior * (line - mean) ** 2).sum(1, keepdim=True) / 1000
    best = gaussian.log_density(line, mean, variance)
    kl = (torch.special.xlogy(posterior, posterior) - posterior * best).sum(1) / 1000
    assert_close(float((kl * density).sum() / 100), nats, rtol=0.01, atol=0)
