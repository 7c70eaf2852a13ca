"""The denoiser: from a noisy x_t and its step to x_0_hat, an estimate of the data behind it.

A network may predict noise, data, v or a mean, and has its own habits of clipping; a sampler, a
bound, guidance and inpainting only need x_0_hat.  `denoiser` converts the one into the other, in
one place, and everything downstream takes the function that it returns.  (Notebook 06)
"""

from collections.abc import Callable

from torch import Tensor

from tutorial_lib.diffusion import TARGETS, x_0_from
from tutorial_lib.schedule import NoiseSchedule, check_name

Network = Callable[..., Tensor]  # (x_t, t) -> its prediction, like x_t
Denoiser = Callable[..., Tensor]  # (x_t, t) -> x_0_hat, like x_t


def denoiser(
    network: Network,
    schedule: NoiseSchedule,
    *,
    target: str,
    clip: bool,
) -> Denoiser:
    r"""A function from (x_t, t) to $\hat x_0$: it calls the network and turns its output into data.

    network: maps (x_t, t) to its prediction of `target`: "eps", "x_0", "v" or "mu".
    clip: clamp every estimate to [-1, 1], where pixels live; wrong for data of another range.
    The function takes x_t (B, ...) and t (B,) in 1..T, and returns a tensor like x_t; further
    keywords, such as labels, are passed on to the network.
    Raises ValueError for an unknown target.
    """
    check_name("target", target, TARGETS)

    def denoise(x_t: Tensor, t: Tensor, **given: Tensor) -> Tensor:
        output = network(x_t, t.to(x_t.device), **given).to(x_t.dtype)
        x_0_hat = x_0_from(schedule, target, output, x_t, t)
        return x_0_hat.clamp(-1, 1) if clip else x_0_hat

    return denoise


def self_conditioned(denoise: Denoiser) -> Denoiser:
    """A denoiser that is shown its own last estimate, as `x_0_hat`, when it is called again.

    It remembers, so make one for each run of a sampler.  Its first call is without an estimate.  So
    is any call at a later step t than the one before, or with a batch of another shape: these start
    afresh.
    (Chen et al. 2022, arXiv 2208.04202; notebook 04b)
    """
    last_t: Tensor | None = None
    last_estimate: Tensor | None = None

    def remember(x_t: Tensor, t: Tensor) -> Tensor:
        nonlocal last_t, last_estimate
        new_walk = last_t is None or x_t.shape != last_estimate.shape or (t > last_t).any()
        given = {} if new_walk else {"x_0_hat": last_estimate}
        last_t, last_estimate = t, denoise(x_t, t, **given)
        return last_estimate

    return remember
