"""The command line: data, train, sample, weights, evaluate.  `python -m tutorial_lib COMMAND
--help` explains each.
"""

import argparse
import io
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tutorial_lib import __version__, checkpoint, data, evaluate, files, sample, train
from tutorial_lib.course import animation, plot
from tutorial_lib.course.notebook import progress
from tutorial_lib.engine.hardware import get_device
from tutorial_lib.nets.shapes import count_parameters
from tutorial_lib.nets.unet import UNet, UNetConfig, restore
from tutorial_lib.schedule import NoiseSchedule, even_tau, named

ENDINGS = (".png", ".gif", ".npy")
SHIPPED = "fashion_mnist"
CHUNK = 250  # images sampled at once
GIF_FRAMES = 40
FAST_STEPS = 25  # of samplers that need not follow the whole chain
METRICS = ("fd", "copies", "bpd")
HELP = {  # of each option of TrainConfig
    "steps": "optimiser steps", "batch": "images a step", "optimizer": "muon or adam", "lr": "Adam's learning rate",
    "lr_muon": "Muon's learning rate", "momentum": "Muon's momentum", "lr_end": "learning rate at the end",
    "warmup": "steps in which the learning rate rises", "ema": "decay of the averaged weights",
    "clip": "largest norm of the gradient", "accumulation": "pieces a batch is cut into, to save memory",
    "precision": "auto, bf16, fp16 or no", "flip": "mirror half of the images (wrong for shoes)",
    "target": "what the network predicts: eps, x_0, v or mu", "loss": "l2, l1 or huber",
    "schedule": "a noise schedule, linear or cosine for example", "T": "number of noising steps",
    "t_sampling": "which steps the images get: logit-normal (the middle more often) or uniform",
    "report_every": "steps between reports", "save_every": "steps between checkpoints",
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code: 0, or 2 after one clear sentence about bad input."""
    options = _parser().parse_args(arguments)
    try:
        if not 0 <= options.seed < 2**63:
            raise ValueError(f"seed must lie in 0..2**63 - 1, got {options.seed}")
        options.run(options)
    except (ValueError, TypeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tutorial_lib", description="Diffusion models, from the command line."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run, what: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=what, description=what)
        added.add_argument("--seed", type=int, default=0, help="of everything random (default 0)")
        added.add_argument("--device", help="cpu, cuda or mps (default: the best there is)")
        added.set_defaults(run=run)
        return added

    command(
        "data", _data, "list the sources of Fashion-MNIST found here, with counts and checksums"
    )
    command(
        "weights",
        _weights,
        "list the weights and records that ship, with their configuration and figures",
    )
    _train_arguments(
        command("train", _train, "train a U-Net by Algorithm 1; Ctrl-C saves, --resume goes on")
    )
    for name, run, count, sampler, what in (
        (
            "sample",
            _sample,
            64,
            "ddpm",
            "draw images and write them as .png (grid), .gif (the way from noise) or .npy (uint8)",
        ),
        (
            "evaluate",
            _evaluate,
            2000,
            "dpm++",
            "judge weights: distance of samples to real images, copies, bits per dimension",
        ),
    ):
        added = command(name, run, what)
        added.add_argument(
            "--weights",
            default=SHIPPED,
            help="a shipped name, a file, or a folder that train wrote",
        )
        known = ", ".join(sample.SAMPLERS)
        added.add_argument(
            "--sampler",
            default=sampler,
            help=f"one of {known} (default {sampler}; ddpm takes minutes)",
        )
        added.add_argument(
            "--steps",
            type=int,
            help=f"how many of the T steps to visit (default: ddpm all, others {FAST_STEPS})",
        )
        added.add_argument(
            "--eta", type=float, help="of ddim: 0, no noise (default), to 1, the noise of ddpm"
        )
        added.add_argument(
            "--count", type=int, default=count, help=f"number of images (default {count})"
        )
        if name == "sample":
            added.add_argument(
                "--out", type=Path, required=True, metavar="FILE", help="ends in .png, .gif or .npy"
            )
        else:
            added.add_argument(
                "--metrics",
                default="fd",
                help=f"some of {','.join(METRICS)}, with commas between them (default fd)",
            )
            added.add_argument(
                "--data", default="auto", help="real images for copies and bpd; as in train"
            )
    return parser


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for the checkpoint and loss.csv",
    )
    parser.add_argument(
        "--data", default="auto", help="auto, embedded, hub, or a folder of IDX files or images"
    )
    parser.add_argument("--size", type=int, help="resize a folder of images to SIZE x SIZE pixels")
    parser.add_argument(
        "--minutes", type=float, help="train about this long, instead of a number of --steps"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the checkpoint in --out, with its configuration",
    )
    for field in fields(train.TrainConfig):
        if field.name == "seed":
            continue
        name = "--" + field.name.replace("_", "-")
        said = f"{HELP[field.name]} (default {field.default})"
        if field.type is bool:
            parser.add_argument(
                name, action=argparse.BooleanOptionalAction, default=None, help=said
            )
        else:
            parser.add_argument(name, type=field.type, help=said)


def _data(options: argparse.Namespace) -> None:
    for number, (source, what) in enumerate(data.available()):
        print(f"{source} ({what}){', taken by auto' if number == 0 else ''}")
        for split in data.SPLITS:
            images = data.load(source, split)
            size = " x ".join(map(str, images.pixels.shape[2:]))
            print(
                f"  {split:<5} {len(images):>6,} images of {size} pixels, {len(images.labels.unique())} classes"
            )
    print(f"embedded: {data.verify_embedded()}")


def _weights(options: argparse.Namespace) -> None:
    for name, path in checkpoint.shipped().items():
        tensors, configuration = checkpoint.load(path)
        numbers = sum(tensor.numel() for tensor in tensors.values())
        print(f"{name}: {path.stat().st_size / 1e6:.1f} MB, {numbers:,} numbers")
        for key, value in configuration.items():
            print(f"  {key}: {value if isinstance(value, str | int) else json.dumps(value)}")


def _train(options: argparse.Namespace) -> None:
    device = get_device(options.device)
    out, file = options.out, options.out / train.FILE
    if file.exists() and not options.resume:
        raise ValueError(
            f"{out} already holds a run; add --resume to go on with it, or choose another folder"
        )
    if options.minutes is not None and options.minutes <= 0:
        raise ValueError(f"minutes must be positive, got {options.minutes:g}")
    config = _train_config(options)
    images = data.load(options.data, size=options.size)
    files.check_writable(file)
    network = UNetConfig(image_size=_square(images), channels=images.pixels.shape[1])
    torch.manual_seed(config.seed)  # the initial weights
    model = UNet(network)
    about = {"model": asdict(network), "data": images.source}
    if _is_main():
        print(f"{images.source}; {count_parameters(model):,} parameters; on {device}", flush=True)
    run = train.train(model, images, config, out, about, options.resume, options.minutes, device)
    with _stop_on_signals() as stopped:
        last = _follow(run, out / "loss.csv", config.steps, stopped)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()  # left to itself, a process may be aborted on its way out
    if not _is_main():
        return
    if last is None:
        print(
            f"nothing left to do: {out} has reached its {config.steps} steps; give more with --steps"
        )
    else:
        ended = "stopped" if stopped else "done"
        print(
            f"{ended} at step {last.step} of {last.config.steps}, loss {last.loss:.4f}; saved in {file}"
        )


def _train_config(options: argparse.Namespace) -> train.TrainConfig:
    """What the options say, on top of the checkpoint's configuration when resuming, else of the
    defaults.
    """
    config = train.TrainConfig(seed=options.seed)
    if options.resume:
        stored = checkpoint.load(options.out)[1].get("train")
        if stored is None:
            raise ValueError(
                f"{options.out} holds weights without a training state; there is nothing to resume"
            )
        config = train.TrainConfig(**stored)
    given = {
        f.name: getattr(options, f.name)
        for f in fields(config)
        if getattr(options, f.name) is not None
    }
    if options.resume:
        del given["seed"]
    return replace(config, **given)


def _square(images: data.Images) -> int:
    height, width = images.pixels.shape[2:]
    if height != width:
        raise ValueError(
            f"images must be square, got {width} x {height} pixels; give --size to resize them"
        )
    return height


def _follow(
    run: Iterator[train.Progress], log: Path, steps: int, stopped: list[int]
) -> train.Progress | None:
    """Show progress and write loss.csv until the run ends or a signal comes; return the last
    report.
    """
    last, rows = None, []
    with progress(None, total=steps) as bar:
        for last in run:
            first = last.step - len(last.losses) + 1
            if not rows:
                rows = _earlier_rows(log, before=first)
                bar.update(first - 1)
            rows += [f"{first + i},{loss:.6f}" for i, loss in enumerate(last.losses)]
            bar.total = last.config.steps
            bar.update(len(last.losses))
            bar.set_postfix_str(f"loss {last.loss:.4f}, {last.images_per_second:.0f} images/s")
            if _agreed(stopped):
                run.close()  # saves
                break
        if rows and _is_main():
            files.write(log, ("step,loss\n" + "\n".join(rows) + "\n").encode())
    return last


def _is_main() -> bool:
    """Whether this is the first of several processes, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def _agreed(stopped: list[int]) -> bool:
    """Whether any process was asked to stop: all must leave at the same step."""
    if not torch.distributed.is_initialized():
        return bool(stopped)
    flag = torch.tensor(float(bool(stopped)))
    if torch.cuda.is_available():
        flag = flag.cuda()
    torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
    return bool(flag)


def _earlier_rows(log: Path, before: int) -> list[str]:
    """The rows of an earlier part of the run, up to where it was resumed."""
    rows = log.read_text().splitlines()[1:] if log.exists() and before > 1 else []
    return [row for row in rows if int(row.split(",")[0]) < before]


class _stop_on_signals:
    """Note Ctrl-C and SIGTERM instead of dying in the middle of a step: `with _stop_on_signals() as
    stopped`.
    """

    def __enter__(self) -> list[int]:
        stopped: list[int] = []
        self.before = {
            s: signal.signal(s, lambda number, _: stopped.append(number))
            for s in (signal.SIGINT, signal.SIGTERM)
        }
        return stopped

    def __exit__(self, *_) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


def _sample(options: argparse.Namespace) -> None:
    ending = options.out.suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(
            f"unknown file ending {options.out.suffix!r}; --out must end in {', '.join(ENDINGS)}"
        )
    task = _sampling(options)
    files.check_writable(options.out)
    frames = task.draw(keep=GIF_FRAMES if ending == ".gif" else 1)
    if ending == ".gif":
        animation.gif(frames, options.out)
    elif ending == ".png":
        plot.save(frames[-1], options.out)
    else:
        pixels = frames[-1].permute(0, 2, 3, 1)  # (N, H, W, C)
        buffer = io.BytesIO()
        np.save(buffer, (pixels[..., 0] if pixels.shape[-1] == 1 else pixels).numpy())
        files.write(options.out, buffer.getvalue())
    print(f"{options.count} images in {options.out} ({options.out.stat().st_size / 1e3:.0f} kB)")


@dataclass(frozen=True)
class _Sampling:
    """Everything that it takes to draw images, checked before anything long begins."""

    model: UNet
    schedule: NoiseSchedule
    target: str
    sampler: Callable[..., Iterator[sample.Frame]]
    steps: int
    x_T: Tensor
    device: str

    def draw(self, keep: int) -> list[Tensor]:
        """`keep` moments on the way, the last one last, each (count, C, H, W) uint8."""
        kept = set(animation.every(self.steps + 1, keep)) if keep > 1 else {self.steps}
        parts, chunks = self.x_T.split(CHUNK), []
        model = self.model.to(self.device)
        with progress(None, total=self.steps * len(parts)) as bar:
            for x_T in parts:
                frames = self.sampler(
                    model, self.schedule, x_T.to(self.device), target=self.target, steps=self.steps
                )
                moments = []
                for i, frame in enumerate(frames):
                    bar.update(i > 0)
                    if i in kept:
                        moments.append(data.to_pixels(frame.x).cpu())
                chunks.append(moments)
        return [torch.cat(moments) for moments in zip(*chunks, strict=True)]


def _sampling(options: argparse.Namespace) -> _Sampling:
    """Load and check what the options of `sample` and `evaluate` ask for."""
    device = get_device(options.device)
    if options.sampler not in sample.SAMPLERS:
        raise ValueError(
            f"unknown sampler {options.sampler!r}; choose one of {', '.join(sample.SAMPLERS)}"
        )
    tensors, configuration = checkpoint.load(options.weights)
    model, config = restore(tensors, configuration), configuration["train"]
    schedule = named(config["schedule"], config["T"])
    usual = schedule.T if options.sampler == "ddpm" else min(FAST_STEPS, schedule.T)
    steps = usual if options.steps is None else options.steps
    even_tau(schedule.T, steps)  # raises unless the number is legal
    generator = torch.Generator().manual_seed(options.seed)
    shape = (model.config.channels, model.config.image_size, model.config.image_size)
    x_T = sample.start(options.count, shape, generator)
    sampler = _sampler(options, generator)
    return _Sampling(model, schedule, config["target"], sampler, steps, x_T, device)


def _sampler(
    options: argparse.Namespace, generator: torch.Generator
) -> Callable[..., Iterator[sample.Frame]]:
    """The sampler of that name, with what it alone wants to know."""
    if options.eta is not None and options.sampler != "ddim":
        raise ValueError(
            f"--eta is for --sampler ddim, and {options.sampler} has no such choice; leave it out"
        )
    eta = 0.0 if options.eta is None else options.eta
    sample.check_eta(eta)
    own = {"ddpm": {"generator": generator}, "ddim": {"generator": generator, "eta": eta}}
    return partial(sample.SAMPLERS[options.sampler], **own.get(options.sampler, {}))


def _evaluate(options: argparse.Namespace) -> None:
    metrics = [name.strip() for name in options.metrics.split(",")]
    if unknown := [name for name in metrics if name not in METRICS]:
        raise ValueError(f"unknown metric {unknown[0]!r}; choose some of {', '.join(METRICS)}")
    began, task = time.perf_counter(), _sampling(options)
    if options.count < 2:
        raise ValueError(
            f"count must be at least 2, to have a spread to compare, got {options.count}"
        )
    shape = task.x_T.shape[1:]
    if "fd" in metrics and shape != (1, 28, 28):
        raise ValueError(
            f"fd: the classifier judges images of shape (1, 28, 28), but these weights draw {tuple(shape)}; "
            "leave fd out of --metrics"
        )
    real = {}
    for split in data.SPLITS if {"copies", "bpd"} & set(metrics) else ():
        real[split] = data.load(
            options.data, split, size=shape[-1] if Path(options.data).is_dir() else None
        )
        if real[split].pixels.shape[1:] != shape:
            got = f"{real[split].source}, of shape {tuple(real[split].pixels.shape[1:])}"
            raise ValueError(
                f"these weights draw images of shape {tuple(shape)}, but --data has {got}; name their own"
            )
    print(f"{options.weights}, seed {options.seed}")
    if {"fd", "copies"} & set(metrics):
        samples = task.draw(keep=1)[-1]
        print(f"{options.count:,} samples ({options.sampler}, {task.steps} steps)")
    if "fd" in metrics:
        _print_distance(evaluate.report(samples))
    if "copies" in metrics:
        _print_copies(samples, real["train"], real["test"].pixels)
    if "bpd" in metrics:
        _print_bound(task, real["test"], options)
    print(f"{time.perf_counter() - began:.0f} s")


def _print_distance(found: dict) -> None:
    low, high = found["interval"]
    print(
        f"  distance to {found['reference_count']:,} real images, in the classifier's features: "
        f"{found['feature_distance']:.2f} (95 % interval {low:.2f} to {high:.2f})"
    )
    print(
        f"  the floor, {found['floor_count']:,} other real images in their place: {found['floor']:.2f}"
    )
    print("  " + ", ".join(f"{name} {share:.1%}" for name, share in found["class_shares"].items()))


def _print_copies(samples: Tensor, known: data.Images, others: Tensor) -> None:
    found = evaluate.copies(samples, known.pixels, others[: len(samples)])
    print(
        f"  nearest of {len(known):,} training images ({known.source}), median, grey levels a pixel:"
    )
    print(f"    from a sample {found['samples']:.1f}, from a test image {found['others']:.1f}")
    print(f"    samples less than 1 away: {found['within_1']:,}")


def _print_bound(task: _Sampling, images: data.Images, options: argparse.Namespace) -> None:
    generator = torch.Generator().manual_seed(
        options.seed
    )  # whatever else was measured has no part in it
    pixels, model = images.pixels[: options.count], task.model.to(task.device)
    found = evaluate.bits_per_dimension(
        model, task.schedule, pixels, generator, task.target, device=task.device
    )
    print(f"bound on {found['count']:,} test images ({images.source}), bits per dimension:")
    print(f"  {found['bpd']:.3f} +- {found['error']:.3f} (standard error)")
    print(
        f"  of which L_T {found['L_T']:.4f}, L_1 to L_(T-1) {found['L_t']:.3f}, L_0 {found['L_0']:.3f}"
    )
