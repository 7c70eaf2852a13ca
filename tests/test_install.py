"""The front door: the README's commands, the Makefile, the set-up of .venv, and the wheel used far
from its sources.
"""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import execute
import make_venv
import nbformat
import pytest
from conftest import LONG
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tutorial_lib import __version__, checkpoint, cli, files
from tutorial_lib.recipes.__main__ import RECIPES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
VERBS = set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[1].split())
VERBS |= {"retrain-"}  # `make retrain-NAME`


def blocks(language: str) -> list[list[list[str]]]:
    """The README's code blocks in one language; each a list of commands, each a list of words."""
    found = re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    return [
        [shlex.split(line.replace("\\", "/"), comments=True) for line in text.splitlines()]
        for text in found
    ]


def test_the_makefile_knows_every_verb_that_texts_mention():
    known = VERBS | {f"retrain-{recipe.__name__}" for recipe in RECIPES}
    pages = ("benchmarks", "contributing", "teaching", "training")
    docs = [ROOT / "docs" / f"{page}.md" for page in pages]
    for path in (ROOT / "README.md", *docs, ROOT / ".ci" / "run"):
        mentioned = set(
            re.findall(
                r"(?:^|`|    )make ([a-z_-]+)", path.read_text(encoding="utf-8"), re.MULTILINE
            )
        )
        assert mentioned, path
        assert mentioned <= known, path
    assert set(
        re.findall(r"run: make ([a-z-]+)", (ROOT / ".github/workflows/test.yml").read_text())
    ) == {
        "run",
        "test",
        "test-browser",
    }
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


@pytest.mark.skipif(shutil.which("make") is None, reason="without make there is nothing to list")
def test_make_alone_lists_every_verb_in_one_column():
    listed = subprocess.run(
        ["make", "-C", str(ROOT), "-s"], capture_output=True, text=True, check=True
    ).stdout
    lines = [line for line in listed.splitlines() if line.startswith("  make ")]
    assert {line.split()[1] for line in lines} == (VERBS - {"retrain-"}) | {"retrain-NAME"}
    assert all(line[19] == " " and line[20] != " " for line in lines)


@pytest.mark.parametrize(("language", "base", "python"), [
    ("sh", "python3", ".venv/bin/python"),
    ("bat", "py", ".venv/Scripts/python"),
])  # fmt: skip
def test_the_three_commands_are_what_make_does(language, base, python):
    expected = [
        [base, *make_venv.ENVIRONMENT],
        [python, *make_venv.TORCH],
        [python, *make_venv.REST],
    ]
    assert expected in blocks(language)


def test_the_way_without_make_calls_what_make_calls():
    (commands,) = [block for block in blocks("sh") if block[0][0] == ".venv/bin/python"]
    recipes = [
        shlex.split(line.replace("$(PY)", ".venv/bin/python"))
        for line in re.findall(r"^\t(\$\(PY\).*[^\\])$", MAKEFILE, re.M)
    ]
    assert len(commands) == 2
    assert all(command in recipes for command in commands)


def makes(variable: str) -> list[str]:
    """The words of one variable of the Makefile."""
    text = re.search(rf"^{variable} := ((?:.*\\\n)*.*)$", MAKEFILE, re.MULTILINE)[1]
    return shlex.split(text.replace("\\\n", " "))


def test_make_retrain_makes_whatever_ships():
    """Each file in the assets, by its own recipe or at the end of another one."""
    names = [recipe.__name__ for recipe in RECIPES]
    ends = {"nearest", "reference", "second_reference"}
    made = makes("SHIPPED")
    assert set(made) <= set(names) and len(set(made)) == len(made)
    for path in files.ASSETS.glob("*.safetensors"):
        recipe = checkpoint.load(path)[1]["recipe"]
        command = (recipe["command"] if isinstance(recipe, dict) else recipe).split()
        if command[1] == "-m":
            assert command[3] in {*made, *ends}, path
        else:
            assert f"\t$(PY) {command[1]}\n" in MAKEFILE, path


