"""The forward process, its posterior, conversions and the bound against other calculations."""

import math

import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st
from numpy.polynomial.hermite_e import hermegauss
from torch import distributions
from torch.nn import functional as F
from torch.testing import assert_close

from tutorial_lib import diffusion, gaussian
from tutorial_lib.diffusion import (
    eps_from,
    mu_from_eps,
    q_posterior,
    q_sample,
    q_step,
    q_walk,
    target_from,
    x_0_from,
)
from tutorial_lib.schedule import VARIANCES, cosine, from_betas, linear, quadratic, same_t

PIXELS = torch.arange(256, dtype=torch.float64) / 127.5 - 1


def case(generator, T=100, batch=6, shape=(1, 4, 4), dtype=torch.float64):
    """Data, noise and steps, the first and the last step among them."""
    x_0 = torch.rand(batch, *shape, generator=generator, dtype=dtype) * 2 - 1
    eps = torch.randn(x_0.shape, generator=generator, dtype=dtype)
    t = torch.randint(1, T + 1, (batch,), generator=generator)
    t[0], t[1] = 1, T
    return x_0, eps, t


@pytest.mark.equation("2")
def test_one_step_scales_and_adds_noise(schedule, generator):
    x, eps, t = case(generator)
    expected = [
        math.sqrt(1 - schedule.beta[k]) * a + math.sqrt(schedule.beta[k]) * b
        for a, b, k in zip(x, eps, t, strict=True)
    ]
    assert_close(q_step(schedule, x, t, eps), torch.stack(expected))


@pytest.mark.equation("4")
def test_jump_is_a_weighted_sum_of_data_and_noise(schedule, generator):
    x_0, eps, t = case(generator)
    expected = []
    for x, e, k in zip(x_0, eps, t.tolist(), strict=True):
        alpha_bar = math.prod(1 - float(schedule.beta[s]) for s in range(1, k + 1))
        expected.append(math.sqrt(alpha_bar) * x + math.sqrt(1 - alpha_bar) * e)
    assert_close(q_sample(schedule, x_0, t, eps), torch.stack(expected))


@pytest.mark.equation("2")
@pytest.mark.equation("4")
@given(st.lists(st.floats(1e-4, 0.9), min_size=1, max_size=30))
@pytest.mark.filterwarnings("ignore:alpha_bar_T")
def test_walking_and_jumping_have_the_same_mean_and_variance(betas):
    """The walk's exact distribution, step after step, from the kernel that `q_step` applies."""
    schedule = from_betas(betas)
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    mean, variance = one, zero
    for t in range(1, schedule.T + 1):
        scale = q_step(schedule, one, same_t(t), zero)
        spread = q_step(schedule, zero, same_t(t), one)
        mean, variance = scale * mean, scale**2 * variance + spread**2
        assert_close(mean, q_sample(schedule, one, same_t(t), zero))
        assert_close(variance, q_sample(schedule, zero, same_t(t), one) ** 2)


@pytest.mark.equation("4")
def test_walking_ends_where_jumping_does(generator):
    schedule = from_betas([0.1, 0.3, 0.5, 0.4, 0.9999])
    n = 100_000
    x_0 = torch.full((n, 1), 0.7)
    for t, x in enumerate(q_walk(schedule, x_0, generator=generator), 1):
        variance = 1 - float(schedule.alpha_bar[t])
        mean = math.sqrt(float(schedule.alpha_bar[t])) * 0.7
        assert_close(float(x.mean()), mean, rtol=0, atol=4 * math.sqrt(variance / n))
        assert_close(float(x.var()), variance, rtol=4 * math.sqrt(2 / n), atol=0)
    assert t == schedule.T


def test_walk_depends_on_its_generator_alone(schedule):
    def walk(seed):
        generator = torch.Generator().manual_seed(seed)
        return torch.stack(list(q_walk(schedule, torch.zeros(2, 3), generator=generator)))

    assert torch.equal(walk(1), walk(1))
    assert not torch.equal(walk(1), walk(2))


