"""What the judge and the process that runs a student's code say to each other.

JSON and, behind it, safetensors: a message can hold nothing but numbers, words and collections of
them, so nobody has to trust whoever wrote it.  Functions stay where they are; a number stands for
each, under which the other side can call it.
"""

import json
import socket
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from tutorial_lib.schedule import NoiseSchedule

LARGEST = 2**28  # bytes of one message


class Line:
    """Whole messages over a socket."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end

    def send(self, message: bytes) -> None:
        """Send one message."""
        self.end.sendall(len(message).to_bytes(8, "big") + message)

    def receive(self, until: float | None = None) -> bytes:
        """The next message.

        until: a time of `time.monotonic`, after which to wait no longer.
        Raises EOFError where the other side is gone, ValueError for more than LARGEST bytes, and
        TimeoutError.
        """
        size = int.from_bytes(self._bytes(8, until), "big")
        if size > LARGEST:
            raise ValueError(f"a message of {size} bytes; {LARGEST} are allowed")
        return self._bytes(size, until)

    def _bytes(self, count: int, until: float | None) -> bytes:
        found = bytearray()
        while len(found) < count:
            if until is not None:
                self.end.settimeout(max(0.01, until - time.monotonic()))
                if time.monotonic() > until:
                    raise TimeoutError("it takes too long")
            more = self.end.recv(min(count - len(found), 2**20))
            if not more:
                raise EOFError("the other side is gone")
            found += more
        return bytes(found)


def packed(message: Any, lend: Callable[[Any], int]) -> bytes:
    """A message as bytes; `lend` gives a number to a function.

    Numbers, words, None, tensors, arrays, generators, schedules and collections of them arrive as
    what they are, anything else as an object of a type of the same name.
    """
    tensors: dict[str, Tensor] = {}

    def stored(tensor: Tensor) -> str:
        name = str(len(tensors))
        tensors[name] = tensor.detach().as_subclass(Tensor).contiguous().clone()
        return name

    def plain(value: Any) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, Tensor):
            kind = f"{type(value).__module__}:{type(value).__qualname__}"
            return {"tensor": stored(value), "grad": value.requires_grad, "kind": kind}
        if isinstance(value, np.ndarray):
            return {"array": stored(torch.from_numpy(value))}
        if isinstance(value, torch.Generator):
            return {"generator": stored(value.get_state())}
        if isinstance(value, NoiseSchedule):
            return {"schedule": stored(value.beta)}
        if isinstance(value, dict):
            return {"dict": [[plain(key), plain(value[key])] for key in value]}
        if isinstance(value, tuple):
            return {"tuple": [plain(item) for item in value]}
        if isinstance(value, list):
            return [plain(item) for item in value]
        if callable(value):
            return {"function": lend(value)}
        return {"other": type(value).__name__}

    words = json.dumps(plain(message)).encode()
    return len(words).to_bytes(8, "big") + words + save(tensors)


def unpacked(message: bytes, borrow: Callable[[int], Any], kinds: bool = False) -> Any:
    """What was `packed`; `borrow` makes a function of a number.

    kinds: whether tensors become what a message says they were, of classes of this package; by
    default they become plain ones.
    Raises ValueError, KeyError and their like for bytes of any other form.
    """
    size = int.from_bytes(message[:8], "big")
    tensors = load(message[8 + size :])

    def full(value: Any) -> Any:
        if isinstance(value, list):
            return [full(item) for item in value]
        if not isinstance(value, dict):
            return value
        ((what, inner), *more) = value.items()
        if what == "dict":
            return {full(key): full(item) for key, item in inner}
        if what == "tuple":
            return tuple(full(item) for item in inner)
        if what == "function":
            return borrow(int(inner))
        if what == "other":
            return type(str(inner), (), {})()
        if what == "array":
            return tensors[inner].numpy()
        if what == "generator":
            return torch.Generator().set_state(tensors[inner])
        if what == "schedule":
            return NoiseSchedule(tensors[inner])
        tensor = tensors[inner].requires_grad_(dict(more)["grad"] is True)
        return _as_kind(tensor, dict(more)["kind"]) if kinds else tensor

    return full(json.loads(message[8 : 8 + size]))


def _as_kind(tensor: Tensor, kind: str) -> Tensor:
    """The tensor as one of this package's own class, if it was one."""
    module, _, name = kind.partition(":")
    ours = module.startswith("tutorial_lib.")
    return tensor.as_subclass(getattr(import_module(module), name)) if ours else tensor
