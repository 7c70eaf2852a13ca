"""Checks of the exercises of notebook 03: the ELBO and KL divergence."""

import math

import torch
from torch import Tensor

from tutorial_lib import diffusion, gaussian
from tutorial_lib.course.exercises.checks import (
    Exercise,
    between,
    pair,
    same,
    some_images,
    some_law,
    some_schedule,
    some_t,
    true,
)
from tutorial_lib.schedule import from_betas, same_t


def kl_of_means(answer, generator):
    """(m_q, m_p, variance) -> KL between two Gaussians of the same variance, in nats."""
    m_q, m_p, variance = between(0.3, 2, generator, 3).tolist()
    m_p = -m_p
    apart = (m_q - m_p) ** 2
    slips = {
        "Twice too much: look at the 1/2 in front.": apart / variance,
        "Is that the standard deviation?": apart / (2 * variance**2),
    }
    same(answer(m_q, m_p, variance), apart / (2 * variance), "The divergence", slips)


def kl_of_tables(answer, generator):
    """(q, p) -> KL(q || p) of two laws on the same states, in nats."""
    q, p = some_law(generator, 5), some_law(generator, 5)
    right = _kl(q, p)
    slips = {
        "q and p have changed places.": _kl(p, q),
        "It is in bits; nats are asked for.": right / math.log(2),
    }
    same(answer(q, p), right, "The divergence", slips)
    _zeros_in_q(answer, q, p)
    _zeros_in_p(answer, q, p)


def _kl(q: Tensor, p: Tensor) -> Tensor:
    """KL(q || p) of two laws, of which p has no zeros where q has none."""
    used = q > 0
    return (q[used] * (q[used] / p[used]).log()).sum()


def _without(law: Tensor, state: int) -> Tensor:
    """The law with probability 0 of one state, and the others in proportion."""
    law = law.clone()
    law[state] = 0
    return law / law.sum()


def _zeros_in_q(answer, q: Tensor, p: Tensor) -> None:
    """Raise Wrong unless states that q never visits cost nothing."""
    q = _without(q, 2)
    cost = "What does a thing cost that never happens?"
    got = torch.as_tensor(answer(q, p)).double()
    true(not got.isnan(), f"Where q is 0 it becomes nan. {cost}")
    same(got, _kl(q, p), "The divergence when one state of q has probability 0")
    got = torch.as_tensor(answer(q, q)).double()
    true(not got.isnan(), f"Where q and p are both 0 it becomes nan. {cost}")
    same(got, 0.0, "The divergence of a law with a 0 from itself")


def _zeros_in_p(answer, q: Tensor, p: Tensor) -> None:
    """Raise Wrong unless states that q visits and p does not cost infinitely much."""
    got = torch.as_tensor(answer(q, _without(q, 2))).double()
    true(got == math.inf, "Where p is 0 and q is not, it should be infinite.")
    got = torch.as_tensor(answer(_without(q, 2), _without(p, 3))).double()
    true(
        got == math.inf,
        "With a 0 in q at one place and a 0 in p at another it should still be infinite.",
    )


def where_from(answer, generator):
    """(schedule, x_0, x_t, t) -> mean and variance of q(x_{t-1} | x_t, x_0), t a whole number."""
    schedule = some_schedule(generator)
    x_0, x_t = some_images(generator)
    some_early_t = int(some_t(generator, 1, 6))  # later, beta_tilde is nearly beta
    for t in (2, some_early_t):
        mean, variance = diffusion.q_posterior(schedule, x_0, x_t, same_t(t, 3))
        swapped, _ = diffusion.q_posterior(schedule, x_t, x_0, same_t(t, 3))
        got = pair(answer(schedule, x_0, x_t, t), "the mean and the variance")
        same(got[0], mean, "The mean", {"The weights have changed places.": swapped})
        variance = variance.flatten()[0]  # the same for each image
        slips = {
            "That is beta_t, the variance of the step forward.": schedule.beta[t],
            "That is its root.": variance.sqrt(),
        }
        same(got[1], variance, "The variance", slips)


def off_by_one(answer, generator):
    """(beta) -> beta_tilde_1 to beta_tilde_T, with the slip mended.

    beta: beta_1 to beta_T, a list.
    """
    schedule = some_schedule(generator)
    beta = schedule.beta[1:]
    beta_tilde = schedule.beta_tilde[1:]
    unmended = torch.cat([beta[:1], beta_tilde[1:]])
    slips = {
        "That is beta itself: one of the two alpha_bars belongs to the step before.": beta,
        "At t = 1 it should be 0: there is nothing left to guess.": unmended,
    }
    same(answer(beta.tolist()), beta_tilde, "The table of beta_tilde", slips)


def step_weight(answer, generator):
    """(schedule, t) -> the weight of the squared error of eps in L_{t-1}.

    There sigma_t^2 is beta_t.
    """
    schedule = some_schedule(generator)
    for t in (2, int(some_t(generator, 1, 6))):
        beta = schedule.beta[t]
        right = beta / (2 * schedule.alpha[t] * (1 - schedule.alpha_bar[t]))
        slips = {
            "The 2 is missing.": 2 * right,
            "sigma_t^2 is beta_t, not beta_t^2.": right / beta,
        }
        same(answer(schedule, t), right, f"The weight at t = {t}", slips)


