"""Each row of docs/errata.md is reproduced in the errata lab, with its proof, and so is each box of
a notebook.
"""

import re
import symtable
from typing import NamedTuple

import equations
import execute
import mutants
import nbformat
import pytest
import torch
from conftest import ROOT
from einops import rearrange
from test_mutations import break_library

from tutorial_lib import diffusion, gaussian, markov, sample, train
from tutorial_lib.beyond import guidance, langevin, solvers, variational
from tutorial_lib.course.exercises import n19
from tutorial_lib.nets import blocks
from tutorial_lib.schedule import linear, same_t

BOX = "You may meet this elsewhere."
LAB = "19"


class Row(NamedTuple):
    """A slip: its name, the notebook of its topic, whether it has a box there, its words in both
    places, what is correct, and the equations it is about.
    """

    name: str
    topic: str
    boxed: bool
    slip: str
    correct: str
    about: str


def read(line: str) -> Row:
    """A line of the table."""
    name, topic, slip, correct, about = (
        field.strip() for field in line.removeprefix("| ").removesuffix("|").split("| ")
    )
    name = re.fullmatch(r"\[([a-z0-9-]+)\]\(\.\./notebooks/19_errata_lab\.ipynb#\1\)", name)[1]
    link = r"\[(\w+)\]\(\.\./notebooks/\1_\w+\.ipynb\)(, box)?"
    number, boxed = re.fullmatch(link, topic).groups()
    return Row(name, number, bool(boxed), slip.strip('"'), correct, about)


PAGE = (ROOT / "docs" / "errata.md").read_text(encoding="utf-8")
HEAD, *TABLE = [line for line in PAGE.splitlines() if line.startswith("| ")]
ROWS = [read(line) for line in TABLE]
NOTEBOOKS = {
    execute.number(path): nbformat.read(path, as_version=4).cells for path in execute.notebooks()
}


def sections() -> dict[str, tuple[str, str, list]]:
    """The slips of the lab in order: name -> number of the section, words, code cells."""
    found, number, name = {}, "", ""
    for cell in NOTEBOOKS[LAB]:
        if cell.cell_type == "code":
            if name:
                found[name][2].append(cell)
            continue
        for part in re.split(r"(?m)^(?=##)", cell.source):
            if part.startswith("### "):
                name = part.splitlines()[0].removeprefix("### ")
                assert name not in found, f"{name} stands there twice"
                found[name] = (number, part, [])
            elif part.startswith("## "):
                name = ""
                number = part.split()[1]
    return found


LAB_SLIPS = sections()


def proves(cell) -> bool:
    """Whether a code cell asserts something, or prints a number or an error, as nbval compares."""
    if "nbval-ignore-output" in cell.metadata.get("tags", []):
        return "assert" in cell.source
    printed = "".join(output.get("text", "") for output in cell.outputs)
    return "assert" in cell.source or bool(re.search(r"\d|Error:", printed))


def boxes(number: str) -> list[tuple[int, str]]:
    """Every box of a notebook up to the end of its paragraph, with the place of its cell."""
    found = re.compile(rf"> \*\*{re.escape(BOX)}\*\*.*")
    return [
        (place, box)
        for place, cell in enumerate(NOTEBOOKS[number])
        if cell.cell_type == "markdown"
        for box in found.findall(cell.source)
    ]


def beside(number: str, place: int) -> list:
    """The code cell before the Markdown cell of a box, and those from there to the next heading or
    box.
    """
    cells = NOTEBOOKS[number]
    found = [cells[place - 1]]
    for cell in cells[place + 1 :]:
        if cell.cell_type == "markdown" and (
            BOX in cell.source or re.search("(?m)^#", cell.source)
        ):
            break
        found.append(cell)
    return [cell for cell in found if cell.cell_type == "code"]


def test_the_lab_shows_the_slips_of_the_page_in_its_order():
    assert [row.name for row in ROWS] == list(LAB_SLIPS)
    topics = {name: f"{int(number[3:]):02}" for name, (number, *_) in LAB_SLIPS.items()}
    assert topics == {row.name: row.topic for row in ROWS}


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_each_row_has_its_words_and_its_proof_in_the_lab(row):
    assert row.correct
    _, words, cells = LAB_SLIPS[row.name]
    assert row.slip in words
    assert "**One may read:**" in words and "**Correct:**" in words
    assert any(map(proves, cells)), f"no cell beside {row.name} asserts it or prints a number"


