"""Training: one loop for every model of the series, and the two halves of Algorithm 1 for it.

`train` takes what a step draws and what it costs, and is a generator: the caller owns progress
bars, pictures and stopping.  What step k draws depends on the seed and on k alone, so a resumed run
follows the uninterrupted one, and two processes draw what one would.  (Notebook 05)
"""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tutorial_lib import files, record
from tutorial_lib.checkpoint import FILE as FILE
from tutorial_lib.config import DiffusionConfig, TrainConfig
from tutorial_lib.data import NOBODY, Images, batch
from tutorial_lib.denoise import denoiser
from tutorial_lib.diffusion import q_sample, regression_loss, target_from
from tutorial_lib.engine import order
from tutorial_lib.engine.budget import Budget
from tutorial_lib.engine.run import Run
from tutorial_lib.record import Keeper
from tutorial_lib.schedule import NoiseSchedule, named

SPREAD = 1.2  # of the normal behind logit-normal steps: each end tenth of 1..T gets 3.4 %


@dataclass(frozen=True)
class Progress:
    """What `train` yields every `report_every` steps, at each save and at the end.

    by_step: the loss of each step since the last report, one for each of `parts`.
    parts: the parts of the network that have a loss of their own; "" is the whole.
    losses, loss: the same summed over the parts, and its mean.
    ema_model: the averaged network, to sample from.  It goes on changing with the next steps, and
    all reports of a run share it; copy it to keep it as it is.
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
    overwrite: bool = False,
    minutes: float | None = None,
    device: str | None = None,
) -> Generator[Progress, None, None]:
    """Train a network in place; yield a `Progress` now and then.

    Reports come every `report_every` steps, at each save (every `save_every` steps) and at the end.

    network: as it is when training begins; what is frozen stays so.  It may be compiled.  Weights
    to start from are those it has, and the average starts from them, too.
    draw: what step number k sees, on the CPU; each process and each piece gets its share.
    loss: what that costs.  It calls the network itself: mixed precision and several processes are
    around its `forward`, and not around its children's.  Or for parts of the network, by their
    names ("" is the whole, and a part inside a part has a dotted name), a loss each, in the order
    in which they take their turns, each with an optimiser that moves that part alone (in one
    process, and in full precision).
    out: folder for the checkpoint (network, EMA, optimisers, configuration), written every
    `save_every` steps, at the end, and when training ends early, whether the caller stops
    iterating, presses Ctrl-C or something fails: the state of the latest whole step.  A save that
    fails, on a disk that is full for example, is tried again, at last with the next save.
    about: what else its JSON should say.  "model" is compared when a run is resumed; a network with
    a dataclass called `config` says that by itself.
    resume: go on from that checkpoint; the configuration must be the same, but for the steps.  The
    run is then the same, bit for bit, as one without a break.
    overwrite: a run that `out` holds already is lost; otherwise it is an error.
    minutes: choose the number of steps so that the run, or what is now added to it, takes about as
    long, with all that the caller does in between; chosen from the speed so far and corrected on
    the way, so that lr_end is reached in time.
    device: "cpu" keeps off an accelerator; None takes the best there is.
    Raises ValueError when the loss stops being a number: the last good checkpoint stays.  So it
    does when two runs meet in one folder.  Raises OSError when the last save fails.
    """
    path = record.file_of(out, resume=resume, overwrite=overwrite)
    losses = loss if isinstance(loss, dict) else {"": loss}
    run = Run(network, losses, device=device, **config.machinery())
    about = record.described(run.network, losses) | (about or {})
    own = path if run.accelerator.is_main_process else None  # of several processes, one writes
    with ExitStack() as ending:
        ending.callback(run.close)
        if own:
            ending.enter_context(files.locked(own.parent))
        if resume:
            assert path is not None  # as `file_of` has seen
            run.restore(path, partial(record.check_same, path, about | {"train": asdict(config)}))
        keeper = Keeper(run, own, about, config)
        try:
            yield from _reports(run, draw, keeper, Budget(minutes, run.done, run.agreed))
        except GeneratorExit:  # the caller has had enough: leave everything ready to go on
            keeper.rescue()
            raise
        except BaseException:
            with suppress(OSError, ValueError):  # what went wrong first is what is raised
                keeper.rescue()
            raise


def _reports(run: Run, draw: Draw, keeper: Keeper, budget: Budget) -> Iterator[Progress]:
    """The steps of `train`, with a report and a save where they are due."""
    steps, clock = budget.at_first(keeper.config.steps), time.perf_counter
    reported = clock()
    while run.done < steps:
        step = run.done + 1
        keeper.losses.append(run.step(draw(step), step, steps))
        steps, config = budget.after(step, steps), keeper.config
        if steps != config.steps:
            keeper.config = config = replace(config, steps=steps)
        due = step == steps or step % config.save_every == 0
        if not due and step % config.report_every:
            continue
        by_step = keeper.take_losses()
        if step == steps:
            keeper.save()
        elif due:
            keeper.save_or_warn()
        speed = len(by_step) * config.batch / (clock() - reported)
        yield Progress(step, by_step, tuple(run.parts), run.lr, speed, run.ema_model, config)
        reported = clock()


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
    r"""The loss of one batch (Algorithm 1, line 5; Eq. 14): noise the data, predict, compare.

    x_0: (B, ...) in [-1, 1].  t: (B,) in 1..T.  eps: like x_0.
    target: what the network predicts.  given: what else it takes, such as labels.
    Returns the loss of each image, (B,).
    """
    x_t = q_sample(schedule, x_0, t, eps)
    output = network(x_t, t.to(x_t.device), **given).to(x_0.dtype)
    wanted = target_from(schedule, target, x_0, eps, t)
    return regression_loss(output, wanted, loss)


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
    **given: Tensor,
) -> Tensor:
    r"""`training_step` for a network that may be shown an estimate of x_0 (Chen et al. 2022).

    told: (B,) bool.  For these images the network is first called without an estimate, and the
    x_0_hat in what it returns, without gradient, is what it is shown; for the others it is shown
    zeros.
    given: what else it takes, such as labels, (B,) each.
    (arXiv 2208.04202; notebook 04b)
    """
    x_t = q_sample(schedule, x_0, t, eps)
    denoise = denoiser(network, schedule, target=target, clip=True)
    x_0_hat = torch.zeros_like(x_0)  # what is shown where there is no estimate
    if told.any():
        with torch.no_grad():
            theirs = {name: what[told] for name, what in given.items()}
            x_0_hat[told] = denoise(x_t[told], t[told], **theirs)
    given["x_0_hat"] = x_0_hat
    return training_step(network, schedule, x_0, t, eps, target=target, loss=loss, **given)


class Drawn(NamedTuple):
    """What a step of Algorithm 1 sees.

    x_0, eps: (B, C, H, W), data in [-1, 1] and standard normal noise; of points, (B, ...).
    t: (B,) in 1..T.
    y: (B,) the labels of the images.
    u: (B,) uniform in [0, 1), for whatever else a loss decides by chance.
    """

    x_0: Tensor
    t: Tensor
    eps: Tensor
    y: Tensor
    u: Tensor


def draw(images: Images | Tensor, step: int, config: DiffusionConfig) -> Drawn:
    """What training step number `step` sees, the same on every machine and in every process.

    Images, or points (N, ...) of any shape, come in a new random order each epoch, with their
    labels (points have 0); t is uniform on 1..T
    (Algorithm 1, line 3), or logit-normal: T / (1 + exp(-z)), rounded up, where z is normal with
    standard deviation `SPREAD` (Esser et al. 2024, arXiv 2403.03206).
    (Algorithm 1, lines 2 to 4; notebook 05)
    """
    generator = order.generator_of(config.seed, step)
    indices = order.indices_of(len(images), step, config.batch, config.seed)
    mirrored = None
    if config.flip:
        mirrored = torch.rand(config.batch, generator=generator) < 0.5
    x_0, y = _chosen(images, indices, mirrored)
    if config.t_sampling == "uniform":
        t = torch.randint(1, config.T + 1, (config.batch,), generator=generator)
    else:
        z = SPREAD * torch.randn(config.batch, generator=generator)
        t = (config.T * z.sigmoid()).ceil().long().clamp(1, config.T)
    eps = torch.randn(x_0.shape, generator=generator)
    u = torch.rand(config.batch, generator=generator)
    return Drawn(x_0, t, eps, y, u)


def _chosen(
    images: Images | Tensor, indices: Tensor, mirrored: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The images, or points, of these indices, (B, ...) float32; and their labels, (B,)."""
    if isinstance(images, Tensor):
        return images[indices].float(), torch.zeros_like(indices)
    return batch(images, indices, mirrored), images.labels[indices]


