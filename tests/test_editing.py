"""Filling in and changing, against Gaussians for which the right answer is a formula."""

from functools import cache

import pytest
import torch
from torch.testing import assert_close

from tutorial_lib import sample
from tutorial_lib.beyond import editing, inversion
from tutorial_lib.diffusion import q_sample
from tutorial_lib.schedule import cosine, same_t

SCHEDULE = cosine(200)
RHO = 0.8
SIGMA = torch.tensor([[1, RHO], [RHO, 1]], dtype=torch.float64)  # of two correlated numbers
MASK = torch.tensor([1.0, 0.0], dtype=torch.float64)  # the first is known
SEEN = 1.5


@cache
def gain(t) -> torch.Tensor:
    """E[x_0 | x_t] = G x_t for data from N(0, SIGMA), (2, 2)."""
    alpha_bar = SCHEDULE.alpha_bar[t]
    noised = alpha_bar * SIGMA + (1 - alpha_bar) * torch.eye(2, dtype=torch.float64)
    return alpha_bar.sqrt() * SIGMA @ torch.linalg.inv(noised)


def exact(x_t, t):
    """The best denoiser for that data; all of a batch at one step."""
    return x_t @ gain(int(t[0])).T


def exact_variance() -> torch.Tensor:
    """Of the first number given x_t, (T + 1,)."""
    table = torch.zeros(SCHEDULE.T + 1, dtype=torch.float64)
    for t in range(1, SCHEDULE.T + 1):
        table[t] = (SIGMA - SCHEDULE.alpha_bar[t].sqrt() * gain(t) @ SIGMA)[0, 0]
    return table


@pytest.fixture(scope="module")
def known():
    return torch.tensor([[SEEN, 0.0]], dtype=torch.float64).expand(4000, -1)


def filled(frames) -> tuple[float, float]:
    """Mean and standard deviation of the number that was made up."""
    x_0 = sample.final(frames)
    return float(x_0[:, 1].mean()), float(x_0[:, 1].std())


def start(count=4000):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 2, generator=generator, dtype=torch.float64), generator


def test_the_exact_denoiser_draws_the_data():
    x_T, generator = start()
    x_0 = sample.final(sample.ddpm(exact, SCHEDULE, x_T, generator=generator))
    assert_close(x_0.T.cov(), SIGMA, rtol=0, atol=0.06)


def test_what_is_known_walks_as_the_forward_process_would(known):
    """Its noised values have the mean and variance of Eq. 4, and it ends where it should."""
    x_T, generator = start()
    walk = editing.replaced(exact, known, MASK)
    for frame in sample.ddpm(walk, SCHEDULE, x_T, generator=generator):
        if frame.t in (150, 100, 50, 10):
            alpha_bar = float(SCHEDULE.alpha_bar[frame.t])
            std = (1 - alpha_bar) ** 0.5
            assert abs(float(frame.x[:, 0].mean()) - alpha_bar**0.5 * SEEN) < 4 * std / 4000**0.5
            assert abs(float(frame.x[:, 0].std()) / std - 1) < 0.05
    assert_close(frame.x[:, 0], known[:, 0])


@pytest.mark.equation("Lugmayr 8")
@pytest.mark.equation("Lugmayr Algorithm 1")
def test_replacement_is_biased_resampling_less(known):
    """The truth: N(rho s, 1 - rho^2).  Chance explains 0.01 of the mean, and 0.007 of the std."""
    right = RHO * SEEN, (1 - RHO**2) ** 0.5
    found = {}
    for rounds in (1, 3, 9):
        x_T, generator = start()
        walk = editing.replaced(exact, known, MASK)
        frames = editing.resampled(
            walk, SCHEDULE, x_T, generator=generator, steps=100, rounds=rounds
        )
        mean, std = filled(frames)
        found[rounds] = abs(mean - right[0]) + abs(std - right[1])
    assert found[1] > 0.1
    assert found[9] < 0.6 * found[1]
    assert found[9] < found[3] < found[1]


def test_one_round_is_the_plain_sampler():
    x_T, generator = start(50)
    library = sample.final(sample.ddpm(exact, SCHEDULE, x_T, generator=generator, steps=10))
    x_T, generator = start(50)
    frames = list(editing.resampled(exact, SCHEDULE, x_T, generator=generator, steps=10, rounds=1))
    assert_close(frames[-1].x, library)
    assert [frame.t for frame in frames] == list(range(200, -1, -20))


def test_a_step_back_and_forth_keeps_the_marginal():
    """More rounds do not change what is drawn, where nothing is known."""
    x_T, generator = start()
    frames = editing.resampled(exact, SCHEDULE, x_T, generator=generator, rounds=3)
    assert_close(sample.final(frames).T.cov(), SIGMA, rtol=0, atol=0.08)


def test_illegal_rounds():
    x_T, generator = start(2)
    with pytest.raises(ValueError, match="rounds must be at least 1, got 0"):
        next(editing.resampled(exact, SCHEDULE, x_T, generator=generator, rounds=0))


# --- guided by what was seen


def look(x):
    return x[:, :1]


def test_a_number_seen_guides_to_the_exact_conditional_estimate(known):
    """With the true variance it is E[x_0 | x_t, s], worked out by Bayes' rule for three numbers."""
    x_t = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for t in (1, 10, 100, 199):
        alpha_bar = SCHEDULE.alpha_bar[t]
        walk = editing.observed(
            exact, SCHEDULE, look, known[:50, :1], variance=exact_variance(), clip=False
        )
        prior = torch.linalg.inv(SIGMA) + alpha_bar / (1 - alpha_bar) * torch.eye(2)
        covariance = torch.linalg.inv(prior)  # of x_0 given x_t
        mean = x_t * alpha_bar.sqrt() / (1 - alpha_bar) @ covariance
        toward = covariance[:, 0] / covariance[0, 0]  # regression on the first number
        right = mean + (SEEN - mean[:, :1]) * toward
        assert_close(walk(x_t, same_t(t, 50)), right, rtol=1e-6, atol=1e-6)


