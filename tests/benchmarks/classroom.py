"""How quick are explorers and grading?

    python tests/benchmarks/classroom.py redraw
        milliseconds from a moved slider to the new picture, median
    python tests/benchmarks/classroom.py grade
        seconds for 30 submissions of notebook 02, nbgrader's own work included

Both print the machine and what they measured, in JSON.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ipywidgets
import nbformat
import torch
from common import machine, median_seconds

from tutorial_lib import checkpoint
from tutorial_lib.course.widgets import n00, n01, n02, n03, n04, n05, n06
from tutorial_lib.nets.unet import restore
from tutorial_lib.schedule import cosine

ROOT = Path(__file__).parents[2]
STUDENTS = 30


def redraw() -> dict[str, float]:
    """Of each explorer, in milliseconds: the median over the two ends of its slowest control."""
    model, schedule = restore(*checkpoint.load("fashion_mnist")), cosine(1000)
    walks = list(n06.reverse_frames(model, schedule, target="v", seeds=2, steps=(5, 20)))[-1]
    explorers = (
        n00.walk, n01.chain, n02.noising, n02.step_back, n03.kl, n03.decoder, n04.network,
        n05.replay,
    )  # fmt: skip
    boxes = {one.__name__: one() for one in explorers} | {"reverse": n06.reverse(walks, schedule)}
    found = {}
    for name, box in boxes.items():
        found[f"redraw of {name}, ms"] = 1000 * max(map(_moved, _controls(box)))
    return found


def _controls(box) -> list:
    """All that can be moved: not the picture."""
    found = []
    for child in box.children:
        if hasattr(child, "children"):
            found += _controls(child)
        elif not isinstance(child, ipywidgets.Image):
            found.append(child)
    return found


def _moved(control) -> float:
    """Median seconds of moving a control back and forth."""
    if hasattr(control, "min"):
        ends = [control.min, control.max]
    elif hasattr(control, "options"):
        ends = [option[1] if isinstance(option, tuple) else option for option in control.options]
    else:
        ends = [False, True]
    turn = iter(ends * 20)
    return median_seconds(lambda: setattr(control, "value", next(turn)), 12, uncounted=2)


def grade() -> dict[str, float]:
    """Seconds to grade; half of the students are right everywhere, the others left all empty."""
    sys.path.append(str(ROOT / "tools"))
    import editions

    with tempfile.TemporaryDirectory() as temporary:
        editions.assemble(Path(temporary))
        course = Path(temporary) / "nbgrader"
        paths = [str(Path(sys.executable).parent), os.environ["PATH"]]
        run = {
            "cwd": course,
            "env": os.environ | {"PATH": os.pathsep.join(paths)},
            "check": True,
            "stdout": subprocess.DEVNULL,
        }
        nbgrader = [sys.executable, "-m", "nbgrader"]
        subprocess.run([*nbgrader, "generate_assignment", "02", "--create"], **run)
        (released,) = (course / "release" / "02").glob("*.ipynb")
        (original,) = editions.notebooks(names=[editions.number(released)])
        answers = editions.exercises(editions.answers_to(original))
        for i in range(STUDENTS):
            notebook = nbformat.read(released, as_version=4)
            for cell in notebook.cells:
                number = cell.metadata.get("nbgrader", {}).get("grade_id", "").replace("-", ".")
                if i % 2 and number in answers:
                    cell.source = answers[number].source
            folder = course / "submitted" / f"student{i:02d}" / "02"
            folder.mkdir(parents=True)
            nbformat.write(notebook, folder / released.name)
        began = time.perf_counter()
        subprocess.run([*nbgrader, "autograde", "02", "--create"], **run)
        return {f"grading {STUDENTS} submissions, s": time.perf_counter() - began}


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    measured = {"redraw": redraw, "grade": grade}[sys.argv[1]]()
    print(json.dumps({"machine": machine()} | measured, indent=1))
