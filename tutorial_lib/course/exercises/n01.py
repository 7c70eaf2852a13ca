"""Checks of the exercises of notebook 01: Markov chains."""

import torch
from torch import Tensor

from tutorial_lib import markov
from tutorial_lib.course.exercises.checks import (
    Exercise,
    Wrong,
    between,
    returned,
    same,
    some_chain,
    some_law,
    true,
)

POWERS = ("matrix_power", "multi_dot")
PRODUCTS = ("matmul", "mm", "mv", "einsum")


class _Matrix(Tensor):
    """A matrix whose rows and columns may be multiplied by `@`, but not the whole of it."""

    def __matmul__(self, other: Tensor) -> Tensor:
        product = super().__matmul__(other)
        true(
            product.numel() == 1,
            "It multiplies matrices, which is what this exercise is about. "
            "Write the sum out yourself.",
        )
        return product


def two_steps(answer, generator):
    """(P, i, j) -> the probability of going from i to j in exactly two steps."""
    P = some_chain(generator)
    after_two = P @ P  # (S, S)
    for i, j in ((0, 1), (2, 2), (3, 0)):
        slips = {
            "That is the probability of a single step.": P[i, j],
            "Are the indices the right way round?": after_two[j, i],
        }
        got = answer(P.as_subclass(_Matrix), i, j)
        same(got, after_two[i, j], f"The probability from state {i} to state {j}", slips)


def next_law(answer, generator):
    """(P, law) -> the law one step later."""
    P = some_chain(generator)
    law = some_law(generator, lowest=0)
    slips = {"It does not sum to 1: the sum runs along rows.": P @ law}
    same(answer(P, law), law @ P, "The next law", slips)


def two_states(answer, generator):
    """(a, b) -> (pi_0, pi_1), the stationary law of a chain with two states.

    a, b: the probabilities with which it leaves state 0 and state 1.
    """
    for a, b in between(0.05, 0.95, generator, 3, 2).tolist():
        expected = [b / (a + b), a / (a + b)]
        slips = {
            "Which state is left more often?": expected[::-1],
            "Do the two sum to 1?": [b, a],
        }
        same(answer(a, b), expected, f"The stationary law for a = {a:.2f}, b = {b:.2f}", slips)


def stationary(answer, generator):
    """(P) -> the stationary law, by solving linear equations."""
    back_and_forth = torch.zeros(4, 4, dtype=torch.float64)  # its law never settles
    back_and_forth[:2, 2:] = some_chain(generator, 2)
    back_and_forth[2:, :2] = some_chain(generator, 2)
    chains = {
        "2 states": some_chain(generator, 2),
        "5 states": some_chain(generator, 5),
        "4 states, of which each step leads from one half to the other": back_and_forth,
    }
    for said, P in chains.items():
        law = markov.stationary(P)
        size = len(law)
        slips = {
            "It is stationary, but does not sum to 1.": law / law[-1],
            "It is an eigenvector of P, not of P^T.": torch.full((size,), 1 / size),
        }
        same(answer(P), law, f"The law for {said}", slips)


def reverse(answer, generator):
    """(P, law) -> the matrix of the way back, R[j, i]."""
    P = some_chain(generator)
    law = some_law(generator)
    R = markov.reverse(P, law)
    slips = {
        "Rows and columns are swapped: R[j, i] starts from j.": R.T,
        "That is P read backwards, without Bayes.": P.T,
        "Each row must be divided by its sum.": (law[:, None] * P).T,
        "That is P again: what has to sum to 1, seen from the state after the step?": P,
    }
    same(answer(P, law), R, "The way back", slips)


def made_to_measure(answer, generator):
    """(pi) -> the Metropolis chain with uniform proposals that has this stationary law."""
    for size in (3, 5):
        pi = some_law(generator, size)
        P = _as_chain(answer(pi), size)
        true(torch.allclose(pi @ P, pi, atol=1e-6), "The law pi is not stationary: pi P is not pi.")
        flow = pi[:, None] * P  # (S, S)
        true(
            torch.allclose(flow, flow.T, atol=1e-6),
            "pi is stationary, but there is no detailed balance.",
        )
        accepted = (pi[None] / pi[:, None]).clamp(max=1)  # (S, S)
        away = ~torch.eye(size, dtype=torch.bool)
        true(
            torch.allclose(P[away], accepted[away] / (size - 1), atol=1e-6),
            "A fine chain for pi, but not that of Metropolis with uniform proposals.",
        )