@pytest.mark.equation("6")
@pytest.mark.equation("7")
def test_posterior_is_the_product_of_two_gaussians(schedule, generator):
    """Seen from x_{t-1}: q(x_t | x_{t-1}) is one around x_t / sqrt(alpha_t), q(x_{t-1} | x_0)
    another.
    """
    x_0, eps, t = case(generator)
    t = t.clamp(min=2)
    x_t = q_sample(schedule, x_0, t, eps)
    mean, variance = q_posterior(schedule, x_0, x_t, t)
    alpha, beta = (table[t].view(-1, 1, 1, 1) for table in (schedule.alpha, schedule.beta))
    before = schedule.alpha_bar[t - 1].view(-1, 1, 1, 1)
    expected = gaussian.product(x_t / alpha.sqrt(), beta / alpha, before.sqrt() * x_0, 1 - before)
    assert_close(mean, expected[0])
    assert_close(variance, expected[1])


@pytest.mark.equation("6")
@pytest.mark.equation("7")
@pytest.mark.parametrize("t", [2, 5, 50, 100])
def test_posterior_by_bayes_rule_on_a_grid(schedule, t):
    x_0, x_t = torch.tensor([0.4], dtype=torch.float64), torch.tensor([-0.3], dtype=torch.float64)
    grid = torch.linspace(-9, 9, 400_001, dtype=torch.float64)
    ab, beta = schedule.alpha_bar[t - 1], schedule.beta[t]
    prior = (-((grid - ab.sqrt() * x_0) ** 2) / (2 * (1 - ab))).exp()
    likelihood = (-((x_t - (1 - beta).sqrt() * grid) ** 2) / (2 * beta)).exp()
    weight = prior * likelihood / (prior * likelihood).sum()
    expected_mean = (weight * grid).sum()
    mean, variance = q_posterior(schedule, x_0, x_t, same_t(t))
    assert_close(mean[0], expected_mean, rtol=1e-6, atol=1e-6)
    assert_close(variance[0], (weight * (grid - expected_mean) ** 2).sum(), rtol=1e-6, atol=1e-9)


@pytest.mark.equation("7")
def test_posterior_at_the_first_step_is_the_data(schedule, generator):
    x_0, eps, _ = case(generator)
    t = same_t(1, len(x_0))
    mean, variance = q_posterior(schedule, x_0, q_sample(schedule, x_0, t, eps), t)
    assert_close(mean, x_0)
    assert_close(variance, torch.zeros_like(variance))


SCHEDULES = {"linear": linear(1000), "cosine": cosine(1000), "short": from_betas([0.3, 0.9999])}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("target", diffusion.TARGETS)
def test_weights_of_every_target_by_its_definition(name, target):
    """For each t in plain numbers: eps and x_0 are themselves, v turns the one into the other by a
    right angle, and mu is the mean of x_{t-1} given x_0 and x_t, which Bayes' rule gives.
    """
    schedule = SCHEDULES[name]
    a, b = diffusion.target_weights(schedule, target)
    assert a.dtype == b.dtype == torch.float64 and a.shape == b.shape == schedule.beta.shape
    bars, beta = schedule.alpha_bar.tolist(), schedule.beta.tolist()
    for t in range(1, schedule.T + 1):
        signal, noise = math.sqrt(bars[t]), math.sqrt(1 - bars[t])
        if target == "mu" and t > 1:  # precisions add up, and means are weighted by them
            of_now, of_start = (1 - beta[t]) / beta[t], 1 / (1 - bars[t - 1])
            of_x_t = of_now / math.sqrt(1 - beta[t]) / (of_now + of_start)
            of_x_0 = of_start * math.sqrt(bars[t - 1]) / (of_now + of_start)
            expected = (of_x_0 + of_x_t * signal, of_x_t * noise)
        else:
            expected = {"eps": (0, 1), "x_0": (1, 0), "v": (-noise, signal), "mu": (1, 0)}[target]
        assert_close((float(a[t]), float(b[t])), tuple(map(float, expected)), rtol=1e-9, atol=1e-12)


def every_step(schedule, generator, dtype=torch.float64):
    """Data and noise for each step of a schedule, both ends among them."""
    x_0, eps, _ = case(generator, batch=schedule.T, shape=(3,), dtype=dtype)
    return x_0, eps, torch.arange(1, schedule.T + 1)


@pytest.mark.equation("15")
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("target", diffusion.TARGETS)
def test_round_trips_between_predictions(name, target, generator):
    """At every step, the first and the last too."""
    schedule = SCHEDULES[name]
    x_0, eps, t = every_step(schedule, generator)
    x_t = q_sample(schedule, x_0, t, eps)
    output = target_from(schedule, target, x_0, eps, t)
    assert_close(x_0_from(schedule, target, output, x_t, t), x_0, rtol=0, atol=1e-7)
    assert_close(eps_from(schedule, target, output, x_t, t), eps, rtol=0, atol=1e-7)


