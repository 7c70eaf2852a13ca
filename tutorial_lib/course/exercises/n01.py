"""Checks of the exercises of notebook 01: Markov chains."""

import torch
from torch import Tensor

from tutorial_lib import markov
from tutorial_lib.course.exercises.checks import Wrong, between, exercise, same, some_chain, true

POWERS = (
    Tensor.matrix_power,
    torch.matrix_power,
    torch.linalg.matrix_power,
    torch.linalg.multi_dot,
)
PRODUCTS = (
    Tensor.__matmul__,
    Tensor.matmul,
    Tensor.mm,
    Tensor.mv,
    torch.matmul,
    torch.mm,
    torch.mv,
    torch.einsum,
)


@exercise(
    "01.1",
    "The sum over the state in between is one entry of the matrix product P P.",
    "Where can the chain be after the first of the two steps? Any of these ways leads there.",
    "For one state k in between, the two steps have probability P[i, k] * P[k, j]. The ways exclude each other.",
    forbidden=(markov.laws, *POWERS, *PRODUCTS),
)
def two_steps(answer, z):
    """(P, i, j) -> the probability of going from i to j in exactly two steps."""
    P = some_chain(z)
    for i, j in ((0, 1), (2, 2), (3, 0)):
        slips = {
            "That is the probability of a single step.": P[i, j],
            "Are the indices the right way round?": (P @ P)[j, i],
        }
        same(answer(P, i, j), (P @ P)[i, j], f"The probability from state {i} to state {j}", slips)


@exercise(
    "01.2",
    "A law is a row, and it multiplies from the left. The columns of P need not sum to 1; its rows do.",
    "Does what comes out still sum to 1? Try it with P from above.",
    "The probability of arriving in j is the sum over i of law[i] * P[i, j]: i runs down a column of P.",
    forbidden=(markov.laws,),
)
def next_law(answer, z):
    """(P, law) -> the law one step later."""
    P, law = some_chain(z), between(0, 1, z, 4)
    law = law / law.sum()
    same(
        answer(P, law),
        law @ P,
        "The next law",
        {"It does not sum to 1: the sum runs along rows.": P @ law},
    )


@exercise(
    "01.3",
    "The rarer a state is left, the more time is spent in it, and only the ratio of the two rates counts.",
    "In the long run, as many steps lead from 0 to 1 as from 1 to 0.",
    "So pi_0 * a = pi_1 * b. And pi_0 + pi_1 = 1.",
)
def two_states(answer, z):
    """(a, b) -> (pi_0, pi_1) of the chain that leaves state 0 with probability a and state 1 with
    probability b.
    """
    for a, b in between(0.05, 0.95, z, 3, 2).tolist():
        expected = [b / (a + b), a / (a + b)]
        same(
            answer(a, b),
            expected,
            f"The stationary law for a = {a:.2f}, b = {b:.2f}",
            {"Which state is left more often?": expected[::-1], "Do the two sum to 1?": [b, a]},
        )


@exercise(
    "01.4",
    "One of the equations is superfluous, because each row of P sums to 1; the normalisation takes its place.",
    "pi = pi P are S equations for S unknowns, but they only say pi up to a factor.",
    "Write them as (P^T - I) pi = 0, and replace the last equation by: all entries of pi sum to 1.",
    "A = P.T - torch.eye(S); A[-1] = 1; the right side is zero but for a last entry 1, with dtype=P.dtype like P; "
    "torch.linalg.solve.",
    forbidden=(markov.stationary, torch.linalg.eig, torch.linalg.eigh, markov.laws, *POWERS),
)
def stationary(answer, z):
    """(P) -> the stationary law, by solving linear equations."""
    back_and_forth = torch.zeros(
        4, 4, dtype=torch.float64
    )  # never settles, whatever one starts with
    back_and_forth[:2, 2:], back_and_forth[2:, :2] = some_chain(z, 2), some_chain(z, 2)
    of_halves = "4 states, of which each step leads from one half to the other"
    for P, said in (
        (some_chain(z, 2), "2 states"),
        (some_chain(z, 5), "5 states"),
        (back_and_forth, of_halves),
    ):
        size, law = len(P), markov.stationary(P)
        same(
            answer(P),
            law,
            f"The law for {said}",
            {
                "It is stationary, but does not sum to 1.": law / law[-1],
                "It is an eigenvector of P, not of P^T.": torch.full((size,), 1 / size),
            },
        )


@exercise(
    "01.5",
    "The way back depends on where the chain was. That is why a network will have to learn it.",
    "Bayes: P(before = i | after = j) = P(before = i and after = j) / P(after = j).",
    "The joint probability is law[i] * P[i, j]. Divide each column by its sum; then rows and columns change places.",
    forbidden=(markov.reverse,),
)
def reverse(answer, z):
    """(P, law) -> the matrix of the way back, R[j, i]."""
    P, law = some_chain(z), between(0.1, 1, z, 4)
    law = law / law.sum()
    R = markov.reverse(P, law)
    same(
        answer(P, law),
        R,
        "The way back",
        {
            "Rows and columns are swapped: R[j, i] starts from j.": R.T,
            "That is P read backwards, without Bayes.": P.T,
            "Each row must be divided by its sum.": (law[:, None] * P).T,
            "That is P again: what has to sum to 1, seen from the state after the step?": P,
        },
    )


@exercise(
    "01.6",
    "Any law you like, from a rule that only ever compares two probabilities. A common factor would cancel.",
    "First where a proposal leads: from i to each other state with probability 1 / (S - 1). It is accepted with "
    "probability min(1, pi_j / pi_i).",
    "Off the diagonal, P[i, j] = min(1, pi_j / pi_i) / (S - 1). What is refused stays: the diagonal takes what is left "
    "of each row.",
)
def made_to_measure(answer, z):
    """(pi) -> the Metropolis chain with uniform proposals that has this stationary law."""
    for size in (3, 5):
        _metropolis(answer, between(0.1, 1, z, size))


def _metropolis(answer, pi: Tensor) -> None:
    pi, size = pi / pi.sum(), len(pi)
    P = answer(pi)
    true(P is not None, "Nothing came back. Is a `return` missing?")
    shape = "It should return a matrix, (S, S), one row for each state."
    try:
        P = torch.as_tensor(P, dtype=torch.float64)
    except (TypeError, ValueError):
        raise Wrong(shape) from None
    true(P.shape == (size, size), shape)
    true((P >= 0).all(), "There is a negative probability.")
    rows = P.sum(1)
    true(
        torch.allclose(rows, torch.ones_like(rows)),
        "Not every row sums to 1: what happens to refused proposals?",
    )
    true(torch.allclose(pi @ P, pi, atol=1e-6), "The law pi is not stationary: pi P is not pi.")
    flow = pi[:, None] * P
    true(
        torch.allclose(flow, flow.T, atol=1e-6),
        "pi is stationary, but there is no detailed balance.",
    )
    ratio = (pi[None] / pi[:, None]).clamp(max=1) / (size - 1)
    away = ~torch.eye(size, dtype=torch.bool)
    true(
        torch.allclose(P[away], ratio[away], atol=1e-6),
        "A fine chain for pi, but not that of Metropolis with uniform proposals.",
    )
