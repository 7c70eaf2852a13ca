"""What every notebook needs: the environment check of the first cell, sources shown, pictures
embedded, progress.
"""

import base64
import html
import importlib.metadata
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from tutorial_lib import __version__

NEEDS = {"torch": "2.6", "numpy": "1.26", "matplotlib": "3.8", "einops": "0.7", "datasets": "3.0"}


def check_environment(written_for: str) -> None:
    """Say in plain words whether this machine can run the notebook.

    written_for: the version of tutorial_lib the notebook was written with.
    Raises RuntimeError that says what to do when a package is missing, too old, or of another
    series.
    """
    problems = []
    if sys.version_info < (3, 11):
        problems.append(f"Python {sys.version.split()[0]} is too old; install 3.11 or newer")
    if written_for.split(".")[:2] != __version__.split(".")[:2]:
        problems.append(
            f"this notebook belongs to tutorial_lib {written_for}, but {__version__} is installed; "
            "run `pip install -e .` in the folder that the notebook came with, then restart the kernel"
        )
    for package, least in NEEDS.items():
        try:
            found = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            problems.append(f"{package} is missing; run `pip install {package}`")
            continue
        if _numbers(found) < _numbers(least):
            problems.append(
                f"{package} {found} is too old; run `pip install -U {package}` ({least} or newer)"
            )
    if problems:
        raise RuntimeError("This notebook cannot run here yet:\n- " + "\n- ".join(problems))
    print(f"tutorial_lib {__version__}: everything this notebook needs is here.")


def show_source(item: Callable) -> None:
    """Print the source of a function or class of the library, the only version that the series
    uses.
    """
    print(inspect.getsource(item).rstrip())


def show_gif(path: Path | str, alt: str, width: int = 360):
    """Show a GIF file inside the notebook, as HTML that GitHub, JupyterLab and exported pages all
    display.

    alt: what the picture shows, in words.  width: on the screen, in pixels.
    """
    from IPython.display import HTML

    data = base64.b64encode(Path(path).read_bytes()).decode()
    return HTML(
        f'<img src="data:image/gif;base64,{data}" alt="{html.escape(alt)}" width="{width}" '
        'style="image-rendering: pixelated">'
    )


def progress(items: Iterable, total: int | None = None, unit: str = "step") -> Iterable:
    """A progress bar with rate and time left, in a terminal or a live notebook; silent when nobody
    watches.

    Nobody watches when the output is redirected, under CI, or when a notebook is executed by a
    program
    (which sets TUTORIAL_LIB_QUIET).
    """
    from tqdm import tqdm

    quiet = bool(os.environ.get("CI") or os.environ.get("TUTORIAL_LIB_QUIET"))
    live = "ipykernel" in sys.modules or sys.stderr.isatty()
    return tqdm(items, total=total, unit=unit, disable=quiet or not live, dynamic_ncols=True)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
