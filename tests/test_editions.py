"""Editions for a class: students get nothing of a solution, teachers everything."""

import ast
import re

import editions
import execute
import nbformat
import printable
import pytest
import quiz
from conftest import ROOT, is_lesson

import tutorial_lib
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
    for path in editions.notebooks():
        for source in numbered(path).values():
            stubs |= {line.strip() for line in source.splitlines()}
        for cell in editions.exercises(editions.answers_to(path)).values():
            answers |= {line.strip() for line in cell.source.splitlines()}
    return answers - stubs


def test_students_get_every_notebook_and_no_solution(out):
    lines = only_in_solutions()
    assert len(lines) > 40
    for path in editions.notebooks():
        assert (out / "students" / "notebooks" / path.name).read_bytes() == path.read_bytes()
    assert not list((out / "students").rglob("solutions"))
    for path in (out / "students").rglob("*.ipynb"):
        cells = editions.exercises(nbformat.read(path, as_version=4))
        found = {line.strip() for cell in cells.values() for line in cell.source.splitlines()}
        assert not found & lines


def test_students_are_told_how_to_install(out):
    """PyTorch first, in the versions that were tested, and in quotes that Windows takes, too."""
    text = (out / "students" / "README.md").read_text()
    installs = re.findall(r"^.*-m pip install.*$", text, re.M)
    assert len(installs) == 4
    for line in installs:
        assert "-c constraints.txt" in line and "'" not in line
    assert installs[0].endswith(" torch") and installs[2].endswith(" torch")
    wheel = f'"tutorial_lib-{tutorial_lib.__version__}-py3-none-any.whl[notebooks]"'
    assert installs[1].endswith(wheel) and installs[3].endswith(wheel)
    pins = (out / "students" / "constraints.txt").read_bytes()
    assert pins == (ROOT / "constraints.txt").read_bytes()


def test_teachers_get_a_quiz_of_each_notebook(out):
    files = sorted(path.name for path in (out / "teachers" / "quiz").iterdir())
    lessons = [path for path in editions.notebooks() if is_lesson(path)]
    assert {f"{execute.number(path)}.gift" for path in lessons} <= set(files)
    assert not list((out / "students").rglob("quiz*"))
    sign = re.compile(r"(?<!\\)[~=#{}]")
    for name in files:
        asked = quiz.questions()[name.removesuffix(".gift")]
        assert len(asked) >= 3
        text = (out / "teachers" / "quiz" / name).read_text()
        body = re.sub(r"^(\$CATEGORY.*|::.*?::)", "", text, flags=re.M)
        signs = [m[0] for m in sign.finditer(body)]
        assert signs == ["{", "=", "~", "~", "~", *"####", "}"] * len(asked)
    for asked in quiz.questions().values():
        for question in asked:
            answers = [question["right"], *question["wrong"]]
            assert len(set(answers)) == 4
            assert question["ask"].endswith("?")


def test_pages_to_print_need_no_connection(out):
    pytest.importorskip("latex2mathml")
    folder = out / "teachers" / "print"
    for name in printable.PAGES:
        text = (folder / f"{name}.html").read_text()
        assert "<script" not in text and "src=" not in text
        assert text.count("<math ") > 20 and "\\bar" not in text
        assert not re.search(r"\$[^$<]+\$", text)
    theory = folder / "theory_on_one_page.pdf"
    if theory.exists():  # where there is a browser
        assert len(re.findall(rb"/Type\s*/Page\b", theory.read_bytes())) == 1


