"""The teacher's side: it draws inputs, has a student's answers called, and compares.

A student's code runs in a process of its own (`pupil`), which gets inputs and gives outputs.  What
would have been right is known here alone, and only here a mark is given: whatever that process does
to its copy of the library, to itself or to the messages, it can at best hand in other outputs.  The
exception is an exercise that is marked `beside`, whose check has to run there; `Judge.trusted` says
which those were.

Around it stands bubblewrap's sandbox: no network, no other process, nothing of the disk but Python
and the library, to be read and not written.
"""

import __future__

import ast
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from IPython.core.inputtransformer2 import TransformerManager
from torch import Tensor

import tutorial_lib
from tutorial_lib.course import exercises
from tutorial_lib.course.exercises.checks import Wrong
from tutorial_lib.course.exercises.reading import names_used
from tutorial_lib.course.grading.wire import Line, packed, unpacked

PACKAGE = Path(tutorial_lib.__file__).resolve().parent
START = 300.0  # seconds: a busy machine needs long to load PyTorch
GRACE = 10.0  # seconds after which a process that does not stop by itself is ended
MEMORY = 2**34  # bytes of address space
UNREAD = __future__.annotations.compiler_flag  # what stands behind a colon is not run either
NAME = re.compile(r"[^\W\d]\w*")
SHOWN = ("text/plain", "image/png")  # nothing that a browser would run


class NoSandbox(RuntimeError):
    """This machine has no sandbox."""


