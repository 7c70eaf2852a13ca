"""A number of minutes, turned into a number of steps."""

import time
from collections.abc import Callable

MEASURED = 20  # after so many steps, again and again, minutes are turned into a number of steps


def steps_that_fit(minutes: float, *, step: int, done: int, seconds: float) -> int:
    """The last step of a run that is to take `minutes`, if the rest goes as the steps so far.

    step: the present one.  done: steps taken in this run, in `seconds` together.
    """
    left = round((60 * minutes - seconds) * done / seconds)
    return step + max(left, 0)


class Budget:
    """The number of steps of a run: as it was planned, or what some minutes come to.

    minutes: None for a run that goes as planned.
    first: the step after which this part of the run begins.
    agreed: the mean of a number over all processes, so that all decide the same.
    """

    def __init__(self, minutes: float | None, first: int, agreed: Callable[[float], float]) -> None:
        self.minutes, self.first, self.agreed = minutes, first, agreed
        self.started = time.perf_counter()

    def at_first(self, planned: int) -> int:
        """The steps to begin with; with minutes, some more than are done already."""
        return planned if self.minutes is None else max(planned, self.first + MEASURED)

    def after(self, step: int, planned: int) -> int:
        """The steps of the whole run, now that `step` is done."""
        done = step - self.first
        if self.minutes is None or (done > MEASURED and done % MEASURED):
            return planned
        seconds = self.agreed(time.perf_counter() - self.started)
        if done % MEASURED == 0:
            return steps_that_fit(self.minutes, step=step, done=done, seconds=seconds)
        return step if seconds >= 60 * self.minutes else planned
