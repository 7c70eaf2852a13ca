"""Exercises: solutions pass, stubs and wrong answers fail kindly; a constant or the library gets
nobody through.
"""

import ast
import math
import re
import sys
import textwrap
from functools import partial
from importlib import import_module

import editions
import nbformat
import numpy as np
import pytest
import torch
from conftest import is_lesson
from torch.nn import functional as F

from tutorial_lib import data, diffusion, gaussian, markov, sample
from tutorial_lib.course import exercises
from tutorial_lib.course.exercises.checks import Wrong, same
from tutorial_lib.denoise import denoiser
from tutorial_lib.nets import blocks, unet
from tutorial_lib.schedule import NoiseSchedule, cosine, from_betas, same_t, sigmoid

EXERCISES = exercises.every_exercise()
PATHS = editions.notebooks()
SEEDS = range(8)


def cells(notebook) -> dict[str, str]:
    return {number: cell.source for number, cell in editions.exercises(notebook).items()}


def of(number: str) -> str:
    """The notebook to which an exercise belongs: "04b" has 04b.1."""
    return number.partition(".")[0]


STUBS, SOLUTIONS, IMPORTS = {}, {}, {}
for path in PATHS:
    answers = editions.answers_to(path)
    STUBS |= cells(nbformat.read(path, as_version=4))
    SOLUTIONS |= cells(answers)
    IMPORTS[editions.number(path)] = next(
        cell.source for cell in answers.cells if cell.cell_type == "code"
    )


def handed_in(source: dict[str, str], number: str) -> object:
    """What the cell of an exercise hands to `check`; cells before it in the same notebook run
    first.
    """
    answers = {}
    scope: dict = {"torch": torch}
    exec(IMPORTS[of(number)], scope)
    scope["check"] = lambda which, answer: answers.update({which: answer})
    for which in source:
        if of(which) == of(number) and which <= number:
            exec(compile(source[which], which, "exec"), scope)
    return answers[number]


SOLVED = {number: handed_in(SOLUTIONS, number) for number in SOLUTIONS}


def test_every_exercise_has_a_statement_a_check_and_a_solution():
    assert STUBS.keys() == SOLUTIONS.keys() == EXERCISES.keys()
    for path in PATHS:
        own = [number for number in EXERCISES if of(number) == editions.number(path)]
        assert len(own) >= (5 if is_lesson(path) else 2)


def names_bound(source: str) -> set[str]:
    """Everything that a cell gives a name to."""
    tree = ast.walk(ast.parse(source))
    found = set()
    for node in tree:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_stubs_hide_nothing_that_the_notebook_uses(path):
    """Otherwise a cell above would fail when it is run again."""
    notebook = nbformat.read(path, as_version=4)
    stubs = {
        f.name
        for source in cells(notebook).values()
        for f in ast.parse(source).body
        if hasattr(f, "name")
    }
    others = [
        c.source
        for c in notebook.cells
        if c.cell_type == "code" and c.source not in cells(notebook).values()
    ]
    assert not stubs & set().union(*map(names_bound, others))


@pytest.mark.parametrize("number", EXERCISES)
def test_solutions_pass_whatever_is_drawn(number):
    answer = handed_in(SOLUTIONS, number)
    for seed in SEEDS:
        found = exercises.verdict(number, answer, seed)
        assert found.right, found.message


@pytest.mark.parametrize("number", EXERCISES)
def test_stubs_fail_kindly_and_raise_nothing(number, capsys):
    answer = handed_in(STUBS, number)
    found = exercises.verdict(number, answer, 0)
    assert not found.right
    assert found.message.startswith((f"{number}: not attempted yet.", f"{number}: not yet."))
    dots = "\n    ...\n" in STUBS[number]
    assert (found.state == "not attempted") == dots, (
        "dots are nothing yet; a function with a bug is a wrong answer"
    )
    exercises.check(number, answer)
    assert capsys.readouterr().out.startswith(f"{number}: not ")


@pytest.mark.parametrize("number", EXERCISES)
@pytest.mark.parametrize(
    "constant",
    [0, 1.0, "a", (0, 0), torch.zeros(3), torch.zeros(3, 1, 4, 4), float("nan")],
    ids=repr,
)
def test_no_constant_passes(number, constant):
    for answer in (constant, lambda *_: constant):
        found = exercises.verdict(number, answer, 1)
        assert not found.right
        assert found.message.startswith(f"{number}: not yet.")
        assert callable(answer) or "hand in the function itself" in found.message


PAIRS = ("05.1", "08.7")  # exercises that ask for two functions


@pytest.mark.parametrize("number", EXERCISES)
def test_an_answer_that_stops_is_told_where(number):
    def answer(*_):
        return 1 / 0

    found = exercises.verdict(number, (answer, answer) if number in PAIRS else answer)
    assert found.state == "wrong"
    assert "ZeroDivisionError: division by zero in the line `return 1 / 0`" in found.message


def test_it_is_told_in_the_line_of_the_answer_not_in_that_of_the_library():
    def answer(schedule, x_0, t, eps):
        return schedule.at(schedule.alpha_bar, 5, x_0) * eps

    message = exercises.verdict("02.3", answer).message
    assert "It stops with TypeError: t must be a tensor of integers" in message
    assert message.endswith(" in the line `return schedule.at(schedule.alpha_bar, 5, x_0) * eps`.")


