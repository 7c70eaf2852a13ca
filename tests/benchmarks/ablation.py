"""What does each ingredient of the training bring?  Leave one out, keep all others, measure again.

    python tests/benchmarks/ablation.py speed
        seconds a step, all rows in turns
    python tests/benchmarks/ablation.py compiled
        the same with torch.compile, and how long that takes first
    python tests/benchmarks/ablation.py quality NAME [SECONDS SEED]
        distance after equal time of training

The first row of each table is the recipe as it stands; every other row changes one thing in it.
"""

import copy
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import replace

import torch
from common import BFLOAT16, DRAWN, drawn, median_seconds, process
from torch import nn
from torch.nn import functional as F

from tutorial_lib import data, evaluate, train
from tutorial_lib.beyond.likelihood import bits_per_dimension
from tutorial_lib.config import DiffusionConfig
from tutorial_lib.denoise import denoiser
from tutorial_lib.engine.optimisers import optimisers
from tutorial_lib.engine.rates import update_ema
from tutorial_lib.nets import blocks
from tutorial_lib.nets.unet import UNet, UNetConfig
from tutorial_lib.schedule import named

SECONDS = 90  # of training, for each row of the table of quality
LONGER, SEEDS = 300, (0, 1)  # the same for the rows `STEPS`, in turns
COUNT = 2000
ROUNDS = 3
RECIPE = "the recipe"

SPEED = {
    RECIPE: {},
    "float32 throughout": {"bf16": False},
    "PyTorch's default order of memory": {"layout": torch.contiguous_format},
    "fused attention": {"fused_attention": True},
    "no folding of pixels: a stem at 28 x 28": {"patch": 1},
    "Adam alone": {"optimizer": "adam"},
    "Adam alone, neither fused nor batched": {"optimizer": "adam", "fused": False},
}
QUALITY = {
    RECIPE: {},
    "Adam alone": {"optimizer": "adam"},
    "predicts eps": {"target": "eps"},
    "predicts x_0": {"target": "x_0"},
    "linear schedule": {"schedule": "linear"},
    "min-SNR weights": {"min_snr": 5.0},
    "float32 throughout": {"precision": "no"},
    "no folding of pixels: a stem at 28 x 28": {"patch": 1},
    "constant learning rate": {"constant": True},
    "batches of 128": {"batch": 128},
    "all steps alike (uniform t)": {"t_sampling": "uniform"},
    "no averaged weights": {"averaged": False},
}
STEPS = (RECIPE, "all steps alike (uniform t)")


class _Fused(blocks.Attention):
    """The same attention through PyTorch's fused kernel."""

    def forward(self, x):
        q, k, v = blocks._heads(self.to_qkv(self.norm(x)), self.heads)
        attended = F.scaled_dot_product_attention(q, k, v)  # (B, h, H W, c)
        return x + self.out(attended.transpose(2, 3).flatten(1, 2).unflatten(2, x.shape[2:]))


def training_step(
    bf16: bool = BFLOAT16,
    layout: torch.memory_format = torch.channels_last,
    fused_attention: bool = False,
    patch: int = 2,
    optimizer: str = "muon",
    fused: bool = True,
    compile: bool = False,
) -> Callable[[], None]:
    """A training step on a batch of random images, written out so that each part can be changed."""
    torch.manual_seed(0)
    model = UNet(UNetConfig(patch=patch))
    if fused_attention:
        model.attention.__class__ = _Fused
    model = model.to(memory_format=layout).train()
    averaged = copy.deepcopy(model).requires_grad_(False)
    config = DiffusionConfig()
    made = optimisers(
        model,
        muon=optimizer == "muon",
        lr=config.lr,
        lr_muon=config.lr_muon,
        momentum=config.momentum,
        dtype=torch.bfloat16 if bf16 else torch.float32,
    )
    optimizers = list(made.values())
    for one in optimizers:
        for group in one.param_groups:
            if "fused" in group:
                group["fused"] = group["foreach"] = fused
    network = torch.compile(model) if compile else model
    x, t = torch.randn(config.batch, 1, 28, 28), torch.randint(1, 1001, (config.batch,))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            output = network(x, t)
        (output.float() - x).square().mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for one in optimizers:
            one.step()
            one.zero_grad()
        update_ema(averaged, model, 1000, 0.998)

    return step


