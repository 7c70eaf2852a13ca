"""Grading with nbgrader, from the teacher's folder to the table of marks, on submissions of every
sort.
"""

import copy
import csv
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import editions
import nbformat
import pytest

from tutorial_lib.course.grading import judge

pytest.importorskip("nbgrader", reason="`make test` installs it")

NUMBER = "02"
PATH = os.environ["PATH"]
ENDLESS = "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\nwhile True:\n    pass"
PATCH = """
import tutorial_lib.course.exercises as e
import tutorial_lib.course.exercises.checks as c
import tutorial_lib.course.exercises.n02 as n02
e.mark = e.check = e.verdict = lambda *_: None
n02.EXERCISES.clear()
c.same = n02.same = lambda *_: None
"""
THIEF = """
import nbformat
solved = nbformat.read({path!r}, as_version=4)
exec("".join(c.source for c in solved.cells if "BEGIN SOLUTION" in c.source))
"""
VANDAL = """
import sqlite3
marks = sqlite3.connect({path!r})
marks.execute("update grade set auto_score = 0")
marks.commit()
"""
LOUD = """
_right = left_of_it
def left_of_it(*a):
    print('...', file=sys.stderr)  # a progress bar would do the same
    return _right(*a)
"""


try:
    judge.sandbox()
    AS_IT_IS: tuple[str, ...] = ()
except judge.NoSandbox:
    AS_IT_IS = ("--Judged.sandbox=False",)


def nbgrader(course: Path, *arguments: str, path: str = PATH) -> subprocess.CompletedProcess:
    """Run nbgrader in a course folder; its own settings of this machine stay out of it."""
    private = {
        name: str(course / "private")
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")
    }
    private["PATH"] = os.pathsep.join(
        [str(Path(sys.executable).parent), path]
    )  # it calls alembic by name
    command = [sys.executable, "-m", "nbgrader", *arguments]
    return subprocess.run(
        command, cwd=course, env=os.environ | private, capture_output=True, text=True, timeout=1500
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


def lesson(name: str) -> Path:
    """The notebook whose exercises were released under this name."""
    (path,) = editions.notebooks(names=[editions.number(Path(name))])
    return path


def with_copy(notebook, name: str, source: str, below: bool = True):
    """The notebook with a copy of a cell as JupyterLab makes it (C, V), with other words in it."""
    original = cell(notebook, name)
    copied = copy.deepcopy(original)
    copied.id, copied.source = f"copied-{name}", source
    place = notebook.cells.index(original) + 1 if below else len(notebook.cells)
    notebook.cells.insert(place, copied)
    return notebook


def odd(course: Path, solved: dict[str, str], wrong: dict[str, str]) -> dict:
    """Files that somebody hands in who has copied cells, or taken another file."""

    def work(answers):
        return answered(released(course)[1], answers)

    name = "02-1-marks"
    copier = with_copy(work(solved | {"02-1": "..."}), "02-1", solved["02-1"])
    copier = with_copy(copier, name, cell(copier, name).source, below=False)
    stranger = copy.deepcopy(cell(copier, "02-2"))  # from another course, made with an old nbgrader
    stranger.id, stranger.metadata.nbgrader = "foreign", {"grade_id": "hw-1", "solution": True}
    copier.cells.insert(2, stranger)
    read = nbformat.read(lesson(released(course)[0]), as_version=4)
    read.cells = read.cells[:3]
    return {
        "a_copier": copier,
        "a_forger": with_copy(work(wrong), name, "pass", below=False),
        "a_lesson": read,
    }


@pytest.fixture(scope="module")
def graded(course) -> subprocess.CompletedProcess:
    """One run over students of each sort."""
    name, _ = released(course)
    original = lesson(name)
    solved = {
        n.replace(".", "-"): c.source
        for n, c in editions.exercises(editions.answers_to(original)).items()
    }
    wrong = {key: source.replace("return ", "return 0 * ") for key, source in solved.items()}
    leave = "import os\nos._exit(1)"
    endless = "while True:\n    pass"
    tampered = wrong | {f"{key}-marks": "pass" for key in solved}
    patched = wrong | {"02-1": f"{wrong['02-1']}\n{PATCH}"}
    chatty = solved | {"02-1": f"import sys\nhint('02.1')\n{solved['02-1']}\n{LOUD}"}
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
        "Zoe Zealous": solved,
        "chatty": chatty,
    }
    if not AS_IT_IS:
        source = str(course / "source" / NUMBER / name)
        submissions["thief"] = {"02-1": THIEF.format(path=source)}
        submissions["vandal"] = {"02-1": VANDAL.format(path=str(course / "gradebook.db"))}
    for student, answers in submissions.items():
        folder = course / "submitted" / student / NUMBER
        folder.mkdir(parents=True)
        notebook = answered(released(course)[1], answers)
        if student == "Zoe Zealous":  # more cells than there were, and one that fails
            notebook.cells.append(nbformat.v4.new_code_cell("raise SystemExit('enough')"))
        nbformat.write(notebook, folder / name)
    for student, notebook in odd(course, solved, wrong).items():
        folder = course / "submitted" / student / NUMBER
        folder.mkdir(parents=True)
        nbformat.write(notebook, folder / name)
    misnamed = course / "submitted" / "misnamed" / NUMBER
    misnamed.mkdir(parents=True)
    shutil.copy(lesson(name), misnamed)
    return nbgrader(course, "autograde", NUMBER, "--create", *AS_IT_IS)


