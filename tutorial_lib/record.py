"""What stays of a run: its state, saved with patience, and what the file says of its making."""

import json
import math
import platform
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import tutorial_lib
from tutorial_lib import files
from tutorial_lib.checkpoint import FILE
from tutorial_lib.config import EARLIER, TrainConfig
from tutorial_lib.engine.run import Run

FREE = ("steps", "report_every", "save_every")  # may differ when a run is resumed
BESIDE = "record.json"  # next to the checkpoint: what differs between two runs of the same seed


def file_of(out: Path | str | None, *, resume: bool, overwrite: bool) -> Path | None:
    """The checkpoint of a run, if it has a folder.  Raises ValueError unless it may be written."""
    if out is None and resume:
        raise ValueError("resume needs the folder of the earlier run: give out=...")
    path = None if out is None else Path(out) / FILE
    if path and path.exists() and not resume and not overwrite:
        raise ValueError(
            f"{path.parent} already holds a run; go on with it by resume=True, choose another "
            "folder, or let it be lost by overwrite=True"
        )
    return path


def described(network: nn.Module, losses: dict[str, Callable]) -> dict[str, Any]:
    """What a network and its losses tell of themselves, for the record.

    "model": the network's `config`, if it is a dataclass.  And what is in the `about` of a loss.
    """
    told: dict[str, Any] = {}
    config = getattr(network, "config", None)
    if is_dataclass(config) and not isinstance(config, type):
        told["model"] = asdict(config)
    for loss in losses.values():
        told |= getattr(loss, "about", {})
    return told


def check_same(path: Path, now: dict[str, Any], then: dict[str, Any]) -> None:
    """Raise ValueError, naming what differs, unless a run may go on from a file's state.

    then: what the file at `path` says.  now: the present configuration, with the same names.
    """
    if "step" not in then or not isinstance(then.get("train"), dict):
        raise ValueError(f"{path} holds weights without a training state: nothing can be resumed")
    now = json.loads(json.dumps(now))  # a tuple returns as a list
    settings = EARLIER | then["train"]
    if unknown := then["train"].keys() - now["train"].keys():
        raise ValueError(
            f"{path} was trained with {', '.join(sorted(unknown))}, which this configuration does "
            "not know; resume with the kind of configuration, and the version, that wrote it"
        )
    for name in (name for name in now["train"] if name not in FREE):
        if settings.get(name) != now["train"][name]:
            raise ValueError(
                f"{path} was trained with {name} = {settings.get(name)}, "
                f"not {now['train'][name]}; resume with the same"
            )
    if "model" in now and then.get("model", now["model"]) != now["model"]:
        raise ValueError(
            f"{path} holds weights of another network: {then['model']}, not {now['model']}"
        )
    if then.get("beta") != now.get("beta"):
        raise ValueError(
            f"{path} was trained on another noise schedule; give algorithm_1 the same table"
        )


class Keeper:
    """Saves a run, when it is due and when it ends early.

    run: whose state of the latest whole step it saves.
    path: of the checkpoint; None keeps nothing.
    about: what the checkpoint says, besides configuration and step.
    config: how the run optimises; with a new number of steps, it is set anew.
    """

    def __init__(
        self, run: Run, path: Path | None, about: dict[str, Any], config: TrainConfig
    ) -> None:
        self.run, self.path, self.config = run, path, config
        self.about = about | {"record": _made_with(run)}
        self.losses: list[Tensor] = []  # since the latest report, of each step: (parts,)
        self.saved = run.done
        self.earlier = _beside(path) if path and run.done else {}
        self.began, self.started = _now(), time.perf_counter()
        json.dumps(self.about)  # fails now rather than at the first save

    def take_losses(self) -> list[list[float]]:
        """The losses of the steps since the latest report; ValueError if one is not a number."""
        by_step = torch.stack(self.losses).tolist()
        first = self.run.done - len(by_step) + 1
        for number, losses in enumerate(by_step, first):
            for loss in losses:
                if not math.isfinite(loss):
                    raise self._diverged(f"the loss became {loss}", number)
        self.losses.clear()
        return by_step

    def save(self) -> None:
        """Save, in several attempts.  Raises OSError, or ValueError for weights that diverged."""
        if self.path is None:
            return
        try:
            files.patiently(self._write)
        except FloatingPointError as error:  # the update after a last finite loss
            raise self._diverged(str(error), self.run.done) from error
        self.saved = self.run.done

    def _diverged(self, what: str, step: int) -> ValueError:
        where = ""
        if self.path is not None and self.path.exists():
            where = f"the last good checkpoint is kept in {self.path.parent}; "
        return ValueError(
            f"{what} at step {step}, so training stopped; {where}"
            "try a lower lr, a lower clip or precision no"
        )

    def save_or_warn(self) -> None:
        """Save; where that fails, say so, and let training go on: the next save may succeed."""
        try:
            self.save()
        except OSError as error:
            warnings.warn(
                f"step {self.run.done} is not saved, and training goes on: {error}", stacklevel=2
            )

    def rescue(self) -> None:
        """Save what is not saved yet, if it is worth keeping: the state of a whole, finite step."""
        finite = all(bool(loss.isfinite().all()) for loss in self.losses)
        if self.run.done > self.saved and self.run.whole and finite:
            self.save()

    def _write(self) -> None:
        assert self.path is not None
        said = {"train": asdict(self.config), "step": self.run.done}
        self.run.save(self.path, self.about | said)
        files.write(self.path.with_name(BESIDE), json.dumps(self._times(), indent=1).encode())

    def _times(self) -> dict[str, Any]:
        """When, by which command and how long, over all parts of a run that was resumed."""
        seconds = time.perf_counter() - self.started
        return {
            "began": self.earlier.get("began", self.began),
            "saved": _now(),
            "command": sys.argv,
            "seconds": round(self.earlier.get("seconds", 0) + seconds, 1),
            "images": self.run.done * self.config.batch,
        }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _made_with(run: Run) -> dict[str, Any]:
    """Versions, device and effective precision: the same for two runs of the same machine."""
    return {
        "tutorial_lib": tutorial_lib.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": run.accelerator.device.type,
        "precision": run.accelerator.mixed_precision,
    }


def _beside(path: Path) -> dict[str, Any]:
    """What an earlier part of the run has noted, if that can be read."""
    try:
        return json.loads(path.with_name(BESIDE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
