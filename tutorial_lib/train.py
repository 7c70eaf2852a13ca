"""Algorithm 1, and what makes it quick and pleasant: steps from the middle, EMA, bfloat16,
resuming, processes.

`train` takes any network that maps (x_t, t) to a tensor like x_t, and is a generator: the caller
owns progress bars, pictures and stopping.  What step k draws (images, steps t, noise) depends on
the seed and on k alone, so a resumed run follows the uninterrupted one, and two processes draw what
one would.
"""

import copy
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tutorial_lib import checkpoint
from tutorial_lib.data import Images, batch
from tutorial_lib.diffusion import LOSSES, TARGETS, q_sample, regression_loss, target_from
from tutorial_lib.engine.muon import Muon
from tutorial_lib.schedule import NoiseSchedule, named

PRECISIONS = ("auto", "no", "bf16", "fp16")
OPTIMIZERS = ("muon", "adam")
T_SAMPLING = ("logit-normal", "uniform")
LEGAL = {
    "target": TARGETS,
    "loss": LOSSES,
    "precision": PRECISIONS,
    "optimizer": OPTIMIZERS,
    "t_sampling": T_SAMPLING,
}
SPREAD = 1.2  # of the normal behind logit-normal steps: the first and the last tenth of 1..T get 3.4 % each
FILE = "checkpoint.safetensors"


@dataclass(frozen=True)
class TrainConfig:
    """Everything that determines a training run, beside the network and the data.

    steps: optimiser steps.  batch: images a step, over all processes and accumulated pieces.
    optimizer: "muon" moves the weights of convolutions by Muon and all others by Adam, "adam" moves
    all by Adam.
    lr, lr_end: Adam's learning rate rises over `warmup` steps to lr and falls along half a cosine
    to lr_end.
    lr_muon: Muon's, which rises and falls with it.  momentum: Muon's.
    ema: decay of the averaged weights.  clip: largest norm of the gradient.  accumulation: pieces a
    batch is cut into, to save memory.  precision: "bf16", "fp16", "no", or "auto" (bf16 where the
    hardware has it).
    flip: mirror half of the images (wrong for shoes: notebook 05).  target: eps, x_0, v or mu.
    loss: l2, l1 or huber.  schedule, T: the noise schedule.  t_sampling: "logit-normal" draws steps
    t from the middle more often (Esser et al. 2024, arXiv 2403.03206), "uniform" all alike (worse
    pictures, better bound).
    report_every, save_every: in steps.
    Raises ValueError for anything out of range.
    """

    steps: int = 2000
    batch: int = 64
    optimizer: str = "muon"
    lr: float = 2e-3
    lr_muon: float = 0.015
    momentum: float = 0.9
    lr_end: float = 0.0
    warmup: int = 50
    ema: float = 0.998
    clip: float = 1.0
    accumulation: int = 1
    precision: str = "auto"
    flip: bool = False
    target: str = "v"
    loss: str = "l2"
    schedule: str = "cosine"
    T: int = 1000
    t_sampling: str = "logit-normal"
    seed: int = 0
    report_every: int = 10
    save_every: int = 500

    def __post_init__(self) -> None:
        for name in (
            "steps",
            "batch",
            "lr",
            "lr_muon",
            "clip",
            "accumulation",
            "report_every",
            "save_every",
        ):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not (0 <= self.ema < 1 and 0 <= self.momentum < 1):
            raise ValueError(
                f"ema and momentum must lie in [0, 1), got {self.ema} and {self.momentum}"
            )
        if self.warmup < 0 or self.lr_end < 0:
            raise ValueError(
                f"warmup and lr_end must not be negative, got {self.warmup} and {self.lr_end}"
            )
        if self.batch % self.accumulation:
            raise ValueError(
                f"batch {self.batch} cannot be cut into {self.accumulation} equal pieces"
            )
        for name, legal in LEGAL.items():
            if getattr(self, name) not in legal:
                raise ValueError(
                    f"unknown {name} {getattr(self, name)!r}; choose one of {', '.join(legal)}"
                )
        named(self.schedule, self.T)  # raises for an unknown schedule or T


@dataclass(frozen=True)
class Progress:
    """What `train` yields every `report_every` steps.

    losses: of each step since the last report.  ema_model: the averaged network, to sample from.
    config: with the number of steps that a time limit has come to.
    """

    step: int
    losses: list[float]
    lr: float
    images_per_second: float
    ema_model: nn.Module
    config: TrainConfig

    @property
    def loss(self) -> float:
        """The mean loss since the last report."""
        return sum(self.losses) / len(self.losses)


