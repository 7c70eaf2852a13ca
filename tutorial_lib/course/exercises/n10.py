"""Checks of the exercises of notebook 10: guidance."""

import torch
from torch import Tensor

from tutorial_lib.course.exercises.checks import (
    Exercise,
    between,
    pair,
    returned,
    same,
    some_images,
    some_schedule,
    some_t,
    true,
)
from tutorial_lib.data import NOBODY
from tutorial_lib.schedule import NoiseSchedule


def guided_eps(answer, generator):
    """(eps_hat, slope, alpha_bar_t, w) -> the guided noise."""
    slope, eps_hat = some_images(generator)
    alpha_bar = float(between(0.2, 0.8, generator))
    w = float(between(1.5, 4, generator))
    noise = (1 - alpha_bar) ** 0.5
    slips = {
        "Its sign: to move the picture uphill, noise has to be taken away.": (
            eps_hat + w * noise * slope
        ),
        "w is missing.": eps_hat - noise * slope,
        "That factor is the one of x_0_hat.": (
            eps_hat - w * (1 - alpha_bar) / alpha_bar**0.5 * slope
        ),
        "The factor is a standard deviation, not a variance.": (
            eps_hat - w * (1 - alpha_bar) * slope
        ),
        "The noise that belongs to x_t is 1 - alpha_bar_t.": eps_hat - w * alpha_bar**0.5 * slope,
        "The slope itself has no factor there.": eps_hat - w * slope,
    }
    same(answer(eps_hat, slope, alpha_bar, w), eps_hat - w * noise * slope, "eps_hat", slips)


def theirs(answer, generator):
    """(eps_y, eps_none, their w) -> the guided noise, and our w."""
    eps_y, eps_none = some_images(generator)
    w = float(between(0.5, 4, generator))
    noise, ours = pair(answer(eps_y, eps_none, w), "the guided noise and our w")
    slips = {
        "w is taken for ours.": eps_none + w * (eps_y - eps_none),
        "The two guesses have changed places.": (1 + w) * eps_none - w * eps_y,
        "That leaves out the guess without a label.": (1 + w) * eps_y,
    }
    same(noise, (1 + w) * eps_y - w * eps_none, "The guided noise", slips)
    said = {"That is theirs.": w, "The other way round: ours is the larger one.": w - 1}
    same(ours, 1 + w, "Our w", said)


def hidden_slope(answer, generator):
    """(with_label, without, alpha_bar_t) -> the slope of log p(y | x_t)."""
    with_label, without = some_images(generator)
    alpha_bar = float(between(0.2, 0.8, generator))
    right = alpha_bar**0.5 / (1 - alpha_bar) * (with_label - without)
    slips = {
        "Its sign.": -right,
        "The factor is upside down.": (1 - alpha_bar) / alpha_bar**0.5 * (with_label - without),
        "The factor is missing.": with_label - without,
        "That factor is the one for noise.": (with_label - without) / (1 - alpha_bar) ** 0.5,
        "The variance of the noise is not its root.": (
            (alpha_bar / (1 - alpha_bar)) ** 0.5 * (with_label - without)
        ),
        "A root is missing.": alpha_bar / (1 - alpha_bar) * (with_label - without),
    }
    same(answer(with_label, without, alpha_bar), right, "The slope", slips)


def tilted_bell(answer, generator):
    """(m, v, V, w) -> mean and variance of p(x)^(1 - w) p(x | y)^w for two Gaussians."""
    for _ in range(2):
        m, v = float(between(0.5, 2, generator)), float(between(0.2, 0.6, generator))
        V, w = float(between(1, 2, generator)), float(between(1.2, 4, generator))
        mean, variance = pair(answer(m, v, V, w), "mean and variance")
        precision = w / v + (1 - w) / V
        slips = {
            "That is the precision, one over it.": precision,
            "Precisions are mixed, and not variances.": w * v + (1 - w) * V,
            "Is the exponent of p(x) 1 - w?": 1 / (w / v + 1 / V),
            "The other bell is left out.": v / w,
            "That is its root.": precision**-0.5,
        }
        same(variance, 1 / precision, "The variance", slips)
        slips = {
            "That is where class y is without guidance.": m,
            "Means are weighed by precision.": w * m,
            "That still has to be multiplied by the variance.": w * m / v,
            "w of the mean is missing.": m / v / precision,
        }
        same(mean, w * m / v / precision, "The mean", slips)


