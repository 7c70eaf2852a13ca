"""What one sees and keeps of a run while it goes: a bar or lines, its log, pictures, trackers."""

import os
import time
from collections import deque
from collections.abc import Generator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tqdm import tqdm

from tutorial_lib import train
from tutorial_lib.cli import log, preview, tracking
from tutorial_lib.config import DiffusionConfig
from tutorial_lib.course.notebook import progress
from tutorial_lib.engine import stopping
from tutorial_lib.engine.probe import Probe
from tutorial_lib.nets.unet import UNet
from tutorial_lib.schedule import NoiseSchedule

LINE_SECONDS = (5, 30)  # where no bar is: a line this often at most, and at least
LINE_SHARE = 0.05  # ... and in between after this share of the run


def say(text: str) -> None:
    """Print a line at once, from the first process alone; a bar below it makes room."""
    if stopping.is_main():
        with tqdm.external_write_mode():
            print(text, flush=True)


@dataclass
class Meter:
    """The mean loss and the speed since it was last read.

    losses: of each step since then.  since: on the clock.
    """

    losses: list[float] = field(default_factory=list)
    since: float = field(default_factory=time.perf_counter)

    def read(self, batch: int) -> tuple[float, float]:
        """The mean loss, and the images a second; then it begins anew."""
        now = time.perf_counter()
        loss = sum(self.losses) / len(self.losses)
        speed = len(self.losses) * batch / (now - self.since)
        self.losses, self.since = [], now
        return loss, speed


@dataclass
class Follower:
    """Sees every report of a run, in the first process.

    out: its folder.  show_every: steps between two looks at the bar and in the trackers.
    preview_every: steps between two pictures, if there are to be any.  trackers: their names.
    minutes: that the run may take, if there is a limit.  schedule: that pictures are drawn on.
    """

    out: Path
    show_every: int
    preview_every: int | None
    trackers: list[str]
    minutes: float | None
    schedule: NoiseSchedule
    began: float = field(default_factory=time.perf_counter)
    before: float = 0.0  # seconds that the run had taken when it was resumed
    rows: list[str] = field(default_factory=list)  # that are not in the log yet
    meter: Meter = field(default_factory=Meter)  # since the last look
    line: Meter = field(default_factory=Meter)  # since the last line
    running: list = field(default_factory=list)  # trackers
    latest: deque[float] = field(default_factory=deque)  # losses, for the last words
    bar: tqdm | None = None
    first: int = 0  # steps that were done when this part of the run began
    probe: Probe = field(default_factory=Probe)

    def see(self, report: train.Progress) -> None:
        """Log, show, track and draw what is due after a report."""
        count = len(report.losses)
        bar = self.bar
        if bar is None:
            bar = self.bar = self._begin(report, report.step - count)
        self._keep(report, report.step - count + 1)
        for losses in (self.meter.losses, self.line.losses, self.latest):
            losses.extend(report.losses)
        bar.total = report.config.steps
        bar.update(count)
        if not self.probe.done:
            self._foretell(report)
        if _crosses(self.show_every, report):
            self._look(report, bar)
        if bar.disable and not os.environ.get("TUTORIAL_LIB_QUIET"):
            self._line(report)
        due = self.preview_every and _crosses(self.preview_every, report)
        if due or (self.preview_every and report.step == report.config.steps):
            self._picture(report)

    @property
    def loss(self) -> float:
        """The mean of the latest losses, as many as are shown together."""
        return sum(self.latest) / len(self.latest)

    @property
    def seconds(self) -> float:
        """How long the run has taken, without its breaks."""
        return self.before + time.perf_counter() - self.began

    def close(self) -> None:
        """Leave the bar as it is, and end the runs of the trackers."""
        if self.bar is not None:
            self.bar.close()
        for tracker in self.running:
            tracker.finish()

    def _begin(self, report: train.Progress, done: int) -> tqdm:
        first = len(report.losses) * report.config.batch / report.images_per_second  # seconds
        self.began = time.perf_counter() - first  # not when the program did
        self.first = done
        self.meter.since = self.line.since = self.began
        self.latest = deque(maxlen=self.show_every)
        self.before = log.begin(self.out / log.FILE, done)
        self.running = tracking.start(self.trackers, self.out, asdict(report.config))
        bar = progress(None, total=report.config.steps)
        bar.update(done)
        return bar

    def _keep(self, report: train.Progress, first: int) -> None:
        self.rows += [
            log.row(step, loss, report.lr, report.images_per_second, self.seconds)
            for step, loss in enumerate(report.losses, first)
        ]
        self.rows = log.append(self.out / log.FILE, self.rows)

    def _foretell(self, report: train.Progress) -> None:
        """After the first few steps: how long the run will take."""
        self.probe.see(len(report.losses), report.config.batch / report.images_per_second)
        if self.probe.done and not os.environ.get("TUTORIAL_LIB_QUIET"):
            say(self.probe.forecast(report.config.steps - self.first, self.minutes))

    def _look(self, report: train.Progress, bar: tqdm) -> None:
        loss, speed = self.meter.read(report.config.batch)
        bar.set_postfix_str(f"loss {loss:.4f}, {speed:.0f} images/s")
        values = {"loss": loss, "lr": report.lr, "images_per_second": speed}
        for tracker in self.running:
            tracker.log(values, step=report.step)

    def _line(self, report: train.Progress) -> None:
        """Where nobody sees a bar: a line from time to time."""
        steps, step, line = report.config.steps, report.step, self.line
        share = len(line.losses) / steps
        if step == steps or not is_due(time.perf_counter() - line.since, share):
            return
        loss, speed = line.read(report.config.batch)
        left = (steps - step) * report.config.batch / speed
        if self.minutes:  # the number of steps is not known from the first one on
            left = min(left, max(60 * self.minutes - (time.perf_counter() - self.began), 0))
        say(f"step {step} of {steps}, loss {loss:.4f}, {speed:.0f} images/s, {_time(left)} left")

    def _picture(self, report: train.Progress) -> None:
        network, config = report.ema_model, report.config
        # as the command line has given them to `train`
        assert isinstance(network, UNet) and isinstance(config, DiffusionConfig)
        try:
            preview.save(network, config, self.schedule, self.out, report.step)
        except OSError as error:
            say(f"no preview at step {report.step}: {error}")


def follow(
    reports: Generator[train.Progress, None, None], follower: Follower, stopped: list[int]
) -> tuple[train.Progress | None, int]:
    """Go on until the run ends or a signal comes; the last report, if any, and the signal, or 0."""
    last, number = None, 0
    try:
        for last in reports:
            if stopping.is_main():
                follower.see(last)
            number = stopping.agreed(stopped)
            if number:
                reports.close()  # saves
                break
    finally:
        follower.close()
    return last, number


def _crosses(every: int, report: train.Progress) -> bool:
    """Whether the steps of a report have reached a multiple."""
    before = report.step - len(report.losses)
    return report.step // every > before // every


def is_due(seconds: float, share: float) -> bool:
    """Whether a line should be written, so long and such a share of the run after the last one."""
    least, most = LINE_SECONDS
    return seconds >= most or (seconds >= least and share >= LINE_SHARE)


def _time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