def train(
    model: nn.Module, images: Images, config: TrainConfig, out: Path | str | None = None,
    about: dict[str, Any] | None = None, resume: bool = False, minutes: float | None = None, device: str | None = None,
) -> Iterator[Progress]:  # fmt: skip
    """Train `model` in place by Algorithm 1, t as `t_sampling` says; yield a `Progress` every
    `report_every` steps.

    out: folder for the checkpoint (network, EMA, optimiser, configuration), written every
    `save_every` steps, at the end, and when the caller stops iterating.  about: what else its JSON
    should say ("model": ...).
    resume: go on from that checkpoint; the configuration must be the same, but for the number of
    steps.
    minutes: choose the number of steps so that the run takes about as long as this, whatever the
    caller does in between included; chosen from the speed so far and corrected on the way, so that
    lr_end is reached in time.
    device: "cpu" keeps off an accelerator; None takes the best there is.
    Raises ValueError when the loss stops being a number: the last good checkpoint stays.
    """
    accelerator = _accelerator(config, device)
    schedule = named(config.schedule, config.T)
    model.to(memory_format=torch.channels_last).train()
    ema_model = copy.deepcopy(model).requires_grad_(False).eval().to(accelerator.device)
    optimizers = _optimizers(model, config, accelerator.mixed_precision)
    network, optimizer = accelerator.prepare(model, _Together(*optimizers.values()))
    start = 0
    if resume:
        start = _restore(_required(out) / FILE, model, ema_model, optimizers, config, about or {})
    save = (
        partial(_save, out, model, ema_model, optimizers, about or {})
        if out and accelerator.is_main_process
        else None
    )
    losses: list[Tensor] = []
    started = began = time.perf_counter()
    seen = step = start
    try:
        while step < config.steps:
            step += 1
            lr = learning_rate(step, config)
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * lr / config.lr
            losses.append(
                _optimise(accelerator, network, optimizer, schedule, images, step, config)
            )
            update_ema(ema_model, model, step, config.ema)
            if minutes and (step - start) % MEASURED == 0:
                elapsed = torch.tensor(time.perf_counter() - started, device=accelerator.device)
                elapsed = float(
                    accelerator.reduce(elapsed, reduction="mean")
                )  # all processes agree
                config = _fit(config, step, step - start, elapsed, minutes)
            due = step == config.steps or step % config.save_every == 0
            if due or step % config.report_every == 0:
                values = _finite(torch.stack(losses).tolist(), step, out)
                losses.clear()
                if save and due:
                    save(step, config)
                rate = (step - seen) * config.batch / (time.perf_counter() - began)
                try:
                    yield Progress(step, values, lr, rate, ema_model, config)
                except GeneratorExit:  # the caller has had enough: leave everything ready to go on
                    if save:
                        save(step, config)
                    raise
                began, seen = time.perf_counter(), step
    finally:
        accelerator.unwrap_model(
            network, keep_fp32_wrapper=False
        )  # mixed precision had wrapped its forward


MEASURED = 20  # after so many steps, again and again, `minutes` are turned into a number of steps


def training_step(
    network: nn.Module,
    schedule: NoiseSchedule,
    x_0: Tensor,
    t: Tensor,
    eps: Tensor,
    config: TrainConfig,
) -> Tensor:
    r"""The loss of one batch (Algorithm 1, line 5; Eq. 14): noise the data, ask the network,
    compare.

    x_0: (B, C, H, W) in [-1, 1].  t: (B,) in 1..T.  eps: like x_0.  Returns the loss of each image,
    (B,).
    """
    x_t = q_sample(schedule, x_0, t, eps)
    target = target_from(schedule, config.target, x_0, eps, t)
    return regression_loss(network(x_t, t.to(x_t.device)).float(), target, config.loss)


