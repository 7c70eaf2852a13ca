"""Assemble the course for a class, from the notebooks and their solutions.

    python tools/editions.py [--out build/editions]

students/   the notebooks, with stubs to fill in, and the pages they link to; no solution anywhere
in it teachers/   the same with the solutions in their places, the solutions by themselves, and all
pages nbgrader/   a course folder: `source/NN/` holds an assignment of each notebook's exercises,
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
PAGES = (
    "notation.md",
    "equations.md",
    "errata.md",
)  # what notebooks link to, and what those link to
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
        raise FileNotFoundError(
            f"{path.name} has no solutions: they belong into {own.relative_to(ROOT)}"
        )
    return nbformat.read(own, as_version=4)


def solved(notebook: NotebookNode, answers: NotebookNode) -> NotebookNode:
    """The notebook with each stub replaced by its solution, and with what that prints.  Changes it
    in place.
    """
    found = exercises(answers)
    for number, cell in exercises(notebook).items():
        cell.source, cell.outputs = found[number].source, found[number].outputs
    return normalise(notebook)


def assignment(notebook: NotebookNode, answers: NotebookNode) -> NotebookNode:
    """The exercises alone, as nbgrader wants them: stub and solution in one cell, marks in a locked
    one below it.
    """
    title = notebook.cells[0].source.splitlines()[0].removeprefix("# ")
    opening = f"# Exercises: {title}\n\nPut your work where the dots are. `check` says how far you have come."
    imports = next(cell for cell in answers.cells if cell.cell_type == "code")
    cells = [
        new_markdown_cell(opening),
        _marked(new_code_cell(imports.source), "imports", locked=True),
    ]
    found, statement = exercises(answers), ""
    for cell in notebook.cells:
        number = next((n for n, own in exercises(notebook).items() if own is cell), None)
        if number is None:
            statement = cell.source if cell.cell_type == "markdown" else statement
            continue
        name = number.replace(".", "-")
        if f"**{number}" not in statement:
            raise ValueError(
                f"the cell above exercise {number} of {title!r} should state it, beginning with **{number}"
            )
        said = statement[statement.index(f"**{number}") :]
        cells.append(new_markdown_cell(said))
        cells.append(
            _marked(new_code_cell(together(cell.source, found[number].source)), name, solution=True)
        )
        answer = re.search(r'^check\("[\d.]+", (.*)\)$', cell.source, re.M)[1]
        marks = _marked(
            new_code_cell(MARKS.format(number=number, answer=answer)), f"{name}-marks", locked=True
        )
        marks.metadata.nbgrader |= {"grade": True, "points": points(said)}
        cells.append(marks)
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

    Where the stub is dots, the marks stand around the body; where it is code with a bug, around the
    mended function.
    """
    lines, answers = [], {node.name: node for node in _functions(solution)}
    for node in _functions(stub):
        answer, own = answers[node.name], solution.splitlines()
        written = own[answer.lineno - 1 : answer.end_lineno]
        first = answer.body[1].lineno - answer.lineno  # behind the docstring
        if isinstance(node.body[-1], ast.Expr) and node.body[-1].value.value is ...:
            indent = "    "
            lines += [
                *written[:first],
                f"{indent}### BEGIN SOLUTION",
                *written[first:],
                f"{indent}### END SOLUTION",
            ]
        else:
            shown = stub.splitlines()[node.lineno - 1 : node.end_lineno]
            lines += [*shown, "", "", "### BEGIN SOLUTION", *written, "### END SOLUTION"]
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
    if any(
        (out / "nbgrader" / kept).exists() for kept in ("gradebook.db", "submitted", "autograded")
    ):
        sys.exit(
            f"{out / 'nbgrader'} holds submissions or marks: move that folder away, or choose another with --out"
        )
    for edition in ("students", "teachers", "nbgrader"):
        shutil.rmtree(out / edition, ignore_errors=True)
    students, teachers, source = out / "students", out / "teachers", out / "nbgrader" / "source"
    for folder in (
        students,
        teachers,
    ):  # laid out like the project, so that links between pages hold
        copy_of_notebooks(folder / "notebooks")
        for name in LICENCES:
            shutil.copy(ROOT / name, folder)
    shutil.rmtree(students / "notebooks" / SOLUTIONS.name)
    (students / "docs").mkdir()
    for name in PAGES:
        shutil.copy(ROOT / "docs" / name, students / "docs")
    shutil.copytree(
        ROOT / "docs", teachers / "docs", ignore=shutil.ignore_patterns("*.py", "__pycache__")
    )
    for name in ("README.md", "CITATION.cff", "environment.yml"):
        shutil.copy(ROOT / name, teachers)
    for path in notebooks(part=1):
        answers = answers_to(path)
        nbformat.write(
            solved(nbformat.read(path, as_version=4), answers), teachers / "notebooks" / path.name
        )
        folder = source / path.name[:2]
        folder.mkdir(parents=True)
        nbformat.write(assignment(nbformat.read(path, as_version=4), answers), folder / path.name)
    (out / "nbgrader" / "nbgrader_config.py").write_text(CONFIGURATION)
    print(f"Wrote {students}, {teachers} and {out / 'nbgrader'}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path("build/editions"), help="folder that takes the editions"
    )
    assemble(parser.parse_args().out)


if __name__ == "__main__":
    main()
