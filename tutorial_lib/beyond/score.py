r"""The score, $\nabla_x \log q(x)$: its place among the targets, and three ways to learn it.

The gradient of a log-density says in which direction data are denser.  It is another name for what
a denoiser knows (Tweedie's formula), and it can be learned from samples alone.  Each loss below is
one for `train.train`: it takes a network and what was drawn, and returns the loss of each item.
(Notebook 09)
"""

from collections.abc import Callable

import torch
from torch import Tensor

from tutorial_lib.schedule import NoiseSchedule

Score = Callable[..., Tensor]  # x (B, ...) -> its score, like x; or (x, sigma) -> the same


def score_from(schedule: NoiseSchedule, x_0_hat: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    r"""The score of the noised density $q(x_t)$ that an estimate of x_0 implies.

    $\nabla \log q(x_t) = \frac{\sqrt{\bar\alpha_t} \hat x_0 - x_t}{1 - \bar\alpha_t}
    = -\hat\epsilon / \sqrt{1 - \bar\alpha_t}$, exact for $\hat x_0 = E[x_0 | x_t]$.

    x_0_hat, x_t: (B, ...).  t: (B,) in 1..T.  Returns a tensor like x_t.
    (Tweedie's formula; Vincent 2011)
    """
    signal, noise = schedule.signal_and_noise(t, like=x_t)  # (B, 1, ...) each
    return (signal * x_0_hat - x_t) / noise**2


def x_0_from_score(schedule: NoiseSchedule, score: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    r"""The inverse of `score_from`: a step uphill leads to the mean of the data behind x_t.

    $\hat x_0 = (x_t + (1 - \bar\alpha_t) \nabla \log q(x_t)) / \sqrt{\bar\alpha_t}$

    score, x_t: (B, ...).  t: (B,) in 1..T.  Returns a tensor like x_t.
    """
    signal, noise = schedule.signal_and_noise(t, like=x_t)  # (B, 1, ...) each
    return (x_t + noise**2 * score) / signal


def explicit_loss(network: Score, x: Tensor, score: Tensor) -> Tensor:
    r"""Half the squared distance from the true score, which only toys can tell: (B,).

    $\frac12 \lVert s_\theta(x) - \nabla \log q(x) \rVert^2$

    x: (B, ...) drawn from q.  score: like x, the true one.
    """
    return _half_square(network(x) - score)


def implicit_loss(network: Score, x: Tensor) -> Tensor:
    r"""The same but for a constant, without the true score (Hyvärinen 2005): (B,).

    $\mathrm{tr}\, \nabla s_\theta(x) + \frac12 \lVert s_\theta(x) \rVert^2$

    The trace costs one backward pass for each of the D numbers of an item.
    x: (B, D) drawn from q.
    """
    x = x.detach().requires_grad_()
    score = network(x)
    trace = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for d in range(x.shape[1]):
        (slope,) = torch.autograd.grad(score[:, d].sum(), x, create_graph=True)  # (B, D)
        trace = trace + slope[:, d]
    return trace + _half_square(score)


def sliced_loss(network: Score, x: Tensor, v: Tensor) -> Tensor:
    r"""The implicit loss with one backward pass: the trace as seen along a random v (B,).

    $v^\top \nabla s_\theta(x)\, v + \frac12 \lVert s_\theta(x) \rVert^2$, whose mean over v is the
    implicit loss, since $E[v v^\top] = I$.

    x: (B, ...) drawn from q.  v: like x, standard normal.
    (Song, Garg, Shi & Ermon 2019)
    """
    x = x.detach().requires_grad_()
    score = network(x)
    (slope,) = torch.autograd.grad((score * v).sum(), x, create_graph=True)  # (B, ...)
    return (slope * v).flatten(1).sum(1) + _half_square(score)


def denoising_loss(network: Score, x_0: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    r"""Denoising score matching: the score of data blurred by sigma, from the noise that was added.

    $\frac{\sigma^2}{2} \lVert s_\theta(x_0 + \sigma \epsilon, \sigma) + \epsilon / \sigma \rVert^2$

    On average it is least at the score of the density of $x_0 + \sigma \epsilon$ (Vincent 2011).
    The factor $\sigma^2$ keeps it about equally large at all levels (Song & Ermon 2019, Eq. 5, 6).

    network: (x, sigma) -> the score, like x.  x_0: (B, ...).  sigma: (B,), positive.
    eps: like x_0, standard normal.  Returns (B,).
    """
    each = sigma.view(-1, *[1] * (x_0.ndim - 1))  # (B, 1, ...)
    x = x_0 + each * eps
    return _half_square(each * network(x, sigma) + eps)


def _half_square(x: Tensor) -> Tensor:
    """Half the squared length of each item, (B, ...) -> (B,)."""
    return x.square().flatten(1).sum(1) / 2
