"""`train`: a U-Net by Algorithm 1, with progress, a log, and a clean stop at any moment."""

import argparse
from collections.abc import Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path

import torch

from tutorial_lib import checkpoint, data, files, train
from tutorial_lib.config import EARLIER, DiffusionConfig
from tutorial_lib.course.notebook import progress
from tutorial_lib.engine import stopping
from tutorial_lib.engine.hardware import get_device
from tutorial_lib.nets.shapes import count_parameters
from tutorial_lib.nets.unet import UNet, UNetConfig


def add(parser: argparse.ArgumentParser) -> None:
    """The options of `train`: where and how long, and one for each field of its configuration."""
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for checkpoint and loss.csv"
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
    for field in fields(DiffusionConfig):
        if field.name == "seed":
            continue
        name = "--" + field.name.replace("_", "-")
        said = f"{field.metadata['help']} (default {field.default})"
        if field.type is bool:
            yes_or_no = argparse.BooleanOptionalAction
            parser.add_argument(name, action=yes_or_no, default=None, help=said)
        else:
            parser.add_argument(name, type=field.type, help=said)


def run(options: argparse.Namespace) -> None:
    """Train a U-Net by Algorithm 1; Ctrl-C saves, --resume goes on."""
    device = get_device(options.device)
    _check(options)
    config = _config(options)
    images = data.load(options.data, size=options.size)
    files.check_writable(options.out / train.FILE)
    shape = UNetConfig(
        image_size=_square(images),
        channels=images.pixels.shape[1],
        self_conditioning=config.self_conditioning,
    )
    torch.manual_seed(config.seed)  # the initial weights
    network = UNet(shape)
    if stopping.is_main():
        print(f"{images.source}; {count_parameters(network):,} parameters; on {device}", flush=True)
    reports = train.train(
        network,
        *train.algorithm_1(images, config),
        config,
        out=options.out,
        about={"model": asdict(shape), "data": images.source},
        resume=options.resume,
        minutes=options.minutes,
        device=device,
    )
    with stopping.on_signals() as stopped:
        last = _follow(reports, options.out / "loss.csv", config.steps, stopped)
    stopping.leave_processes()
    if stopping.is_main():
        print(_summary(last, stopped, options.out, config.steps))


def _check(options: argparse.Namespace) -> None:
    if (options.out / train.FILE).exists() and not options.resume:
        raise ValueError(
            f"{options.out} already holds a run; add --resume to go on with it, "
            "or choose another folder"
        )
    if options.minutes is not None and options.minutes <= 0:
        raise ValueError(f"minutes must be positive, got {options.minutes:g}")


def _config(options: argparse.Namespace) -> DiffusionConfig:
    """What the options say, on top of the checkpoint's configuration when resuming."""
    config = DiffusionConfig(seed=options.seed)
    if options.resume:
        stored = checkpoint.load(options.out)[1].get("train")
        if stored is None:
            raise ValueError(
                f"{options.out} holds weights without a training state; there is nothing to resume"
            )
        config = DiffusionConfig(**(EARLIER | stored))
    given = {field.name: getattr(options, field.name) for field in fields(config)}
    if options.resume:
        del given["seed"]
    return replace(config, **{name: value for name, value in given.items() if value is not None})


def _square(images: data.Images) -> int:
    height, width = images.pixels.shape[2:]
    if height != width:
        raise ValueError(
            f"images must be square, got {width} x {height} pixels; give --size to resize them"
        )
    return height


def _follow(
    reports: Iterator[train.Progress], log: Path, steps: int, stopped: list[int]
) -> train.Progress | None:
    """Show progress and write loss.csv until the run ends or a signal comes; the last report."""
    last, rows = None, []
    with progress(None, total=steps) as bar:
        for last in reports:
            first = last.step - len(last.losses) + 1
            if not rows:
                rows = _earlier_rows(log, before=first)
                bar.update(first - 1)
            rows += [f"{step},{loss:.6f}" for step, loss in enumerate(last.losses, first)]
            bar.total = last.config.steps
            bar.update(len(last.losses))
            bar.set_postfix_str(f"loss {last.loss:.4f}, {last.images_per_second:.0f} images/s")
            if stopping.agreed(stopped):
                reports.close()  # saves
                break
        if rows and stopping.is_main():
            files.write(log, ("step,loss\n" + "\n".join(rows) + "\n").encode())
    return last


def _earlier_rows(log: Path, before: int) -> list[str]:
    """The rows of an earlier part of the run, up to where it was resumed."""
    rows = log.read_text().splitlines()[1:] if log.exists() and before > 1 else []
    return [row for row in rows if int(row.split(",")[0]) < before]


def _summary(last: train.Progress | None, stopped: list[int], out: Path, steps: int) -> str:
    if last is None:
        return f"nothing left to do: {out} has reached its {steps} steps; give more with --steps"
    ended = "stopped" if stopped else "done"
    return (
        f"{ended} at step {last.step} of {last.config.steps}, loss {last.loss:.4f}; "
        f"saved in {out / train.FILE}"
    )
