"""What stays of a run: whole steps, whatever ends it; a folder of its own; how it was made."""

import json
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import psutil
import pytest
import torch
from torch import Tensor, nn

import tutorial_lib
from tutorial_lib import checkpoint, files, record, train
from tutorial_lib.config import EARLIER, DiffusionConfig, TrainConfig
from tutorial_lib.engine import hardware
from tutorial_lib.engine.optimisers import Together
from tutorial_lib.engine.order import generator_of

CONFIG = TrainConfig(
    steps=8, batch=4, warmup=2, precision="no", report_every=1, save_every=100, lr=0.01
)


class Normed(nn.Module):
    """Two parts; the first has buffers that change whenever it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.other = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.other(self.one(x))


def made(seed: int = 0) -> Normed:
    torch.manual_seed(seed)
    return Normed()


def draw(step: int) -> tuple[Tensor]:
    return (torch.randn(CONFIG.batch, 3, generator=generator_of(0, step)),)


def loss(network: nn.Module, x: Tensor) -> Tensor:
    return (network(x)[:, 0] - x[:, 0]).square()


def loss_of_one(network: nn.Module, x: Tensor) -> Tensor:
    return (network.one(x)[:, 0] - x[:, 0]).square()


ONE = {"": loss}
TWO = {"one": loss_of_one, "other": loss}


def at(step: int, error: type[BaseException], call: Callable) -> Callable:
    """A function that fails when it is called for the n-th time."""
    calls = []

    def failing(*given):
        calls.append(given)
        result = call(*given)
        if len(calls) == step:
            raise error("as planned")
        return result

    return failing


def run(out: Path, *, draw=draw, losses=ONE, config=CONFIG, seed=0, **options):
    options = {"device": "cpu"} | options
    return train.train(made(seed), draw, losses, config, out=out, **options)


def states(out: Path, losses) -> list[dict[str, Tensor]]:
    """What an undisturbed run has saved after each step."""
    often = replace(CONFIG, save_every=1)
    return [checkpoint.load(out)[0] for _ in run(out, losses=losses, config=often)]


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


def test_a_configuration_is_checked_once_and_not_at_each_step(tmp_path):
    assert all(report.config is CONFIG for report in run(tmp_path))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
@pytest.mark.parametrize("where", ["draw", "loss", "last loss", "caller"])
def test_whatever_ends_a_run_the_last_whole_step_is_kept(tmp_path, where, error):
    """In step 5: so the state is that of step 4, with its buffers, and can be resumed."""
    two = where == "last loss"
    losses = TWO if two else ONE
    expected = states(tmp_path / "whole", losses)
    broken = {"out": tmp_path / "broken", "losses": losses}
    if where == "draw":
        broken["draw"] = at(5, error, draw)
    elif where != "caller":
        name = list(losses)[-1]
        broken["losses"] = losses | {name: at(5, error, losses[name])}
    with pytest.raises(error, match="as planned"):
        for report in run(**broken):
            if where == "caller" and report.step == 4:
                raise error("as planned")
    tensors, configuration = checkpoint.load(tmp_path / "broken")
    assert configuration["step"] == 4
    same(tensors, expected[3])
    *_, last = run(tmp_path / "broken", losses=losses, seed=1, resume=True)
    same(checkpoint.load(tmp_path / "broken")[0], expected[-1])
    assert last.step == 8


def test_ctrl_c_while_weights_move_waits_until_they_have(tmp_path, monkeypatch):
    expected = states(tmp_path / "whole", ONE)
    move = at(5, KeyboardInterrupt, Together.step)  # calls for help with the move half made

    def pressed(self, closure=None):
        try:
            move(self, closure)
        except KeyboardInterrupt:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Together, "step", pressed)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        list(run(tmp_path / "broken"))
    tensors, configuration = checkpoint.load(tmp_path / "broken")
    assert configuration["step"] == 5
    same(tensors, expected[4])
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.parametrize("losses", [ONE, TWO])
def test_half_a_step_is_never_saved(tmp_path, monkeypatch, losses):
    """An optimiser that fails when it has moved something; with one loss an older state is all."""
    expected = states(tmp_path / "whole", losses)
    fails = 5 * len(losses)
    monkeypatch.setattr(Together, "step", at(fails, RuntimeError, Together.step))
    with pytest.raises(RuntimeError, match="as planned"):
        list(run(tmp_path / "broken", losses=losses, config=replace(CONFIG, save_every=3)))
    tensors, configuration = checkpoint.load(tmp_path / "broken")
    assert configuration["step"] == (3 if losses is ONE else 4)
    same(tensors, expected[configuration["step"] - 1])


def failing_disk(monkeypatch, fails: Callable[[int], bool]) -> list[int]:
    """Writing fails at the attempts that are chosen; the attempts, counted from 1."""
    attempts, write = [], checkpoint.save

    def save(*given):
        attempts.append(len(attempts) + 1)
        if fails(attempts[-1]):
            raise PermissionError("could not write the file: it is locked; try later")
        write(*given)

    monkeypatch.setattr(checkpoint, "save", save)
    monkeypatch.setattr(files, "PAUSES", (0.0, 0.0, 0.0))
    return attempts


def test_a_disk_that_fails_for_a_moment_goes_unnoticed(tmp_path, monkeypatch):
    attempts = failing_disk(monkeypatch, lambda attempt: attempt <= 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        *_, last = run(tmp_path)
    assert last.step == checkpoint.load(tmp_path)[1]["step"] == 8 and len(attempts) == 4


def test_a_save_that_fails_is_said_and_the_next_one_makes_up_for_it(tmp_path, monkeypatch):
    attempts = failing_disk(monkeypatch, lambda attempt: attempt <= 4)
    with pytest.warns(UserWarning, match="step 3 is not saved, and training goes on: .*locked"):
        *_, last = run(tmp_path, config=replace(CONFIG, save_every=3))
    assert last.step == 8 and len(attempts) == 6  # four for step 3, then 6 and 8
    assert checkpoint.load(tmp_path)[1]["step"] == 8


def test_a_last_save_that_fails_is_an_error(tmp_path, monkeypatch):
    failing_disk(monkeypatch, lambda attempt: attempt > 1)
    with (
        pytest.warns(UserWarning, match="step 6 is not saved"),
        pytest.raises(PermissionError, match="locked"),
    ):
        list(run(tmp_path, config=replace(CONFIG, save_every=3)))
    assert checkpoint.load(tmp_path)[1]["step"] == 3


def test_a_disk_that_fails_does_not_hide_what_ended_the_run(tmp_path, monkeypatch):
    failing_disk(monkeypatch, lambda attempt: True)
    with pytest.raises(KeyboardInterrupt, match="as planned"):
        list(run(tmp_path, draw=at(5, KeyboardInterrupt, draw)))
    reports = run(tmp_path)
    next(reports)
    with pytest.raises(PermissionError, match="locked"):
        reports.close()


def test_a_run_is_not_lost_by_starting_another_in_its_folder(tmp_path):
    list(run(tmp_path))
    before = (tmp_path / train.FILE).read_bytes()
    with pytest.raises(ValueError, match=r"already holds a run.*resume=True.*overwrite=True"):
        next(run(tmp_path))
    assert (tmp_path / train.FILE).read_bytes() == before
    list(run(tmp_path, seed=1, overwrite=True))
    assert (tmp_path / train.FILE).read_bytes() != before


# --- one run in a folder


def test_two_runs_do_not_meet_in_a_folder(tmp_path):
    first = run(tmp_path)
    next(first)
    for options in ({}, {"overwrite": True}):
        with pytest.raises(ValueError, match=r"another run is training into .*delete that file"):
            next(run(tmp_path, **options))
    list(run(tmp_path / "elsewhere"))
    first.close()
    assert not (tmp_path / files.LOCK).exists()
    list(run(tmp_path, resume=True))
    assert not (tmp_path / files.LOCK).exists()


def left_behind(folder: Path, **changed) -> None:
    """A lock as this process would write it, but for what is changed."""
    with files.locked(folder):
        held = json.loads((folder / files.LOCK).read_text())
    (folder / files.LOCK).write_text(json.dumps(held | changed))


def test_what_a_process_has_left_behind_is_taken_over(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for changed in ({"pid": ended.pid}, {"began": 0.0}):  # of the number that we have now, but old
        left_behind(tmp_path, **changed)
        with files.locked(tmp_path):
            assert json.loads((tmp_path / files.LOCK).read_text())["pid"] == psutil.Process().pid
        assert not (tmp_path / files.LOCK).exists()


@pytest.mark.parametrize("changed", [{"host": "another"}, {}, "", "[]"])
def test_a_lock_that_may_be_in_use_is_respected(tmp_path, changed):
    """Of another machine, of a living process, or one that cannot be read."""
    if isinstance(changed, str):
        (tmp_path / files.LOCK).write_text(changed)
    else:
        left_behind(tmp_path, **changed)
    with pytest.raises(ValueError, match="another run is training"), files.locked(tmp_path):
        pass
    assert (tmp_path / files.LOCK).exists()


def test_a_folder_that_cannot_be_locked_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(OSError, match=r"could not write .*choose a folder"),
        files.locked(tmp_path / "file" / "run"),
    ):
        pass


def test_a_file_in_the_place_of_the_folder_is_no_other_run(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(FileExistsError, match=r"could not write .*choose a folder"),
        files.locked(tmp_path / "file"),
    ):
        pass


def test_no_lock_is_left_where_it_could_not_be_written(tmp_path, monkeypatch):
    """On a disk that is full: the next run must not take it for one that is training."""

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(json, "dump", full)
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left"), files.locked(tmp_path):
            pass
    with files.locked(tmp_path):
        pass


def test_a_lock_that_goes_while_it_is_read_was_of_a_run_that_has_ended(tmp_path, monkeypatch):
    left_behind(tmp_path)
    read = Path.read_text

    def gone(path, **options):
        path.unlink()
        return read(path, **options)

    monkeypatch.setattr(Path, "read_text", gone)
    with files.locked(tmp_path):
        pass


# --- what may be resumed


def test_every_field_has_a_value_of_the_time_before_it():
    """The shipped weights have the oldest record of all: what it lacks was added later."""
    oldest = checkpoint.load("fashion_mnist")[1]["train"]
    names = {field.name for field in fields(DiffusionConfig)}
    assert names - oldest.keys() == EARLIER.keys(), "give EARLIER what runs did before the field"
    restored = DiffusionConfig(**EARLIER | oldest)
    now = {"train": vars(restored)}
    then = {"train": oldest, "step": 1}
    record.check_same(Path("old"), now, then)


def test_fields_of_a_newer_version_are_named():
    then = {"train": vars(CONFIG) | {"weight_decay": 0.1, "beta_3": 1}, "step": 1}
    with pytest.raises(ValueError, match=r"trained with beta_3, weight_decay, which .* not know"):
        record.check_same(Path("new"), {"train": vars(CONFIG)}, then)


@pytest.mark.parametrize("then", [{}, {"step": 3}, {"train": {}}, {"train": None, "step": 1}])
def test_weights_without_a_training_state_are_not_resumed(tmp_path, then):
    list(run(tmp_path))
    tensors, _ = checkpoint.load(tmp_path)
    checkpoint.save(tmp_path / train.FILE, tensors, then)
    with pytest.raises(ValueError, match="without a training state: nothing can be resumed"):
        list(run(tmp_path, resume=True))


# --- minutes


def clocked(monkeypatch, seconds: float) -> tuple[list[float], Callable]:
    """A clock of our own, and a `draw` that takes some of its time."""
    now = [100.0]
    monkeypatch.setattr(train.time, "perf_counter", lambda: now[0])

    def slow(step: int) -> tuple[Tensor]:
        now[0] += seconds
        return draw(step)

    return now, slow


@pytest.mark.parametrize("by_minutes", [False, True])
def test_a_finished_run_is_resumed_for_some_more_minutes(tmp_path, monkeypatch, by_minutes):
    now, slow = clocked(monkeypatch, 1.0)
    planned = {"minutes": 1.0} if by_minutes else {}
    *_, first = run(tmp_path, draw=slow, **planned)
    assert first.step == (60 if by_minutes else 8)
    started = now[0]
    config = replace(CONFIG, steps=first.step)
    *_, last = run(tmp_path, draw=slow, config=config, resume=True, minutes=3.0)
    assert now[0] - started == 180 and last.step == last.config.steps == first.step + 180
    assert last.lr == CONFIG.lr_end


def test_minutes_in_which_few_steps_fit(tmp_path, monkeypatch):
    now, slow = clocked(monkeypatch, 25.0)
    *_, last = run(tmp_path, draw=slow, minutes=2.0)
    assert now[0] == 100 + 125 and last.step == 5
    assert checkpoint.load(tmp_path)[1]["step"] == 5


# --- how it was made


def test_the_record_says_with_what_and_how_long(tmp_path, monkeypatch):
    now, slow = clocked(monkeypatch, 2.0)
    monkeypatch.setattr(sys, "argv", ["program", "--of", "mine"])
    list(run(tmp_path, draw=slow))
    made_with = checkpoint.load(tmp_path)[1]["record"]
    assert made_with == {
        "tutorial_lib": tutorial_lib.__version__,
        "torch": torch.__version__,
        "python": sys.version.split()[0],
        "device": "cpu",
        "precision": "no",
    }
    first = json.loads((tmp_path / record.BESIDE).read_text())
    now[0] += 1000  # between the two parts
    list(run(tmp_path, draw=slow, config=replace(CONFIG, steps=10), resume=True))
    both = json.loads((tmp_path / record.BESIDE).read_text())
    assert (first["seconds"], first["images"]) == (16, 32)
    assert (both["seconds"], both["images"]) == (20, 40)
    assert both["began"] == first["began"] and both["command"] == ["program", "--of", "mine"]
    list(run(tmp_path, draw=slow, overwrite=True))
    assert json.loads((tmp_path / record.BESIDE).read_text())["seconds"] == 16


def test_two_runs_of_one_seed_write_the_same_bytes(tmp_path):
    for name in ("one", "other"):
        list(run(tmp_path / name))
    one, other = ((tmp_path / name / train.FILE).read_bytes() for name in ("one", "other"))
    assert one == other


def test_what_json_cannot_hold_is_refused_at_once(tmp_path):
    with pytest.raises(TypeError, match="set"):
        next(run(tmp_path, about={"classes": {1, 2}}))
    assert list(tmp_path.iterdir()) == []


def test_the_scale_of_losses_is_resumed(tmp_path, monkeypatch):
    """As fp16 has it on a GPU: it doubles every three steps, and is halved where something
    overflows.
    """
    plain, scalers = hardware.accelerator, []

    def scaling(*given, **options):
        accelerator = plain(*given, **options)
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=256.0, growth_interval=3)
        scalers.append(accelerator.scaler)
        return accelerator

    monkeypatch.setattr(hardware, "accelerator", scaling)
    often = replace(CONFIG, save_every=1)
    expected = [
        checkpoint.load(tmp_path / "whole")[0] for _ in run(tmp_path / "whole", config=often)
    ]
    assert float(expected[-1]["scaler.scale"]) == 256 * 4
    list(run(tmp_path / "broken", config=replace(CONFIG, steps=5)))
    list(run(tmp_path / "broken", resume=True))
    ours, theirs = (checkpoint.load(tmp_path / name)[0] for name in ("broken", "whole"))
    assert torch.equal(ours["scaler.scale"], theirs["scaler.scale"])
    assert torch.equal(ours["scaler._growth_tracker"], theirs["scaler._growth_tracker"])
    assert scalers[-1].state_dict() == scalers[0].state_dict()
