"""Checks of the exercises of notebook 03: the ELBO and KL divergence."""

import itertools
import math

import torch
from torch import Tensor

from tutorial_lib import diffusion, gaussian
from tutorial_lib.course.exercises.checks import (
    Exercise,
    between,
    numbers,
    pair,
    returned,
    same,
    some_chain,
    some_distribution,
    some_images,
    some_schedule,
    some_t,
    true,
)
from tutorial_lib.schedule import NoiseSchedule, from_betas, same_t


def kl_of_means(answer, generator):
    """(m_q, m_p, variance) -> KL between two Gaussians of the same variance, in nats."""
    m_q, m_p, variance = between(0.3, 2, generator, 3).tolist()
    m_p = -m_p
    apart = (m_q - m_p) ** 2
    slips = {
        "Twice too much: look at the 1/2 in front.": apart / variance,
        "Is that the standard deviation?": apart / (2 * variance**2),
        "The means are apart by a square, not by an absolute value.": (
            abs(m_q - m_p) / (2 * variance)
        ),
        "It is in bits; nats are asked for.": apart / (2 * variance) / math.log(2),
        "What is divided by? The distance counts in units of the spread.": apart / 2,
        "Below the line stands the variance, not its root.": apart / (2 * variance**0.5),
        "The sign is wrong: a divergence is never negative.": -apart / (2 * variance),
        "The 1 belongs to the variances, and they are equal here.": apart / (2 * variance) - 0.5,
        "The variances are equal, and leave nothing behind.": apart / (2 * variance) + 0.5,
        "It multiplies by the variance, where it should divide.": apart * variance / 2,
        "The means are added, and not subtracted.": (m_q + m_p) ** 2 / (2 * variance),
    }
    same(answer(m_q, m_p, variance), apart / (2 * variance), "The divergence", slips)


def kl_of_tables(answer, generator):
    """(q, p) -> KL(q || p) of two distributions on the same states, in nats."""
    q, p = some_distribution(generator, 5), some_distribution(generator, 5)
    right = _kl(q, p)
    slips = {
        "q and p have changed places.": _kl(p, q),
        "It is in bits; nats are asked for.": right / math.log(2),
        "The sign is wrong: a divergence is never negative.": -right,
        "The sum over the states weighs each by q; that is a mean.": right / len(q),
        "Each state counts the same there. Which distribution is the average over?": (
            (q / p).log().sum()
        ),
        "That is the cross-entropy: of it the entropy of q is still to be taken.": (
            -(q * p.log()).sum()
        ),
        "That is the negative entropy of q.": (q * q.log()).sum(),
        "Absolute values make every state cost something.": (q * (q / p).log().abs()).sum(),
        "The logarithm is of the fraction, not of the difference.": (q * (q - p).abs().log()).sum(),
    }
    same(answer(q, p), right, "The divergence", slips)
    _zeros_in_q(answer, q, p)
    _zeros_in_p(answer, q, p)


def _kl(q: Tensor, p: Tensor) -> Tensor:
    """KL(q || p) of two distributions, of which p has no zeros where q has none."""
    used = q > 0
    return (q[used] * (q[used] / p[used]).log()).sum()


def _without(p: Tensor, state: int) -> Tensor:
    """The distribution with probability 0 of one state, and the others in proportion."""
    p = p.clone()
    p[state] = 0
    return p / p.sum()


