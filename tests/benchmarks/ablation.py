"""What does each ingredient of the training bring?  Leave one out, keep all others, measure again.

    python tests/benchmarks/ablation.py speed      seconds a step
    python tests/benchmarks/ablation.py quality    distance after equal time of training

The first row of each table is the recipe as it stands; every other row changes one thing in it.
"""

import copy
import json
import statistics
import sys
import time
from contextlib import nullcontext

import torch
from torch import nn
from torch.nn import functional as F

from tutorial_lib import blocks, data, evaluate, sample, train
from tutorial_lib.muon import Muon
from tutorial_lib.schedule import named
from tutorial_lib.unet import UNet, UNetConfig

SECONDS = 120  # of training, for each row of the table of quality
COUNT, STEPS = 2000, 25
RECIPE = "the recipe"

SPEED = {
    RECIPE: {},
    "float32 throughout": {"bf16": False},
    "PyTorch's default order of memory": {"layout": torch.contiguous_format},
    "fused attention": {"fused_attention": True},
    "no folding of pixels: a stem at 28 x 28": {"patch": 1},
    "Adam alone": {"muon": False},
    "Adam alone, not fused": {"muon": False, "fused": False},
    "torch.compile": {"compile": True},
}
QUALITY = {
    RECIPE: {},
    "Adam alone": {"optimizer": "adam"},
    "predicts eps": {"target": "eps"},
    "predicts x_0": {"target": "x_0"},
    "linear schedule": {"schedule": "linear"},
    "min-SNR weights": {"min_snr": 5.0},
    "batch 64": {"batch": 64},
    "constant learning rate": {"constant": True},
    "no averaged weights": {"averaged": False},
}


class _Fused(blocks.Attention):
    """The same attention through PyTorch's fused kernel."""

    def forward(self, x):
        q, k, v = blocks._heads(self.to_qkv(self.norm(x)), self.heads)
        attended = F.scaled_dot_product_attention(q, k, v)  # (B, h, H W, c)
        return x + self.out(attended.transpose(2, 3).flatten(1, 2).unflatten(2, x.shape[2:]))


def seconds_a_step(
    bf16: bool = True, layout: torch.memory_format = torch.channels_last, fused_attention: bool = False, patch: int = 2,
    muon: bool = True, fused: bool = True, compile: bool = False,
) -> dict[str, float]:  # fmt: skip
    """The median time of a training step on 128 random images, written out so that each part can be changed."""
    torch.manual_seed(0)
    model = UNet(UNetConfig(patch=patch))
    if fused_attention:
        model.attention.__class__ = _Fused
    model = model.to(memory_format=layout).train()
    weights = [p for p in model.parameters() if p.ndim == 4 and muon]
    others = [p for p in model.parameters() if not any(p is w for w in weights)]
    optimizers: list = [torch.optim.Adam(others, 2e-3, fused=fused, foreach=False)]
    if weights:
        optimizers.append(Muon(weights, 0.02, dtype=torch.bfloat16 if bf16 else torch.float32))
    averaged = copy.deepcopy(model).requires_grad_(False)
    network = torch.compile(model) if compile else model
    x, t, times = torch.randn(128, 1, 28, 28), torch.randint(1, 1001, (128,)), []
    for step in range(14):
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
            output = network(x, t)
        (output.float() - x).square().mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        train.update_ema(averaged, model, step, 0.998)
        times.append(time.perf_counter() - began)
    return {"seconds_a_step": statistics.median(times[4:]), "first_step": times[0]}


def quality(row: dict, seconds: float = SECONDS) -> dict[str, float]:
    """The distance after a training of that many seconds."""
    row, plain = dict(row), train.training_step
    averaged, constant, gamma = row.pop("averaged", True), row.pop("constant", False), row.pop("min_snr", None)
    config = train.TrainConfig(**row)
    if constant:
        config = train.TrainConfig(**row, lr_end=config.lr)

    def weighted(network, schedule, x_0, t, eps, config):
        """Hang et al. 2023 for v: min(SNR, gamma) / (SNR + 1), scaled to a mean of 1 over all t."""
        snr = schedule.snr[1:]
        weight = snr.clamp(max=gamma) / (snr + 1)
        return plain(network, schedule, x_0, t, eps, config) * (weight / weight.mean())[t - 1].float()

    torch.manual_seed(0)
    model = UNet(UNetConfig())
    train.training_step = weighted if gamma else plain
    try:
        for last in train.train(model, data.load("auto", "train"), config, minutes=seconds / 60, device="cpu"):
            pass
    finally:
        train.training_step = plain
    judged = last.ema_model if averaged else model.eval()
    tables, noise = named(config.schedule, config.T), sample.start(COUNT, (1, 28, 28), torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16, enabled=torch.cpu._is_avx512_bf16_supported()):
        pixels = [
            data.to_pixels(sample.final(sample.ddim(judged, tables, part, None, config.target, STEPS)))
            for part in noise.split(250)
        ]
    found = evaluate.report(torch.cat(pixels))
    return {"steps": last.step, **{key: found[key] for key in ("feature_distance", "interval", "floor")}}


if __name__ == "__main__":
    what, name = sys.argv[1:]
    print(json.dumps(seconds_a_step(**SPEED[name]) if what == "speed" else quality(QUALITY[name])))
