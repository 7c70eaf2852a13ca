"""Exercises: `check("02.3", answer)` judges an answer, and `hint("02.3")` helps.

`check` says whether the answer is right, and if not, what is wrong first.  The statements stand in
the notebooks, the solutions in `notebooks/solutions/`; what an answer has to fulfil stands here, in
a module for each notebook: `n02` for 02 and `n04b` for 04b, with a dict `EXERCISES`.  A new module
is found by its name.  Every check draws fresh inputs, so that no constant passes, and refuses an
answer that uses the name of the function it is about.
"""

import copy
import io
import os
import pkgutil
import secrets
import warnings
import zlib
from contextlib import redirect_stderr
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from tutorial_lib.course.exercises.checks import Exercise, Wrong
from tutorial_lib.course.exercises.reading import is_stub, names_used, told
from tutorial_lib.schedule import NoiseSchedule

FORBIDDEN = "It calls `{name}`, which is what this exercise is about. Write it out yourself."


@dataclass(frozen=True)
class Verdict:
    """What a check has found.  state: "right", "wrong" or "not attempted".  message: in words."""

    state: str
    message: str

    @property
    def right(self) -> bool:
        """Whether the answer passes."""
        return self.state == "right"


def check(number: str, answer: Any, student: str = "") -> None:
    """Print whether `answer` solves the exercise of that number, and if not, what is wrong first.

    number: "02.3", for example.
    answer: the function itself, or a tuple of them.
    student: a name, whose owner gets the same inputs each time, and others than the neighbours.
    The variable TUTORIAL_LIB_STUDENT of the environment says it for all checks; without a name
    inputs are new each time.
    Raises ValueError for a number that does not exist.
    """
    name = student or os.environ.get("TUTORIAL_LIB_STUDENT", "")
    print(verdict(number, answer, seed_of(name, number) if name else None).message)


def seed_of(student: str, number: str) -> int:
    """The seed of a student's inputs in an exercise, the same on every machine."""
    return zlib.crc32(f"{student.strip().casefold()} {number}".encode())


def hint(number: str, which: int = 1) -> None:
    """Print a hint: the first, or a later one, which says more.

    Raises ValueError for a number that does not exist.
    """
    hints = _find(number).hints
    if not 1 <= which <= len(hints):
        raise ValueError(f"exercise {number} has hints 1 to {len(hints)}, got {which!r}")
    more = f'  (hint("{number}", {which + 1}) says more.)' if which < len(hints) else ""
    print(f"Hint {which} of {len(hints)}: {hints[which - 1]}{more}")


def mark(number: str, answer: Any) -> None:
    """Raise AssertionError, in words, unless `answer` is right: what a cell that gives marks calls.

    What the answer writes to the error stream, a progress bar for example, is dropped: nbgrader
    would take it for a failure.
    """
    with redirect_stderr(io.StringIO()):
        found = verdict(number, answer)
    if not found.right:
        raise AssertionError(found.message)


def verdict(number: str, answer: Any, seed: int | None = None) -> Verdict:
    """Judge an answer.

    seed: of the inputs that are drawn; another one each time by default.
    An answer that raises an error, or that uses a forbidden name, is wrong; it never stops the
    check.
    Raises ValueError for a number that does not exist.
    """
    exercise = _find(number)
    if is_stub(answer):
        said = f'Your work goes where the dots are; hint("{number}") helps.'
        return Verdict("not attempted", f"{number}: not attempted yet. {said}")
    if not all(map(callable, answer if isinstance(answer, tuple) else (answer,))):
        said = "hand in the function itself, by its name and without brackets"
        return Verdict("wrong", f'{number}: not yet. Please {said}, as in check("{number}", name).')
    generator = torch.Generator().manual_seed(secrets.randbits(31) if seed is None else seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a drawn schedule need not end in noise
            exercise.test(_on_copies(answer), generator)
        _refuse(answer, exercise.forbidden)
    except Wrong as wrong:
        return Verdict("wrong", f"{number}: not yet. {wrong}")
    except (Exception, SystemExit) as error:  # whatever a reader's code may raise
        return Verdict("wrong", f"{number}: not yet. {told(error)}")
    return Verdict("right", f"{number}: right! {exercise.praise}")


def every_exercise() -> dict[str, Exercise]:
    """The exercises of all notebooks, by number and in order."""
    found: dict[str, Exercise] = {}
    for module in _modules():
        found |= import_module(f"{__name__}.{module}").EXERCISES
    return found


def _modules() -> list[str]:
    """The modules of this folder that belong to a notebook: "n01", "n02", ..."""
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    return sorted(name for name in names if name[0] == "n" and name[1:3].isdigit())


def _find(number: str) -> Exercise:
    module = "n" + str(number).partition(".")[0]
    exercises = import_module(f"{__name__}.{module}").EXERCISES if module in _modules() else {}
    if number not in exercises:
        raise ValueError(
            f"there is no exercise {number!r}; there are {', '.join(every_exercise())}"
        )
    return exercises[number]


def _refuse(answer: Any, forbidden: tuple[str, ...]) -> None:
    """Raise Wrong if the code of an answer uses a forbidden name."""
    used = names_used(answer) if forbidden else set()
    for name in forbidden:
        if name in used:
            raise Wrong(FORBIDDEN.format(name=name))


def _on_copies(answer: Any) -> Any:
    """The same answer on copies of its inputs, so that it may change them in place."""
    if isinstance(answer, tuple):
        return tuple(map(_on_copies, answer))
    return lambda *inputs: answer(*map(_copied, inputs))


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    if isinstance(value, NoiseSchedule):
        return copy.deepcopy(value)
    return value