def _zeros_in_q(answer, q: Tensor, p: Tensor) -> None:
    """Raise Wrong unless states that q never visits cost nothing."""
    q = _without(q, 2)
    cost = "What does a thing cost that never happens?"
    got = torch.as_tensor(answer(q, p)).double()
    true(not got.isnan(), f"Where q is 0 it becomes nan. {cost}")
    same(got, _kl(q, p), "The divergence when one state of q has probability 0")
    got = torch.as_tensor(answer(q, q)).double()
    true(not got.isnan(), f"Where q and p are both 0 it becomes nan. {cost}")
    same(got, 0.0, "The divergence of a distribution with a 0 from itself")


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
    """(schedule, x_0, x_t, t, s) -> mean and variance of q(x_s | x_t, x_0), t and s whole."""
    schedule = some_schedule(generator)
    x_0, x_t = some_images(generator)
    early_t = int(some_t(generator, 1, 6))  # later, x_t says nearly nothing
    for t, s in ((early_t, early_t - 1), (3, 1), (6, 2)):
        kept, before = schedule.alpha_bar[t] / schedule.alpha_bar[s], schedule.alpha_bar[s]
        first, of_first = before.sqrt() * x_0, 1 - before  # what x_0 says of x_s
        last, of_last = x_t / kept.sqrt(), (1 - kept) / kept  # what x_t says of it
        mean, variance = gaussian.product(first, of_first, last, of_last)
        one_step, one_beta = diffusion.q_posterior(schedule, x_0, x_t, same_t(t, 3))
        swapped, _ = gaussian.product(before.sqrt() * x_t, of_first, x_0 / kept.sqrt(), of_last)
        got = pair(answer(schedule, x_0, x_t, t, s), "the mean and the variance")
        slips = {
            "The weights have changed places.": swapped,
            "That is the mean of x_{t-1}; s is earlier.": one_step,
            "That is what x_0 alone says.": first,
            "That is what x_t alone says.": last,
            "Both measurements count the same there. Is one known better?": (first + last) / 2,
            "Each counts by the precision of the other.": (
                gaussian.product(first, of_last, last, of_first)[0]
            ),
        }
        same(got[0], mean, "The mean", slips)
        slips = {
            "That is the variance of the jump forward, from s to t.": 1 - kept,
            "That is its root.": variance.sqrt(),
            "That is the precision; the variance is its inverse.": 1 / variance,
            "That is what x_0 alone says.": of_first,
            "That is what x_t alone says.": of_last,
            "Precisions add up, and variances do not.": of_first + of_last,
            "That is the variance of x_{t-1}; s is earlier.": one_beta.flatten()[0],
        }
        same(got[1], variance, "The variance", slips)


def off_by_one(answer, generator):
    """(beta) -> beta_tilde_1 to beta_tilde_T, with the slip repaired.

    beta: beta_1 to beta_T, a list.
    """
    schedule = some_schedule(generator)
    beta = schedule.beta[1:]
    beta_tilde = schedule.beta_tilde[1:]
    got = answer(beta.tolist())
    returned(got)
    got = numbers(got, "The table of beta_tilde")
    true(len(got.shape) == 1, "It should be a table with one row, beta_tilde_1 to beta_tilde_T.")
    rest = len(got) == len(beta) and torch.allclose(got[1:], beta_tilde[1:])
    slips = {
        "That is beta itself: one of the two alpha_bars belongs to the step before.": beta,
        "That is its root.": beta_tilde.sqrt(),
        # no more than what the statement says: this is a bug hunt
        "One entry is not what it should be.": torch.cat([got[:1], beta_tilde[1:]]) if rest else 0,
    }
    same(got, beta_tilde, "The table of beta_tilde", slips)


def step_weight(answer, generator):
    """(schedule, t) -> the weight of the squared error of eps in L_{t-1}.

    There sigma_t^2 is beta_tilde_t.
    """
    schedule = some_schedule(generator)
    for t in (2, int(some_t(generator, 1, 6))):
        beta, beta_tilde = schedule.beta[t], schedule.beta_tilde[t]
        right = _weight(schedule, t)
        slips = {
            "The 2 is missing.": 2 * right,
            "That is for sigma_t^2 = beta_t.": right * beta_tilde / beta,
            "sigma_t^2 is beta_tilde_t, not its square.": right / beta_tilde,
            "sigma_t^2 is beta_tilde_t, not its root.": right * beta_tilde.sqrt(),
            "beta_t counts squared.": right / beta,
            "A factor is missing below the line: alpha_t.": right * schedule.alpha[t],
            "A factor is missing below the line: what is the variance of the noise in x_t?": (
                right * (1 - schedule.alpha_bar[t])
            ),
            "Below the line stands the noise in x_t, and not what is left of the picture.": (
                right * (1 - schedule.alpha_bar[t]) / schedule.alpha_bar[t]
            ),
            "Is it alpha_t or alpha_bar_t?": (right * schedule.alpha[t] / schedule.alpha_bar[t]),
            "The noise in x_t has a root there too many.": (
                right * (1 - schedule.alpha_bar[t]).sqrt()
            ),
            "alpha_t has a root there too many.": right * schedule.alpha[t].sqrt(),
            "It is upside down.": 1 / right,
        }
        if t > 2:
            one_behind = _weight(schedule, t - 1)
            slips["That is the weight one step before: tables begin at 0."] = one_behind
        same(answer(schedule, t), right, f"The weight at t = {t}", slips)


