"""A number of minutes, turned into a number of steps."""


def steps_that_fit(minutes: float, *, step: int, done: int, seconds: float) -> int:
    """The last step of a run that is to take `minutes`, if the rest goes as the steps so far.

    step: the present one.  done: steps taken in this run, in `seconds` together.
    """
    left = round((60 * minutes - seconds) * done / seconds)
    return step + max(left, 0)