def draw(images: Images, step: int, config: TrainConfig) -> tuple[Tensor, Tensor, Tensor]:
    """What training step number `step` sees: x_0, t and eps, the same on every machine and in every
    process.

    Images come in a new random order each epoch; t is uniform on 1..T (Algorithm 1, line 3), or
    logit-normal: T / (1 + exp(-z)), rounded up, where z is normal with standard deviation `SPREAD`;
    eps is standard normal.
    (Algorithm 1, lines 2 to 4; notebook 05)
    """
    generator = _generator(config.seed, step)
    positions = torch.arange(
        (step - 1) * config.batch, step * config.batch
    )  # counted over all epochs
    indices = torch.empty_like(positions)
    for epoch in (positions // len(images)).unique().tolist():
        here = positions // len(images) == epoch
        indices[here] = _order(len(images), epoch, config.seed)[positions[here] % len(images)]
    flip = torch.rand(config.batch, generator=generator) < 0.5 if config.flip else None
    x_0 = batch(images, indices, flip)
    if config.t_sampling == "uniform":
        t = torch.randint(1, config.T + 1, (config.batch,), generator=generator)
    else:
        way = (SPREAD * torch.randn(config.batch, generator=generator)).sigmoid()
        t = (config.T * way).ceil().long().clamp(1, config.T)
    return x_0, t, torch.randn(x_0.shape, generator=generator)


_orders: dict[tuple[int, int, int], Tensor] = {}


def _order(count: int, epoch: int, seed: int) -> Tensor:
    """The order of the images in one epoch; the latest two are kept."""
    key = (count, epoch, seed)
    if key not in _orders:
        while len(_orders) > 1:
            del _orders[next(iter(_orders))]
        _orders[key] = torch.randperm(count, generator=_generator(seed, -1 - epoch))
    return _orders[key]


def _generator(seed: int, k: int) -> torch.Generator:
    return torch.Generator().manual_seed(
        (seed * 1_000_003 + k) % 2**32
    )  # torch uses 32 bits of a seed


def _optimizers(
    model: nn.Module, config: TrainConfig, precision: str
) -> dict[str, torch.optim.Optimizer]:
    """Adam, and Muon for the weights of convolutions if there are any and the configuration wants
    it.
    """
    weights = [p for p in model.parameters() if p.ndim == 4 and config.optimizer == "muon"]
    others = [p for p in model.parameters() if p.ndim != 4 or config.optimizer != "muon"]
    made: dict[str, torch.optim.Optimizer] = {}
    if others:
        made["adam"] = torch.optim.Adam(
            [{"params": others, "initial_lr": config.lr}], betas=(0.9, 0.99), fused=True
        )
    if weights:
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        made["muon"] = Muon(
            [{"params": weights, "initial_lr": config.lr_muon}],
            config.lr_muon,
            config.momentum,
            dtype,
        )
    return made


class _Together(torch.optim.Optimizer):
    """Several optimisers as one, so that 16-bit gradients are scaled back, and found to be finite,
    once for all.
    """

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        super().__init__([group for part in parts for group in part.param_groups], {})
        self.parts = parts

    def step(self, closure: None = None) -> None:
        groups = iter(self.param_groups)  # copies by now: accelerate has loaded the state anew
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = next(groups)["lr"]
            part.step()


def _optimise(
    accelerator, network, optimizer, schedule, images: Images, step: int, config: TrainConfig
) -> Tensor:
    """One step of the optimiser: this process's share of the batch, piece by piece.  Returns the
    mean loss.
    """
    x_0, t, eps = (
        part[accelerator.process_index :: accelerator.num_processes]
        for part in draw(images, step, config)
    )
    total = torch.zeros((), device=accelerator.device)
    for piece in torch.arange(len(t)).chunk(config.accumulation):
        with accelerator.accumulate(network):
            noised = x_0[piece].to(accelerator.device), t[piece], eps[piece].to(accelerator.device)
            loss = training_step(network, schedule, *noised, config).mean()
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(network.parameters(), config.clip)
            optimizer.step()
            optimizer.zero_grad()
            total += loss.detach() / config.accumulation
    return accelerator.reduce(total, reduction="mean")


def update_ema(ema_model: nn.Module, model: nn.Module, step: int, decay: float) -> None:
    """Move the averaged parameters towards the present ones; buffers are copied.

    The decay warms up as (1 + step) / (10 + step), so that the average forgets its random start.
    """
    decay = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(
        list(ema_model.parameters()), [p.detach() for p in model.parameters()], 1 - decay
    )
    for averaged, present in zip(ema_model.buffers(), model.buffers(), strict=True):
        averaged.copy_(present)


def learning_rate(step: int, config: TrainConfig) -> float:
    """The learning rate of a step: a straight rise over the warm-up, then half a cosine from lr to
    lr_end.
    """
    if step <= config.warmup:
        return config.lr * step / config.warmup
    done = (step - config.warmup) / max(config.steps - config.warmup, 1)
    return config.lr_end + (config.lr - config.lr_end) * 0.5 * (1 + math.cos(math.pi * done))


def _fit(config: TrainConfig, step: int, done: int, seconds: float, minutes: float) -> TrainConfig:
    """As many steps as fit, if those that are left take as long as the `done` ones, which took
    `seconds` together.
    """
    left = round((60 * minutes - seconds) * done / seconds)
    return replace(config, steps=step + max(left, 0))


def _finite(values: list[float], step: int, out: Path | str | None) -> list[float]:
    bad = next((i for i, value in enumerate(values) if not math.isfinite(value)), None)
    if bad is not None:
        raise _diverged(f"the loss became {values[bad]}", step - len(values) + 1 + bad, out)
    return values


def _diverged(what: str, step: int, out: Path | str | None) -> ValueError:
    kept = (
        f"the last good checkpoint is kept in {out}; "
        if out and (Path(out) / FILE).exists()
        else ""
    )
    return ValueError(
        f"{what} at step {step}, so training stopped; {kept}try a lower lr, a lower clip or precision no"
    )


def _accelerator(config: TrainConfig, device: str | None):
    from accelerate import Accelerator  # over half a second to import, so only when somebody trains
    from accelerate.state import AcceleratorState

    if not torch.distributed.is_initialized():
        AcceleratorState._reset_state(reset_partial_state=True)  # a notebook trains more than once
    precision = _best_precision(device) if config.precision == "auto" else config.precision
    accelerator = Accelerator(
        mixed_precision=precision,
        gradient_accumulation_steps=config.accumulation,
        cpu=device == "cpu",
    )
    if config.batch % (accelerator.num_processes * config.accumulation):
        raise ValueError(
            f"batch {config.batch} cannot be shared by {accelerator.num_processes} processes "
            f"x {config.accumulation} accumulated pieces; choose a multiple"
        )
    return accelerator


def _best_precision(device: str | None) -> str:
    if device != "cpu" and torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    on_cpu = device == "cpu" or not torch.backends.mps.is_available()
    return "bf16" if on_cpu and torch.cpu._is_avx512_bf16_supported() else "no"


def _required(out: Path | str | None) -> Path:
    if out is None:
        raise ValueError("resume needs the folder of the earlier run: give out=...")
    return Path(out)


def _save(
    out, model, ema_model, optimizers, about: dict[str, Any], step: int, config: TrainConfig
) -> None:
    names = {parameter: name for name, parameter in model.named_parameters()}
    states = {
        f"{kind}.{names[parameter]}.{key}": torch.as_tensor(value)
        for kind, optimizer in optimizers.items()
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }
    tensors = checkpoint.prefixed("model", model.state_dict()) | checkpoint.prefixed(
        "ema", ema_model.state_dict()
    )
    if not all(
        tensor.isfinite().all() for tensor in tensors.values()
    ):  # the update after a last finite loss
        raise _diverged("the weights stopped being numbers", step, Path(out))
    checkpoint.save(
        Path(out) / FILE, tensors | states, about | {"train": asdict(config), "step": step}
    )


def _restore(
    path: Path, model, ema_model, optimizers, config: TrainConfig, about: dict[str, Any]
) -> int:
    tensors, configuration = checkpoint.load(path)
    then, now = dict(configuration.get("train", {})), asdict(config)
    for key in now.keys() - {"steps", "report_every", "save_every"}:
        if then.get(key) != now[key]:
            raise ValueError(
                f"{path} was trained with {key} = {then.get(key)}, not {now[key]}; resume with the same"
            )
    if configuration.get("model") != json.loads(
        json.dumps(about.get("model"))
    ):  # a tuple returns as a list
        raise ValueError(
            f"{path} holds weights of another network: {configuration.get('model')}, not {about.get('model')}"
        )
    model.load_state_dict(checkpoint.part(tensors, "model"))
    ema_model.load_state_dict(checkpoint.part(tensors, "ema"))
    for kind, optimizer in optimizers.items():
        states = checkpoint.part(tensors, kind)
        keys = sorted({name.rpartition(".")[2] for name in states})
        for name, p in model.named_parameters():
            if any(p is other for group in optimizer.param_groups for other in group["params"]):
                found = {key: states[f"{name}.{key}"] for key in keys}
                optimizer.state[p] = {  # in p's layout, but for a count of steps; all where p is
                    key: torch.empty_like(p).copy_(value) if value.ndim else value.to(p.device)
                    for key, value in found.items()
                }
    return configuration["step"]