def _weight(schedule: NoiseSchedule, t: int) -> Tensor:
    below = 2 * schedule.beta_tilde[t] * schedule.alpha[t] * (1 - schedule.alpha_bar[t])
    return schedule.beta[t] ** 2 / below


def bucket(answer, generator):
    """(k, mean, sigma) -> the probability of grey level k under the discrete decoder."""
    wide = float(between(0.5, 0.9, generator))
    narrow = float(between(0.003, 0.006, generator))
    for sigma in (wide, narrow):
        mean = float(between(-0.3, 0.3, generator))
        k = round(127.5 * (mean + 1))  # the level next to the mean
        level = torch.tensor(k / 127.5 - 1, dtype=torch.float64)
        density = gaussian.log_density(level, mean, sigma**2).exp()
        slips = {
            "That is a density, not a probability.": density,
            "That is density times width: good for wide Gaussians only.": density * 2 / 255,
            "That bucket is half as wide as it should be.": _between(k, mean, sigma, 0.5),
            "That bucket is twice as wide as it should be.": _between(k, mean, sigma, 2.0),
            "Is sigma a standard deviation or a variance?": _between(k, mean, sigma**0.5),
            "sigma is a standard deviation; its square is not what to divide by.": (
                _between(k, mean, sigma**2)
            ),
            "The bucket begins at its grey level, and should have it in its middle.": (
                _between(k + 0.5, mean, sigma)
            ),
            "The bucket ends at its grey level, and should have it in its middle.": (
                _between(k - 0.5, mean, sigma)
            ),
            "The upper and the lower end have changed places.": -_between(k, mean, sigma),
        }
        right = float(_buckets(mean, sigma)[k])
        same(answer(k, mean, sigma), right, f"The probability of level {k}", slips, 2e-6)
    right = _buckets(mean, wide)
    for k in (0, 255):
        slips = {"How far does the outermost bucket reach?": _between(k, mean, wide)}
        same(answer(k, mean, wide), right[k], f"The probability of level {k}", slips, 2e-6)


def _between(k: float, mean: float, sigma: float, width: float = 1.0) -> float:
    """The mass of a bucket without regard to the edges; width: in units of the right one."""
    ends = torch.tensor([k / 127.5 - 1 + side * width / 255 for side in (-1, 1)]).double()
    below, above = torch.special.ndtr((ends - mean) / sigma).tolist()
    return above - below


def _buckets(mean: float, sigma: float) -> Tensor:
    """The probability of each grey level, (256,)."""
    levels = torch.arange(256, dtype=torch.float64)[:, None] / 127.5 - 1  # (256, 1)
    nats = diffusion.L_0(from_betas([sigma**2]), levels, torch.full_like(levels, mean))
    return (-nats).exp()


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
        "The signs do not fit: insert x_t and v, and see what cancels.": signal * x_t + noise * v,
        "The two roots have changed places.": noise * x_t - signal * v,
        "Both roots are missing.": alpha_bar * x_t - (1 - alpha_bar) * v,
        "That is right for a network that predicts eps, and this one predicts v.": (
            (x_t - noise * v) / signal
        ),
    }
    same(got[0], x_0, "x_0", slips)
    slips = {
        "Its sign is wrong.": -eps,
        "The signs do not fit: insert x_t and v, and see what cancels.": noise * x_t - signal * v,
        "The two roots have changed places.": signal * x_t + noise * v,
        "Both roots are missing.": (1 - alpha_bar) * x_t + alpha_bar * v,
        "That is v itself.": v,
    }
    same(got[1], eps, "eps", slips)