def bound(cell) -> set[str]:
    """The names that a code cell makes, outside its functions."""
    names = symtable.symtable(cell.source, cell.id, "exec").get_symbols()
    return {name.get_name() for name in names if name.is_assigned() or name.is_imported()}


def test_no_slip_changes_what_all_share():
    """One may begin anywhere, and go back: what the first two cells make stays as it is."""
    first, second, *others = [cell for cell in NOTEBOOKS[LAB] if cell.cell_type == "code"]
    shared = bound(first) | bound(second)
    assert {"seeded", "cosine", "x_0"} <= shared
    assert not {cell.id: both for cell in others if (both := bound(cell) & shared)}


def test_the_contents_of_the_lab_link_each_slip():
    links = re.findall(r"\[([a-z0-9-]+)\]\(#\1\)", NOTEBOOKS[LAB][0].source)
    assert links == list(LAB_SLIPS)


@pytest.mark.parametrize("row", [row for row in ROWS if row.boxed], ids=lambda row: row.name)
def test_a_row_that_has_a_box_has_its_proof_beside_that_too(row):
    (place,) = [place for place, box in boxes(row.topic) if row.slip in box]
    assert any(map(proves, beside(row.topic, place))), f"nothing beside {row.name} proves it"


@pytest.mark.parametrize("number", sorted(NOTEBOOKS))
def test_each_box_is_listed(number):
    known = [row for row in ROWS if row.topic == number and row.boxed]
    for _, box in boxes(number):
        assert any(row.slip in box for row in known), f"not in docs/errata.md: {box[:100]}"


@pytest.mark.parametrize("number", sorted(NOTEBOOKS))
def test_a_notebook_has_two_boxes_at_most(number):
    assert len(boxes(number)) <= 2


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_the_equations_a_slip_is_about_are_known(row):
    about = set(row.about.split(", ")) - {""}
    assert about <= equations.EQUATIONS.keys(), "not on the page of equations"


def test_names_are_plain_and_each_is_there_once():
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names) > 40
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", name) for name in names)


# --- the suspects of the lab's exercises are slips of the library's functions


@pytest.fixture
def drawn(generator):
    """Three small pictures, noise and steps, and a schedule."""
    x_0, eps = torch.randn(2, 3, 1, 4, 4, generator=generator, dtype=torch.float64)
    return linear(100, rescaled=True), x_0, torch.tensor([5, 40, 100]), eps


def test_suspect_of_the_chain(monkeypatch):
    break_library(monkeypatch, "markov.distributions", mutants.swap_operands(0))
    P = markov.transition_matrix([[0.5, 0.5], [0.1, 0.9]])
    start = torch.tensor([0.3, 0.7], dtype=torch.float64)
    torch.testing.assert_close(n19.suspect("19.1")(P, start), markov.distributions(P, start, 1)[1])


@pytest.mark.filterwarnings("ignore")  # what is broken does not end in noise
def test_suspect_of_the_jump(monkeypatch, drawn):
    slip = mutants.drop_call(0, name="cumprod")
    break_library(monkeypatch, "schedule.NoiseSchedule.alpha_bar", slip)
    _, x_0, _, eps = drawn
    broken = linear(100, rescaled=True)
    for t in (1, 50, 100):
        expected = diffusion.q_sample(broken, x_0, same_t(t, 3), eps)
        torch.testing.assert_close(n19.suspect("19.2")(broken, x_0, t, eps), expected)


def test_suspect_of_the_divergence():
    """`gaussian.kl` with its arguments exchanged, on tables fine enough to stand for Gaussians."""
    line = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    q, p = (torch.tensor(numbers, dtype=torch.float64) for numbers in ((0.3, 1.0), (1.1, 2.0)))
    tables = [gaussian.log_density(line, *numbers.tolist()).softmax(0) for numbers in (q, p)]
    torch.testing.assert_close(n19.suspect("19.3")(*tables), gaussian.kl(*p, *q))


def test_suspect_of_the_fold(monkeypatch, drawn):
    break_library(monkeypatch, "nets.blocks.Down.forward", mutants.rotate_axes(0))
    down = blocks.Down(1, 4)
    down.mix.weight.data = rearrange(torch.eye(4), "o i -> o i 1 1")
    down.mix.bias.data.zero_()
    x = drawn[1].float()
    torch.testing.assert_close(n19.suspect("19.4")(x), down(x).detach())


