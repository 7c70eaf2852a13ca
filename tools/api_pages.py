"""The pages of the site that describe the package, written from its sources without importing it.

A docstring here is plain text with `code` and $formulas$, so it is nearly Markdown already.  What
is added: a line of its own for each parameter, and for what a function returns and raises.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "tutorial_lib"
# the programs, and what belongs to single notebooks: explorers, and hints that readers ask for
APART = re.compile(r"(cli|__main__|recipes\.__main__|course\.(widgets|exercises)\.n\d)(\W.*|\w*)")
ROOMS = {
    "": ("Mathematics, data, training", "the top of the package"),
    "nets": ("Networks", ""),
    "engine": ("The engine of training", ""),
    "beyond": ("Beyond the basic model", ""),
    "families": ("The other families", ""),
    "course": ("What serves the course", ""),
    "recipes": ("How the shipped weights were made", ""),
}
FENCE = "`````"
Definition = ast.FunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Module:
    """A module of the package, by its name inside it: "diffusion", "beyond.solvers"."""

    name: str
    path: Path

    @property
    def dotted(self) -> str:
        """The name by which it is imported."""
        return f"tutorial_lib.{self.name}"

    @property
    def source(self) -> str:
        """What stands in its file."""
        return self.path.read_text(encoding="utf-8")

    @property
    def room(self) -> str:
        """The folder that it is in; nothing at the top."""
        first, _, rest = self.name.partition(".")
        return first if rest or self.path.name == "__init__.py" else ""

    def public(self) -> list[Definition]:
        """Its functions and classes that a reader may call, in the order of the file."""
        found = [n for n in ast.parse(self.source).body if isinstance(n, Definition)]
        return [node for node in found if not node.name.startswith("_")]


@cache
def modules() -> dict[str, Module]:
    """The modules that have a page, by name: top first, each room in its reading order."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name and not APART.fullmatch(name):
            found[name] = Module(name, path)
    rooms = list(ROOMS)
    order = sorted(found.values(), key=lambda m: (rooms.index(m.room), place(m), m.name))
    return {module.name: module for module in order if module.public()}


def place(module: Module) -> int:
    """Where a module's room names it: its folder's docstring lists the modules in reading order."""
    folder = PACKAGE / module.room / "__init__.py"
    listed = ast.get_docstring(ast.parse(folder.read_text(encoding="utf-8"))) or ""
    names = " ".join(re.split(r" {3,}", line.strip())[0] for line in listed.splitlines()[1:])
    found = re.search(rf"\b{module.name.rpartition('.')[2]}\b", names)
    return found.start() if found else len(names)


def names() -> dict[str, str]:
    """Every public function and class, `diffusion.q_sample`, and the module that defines it."""
    found = {}
    for module in modules().values():
        for node in module.public():
            found[f"{module.name}.{node.name}"] = module.name
    return found


def page(module: Module, introduced: dict[str, str]) -> str:
    """One module as a page in MyST.

    introduced: for some names, as `diffusion.q_sample`, a line on where a notebook teaches them.
    """
    doc = ast.get_docstring(ast.parse(module.source)) or ""
    parts = [f"# {module.name}", f"{FENCE}{{py:module}} {module.dotted}\n{FENCE}", markdown(doc)]
    parts.append(f"```python\nfrom {parent(module)} import {module.name.rpartition('.')[2]}\n```")
    for node in module.public():
        parts += described(node, introduced.get(f"{module.name}.{node.name}", ""))
    return "\n\n".join(parts) + "\n"


def parent(module: Module) -> str:
    """Where a notebook imports the module from."""
    return module.dotted.rpartition(".")[0]


def described(node: Definition, introduced: str) -> Iterator[str]:
    """A function, or a class with its methods, as directives of the Python domain."""
    kind = "class" if isinstance(node, ast.ClassDef) else "function"
    body = [markdown(ast.get_docstring(node) or ""), introduced]
    yield directive(f"py:{kind}", signature(node), body)
    if isinstance(node, ast.ClassDef):
        for method in node.body:
            if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                yield from described_method(method, node.name)


def described_method(method: ast.FunctionDef, owner: str) -> Iterator[str]:
    """A method or a property that says what it does; the others speak for themselves."""
    if not (doc := ast.get_docstring(method)):
        return
    marks = {ast.unparse(mark).rpartition(".")[2] for mark in method.decorator_list}
    body = [markdown(doc)]
    if marks & {"property", "cached_property"}:
        kind = [f":type: {ast.unparse(method.returns)}"] if method.returns else []
        yield directive("py:property", f"{owner}.{method.name}", body, kind)
    else:
        named = [f":{mark}:" for mark in ("staticmethod", "classmethod") if mark in marks]
        bound = "staticmethod" not in marks
        yield directive("py:method", f"{owner}.{signature(method, bound)}", body, named)


def directive(name: str, argument: str, body: list[str], options: list[str] | None = None) -> str:
    """A directive of MyST with its content."""
    said = "\n\n".join(part for part in body if part)
    return "\n".join([f"{FENCE}{{{name}}} {argument}", *(options or []), "", said, FENCE])


