"""Training: one loop for every model of the series, and the two halves of Algorithm 1 for it.

`train` takes what a step draws and what it costs, and is a generator: the caller owns progress
bars, pictures and stopping.  What step k draws depends on the seed and on k alone, so a resumed run
follows the uninterrupted one, and two processes draw what one would.  (Notebook 05)
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tutorial_lib.checkpoint import FILE
from tutorial_lib.config import EARLIER, DiffusionConfig, TrainConfig
from tutorial_lib.data import Images, batch
from tutorial_lib.denoise import denoiser
from tutorial_lib.diffusion import q_sample, regression_loss, target_from
from tutorial_lib.engine import order
from tutorial_lib.engine.budget import steps_that_fit
from tutorial_lib.engine.run import Run
from tutorial_lib.schedule import NoiseSchedule, named

SPREAD = 1.2  # of the normal behind logit-normal steps: each end tenth of 1..T gets 3.4 %
MEASURED = 20  # after so many steps, again and again, minutes are turned into a number of steps
FREE = ("steps", "report_every", "save_every")  # may differ when a run is resumed


@dataclass(frozen=True)
class Progress:
    """What `train` yields every `report_every` steps.

    by_step: the loss of each step since the last report, one for each of `parts`.
    parts: the parts of the network that have a loss of their own; "" is the whole.
    losses, loss: the same summed over the parts, and its mean.
    ema_model: the averaged network, to sample from.
    config: with the number of steps that a time limit has come to.
    """

    step: int
    by_step: list[list[float]]
    parts: tuple[str, ...]
    lr: float
    images_per_second: float
    ema_model: nn.Module
    config: TrainConfig

    @property
    def losses(self) -> list[float]:
        """The loss of each step since the last report."""
        return [sum(of_step) for of_step in self.by_step]

    @property
    def loss(self) -> float:
        """The mean loss since the last report."""
        return sum(self.losses) / len(self.losses)


Draw = Callable[[int], Sequence[Tensor]]  # number of a step, from 1 -> tensors, each (batch, ...)
Loss = Callable[..., Tensor]  # (network, *what was drawn) -> the loss of each item, (B,)


def train(
    network: nn.Module,
    draw: Draw,
    loss: Loss | dict[str, Loss],
    config: TrainConfig,
    *,
    out: Path | str | None = None,
    about: dict[str, Any] | None = None,
    resume: bool = False,
    minutes: float | None = None,
    device: str | None = None,
) -> Iterator[Progress]:
    """Train a network in place; yield a `Progress` every `report_every` steps.

    draw: what step number k sees, on the CPU; each process and each piece gets its share.
    loss: what that costs.  It calls the network itself: mixed precision and several processes are
    around its `forward`, and not around its children's.  Or for parts of the network, by the names
    of its children, a loss each, in the order in which they take their turns, each with an
    optimiser that moves that part alone (in one process, and in full precision).
    out: folder for the checkpoint (network, EMA, optimisers, configuration), written every
    `save_every` steps, at the end, and when the caller stops iterating.
    about: what else its JSON should say; "model" is compared when a run is resumed.
    resume: go on from that checkpoint; the configuration must be the same, but for the steps.
    minutes: choose the number of steps so that the run takes about as long, whatever the caller
    does in between included; chosen from the speed so far and corrected on the way, so that lr_end
    is reached in time.
    device: "cpu" keeps off an accelerator; None takes the best there is.
    Raises ValueError when the loss stops being a number: the last good checkpoint stays.
    """
    losses_of = loss if isinstance(loss, dict) else {"": loss}
    machinery, path, about = config.machinery(), _file(out, resume), about or {}
    run = Run(network, losses_of, device=device, **machinery)
    save = partial(_save, run, path, about) if out and run.accelerator.is_main_process else None
    step = first = 0
    losses: list[Tensor] = []  # of each step since the last report, (parts,)
    clock = time.perf_counter
    started = reported = clock()
    try:
        if resume:
            now = about | {"train": asdict(config)}
            step = first = run.restore(path, now, earlier=EARLIER, free=FREE)
        while step < config.steps:
            step += 1
            losses.append(run.step(draw(step), step, config.steps))
            if minutes and (step - first) % MEASURED == 0:
                seconds = run.agreed(clock() - started)
                steps = steps_that_fit(minutes, step=step, done=step - first, seconds=seconds)
                config = replace(config, steps=steps)
            due = step == config.steps or step % config.save_every == 0
            if not due and step % config.report_every:
                continue
            by_step = _finite(torch.stack(losses).tolist(), step, path)
            if save and due:
                save(step, config)
            speed = len(losses) * config.batch / (clock() - reported)
            losses.clear()
            try:
                yield Progress(
                    step, by_step, tuple(run.parts), run.lr, speed, run.ema_model, config
                )
            except GeneratorExit:  # the caller has had enough: leave everything ready to go on
                if save:
                    save(step, config)
                raise
            reported = clock()
    finally:
        run.close()


def training_step(
    network: nn.Module,
    schedule: NoiseSchedule,
    x_0: Tensor,
    t: Tensor,
    eps: Tensor,
    *,
    target: str,
    loss: str = "l2",
    **given: Tensor,
) -> Tensor:
    r"""The loss of one batch (Algorithm 1, line 5; Eq. 14): noise the data, ask, compare.

    x_0: (B, ...) in [-1, 1].  t: (B,) in 1..T.  eps: like x_0.
    target: what the network predicts.  given: what else it takes, such as labels.
    Returns the loss of each image, (B,).
    """
    x_t = q_sample(schedule, x_0, t, eps)
    output = network(x_t, t.to(x_t.device), **given).float()
    return regression_loss(output, target_from(schedule, target, x_0, eps, t), loss)


def self_conditioned_step(
    network: nn.Module,
    schedule: NoiseSchedule,
    x_0: Tensor,
    t: Tensor,
    eps: Tensor,
    told: Tensor,
    *,
    target: str,
    loss: str = "l2",
) -> Tensor:
    r"""`training_step` for a network that may be shown an estimate of x_0 (Chen et al. 2022).

    told: (B,) bool.  For these images the network is first asked without an estimate, and its
    answer, without gradient, is what it is shown; for the others it is shown zeros.
    (arXiv 2208.04202; notebook 04)
    """
    x_t = q_sample(schedule, x_0, t, eps)
    x_0_hat = torch.zeros_like(x_0)
    if told.any():
        with torch.no_grad():
            denoise = denoiser(network, schedule, target=target, clip=True)
            x_0_hat[told] = denoise(x_t[told], t[told])
    return training_step(network, schedule, x_0, t, eps, target=target, loss=loss, x_0_hat=x_0_hat)


class Drawn(NamedTuple):
    """What a step of Algorithm 1 sees.

    x_0, eps: (B, C, H, W), data in [-1, 1] and standard normal noise.  t: (B,) in 1..T.
    y: (B,) the labels of the images.
    u: (B,) uniform in [0, 1), for whatever else a loss decides by chance.
    """

    x_0: Tensor
    t: Tensor
    eps: Tensor
    y: Tensor
    u: Tensor


def draw(images: Images, step: int, config: DiffusionConfig) -> Drawn:
    """What training step number `step` sees, the same on every machine and in every process.

    Images come in a new random order each epoch, with their labels; t is uniform on 1..T
    (Algorithm 1, line 3), or logit-normal: T / (1 + exp(-z)), rounded up, where z is normal with
    standard deviation `SPREAD` (Esser et al. 2024, arXiv 2403.03206).
    (Algorithm 1, lines 2 to 4; notebook 05)
    """
    generator = order.generator_of(config.seed, step)
    indices = order.indices_of(len(images), step, config.batch, config.seed)
    mirrored = None
    if config.flip:
        mirrored = torch.rand(config.batch, generator=generator) < 0.5
    x_0 = batch(images, indices, mirrored)
    if config.t_sampling == "uniform":
        t = torch.randint(1, config.T + 1, (config.batch,), generator=generator)
    else:
        z = SPREAD * torch.randn(config.batch, generator=generator)
        t = (config.T * z.sigmoid()).ceil().long().clamp(1, config.T)
    eps = torch.randn(x_0.shape, generator=generator)
    u = torch.rand(config.batch, generator=generator)
    return Drawn(x_0, t, eps, images.labels[indices], u)


def algorithm_1(images: Images, config: DiffusionConfig) -> tuple[Draw, Loss]:
    """What each step draws from the images, and what it costs: the two callables for `train`."""
    schedule = named(config.schedule, config.T)
    learnt = {"target": config.target, "loss": config.loss}

    def loss(network: nn.Module, x_0: Tensor, t: Tensor, eps: Tensor, y: Tensor, u: Tensor):
        if config.self_conditioning:
            return self_conditioned_step(network, schedule, x_0, t, eps, u < 0.5, **learnt)
        return training_step(network, schedule, x_0, t, eps, **learnt)

    return partial(draw, images, config=config), loss


def _file(out: Path | str | None, resume: bool) -> Path | None:
    """The checkpoint of a run.  Raises ValueError when there is none to resume."""
    if out is None and resume:
        raise ValueError("resume needs the folder of the earlier run: give out=...")
    return None if out is None else Path(out) / FILE


def _finite(by_step: list[list[float]], step: int, path: Path | None) -> list[list[float]]:
    """The losses of the steps up to `step`; ValueError at the first that is not a number."""
    first = step - len(by_step) + 1
    for number, losses in enumerate(by_step, first):
        for loss in losses:
            if not math.isfinite(loss):
                raise _diverged(f"the loss became {loss}", number, path)
    return by_step


def _diverged(what: str, step: int, path: Path | None) -> ValueError:
    saved = path is not None and path.exists()
    where = f"the last good checkpoint is kept in {path.parent}; " if saved else ""
    return ValueError(
        f"{what} at step {step}, so training stopped; {where}"
        "try a lower lr, a lower clip or precision no"
    )


def _save(run: Run, path: Path, about: dict, step: int, config: TrainConfig) -> None:
    try:
        run.save(path, about | {"train": asdict(config), "step": step})
    except FloatingPointError as error:  # the update after a last finite loss
        raise _diverged(str(error), step, path) from error