def put_known(answer, generator):
    """(schedule, x_t, known, mask, t, eps) -> x_t with the known part put in, repaired."""
    known, eps = some_images(generator)
    x_t, _ = some_images(generator)
    schedule, t = some_schedule(generator), some_t(generator)
    mask = (between(0, 1, generator, 4, 4) < 0.5).double()
    mask[0, 0], mask[1, 1] = 1, 0
    alpha_bar = schedule.alpha_bar[t].view(-1, 1, 1, 1)
    noised = alpha_bar.sqrt() * known + (1 - alpha_bar).sqrt() * eps
    now = {
        "The half that is known still looks as if it were of another step.": known,
        "Noise alone is not enough: at step t the picture is fainter, too.": (
            known + (1 - alpha_bar).sqrt() * eps
        ),
        "At step t there is noise as well.": alpha_bar.sqrt() * known,
        "The known half is not yet what it is at step t.": (
            alpha_bar * known + (1 - alpha_bar) * eps
        ),
    }
    slips = {said: mask * slip + (1 - mask) * x_t for said, slip in now.items()}
    slips["The mask is the wrong way round."] = (1 - mask) * noised + mask * x_t
    right = mask * noised + (1 - mask) * x_t
    same(answer(schedule, x_t, known, mask, t, eps), right, "x_t", slips)


