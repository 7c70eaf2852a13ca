"""The ways in agree: pyproject.toml, environment.yml, constraints.txt, and what the code really
imports.
"""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import make_venv
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from tutorial_lib import __version__
from tutorial_lib.course.notebook import NEEDS

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]
TO_CONDA = {
    "torch": "pytorch",
    "matplotlib": "matplotlib-base",
    "huggingface-hub": "huggingface_hub",
}
TO_INSTALL = {
    "IPython": "ipython",
    "PIL": "pillow",
    "rattler": "py-rattler",
    "yaml": "pyyaml",
}  # import -> package


def requirements(*groups: list[str]) -> dict[str, SpecifierSet]:
    """Package -> which versions, of several lists of requirements."""
    parsed = [Requirement(line) for group in groups for line in group]
    return {canonicalize_name(requirement.name): requirement.specifier for requirement in parsed}


CORE = requirements(PROJECT["dependencies"])
EVERYTHING = requirements(PROJECT["dependencies"], EXTRAS["notebooks"], EXTRAS["tests"])


def constraints() -> dict[str, Version]:
    """Package -> the one version that constraints.txt allows; fails on a line of any other form."""
    lines = [
        line
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and line[0] != "#"
    ]
    pins = [re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][0-9a-z.]*)", line) for line in lines]
    assert all(pins), "every line is name==version: no path, address, marker or local label"
    return {canonicalize_name(pin[1]): Version(pin[2]) for pin in pins}


@pytest.fixture(scope="module")
def conda() -> dict:
    return yaml.safe_load((ROOT / "environment.yml").read_text())


def test_conda_uses_one_channel(conda):
    assert conda["channels"] == ["conda-forge"]


def test_conda_asks_for_the_same_as_pyproject(conda):
    asked = {}
    for line in conda["dependencies"]:
        name, _, versions = line.partition(" ")
        assert name not in asked, f"{name} is listed twice"
        asked[name] = SpecifierSet(versions)
    assert asked.pop("python") == SpecifierSet(PROJECT["requires-python"])
    assert asked.pop("pip") == SpecifierSet()
    assert asked == {TO_CONDA.get(name, name): versions for name, versions in EVERYTHING.items()}


def test_conda_understands_each_line(conda):
    rattler = pytest.importorskip("rattler", reason="py-rattler has no build for this system")
    from rattler.exceptions import InvalidMatchSpecError

    for line in conda["dependencies"]:
        spec = rattler.MatchSpec(line, strict=True)
        name, _, versions = line.partition(" ")
        assert (spec.name.normalized, spec.version or "") == (name, versions)
    with pytest.raises(InvalidMatchSpecError):
        rattler.MatchSpec("pytorch >=>2", strict=True)


def third_party(folder: str, *ours: str) -> set[str]:
    """The packages, by their names in pyproject.toml, that the Python files under a folder import
    anywhere.
    """
    found = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(node.module.split(".")[0])
    local = {path.stem for path in (ROOT / folder).rglob("*.py")}
    local |= {path.parent.name for path in (ROOT / folder).rglob("__init__.py")}
    foreign = found - set(sys.stdlib_module_names) - local - {"tutorial_lib", "tests", *ours}
    return {canonicalize_name(TO_INSTALL.get(name, name)) for name in foreign}


def test_what_the_package_imports_is_declared():
    imported = third_party("tutorial_lib")
    assert imported - set(CORE) <= {"ipython", "ipywidgets", "traitlets"}, (
        "only what a notebook calls may need the notebooks extra"
    )
    assert imported <= set(EVERYTHING)
    assert set(CORE) <= imported, "and nothing is declared that it does not use"


def test_what_notebooks_and_tests_import_is_declared():
    apart = set(requirements(EXTRAS["browser"], EXTRAS["docs"], EXTRAS["grading"])) | {
        "denoising-diffusion-pytorch",
        "ema-pytorch",
    }
    declared = (
        set(EVERYTHING) | apart
    )  # `make test-browser`, `make docs`, `make test` and `make bench` install these
    makefile = (ROOT / "Makefile").read_text()
    assert "denoising_diffusion_pytorch==" in makefile and "ema_pytorch==" in makefile
    assert third_party("notebooks") <= set(
        requirements(PROJECT["dependencies"], EXTRAS["notebooks"])
    )
    tools = {path.stem for path in (ROOT / "tools").glob("*.py")}
    assert third_party("tests", *tools) | third_party("tools") <= declared


def test_the_constraints_cover_and_satisfy_every_requirement():
    apart = requirements(EXTRAS["browser"], EXTRAS["grading"], EXTRAS["docs"])
    pins, asked = constraints(), EVERYTHING | apart
    assert set(asked) <= set(pins)
    outside = {
        name: str(pins[name]) for name, versions in asked.items() if pins[name] not in versions
    }
    assert outside == {}


