"""What does a training step cost, and why?  Operations, bytes, time against image size and width.

    python tests/benchmarks/cost.py

A step is timed for several networks.  Two coefficients are fitted to them: time for each operation
(a step has three times those of the forward pass: two for the way back) and for each byte of the
activations that every layer writes and reads again.  They share the work between them, overheads
included, and are no speeds of the hardware; what the bare machine reaches in a large matrix product
and in copying stands beside them.  With the two in hand, the time of another network follows from
its table of shapes; larger networks that took no part in the fit are timed, too, as a check.
"""

import json
from dataclasses import dataclass

import numpy as np
import scipy.optimize
import torch
from common import BFLOAT16, median_seconds
from torch import nn

from tutorial_lib.nets import published
from tutorial_lib.nets.shapes import count_parameters, shape_table
from tutorial_lib.nets.unet import UNet, UNetConfig

PIXELS = 128 * 28 * 28  # of a batch, so that each of them fits into memory
GRID = [
    UNetConfig(),
    UNetConfig(widths=(32, 64)),
    UNetConfig(widths=(48, 96)),
    UNetConfig(widths=(96, 192)),
    UNetConfig(image_size=56, widths=(32, 64)),
    UNetConfig(image_size=56),
    UNetConfig(blocks=2),
]


@dataclass
class Cost:
    """Of one image in one training step: operations, bytes of activations moved, seconds taken."""

    name: str
    parameters: int
    flops: float
    bytes: float
    seconds: float = 0.0


def cost(name: str, model: nn.Module, size: int, channels: int = 1) -> Cost:
    """Counted without computing anything.

    Each part's output is written, read, and comes back as a gradient: 4 passes of 2 bytes
    (bfloat16) for each of about four layers inside a part.
    """
    with torch.device("meta"):
        x, t = torch.zeros(1, channels, size, size), torch.ones(1)
    rows = shape_table(model.to("meta"), x, t)
    moved = sum(int(np.prod(row.shape)) for row in rows) * 4 * 4 * 2
    return Cost(name, count_parameters(model), 3 * sum(row.flops for row in rows), moved)


def timed(
    model: nn.Module,
    size: int,
    channels: int = 1,
    batch: int | None = None,
    repeat: int = 6,
) -> float:
    """Seconds an image of a forward and backward pass, median; by default equal pixels a batch."""
    model = model.to(memory_format=torch.channels_last)
    batch = batch or max(1, PIXELS // size**2)
    x, t = torch.randn(batch, channels, size, size), torch.full((batch,), 500)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=BFLOAT16):
            loss = (model(x, t).float() - x).square().mean()
        loss.backward()

    return median_seconds(step, repeat, uncounted=repeat // 3) / batch


def limits() -> dict[str, float]:
    """The machine at best: products of 2048 x 2048 matrices, both precisions; a copy of 256 MB."""
    found = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a = torch.randn(2048, 2048).to(dtype)
        seconds = median_seconds(lambda a=a: a @ a)
        found[f"matrix product, {name}, GFLOP/s"] = 2 * 2048**3 / seconds / 1e9
    # written to, so that the memory is really there
    source, target = torch.ones(64 * 2**20), torch.ones(64 * 2**20)
    seconds = median_seconds(lambda: target.copy_(source))
    found["copy, GB/s"] = 2 * source.numel() * 4 / seconds / 1e9
    return found


def fit(costs: list[Cost]) -> tuple[float, float]:
    """Seconds a FLOP and seconds a byte that explain the measured times best, in relative terms."""
    table = np.array([[c.flops / c.seconds, c.bytes / c.seconds] for c in costs])
    # neither can be negative
    (per_flop, per_byte), _ = scipy.optimize.nnls(table, np.ones(len(costs)))
    return float(per_flop), float(per_byte)


def held_out(costs: list[Cost]) -> float:
    """The largest relative error with which the others predict the time of one, over all."""
    errors = []
    for c in costs:
        per_flop, per_byte = fit([other for other in costs if other is not c])
        errors.append(abs(per_flop * c.flops + per_byte * c.bytes - c.seconds) / c.seconds)
    return max(errors)


def main() -> dict:
    costs = []
    for config in GRID:
        size = f"{config.image_size} x {config.image_size}"
        label = f"{size}, widths {config.widths}, blocks {config.blocks}"
        costs.append(cost(label, UNet(config), config.image_size))
        costs[-1].seconds = timed(UNet(config), config.image_size)
    per_flop, per_byte = fit(costs)
    others, wide = [], UNetConfig(image_size=64, widths=(64, 128, 256))
    for name, build, size, channels, batch in (
        ("64 x 64, widths (64, 128, 256)", lambda: UNet(wide), 64, 1, 24),
        ("the paper's for 32 x 32", lambda: published.paper_unet(32), 32, 3, 16),
        ("the same on 256 x 256", lambda: published.paper_unet(256), 256, 3, 1),
    ):
        others.append(cost(f"{name} (took no part in the fit)", build(), size, channels))
        others[-1].seconds = timed(build(), size, channels, batch, repeat=3 if size < 256 else 1)
    table = []
    for c in (*costs, *others):
        table.append(vars(c) | {"model_seconds": per_flop * c.flops + per_byte * c.bytes})
    fitted = {
        "fitted coefficient, ps a FLOP": 1e12 * per_flop,
        "fitted coefficient, ps a byte": 1e12 * per_byte,
    }
    error = {"largest error for a network left out of the fit, %": 100 * held_out(costs)}
    return limits() | fitted | error | {"table": table}


if __name__ == "__main__":
    print(json.dumps(main()))