def speed() -> dict[str, float]:
    """Seconds a step of all rows, each in a process of its own, in turns.

    A row's median ratio to the recipe of its round, so that slow minutes of the machine do not
    count, times the recipe's median.
    """
    rounds = [{name: process("ablation.py", "step", name) for name in SPEED} for _ in range(ROUNDS)]
    recipe = statistics.median(times[RECIPE] for times in rounds)
    found = {}
    for name in SPEED:
        ratio = statistics.median(times[name] / times[RECIPE] for times in rounds)
        found[name] = recipe * ratio
    return found


def compiled() -> dict[str, float]:
    """Seconds a step with torch.compile and without, in turns; and of the first, which compiles."""
    # or else the first step is that of an earlier run
    torch.compiler.config.force_disable_caches = True
    plain, quick = training_step(), training_step(compile=True)
    first = median_seconds(quick, 1, uncounted=0)
    pairs = [[median_seconds(step, 3) for step in (plain, quick)] for _ in range(ROUNDS)]
    without, with_it = (statistics.median(times) for times in zip(*pairs, strict=True))
    return {"first_step": first, "seconds_a_step": with_it, "seconds_a_step_without": without}


def quality(row: dict, seconds: float = SECONDS, seed: int = 0) -> dict[str, float]:
    """Distance and bits per dimension after a training of that many seconds.

    Weights and draws begin with the seed.
    """
    row = dict(row)
    patch, averaged = row.pop("patch", 2), row.pop("averaged", True)
    constant, gamma = row.pop("constant", False), row.pop("min_snr", None)
    config = DiffusionConfig(**row, seed=seed)
    if constant:
        config = replace(config, lr_end=config.lr)

    schedule = named(config.schedule, config.T)
    draw, plain = train.algorithm_1(data.load("auto", "train"), config)

    def weighted(network, x_0, t, *others):
        """Hang et al. 2023 for v: min(SNR, gamma) / (SNR + 1), scaled to a mean of 1 over all t."""
        snr = schedule.snr[1:]
        weight = snr.clamp(max=gamma) / (snr + 1)
        weight = (weight / weight.mean())[t - 1].float()
        return plain(network, x_0, t, *others) * weight

    torch.manual_seed(seed)
    model, loss = UNet(UNetConfig(patch=patch)), weighted if gamma else plain
    for last in train.train(model, draw, loss, config, minutes=seconds / 60, device="cpu"):
        pass
    judged = last.ema_model if averaged else model.eval()
    found = evaluate.report(drawn(judged, schedule, config.target, COUNT))
    denoise = denoiser(judged, schedule, target=config.target, clip=True)
    generator = torch.Generator().manual_seed(0)
    pixels = data.load("auto", "test").pixels[:COUNT]
    found |= bits_per_dimension(denoise, schedule, pixels, generator=generator)
    said = ("feature_distance", "interval", "floor", "bpd", "error")
    return {"steps": last.step, "sampler": DRAWN, **{key: found[key] for key in said}}


def _step(name: str) -> float:
    return median_seconds(training_step(**SPEED[name]), 8, uncounted=2)


def _quality(name: str, seconds: str | float = SECONDS, seed: str | int = 0) -> dict[str, float]:
    return quality(QUALITY[name], float(seconds), int(seed))


WORK: dict[str, Callable] = {
    "speed": speed,
    "step": _step,
    "compiled": compiled,
    "quality": _quality,
}


if __name__ == "__main__":
    what, *names = sys.argv[1:]
    print(json.dumps(WORK[what](*names)))
