"""Exercises: solutions pass, stubs and wrong answers fail kindly; a constant or the library gets
nobody through.
"""

import ast
import math
import sys
import textwrap
from functools import partial
from importlib import import_module

import editions
import nbformat
import pytest
import torch
from torch.nn import functional as F

from tutorial_lib import data, diffusion, gaussian, markov, sample
from tutorial_lib.course import exercises
from tutorial_lib.course.exercises.checks import Wrong, same
from tutorial_lib.denoise import denoiser
from tutorial_lib.nets import blocks
from tutorial_lib.schedule import NoiseSchedule, cosine, from_betas, same_t, sigmoid

EXERCISES = exercises.every_exercise()
PATHS = [path for path in editions.notebooks(part=1)]
SEEDS = range(8)


def cells(notebook) -> dict[str, str]:
    return {number: cell.source for number, cell in editions.exercises(notebook).items()}


STUBS, SOLUTIONS, IMPORTS = {}, {}, {}
for path in PATHS:
    answers = editions.answers_to(path)
    STUBS |= cells(nbformat.read(path, as_version=4))
    SOLUTIONS |= cells(answers)
    IMPORTS[path.name[:2]] = next(cell.source for cell in answers.cells if cell.cell_type == "code")


def handed_in(source: dict[str, str], number: str) -> object:
    """What the cell of an exercise hands to `check`; cells before it in the same notebook run
    first.
    """
    answers = {}
    scope: dict = {"torch": torch}
    exec(IMPORTS[number[:2]], scope)
    scope["check"] = lambda which, answer: answers.update({which: answer})
    for which in source:
        if which[:2] == number[:2] and which <= number:
            exec(compile(source[which], which, "exec"), scope)
    return answers[number]


SOLVED = {number: handed_in(SOLUTIONS, number) for number in SOLUTIONS}


def test_every_exercise_has_a_statement_a_check_and_a_solution():
    assert STUBS.keys() == SOLUTIONS.keys() == EXERCISES.keys()
    for path in PATHS:
        assert sum(number[:2] == path.name[:2] for number in EXERCISES) >= 5


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


@pytest.mark.parametrize("number", EXERCISES)
def test_an_answer_that_stops_is_told_where(number):
    def answer(*_):
        return 1 / 0

    found = exercises.verdict(number, (answer, answer) if number == "05.1" else answer)
    assert found.state == "wrong"
    assert "ZeroDivisionError: division by zero in the line `return 1 / 0`" in found.message


def test_it_is_told_in_the_line_of_the_answer_not_in_that_of_the_library():
    def answer(schedule, x_0, t, eps):
        return schedule.at(schedule.alpha_bar, 5, x_0) * eps

    message = exercises.verdict("02.3", answer).message
    assert "It stops with TypeError: t must be a tensor of integers" in message
    assert message.endswith(" in the line `return schedule.at(schedule.alpha_bar, 5, x_0) * eps`.")


CHEATS = {
    "01.1": lambda P, i, j: markov.laws(P, torch.eye(len(P), dtype=P.dtype)[i], 2)[2, j],
    "01.2": lambda P, law: markov.laws(P, law, 1)[1],
    "01.4": lambda P: markov.stationary(P),
    "01.5": lambda P, law: markov.reverse(P, law),
    "02.2": lambda x, beta, eps: diffusion.q_step(from_betas([beta]), x, same_t(1, len(x)), eps),
    "02.3": lambda schedule, x_0, t, eps: diffusion.q_sample(schedule, x_0, t, eps),
    "02.5": lambda T: cosine(T).beta[1:],
    "03.1": lambda m, n, v: gaussian.kl(*map(torch.tensor, (m, v, n, v))),
    "03.4": lambda beta: from_betas(beta).beta_tilde[1:],
    "04.1": lambda c_in, c_out, k: sum(
        p.numel() for p in torch.nn.Conv2d(c_in, c_out, k).parameters()
    ),
    "04.2": lambda size, k, stride, padding: len(
        F.conv2d(torch.ones(1, 1, size, size), torch.ones(1, 1, k, k), None, stride, padding)[0, 0]
    ),
    "04.3": lambda t, width, longest: blocks.time_embedding(t, width, longest),
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
    ):
        message = exercises.verdict("01.1", answer, 0).message
        assert message.startswith("01.1: not yet. It multiplies matrices, which is what this")


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
LIBRARY += "nets.blocks nets.unet engine.rates beyond.solvers"
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


def _by_roots_of_numbers(x, v, alpha_bar):
    signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    return signal * x - noise * v, noise * x + signal * v


