"""The coder against the entropy, bits back against the bound, rates against closed forms."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from tutorial_lib.beyond.compression import (
    PRECISION,
    bits_back,
    bits_forth,
    counts,
    pop,
    push,
    rate_and_distortion,
    to_bytes,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.integers(1, 300), st.integers(0, 10**6))
def test_whole_probabilities(size, seed):
    p = torch.rand(size, generator=seeded(seed)) ** 8
    found = counts(p + 1e-30)
    assert sum(found) == 1 << PRECISION and min(found) >= 1 and len(found) == size


def test_more_symbols_than_there_is_room_for():
    with pytest.raises(ValueError, match="use fewer"):
        counts(torch.ones((1 << PRECISION) + 1))


@given(st.lists(st.integers(0, 6), max_size=40), st.integers(0, 10**6))
def test_what_is_pushed_last_is_popped_first(message, seed):
    shares = counts(torch.rand(7, generator=seeded(seed)))
    state = start = 12345 + seed
    for symbol in message:
        state = push(state, symbol, shares)
    back = []
    for _ in message:
        state, symbol = pop(state, shares)
        back.append(symbol)
    assert back[::-1] == message and state == start


@given(st.integers(0, 10**30), st.integers(0, 10**6))
def test_popping_and_pushing_again_changes_nothing(state, seed):
    shares = counts(torch.rand(5, generator=seeded(seed)))
    assert push(*pop(state, shares), shares) == state


@pytest.mark.equation("Duda")
def test_a_message_is_as_long_as_its_entropy_says():
    p = torch.tensor([0.7, 0.2, 0.05, 0.05], dtype=torch.float64)
    message = torch.multinomial(p, 4000, replacement=True, generator=seeded(1)).tolist()
    state, shares = 1, counts(p)
    for symbol in message:
        state = push(state, symbol, shares)
    information = -sum(math.log2(float(p[symbol])) for symbol in message)
    assert abs(8 * len(to_bytes(state)) - information) < 16
    assert int.from_bytes(to_bytes(state), "big") == state


@pytest.fixture
def chain():
    """Data on 12 places, three steps of noising to their neighbours, and a way back that is not
    quite the true one.
    """
    generator, S, T = seeded(7), 12, 3
    data = torch.rand(S, generator=generator, dtype=torch.float64) ** 2
    data /= data.sum()
    places = torch.arange(S, dtype=torch.float64)
    forward = [(-((places - places[:, None]) ** 2) / 8).softmax(1) for _ in range(T)]
    marginal, back = data, []
    for q in forward:
        joint = marginal[:, None] * q
        marginal = joint.sum(0)
        back.append(0.9 * (joint / marginal).T + 0.1 / S)
    return data, forward, back, torch.full((S,), 1 / S, dtype=torch.float64)


def bound(data, forward, back, p_T):
    """The bound in bits, by sums over all states."""
    total, q = 0.0, data
    for step, p in zip(forward, back, strict=True):
        joint = q[:, None] * step
        total += float((joint * (step / p.T).log2()).sum())
        q = joint.sum(0)
    return total - float((q * p_T.log2()).sum())


@pytest.mark.equation("Townsend")
def test_bits_back_send_what_the_bound_says(chain):
    data, *model = chain
    message = torch.multinomial(data, 700, replacement=True, generator=seeded(3)).tolist()
    state = start = int.from_bytes(bytes(range(1, 200)), "big")  # something was sent before
    for x in message:
        state = bits_back(state, x, *model)
    grown = (state.bit_length() - start.bit_length()) / len(message)
    entropy = -float((data * data.log2()).sum())
    expected = bound(data, *model)
    assert entropy < expected
    assert_close(grown, expected, rtol=0, atol=0.15)
    for x in reversed(message):
        state, back = bits_forth(state, *model)
        assert back == x
    assert state == start


def test_rate_and_distortion_of_gaussian_data():
    V, gamma = 0.5, torch.linspace(-8, 10, 4001, dtype=torch.float64)
    mmse = V / (1 + V * (-gamma).exp())
    rate, distortion = rate_and_distortion(0.5 * (-gamma).exp() * mmse, mmse, gamma)
    exact = 0.5 * torch.log2((1 + V * (-gamma).exp()) / (1 + V * (-gamma[-1]).exp()))
    assert_close(rate, exact, rtol=0, atol=1e-4)
    assert rate[-1] == 0 and (rate.diff() < 0).all() and (distortion.diff() > 0).all()
    assert_close(distortion, 127.5 * mmse.sqrt())
