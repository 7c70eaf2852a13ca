"""`train` from the command line: what a run remembers, says, logs and draws, and how it ends."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT
from PIL import Image
from safetensors.torch import safe_open

from tutorial_lib import checkpoint
from tutorial_lib.cli import READER_GONE, following, inputs, log, main, training
from tutorial_lib.engine import stopping
from tutorial_lib.nets.unet import UNetConfig

SMALL = "--widths 8 --batch 2"  # a network of some thousand numbers


def cli(command: str, **options) -> int:
    named = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return main([*shlex.split(command), *named, "--device", "cpu"])


def refused(capsys, command: str, **options) -> str:
    """Run something that cannot work; the one sentence that it says."""
    capsys.readouterr()
    assert cli(command, **options) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    return line


def pictures(folder: Path, count: int = 6, size: int = 8, seed: int = 0, colour: bool = False):
    """A folder of noise as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    for i in range(count):
        shape = (size, size, 3) if colour else (size, size)
        pixels = generator.integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02}.png")
    return folder


def record(run: Path) -> dict:
    return checkpoint.load(run)[1]


def rows(run: Path) -> np.ndarray:
    return np.loadtxt(run / "loss.csv", delimiter=",", skiprows=1, ndmin=2)


@pytest.fixture(scope="module")
def grey(tmp_path_factory) -> Path:
    return pictures(tmp_path_factory.mktemp("images") / "grey")


@pytest.fixture(scope="module")
def trained(grey, tmp_path_factory) -> Path:
    """A run of three steps on a folder; a test that changes it copies it."""
    out = tmp_path_factory.mktemp("runs") / "trained"
    assert cli(f"train {SMALL} --steps 3 --seed 5 --target eps", data=grey, out=out) == 0
    return out


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """A copy of it."""
    copy = tmp_path / "run"
    copy.mkdir()
    for path in trained.iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    return copy


# --- resume takes everything along


def test_resuming_takes_data_size_and_seed_along(tmp_path, monkeypatch):
    """Begun from a relative path and with --size, and resumed from another folder by name alone."""
    pictures(tmp_path / "photos", size=12)
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "run"
    assert cli(f"train {SMALL} --steps 2 --seed 5 --size 8", data="photos", out=out) == 0
    before = record(out)
    assert before["images"]["source"] == str(tmp_path / "photos")
    assert before["images"]["size"] == 8 and before["images"]["count"] == 6
    monkeypatch.chdir("/")
    assert cli("train --resume --steps 4", out=out) == 0
    after = record(out)
    assert after["step"] == 4 and after["images"] == before["images"]
    assert after["train"] == before["train"] | {"steps": 4} and after["train"]["seed"] == 5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--data embedded", ["data = {grey}", "not embedded (", "10,000 train images"]),
        ("--size 10", ["size = 8, not 10"]),
        ("--seed 0", ["seed = 5, not 0"]),
        ("--target v", ["target = eps, not v"]),
        ("--batch 4", ["batch = 2, not 4"]),
        ("--widths 16", ["widths = (8,), not (16,)", "leave --widths out"]),
        ("--blocks 2", ["blocks = 1, not 2"]),
        ("--from fashion_mnist", ["--from begins a new run"]),
    ],
)
def test_resuming_refuses_what_differs_and_names_both(run, grey, capsys, options, said):
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    message = refused(capsys, f"train --resume --steps 5 {options}", out=run)
    for words in said:
        assert words.format(grey=grey) in message
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"change": {"step": None}}, "nothing to resume"),
        ({"change": {}, "train": {"shine": 3}}, "was trained with shine, which this configuration"),
    ],
)
def test_resuming_refuses_a_record_that_is_not_of_this_version(run, capsys, change, said):
    changed(run, **change)
    assert said in refused(capsys, "train --resume", out=run)


