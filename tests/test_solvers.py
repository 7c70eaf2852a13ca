"""DDIM, DPM-Solver++(2M) and Heun where the answer is known, and against diffusers.

What all three solve is an ordinary differential equation.  Along it every coordinate keeps its rank
among the data noised to the same step: of a Gaussian, its distance from the mean in standard
deviations; of any distribution on the line, its quantile.  So the exact end of every path is a
formula, with no solver in it.
"""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from conftest import best
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, HeunDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from tutorial_lib.beyond.solvers import CHOSEN, SAMPLERS, dpm_solver, heun, karras_tau
from tutorial_lib.denoise import denoiser
from tutorial_lib.sample import ddim, ddpm, final
from tutorial_lib.schedule import cosine, even_tau, linear, zero_terminal
from tutorial_lib.toys import Mixture

MEAN, STD = 0.4, 0.3
FAST = {"ddim": ddim, "dpm++": dpm_solver, "heun": heun}
ORDER = {"ddim": 1, "dpm++": 2, "heun": 2}


def knowing(schedule, target: str = "x_0", clip: bool = False):
    """E[x_0 | x_t] of data N(MEAN, STD^2), in closed form, by way of any target."""
    return denoiser(best(schedule, target, MEAN, STD), schedule, target=target, clip=clip)


def clipped(schedule):
    """The same, held in [-1, 1]."""
    return knowing(schedule, clip=True)


def gaussian_end(schedule, x, t: int):
    """Where the equation leads x_t of data N(MEAN, STD^2): as many standard deviations from the
    mean as before.
    """
    ab = float(schedule.alpha_bar[t])
    return MEAN + STD * (x - math.sqrt(ab) * MEAN) / math.sqrt(ab * STD**2 + 1 - ab)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def default_tau(name: str, schedule, S: int) -> torch.Tensor:
    """The steps that a sampler visits unless it is told which."""
    if name in ("ddpm", "ddim"):
        return even_tau(schedule.T, S)
    return karras_tau(schedule, S, **(CHOSEN if name == "dpm++" else {}))


def missed(name: str, schedule, x_T, steps: int) -> torch.Tensor:
    """How far from the exact end each path of a sampler ends, for Gaussian data."""
    first, *_, last = FAST[name](knowing(schedule), schedule, x_T, steps=steps)
    return last.x - gaussian_end(schedule, x_T, first.t)


def counted(denoise):
    """The same denoiser, and the list of steps at which it was asked."""
    asked = []

    def counting(x, t):
        assert len(set(t.tolist())) == 1
        asked.append(int(t[0]))
        return denoise(x, t)

    return counting, asked


@pytest.mark.equation("Lu Algorithm 2")
@pytest.mark.equation("Karras Algorithm 1")
@pytest.mark.parametrize("make", [cosine, partial(linear, rescaled=True)], ids=["cosine", "linear"])
@pytest.mark.parametrize("name", FAST)
def test_error_on_a_gaussian_falls_with_the_order_of_the_method(make, name):
    """Twice the steps: half the error of DDIM, and a quarter of the others', to within 10 % of the
    order, on a schedule so fine that its steps are where they should be.
    """
    schedule, x_T = make(100_000), noise(200, 1)
    error = [float(missed(name, schedule, x_T, S).abs().max()) for S in (20, 40, 80, 160, 320)]
    measured = [math.log2(a / b) for a, b in pairwise(error)]
    assert abs(measured[-1] - ORDER[name]) < 0.1 * ORDER[name], (error, measured)
    assert min(measured) > 0.9 * ORDER[name], (error, measured)
    assert error[-1] < (0.03 if name == "ddim" else 0.001)


def quantile_end(mixture: Mixture, schedule, x, t: int):
    """Where the equation leads x_t of a mixture on the line: to the data's quantile of the same
    rank (bisection).
    """

    def rank(y, ab):
        spread = math.sqrt(ab * mixture.variance + 1 - ab)
        of_each = torch.special.ndtr((y - math.sqrt(ab) * mixture.means.T) / spread)
        return (mixture.weights * of_each).sum(1, True)

    wanted = rank(x, float(schedule.alpha_bar[t]))
    low, high = torch.full_like(x, -10), torch.full_like(x, 10)
    for _ in range(80):
        middle = (low + high) / 2
        below = rank(middle, 1.0) < wanted
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return low


