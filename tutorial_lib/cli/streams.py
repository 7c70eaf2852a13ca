"""Standard output and error, as a program wants them: no message stops the work."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from typing import Any, TextIO


class Steady:
    """A stream that takes every message, and keeps a failure to itself instead of raising it.

    What its encoding lacks is written as `\\u732b`.  After a failure (the reader has gone, the disk
    is full) everything else is dropped, and `failure` is what happened.  A stream that is not there
    (None: whoever started the program has closed it) takes everything and keeps nothing.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        """Write what can be written; returns the number of characters, as every stream does."""
        if self.stream is not None and self.failure is None:
            with self._kept(self.stream):
                self._write(self.stream, text)
        return len(text)

    def flush(self) -> None:
        """Hand on what has been written so far."""
        if self.stream is not None and self.failure is None:
            with self._kept(self.stream):
                self.stream.flush()

    def isatty(self) -> bool:
        """Whether somebody watches."""
        return self.stream is not None and self.stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    @staticmethod
    def _write(stream: TextIO, text: str) -> None:
        try:
            stream.write(text)
        except UnicodeEncodeError:
            encoding = stream.encoding
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding))

    @contextlib.contextmanager
    def _kept(self, stream: TextIO) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failure = error
            # what is still in the buffer must not fail once more when Python ends
            with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())


@contextlib.contextmanager
def steady(output: TextIO | None, errors: TextIO | None) -> Iterator[tuple[Steady, Steady]]:
    """Both streams made steady while a command runs; they are flushed at the end."""
    out, err = Steady(output), Steady(errors)
    with redirect_stdout(out), redirect_stderr(err):
        try:
            yield out, err
        finally:
            out.flush()
            err.flush()
