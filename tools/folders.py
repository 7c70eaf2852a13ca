"""Give a finished folder its place, also where two programs do so in the same moment."""

import contextlib
import tempfile
from pathlib import Path

MOST = 10  # times that another program may have been quicker


def put(new: Path, into: Path) -> None:
    """Move a folder to its place, and remove what stood there.

    Where another program does the same meanwhile, neither fails, and the later one's stays.
    """
    with tempfile.TemporaryDirectory(prefix=f"{into.name}-", dir=into.parent) as old:
        for n in range(MOST):
            with contextlib.suppress(FileNotFoundError):
                into.rename(Path(old) / str(n))
            try:
                new.rename(into)
                return
            except OSError:
                if n == MOST - 1:
                    raise
