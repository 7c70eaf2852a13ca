"""Checks of the exercises of notebook 03: the ELBO and KL divergence."""

import math

import torch
from torch.distributions import kl_divergence
from torch.nn import functional as F

from tutorial_lib import diffusion, gaussian, schedule
from tutorial_lib.course.exercises.checks import (
    between,
    exercise,
    pair,
    same,
    some_images,
    some_schedule,
    some_t,
    true,
)


@exercise(
    "03.1",
    "Twice as far apart is four times the divergence: between Gaussians of one variance it is a squared error. From "
    "here the whole loss will follow.",
    "With equal variances the logarithm is 0, and the fraction of variances is 1. What is left?",
    "(m_q - m_p)^2 / (2 * variance).",
    forbidden=(gaussian.kl, kl_divergence),
)
def kl_of_means(answer, z):
    """(m_q, m_p, variance) -> KL between two Gaussians of the same variance, in nats."""
    m_q, m_p, v = between(0.3, 2, z, 3).tolist()
    same(
        answer(m_q, -m_p, v),
        (m_q + m_p) ** 2 / (2 * v),
        "The divergence",
        {
            "Twice too much: look at the 1/2 in front.": (m_q + m_p) ** 2 / v,
            "Is that the standard deviation?": (m_q + m_p) ** 2 / (2 * v * v),
        },
    )


@exercise(
    "03.2",
    "What q never does costs nothing; what p thinks impossible, and q does, costs infinitely much.",
    "The sum over states of q * log(q / p).",
    "Where q is 0 the term is 0, not nan; where p is 0 and q is not, the whole is infinite. There is torch.xlogy.",
    forbidden=(F.kl_div, torch.kl_div, kl_divergence),
)
def kl_of_tables(answer, z):
    """(q, p) -> KL(q || p) of two laws on the same states, in nats."""
    q, p = (w / w.sum() for w in (between(0.1, 1, z, 5), between(0.1, 1, z, 5)))
    right, other = (q * (q / p).log()).sum(), (p * (p / q).log()).sum()
    same(
        answer(q, p),
        right,
        "The divergence",
        {
            "q and p have changed places.": other,
            "It is in bits; nats are asked for.": right / math.log(2),
        },
    )
    empty = q.clone()
    empty[2] = 0
    empty = empty / empty.sum()
    used = empty > 0
    got = torch.as_tensor(answer(empty, p)).double()
    true(not got.isnan(), "Where q is 0 it becomes nan. What does a thing cost that never happens?")
    same(
        got,
        (empty[used] * (empty[used] / p[used]).log()).sum(),
        "The divergence when one state of q has probability 0",
    )
    both = torch.as_tensor(answer(empty, empty)).double()
    true(
        not both.isnan(),
        "Where q and p are both 0 it becomes nan. What does a thing cost that never happens?",
    )
    same(both, 0.0, "The divergence of a law with a 0 from itself")
    true(
        torch.as_tensor(answer(q, empty)).double() == math.inf,
        "Where p is 0 and q is not, it should be infinite.",
    )
    other = p.clone()
    other[3] = 0
    found = torch.as_tensor(answer(empty, other / other.sum())).double()
    true(
        found == math.inf,
        "With a 0 in q at one place and a 0 in p at another it should still be infinite.",
    )


@exercise(
    "03.3",
    "A weighted mean of what we know about x_0 and of where we are, and a variance that depends on t alone.",
    "Three tables are needed: tables.beta, tables.alpha and tables.alpha_bar, each at [t]. And one of them at the step "
    "before.",
    "tables.alpha_bar[t - 1] is alpha_bar of the step before. All are numbers, so nothing need be reshaped.",
    "`return mean, variance`, where mean = (a * x_0 + b * x_t) / (1 - tables.alpha_bar[t]); Eq. 7 says what a and b "
    "are.",
    forbidden=(diffusion.q_posterior, gaussian.product),
)
def where_from(answer, z):
    """(tables, x_0, x_t, t) -> mean and variance of q(x_{t-1} | x_t, x_0), t a whole number."""
    tables, (x_0, x_t) = some_schedule(z), some_images(z)
    for t in (2, int(some_t(z, 1, 6))):  # later, beta_tilde is beta, nearly
        mean, variance = diffusion.q_posterior(tables, x_0, x_t, schedule.same_t(t, 3))
        got_mean, got_variance = pair(answer(tables, x_0, x_t, t), "the mean and the variance")
        swapped = diffusion.q_posterior(tables, x_t, x_0, schedule.same_t(t, 3))[0]
        same(got_mean, mean, "The mean", {"The weights have changed places.": swapped})
        variance = variance.flatten()[0]
        slips = {
            "That is beta_t, the variance of the step forward.": tables.beta[t],
            "That is its root.": variance.sqrt(),
        }
        same(got_variance, variance, "The variance", slips)


