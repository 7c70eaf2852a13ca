"""How long a training takes on this machine: the median of a few of its own first steps.

Nothing runs for it beside the training, so it changes neither weights nor what is drawn.
"""

from dataclasses import dataclass, field
from statistics import median

STEPS = 8  # so many are measured,
SECONDS = 5.0  # or as many as end within this time, and at least one


@dataclass
class Probe:
    """Sees how long each of the first steps takes, until it knows enough.

    The first report is left out: memory is claimed then, and a GPU loads its code.
    seconds: of each step that was measured.
    """

    warm: bool = False
    seconds: list[float] = field(default_factory=list)

    def see(self, steps: int, seconds: float) -> None:
        """Note that so many more steps have taken so many seconds each."""
        if self.warm and not self.done:
            self.seconds += [seconds] * steps
        self.warm = True

    @property
    def done(self) -> bool:
        """Whether enough was seen."""
        return len(self.seconds) >= STEPS or sum(self.seconds) >= SECONDS

    @property
    def per_step(self) -> float:
        """Seconds of a step: the median, which a single slow step does not move."""
        return median(self.seconds)

    def steps_in(self, minutes: float) -> int:
        """How many steps fit into so many minutes; 0 where none are left."""
        return max(int(60 * minutes / self.per_step), 0)

    def forecast(self, steps: int, minutes: float | None = None) -> str:
        """How long so many steps take, in a sentence; or how many fit into so many minutes."""
        count = len(self.seconds)
        pace = f"{self.per_step:{'.2g' if self.per_step < 10 else '.0f'}} s a step"
        measured = f"({pace}, measured on {count} step{'s' if count > 1 else ''})"
        if minutes is not None:
            return f"about {self.steps_in(minutes):,} steps in {minutes:g} minutes {measured}"
        return f"about {in_words(steps * self.per_step)} on this machine {measured}"


def in_words(seconds: float) -> str:
    """A time as one says it: 40 seconds, 12 minutes, 3.5 hours, 4 days."""
    for unit, length, until in (("second", 1, 90), ("minute", 60, 90), ("hour", 3600, 48)):
        if seconds < until * length:
            break
    else:
        unit, length = "day", 86400
    places = 0 if unit in ("second", "minute") else 1
    count = f"{max(seconds / length, 1):.{places}f}".removesuffix(".0")
    return f"{count} {unit}{'' if count == '1' else 's'}"
