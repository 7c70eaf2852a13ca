"""How long a training will take: what is measured, what is said, and that nothing is changed."""

import json
import os
import shlex
import subprocess
import sys
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from tutorial_lib import checkpoint, train
from tutorial_lib.cli import main
from tutorial_lib.engine.probe import SECONDS, STEPS, Probe, in_words

SMALL = "--widths 8 --batch 2 --device cpu"


@pytest.fixture(scope="module")
def grey(tmp_path_factory) -> Path:
    """Six grey pictures of 8 x 8 pixels."""
    folder = tmp_path_factory.mktemp("images") / "grey"
    folder.mkdir()
    for i, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (6, 8, 8))):
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def loud(monkeypatch):
    """Somebody reads the lines that say how a run goes."""
    for name in ("TUTORIAL_LIB_QUIET", "CI"):
        monkeypatch.delenv(name, raising=False)


def cli(command: str, **options) -> int:
    named = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return main([*shlex.split(f"{command} {SMALL}"), *named])


def a_clock(monkeypatch, seconds) -> None:
    """A clock on which step number k takes seconds(k): it is read before and after each."""
    now, numbers = [0.0], count(1)

    def draw(*given, **named):
        now[0] += seconds(next(numbers))
        return drawn(*given, **named)

    drawn = train.draw
    monkeypatch.setattr(train, "draw", draw)
    monkeypatch.setattr(train, "time", SimpleNamespace(perf_counter=lambda: now[0]))


# --- what is measured


def test_the_first_step_is_left_out_and_a_slow_one_moves_nothing():
    probe = Probe()
    for seconds in (9.0, 0.2, 0.2, 3.0, 0.2, 0.2, 0.2, 0.2, 0.2):
        assert not probe.done
        probe.see(1, seconds)
    assert probe.done and len(probe.seconds) == STEPS
    assert probe.per_step == 0.2 and probe.steps_in(1) == 300
    probe.see(1, 100.0)
    assert len(probe.seconds) == STEPS, "it has seen enough"


def test_slow_steps_are_not_waited_for():
    """Two of a quarter of a minute each are enough: one to warm up, and one that counts."""
    probe = Probe()
    probe.see(1, 20.0)
    assert not probe.done
    probe.see(1, 15.0)
    assert probe.done and probe.per_step == 15.0 > SECONDS
    said = probe.forecast(200)
    assert said == "about 50 minutes on this machine (15 s a step, measured on 1 step)"


def test_a_gpu_reports_several_steps_at_once():
    probe = Probe()
    probe.see(10, 1.0)
    probe.see(10, 0.01)
    assert probe.done and len(probe.seconds) == 10 and probe.per_step == 0.01


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "1 second"),
        (40.4, "40 seconds"),
        (89.4, "89 seconds"),
        (90, "2 minutes"),
        (720, "12 minutes"),
        (5399, "90 minutes"),
        (5400, "1.5 hours"),
        (7200, "2 hours"),
        (48 * 3600, "2 days"),
        (100 * 3600, "4.2 days"),
    ],
)
def test_a_time_as_one_says_it(seconds, said):
    assert in_words(seconds) == said


# --- what is said


def test_a_run_says_how_long_it_will_take(grey, tmp_path, capsys, monkeypatch, loud):
    """0.18 s a step, the first one slower, on a clock of its own: 4,000 steps are 12 minutes."""
    a_clock(monkeypatch, lambda k: 7.0 if k == 1 else 0.18)
    assert cli("train --probe --steps 4000", data=grey) == 0
    *_, line = capsys.readouterr().out.splitlines()
    assert line == "about 12 minutes on this machine (0.18 s a step, measured on 8 steps)"
    assert cli("train --probe --minutes 9", data=grey) == 0
    *_, line = capsys.readouterr().out.splitlines()
    assert line == "about 3,000 steps in 9 minutes (0.18 s a step, measured on 8 steps)"
    out = tmp_path / "run"
    assert cli("train --steps 12", data=grey, out=out) == 0
    said = capsys.readouterr().out.splitlines()
    assert said.count("about 2 seconds on this machine (0.18 s a step, measured on 8 steps)") == 1
    assert cli("train --steps 8", data=grey, out=tmp_path / "short") == 0
    assert "about" not in capsys.readouterr().out, "it has ended before"