CHEATS = {
    "01.1": lambda P, i, j: markov.distributions(P, torch.eye(len(P), dtype=P.dtype)[i], 2)[2, j],
    "01.2": lambda P, before: markov.distributions(P, before, 1)[1],
    "01.4": lambda P: markov.stationary(P),
    "01.5": lambda P, start, n, j: markov.reverse(P.matrix_power(n), start)[j],
    "01.8": lambda P: (markov.settles(P), markov.forgets(P)),
    "02.2": lambda x, beta, eps: diffusion.q_step(from_betas([beta]), x, same_t(1, len(x)), eps),
    "02.3": lambda schedule, x_0, t, eps: diffusion.q_sample(schedule, x_0, t, eps),
    "03.1": lambda m, n, v: gaussian.kl(*map(torch.tensor, (m, v, n, v))),
    "03.4": lambda beta: from_betas(beta).beta_tilde[1:],
    "04.1": lambda c_in, c_out, k: sum(
        p.numel() for p in torch.nn.Conv2d(c_in, c_out, k).parameters()
    ),
    "04.2": lambda size, k, stride, padding: len(
        F.conv2d(torch.ones(1, 1, size, size), torch.ones(1, 1, k, k), None, stride, padding)[0, 0]
    ),
    "04.3": lambda t, width, longest: (
        blocks.time_embedding(t, width, longest ** (1 - 2 / width))
        .unflatten(1, (2, -1))
        .mT.flatten(1)
    ),
    "04.4": lambda q, k, v: F.scaled_dot_product_attention(q, k, v),
    "04.5": lambda x: torch.nn.PixelUnshuffle(2)(x),
    "06.3": lambda network, schedule, x_T, generator: sample.final(
        sample.ddpm(
            denoiser(network, schedule, target="eps", clip=False),
            schedule,
            x_T,
            generator=generator,
        )
    ),
}


@pytest.mark.parametrize("number", CHEATS)
def test_the_function_under_study_may_not_do_the_work(number):
    found = exercises.verdict(number, CHEATS[number], 0)
    assert found.state == "wrong"
    assert "which is what this exercise is about" in found.message


def test_the_first_exercise_wants_the_sum_written_out():
    """A row times a column is that sum; a product of the whole matrix is not."""
    for answer in (
        lambda P, i, j: (P @ P)[i, j],
        lambda P, i, j: (P[i] @ P)[j],
        lambda P, i, j: (P @ P[:, j])[i],
        lambda P, i, j: torch.matmul(P, P)[i, j],
        lambda P, i, j: torch.einsum("ik,kj->ij", P, P)[i, j],
    ):
        message = exercises.verdict("01.1", answer, 0).message
        assert message.startswith("01.1: not yet. It multiplies matrices, which is what this")


def test_nor_does_the_one_of_training():
    message = exercises.verdict("05.4", handed_in(STUBS, "05.4"), 0).message
    assert message.endswith("is not right. Work out the first two by hand, and compare.")


def test_a_bug_hunt_does_not_begin_with_the_answer():
    """Its stored output is what a reader sees first."""
    message = exercises.verdict("01.2", handed_in(STUBS, "01.2"), 0).message
    assert message.endswith("is not right. Work out one entry by hand, and compare.")


CELLS = {  # what a reader may write
    "by attribute": """
        def answer(schedule, x_0, t, eps):
            return diffusion.q_sample(schedule, x_0, t, eps)
        """,
    "imported": """
        from tutorial_lib.diffusion import q_sample
        def answer(schedule, x_0, t, eps):
            return q_sample(schedule, x_0, t, eps)
        """,
    "imported under another name": """
        from tutorial_lib.diffusion import q_sample as noised
        def answer(schedule, x_0, t, eps):
            return noised(schedule, x_0, t, eps)
        """,
    "imported inside": """
        def answer(schedule, x_0, t, eps):
            from tutorial_lib.diffusion import q_sample as noised
            return noised(schedule, x_0, t, eps)
        """,
    "under another name": """
        noised = diffusion.q_sample
        def answer(schedule, x_0, t, eps):
            return noised(schedule, x_0, t, eps)
        """,
    "in a lambda": """
        def answer(schedule, x_0, t, eps):
            noised = lambda t: diffusion.q_sample(schedule, x_0, t, eps)
            return noised(t)
        """,
    "in an inner function": """
        def answer(schedule, x_0, t, eps):
            def noised():
                return diffusion.q_sample(schedule, x_0, t, eps)
            return noised()
        """,
    "in a comprehension": """
        def answer(schedule, x_0, t, eps):
            return [diffusion.q_sample(schedule, x_0, t, eps) for _ in "1"][0]
        """,
    "in another function": """
        def noised(schedule, x_0, t, eps):
            return diffusion.q_sample(schedule, x_0, t, eps)
        def answer(schedule, x_0, t, eps):
            return noised(schedule, x_0, t, eps)
        """,
    "behind a decorator": """
        @torch.no_grad()
        def answer(schedule, x_0, t, eps):
            return diffusion.q_sample(schedule, x_0, t, eps)
        """,
    "and a net below": """
        def answer(schedule, x_0, t, eps):
            try:
                return diffusion.q_sample(schedule, x_0, t, eps)
            except Exception:
                return x_0
        """,
}


def written(source: str):
    """The function `answer` of a cell."""
    scope = {"torch": torch, "diffusion": diffusion}
    exec(textwrap.dedent(source), scope)
    return scope["answer"]


@pytest.mark.parametrize("source", CELLS.values(), ids=CELLS)
def test_not_by_any_of_its_names(source):
    assert "It calls `q_sample`" in exercises.verdict("02.3", written(source), 0).message


