"""The score in closed form, by automatic differentiation, and through three losses on a line."""

import pytest
import torch
from conftest import best
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from tutorial_lib.beyond import score
from tutorial_lib.diffusion import eps_from, q_sample
from tutorial_lib.schedule import cosine, linear
from tutorial_lib.toys import Mixture

DOUBLE = torch.float64


def a_mixture(D: int = 2) -> Mixture:
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=DOUBLE)
    means = torch.tensor([[-1.0, 0.2, 0.4], [0.8, 1.0, -0.3], [0.5, -1.2, 0.1]], dtype=DOUBLE)
    return Mixture(weights, means[:, :D], 0.09)


def slope(log_density, x):
    """The gradient of a function of points (N, D) -> (N,), by automatic differentiation."""
    x = x.clone().requires_grad_()
    return torch.autograd.grad(log_density(x).sum(), x)[0]


def points(generator, count=200, D=2):
    return 1.5 * torch.randn(count, D, generator=generator, dtype=DOUBLE)


@pytest.mark.parametrize("D", [1, 2, 3])
def test_score_of_a_mixture_is_the_slope_of_its_log_density(generator, D):
    mixture, x = a_mixture(D), points(generator, D=D)
    assert_close(mixture.score(x), slope(mixture.log_density, x))


def test_a_blurred_mixture_is_what_noise_makes_of_it(generator):
    """Moments of 200,000 noised points; and the identity of Tweedie, by way of x_0_hat."""
    mixture, sigma = a_mixture(), 0.7
    x = mixture.sample(200_000, generator)
    x = x + sigma * torch.randn(x.shape, generator=generator, dtype=DOUBLE)
    blurred = mixture.blurred(sigma)
    mean = blurred.weights @ blurred.means
    apart = blurred.means - mean
    cov = apart.T @ (blurred.weights[:, None] * apart) + blurred.variance * torch.eye(2)
    assert_close(x.mean(0), mean, rtol=0, atol=0.01)  # six standard errors
    assert_close(x.T.cov(), cov, rtol=0, atol=0.02)
    alpha_bar = 1 / (1 + sigma**2)
    by_x_0 = (mixture.x_0_hat(alpha_bar**0.5 * x[:99], alpha_bar) - x[:99]) / sigma**2
    assert_close(blurred.score(x[:99]), by_x_0)


@pytest.mark.equation("Vincent")
@pytest.mark.parametrize("schedule", [linear(1000), cosine(1000)], ids=["linear", "cosine"])
@pytest.mark.parametrize("t", [1, 37, 400, 990])
def test_score_of_the_noised_density_from_the_estimate_and_back(generator, schedule, t):
    mixture, alpha_bar = a_mixture(), float(schedule.alpha_bar[t])
    noised = Mixture(
        mixture.weights, alpha_bar**0.5 * mixture.means, alpha_bar * 0.09 + 1 - alpha_bar
    )
    x_t, steps = points(generator), torch.full((200,), t)
    x_0_hat = mixture.x_0_hat(x_t, alpha_bar)
    found = score.score_from(schedule, x_0_hat, x_t, steps)
    tolerance = {"rtol": 1e-6, "atol": 1e-8}
    assert_close(found, slope(noised.log_density, x_t), **tolerance)
    eps_hat = eps_from(schedule, "x_0", x_0_hat, x_t, steps)
    assert_close(found, -eps_hat / (1 - alpha_bar) ** 0.5, **tolerance)
    back = score.x_0_from_score(schedule, found, x_t, steps)
    assert_close(back, x_0_hat, rtol=1e-5, atol=1e-6)


def test_score_of_a_gaussian_through_the_perfect_network(generator):
    schedule, t = linear(1000), torch.tensor([3, 250, 800])
    x_0, eps = torch.randn(2, 3, 1, 4, 4, generator=generator, dtype=DOUBLE)
    x_t = q_sample(schedule, x_0, t, eps)
    x_0_hat = best(schedule, "x_0", mean=0.2, std=0.5)(x_t, t)
    ab = schedule.alpha_bar[t].view(-1, 1, 1, 1)
    exact = -(x_t - 0.2 * ab.sqrt()) / (0.25 * ab + 1 - ab)
    assert_close(score.score_from(schedule, x_0_hat, x_t, t), exact)


# --- losses: on a line, means are sums over a fine grid


GRID = torch.linspace(-8, 8, 4001, dtype=DOUBLE)[:, None]  # (G, 1)


def mean(values, mixture):
    """The expectation over the mixture of values on the grid, (G,)."""
    weight = mixture.log_density(GRID).softmax(0)
    return float((weight * values).sum().detach())


def bent(k, c):
    """A model of a score that is certainly not the right one."""
    return lambda x, *_: k * torch.tanh(x - c) - 0.3 * x


PARAMETERS = st.tuples(st.floats(-2, 2), st.floats(-1, 1))