@dataclass(frozen=True)
class Cost:
    """What a step of Algorithm 1 costs: the `Loss` of a diffusion model.

    about: what the checkpoint should say of it.
    """

    config: DiffusionConfig
    schedule: NoiseSchedule
    about: dict[str, Any]

    def __call__(
        self, network: nn.Module, x_0: Tensor, t: Tensor, eps: Tensor, y: Tensor, u: Tensor
    ) -> Tensor:
        """The loss of each item, (B,); the rest is as in `Drawn`."""
        target, loss = self.config.target, self.config.loss
        given: dict[str, Tensor] = {}
        if self.config.labels:
            dropped = (2 * u) % 1 < self.config.label_drop  # independent of u < 0.5
            given["y"] = torch.where(dropped, NOBODY, y)
        if self.config.self_conditioning:
            return self_conditioned_step(
                network, self.schedule, x_0, t, eps, u < 0.5, target=target, loss=loss, **given
            )
        return training_step(network, self.schedule, x_0, t, eps, target=target, loss=loss, **given)


def algorithm_1(
    images: Images | Tensor, config: DiffusionConfig, schedule: NoiseSchedule | None = None
) -> tuple[Draw, Loss]:
    """What each step draws from the images, and what it costs: the two callables for `train`.

    images: or points, (N, ...) floating-point, of about unit variance.
    schedule: a table of your own, with T = config.T; it goes into the checkpoint, from which
    `config.schedule_of` reads it.  By default that of config.schedule.
    Raises ValueError or TypeError for what does not fit together.
    """
    _check_learnable(images, config)
    if schedule is None:
        cost = Cost(config, named(config.schedule, config.T), {})
    elif schedule.T == config.T:
        cost = Cost(config, schedule, {"beta": schedule.beta[1:].tolist()})
    else:
        raise ValueError(
            f"the schedule has {schedule.T} steps, but T is {config.T}; make them agree"
        )
    return partial(draw, images, config=config), cost


def _check_learnable(images: Images | Tensor, config: DiffusionConfig) -> None:
    if isinstance(images, Images):
        return
    if not isinstance(images, Tensor) or not images.is_floating_point():
        got = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(
            f"points must be a tensor of floating-point numbers, got {got}; "
            "pictures come as data.Images(pixels, labels, source)"
        )
    if images.ndim < 2 or images.numel() == 0:
        raise ValueError(f"points must have shape (N, D, ...), N > 0, got {tuple(images.shape)}")
    if config.flip:
        raise ValueError("flip mirrors pictures, and points have no left and right; leave it out")