def test_make_retrain_of_one_name_asks_for_its_recipe():
    rule = re.search(r"^retrain-%: .*\n\t(.*)$", MAKEFILE, re.MULTILINE)[1]
    assert rule == "$(PY) -m tutorial_lib.recipes $*"


def test_make_test_fails_when_an_output_is_changed(tmp_path):
    """With its own options on two notebooks at once, whose cells need each other: the output that
    was tampered with is the one that fails.
    """
    for name, printed in (("right", "3\n"), ("tampered", "4\n")):
        sources = ["x = 1", "x += 2", "print(x)"]
        notebook = new_notebook(cells=[new_code_cell(text) for text in sources])
        for count, cell in enumerate(notebook.cells, 1):
            cell.execution_count = count
        notebook.cells[2].outputs = [new_output("stream", name="stdout", text=printed)]
        nbformat.write(notebook, tmp_path / f"{name}.ipynb")
    options = [*makes("WORKERS"), *makes("BY_FILE"), *makes("NBVAL"), "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 5 passed" in done.stdout, done.stdout
    assert re.findall(r"^FAILED (?:.*/)?(\S+)::(Cell \d)", done.stdout, re.MULTILINE) == [
        ("tampered.ipynb", "Cell 2")
    ]


def test_the_files_that_make_test_begins_with_are_there():
    assert [name for name in LONG if not (ROOT / "tests" / name).exists()] == []


def test_the_readme_says_what_the_command_line_understands():
    lines = [command for block in blocks("sh") for command in block if "tutorial_lib" in command]
    assert len(lines) > 10
    parser = cli._parser()  # exits when it does not understand
    parsed = [parser.parse_args(line[line.index("tutorial_lib") + 1 :]) for line in lines]
    assert {options.run for options in parsed} == {run for run, _ in cli.COMMANDS.values()}


def test_the_readme_tells_how_to_train_on_pictures_of_ones_own_and_with_several_processes():
    lines = (ROOT / "README.md").read_text().splitlines()
    trains = [line for line in lines if "-m tutorial_lib train " in line]
    assert any("--data " in line and "--size " in line for line in trains)
    assert any(line.startswith("torchrun ") for line in trains)


def test_the_readmes_program_runs():
    (program,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    scope: dict = {}
    exec(program, scope)
    assert (
        f"# {tuple(scope['images'].shape)}, {str(scope['images'].dtype).removeprefix('torch.')}"
        in program
    )


def test_the_map_of_the_series_links_the_notebooks_that_exist():
    rows = re.findall(r"^\| (\d\db?) \| (.*?) \|", README, re.MULTILINE)
    numbers = [number for number, _ in rows]
    here = {execute.number(path): path.name for path in execute.notebooks()}
    assert numbers == sorted(set(numbers)), "in reading order, each once"
    assert {*here, *(f"{number:02}" for number in range(1, 19))} <= set(numbers)
    for number, title in rows:
        if number in here:
            assert f"](notebooks/{here[number]})" in title
        else:
            assert title.endswith("(to come)")


def test_the_links_of_texts_lead_somewhere():
    """Each file that a page names is there, and so is the heading in it."""
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        links = re.findall(
            r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", path.read_text(encoding="utf-8")
        )
        for link, anchor in links:
            target = (path.parent / link) if link else path
            assert target.exists(), f"{path.name}: {link}"
            if anchor and target.suffix == ".md":
                assert anchor in anchors(target), f"{path.name}: {link}#{anchor}"


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links, as GitHub does it, and its named places."""
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    letters = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    named = re.findall(r'<a (?:name|id)="([^"]+)"', text)
    return {heading.replace(" ", "-") for heading in letters} | set(named)


def test_the_index_of_the_docs_has_a_line_for_every_page():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[(.+?)\]\((.+?)\) \| (\S.*) \|$", index, re.MULTILINE)
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert sorted(link for _, link, _ in rows) == sorted(pages), "each once"
    for title, link, _ in rows:
        head = (ROOT / "docs" / link).read_text(encoding="utf-8").splitlines()[0]
        assert head == f"# {title}"
    for page in ("README.md", "docs/contributing.md", "docs/teaching.md"):
        assert "bring_your_own.md" in (ROOT / page).read_text(encoding="utf-8"), page
    assert "](docs/README.md)" in README


CPU, GPU, OLD_GPU = (
    ("2.13.0+cpu", False, []),
    ("2.9.1+cu130", True, ["sympy>=1.13.3"]),
    ("2.5.1+cu124", True, []),
)


@pytest.mark.parametrize(("inside", "base", "expected"), [
    (None, None, ("install", None)),
    (None, CPU, ("install", None)),  # an environment of its own is cleaner
    (None, GPU, ("share", GPU)),
    (None, OLD_GPU, ("install", None)),
    (CPU, None, ("install", CPU)),  # pip brings it to the constrained version
    (GPU, None, ("keep", GPU)),
    (OLD_GPU, None, ("install", OLD_GPU)),
    (GPU, ("2.8.0+cu128", True, []), ("keep", GPU)),
])  # fmt: skip
def test_a_gpu_build_of_torch_is_respected(inside, base, expected):
    assert make_venv.choose(inside, base) == expected


def test_constraints_around_a_torch_that_stays():
    """Its own version is pinned, and what it pins itself is left to it, however that is spelt."""
    found = (
        "2.6.0+cu124",
        True,
        ["sympy==1.13.1; python_version >= '3.9'", "typing-extensions>=4.10", "jinja2"],
    )
    ours = ["# a comment\n", "Jinja2==3.1.6\n", "numpy==2.4.6\n", "sympy==1.14.0\n",
            "torch==2.13.0\n", "torchmetrics==1.0\n", "typing_extensions==4.16.0\n"]  # fmt: skip
    kept = ["# a comment\n", "numpy==2.4.6\n", "torchmetrics==1.0\n", "torch==2.6.0+cu124\n"]
    assert make_venv.limited(ours, found) == kept


def test_looking_for_torch():
    version, _, needs = make_venv.look(sys.executable)
    assert make_venv.numbers(version) >= (2, 6)
    assert any(need.startswith("sympy") for need in needs)
    isolated = subprocess.run(
        [sys.executable, "-I", "-S", "-c", make_venv.LOOK], capture_output=True, text=True
    )
    assert isolated.stdout.strip() == "null"


@pytest.fixture
def set_up(tmp_path, monkeypatch):
    """A function that runs make_venv in an empty folder, where the base Python has the given torch;
    it returns the
    commands that would have run."""

    def run(base, exit_code=0):
        commands = []
        shutil.copy(ROOT / "constraints.txt", tmp_path)
        (tmp_path / ".venv").mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path)  # and back again afterwards
        monkeypatch.setattr(make_venv, "__file__", str(tmp_path / "tools" / "make_venv.py"))
        monkeypatch.setattr(make_venv, "look", lambda python: base)
        monkeypatch.setattr(
            make_venv.subprocess, "call", lambda command: commands.append(command) or exit_code
        )
        make_venv.main()
        return commands

    return run


def test_set_up_says_the_size_first_and_installs_torch_alone(set_up, capsys):
    environment, torch, rest, compiling = set_up(None)
    assert environment == [sys.executable, *make_venv.ENVIRONMENT, "--clear"]
    assert torch == [make_venv.PYTHON, *make_venv.raw(make_venv.TORCH)]
    assert rest == [make_venv.PYTHON, *make_venv.quiet(make_venv.raw(make_venv.REST))]
    assert compiling == [make_venv.PYTHON, *make_venv.COMPILE]
    printed = capsys.readouterr().out
    assert 0 < printed.index("MB") < printed.index("+ ")


def test_set_up_shares_a_gpu_build(set_up, tmp_path, capsys):
    environment, rest, _ = set_up(GPU)
    assert environment[-1] == "--system-site-packages"
    limits = os.path.join(".venv", "constraints.txt")
    assert rest[rest.index("-c") + 1] == limits
    assert (tmp_path / limits).read_text().endswith("\ntorch==2.9.1+cu130\n")
    assert "sympy" not in (tmp_path / limits).read_text()


def test_set_up_stops_at_the_first_failure(set_up):
    with pytest.raises(SystemExit, match="python3-venv"):
        set_up(None, exit_code=1)


def test_set_up_refuses_an_old_python_kindly(set_up, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 1, "final", 0))
    with pytest.raises(SystemExit, match=r"3\.9, but the course needs 3\.11"):
        set_up(None)


def test_set_up_starts_on_an_old_python():
    ast.parse((ROOT / "tools" / "make_venv.py").read_text(encoding="utf-8"), feature_version=(3, 7))


def test_a_linux_without_gpu_is_told_how_to_save_gigabytes():
    assert "https://pytorch.org/get-started/locally/" in make_venv.announcement(
        "install", None, "linux"
    )
    assert "GB" not in make_venv.announcement("install", None, "darwin")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy of the checkout without network."""
    source = tmp_path_factory.mktemp("source") / "checkout"
    away = shutil.ignore_patterns(
        ".*", "build", "dist", "work", "data", "outputs", "*.egg-info", "__pycache__"
    )
    shutil.copytree(ROOT, source, ignore=away)
    pip("wheel", "--no-build-isolation", "--wheel-dir", str(source.parent), str(source))
    (built,) = source.parent.glob("*.whl")
    return built


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", *arguments, "--no-deps", "--no-index", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_wheel_carries_the_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    here = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tutorial_lib").rglob("*")
            if path.suffix in (".py", ".typed", ".parquet", ".safetensors", ".json")}  # fmt: skip
    about = f"tutorial_lib-{__version__}.dist-info/"
    assert {name for name in names if not name.startswith(about)} == here
    assert about + "licenses/LICENSE" in names
    assert wheel.stat().st_size < 40e6


