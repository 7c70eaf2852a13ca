"""Hygiene of the committed notebooks: anatomy, sizes, current outputs, imports, links."""

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterable
from pathlib import Path

import execute
import nbformat
import pytest
from conftest import is_lesson

import tutorial_lib
from tutorial_lib.schedule import linear

ROOT = Path(__file__).parents[1]

PATHS = sorted((ROOT / "notebooks").glob("[0-9][0-9]*_*.ipynb"))
IGNORED = "nbval-ignore-output"


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def notebook(request):
    read = nbformat.read(request.param, as_version=4)
    read.path = request.param
    return read


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def lines(cell):
    """Of code: neither blank nor a comment."""
    found = [line for line in cell.source.splitlines() if line.strip()]
    return [line for line in found if not line.strip().startswith("#")]


def test_there_are_notebooks():
    assert PATHS


def test_file_is_small_and_valid(notebook):
    nbformat.validate(nbformat.read(notebook.path, as_version=4))
    assert notebook.path.stat().st_size < 2_000_000


def test_only_the_agreed_metadata_is_kept(notebook):
    assert set(notebook.metadata) == {"kernelspec", "language_info", "sources_sha256"}
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"alt", "slideshow", "tags"}, cell.source[:60]


def test_outputs_are_current_and_in_order(notebook):
    cells, current = code(notebook), execute.sources_hash(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert notebook.metadata.sources_sha256 == current, "edited since it was run: make notebooks"
    assert sum(bool(cell.outputs) for cell in cells) >= len(cells) / 3
    for cell in cells:
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", f"a warning was stored: {output.get('text')}"


def test_anatomy(notebook):
    text = "\n".join(prose(notebook))
    opening = prose(notebook)[0]
    assert opening.startswith(f"# {execute.number(notebook.path)} · ")
    for part in ("**The question:**", "**You will be able to**", "**You need:**", "**Time:**"):
        assert part in opening, part
    assert 3 <= len(re.findall(r"^\d\. ", opening, flags=re.M)) <= 5
    assert "check_environment(" in code(notebook)[0].source
    for part in (
        "## Summary",
        "**Three questions**",
        "**Try it**",
        "**Next:**",
        "**Further reading**",
    ):
        assert part in text, part
    assert text.count("<details>") == text.count("</details>") == 3
    if is_lesson(notebook.path):
        cells = "\n".join(cell.source for cell in code(notebook))
        assert "show_source(" in cells
        assert "assert_close(" in cells


def test_code_cells_are_short_and_never_three_in_a_row(notebook):
    counts = [len(lines(cell)) for cell in code(notebook)]
    average = sum(counts) / len(counts)
    assert max(counts) <= 20
    assert average <= 8, f"{average:.1f} lines a cell on average"
    kinds = "".join(cell.cell_type[0] for cell in notebook.cells)
    assert "ccc" not in kinds


def test_ignored_cells_are_few_and_followed_by_an_assert(notebook):
    cells = code(notebook)
    ignored = [i for i, cell in enumerate(cells) if IGNORED in cell.metadata.get("tags", [])]
    assert len(ignored) <= 3
    for i in ignored:
        assert "assert" in cells[i + 1].source


def test_every_picture_has_words(notebook):
    for cell in code(notebook):
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:
                assert len(cell.metadata.get("alt", "").split()) >= 5, cell.source[:80]
                assert output.metadata["image/png"]["alt"] == cell.metadata.alt
            for tag in re.findall(r"<img [^>]*>", "".join(data.get("text/html", ""))):
                assert re.search(r'alt="[^"]{10,}"', tag)
    for text in prose(notebook):
        for alt in re.findall(r"!\[([^\]]*)\]\(", text):
            assert len(alt.split()) >= 5, alt
        for tag in re.findall(r"<img [^>]*>", text):
            assert re.search(r'alt="[^"]{20,}"', tag), tag


def test_links_inside_the_repository_resolve(notebook):
    for text in prose(notebook):
        targets = re.findall(r"\]\(([^)#]+)[^)]*\)", text)
        targets += re.findall(r'<img src="([^"]+)"', text)
        for target in targets:
            if not target.startswith(("http:", "https:")):
                assert (notebook.path.parent / target).exists(), target


def test_mathematics_uses_dollars_only(notebook):
    for text in prose(notebook):
        assert not re.search(r"\\\(|\\\[|\\begin\{(equation|align)", text)
        assert text.count("$$") % 2 == 0


def test_every_import_exists(notebook):
    for cell in code(notebook):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                for name in (alias.name for alias in node.names):
                    assert hasattr(module, name) or importlib.import_module(f"{node.module}.{name}")


# Modules by the last part of their names, as texts and cells call them: `blocks`, `rates`, `plot`.
# In code `schedule` is a NoiseSchedule, and `widgets` are the explorers of the notebook itself.
ROOMS = [found.name for found in pkgutil.walk_packages(tutorial_lib.__path__, "tutorial_lib.")]
OWNERS = {
    name.rpartition(".")[2]: name for name in ROOMS if not re.search(r"cli|__main__|\.n\d", name)
}


def test_every_attribute_of_the_library_exists(notebook):
    """`train.draw` in prose or code must be there: text cannot drift from the code."""
    cells = "\n".join(cell.source for cell in code(notebook))
    imports = re.findall(r"^from tutorial_lib[\w.]* import (.*)$", cells, re.M)
    imported = {name for names in imports for name in re.split(r", | as ", names)} & OWNERS.keys()
    quoted = "\n".join(re.findall(r"`([^`\n]+)`", "\n".join(prose(notebook))))
    found = attributes(cells, imported) + attributes(quoted, OWNERS)
    assert found
    for module, name in found:
        owners = [importlib.import_module(OWNERS[module])]
        owners += [linear(1000)] if module == "schedule" else []
        if module == "widgets":
            own = f"tutorial_lib.course.widgets.n{execute.number(notebook.path)}"
            owners.append(importlib.import_module(own))
        assert any(hasattr(owner, name) for owner in owners), f"{module}.{name}"


def attributes(text: str, modules: Iterable[str]) -> list[tuple[str, str]]:
    """The (module, name) of each `module.name` in a text."""
    return re.findall(rf"(?<![\w./])({'|'.join(modules)})\.([A-Za-z_]\w*)", text)


def test_report_words_per_code_line(notebook, record_property):
    words = sum(len(text.split()) for text in prose(notebook))
    code_lines = sum(len(lines(cell)) for cell in code(notebook))
    record_property("words per code line", round(words / code_lines, 1))
    assert words > 3 * code_lines, "a notebook explains; this one only runs"


@pytest.mark.parametrize("path", execute.notebooks(1), ids=lambda path: path.stem)
def test_the_main_line_is_read_in_an_hour_and_asserts_what_is_the_lesson(path):
    """At most 4,000 words before the exercises, 1,200 in 00; one assert a section on average."""
    cells = nbformat.read(path, as_version=4).cells
    end = next(i for i, cell in enumerate(cells) if "## Exercises" in cell.source)
    told = "\n".join(cell.source for cell in cells[:end] if cell.cell_type == "markdown")
    formulas = r"\$\$.*?\$\$|\$[^$]*\$|```.*?```|<[^>]*>"
    words = len(re.sub(formulas, " ", told, flags=re.DOTALL).split())
    assert words <= (1200 if execute.number(path) == "00" else 4000)
    shown = "\n".join(cell.source for cell in cells[:end] if cell.cell_type == "code")
    asserts = re.findall(r"^\s*assert(?:_close)?\b", shown, re.MULTILINE)
    assert len(asserts) <= len(re.findall(r"^## ", told, re.MULTILINE)) + 1  # and the exercises


def test_normalising_twice_changes_nothing(notebook):
    once = nbformat.writes(execute.normalise(nbformat.read(notebook.path, as_version=4)))
    assert once == nbformat.writes(nbformat.read(notebook.path, as_version=4))


def written(source: str) -> set[str]:
    """The files in outputs/ that a cell's code names, but for those that it only loads or shows."""
    nodes = list(ast.walk(ast.parse(source)))
    read: set[int] = set()
    for call in nodes:
        if isinstance(call, ast.Call):
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            read |= {id(given) for given in call.args if name.startswith(("load", "show"))}
    named = [node for node in nodes if isinstance(node, ast.Constant) and id(node) not in read]
    return {node.value for node in named if str(node.value).startswith("outputs/")}


def test_no_two_notebooks_write_the_same_file():
    """All run in one folder and share figures/: the later would replace the film of the other."""
    writers: dict[str, set[str]] = {}
    for path in PATHS:
        for cell in code(nbformat.read(path, as_version=4)):
            for name in written(cell.source):
                writers.setdefault(name, set()).add(path.name)
    assert len(writers) > 10, "found hardly any file: does `written` still see them?"
    assert not {name: found for name, found in writers.items() if len(found) > 1}


def test_a_file_that_is_only_loaded_is_not_written():
    cell = """animation.gif(frames, "outputs/a.gif")
checkpoint.load("outputs/b")
options = {"out": "outputs/c"}"""
    assert written(cell) == {"outputs/a.gif", "outputs/c"}


class TestNumbers:
    """Notebooks are called 00 to 19, and 04b where one goes deeper."""

    @pytest.fixture
    def stems(self, tmp_path, monkeypatch):
        stems = ["00_all", "04_net", "04b_deeper", "06_last", "07_next", "07b_deeper", "19_lab"]
        for stem in stems:
            (tmp_path / f"{stem}.ipynb").touch()
        (tmp_path / "notes.ipynb").touch()
        monkeypatch.setattr(execute, "HERE", tmp_path)
        return stems

    def test_all_are_found_in_reading_order(self, stems):
        assert [path.stem for path in execute.notebooks()] == stems

    @pytest.mark.parametrize(
        ("part", "expected"), [(1, ["00", "04", "06"]), (2, ["07"]), (3, ["19"])]
    )
    def test_a_part_is_its_main_line(self, stems, part, expected):
        assert [execute.number(path) for path in execute.notebooks(part)] == expected

    @pytest.mark.parametrize(
        ("names", "expected"),
        [
            (["04"], ["04_net"]),
            (["04b", "00"], ["00_all", "04b_deeper"]),
            (["19_lab"], ["19_lab"]),
            ([], None),
            (["1"], []),
        ],
    )
    def test_names_ask_for_exactly_one_each(self, stems, names, expected):
        found = [path.stem for path in execute.notebooks(names=names)]
        assert found == (stems if expected is None else expected)


class TestWorkingCopy:
    @pytest.fixture
    def source(self, tmp_path):
        folder = tmp_path / "notebooks"
        (folder / "figures").mkdir(parents=True)
        (folder / "01_a.ipynb").write_text("first")
        (folder / "figures" / "a.png").write_text("picture")
        return folder

    def test_is_made_with_its_pictures(self, source, tmp_path):
        assert execute.working_copy(source, tmp_path / "work") == []
        assert (tmp_path / "work" / "01_a.ipynb").read_text() == "first"
        assert (tmp_path / "work" / "figures" / "a.png").read_text() == "picture"

    def test_follows_the_original_while_unedited(self, source, tmp_path):
        execute.working_copy(source, tmp_path / "work")
        (source / "01_a.ipynb").write_text("second, longer")
        assert execute.working_copy(source, tmp_path / "work") == []
        assert (tmp_path / "work" / "01_a.ipynb").read_text() == "second, longer"

    def test_never_overwrites_an_edit(self, source, tmp_path):
        execute.working_copy(source, tmp_path / "work")
        (tmp_path / "work" / "01_a.ipynb").write_text("mine")
        (source / "01_a.ipynb").write_text("second, longer")
        assert execute.working_copy(source, tmp_path / "work") == ["01_a.ipynb"]
        assert (tmp_path / "work" / "01_a.ipynb").read_text() == "mine"

    def test_never_overwrites_a_file_it_did_not_make(self, source, tmp_path):
        (tmp_path / "work").mkdir()
        (tmp_path / "work" / "01_a.ipynb").write_text("mine, from before")
        assert execute.working_copy(source, tmp_path / "work") == ["01_a.ipynb"]
        assert (tmp_path / "work" / "01_a.ipynb").read_text() == "mine, from before"


class TestExecution:
    """The executor itself, on a notebook of three cells."""

    @pytest.fixture
    def here(self, tmp_path, monkeypatch):
        folder = tmp_path / "notebooks"
        (folder / "figures").mkdir(parents=True)
        plot = "import matplotlib.pyplot as plt\nplt.plot([1, 2]);"
        film = (
            "import os\nos.mkdir('outputs')\n"
            "open('outputs/denoising.gif', 'w').write('film')\nprint(6 * 7)"
        )
        cells = [
            nbformat.v4.new_markdown_cell("# 01 · A test", id="a"),
            nbformat.v4.new_code_cell(plot, id="b", metadata={"alt": "A line", "x": 1}),
            nbformat.v4.new_code_cell(film, id="c"),
        ]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "01_test.ipynb")
        monkeypatch.setattr(execute, "HERE", folder)
        return folder

    def test_run_leaves_notebooks_pages_and_gif(self, here, tmp_path, capsys):
        before = (here / "01_test.ipynb").read_bytes()
        execute.run(tmp_path / "build", part=1)
        page = (tmp_path / "build" / "01_test.html").read_text(encoding="utf-8")
        assert "42" in page
        assert 'alt="A line"' in page
        assert (tmp_path / "build" / "denoising.gif").read_text() == "film"
        assert "42" in (tmp_path / "build" / "notebooks" / "01_test.ipynb").read_text()
        told = capsys.readouterr().out
        assert "make lab" in told
        assert "Executed 1 notebooks" in told
        assert (here / "01_test.ipynb").read_bytes() == before, "the checkout stays clean"
        assert not (here / "outputs").exists()
        execute.run(tmp_path / "build", part=2)  # none there yet: nothing is executed
        assert "Executed 0 notebooks" in capsys.readouterr().out

    def test_refresh_twice_gives_identical_bytes(self, here):
        execute.refresh([])
        once = (here / "01_test.ipynb").read_bytes()
        execute.refresh(["01"])
        assert (here / "01_test.ipynb").read_bytes() == once
        stored = nbformat.read(here / "01_test.ipynb", as_version=4)
        assert [cell.get("execution_count") for cell in stored.cells] == [None, 1, 2]
        assert stored.cells[1].metadata == {"alt": "A line"}
        assert (here / "figures" / "denoising.gif").read_text() == "film"

    def test_an_error_in_a_cell_is_an_error(self, here, tmp_path):
        notebook = nbformat.read(here / "01_test.ipynb", as_version=4)
        notebook.cells[2].source = "assert 1 == 2"
        nbformat.write(notebook, here / "01_test.ipynb")
        with pytest.raises(execute.CellExecutionError):
            execute.run(tmp_path / "build", part=1)

    def test_a_kernel_that_dies_is_named_with_its_notebook(self, here, monkeypatch, capsys):
        """A cell ends its own kernel, as the machine does when memory is short."""
        notebook = nbformat.read(here / "01_test.ipynb", as_version=4)
        notebook.cells[2].source = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
        nbformat.write(notebook, here / "01_test.ipynb")
        monkeypatch.setattr("sys.argv", ["execute.py", "refresh"])
        assert execute.main() == 1
        told = capsys.readouterr().err
        assert "the kernel of 01_test.ipynb died; is memory short?" in told
