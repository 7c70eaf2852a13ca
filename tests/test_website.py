"""How the site is put together, without building it: `make test-docs` looks at what was built."""

import ast
import json
import re

import api_pages
import introductions
import pytest
import website
import yaml
from conftest import ROOT


def test_every_module_that_readers_use_has_a_page():
    there = api_pages.modules()
    assert {"diffusion", "schedule", "sample", "nets.unet", "beyond.solvers"} <= there.keys()
    assert not [name for name in there if name.startswith("cli")]
    assert not [name for name in there if re.search(r"exercises\.n\d", name)], "hints stay hidden"
    assert list(there).index("markov") < list(there).index("diffusion"), "in reading order"
    assert {module.room for module in there.values()} <= api_pages.ROOMS.keys()


def test_a_page_has_every_public_function_with_its_words():
    text = api_pages.page(api_pages.modules()["diffusion"], {"diffusion.q_sample": "Taught."})
    assert "`````{py:function} q_sample(schedule: NoiseSchedule, x_0: Tensor" in text
    assert "- `x_0`: (B, ...) data in [-1, 1].\n- `t`: (B,) integers in 1..T.\n" in text
    assert text.count("Taught.") == 1
    for node in api_pages.modules()["diffusion"].public():
        assert f" {node.name}(" in text


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("Sums.\n\nx: a number.  y: another.", "Sums.\n\n- `x`: a number.\n- `y`: another."),
        (
            "a, b: both,\nof a size.\nReturns c.",
            "- `a`, `b`: both,\n  of a size.\n- Returns c.",
        ),
        ("Called ema.* or *never*.", "Called ema.\\* or *never*."),
        ("$a * b < c$ and `x * y`, a < b", "$a * b < c$ and `x * y`, a \\< b"),
        ("one    first\ntwo    second", "```text\none    first\ntwo    second\n```"),
    ],
)
def test_a_docstring_becomes_markdown(docstring, expected):
    assert api_pages.markdown(docstring) == expected


def test_a_signature_says_how_a_thing_is_made_and_called():
    source = """
@dataclass(frozen=True)
class Run:
    steps: int
    rate: float = 0.1

    def on(self, *, by: int = 1) -> int: ...
"""
    (node,) = ast.parse(source).body
    assert api_pages.signature(node) == "Run(steps: int, rate: float = 0.1)"
    assert api_pages.signature(node.body[-1], bound=True) == "on(*, by: int=1) -> int"


def test_functions_are_introduced_where_their_lines_are_shown():
    found = introductions.introductions()
    assert found["diffusion.q_sample"].number == "2.3"
    assert found["schedule.cosine"].notebook in ("00", "02")
    assert len(found) > 150
    assert found.keys() <= api_pages.names().keys()


def test_a_name_is_understood_as_the_notebook_imports_it():
    known = api_pages.names()
    aliases = introductions.imported(["from tutorial_lib.diffusion import q_sample as jump"], known)
    assert aliases["jump"] == aliases["diffusion.q_sample"] == "diffusion.q_sample"
    assert aliases["solvers.dpm_solver"] == "beyond.solvers.dpm_solver"
    shown = introductions.in_code("show_source(jump)", aliases)
    assert list(shown) == [("diffusion.q_sample", True)]
    assert list(introductions.in_code("from a import jump", aliases)) == []


def test_the_front_page_and_its_contents_come_from_the_readme():
    text = website.front_page()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "<!--" not in text
    assert website.section(readme, "The series") in text
    assert 'src="notebooks/figures/denoising.gif"' in text
    listed = re.findall(r"^(notebooks/\w+)$", text, re.MULTILINE)
    assert listed == [f"notebooks/{path.stem}" for path in website.notebooks()]
    pages = {f"docs/{path.stem}" for path in (ROOT / "docs").glob("*.md")}
    assert pages <= set(re.findall(r"^(docs/\w+)$", text, re.MULTILINE))


def test_files_are_placed_by_their_names(tmp_path):
    website.place(tmp_path / "in", {"a/text.md": "é"})
    website.place(tmp_path / "out", {"b/copy.md": tmp_path / "in" / "a" / "text.md", "c": "2"})
    assert (tmp_path / "out" / "b" / "copy.md").read_text(encoding="utf-8") == "é"
    assert (tmp_path / "out" / "c").read_text() == "2"


