"""Give a finished folder its place, also where two programs do so in the same moment."""

import contextlib
import errno
import tempfile
from pathlib import Path

MOST = 10  # times that another program may have been quicker
TAKEN = (errno.ENOTEMPTY, errno.EEXIST)  # the place is


def put(new: Path, into: Path) -> None:
    """Move a folder to its place, and remove what stood there.

    Where another program does the same meanwhile, neither fails, and the later one's stays.
    Raises OSError where it cannot be moved; what stood there then stays.
    """
    with tempfile.TemporaryDirectory(prefix=f"{into.name}-", dir=into.parent) as aside:
        for n in range(MOST):
            old = Path(aside) / str(n)
            with contextlib.suppress(FileNotFoundError):
                into.rename(old)
            try:
                new.rename(into)
                return
            except OSError as error:
                if error.errno in TAKEN and n < MOST - 1:
                    continue
                with contextlib.suppress(OSError):  # nothing stood there, or another's does by now
                    old.rename(into)
                raise
