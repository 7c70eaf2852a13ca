"""Assemble the course for a class, from the notebooks and their solutions.

    python tools/editions.py [--out build/editions]

students/   the notebooks, with stubs to fill in, the pages they link to, and how to install; no
            solution in it
teachers/   the same with the solutions in their places, the solutions by themselves, all pages, a
            quiz of each notebook for a learning platform, and pages to print
nbgrader/   a course folder: `source/NN/` holds an assignment of each notebook's exercises,
            with nbgrader's marks

Statement and stub stand once, in the notebook; the solution once, in `solutions/`.  Here they only
come together.
"""

import argparse
import ast
import re
import shutil
import sys
from importlib import import_module
from pathlib import Path

import nbformat
import printable
import quiz
from execute import HERE, ROOT, copy_of_notebooks, normalise, notebooks, number
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tutorial_lib import __version__

SOLUTIONS = HERE / "solutions"
# what notebooks link to, and what those link to
PAGES = (
    *("notation.md", "equations.md", "errata.md", "theory_on_one_page.md", "training.md"),
    *("bring_your_own.md", "benchmarks.md", "glossary.md"),
)
LIVE = "docs/site/live/points"  # a page that needs neither Python nor the site
LICENCES = ("LICENSE", "LICENSE-text")
TAG = "exercise-"
CONFIGURATION = "nbgrader_config.py"
CHECK = "from tutorial_lib.course.exercises import check"
STUDENTS = """# Diffusion models: your copy

You need Python 3.11 or newer, about 2 GB of disk, and one file beside this page, which your teacher gives you:
`{wheel}`. Set up once, in a terminal in this folder.

On Windows:

```bat
py -m venv .venv
.venv\\Scripts\\python -m pip install -c constraints.txt torch
.venv\\Scripts\\python -m pip install -c constraints.txt "{wheel}[notebooks]"
.venv\\Scripts\\python -m jupyterlab notebooks
```

On Linux and macOS:

```sh
python3 -m venv .venv
.venv/bin/python -m pip install -c constraints.txt torch
.venv/bin/python -m pip install -c constraints.txt "{wheel}[notebooks]"
.venv/bin/python -m jupyterlab notebooks
```

On Linux the second line fetches several GB for NVIDIA cards, which the course does not need. Before it, look up the
address for CPU on [PyTorch's own page](https://pytorch.org/get-started/locally/) (Linux, Pip, CPU) and say
`export PIP_EXTRA_INDEX_URL=ADDRESS`. On Windows and macOS the build for CPU comes by itself.

The last line opens the notebooks, today and every other day. Each ends with exercises: put your work where the dots are,
run the cell, and `check` says how far you have come; `hint("02.3")` helps. A picture that follows its sliders does so
once its cell has been run. Lost something? Take the notebook from this folder's original once more.

Is something wrong, or was right work refused? Tell your teacher the number of the exercise, your code, and what `check`
has printed.
"""  # noqa: E501 - a page


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
    for exercise, cell in exercises(notebook).items():
        cell.source, cell.outputs = found[exercise].source, found[exercise].outputs
    return normalise(notebook)


def assignment(notebook: NotebookNode, answers: NotebookNode) -> NotebookNode:
    """The exercises alone, as nbgrader wants them.

    Stub and solution stand in one cell, marks in a locked one below it.
    """
    title = notebook.cells[0].source.splitlines()[0].removeprefix("# ")
    task = "Put your work where the dots are. `check` says how far you have come."
    opening = new_markdown_cell(f"# Exercises: {title}\n\n{task}")
    imports = new_code_cell()
    cells = [opening, _marked(imports, "imports", locked=True)]
    found, above = exercises(answers), []
    for cell in notebook.cells:
        exercise = next((n for n, own in exercises(notebook).items() if own is cell), None)
        if exercise is None:
            above.append(cell)
            continue
        name = exercise.replace(".", "-")
        said = statement(exercise, above)
        above = []
        both = new_code_cell(together(cell.source, found[exercise].source))
        answer = re.search(r'^check\("[\w.]+", (.*)\)$', cell.source, re.M)[1]
        marks = new_code_cell(MARKS.format(number=exercise, answer=answer))
        marks = _marked(marks, f"{name}-marks", locked=True)
        marks.metadata.nbgrader |= {"grade": True, "points": points(said.source)}
        cells += [said, _marked(both, name, solution=True), marks]
    own = next(cell.source for cell in answers.cells if cell.cell_type == "code")
    imports.source = _imports(own, [c.source for c in cells if c.cell_type == "markdown"])
    made = new_notebook(cells=cells, metadata={"kernelspec": notebook.metadata.kernelspec})
    for i, cell in enumerate(made.cells):
        cell.id = f"cell-{i}"
    return made


