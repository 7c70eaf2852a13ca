"""Assemble the course for a class, from the notebooks and their solutions.

    python tools/editions.py [--out build/editions]

students/   the notebooks, with stubs to fill in, and the pages they link to; no solution in it
teachers/   the same with the solutions in their places, the solutions by themselves, and all pages
nbgrader/   a course folder: `source/NN/` holds an assignment of each notebook's exercises,
            with nbgrader's marks

Statement and stub stand once, in the notebook; the solution once, in `solutions/`; here they only
come together.
"""

import argparse
import ast
import re
import shutil
import sys
from pathlib import Path

import nbformat
from execute import HERE, ROOT, copy_of_notebooks, normalise, notebooks
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

SOLUTIONS = HERE / "solutions"
# what notebooks link to, and what those link to
PAGES = ("notation.md", "equations.md", "errata.md")
LICENCES = ("LICENSE", "LICENSE-text")
TAG = "exercise-"
CONFIGURATION = '''"""How nbgrader runs this course.

    nbgrader generate_assignment 02 --create
    nbgrader autograde 02 --create
    nbgrader export
"""

c = get_config()  # noqa: F821 - nbgrader provides it
c.CourseDirectory.course_id = "diffusion"
c.ClearSolutions.code_stub = {"python": "...  # your work"}
c.Execute.timeout = 20  # seconds for one cell; then it is interrupted, and the next one runs
c.Execute.interrupt_on_timeout = True
'''


def exercises(notebook: NotebookNode) -> dict[str, NotebookNode]:
    """The cells of a notebook (or of its solutions) that hold an exercise, by number."""
    found = {}
    for cell in notebook.cells:
        for tag in cell.metadata.get("tags", []):
            if tag.startswith(TAG):
                found[tag.removeprefix(TAG)] = cell
    return found


def answers_to(path: Path) -> NotebookNode:
    """The solutions of the notebook at `path`.  Raises FileNotFoundError where there are none."""
    own = SOLUTIONS / path.name
    if not own.exists():
        place = own.relative_to(ROOT)
        raise FileNotFoundError(f"{path.name} has no solutions: they belong into {place}")
    return nbformat.read(own, as_version=4)


def solved(notebook: NotebookNode, answers: NotebookNode) -> NotebookNode:
    """The notebook with each stub replaced by its solution and what that prints; done in place."""
    found = exercises(answers)
    for number, cell in exercises(notebook).items():
        cell.source, cell.outputs = found[number].source, found[number].outputs
    return normalise(notebook)


def assignment(notebook: NotebookNode, answers: NotebookNode) -> NotebookNode:
    """The exercises alone, as nbgrader wants them.

    Stub and solution stand in one cell, marks in a locked one below it.
    """
    title = notebook.cells[0].source.splitlines()[0].removeprefix("# ")
    task = "Put your work where the dots are. `check` says how far you have come."
    opening = new_markdown_cell(f"# Exercises: {title}\n\n{task}")
    imports = next(cell for cell in answers.cells if cell.cell_type == "code")
    cells = [opening, _marked(new_code_cell(imports.source), "imports", locked=True)]
    found, statement = exercises(answers), ""
    for cell in notebook.cells:
        number = next((n for n, own in exercises(notebook).items() if own is cell), None)
        if number is None:
            statement = cell.source if cell.cell_type == "markdown" else statement
            continue
        name = number.replace(".", "-")
        if f"**{number}" not in statement:
            raise ValueError(
                f"the cell above exercise {number} of {title!r} should state it, "
                f"beginning with **{number}"
            )
        said = statement[statement.index(f"**{number}") :]
        both = new_code_cell(together(cell.source, found[number].source))
        answer = re.search(r'^check\("[\d.]+", (.*)\)$', cell.source, re.M)[1]
        marks = new_code_cell(MARKS.format(number=number, answer=answer))
        marks = _marked(marks, f"{name}-marks", locked=True)
        marks.metadata.nbgrader |= {"grade": True, "points": points(said)}
        cells += [new_markdown_cell(said), _marked(both, name, solution=True), marks]
    made = new_notebook(cells=cells, metadata={"kernelspec": notebook.metadata.kernelspec})
    for i, cell in enumerate(made.cells):
        cell.id = f"cell-{i}"
    return made