@pytest.mark.parametrize(
    ("name", "S", "bound"), [("ddim", 400, 0.02), ("dpm++", 100, 0.004), ("heun", 60, 0.004)]
)
def test_paths_of_a_mixture_end_at_the_quantile_they_began_with(name, S, bound):
    weights = torch.tensor([0.3, 0.7], dtype=torch.float64)
    mixture = Mixture(weights, torch.tensor([[-1.0], [0.5]], dtype=torch.float64), 0.04)
    schedule = cosine(2000)

    def denoise(x, t):
        return mixture.x_0_hat(x, float(schedule.alpha_bar[t[0]]))

    x_T = torch.special.ndtri(torch.linspace(0.02, 0.98, 49, dtype=torch.float64))[:, None]
    first, *_, last = FAST[name](denoise, schedule, x_T, steps=S)
    away = (last.x - quantile_end(mixture, schedule, x_T, first.t)).abs()
    # at rank 0.3 the two modes part: a path that starts a hair beside it may end on the wrong side
    at_the_parting = (torch.special.ndtr(x_T) - 0.3).abs() < 0.02
    assert float(away[~at_the_parting].max()) < bound


@pytest.mark.parametrize(("name", "steps", "share"), [("dpm++", 40, 0.7), ("heun", 20, 0.9)])
def test_at_forty_calls_of_the_network_second_order_beats_first(name, steps, share):
    schedule, x_T = cosine(1000), noise(500, 1)
    ddims, its = (
        float(missed(which, schedule, x_T, S).square().mean().sqrt())
        for which, S in (("ddim", 40), (name, steps))
    )
    assert its < share * ddims


@pytest.mark.equation("Song 16")
@pytest.mark.parametrize(
    "make", [partial(linear, 1000), partial(cosine, 1000), partial(linear, 50, rescaled=True)]
)
def test_eta_1_on_the_whole_schedule_is_ddpm_with_beta_tilde(make):
    schedule, x_T = make(), noise(3, 1, 2, 2)

    def drawn(sampler):
        generator = torch.Generator().manual_seed(1)
        return final(sampler(knowing(schedule), schedule, x_T, generator=generator))

    assert_close(drawn(ddpm), drawn(partial(ddim, eta=1.0)), rtol=0, atol=1e-12)


@pytest.mark.equation("Song 12")
@pytest.mark.equation("Song 16")
@pytest.mark.parametrize("S", [50, 8])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_follows_the_law_of_its_recursion(S, eta):
    """For Gaussian data every step is a line plus noise: mean and variance follow by arithmetic."""
    schedule, n = cosine(200), 40_000
    tau = even_tau(200, S).tolist()
    bars = [float(schedule.alpha_bar[t]) for t in tau]
    mean, var = 0.0, 1.0
    for i in range(S, 0, -1):
        now, before = bars[i], bars[i - 1]
        gain = math.sqrt(now) * STD**2 / (now * STD**2 + 1 - now)  # x_0_hat = offset + gain x
        offset = MEAN - gain * math.sqrt(now) * MEAN
        sigma2 = eta**2 * (1 - before) / (1 - now) * (1 - now / before)
        of_eps = math.sqrt(1 - before - sigma2)
        of_x_0 = math.sqrt(before) - of_eps * math.sqrt(now / (1 - now))
        slope = of_x_0 * gain + of_eps / math.sqrt(1 - now)
        mean, var = slope * mean + of_x_0 * offset, slope**2 * var + sigma2
    generator = torch.Generator().manual_seed(3)
    x = final(ddim(knowing(schedule), schedule, noise(n, 1), generator=generator, steps=S, eta=eta))
    assert_close(float(x.mean()), mean, rtol=0, atol=4 * math.sqrt(var / n))
    assert_close(float(x.std()), math.sqrt(var), rtol=4 / math.sqrt(2 * n), atol=0)


# --- diffusers counts steps from 0, so its step t - 1 is our t


def betas(schedule):
    return {"num_train_timesteps": schedule.T, "trained_betas": schedule.beta[1:].numpy()}


def their_walk(theirs, tau, network, x):
    """diffusers' loop over the same steps, at double precision."""
    theirs.set_timesteps(timesteps=(tau[1:].flip(0) - 1).tolist())
    for t in theirs.timesteps:
        output = network(theirs.scale_model_input(x, t), t.expand(len(x)).long() + 1)
        x = theirs.step(output, t, x).prev_sample
    return x