def signature(node: Definition, bound: bool = False) -> str:
    """`q_sample(schedule: NoiseSchedule, ...) -> Tensor`, on one line; of a class, how it is made.

    bound: without the first argument, which Python gives by itself.
    """
    if isinstance(node, ast.ClassDef):
        return f"{node.name}({made_of(node)})"
    arguments = ast.unparse(node.args)
    if bound:
        arguments = ", ".join(re.split(r", ", arguments)[1:])
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{node.name}({arguments}){returns}"


def made_of(node: ast.ClassDef) -> str:
    """What the constructor of a class takes: of `__init__`, or the fields of a dataclass."""
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and method.name == "__init__":
            return ", ".join(re.split(r", ", ast.unparse(method.args))[1:])
    return ", ".join(ast.unparse(field) for field in fields(node))


def fields(node: ast.ClassDef) -> list[ast.AnnAssign]:
    """The fields of a dataclass or a named tuple."""
    own = [ast.unparse(mark) for mark in [*node.decorator_list, *node.bases]]
    if not any(re.match(r"dataclass|NamedTuple", mark) for mark in own):
        return []
    return [
        n for n in node.body if isinstance(n, ast.AnnAssign) and not n.target.id.startswith("_")
    ]


def markdown(doc: str) -> str:
    """A docstring as MyST: a table in it stays as it is, a parameter gets a line of its own."""
    blocks = []
    for block in re.split(r"\n\s*\n", doc):
        lines = block.rstrip().splitlines()
        table = bool(lines) and is_table(lines)
        blocks.append("\n".join(["```text", *lines, "```"] if table else items(escaped(block))))
    return "\n\n".join(blocks)


def is_table(lines: list[str]) -> bool:
    """Whether a block is laid out in columns or set in, so that its lines must stay apart."""
    columns = sum(bool(re.search(r"\S {3,}\S", line)) for line in lines)
    return columns >= 2 or lines[0].startswith("    ")


NAMES = r"[A-Za-z_]\w*(?:, [A-Za-z_]\w*)*: "
VERBS = r"(?:Returns|Raises|Yields|Warns)\b"


def items(text: str) -> list[str]:
    """The lines of a paragraph, with a list of what is explained in it.

    An explanation, `x_0: (B, ...)`, begins a line, or follows a full stop and two spaces.
    """
    text = re.sub(rf"\.  (?={NAMES}|{VERBS})", ".\n", text)
    made, inside, ended = [], False, True
    for line in text.splitlines():
        named = re.match(NAMES, line) if ended else None
        if named or (ended and re.match(VERBS, line)):
            made += [""] if made and not inside else []
            end = named.end() - 2 if named else 0
            names = ", ".join(f"`{name}`" for name in line[:end].split(", ")) if named else ""
            made.append(f"- {names}{line[end:]}")
            inside = True
        elif inside and not re.match(r"[-*] ", line):
            made.append(f"  {line.strip()}")
        else:
            made.append(line)
        ended = line.rstrip().endswith((".", ";", ":", ")", ","))
    return made


def escaped(text: str) -> str:
    """A text in which only code, formulas and *emphasis* mean something to Markdown."""
    parts = re.split(r"(`[^`]*`|\$[^$]+\$|(?<![\w.*])\*\w[\w ]*\*(?![\w*]))", text)
    plain = [re.sub(r"([*<|\\])", r"\\\1", part) for part in parts[::2]]
    return "".join(a + b for a, b in zip(plain, [*parts[1::2], ""], strict=True))


def index() -> str:
    """The page of all modules, room by room, with what each is for."""
    parts = ["# The package", INTRODUCTION]
    for room, (title, _) in ROOMS.items():
        inside = [module for module in modules().values() if module.room == room]
        if inside:
            rows = [f"| [`{m.name}`]({m.name}.md) | {first_line(m)} |" for m in inside]
            table = ["| module | what it is for |", "|---|---|", *rows]
            tree = ["```{toctree}", ":hidden:", f":caption: {title}", "", *(m.name for m in inside)]
            parts += [f"## {title}", "\n".join(table), "\n".join([*tree, "```"])]
    return "\n\n".join(parts) + "\n"


INTRODUCTION = """\
The tested code that the notebooks import, `tutorial_lib`, module by module. Each function says with
which shapes and ranges it works, which equation it is, and in which section of which notebook it is
taught; *source* shows its lines. The commands of `python -m tutorial_lib` are in the
[README](../README.md#on-the-command-line)."""


def first_line(module: Module) -> str:
    """The first sentence of a module's docstring, in a table's cell."""
    doc = ast.get_docstring(ast.parse(module.source)) or ""
    sentence = re.split(r"(?<=[.])\s+(?=[A-Z])|\n\n", doc)[0].replace("\n", " ")
    return escaped(sentence).replace("|", r"\|").replace(r"\\|", r"\|")