@pytest.mark.parametrize("target", diffusion.TARGETS)
@pytest.mark.parametrize("other", diffusion.TARGETS)
def test_any_output_means_the_same_whatever_the_network_calls_it(target, other, generator):
    """Any pair of estimates that agrees with x_t: from one target into the other, and back."""
    schedule = linear(100, rescaled=True)
    _, output, t = every_step(schedule, generator)
    x_t = torch.randn(output.shape, generator=generator, dtype=output.dtype)
    x_0_hat = x_0_from(schedule, target, output, x_t, t)
    eps_hat = eps_from(schedule, target, output, x_t, t)
    assert_close(q_sample(schedule, x_0_hat, t, eps_hat), x_t, rtol=0, atol=1e-7)
    said = target_from(schedule, other, x_0_hat, eps_hat, t)
    assert_close(x_0_from(schedule, other, said, x_t, t), x_0_hat, rtol=1e-6, atol=1e-7)
    assert_close(eps_from(schedule, other, said, x_t, t), eps_hat, rtol=1e-6, atol=1e-7)


@pytest.mark.equation("Salimans")
@pytest.mark.equation("15")
def test_targets_by_their_definitions(schedule, generator):
    x_0, eps, t = case(generator)
    ab = schedule.alpha_bar[t].view(-1, 1, 1, 1)
    x_t = ab.sqrt() * x_0 + (1 - ab).sqrt() * eps
    assert_close(target_from(schedule, "eps", x_0, eps, t), eps)
    assert_close(target_from(schedule, "x_0", x_0, eps, t), x_0)
    assert_close(target_from(schedule, "v", x_0, eps, t), ab.sqrt() * eps - (1 - ab).sqrt() * x_0)
    assert_close(target_from(schedule, "mu", x_0, eps, t), q_posterior(schedule, x_0, x_t, t)[0])
    assert_close(x_0_from(schedule, "eps", eps, x_t, t), (x_t - (1 - ab).sqrt() * eps) / ab.sqrt())


@pytest.mark.equation("Salimans")
def test_v_is_the_derivative_of_the_rotation_from_data_to_noise(schedule, generator):
    """With alpha_bar = cos(phi)^2, x = cos(phi) x_0 + sin(phi) eps, v = dx / dphi: by autograd."""
    x_0, eps, t = case(generator)
    phi = torch.acos(schedule.alpha_bar[t].sqrt()).view(-1, 1, 1, 1)

    def turned(phi):
        return phi.cos() * x_0 + phi.sin() * eps

    _, v = torch.func.jvp(turned, (phi,), (torch.ones_like(phi),))
    assert_close(target_from(schedule, "v", x_0, eps, t), v)


@pytest.mark.equation("9")
@pytest.mark.equation("10")
def test_posterior_mean_from_the_noise_is_what_bayes_says_of_the_data(schedule, generator):
    """Bayes adds precisions, for the x_0 that x_t was made of; Eq. 9, 10 know x_t and the noise."""
    x_0, eps, t = case(generator)
    t = t.clamp(min=2)
    means, variances = [], []
    for x, e, k in zip(x_0, eps, t.tolist(), strict=True):
        before = math.prod(1 - float(schedule.beta[s]) for s in range(1, k))
        beta = float(schedule.beta[k])
        x_t = math.sqrt(before * (1 - beta)) * x + math.sqrt(1 - before * (1 - beta)) * e
        weighted = math.sqrt(1 - beta) / beta * x_t + math.sqrt(before) / (1 - before) * x
        variances.append(1 / ((1 - beta) / beta + 1 / (1 - before)))
        means.append(variances[-1] * weighted)
    expected = torch.stack(means)
    sigma = torch.tensor(variances, dtype=torch.float64).sqrt().view(-1, 1, 1, 1)
    x_t = q_sample(schedule, x_0, t, eps)
    eq_9, _ = q_posterior(schedule, x_0_from(schedule, "eps", eps, x_t, t), x_t, t)
    eq_10 = mu_from_eps(schedule, eps, x_t, t)
    assert_close(eq_9, expected)
    assert_close(eq_10, expected)
    mu = torch.randn(eps.shape, generator=generator, dtype=eps.dtype)  # of any model
    q, p = distributions.Normal(expected, sigma), distributions.Normal(mu, sigma)
    divergence = distributions.kl_divergence(q, p)
    assert_close((eq_10 - mu).square() / (2 * sigma**2), divergence)


