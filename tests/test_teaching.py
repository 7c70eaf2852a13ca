"""The guide for teachers points at things that exist."""

import re

import editions
import execute
import nbformat
import pytest
from conftest import ROOT

from tutorial_lib.course.exercises import every_exercise

EXERCISES = every_exercise()
GUIDE = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
SECTION = r"\d+b?\.\d+"  # of notebook 02: 2.3, and its exercises are 02.3; from 10 on both are 10.3
LISTED = re.compile(rf"[Ss]ections? ({SECTION}(?:(?:, and|,| and| to) {SECTION})*)")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def sections() -> set[str]:
    """The numbers of all sections, "2.3" and so on."""
    found = set()
    for path in execute.notebooks():
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                found |= set(re.findall(rf"^## ({SECTION}) ", cell.source, re.M))
    return found


def test_nothing_is_left_to_be_filled_in():
    assert not re.findall(r"\b(?!FOLDER\b|README\b|MNIST\b)[A-Z]{5,}\b", GUIDE)


def test_every_section_it_names_exists():
    named = set()
    for words in LISTED.findall(GUIDE):
        named |= set(re.findall(SECTION, words))
    named |= set(re.findall(r"\b([1-9]b?\.\d+)\b(?! GB)", GUIDE))
    assert len(named) > 30
    assert named <= sections()


def test_every_exercise_it_names_exists_and_every_one_is_set_somewhere():
    text = LISTED.sub("", GUIDE)
    named = set(re.findall(r"(?<![\w.])\d\db?\.\d+(?![\w]|\.\d)", text))
    for of, first, last in re.findall(r"\b(\d\db?)\.(\d+) to \1\.(\d+)\b", text):
        named |= {f"{of}.{k}" for k in range(int(first), int(last) + 1)}
    assert named <= EXERCISES.keys()
    assert EXERCISES.keys() - named == set()


MAIN_LINE = [path for part in execute.PARTS for path in execute.notebooks(part)]


@pytest.mark.parametrize("path", MAIN_LINE, ids=lambda path: path.stem)
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


MINUTES = {  # of each exercise, as its statement says
    number: int(minutes)
    for path in execute.notebooks()
    for cell in nbformat.read(path, as_version=4).cells
    for number, minutes in re.findall(
        r"^\*\*(\d\db?\.\d+) [^*]*\*\* \((\d+) minutes", cell.source, re.M
    )
}


@pytest.mark.parametrize("number", ["00", "01", "02", "03"])
def test_a_lesson_and_what_is_set_in_class_fit_into_ninety_minutes(number):
    part = GUIDE[GUIDE.index(f"\n### {number} ") :]
    lesson, halves = re.search(r"\*\*Time:\*\* (\d+) minutes(, in two halves)?", part).groups()
    set_in_class = re.search(r"\*\*Set:\*\* in class ([^;]*);", part)[1]
    listed = re.sub(r" \([^)]*\)", "", set_in_class)
    for first, last in re.findall(r"(\d\d\.\d+) to (\d\d\.\d+)", listed):
        between = range(int(first[3:]), int(last[3:]) + 1)
        listed += " ".join(f" {first[:3]}{k}" for k in between)
    numbers = set(re.findall(r"\d\d\.\d+", listed))
    total = int(lesson) + sum(MINUTES[number] for number in numbers)
    assert numbers and total <= (180 if halves else 90), total


def test_every_picture_that_the_lecture_names_is_in_its_notebook():
    table = GUIDE[GUIDE.index("### Two hours") : GUIDE.index("### One day")]
    rows = re.findall(r"^\| \d+ \|.*\| (\d\db?): (.*) \|$", table, re.M)
    named = [(number, title) for number, what in rows for title in re.findall('"([^"]+)"', what)]
    assert len(named) > 12
    for number, title in named:
        (path,) = execute.notebooks(names=[number])
        sources = [cell.source for cell in nbformat.read(path, as_version=4).cells]
        assert any(title in source for source in sources), (number, title)


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


def test_each_route_fits_its_time_and_is_summed_up():
    """The minutes of the lecture and of the day add up; each route ends with four takeaways."""
    routes = GUIDE[GUIDE.index("## Four routes") : GUIDE.index("## Notebook by notebook")]
    titles = r"^### (?:Two hours|One day|Six weeks|Twelve weeks)$"
    two_hours, day, weeks, further = re.split(titles, routes, flags=re.M)[1:]
    minutes = re.findall(r"^\| (\d+) \| ", two_hours, re.M)
    assert sum(map(int, minutes)) == 120
    minutes = re.findall(r"^\| \d\db? \| (\d+) \| ", day, re.M)
    assert sum(map(int, minutes)) == 360
    numbered = [re.findall(r"^\| (\d+) \| ", route, re.M) for route in (weeks, further)]
    assert numbered == [list("123456"), ["7", "8", "9", "10", "11", "12"]]
    for route in (two_hours, day, weeks, further):
        takeaways = route[route.index("**Four things to take away.**") :]
        assert re.findall(r"\((\d)\) [A-Z]", takeaways) == list("1234")


def test_the_points_of_each_notebook():
    worth = {}
    for path in editions.notebooks():
        cells = nbformat.read(path, as_version=4).cells
        text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        stated = re.split(r"^(?=\*\*\d\db?\.\d+ )", text, flags=re.M)[1:]
        worth[editions.number(path)] = sum(map(editions.points, stated))
    listed = re.search(r"notebooks 00 to 06 have (.*?)\.", " ".join(GUIDE.split()))[1]
    main_line = [f"0{k}" for k in range(7)]
    deeper, second = ["04b", "05b", "06b"], ["07", "08", "09", "10"]
    expected = [worth[number] for number in [*main_line, *deeper, *second, "19"]]
    assert worth.keys() == {*main_line, *deeper, *second, "19"}
    numbers = re.findall(r"\b\d+\b", listed.replace("07 to 10", ""))
    assert list(map(int, numbers)) == expected
