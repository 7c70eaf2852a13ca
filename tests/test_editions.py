"""Editions for a class: students get nothing of a solution, teachers everything."""

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
    cells = editions.exercises(nbformat.read(path, as_version=4))
    return {number: cell.source for number, cell in cells.items()}


def only_in_solutions() -> set[str]:
    """Lines that solutions have and stubs have not."""
    stubs, answers = set(), set()
    for path in editions.notebooks(part=1):
        for source in numbered(path).values():
            stubs |= {line.strip() for line in source.splitlines()}
        for cell in editions.exercises(editions.answers_to(path)).values():
            answers |= {line.strip() for line in cell.source.splitlines()}
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
        assert (out / edition / "notebooks" / "figures" / "denoising.gif").exists()


def test_teachers_get_every_solution_with_what_it_prints(out):
    teachers = out / "teachers"
    for path in editions.notebooks(part=1):
        theirs = nbformat.read(teachers / "notebooks" / path.name, as_version=4)
        cells = editions.exercises(theirs)
        answers = editions.exercises(editions.answers_to(path))
        assert cells.keys() == answers.keys()
        for number, cell in cells.items():
            assert cell.source == answers[number].source
            assert cell.outputs[0].text.startswith(f"{number}: right! ")
    guide = (ROOT / "docs" / "teaching.md").read_text()
    assert (teachers / "docs" / "teaching.md").read_text() == guide
    assert (teachers / "notebooks" / "solutions").is_dir()


def test_links_hold_in_both_editions(out):
    for edition in ("students", "teachers"):
        pages = [*(out / edition).rglob("*.md"), *(out / edition).rglob("*.ipynb")]
        link = re.compile(r"\]\(((?!http|#)[^)\s]+\.\w+)[^)\s]*\)")
        found = [(page, to) for page in pages for to in link.findall(page.read_text())]
        assert len(found) > 20
        assert [(page.name, to) for page, to in found if not (page.parent / to).exists()] == []


def imported(notebook) -> set[str]:
    """The names that a notebook's imports bring in."""
    source = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
    return names


@pytest.mark.parametrize("path", editions.notebooks(part=1), ids=lambda path: path.stem)
def test_solved_notebooks_import_what_their_solutions_use(path):
    assert imported(editions.answers_to(path)) <= imported(nbformat.read(path, as_version=4))


def test_nbgrader_gets_valid_assignments(out):
    for path in editions.notebooks(part=1):
        made = nbformat.read(out / "nbgrader" / "source" / path.name[:2] / path.name, as_version=4)
        nbformat.validate(made)
        kinds = [cell.metadata.nbgrader for cell in made.cells if "nbgrader" in cell.metadata]
        marks = [kind for kind in kinds if kind.get("grade")]
        assert len(marks) == len(numbered(path))
        assert all(kind.locked and kind.points >= 1 for kind in marks)
        names = [kind.grade_id for kind in kinds]
        assert len(set(names)) == len(names)


def test_what_nbgrader_cuts_out_is_all_of_the_solution(out):
    """And what it leaves is a cell that runs, and fails kindly."""
    lines = only_in_solutions()
    answer = re.compile(r"( *)### BEGIN SOLUTION.*?### END SOLUTION", re.S)
    for path in editions.notebooks(part=1):
        made = nbformat.read(out / "nbgrader" / "source" / path.name[:2] / path.name, as_version=4)
        scope: dict = {}
        exec(made.cells[1].source, scope)
        given: dict = {}
        scope["check"] = given.__setitem__
        for cell in made.cells:
            if not cell.metadata.get("nbgrader", {}).get("solution"):
                continue
            left = answer.sub(r"\1...  # your work", cell.source)
            assert left != cell.source
            assert not {line.strip() for line in left.splitlines()} & lines
            exec(left, scope)
        assert given.keys() == numbered(path).keys()
        assert not any(exercises.verdict(number, own).right for number, own in given.items())


def test_marks_are_never_overwritten(tmp_path):
    """Not even when somebody has graded where the course folder was made."""
    submitted = tmp_path / "nbgrader" / "submitted" / "ada"
    submitted.mkdir(parents=True)
    with pytest.raises(SystemExit, match="holds submissions or marks"):
        editions.assemble(tmp_path)
    assert submitted.exists()
    assert not (tmp_path / "students").exists()


def test_a_notebook_without_solutions_is_said(tmp_path):
    message = r"99_x\.ipynb has no solutions: they belong into notebooks/solutions"
    with pytest.raises(FileNotFoundError, match=message):
        editions.answers_to(tmp_path / "99_x.ipynb")


@pytest.mark.parametrize(("minutes", "worth"), [(2, 1), (10, 1), (15, 2), (30, 3)])
def test_points_follow_the_minutes(minutes, worth):
    assert editions.points(f"**01.1 Two steps** ({minutes} minutes). Do it.") == worth


@pytest.mark.parametrize("path", execute.solutions(), ids=lambda path: path.stem)
def test_solutions_are_current_and_all_right(path):
    """nbval runs them too; here, that what is stored belongs to what stands there."""
    notebook = nbformat.read(path, as_version=4)
    current = execute.sources_hash(notebook)
    assert notebook.metadata.sources_sha256 == current, "edited since it was run: make notebooks"
    printed = [output.text for cell in notebook.cells for output in cell.get("outputs", [])]
    assert len(printed) == len(numbered(path))
    assert all(": right! " in text for text in printed)