@pytest.mark.equation("11")
def test_mean_by_eps_is_the_mean_by_x_0(schedule, generator):
    _, eps, t = case(generator)
    x_t = torch.randn(eps.shape, generator=generator, dtype=eps.dtype)
    by_x_0, _ = q_posterior(schedule, x_0_from(schedule, "eps", eps, x_t, t), x_t, t)
    assert_close(mu_from_eps(schedule, eps, x_t, t), by_x_0, rtol=0, atol=1e-6)


def test_pure_noise_at_the_end(generator):
    """A schedule with beta_T = 1: eps says nothing of the data there; v, x_0 and mu do."""
    schedule = from_betas([0.2, 0.5, 1.0])
    x_0, eps, _ = case(generator)
    t = same_t(3, len(x_0))
    x_t = q_sample(schedule, x_0, t, eps)
    assert_close(x_t, eps)
    for target in diffusion.TARGETS:
        output = target_from(schedule, target, x_0, eps, t)
        assert_close(eps_from(schedule, target, output, x_t, t), eps)
        if target == "eps":
            with pytest.raises(ValueError, match="predict v or x_0"):
                x_0_from(schedule, target, output, x_t, t)
        else:
            assert_close(x_0_from(schedule, target, output, x_t, t), x_0)


def test_one_image_of_pure_noise_in_a_batch_is_enough_to_refuse(generator):
    """And the other steps of that schedule are as good as any."""
    schedule = from_betas([0.2, 0.5, 1.0])
    x_0, eps, _ = case(generator, batch=2)
    for steps in ([1, 2], [2, 3]):
        t = torch.tensor(steps)
        x_t = q_sample(schedule, x_0, t, eps)
        if 3 in steps:
            with pytest.raises(ValueError, match="alpha_bar is 0 at this step"):
                x_0_from(schedule, "eps", eps, x_t, t)
        else:
            assert_close(x_0_from(schedule, "eps", eps, x_t, t), x_0)


@pytest.mark.equation("14")
def test_losses_by_their_definitions(generator):
    a, b = torch.randn(2, 5, 3, 4, 4, generator=generator, dtype=torch.float64) * 2
    d = (a - b).abs()
    expected = {"l2": d**2, "l1": d, "huber": torch.where(d < 1, d**2 / 2, d - 0.5)}
    assert expected.keys() == set(diffusion.LOSSES)
    for kind, values in expected.items():
        assert_close(diffusion.regression_loss(a, b, kind), torch.stack([v.mean() for v in values]))


def test_loss_of_one_image_ignores_the_others(generator):
    a, b = torch.randn(2, 4, 1, 3, 3, generator=generator)
    for kind in diffusion.LOSSES:
        apart = [diffusion.regression_loss(a[i : i + 1], b[i : i + 1], kind) for i in range(4)]
        assert_close(diffusion.regression_loss(a, b, kind), torch.cat(apart))


@pytest.mark.equation("5")
@pytest.mark.parametrize(
    "schedule", [linear(1000), linear(300, rescaled=True), from_betas([0.3, 0.9999])]
)
def test_prior_term_in_closed_form(schedule, generator):
    x_0 = torch.rand(4, 1, 28, 28, generator=generator, dtype=torch.float64) * 2 - 1
    ab = float(schedule.alpha_bar[-1])
    expected = (ab * ((x_0**2).flatten(1).sum(1) - 784) - 784 * math.log1p(-ab)) / 2
    assert_close(diffusion.L_T(schedule, x_0), expected)
    q = distributions.Normal(math.sqrt(ab) * x_0, math.sqrt(1 - ab))
    by_torch = distributions.kl_divergence(q, distributions.Normal(0.0, 1.0)).flatten(1).sum(1)
    assert_close(diffusion.L_T(schedule, x_0), by_torch)


