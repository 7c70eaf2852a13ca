r"""Guidance with less harm: a part of the walk only, rescaled, or with a corrected start.

Strong guidance overshoots: contrast grows and variety falls.  Each function here changes one thing
about `guidance.guided`.  (Notebook 10)
"""

import torch
from torch import Tensor

from tutorial_lib.beyond.guidance import check_w, guided, pair
from tutorial_lib.denoise import Denoiser
from tutorial_lib.schedule import NoiseSchedule


def limited(inside: Denoiser, outside: Denoiser, t_from: int, t_to: int) -> Denoiser:
    """One denoiser for t_from <= t <= t_to, another for all other steps; see `guided_within`.

    Only the one that is asked is called, unless the steps of a batch lie on both sides.
    Raises ValueError unless t_from <= t_to.
    """
    if t_from > t_to:
        raise ValueError(f"an interval needs t_from <= t_to, got {t_from} and {t_to}")

    def denoise(x_t: Tensor, t: Tensor, **given: Tensor) -> Tensor:
        within = (t_from <= t) & (t <= t_to)  # (B,)
        if within.all():
            return inside(x_t, t, **given)
        if not within.any():
            return outside(x_t, t, **given)
        chosen = within.view(-1, *[1] * (x_t.ndim - 1)).to(x_t.device)  # (B, 1, ...)
        return torch.where(chosen, inside(x_t, t, **given), outside(x_t, t, **given))

    return denoise


def guided_within(
    denoise: Denoiser,
    y: Tensor,
    w: float,
    t_from: int,
    t_to: int,
    *,
    clip: bool,
) -> Denoiser:
    """`guidance.guided` for t_from <= t <= t_to, the plain conditional model at all other steps.

    In much noise guidance decides too much too early, in little noise it only adds contrast.
    denoise, y, w, clip: as for `guidance.guided`.  t_from, t_to: of 1..T, both inside.  Two
    evaluations a step inside, one outside.
    Raises ValueError unless t_from <= t_to, and for a w that is no finite number.
    (Kynkäänniemi et al. 2024, arXiv 2404.07724)
    """
    pushed, plain = (guided(denoise, y, strength, clip=clip) for strength in (w, 1.0))
    return limited(pushed, plain, t_from, t_to)


def rescaled(denoise: Denoiser, y: Tensor, w: float, *, share: float, clip: bool) -> Denoiser:
    r"""`guidance.guided`, brought back to the contrast of the plain conditional estimate.

    The guided estimate of each image is multiplied by $\sigma_y / \sigma_w$, the standard deviation
    of the pixels of $\hat x_0(y)$ over its own, and mixed with what it was.
    share: 0 leaves the guided estimate alone, 1 rescales it in full; they recommend 0.7.
    Raises ValueError for a share outside [0, 1], or a w that is no finite number.
    (Lin et al. 2023, section 3.4, there for what the network predicts; arXiv 2305.08891)
    """
    check_w(w)
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in [0, 1], from not at all to in full, got {share}")
    both = pair(denoise, y)

    def guide(x_t: Tensor, t: Tensor, **given: Tensor) -> Tensor:
        without, with_label = both(x_t, t, **given)
        x_0_hat = without + w * (with_label - without)
        ratio = _contrast(with_label) / _contrast(x_0_hat)  # (B, 1, ...)
        x_0_hat = share * ratio * x_0_hat + (1 - share) * x_0_hat
        return x_0_hat.clamp(-1, 1) if clip else x_0_hat

    return guide


def _contrast(x: Tensor) -> Tensor:
    """The standard deviation of the numbers of each image, (B, 1, ...)."""
    return x.flatten(1).std(1).view(-1, *[1] * (x.ndim - 1))


def zero_star(
    denoise: Denoiser,
    schedule: NoiseSchedule,
    y: Tensor,
    w: float,
    *,
    still: int,
    clip: bool,
) -> Denoiser:
    r"""CFG-Zero*: `guidance.guided` for velocities, the unlabelled one scaled to fit the other.

    With $a = \sqrt{\bar\alpha_t}$ and $b = \sqrt{1 - \bar\alpha_t}$, the state $x_t / (a + b)$ lies
    on the straight path from data to noise, on which a model predicts the velocity
    $u = \hat\epsilon - \hat x_0 = (x_t - (a + b) \hat x_0) / b$.  Of the two velocities, without
    and with the label, the guided one is $s u + w (u(y) - s u)$, where
    $s = \langle u(y), u \rangle / |u|^2$, of each image, makes $s u$ the nearest to $u(y)$.
    still: at t >= still the velocity is set to 0, so that the walk rests in its first steps; T + 1
    for nowhere.
    Raises ValueError for a w that is no finite number.
    (Fan et al. 2025, arXiv 2503.18886)
    """
    check_w(w)
    both = pair(denoise, y)

    def guide(x_t: Tensor, t: Tensor, **given: Tensor) -> Tensor:
        a, b = schedule.signal_and_noise(t, like=x_t)  # (B, 1, ...) each
        u, u_y = ((x_t - (a + b) * x_0_hat) / b for x_0_hat in both(x_t, t, **given))
        u = fitting(u, u_y) * u
        moves = schedule.at((torch.arange(schedule.T + 1) < still).double(), t, x_t)
        x_0_hat = (x_t - moves * b * (u + w * (u_y - u))) / (a + b)
        return x_0_hat.clamp(-1, 1) if clip else x_0_hat

    return guide


def fitting(u: Tensor, u_y: Tensor) -> Tensor:
    r"""The number by which each u has to be multiplied to be nearest to u_y, (B, 1, ...).

    $s = \langle u_y, u \rangle / |u|^2$  (Fan et al. 2025)
    """
    along = (u_y * u).flatten(1).sum(1) / u.square().flatten(1).sum(1)  # (B,)
    return along.view(-1, *[1] * (u.ndim - 1))