def test_a_name_of_ones_own_that_looks_like_it_is_no_fault():
    source = """
        def answer(schedule, x_0, t, eps):
            '''As diffusion.q_sample does.'''
            alpha_bar = schedule.alpha_bar[t].view(-1, 1, 1, 1)
            q_sample = alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * eps
            return q_sample
        """
    assert exercises.verdict("02.3", written(source), 0).right


def test_functions_that_call_each_other_are_read_once():
    source = """
        def noised(schedule, x_0, t, eps):
            return answer(schedule, x_0, t, eps, again=False)
        def answer(schedule, x_0, t, eps, again=True):
            alpha_bar = schedule.alpha_bar[t].view(-1, 1, 1, 1)
            if again:
                return noised(schedule, x_0, t, eps)
            return alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * eps
        """
    assert exercises.verdict("02.3", written(source), 0).right


LIBRARY = "markov schedule gaussian diffusion data denoise train sample evaluate "
LIBRARY += "nets.blocks nets.dit nets.unet engine.rates beyond.solvers course.exercises.n19 "
LIBRARY += "engine.muon beyond.variational beyond.exact beyond.compression "
LIBRARY += "beyond.inversion beyond.distillation course.exercises.n07 course.exercises.n09 "
LIBRARY += "beyond.score beyond.langevin beyond.paths beyond.flow "
LIBRARY += "beyond.guidance beyond.milder"
WHERE = [torch, torch.Tensor, torch.linalg, torch.nn, F, torch.distributions, NoiseSchedule]
WHERE += [import_module(f"tutorial_lib.{name}") for name in LIBRARY.split()]


@pytest.mark.parametrize("number", EXERCISES)
def test_what_is_forbidden_exists(number):
    """A function that was renamed would be forbidden in vain."""
    for name in EXERCISES[number].forbidden:
        assert any(hasattr(place, name) for place in WHERE), name


def _object():
    class Answer:
        def __call__(self, *arguments):
            return diffusion.q_sample(*arguments)

    return Answer()


GUISES = {
    "itself": ("02.3", diffusion.q_sample),
    "partial": ("02.3", partial(diffusion.q_sample)),
    "object": ("02.3", _object()),
    "PyTorch's own": ("04.4", F.scaled_dot_product_attention),
    "pair": ("05.1", (data.to_model, data.to_pixels)),
    "one of a pair": ("05.1", (lambda x: x / 127.5 - 1, lambda x: data.to_pixels(x))),
}


@pytest.mark.parametrize(("number", "answer"), GUISES.values(), ids=GUISES)
def test_nor_in_another_guise(number, answer):
    assert "which is what this exercise is about" in exercises.verdict(number, answer, 0).message


def _by_eq_7(schedule, x_0, x_t, t, s):
    now, before = schedule.alpha_bar[t], schedule.alpha_bar[s]
    r = now / before
    mean = (before.sqrt() * (1 - r) * x_0 + r.sqrt() * (1 - before) * x_t) / (1 - now)
    return mean, (1 - before) / (1 - now) * (1 - r)


def _by_line_7(x_0, Q, P, p_T):
    before, L = Q[0][x_0], -(Q[0][x_0] * P[0][:, x_0].log()).sum()  # q(x_1 | x_0), and L_0
    for forward, back in zip(Q[1:], P[1:], strict=True):
        pairs = before[:, None] * forward  # q(x_{t-1}, x_t | x_0)
        posterior = pairs / pairs.sum(0)
        L = L + (pairs * (posterior / back.T).log()).sum()
        before = pairs.sum(0)
    return L + (before * (before / p_T).log()).sum()


def _mean_by_eps(x, v, now, alpha):
    eps = (1 - now) ** 0.5 * x + now**0.5 * v
    return (x - (1 - alpha) / (1 - now) ** 0.5 * eps) / alpha**0.5


def _by_roots_of_numbers(x, v, alpha_bar):
    signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    return signal * x - noise * v, noise * x + signal * v


def _row_by_column(P, i, j):
    row, column = P[i], P[:, j]
    return row @ column


