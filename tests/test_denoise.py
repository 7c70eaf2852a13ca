"""The denoiser: the same estimate whatever the network predicts, and what a network is shown."""

from dataclasses import replace

import pytest
import torch
from conftest import best
from torch import nn
from torch.testing import assert_close

from tutorial_lib.beyond.solvers import CHOSEN, SAMPLERS, karras_tau
from tutorial_lib.denoise import denoiser, self_conditioned
from tutorial_lib.diffusion import TARGETS, q_posterior, q_sample
from tutorial_lib.nets.unet import UNet
from tutorial_lib.sample import final
from tutorial_lib.schedule import even_tau, linear, same_t

MEAN, STD = 0.5, 0.3


def noise(*shape: int, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def walk(name: str, denoise, schedule, x_T, steps: int = 7):
    """The frames of a sampler of that name, always with the same noise."""
    own = {"generator": torch.Generator().manual_seed(1)} if name == "ddpm" else {}
    return SAMPLERS[name](denoise, schedule, x_T, steps=steps, **own)


def gain_and_offset(schedule, t: int) -> tuple[float, float]:
    """E[x_0 | x_t] = gain x_t + offset of data N(MEAN, STD^2), by Bayes' rule for Gaussians."""
    ab = float(schedule.alpha_bar[t])
    gain = ab**0.5 * STD**2 / (ab * STD**2 + 1 - ab)
    return gain, MEAN - gain * ab**0.5 * MEAN


# --- what it says


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("clip", [True, False])
def test_perfect_networks_of_every_target_are_one_denoiser(schedule, target, clip):
    """At every step, and equal to what Bayes' rule says."""
    t = torch.arange(1, schedule.T + 1)
    x_t = 2 * noise(schedule.T, 1, 3, 3)
    denoise = denoiser(best(schedule, target, MEAN, STD), schedule, target=target, clip=clip)
    lines = torch.tensor([gain_and_offset(schedule, k) for k in t.tolist()], dtype=torch.float64)
    gain, offset = lines.view(-1, 2, 1, 1, 1).unbind(1)
    expected = gain * x_t + offset
    assert float(expected.abs().max()) > 1  # some would be clipped
    expected = expected.clamp(-1, 1) if clip else expected
    assert_close(denoise(x_t, t), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("target", TARGETS)
def test_the_right_prediction_leads_back_to_the_data(schedule, target, generator):
    """A network that was told x_0 and the noise: the denoiser returns that x_0."""
    t = torch.arange(1, schedule.T + 1)
    x_0 = torch.rand(schedule.T, 2, generator=generator, dtype=torch.float64) * 2 - 1
    eps = noise(schedule.T, 2)
    x_t = q_sample(schedule, x_0, t, eps)
    signal, spread = schedule.alpha_bar[t, None].sqrt(), (1 - schedule.alpha_bar[t, None]).sqrt()
    mu, _ = q_posterior(schedule, x_0, x_t, t)
    said = {"eps": eps, "x_0": x_0, "v": signal * eps - spread * x_0, "mu": mu}[target]
    denoise = denoiser(lambda x_t, t: said, schedule, target=target, clip=False)
    assert_close(denoise(x_t, t), x_0, rtol=0, atol=1e-6)


def test_clipping_clamps_to_the_range_of_pixels_and_nothing_else(schedule):
    said = torch.tensor([[-7.0, -1.0, -0.4, 0.0, 0.9, 1.0, 1.0001, 3.0]])
    free, clipped = (
        denoiser(lambda x_t, t: said, schedule, target="x_0", clip=clip) for clip in (False, True)
    )
    x_t, t = torch.zeros(1, 8), same_t(50)
    assert torch.equal(free(x_t, t), said)
    expected = torch.tensor([[-1.0, -1.0, -0.4, 0.0, 0.9, 1.0, 1.0, 1.0]])
    assert torch.equal(clipped(x_t, t), expected)


def test_an_unknown_target_is_refused_at_once(schedule):
    """Not when the first image is asked for, an hour later."""
    with pytest.raises(ValueError, match=r"unknown target 'score'; choose one of eps, x_0, v, mu"):
        denoiser(best(schedule, "eps"), schedule, target="score", clip=True)


@pytest.mark.parametrize("given", [{}, {"target": "eps"}, {"clip": True}])
def test_target_and_clip_have_to_be_said(schedule, given):
    with pytest.raises(TypeError, match="required keyword-only argument"):
        denoiser(best(schedule, "eps"), schedule, **given)


# --- what it passes on


def test_keywords_are_passed_on_to_the_network(schedule):
    asked = []

    def network(x_t, t, **given):
        asked.append(given)
        return given.get("x_0_hat", x_t) + 1

    denoise = denoiser(network, schedule, target="x_0", clip=False)
    x_t, t, y, x_0_hat = noise(3, 2), same_t(5, 3), torch.arange(3), noise(3, 2, seed=1)
    assert torch.equal(denoise(x_t, t), x_t + 1)
    assert torch.equal(denoise(x_t, t, y=y, x_0_hat=x_0_hat), x_0_hat + 1)
    assert asked[0] == {} and asked[1].keys() == {"y", "x_0_hat"}
    assert asked[1]["y"] is y and asked[1]["x_0_hat"] is x_0_hat


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("spoken", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("target", TARGETS)
def test_the_estimate_has_the_type_of_the_question(schedule, dtype, spoken, target):
    """Whatever type the network answers in, as one in mixed precision does."""

    def network(x_t, t):
        return best(schedule, target)(x_t, t).to(spoken)

    denoise = denoiser(network, schedule, target=target, clip=True)
    x_t = noise(4, 1, 2, 2, dtype=dtype)
    assert denoise(x_t, same_t(30, 4)).dtype == dtype
    assert denoise(x_t, same_t(30, 4)).shape == x_t.shape


def test_question_and_step_are_where_the_network_is(schedule):
    """On the device "meta", which stands for an accelerator here; t may come from the CPU."""
    asked = []

    def network(x_t, t):
        asked.append((x_t.device.type, t.device.type))
        return x_t

    denoise = denoiser(network, schedule, target="x_0", clip=True)
    answer = denoise(torch.zeros(2, 3, device="meta"), same_t(5, 2))
    assert asked == [("meta", "meta")] and answer.device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("target", TARGETS)
def test_a_walk_on_a_gpu_is_that_of_the_cpu(schedule, name, target):
    x_T = noise(3, 1, 2, 2)

    def drawn(device):
        def network(x_t, t, x_0_hat=None):
            assert x_t.device.type == t.device.type == device
            assert x_0_hat is None or x_0_hat.device.type == device
            return best(schedule, target)(x_t.cpu(), t.cpu()).to(device)

        denoise = self_conditioned(denoiser(network, schedule, target=target, clip=True))
        return final(walk(name, denoise, schedule, x_T.to(device)))

    assert_close(drawn("cuda").cpu(), drawn("cpu"), rtol=0, atol=1e-6)


@pytest.mark.parametrize("t", [[0, 1], [1, 101]])
def test_steps_outside_the_schedule(schedule, t):
    denoise = denoiser(lambda x_t, t: x_t, schedule, target="eps", clip=True)
    with pytest.raises(ValueError, match=r"must lie in 1\.\.100"):
        denoise(torch.zeros(2, 1), torch.tensor(t))


# --- gradients: guidance needs them, samplers do not record any


@pytest.mark.parametrize("target", TARGETS)
def test_gradients_flow_through_a_denoiser(schedule, target):
    """d x_0_hat / d x_t is the gain of Bayes' rule, and nothing where the estimate is clipped."""
    network = best(schedule, target, MEAN, STD)
    for k in (1, 50, 100):
        gain, offset = gain_and_offset(schedule, k)
        x_t = torch.tensor([[0.1], [(3 - offset) / gain]], dtype=torch.float64, requires_grad=True)
        for clip, slope in ((False, [[gain], [gain]]), (True, [[gain], [0.0]])):
            x_0_hat = denoiser(network, schedule, target=target, clip=clip)(x_t, same_t(k, 2))
            (gradient,) = torch.autograd.grad(x_0_hat.sum(), x_t)
            expected = torch.tensor(slope, dtype=torch.float64)
            assert_close(gradient, expected, rtol=0, atol=1e-6)


def learning(schedule):
    """A denoiser with a weight in it that has a gradient."""
    weight, network = torch.ones((), dtype=torch.float64, requires_grad=True), best(schedule, "v")
    return denoiser(lambda x_t, t: weight * network(x_t, t), schedule, target="v", clip=False)


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_record_no_gradient(schedule, name):
    denoise, x_T = learning(schedule), noise(2, 1, 2, 2)
    assert denoise(x_T, same_t(5, 2)).requires_grad  # on its own it does
    frames = list(walk(name, denoise, schedule, x_T))
    assert not any(frame.x.requires_grad or frame.x_0_hat.requires_grad for frame in frames)


@pytest.mark.parametrize("name", SAMPLERS)
def test_between_frames_the_caller_may_use_gradients(schedule, name):
    """A sampler switches them off for itself alone."""
    for frame in walk(name, learning(schedule), schedule, noise(2, 1, 2, 2)):
        assert torch.is_grad_enabled()
        x = frame.x.clone().requires_grad_(True)
        assert torch.autograd.grad((x**2).sum(), x)[0].equal(2 * frame.x)


@pytest.mark.parametrize("name", SAMPLERS)
def test_guidance_by_a_gradient_inside_a_sampler(schedule, name):
    """Of a denoiser that follows the gradient of a likelihood, which a sampler leaves it.

    Data N(MEAN, STD^2) of which some y = x_0 + N(0, 0.5^2) was seen: estimates moved by the
    gradient of log p(y | x_0_hat), in units of the variance of x_0 given x_t, are those of E[x_0 |
    x_t, y] in closed form.
    """
    y, seen = 1.2, 0.5**2
    plain = denoiser(best(schedule, "eps", MEAN, STD), schedule, target="eps", clip=False)
    left = {}  # variance of x_0 given x_t

    def guided(x_t, t):
        with torch.enable_grad():
            x_0_hat = plain(x_t, t).requires_grad_(True)
            variance = left[int(t[0])]
            log_p = -((y - x_0_hat) ** 2) / (2 * (seen + variance))
            (gradient,) = torch.autograd.grad(log_p.sum(), x_0_hat)
        return x_0_hat + variance * gradient

    for k in range(1, schedule.T + 1):
        ab = float(schedule.alpha_bar[k])
        left[k] = 1 / (1 / STD**2 + ab / (1 - ab))
    # the posterior of the data is Gaussian as well
    std = (1 / (1 / STD**2 + 1 / seen)) ** 0.5
    mean = std**2 * (MEAN / STD**2 + y / seen)
    known = denoiser(best(schedule, "eps", mean, std), schedule, target="eps", clip=False)
    x_T = noise(5, 1)
    ours, theirs = (list(walk(name, one, schedule, x_T)) for one in (guided, known))
    for one, other in zip(ours, theirs, strict=True):
        assert not one.x.requires_grad
        assert_close(one.x, other.x, rtol=0, atol=1e-6)


# --- a network that is shown its own last estimate


class Watched:
    """A denoiser that notes each question, what it was shown and what it said."""

    def __init__(self) -> None:
        self.t: list[int] = []
        self.shown: list[torch.Tensor | None] = []
        self.said: list[torch.Tensor] = []

    def __call__(self, x_t, t, **given):
        assert given.keys() <= {"x_0_hat"}
        self.t.append(t.unique().item())
        self.shown.append(given.get("x_0_hat"))
        self.said.append(0.3 * x_t + 0.1 * len(self.t))  # never twice the same
        return self.said[-1]


@pytest.mark.parametrize("name", SAMPLERS)
def test_at_each_step_it_is_shown_its_own_last_estimate(schedule, name):
    """Heun asks twice a step, but for the last: also its second question goes with the first's
    answer.
    """
    watched = Watched()
    frames = list(walk(name, self_conditioned(watched), schedule, noise(3, 1, 2, 2), steps=5))
    chosen = {"heun": karras_tau(schedule, 5), "dpm++": karras_tau(schedule, 5, **CHOSEN)}
    tau = chosen.get(name, even_tau(schedule.T, 5))
    visited = tau[1:].flip(0).tolist()
    twice = [t for t in visited[1:] for _ in range(2)]
    assert watched.t == ([visited[0], *twice] if name == "heun" else visited)
    assert watched.shown[0] is None
    for shown, said in zip(watched.shown[1:], watched.said, strict=False):
        assert shown is said
    first_of_each_step = watched.said[::2] if name == "heun" else watched.said
    for frame, said in zip(frames[1:], first_of_each_step, strict=True):
        assert torch.equal(frame.x_0_hat, said)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_second_walk_starts_anew(schedule, name):
    """From the end of one to the start of the next t rises; the last estimate was of others."""
    watched, x_T = Watched(), noise(3, 1, 2, 2)
    denoise = self_conditioned(watched)
    final(walk(name, denoise, schedule, x_T, steps=4))
    calls = len(watched.t)
    final(walk(name, denoise, schedule, x_T + 1, steps=4))
    assert len(watched.t) == 2 * calls
    anew = [shown is None for shown in watched.shown]
    assert anew == [True, *[False] * (calls - 1)] * 2


@pytest.mark.parametrize("shape", [(2, 1, 2, 2), (3, 1, 4, 4), (4, 1, 2, 2)])
def test_another_batch_starts_anew(shape):
    watched = Watched()
    denoise = self_conditioned(watched)
    denoise(noise(3, 1, 2, 2), same_t(9, 3))
    denoise(noise(*shape), same_t(8, shape[0]))
    assert [shown is None for shown in watched.shown] == [True, True]
    denoise(noise(*shape), same_t(8, shape[0]))
    assert watched.shown[2] is watched.said[1]


def test_two_denoisers_remember_apart():
    watched = Watched()
    one, other = self_conditioned(watched), self_conditioned(watched)
    one(noise(2, 1), same_t(9, 2))
    other(noise(2, 1), same_t(8, 2))
    one(noise(2, 1), same_t(7, 2))
    assert watched.shown[1] is None and watched.shown[2] is watched.said[0]


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_u_net_is_shown_zeros_first_and_clipped_estimates_then(schedule, tiny, name):
    """The walk of `self_conditioned` against one whose estimates go from hand to hand."""
    torch.manual_seed(0)
    network = UNet(replace(tiny, self_conditioning=True)).eval()
    nn.init.normal_(network.out.weight, std=0.3)
    denoise = denoiser(network, schedule, target="v", clip=True)
    x_T, last = noise(2, 1, 8, 8, dtype=torch.float32), [torch.zeros(2, 1, 8, 8)]

    def by_hand(x_t, t):
        said = network(x_t, t, last[-1])
        signal, spread = schedule.signal_and_noise(t, x_t)
        last.append((signal * x_t - spread * said).clamp(-1, 1))
        return last[-1]

    ours, theirs = (
        final(walk(name, one, schedule, x_T)) for one in (self_conditioned(denoise), by_hand)
    )
    assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    without = final(walk(name, denoise, schedule, x_T))
    assert float((ours - without).abs().max()) > 1e-3  # it does listen


def test_a_schedule_of_one_step_needs_no_memory():
    schedule, watched = linear(1000), Watched()
    final(walk("ddim", self_conditioned(watched), schedule, noise(2, 1), steps=1))
    assert watched.t == [1000] and watched.shown == [None]