@pytest.mark.filterwarnings("ignore:alpha_bar_T")
@pytest.mark.parametrize(
    ("schedule", "bits"),
    [
        (lambda: linear(200), 56.3781),
        (lambda: linear(300), 19.2004),
        (lambda: quadratic(300), 48.1426),
        (lambda: linear(300, rescaled=True), 0.0132),
        (lambda: linear(1000), 0.0156),
    ],
)
def test_prior_term_of_fashion_mnist(schedule, bits):
    """It needs the mean of the squared norm alone, 534.389 for the 60,000 training images."""
    x_0 = torch.full((1, 1, 28, 28), (534.389 / 784) ** 0.5, dtype=torch.float64)
    assert abs(float(diffusion.L_T(schedule(), x_0)) / math.log(2) - bits) < 1e-4


@pytest.mark.equation("5")
@pytest.mark.equation("8")
@pytest.mark.parametrize("variance", VARIANCES)
def test_step_term_is_a_divergence_of_two_gaussians(schedule, generator, variance):
    x_0, eps, t = case(generator)
    t = t.clamp(min=2)
    x_t = q_sample(schedule, x_0, t, eps)
    x_0_hat = x_0 + 0.1 * torch.randn(x_0.shape, generator=generator)
    q_mean, q_variance = q_posterior(schedule, x_0, x_t, t)
    q = distributions.Normal(q_mean, q_variance.sqrt())
    sigma = schedule.reverse_variance(variance)[t].sqrt().view(-1, 1, 1, 1)
    p = distributions.Normal(q_posterior(schedule, x_0_hat, x_t, t)[0], sigma)
    expected = distributions.kl_divergence(q, p).flatten(1).sum(1)
    assert_close(diffusion.L_t_minus_1(schedule, x_0, x_t, t, x_0_hat, variance=variance), expected)


@pytest.mark.equation("8")
@pytest.mark.equation("10")
@pytest.mark.equation("12")
def test_step_term_is_a_weighted_square_of_means_and_of_noise(schedule, generator):
    x_0, eps, t = case(generator)
    t = t.clamp(min=2)
    x_t = q_sample(schedule, x_0, t, eps)
    eps_hat = eps + 0.1 * torch.randn(eps.shape, generator=generator, dtype=eps.dtype)
    x_0_hat = x_0_from(schedule, "eps", eps_hat, x_t, t)
    got = diffusion.L_t_minus_1(schedule, x_0, x_t, t, x_0_hat, variance="beta_tilde")
    tables = (schedule.beta, schedule.alpha, schedule.alpha_bar, schedule.beta_tilde)
    beta, alpha, ab, sigma2 = (table[t] for table in tables)
    mu_tilde, _ = q_posterior(schedule, x_0, x_t, t)
    apart = mu_tilde - mu_from_eps(schedule, eps_hat, x_t, t)
    assert_close(got, apart.square().flatten(1).sum(1) / (2 * sigma2))
    weight = beta**2 / (2 * sigma2 * alpha * (1 - ab))
    assert_close(got, weight * (eps - eps_hat).square().flatten(1).sum(1), rtol=1e-6, atol=1e-9)


@pytest.mark.equation("8")
def test_step_term_with_the_larger_variance_adds_a_constant(schedule, generator):
    """KL of N(m, s) from N(m, S) does not vanish for a perfect mean: the constant C of Eq. 8."""
    x_0, eps, t = case(generator)
    t = t.clamp(min=2)
    ratio = schedule.beta_tilde[t] / schedule.beta[t]
    x_t = q_sample(schedule, x_0, t, eps)
    got = diffusion.L_t_minus_1(schedule, x_0, x_t, t, x_0, variance="beta")
    assert_close(got, 16 * 0.5 * (ratio - 1 - ratio.log()))


def bound_of_a_pixel(schedule, x_0, guess):
    """L_T + ... + L_1 + L_0 of each x_0, (N,), in nats; averages over q(x_t | x_0) by Gauss-Hermite
    quadrature.
    """
    nodes, weights = (torch.tensor(array) for array in hermegauss(64))
    x_0, eps = x_0.repeat_interleave(64)[:, None], nodes.repeat(len(x_0))[:, None]
    total = diffusion.L_T(schedule, x_0)
    for k in range(1, schedule.T + 1):
        t = same_t(k, len(x_0))
        x_t = q_sample(schedule, x_0, t, eps)
        x_0_hat = guess(x_t, float(schedule.alpha_bar[k]))
        if k == 1:
            total = total + diffusion.L_0(schedule, x_0, x_0_hat)
        else:
            total = total + diffusion.L_t_minus_1(schedule, x_0, x_t, t, x_0_hat)
    return (total.view(-1, 64) * weights).sum(1) / weights.sum()


