"""Break the library, and a notebook's own assert must fail: that is what makes a notebook a proof
and not a copy.

`NOTICED` is to be read as a table, and to be extended.  Each row changes a function's source in one
place; the cell is run, after those earlier cells alone that it needs, and one of its asserts must
fail.  Without the change it must pass.
"""

import ast
import copy
import importlib
import inspect
import linecache
import pkgutil
import symtable
import textwrap
import traceback
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest
import torch
from conftest import ROOT

import tutorial_lib
from tutorial_lib import train
from tutorial_lib.course import plot


class Mutation(NamedTuple):
    """One slip: in `function`, `old` becomes `new`, and the cell of notebook `number` that contains
    `cell` fails.
    """

    number: str
    cell: str
    function: str
    old: str
    new: str


# (notebook, what its cell contains): the slips that this cell notices, as (function, what it says,
# what it would say)
NOTICED = {
    ("01", "assert_close(path, torch.tensor(naive"): [
        ("markov.laws", "rows[-1] @ P", "P @ rows[-1]"),
        ("markov.laws", "range(steps)", "range(steps - 1)"),
    ],
    ("01", "assert_close(eigenvector, power)"): [
        ("markov.stationary", "eig(P.T)", "eig(P)"),
        ("markov.stationary", "vector.sum()", "vector.norm()"),
        ("markov.simulate", "cumulative[states[-1]]", "cumulative[start]"),
    ],
    ("01", "assert abs(values[1].real + 0.716312)"): [
        ("markov.eigenvalues", "values.abs().argsort", "values.real.argsort"),
        ("markov.eigenvalues", "descending=True", "descending=False"),
    ],
    ("01", "assert min(seen.values()) > 20"): [
        ("markov.converges", "len(recurrent) == 1", "len(recurrent) >= 1"),
        ("markov.converges", "[0]) == 1", "[0]) >= 1"),
        ("markov.converges", " if closed", ""),
        ("markov.classes", "reach & reach.T", "reach"),
        ("markov.classes", "matrix_power(size)", "matrix_power(2)"),
        ("markov.period", "math.gcd(divisor, n)", "n"),
    ],
    ("01", "assert_close(naive, markov.reverse(P, law))"): [
        ("markov.reverse", "law.to(P)[:, None]", "law.to(P)[None, :]"),
        ("markov.reverse", "joint.sum(0)", "joint.sum(1)"),
        ("markov.reverse", "(joint / after).T", "joint / after"),
    ],
    ("01", "assert_close(markov.reverse(P, eigenvector) - P"): [
        ("markov.flow", "joint - joint.T", "joint.T - joint"),
        ("markov.flow", "[:, None]", "[None, :]"),
    ],
    ("01", "assert right.var() > 1.4 * wrong.var()"): [
        ("markov.autoregression", ".flip(0)", ""),
        ("markov.autoregression", "x[t : p + t]", "x[t + 1 : p + t + 1]"),
        ("markov.autoregression", "+ eps[t]", "- eps[t]"),
    ],
    ("01", "assert abs((x < -1).double().mean() - below)"): [
        ("markov.metropolis", ".log() <", ".log() >"),
        ("markov.metropolis", ".log() <", " <"),
        ("markov.metropolis", ".log() <", ".log() * 2 <"),
    ],
    ("01", "markov.langevin(lambda x: -x"): [
        ("markov.langevin", "step / 2", "step"),
        ("markov.langevin", "x + step / 2", "x - step / 2"),
        ("markov.langevin", "step**0.5", "step"),
    ],
    ("02", "assert abs((recipe > 1).double().mean() - beyond)"): [
        ("gaussian.log_density", "-0.5 * ", "-"),
        ("gaussian.grid_density", "density.sum() * (grid[1] - grid[0])", "density.sum()"),
    ],
    ("02", "diffusion.q_step(schedule, x_0, same_t(7, 8), eps)"): [
        ("diffusion.q_step", "schedule.alpha.sqrt()", "schedule.alpha"),
        ("diffusion.q_step", "schedule.beta.sqrt()", "schedule.beta"),
        ("schedule.NoiseSchedule.alpha", "1 - self.beta", "1 - self.beta.sqrt()"),
        ("schedule.NoiseSchedule.at", "table[t.long().cpu()]", "table[t.long().cpu() - 1]"),
    ],
    ("02", "assert_close(naive, q_sample(schedule, x_0, same_t(40, 8), eps))"): [
        ("diffusion.q_sample", "signal * x_0", "signal**2 * x_0"),
        ("diffusion.q_sample", "noise * eps", "noise**2 * eps"),
        ("diffusion.q_sample", "signal_and_noise(t,", "signal_and_noise((t - 1).clamp(min=1),"),
        (
            "schedule.NoiseSchedule.signal_and_noise",
            "(1 - self.alpha_bar).sqrt()",
            "(1 - self.alpha_bar)",
        ),
        (
            "schedule.NoiseSchedule.alpha_bar",
            "self.alpha.cumprod(0)",
            "self.alpha.cumprod(0).roll(1)",
        ),
    ],
    ("02", "assert gap < 0.01"): [
        ("diffusion.q_walk", "q_step(schedule, x, ", "q_step(schedule, x_0, "),
        ("diffusion.q_walk", "same_t(t, len(x))", "same_t(1, len(x))"),
    ],
    ("02", "assert abs(dark - 0.44) < 0.01"): [
        ("data.to_model", "div_(127.5)", "div_(255)"),
        ("data.to_model", ".sub_(1)", ""),
    ],
    ("02", "assert_close(torch.tensor(alpha_bar, dtype=torch.float64), linear(1000)"): [
        (
            "schedule.linear",
            "beta_T, T, dtype=torch.float64)",
            "beta_T, T + 1, dtype=torch.float64)[1:]",
        ),
        ("schedule.linear", "linspace(beta_1, beta_T", "linspace(beta_1**0.5, beta_T**0.5"),
        (
            "schedule.from_betas",
            "torch.cat([beta.new_zeros(1), beta])",
            "torch.cat([beta.new_zeros(1), beta.flip(0)])",
        ),
        ("schedule.cosine", "(t / T + s)", "(t / (T + 1) + s)"),
        ("schedule.cosine", "(t / T + s) / (1 + s)", "t / T"),
        ("schedule.cosine", " ** 2", ""),
        ("schedule.cosine", "clamp(max=beta_max)", "clamp(min=1e-4, max=beta_max)"),
    ],
    ("02", 'assert abs(ends["geometric"] / {200'): [
        ("schedule.quadratic", "beta_T**0.5", "beta_T"),
        ("schedule.sigmoid", "linspace(-6, 6", "linspace(-3, 6"),
        (
            "schedule.geometric",
            "torch.tensor([beta_1, beta_T]",
            "torch.tensor([2 * beta_1, beta_T]",
        ),
    ],
    ("02", 'half["geometric"]) == (260, 497, 685)'): [
        ("schedule.geometric", "[beta_1, beta_T]", "[beta_T, beta_1]"),
    ],
    ("02", "assert_close(naive, diffusion.L_T(candidate, x_0))"): [
        ("diffusion.L_T", "alpha_bar.sqrt()", "alpha_bar"),
        ("diffusion.L_T", "alpha_bar[-1]", "alpha_bar[-2]"),
        ("diffusion.L_T", "q_variance, zero, one)", "one, zero, q_variance)"),
    ],
    ("02", "assert_close(diffusion.x_0_from(ended"): [
        ("schedule.zero_terminal", "beta[-1] = 1", "beta[-1] = 0.999"),
    ],
    ("02", "assert_close(gaussian.entropy(torch.tensor(4.0))"): [
        ("gaussian.entropy", " * math.e", ""),
        ("gaussian.entropy", "0.5 * ", ""),
    ],
    ("02", "assert abs(found[0.5] - 1.33) < 0.01"): [
        ("gaussian.log_density", "2 * math.pi", "math.pi"),
        ("toys.Mixture._joint", "self.weights.log() + ", ""),
    ],
    ("02", "assert_close(rescaled.beta[1:]"): [
        ("schedule.linear", "1000 / T if rescaled", "999 / T if rescaled"),
    ],
    ("02", "guess = pair.x_0_hat("): [
        ("toys.Mixture.x_0_hat", "signal * self.means, spread", "self.means, spread"),
        ("toys.Mixture.x_0_hat", "(1 - gain * signal)", "(1 - gain)"),
        ("toys.Mixture.x_0_hat", "alpha_bar * self.variance + 1 - alpha_bar", "1.0"),
    ],
    ("02", "assert nearest < 0.1"): [
        ("toys.Mixture.x_0_hat", "alpha_bar * self.variance + 1 - alpha_bar", "1.0"),
    ],
    ("03", "closed = [float(gaussian.kl("): [
        ("gaussian.kl", "variance_p / variance_q", "variance_q / variance_p"),
        ("gaussian.kl", "(mean_q - mean_p) ** 2", "(mean_q - mean_p).abs()"),
        ("gaussian.kl", " - 1)", ")"),
        ("gaussian.log_density", "-0.5 * ", "-"),
    ],
    ("03", "assert_close(naive_mean, mu_tilde)"): [
        ("diffusion._posterior_weights", "before.sqrt()", "before"),
        ("diffusion._posterior_weights", "schedule.alpha[1:].sqrt()", "schedule.alpha[1:]"),
        ("diffusion._posterior_weights", "schedule.alpha_bar[:-1],", "schedule.alpha_bar[1:],"),
        ("diffusion.q_posterior", "of_x_0, of_x_t =", "of_x_t, of_x_0 ="),
        ("diffusion.q_posterior", "* x_0 + ", "* x_0 - "),
        ("diffusion.q_posterior", "schedule.beta_tilde", "schedule.beta"),
        (
            "schedule.NoiseSchedule.beta_tilde",
            "(1 - self.alpha_bar[:-1])",
            "(1 - self.alpha_bar[1:])",
        ),
    ],
    ("03", "assert_close(eq_8 + C, exact)"): [
        ("diffusion.mu_from_eps", "(1 - schedule.alpha_bar).sqrt()", "(1 - schedule.alpha_bar)"),
        ("diffusion.mu_from_eps", "schedule.alpha.sqrt()", "schedule.alpha"),
        ("diffusion.mu_from_eps", "(x_t - schedule", "(x_t + schedule"),
        (
            "diffusion.L_t_minus_1",
            "mean_q, variance_q, mean_p, variance_p",
            "mean_p, variance_p, mean_q, variance_q",
        ),
        ("diffusion.L_t_minus_1", ".sum(1)", ".mean(1)"),
        ("diffusion.reverse_variance", 'kind == "beta"', 'kind != "beta"'),
    ],
    ("03", "for target in diffusion.TARGETS"): [
        ("diffusion.target_from", "signal * eps - noise * x_0", "signal * eps + noise * x_0"),
        ("diffusion.x_0_from", "signal * x_t - noise * output", "signal * x_t + noise * output"),
        (
            "diffusion.x_0_from",
            "(x_t - noise * output) / signal",
            "(x_t - noise * output) / signal**2",
        ),
        ("diffusion.x_0_from", "at(of_x_t, t, x_t)", "at(of_x_t, (t - 1).clamp(min=1), x_t)"),
        ("diffusion.eps_from", "noise * x_t + signal * output", "noise * x_t - signal * output"),
        ("diffusion.eps_from", "output, x_t, t)) / noise", "output, x_t, t)) / noise**2"),
    ],
    ("03", "assert_close(mass, naive.flatten())"): [
        ("diffusion.L_0", "math.sqrt(schedule.beta[1])", "schedule.beta[1]"),
        ("diffusion.L_0", "schedule.beta[1]", "schedule.beta[2]"),
        ("diffusion.L_0", "x_0 + 1 / 255", "x_0 + 2 / 255"),
        ("diffusion.L_0", "torch.where(x_0 > 0.999, torch.inf, upper)", "upper"),
        ("diffusion.L_0", "torch.where(x_0 < -0.999, -torch.inf, lower)", "lower"),
        ("diffusion._log_normal_mass", "log_lower - log_upper", "log_upper - log_lower"),
    ],
    ("03", "far = diffusion.L_0("): [
        (
            "diffusion._log_normal_mass",
            "log_upper + torch.log1p(-(log_lower - log_upper).exp())",
            "(log_upper.exp() - log_lower.exp()).log()",
        ),
    ],
    ("04", "assert_close(naive, down(x))"): [
        ("nets.blocks.Down.forward", "(c p q)", "(p q c)"),
    ],
    ("04", "assert_close(F.conv2d(repeated, up.smooth.weight"): [
        ("nets.blocks.Up.forward", '"nearest"', '"bilinear"'),
    ],
    ("04", "assert_close(naive, blocks.time_embedding(t, 64)"): [
        ("nets.blocks.time_embedding", "max(half - 1, 1)", "half"),
        ("nets.blocks.time_embedding", "[angle.sin(), angle.cos()]", "[angle.cos(), angle.sin()]"),
    ],
    ("04", "assert_close(ours, torch.tensor([[1.0, 1.0 + torch.pi / 2]]).sin())"): [
        ("nets.blocks.time_embedding", "max(half - 1, 1)", "(half - 1)"),
    ],
    ("04", "assert_close(naive_block(block, x, embedding)"): [
        ("nets.blocks.ResidualBlock.forward", "self.skip(x) + ", ""),
        ("nets.blocks.ResidualBlock.forward", "(1 + scale)", "scale"),
        ("nets.blocks.ResidualBlock.forward", "self.norm_2(h + time)", "self.norm_2(h) + time"),
        ("nets.blocks.ResidualBlock.forward", "F.silu(self.norm_1(x))", "self.norm_1(F.silu(x))"),
    ],
    ("04", "assert_close(F.conv2d(x, torch.stack(filters)"): [
        ("nets.blocks.StandardizedConv2d.forward", "self.weight - mean", "self.weight"),
        ("nets.blocks.StandardizedConv2d.forward", "dim=(1, 2, 3)", "dim=(0, 2, 3)"),
    ],
    ("04", "naive_attention(layer, image) for image in x"): [
        ("nets.blocks.Attention.forward", "q.shape[-1] ** -0.5", "q.shape[-1] ** -1"),
        ("nets.blocks.Attention.forward", "softmax(dim=-1)", "softmax(dim=-2)"),
        ("nets.blocks.Attention.forward", "x + self.out", "self.out"),
        ("nets.blocks._heads", "(qkv h c)", "(qkv c h)"),
    ],
    ("04", "assert_close(x + layer.out(naive.reshape("): [
        ("nets.blocks.LinearAttention.forward", "k.softmax(dim=-2)", "k.softmax(dim=-1)"),
        ("nets.blocks.LinearAttention.forward", " * q.shape[-1] ** -0.5", ""),
    ],
    ("05", "data.to_pixels(data.to_model(every_value))"): [
        ("data.to_model", "div_(127.5)", "div_(255)"),
        ("data.to_pixels", ".add(1)", ""),
        ("data.to_pixels", ".round_()", ""),
        ("data.to_pixels", ".clamp(-1, 1)", ""),
    ],
    ("05", "assert_close(torch.stack(naive), library)"): [
        ("train.training_step", "network(x_t, ", "network(x_0, "),
        ("train.training_step", "t.to(x_t.device)", "t.to(x_t.device) - 1"),
        ("train.training_step", "target_from(schedule, config.target, x_0, eps, t)", "x_0"),
        ("diffusion.regression_loss", "F.mse_loss", "F.l1_loss"),
        ("diffusion.regression_loss", ".mean(1)", ".sum(1)"),
        ("diffusion.q_sample", "noise * eps", "noise**2 * eps"),
    ],
    ("05", "assert_close(by_hand, train.training_step("): [
        ("diffusion.target_from", "signal * eps - noise * x_0", "noise * eps - signal * x_0"),
    ],
    ("05", "train.update_ema(averaged"): [
        ("train.update_ema", "min(decay, (1 + step) / (10 + step))", "decay"),
        ("train.update_ema", "min(decay, ", "max(decay, "),
        ("train.update_ema", ", 1 - decay)", ", decay)"),
    ],
    ("05", "assert_close(copied.running_mean"): [
        ("train.update_ema", "averaged.copy_(present)", "pass"),
    ],
    ("05", "assert_close(torch.tensor(library), naive"): [
        (
            "train.learning_rate",
            "config.lr * step / config.warmup",
            "config.lr * (step - 1) / config.warmup",
        ),
        ("train.learning_rate", "(1 + math.cos", "(1 - math.cos"),
    ],
    ("05", "assert best == {"): [
        ("diffusion.regression_loss", '"l1": F.l1_loss', '"l1": F.mse_loss'),
    ],
    ("05", "first, again = train.draw(images, 7, short)"): [
        ("train.draw", "(step - 1) * config.batch, step", "step * config.batch, (step + 1)"),
        ("train.draw", "if config.flip", "if not config.flip"),
        (
            "train.draw",
            "_generator(config.seed, step)",
            "torch.Generator().manual_seed(torch.seed())",
        ),
        ("train.draw", "_generator(config.seed, step)", "_generator(config.seed, 0)"),
        ("train.draw", "torch.randint(1, config.T + 1", "torch.randint(0, config.T"),
        ("train.draw", "torch.randn(x_0.shape", "torch.rand(x_0.shape"),
        ("train._order", "torch.randperm(count, ", "torch.randint(count, (count,), "),
        (
            "train._order",
            "torch.randperm(count, generator=_generator(seed, -1 - epoch))",
            "torch.arange(count)",
        ),
    ],
    ("05", "assert_close(tenths(times), below.diff()"): [
        ("train.draw", "SPREAD * torch.randn", "torch.randn"),
        ("train.draw", "(config.T * way).ceil()", "(config.T * (1 - way**2)).ceil()"),
        ("train.draw", 'config.t_sampling == "uniform"', 'config.t_sampling != "uniform"'),
    ],
    ("05", "assert_close(muon.orthogonalize(G[None])[0], naive"): [
        ("engine.muon.orthogonalize", "C * square @ square", "C * square"),
        ("engine.muon.orthogonalize", "torch.linalg.matrix_norm(x, keepdim=True)", "x.abs().max()"),
    ],
    ("06", "assert_close(eps_theta(x_t, t), diffusion.eps_from("): [
        ("diffusion.eps_from", "noise * x_t + signal * output", "noise * x_t - signal * output"),
        ("diffusion.eps_from", "noise * x_t + signal * output", "signal * x_t + noise * output"),
    ],
    ("06", "assert_close(naive, by_noise)"): [
        ("diffusion.mu_from_eps", "(1 - schedule.alpha_bar).sqrt()", "(1 - schedule.alpha_bar)"),
    ],
    ("06", "assert_close(by_picture, by_noise"): [
        (
            "diffusion.x_0_from",
            "(x_t - noise * output) / signal",
            "(x_t - noise * output) / signal**2",
        ),
        ("diffusion._posterior_weights", "before.sqrt()", "before"),
    ],
    ("06", 'assert_close(drawn["beta"], naive'): [
        ("sample.ddpm", "if i > 1", "if i > 0"),  # noise at the last step
        ("sample.ddpm", "sigma[i]", "sigma[i - 1]"),
        (
            "sample.ddpm",
            "reverse_variance(visited, variance).sqrt()",
            "reverse_variance(visited, variance)",
        ),
        ("sample.ddpm", "same_t(i, len(x))", "same_t(max(i - 1, 1), len(x))"),
        ("sample.ddpm", "same_t(int(tau[i]), len(x))", "same_t(int(tau[max(i - 1, 1)]), len(x))"),
        ("sample.estimate", "if clip", "if not clip"),
    ],
    ("06", 'assert_close(walks["no dice, 20"]'): [
        ("sample.ddim", "noise[i - 1] ** 2", "noise[i - 1]"),
        ("sample.ddim", "float(signal[i - 1])", "float(signal[i])"),
        ("sample.ddim", "eta * visited.beta_tilde.sqrt()", "visited.beta_tilde.sqrt()"),
    ],
    ("06", "naive_distance(cloud, reference)"): [
        ("evaluate.frechet_distance", "- 2 * cross", "- cross"),
    ],
    ("06", "indices, distances = evaluate.nearest(points, references"): [
        ("evaluate.nearest", "indices + first", "indices"),
        ("evaluate.nearest", "largest=False)  # (N, count)", "largest=True)  # (N, count)"),
    ],
    ("06", "assert_close(short.beta, schedule.beta[:501])"): [
        (
            "schedule.NoiseSchedule.strided",
            "alpha_bar[1:] / alpha_bar[:-1]",
            "(alpha_bar[1:] / alpha_bar[:-1]).sqrt()",
        ),
    ],
    ("06", 'assert_close(suspects["B"][-1].x, library'): [
        ("sample.ddpm", "q_posterior(visited,", "q_posterior(schedule,"),
    ],
}
MUTATIONS = [Mutation(*cell, *slip) for cell, slips in NOTICED.items() for slip in slips]

