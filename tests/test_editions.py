"""Editions for a class: nothing of a solution reaches the students, everything is there for the
teachers.
"""

import ast
import re

import editions
import execute
import nbformat
import pytest
from conftest import ROOT

from tutorial_lib.course import exercises


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("editions")
    editions.assemble(folder)
    return folder


def numbered(path) -> dict[str, str]:
    return {
        n: cell.source for n, cell in editions.exercises(nbformat.read(path, as_version=4)).items()
    }


def only_in_solutions() -> set[str]:
    """Lines that solutions have and stubs have not."""
    stubs = {
        line.strip()
        for path in editions.notebooks(part=1)
        for s in numbered(path).values()
        for line in s.splitlines()
    }
    answers = {
        line.strip()
        for path in editions.notebooks(part=1)
        for cell in editions.exercises(editions.answers_to(path)).values()
        for line in cell.source.splitlines()
    }
    return answers - stubs


def test_students_get_every_notebook_and_no_solution(out):
    lines = only_in_solutions()
    assert len(lines) > 40
    for path in editions.notebooks(part=1):
        assert (out / "students" / "notebooks" / path.name).read_bytes() == path.read_bytes()
    assert not list((out / "students").rglob("solutions"))
    for path in (out / "students").rglob("*.ipynb"):
        cells = editions.exercises(nbformat.read(path, as_version=4))
        found = {line.strip() for cell in cells.values() for line in cell.source.splitlines()}
        assert not found & lines


def test_pictures_travel_along(out):
    for edition in ("students", "teachers"):
        assert {p.name for p in (out / edition / "notebooks" / "figures").iterdir()} >= {
            "denoising.gif"
        }


def test_teachers_get_every_solution_with_what_it_prints(out):
    for path in editions.notebooks(part=1):
        cells = editions.exercises(
            nbformat.read(out / "teachers" / "notebooks" / path.name, as_version=4)
        )
        answers = editions.exercises(editions.answers_to(path))
        assert cells.keys() == answers.keys()
        for number, cell in cells.items():
            assert cell.source == answers[number].source
            assert cell.outputs[0].text.startswith(f"{number}: right! ")
    assert (out / "teachers" / "docs" / "teaching.md").read_text() == (
        ROOT / "docs" / "teaching.md"
    ).read_text()
    assert (out / "teachers" / "notebooks" / "solutions").is_dir()


def test_links_hold_in_both_editions(out):
    for edition in ("students", "teachers"):
        pages = [*(out / edition).rglob("*.md"), *(out / edition).rglob("*.ipynb")]
        found = [
            (page, to)
            for page in pages
            for to in re.findall(r"\]\(((?!http|#)[^)\s]+\.\w+)[^)\s]*\)", page.read_text())
        ]
        assert len(found) > 20
        assert [(page.name, to) for page, to in found if not (page.parent / to).exists()] == []


def imported(notebook) -> set[str]:
    """The names that a notebook's imports bring in."""
    source = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    found = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    return {alias.asname or alias.name for node in found for alias in node.names}


@pytest.mark.parametrize("path", editions.notebooks(part=1), ids=lambda path: path.stem)
def test_solved_notebooks_import_what_their_solutions_use(path):
    assert imported(editions.answers_to(path)) <= imported(nbformat.read(path, as_version=4))


def test_nbgrader_gets_valid_assignments(out):
    for path in editions.notebooks(part=1):
        made = nbformat.read(out / "nbgrader" / "source" / path.name[:2] / path.name, as_version=4)
        nbformat.validate(made)
        marks = [cell for cell in made.cells if cell.metadata.get("nbgrader", {}).get("grade")]
        assert len(marks) == len(numbered(path))
        assert all(
            cell.metadata.nbgrader.locked and cell.metadata.nbgrader.points >= 1 for cell in marks
        )
        names = [
            cell.metadata.nbgrader.grade_id for cell in made.cells if "nbgrader" in cell.metadata
        ]
        assert len(set(names)) == len(names)


def test_what_nbgrader_cuts_out_is_all_of_the_solution(out):
    """And what it leaves is a cell that runs, and fails kindly."""
    lines = only_in_solutions()
    for path in editions.notebooks(part=1):
        made = nbformat.read(out / "nbgrader" / "source" / path.name[:2] / path.name, as_version=4)
        scope: dict = {}
        exec(made.cells[1].source, scope)
        given: dict = {}
        scope["check"] = given.__setitem__
        for cell in made.cells:
            if not cell.metadata.get("nbgrader", {}).get("solution"):
                continue
            left = re.sub(
                r"( *)### BEGIN SOLUTION.*?### END SOLUTION",
                r"\1...  # your work",
                cell.source,
                flags=re.S,
            )
            assert left != cell.source
            assert not {line.strip() for line in left.splitlines()} & lines
            exec(left, scope)
        assert given.keys() == numbered(path).keys()
        assert not any(exercises.verdict(number, answer).right for number, answer in given.items())


def test_marks_are_never_overwritten(tmp_path):
    """Not even when somebody has graded where the course folder was made."""
    submitted = tmp_path / "nbgrader" / "submitted" / "ada"
    submitted.mkdir(parents=True)
    with pytest.raises(SystemExit, match="holds submissions or marks"):
        editions.assemble(tmp_path)
    assert submitted.exists()
    assert not (tmp_path / "students").exists()


def test_a_notebook_without_solutions_is_said(tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match=r"99_x\.ipynb has no solutions: they belong into notebooks/solutions",
    ):
        editions.answers_to(tmp_path / "99_x.ipynb")


@pytest.mark.parametrize(("minutes", "worth"), [(2, 1), (10, 1), (15, 2), (30, 3)])
def test_points_follow_the_minutes(minutes, worth):
    assert editions.points(f"**01.1 Two steps** ({minutes} minutes). Do it.") == worth


@pytest.mark.parametrize("path", execute.solutions(), ids=lambda path: path.stem)
def test_solutions_are_current_and_all_right(path):
    """nbval runs them too; here, that what is stored belongs to what stands there."""
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata.sources_sha256 == execute.sources_hash(notebook), (
        "edited since it was run: make notebooks"
    )
    printed = [output.text for cell in notebook.cells for output in cell.get("outputs", [])]
    assert len(printed) == len(numbered(path))
    assert all(": right! " in text for text in printed)