@pytest.mark.equation("Chung")
@pytest.mark.equation("Pi")
def test_guided_by_what_was_seen_the_walk_ends_in_the_exact_conditional(known):
    x_T, generator = start()
    walk = editing.observed(
        exact, SCHEDULE, look, known[:, :1], variance=exact_variance(), clip=False
    )
    x_0 = sample.final(sample.ddpm(walk, SCHEDULE, x_T, generator=generator))
    assert_close(x_0[:, 0], known[:, 0], rtol=0, atol=1e-6)
    assert abs(float(x_0[:, 1].mean()) - RHO * SEEN) < 0.03
    assert abs(float(x_0[:, 1].std()) - (1 - RHO**2) ** 0.5) < 0.03


def test_spread_is_the_posterior_variance_of_one_gaussian():
    V = 0.5
    table = editing.spread(SCHEDULE, V)
    alpha_bar = SCHEDULE.alpha_bar[1:]
    assert_close(table[1:], 1 / (1 / V + alpha_bar / (1 - alpha_bar)))
    assert table[0] == 0 and abs(float(table[-1]) - V) < 1e-3


def test_clip_is_of_the_guided_estimate(known):
    x_t, _ = start(50)
    far = {"variance": editing.spread(SCHEDULE, 1.0)}
    args = (exact, SCHEDULE, look, 5 * known[:50, :1])
    free = editing.observed(*args, clip=False, **far)(x_t, same_t(100, 50))
    assert float(free.abs().max()) > 1
    held = editing.observed(*args, clip=True, **far)(x_t, same_t(100, 50))
    assert_close(held, free.clamp(-1, 1))


# --- from a picture


@pytest.mark.equation("SDEdit")
@pytest.mark.parametrize("t", [30, 100, 200])
def test_redrawing_a_sketch(t):
    """A sketch of the wrong spread, noised to t and walked back: where it ends is linear in it."""
    x_0 = torch.full((4000, 2), 2.0, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    frames = list(editing.redrawn(exact, SCHEDULE, x_0, t, generator=generator))
    assert frames[0].t == t and frames[-1].t == 0
    expected = torch.full((2,), 2.0, dtype=torch.float64)
    expected = SCHEDULE.alpha_bar[t].sqrt() * expected
    for s in range(t, 0, -1):  # the mean follows the chain
        of_x_0, of_x_t = (table[s] for table in SCHEDULE.mu_tilde_weights)
        expected = of_x_0 * gain(s) @ expected + of_x_t * expected
    assert_close(frames[-1].x.mean(0), expected, rtol=0, atol=0.06)


def test_the_longer_the_detour_the_less_is_left_of_the_sketch():
    x_0 = torch.full((500, 2), 2.0, dtype=torch.float64)
    left = []
    for t in (20, 60, 120, 200):
        generator = torch.Generator().manual_seed(0)
        frames = editing.redrawn(exact, SCHEDULE, x_0, t, generator=generator)
        left.append(float(sample.final(frames).mean()))
    assert left == sorted(left, reverse=True)


def test_to_noise_and_back():
    """The more steps, the nearer it comes back; and the noise is standard normal."""
    x_0 = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x_0 = x_0 @ torch.linalg.cholesky(SIGMA).T
    schedule = SCHEDULE
    errors = []
    for steps in (10, 40, 200):
        back = sample.final(editing.edited(exact, exact, schedule, x_0, steps=steps))
        errors.append(float((back - x_0).square().mean().sqrt()))
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.1
    x_T = sample.final(inversion.encode(exact, schedule, x_0, steps=200))
    assert_close(x_T.T.cov(), torch.eye(2, dtype=torch.float64), rtol=0, atol=0.1)


def test_an_edit_moves_a_class_to_another():
    """Two Gaussian classes, N(-1, 0.3^2) and N(1, 0.3^2): place in the class is kept."""

    def of_class(centre):
        def denoise(x_t, t):
            alpha_bar = SCHEDULE.alpha_bar[t].view(-1, 1)
            variance = alpha_bar * 0.09 + 1 - alpha_bar
            away = x_t - alpha_bar.sqrt() * centre
            return centre + alpha_bar.sqrt() * 0.09 / variance * away

        return denoise

    x_0 = -1 + 0.3 * torch.randn(200, 1, generator=torch.Generator().manual_seed(0)).double()
    frames = editing.edited(of_class(-1.0), of_class(1.0), SCHEDULE, x_0, steps=200)
    moved = sample.final(frames)
    assert_close(moved - 1, x_0 + 1, rtol=0, atol=0.1)


def test_known_pixels_of_pictures(generator):
    known = torch.rand(3, 1, 4, 4, generator=generator)
    mask = torch.zeros(4, 4)
    mask[:, :2] = 1
    walk = editing.replaced(lambda x_t, t: torch.zeros_like(x_t), known, mask)
    x_t = q_sample(SCHEDULE, known, same_t(7, 3), torch.zeros_like(known))
    got = walk(x_t, same_t(7, 3))
    assert torch.equal(got[..., :2], known[..., :2]) and not got[..., 2:].any()