@pytest.fixture(scope="module")
def marks(course, graded) -> dict[str, float]:
    """The mark of each student."""
    exported = nbgrader(course, "export")
    assert exported.returncode == 0, exported.stderr
    with (course / "grades.csv").open() as table:
        return {row["student_id"]: float(row["raw_score"] or 0) for row in csv.DictReader(table)}


MINUTES = (2, 3, 10, 10, 30, 15, 10)  # of the exercises of notebook 02
FULL = sum(editions.points(f"({minutes} minutes") for minutes in MINUTES)


def test_the_release_holds_no_solution_and_no_marks_are_lost(course):
    name, notebook = released(course)
    text = "\n".join(c.source for c in notebook.cells)
    assert "SOLUTION" not in text
    answers = editions.answers_to(lesson(name))
    for cell in editions.exercises(answers).values():
        *_, body, _, _, call = cell.source.splitlines()
        assert body.startswith("    return ")
        assert call in text
        assert body not in text
    assert sum(c.metadata.get("nbgrader", {}).get("points", 0) for c in notebook.cells) == FULL


def test_right_work_gets_full_marks(marks):
    assert marks["right"] == marks["Zoe Zealous"] == marks["chatty"] == FULL


def test_wrong_work_never_gets_marks(marks):
    assert marks["wrong"] == marks["empty"] == marks["syntax"] == 0


def test_a_changed_check_gives_nothing(marks):
    """The cells that give marks are restored, and another process reads them."""
    assert marks["tampered"] == marks["patched"] == 0


@pytest.mark.skipif(bool(AS_IT_IS), reason="there is no sandbox here")
def test_source_and_gradebook_are_out_of_reach(marks):
    """Those who come before the vandal keep their marks; the thief has none."""
    assert marks["thief"] == marks["vandal"] == 0
    assert marks["right"] == FULL


def test_without_a_sandbox_nothing_is_graded_and_nobody_is_lost(course, marks, tmp_path):
    """Unless it is asked for."""
    for name in ("source", "submitted/right", "nbgrader_config.py", "gradebook.db"):
        place = tmp_path / name
        place.parent.mkdir(exist_ok=True, parents=True)
        copied = shutil.copytree if (course / name).is_dir() else shutil.copy
        copied(course / name, place)
    again = "autograde", NUMBER, "--student=right", "--force"
    poor = nbgrader(tmp_path, *again, path="")
    assert poor.returncode != 0
    assert "bubblewrap is not installed" in poor.stderr
    assert "--Judged.sandbox=False" in poor.stderr
    asked = nbgrader(tmp_path, *again, "--Judged.sandbox=False", "--Judged.by_name=True", path="")
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout == f"02 right: {FULL} of {FULL} points\n"