def _row_by_column(P, i, j):
    row, column = P[i], P[:, j]
    return row @ column


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
    pytest.param("01.6", lambda pi: SOLVED["01.6"](pi).tolist(), id="a list of rows"),
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
    pytest.param("02.5", _logistic, id="PyTorch's sigmoid"),
    pytest.param("03.3", lambda *inputs: list(SOLVED["03.3"](*inputs)), id="a list of two"),
    pytest.param("03.6", lambda k, m, s: float(SOLVED["03.6"](k, m, s)), id="a plain number"),
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
        "06.4",
        lambda mean, variance, noise: mean.add_(variance.sqrt() * noise),
        id="in place, too",
    ),
    pytest.param(
        "06.6",
        lambda x, eps, now, before: (
            before.sqrt() * (x - (1 - now).sqrt() * eps) / now.sqrt() + (1 - before).sqrt() * eps
        ),
        id="roots of both",
    ),
]


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


SHORTCUTS = [
    pytest.param("01.1", lambda P, i, j: (P @ P)[i, j], id="a matrix product"),
    pytest.param("01.1", lambda P, i, j: (P[i] @ P)[j], id="a row times the matrix"),
    pytest.param("01.1", lambda P, i, j: P.matmul(P)[i, j], id="a matrix product by name"),
    pytest.param("01.1", lambda P, i, j: P.matrix_power(2)[i, j], id="a power"),
    pytest.param("01.2", lambda P, law: _wiped(law), id="wipe the law"),
    pytest.param("01.4", lambda P: torch.linalg.matrix_power(P, 1000)[0], id="many steps at once"),
    pytest.param("01.4", lambda P: _walked(P), id="many steps"),
    pytest.param("01.6", lambda pi: SOLVED["01.6"](pi) * (len(pi) - 1) / 4, id="five states only"),
    pytest.param("02.3", lambda schedule, x_0, t, eps: _wiped(x_0, eps), id="wipe the image"),
    pytest.param(
        "02.4",
        lambda beta, s: math.ceil(math.log(s / (1 + s)) / math.log(1 - beta)),
        id="not below yet",
    ),
    pytest.param("02.5", lambda T: sigmoid(T).beta[1:], id="the library's sigmoid"),
    pytest.param("03.2", lambda q, p: torch.xlogy(q, q / p).sum(), id="0 / 0"),
    pytest.param(
        "03.3",
        lambda schedule, x_0, x_t, t: (
            SOLVED["03.3"](schedule, x_0, x_t, t)[0],
            schedule.beta[t],
        ),
        id="beta",
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
    pytest.param("06.4", lambda mean, variance, noise: _wiped(mean, noise), id="wipe the noise"),
]


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
        with pytest.raises(ValueError, match=r"there is no exercise .*; there are 01\.1, 01\.2"):
            call()


def test_a_new_notebook_needs_its_own_module_only(tmp_path, monkeypatch):
    (tmp_path / "n07.py").write_text(
        "from tutorial_lib.course.exercises.checks import Exercise, same\n"
        "def seven(answer, generator):\n"
        "    same(answer(), 7, 'It')\n"
        "EXERCISES = {'07.3': Exercise(test=seven, praise='Seven.', hints=('More than six.',))}\n"
    )
    monkeypatch.setattr(exercises, "__path__", [*exercises.__path__, str(tmp_path)])
    assert list(exercises.every_exercise()) == [*EXERCISES, "07.3"]
    assert exercises.verdict("07.3", lambda: 7).message == "07.3: right! Seven."
    assert exercises.verdict("07.3", lambda: 8).state == "wrong"
    with pytest.raises(ValueError, match=r"no exercise '07\.4'; there are 01\.1, .* 06\.6, 07\.3$"):
        exercises.hint("07.4")
    del sys.modules["tutorial_lib.course.exercises.n07"]


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


def _late(T):
    return torch.tensor([1e-4] * (T // 4) + [0.3] * (T - T // 4))


@pytest.mark.parametrize(
    ("betas", "said"),
    [
        (lambda T: torch.linspace(1e-4, 0.02, T), "does not end in noise: for T = 100"),
        (lambda T: torch.full((T,), 0.5), "The very first step destroys"),
        (lambda T: torch.linspace(0.01, 1.2, T), "between 0 and 1"),
        (lambda T: torch.linspace(0.001, 0.2, T + 1), "should return 100 numbers"),
        (_late, "Half of the steps are wasted"),
    ],
)
def test_a_bad_schedule_is_told_why(betas, said):
    assert said in exercises.verdict("02.5", betas).message


def test_marks_are_given_by_an_assertion():
    exercises.mark("02.1", lambda beta, t: (1 - beta) ** (t / 2))
    with pytest.raises(AssertionError, match=r"02\.1: not yet"):
        exercises.mark("02.1", lambda beta, t: (1 - beta) ** t)
