"""Markov chains, against powers of the matrix, simulation, and chains whose answer is known."""

import math
from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from tutorial_lib import markov

DAY = markov.transition_matrix([[0.05, 0.75, 0.2], [0.8, 0.05, 0.15], [0.25, 0.5, 0.25]])
SWAP = markov.transition_matrix([[0, 1], [1, 0]])
FUNNEL = markov.transition_matrix([[0.5, 0.5, 0], [0, 0.3, 0.7], [0, 0.6, 0.4]])
SPLIT = markov.transition_matrix([[1, 0, 0], [0.5, 0, 0.5], [0, 0, 1]])
RING = markov.transition_matrix([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
REST = markov.transition_matrix([[0.5, 0.5, 0], [0, 0, 1], [1, 0, 0]])  # the ring, with a rest


def random_chain(seed: int, size: int, zeros: float) -> torch.Tensor:
    """Random rows, some entries zero, no row empty."""
    generator = torch.Generator().manual_seed(seed)
    P = torch.rand(size, size, generator=generator, dtype=torch.float64)
    P = P * (torch.rand(size, size, generator=generator) >= zeros)
    P[torch.arange(size), torch.randint(0, size, (size,), generator=generator)] += 0.1
    return P / P.sum(1, keepdim=True)


def test_the_day_of_the_text():
    pi = markov.stationary(DAY)
    of_the_text = torch.tensor([0.39781591, 0.41341654, 0.18876755], dtype=torch.float64)
    assert_close(pi, of_the_text, rtol=0, atol=5e-9)
    assert_close(pi, pi @ DAY)
    assert_close(pi.expand(3, 3), DAY.matrix_power(200))
    values = markov.eigenvalues(DAY)
    assert_close(values[0].real, torch.tensor(1.0, dtype=torch.float64))
    assert_close(values[1].real, torch.tensor(-0.716312, dtype=torch.float64), rtol=0, atol=5e-7)
    flow = markov.flow(DAY).abs()[~torch.eye(3, dtype=bool)]
    assert_close(flow, torch.full((6,), 0.0324, dtype=torch.float64), rtol=0, atol=5e-5)


@pytest.mark.parametrize(
    ("start", "steps"),
    [([0.2, 0.6, 0.2], 53), ([1, 0, 0], None), ([0, 1, 0], None), ([0, 0, 1], None)],
)
def test_steps_to_eight_digits(start, steps):
    path = markov.distributions(DAY, start, 80)
    error = (path - markov.stationary(DAY)).abs().max(1).values
    first = int((error < 5e-9).nonzero()[0])
    assert first == steps if steps else 52 <= first <= 56


def test_frequencies_of_a_walk_are_the_stationary_distribution():
    """Four standard errors, widened for correlation by (1 + |l|) / (1 - |l|) at most."""
    n = 20_000
    states = markov.simulate(DAY, 0, n, torch.Generator().manual_seed(0))
    frequencies = states[1:].bincount(minlength=3).double() / n
    tolerance = 4 * math.sqrt(0.25 / n * (1 + 0.7164) / (1 - 0.7164))
    assert_close(frequencies, markov.stationary(DAY), rtol=0, atol=tolerance)
    pairs = torch.zeros(3, 3, dtype=torch.float64)
    pairs.index_put_((states[:-1], states[1:]), torch.ones(n, dtype=torch.float64), accumulate=True)
    tolerance = 4 * math.sqrt(0.25 / (0.18 * n))
    assert_close(pairs / pairs.sum(1, keepdim=True), DAY, rtol=0, atol=tolerance)


def test_distributions_are_powers():
    start = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    path = markov.distributions(DAY, start, 5)
    assert path.shape == (6, 3)
    for n in range(6):
        assert_close(path[n], start @ DAY.matrix_power(n))


@pytest.mark.parametrize(
    ("P", "expected"),
    [
        (DAY, [([0, 1, 2], True)]),
        (SWAP, [([0, 1], True)]),
        (FUNNEL, [([0], False), ([1, 2], True)]),
        (SPLIT, [([0], True), ([1], False), ([2], True)]),
    ],
)
def test_classes(P, expected):
    assert markov.classes(P) == expected


def test_classes_of_a_long_chain():
    """Where the number of ways in so many steps is larger than any float64."""
    P = torch.full((300, 300), 1 / 300, dtype=torch.float64)
    P[0] = torch.eye(300)[0]
    assert markov.classes(P) == [([0], True), (list(range(1, 300)), False)]
    P = torch.eye(300, dtype=torch.float64).roll(1, 1)  # each to the next, and from the last to 0
    assert markov.classes(P) == [(list(range(300)), True)]


@pytest.mark.parametrize(
    ("P", "state", "expected"),
    [(DAY, 0, 1), (SWAP, 0, 2), (RING, 1, 3), (FUNNEL, 1, 1), (SPLIT, 1, 0)],
)
def test_period(P, state, expected):
    assert markov.period(P, state) == expected


@pytest.mark.parametrize(
    ("P", "settles", "forgets"),
    [
        (DAY, True, True),
        (FUNNEL, True, True),  # reducible, and yet
        (REST, True, True),
        (SPLIT, True, False),  # two limits, and the start decides
        (SWAP, False, False),
        (RING, False, False),
    ],
)
def test_known_chains_settle_and_forget(P, settles, forgets):
    assert (markov.settles(P), markov.forgets(P)) == (settles, forgets)


def test_stationary_distributions_of_known_chains():
    assert_close(markov.stationary(FUNNEL), torch.tensor([0, 6 / 13, 7 / 13], dtype=torch.float64))
    assert_close(markov.stationary(SWAP), torch.tensor([0.5, 0.5], dtype=torch.float64))
    with pytest.raises(ValueError, match=r"2 recurrent classes, \[\[0\], \[2\]\]"):
        markov.stationary(SPLIT)


@given(st.integers(0, 10_000), st.integers(2, 6), st.sampled_from([0.0, 0.5, 0.8]))
def test_settling_and_forgetting_are_what_powers_do(seed, size, zeros):
    """The theorem of notebook 01, on matrices with so many zeros that all kinds come up."""
    P = random_chain(seed, size, zeros)
    power = P.matrix_power(2**20)
    still = torch.allclose(power @ P, power, atol=1e-6)
    rows_agree = torch.allclose(power, power[:1].expand_as(power), atol=1e-6)
    assert markov.settles(P) == still
    assert markov.forgets(P) == (still and rows_agree)
    if still and rows_agree:
        assert_close(markov.stationary(P), power[0], rtol=0, atol=1e-6)


@given(st.integers(0, 10_000), st.integers(2, 6), st.sampled_from([0.0, 0.5, 0.8]))
def test_a_chain_forgets_if_some_power_has_a_column_without_zeros(seed, size, zeros):
    """And only then: the criterion by which the notebook proves its theorem."""
    P = random_chain(seed, size, zeros)
    possible = (P > 0).double()
    powers = [possible]
    for _ in range(2 * size**2):
        powers.append(((powers[-1] @ possible) > 0).double())
    assert markov.forgets(P) == any(bool((power > 0).all(0).any()) for power in powers)


@given(st.integers(0, 10_000), st.integers(2, 6))
def test_what_two_starts_have_in_common_grows_with_every_step(seed, size):
    """|dP| <= (1 - m) |d| where d sums to 0 and m adds up the smallest entries of the columns."""
    P = random_chain(seed, size, 0.0)
    generator = torch.Generator().manual_seed(seed + 1)
    difference = torch.randn(size, generator=generator, dtype=torch.float64)
    difference = difference - difference.mean()
    bound = 1 - P.min(0).values.sum()
    assert (difference @ P).abs().sum() <= bound * difference.abs().sum() + 1e-12
    assert markov.eigenvalues(P)[1].abs() <= bound + 1e-9


@given(st.integers(0, 10_000), st.integers(2, 5))
def test_walking_back_is_bayes(seed, size):
    P = random_chain(seed, size, 0.0)
    S = torch.rand(size, generator=torch.Generator().manual_seed(seed)).double() + 0.1
    S = S / S.sum()
    R = markov.reverse(P, S)
    assert_close(R.sum(1), torch.ones(size, dtype=torch.float64))
    assert_close(S @ P @ R, S)
    for i in range(size):
        for j in range(size):
            assert_close(R[j, i], S[i] * P[i, j] / sum(S[k] * P[k, j] for k in range(size)))


def test_no_way_back_from_a_state_that_cannot_be_reached():
    with pytest.raises(ValueError, match="state 0 cannot be reached"):
        markov.reverse(FUNNEL, torch.tensor([0.0, 0.5, 0.5]))


def test_autoregression_runs_over_different_past_values():
    phi = torch.tensor([0.5, -0.3, 0.1]).double()
    eps = torch.randn(50, generator=torch.Generator().manual_seed(0)).double()
    x: list[float] = []
    for t in range(50):
        x.append(sum(float(phi[i - 1]) * x[t - i] for i in (1, 2, 3) if t >= i) + float(eps[t]))
    assert_close(markov.autoregression(phi, eps), torch.tensor(x, dtype=torch.float64))


def two_bumps(x):
    """log of 0.3 N(-2, 0.5^2) + 0.7 N(1, 1), up to a constant."""
    left = math.log(0.6) - (x + 2) ** 2 / 0.5
    right = math.log(0.7) - (x - 1) ** 2 / 2
    return torch.logsumexp(torch.stack([left, right]), 0)


@pytest.mark.equation("Metropolis")
@pytest.mark.parametrize("name", ["metropolis", "langevin"])
def test_chains_reach_the_density_they_were_built_for(name):
    x, n = torch.zeros(20_000, dtype=torch.float64), 20_000
    generator = torch.Generator().manual_seed(1)
    if name == "metropolis":
        chain = markov.metropolis(two_bumps, x, 2.0, generator)
        mean, var = 0.3 * -2 + 0.7 * 1, 0.3 * (0.25 + 4) + 0.7 * 2 - 0.01
    else:
        chain = markov.langevin(lambda x: -x, x, 0.05, generator)  # N(0, 1)
        # exact stationary variance of x <- (1 - h/2) x + sqrt(h) z: the bias of a finite step
        mean, var = 0.0, 0.05 / (1 - (1 - 0.025) ** 2)
        assert var > 1.01
    *_, x = islice(chain, 300)
    assert_close(float(x.mean()), mean, rtol=0, atol=4 * math.sqrt(var / n))
    assert_close(float(x.var()), var, rtol=5 * math.sqrt(2 / n), atol=0)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([[0.5, 0.5]], "square"),
        ([[1.5, -0.5], [0, 1]], "negative"),
        ([[0.5, 0.4], [0, 1]], "sum to 1"),
        ([0.5, 0.5], "square"),
    ],
)
def test_illegal_matrices(rows, words):
    with pytest.raises(ValueError, match=words):
        markov.transition_matrix(rows)
