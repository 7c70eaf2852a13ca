r"""Flow matching: learn the velocity along straight lines between data and noise.

Time runs as everywhere here, from data at t = 0 to noise at t = 1 (Lipman et al. 2023 and others
count the other way round).  A network of this module maps x and t, a float tensor (B,) in [0, 1],
to a velocity like x.  (Notebook 09)
"""

import numpy as np
import torch
from torch import Tensor

from tutorial_lib.denoise import Denoiser, Network
from tutorial_lib.schedule import NoiseSchedule, from_betas


def between(x_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    r"""The point at time t on the straight line from data to noise, $(1 - t) x_0 + t \epsilon$.

    x_0, eps: (B, ...).  t: (B,) in [0, 1].  Returns a tensor like x_0.
    """
    t = t.view(-1, *[1] * (x_0.ndim - 1))  # (B, 1, ...)
    return (1 - t) * x_0 + t * eps


def flow_loss(network: Network, x_0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    r"""Conditional flow matching: the velocity of each line, $\epsilon - x_0$, guessed from x (B,).

    $\lVert u_\theta(x_t, t) - (\epsilon - x_0) \rVert^2$, averaged over the numbers of an item.
    Its minimum is the mean velocity $E[\epsilon - x_0 | x_t]$ of all lines through x_t, which
    carries the noise to the data.  (Lipman et al. 2023; Liu, Gong & Liu 2023)
    x_0, eps: (B, ...).  t: (B,) in [0, 1].
    """
    x = between(x_0, eps, t)
    error = network(x, t) - (eps - x_0)
    return error.square().flatten(1).mean(1)


def ends_of(x: Tensor, u: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    r"""Both ends of the line through x with the velocity u: x_0_hat and eps_hat.

    $\hat x_0 = x - t u$, $\hat\epsilon = x + (1 - t) u$.
    x, u: (B, ...).  t: (B,) in [0, 1].
    """
    t = t.view(-1, *[1] * (x.ndim - 1))  # (B, 1, ...)
    return x - t * u, x + (1 - t) * u


def as_schedule(T: int = 1000) -> NoiseSchedule:
    r"""The noise schedule that the straight lines are, once rescaled to unit variance.

    $\bar\alpha_k = (1 - t)^2 / ((1 - t)^2 + t^2)$ at $t = k / T$; at T nothing of the data is left.
    """
    t = torch.linspace(0, 1, T + 1, dtype=torch.float64)
    alpha_bar = (1 - t) ** 2 / ((1 - t) ** 2 + t**2)
    return from_betas(1 - alpha_bar[1:] / alpha_bar[:-1])


def as_denoiser(network: Network, T: int = 1000, *, clip: bool) -> Denoiser:
    r"""A flow network as a denoiser for `as_schedule`, which every sampler takes.

    $x = x_t \sqrt{(1 - t)^2 + t^2}$ is the point on the line, and $\hat x_0 = x - t u$.
    network: (x, t) -> the velocity u, like x; t: (B,) in [0, 1].  T: the steps of the schedule.
    clip: clamp every estimate to [-1, 1], where pixels live.
    The function takes x_t (B, ...) and steps (B,) in 1..T, and returns a tensor like x_t.
    """

    def denoise(x_t: Tensor, t: Tensor, **given: Tensor) -> Tensor:
        time = (t / T).to(x_t)  # (B,)
        length = ((1 - time) ** 2 + time**2).sqrt().view(-1, *[1] * (x_t.ndim - 1))
        x = length * x_t
        x_0_hat, _ = ends_of(x, network(x, time, **given).to(x.dtype), time)
        return x_0_hat.clamp(-1, 1) if clip else x_0_hat

    return denoise


def optimal_pairs(x_0: Tensor, eps: Tensor) -> Tensor:
    r"""Which noise belongs to which data point, if the squared distances shall add up to the least.

    Mini-batch optimal transport: lines between such pairs cross less (Tong et al. 2024).
    Found by shortest augmenting paths (Jonker & Volgenant 1987).
    x_0, eps: (B, ...).  Returns (B,) indices: the partner of x_0[i] is eps[indices[i]].
    Time grows with the cube of B: about a tenth of a second for 64, some seconds for 256.
    Raises ValueError when the two shapes disagree.
    """
    if x_0.shape != eps.shape:
        raise ValueError(
            "data and noise are paired one to one and must have the same shape, "
            f"got {tuple(x_0.shape)} and {tuple(eps.shape)}"
        )
    cost = torch.cdist(x_0.flatten(1).double(), eps.flatten(1).double()).square()  # (B, B)
    return torch.from_numpy(_assignment(cost.cpu().numpy()))


def _assignment(cost: np.ndarray) -> np.ndarray:
    """The column of each row, so that the costs chosen add up to the least; cost: (B, B).

    Row after row takes the column that is cheapest for it at today's prices, and whoever is driven
    out moves on.
    """
    count = len(cost)
    start = count  # a column beside the others, where each new row waits
    row_of = np.full(count + 1, -1)  # of each column
    of_row, price = np.zeros(count), np.zeros(count + 1)
    for row in range(count):
        row_of[start], column = row, start
        far, before = np.full(count, np.inf), np.full(count, start)
        done = np.zeros(count + 1, dtype=bool)
        while row_of[column] >= 0:  # until a column is reached that nobody has
            done[column] = True
            i = row_of[column]
            reduced = cost[i] - of_row[i] - price[:count]
            shorter = ~done[:count] & (reduced < far)
            far[shorter], before[shorter] = reduced[shorter], column
            column = int(np.where(done[:count], np.inf, far).argmin())
            step = far[column]
            of_row[row_of[done]] += step
            price[done] -= step
            far[~done[:count]] -= step
        while column != start:  # back along the path: each column passes to the one before
            row_of[column] = row_of[before[column]]
            column = before[column]
    return row_of[:count].argsort()