def bucket(answer, generator):
    """(k, mean, sigma) -> the probability of grey level k under the discrete decoder."""
    mean = float(between(-0.3, 0.3, generator))
    sigma = float(between(0.5, 0.9, generator))
    levels = torch.arange(256, dtype=torch.float64)[:, None] / 127.5 - 1  # (256, 1)
    schedule = from_betas([sigma**2])
    nats = diffusion.L_0(schedule, levels, torch.full_like(levels, mean))
    right = (-nats).exp()  # (256,)
    density = gaussian.log_density(levels[128, 0], mean, sigma**2).exp()
    middle, lowest, highest = (answer(k, mean, sigma) for k in (128, 0, 255))
    slips = {"That is a density, not a probability.": density}
    same(middle, right[128], "The probability of level 128", slips, tolerance=2e-6)
    same(lowest, right[0], "The probability of level 0")
    same(highest, right[255], "The probability of level 255")


def from_v(answer, generator):
    """(x_t, v, alpha_bar) -> x_0 and eps."""
    x_0, eps = some_images(generator)
    alpha_bar = between(0.2, 0.8, generator)
    signal, noise = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
    x_t = signal * x_0 + noise * eps
    v = signal * eps - noise * x_0
    got = pair(answer(x_t, v, alpha_bar), "x_0 and eps")
    slips = {
        "x_0 and eps have changed places.": eps,
        "Its sign is wrong.": -x_0,
    }
    same(got[0], x_0, "x_0", slips)
    same(got[1], eps, "eps", {"Its sign is wrong.": -eps})


EXERCISES = {
    "03.1": Exercise(
        test=kl_of_means,
        praise=(
            "Twice as far apart is four times the divergence: between Gaussians of one variance "
            "it is a squared error. From here the whole loss will follow."
        ),
        hints=(
            (
                "With equal variances the logarithm is 0, and the fraction of variances is 1. "
                "What is left?"
            ),
            "(m_q - m_p)^2 / (2 * variance).",
        ),
        forbidden=("kl", "kl_divergence"),
    ),
    "03.2": Exercise(
        test=kl_of_tables,
        praise=(
            "What q never does costs nothing; what p thinks impossible, and q does, "
            "costs infinitely much."
        ),
        hints=(
            "The sum over states of q * log(q / p).",
            (
                "Where q is 0 the term is 0, not nan; where p is 0 and q is not, the whole is "
                "infinite. There is torch.xlogy."
            ),
        ),
        forbidden=("kl_div", "KLDivLoss", "kl_divergence"),
    ),
    "03.3": Exercise(
        test=where_from,
        praise=(
            "A weighted mean of what we know about x_0 and of where we are, "
            "and a variance that depends on t alone."
        ),
        hints=(
            (
                "Three tables are needed: schedule.beta, schedule.alpha and schedule.alpha_bar, "
                "each at [t]. And one of them at the step before."
            ),
            (
                "schedule.alpha_bar[t - 1] is alpha_bar of the step before. "
                "All are numbers, so nothing need be reshaped."
            ),
            (
                "`return mean, variance`, where "
                "mean = (a * x_0 + b * x_t) / (1 - schedule.alpha_bar[t]); "
                "Eq. 7 says what a and b are."
            ),
        ),
        forbidden=("q_posterior", "product", "target_from"),
    ),
    "03.4": Exercise(
        test=off_by_one,
        praise=(
            "Tables have T + 1 entries so that alpha_bar[t - 1] means what the paper means, "
            "at t = 1 too."
        ),
        hints=(
            "What should the variance be at t = 1, when x_0 is known? And what does the code say?",
            (
                "alpha_bar_{t-1} at t = 1 is alpha_bar_0 = 1. "
                "The list in the code begins with alpha_bar_1."
            ),
        ),
        forbidden=("from_betas", "NoiseSchedule"),
    ),
    "03.5": Exercise(
        test=step_weight,
        praise=(
            "It is largest at small t. L_simple drops it, and so turns the attention to larger t."
        ),
        hints=(
            "It is the factor in front of the squared error in Eq. 12, with sigma_t^2 = beta_t.",
            "beta_t^2 / (2 * sigma_t^2 * alpha_t * (1 - alpha_bar_t)).",
        ),
    ),
    "03.6": Exercise(
        test=bucket,
        praise=(
            "Two differences of a distribution function; "
            "and the outermost buckets reach out to infinity."
        ),
        hints=(
            (
                "The probability of an interval is the distribution function at its upper end "
                "minus that at its lower end."
            ),
            (
                "The bucket of grey level k reaches from k / 127.5 - 1 - 1/255 to "
                "k / 127.5 - 1 + 1/255. torch.special.ndtr is the distribution function of the "
                "standard normal."
            ),
            (
                "At k = 0 the lower end is -infinity, at k = 255 the upper end is infinity: "
                "ndtr is 0 and 1 there."
            ),
        ),
        forbidden=("L_0",),
    ),
    "03.7": Exercise(
        test=from_v,
        praise=(
            "A rotation by an angle whose cosine is sqrt(alpha_bar): "
            "v is what x_t would be a quarter turn later."
        ),
        hints=(
            (
                "Two equations: x_t = a x_0 + b eps and v = a eps - b x_0, with a^2 + b^2 = 1. "
                "Solve for x_0 and eps."
            ),
            "Multiply the first by a, the second by b, and subtract: x_0 = a x_t - b v.",
            "For eps multiply the first by b, the second by a, and add.",
        ),
        forbidden=("x_0_from", "eps_from"),
    ),
}
