"""In which section of which notebook a function of the package is taught, read off the notebooks.

A function is introduced where a notebook first prints its lines (`show_source`), else where one
first calls or names it, as `diffusion.q_sample` or by the name that it imports.
"""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from api_pages import names
from execute import notebooks, number

HEADING = re.compile(r"^## (\d+b?\.\d+) (.*)$", re.MULTILINE)
ENDS = re.compile(r"^## (?!\d)", re.MULTILINE)  # summary and exercises teach nothing new


@dataclass(frozen=True)
class Section:
    """A numbered section: the number of its notebook, "02", its own, "2.3", and its title."""

    notebook: str
    number: str
    title: str

    @property
    def anchor(self) -> str:
        """What links to it end with."""
        return f"section-{self.number.replace('.', '-')}"


@dataclass(frozen=True)
class Place:
    """A function, as `diffusion.q_sample`, in a section; whether its lines are printed there."""

    name: str
    section: Section
    shown: bool


def places() -> Iterator[Place]:
    """Every time that a section of a notebook names something of the package, in reading order."""
    known = names()
    for path in notebooks():
        yield from places_in(path, known)


def places_in(path: Path, known: dict[str, str]) -> Iterator[Place]:
    """The same of one notebook."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    sources = [(cell["cell_type"] == "code", "".join(cell["source"])) for cell in cells]
    aliases = imported([source for is_code, source in sources if is_code], known)
    section = None
    for is_code, source in sources:
        if is_code:
            if section:
                for name, shown in in_code(source, aliases):
                    yield Place(name, section, shown)
            continue
        for part in re.split(r"(?m)^(?=## )", source):
            if found := HEADING.match(part):
                section = Section(number(path), found[1], found[2])
            elif ENDS.match(part):
                section = None
            if section:
                for quoted in re.findall(r"`([\w.]+)(?:\(.*?\))?`", part):
                    if name := resolved(quoted, aliases):
                        yield Place(name, section, False)


def imported(codes: list[str], known: dict[str, str]) -> dict[str, str]:
    """What a notebook may write, `q_sample` or `diffusion.q_sample`, and its full name."""
    aliases = {name.removeprefix("beyond."): name for name in known}
    aliases |= {".".join(name.split(".")[-2:]): name for name in known} | {n: n for n in known}
    for code in codes:
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tutorial_lib."):
                module = node.module.removeprefix("tutorial_lib.")
                for alias in node.names:
                    if (name := f"{module}.{alias.name}") in known:
                        aliases[alias.asname or alias.name] = name
    return aliases


def resolved(quoted: str, aliases: dict[str, str]) -> str | None:
    """The function that a text means; of a method, its class."""
    quoted = quoted.removeprefix("tutorial_lib.")
    return aliases.get(quoted) or aliases.get(quoted.rpartition(".")[0])


def in_code(source: str, aliases: dict[str, str]) -> Iterator[tuple[str, bool]]:
    """The functions that a cell names, and whether it prints their lines."""
    tree = ast.parse(source)
    if all(isinstance(node, ast.Import | ast.ImportFrom) for node in tree.body):
        return
    printed = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("show_source"):
            printed |= {ast.unparse(argument) for argument in node.args}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name):
            written = ast.unparse(node)
            if name := aliases.get(written):
                yield name, written in printed


@cache
def introductions() -> dict[str, Section]:
    """Each function that some notebook names, and the section that introduces it."""
    first, shown = {}, {}
    for place in places():
        first.setdefault(place.name, place.section)
        if place.shown:
            shown.setdefault(place.name, place.section)
    return first | shown


@cache
def users() -> dict[str, list[str]]:
    """Each function that notebooks name, and the numbers of these notebooks, in order."""
    found: dict[str, dict[str, None]] = {}
    for place in places():
        found.setdefault(place.name, {})[place.section.notebook] = None
    return {name: list(numbers) for name, numbers in found.items()}
