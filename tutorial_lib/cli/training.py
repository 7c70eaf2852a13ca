"""`train`: a U-Net by a chosen objective, with progress, a log, and a clean stop at any moment."""

import argparse
import os
import time
from dataclasses import fields, replace
from pathlib import Path

from tutorial_lib import checkpoint, files, train
from tutorial_lib.cli import probing, settings, tracking
from tutorial_lib.cli.card import card
from tutorial_lib.cli.following import Follower, follow, say
from tutorial_lib.config import DiffusionConfig
from tutorial_lib.engine import stopping
from tutorial_lib.nets.shapes import count_parameters

CARD = "README.md"
MARK = "<!-- train writes this page anew; delete this line to keep what you change -->\n"


def add(parser: argparse.ArgumentParser) -> None:
    """The options of `train`: where and how long, and one for each field of its configuration."""
    parser.set_defaults(seed=False)  # is 0, and tells that it was not said
    parser.add_argument(
        "--out",
        type=_path,
        metavar="DIR",
        help="folder for the checkpoint, loss.csv and a model card; only --probe needs none",
    )
    parser.add_argument(
        "--data",
        type=os.path.expanduser,
        help="auto (default), embedded, hub, a folder of IDX files or images, or arrays in a file",
    )
    parser.add_argument(
        "--size", type=int, help="scale the short side of your pictures to SIZE and crop the middle"
    )
    parser.add_argument(
        "--minutes", type=float, help="train about this long, instead of a number of --steps"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the checkpoint in --out, with its data and its configuration",
    )
    parser.add_argument(
        "--from",
        dest="origin",
        type=os.path.expanduser,
        metavar="WEIGHTS",
        help="begin with these weights: a shipped name, a file, or a folder that train wrote",
    )
    _add_probe(parser)
    _add_network(parser)
    _add_watching(parser)
    _add_fields(parser)


def _add_probe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--probe",
        action="store_true",
        help="only say how long this run would take here (without previews); nothing is written",
    )
    parser.add_argument(
        "--json", action="store_true", help="with --probe: one JSON document instead of text"
    )


def _add_network(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--widths", type=_widths, help="channels of each level of the U-Net (default 48,128)"
    )
    parser.add_argument("--blocks", type=int, help="residual blocks of each level (default 1)")
    parser.add_argument(
        "--patch", type=int, help="pixels on a side that are folded into channels (default 2)"
    )


def _add_watching(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--preview-every",
        type=int,
        metavar="STEPS",
        help="draw 16 images of the averaged network so often, as preview_000500.png in --out",
    )
    parser.add_argument(
        "--track",
        metavar="NAMES",
        help="log to tensorboard, wandb or others that accelerate knows, with commas between them",
    )


def _add_fields(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--objective",
        metavar="NAME",
        help="what is minimised: simple (Algorithm 1, the default), flow (flow matching) or hybrid "
        "(for a learned variance)",
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


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(width) for width in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} are not whole numbers with commas between them, such as 32,64"
        ) from None


def run(options: argparse.Namespace) -> None:
    """Train a U-Net, by Algorithm 1 unless told otherwise; Ctrl-C saves, --resume goes on."""
    try:
        number = _train(options)
    except (ValueError, TypeError, OSError):
        if stopping.speaks():
            raise
        time.sleep(2)  # a launcher ends all when the first is gone: let the one speak that does
        raise SystemExit(2) from None
    if number:
        raise SystemExit(128 + number)  # as of a program that the signal has ended


def _train(options: argparse.Namespace) -> int:
    """The whole command; the signal that has stopped it before its end, or 0."""
    trackers = tracking.checked(options.track)
    task = settings.prepared(options)
    network, config, out = task.network, task.config, options.out
    if not options.json:
        say(f"{task.images.source}; {count_parameters(network):,} parameters; on {task.device}")
    if options.probe:
        probing.run(task, options.minutes, options.json)
        stopping.leave_processes()
        return 0
    reports = train.train(
        network,
        *task.lesson[:2],
        replace(config, report_every=task.often),
        out=out,
        about=task.about,
        resume=options.resume,
        minutes=options.minutes,
        device=task.device,
    )
    watched = options.preview_every, trackers, options.minutes, task.lesson.schedule
    follower = Follower(out, config.report_every, *watched)
    with stopping.on_signals() as stopped:
        last, number = follow(reports, follower, stopped)
    if last is None:
        say(f"nothing left to do: {out} has reached its {config.steps} steps; more with --steps")
    else:
        _end(last, follower)
    stopping.leave_processes()
    return number if last and last.step < last.config.steps else 0


def _end(last: train.Progress, follower: Follower) -> None:
    """The last words of the first process, and the model card."""
    if not stopping.is_main():
        return
    step, steps, out = last.step, last.config.steps, follower.out
    loss, minutes = follower.loss, follower.seconds / 60
    done = "done" if step == steps else "stopped"
    say(f"{done} at step {step} of {steps}, loss {loss:.4f}; saved in {out / train.FILE}")
    figures = {"final loss": f"{loss:.4f}", "minutes of training": f"{minutes:.1f}"}
    record = checkpoint.load(out)[1]
    head, *rest = card(record, figures=figures).split("---\n\n", 1)
    page, path = "---\n\n".join([head, MARK + "\n" + rest[0]]), out / CARD
    try:
        if not path.exists() or MARK.strip().encode() in path.read_bytes():
            files.write(path, page.encode())
    except OSError as error:
        say(f"no model card: {error}")
