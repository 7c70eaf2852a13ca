"""What an answer's code tells: whether anything is written, which names it uses, where it stops."""

import inspect
import traceback
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import tutorial_lib

PACKAGE = Path(tutorial_lib.__file__).parent


def _dots() -> None: ...


def _documented_dots() -> None:
    """Dots."""
    ...


NOTHING = (_dots.__code__.co_code, _documented_dots.__code__.co_code)


def is_stub(answer: Any) -> bool:
    """Whether nothing has been written yet.

    That is: None, dots, a function that does nothing but return None, or a tuple of such.
    Byte code is compared, because the source of a function that was typed in a cell may be gone.
    """
    if answer is None or answer is ...:
        return True
    if isinstance(answer, tuple) and answer:
        return all(map(is_stub, answer))
    if not isinstance(answer, FunctionType):
        return False
    code = answer.__code__
    return code.co_code in NOTHING and code.co_consts[-1:] == (None,)


def names_used(answer: Any) -> set[str]:
    """The names in the code of an answer, and in that of the reader's functions it calls by name.

    A function that is not the reader's own is not read; its own name counts, whatever it was
    imported as.  A function that is looked up by a string, as `getattr` does, is not found.
    """
    found: set[str] = set()
    read: list[FunctionType] = []
    unread = list(answer) if isinstance(answer, tuple) else [answer]
    while unread:
        value = _plain(unread.pop())
        if not isinstance(value, FunctionType) or not _of_the_reader(value.__code__.co_filename):
            found.add(getattr(value, "__name__", ""))
        elif value not in read:
            read.append(value)
            names = _names(value.__code__)
            found |= names
            unread += [value.__globals__[name] for name in names & value.__globals__.keys()]
    return found


def _plain(value: Any) -> Any:
    """The function inside a partial, behind a decorator, or that an object runs when called."""
    if isinstance(value, partial):
        return _plain(value.func)
    value = inspect.unwrap(value)
    if callable(value) and not hasattr(value, "__name__"):
        return type(value).__call__
    return value


def _names(code: CodeType) -> set[str]:
    """The global names and attributes in some code, and in what is defined inside it."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):  # a lambda, a comprehension, an inner function
            names |= _names(constant)
    return names


def _of_the_reader(filename: str) -> bool:
    """Whether a file is neither of this package nor of an installed one."""
    return not Path(filename).is_relative_to(PACKAGE) and "-packages" not in filename


def told(error: BaseException) -> str:
    """An error of the reader's code in a sentence, with the line on which it happened.

    Of a long message the first line, which says what is wrong.
    """
    calls = traceback.extract_tb(error.__traceback__)
    lines = [call.line for call in calls if _of_the_reader(call.filename)]
    where = f" in the line `{lines[-1]}`" if lines and lines[-1] else ""
    said = str(error).partition("\n")[0]
    return f"It stops with {type(error).__name__}: {said}{where}."
