r"""Guidance: a walk that is drawn towards what was asked for, further than the data alone would go.

Functions from denoisers to denoisers, which every sampler takes.  They work on the estimate of
x_0; since that is an affine function of eps, v or the score at a given x_t, the same combination of
those would give the same walk.  What is guided is not clipped before, only after: a clipped
estimate would be moved from the wrong place.  (Notebook 10)
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tutorial_lib.data import NOBODY
from tutorial_lib.denoise import Denoiser
from tutorial_lib.schedule import NoiseSchedule

Pair = Callable[..., tuple[Tensor, Tensor]]  # (x_t, t) -> x_0_hat without and with the label


def guided(denoise: Denoiser, y: Tensor, w: float, *, clip: bool) -> Denoiser:
    r"""Classifier-free guidance: $\hat x_0 + w (\hat x_0(y) - \hat x_0)$ in place of $\hat x_0$.

    denoise: of a network that takes labels, and with some of them dropped in training; its
    estimates not clipped.
    y: (B,) the labels that are asked for, `data.NOBODY` for none.
    w: 0 ignores the labels, 1 is the plain conditional model, and more exaggerates what tells
    the label's images from all others.  (Ho & Salimans count from 1: their w is ours less 1.)
    clip: clamp the guided estimate to [-1, 1].
    Raises ValueError for a w that is no finite number.
    Costs two evaluations a step, made in one call of twice the batch; for w = 0 or 1 only one.
    (Ho & Salimans 2022, Eq. 6; arXiv 2207.12598)
    """
    check_w(w)
    both = pair(denoise, y)

    def guide(x_t: Tensor, t: Tensor, **given: Tensor) -> Tensor:
        if w in (0, 1):
            asked = y if w else torch.full_like(y, NOBODY)
            x_0_hat = denoise(x_t, t, y=asked, **given)
        else:
            without, with_label = both(x_t, t, **given)
            x_0_hat = without + w * (with_label - without)
        return x_0_hat.clamp(-1, 1) if clip else x_0_hat

    return guide


def pair(denoise: Denoiser, y: Tensor) -> Pair:
    """Both estimates of a network that takes labels: without one, and with the labels y, (B,).

    One call of twice the batch.
    """

    def both(x_t: Tensor, t: Tensor, **given: Tensor) -> tuple[Tensor, Tensor]:
        twice = {name: torch.cat([what, what]) for name, what in given.items()}
        both_y = torch.cat([torch.full_like(y, NOBODY), y])  # (2 B,)
        estimates = denoise(torch.cat([x_t, x_t]), torch.cat([t, t]), y=both_y, **twice)
        without, with_label = estimates.chunk(2)
        return without, with_label

    return both


def classifier_guided(
    denoise: Denoiser,
    schedule: NoiseSchedule,
    classifier: Callable[[Tensor, Tensor], Tensor],
    y: Tensor,
    w: float,
    *,
    clip: bool,
) -> Denoiser:
    r"""Guidance by a classifier's slope: $\hat x_0 + w\, b_t \nabla_{x_t} \log p(y | x_t)$.

    The factor $b_t = (1 - \bar\alpha_t) / \sqrt{\bar\alpha_t}$ is that of the score in $\hat x_0$
    (Tweedie's formula); in eps it is $-\sqrt{1 - \bar\alpha_t}$.
    denoise: its estimates not clipped.  It need not know labels: w = 1 then gives the conditional
    model, if both are perfect.
    classifier: (x_t, t) to logits (B, classes), trained on noisy images.
    y: (B,) the classes that are asked for.  clip: clamp the guided estimate to [-1, 1].
    Raises ValueError for a w that is no finite number.
    (Dhariwal & Nichol 2021, Algorithm 2; arXiv 2105.05233)
    """
    check_w(w)

    def guide(x_t: Tensor, t: Tensor, **given: Tensor) -> Tensor:
        def log_p(x: Tensor) -> Tensor:
            log_posterior = classifier(x, t).log_softmax(1)  # (B, classes)
            chosen = log_posterior.gather(1, y[:, None].to(x.device))  # (B, 1)
            return chosen.sum()

        x_0_hat = denoise(x_t, t, **given) + w * of_score(schedule, t, x_t) * slope(log_p, x_t)
        return x_0_hat.clamp(-1, 1) if clip else x_0_hat

    return guide


def of_score(schedule: NoiseSchedule, t: Tensor, like: Tensor) -> Tensor:
    r"""What a slope counts in $\hat x_0$, (B, 1, ...): $(1 - \bar\alpha_t) / \sqrt{\bar\alpha_t}$.

    From $\hat x_0 = (x_t + (1 - \bar\alpha_t) \nabla \log p(x_t)) / \sqrt{\bar\alpha_t}$.
    """
    return schedule.at((1 - schedule.alpha_bar) / schedule.alpha_bar.sqrt(), t, like)


def slope(log_p: Callable[[Tensor], Tensor], x_t: Tensor) -> Tensor:
    """The gradient at x_t of a function that returns one number; also inside a sampler."""
    with torch.enable_grad():  # samplers switch gradients off
        x = x_t.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(log_p(x), x)
    return gradient


def autoguided(strong: Denoiser, weak: Denoiser, w: float, *, clip: bool) -> Denoiser:
    r"""Away from a worse version of the same model: weak + w (strong - weak).

    What the two disagree about is taken for the mistakes of the weak one, and those of the strong
    one to be like them, only smaller.
    strong, weak: for the same labels, if any; their estimates not clipped.
    w: 0 is the weak one, 1 the strong one.
    Raises ValueError for a w that is no finite number.
    (Autoguidance; Karras, Aittala, Kynkäänniemi, Lehtinen, Aila & Laine 2024, arXiv 2406.02507)
    """
    check_w(w)

    def guide(x_t: Tensor, t: Tensor, **given: Tensor) -> Tensor:
        worse = weak(x_t, t, **given)
        x_0_hat = worse + w * (strong(x_t, t, **given) - worse)
        return x_0_hat.clamp(-1, 1) if clip else x_0_hat

    return guide


def composed(denoise: Denoiser, asked: Sequence[tuple[Tensor, float]], *, clip: bool) -> Denoiser:
    r"""Several conditions at once: $\hat x_0 + \sum_i w_i (\hat x_0(y_i) - \hat x_0)$.

    asked: labels (B,) and their weight, for each condition; a weight below 0 asks for its absence.
    Exact, for weights of 1, where the conditions are independent given x_t; else a guess.
    Raises ValueError without conditions, or for a weight that is no finite number.
    Costs one evaluation more than there are conditions, all in one call.
    (Liu et al. 2022, arXiv 2206.01714)
    """
    if not asked:
        raise ValueError("composed needs at least one condition, as in [(labels, weight)]")
    for _, w in asked:
        check_w(w)
    every_y = torch.cat([torch.full_like(asked[0][0], NOBODY), *(y for y, _ in asked)])

    def guide(x_t: Tensor, t: Tensor, **given: Tensor) -> Tensor:
        n = 1 + len(asked)
        copies = {name: torch.cat([what] * n) for name, what in given.items()}
        estimates = denoise(torch.cat([x_t] * n), torch.cat([t] * n), y=every_y, **copies)
        without, *with_labels = estimates.chunk(n)
        pulls = [w * (one - without) for one, (_, w) in zip(with_labels, asked, strict=True)]
        x_0_hat = without + sum(pulls)
        return x_0_hat.clamp(-1, 1) if clip else x_0_hat

    return guide


def check_w(w: float) -> None:
    """Raise ValueError unless w is a strength of guidance."""
    if not math.isfinite(w):
        raise ValueError(f"guidance w must be a finite number, got {w}; 1 is the plain model")
