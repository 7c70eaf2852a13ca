"""Slips that people make, as operators on the syntax tree of a function.

`drop_root(1)` is a slip: the second root that a function takes is forgotten.  The number counts the
places where an operator can act from 0, in the order in which they are read, a sign where it stands
and a method behind its object.  Where nothing is computed there is no place: in docstrings, types,
decorators and messages, and in an `if` that does nothing but raise.

To add an operator: yield, behind `@operator`, everything that a node might become by this slip.  A
parameter comes as a keyword: `drop_call(0, name="clamp")` takes away the first call of `clamp`.
"""

import ast
import copy
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any

PARAMETERLESS: list[Callable[[int], "Slip"]] = []  # the operators that can be tried at every place
NAMESPACES = {"torch", "F", "math", "gaussian", "self", "schedule"}  # `F.silu(x)`, not `x.sum(1)`


@dataclass(frozen=True)
class Slip:
    """One slip: an operator at one place.  Called on the tree of a function, it changes it."""

    rule: Callable[..., Iterator[ast.AST]]  # from a node to what it might become
    occurrence: int
    options: dict[str, Any]

    def __call__(self, tree: ast.FunctionDef) -> ast.FunctionDef:
        found = self.places(tree)
        if not 0 <= self.occurrence < len(found):
            options = "".join(f" {name}={value!r}" for name, value in self.options.items())
            raise LookupError(
                f"{tree.name} has {len(found)} sites for {self.rule.__name__}{options}, "
                f"got occurrence {self.occurrence}"
            )
        return ast.fix_missing_locations(_Replace(*found[self.occurrence]).visit(tree))

    def places(self, tree: ast.FunctionDef) -> list[tuple[ast.AST, ast.AST]]:
        """Each node at which the operator can act, and what it becomes."""
        nodes = sorted(_computing(tree), key=_where)
        return [(node, new) for node in nodes for new in self.rule(node, **self.options)]

    def __str__(self) -> str:
        options = "".join(f", {key}={value!r}" for key, value in self.options.items())
        return f"{self.rule.__name__}({self.occurrence}{options})"


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST):
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else self.generic_visit(node)


def _computing(node: ast.AST) -> Iterator[ast.AST]:
    """The node and what is inside it, as far as it computes something."""
    only_raises = isinstance(node, ast.If) and isinstance(node.body[-1], ast.Raise)
    says = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    if (only_raises and not node.orelse) or says or isinstance(node, ast.Raise | ast.JoinedStr):
        return
    yield node
    for field, value in ast.iter_fields(node):
        if field not in ("annotation", "returns", "decorator_list"):
            for part in value if isinstance(value, list) else [value]:
                if isinstance(part, ast.AST):
                    yield from _computing(part)


def _where(node: ast.AST) -> tuple[int, int]:
    """Line and column where a node's own sign or name stands: behind what is left of it."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        node = node.func
    if isinstance(node, ast.BinOp | ast.Compare):
        return node.left.end_lineno, node.left.end_col_offset
    if isinstance(node, ast.Attribute | ast.Subscript):
        return node.value.end_lineno, node.value.end_col_offset
    node = node.target if isinstance(node, ast.comprehension) else node
    return getattr(node, "lineno", 0), getattr(node, "col_offset", 0)


def operator(rule: Callable[..., Iterator[ast.AST]]) -> Callable[..., Slip]:
    """Make of a rule the operator that a table calls: its occurrence, then its keywords."""

    @wraps(rule)
    def at(occurrence: int, **options) -> Slip:
        inspect.signature(rule).bind(None, **options)  # a TypeError for keywords it does not know
        return Slip(rule, occurrence, options)

    _, *parameters = inspect.signature(rule).parameters.values()
    if all(parameter.default is None for parameter in parameters):
        PARAMETERLESS.append(at)
    return at


def _changed(node: ast.AST, **fields) -> ast.AST:
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def _plus(node: ast.expr, by: int) -> ast.expr:
    """`node + by`, computed if it is a number."""
    try:
        return ast.Constant(ast.literal_eval(node) + by)
    except (ValueError, TypeError):
        sign = ast.Add() if by > 0 else ast.Sub()
        return ast.BinOp(node, sign, ast.Constant(abs(by)))


# Roots, signs and terms


@operator
def drop_root(node):
    """`x.sqrt()`, `math.sqrt(x)`, `x**0.5` -> `x`"""
    match node:
        case ast.Call(func=ast.Attribute(attr="sqrt", value=x), args=[]):
            yield x
        case ast.Call(func=ast.Attribute(attr="sqrt"), args=[x]):
            yield x
        case ast.BinOp(left=x, op=ast.Pow(), right=ast.Constant(value=0.5)):
            yield x


def _powers(node: ast.AST, exponent: float) -> Iterator[ast.AST]:
    """A sum, product or quotient with one of its two sides, unless a number, to a power."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.Div):
        for side in ("left", "right"):
            x = getattr(node, side)
            if not isinstance(x, ast.Constant):
                power = ast.BinOp(x, ast.Pow(), ast.Constant(exponent))
                yield _changed(node, **{side: power})


