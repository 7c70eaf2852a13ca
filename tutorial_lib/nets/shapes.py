"""What a network is made of: parameters, shapes and floating-point operations of its parts."""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(model: nn.Module) -> int:
    """The number of trainable numbers in a network."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


class Row(NamedTuple):
    """A line of `shape_table`: a part of a network, what it returns, and what that costs."""

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    flops: int


def shape_table(model: nn.Module, *inputs: Tensor) -> list[Row]:
    """What each part of a network returns for these inputs, in the order in which they are called.

    inputs: as the network takes them, (1, C, H, W) and (1,).  On the device "meta" nothing is
    computed, so even a large network is looked through at once.
    The parts are the network's children; lists of layers are opened.
    flops: floating-point operations of convolutions, linear layers and attention; an addition and a
    multiplication are two.
    """
    rows: list[Row] = []
    counter = FlopCounterMode(display=False)

    def note(name: str, part: nn.Module, _: Any, output: Tensor) -> None:
        kind = type(part).__name__
        shape = tuple(output.shape)
        flops = counter.get_total_flops() - sum(row.flops for row in rows)
        rows.append(Row(name, kind, shape, count_parameters(part), flops))

    handles = []
    for name, part in _parts(model):
        handles.append(part.register_forward_hook(partial(note, name)))
    try:
        with counter, torch.no_grad():
            model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return rows


def _parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleList):
            for i, part in enumerate(child):
                yield f"{name}.{i}", part
        else:
            yield name, child
