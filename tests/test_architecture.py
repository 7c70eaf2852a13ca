"""The rules of the house that a program can check: imports, names, docstrings, size."""

import ast
import io
import re
import tokenize
from functools import cache
from pathlib import Path

import pytest

import tutorial_lib

PACKAGE = Path(tutorial_lib.__file__).parent


def dotted(path: Path) -> str:
    """The name of a module inside the package: a folder's own file has the folder's name."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {dotted(path): path for path in sorted(PACKAGE.rglob("*.py"))}
ON_TOP = ("course", "cli", "recipes", "__main__")  # nothing that computes may lean on these
LATER = ("beyond", "families")  # nor on these, which are built on the core

# module: what it imports of ours, exactly.  A module that only uses the top of the table needs no
# other row to be edited.
IMPORTS: dict[str, str] = {
    "__init__": "",
    "__main__": "cli engine.stopping",
    # mathematics
    "markov": "",
    "gaussian": "",
    "toys": "gaussian",
    "schedule": "",
    "diffusion": "gaussian schedule",
    # networks
    "nets": "",
    "nets.blocks": "",
    "nets.shapes": "",
    "nets.classifier": "",
    "nets.noisy_classifier": "checkpoint nets.blocks",
    "nets.dit": "nets.blocks",
    "nets.published": "nets.blocks",
    "nets.unet": "checkpoint nets.blocks",
    # what goes in, what stays
    "files": "",
    "readers": "",
    "folders": "",
    "pictures": "folders",
    "arrays": "folders pictures",
    "data": "arrays files folders pictures readers",
    "hub": "",
    "checkpoint": "files hub",
    # training and sampling
    "denoise": "diffusion schedule",
    "config": "diffusion schedule",
    "engine": "",
    "engine.muon": "",
    "engine.order": "",
    "engine.budget": "",
    "engine.probe": "",
    "engine.hardware": "",
    "engine.stopping": "",
    "engine.wrapping": "",
    "engine.optimisers": "checkpoint engine.muon",
    "engine.rates": "",
    "engine.run": "checkpoint engine.hardware engine.optimisers engine.rates engine.stopping "
    "engine.wrapping",
    "record": "checkpoint config files engine.run",
    "train": "checkpoint config data denoise diffusion files record schedule "
    "engine.budget engine.order engine.run",
    "sample": "denoise gaussian schedule",
    "evaluate": "checkpoint data nets.classifier",
    # beyond DDPM
    "beyond": "",
    "beyond.solvers": "denoise sample schedule",
    "beyond.guidance": "data denoise schedule",
    "beyond.milder": "denoise schedule beyond.guidance",
    "beyond.editing": "denoise diffusion gaussian sample schedule beyond.guidance beyond.inversion",
    "beyond.inversion": "denoise sample schedule",
    "beyond.distillation": "config data denoise diffusion gaussian sample schedule train "
    "engine.order",
    "beyond.score": "schedule",
    "beyond.langevin": "denoise markov sample beyond.score",
    "beyond.paths": "denoise gaussian sample schedule",
    "beyond.flow": "denoise schedule",
    "beyond.edm": "denoise",
    "beyond.likelihood": "data denoise diffusion gaussian schedule",
    "beyond.variational": "data denoise diffusion gaussian schedule",
    "beyond.variance": "checkpoint data diffusion gaussian nets.unet sample schedule "
    "beyond.variational",
    "beyond.exact": "gaussian beyond.variational",
    "beyond.compression": "",
    "beyond.fine": "checkpoint nets.unet schedule beyond.variational",
    # the course
    "course": "",
    "course.notebook": "files",
    "course.mosaic": "data",
    "course.plot": "files course.mosaic",
    "course.animation": "files course.mosaic",
    "course.widgets": "course.mosaic course.plot",
    "course.grading": "",
    "course.grading.wire": "schedule",
    "course.grading.pupil": "course.exercises.checks course.exercises.reading course.grading.wire",
    "course.grading.judge": "course.exercises course.exercises.checks course.exercises.reading "
    "course.grading.wire",
    # the command line
    "cli": "cli.evaluating cli.export cli.info cli.listing cli.sampling cli.streams cli.training",
    "cli.streams": "",
    "cli.listing": "checkpoint data",
    "cli.info": "checkpoint cli.listing cli.trained",
    "cli.export": "checkpoint files hub cli.card",
    "cli.card": "config hub nets.unet",
    "cli.log": "files",
    "cli.tracking": "",
    "cli.objectives": "config data schedule train beyond.flow beyond.variance nets.unet",
    "cli.trained": "checkpoint config data denoise schedule beyond.variance cli.card "
    "cli.objectives nets.unet",
    "cli.preview": "config data denoise sample schedule beyond.solvers cli.trained course.plot "
    "nets.unet",
    "cli.earlier": "checkpoint cli.objectives nets.unet",
    "cli.inputs": "checkpoint data cli.card cli.earlier",
    "cli.settings": "config data files train cli.card cli.earlier cli.inputs cli.objectives "
    "engine.hardware nets.unet",
    "cli.following": "config schedule train cli.log cli.preview cli.tracking course.notebook "
    "engine.probe engine.stopping nets.unet",
    "cli.probing": "train cli.following cli.listing cli.settings engine.hardware engine.probe "
    "engine.stopping",
    "cli.training": "checkpoint config files train cli.card cli.following cli.probing "
    "cli.settings cli.tracking engine.stopping nets.shapes",
    "cli.samplers": "sample schedule beyond.distillation beyond.solvers beyond.variance "
    "cli.trained",
    "cli.sampling": "checkpoint data denoise files sample beyond.milder "
    "beyond.solvers beyond.variance cli.samplers cli.trained course.animation course.notebook "
    "course.plot engine.hardware",
    "cli.likelihood": "data beyond.exact beyond.likelihood beyond.variance beyond.variational "
    "cli.trained engine.probe",
    "cli.reporting": "",
    "cli.evaluating": "data evaluate cli.likelihood cli.listing cli.reporting cli.sampling",
}
# What every notebook brings of its own, each seen by no other module.
OWN = re.compile(r"course\.(widgets|exercises)(\..*)?|recipes(\..*)?")


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def our_imports(code: ast.AST) -> set[str]:
    """The modules of the package that some code imports, inside functions too.

    A name that is no module, as in `from tutorial_lib import __version__`, counts as `__init__`.
    """
    found = set()
    for node in ast.walk(code):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            root = "tutorial_lib" if node.level else ""
            base = ".".join(part for part in (root, node.module) if part)
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {longest(name) for name in names if name.split(".")[0] == "tutorial_lib"}
    return found


def longest(name: str) -> str:
    """The module that a dotted name is, or is in."""
    parts = name.split(".")[1:]
    while parts and ".".join(parts) not in MODULES:
        parts.pop()
    return ".".join(parts) or "__init__"


def imports(module: str) -> set[str]:
    return our_imports(tree(module)) - {"__init__", module}


def test_the_table_lists_every_module():
    assert IMPORTS.keys() == {name for name in MODULES if not OWN.fullmatch(name)} | {
        "course.widgets"
    }


@pytest.mark.parametrize("module", IMPORTS)
def test_each_module_imports_what_the_table_says(module):
    assert imports(module) == set(IMPORTS[module].split())


@pytest.mark.parametrize("module", MODULES)
def test_nothing_that_computes_leans_on_the_course_or_on_what_comes_later(module):
    room = module.split(".")[0]
    if room in ON_TOP:
        return
    forbidden = ON_TOP if room in LATER else ON_TOP + LATER
    assert not {name for name in imports(module) if name.split(".")[0] in forbidden}


def test_there_are_no_circles():
    """Taking away what imports nothing that is left must in the end take away everything.

    A folder's own file may be imported by its modules, and import them: `import a.b` runs both.
    """
    left = {name: imports(name) for name in MODULES if name != "course.exercises"}
    while free := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in free:
            del left[name]
    assert not left


@pytest.mark.parametrize("room", ["widgets", "exercises"])
def test_a_notebook_brings_modules_that_no_other_module_knows(room):
    """So the next notebook adds one to each room, and edits nothing."""
    of_notebooks = {name for name in MODULES if re.fullmatch(rf"course\.{room}\.n\d\db?", name)}
    assert len(of_notebooks) >= 6
    for module in MODULES:
        assert not imports(module) & of_notebooks, module


@pytest.mark.parametrize(
    "code",
    [
        "from tutorial_lib import cli",
        "from tutorial_lib.cli import main",
        "import tutorial_lib.cli as c",
        "from . import cli",
        "from .cli import main",
        "def f():\n    from tutorial_lib import data, cli",
        "if 1:\n  class A:\n    import tutorial_lib.cli",
    ],
)
def test_the_walk_finds_every_form_of_import(code):
    assert "cli" in our_imports(ast.parse(code))


def test_the_walk_knows_a_module_in_a_folder_from_a_name_in_a_module():
    code = "from tutorial_lib.nets import unet\nfrom tutorial_lib.nets.blocks import Up"
    assert our_imports(ast.parse(code)) == {"nets.unet", "nets.blocks"}


def test_the_engine_knows_no_configuration_and_training_no_network():
    for module in MODULES:
        if module.split(".")[0] == "engine":
            assert not {"config", "train"} & imports(module), module
    assert not {name for name in imports("train") if name.startswith("nets")}


# --- size


APART = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
APART |= {tokenize.ENCODING, tokenize.ENDMARKER}


@cache
def tokens(module: str) -> list[tokenize.TokenInfo]:
    """What is code: docstrings, comments and line ends are for the reader and do not count."""
    documented = (ast.Module, ast.FunctionDef, ast.ClassDef)
    owners = [n for n in ast.walk(tree(module)) if isinstance(n, documented)]
    docstrings = {
        line
        for owner in owners
        if ast.get_docstring(owner) is not None
        for line in range(owner.body[0].lineno, owner.body[0].end_lineno + 1)
    }
    source = io.StringIO(MODULES[module].read_text(encoding="utf-8"))
    found = tokenize.generate_tokens(source.readline)
    return [t for t in found if t.type not in APART and t.start[0] not in docstrings]


def code_lines(module: str, first: int = 1, last: int = 10**6) -> int:
    """How many lines of a module, or of a part of it, have code on them."""
    lines = {line for t in tokens(module) for line in range(t.start[0], t.end[0] + 1)}
    return sum(first <= line <= last for line in lines)


# `course` is left out: its tables of slips, and its figures, are looked up and not read through.
COMPUTING = [name for name in MODULES if not name.startswith("course")]


@pytest.mark.parametrize("module", COMPUTING)
def test_a_module_is_read_in_one_sitting(module):
    assert code_lines(module) <= 200


def test_lines_are_not_packed():
    """The mean number of tokens a line; k-diffusion and minGPT have 9 to 11."""
    total = sum(len(tokens(module)) for module in COMPUTING)
    assert total / sum(code_lines(module) for module in COMPUTING) <= 11


def test_functions_are_short():
    sizes = {
        (module, node.name): code_lines(module, node.lineno, node.end_lineno)
        for module in MODULES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.FunctionDef)
    }
    long = {name: size for name, size in sizes.items() if size > 30}
    assert len(long) <= 0.02 * len(sizes), long
    assert max(sizes.values()) <= 50, long


# --- words and names


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
            if isinstance(node, definitions) and node.name not in ("forward", "features"):
                said = node.name.startswith("_") or ast.get_docstring(node)
                assert said, f"{module}.{owner.name}.{node.name}"


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
    assert not names & {"alphas_cumprod", "x_start", "tables"}
    assert not names & {"pickle", "cPickle", "dill", "joblib"}
    defined = {node.name for node in ast.walk(tree(module)) if isinstance(node, ast.FunctionDef)}
    assert not defined & {"exists", "default"}
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Attribute) and node.attr in ("load", "save"):
            assert ast.unparse(node.value) != "torch", f"{module} line {node.lineno}"
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert ast.unparse(node.value) == "False", f"{module} line {node.lineno}"
        if isinstance(node, ast.keyword) and node.arg == "generator":
            assert ast.unparse(node.value) != "z", f"{module} line {node.lineno}: z is noise"


def renamed(code: ast.AST) -> list[str]:
    """The names other than its own that some code gives to alpha_bar, or to entries of it."""
    found = []
    for node in ast.walk(code):
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            several = isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)
            pairs = [(target, node.value)]
            if several:
                pairs = [*zip(target.elts, node.value.elts, strict=True)]
            for to, value in pairs:
                if ".alpha_bar" in ast.unparse(value):
                    names = {n.id for n in ast.walk(to) if isinstance(n, ast.Name)}
                    found += names & {"now", "then", "before", "bar", "kept"}
    return found


@pytest.mark.parametrize("module", [n for n in MODULES if not n.startswith("course.exercises")])
def test_alpha_bar_keeps_its_name(module):
    """At a step it is alpha_bar_t, at the one before alpha_bar_prev (docs/notation.md)."""
    assert not renamed(tree(module))


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("now = schedule.alpha_bar[t]", ["now"]),
        ("t, before = 3, float(schedule.alpha_bar[2])", ["before"]),
        ("alpha_bar_t, now = schedule.alpha_bar[t], time.perf_counter()", []),
    ],
)
def test_the_walk_finds_another_name_of_alpha_bar(code, names):
    assert renamed(ast.parse(code)) == names


@pytest.mark.parametrize(
    "module", [n for n in MODULES if n.split(".")[0] not in ("recipes", "cli")]
)
def test_no_hidden_randomness(module):
    """Noise is drawn with a generator; only a program's outermost layer may seed globally."""
    for node in ast.walk(tree(module)):
        where = f"{module} line {getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if re.fullmatch(r"torch\.(randn?|randint|randperm|manual_seed)", called):
                assert any(keyword.arg == "generator" for keyword in node.keywords), where
        if isinstance(node, ast.Attribute):
            assert not node.attr.endswith("_like") or not node.attr.startswith("rand"), where


def test_options_come_by_name():
    """A generator is never the fourth argument here and the third there: it has to be named."""
    for module in ("sample", "beyond.solvers", "beyond.likelihood", "diffusion", "denoise"):
        for node in tree(module).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith(("_", "check_")):
                positional = {argument.arg for argument in node.args.args}
                assert not positional & {"generator", "steps", "clip", "eta"}, node.name


def test_the_training_step_reads_like_algorithm_1():
    (step,) = [n for n in tree("train").body if getattr(n, "name", None) == "training_step"]
    body = step.body[1:]  # behind the docstring
    assert body[-1].end_lineno - body[0].lineno + 1 <= 5
