"""Exercises: `check("02.3", answer)` says whether an answer is right, and if not, what is wrong
first; `hint` helps.

The statements stand in the notebooks, the solutions in `notebooks/solutions/`; what an answer has
to fulfil stands in
`tutorial_lib.course.exercises.checks`.  Every check draws fresh inputs, so that no constant passes, and refuses an
answer that hands the work over to the function it is about.
"""

import copy
import dis
import io
import secrets
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tutorial_lib.course.exercises import n01, n02, n03, n04, n05, n06  # noqa: F401 - they enter
from tutorial_lib.course.exercises.checks import EXERCISES, Exercise, Wrong
from tutorial_lib.schedule import NoiseSchedule


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
    """Print whether `answer` solves the exercise of that number, and if not, what is wrong first.

    number: "02.3", for example.  answer: the function itself, or a tuple of them.  Raises
    ValueError for a number that does not exist.
    """
    print(verdict(number, answer).message)


def hint(number: str, which: int = 1) -> None:
    """Print a hint: the first, or a later one, which says more.  Raises ValueError for a number
    that does not exist.
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
    """Judge an answer.  seed: of the inputs that are drawn; another one each time by default.

    An answer that raises an error, or that hands the work over, is wrong; it never stops the check.
    """
    exercise = _find(number)
    if _is_stub(answer):
        return Verdict(
            "not attempted",
            f'{number}: not attempted yet. Your work goes where the dots are; hint("{number}") helps.',
        )
    if not all(map(callable, answer if isinstance(answer, tuple) else (answer,))):
        said = "hand in the function itself, by its name and without brackets"
        return Verdict("wrong", f'{number}: not yet. Please {said}, as in check("{number}", name).')
    z = torch.Generator().manual_seed(secrets.randbits(31) if seed is None else seed)
    watch = _Watch(exercise.forbidden)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a drawn schedule need not end in noise
            exercise.test(watch.over(answer), z)
        if watch.seen:
            raise Wrong(
                f"It calls `{watch.seen[0]}`, which is what this exercise is about. Write it out yourself."
            )
    except Wrong as wrong:
        return Verdict("wrong", f"{number}: not yet. {wrong}")
    except (Exception, SystemExit) as error:  # whatever a reader's code may raise
        return Verdict("wrong", f"{number}: not yet. {_told(error)}")
    return Verdict("right", f"{number}: right! {exercise.praise}")


def _find(number: str) -> Exercise:
    if number not in EXERCISES:
        raise ValueError(f"there is no exercise {number!r}; there are {', '.join(EXERCISES)}")
    return EXERCISES[number]


def _is_stub(answer: Any) -> bool:
    """Whether nothing has been written yet: dots, None, or a function that does nothing but return
    None.
    """
    if answer is None or answer is ...:
        return True
    if isinstance(answer, tuple) and answer:
        return all(map(_is_stub, answer))
    if not isinstance(answer, FunctionType):
        return False
    doing = {step.opname for step in dis.get_instructions(answer)} - {"RESUME", "NOP"}
    return doing <= {"RETURN_CONST", "LOAD_CONST", "RETURN_VALUE"} and answer.__code__.co_consts[
        -1:
    ] in ((None,), ())


class _Watch(TorchFunctionMode):
    """Notes each call of a forbidden function while an answer is at work, whoever makes it; `seen`
    has their names.

    It keeps an honest answer honest; whoever starts a thread to escape it has understood enough.
    """

    def __init__(self, forbidden: tuple[Callable, ...]):
        super().__init__()
        self.codes = {one.__code__: one.__name__ for one in forbidden if hasattr(one, "__code__")}
        names = {one: one.__name__ for one in forbidden if not hasattr(one, "__code__")}
        self.torch = {one: "@" if name == "__matmul__" else name for one, name in names.items()}
        self.seen: list[str] = []

    def over(self, answer: Any) -> Any:
        """The same answer, watched; its inputs are copies, so that it may change them in place."""
        if isinstance(answer, tuple):
            return tuple(map(self.over, answer))
        if not callable(answer):
            return answer

        def watched(*inputs: Any) -> Any:
            before = sys.getprofile()
            sys.setprofile(self._called)
            try:
                with self:
                    return answer(*map(_copied, inputs))
            finally:
                sys.setprofile(before)

        return watched

    def _called(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code in self.codes:
            self.seen.append(self.codes[frame.f_code])

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in self.torch:
            self.seen.append(self.torch[func])
        return func(*args, **(kwargs or {}))


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    if isinstance(value, NoiseSchedule):
        return copy.deepcopy(value)
    return value


def _told(error: Exception) -> str:
    """An error of the reader's code in a sentence, with the line on which it happened."""
    calls = traceback.extract_tb(error.__traceback__)
    library = str(Path(__file__).parent)
    own = [
        call
        for call in calls
        if not call.filename.startswith(library) and "-packages" not in call.filename
    ]
    where = f" in the line `{own[-1].line}`" if own and own[-1].line else ""
    return f"It stops with {type(error).__name__}: {error}{where}."
