"""What step number k of a run sees depends on the seed and on k alone: so runs can be resumed."""

from functools import lru_cache

import torch
from torch import Tensor


def generator_of(seed: int, k: int) -> torch.Generator:
    """Randomness for step k of a run, the same on every machine; k may be negative."""
    return torch.Generator().manual_seed((seed * 1_000_003 + k) % 2**32)  # torch takes 32 bits


@lru_cache(maxsize=2)
def epoch_order(count: int, epoch: int, seed: int) -> Tensor:
    """The order of `count` items in one epoch, (count,) int64."""
    return torch.randperm(count, generator=generator_of(seed, -1 - epoch))


def indices_of(count: int, step: int, batch: int, seed: int) -> Tensor:
    """Which of `count` items step number `step` sees, (batch,): a new random order each epoch."""
    positions = torch.arange((step - 1) * batch, step * batch)  # counted over all epochs
    indices = torch.empty_like(positions)
    for epoch in (positions // count).unique().tolist():
        here = positions // count == epoch
        indices[here] = epoch_order(count, epoch, seed)[positions[here] % count]
    return indices