MODULES = [
    importlib.import_module(found.name)
    for found in pkgutil.walk_packages(tutorial_lib.__path__, "tutorial_lib.")
    if not found.name.endswith("__main__")
]


class Cell:
    """A code cell: its source, which global names it uses from before, and which it binds or
    changes.
    """

    def __init__(self, name: str, source: str):
        self.name, self.source, self.tree = name, source, ast.parse(source)
        self.uses, self.binds, self.changes = set(), set(), set()
        for piece in pieces(self.tree.body):
            scope = symtable.symtable(ast.unparse(piece), name, "exec")
            changed = changes(piece)
            self.uses |= (used(scope) | changed) - self.binds
            self.binds |= {
                s.get_name() for s in scope.get_symbols() if s.is_assigned() or s.is_imported()
            } - changed
            self.changes |= changed

    def run(self, names: dict) -> None:
        """Execute it; its source stays known, for `show_source` and tracebacks."""
        remember(self.name, self.source)
        exec(compile(self.source, self.name, "exec"), names)

    def asserts_at(self, line: int) -> bool:
        """Whether the statement on this line is an `assert` or a call of `assert_close`."""
        statements = [
            node for node in ast.walk(self.tree) if isinstance(node, ast.Assert | ast.Expr)
        ]
        return any(
            node.lineno <= line <= node.end_lineno
            for node in statements
            if isinstance(node, ast.Assert) or ast.unparse(node).startswith("assert_close(")
        )