def in_interval(answer, generator):
    """(denoise, x_t, t, y, w, t_from, t_to) -> the guided estimate, with few calls."""
    x_t, _ = some_images(generator)
    y, w = torch.randint(5, (3,), generator=generator), float(between(1.5, 4, generator))
    pull = float(between(0.2, 0.8, generator))
    for step in (7, 8, 12, 15, 16):
        asked: list[int] = []
        got = answer(_labelled(asked, pull), x_t, torch.full((3,), step), y, w, 8, 15)
        returned(got)
        inside = 8 <= step <= 15
        without, with_label = (_guess(x_t, label, pull) for label in (torch.full((3,), -1), y))
        guided = without + w * (with_label - without)
        slips = {
            "That is the guess without a label.": without,
            "w counts from the guess without a label.": with_label + w * (with_label - without),
        }
        if inside:
            slips["At this step guidance should act."] = with_label
        else:
            slips["Outside the interval the plain guess with the label is wanted."] = guided
        where = f"The estimate at t = {step}, of 8 to 15,"
        same(got, guided if inside else with_label, where, slips)
        most = 2 if inside else 1
        calls = -(-sum(asked) // 3)  # a batch of twice the size counts as two
        true(calls <= most, f"At t = {step} the network was asked {calls} times, {most} will do.")


def _guess(x_t: Tensor, y: Tensor, pull: float) -> Tensor:
    return pull * x_t.sin() + (y.double() + 1).view(-1, 1, 1, 1) * x_t.cos() / 5


def _labelled(asked: list[int], pull: float):
    """A denoiser that takes labels; it appends how many it was asked about."""

    def denoise(x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
        whole = isinstance(y, Tensor) and not y.is_floating_point() and y.shape == x_t.shape[:1]
        true(whole, f"The denoiser takes one label for each item, a tensor ({len(x_t)},).")
        true(t.shape == x_t.shape[:1], f"The denoiser takes one t for each item, ({len(x_t)},).")
        asked.append(len(x_t))
        return _guess(x_t, y, pull)

    return denoise


def recall(answer, generator):
    """(samples, real, k) -> the share of real points in the ball of some sample."""
    for k in (1, 3):
        samples = torch.randn(30, 2, generator=generator, dtype=torch.float64)
        real = 1.5 * torch.randn(40, 2, generator=generator, dtype=torch.float64)
        slips = {
            "That is precision: the two sets have changed places.": _among(samples, real, k),
            "The nearest in a set is the point itself; does it count?": _among(
                real, samples, k - 1
            ),
            "The ball reaches one neighbour too far.": _among(real, samples, k + 1),
            "It should be a share, not a number of points.": 40 * _among(real, samples, k),
        }
        same(answer(samples, real, k), _among(real, samples, k), "Recall", slips, tolerance=1e-6)


def _among(points: Tensor, cloud: Tensor, k: int) -> float:
    """The share of the points in the ball of some point of the cloud."""
    inside = 0
    radii = [sorted((cloud - one).norm(dim=1).tolist())[k] for one in cloud]
    for point in points:
        away = (cloud - point).norm(dim=1).tolist()
        inside += any(a <= r + 1e-12 for a, r in zip(away, radii, strict=True))
    return inside / len(points)


def own_guided_sampler(answer, generator):
    """(network, schedule, tau, x_T, y, w) -> x_0: a whole guided sampler."""
    schedule = some_schedule(generator, 20)
    centres = torch.tensor([-1.7, -1.3, 1.3, 1.7], dtype=torch.float64)
    centres = centres + between(-0.1, 0.1, generator, 4)
    spread = float(between(0.2, 0.5, generator))
    x_T = torch.randn(6, 1, 2, 2, generator=generator, dtype=torch.float64)
    y = torch.randint(4, (6,), generator=generator)
    w = float(between(1.5, 3, generator))
    tau = [0, 1, 3, 6, 10, 15, 20]
    network = _mixture_network(schedule, centres, spread)
    got = answer(network, schedule, list(tau), x_T, y, w)
    returned(got)
    true(isinstance(got, Tensor), "It should return the data x_0, a tensor.")

    def walked(strength: float, visited: list[int], clip: bool = False) -> Tensor:
        x = x_T
        for t_prev, t in zip(visited[-2::-1], visited[:0:-1], strict=True):
            steps, none = torch.full((6,), t), torch.full((6,), NOBODY)
            eps_none, eps_y = network(x, steps, none), network(x, steps, y)
            eps = eps_none + strength * (eps_y - eps_none)
            alpha_bar_t, alpha_bar_prev = schedule.alpha_bar[t], schedule.alpha_bar[t_prev]
            x_0_hat = (x - (1 - alpha_bar_t).sqrt() * eps) / alpha_bar_t.sqrt()
            x_0_hat = x_0_hat.clamp(-1, 1) if clip else x_0_hat
            x = alpha_bar_prev.sqrt() * x_0_hat + (1 - alpha_bar_prev).sqrt() * eps
        return x

    slips = {
        "w is counted as in the paper of Ho & Salimans.": walked(w + 1, tau),
        "That is the plain conditional model.": walked(1, tau),
        "The label is ignored.": walked(0, tau),
        "Guidance goes the wrong way, from the label to no label.": walked(1 - w, tau),
        "The last step is missing.": walked(w, tau[1:]),
        "It visits all steps, and not tau.": walked(w, list(range(21))),
        "Something is clipped; these data are no pixels.": walked(w, tau, clip=True),
    }
    same(got, walked(w, tau), "x_0", slips)


def _mixture_network(schedule: NoiseSchedule, centres: Tensor, spread: float):
    """The perfect network for numbers of four classes: E[eps | x_t, y], NOBODY for all of them."""

    def network(x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
        for name, what in (("t", t), ("label", y)):
            whole = isinstance(what, Tensor) and not what.is_floating_point()
            true(
                whole and what.shape == x_t.shape[:1],
                f"The network takes one whole {name} for each item, a tensor ({len(x_t)},).",
            )
        true(
            int(t.min()) >= 1 and int(t.max()) <= schedule.T,
            f"The network was asked about t = {int(t.min())}; steps are 1 to T = {schedule.T}.",
        )
        alpha_bar = schedule.alpha_bar[t].view(-1, 1, 1, 1)
        variance = alpha_bar * spread**2 + 1 - alpha_bar
        away = x_t[..., None] - alpha_bar[..., None].sqrt() * centres  # (B, 1, 2, 2, 4)
        log_p = -away.square() / (2 * variance[..., None])
        others = (torch.arange(4) != y[:, None]) & (y[:, None] != NOBODY)  # (B, 4)
        log_p = log_p.masked_fill(others[:, None, None, None, :], -torch.inf)
        mean = (log_p.softmax(-1) * away).sum(-1)  # how far x_t is from where it should be
        return (1 - alpha_bar).sqrt() * mean / variance

    return network


EXERCISES = {
    "10.1": Exercise(
        test=guided_eps,
        praise="The slope counts with the noise's standard deviation: Algorithm 2 of the paper.",
        hints=(
            "Write the guided x_0_hat, and solve x_t = signal * x_0_hat + noise * eps for eps.",
            (
                "x_0_hat grows by w (1 - alpha_bar_t) / sqrt(alpha_bar_t) times the slope; "
                "eps falls by that times sqrt(alpha_bar_t) / sqrt(1 - alpha_bar_t)."
            ),
        ),
        forbidden=("classifier_guided",),
    ),
    "10.2": Exercise(
        test=theirs,
        praise="Theirs counts from the conditional model, ours from no label: one more.",
        hints=(
            "The formula of the paper is in the box of section 10.4.",
            "Sort (1 + w) eps_y - w eps_none into eps_none + (...) (eps_y - eps_none).",
        ),
    ),
    "10.3": Exercise(
        test=hidden_slope,
        praise="Two guesses of one network hold a classifier that nobody has trained.",
        hints=(
            "The formula above Eq. 6 in section 10.4 has both sides; solve it for the slope.",
            "Divide the difference by (1 - alpha_bar_t) / sqrt(alpha_bar_t).",
        ),
    ),
    "10.4": Exercise(
        test=tilted_bell,
        praise="Narrower than the class and beyond its mean; the guided walk goes farther still.",
        hints=(
            "log p^w = -(1 - w) x^2 / (2 V) - w (x - m)^2 / (2 v) + a constant.",
            "One over the variance is w / v + (1 - w) / V.",
            "The mean is the variance times w m / v.",
        ),
    ),
    "10.5": Exercise(
        test=put_known,
        praise=(
            "A half that is too faint beside one that is not is a picture that no step of the "
            "forward process has, and the network was never trained on it."
        ),
        hints=(
            "What does a network expect at step t? Is the known half like that?",
            "Eq. 4 takes known, t and eps, and gives what the known half looks like at step t.",
        ),
    ),
    "10.6": Exercise(
        test=in_interval,
        praise="Better and cheaper: outside the interval one evaluation is enough.",
        hints=(
            "Outside, return denoise(x_t, t, y).",
            "Inside, none = torch.full_like(y, -1) asks without a label. Both ends belong to it.",
        ),
        forbidden=("limited", "guided"),
    ),
    "10.7": Exercise(
        test=recall,
        praise=(
            "Copies have balls of size 0, so a set of copies covers nothing: what undid the miser "
            "of notebook 06b."
        ),
        hints=(
            "torch.cdist(samples, samples) has a 0 in each row: the sample itself.",
            "radius = sorted distances at place k; then any(distance of a real point <= radius).",
        ),
        forbidden=("precision_recall", "_share_among"),
    ),
    "10.8": Exercise(
        test=own_guided_sampler,
        praise="Your guided sampler ends where the exact one does, to five digits.",
        hints=(
            "For each pair of neighbours in tau, from the last down: two guesses, mix, one step.",
            (
                "eps = eps_none + w (eps_y - eps_none); x_0_hat from Eq. 15; then "
                "sqrt(alpha_bar_prev) x_0_hat + sqrt(1 - alpha_bar_prev) eps."
            ),
        ),
        forbidden=("ddim", "guided", "composed"),
    ),
}
