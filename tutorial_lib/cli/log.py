"""`loss.csv`: a row for each step of a run, written as it goes, whatever ends it."""

from collections.abc import Sequence
from pathlib import Path

from tutorial_lib import files

FILE = "loss.csv"
COLUMNS = "step,loss,lr,images_per_second,seconds"
EARLIER = "step,loss"  # all that rows had at first


def row(step: int, loss: float, lr: float, images_per_second: float, seconds: float) -> str:
    """One line of the log.  seconds: since the run began, without the breaks."""
    return f"{step},{loss:.6f},{lr:.6g},{images_per_second:.1f},{seconds:.2f}\n"


def begin(path: Path, step: int) -> float:
    """Leave the rows up to the step from which a run goes on; the seconds that it has taken.

    What came after that step is done anew, and so is a row that was cut off in the middle.
    """
    text = path.read_text(encoding="utf-8") if step and path.exists() else ""
    head, *lines = text.splitlines(keepends=True) or [COLUMNS + "\n"]
    if head.strip() == EARLIER:
        lines = [line.rstrip("\n") + ",nan,nan,nan\n" for line in lines if line.endswith("\n")]
    rows = [line for line in lines if _is_kept(line, step)]
    files.write(path, "".join([COLUMNS + "\n", *rows]).encode())
    seconds = float(rows[-1].split(",")[-1]) if rows else 0.0
    return seconds if seconds == seconds else 0.0  # nan: from before there was a clock


def _is_kept(line: str, step: int) -> bool:
    whole = line.endswith("\n") and line.count(",") == COLUMNS.count(",")
    number = line.split(",")[0]
    return whole and number.isdigit() and int(number) <= step


def append(path: Path, rows: Sequence[str]) -> list[str]:
    """Add rows; those that could not be written, because the disk is full for example."""
    try:
        with path.open("a", encoding="utf-8", newline="\n") as file:
            file.write("".join(rows))
    except OSError:
        return list(rows)
    return []
