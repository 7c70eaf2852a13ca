"""Exercises: `check("02.3", answer)` says whether an answer is right, and if not, what is wrong first; `hint` helps.

The statements stand in the notebooks, the solutions in `notebooks/solutions/`; what an answer has to fulfil stands in
`tutorial_lib.checks`.  Every check draws fresh inputs, so that no constant passes, and refuses an answer that hands the
work over to the function it is about.
"""

import dis
import secrets
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import CodeType, FunctionType
from typing import Any

import torch

from tutorial_lib.checks import EXERCISES, Exercise, Wrong, n01, n02, n03, n04, n05, n06  # noqa: F401 - they enter


@dataclass(frozen=True)
class Verdict:
    """What a check has found.  state: "right", "wrong" or "not attempted".  message: in words."""

    state: str
    message: str

    @property
    def right(self) -> bool:
        """Whether the answer passes."""
        return self.state == "right"


def check(number: str, answer: Any) -> None:
    """Print whether `answer` solves the exercise of that number, and if not, what is wrong first."""
    print(verdict(number, answer).message)


def hint(number: str, which: int = 1) -> None:
    """Print a hint: the first, or a later one, which says more.  Raises ValueError for a number that does not exist."""
    hints = _find(number).hints
    if not 1 <= which <= len(hints):
        raise ValueError(f"exercise {number} has hints 1 to {len(hints)}, got {which!r}")
    more = f'  (hint("{number}", {which + 1}) says more.)' if which < len(hints) else ""
    print(f"Hint {which} of {len(hints)}: {hints[which - 1]}{more}")


def mark(number: str, answer: Any) -> None:
    """Raise AssertionError, in words, unless `answer` is right: what a cell that gives marks calls."""
    found = verdict(number, answer)
    if not found.right:
        raise AssertionError(found.message)


def verdict(number: str, answer: Any, seed: int | None = None) -> Verdict:
    """Judge an answer.  seed: of the inputs that are drawn; another one each time by default.

    An answer that raises an error, or that hands the work over, is wrong; it never stops the check.
    """
    exercise = _find(number)
    if _is_stub(answer):
        return Verdict(
            "not attempted", f'{number}: not attempted yet. Your work goes where the dots are; hint("{number}") helps.'
        )
    z = torch.Generator().manual_seed(secrets.randbits(31) if seed is None else seed)
    try:
        with warnings.catch_warnings(), _watched(answer, exercise.forbidden):
            warnings.simplefilter("ignore")  # a drawn schedule need not end in noise
            exercise.test(answer, z)
    except Wrong as wrong:
        return Verdict("wrong", f"{number}: not yet. {wrong}")
    except Exception as error:  # whatever a reader's code may raise
        return Verdict("wrong", f"{number}: not yet. {_told(error)}")
    return Verdict("right", f"{number}: right! {exercise.praise}")


def _find(number: str) -> Exercise:
    if number not in EXERCISES:
        raise ValueError(f"there is no exercise {number!r}; there are {', '.join(EXERCISES)}")
    return EXERCISES[number]


def _is_stub(answer: Any) -> bool:
    """Whether nothing has been written yet: dots, None, or a function that does nothing but return None."""
    if answer is None or answer is ...:
        return True
    if isinstance(answer, tuple) and answer:
        return all(map(_is_stub, answer))
    if not isinstance(answer, FunctionType):
        return False
    doing = {step.opname for step in dis.get_instructions(answer)} - {"RESUME", "NOP"}
    return doing <= {"RETURN_CONST", "LOAD_CONST", "RETURN_VALUE"} and answer.__code__.co_consts[-1:] in ((None,), ())


@contextmanager
def _watched(answer: Any, forbidden: tuple[Callable, ...]) -> Iterator[None]:
    """Raise Wrong when the answer, or what it calls, calls a function that it is meant to replace."""
    codes = {function.__code__: function.__name__ for function in forbidden if hasattr(function, "__code__")}
    builtin = {function: function.__name__ for function in forbidden if not hasattr(function, "__code__")}
    mine = set(_codes(answer))
    depth = 0  # how many calls of the answer are being worked on

    def watch(frame, event: str, argument: Any) -> None:
        nonlocal depth
        if frame.f_code in mine and event in ("call", "return"):
            depth += 1 if event == "call" else -1
        name = codes.get(frame.f_code) if event == "call" else None
        if event == "c_call" and builtin:
            name = builtin.get(argument)
        if name and depth > 0:
            handed_over.append(name)

    handed_over: list[str] = []
    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(before)
    if handed_over:
        raise Wrong(f"It calls `{handed_over[0]}`, which is what this exercise is about. Write it out yourself.")


def _codes(answer: Any) -> Iterator[CodeType]:
    """The code that runs when the answer is called: of a function, or inside a tuple, a partial or an object."""
    if isinstance(answer, tuple):
        for one in answer:
            yield from _codes(one)
    elif isinstance(answer, partial):
        yield from _codes(answer.func)
    elif callable(answer):
        code = getattr(answer, "__code__", None) or getattr(type(answer).__call__, "__code__", None)
        yield from [code] if code else []


def _told(error: Exception) -> str:
    """An error of the reader's code in a sentence, with the line on which it happened."""
    calls = traceback.extract_tb(error.__traceback__)
    own = [call for call in calls if "tutorial_lib" not in call.filename and "torch" not in call.filename]
    where = f" in the line `{own[-1].line}`" if own and own[-1].line else ""
    return f"It stops with {type(error).__name__}: {error}{where}."
