"""Random command lines: each does its work or says in a sentence why not, never by a traceback.

    python tests/fuzz_lines.py 500

runs so many in this process, on small pictures and a small run, and prints each that ends in
another way.  Line number k is always the same: `--first k` shows it again.
"""

import argparse
import contextlib
import io
import os
import random
import shlex
import tempfile
import traceback
from collections import Counter
from pathlib import Path

import numpy as np
from fuzz import told
from PIL import Image

from tutorial_lib import cli

LEFT_OUT = ("-h", "--help", "--version", "--push", "--device", "--track")  # some need a network
NUMBERS = ("0", "-1", "1", "2", "3", "7", "x", "", "1.5", "nan", "inf", "-inf", "1e-9")
WORDS = ("", "x", "猫", "auto", "embedded", "eps", "v", "cosine", "linear", "l1", "adam", "no")
WORDS += ("uniform", "ddpm", "ddim", "dpm++", "heun", "fd", "bpd", "copies", "8,16", "8,x")


def world(folder: Path) -> None:
    """Pictures, a finished run on them, and things that are neither."""
    chance = np.random.default_rng(0)
    for number in range(30):
        array = chance.integers(0, 256, (8, 8), dtype=np.uint8)
        (folder / "grey").mkdir(exist_ok=True)
        Image.fromarray(array).save(folder / "grey" / f"{number}.png")
    (folder / "empty").mkdir()
    (folder / "text.txt").write_text("no picture")
    small = "train --data grey --widths 8,8 --batch 2 --steps 1 --warmup 0 --out run"
    assert ended(shlex.split(small)) == "0"


def line(number: int) -> list[str]:
    """Command line number so-and-so."""
    chance = random.Random(number)
    name = chance.choice(list(cli.COMMANDS))
    words = [name]
    for action in _options(name):
        wanted = 0.97 if action.required else 0.15
        if chance.random() > wanted:
            continue
        if action.option_strings:
            words.append(chance.choice(action.option_strings))
        if action.nargs != 0:
            words.append(_value(action, chance))
    if name == "train":  # the last word on what would take long
        words += ["--steps", chance.choice(("1", "2", "3")), "--widths", "8,8", "--batch", "2"]
    return words


def _options(name: str) -> list[argparse.Action]:
    parsers = cli._parser()._subparsers._group_actions[0].choices
    return [one for one in parsers[name]._actions if not {*one.option_strings} & {*LEFT_OUT}]


def _value(action: argparse.Action, chance: random.Random) -> str:
    """Mostly a legal value, so that many lines get far."""
    new = f"new{chance.randrange(10**6)}"
    good = {"weights": "run", "run_folder": "run", "data": "grey", "origin": "run"}
    good |= {"out": chance.choice((new, f"{new}.png", f"{new}.gif", f"{new}.npy"))}
    good |= {"metrics": "bpd,copies", "sampler": chance.choice(("ddpm", "ddim", "dpm++", "heun"))}
    good |= {"target": chance.choice(("eps", "x_0", "v", "mu")), "schedule": "linear", "size": "8"}
    good |= {"loss": "huber", "optimizer": "adam", "t_sampling": "uniform", "precision": "no"}
    if chance.random() < 0.8:
        return good.get(action.dest, chance.choice(("1", "2", "0.5")))
    if action.type in (int, float):
        return chance.choice(NUMBERS)
    places = ("grey", "run", "run/checkpoint.safetensors", "empty", "text.txt", "nowhere", "~x/y")
    outs = ("a.png", "b.gif", "c.npy", "no/such/a.png", "/dev/null", "run")
    return chance.choice(chance.choice((places, outs, WORDS)))


def ended(words: list[str]) -> str:
    """How a line ends: its exit code, or what is wrong with its end."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.main(words)
    except SystemExit as error:
        code = error.code
    except BaseException:
        return traceback.format_exc(limit=-3)
    if code not in (0, 2):
        return f"exit code {code}"
    if code == 2 and "error: " not in err.getvalue():
        return f"exit code 2 without a sentence: {err.getvalue()!r}"
    return str(code)


def lines(count: int, first: int = 0) -> tuple[Counter, list[str]]:
    """Run so many; how many ended with which code, and what went wrong."""
    faults, ends, before = [], Counter(), Path.cwd()
    os.environ["TUTORIAL_LIB_QUIET"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            world(Path(folder))
            for number in range(first, first + count):
                words = line(number)
                end = ended(words)
                ends[words[0], end if end in ("0", "2") else "fault"] += 1
                if end not in ("0", "2"):
                    faults.append(f"{number}: {shlex.join(words)}\n{end}")
        finally:
            os.chdir(before)
    return ends, faults


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    ends, faults = lines(options.count, options.first)
    raise SystemExit(told(ends, faults, f"{options.count:,} command lines"))
