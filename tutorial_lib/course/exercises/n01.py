"""Checks of the exercises of notebook 01: Markov chains."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tutorial_lib import markov
from tutorial_lib.course.exercises.checks import (
    Exercise,
    Wrong,
    between,
    numbers,
    pair,
    returned,
    same,
    some_chain,
    some_distribution,
    true,
)

POWERS = ("matrix_power", "multi_dot")
LAST = "Probabilities sum to 1, so the last of them is not free."
PRODUCTS = ("matmul", "__matmul__", "mm", "mv", "einsum", "tensordot", "inner")


class _Matrix(Tensor):
    """A matrix of which a row may be multiplied by a column, but not the whole of it.

    The names in an answer cannot tell the two apart: `P[i] @ P[:, j]` is the sum that is asked for.
    """

    @classmethod
    def __torch_function__(
        cls, func: Callable, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        product = super().__torch_function__(func, types, args, kwargs or {})
        true(
            func.__name__ not in PRODUCTS or product.numel() == 1,
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
            "That is a single step, squared. Where may the chain be in between?": P[i, j] ** 2,
            "It is in one step or in two, and exactly two are asked for.": P[i, j]
            + after_two[i, j],
            "Along one way the two probabilities multiply.": (P[i] + P[:, j]).sum(),
            "Two rows: the second step must start where the first one ends.": P[i] @ P[j],
            "Two columns: the first step has to start from i.": P[:, i] @ P[:, j],
            "The ways exclude each other, so their probabilities add up; that is a mean.": (
                after_two[i, j] / len(P)
            ),
            "One way is missing: the state in between may be the last one, too.": (
                P[i, :-1] @ P[:-1, j]
            ),
            "One way is missing: the state in between may be the first one, too.": (
                P[i, 1:] @ P[1:, j]
            ),
            "The state in between may be i or j itself.": sum(
                P[i, k] * P[k, j] for k in range(len(P)) if k not in (i, j)
            ),
        }
        got = answer(P.as_subclass(_Matrix), i, j)
        same(got, after_two[i, j], f"The probability from state {i} to state {j}", slips)


def next_distribution(answer, generator):
    """(P, before) -> the distribution one step later."""
    P = some_chain(generator)
    before = some_distribution(generator, lowest=0)
    slips = {
        "Work out one entry by hand, and compare.": P @ before,  # no more: this is a bug hunt
        "That is the distribution before the step.": before,
        "That is two steps on.": before @ P @ P,
        "That is a step back by the inverse matrix.": before @ P.inverse(),
        "It does not sum to 1: the ways into a state add up, and that is their mean.": (
            (before @ P) / len(P)
        ),
        "That is one step from the likeliest state alone.": P[before.argmax()],
    }
    same(answer(P, before), before @ P, "The next distribution", slips)


def two_states(answer, generator):
    """(a, b) -> (pi_0, pi_1), the stationary distribution of a chain with two states.

    a, b: the probabilities with which it leaves state 0 and state 1.
    """
    for a, b in between(0.05, 0.95, generator, 3, 2).tolist():
        expected = [b / (a + b), a / (a + b)]
        slips = {
            "Which state is left more often?": expected[::-1],
            "Do the two sum to 1?": [b, a],
            "Do they sum to 1? And which state is left more often?": [a, b],
            "1 - a is the probability to stay for one more hour, not in the long run.": [
                (1 - a) / (2 - a - b),
                (1 - b) / (2 - a - b),
            ],
            "That is the first row of P, one hour after it ran.": [1 - a, a],
            "That is the second row of P, one hour after it was broken.": [b, 1 - b],
            "It is half of the time only if a = b.": [0.5, 0.5],
        }
        what = f"The stationary distribution for a = {a:.2f}, b = {b:.2f}"
        same(answer(a, b), expected, what, slips)


def stationary(answer, generator):
    """(P) -> the stationary distribution, by solving linear equations."""
    chains = {
        "2 states": some_chain(generator, 2),
        "5 states": some_chain(generator, 5),
        "4 states, of which each step leads from one half to the other": _swap(generator),
    }
    for said, P in chains.items():
        pi = markov.stationary(P)
        size, got = len(pi), answer(P)
        returned(got)
        total = numbers(got, "The distribution").sum()
        slips = {
            "All zeros solve pi = pi P, too. Which equation is still missing?": torch.zeros(size),
            "It is stationary, but does not sum to 1.": pi * total,
            "On the right side, what do the other equations say?": _slips_in_solving(P)[0],
            "One equation is a row: the row of ones has become a column.": _slips_in_solving(P)[1],
            "It is an eigenvector of P, not of P^T.": torch.full((size,), 1 / size),
            "That is an eigenvector of P, not of P^T, and it does not sum to 1.": (
                torch.full((size,), float(total) / size)
            ),
        }
        same(got, pi, f"The distribution for {said}", slips)


def where_it_began(answer, generator):
    """(P, start, n, j) -> how probable each state was at hour 0, given state j at hour n."""
    P = some_chain(generator)
    start = some_distribution(generator)
    for n, j in ((1, 2), (2, 0), (3, 3)):
        ahead = P.matrix_power(n)  # (S, S): from hour 0 to hour n
        joint = start[:, None] * ahead  # (S, S): at hour 0, at hour n
        slips = {
            "It does not sum to 1. What does Bayes' rule divide by?": joint[:, j],
            "It is the same for every start. Is one state more likely than another at hour 0?": (
                ahead[:, j] / ahead[:, j].sum()
            ),
            "That is the way forward: from state j at hour 0 to hour n.": ahead[j],
            "That is the distribution at hour 0 before anything was seen.": start,
            "That is the distribution at hour n, not at hour 0.": start @ ahead,
            "That goes back to hour n - 1, not to hour 0.": _one_step_back(P, start, n, j),
            "The way *to* state j is wanted, and that is the way from it.": _rescaled(
                start * ahead[j]
            ),
            "That looks back n + 1 hours.": _rescaled(start * P.matrix_power(n + 1)[:, j]),
            "Each entry of P to the power n is no power of the matrix.": (
                _rescaled(start * P[:, j] ** n)
            ),
            "The start is divided out, where Bayes' rule multiplies by it.": (
                _rescaled(ahead[:, j] / start)
            ),
        }
        if n > 1:
            slips["That looks back a single step, and n lie between."] = _rescaled(start * P[:, j])
        what = f"The distribution at hour 0, given state {j} at hour {n},"
        same(answer(P, start, n, j), joint[:, j] / joint[:, j].sum(), what, slips)


def _slips_in_solving(P: Tensor) -> tuple[Tensor, Tensor]:
    """With 1 on the right side of each equation; and with the matrix of equations transposed."""
    equations = P.T - torch.eye(len(P), dtype=P.dtype)
    equations[-1] = 1
    ones, last = torch.ones_like(P[0]), torch.eye(len(P), dtype=P.dtype)[-1]
    return torch.linalg.solve(equations, ones), torch.linalg.solve(equations.T, last)


def _rescaled(weights: Tensor) -> Tensor:
    """The same in proportion, with sum 1."""
    return weights / weights.sum()


def _one_step_back(P: Tensor, start: Tensor, n: int, j: int) -> Tensor:
    """How probable each state was at hour n - 1, given state j at hour n."""
    before = start @ P.matrix_power(n - 1)
    return markov.reverse(P, before)[j]


def made_to_measure(answer, generator):
    """(pi) -> the Metropolis chain with uniform proposals that has this stationary distribution."""
    for size in (3, 5):
        pi = some_distribution(generator, size)
        P = _as_chain(answer(pi), size)
        true(torch.allclose(pi @ P, pi, atol=1e-6), "pi is not stationary: pi P is not pi.")
        flow = pi[:, None] * P  # (S, S)
        true(
            torch.allclose(flow, flow.T, atol=1e-6),
            "pi is stationary, but there is no detailed balance.",
        )
        accepted = (pi[None] / pi[:, None]).clamp(max=1)  # (S, S)
        away = ~torch.eye(size, dtype=torch.bool)
        true(
            not torch.allclose(P[away], accepted[away] / size, atol=1e-6),
            "How many other states can be proposed? One of them should always be.",
        )
        true(
            not torch.allclose(P, pi.expand(size, size), atol=1e-6),
            "Each row is pi: that draws from pi itself, which is what we cannot do. Propose, and "
            "accept or refuse.",
        )
        true(
            torch.allclose(P[away], accepted[away] / (size - 1), atol=1e-6),
            "A fine chain for pi, but not that of Metropolis with uniform proposals.",
        )


def how_many_numbers(answer, generator):
    """(N, k) -> free probabilities in a full table of N variables with k values, and in a chain."""
    for k in (3, 5, 4):
        # for N = k and N = k + 1 two of the slips give the same number
        N = k + int(torch.randint(2, 8, (), generator=generator))
        table, chain = pair(answer(N, k), "the numbers for the table and for the chain")
        where = f"N = {N} and k = {k},"
        slips = {
            LAST: k**N,
            "How many values has one variable, and how many variables are there?": N**k - 1,
            "Those are tables of single variables.": N * (k - 1),
            "Does all of the table sum to 1, or each row of it?": k ** (N - 1) * (k - 1),
        }
        same(table, k**N - 1, f"The number for the table, {where}", slips, 1e-9)
        right = k - 1 + (N - 1) * k * (k - 1)
        same(chain, right, f"The number for the chain, {where}", _slips_in_a_chain(N, k), 1e-9)


def _slips_in_a_chain(N: int, k: int) -> dict[str, int]:
    steps = (N - 1) * k
    return {
        LAST: k + steps * k,
        "Does each row of a matrix sum to 1?": k - 1 + steps * k,
        "Each step may have a matrix of its own.": k - 1 + k * (k - 1),
        "The first variable needs a distribution, too.": steps * (k - 1),
        "N variables have fewer steps between them.": k - 1 + N * k * (k - 1),
        "Not the whole matrix sums to 1, but each of its rows.": k - 1 + (N - 1) * (k**2 - 1),
        "Those are N variables that know nothing of each other.": N * (k - 1),
        "One number of the first variable is not free.": k + steps * (k - 1),
    }


def fate(answer, generator):
    """(P) -> whether the chain settles, and whether it forgets its start."""
    mixing, other, swinging = some_chain(generator, 2), some_chain(generator, 2), _swap(generator)
    kinds = {
        "in which every state leads to every other": (some_chain(generator, 3), True, True),
        "that goes to and fro between two halves": (swinging, False, False),
        "that goes round and round through three states": (_round(3), False, False),
        "with two groups of states that nobody leaves": (_side_by_side(mixing, other), True, False),
        "with a state that the chain leaves for good": (_into(mixing, generator), True, True),
        "with a state before a group that goes to and fro": (
            _into(swinging, generator),
            False,
            False,
        ),
        "with two groups, of which one goes to and fro": (
            _side_by_side(mixing, swinging),
            False,
            False,
        ),
    }
    for said, (P, settles, forgets) in kinds.items():
        order = torch.randperm(len(P), generator=generator)
        got = pair(answer(P[order][:, order]), "whether it settles and whether it forgets")
        for word, given, holds in zip(("settles", "forgets"), got, (settles, forgets), strict=True):
            given = numbers(given, f"Whether it {word}")
            true(
                given.numel() == 1 and given in (0, 1), f"Whether it {word}: answer True or False."
            )
            true(
                bool(given) == holds,
                f"A chain {said}: your answer for `{word}` is {bool(given)}. Look at what its "
                "powers do.",
            )


def _swap(generator: torch.Generator) -> Tensor:
    """Four states in two halves: each step leads from one half to the other."""
    P = torch.zeros(4, 4, dtype=torch.float64)
    P[:2, 2:] = some_chain(generator, 2)
    P[2:, :2] = some_chain(generator, 2)
    return P


def _round(size: int) -> Tensor:
    """From each state to the next, and from the last to the first."""
    return torch.eye(size, dtype=torch.float64).roll(1, 1)


def _side_by_side(first: Tensor, second: Tensor) -> Tensor:
    """Two chains in one, without a way from either to the other."""
    return torch.block_diag(first, second)


def _into(P: Tensor, generator: torch.Generator) -> Tensor:
    """The chain with one more state, which leads into it and is never reached again."""
    row = some_distribution(generator, len(P) + 1)
    return torch.cat([row[None], F.pad(P, (1, 0))])


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
        forbidden=("distributions", *POWERS),
    ),
    "01.2": Exercise(
        test=next_distribution,
        praise=(
            "A distribution is a row, and it multiplies from the left. The columns of P need not "
            "sum to 1; its rows do."
        ),
        hints=(
            "Does what comes out still sum to 1? Try it with P from above.",
            (
                "The probability of arriving in j is the sum over i of before[i] * P[i, j]: "
                "i runs down a column of P."
            ),
        ),
        forbidden=("distributions",),
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
        forbidden=("stationary", "flow", "eig", "eigh", "distributions", *POWERS),
    ),
    "01.5": Exercise(
        test=where_it_began,
        praise=(
            "After many steps the answer is the start itself: what is seen says nothing any more. "
            "A diffusion model walks back one small step at a time, where it still says much."
        ),
        hints=(
            (
                "Bayes: P(at first i | later j) = P(at first i and later j) / P(later j), "
                "and n steps lie between the two."
            ),
            (
                "P.matrix_power(n)[i, j] is the probability of going from i to j in n steps. "
                "Times start[i] it is the joint probability; what makes it sum to 1?"
            ),
        ),
        forbidden=("reverse",),
    ),
    "01.6": Exercise(
        test=made_to_measure,
        praise=(
            "Any distribution you like, from a rule that only ever compares two probabilities. "
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
    "01.7": Exercise(
        test=how_many_numbers,
        praise=(
            "The table grows exponentially with N, the chain only in proportion to N: that is what "
            "a short memory saves."
        ),
        hints=(
            "A table of K probabilities that sum to 1 has K - 1 free numbers.",
            (
                "The chain needs one distribution for the first variable, and for each of the "
                "N - 1 steps a matrix of k rows. Each row is a distribution over k values."
            ),
        ),
    ),
    "01.8": Exercise(
        test=fate,
        praise=(
            "A high power of P has all its rows equal exactly if the chain forgets; it equals the "
            "next power exactly if the chain settles."
        ),
        hints=(
            "What does row i of P.matrix_power(n) say about a chain that began in state i?",
            (
                "It settles if P.matrix_power(1000) and P.matrix_power(1001) agree. "
                "And if it forgets, how do the rows of that matrix differ?"
            ),
        ),
        forbidden=("settles", "forgets", "classes", "period"),
    ),
}