def test_a_folder_that_is_called_like_a_source_is_not_the_source(tmp_path, monkeypatch):
    for name in ("auto", "fashion_mnist", "photos"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    assert inputs.named("auto") == "auto" and inputs.named("fashion_mnist") == "fashion_mnist"
    assert inputs.named("photos") == str(tmp_path / "photos")


def test_resuming_allows_what_is_the_same(run, grey):
    same = f"--size 8 --seed 5 --target eps --batch 2 --widths 8 --data {shlex.quote(str(grey))}"
    assert cli(f"train --resume --steps 4 {same}", out=run) == 0


def test_images_that_changed_moved_or_went_away(tmp_path, capsys):
    """One pixel more or less is enough; the same pictures in another place are the same."""
    folder, out = pictures(tmp_path / "photos"), tmp_path / "run"
    assert cli(f"train {SMALL} --steps 1", data=folder, out=out) == 0
    pictures(folder, count=7)
    message = refused(capsys, "train --resume --steps 2", out=out)
    assert "6 then, 7 now" in message and str(folder) in message and "--from" in message
    (folder / "06.png").unlink()
    pixels = np.asarray(Image.open(folder / "00.png")).copy()
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(folder / "00.png")
    assert "other pixels" in refused(capsys, "train --resume --steps 2", out=out)
    pictures(folder)
    folder.rename(tmp_path / "moved")
    message = refused(capsys, "train --resume --steps 2", out=out)
    assert "are gone" in message and str(folder) in message and "--data" in message
    assert cli("train --resume --steps 2", data=tmp_path / "moved", out=out) == 0
    assert record(out)["images"]["source"] == str(tmp_path / "moved")


def test_an_earlier_record_asks_for_its_data(run, grey, capsys):
    """It has one line about the images, and not where they are."""
    tensors, configuration = checkpoint.load(run)
    del configuration["images"]
    checkpoint.save(run / checkpoint.FILE, tensors, configuration)
    message = refused(capsys, "train --resume --steps 4", out=run)
    assert "earlier version" in message and "6 grey images" in message and "--data" in message
    assert cli("train --resume --steps 4", data=grey, out=run) == 0
    assert record(run)["images"]["source"] == str(grey)


def test_size_is_for_folders(tmp_path, capsys):
    message = refused(capsys, "train --data embedded --size 32", out=tmp_path / "run")
    assert "--size is for a folder of images" in message


# --- the log


def test_the_log_has_rates_and_times_that_go_on_after_a_break(run):
    head = (run / "loss.csv").read_text().splitlines()[0]
    assert head == "step,loss,lr,images_per_second,seconds"
    before = rows(run)
    np.testing.assert_allclose(before[:, 2], [2e-3 * k / 50 for k in (1, 2, 3)])  # the warm-up
    assert (before[:, 3] > 0).all() and (np.diff(before[:, 4]) >= 0).all()
    (run / "loss.csv").write_text(
        (run / "loss.csv").read_text().replace(f"{before[-1, 4]:.2f}", "1000.00")
    )
    assert cli("train --resume --steps 5", out=run) == 0
    after = rows(run)
    assert after[:, 0].tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(after[:3, :4], before[:, :4])
    assert (after[3:, 4] >= 1000).all()


def test_rows_after_the_last_checkpoint_are_cut_off(run):
    """As after `kill -9`: steps that were logged, and not saved, and a row that is not whole."""
    text = (run / "loss.csv").read_text()
    (run / "loss.csv").write_text(text + "4,0.5,0.1,10.0,7.00\n5,0.5,0.1,10.0,8.00\n6,0.5,0.")
    assert cli("train --resume --steps 5", out=run) == 0
    assert rows(run)[:, 0].tolist() == [1, 2, 3, 4, 5]
    assert "0.500000" not in (run / "loss.csv").read_text().split("\n4,")[0].split("\n")[-1]
    assert (rows(run)[3:, 1] != 0.5).all()


def test_the_last_words_are_about_the_latest_losses(grey, tmp_path, capsys):
    """Not about the last one alone, which depends on chance: as many as are shown together."""
    assert cli(f"train {SMALL} --steps 7 --report-every 4", data=grey, out=tmp_path) == 0
    mean = rows(tmp_path)[3:, 1].mean()
    assert f"loss {mean:.4f}; saved" in capsys.readouterr().out
    assert f"final loss: {mean:.4f}" in (tmp_path / "README.md").read_text()


def test_each_row_is_on_disk_before_the_next_step(grey, tmp_path, monkeypatch):
    """So that whatever ends the program, it takes none along."""
    original, seen = training.train.draw, []

    def draw(images, step, config):
        seen.append(len(rows(tmp_path)) if step > 1 else 0)
        return original(images, step, config)

    monkeypatch.setattr(training.train, "draw", draw)
    assert cli(f"train {SMALL} --steps 4 --report-every 3", data=grey, out=tmp_path) == 0
    assert seen == [0, 1, 2, 3]


def test_a_log_of_two_columns_is_carried_on(tmp_path):
    path = tmp_path / "loss.csv"
    path.write_text("step,loss\n1,0.900000\n2,0.800000\n3,0.700000\n")
    assert log.begin(path, 2) == 0
    assert log.append(path, [log.row(3, 0.7, 0.01, 5, 1.5)]) == []
    found = np.loadtxt(path, delimiter=",", skiprows=1)
    np.testing.assert_array_equal(found[:, :2], [[1, 0.9], [2, 0.8], [3, 0.7]])
    assert np.isnan(found[:2, 2:]).all() and found[2, 2:].tolist() == [0.01, 5, 1.5]


def test_rows_that_cannot_be_written_wait(tmp_path):
    path = tmp_path / "away" / "loss.csv"
    waiting = log.append(path, ["1,a\n"])
    path.parent.mkdir()
    assert log.append(path, [*waiting, "2,b\n"]) == [] and path.read_text() == "1,a\n2,b\n"


# --- what one sees


def test_plain_lines_where_no_bar_is(grey, tmp_path, capsys, monkeypatch):
    """One for each twentieth of the run, if time does not matter; nothing overwrites itself."""
    monkeypatch.delenv("TUTORIAL_LIB_QUIET", raising=False)
    monkeypatch.setenv("CI", "1")  # nobody watches
    monkeypatch.setattr(following, "LINE_SECONDS", (0, 10**6))
    assert cli(f"train {SMALL} --steps 40 --report-every 7", data=grey, out=tmp_path) == 0
    out, err = capsys.readouterr()
    lines = re.findall(
        r"^step (\d+) of 40, loss \d\.\d{4}, \d+ images/s, \d+:\d\d left$", out, re.M
    )
    assert [int(step) for step in lines] == list(range(2, 40, 2))
    assert "\r" not in out + err and err == ""


@pytest.mark.parametrize(
    ("seconds", "share", "due"),
    [(4, 0.5, False), (6, 0.01, False), (6, 0.05, True), (29, 0.04, False), (30, 0.0, True)],
)
def test_a_line_is_due(seconds, share, due):
    assert following.is_due(seconds, share) is due


def test_a_closed_pipe_does_not_end_training(grey, tmp_path, monkeypatch):
    """It reaches its end, and the exit code says that nobody has read the words."""
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as nobody_reads:
        monkeypatch.setattr(sys, "stdout", nobody_reads)
        assert cli(f"train {SMALL} --steps 2", data=grey, out=tmp_path) == READER_GONE
    assert record(tmp_path)["step"] == 2


# --- stopping


def test_a_stop_is_heard_at_the_next_step(grey, tmp_path, capfd, monkeypatch):
    """Whatever --report-every says; with the exit code of a program that the signal has ended."""
    heard = []

    def draw(step, images, config):
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
            heard.append(step)
        return original(images, step, config)

    original = training.train.draw
    monkeypatch.setattr(
        training.train, "draw", lambda images, step, config: draw(step, images, config)
    )
    with pytest.raises(SystemExit) as stop:
        cli(f"train {SMALL} --steps 50 --report-every 40", data=grey, out=tmp_path)
    assert stop.value.code == 128 + signal.SIGTERM and heard == [3]
    out, err = capfd.readouterr()
    assert "stopping, saving" in err and "stopped at step 3 of 50" in out
    assert record(tmp_path)["step"] == 3 and len(rows(tmp_path)) == 3
    assert "step: 3" in (tmp_path / "README.md").read_text()


def test_a_stop_at_the_last_step_is_an_end(grey, tmp_path, monkeypatch):
    original = training.train.draw

    def draw(images, step, config):
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return original(images, step, config)

    monkeypatch.setattr(training.train, "draw", draw)
    assert cli(f"train {SMALL} --steps 2", data=grey, out=tmp_path) == 0


def test_a_finished_run_has_nothing_left_to_do(run, capsys):
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert cli("train --resume", out=run) == 0
    assert "nothing left to do" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


IMPATIENT = """
import os, signal, sys, time
from tutorial_lib.engine import stopping
stopping.ONE_WISH = 0.05
with stopping.on_signals() as stopped:
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)  # the same wish, as a launcher passes it on
    print("alive", stopped, flush=True)
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGINT)
    print("too late", flush=True)
"""


def program(*words: str, **options) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment |= options.pop("environment", {})
    return subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.skipif(os.name == "nt", reason="Windows sends signals to itself in another way")
def test_a_second_wish_leaves_at_once():
    done = program("-c", IMPATIENT)
    assert done.returncode == 130
    assert done.stdout == "alive [2]\n" and done.stderr.count("stopping, saving") == 1


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping.on_signals() as stopped:
            os.kill(os.getpid(), signal.SIGHUP)
        assert stopped == []
    finally:
        signal.signal(signal.SIGHUP, before)


# --- several processes


@pytest.mark.parametrize(
    ("variables", "main", "speaks"),
    [
        ({}, True, True),
        ({"RANK": "1"}, True, True),
        ({"RANK": "1", "WORLD_SIZE": "1", "LOCAL_RANK": "1"}, True, True),
        ({"RANK": "1", "WORLD_SIZE": "2"}, True, True),
        ({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}, False, False),
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, True, True),
        ({"RANK": "4", "WORLD_SIZE": "8", "LOCAL_RANK": "0"}, False, True),
    ],
)
def test_which_process_is_the_first(monkeypatch, variables, main, speaks):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (stopping.is_main(), stopping.speaks()) == (main, speaks)


