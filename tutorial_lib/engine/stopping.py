"""Leaving a run in an orderly way, alone or among several processes."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def on_signals() -> Iterator[list[int]]:
    """Note Ctrl-C and SIGTERM in a list, instead of dying in the middle of a step."""
    stopped: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: stopped.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def agreed(stopped: list[int]) -> bool:
    """Whether any process was asked to stop: all must leave at the same step."""
    if not torch.distributed.is_initialized():
        return bool(stopped)
    flag = torch.tensor(float(bool(stopped)))
    if torch.cuda.is_available():
        flag = flag.cuda()
    torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
    return bool(flag)


def is_main() -> bool:
    """Whether this is the first of several processes, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def leave_processes() -> None:
    """End the group of processes, if there is one; left to itself, one may be aborted."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
