r"""Annealed Langevin dynamics: uphill with noise, on a density that is blurred less and less.

Plain Langevin (`markov.langevin`) needs nothing but the score, and hardly ever crosses from one
bump of a density to the next.  Blurred enough, the bumps are one; so begin there.  (Notebook 09)
"""

from collections.abc import Iterator
from functools import partial
from itertools import islice

import torch
from torch import Tensor

from tutorial_lib import markov
from tutorial_lib.beyond.score import Score
from tutorial_lib.denoise import Denoiser
from tutorial_lib.sample import Frame


def geometric(largest: float, smallest: float, count: int) -> Tensor:
    """Levels of noise that fall by the same factor each time, (count,) in float64.

    Raises ValueError unless largest > smallest > 0 and count is at least 2.
    """
    if not largest > smallest > 0 or count < 2:
        got = f"{largest:g}, {smallest:g} and {count}"
        raise ValueError(f"levels fall from largest to smallest > 0, at least two; got {got}")
    exponent = torch.linspace(0, 1, count, dtype=torch.float64)
    return largest * (smallest / largest) ** exponent


@torch.no_grad()
def annealed(
    score: Score,
    x: Tensor,
    sigmas: Tensor,
    *,
    steps: int,
    step_size: float,
    generator: torch.Generator,
) -> Iterator[Frame]:
    r"""Some steps of Langevin at each level of noise, from the largest to the smallest.

    At level $\sigma_i$: $x \leftarrow x + \frac{h_i}{2} s(x, \sigma_i) + \sqrt{h_i} z$ with
    $h_i = \eta\, \sigma_i^2$.  (Song & Ermon 2019, Algorithm 1, where
    $\eta = \epsilon / \sigma_L^2$)

    score: (x, sigma) -> the score of the data blurred by sigma, like x; sigma: (B,).
    x: (B, ...), where the walk begins, such as $\sigma_1$ times standard normal noise.
    sigmas: (L,) falling.  steps: at each level.
    step_size: $\eta$, below 1 for a walk that shrinks its errors steadily; at 4 it breaks.
    Yields a frame after each level, t from L - 1 down to 0; its x_0_hat is $x + \sigma_i^2 s$, the
    mean of the data behind x: the last one is what to show, for x itself still has noise in it.
    Raises ValueError, at the first frame, for levels that do not fall or for steps below 1.
    """
    falling = bool((sigmas[1:] < sigmas[:-1]).all() and sigmas[-1] > 0)
    if not falling or steps < 1:
        raise ValueError(
            f"sigmas must fall and stay positive, and steps be at least 1, got {steps} steps at "
            f"{[round(float(sigma), 3) for sigma in sigmas[:5]]}...; use geometric(...)"
        )
    for i, sigma in enumerate(sigmas.tolist()):
        level = torch.full((len(x),), sigma, dtype=x.dtype, device=x.device)
        here = partial(_at, score, level)
        walk = markov.langevin(here, x, step_size * sigma**2, generator)
        *_, x = islice(walk, steps)
        yield Frame(len(sigmas) - 1 - i, x, x + sigma**2 * here(x))


def _at(score: Score, sigma: Tensor, x: Tensor) -> Tensor:
    return score(x, sigma)


def score_of(denoise: Denoiser) -> Score:
    r"""The score of data blurred by sigma, $(D(x, \sigma) - x) / \sigma^2$.

    denoise: (x, sigma) -> x_0_hat for $x = x_0 + \sigma \epsilon$; sigma: (B,).
    (Karras et al. 2022, Eq. 3)
    """

    def score(x: Tensor, sigma: Tensor) -> Tensor:
        variance = sigma.view(-1, *[1] * (x.ndim - 1)) ** 2  # (B, 1, ...)
        return (denoise(x, sigma) - x) / variance

    return score