def test_a_rank_alone_changes_nothing(grey, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert cli(f"train {SMALL} --steps 2", data=grey, out=tmp_path) == 0
    assert "done at step 2" in capsys.readouterr().out and len(rows(tmp_path)) == 2


def test_of_several_processes_one_says_what_is_wrong(grey, tmp_path, capsys, monkeypatch):
    """The others leave with the same code; and only after it, because a launcher ends them all."""
    waited = []
    monkeypatch.setattr(training.time, "sleep", waited.append)
    monkeypatch.setenv("WORLD_SIZE", "3")
    said = []
    for rank in ("0", "1", "2"):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("LOCAL_RANK", rank)
        try:
            code = cli("train --accumulation 3", data=grey, out=tmp_path / "run")
        except SystemExit as stop:
            code = stop.code
        assert code == 2
        said.append(capsys.readouterr().err)
    assert "3 equal pieces" in said[0] and said[1:] == ["", ""]
    assert len(waited) == 2 and min(waited) > 0


# --- from given weights, and other sizes of network


def test_from_given_weights(trained, grey, tmp_path):
    """At a rate that moves nothing they are still the averaged ones that were given; the
    schedule and the target are theirs, all else is new.
    """
    out = tmp_path / "tuned"
    still = "--lr 1e-30 --lr-muon 1e-30 --warmup 0 --precision no --batch 3 --steps 1"
    assert cli(f"train {still}", data=grey, out=out, **{"from": trained}) == 0
    given, found = checkpoint.load(trained), checkpoint.load(out)
    for name, tensor in checkpoint.part(given[0], "ema").items():
        torch.testing.assert_close(checkpoint.part(found[0], "model")[name], tensor)
    assert found[1]["step"] == 1 and found[1]["model"] == given[1]["model"]
    assert found[1]["train"]["target"] == "eps" and found[1]["train"]["seed"] == 0
    assert found[1]["from"] == {"weights": str(trained.resolve()), "step": 3}
    assert cli("train --resume --steps 2", out=out) == 0
    assert record(out)["from"] == found[1]["from"] and record(out)["step"] == 2


def changed(run: Path, change: dict, train: dict | None = None) -> None:
    """Change what the file of a run says of itself; None takes an entry away."""
    tensors, configuration = checkpoint.load(run)
    said = configuration | change | {"train": configuration["train"] | (train or {})}
    said = {name: value for name, value in said.items() if value is not None}
    checkpoint.save(run / checkpoint.FILE, tensors, said)


def test_weights_with_a_schedule_of_their_own_are_not_trained_on_another(run, tmp_path, capsys):
    changed(run, {"beta": [0.001] * 1000})
    message = refused(capsys, "train --steps 1", out=tmp_path / "next", **{"from": run})
    assert "noise schedule of its own" in message and "algorithm_1" in message


def test_from_shipped_weights_every_weight_moves(tmp_path):
    """Pictures of a folder come in the size of the network."""
    folder, out = pictures(tmp_path / "photos", size=40), tmp_path / "run"
    assert (
        cli("train --batch 2 --steps 2 --warmup 0 --from fashion_mnist", data=folder, out=out) == 0
    )
    given, found = checkpoint.load("fashion_mnist")[0], checkpoint.load(out)[0]
    before, after = checkpoint.part(given, "ema"), checkpoint.part(found, "model")
    assert all((after[name] != before[name]).any() for name in before)
    assert record(out)["images"]["size"] == 28


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--target v", ["target = eps, not v", "leave --target out"]),
        ("--T 10", ["T = 1000, not 10"]),
        ("--self-conditioning", ["self_conditioning = False, not True", "--self-conditioning"]),
        ("--labels", ["labels = False, not True", "leave --labels out"]),
        ("--widths 16", ["widths = (8,), not (16,)"]),
        ("--size 12", ["size = 8, not 12"]),
        ("--data {colour}", ["1 channel of 8 x 8", "3 channels of 8 x 8"]),
        ("--data embedded", ["1 channel of 8 x 8", "1 channel of 28 x 28"]),
        ("--from classifier", ["not a U-Net's"]),
        ("--from nowhere", ["no weights at nowhere"]),
    ],
)
def test_from_refuses_what_does_not_fit(trained, grey, tmp_path, capsys, options, said):
    options = options.format(colour=shlex.quote(str(pictures(tmp_path / "c", colour=True))))
    options += "" if "--from" in options else f" --from {shlex.quote(str(trained))}"
    options += "" if "--data" in options else f" --data {shlex.quote(str(grey))}"
    message = refused(capsys, f"train --steps 1 {options}", out=tmp_path / "run")
    assert all(words in message for words in said), message
    assert not (tmp_path / "run" / checkpoint.FILE).exists()


