"""What every notebook needs: a check of the environment, sources shown, GIFs embedded, progress."""

from __future__ import annotations

import importlib.metadata
import inspect
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tutorial_lib import __version__, files

if TYPE_CHECKING:
    from tqdm import tqdm

NEEDS = {"torch": "2.6", "numpy": "1.26", "matplotlib": "3.8", "einops": "0.7", "datasets": "3.0"}


def check_environment(written_for: str) -> None:
    """Say in plain words whether this machine can run the notebook.

    written_for: the version of tutorial_lib the notebook was written with.
    Where the notebook's folder is read-only, the kernel goes on working in a temporary one.
    Raises RuntimeError that says what to do when a package is missing, too old, or of another
    series.
    """
    problems = []
    if sys.version_info < (3, 11):
        python = sys.version.split()[0]
        problems.append(f"Python {python} is too old; install 3.11 or newer")
    if _numbers(written_for) != _numbers(__version__):
        problems.append(
            f"this notebook belongs to tutorial_lib {written_for}, but {__version__} is installed; "
            "run `pip install -e .` in the folder that the notebook came with, "
            "then restart the kernel"
        )
    for package, least in NEEDS.items():
        problems += _problem(package, least)
    if problems:
        raise RuntimeError("This notebook cannot run here yet:\n- " + "\n- ".join(problems))
    print(f"tutorial_lib {__version__}: everything this notebook needs is here.")
    _find_room()


def _find_room() -> None:
    """Work in a temporary folder where `outputs/` cannot be written, and say so."""
    here = Path.cwd()
    outputs = here / "outputs"
    try:
        files.check_writable((outputs if outputs.is_dir() else here) / "trial")
    except OSError:
        there = tempfile.mkdtemp(prefix="tutorial_lib-")
        os.chdir(there)
        print(f"{here} is read-only; what this notebook writes goes to {there}")


def _problem(package: str, least: str) -> list[str]:
    """What is wrong with a package that is needed in at least this version: one line, or none."""
    try:
        found = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return [f"{package} is missing; run `pip install {package}`"]
    if _numbers(found) < _numbers(least):
        return [f"{package} {found} is too old; run `pip install -U {package}` ({least} or newer)"]
    return []


def _numbers(version: str) -> tuple[int, ...]:
    """Major and minor number of a version, to be compared."""
    numbers = re.findall(r"\d+", version)
    return tuple(int(number) for number in numbers[:2])


def show_source(item: Callable) -> None:
    """Print the source of a function or class of the library."""
    print(inspect.getsource(item).rstrip())


def progress(items: Iterable | None, total: int | None = None, unit: str = "step") -> tqdm:
    """A progress bar with rate and time left, where somebody watches; else the items alone.

    Nobody watches when the output is redirected, under CI, or when a program executes a notebook
    (it sets TUTORIAL_LIB_QUIET).
    """
    from tqdm import tqdm

    quiet = bool(os.environ.get("CI") or os.environ.get("TUTORIAL_LIB_QUIET"))
    live = "ipykernel" in sys.modules or sys.stderr.isatty()
    return tqdm(items, total=total, unit=unit, disable=quiet or not live, dynamic_ncols=True)