def _middle(photo):
    side = min(photo.shape[1:])
    top, left = (-(-(size - side) // 2) for size in photo.shape[1:])
    return photo[:, top : top + side, left : left + side]


def _hour_by_hour(P, start, n, j):
    """Back from hour n to hour 0, one step of Bayes' rule at a time."""
    path = [start]
    for _ in range(n - 1):
        path.append(path[-1] @ P)
    now = torch.eye(len(P), dtype=P.dtype)[j]
    for before in reversed(path):
        joint = before[:, None] * P
        now = (joint / joint.sum(0)) @ now
    return now


def _by_eigenvalues(P):
    on_the_circle = [value for value in torch.linalg.eigvals(P) if abs(abs(value) - 1) < 1e-6]
    settles = all(abs(value - 1) < 1e-6 for value in on_the_circle)
    return settles, settles and len(on_the_circle) == 1


def _without_zeros(P):
    """Irreducible and aperiodic, for both questions."""
    mixes = bool((P.matrix_power(1000) > 0).all())
    return mixes, mixes


def _logistic(T):
    alpha_bar = torch.sigmoid(torch.linspace(8, -8, T + 1, dtype=torch.float64))
    return 1 - alpha_bar[1:] / alpha_bar[:-1]


OTHER_WAYS = [  # right answers of other sorts
    pytest.param(
        "01.1", lambda P, i, j: [float((P[i] * P[:, j]).sum())], id="a list of one number"
    ),
    pytest.param("01.1", lambda P, i, j: P[i] @ P[:, j], id="a row times a column"),
    pytest.param("01.1", _row_by_column, id="a row times a column, by name"),
    pytest.param("01.1", lambda P, i, j: torch.dot(P[i], P[:, j]), id="a dot product"),
    pytest.param("01.1", lambda P, i, j: float(P[i] @ P.T[j]), id="two rows"),
    pytest.param("01.1", lambda P, i, j: torch.matmul(P[i], P[:, j]), id="by name"),
    pytest.param("01.5", _hour_by_hour, id="hour by hour"),
    pytest.param("01.6", lambda pi: SOLVED["01.6"](pi).tolist(), id="a list of rows"),
    pytest.param("01.8", _by_eigenvalues, id="eigenvalues"),
    pytest.param("01.8", lambda P: list(map(torch.tensor, SOLVED["01.8"](P))), id="two tensors"),
    pytest.param(
        "02.2",
        lambda x, beta, eps: (1 - beta).sqrt() * x + torch.sqrt(beta) * eps,
        id="roots of a tensor",
    ),
    pytest.param(
        "02.2",
        lambda x, beta, eps: x.mul_(math.sqrt(1 - beta)).add_(math.sqrt(beta) * eps),
        id="in place",
    ),
    pytest.param(
        "02.4",
        lambda beta, s: torch.log(torch.tensor(1 + 1 / s)) / -math.log1p(-beta),
        id="a tensor of one number",
    ),
    pytest.param("02.5", _logistic, id="PyTorch's sigmoid"),
    pytest.param(
        "02.7",
        lambda photo: _middle(photo).double().div(255).mul(2).sub(1),
        id="the odd pixel lost on the other side",
    ),
    pytest.param("03.3", lambda *inputs: list(SOLVED["03.3"](*inputs)), id="a list of two"),
    pytest.param(
        "03.3",
        lambda schedule, x_0, x_t, t, s: _by_eq_7(schedule, x_0, x_t, t, s),
        id="Eq. 7 with r in the place of alpha_t",
    ),
    pytest.param("03.6", lambda k, m, s: float(SOLVED["03.6"](k, m, s)), id="a plain number"),
    pytest.param("03.8", lambda *inputs: _by_line_7(*inputs), id="by line 7"),
    pytest.param("03.7", _by_roots_of_numbers, id="roots of a number"),
    pytest.param(
        "04.6",
        lambda size, patch, levels: torch.tensor(size % (patch << levels - 1) == 0),
        id="a tensor",
    ),
    pytest.param(
        "05.1",
        (SOLVED["05.1"][0], lambda x: SOLVED["05.1"][1](x).numpy()),
        id="numpy's numbers",
    ),
    pytest.param(
        "05.1",
        (
            lambda p: (p.numpy() / np.float32(127.5) - 1).astype(np.float32),
            lambda x: np.round((x.numpy() + 1) * 127.5).clip(0, 255).astype(np.uint8),
        ),
        id="numpy throughout",
    ),
    pytest.param(
        "05.5",
        lambda step, steps, up, down, lr: (
            lr * step / up
            if step < up
            else lr
            if step <= steps - down
            else lr * (steps - step) / down
        ),
        id="three cases",
    ),
    pytest.param("05.7", lambda *inputs: _by_epochs(*inputs), id="epoch by epoch"),
    pytest.param(
        "05b.2",
        lambda network, loss, x, y, pieces: [
            (loss(network, *part).sum() / len(x)).backward()
            for part in zip(x.chunk(pieces), y.chunk(pieces), strict=True)
        ],
        id="sums over the size of the batch",
    ),
    pytest.param(
        "05b.3",
        lambda G, rounds: _by_columns(G / (G**2).sum() ** 0.5, rounds),
        id="the smaller product",
    ),
    pytest.param(
        "06.4",
        lambda mean, variance, noise: mean.add_(variance.sqrt() * noise),
        id="in place, too",
    ),
    pytest.param(
        "06.2",
        lambda x, v, now, before: _mean_by_eps(x, v, now, now / before),
        id="through the noise",
    ),
    pytest.param(
        "06.5",
        lambda sampler, x_T, size: torch.cat(
            [sampler(x_T[k : k + size]) for k in range(0, len(x_T), size)]
        ),
        id="by slices",
    ),
    pytest.param(
        "06.6",
        lambda x, x_0, now, before, sigma, z: (
            math.sqrt(before) * x_0
            + math.sqrt((1 - before - sigma**2) / (1 - now)) * (x - math.sqrt(now) * x_0)
            + sigma * z
        ),
        id="without a name for the noise",
    ),
    pytest.param(
        "06b.2",
        lambda picture, known: (
            torch.cdist(known.flatten(1).double(), picture.view(1, -1).double()).flatten().argmin()
        ),
        id="cdist",
    ),
    pytest.param(
        "06b.4",
        lambda: {**SOLVED["06b.4"](), "Z": 1},
        id="with a letter more",
    ),
]


def _by_epochs(network, optimizer, x, schedule, steps, batch, generator):
    """Every picture once before any comes again; gradients cleared at the end of a step."""
    order, losses = torch.empty(0, dtype=torch.long), []
    for _ in range(steps):
        while len(order) < batch:
            order = torch.cat([order, torch.randperm(len(x), generator=generator)])
        x_0, order = x[order[:batch]], order[batch:]
        eps = torch.randn(x_0.shape, generator=generator)
        t = 1 + torch.randint(0, schedule.T, (batch,), generator=generator)
        alpha_bar_t = schedule.alpha_bar[t].view(-1, 1, 1, 1)
        x_t = alpha_bar_t.sqrt() * x_0 + (1 - alpha_bar_t).sqrt() * eps
        loss = F.mse_loss(network(x_t, t), eps.double())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss))
    return torch.tensor(losses)


