"""Noise schedules against closed forms, naive loops and diffusers."""

import math
import warnings

import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from tutorial_lib import schedule as schedules
from tutorial_lib.schedule import NoiseSchedule, even_tau, from_betas, named, same_t

quiet = pytest.mark.filterwarnings("ignore:alpha_bar_T")
some_betas = st.lists(st.floats(1e-5, 0.9), min_size=1, max_size=40)


def quietly(make, *arguments, **options):
    """Build a schedule that may not end in noise, without its warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make(*arguments, **options)


LEFT = {  # (schedule, T): alpha_bar_T, and half a unit of its last digit
    ("linear", 200): (0.13218, 5e-6),
    ("quadratic", 200): (0.2355, 5e-5),
    ("sigmoid", 200): (0.1317, 5e-5),
    ("geometric", 200): (0.467, 5e-4),
    ("linear", 300): (0.04806, 5e-6),
    ("quadratic", 300): (0.11447, 5e-6),
    ("sigmoid", 300): (0.04782, 5e-6),
    ("geometric", 300): (0.3202, 5e-5),
    ("cosine", 300): (2.7e-8, 5e-10),
    ("linear", 1000): (4.036e-5, 5e-9),
    ("quadratic", 1000): (7.33e-4, 5e-7),
    ("sigmoid", 1000): (3.97e-5, 5e-8),
    ("geometric", 1000): (0.02279, 5e-6),
    ("cosine", 1000): (2.4e-9, 5e-11),
}


@quiet
@pytest.mark.parametrize(("name", "T"), LEFT)
def test_share_of_the_data_that_is_left_at_the_end(name, T):
    expected, half_a_digit = LEFT[name, T]
    assert_close(float(named(name, T).alpha_bar[-1]), expected, rtol=0, atol=half_a_digit)


@pytest.mark.parametrize(
    ("T", "expected", "half_a_digit"), [(300, 2.7e-9, 5e-11), (1000, 2.4e-10, 5e-12)]
)
def test_cosine_with_a_later_clip(T, expected, half_a_digit):
    left = float(schedules.cosine(T, beta_max=0.9999).alpha_bar[-1])
    assert_close(left, expected, rtol=0, atol=half_a_digit)


def test_rescaled_linear():
    left = float(schedules.linear(300, rescaled=True).alpha_bar[-1])
    assert_close(left, 3.4e-5, rtol=0, atol=5e-7)
    assert_close(schedules.linear(1000, rescaled=True).beta, schedules.linear(1000).beta)


@pytest.mark.parametrize("T", [1, 10, 20])
def test_rescaling_to_too_few_steps_is_an_error(T):
    with pytest.raises(ValueError, match="use more than 20 steps"):
        schedules.linear(T, rescaled=True)


@quiet
def test_rescaling_to_21_steps_works():
    assert_close(float(schedules.linear(21, rescaled=True).beta[-1]), 0.02 * 1000 / 21)


@pytest.mark.equation("Nichol 17")
@quiet
@pytest.mark.parametrize("T", [1, 2, 17])
def test_each_schedule_against_a_naive_loop(T):
    def between(i: int) -> float:
        return i / (T - 1) if T > 1 else 0.0

    low, high = 1e-4, 0.02
    expected = {
        "constant": [0.01 for _ in range(T)],
        "linear": [low + (high - low) * between(i) for i in range(T)],
        "quadratic": [(low**0.5 + (high**0.5 - low**0.5) * between(i)) ** 2 for i in range(T)],
        "sigmoid": [low + (high - low) / (1 + math.exp(6 - 12 * between(i))) for i in range(T)],
        "geometric": [low * (high / low) ** between(i) for i in range(T)],
    }

    def f(t: int) -> float:
        return math.cos((t / T + 0.008) / 1.008 * math.pi / 2) ** 2

    expected["cosine"] = [min(1 - f(t) / f(t - 1), 0.999) for t in range(1, T + 1)]
    assert expected.keys() == schedules.NAMED.keys()
    for name, betas in expected.items():
        wanted = torch.tensor(betas, dtype=torch.float64)
        assert_close(named(name, T).beta[1:], wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.equation("Nichol 17")
def test_cosine_clips_thirteen_betas_of_a_thousand_from_above_only():
    t = torch.arange(1001, dtype=torch.float64)
    f = torch.cos((t / 1000 + 0.008) / 1.008 * torch.pi / 2) ** 2
    unclipped = 1 - f[1:] / f[:-1]
    beta = schedules.cosine(1000).beta[1:]
    assert float(unclipped.min()) < 1e-4  # and is kept
    changed = beta != unclipped
    assert beta[changed].unique().tolist() == [0.999]
    assert int((unclipped > 0.999).sum()) == int(changed.sum())
    assert_close(beta[~changed], unclipped[~changed])


def tables(schedule: NoiseSchedule) -> tuple[torch.Tensor, ...]:
    """beta, alpha, alpha_bar, beta_tilde and snr."""
    return schedule.beta, schedule.alpha, schedule.alpha_bar, schedule.beta_tilde, schedule.snr


@quiet
@pytest.mark.parametrize("name", schedules.NAMED)
def test_tables_are_float64_and_one_longer_than_T(name):
    schedule = named(name, 30)
    assert schedule.T == 30
    for table in (*tables(schedule), *schedule.mu_tilde_weights):
        assert table.dtype == torch.float64 and table.shape == (31,)
    assert schedule.beta[0] == 0 and schedule.alpha_bar[0] == 1 and schedule.snr[0] == torch.inf


@pytest.mark.equation("4")
@pytest.mark.equation("7")
@given(some_betas)
def test_tables_against_a_naive_loop(betas):
    schedule = quietly(from_betas, betas)
    before = 1.0
    for t, beta in enumerate(betas, 1):
        now = before * (1 - beta)
        tilde = (1 - before) / (1 - now) * beta
        of_x_0 = math.sqrt(before) * beta / (1 - now)
        of_x_t = math.sqrt(1 - beta) * (1 - before) / (1 - now)
        got = [table[t] for table in (*tables(schedule), *schedule.mu_tilde_weights)]
        expected = [beta, 1 - beta, now, tilde, now / (1 - now), of_x_0, of_x_t]
        wanted = torch.tensor(expected, dtype=torch.float64)
        assert_close(torch.stack(got), wanted, rtol=1e-7, atol=1e-12)
        before = now


@given(some_betas)
def test_alpha_bar_falls_and_beta_tilde_stays_below_beta(betas):
    schedule = quietly(from_betas, betas)
    assert (schedule.alpha_bar.diff() < 0).all()
    assert schedule.beta_tilde[1] == 0
    assert (schedule.beta_tilde[1:] < schedule.beta[1:]).all() and (schedule.beta_tilde >= 0).all()


@given(some_betas, st.data())
def test_strided_schedule_telescopes(betas, data):
    schedule = quietly(from_betas, betas)
    tau = even_tau(schedule.T, data.draw(st.integers(1, schedule.T)))
    visited = schedule.strided(tau)
    assert len(tau) - 1 == visited.T
    assert_close(visited.alpha_bar, schedule.alpha_bar[tau], rtol=1e-9, atol=0)


def test_reverse_variance(schedule):
    assert torch.equal(schedule.reverse_variance("beta"), schedule.beta)
    assert torch.equal(schedule.reverse_variance("beta_tilde"), schedule.beta_tilde)
    assert torch.equal(schedule.reverse_variance(), schedule.beta)
    with pytest.raises(ValueError, match=r"unknown variance 'gamma'; choose one of beta, beta_t"):
        schedule.reverse_variance("gamma")


def test_striding_by_a_list_is_striding_by_a_tensor(schedule):
    tau = [0, 3, 50, 100]
    assert_close(schedule.strided(tau).beta, schedule.strided(torch.tensor(tau)).beta)


@pytest.mark.parametrize("tau", [[5, 10, 20], [1, 100], [-1, 5], [0], [0, 20, 10]])
def test_a_stride_begins_at_the_data_and_goes_up(schedule, tau):
    for steps in (tau, torch.tensor(tau)):
        with pytest.raises(ValueError, match=r"tau must begin at 0|must lie strictly between"):
            schedule.strided(steps)


def test_striding_by_one_changes_nothing(schedule):
    again = schedule.strided(even_tau(schedule.T, schedule.T))
    assert_close(again.beta, schedule.beta, rtol=1e-9, atol=1e-12)


@given(st.integers(1, 2000), st.data())
def test_even_tau(T, data):
    S = data.draw(st.integers(1, T))
    tau = even_tau(T, S)
    assert tau.dtype == torch.int64 and len(tau) == S + 1
    assert tau[0] == 0 and tau[-1] == T
    gaps = tau.diff()
    assert int(gaps.min()) >= T // S and int(gaps.max()) <= -(-T // S)


@pytest.mark.parametrize("S", [0, -1, 11])
def test_even_tau_errors(S):
    with pytest.raises(ValueError, match=r"must lie in 1\.\.10"):
        even_tau(10, S)


def test_beta_of_one_is_legal_at_the_last_step_only():
    schedule = from_betas([0.1, 0.2, 1.0])
    assert schedule.alpha_bar[-1] == 0 and schedule.snr[-1] == 0
    assert_close(schedule.beta_tilde[-1], 1 - schedule.alpha_bar[-2])
    with pytest.raises(ValueError, match="beta_2 = 1,"):
        from_betas([0.1, 1.0, 0.2])


@pytest.mark.parametrize("bad", [0.0, -0.1, 1.5, math.nan, math.inf])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_betas_outside_the_unit_interval(bad, position):
    betas = [0.5, 0.5, 0.5]
    betas[position] = bad
    with pytest.raises(ValueError, match=f"beta_{position + 1} = "):
        from_betas(betas)


@pytest.mark.parametrize("table", [torch.zeros(2, 2), torch.zeros(1), torch.tensor([0.1, 0.2])])
def test_tables_of_the_wrong_form(table):
    with pytest.raises(ValueError, match="begins with beta"):
        NoiseSchedule(table)


def test_warns_when_the_chain_does_not_end_in_noise():
    with pytest.warns(UserWarning, match=r"alpha_bar_T = 0\.0481"):
        schedules.linear(300)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        from_betas([0.9991])
        schedules.linear(1000)
    with pytest.warns(UserWarning, match="alpha_bar_T"):
        from_betas([0.9989])


def test_the_rescaled_schedule_that_the_warning_proposes_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        schedules.linear(300, rescaled=True)


@pytest.mark.parametrize("T", [0, -3, 2.5, "10"])
@pytest.mark.parametrize("name", schedules.NAMED)
def test_number_of_steps_must_be_a_positive_whole_number(name, T):
    with pytest.raises(ValueError, match="whole number of at least 1"):
        named(name, T)


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown schedule 'cosinus'.*linear.*cosine"):
        named("cosinus", 10)


@pytest.mark.parametrize(
    "t", [3, [1, 2], torch.tensor([1.0, 2.0]), torch.tensor([True, False]), torch.tensor([1j, 2j])]
)
def test_t_of_the_wrong_type(schedule, t):
    with pytest.raises(TypeError, match="tensor of integers"):
        schedule.check_t(t, 2)


@pytest.mark.parametrize(
    "t",
    [[0, 1], [1, 101], [-1, 5], [[1], [2]], [1, 2, 3], [1]],
    ids=["zero", "above", "negative", "B1", "long", "short"],
)
def test_t_out_of_range_or_of_the_wrong_shape(schedule, t):
    with pytest.raises(ValueError, match=r"must lie in 1\.\.100|must have shape \(2,\)"):
        schedule.check_t(torch.tensor(t), 2)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.int64, torch.uint8])
def test_every_integer_type_is_legal(schedule, dtype):
    t = torch.tensor([1, 100], dtype=dtype)
    like = torch.zeros(2, 3, 4, 4)
    assert_close(schedule.at(schedule.beta, t, like).flatten(), schedule.beta[[1, 100]].float())


def test_at_has_the_shape_and_dtype_of_what_it_multiplies(schedule):
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        for shape in ((3,), (3, 2), (3, 1, 8, 8)):
            like = torch.zeros(shape, dtype=dtype)
            got = schedule.at(schedule.alpha_bar, torch.tensor([1, 50, 100]), like)
            assert got.dtype == dtype and got.shape == (3, *[1] * (len(shape) - 1))
            assert_close(got.flatten(), schedule.alpha_bar[[1, 50, 100]].to(dtype))


def test_pixels_that_nobody_has_scaled_are_an_error(schedule):
    pixels = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    with pytest.raises(TypeError, match=r"floating-point numbers, got torch.uint8; .*to_model"):
        schedule.at(schedule.alpha_bar, torch.tensor([1, 2]), pixels)


def test_signal_and_noise_are_sine_and_cosine_of_one_angle(schedule):
    t = torch.arange(1, schedule.T + 1)
    signal, noise = schedule.signal_and_noise(t, torch.zeros(schedule.T, dtype=torch.float64))
    assert_close(signal**2 + noise**2, torch.ones_like(signal))
    assert_close(signal**2 / noise**2, schedule.snr[1:])


def test_the_same_step_for_a_whole_batch():
    assert same_t(4).shape == (1,) and same_t(4).dtype == torch.int64
    assert_close(same_t(7, 3), torch.tensor([7, 7, 7]))


@pytest.mark.parametrize(
    ("ours", "theirs"), [("linear", "linear"), ("cosine", "squaredcos_cap_v2")]
)
def test_tables_agree_with_diffusers(ours, theirs, their_t):
    """Theirs are float32."""
    schedule = named(ours, 1000)
    reference = DDPMScheduler(
        num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, beta_schedule=theirs
    )
    t = torch.arange(1, 1001)
    assert_close(schedule.beta[t].float(), reference.betas[their_t(t)], rtol=2e-4, atol=1e-7)
    their_bars = getattr(reference, "alphas_cumprod")  # noqa: B009 (a name that we do not use)
    assert_close(schedule.alpha_bar[t].float(), their_bars[their_t(t)], rtol=2e-3, atol=1e-7)


@quiet
def test_zero_terminal_changes_the_last_step_only():
    before = schedules.linear(50)
    after = schedules.zero_terminal(before)
    assert_close(after.beta[:-1], before.beta[:-1])
    assert after.beta[-1] == 1 and after.alpha_bar[-1] == 0