@operator
def add_root(node):
    """`x` -> `x**0.5`, on either side of + - * /"""
    yield from _powers(node, 0.5)


@operator
def square(node):
    """`x` -> `x**2`, on either side of + - * /"""
    yield from _powers(node, 2)


@operator
def flip_sign(node):
    """`a + b` <-> `a - b`; `-x` -> `x`"""
    match node:
        case ast.BinOp(op=ast.Add()):
            yield _changed(node, op=ast.Sub())
        case ast.BinOp(op=ast.Sub()):
            yield _changed(node, op=ast.Add())
        case ast.UnaryOp(op=ast.USub(), operand=x):
            yield x


@operator
def swap_operands(node):
    """`a - b` -> `b - a`; so with / and @"""
    match node:
        case ast.BinOp(left=a, op=ast.Sub() | ast.Div() | ast.MatMult(), right=b):
            yield _changed(node, left=b, right=a)


@operator
def drop_term(node):
    """`a + b` -> `a`, and `b`; so with - * / @ & |; `x**2` -> `x`"""
    match node:
        case ast.BinOp(left=x, op=ast.Pow(), right=exponent):
            if ast.unparse(exponent) != "0.5":
                yield x
        case ast.BinOp(left=a, right=b):
            yield from (a, b)


# Calls


def _name(node: ast.AST) -> str | None:
    """The last name of what is called or indexed."""
    match node:
        case ast.Call(func=named) | ast.Subscript(value=named):
            return getattr(named, "id", getattr(named, "attr", None))


@operator
def swap_arguments(node, name=None, pair=None):
    """`f(a, b)` -> `f(b, a)`; neighbours in a list too; name: of f; pair: which two, as (1, 3)"""
    if name not in (None, _name(node)):
        return
    field = "args" if isinstance(node, ast.Call) else "elts"
    items = getattr(node, field, [])
    for i, j in [pair] if pair else zip(range(len(items)), range(1, len(items)), strict=False):
        if j < len(items) and ast.dump(items[i]) != ast.dump(items[j]):
            swapped = list(items)
            swapped[i], swapped[j] = items[j], items[i]
            yield _changed(node, **{field: swapped})


@operator
def exchange_calls(node):
    """`f(g(x))` -> `g(f(x))`; `x.f().g()` -> `x.g().f()`"""
    match node:
        case ast.Call(func=f, args=[ast.Call(func=g, args=[x], keywords=[])], keywords=[]):
            yield ast.Call(g, [ast.Call(f, [x], [])], [])
        case ast.Call(func=ast.Attribute(value=ast.Call() as first) as second):
            if _is_function(first.func):
                return
            inner = _changed(second, value=first.func.value)
            outer = _changed(first.func, value=_changed(node, func=inner))
            yield _changed(first, func=outer)


def _is_function(func: ast.expr) -> bool:
    """Whether what is called is found in a module, or is our own: no method of a tensor."""
    path = ast.unparse(func)
    if not path.replace(".", "").isidentifier():
        return False
    root, depth = path.partition(".")[0], path.count(".")
    return depth == 0 or (root in NAMESPACES and depth == 1) or root == "torch"


@operator
def drop_call(node, name=None):
    """`f(x, ...)` -> `x`; `x.m(...)` -> `x`; `x.T` -> `x`; name: of that function only"""
    match node:
        case ast.Attribute(value=x, attr="T" | "mT") if name in (None, node.attr):
            yield x
        case ast.Call() if name in (None, _name(node)):
            if not _is_function(node.func):
                yield node.func.value
            elif node.args and not isinstance(node.args[0], ast.Starred):
                yield node.args[0]


@operator
def drop_keyword(node, name=None):
    """`f(x, a=1)` -> `f(x)`; name: that keyword only"""
    if isinstance(node, ast.Call):
        for keyword in node.keywords:
            if name in (None, keyword.arg):
                yield _changed(node, keywords=[k for k in node.keywords if k is not keyword])


@operator
def other_call(node, **instead):
    """The whole call of a function -> what is given: `other_call(0, randperm="torch.arange(n)")`"""
    if _name(node) in instead:
        yield ast.parse(instead[_name(node)], mode="eval").body


# Steps, constants and axes