def test_editions_are_whole_where_chromium_names_no_program(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CHROMIUM", "/nowhere/chrome")
    monkeypatch.setattr(printable, "page", lambda name: name)
    monkeypatch.setattr(editions, "notebooks", list)
    editions.assemble(tmp_path)
    said, _, end = capsys.readouterr().out.rpartition("Wrote ")
    assert said.count("CHROMIUM says '/nowhere/chrome'") == 1 and str(tmp_path / "teachers") in end


def test_pictures_and_the_page_of_points_travel_along(out):
    for edition in ("students", "teachers"):
        assert (out / edition / "notebooks" / "figures" / "denoising.gif").exists()
        assert (out / edition / editions.LIVE / "index.html").exists()


def test_teachers_get_every_solution_with_what_it_prints(out):
    teachers = out / "teachers"
    for path in editions.notebooks():
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


@pytest.mark.parametrize("path", editions.notebooks(), ids=lambda path: path.stem)
def test_solved_notebooks_import_what_their_solutions_use(path):
    assert imported(editions.answers_to(path)) <= imported(nbformat.read(path, as_version=4))


def assigned(out, path):
    """What nbgrader gets of a notebook: its exercises, in a file that is not called like it."""
    number = execute.number(path)
    (file,) = (out / "nbgrader" / "source" / number).iterdir()
    assert file.name == f"{number}_exercises.ipynb"
    return nbformat.read(file, as_version=4)


def test_nbgrader_gets_valid_assignments(out):
    for path in editions.notebooks():
        made = assigned(out, path)
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
    for path in editions.notebooks():
        made = assigned(out, path)
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


def test_what_statements_tell_readers_to_call_is_imported(out):
    """Hints, and the functions that an answer should agree with."""
    called = set()
    for path in editions.notebooks():
        made, scope = assigned(out, path), {}
        exec(made.cells[1].source, scope)
        assert callable(scope["hint"]) and callable(scope["check"])
        words = "\n".join(cell.source for cell in made.cells if cell.cell_type == "markdown")
        for module, name in re.findall(r"`(diffusion|data|markov|gaussian|sample)\.(\w+)", words):
            assert callable(getattr(scope[module], name))
            called.add(name)
        if "from_betas" in words:
            assert callable(scope["schedule"].from_betas)
            called.add("from_betas")
    assert called >= {"q_sample", "q_posterior", "mu_from_eps", "from_betas"}


def test_exercises_of_a_deeper_notebook_become_an_assignment():
    stub = 'def two():\n    """2."""\n    ...\n\n\ncheck("04b.1", two)'
    notebook, answers = (
        nbformat.v4.new_notebook(
            cells=[
                nbformat.v4.new_markdown_cell("# 04b · Deeper"),
                nbformat.v4.new_code_cell(editions.CHECK),
                nbformat.v4.new_markdown_cell("**04b.1 Two** (20 minutes). Do it."),
                nbformat.v4.new_code_cell(source, metadata={"tags": ["exercise-04b.1"]}),
            ],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        )
        for source in (stub, stub.replace("...", "return 2"))
    )
    marks = editions.assignment(notebook, answers).cells[-1]
    assert marks.metadata.nbgrader.grade_id == "04b-1-marks"
    assert marks.metadata.nbgrader.points == 2
    assert marks.source.endswith('\nmark("04b.1", two)')


def test_a_hand_in_has_all_words_and_pictures_of_a_statement():
    """And helpers that only the solution has are cut out, too."""
    picture = nbformat.v4.new_output(
        "display_data", {"image/png": "AAAA"}, metadata={"image/png": {"alt": "A curve."}}
    )
    seen = nbformat.v4.new_code_cell("plot(curve)", outputs=[picture])
    above = [
        nbformat.v4.new_code_cell("unrelated", outputs=[picture]),
        nbformat.v4.new_markdown_cell("## Exercises\n\n**04b.1 Two** (20 minutes). Look:"),
        seen,
        nbformat.v4.new_markdown_cell("What is it?"),
    ]
    said = editions.statement("04b.1", above)
    told = "**04b.1 Two** (20 minutes). Look:\n\n![A curve.](attachment:2.png)\n\nWhat is it?"
    assert said.source == told
    assert said.attachments == {"2.png": {"image/png": "AAAA"}}
    with pytest.raises(ValueError, match=r"should state it, beginning with \*\*04b.2"):
        editions.statement("04b.2", above)
    stub = 'def two():\n    """2."""\n    ...\n\n\ncheck("04b.1", two)'
    own = '@cache\ndef one():\n    return 1\n\n\ndef two():\n    """2."""\n    return one() + 1'
    both = editions.together(stub, f'{own}\n\n\ncheck("04b.1", two)')
    left = re.sub(r"( *)### BEGIN SOLUTION.*?### END SOLUTION", r"\1...", both, flags=re.S)
    assert "@cache\ndef one():\n    return 1" in both
    assert "one" not in left and "cache" not in left
    scope = {"cache": lambda f: f, "check": lambda number, answer: None}
    exec(both, scope)
    assert scope["two"]() == 2


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