@cache
def sandbox() -> tuple[str, ...]:
    """The command that runs another one in the sandbox.

    Raises NoSandbox, with what to do, where there is none.
    """
    program = shutil.which("bwrap")
    if program is None:
        raise NoSandbox(f"bubblewrap is not installed. {WITHOUT}")
    command = [program, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    command += ["--ro-bind", "/usr", "/usr"]
    for name in ("/bin", "/sbin", "/lib", "/lib32", "/lib64"):
        if os.path.islink(name):
            command += ["--symlink", os.readlink(name), name]
        else:
            command += ["--ro-bind-try", name, name]
    command += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    command += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    for folder in (sys.base_prefix, sys.prefix, str(PACKAGE)):
        command += ["--ro-bind", folder, folder]
    command += ["--chdir", "/tmp"]
    tried = subprocess.run([*command, sys.executable, "-c", ""], capture_output=True, text=True)
    if tried.returncode:
        raise NoSandbox(f"bubblewrap does not run here: {tried.stderr.strip()}. {WITHOUT}")
    return tuple(command)


WITHOUT = (
    "Students' code would run with your rights: it could read the solutions and change the marks. "
    "On Debian and Ubuntu: sudo apt install bubblewrap. On Windows grade in WSL, on a Mac in a "
    "Linux machine. If you know who wrote every line of it, say so: --Judged.sandbox=False"
)


class Judge:
    """One submission: its cells run one after the other, and its answers are called.

    sandboxed: whether its process gets a sandbox; without one it has the rights of its caller.
    Use it in a `with`, which ends the process.  All methods raise RuntimeError once that process
    has gone, does not stop in time or breaks off a message.
    """

    def __init__(self, sandboxed: bool = True) -> None:
        wall = sandbox() if sandboxed else ()
        self.folder = tempfile.TemporaryDirectory()
        ours, theirs = socket.socketpair()
        program = [sys.executable, "-P", "-m", "tutorial_lib.course.grading.pupil"]
        try:
            self.process = subprocess.Popen(
                [*wall, *program, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=self.folder.name,
                env=_environment("/tmp" if sandboxed else self.folder.name),
                preexec_fn=partial(resource.setrlimit, resource.RLIMIT_AS, (MEMORY, MEMORY)),
            )
        except BaseException:  # no memory for another process, for example
            ours.close()
            self.folder.cleanup()
            raise
        finally:
            theirs.close()
        self.line = Line(ours)
        self.lent: list[Callable[..., Any]] = []  # what answers may call, by number
        self.calls: list[tuple[list[Any], Any]] = []  # of those, what went in and came out
        self.refusal: Wrong | None = None
        self.sources: list[str] = []
        self.trusted: list[str] = []  # exercises that were found right in that process
        try:
            self._answer(START)
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> "Judge":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self._end()

    def run(self, source: str, seconds: float = 20.0) -> list[dict[str, Any]]:
        """Run a cell of the submission.  It returns what a notebook shows below it."""
        self.sources.append(source)
        printed, pictures, errors = self._ask(seconds, "run", source, seconds)
        shown: list[dict[str, Any]] = []
        for name, text in zip(("stdout", "stderr"), printed, strict=True):
            if text:
                shown.append({"output_type": "stream", "name": name, "text": str(text)})
        for picture in pictures:
            data = {kind: str(picture[kind]) for kind in SHOWN if kind in picture}
            shown.append({"output_type": "display_data", "data": data, "metadata": {}})
        for kind, said, lines in errors:
            shown.append(_error(kind, said, lines))
        return shown

    def mark(
        self, number: str, answer: str, seconds: float = 20.0, seed: int | None = None
    ) -> exercises.Verdict:
        """What the answer to an exercise is worth, by this library.

        answer: the name of a function of the submission, or several, as in "(there, back)".
        seconds: for all calls together.
        seed: of the inputs, drawn afresh by default.
        """
        end = time.monotonic() + seconds
        try:
            found, names = self._ask(seconds, "find", answer)
        except Wrong as error:
            return exercises.Verdict("wrong", f"{number}: not yet. {error}")
        exercise = exercises.every_exercise()[number]
        if exercise.beside:
            verdict = exercises.Verdict(
                *self._ask(seconds, "beside", number, answer, seed, seconds)
            )
        else:
            verdict = exercises.verdict(number, self._dated(found, end), seed)
        names = {*names, *names_used(tuple(map(_written(self.sources).get, NAME.findall(answer))))}
        used = [name for name in exercise.forbidden if name in names]
        if verdict.right and used:
            said = exercises.FORBIDDEN.format(name=used[0])
            return exercises.Verdict("wrong", f"{number}: not yet. {said}")
        if verdict.right and exercise.beside:
            self.trusted.append(number)
        return verdict

    def _dated(self, found: Any, end: float) -> Any:
        """The functions of an answer, which are called for until `end`."""
        if isinstance(found, tuple):
            return tuple(self._dated(one, end) for one in found)
        if not isinstance(found, Answer):
            return found
        return partial(found, end=end)

    # --- talking to the process

    def _ask(self, seconds: float, *message: Any) -> Any:
        """Send a message, and wait for what comes back.  Raises Wrong where an answer fails."""
        self.calls.clear()
        self.refusal = None
        try:
            self.line.send(packed(message, self._lend))
        except OSError:
            raise RuntimeError("the process that ran this submission has ended") from None
        return self._answer(seconds)

    def _answer(self, seconds: float) -> Any:
        end = time.monotonic() + seconds + GRACE
        try:
            while True:
                state, *rest = unpacked(self.line.receive(end), lambda n: Answer(self, n))
                if state not in ("ask", "back"):
                    break
                answer = self._called(*rest) if state == "ask" else self._slope(*rest)
                self.line.send(packed(answer, self._lend))
        except Exception as error:
            self.process.kill()
            said = f"{type(error).__name__}: {error}"
            raise RuntimeError(f"the process of this submission was ended ({said})") from None
        if self.refusal:
            raise self.refusal
        if state == "raised":
            raise Wrong(str(rest[0]))
        return rest[0]

    def _end(self) -> None:
        """End the process, and leave nothing of it."""
        self.process.kill()
        self.process.wait()
        self.line.end.close()
        self.folder.cleanup()

    def _lend(self, function: Callable[..., Any]) -> int:
        self.lent.append(function)
        return len(self.lent) - 1

    def _called(self, number: int, inputs: list[Any], named: dict[str, Any]) -> tuple[str, Any]:
        """One of the check's functions, which an answer has called."""
        try:
            value = self.lent[number](*inputs, **named)
        except Wrong as error:  # the check's own words
            self.refusal = error
            return "raised", str(error)
        except Exception as error:
            return "raised", f"{type(error).__name__}: {error}"
        self.calls.append((list(inputs), value))
        out = value.detach() if isinstance(value, Tensor) else value
        return "done", (len(self.calls) - 1, out)

    def _slope(self, call: int, gradient: Tensor) -> tuple[str, Any]:
        """The gradients of one of those calls with respect to what went in."""
        inputs, value = self.calls[call]
        wanted = [x for x in inputs if isinstance(x, Tensor) and x.requires_grad]
        slopes = iter(torch.autograd.grad(value, wanted, gradient, True, allow_unused=True))
        return "done", [next(slopes) if any(x is w for w in wanted) else None for x in inputs]


class Answer:
    """A function of the student's, to be called from here."""

    def __init__(self, judge: Judge, number: int) -> None:
        self.judge = judge
        self.number = number

    def __call__(self, *inputs: Any, end: float | None = None) -> Any:
        seconds = 20.0 if end is None else max(0.1, end - time.monotonic())
        return self.judge._ask(seconds, "call", self.number, inputs, seconds)


def _written(sources: list[str]) -> dict[str, Any]:
    """The functions of a submission and what it imports of this library, with none of it run."""
    scope: dict[str, Any] = {}
    for source in sources:
        with suppress(SyntaxError):
            for node in ast.parse(TransformerManager().transform_cell(source)).body:
                if isinstance(node, ast.FunctionDef):
                    node.decorator_list = []
                    node.args.defaults = []
                    node.args.kw_defaults = [None] * len(node.args.kwonlyargs)
                elif not _imports_ours(node):
                    continue
                code = compile(ast.Module([node], []), "answer", "exec", UNREAD)
                with suppress(ImportError):
                    exec(code, scope)
    return scope


def _imports_ours(node: ast.stmt) -> bool:
    """Whether a line imports from this library, and nothing else."""
    names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    return bool(names) and all(name.split(".")[0] == "tutorial_lib" for name in names)


def _environment(home: str) -> dict[str, str]:
    """What the process sees of the environment."""
    kept = {name: os.environ[name] for name in ("PATH", "OMP_NUM_THREADS") if name in os.environ}
    ours = {"HOME": home, "IPYTHONDIR": home, "MPLBACKEND": "Agg", "LC_ALL": "C.UTF-8"}
    return kept | ours | {"PYTHONPATH": str(PACKAGE.parent), "TUTORIAL_LIB_QUIET": "1"}


def _error(kind: str, said: str, lines: list[str]) -> dict[str, Any]:
    error = {"ename": str(kind), "evalue": str(said), "traceback": [str(line) for line in lines]}
    return {"output_type": "error"} | error