def test_a_build_takes_the_last_ones_place_only_when_it_is_whole(tmp_path, monkeypatch, capsys):
    """What adds to the site gets its pages; a mistake changes nothing."""
    site, code = tmp_path / "site", 0

    def sphinx(folder, repository):
        text = (folder / "sources" / "index.md").read_text()
        website.place(folder / "site", {"index.html": f"made of {text}"})
        return code

    def more(folder):
        (path,) = folder.iterdir()
        path.write_text(path.read_text() + ", and more")

    def assemble(folder, repository):
        website.place(folder, {"sources/index.md": folder.name})

    monkeypatch.setattr(website, "SITE", site)
    monkeypatch.setattr(website, "LAUNCH", tmp_path / "launch")
    monkeypatch.setattr(website, "assemble", assemble)
    monkeypatch.setattr(website, "sphinx", sphinx)
    monkeypatch.setattr(website, "EXTEND_PAGES", (more, more))
    for name in ("one", "two"):
        assert website.build(tmp_path / name, "") == 0
        assert (site / "index.html").read_text() == f"made of {name}, and more, and more"
    code = 1
    assert website.build(tmp_path / "three", "") == 1
    assert (site / "index.html").read_text() == "made of two, and more, and more"
    assert "is as it was" in capsys.readouterr().err


def test_pages_in_the_browser_get_a_way_back():
    page = (website.HERE / "live" / "points" / "index.html").read_text(encoding="utf-8")
    made = website.with_way_back(page, ["00_the_whole_idea"], "points")
    assert made.count('href="../../index.html"') == 1
    assert 'href="../../notebooks/00_the_whole_idea.html" aria-label="notebook 00">00</a>' in made
    assert ".ipynb" in page and ".ipynb" not in made
    with pytest.raises(ValueError, match=r"live page points needs one line <header>.*it has 0"):
        website.with_way_back("<body></body>", [], "points")


def test_copies_for_colab_install_the_course_first(tmp_path, monkeypatch):
    monkeypatch.setattr(website, "notebooks", lambda: [ROOT / "notebooks/02_forward_noising.ipynb"])
    website.write_launched(tmp_path, "someone/course")
    notebook = json.loads((tmp_path / "notebooks" / "02_forward_noising.ipynb").read_text())
    first, title = ("".join(cell["source"]) for cell in notebook["cells"][:2])
    assert "%pip install" in first and "github.com/someone/course" in first
    assert 'src="https://raw.githubusercontent.com/someone/course/main/notebooks/figures/' in title
    every = "".join("".join(cell["source"]) for cell in notebook["cells"])
    assert "](19_errata_lab.ipynb" not in every


@pytest.mark.parametrize("folder", ["docs/site", "docs/slides", "tests/browser/firefox"])
def test_every_version_from_npm_is_pinned(folder):
    package = json.loads((ROOT / folder / "package.json").read_text())
    wanted = package["dependencies"] | package.get("devDependencies", {})
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values())
    lock = json.loads((ROOT / folder / "package-lock.json").read_text())["packages"]
    for name, version in wanted.items():
        entry = lock[f"node_modules/{name}"]
        assert entry["version"] == version and entry["integrity"].startswith("sha512-")


def test_nothing_on_the_site_comes_from_elsewhere():
    sources = [*website.HERE.glob("*.py"), *(website.HERE / "static").iterdir()]
    for path in sources:
        text = path.read_text(encoding="utf-8")
        assert not re.findall(r"cdn|unpkg|googleapis", text), path


def test_the_workflow_publishes_the_repository_that_it_runs_in():
    workflow = (ROOT / ".github" / "workflows" / "pages.yml").read_text()
    assert "make docs REPOSITORY=${{ github.repository }}" in workflow
    assert "make test-docs" in workflow


def test_a_notebook_that_cannot_be_executed_does_not_hold_up_the_site():
    """Of the jobs before the one that publishes, none executes a notebook."""
    text = (ROOT / ".github" / "workflows" / "pages.yml").read_text()
    jobs = yaml.safe_load(text)["jobs"]
    before = jobs[jobs["publish"]["needs"]]
    assert "needs" not in before
    said = " ".join(step.get("run", "") for step in before["steps"])
    assert "make docs" in said and "book" not in said