def statement(exercise: str, above: list[NotebookNode]) -> NotebookNode:
    """What an exercise asks: all words and pictures from its number on, as one cell.

    above: the cells between the exercise before and this one.
    Raises ValueError if none of them states it.
    """
    words, pictures = [], {}
    for cell in above:
        if cell.cell_type == "markdown":
            words.append(cell.source)
        for output in cell.get("outputs", []):
            if picture := output.get("data", {}).get("image/png"):
                name = f"{len(pictures) + 1}.png"
                pictures[name] = {"image/png": picture}
                alt = output.metadata.get("image/png", {}).get("alt", "")
                words.append(f"![{alt}](attachment:{name})")
    said = "\n\n".join(words)
    if f"**{exercise}" not in said:
        raise ValueError(
            f"a cell above exercise {exercise} should state it, beginning with **{exercise}"
        )
    said = said[said.index(f"**{exercise}") :]
    used = {name: pictures[name] for name in pictures if f"attachment:{name}" in said}
    return new_markdown_cell(said, **({"attachments": used} if used else {}))


def _imports(own: str, statements: list[str]) -> str:
    """The imports of the solutions, and what else their readers call: hints, and the modules of the
    library that the statements name (`diffusion.q_sample`, or `tutorial_lib.schedule`).
    """
    words = "\n".join(statements)
    named = set(re.findall(r"`tutorial_lib\.(\w+)`", words))
    for module, name in re.findall(r"`(\w+)\.(\w+)", words):
        ours = (ROOT / "tutorial_lib" / f"{module}.py").exists()
        if ours and hasattr(import_module(f"tutorial_lib.{module}"), name):
            named.add(module)
    known = set(re.findall(r"^from tutorial_lib import (\w+)$", own, re.M))
    missing = ", ".join(sorted(named - known))
    before = f"from tutorial_lib import {missing}\n" if missing else ""
    return own.replace(CHECK, f"{before}{CHECK}, hint")


# The teacher's side reads it, and does not run it; to students it says where they stand.
MARKS = """from tutorial_lib.course.exercises import mark

mark("{number}", {answer})"""


def together(stub: str, solution: str) -> str:
    """One cell that is the solution to teachers and the stub to students.

    Where the stub is dots, the marks stand around the body; where it is code with a bug, around
    the repaired function.
    """
    begin, end = "### BEGIN SOLUTION", "### END SOLUTION"
    lines, answers = [], {node.name: node for node in _functions(solution)}
    own, asked = solution.splitlines(), {node.name for node in _functions(stub)}
    helpers = [n for n in ast.parse(solution).body[:-1] if getattr(n, "name", "") not in asked]
    for node in helpers:  # classes, imports, functions that the stub does not name
        start = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        lines += [begin, *own[start - 1 : node.end_lineno], end, "", ""]
    for node in _functions(stub):
        answer = answers[node.name]
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
    shutil.copytree(ROOT / "docs" / "figures", students / "docs" / "figures")
    for name in PAGES:
        shutil.copy(ROOT / "docs" / name, students / "docs" / name)
    wheel = f"tutorial_lib-{__version__}-py3-none-any.whl"
    (students / "README.md").write_text(STUDENTS.format(wheel=wheel), encoding="utf-8")
    shutil.copy(ROOT / "constraints.txt", students)
    programs = shutil.ignore_patterns("*.py", "__pycache__", "site")
    shutil.copytree(ROOT / "docs", teachers / "docs", ignore=programs)
    for folder in (students, teachers):
        shutil.copytree(ROOT / LIVE, folder / LIVE)
    for name in ("README.md", "CITATION.cff", "environment.yml"):
        shutil.copy(ROOT / name, teachers)
    for path in notebooks():
        answers = answers_to(path)
        made = solved(nbformat.read(path, as_version=4), answers)
        nbformat.write(made, teachers / "notebooks" / path.name)
        made = assignment(nbformat.read(path, as_version=4), answers)
        folder = course / "source" / number(path)
        folder.mkdir(parents=True)
        # not called like the lesson, which some would hand in otherwise
        nbformat.write(made, folder / f"{number(path)}_exercises.ipynb")
    shutil.copy(Path(__file__).with_name(CONFIGURATION), course)
    quiz.write(teachers / "quiz")
    try:
        printable.write(teachers / "print")
    except ImportError:
        print('No pages to print: they need pip install -c constraints.txt -e ".[grading]"')
    except ValueError as error:
        print(f"No pages to print: {error}")
    print(f"Wrote {students}, {teachers} and {course}")


def main() -> None:
    plain, default = argparse.RawDescriptionHelpFormatter, Path("build/editions")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    what = "folder that takes the editions"
    parser.add_argument("--out", type=Path, default=default, help=what)
    assemble(parser.parse_args().out)


if __name__ == "__main__":
    main()