def nll_of_a_pixel(betas, slope, shift):
    """-log p(x_0) of each of the 256 values under the chain of Eq. 1, whose x_0_hat is
    slope sqrt(alpha_bar) x_t + shift.

    Its steps are linear, so that x_0 (before it is cut into buckets) is Gaussian: mean and variance
    by recursion.
    """
    bars = [math.prod(1 - beta for beta in betas[:k]) for k in range(len(betas) + 1)]
    mean, variance = 0.0, 1.0
    for beta, now, before in reversed(list(zip(betas, bars[1:], bars, strict=False))):
        of_x_0 = math.sqrt(before) * beta / (1 - now)
        of_x_t = math.sqrt(1 - beta) * (1 - before) / (1 - now)
        factor = of_x_0 * slope * math.sqrt(now) + of_x_t
        mean, variance = factor * mean + of_x_0 * shift, factor**2 * variance + beta
    infinite = torch.tensor([torch.inf])
    edges = torch.cat([-infinite, (PIXELS[1:] + PIXELS[:-1]) / 2, infinite])
    return -torch.special.ndtr((edges - mean) / math.sqrt(variance)).diff().log()


@pytest.mark.equation("3")
@pytest.mark.equation("5")
@pytest.mark.parametrize(("slope", "shift"), [(1.0, 0.0), (0.9, 0.0), (0.7, 0.1), (0.0, -0.5)])
def test_bound_lies_above_the_exact_likelihood_and_touches_it_for_the_exact_way_back(slope, shift):
    """For data from N(0, 1) the way back has mean sqrt(alpha_t) x_t and variance beta_t: slope 1
    and shift 0.
    """
    betas = [0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.99]

    def guess(x_t, kept):
        return slope * math.sqrt(kept) * x_t + shift

    gap = bound_of_a_pixel(from_betas(betas), PIXELS, guess) - nll_of_a_pixel(betas, slope, shift)
    if (slope, shift) == (1.0, 0.0):
        inner = gap[1:-1]
        assert_close(inner, torch.zeros_like(inner), rtol=0, atol=1e-8)  # but for a bucket's width
        # the other two are wide, and x_0 is taken for their finite end
        assert (gap[[0, -1]] > 0.01).all()
    else:
        assert (gap > 1e-3).all()


def test_step_term_at_the_first_step_is_an_error(schedule, generator):
    x_0, eps, t = case(generator)
    with pytest.raises(ValueError, match=r"t = 2\.\.T"):
        diffusion.L_t_minus_1(schedule, x_0, q_sample(schedule, x_0, t, eps), t, x_0)


@pytest.mark.equation("13")
@pytest.mark.parametrize("mean", [-3.0, -1.0, -0.5, 0.0, 1 / 255, 0.9, 1.0, 2.0])
def test_bucket_probabilities_sum_to_one(mean):
    x_0_hat = torch.full((256, 1), mean, dtype=torch.float64)
    for beta_1 in (1e-4, 1e-2, 0.5):
        log_p = -diffusion.L_0(from_betas([beta_1, 0.9999]), PIXELS[:, None], x_0_hat)
        assert_close(float(log_p.exp().sum()), 1.0, rtol=0, atol=1e-9)


@pytest.mark.equation("13")
def test_bucket_probabilities_where_a_difference_of_two_error_functions_is_good_enough():
    schedule = from_betas([1e-3, 0.9999])
    sigma = math.sqrt(1e-3)

    def below(x, mean):  # the normal distribution function
        return 0.5 * (1 + math.erf((x - mean) / (sigma * 2**0.5)))

    for mean in (-0.98, -0.2, 0.0, 0.55, 0.97):
        near = PIXELS[(PIXELS - mean).abs() < 4 * sigma]
        expected = []
        for x in near.tolist():
            upper = 1.0 if x > 0.999 else below(x + 1 / 255, mean)
            lower = 0.0 if x < -0.999 else below(x - 1 / 255, mean)
            expected.append(-math.log(upper - lower))
        got = diffusion.L_0(schedule, near[:, None], torch.full_like(near[:, None], mean))
        assert_close(got, torch.tensor(expected, dtype=torch.float64), rtol=1e-7, atol=1e-9)