def test_the_log_has_a_line_a_student(graded, marks):
    own = [line for line in graded.stdout.splitlines() if line]
    assert f"02 right: {FULL} of {FULL} points" in own
    assert len(own) == len(marks) - 3  # of which two have no result, and one no file


def test_the_table_has_a_column_for_each_exercise(course, marks):
    with (course / "grades.csv").open() as table:
        rows = {row["student_id"]: row for row in csv.DictReader(table)}
    numbers = [f"02.{k}" for k in range(1, 8)]
    assert [name for name in rows["right"] if name.startswith("02.")] == numbers
    for row in rows.values():
        assert float(row["raw_score"]) == sum(float(row[name] or 0) for name in numbers)
    assert float(rows["half"]["02.1"]) == 1 and float(rows["half"]["02.2"]) == 0


def test_a_copied_cell_harms_nobody(marks, graded):
    """Those who come after its author by name are graded as well; the last copy counts."""
    assert marks["a_copier"] == FULL
    assert marks["a_forger"] == 0
    assert "old version" not in graded.stderr


def test_another_file_than_the_released_one_is_named(marks, graded):
    """The lesson under the name of the hand-in, and under its own."""
    name = "02_exercises.ipynb"
    assert f"submitted/a_lesson/02/{name} has no cell that gives marks" in graded.stderr
    assert graded.stderr.count("has no cell that gives marks") == 1
    assert marks["a_lesson"] == marks["misnamed"] == 0
    unknown = graded.stderr.index("Skipping unknown notebook")
    assert "misnamed/02/02_forward_noising.ipynb" in graded.stderr[unknown : unknown + 200]


def test_who_could_not_be_graded_is_named(graded):
    for student in ("leaving", "misnamed", "stubborn"):
        assert f"for student '{student}'" in graded.stderr


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
    assert len(students) == (17 if AS_IT_IS else 19)
    assert marks.keys() == students
    assert marks["leaving"] == marks["stubborn"] == 0
    for student in students:
        assert list((course / "submitted" / student / NUMBER).glob("*.ipynb"))


def test_grading_again_changes_nothing_by_itself(course, marks):
    """A second run skips what was graded; marks stay."""
    done = nbgrader(course, "autograde", NUMBER, "--student=right")
    assert done.returncode == 0
    nbgrader(course, "export", "--to=again.csv")
    with (course / "again.csv").open() as table:
        assert {
            row["student_id"]: float(row["raw_score"] or 0) for row in csv.DictReader(table)
        } == marks


def test_an_archive_of_all_submissions_is_collected(course, tmp_path):
    """Under a name of each form that is known."""
    shutil.copy(course / "nbgrader_config.py", tmp_path)
    archive = tmp_path / "downloaded" / NUMBER / "archive"
    archive.mkdir(parents=True)
    (released,) = (course / "release" / NUMBER).glob("*.ipynb")
    moodle = "1234_assignsubmission_file_"
    with zipfile.ZipFile(archive / "all.zip", "w") as packed:
        packed.write(released, "emmy_n_02_exercises.ipynb")
        packed.write(released, f"ada_{moodle}02_exercises.ipynb")
        packed.write(released, f"Alan Turing_{moodle}/02_exercises.ipynb")
    done = nbgrader(tmp_path, "zip_collect", NUMBER)
    assert done.returncode == 0, done.stderr
    submitted = tmp_path / "submitted"
    assert {path.name for path in submitted.iterdir()} == {"ada", "emmy_n", "Alan Turing"}
    for folder in submitted.iterdir():
        (file,) = (folder / NUMBER).glob("*.ipynb")
        assert file.name == "02_exercises.ipynb"