def test_a_resumed_run_speaks_of_what_is_left(grey, tmp_path, capsys, monkeypatch, loud):
    out = tmp_path / "run"
    assert cli("train --steps 4", data=grey, out=out) == 0
    before = {path: path.read_bytes() for path in out.iterdir()}
    a_clock(monkeypatch, lambda k: 0.5)
    capsys.readouterr()
    assert cli("train --probe --resume --steps 124", out=out) == 0
    assert "about 60 seconds on" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    assert cli("train --resume --steps 124", out=out) == 0
    assert "about 60 seconds on" in capsys.readouterr().out


def test_a_probe_for_other_programs(grey, tmp_path, capsys, monkeypatch):
    """One document, with what the time depends on; nothing is written anywhere."""
    monkeypatch.chdir(tmp_path)
    a_clock(monkeypatch, lambda k: 0.3)
    words = "train --probe --json --precision no --size 4 --steps 1000 --accumulation 2"
    assert cli(words, data=grey, out=tmp_path / "new") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out) == {
        "steps": 1000,
        "minutes": 5.0,
        "seconds_a_step": pytest.approx(0.3),
        "measured_steps": 8,
        "batch": 2,
        "device": "cpu",
        "precision": "no",
        "processes": 1,
        "images": 6,
    }
    assert cli("train --probe --json --minutes 3", data=grey) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 600
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--steps 5", "--out is missing"),
        ("--probe --resume", "--out is missing"),
        ("--json --out run", "--json is for --probe"),
        ("--probe --minutes 0", "minutes must be positive"),
        ("--probe --size 5", "the nearest legal sizes are 4 and 6"),
        ("--probe --target nonsense", "unknown target"),
    ],
)
def test_a_probe_refuses_what_a_run_would(grey, tmp_path, capsys, monkeypatch, options, said):
    monkeypatch.chdir(tmp_path)
    assert cli(f"train {options}", data=grey) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_probe_sees_a_run_that_would_not_be_begun(grey, tmp_path, capsys):
    """A folder that holds a run already is refused beforehand."""
    out = tmp_path / "run"
    assert cli("train --steps 1", data=grey, out=out) == 0
    assert cli("train --probe --steps 5", data=grey, out=out) == 2
    assert "already holds a run" in capsys.readouterr().err


# --- what is changed: nothing


def test_a_run_that_is_measured_is_the_same_to_the_last_byte(grey, tmp_path, capsys, monkeypatch):
    """Watched or not, after a probe or not, begun from weights or not."""
    for origin in ("", f"--from {tmp_path / 'plain'}"):
        runs = {}
        for name, quiet in (("plain", True), ("watched", False), ("probed", True)):
            out = tmp_path / (name + "_on" * bool(origin))
            monkeypatch.setenv("TUTORIAL_LIB_QUIET", "1" if quiet else "")
            if name == "probed":
                assert cli(f"train --probe --steps 12 {origin}", data=grey, out=out) == 0
            capsys.readouterr()
            assert cli(f"train --steps 12 {origin}", data=grey, out=out) == 0
            assert ("measured on" in capsys.readouterr().out) == (name == "watched")
            runs[name] = checkpoint.find(out).read_bytes()
        assert runs["plain"] == runs["watched"] == runs["probed"]


def test_several_processes_stop_together_and_one_speaks(grey, tmp_path):
    words = f"train --probe --json --steps 100 --data {grey} {SMALL}"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launch, "-m", "tutorial_lib", *shlex.split(words)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["processes"] == 2 and found["steps"] == 100 and found["minutes"] > 0
    assert not list(tmp_path.iterdir())