@exercise(
    "03.4",
    "Tables have T + 1 entries so that alpha_bar[t - 1] means what the paper means, at t = 1 too.",
    "What should the variance be at t = 1, when x_0 is known? And what does the code say?",
    "alpha_bar_{t-1} at t = 1 is alpha_bar_0 = 1. The list in the code begins with alpha_bar_1.",
    forbidden=(schedule.from_betas,),
)
def off_by_one(answer, z):
    """(beta) -> beta_tilde_1 to beta_tilde_T, with the slip mended.  beta: beta_1 to beta_T, a
    list.
    """
    tables = some_schedule(z)
    right = tables.beta_tilde[1:]
    slips = {
        "That is beta itself: one of the two alpha_bars belongs to the step before.": tables.beta[
            1:
        ],
        "At t = 1 it should be 0: there is nothing left to guess.": torch.cat(
            [tables.beta[1:2], right[1:]]
        ),
    }
    same(answer(tables.beta[1:].tolist()), right, "The table of beta_tilde", slips)


@exercise(
    "03.5",
    "It is largest at small t. L_simple drops it, and so turns the attention to larger t.",
    "It is the factor in front of the squared error in Eq. 12, with sigma_t^2 = beta_t.",
    "beta_t^2 / (2 * sigma_t^2 * alpha_t * (1 - alpha_bar_t)).",
)
def step_weight(answer, z):
    """(tables, t) -> the weight of the squared error of eps in L_{t-1}, for sigma_t^2 = beta_t."""
    tables = some_schedule(z)
    for t in (2, int(some_t(z, 1, 6))):
        beta, alpha, kept = tables.beta[t], tables.alpha[t], tables.alpha_bar[t]
        right = beta / (2 * alpha * (1 - kept))
        slips = {"The 2 is missing.": 2 * right, "sigma_t^2 is beta_t, not beta_t^2.": right / beta}
        same(answer(tables, t), right, f"The weight at t = {t}", slips)


@exercise(
    "03.6",
    "Two differences of a distribution function; and the outermost buckets reach out to infinity.",
    "The probability of an interval is the distribution function at its upper end minus that at its lower end.",
    "The bucket of grey level k reaches from k / 127.5 - 1 - 1/255 to k / 127.5 - 1 + 1/255. torch.special.ndtr is the "
    "distribution function of the standard normal.",
    "At k = 0 the lower end is -infinity, at k = 255 the upper end is infinity: ndtr is 0 and 1 there.",
    forbidden=(diffusion.L_0,),
)
def bucket(answer, z):
    """(k, mean, sigma) -> the probability of grey level k under the discrete decoder."""
    mean, sigma = float(between(-0.3, 0.3, z)), float(between(0.5, 0.9, z))
    levels = torch.arange(256, dtype=torch.float64)[:, None] / 127.5 - 1
    tables = schedule.from_betas([sigma**2])
    right = (-diffusion.L_0(tables, levels, torch.full_like(levels, mean))).exp()
    got = [answer(k, mean, sigma) for k in (128, 0, 255)]
    same(
        got[0],
        right[128],
        "The probability of level 128",
        {
            "That is a density, not a probability.": gaussian.log_density(
                levels[128, 0], mean, sigma**2
            ).exp()
        },
        2e-6,
    )
    same(got[1], right[0], "The probability of level 0")
    same(got[2], right[255], "The probability of level 255")


@exercise(
    "03.7",
    "A rotation by an angle whose cosine is sqrt(alpha_bar): v is what x_t would be a quarter turn later.",
    "Two equations: x_t = a x_0 + b eps and v = a eps - b x_0, with a^2 + b^2 = 1. Solve for x_0 and eps.",
    "Multiply the first by a, the second by b, and subtract: x_0 = a x_t - b v.",
    "For eps multiply the first by b, the second by a, and add.",
    forbidden=(diffusion.x_0_from, diffusion.eps_from),
)
def from_v(answer, z):
    """(x_t, v, alpha_bar) -> x_0 and eps."""
    (x_0, eps), kept = some_images(z), between(0.2, 0.8, z)
    a, b = kept**0.5, (1 - kept) ** 0.5
    got = pair(answer(a * x_0 + b * eps, a * eps - b * x_0, kept), "x_0 and eps")
    same(got[0], x_0, "x_0", {"x_0 and eps have changed places.": eps, "Its sign is wrong.": -x_0})
    same(got[1], eps, "eps", {"Its sign is wrong.": -eps})
