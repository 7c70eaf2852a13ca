"""Where the package's own files lie, and how files are written: whole or not at all, by one run."""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ASSETS = Path(__file__).parent / "assets"
LOCK = "training.lock"  # in the folder of a run, while it is running
PAUSES = (0.1, 0.5, 2.0)  # seconds before another attempt to write


def write(path: Path | str, content: bytes) -> Path:
    """Write a file whole: an earlier one at the same place survives any failure.

    The content goes into a temporary file, which then takes the place of `path`.
    Raises OSError, naming the file, when the folder cannot be written or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        raise _named(error, path) from error
    finally:
        if path.parent.is_dir():
            temporary.unlink(missing_ok=True)
    return path


def patiently(write: Callable[[], None]) -> None:
    """Call `write`, and again a little later when it fails: a file may be locked for a moment.

    Raises the OSError of the last attempt.
    """
    for pause in PAUSES:
        try:
            return write()
        except OSError:
            time.sleep(pause)
    return write()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a folder for this process: no other may train into it meanwhile.

    What a process has left behind that is no longer there is taken over.
    Raises ValueError while another run, here or on another machine, uses the folder; OSError when
    it cannot be written.
    """
    path, own = folder / LOCK, _identity(os.getpid())
    if path.exists() and not _is_running(path, own["host"]):
        path.unlink(missing_ok=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.touch(exist_ok=False)  # of two, one fails
    except OSError as error:
        if not path.exists():
            raise _named(error, path) from error
        raise ValueError(
            f"another run is training into {folder}, as {path} says; wait until it has ended, or "
            "choose another folder; if there is none any more, delete that file"
        ) from error
    try:
        write(path, json.dumps(own).encode())
        yield
    finally:
        path.unlink(missing_ok=True)


def _identity(pid: int) -> dict[str, Any]:
    """What tells a process from others: its machine, its number there, and when it began."""
    from psutil import Process

    return {"host": socket.gethostname(), "pid": pid, "began": Process(pid).create_time()}


def _is_running(lock: Path, host: str) -> bool:
    """Whether the process that has left a lock is still there, as far as can be told from here."""
    from psutil import NoSuchProcess

    try:
        held = json.loads(lock.read_text(encoding="utf-8"))
        if held["host"] != host:
            return True
        return abs(_identity(held["pid"])["began"] - held["began"]) < 60  # clocks are set anew
    except (NoSuchProcess, FileNotFoundError):  # it has ended, long ago or just now
        return False
    except (ValueError, KeyError, TypeError):  # no lock of ours, or one that is just being written
        return True


def without_folders(text: str) -> str:
    """A text that begins with a path, with the path's last name alone; any other text as it is.

    "/home/ada/cats: 9 images" becomes "cats: 9 images": what is shared names no folders.
    """
    place, colon, what = text.partition(": ")
    return Path(place).name + colon + what if Path(place).is_absolute() else text


def check_writable(path: Path | str) -> None:
    """Fail now rather than after hours of work: make the folder and try to write into it."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give a file")
    trial = path.with_name(f".{path.name}.{os.getpid()}.try")
    write(trial, b"")
    trial.unlink()


def _named(error: OSError, path: Path) -> OSError:
    """The same error, saying which file could not be written."""
    return type(error)(
        f"could not write {path}: {error.strerror}; choose a folder that can be written"
    )