@pytest.mark.equation("13")
def test_decoder_is_finite_far_in_the_tails():
    """200 standard deviations away the mass underflows any float; its logarithm does not."""
    schedule = from_betas([1e-4, 0.9999])
    for x, mean in ((-1.0, 1.0), (1.0, -1.0), (PIXELS[1], 1.0), (PIXELS[254], -1.0)):
        x_0, x_0_hat = torch.tensor([[[float(x)]], [[mean]]], dtype=torch.float64)
        got = diffusion.L_0(schedule, x_0, x_0_hat)
        nearest_edge = abs(mean - float(x)) - 1 / 255
        assert torch.isfinite(got).all()
        # the leading term of -log of the tail
        assert_close(float(got), nearest_edge**2 / 2e-4, rtol=1e-3, atol=0)


@pytest.mark.equation("13")
def test_decoder_adds_up_over_pixels_and_takes_the_usual_buckets_in_float32(generator):
    schedule = from_betas([1e-3, 0.9999])
    k = torch.randint(0, 256, (3, 1, 4, 4), generator=generator)
    x_0 = k.float() / 127.5 - 1
    x_0_hat = x_0 + 0.02 * torch.randn(x_0.shape, generator=generator)
    apart = diffusion.L_0(schedule, x_0.reshape(-1, 1), x_0_hat.reshape(-1, 1)).view(3, -1).sum(1)
    assert_close(diffusion.L_0(schedule, x_0, x_0_hat), apart)
    exact = diffusion.L_0(schedule, PIXELS[k], x_0_hat.double())
    assert_close(diffusion.L_0(schedule, x_0, x_0_hat).double(), exact, rtol=1e-3, atol=1e-3)


def test_forward_process_and_v_agree_with_diffusers(generator, their_t):
    x_0, eps, t = case(generator, T=1000, dtype=torch.float32)
    for ours, theirs in ((linear(1000), "linear"), (cosine(1000), "squaredcos_cap_v2")):
        reference = DDPMScheduler(
            num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, beta_schedule=theirs
        )
        x_t = reference.add_noise(x_0, eps, their_t(t))
        v = reference.get_velocity(x_0, eps, their_t(t))
        assert_close(q_sample(ours, x_0, t, eps), x_t, rtol=0, atol=1e-4)
        assert_close(target_from(ours, "v", x_0, eps, t), v, rtol=0, atol=1e-4)


def test_predicting_zeros_costs_the_variance_of_the_target(schedule, generator):
    """The baseline of every training curve: 1 for eps."""
    eps = torch.randn(64, 1, 28, 28, generator=generator)
    loss = diffusion.regression_loss(torch.zeros_like(eps), eps).mean()
    assert_close(float(loss), 1.0, rtol=0, atol=4 * math.sqrt(2 / eps.numel()))
    assert_close(loss, F.mse_loss(torch.zeros_like(eps), eps))


def test_shapes_must_agree(schedule):
    a, b, t = torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4), same_t(1, 2)
    calls = [
        lambda: q_sample(schedule, a, t, b),
        lambda: q_step(schedule, a, t, b),
        lambda: q_posterior(schedule, a, b, t),
        lambda: mu_from_eps(schedule, a, b, t),
        lambda: diffusion.regression_loss(a, b),
        lambda: diffusion.L_0(schedule, a, b),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="must have the same shape"):
            call()


def test_unknown_names_list_the_known_ones(schedule):
    x, t = torch.zeros(2, 1), same_t(1, 2)
    wrong = r"unknown target 'noise'; choose one of eps, x_0, v, mu"
    for call in (target_from, x_0_from, eps_from):
        with pytest.raises(ValueError, match=wrong):
            call(schedule, "noise", x, x, t)
    with pytest.raises(ValueError, match=wrong):
        diffusion.target_weights(schedule, "noise")
    with pytest.raises(ValueError, match="unknown loss 'l3'"):
        diffusion.regression_loss(x, x, "l3")
    with pytest.raises(ValueError, match="unknown variance 'gamma'"):
        diffusion.L_t_minus_1(schedule, x, x, same_t(2, 2), x, variance="gamma")


@pytest.mark.parametrize("function", [q_sample, q_step])
def test_steps_outside_the_schedule(schedule, function):
    x = torch.zeros(2, 1)
    for bad in (torch.tensor([0, 1]), torch.tensor([1, 101])):
        with pytest.raises(ValueError, match=r"1\.\.100"):
            function(schedule, x, bad, x)
    with pytest.raises(TypeError):
        function(schedule, x, torch.tensor([1.0, 2.0]), x)