def pieces(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements in the order in which they run: a loop, an `if` or a `with` as its first line,
    then what is in it.
    """
    for node in body:
        if isinstance(node, ast.For | ast.While | ast.If | ast.With):
            head = copy.copy(node)
            head.body, head.orelse = [ast.Pass()], []
            yield head
            yield from pieces(node.body + getattr(node, "orelse", []))
        else:
            yield node


def used(scope: symtable.SymbolTable) -> set[str]:
    """The global names that a scope and all scopes inside it refer to."""
    top = scope.get_type() == "module"
    found = {
        s.get_name() for s in scope.get_symbols() if s.is_referenced() and (top or s.is_global())
    }
    return found.union(*(used(inner) for inner in scope.get_children()))


def changes(piece: ast.stmt) -> set[str]:
    """The names whose value a statement changes without binding them anew: `table[3] = ...`, `rows
    += ...`.
    """
    if isinstance(piece, ast.FunctionDef | ast.ClassDef):
        return set()
    parts = [node for node in ast.walk(piece) if isinstance(node, ast.Subscript | ast.Attribute)]
    found = [node.value for node in parts if isinstance(node.ctx, ast.Store)]
    found += [piece.target] if isinstance(piece, ast.AugAssign) else []
    return {node.id for node in found if isinstance(node, ast.Name)}


def remember(file: str, source: str) -> None:
    """Let Python find the source of what was never in a file."""
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)


@cache
def cells(number: str) -> list[Cell]:
    """The code cells of a committed notebook, in order."""
    (path,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
    sources = [
        cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"
    ]
    return [
        Cell(f"<notebook {number}, code cell {n}>", source) for n, source in enumerate(sources, 1)
    ]


def needed(number: str, snippet: str) -> list[Cell]:
    """The one cell that contains the snippet, last, after the earlier ones that it depends on."""
    everything = cells(number)
    found = [n for n, cell in enumerate(everything) if snippet in cell.source]
    if len(found) != 1:
        raise LookupError(
            f"{snippet!r} should be in one code cell of notebook {number}, and is in {len(found)}"
        )
    chosen = [everything[found[0]]]
    open_names = set(chosen[0].uses)
    for cell in reversed(everything[: found[0]]):
        if (cell.binds | cell.changes) & open_names:
            chosen.append(cell)
            open_names = (open_names - cell.binds) | cell.uses
    return chosen[::-1]


def run(number: str, snippet: str) -> None:
    """Execute a cell, and what it needs, as a notebook would."""
    names = {"__name__": "__main__"}
    Path("outputs").mkdir(exist_ok=True)
    for cell in needed(number, snippet):
        cell.run(names)


def mutated(function: str, old: str, new: str):
    """The owner of a function (`diffusion.q_step`) or method, its name, what it is now, and what it
    would be.
    """
    module, owners = next(
        (module, function.removeprefix(f"{short}.").split("."))
        for module in MODULES
        if function.startswith(f"{(short := module.__name__.removeprefix('tutorial_lib.'))}.")
    )
    *path, name = owners
    owner = module
    for part in path:
        owner = getattr(owner, part)
    now = vars(owner)[name]
    source = textwrap.dedent(
        inspect.getsource(now.func if isinstance(now, cached_property) else now)
    )
    assert source.count(old) == 1, (
        f"{old!r} should occur once in {function}, occurs {source.count(old)} times"
    )
    broken, file, names = source.replace(old, new), f"<broken {function}>", {}
    remember(file, broken)
    exec(compile(broken, file, "exec"), vars(module), names)
    if isinstance(now, cached_property):
        names[name].__set_name__(owner, name)
    return owner, name, now, names[name]


def break_library(monkeypatch, mutation: Mutation) -> None:
    """Put the broken function wherever the sound one is: in every module that imported it, and in
    its tables.
    """
    owner, name, now, broken = mutated(mutation.function, mutation.old, mutation.new)
    monkeypatch.setattr(owner, name, broken)
    for module in MODULES:
        for key, value in list(vars(module).items()):
            if value is now:
                monkeypatch.setattr(module, key, broken)
            elif isinstance(value, dict) and not key.startswith("__"):
                for entry in [entry for entry, item in value.items() if item is now]:
                    monkeypatch.setitem(value, entry, broken)


@pytest.fixture(autouse=True)
def in_short(tmp_path, monkeypatch):
    """What is not tested here is left out: pictures, and the minutes of training that some cells
    begin with.
    """
    torch.manual_seed(0)  # a slice may leave out the cell that does
    monkeypatch.chdir(tmp_path)  # cells write into their folder
    for name, value in list(vars(plot).items()):
        if inspect.isfunction(value) and value.__module__ == plot.__name__ and name != "every":
            monkeypatch.setattr(plot, name, lambda *_, **__: None)
    monkeypatch.setattr(train, "train", lambda *_, **__: iter(()))
    monkeypatch.setattr(train, "_orders", {})  # the orders that an unbroken function has drawn


@pytest.mark.parametrize(("number", "snippet"), NOTICED, ids=lambda value: value[:50])
def test_cell_passes_with_the_library_as_it_is(number, snippet):
    run(number, snippet)


@pytest.mark.parametrize(
    "mutation", MUTATIONS, ids=lambda m: f"{m.number}-{m.function}-{m.new}"[:80]
)
def test_cell_notices(mutation, monkeypatch):
    break_library(monkeypatch, mutation)
    with pytest.raises(AssertionError) as error:
        run(mutation.number, mutation.cell)
    frames = [
        frame for frame in traceback.extract_tb(error.tb) if frame.filename.startswith("<notebook ")
    ]
    assert frames, f"not from a notebook: {error.value}"
    cell = needed(mutation.number, mutation.cell)[-1]
    assert frames[-1].filename == cell.name, (
        f"caught already in {frames[-1].filename}, line {frames[-1].lineno}"
    )
    assert cell.asserts_at(frames[-1].lineno), (
        f"no assert on line {frames[-1].lineno} of {cell.name}"
    )
