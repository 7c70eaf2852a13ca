"""How nbgrader runs this course; `tools/editions.py` puts this file into the course folder.

nbgrader generate_assignment 02 --create
nbgrader autograde 02 --create
nbgrader export
"""

import csv
import re
from pathlib import Path
from typing import Any

from nbconvert.preprocessors import ClearMetadataPreprocessor
from nbformat import NotebookNode, from_dict
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.nbgraderformat import MetadataValidator
from nbgrader.plugins import ExportPlugin
from nbgrader.preprocessors import (
    AssignLatePenalties,
    CheckCellMetadata,
    ClearOutput,
    DeduplicateIds,
    LimitOutput,
    NbGraderPreprocessor,
    OverwriteCells,
    OverwriteKernelspec,
    SaveAutoGrades,
)
from traitlets import Bool

from tutorial_lib.course.exercises import Verdict, seed_of
from tutorial_lib.course.grading.judge import Judge


class OwnCells(DeduplicateIds):
    """Of what is handed in, only the cells of the assignment have names, each of them once.

    JupyterLab copies the name of a cell along with it.  Of several cells of one name the last keeps
    it; the others, and cells from other assignments, become plain cells, which run and give no
    marks.  (nbgrader's own step leaves an empty name, which ends the grading of all students.)
    """

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        about = resources["nbgrader"]
        with Gradebook(about["db_url"]) as gradebook:
            notebook = gradebook.find_notebook(about["notebook"], about["assignment"])
            known = {cell.name for cell in notebook.source_cells}
        for cell in nb.cells:
            named = cell.metadata.get("nbgrader", {})
            current = named.get("schema_version") == MetadataValidator.schema_version
            if not (current and named.get("grade_id") in known):
                cell.metadata.pop("nbgrader", None)
        nb, resources = super().preprocess(nb, resources)
        for cell in nb.cells:
            if not cell.metadata.get("nbgrader"):
                cell.metadata.pop("nbgrader", None)
        if not any(cell.metadata.get("nbgrader", {}).get("grade") for cell in nb.cells):
            where = f"submitted/{about['student']}/{about['assignment']}/{about['notebook']}.ipynb"
            self.log.warning(
                "%s has no cell that gives marks, so it gets 0: is it the lesson, and not the file "
                "that was given out?",
                where,
            )
        return nb, resources


class Judged(NbGraderPreprocessor):
    """Runs what was handed in inside a sandbox, and gives the marks outside.

    A cell that gives marks is not run: it only says which exercise and which answer.
    """

    sandbox = Bool(True, help="False: students' code runs with your rights").tag(config=True)
    by_name = Bool(False, help="each student has inputs of their own, always").tag(config=True)

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        student, total, reached = resources["nbgrader"]["student"], 0, 0
        with Judge(sandboxed=self.sandbox) as judge:
            for cell in nb.cells:
                named = cell.metadata.get("nbgrader", {})
                if cell.cell_type != "code":
                    continue
                if not named.get("grade"):
                    cell.outputs = judge.run(cell.source, seconds(named.get("grade_id")))
                else:
                    number, answer = re.search(MARK, cell.source).groups()
                    seed = seed_of(student, number) if self.by_name else None
                    verdict = judge.mark(number, answer, seed=seed)
                    cell.outputs = [told(verdict)]
                    total += named["points"]
                    reached += named["points"] * verdict.right
                cell.outputs = [from_dict(output) for output in cell.outputs]
        read = f" (read {', '.join(judge.trusted)})" if judge.trusted else ""
        print(f"{resources['nbgrader']['assignment']} {student}: {reached} of {total} points{read}")
        return nb, resources


MARK = r'mark\("([\w.]+)", (.*)\)$'


def told(verdict: Verdict) -> dict[str, Any]:
    """A verdict as the output of a cell; to nbgrader an error means no marks."""
    said = verdict.message
    if verdict.right:
        return {"output_type": "stream", "name": "stdout", "text": said}
    return {"output_type": "error", "ename": "Marks", "evalue": said, "traceback": [said]}


def seconds(name: str | None) -> float:
    """What a cell may take: a busy machine needs long to load PyTorch, an answer does not."""
    return 300.0 if name == "imports" else 20.0


class ByExercise(ExportPlugin):
    """A table with a row for each student and assignment, and a column for each exercise."""

    def export(self, gradebook: Gradebook) -> None:
        rows: list[dict[str, Any]] = []
        for assignment in gradebook.assignments:
            for student in gradebook.students:
                if self.assignment and assignment.name not in map(str, self.assignment):
                    continue
                if self.student and student.id not in map(str, self.student):
                    continue
                rows.append(
                    {
                        "assignment": assignment.name,
                        "student_id": student.id,
                        "last_name": student.last_name,
                        "first_name": student.first_name,
                        "max_score": assignment.max_score,
                    }
                    | marks(gradebook, assignment.name, student.id)
                )
        columns = list(dict.fromkeys(name for row in rows for name in row))
        with Path(self.to or "grades.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, columns)
            table.writeheader()
            table.writerows(rows)


def marks(gradebook: Gradebook, assignment: str, student: str) -> dict[str, Any]:
    """The sum, and what each exercise has given: "02.1" and so on."""
    try:
        submission = gradebook.find_submission(assignment, student)
    except MissingEntry:
        return {"raw_score": 0.0, "score": 0.0, "timestamp": None}
    score = max(0.0, submission.score - submission.late_submission_penalty)
    own = {
        grade.name.removesuffix("-marks").replace("-", "."): grade.score
        for notebook in submission.notebooks
        for grade in notebook.grades
    }
    late = {"score": score, "timestamp": submission.timestamp}
    return {"raw_score": submission.score} | late | dict(sorted(own.items()))


c = get_config()  # noqa: F821 - nbgrader provides it
c.Application.log_level = "WARN"  # nbgrader alone writes a screen for each student
c.CourseDirectory.course_id = "diffusion"
c.ExportApp.plugin_class = ByExercise
c.ClearSolutions.code_stub = {"python": "...  # your work"}
c.FileNameCollectorPlugin.named_regexp = (  # NAME_02_exercises.ipynb, alone or as Moodle calls it
    r".*/(?!extracted/)(?P<student_id>[^/]+?)(_\d+_assignsubmission_file_?)?[/_]+"
    r"(?P<file_id>\d\db?_exercises)"
)
c.Autograde.sanitize_preprocessors = [
    ClearOutput,
    OwnCells,
    OverwriteKernelspec,
    OverwriteCells,
    CheckCellMetadata,
]
c.Autograde.autograde_preprocessors = [
    Judged,
    ClearMetadataPreprocessor,
    LimitOutput,
    SaveAutoGrades,
    AssignLatePenalties,
    CheckCellMetadata,
]
