r"""Pictures as noise: the deterministic walk run backwards, and paths between two noises.

Where no step adds noise, `sample.ddim` solves an ordinary differential equation, and such an
equation can be followed in both directions.  Upwards, from data, it gives each picture a noise of
its own, from which the usual walk leads back to it.  (Notebook 07)
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from tutorial_lib.denoise import Denoiser
from tutorial_lib.sample import Frame
from tutorial_lib.schedule import NoiseSchedule, even_tau, same_t


@torch.no_grad()
def encode(
    denoise: Denoiser,
    schedule: NoiseSchedule,
    x_0: Tensor,
    *,
    steps: int | Tensor | None = None,
) -> Iterator[Frame]:
    r"""`sample.ddim` upwards: yields x_0 and then each x_t up to the noise x_T.

    $x' = \sqrt{\bar\alpha'} \hat x_0 + \sqrt{1 - \bar\alpha'} \hat\epsilon$, where the dash marks
    the noisier end of the step and both estimates are made at the quieter one, where the walk
    stands.  The way down makes them at the noisier end: so it returns only nearly, and the nearer,
    the smaller the steps.  (Song, Meng & Ermon 2021, section 4.3, Eq. 14)

    denoise: maps (x_t, t) to $\hat x_0$, without clipping: what is cut off does not come back.
    x_0: (B, ...) data.
    steps: as for `sample.ddim`, which with the same steps is the way back.
    Raises ValueError, when the first frame is asked for, for a number of steps outside 1..T,
    or steps that do not rise from 0 to at most T.
    """
    tau = steps if isinstance(steps, Tensor) else even_tau(schedule.T, steps)
    schedule.check_tau(tau)
    tau = tau.tolist()
    alpha_bar = schedule.alpha_bar[tau]
    signal, noise = alpha_bar.sqrt().tolist(), (1 - alpha_bar).sqrt().tolist()
    x = x_0
    yield Frame(tau[0], x, x_0)
    for i in range(len(tau) - 1):
        x_0_hat = x  # data are their own estimate,
        eps_hat = torch.zeros_like(x)  # and have no noise in them
        if i > 0:
            x_0_hat = denoise(x, same_t(tau[i], len(x)))
            eps_hat = (x - signal[i] * x_0_hat) / noise[i]
        x = signal[i + 1] * x_0_hat + noise[i + 1] * eps_hat
        yield Frame(tau[i + 1], x, x_0_hat)


def slerp(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    r"""Spherical interpolation, from a to b along the great circle through both.

    $\frac{\sin((1 - s) \theta)}{\sin \theta} a + \frac{\sin(s \theta)}{\sin \theta} b$ with
    $\theta$ the angle between a and b.  Of two noises it is a noise: its length is theirs, where
    that of a mixture in a straight line is less.

    a, b: (...), one item each.  share: (N,) of the way, 0 at a and 1 at b.  Returns (N, ...).
    Raises ValueError when shapes differ, or where a and b point in opposite directions (or are
    nothing), between which no way is the shortest.
    (Shoemake 1985)
    """
    if a.shape != b.shape:
        raise ValueError(f"a and b must agree in shape, got {tuple(a.shape)} and {tuple(b.shape)}")
    cosine = (a * b).sum() / (a.norm() * b.norm())
    if not cosine > -1 + 1e-6:
        raise ValueError(
            f"the cosine of the angle between a and b is {float(cosine):.6f}: they are opposite, "
            "or one of them is zero; take two noises of their own"
        )
    theta = cosine.clamp(max=1).acos()
    share = share.to(a).view(-1, *[1] * a.ndim)  # (N, 1, ...)
    if theta < 1e-4:  # so near to each other that circle and straight line are the same
        return (1 - share) * a + share * b
    return (((1 - share) * theta).sin() * a + (share * theta).sin() * b) / theta.sin()