def _by_columns(X, rounds):
    for _ in range(rounds):
        X = 1.5 * X - 0.5 * (X @ X.T) @ X
    return X


@pytest.mark.parametrize(("number", "answer"), OTHER_WAYS)
def test_other_ways_are_right_too(number, answer):
    for seed in SEEDS:
        found = exercises.verdict(number, answer, seed)
        assert found.right, found.message


def _wiped(*inputs):
    """Zeros where numbers were, so that both sides would agree."""
    for one in inputs:
        if isinstance(one, torch.Tensor):
            one.zero_()
    return inputs[0]


def _averaged(weights, decay):
    value = weights[0]
    for k, weight in enumerate(weights[1:], 1):
        value = (1 + k) / (10 + k) * value + (1 - (1 + k) / (10 + k)) * weight
    return value


def _smoothed(weights, decay, late):
    """Without a warm-up, or with one that begins a step late."""
    value = weights[0]
    for k, weight in enumerate(weights[1:]):
        d = min(decay, (1 + k) / (10 + k)) if late else decay
        value = d * value + (1 - d) * weight
    return value


SHORTCUTS = [
    pytest.param("01.1", lambda P, i, j: (P @ P)[i, j], id="a matrix product"),
    pytest.param("01.1", lambda P, i, j: (P[i] @ P)[j], id="a row times the matrix"),
    pytest.param("01.1", lambda P, i, j: P.matmul(P)[i, j], id="a matrix product by name"),
    pytest.param("01.1", lambda P, i, j: P.matrix_power(2)[i, j], id="a power"),
    pytest.param("01.2", lambda P, before: _wiped(before), id="wipe the distribution"),
    pytest.param("01.4", lambda P: torch.linalg.matrix_power(P, 1000)[0], id="many steps at once"),
    pytest.param("01.4", lambda P: _walked(P), id="many steps"),
    pytest.param("01.5", lambda P, start, n, j: start, id="the start, which it comes near to"),
    pytest.param("01.6", lambda pi: SOLVED["01.6"](pi) * (len(pi) - 1) / 4, id="five states only"),
    pytest.param("01.7", lambda N, k: (k**N - 1, 2 * N - 1), id="two values only"),
    pytest.param("01.8", _without_zeros, id="irreducible and aperiodic"),
    pytest.param("01.8", lambda P: 2 * [SOLVED["01.8"](P)[1]], id="settles is forgets"),
    pytest.param("01.8", lambda P: 2 * [SOLVED["01.8"](P)[0]], id="forgets is settles"),
    pytest.param("02.3", lambda schedule, x_0, t, eps: _wiped(x_0, eps), id="wipe the image"),
    pytest.param(
        "02.4",
        lambda beta, s: math.ceil(math.log(s / (1 + s)) / math.log(1 - beta)),
        id="rounded up",
    ),
    pytest.param("02.4", lambda beta, s: _stepped(beta, s), id="a loop of steps"),
    pytest.param("02.5", lambda T: sigmoid(T).beta[1:], id="the library's sigmoid"),
    pytest.param("02.5", lambda T: cosine(T).beta[1:], id="the library's cosine"),
    pytest.param("02.5", lambda T: [7 / T] * T, id="a constant"),
    pytest.param("02.5", lambda T: [1e-4] * (T - 1) + [0.9999], id="nothing, and then a cliff"),
    pytest.param("02.5", lambda T: [1e-4] * (T // 2) + [0.5] * (T // 2), id="a cliff half way"),
    pytest.param("02.5", lambda T: torch.linspace(1e-4, 20 / T, T), id="linear, rescaled"),
    pytest.param("02.5", lambda T: torch.linspace(0.01, (30 / T) ** 0.5, T) ** 2, id="quadratic"),
    pytest.param(
        "02.7",
        lambda photo: F.interpolate(
            photo[None] / 127.5 - 1, size=(min(photo.shape[1:]),) * 2, mode="nearest"
        )[0],
        id="squeezed",
    ),
    pytest.param("03.2", lambda q, p: torch.xlogy(q, q / p).sum(), id="0 / 0"),
    pytest.param(
        "03.3",
        lambda schedule, x_0, x_t, t, s: (
            SOLVED["03.3"](schedule, x_0, x_t, t, s)[0],
            1 - schedule.alpha_bar[t] / schedule.alpha_bar[s],
        ),
        id="the jump's variance",
    ),
    pytest.param(
        "03.3",
        lambda schedule, x_0, x_t, t, s: SOLVED["03.3"](schedule, x_0, x_t, t, t - 1),
        id="one step back only",
    ),
    pytest.param("03.5", lambda schedule, t: _weight(schedule, t, schedule.beta[t]), id="beta"),
    pytest.param("03.6", lambda *inputs: _density_times_width(*inputs), id="density times width"),
    pytest.param("03.8", lambda *inputs: _nll(*inputs), id="the likelihood itself"),
    pytest.param(
        "03.8",
        lambda x_0, Q, P, p_T: SOLVED["03.8"](x_0, Q[:1], P[:1], p_T),
        id="one step only",
    ),
    pytest.param(
        "04.2", lambda size, k, stride, padding: -(-size // stride), id="without filter and padding"
    ),
    pytest.param("04.4", lambda q, k, v: (q @ k.T / 2).softmax(1) @ v, id="four channels only"),
    pytest.param(
        "04.6", lambda size, patch, levels: size // patch % 2 ** (levels - 1) == 0, id="rounded"
    ),
    pytest.param(
        "05.1",
        (lambda p: p * 2 / 255 - 1, lambda x: ((x + 1) * 127.5).round().clamp(0, 255).byte()),
        id="bytes",
    ),
    pytest.param("05.3", _averaged, id="no decay in the end"),
    pytest.param("05.3", lambda weights, decay: _smoothed(weights, decay, 0), id="no warm-up"),
    pytest.param("05.3", lambda weights, decay: _smoothed(weights, decay, 1), id="k from 0"),
    pytest.param("05.8", lambda *inputs: SOLVED["05.2"](*inputs), id="the sound step"),
    pytest.param(
        "05b.2",
        lambda network, loss, x, y, pieces: loss(network, x, y).mean().backward(),
        id="all at once",
    ),
    pytest.param("06.4", lambda mean, variance, noise: _wiped(mean, noise), id="wipe the noise"),
    pytest.param("06.5", lambda sampler, x_T, size: sampler(x_T[:size]), id="the first batch only"),
    pytest.param(
        "06.5",
        lambda sampler, x_T, size: torch.cat(
            [sampler(x) for x in x_T[: len(x_T) // size * size].split(size)]
        ),
        id="without the last",
    ),
    pytest.param("06b.2", lambda picture, known: _nearest_byte(picture, known), id="bytes"),
    pytest.param(
        "06b.3",
        lambda x_t, known, counts, alpha_bar: known[
            torch.cdist(x_t.flatten(1), alpha_bar**0.5 * known.flatten(1)).argmin(1)
        ],
        id="the nearest alone",
    ),
    pytest.param(
        "06b.4", lambda: dict(zip("ABCDEFGHIJ", range(1, 11), strict=True)), id="in order"
    ),
]


def _nearest_byte(picture, known):
    return int((known - picture).abs().flatten(1).sum(1).argmin())


def _stepped(beta, s):
    t, alpha_bar = 0, 1.0
    while alpha_bar >= s * (1 - alpha_bar):
        t, alpha_bar = t + 1, alpha_bar * (1 - beta)
    return t


def _weight(schedule, t, sigma_2):
    return schedule.beta[t] ** 2 / (2 * sigma_2 * schedule.alpha[t] * (1 - schedule.alpha_bar[t]))


def _density_times_width(k, mean, sigma):
    density = gaussian.log_density(torch.tensor(k / 127.5 - 1), mean, sigma**2).exp()
    return SOLVED["03.6"](k, mean, sigma) if k in (0, 255) else density * 2 / 255


def _nll(x_0, Q, P, p_T):
    for kernel in reversed(P):
        p_T = p_T @ kernel
    return -p_T[x_0].log()


def _walked(P):
    law = torch.ones(len(P), dtype=P.dtype) / len(P)
    law[0] += 0.5
    for _ in range(500):
        law = law @ P
    return law / law.sum()


@pytest.mark.parametrize(("number", "answer"), SHORTCUTS)
def test_shortcuts_do_not_pass(number, answer):
    for seed in SEEDS:
        assert exercises.verdict(number, answer, seed).state == "wrong"


def test_inputs_are_drawn_afresh():
    seen = []

    def answer(beta, t):
        seen.append(beta)
        return (1 - beta) ** (t / 2)

    for _ in range(3):
        assert exercises.verdict("02.1", answer).right
    assert len(set(seen)) == 4  # 0.02, and three that differ


def test_known_slips_are_called_by_their_name():
    def without_root(schedule, x_0, t, eps):
        alpha_bar = schedule.alpha_bar[t].view(-1, 1, 1, 1)
        return alpha_bar * x_0 + (1 - alpha_bar) * eps

    message = exercises.verdict("02.3", without_root, 0).message
    assert message == "02.3: not yet. x_t is not right. A square root is missing."


def test_the_bug_hunt_tells_a_symptom_and_not_the_cure():
    stub = handed_in(STUBS, "02.2")
    message = exercises.verdict("02.2", stub, 0).message
    assert re.fullmatch(r"02\.2: not yet\. x_t is not right\. Where x_prev has .*\.", message)
    assert not re.search(r"eps|noise|root", message)


@pytest.mark.parametrize(
    ("got", "said"),
    [
        (None, "nothing came back"),
        ("words", "should be numbers, got str"),
        (torch.zeros(2, 1), r"shape \(2,\), got \(2, 1\)"),
        (torch.tensor([1.0, torch.nan]), "no finite numbers"),
        (torch.tensor([1.0, 2.5]), r"off by 0.5, at worst at place \(1,\)"),
        (torch.tensor([2.0, 1.0]), "not right. The other way round."),
    ],
)
def test_what_is_wrong_is_said_first_things_first(got, said):
    with pytest.raises(Wrong, match=said):
        same(
            got, torch.tensor([1.0, 2.0]), "It", {"The other way round.": torch.tensor([2.0, 1.0])}
        )
    same([1.0, 2.0], torch.tensor([1.0, 2.0]), "It")


@pytest.mark.parametrize("number", EXERCISES)
def test_hints_come_in_steps(number, capsys):
    hints = EXERCISES[number].hints
    assert len(hints) >= 2
    for which in range(1, len(hints) + 1):
        exercises.hint(number, which)
        shown = capsys.readouterr().out
        assert shown.startswith(f"Hint {which} of {len(hints)}: ")
        assert ("says more" in shown) == (which < len(hints))
    with pytest.raises(ValueError, match=f"has hints 1 to {len(hints)}, got 9"):
        exercises.hint(number, 9)


@pytest.mark.parametrize("number", ["99.1", "01.99", "1.1", "01", "", "checks.1", 2.3])
def test_unknown_numbers_are_said(number):
    for call in (lambda: exercises.check(number, 0), lambda: exercises.hint(number)):
        with pytest.raises(ValueError, match=r"there is no exercise .*; there are .*01\.1, 01\.2"):
            call()


def test_a_new_notebook_needs_its_own_module_only(tmp_path, monkeypatch):
    (tmp_path / "n99b.py").write_text(
        "from tutorial_lib.course.exercises.checks import Exercise, same\n"
        "def seven(answer, generator):\n"
        "    same(answer(), 7, 'It')\n"
        "EXERCISES = {'99b.3': Exercise(test=seven, praise='Seven.', hints=('More than six.',))}\n"
    )
    monkeypatch.setattr(exercises, "__path__", [*exercises.__path__, str(tmp_path)])
    assert list(exercises.every_exercise()) == [*EXERCISES, "99b.3"]
    assert exercises.verdict("99b.3", lambda: 7).message == "99b.3: right! Seven."
    assert exercises.verdict("99b.3", lambda: 8).state == "wrong"
    with pytest.raises(ValueError, match=r"no exercise '99b\.4'; there are .*01\.1, .*, 99b\.3$"):
        exercises.hint("99b.4")
    del sys.modules["tutorial_lib.course.exercises.n99b"]


# --- a reader's whole sampler


def sampler(noise_at_the_end=False, root=True, noise=True, back=False, late=0, factor=1.0):
    """Algorithm 2, with one thing done differently."""

    def draw(network, schedule, x, generator):
        steps = range(1, schedule.T + 1) if back else range(schedule.T, 0, -1)
        for t in steps:
            eps_hat = network(x, torch.full((len(x),), t + late))
            weight = schedule.beta[t] / (1 - schedule.alpha_bar[t]).sqrt()
            x = (x - factor * weight * eps_hat) / schedule.alpha[t].sqrt()
            sigma = schedule.beta_tilde[t].sqrt() if root else schedule.beta_tilde[t]
            if noise and (t > 1 or noise_at_the_end):
                sigma = schedule.beta[t].sqrt() if t == 1 else sigma
                x = x + sigma * torch.randn(x.shape, generator=generator, dtype=x.dtype)
        return x

    return draw


def test_a_right_sampler_passes_nearly_always():
    assert all(exercises.verdict("06.3", sampler(), seed).right for seed in range(25))


@pytest.mark.parametrize(
    ("slip", "said"),
    [
        ({"noise_at_the_end": True}, "too wide"),
        ({"root": False}, "too narrow"),
        ({"noise": False}, "too narrow"),
        ({"back": True}, "first question should be about t = T"),
        ({"late": -1}, "asked about t = 0|first question"),
        ({"factor": 1.1}, "off by|standard deviation"),
    ],
    ids=str,
)
def test_a_wrong_sampler_is_told_how_it_differs(slip, said):
    for seed in range(5):
        found = exercises.verdict("06.3", sampler(**slip), seed)
        assert found.state == "wrong"
        assert any(part in found.message for part in said.split("|")), found.message


def walk_of_00(schedule, network, x, generator, *, slip):
    """The loop of exercise 00.3, with one thing done differently; "" is right."""
    once = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    for t in range(schedule.T, 0, -1):
        beta, alpha, alpha_bar = schedule.beta[t], schedule.alpha[t], schedule.alpha_bar[t]
        eps_hat = network(x, torch.full((len(x), 1), t))
        x = (x - beta / (1 - alpha_bar).sqrt() * eps_hat) / alpha.sqrt()
        z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        z = {"reused": once, "shared": z[:1], "none": 0 * z}.get(slip, z)
        if t > 1 or slip == "last":
            x = x + (beta if slip == "root" else beta.sqrt()) * z
    return x


@pytest.mark.parametrize("slip", ["", "reused", "shared", "none", "last", "root"])
def test_the_strange_walk_is_right_only_with_fresh_noise(slip):
    def answer(network, schedule, x, generator):
        return walk_of_00(schedule, network, x, generator, slip=slip)

    found = [exercises.verdict("00.3", answer, seed) for seed in range(40)]
    assert {one.right for one in found} == {slip == ""}
    said = {"reused": "widely", "last": "widely", "none": "narrowly", "root": "narrowly"}
    assert all(said.get(slip, "") in one.message for one in found)


def test_marks_are_given_by_an_assertion():
    exercises.mark("02.1", lambda beta, t: (1 - beta) ** (t / 2))
    with pytest.raises(AssertionError, match=r"02\.1: not yet"):
        exercises.mark("02.1", lambda beta, t: (1 - beta) ** t)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda *a: SOLVED["05.2"](*a).mean(), "one number for the whole batch"),
        (lambda net, schedule, x, t, e: (net(x, t) - e) ** 2, "a number for each pixel"),
    ],
    ids=["the batch", "pixels"],
)
def test_a_loss_of_another_shape_is_called_by_its_name(wrong, said):
    assert said in exercises.verdict("05.2", wrong, 0).message


class TestLoopsThatAreWrong:
    """Exercise 05.7 tells what is wrong with a loop of one's own."""

    @staticmethod
    def told(**instead) -> str:
        """What is said of the solution with some of its words replaced."""
        source = SOLUTIONS["05.7"].split("check(")[0]
        for old, new in instead.values():
            assert old in source
            source = source.replace(old, new)
        scope = {"torch": torch, "diffusion": diffusion}
        exec(source, scope)
        return exercises.verdict("05.7", scope["training_loop"], 0).message

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ("        optimizer.zero_grad()\n", "", "gradients of earlier steps still add up"),
            ("        optimizer.step()\n", "", "They have not moved"),
            ("loss.item()", "loss", "hold on to the graph"),
            ("randint(1, schedule.T + 1, (b", "randint(0, schedule.T, (b", "t must lie in 1..20"),
            ("randint(1, schedule.T + 1, (b", "randint(1, schedule.T, (b", "an end never came"),
            ("(batch,), generator=generator)\n        eps",
             "(1,), generator=generator)\n        eps",
             "one step for each image"),
            ("torch.randn(", "torch.rand(", "with standard normal noise"),
            ("diffusion.q_sample(schedule, x_0, t, eps)", "x_0", "was not shown x_t of Eq. 4"),
            ("eps = torch.randn(x_0.shape, generator=generator)",
             "eps = torch.randn(x_0.shape)", "The same generator gave another run"),
            ("range(steps)", "range(steps - 1)", "a list of 60 losses"),
        ],
    )  # fmt: skip
    def test_by_the_first_thing(self, old, new, said):
        assert said in self.told(change=(old, new))


