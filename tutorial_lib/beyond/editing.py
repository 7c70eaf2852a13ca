r"""One network, many uses: filling in, sharpening and changing pictures without training again.

Inpainting, super-resolution and editing start from a picture, or from a part of one.  What is
known enters the walk in one of three ways: its pixels replace the network's (`replaced`), its
likelihood guides (`observed`), or it is where the walk begins (`redrawn`, `edited`).
(Notebook 10)
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from tutorial_lib.beyond.guidance import of_score, slope
from tutorial_lib.beyond.inversion import encode
from tutorial_lib.denoise import Denoiser
from tutorial_lib.diffusion import q_sample
from tutorial_lib.gaussian import noise_like
from tutorial_lib.sample import Frame, ddim, ddpm, final
from tutorial_lib.schedule import NoiseSchedule, even_tau, same_t


def replaced(denoise: Denoiser, known: Tensor, mask: Tensor) -> Denoiser:
    r"""Put what is known into every estimate: $m\, x^{\text{known}} + (1 - m)\, \hat x_0$.

    In `sample.ddpm` the known pixels of x_t then are a walk of the forward process from the known
    ones, and the network sees them beside those that it makes up.
    known: like x_t, in [-1, 1]; anything where it is not known.
    mask: 1 where it is known and 0 elsewhere, of a shape that fits x_t.
    The pixels made up never look back at what is known: they fit it only in part.
    (Lugmayr et al. 2022, Eq. 8, there for the two parts of x_{t-1}; arXiv 2201.09865)
    """

    def denoise_known(x_t: Tensor, t: Tensor, **given: Tensor) -> Tensor:
        x_0_hat = denoise(x_t, t, **given)
        return mask * known + (1 - mask) * x_0_hat

    return denoise_known


@torch.no_grad()
def resampled(
    denoise: Denoiser,
    schedule: NoiseSchedule,
    x_T: Tensor,
    *,
    generator: torch.Generator,
    rounds: int,
    steps: int | None = None,
) -> Iterator[Frame]:
    r"""`sample.ddpm` that makes every step `rounds` times, with a step of noise in between.

    After a step back from t to t - 1 it adds the noise of one step forward, and goes back again: so
    what is made up and what is known (`replaced`) have time to agree.
    rounds: 1 is `sample.ddpm`.  Other arguments as there; as many calls as steps times rounds, less
    what the last step saves.
    Raises ValueError for rounds below 1.
    (RePaint; Lugmayr et al. 2022, Algorithm 1, with jumps of one step; arXiv 2201.09865)
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    tau = even_tau(schedule.T, steps).tolist()
    visited = schedule.strided(tau)
    of_x_0, of_x_t = (table.tolist() for table in visited.mu_tilde_weights)
    sigma = visited.beta_tilde.sqrt().tolist()
    keep, fresh = visited.alpha.sqrt().tolist(), visited.beta.sqrt().tolist()
    x = x_T
    yield Frame(schedule.T, x, torch.zeros_like(x))
    for i in range(visited.T, 0, -1):
        for again in range(rounds if i > 1 else 1):
            if again:
                x = keep[i] * x + fresh[i] * noise_like(x, generator)  # one step forward (Eq. 2)
            x_0_hat = denoise(x, same_t(tau[i], len(x)))
            x = of_x_0[i] * x_0_hat + of_x_t[i] * x
            if i > 1:
                x = x + sigma[i] * noise_like(x, generator)
        yield Frame(tau[i - 1], x, x_0_hat)


def observed(
    denoise: Denoiser,
    schedule: NoiseSchedule,
    look: Callable[[Tensor], Tensor],
    seen: Tensor,
    *,
    variance: Tensor,
    clip: bool,
) -> Denoiser:
    r"""Guidance by what was seen: Bayes' rule with $p(s | x_t) \approx N(A \hat x_0, r_t^2)$.

    $\hat x_0 + b_t \nabla_{x_t} \log N(s;\, A \hat x_0(x_t),\, r_t^2)$, with the factor $b_t$ of
    `guidance.of_score`; the slope goes through the network, and costs about twice its evaluation.
    denoise: its estimates not clipped, for the slope.
    look: A, from images like x_t to what one sees of them: some pixels, means of pixels.
    seen: s, what was seen of each image of the batch, like A x_t.
    variance: $r_t^2$, (T + 1,), of A x_0 given x_t, with that of the measurement; see `spread`.
    clip: clamp the guided estimate to [-1, 1].
    Exact where x_0 and x_t are Gaussian and `variance` is the true one, for one number seen.
    (Chung et al. 2023, arXiv 2209.14687, who scale the slope by hand; with this variance Song,
    Vahdat, Mardani & Kautz 2023)
    """

    def guide(x_t: Tensor, t: Tensor, **given: Tensor) -> Tensor:
        estimate: list[Tensor] = []

        def log_p(x: Tensor) -> Tensor:
            estimate.append(denoise(x, t, **given))
            gap = seen - look(estimate[0])
            return -(gap.square() / (2 * schedule.at(variance, t, gap))).sum()

        gradient = slope(log_p, x_t)
        x_0_hat = estimate[0].detach() + of_score(schedule, t, x_t) * gradient
        return x_0_hat.clamp(-1, 1) if clip else x_0_hat

    return guide


def spread(schedule: NoiseSchedule, V: float) -> Tensor:
    r"""The variance of x_0 given x_t, (T + 1,), for independent pixels of variance V.

    $r_t^2 = V (1 - \bar\alpha_t) / (\bar\alpha_t V + 1 - \bar\alpha_t)$: the product of two
    Gaussians, the data's and that of Eq. 4.  At t = 0 it is 0.
    """
    return V * (1 - schedule.alpha_bar) / (schedule.alpha_bar * V + 1 - schedule.alpha_bar)


def redrawn(
    denoise: Denoiser,
    schedule: NoiseSchedule,
    x_0: Tensor,
    t: int,
    *,
    generator: torch.Generator,
    steps: int | None = None,
) -> Iterator[Frame]:
    r"""SDEdit: noise a sketch to step t, and walk back from there (`sample.ddpm`).

    What is smaller than the noise at t is drawn anew, what is larger stays.
    x_0: (B, ...), the sketch.  steps: of the t steps that are left; all by default.
    (Meng et al. 2022, arXiv 2108.01073)
    """
    x_t = q_sample(schedule, x_0, same_t(t, len(x_0)), noise_like(x_0, generator))
    rest = schedule.strided(torch.arange(t + 1))  # its first t steps, as they are
    return ddpm(denoise, rest, x_t, generator=generator, steps=steps)


def edited(
    source: Denoiser,
    wanted: Denoiser,
    schedule: NoiseSchedule,
    x_0: Tensor,
    *,
    steps: int,
) -> Iterator[Frame]:
    """Walk from a picture to its noise by one denoiser, and back by another.

    Up by `inversion.encode`, down by `sample.ddim`, with the same steps.
    source: with the label that x_0 has, not clipped.  wanted: with the label that it should have.
    With the same one twice the picture comes back, up to the error of the steps.
    """
    x_T = final(encode(source, schedule, x_0, steps=steps))
    return ddim(wanted, schedule, x_T, steps=steps)