@pytest.mark.equation("Hyvarinen")
@given(PARAMETERS, PARAMETERS)
def test_explicit_and_implicit_loss_differ_by_a_constant(one, other):
    mixture = a_mixture(1)
    true = mixture.score(GRID)
    gaps = []
    for parameters in (one, other):
        model = bent(*parameters)
        explicit = mean(score.explicit_loss(model, GRID, true), mixture)
        gaps.append(explicit - mean(score.implicit_loss(model, GRID), mixture))
    constant = mean(true.square().sum(1) / 2, mixture)
    assert_close(gaps, [constant, constant], rtol=1e-5, atol=1e-6)


@pytest.mark.equation("NCSN 5")
@given(PARAMETERS, PARAMETERS)
def test_denoising_and_explicit_loss_of_the_blurred_data_differ_by_a_constant(one, other):
    """The mean over noise by a rule of Gauss and Hermite; over the data, on the grid."""
    mixture, sigma = a_mixture(1), 0.6
    blurred = mixture.blurred(sigma)
    nodes, weights = torch.from_numpy(HERMITE[0]), torch.from_numpy(HERMITE[1])
    gaps = []
    for parameters in (one, other):
        model = bent(*parameters)
        explicit = mean(score.explicit_loss(model, GRID, blurred.score(GRID)), blurred)
        level = torch.full((len(GRID),), sigma, dtype=DOUBLE)
        each = [
            score.denoising_loss(model, GRID, level, torch.full_like(GRID, float(node)))
            for node in nodes
        ]
        denoising = sum(w * mean(loss, mixture) for w, loss in zip(weights, each, strict=True))
        gaps.append(float(denoising) - sigma**2 * explicit)
    assert abs(gaps[0] - gaps[1]) < 1e-4


def _hermite():
    import numpy as np

    nodes, weights = np.polynomial.hermite_e.hermegauss(24)
    return nodes, weights / weights.sum()


HERMITE = _hermite()


@pytest.mark.equation("Sliced")
def test_sliced_loss_is_right_on_average(generator):
    """Over 4,000 directions, within five standard errors of the exact trace."""
    matrix = torch.tensor([[1.0, 2.0, 0.5], [-0.3, 0.4, 0.1], [0.2, 0.0, -0.7]], dtype=DOUBLE)

    def model(x):
        return torch.tanh(x @ matrix)

    x = points(generator, 5, 3)
    exact = score.implicit_loss(model, x)
    many = x.repeat(4000, 1)
    v = torch.randn(many.shape, generator=generator, dtype=DOUBLE)
    sliced = score.sliced_loss(model, many, v).view(4000, 5)
    error = sliced.std(0) / 4000**0.5
    assert bool(((sliced.mean(0) - exact).abs() < 5 * error).all())
    by_hand = torch.stack([torch.autograd.functional.jacobian(model, one) for one in x])
    trace = by_hand.diagonal(dim1=1, dim2=2).sum(1)
    assert_close(exact, trace + model(x).square().sum(1) / 2)


@pytest.mark.parametrize("name", ["explicit", "implicit", "sliced", "denoising"])
def test_each_loss_learns_the_score_of_a_gaussian(generator, name):
    """A line s(x) = -k (x - m) is fitted to 20,000 points of N(0.7, 0.5^2): k = 1 / variance."""
    x = 0.7 + 0.5 * torch.randn(20_000, 1, generator=generator, dtype=DOUBLE)
    eps, sigma = torch.randn(2, 20_000, 1, generator=generator, dtype=DOUBLE)
    sigma = torch.full((len(x),), 0.3, dtype=DOUBLE)
    k, m = (torch.tensor(value, dtype=DOUBLE, requires_grad=True) for value in (1.0, 0.0))

    def model(x, *_):
        return -k * (x - m)

    losses = {
        "explicit": lambda: score.explicit_loss(model, x, -(x - 0.7) / 0.25),
        "implicit": lambda: score.implicit_loss(model, x),
        "sliced": lambda: score.sliced_loss(model, x, eps),
        "denoising": lambda: score.denoising_loss(model, x, sigma, eps),
    }
    optimiser = torch.optim.LBFGS([k, m], max_iter=50)

    def closure():
        optimiser.zero_grad()
        loss = losses[name]().mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    variance = 0.25 + (0.09 if name == "denoising" else 0)
    assert abs(k.item() * variance - 1) < 0.06
    assert abs(m.item() - 0.7) < 0.03


@pytest.mark.equation("NCSN 6")
def test_items_of_any_shape_have_a_loss_each(generator):
    x_0, eps = torch.randn(2, 3, 1, 4, 4, generator=generator, dtype=DOUBLE)
    sigma = torch.tensor([0.1, 1.0, 10.0], dtype=DOUBLE)

    def network(x, level):
        return x / level.view(-1, 1, 1, 1)

    naive = [
        float((s * ((x + s * e) / s + e / s)).square().sum() / 2)
        for x, s, e in zip(x_0, sigma, eps, strict=True)
    ]
    assert_close(score.denoising_loss(network, x_0, sigma, eps).tolist(), naive)
    assert score.sliced_loss(lambda x: x.sin(), x_0, eps).shape == (3,)