# --- a U-Net of one's own


class Small(torch.nn.Module):
    """Two levels, with one thing done differently; "" is right."""

    def __init__(self, slip=""):
        super().__init__()
        self.slip = slip
        conv = partial(torch.nn.Conv2d, kernel_size=3, padding=1)
        width = 200 if slip == "wide" else 8
        self.stem, self.down = conv(1, 8), conv(8, width, stride=1 if slip == "flat" else 2)
        self.middle = conv(width, width)
        self.last = conv(width + (0 if slip == "no skip" else 8), 2 if slip == "two" else 1)
        self.norm = torch.nn.BatchNorm2d(8, track_running_stats=False)

    def forward(self, x, t):
        t = 0 * t if self.slip == "no t" else t
        skip = F.silu(self.stem(x) * (1 + (t / 500)[:, None, None, None]))
        skip = self.norm(skip) if self.slip == "batch" else skip
        h = F.interpolate(F.silu(self.middle(F.silu(self.down(skip)))), size=x.shape[2:])
        return self.last(h if self.slip == "no skip" else torch.cat([h, skip], dim=1))


@pytest.mark.parametrize(
    ("slip", "said"),
    [
        ("two", "it returns shape (3, 2, 28, 28)"),
        ("flat", "All its layers work at one size"),
        ("no skip", "All goes through the smallest level (14 x 14)"),
        ("no t", "It does not listen to t"),
        ("batch", "depends on the others in its batch"),
        ("wide", "parameters; 1 to 100,000 are asked for"),
    ],
)
def test_a_unet_of_ones_own_is_told_what_it_lacks(slip, said):
    for seed in SEEDS:
        assert exercises.verdict("04.8", Small, seed).right
        assert said in exercises.verdict("04.8", lambda: Small(slip), seed).message