@pytest.mark.equation("Song 12")
@pytest.mark.parametrize("S", [10, 50])
@pytest.mark.parametrize("clip", [False, True])
def test_ddim_against_diffusers(S, clip):
    schedule, x_T = linear(1000), noise(4, 1, 3, 3)
    theirs = DDIMScheduler(
        **betas(schedule), clip_sample=clip, set_alpha_to_one=True, timestep_spacing="trailing"
    )
    theirs.set_timesteps(S)
    network, x = best(schedule, "eps", MEAN, STD), x_T
    assert_close(theirs.timesteps, even_tau(1000, S)[1:].flip(0) - 1)
    for t in theirs.timesteps:
        output = network(x, t.expand(4) + 1)
        x = theirs.step(output, t, x, use_clipped_model_output=True).prev_sample
    ours = final(ddim(knowing(schedule, "eps", clip), schedule, x_T, steps=S))
    assert_close(ours, x, rtol=0, atol=1e-5)


@pytest.mark.equation("Lu Algorithm 2")
@pytest.mark.parametrize("S", [5, 10, 50])
@pytest.mark.parametrize(("make", "target"), [(linear, "eps"), (linear, "v"), (cosine, "v")])
def test_dpm_solver_against_diffusers(S, make, target):
    """Not eps on the cosine: theirs keeps its tables in float32, and there x_0 is eps' error
    divided by 5e-5.
    """
    schedule, x_T = make(1000), noise(4, 1, 3, 3)
    theirs = DPMSolverMultistepScheduler(
        **betas(schedule),
        final_sigmas_type="zero",
        algorithm_type="dpmsolver++",
        prediction_type={"eps": "epsilon", "v": "v_prediction"}[target],
    )
    tau = even_tau(1000, S)
    x = their_walk(theirs, tau, best(schedule, target, MEAN, STD), x_T)
    ours = final(dpm_solver(knowing(schedule, target), schedule, x_T, steps=tau))
    assert_close(ours, x, rtol=0, atol=1e-5)


@pytest.mark.equation("Karras Algorithm 1")
@pytest.mark.parametrize("S", [5, 10, 50])
def test_heun_against_diffusers(S):
    schedule, x_T = linear(1000), noise(4, 1, 3, 3)
    theirs, tau = HeunDiscreteScheduler(**betas(schedule)), karras_tau(schedule, S)
    started = x_T / schedule.alpha_bar[tau[-1]].sqrt()  # theirs keeps x / alpha
    x = their_walk(theirs, tau, best(schedule, "eps", MEAN, STD), started)
    ours = final(heun(knowing(schedule, "eps"), schedule, x_T, steps=S))
    assert_close(ours, x, rtol=0, atol=1e-5)


# --- the manners of all four


def test_all_four_have_a_name():
    assert list(SAMPLERS.items()) == [("ddpm", ddpm), *FAST.items()]