# The library is imported afresh, so that nothing that an answer has done to it counts.
MARKS = """import sys

for name in [name for name in sys.modules if name.split(".")[0] == "tutorial_lib"]:
    del sys.modules[name]
import tutorial_lib.course.exercises

tutorial_lib.course.exercises.mark("{number}", {answer})"""


def together(stub: str, solution: str) -> str:
    """One cell that is the solution to teachers and the stub to students.

    Where the stub is dots, the marks stand around the body; where it is code with a bug, around
    the mended function.
    """
    begin, end = "### BEGIN SOLUTION", "### END SOLUTION"
    lines, answers = [], {node.name: node for node in _functions(solution)}
    for node in _functions(stub):
        answer, own = answers[node.name], solution.splitlines()
        written = own[answer.lineno - 1 : answer.end_lineno]
        first = answer.body[1].lineno - answer.lineno  # behind the docstring
        if isinstance(node.body[-1], ast.Expr) and node.body[-1].value.value is ...:
            head, body = written[:first], written[first:]
            lines += [*head, f"    {begin}", *body, f"    {end}"]
        else:
            shown = stub.splitlines()[node.lineno - 1 : node.end_lineno]
            lines += [*shown, "", "", begin, *written, end]
        lines += ["", ""]
    return "\n".join([*lines, stub.splitlines()[-1]])


def _functions(source: str) -> list[ast.FunctionDef]:
    return [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]


def points(statement: str) -> int:
    """What an exercise is worth: a point for each ten minutes that it takes."""
    minutes = int(re.search(r"\((\d+) minutes", statement)[1])
    return max(1, round(minutes / 10))


def _marked(
    cell: NotebookNode, name: str, solution: bool = False, locked: bool = False
) -> NotebookNode:
    kind = {"solution": solution, "locked": locked, "grade": False, "task": False}
    cell.metadata["nbgrader"] = {"grade_id": name, "schema_version": 3} | kind
    return cell


def assemble(out: Path) -> None:
    """Write all three editions, each in a folder of its own; what was there before goes.

    Raises SystemExit, before anything is touched, where the course folder holds submissions or
    marks.
    """
    students, teachers, course = out / "students", out / "teachers", out / "nbgrader"
    if any((course / kept).exists() for kept in ("gradebook.db", "submitted", "autograded")):
        sys.exit(
            f"{course} holds submissions or marks: "
            "move that folder away, or choose another with --out"
        )
    for edition in (students, teachers, course):
        shutil.rmtree(edition, ignore_errors=True)
    # laid out like the project, so that links between pages hold
    for folder in (students, teachers):
        copy_of_notebooks(folder / "notebooks")
        for name in LICENCES:
            shutil.copy(ROOT / name, folder)
    shutil.rmtree(students / "notebooks" / SOLUTIONS.name)
    (students / "docs").mkdir()
    for name in PAGES:
        shutil.copy(ROOT / "docs" / name, students / "docs")
    programs = shutil.ignore_patterns("*.py", "__pycache__")
    shutil.copytree(ROOT / "docs", teachers / "docs", ignore=programs)
    for name in ("README.md", "CITATION.cff", "environment.yml"):
        shutil.copy(ROOT / name, teachers)
    for path in notebooks():
        answers = answers_to(path)
        made = solved(nbformat.read(path, as_version=4), answers)
        nbformat.write(made, teachers / "notebooks" / path.name)
        made = assignment(nbformat.read(path, as_version=4), answers)
        folder = course / "source" / path.name[:2]
        folder.mkdir(parents=True)
        nbformat.write(made, folder / path.name)
    (course / "nbgrader_config.py").write_text(CONFIGURATION)
    print(f"Wrote {students}, {teachers} and {course}")


def main() -> None:
    plain, default = argparse.RawDescriptionHelpFormatter, Path("build/editions")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    what = "folder that takes the editions"
    parser.add_argument("--out", type=Path, default=default, help=what)
    assemble(parser.parse_args().out)


if __name__ == "__main__":
    main()