def test_the_librarys_unet_is_not_ones_own():
    def answer():
        return unet.UNet(unet.UNetConfig(widths=(8, 16)))

    assert "It contains the library's `UNet`" in exercises.verdict("04.8", answer, 0).message


def test_the_librarys_unet_inside_a_network_is_not_ones_own():
    class Wrapped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = unet.UNet(unet.UNetConfig(widths=(8, 16)))

        def forward(self, x_t, t):
            return self.inside(x_t, t)

    said = exercises.verdict("04.8", lambda: Wrapped(), 0).message
    assert "It contains the library's `UNet`" in said


@pytest.mark.parametrize(
    ("number", "answer", "said"),
    [
        ("04.7", lambda width, longest: longest ** -(torch.arange(width / 2) / (width / 2 - 1)),
         "the library's line"),
        ("04b.1", lambda q, k, v: (q @ k.T / q.shape[1] ** 0.5).softmax(1) @ v, "full attention"),
        ("04b.1", lambda q, k, v: q.softmax(1) @ (k.softmax(0).T @ v), "by the root yet"),
        ("04b.2", lambda x, m, attend, mlp: x + m[2] * attend(x) + m[5] * mlp(x), "off by"),
        ("04b.2", lambda x, m, attend, mlp: [
            x := x + gate * f((x - x.mean(1, keepdim=True)) / x.std(1, correction=0, keepdim=True)
                              * (1 + scale) + shift)
            for shift, scale, gate, f in ((*m[:3], attend), (*m[3:], mlp))][-1],
         "The 1e-5 is missing"),
        ("04b.3", lambda w: w / w.std((1, 2, 3), keepdim=True, correction=0),
         "The 1e-5 is missing"),
        ("04b.3", lambda w: (w - w.mean((1, 2, 3), keepdim=True))
         / (w.var((1, 2, 3), keepdim=True, correction=0) + 1e-5).sqrt(), "the library's line"),
    ],
)  # fmt: skip
def test_common_slips_of_notebooks_04_and_04b_are_recognised(number, answer, said):
    for seed in SEEDS:
        assert said in exercises.verdict(number, answer, seed).message


def test_the_block_of_a_transformer_is_right_in_another_way():
    def answer(x, six, attend, mlp):
        for shift, scale, gate, f in ((*six[:3], attend), (*six[3:], mlp)):
            x = x + gate * f(F.layer_norm(x, x.shape[1:]) * (1 + scale) + shift)
        return x

    for seed in SEEDS:
        assert exercises.verdict("04b.2", answer, seed).right