@pytest.mark.parametrize(("name", "calls"), [("ddpm", 7), ("ddim", 7), ("dpm++", 7), ("heun", 13)])
def test_frames_and_calls_of_the_denoiser(name, calls):
    schedule, x_T = cosine(100), noise(2, 1, 2, 2)
    denoise, asked = counted(clipped(schedule))
    own = {"generator": torch.Generator().manual_seed(0)} if name == "ddpm" else {}
    frames = list(SAMPLERS[name](denoise, schedule, x_T, steps=7, **own))
    tau = default_tau(name, schedule, 7)
    assert [frame.t for frame in frames] == tau.flip(0).tolist()
    assert len(asked) == calls and set(asked) == set(tau[1:].tolist())
    assert torch.equal(frames[0].x, x_T) and not frames[0].x_0_hat.any()
    # without noise nothing is left to add
    assert_close(frames[-1].x, frames[-1].x_0_hat, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", FAST)
def test_one_step_is_the_estimate_from_pure_noise(name):
    schedule, x_T = cosine(100), noise(2, 1, 2, 2)
    begins = int(default_tau(name, schedule, 1)[-1])
    x = final(FAST[name](clipped(schedule), schedule, x_T, steps=1))
    expected = best(schedule, "x_0", MEAN, STD)(x_T, torch.full((2,), begins)).clamp(-1, 1)
    assert_close(x, expected)


@pytest.mark.parametrize("name", FAST)
def test_clipping_holds_every_estimate_in_range(name):
    schedule, x_T = cosine(100), noise(2, 1, 2, 2)
    wild = denoiser(lambda x, t: 3 * torch.ones_like(x), schedule, target="x_0", clip=True)
    frames = list(FAST[name](wild, schedule, x_T, steps=5))
    assert all(bool((frame.x_0_hat == 1).all()) for frame in frames[1:])


@pytest.mark.parametrize("name", FAST)
def test_deterministic_and_batch_independent(name):
    schedule, x_T = cosine(100), noise(6, 1, 2, 2)
    run = partial(FAST[name], clipped(schedule), schedule, steps=6)
    whole, again = final(run(x_T)), final(run(x_T))
    assert torch.equal(whole, again)
    assert_close(torch.cat([final(run(part)) for part in x_T.split(4)]), whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", FAST)
def test_float32_stays_float32_and_is_precise(name):
    schedule, x_T = cosine(1000), noise(6, 1, 2, 2)
    run = partial(FAST[name], clipped(schedule), schedule, steps=10)
    got = final(run(x_T.float()))
    assert got.dtype == torch.float32
    assert_close(got.double(), final(run(x_T)), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "steps"), [("ddim", 1000), ("dpm++", 200), ("heun", 200), ("heun", 1000)]
)
def test_a_zero_terminal_schedule_is_no_obstacle(name, steps):
    schedule, x_T = zero_terminal(cosine(1000)), noise(6, 1, 2, 2)
    off = missed(name, schedule, x_T, steps)
    assert_close(off, torch.zeros_like(off), rtol=0, atol=0.01)


@pytest.mark.parametrize("name", FAST)
def test_steps_of_ones_own_choice(name):
    """A chain over exactly these, which begins at the last of them."""
    schedule, x_T, tau = cosine(100), noise(6, 1, 2, 2), torch.tensor([0, 3, 20, 70])
    frames = list(FAST[name](clipped(schedule), schedule, x_T, steps=tau))
    assert [frame.t for frame in frames] == [70, 20, 3, 0]
    same = default_tau(name, schedule, 6)
    own = final(FAST[name](clipped(schedule), schedule, x_T, steps=same))
    assert torch.equal(own, final(FAST[name](clipped(schedule), schedule, x_T, steps=6)))


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("S", [0, 101, -3])
def test_illegal_numbers_of_steps(name, S):
    with pytest.raises(ValueError, match=r"must lie in 1\.\.100"):
        final(FAST[name](knowing(cosine(100)), cosine(100), noise(1, 1), steps=S))


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("tau", [[5, 10, 20], [0, 20, 10], [0, 5, 5], [0], [0, 50, 101]])
def test_steps_that_do_not_rise_from_0_to_at_most_T_are_refused(name, tau):
    walk = FAST[name](knowing(cosine(100)), cosine(100), noise(1, 1), steps=torch.tensor(tau))
    with pytest.raises(ValueError, match="tau must begin at 0, where the data are, and rise to at"):
        next(walk)


@pytest.mark.parametrize("eta", [-0.1, 1.5, float("nan")])
def test_illegal_eta(eta):
    walk = ddim(knowing(cosine(10)), cosine(10), noise(1, 1), generator=torch.Generator(), eta=eta)
    with pytest.raises(ValueError, match=r"eta must lie in \[0, 1\]"):
        next(walk)


def test_noise_without_a_generator_is_refused():
    walk = ddim(knowing(cosine(10)), cosine(10), noise(1, 1), eta=0.5)
    with pytest.raises(ValueError, match="from a generator"):
        next(walk)


# --- the steps that heun visits


@given(
    st.sampled_from([cosine(1000), cosine(30), linear(1000), zero_terminal(linear(1000))]),
    st.data(),
)
def test_karras_steps_rise_and_stay_inside(schedule, data):
    S = data.draw(st.integers(1, schedule.T))
    root, largest = data.draw(st.sampled_from([(7, 80), (5, 200), (1, 0.5), (3, 1e9)]))
    tau = karras_tau(schedule, S, root=root, largest=largest)
    assert len(tau) == S + 1 and tau[0] == 0
    assert bool((tau.diff() >= 1).all()) and int(tau[-1]) <= schedule.T


@pytest.mark.equation("Karras 5")
@pytest.mark.parametrize(("root", "high"), [(7, 80.0), (5, 200.0), (4, 40.0)])
def test_karras_steps_are_the_nearest_to_the_formula(root, high):
    """Of Eq. 5 of Karras et al., with this sigma_max and the schedule's own smallest noise."""
    schedule, S = cosine(1000), 12
    ratio = ((1 - schedule.alpha_bar[1:]) / schedule.alpha_bar[1:]).sqrt()
    low = float(ratio[0])
    tau = karras_tau(schedule, S, root=root, largest=high)
    assert (root, high) != (7, 80.0) or torch.equal(tau, karras_tau(schedule, S))  # the default
    for i, t in enumerate(tau[1:].flip(0).tolist()):
        rising = low ** (1 / root) - high ** (1 / root)
        wanted = (high ** (1 / root) + i / (S - 1) * rising) ** root
        nearest = int((ratio.log() - math.log(wanted)).abs().argmin()) + 1
        assert t == nearest
