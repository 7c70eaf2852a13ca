"""The rules of the house that a program can check: imports run downhill, names, docstrings, size."""

import ast
import re
from pathlib import Path

import pytest

import tutorial_lib

PACKAGE = Path(tutorial_lib.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
ROOMS = {
    module: module.split(".")[0] for module in MODULES
}  # a folder's modules share a row of the table
ALL = set(ROOMS.values()) - {"__init__", "__main__"}
ON_TOP = {
    "widgets",
    "checks",
    "exercises",
    "recipes",
    "cli",
}  # nothing that computes may lean on these

# module: what it may import of ours.  An edge that is not here is an error, wherever in the file it
# stands.
MAY_IMPORT: dict[str, set[str]] = {
    "__init__": set(),
    "files": set(),
    "device": set(),
    "markov": set(),
    "toys": {"gaussian"},
    "schedule": set(),
    "gaussian": set(),
    "blocks": set(),
    "unet": {"blocks"},
    "published": {"blocks"},
    "diffusion": {"schedule", "gaussian"},
    "data": {"files"},
    "checkpoint": {"files"},
    "muon": set(),
    "train": {"diffusion", "schedule", "checkpoint", "data", "muon"},
    "sample": {"diffusion", "schedule"},
    "evaluate": {"data", "gaussian", "diffusion", "schedule", "sample", "checkpoint"},
    "plot": {"files", "data"},
    "notebook": set(),
    "widgets": ALL - ON_TOP,
    "checks": ALL - ON_TOP,
    "exercises": {"checks", "schedule"},
    "recipes": ALL - ON_TOP,
    "cli": ALL - {"cli"},
    "__main__": {"cli"},
}
# Do not count towards the limit of lines: programs, and other people's networks, on which nothing
# of ours runs.
APART = ON_TOP | {"__main__", "published"}
LATER = {  # definitions that the notebooks of Part II teach: no part of the promise that Part I's package is small
    "schedule": {"karras_tau"},
    "sample": {"ddim", "check_eta", "dpm_solver", "heun"},
    "evaluate": {"bits_per_dimension", "_guess", "_bound"},
}


def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


def our_imports(code: ast.AST) -> set[str]:
    """The modules of the package that some code imports, inside functions too; plain names count as
    `__init__`.
    """
    found = set()
    for node in ast.walk(code):
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            root = "tutorial_lib" if node.level else ""
            base = ".".join(part for part in (root, node.module) if part)
            dotted = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in dotted:
            if name.split(".")[0] == "tutorial_lib":
                part = (*name.split("."), "__init__")[1]
                found.add(part if part in ALL | {"__main__"} else "__init__")
    return found


def test_the_table_lists_every_module():
    assert MAY_IMPORT.keys() == set(ROOMS.values())


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_downhill(module):
    room = ROOMS[module]
    assert our_imports(tree(module)) - {"__init__", room} <= MAY_IMPORT[room]


def test_the_table_itself_has_no_circles():
    """Taking away what imports nothing that is left must in the end take away everything."""
    left = dict(MAY_IMPORT)
    while free := [module for module, imports in left.items() if not imports & left.keys()]:
        for module in free:
            del left[module]
    assert not left


@pytest.mark.parametrize(
    "code",
    [
        "from tutorial_lib import cli", "from tutorial_lib.cli import main", "import tutorial_lib.cli as c",
        "from . import cli", "from .cli import main", "def f():\n    from tutorial_lib import data, cli",
        "if 1:\n  class A:\n    import tutorial_lib.cli",
    ],
)  # fmt: skip
def test_the_walk_finds_every_form_of_import(code):
    assert "cli" in our_imports(ast.parse(code))


def test_training_does_not_know_the_network():
    assert not {"unet", "blocks"} & our_imports(tree("train"))
    names = {node.name for node in ast.walk(tree("train")) if isinstance(node, ast.ImportFrom) for node in node.names
             if node.name in {"Images", "batch", "load", "available"}}  # fmt: skip
    assert names == {"Images", "batch"}  # the container alone, not the sources


def code_lines(module: str) -> int:
    """Part I's lines with code on them: docstrings, comments and blank lines are for the reader and
    do not count.
    """
    documented = (ast.Module, ast.FunctionDef, ast.ClassDef)
    owners = [
        node
        for node in ast.walk(tree(module))
        if isinstance(node, documented) and ast.get_docstring(node)
    ]
    apart = {n for o in owners for n in range(o.body[0].lineno, o.body[0].end_lineno + 1)}
    later = [
        node
        for node in tree(module).body
        if getattr(node, "name", None) in LATER.get(module, set())
    ]
    apart |= {n for o in later for n in range(o.lineno, o.end_lineno + 1)}
    lines = MODULES[module].read_text().splitlines()
    return sum(
        bool(line.strip()) and not line.strip().startswith("#") and n not in apart
        for n, line in enumerate(lines, 1)
    )


def test_the_package_is_small():
    for module, names in LATER.items():
        assert names <= {getattr(node, "name", None) for node in tree(module).body}
    lines = {name: code_lines(name) for name, room in ROOMS.items() if room not in APART}
    assert 500 < sum(lines.values()) < 1500, lines


@pytest.mark.parametrize("module", MODULES)
def test_everything_public_says_what_it_does(module):
    code = tree(module)
    assert ast.get_docstring(code), module
    definitions = (ast.FunctionDef, ast.ClassDef)
    for node in code.body:
        if isinstance(node, definitions) and not node.name.startswith("_") and node.name != "main":
            assert ast.get_docstring(node), f"{module}.{node.name}"
    public = [n for n in code.body if isinstance(n, ast.ClassDef) and not n.name.startswith("_")]
    for owner in public:
        for node in owner.body:
            told_by_the_class = (
                node.name in ("forward", "features") if isinstance(node, definitions) else True
            )
            if not told_by_the_class and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{module}.{owner.name}.{node.name}"


def names_in(code: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(code):
        for field in ("id", "attr", "arg", "name", "module"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                found |= set(value.split(".")) | {value}
    return found


@pytest.mark.parametrize("module", MODULES)
def test_one_symbol_one_name_and_no_unpickling(module):
    names = names_in(tree(module))
    assert not names & {"alphas_cumprod", "x_start", "pickle", "cPickle", "dill", "joblib"}
    defined = {node.name for node in ast.walk(tree(module)) if isinstance(node, ast.FunctionDef)}
    assert not defined & {"exists", "default"}
    for node in ast.walk(tree(module)):
        if (
            isinstance(node, ast.Attribute)
            and node.attr in ("load", "save")
            and isinstance(node.value, ast.Name)
        ):
            assert node.value.id != "torch", f"{module} line {node.lineno}"
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert ast.unparse(node.value) == "False", f"{module} line {node.lineno}"


@pytest.mark.parametrize(
    "module", [name for name, room in ROOMS.items() if room not in ("recipes", "cli")]
)
def test_no_hidden_randomness(module):
    """Noise is drawn with a generator; only a program's outermost layer may seed the global state."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Call) and re.fullmatch(
            r"torch\.(randn?|randint|randperm|manual_seed)", ast.unparse(node.func)
        ):
            assert any(keyword.arg == "generator" for keyword in node.keywords), (
                f"{module} line {node.lineno}"
            )
        if isinstance(node, ast.Attribute):
            assert not node.attr.endswith("_like") or not node.attr.startswith("rand"), (
                f"{module} line {node.lineno}"
            )


def test_the_training_step_reads_like_algorithm_1():
    (step,) = [
        n
        for n in tree("train").body
        if isinstance(n, ast.FunctionDef) and n.name == "training_step"
    ]
    assert step.end_lineno - step.lineno + 1 <= 15
