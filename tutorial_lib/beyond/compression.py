"""From probabilities to bytes: a coder, bits back, and what a picture looks like at each rate.

The coder is a range variant of asymmetric numeral systems (rANS; Duda 2013, arXiv 1311.2540) whose
state is one whole number of any length: what is pushed last is popped first, and a symbol of
probability p makes the number longer by log2(1 / p) bits.  (Notebook 08)
"""

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor

PRECISION = 16  # bits of a probability


def counts(p: Tensor) -> list[int]:
    """Probabilities (S,) as whole numbers that sum to 2^16, none of them 0.

    Raises ValueError for more symbols than there is room for.
    """
    room = (1 << PRECISION) - len(p)
    if room < 0:
        raise ValueError(f"{len(p)} symbols have no room in {1 << PRECISION}; use fewer")
    whole = (p.double() / p.double().sum() * room).floor().long() + 1
    whole[whole.argmax()] += (1 << PRECISION) - int(whole.sum())
    return whole.tolist()


def push(state: int, symbol: int, shares: Sequence[int]) -> int:
    """The state with one symbol more.  shares: of `counts`."""
    share, before = shares[symbol], sum(shares[:symbol])
    rounds, rest = divmod(state, share)
    return (rounds << PRECISION) + before + rest


def pop(state: int, shares: Sequence[int]) -> tuple[int, int]:
    """The state with one symbol less, and that symbol: `push` undone."""
    place = state & ((1 << PRECISION) - 1)
    ends = list(accumulate(shares))
    symbol = next(k for k, end in enumerate(ends) if place < end)
    before = ends[symbol] - shares[symbol]
    return shares[symbol] * (state >> PRECISION) + place - before, symbol


def to_bytes(state: int) -> bytes:
    """The message: all digits of the state."""
    return state.to_bytes((state.bit_length() + 7) // 8, "big")


def bits_back(
    state: int, x_0: int, forward: Sequence[Tensor], back: Sequence[Tensor], p_T: Tensor
) -> int:
    r"""Send a state of a finite chain by a model that knows only its steps back.

    First the path $x_1, \dots, x_T$ is *popped*, by the forward chain, from what was sent before:
    these bits are not lost, for the receiver pushes them again.  Then x_0 is pushed given x_1, x_1
    given x_2, and so on, and x_T by the prior.  The state grows by L on average, the bound.
    forward: T matrices (S, S), $q(x_t | x_{t-1})$ in rows.  back: as many, $p(x_{t-1} | x_t)$ in
    rows of x_t.  p_T: (S,).  (Townsend et al. 2019, arXiv 1901.04866)
    """
    path = [x_0]
    for q in forward:
        state, x = pop(state, counts(q[path[-1]]))
        path.append(x)
    for (before, after), p in zip(pairwise(path), back, strict=True):
        state = push(state, before, counts(p[after]))
    return push(state, path[-1], counts(p_T))


def bits_forth(
    state: int, forward: Sequence[Tensor], back: Sequence[Tensor], p_T: Tensor
) -> tuple[int, int]:
    """`bits_back` undone: the state as it was before, and x_0."""
    state, x = pop(state, counts(p_T))
    path = [x]
    for p in reversed(back):
        state, x = pop(state, counts(p[path[-1]]))
        path.append(x)
    for (after, before), q in zip(pairwise(path), reversed(forward), strict=True):
        state = push(state, after, counts(q[before]))
    return state, x


def rate_and_distortion(
    nats: Tensor, squared_error: Tensor, gamma: Tensor
) -> tuple[Tensor, Tensor]:
    r"""What has been sent when a noise level is reached, and how far off the estimate is by then.

    nats: (G,) the cost a unit of $\gamma$, a dimension, of `variational.diffusion_nats`.
    squared_error: (G,) of $\hat x_0$, a dimension, for data in [-1, 1].  gamma: (G,) rising.
    Returns the rate in bits a dimension, (G,), from 0 at the noisy end, by the trapezium rule; and
    the distortion in grey levels (root mean square), (G,).  (Ho et al. 2020, section 4.3)
    """
    pieces = (nats[1:] + nats[:-1]) / 2 * gamma.diff()  # (G - 1,)
    sent = pieces.flip(0).cumsum(0).flip(0)  # from the noisy end down to each level
    rate = torch.cat([sent, sent.new_zeros(1)]) / math.log(2)
    return rate, 127.5 * squared_error.sqrt()