def _as_chain(P, size: int) -> Tensor:
    """`P` in float64.  Raises Wrong unless it is a transition matrix of that size."""
    returned(P)
    said = "It should return a matrix, (S, S), one row for each state."
    try:
        P = torch.as_tensor(P, dtype=torch.float64)
    except (TypeError, ValueError):
        raise Wrong(said) from None
    true(P.shape == (size, size), said)
    true((P >= 0).all(), "There is a negative probability.")
    rows = P.sum(1)
    true(
        torch.allclose(rows, torch.ones_like(rows)),
        "Not every row sums to 1: what happens to refused proposals?",
    )
    return P


EXERCISES = {
    "01.1": Exercise(
        test=two_steps,
        praise="The sum over the state in between is one entry of the matrix product P P.",
        hints=(
            (
                "Where can the chain be after the first of the two steps? "
                "Any of these ways leads there."
            ),
            (
                "For one state k in between, the two steps have probability P[i, k] * P[k, j]. "
                "The ways exclude each other."
            ),
        ),
        forbidden=("laws", *POWERS, *PRODUCTS),
    ),
    "01.2": Exercise(
        test=next_law,
        praise=(
            "A law is a row, and it multiplies from the left. The columns of P need not sum to 1; "
            "its rows do."
        ),
        hints=(
            "Does what comes out still sum to 1? Try it with P from above.",
            (
                "The probability of arriving in j is the sum over i of law[i] * P[i, j]: "
                "i runs down a column of P."
            ),
        ),
        forbidden=("laws",),
    ),
    "01.3": Exercise(
        test=two_states,
        praise=(
            "The rarer a state is left, the more time is spent in it, "
            "and only the ratio of the two rates counts."
        ),
        hints=(
            "In the long run, as many steps lead from 0 to 1 as from 1 to 0.",
            "So pi_0 * a = pi_1 * b. And pi_0 + pi_1 = 1.",
        ),
    ),
    "01.4": Exercise(
        test=stationary,
        praise=(
            "One of the equations is superfluous, because each row of P sums to 1; "
            "the normalisation takes its place."
        ),
        hints=(
            "pi = pi P are S equations for S unknowns, but they only say pi up to a factor.",
            (
                "Write them as (P^T - I) pi = 0, and replace the last equation by: "
                "all entries of pi sum to 1."
            ),
            (
                "A = P.T - torch.eye(S); A[-1] = 1; the right side is zero but for a last entry 1, "
                "with dtype=P.dtype like P; torch.linalg.solve."
            ),
        ),
        forbidden=("stationary", "flow", "eig", "eigh", "laws", *POWERS),
    ),
    "01.5": Exercise(
        test=reverse,
        praise=(
            "The way back depends on where the chain was. "
            "That is why a network will have to learn it."
        ),
        hints=(
            "Bayes: P(before = i | after = j) = P(before = i and after = j) / P(after = j).",
            (
                "The joint probability is law[i] * P[i, j]. Divide each column by its sum; "
                "then rows and columns change places."
            ),
        ),
        forbidden=("reverse",),
    ),
    "01.6": Exercise(
        test=made_to_measure,
        praise=(
            "Any law you like, from a rule that only ever compares two probabilities. "
            "A common factor would cancel."
        ),
        hints=(
            (
                "First where a proposal leads: from i to each other state with probability "
                "1 / (S - 1). It is accepted with probability min(1, pi_j / pi_i)."
            ),
            (
                "Off the diagonal, P[i, j] = min(1, pi_j / pi_i) / (S - 1). What is refused stays: "
                "the diagonal takes what is left of each row."
            ),
        ),
    ),
}
