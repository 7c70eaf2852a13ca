"""The process that runs a student's code, and nothing else: it knows no right answer, gives no
mark (but for exercises marked `beside`), and sees inputs only when they are asked about.

python -m tutorial_lib.course.grading.pupil NUMBER_OF_A_SOCKET
"""

import importlib
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from tutorial_lib.course.exercises.checks import Wrong
from tutorial_lib.course.exercises.reading import is_stub, names_used, told
from tutorial_lib.course.grading.wire import Line, packed, unpacked

NESTED = "Its check calls a function while it is called itself: that needs `beside=True`."
LONGEST = 100_000  # characters of what a cell prints


class OutOfTime(BaseException):
    """An answer takes too long.  `except Exception` does not catch it."""


class Refused(Exception):
    """What the judge says when its own function is called in a way that it does not take."""


class Shell(InteractiveShell):
    """What runs cells; it keeps errors and does not print them."""

    def __init__(self, **settings: Any) -> None:
        self.errors: list[tuple[type, BaseException, list[str]]] = []
        super().__init__(**settings)

    def _showtraceback(self, etype: type, evalue: BaseException, stb: list[str]) -> None:
        self.errors.append((etype, evalue, stb))


class Pupil:
    """Does what the judge asks for, one thing after the other."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.lent: list[Any] = []  # what the judge may call, by number
        self.limited = False  # whether an alarm counts
        self.talking = 0  # questions that are being asked; no alarm may cut a message in two
        self.late = False  # whether an alarm has come meanwhile
        self.shell = Shell.instance()
        signal.signal(signal.SIGALRM, self.ring)

    def serve(self) -> None:
        """Until the judge hangs up."""
        able: dict[str, Callable[..., tuple[str, Any]]] = {
            "run": self.run,
            "find": self.find,
            "call": self.call,
            "beside": self.beside,
        }
        self.tell("done", None)
        while True:
            what, *said = self.hear()
            self.tell(*able[what](*said))

    def hear(self) -> Any:
        """The next message of the judge."""
        return unpacked(self.line.receive(), self.borrowed, kinds=True)

    def tell(self, *message: Any) -> None:
        """A message to the judge."""
        self.line.send(packed(list(message), self.lend))

    def lend(self, function: Any) -> int:
        """The number under which the judge can call a function."""
        self.lent.append(function)
        return len(self.lent) - 1

    # --- what the judge asks for

    def run(self, source: str, seconds: float) -> tuple[str, Any]:
        """Run a cell.  It says what that prints, shows and raises."""
        self.shell.errors.clear()
        with capture_output() as captured, suppress(OutOfTime), self.at_most(seconds):
            self.shell.run_cell(source)
        printed = [captured.stdout[:LONGEST], captured.stderr[:LONGEST]]
        pictures = [rich.data for rich in captured.outputs]
        errors = [
            [kind.__name__, str(error), list(lines)] for kind, error, lines in self.shell.errors
        ]
        return "done", [printed, pictures, errors[:1]]

    def find(self, expression: str) -> tuple[str, Any]:
        """What an exercise is answered with: a function, or a tuple of them; the names in it."""
        try:
            value = eval(expression, self.shell.user_ns)
            if is_stub(value):
                return "done", [None, []]
            return "done", [value, sorted(names_used(value))]
        except Exception as error:
            return "raised", told(error)

    def call(self, number: int, inputs: tuple[Any, ...], seconds: float) -> tuple[str, Any]:
        """What a function of the student's makes of some inputs."""
        try:
            with capture_output(), self.at_most(seconds):
                value = self.lent[number](*inputs)
            packed(value, self.lend)  # or say what cannot be sent
            return "done", value
        except (Wrong, Refused) as error:
            return "raised", str(error)
        except (Exception, SystemExit, OutOfTime) as error:
            return "raised", told(error)

    def beside(
        self, number: str, expression: str, seed: int | None, seconds: float
    ) -> tuple[str, Any]:
        """State and message of a verdict that is found here, by the library imported afresh."""
        for name in [name for name in sys.modules if name.split(".")[0] == "tutorial_lib"]:
            del sys.modules[name]
        exercises = importlib.import_module("tutorial_lib.course.exercises")
        try:
            with capture_output(), self.at_most(seconds):
                answer = eval(expression, self.shell.user_ns)
                found = exercises.verdict(number, answer, seed)
            return "done", [found.state, found.message]
        except OutOfTime as error:
            return "done", ["wrong", f"{number}: not yet. {told(error)}"]

    # --- functions of the judge's, which answers call

    def borrowed(self, number: int) -> Callable[..., Any]:
        """A function of the judge's, by its number."""

        def function(*inputs: Any, **named: Any) -> Any:
            return _Asked.apply(self, number, named, *inputs)

        return function

    def ask(self, *message: Any) -> Any:
        """The judge's answer to a question that comes up while an answer runs."""
        self.talking += 1
        try:
            self.tell(*message)
            while (reply := self.hear())[0] not in ("done", "raised"):
                self.tell("raised", NESTED)
            state, value = reply
        finally:
            self.talking -= 1
        if self.late:
            self.ring()
        if state == "raised":
            raise Refused(value)
        return value

    # --- time

    @contextmanager
    def at_most(self, seconds: float) -> Iterator[None]:
        """Raise OutOfTime in what stands inside once it has taken that long."""
        self.limited, self.late = True, False
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield
        finally:
            self.limited = False  # a late alarm is none
            signal.setitimer(signal.ITIMER_REAL, 0)

    def ring(self, *_: Any) -> None:
        """The alarm."""
        if self.talking:
            self.late = True  # the question is answered first
        elif self.limited:
            self.limited = False
            raise OutOfTime("stopped, because it takes too long")


class _Asked(torch.autograd.Function):
    """A call of one of the judge's functions, through which gradients flow."""

    @staticmethod
    def forward(ctx: Any, pupil: Pupil, number: int, named: dict[str, Any], *inputs: Any) -> Any:
        ctx.pupil = pupil
        ctx.call, value = pupil.ask("ask", number, inputs, named)
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return None, None, None, *ctx.pupil.ask("back", ctx.call, gradients[0])


def main() -> None:
    """Serve the judge at the other end of a socket."""
    Pupil(Line(socket.socket(fileno=int(sys.argv[1])))).serve()


if __name__ == "__main__":
    main()