def test_another_size_of_network(grey, tmp_path):
    sizes = "--widths 8,16 --blocks 2 --patch 1"
    assert cli(f"train {sizes} --batch 2 --steps 1", data=grey, out=tmp_path) == 0
    expected = UNetConfig(image_size=8, widths=(8, 16), blocks=2, patch=1)
    assert UNetConfig(**record(tmp_path)["model"]) == expected
    assert cli("train --resume --steps 2", out=tmp_path) == 0
    assert UNetConfig(**record(tmp_path)["model"]) == expected


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ("--widths 12", "width 12 is not a multiple of groups = 8"),
        ("--widths 8,8,8,8", "the nearest legal sizes are 16"),
        ("--widths 0", "must be a positive"),
        ("--blocks 0", "must be a positive"),
        ("--patch 3", "the nearest legal sizes are 6 and 9"),
        ("--preview-every 0", "preview_every must be positive"),
    ],
)
def test_sizes_that_do_not_fit(grey, tmp_path, capsys, sizes, said):
    sizes += "" if "--widths" in sizes else " --widths 8"
    assert said in refused(capsys, f"train {sizes}", data=grey, out=tmp_path / "run")


def test_widths_that_are_no_numbers(grey, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        cli("train --widths 8,many", data=grey, out=tmp_path)
    assert stop.value.code == 2 and "such as 32,64" in capsys.readouterr().err


# --- pictures on the way


def tensors(run: Path) -> dict[str, bytes]:
    with safe_open(run / checkpoint.FILE, framework="pt") as file:
        return {key: file.get_tensor(key).numpy().tobytes() for key in list(file.keys())}


@pytest.mark.parametrize("more", ["", "--self-conditioning"])
def test_previews_show_progress_and_change_nothing(grey, tmp_path, more):
    """The weights are the same to the last bit, and the noise is always the same: pictures of a
    network that does not move are equal.
    """
    command = f"train {SMALL} --T 20 --steps 5 --report-every 4 {more}"
    assert cli(command, data=grey, out=tmp_path / "without") == 0
    assert cli(f"{command} --preview-every 2", data=grey, out=tmp_path / "with") == 0
    assert tensors(tmp_path / "with") == tensors(tmp_path / "without")
    names = [f"preview_{step:06}.png" for step in (2, 4, 5)]  # the end as well
    assert sorted(path.name for path in (tmp_path / "with").glob("*.png")) == names
    picture = Image.open(tmp_path / "with" / names[0])
    assert picture.size == (4 * 8 + 3 * 2, 4 * 8 + 3 * 2)
    still = f"{command} --lr 1e-30 --lr-muon 1e-30 --preview-every 3"
    assert cli(still, data=grey, out=tmp_path / "still") == 0
    a, b = (tmp_path / "still" / f"preview_{step:06}.png" for step in (3, 5))
    assert a.read_bytes() == b.read_bytes()


def test_a_preview_that_cannot_be_written_is_said(grey, tmp_path, capsys):
    (tmp_path / "preview_000001.png").mkdir()
    assert cli(f"train {SMALL} --T 5 --steps 2 --preview-every 1", data=grey, out=tmp_path) == 0
    assert "no preview at step 1" in capsys.readouterr().out
    assert (tmp_path / "preview_000002.png").is_file()


# --- trackers


class Writer:
    """A stand-in for the writer of TensorBoard, which the tests do without."""

    said: list[tuple]

    def __init__(self, folder):
        self.said.append(("begins", folder))

    def add_hparams(self, values, metric_dict):
        self.said.append(("settings", values))

    def add_scalar(self, name, value, global_step):
        self.said.append((name, global_step, value))

    def flush(self):
        pass

    def close(self):
        self.said.append(("ends",))


def test_a_tracker_hears_loss_rate_and_speed(grey, tmp_path, monkeypatch):
    from accelerate import tracking

    monkeypatch.setattr(Writer, "said", said := [], raising=False)
    stand_in = SimpleNamespace(SummaryWriter=Writer)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", stand_in)
    monkeypatch.setattr(tracking, "get_available_trackers", lambda: ["tensorboard"])
    command = f"train {SMALL} --steps 4 --report-every 2 --track tensorboard"
    assert cli(command, data=grey, out=tmp_path / "mine") == 0
    assert said[0] == ("begins", str(tmp_path / "mine" / "tracking" / "mine"))
    assert said[1][0] == "settings" and said[1][1]["batch"] == 2 and said[1][1]["target"] == "v"
    assert said[-1] == ("ends",)
    names = [(line[0], line[1]) for line in said[2:-1]]
    assert names == [(name, k) for k in (2, 4) for name in ("loss", "lr", "images_per_second")]
    losses = [line[2] for line in said if line[0] == "loss"]
    found = rows(tmp_path / "mine")[:, 1]
    assert losses == pytest.approx([found[:2].mean(), found[2:].mean()], abs=1e-6)


def test_trackers_that_are_not_here(grey, tmp_path, capsys, monkeypatch):
    from accelerate import tracking

    monkeypatch.setattr(tracking, "get_available_trackers", lambda: [])
    message = refused(capsys, "train --track wandb", data=grey, out=tmp_path / "run")
    assert "wandb is not installed" in message and "pip install wandb" in message
    message = refused(capsys, "train --track excel", data=grey, out=tmp_path / "run")
    assert "unknown tracker 'excel'" in message and "tensorboard" in message
    assert not (tmp_path / "run").exists()


# --- the card, and paths


def test_a_run_ends_with_a_model_card(trained):
    text = (trained / "README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert text.startswith("---\n") and front["license"] == "unknown"
    for said in ("grey: 6 grey images", "8 x 8 pixels", "widths: 8", "step: 3", "target: eps"):
        assert said in text
    assert f"torch: {torch.__version__}" in text and "final loss: " in text
    assert "--batch 2" in text and "tutorial_lib sample --weights" in text


def test_a_card_that_was_edited_stays(run):
    text = (run / "README.md").read_text()
    assert text.count(training.MARK) == 1
    own = text.replace(training.MARK, "") + "My words.\n"
    (run / "README.md").write_text(own)
    assert cli("train --resume --steps 4", out=run) == 0
    assert (run / "README.md").read_text() == own


def test_a_page_in_an_encoding_of_its_own_stays(run):
    own = "Schöne Bilder".encode("latin-1")
    (run / "README.md").write_bytes(own)
    assert cli("train --resume --steps 4", out=run) == 0
    assert (run / "README.md").read_bytes() == own


def test_a_tilde_is_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    pictures(tmp_path / "photos")
    assert cli(f"train {SMALL} --steps 1 --data=~/photos --out=~/a") == 0
    assert cli("train --steps 1 --batch 2 --data=~/photos --out=~/b --from=~/a") == 0
    assert record(tmp_path / "b")["from"]["weights"] == str((tmp_path / "a").resolve())
    assert not Path("~").exists()
