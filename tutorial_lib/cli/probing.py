"""`train --probe`: how long a run would take here, measured on a few steps of it; nothing stays."""

from dataclasses import replace

import torch

from tutorial_lib import train
from tutorial_lib.cli import listing
from tutorial_lib.cli.following import say
from tutorial_lib.cli.settings import Settings
from tutorial_lib.engine import hardware, stopping
from tutorial_lib.engine.probe import Probe

ENDLESS = 10**6  # steps: the probe has long seen enough then


def run(task: Settings, minutes: float | None, json: bool) -> None:
    """Take the run's first steps, say what they foretell, and forget them.

    minutes: that the run may take, if there is a limit.
    json: one JSON document instead of a sentence.
    """
    probe = _measured(task)
    left = max(task.config.steps - task.done, 0)
    if not stopping.is_main():
        return
    if json:
        listing.print_json(_described(task, probe, left, minutes))
    else:
        say(probe.forecast(left, minutes))


def _measured(task: Settings) -> Probe:
    """All processes stop at the same step, when one of them has seen enough."""
    probe = Probe()
    config = replace(task.config, steps=ENDLESS, report_every=task.often)
    reports = train.train(task.network, *task.lesson[:2], config, device=task.device)
    for report in reports:
        probe.see(len(report.losses), config.batch / report.images_per_second)
        if stopping.agreed([1] if probe.done else []):
            reports.close()
    return probe


def _described(
    task: Settings, probe: Probe, left: int, minutes: float | None
) -> dict[str, str | int | float]:
    """The same in plain values, with what it depends on."""
    distributed, precision = torch.distributed.is_initialized(), task.config.precision
    steps = left if minutes is None else probe.steps_in(minutes)
    return {
        "steps": steps,
        "minutes": round(steps * probe.per_step / 60, 3),
        "seconds_a_step": probe.per_step,
        "measured_steps": len(probe.seconds),
        "batch": task.config.batch,
        "device": task.device,
        "precision": hardware.best_precision(task.device) if precision == "auto" else precision,
        "processes": torch.distributed.get_world_size() if distributed else 1,
        "images": len(task.images),
    }