USE = """
import sys
from pathlib import Path

import tutorial_lib
from tutorial_lib import checkpoint, data, evaluate
from tutorial_lib.nets import noisy_classifier, unet

assert Path(tutorial_lib.__file__).is_relative_to(sys.argv[1]), tutorial_lib.__file__
assert len(data.load("embedded", "train")) == 10_000
test = data.load("embedded", "test")
right = evaluate.predictions(evaluate.load_classifier(), test.pixels[:500])[1] == test.labels[:500]
assert right.double().mean() > 0.9, right.double().mean()
for name in checkpoint.shipped():
    tensors, configuration = checkpoint.load(name)
    assert tensors
    if name == "noisy_classifier":
        noisy_classifier.restore(tensors, configuration)
    elif name in checkpoint.networks() and "model" in configuration:
        unet.restore(tensors, configuration)
print(data.verify_embedded(), *checkpoint.shipped())
"""


def test_the_wheel_works_from_another_folder(wheel, tmp_path):
    """Installed far from its sources, the package finds its data and weights, and they are good."""
    target, elsewhere = tmp_path / "installed", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip("install", "--target", str(target), str(wheel))
    environment = {
        **os.environ,
        "PYTHONPATH": str(target),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    used = subprocess.run(
        [sys.executable, "-c", USE, str(target)],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert used.returncode == 0, used.stderr
    shipped = {path.stem for path in (ROOT / "tutorial_lib" / "assets").glob("*.safetensors")}
    assert used.stdout.startswith("2 files match")
    assert shipped <= set(used.stdout.split())
