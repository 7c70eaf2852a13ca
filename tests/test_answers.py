"""Answers as readers write them: wrong ones fail and are told why, right ones pass.

A few draws of each; `search_answers.py` takes two hundred, and adds every mutant of the solutions.
"""

import importlib
import inspect
import pkgutil
import re
from functools import cache
from itertools import islice

import answers
import editions
import nbformat
import pytest
from search_answers import mutants

import tutorial_lib
from tutorial_lib.course import exercises

EXERCISES = exercises.every_exercise()
WRONG = [(number, *one) for number, several in answers.wrong().items() for one in several]
RIGHT = [(number, body) for number, several in answers.right().items() for body in several]
SEEDS = (0, 1)


def short(value) -> str:
    return re.sub(r"\s+", " ", str(value))[-60:]


@pytest.mark.parametrize(("number", "body", "said"), WRONG, ids=short)
def test_a_wrong_answer_is_told_why(number, body, said):
    answer = answers.written(number, body)
    for seed in SEEDS:
        found = exercises.verdict(number, answer, seed)
        assert found.state == "wrong"
        assert said in found.message


@pytest.mark.parametrize(("number", "body"), RIGHT, ids=short)
def test_a_right_answer_passes_however_it_is_written(number, body):
    answer = answers.written(number, body)
    for seed in SEEDS:
        found = exercises.verdict(number, answer, seed)
        assert found.right, found.message


@pytest.mark.parametrize("number", answers.wrong())
def test_the_commonest_slips_are_called_by_name(number):
    """At most a third of the wrong answers gets no more than a distance or a shape."""
    plain = re.compile(r"is off by|should have shape|It stops with")
    said = []
    for body, _ in answers.wrong()[number]:
        said.append(exercises.verdict(number, answers.written(number, body), 0).message)
    assert len([one for one in said if plain.search(one)]) <= len(said) / 3 + 1


@pytest.mark.parametrize("number", EXERCISES)
def test_solutions_have_mutants(number):
    """Otherwise the search would find nothing in vain."""
    assert len(list(islice(mutants(number), 3))) == 3


EVERY = pytest.mark.parametrize("path", editions.notebooks(), ids=lambda path: path.stem)


@EVERY
def test_no_printed_source_answers_an_exercise_of_the_same_notebook(path):
    """What `show_source` prints, copied into the cell of an exercise, does not pass its check."""
    notebook = nbformat.read(path, as_version=4)
    for source in printed(notebook):
        name = re.match(r"(?:def|class) (\w+)", source)[1]
        scope = around(name, source) | answers.AT_HAND
        exec("from __future__ import annotations\n" + source, scope)
        copied = scope[name]
        for number in editions.exercises(notebook):
            assert not exercises.verdict(number, copied, 0).right


@EVERY
def test_no_line_of_a_solution_is_printed(path):
    notebook = nbformat.read(path, as_version=4)
    shown = "\n".join(printed(notebook))
    for number, cell in editions.exercises(editions.answers_to(path)).items():
        stub = editions.exercises(notebook)[number].source
        for line in map(str.strip, cell.source.splitlines()):
            if len(line) > 20 and line not in stub:
                assert line not in shown, f"{number}: {line}"


EVERY = pytest.mark.parametrize("path", editions.notebooks(), ids=lambda path: path.stem)


@EVERY
def test_each_exercise_says_how_long_it_takes(path):
    notebook = nbformat.read(path, as_version=4)
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for number in editions.exercises(notebook):
        assert re.search(rf"\*\*{re.escape(number)} [^*]+\*\* \(\d+ minutes[^)]*\)\.", prose), (
            number
        )


@cache
def around(name: str, source: str) -> dict:
    """What the module of the library with this source has at hand, its helpers too."""
    for found in pkgutil.walk_packages(tutorial_lib.__path__, "tutorial_lib."):
        if not found.name.endswith("__main__"):
            module = importlib.import_module(found.name)
            one = vars(module).get(name)
            here = getattr(one, "__module__", None) == found.name
            if here and inspect.getsource(one).rstrip().endswith(source.rstrip()):  # no decorators
                return dict(vars(module))
    raise AssertionError(f"no module of the library has the {name} that is printed")


def printed(notebook) -> list[str]:
    """The sources of functions and classes that a notebook prints."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            text = output.get("text", "")
            found += re.findall(r"^(?:def|class) .*(?:\n(?:[ )].*)?)*", text, re.M)
    return found
