"""Where the package's own files lie, and the one way files are written: whole or not at all."""

import os
from pathlib import Path

ASSETS = Path(__file__).parent / "assets"


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
        raise type(error)(
            f"could not write {path}: {error.strerror}; choose a folder that can be written"
        ) from error
    finally:
        if path.parent.is_dir():
            temporary.unlink(missing_ok=True)
    return path


def check_writable(path: Path | str) -> None:
    """Fail now rather than after hours of work: make the folder and try to write into it."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give a file")
    trial = path.with_name(f".{path.name}.{os.getpid()}.try")
    write(trial, b"")
    trial.unlink()