def test_the_constraints_satisfy_each_other():
    """What is installed here in just the constrained version requires nothing that the constraints
    forbid.
    """
    pins, checked = constraints(), 0
    for name, version in pins.items():
        try:
            here = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if Version(Version(here.version).public) != version:
            continue
        for line in here.requires or []:
            need = Requirement(line)
            if need.marker is not None and not need.marker.evaluate({"extra": ""}):
                continue
            if (needed := canonicalize_name(need.name)) in pins:
                assert pins[needed] in need.specifier, (
                    f"{name} {version} needs {need}, but {pins[needed]} is pinned"
                )
                checked += 1
    if Version(Version(importlib.metadata.version("torch")).public) == pins["torch"]:
        assert checked > 100


def test_the_same_least_versions_are_named_everywhere():
    least = {name: str(versions).removeprefix(">=") for name, versions in CORE.items()}
    assert {name: least[name] for name in NEEDS} == NEEDS
    assert least["torch"] == make_venv.LEAST_TORCH
    assert PROJECT["requires-python"] == ">={}.{}".format(*make_venv.OLDEST)


def test_pillow_reads_16_bits():
    """Version 10.2 and those before it read a PNG of 16 bits as white."""
    assert "10.2" not in CORE["pillow"] and "10.3" in CORE["pillow"]


def test_the_types_of_the_package_are_shipped():
    """Whoever uses it has them checked: PEP 561's marker lies in the package, and in its wheel."""
    shipped = PYPROJECT["tool"]["setuptools"]["package-data"]["tutorial_lib"]
    assert "py.typed" in shipped and (ROOT / "tutorial_lib" / "py.typed").exists()
    assert (ROOT / "Makefile").read_text().count("$(PY) -m mypy\n") == 2  # make test, make lint


def test_a_wrong_type_is_found_in_every_room_of_the_package(tmp_path):
    """As `make test` looks for it, in a copy of one module of each folder.  (mypy keeps what it
    knows of all others, and is quick.)
    """
    rooms = ("__main__", "engine/probe", "nets/shapes", "beyond/solvers", "cli/info", "course/plot")
    shadows = []
    for number, module in enumerate(rooms):
        path, copy = f"tutorial_lib/{module}.py", tmp_path / f"{number}.py"
        slip = "\n\ndef _slip(number: int) -> int:\n    return str(number)\n"
        copy.write_text((ROOT / path).read_text(encoding="utf-8") + slip, encoding="utf-8")
        shadows += ["--shadow-file", path, str(copy)]
    command = [sys.executable, "-m", "mypy", *shadows]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    found = re.findall(r"^tutorial_lib/(.*)\.py:\d+: error: .*\[return-value\]$", done.stdout, re.M)
    assert sorted(found) == sorted(rooms), done.stdout + done.stderr


def test_the_version_is_told_alike():
    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()
    assert PYPROJECT["tool"]["setuptools"]["dynamic"]["version"] == {
        "attr": "tutorial_lib.__version__"
    }


SANITIZED = [
    ("<Figure at 0x7f3a10> 640x480", "<Figure at ADDRESS> 640x480"),
    ("left\n 40%|####      | 4/10 [00:01<00:02,  3.1step/s]\nright", "left\nPROGRESS\nright"),
    ("/tmp/ipykernel_123/456.py:3: UserWarning", "CELL:3: UserWarning"),
    ("trained for 12.3 s, then sampled in 4 s", "trained for DURATION, then sampled in DURATION"),
    ("about 812 images/s", "about RATE"),
    ('<img src="data:image/gif;base64,R0lG+/=" alt="noise">', '<img src="GIF" alt="noise">'),
    (
        "40 steps, 128 images, 3.14 sigma, 100 %, 28 x 28",
        "40 steps, 128 images, 3.14 sigma, 100 %, 28 x 28",
    ),
]


@pytest.mark.parametrize(
    ("printed", "compared"), SANITIZED, ids=[line[:16] for line, _ in SANITIZED]
)
def test_only_what_varies_is_hidden_from_nbval(printed, compared):
    """The rules apply as nbval applies them, and leave what is stable alone."""
    text = (ROOT / "tests" / "nbval_sanitize.cfg").read_text()
    rules = re.findall("^regex: (.*)$\n^replace: (.*)$", text, flags=re.MULTILINE)
    assert len(rules) == text.count("regex:")
    for pattern, replacement in rules:
        printed = re.sub(pattern, replacement, printed)
    assert printed == compared