def test_suspect_of_the_training_step(monkeypatch, drawn):
    break_library(monkeypatch, "train.training_step", mutants.other_name(0, x_t="x_0"))

    def network(x_t, t):
        return 0.5 * x_t + t.view(-1, 1, 1, 1) / 100

    expected = train.training_step(network, *drawn, target="eps")
    torch.testing.assert_close(n19.suspect("19.5")(network, *drawn), expected)


def test_suspect_of_the_last_line(monkeypatch, drawn):
    break_library(monkeypatch, "sample.ddpm", mutants.other_boundary(0))
    schedule, x_T, _, _ = drawn

    def denoise(x, t):
        return 0.5 * x

    generator = torch.Generator().manual_seed(1)
    frames = list(sample.ddpm(denoise, schedule, x_T, generator=generator, variance="beta"))
    generator, x = torch.Generator().manual_seed(1), x_T
    sigma = schedule.beta.sqrt().tolist()
    for i in range(schedule.T, 0, -1):
        mean, _ = diffusion.q_posterior(schedule, denoise(x, None), x, same_t(i, 3))
        z = gaussian.noise_like(x, generator)
        x = n19.suspect("19.6")(mean, sigma[i], z, i)
        torch.testing.assert_close(frames[schedule.T - i + 1].x, x)


def test_suspect_of_the_solver(monkeypatch, drawn):
    break_library(monkeypatch, "beyond.solvers.dpm_solver", mutants.drop_term(20))
    schedule, x_T, _, _ = drawn
    tau = [0, 20, 50, 80, 100]

    def denoise(x, t):
        return x.sin() * (1 - t.view(-1, 1, 1, 1) / 200)

    frames = solvers.dpm_solver(denoise, schedule, x_T, steps=torch.tensor(tau))
    alpha_bar = schedule.alpha_bar[tau]
    a, b = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    lam, x, before = (a / b).log().tolist(), next(frames).x, None
    for i, frame in zip((4, 3, 2, 1), frames, strict=True):
        guess = ahead = denoise(x, same_t(tau[i], 3))
        if i in (3, 2):
            lengths = (lam[i - 1] - lam[i], lam[i] - lam[i + 1])
            ahead = n19.suspect("19.7")(guess, before, *lengths)
        x = b[i - 1] / b[i] * x + (a[i - 1] - b[i - 1] / b[i] * a[i]) * ahead
        before = guess
        torch.testing.assert_close(frame.x, x)


def test_suspect_of_the_bound(monkeypatch, drawn):
    break_library(monkeypatch, "beyond.variational.diffusion_nats", mutants.flip_sign(0))
    _, x_0, _, x_0_hat = drawn
    gamma = torch.tensor([-6.0, 0.0, 4.0], dtype=torch.float64)
    expected = variational.diffusion_nats(x_0, x_0_hat, gamma)
    error = (x_0 - x_0_hat).square().sum((1, 2, 3))
    torch.testing.assert_close(n19.suspect("19.8")(error, gamma), expected)


def test_suspect_of_the_score(monkeypatch, generator):
    break_library(monkeypatch, "beyond.langevin.score_of", mutants.drop_term(4))
    x = torch.randn(3, 2, generator=generator, dtype=torch.float64)
    sigma = torch.full((3,), 0.3, dtype=torch.float64)
    expected = langevin.score_of(lambda x, sigma: 0.5 * x.sin())(x, sigma)
    torch.testing.assert_close(n19.suspect("19.9")(x, 0.5 * x.sin(), 0.3), expected)


def test_suspect_of_guidance(monkeypatch, drawn):
    break_library(monkeypatch, "beyond.guidance.guided", mutants.swap_operands(0))
    _, x_t, t, _ = drawn
    y = torch.tensor([0, 4, 7])

    def denoise(x_t, t, y):
        return 0.5 * x_t + y.view(-1, 1, 1, 1) / 10

    expected = guidance.guided(denoise, y, 2.0, clip=False)(x_t, t)
    guesses = denoise(x_t, t, torch.full_like(y, -1)), denoise(x_t, t, y)
    torch.testing.assert_close(n19.suspect("19.10")(*guesses, 2.0), expected)


def test_there_is_no_other_suspect():
    assert n19.SUSPECTS.keys() == n19.EXERCISES.keys()
    with pytest.raises(ValueError, match=r"no suspect '06\.1'; there are 19\.1, 19\.2"):
        n19.suspect("06.1")
