"""Grading with nbgrader, from the teacher's folder to the table of marks, on submissions of every
sort.
"""

import csv
import os
import subprocess
import sys
from pathlib import Path

import editions
import nbformat
import pytest

pytest.importorskip("nbgrader", reason="`make test` installs it")

NUMBER = "02"
ENDLESS = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True:\n    pass"
PATCH = """
import tutorial_lib.course.exercises as e
import tutorial_lib.course.exercises.checks as c
import tutorial_lib.course.exercises.n02 as n02
e.mark = e.check = e.verdict = lambda *_: None
n02.EXERCISES.clear()
c.same = n02.same = lambda *_: None
"""
LOUD = """
_right = left_of_it
def left_of_it(*a):
    print('...', file=sys.stderr)  # a progress bar would do the same
    return _right(*a)
"""


def nbgrader(course: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run nbgrader in a course folder; its own settings of this machine stay out of it."""
    private = {
        name: str(course / "private")
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")
    }
    private["PATH"] = os.pathsep.join(
        [str(Path(sys.executable).parent), os.environ["PATH"]]
    )  # it calls alembic by name
    command = [sys.executable, "-m", "nbgrader", *arguments]
    return subprocess.run(
        command, cwd=course, env=os.environ | private, capture_output=True, text=True, timeout=500
    )


def cell(notebook, name: str):
    return next(c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == name)


def answered(notebook, answers: dict[str, str]):
    """The released notebook with some cells replaced, by name."""
    for name, source in answers.items():
        cell(notebook, name).source = source
    return notebook


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("course")
    editions.assemble(out)
    done = nbgrader(out / "nbgrader", "generate_assignment", NUMBER, "--create")
    assert done.returncode == 0, done.stderr
    return out / "nbgrader"


def released(course: Path):
    (path,) = (course / "release" / NUMBER).glob("*.ipynb")
    return path.name, nbformat.read(path, as_version=4)


@pytest.fixture(scope="module")
def marks(course) -> dict[str, float]:
    """The marks of one student of each sort, after one run over all of them."""
    name, _ = released(course)
    original = next(path for path in editions.notebooks(part=1) if path.name == name)
    solved = {
        n.replace(".", "-"): c.source
        for n, c in editions.exercises(editions.answers_to(original)).items()
    }
    wrong = {key: source.replace("return ", "return 0 * ") for key, source in solved.items()}
    leave = "import os\nos._exit(1)"
    endless = "while True:\n    pass"
    tampered = wrong | {f"{key}-marks": "pass" for key in solved}
    patched = wrong | {"02-1": f"{wrong['02-1']}\n{PATCH}"}
    chatty = solved | {"02-1": f"import sys\n{solved['02-1']}\n{LOUD}"}
    submissions = {
        "right": solved,
        "wrong": wrong,
        "empty": {},
        "half": {"02-1": solved["02-1"], "02-3": solved["02-3"]},
        "crashing": {"02-2": "1 / 0", "02-3": solved["02-3"]},
        "leaving": {"02-2": leave},
        "syntax": {"02-1": "def ("},
        "endless": {"02-1": endless, "02-3": solved["02-3"]},
        "stubborn": {"02-1": ENDLESS},
        "tampered": tampered,
        "patched": patched,
        "zealous": solved,
        "chatty": chatty,
    }
    for student, answers in submissions.items():
        folder = course / "submitted" / student / NUMBER
        folder.mkdir(parents=True)
        notebook = answered(released(course)[1], answers)
        if student == "zealous":  # more cells than there were, and one that fails
            notebook.cells.append(nbformat.v4.new_code_cell("raise SystemExit('enough')"))
        nbformat.write(notebook, folder / name)
    graded = nbgrader(course, "autograde", NUMBER, "--create", "--Execute.timeout=15")
    exported = nbgrader(course, "export")
    assert exported.returncode == 0, exported.stderr
    for student in ("leaving", "stubborn"):
        assert f"for student '{student}'" in graded.stderr, "who could not be graded is named"
    with (course / "grades.csv").open() as table:
        return {row["student_id"]: float(row["raw_score"] or 0) for row in csv.DictReader(table)}


MINUTES = (2, 3, 10, 10, 30, 15)  # of the exercises of notebook 02
FULL = sum(editions.points(f"({minutes} minutes") for minutes in MINUTES)


def test_the_release_holds_no_solution_and_no_marks_are_lost(course):
    name, notebook = released(course)
    text = "\n".join(c.source for c in notebook.cells)
    assert "SOLUTION" not in text
    answers = editions.answers_to(next(p for p in editions.notebooks(part=1) if p.name == name))
    for cell in editions.exercises(answers).values():
        *_, body, _, _, call = cell.source.splitlines()
        assert body.startswith("    return ")
        assert call in text
        assert body not in text
    assert sum(c.metadata.get("nbgrader", {}).get("points", 0) for c in notebook.cells) == FULL


def test_right_work_gets_full_marks(marks):
    assert marks["right"] == marks["zealous"] == marks["chatty"] == FULL


def test_wrong_work_never_gets_marks(marks):
    assert marks["wrong"] == marks["empty"] == marks["syntax"] == 0


def test_a_changed_check_gives_nothing(marks):
    """The cells that give marks are restored, and they import the library afresh."""
    assert marks["tampered"] == marks["patched"] == 0


def test_each_exercise_counts_by_itself(marks):
    assert marks["half"] == editions.points("(2 minutes") + editions.points("(10 minutes")
    assert marks["crashing"] == editions.points("(10 minutes")


def test_endless_work_is_stopped_and_the_rest_counts(marks):
    assert marks["endless"] == editions.points("(10 minutes")


def test_nobody_is_lost(course, marks):
    """Whoever kills the kernel gets no marks, and keeps the submission; all others are graded all
    the same.
    """
    students = {path.name for path in (course / "submitted").iterdir()}
    assert len(students) == 13
    assert marks.keys() == students
    assert marks["leaving"] == marks["stubborn"] == 0
    for student in students:
        assert list((course / "submitted" / student / NUMBER).glob("*.ipynb"))


def test_grading_again_changes_nothing_by_itself(course, marks):
    """A second run skips what was graded; marks stay."""
    done = nbgrader(course, "autograde", NUMBER, "--student=right")
    assert done.returncode == 0
    nbgrader(course, "export", "--CsvExportPlugin.to=again.csv")
    with (course / "again.csv").open() as table:
        assert {
            row["student_id"]: float(row["raw_score"] or 0) for row in csv.DictReader(table)
        } == marks
