r"""The forward process q, its posterior, the ways to name a prediction, and the terms of the bound.

Notation and equation numbers are those of Ho, Jain & Abbeel 2020 (arXiv 2006.11239).
Images are (B, C, H, W) in [-1, 1]; every function takes any (B, ...).
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from tutorial_lib import gaussian
from tutorial_lib.schedule import NoiseSchedule, check_name, same_t

TARGETS = ("eps", "x_0", "v", "mu")
LOSSES = ("l2", "l1", "huber")


def q_step(schedule: NoiseSchedule, x_prev: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    r"""One step of the forward process (Eq. 2).

    $x_t = \sqrt{1 - \beta_t}\, x_{t-1} + \sqrt{\beta_t}\, \epsilon_t$

    x_prev: (B, ...), the state at t - 1.  t: (B,) in 1..T.  eps: like x_prev, standard normal; the
    noise of this step alone.
    """
    _same_shape("x_prev", x_prev, "eps", eps)
    root_alpha = schedule.at(schedule.alpha.sqrt(), t, x_prev)  # (B, 1, ...)
    root_beta = schedule.at(schedule.beta.sqrt(), t, x_prev)
    return root_alpha * x_prev + root_beta * eps


def q_walk(schedule: NoiseSchedule, x_0: Tensor, *, generator: torch.Generator) -> Iterator[Tensor]:
    r"""The whole forward process, one step at a time: yields $x_1, \dots, x_T$ (Eq. 2).

    `q_sample` reaches any one of them in a single step; this is the long way, for proofs and
    pictures.
    """
    x = x_0
    for t in range(1, schedule.T + 1):
        eps_t = gaussian.noise_like(x, generator)
        x = q_step(schedule, x, same_t(t, len(x)), eps_t)
        yield x


def q_sample(schedule: NoiseSchedule, x_0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    r"""Jump from the data straight to step t of the forward process.

    $x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \epsilon$   (Eq. 4; notebook 02)

    x_0: (B, ...) data in [-1, 1].  t: (B,) integers in 1..T.  eps: like x_0, standard normal.
    Returns x_t, shaped like x_0.  Raises ValueError when t leaves 1..T or shapes disagree.
    """
    _same_shape("x_0", x_0, "eps", eps)
    signal, noise = schedule.signal_and_noise(t, like=x_0)  # (B, 1, ...) each
    return signal * x_0 + noise * eps


def q_posterior(
    schedule: NoiseSchedule, x_0: Tensor, x_t: Tensor, t: Tensor
) -> tuple[Tensor, Tensor]:
    r"""Mean and variance of $q(x_{t-1} | x_t, x_0)$: where x_t came from, given x_0 (Eq. 6, 7).

    $\tilde\mu_t = \frac{\sqrt{\bar\alpha_{t-1}} \beta_t}{1 - \bar\alpha_t} x_0
    + \frac{\sqrt{\alpha_t} (1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t} x_t$, with variance
    $\tilde\beta_t$.

    Returns mu_tilde (B, ...) and beta_tilde (B, 1, ...); at t = 1 they are x_0 and 0.
    """
    _same_shape("x_0", x_0, "x_t", x_t)
    of_x_0, of_x_t = schedule.mu_tilde_weights
    mu_tilde = schedule.at(of_x_0, t, x_t) * x_0 + schedule.at(of_x_t, t, x_t) * x_t
    return mu_tilde, schedule.at(schedule.beta_tilde, t, x_t)


def target_weights(schedule: NoiseSchedule, target: str) -> tuple[Tensor, Tensor]:
    r"""The tables a and b, (T + 1,) each, with which a target is made: a x_0 + b eps.

    eps: 0 and 1.
    x_0: 1 and 0.
    v: $-\sqrt{1 - \bar\alpha_t}$ and $\sqrt{\bar\alpha_t}$ (Salimans & Ho 2022).
    mu: the posterior mean (Eq. 7) with $\sqrt{\bar\alpha_t} x_0 + \sqrt{1 - \bar\alpha_t} \epsilon$
    in place of x_t.
    Raises ValueError for any other target.
    """
    signal, noise = schedule.alpha_bar.sqrt(), (1 - schedule.alpha_bar).sqrt()
    of_x_0, of_x_t = schedule.mu_tilde_weights
    if target == "eps":
        return torch.zeros_like(signal), torch.ones_like(signal)
    if target == "x_0":
        return torch.ones_like(signal), torch.zeros_like(signal)
    if target == "v":
        return -noise, signal
    check_name("target", target, TARGETS)
    return of_x_0 + of_x_t * signal, of_x_t * noise  # mu


def target_from(
    schedule: NoiseSchedule, target: str, x_0: Tensor, eps: Tensor, t: Tensor
) -> Tensor:
    r"""What a network that predicts `target` should return for the x_t that `q_sample` makes.

    target: one of TARGETS; each is a x_0 + b eps with the two weights of `target_weights`.
    x_0, eps: (B, ...).  t: (B,) in 1..T.  Returns a tensor like x_0.
    """
    a, b = target_weights(schedule, target)
    return schedule.at(a, t, x_0) * x_0 + schedule.at(b, t, x_0) * eps


def x_0_from(
    schedule: NoiseSchedule, target: str, output: Tensor, x_t: Tensor, t: Tensor
) -> Tensor:
    r"""The estimate of x_0 that a network's output implies, whichever target it predicts.

    Two equations, output = a x_0 + b eps and
    $x_t = \sqrt{\bar\alpha_t} x_0 + \sqrt{1 - \bar\alpha_t} \epsilon$, solved for x_0.
    From eps: $(x_t - \sqrt{1 - \bar\alpha_t} \epsilon) / \sqrt{\bar\alpha_t}$ (Eq. 15).
    From v: $\sqrt{\bar\alpha_t} x_t - \sqrt{1 - \bar\alpha_t} v$.
    output, x_t: (B, ...).  t: (B,) in 1..T.  Returns a tensor like x_t.
    Raises ValueError where eps says nothing about x_0, at $\bar\alpha_t = 0$.
    """
    _same_shape("output", output, "x_t", x_t)
    if target == "x_0":
        return output
    signal, noise = schedule.alpha_bar.sqrt(), (1 - schedule.alpha_bar).sqrt()
    a, b = target_weights(schedule, target)
    determinant = schedule.at(a * noise - b * signal, t, x_t)  # (B, 1, ...)
    if not determinant.all():
        raise ValueError(
            "alpha_bar is 0 at this step: x_t is pure noise and eps says nothing of x_0; "
            "predict v or x_0"
        )
    return (schedule.at(noise, t, x_t) * output - schedule.at(b, t, x_t) * x_t) / determinant


def eps_from(
    schedule: NoiseSchedule, target: str, output: Tensor, x_t: Tensor, t: Tensor
) -> Tensor:
    r"""The estimate of the noise that a network's output implies, whichever target it predicts.

    The same two equations as in `x_0_from`, solved for eps.
    From v: $\sqrt{1 - \bar\alpha_t} x_t + \sqrt{\bar\alpha_t} v$.
    From x_0: $(x_t - \sqrt{\bar\alpha_t} \hat x_0) / \sqrt{1 - \bar\alpha_t}$.
    """
    _same_shape("output", output, "x_t", x_t)
    if target == "eps":
        return output
    signal, noise = schedule.alpha_bar.sqrt(), (1 - schedule.alpha_bar).sqrt()
    a, b = target_weights(schedule, target)
    determinant = schedule.at(a * noise - b * signal, t, x_t)  # (B, 1, ...)
    return (schedule.at(a, t, x_t) * x_t - schedule.at(signal, t, x_t) * output) / determinant


def mu_from_eps(schedule: NoiseSchedule, eps: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    r"""The mean of the reverse step from predicted noise, without a detour over x_0 (Eq. 11).

    $\mu_\theta = \frac{1}{\sqrt{\alpha_t}} \left(x_t - \frac{\beta_t}{\sqrt{1 - \bar\alpha_t}}
    \epsilon_\theta\right)$

    Of the true noise it is the posterior mean (Eq. 9, 10; notebook 03).
    """
    _same_shape("x_t", x_t, "eps", eps)
    weight = schedule.at(schedule.beta / (1 - schedule.alpha_bar).sqrt(), t, x_t)  # (B, 1, ...)
    root_alpha = schedule.at(schedule.alpha.sqrt(), t, x_t)
    return (x_t - weight * eps) / root_alpha


def regression_loss(output: Tensor, target: Tensor, kind: str = "l2") -> Tensor:
    """The loss of each image, averaged over its pixels: "l2" (Eq. 14), "l1" or "huber".

    "huber" is quadratic below 1.
    output, target: (B, ...).  Returns (B,).
    """
    check_name("loss", kind, LOSSES)
    _same_shape("output", output, "target", target)
    pixelwise = {"l2": F.mse_loss, "l1": F.l1_loss, "huber": F.smooth_l1_loss}[kind]
    return pixelwise(output, target, reduction="none").flatten(1).mean(1)


def L_T(schedule: NoiseSchedule, x_0: Tensor) -> Tensor:
    r"""$KL(q(x_T | x_0) \| N(0, I))$ of each image, in nats (Eq. 5).

    It is what is left of the data at the end; there is nothing to train in it.  The average of
    L_T + L_{T-1} + ... + L_1 + L_0 over the forward process is the bound (Eq. 3; notebook 03).
    x_0: (B, ...).  Returns (B,).  Infinite KL is an error: see `NoiseSchedule`.
    """
    alpha_bar = schedule.alpha_bar[-1].to(x_0)
    q_variance, zero, one = 1 - alpha_bar, x_0.new_zeros(()), x_0.new_ones(())
    return gaussian.kl(alpha_bar.sqrt() * x_0, q_variance, zero, one).flatten(1).sum(1)


def L_t_minus_1(
    schedule: NoiseSchedule,
    x_0: Tensor,
    x_t: Tensor,
    t: Tensor,
    x_0_hat: Tensor,
    *,
    variance: str = "beta",
) -> Tensor:
    r"""$KL(q(x_{t-1} | x_t, x_0) \| p_\theta(x_{t-1} | x_t))$ of each image, in nats (Eq. 5, 8).

    For t >= 2.  For an x_0_hat that comes from predicted noise it is, up to a constant, a weighted
    squared error of that noise (Eq. 12).
    x_0_hat: the network's estimate of x_0.
    variance: which fixed $\sigma_t^2$ the reverse step has.
    Returns (B,).  Raises ValueError at t = 1, whose term is `L_0`.
    """
    if int(t.min()) < 2:
        raise ValueError(
            "L_{t-1} is defined for t = 2..T; the term at t = 1 is L_0, the discrete decoder"
        )
    mean_q, variance_q = q_posterior(schedule, x_0, x_t, t)
    mean_p, _ = q_posterior(schedule, x_0_hat, x_t, t)
    variance_p = schedule.at(schedule.reverse_variance(variance), t, x_t)
    return gaussian.kl(mean_q, variance_q, mean_p, variance_p).flatten(1).sum(1)


def L_0(schedule: NoiseSchedule, x_0: Tensor, x_0_hat: Tensor) -> Tensor:
    r"""$-\log p_\theta(x_0 | x_1)$ of each image under the discrete decoder, in nats (Eq. 13).

    A Gaussian with mean x_0_hat and variance beta_1, cut into the 256 buckets of width 2 / 255
    around the pixel values; the outermost reach to infinity.
    x_0: pixel values k / 127.5 - 1.  Returns (B,).
    """
    _same_shape("x_0", x_0, "x_0_hat", x_0_hat)
    sigma = math.sqrt(schedule.beta[1])
    lower, upper = (x_0 - 1 / 255 - x_0_hat) / sigma, (x_0 + 1 / 255 - x_0_hat) / sigma
    lower = torch.where(x_0 < -0.999, -torch.inf, lower)
    upper = torch.where(x_0 > 0.999, torch.inf, upper)
    return -_log_normal_mass(lower, upper).flatten(1).sum(1)


def _log_normal_mass(lower: Tensor, upper: Tensor) -> Tensor:
    """Log of the standard normal's mass from lower to upper, without cancellation in the tails."""
    lower, upper = torch.where(lower > 0, -upper, lower), torch.where(lower > 0, -lower, upper)
    log_upper, log_lower = torch.special.log_ndtr(upper), torch.special.log_ndtr(lower)
    return log_upper + torch.log1p(-(log_lower - log_upper).exp())


def _same_shape(name_a: str, a: Tensor, name_b: str, b: Tensor) -> None:
    if a.shape != b.shape:
        raise ValueError(
            f"{name_a} and {name_b} must have the same shape, "
            f"got {tuple(a.shape)} and {tuple(b.shape)}"
        )