@operator
def shift_index(node, name=None, by=None):
    """`x[i]` -> `x[i - 1]`; `x[1:]` <-> `x[:-1]`; `range(n)` -> `range(n - 1)`; by: how far"""
    if name not in (None, _name(node)):
        return
    match node:
        case ast.Subscript(slice=ast.Slice(lower=lower, upper=upper, step=None)):
            step = by or (1 if lower is None else -1)
            start = _plus(lower or ast.Constant(0), step)
            end = _plus(upper, step) if upper else ast.Constant(step) if step < 0 else None
            ends = [end if end is None or ast.unparse(end) != "0" else None for end in (start, end)]
            yield _changed(node, slice=ast.Slice(*ends))
        case ast.Subscript(slice=ast.Tuple() | ast.Constant(value=str() | None)):
            pass
        case ast.Subscript(slice=index):
            yield _changed(node, slice=_plus(index, by or -1))
        case ast.Call(func=ast.Name(id="range"), args=args):
            bounds = list(args)
            bounds[len(args) > 1] = _plus(args[len(args) > 1], by or -1)
            yield _changed(node, args=bounds)


@operator
def earlier(node, *, name):
    """`t` -> `t - 1`, and 1 stays 1; name: that of the variable"""
    match node:
        case ast.Name(id=found, ctx=ast.Load()) if found == name:
            yield ast.parse(f"{name} - 1 + ({name} == 1)", mode="eval").body


@operator
def other_constant(node):
    """`n` -> `n + 1`; `0.5` -> `1.0`; `True` <-> `False`"""
    match node:
        case ast.Constant(value=bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(value=int() as value):
            yield ast.Constant(value + 1)
        case ast.Constant(value=float() as value):
            yield ast.Constant(2 * value)


def _other_side(axis: ast.expr) -> ast.expr:
    """The neighbour of an axis: 1 of 0, -2 of -1."""
    n = ast.unparse(axis)
    return _plus(axis, {"0": 1, "-2": 1}.get(n, -1))


@operator
def other_axis(node):
    """`dim=1` <-> `dim=0`, `dim=-1` <-> `dim=-2`, the first of many; `[:, None]` -> `[None, :]`"""
    match node:
        case ast.keyword(arg="dim", value=ast.Tuple(elts=[first, *rest])):
            yield _changed(node, value=ast.Tuple([_other_side(first), *rest], ast.Load()))
        case ast.keyword(arg="dim", value=axis):
            yield _changed(node, value=_other_side(axis))
        case ast.Subscript(slice=ast.Tuple(elts=elts)) if "None" in map(ast.unparse, elts):
            yield _changed(node, slice=ast.Tuple(elts[::-1], ast.Load()))


# Conditions and statements


def _comparing(node: ast.AST, other: dict[type, type]) -> Iterator[ast.AST]:
    if isinstance(node, ast.Compare) and type(node.ops[0]) in other:
        yield _changed(node, ops=[other[type(node.ops[0])](), *node.ops[1:]])


@operator
def other_comparison(node):
    """`==` -> `>=`; `<` <-> `>`; `<=` <-> `>=`; `in` <-> `not in`"""
    other = {ast.Eq: ast.GtE, ast.Lt: ast.Gt, ast.Gt: ast.Lt, ast.LtE: ast.GtE, ast.GtE: ast.LtE}
    yield from _comparing(node, other | {ast.In: ast.NotIn, ast.NotIn: ast.In})


@operator
def other_boundary(node):
    """`<` <-> `<=`; `>` <-> `>=`"""
    other = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
    yield from _comparing(node, other)


@operator
def negate_condition(node):
    """`if c` -> `if not c`; so with `while`, `x if c else y` and `for ... if c`"""
    match node:
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
            yield _changed(node, test=ast.UnaryOp(ast.Not(), test))
        case ast.comprehension(ifs=[test]):
            yield _changed(node, ifs=[ast.UnaryOp(ast.Not(), test)])


@operator
def drop_statement(node):
    """An assignment or a call that stands alone -> `pass`"""
    match node:
        case ast.Assign() | ast.AugAssign() | ast.Expr(value=ast.Call()):
            yield ast.Pass()


# Names and strings


@operator
def other_name(node, **instead):
    """A variable, function or attribute that is read -> another: `other_name(0, x_t="x_0")`"""
    match node:
        case ast.Name(id=name, ctx=ast.Load()) if name in instead:
            yield ast.parse(instead[name], mode="eval").body
        case ast.Attribute(attr=name, ctx=ast.Load()) if name in instead:
            yield _changed(node, attr=instead[name])


@operator
def other_string(node, **instead):
    """A string -> another: `other_string(0, nearest="bilinear")`"""
    match node:
        case ast.Constant(value=str() as text) if text in instead:
            yield ast.Constant(instead[text])


@operator
def rotate_axes(node):
    """`"b (c p q)"` -> `"b (p q c)"`: einops reads the letters of a group in another order"""
    match node:
        case ast.Constant(value=str() as text):
            for group in re.finditer(r"\((\w+) ([\w ]+)\)", text):
                new = f"({group[2]} {group[1]})"
                yield ast.Constant(text[: group.start()] + new + text[group.end() :])
