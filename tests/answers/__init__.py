"""Answers to exercises, wrong and right, as a reader may write them: a module for each notebook.

A module has two tables, by the number of an exercise.  In `WRONG` stand slips, each with what
`check` must say of it; in `RIGHT`, right answers that look unlike the solution.  An answer is the
body of the stub's function, whose parameters it uses; a body of one line may leave out `return`.
Where an exercise asks for several functions, the line `---` stands between their bodies.  A new
module is found by its name.
"""

import ast
import math
import pkgutil
import re
import textwrap
from functools import cache
from importlib import import_module
from typing import Any

import editions
import nbformat
import numpy as np
import torch
from einops import rearrange
from torch.nn import functional as F

from tutorial_lib import diffusion, gaussian, markov
from tutorial_lib.nets import blocks
from tutorial_lib.schedule import NoiseSchedule, from_betas, same_t

AT_HAND = {"torch": torch, "nn": torch.nn, "F": F, "np": np, "math": math}
AT_HAND |= {"NoiseSchedule": NoiseSchedule, "from_betas": from_betas, "same_t": same_t}
AT_HAND |= {"diffusion": diffusion, "gaussian": gaussian, "markov": markov}
AT_HAND |= {"blocks": blocks, "rearrange": rearrange}


@cache
def cells(folder: str) -> dict[str, str]:
    """The cells of all exercises by number: of the notebooks ("stubs"), or "solutions"."""
    found = {}
    for path in editions.notebooks():
        stubs = nbformat.read(path, as_version=4)
        notebook = stubs if folder == "stubs" else editions.answers_to(path)
        found |= {n: cell.source for n, cell in editions.exercises(notebook).items()}
    return found


def handed_in(number: str) -> str:
    """The name of the function that an exercise asks for."""
    for node in ast.walk(ast.parse(cells("stubs")[number])):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "check":
            return ast.unparse(node.args[1])
    raise LookupError(f"the cell of exercise {number} hands nothing in")


def written(number: str, body: str) -> Any:
    """The stub's function with this body, or a tuple of them if several are asked for."""
    wanted = handed_in(number)
    names = re.findall(r"\w+", wanted)
    stubs = {getattr(n, "name", ""): n for n in ast.parse(cells("stubs")[number]).body}
    for name, part in zip(names, body.split("\n---\n"), strict=True):
        stubs[name].body = _body(part)
    tree = ast.Module([stubs[name] for name in names], [])
    scope = dict(AT_HAND)
    exec(
        compile(ast.unparse(ast.fix_missing_locations(tree)), f"answer to {number}", "exec"), scope
    )
    return eval(wanted, scope)


def _body(text: str) -> list[ast.stmt]:
    """The statements of a function; a single expression is what it returns."""
    tree = ast.parse(textwrap.dedent(text).strip())
    if len(tree.body) == 1 and isinstance(tree.body[0], ast.Expr):
        tree.body = [ast.Return(tree.body[0].value)]
    return tree.body


def _tables(name: str) -> dict[str, list]:
    found: dict[str, list] = {}
    for module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        found |= getattr(import_module(f"{__name__}.{module}"), name)
    return found


@cache
def wrong() -> dict[str, list[tuple[str, str]]]:
    """By exercise: wrong answers, each with what is said of it."""
    return _tables("WRONG")


@cache
def right() -> dict[str, list[str]]:
    """By exercise: right answers."""
    return _tables("RIGHT")
