"""Leaving a run in an orderly way, alone or among several processes."""

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import torch

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Ctrl-C, a polite kill, a terminal that closes
ONE_WISH = 0.5  # seconds in which the same wish may arrive twice, as from a launcher


@contextmanager
def on_signals() -> Iterator[list[int]]:
    """Note signals that ask to stop in a list, instead of dying in the middle of a step.

    The first is answered by a line, so that somebody knows that it was heard.  Another one, half a
    second or more later, ends the process at once: nothing that is written whole is harmed.
    A signal that the process was started to ignore, as by nohup, is still ignored.
    """
    stopped: list[int] = []
    heard = 0.0

    def note(number: int, _: FrameType | None) -> None:
        nonlocal heard
        now = time.monotonic()
        if stopped and now - heard > ONE_WISH:
            os._exit(128 + number)
        if not stopped:
            heard = now
            stopped.append(number)
            _say("stopping, saving ... (once more leaves at once)\n")

    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    taken = [number for number in numbers if before[number] is not signal.SIG_IGN]
    for number in taken:
        signal.signal(number, note)
    try:
        yield stopped
    finally:
        for number in taken:
            signal.signal(number, before[number])


@contextmanager
def held_back() -> Iterator[None]:
    """Let Ctrl-C wait until the block is through, and then do what it would have done."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield  # it does not come here, or does nothing
        return
    came: list[tuple] = []
    signal.signal(signal.SIGINT, lambda *given: came.append(given))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        before(*came[-1])


def _say(line: str) -> None:
    """Write in the way that is safe in the middle of anything."""
    if is_main():
        with suppress(OSError):  # the terminal is gone
            os.write(2, (("\n" if os.isatty(2) else "") + line).encode())


def agreed(stopped: list[int]) -> int:
    """The signal that asked any process to stop, or 0: all must leave at the same step."""
    number = stopped[0] if stopped else 0
    if not torch.distributed.is_initialized():
        return number
    flag = torch.tensor(number)
    if torch.cuda.is_available():
        flag = flag.cuda()
    torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
    return int(flag)


def is_main() -> bool:
    """Whether this is the first of several processes, or the only one."""
    return _place("RANK") == 0


def speaks() -> bool:
    """Whether this is the first process of its machine, or the only one: errors are said there."""
    return _place("LOCAL_RANK") == 0


def _place(variable: str) -> int:
    """The number of this process; 0 unless a launcher says, in all its variables, that it is one
    of several: a RANK that was left over from something else is not enough.
    """
    return int(os.environ[variable]) if is_one_of_several() else 0


def is_one_of_several() -> bool:
    """Whether a launcher has started this process together with others."""
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return several and {"RANK", "LOCAL_RANK"} <= os.environ.keys()


def leave_processes() -> None:
    """End the group of processes, if there is one, once all are here.

    Left to itself, one may be aborted; and a launcher ends those that are late.
    """
    if torch.distributed.is_initialized():
        agreed([])  # waits for the last one
        torch.distributed.destroy_process_group()


def end(code: int) -> int:
    """The exit code of a program; one of several processes ends here, and at once.

    PyTorch's threads between processes may outlive Python's own end, which is then aborted
    ("terminate called without an active exception"), though all work is done and saved.
    """
    if is_one_of_several():
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code