def bound(answer, generator):
    """(x_0, Q, P, p_T) -> L of one state x_0 of a chain of tables, in nats."""
    for T in (3, 1, 4):
        Q, P = ([some_chain(generator, 3) for _ in range(T)] for _ in range(2))
        p_T, x_0 = some_distribution(generator, 3), int(torch.randint(3, (), generator=generator))
        right, exact = _bound_over_paths(x_0, Q, P, p_T)
        transposed, _ = _bound_over_paths(x_0, Q, [kernel.T for kernel in P], p_T)
        slips = {
            "That is the ELBO; L is its negative.": -right,
            "That is -log p(x_0) itself, and not the bound.": exact,
            "In P the rows are x_t, and the columns x_{t-1}.": transposed,
            "It is in bits; nats are asked for.": right / math.log(2),
            "The prior p_T is missing.": right - _cost_of_prior(x_0, Q, p_T),
            "That is the prior's part alone.": _cost_of_prior(x_0, Q, p_T),
            "That is a mean over the steps; the bound is their sum.": right / T,
            "That is an average over all x_0; one of them is given.": (
                sum(_bound_over_paths(one, Q, P, p_T)[0] for one in range(3)) / 3
            ),
            "P[0] leads to x_0, and the last of P away from x_T.": (
                _bound_over_paths(x_0, Q, P[::-1], p_T)[0]
            ),
            "That is the first step alone.": _bound_over_paths(x_0, Q[:1], P[:1], p_T)[0],
        }
        same(answer(x_0, Q, P, p_T), right, f"The bound for T = {T}", slips)


def _bound_over_paths(
    x_0: int, Q: list[Tensor], P: list[Tensor], p_T: Tensor
) -> tuple[Tensor, Tensor]:
    """L by its definition, an average over all paths from x_0; and -log p(x_0)."""
    L, likelihood = p_T.new_zeros(()), p_T.new_zeros(())
    for path in itertools.product(range(len(p_T)), repeat=len(Q)):
        q, p = p_T.new_ones(()), p_T[path[-1]]
        for t, (before, after) in enumerate(itertools.pairwise((x_0, *path))):
            q = q * Q[t][before, after]
            p = p * P[t][after, before]
        L = L - q * (p / q).log()
        likelihood = likelihood + p
    return L, -likelihood.log()


def _cost_of_prior(x_0: int, Q: list[Tensor], p_T: Tensor) -> Tensor:
    """The average of -log p_T over q(x_T | x_0)."""
    q = torch.eye(len(p_T), dtype=p_T.dtype)[x_0]
    for kernel in Q:
        q = q @ kernel
    return -(q * p_T.log()).sum()


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
            "Precisions add up, and means count by their precision, however far back. A sampler "
            "that skips steps will need exactly this."
        ),
        hints=(
            (
                "From the beginning: x_s is about sqrt(alpha_bar_s) x_0, with variance "
                "1 - alpha_bar_s. From the end: divide the jump from s to t by sqrt(r). "
                "What does it say x_s is about, and with which variance?"
            ),
            (
                "r is schedule.alpha_bar[t] / schedule.alpha_bar[s], and x_s is about "
                "x_t / sqrt(r), with variance (1 - r) / r. All but x_0 and x_t are numbers, so "
                "nothing need be reshaped."
            ),
            (
                "The precision is 1 / (1 - alpha_bar_s) + r / (1 - r), and the variance its "
                "inverse. The mean is the variance times the sum of each measurement times its "
                "own precision."
            ),
        ),
        forbidden=(
            "q_posterior",
            "product",
            "target_from",
            "strided",
            "mu_tilde_weights",
            "beta_tilde",
        ),
    ),
    "03.4": Exercise(
        test=off_by_one,
        praise=(
            "Tables have T + 1 entries so that alpha_bar[t - 1] means what the paper means, "
            "at t = 1 too."
        ),
        hints=(
            (
                "Print the table beside schedule.beta_tilde[1:]. What should the variance be at "
                "the entry that differs, when x_0 is known?"
            ),
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
            "It is the factor in front of the squared error in Eq. 12: which part of it changes?",
            (
                "beta_t^2 / (2 * sigma_t^2 * alpha_t * (1 - alpha_bar_t)), and sigma_t^2 is "
                "schedule.beta_tilde[t]."
            ),
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
    "03.8": Exercise(
        test=bound,
        praise=(
            "Line 2 does it with sums over pairs of states instead of paths. With Gaussians in "
            "place of tables it is what a diffusion model minimises."
        ),
        hints=(
            (
                "A sum over all paths is right, and long. Line 2 of the table is a sum over t, "
                "and each of its terms depends on two neighbours of the path only."
            ),
            (
                "Given x_0, the pair (x_{t-1}, x_t) has the probabilities q(x_{t-1} | x_0) times "
                "Q_t, a matrix. Average the logarithm of P_t, turned round, over Q_t with it."
            ),
            (
                "Begin with a row that is 1 at x_0 and 0 elsewhere, and move it on by each Q_t. "
                "After the last, average -log p_T over it."
            ),
        ),
    ),
}
