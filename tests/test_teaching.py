"""The guide for teachers points at things that exist."""

import re

import execute
import nbformat
import pytest
from conftest import ROOT

from tutorial_lib.course.exercises import every_exercise

EXERCISES = every_exercise()
GUIDE = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def sections() -> set[str]:
    """The numbers of all sections, "2.3" and so on."""
    found = set()
    for path in execute.notebooks(part=1):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                found |= set(re.findall(r"^## (\d\.\d+) ", cell.source, re.M))
    return found


def test_nothing_is_left_to_be_filled_in():
    assert not re.findall(r"\b(?!FOLDER\b|README\b|MNIST\b)[A-Z]{5,}\b", GUIDE)


def test_every_section_it_names_exists():
    named = set()
    for words in re.findall(r"[Ss]ections? ([\d., and to]+)", GUIDE):
        named |= set(re.findall(r"\d\.\d+", words))
    named |= set(re.findall(r"\b([1-9]\.\d+)\b(?! GB)", GUIDE))
    assert len(named) > 30
    assert named <= sections()


def test_every_exercise_it_names_exists_and_every_one_is_set_somewhere():
    named = set(re.findall(r"\b0\d\.\d\b", GUIDE))
    for first, last in re.findall(r"\b(0\d\.\d) to (0\d\.\d)\b", GUIDE):
        named |= {f"{first[:3]}{k}" for k in range(int(first[3]), int(last[3]) + 1)}
    assert named <= EXERCISES.keys()
    assert EXERCISES.keys() - named == set()


@pytest.mark.parametrize("path", execute.notebooks(part=1), ids=lambda path: path.stem)
def test_each_notebook_has_aims_time_questions_exercises_and_misconceptions(path):
    head = nbformat.read(path, as_version=4).cells[0].source.splitlines()[0]
    title = head.removeprefix("# ").replace(" ·", "")
    part = GUIDE[GUIDE.index(f"\n### {title}\n") :]
    part = part[: part.index("\n##", 5)]
    for item in (
        "- **Aim:**",
        "- **Time:**",
        "- **Discuss:**",
        "- **Set:**",
        "| students may think | what cures it |",
    ):
        assert item in part, item
    assert part.count("\n| ") >= 4  # the head, and three misconceptions at least
    assert part.count("?") >= 2


def test_every_verb_it_names_exists():
    verbs = set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.M)[1].split())
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", GUIDE, re.M))
    assert {"editions", "bundle", "run", "lab"} <= named <= verbs


def test_its_links_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)]+)\)", GUIDE):
        file, _, anchor = target.partition("#")
        text = (ROOT / "docs" / file).read_text(encoding="utf-8") if file else GUIDE
        heads = re.findall(r"^#+ (.*)$", text, re.M)
        anchors = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
        assert not anchor or anchor in anchors, target
