"""Students of a teacher who knows: for Gaussian data the end of each path is a formula, and so is
what a student should answer in one evaluation.
"""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from conftest import best
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from tutorial_lib import sample, train
from tutorial_lib.beyond import distillation
from tutorial_lib.beyond.distillation import Duel, Eyes, ddim_step, midpoint_step, multistep
from tutorial_lib.config import DiffusionConfig
from tutorial_lib.data import Images
from tutorial_lib.denoise import denoiser
from tutorial_lib.nets.unet import UNet
from tutorial_lib.schedule import cosine, even_tau, same_t

MEAN, STD = 0.4, 0.3
SCHEDULE = cosine(1000)
TEACHER = denoiser(best(SCHEDULE, "x_0", MEAN, STD), SCHEDULE, target="x_0", clip=False)
CONFIG = DiffusionConfig(
    steps=250, batch=128, optimizer="adam", lr=0.02, warmup=10, ema=0.95, precision="no",
    t_sampling="uniform", report_every=50,
)  # fmt: skip


def flow(x, t):
    """Where the path of the teacher leads x_t: as many standard deviations from the mean."""
    alpha_bar = SCHEDULE.alpha_bar[t].to(x).view(-1, *[1] * (x.ndim - 1))
    spread = (alpha_bar * STD**2 + 1 - alpha_bar).sqrt()
    return MEAN + STD * (x - alpha_bar.sqrt() * MEAN) / spread


class Lines(nn.Module):
    """A student on the line: v is linear in x_t, at each t in its own way; as the teacher's."""

    def __init__(self) -> None:
        super().__init__()
        t, x = torch.arange(1, SCHEDULE.T + 1), torch.zeros(SCHEDULE.T, 1, dtype=torch.float64)
        teacher = best(SCHEDULE, "v", MEAN, STD)
        at_0 = teacher(x, t)[:, 0]
        first = torch.zeros(1)  # there is no t = 0
        self.slope = nn.Parameter(torch.cat([first, (teacher(x + 1, t)[:, 0] - at_0).float()]))
        self.shift = nn.Parameter(torch.cat([first, at_0.float()]))

    def forward(self, x, t):
        return self.slope[t][:, None] * x + self.shift[t][:, None]


class Perfect(nn.Module):
    """The v of the student that answers with the end of the path."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))  # something to train

    def forward(self, x, t):
        signal, noise = SCHEDULE.signal_and_noise(t, like=x)
        return (signal * x - flow(x, t)) / noise + self.weight


@pytest.fixture
def x_0(generator):
    return MEAN + STD * torch.randn(400, 1, generator=generator, dtype=torch.float64)


@pytest.fixture
def noise(generator):
    return torch.randn(4000, 1, generator=generator, dtype=torch.float64)


# --- drawing


@pytest.mark.equation("Consistency Algorithm 1")
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_perfect_student_draws_the_data_in_any_number_of_evaluations(noise, generator, steps):
    asked = []

    def student(x, t):
        asked.append(int(t[0]))
        return flow(x, t)

    frames = list(multistep(student, SCHEDULE, noise, generator=generator, steps=steps))
    assert asked == even_tau(1000, steps)[1:].flip(0).tolist()
    assert [frame.t for frame in frames] == [*asked, 0]
    assert_close(frames[-1].x, frames[-1].x_0_hat)
    n = noise.numel()
    assert abs(float(frames[-1].x.mean()) - MEAN) < 5 * STD / n**0.5
    assert abs(float(frames[-1].x.std()) / STD - 1) < 5 / (2 * n) ** 0.5


@pytest.mark.equation("Consistency Algorithm 1")
def test_between_two_answers_there_is_fresh_noise(noise):
    """As much as at that step, whatever was there before."""
    frames = list(
        multistep(
            lambda x, t: 0.5 * torch.ones_like(x),
            SCHEDULE,
            noise,
            generator=torch.Generator().manual_seed(1),
            steps=torch.tensor([0, 300, 700]),
        )
    )
    z = torch.randn(4000, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    alpha_bar = SCHEDULE.alpha_bar[300]
    assert_close(frames[1].x, 0.5 * alpha_bar.sqrt() + (1 - alpha_bar).sqrt() * z)


@pytest.mark.parametrize("tau", [[5, 10], [0, 20, 10], [0, 5, 5], [0], [0, 1001]])
def test_steps_that_do_not_rise_from_0_to_at_most_T_are_refused(noise, generator, tau):
    walk = multistep(flow, SCHEDULE, noise, generator=generator, steps=torch.tensor(tau))
    with pytest.raises(ValueError, match="tau must begin at 0, where the data are, and rise to at"):
        next(walk)


# --- the teacher's path


@pytest.mark.equation("Song 12")
def test_a_ddim_step_is_that_of_the_sampler(noise):
    tau = torch.tensor([0, 200, 650])
    frames = list(sample.ddim(TEACHER, SCHEDULE, noise, steps=tau))
    x = noise
    for i in (2, 1):
        t, s = (same_t(int(tau[k]), len(x)) for k in (i, i - 1))
        x = ddim_step(SCHEDULE, x, TEACHER(x, t), t, s)
        assert_close(x, frames[3 - i].x)


def test_half_as_long_a_midpoint_step_has_about_a_quarter_of_the_error(noise):
    """From t = 640 to 160: where the path leads from both, it must be the same.

    On average over two halvings, since the middle of a piece is rounded to a whole step.
    """
    x, error = noise[:100], []
    for S in (8, 32):
        tau, z = 160 + (480 * torch.arange(S + 1)) // S, x
        for i in range(S, 0, -1):
            t, s = (same_t(int(tau[k]), 100) for k in (i, i - 1))
            z = midpoint_step(TEACHER, SCHEDULE, z, t, s)
        away = flow(z, same_t(160, 100)) - flow(x, same_t(640, 100))
        error.append(float(away.square().mean().sqrt()))
    assert error[0] < 0.004 and error[1] < error[0] / 4


def test_each_item_has_steps_of_its_own(noise):
    x, t = noise[:3], torch.tensor([900, 500, 62])
    s = torch.tensor([400, 499, 0])
    together = midpoint_step(TEACHER, SCHEDULE, x, t, s)
    for i in range(3):
        here = slice(i, i + 1)
        assert_close(midpoint_step(TEACHER, SCHEDULE, x[here], t[here], s[here]), together[here])


# --- consistency


def drawn_piece(x_0, generator, k: int):
    """x_0, eps, the ends of piece number k, and labels."""
    ends, n = even_tau(1000, distillation.PIECES), len(x_0)
    eps = torch.randn(x_0.shape, generator=generator, dtype=x_0.dtype)
    y = torch.zeros(n, dtype=torch.int64)
    return x_0, eps, same_t(int(ends[k]), n), torch.full((n,), int(ends[k - 1])), y


@pytest.mark.equation("Consistency Algorithm 2")
def test_a_perfect_student_pays_next_to_nothing(x_0, generator):
    """What is left is the error of the teacher's step; a student that answers E[x_0 | x_t] pays."""
    _, cost = distillation.consistency(x_0, CONFIG, SCHEDULE, lambda y: TEACHER)
    for k in (1, 4, 16):
        drawn = drawn_piece(x_0, generator, k)
        with torch.no_grad():
            perfect = float(cost(Perfect(), *drawn).mean())
        plain = float(cost(best(SCHEDULE, "v", MEAN, STD), *drawn).mean())
        assert perfect < (0.1 if k == 1 else 0.02)  # in units of the noise, a tenth there
        assert k == 1 or perfect < 0.2 * plain, (k, perfect, plain)


@pytest.mark.equation("Consistency Algorithm 2")
@pytest.mark.equation("Pseudo-Huber")
def test_the_loss_is_the_formula_typed_again(x_0, generator):
    """At the first piece the target is x_s itself; at others the student's answer there."""
    student = best(SCHEDULE, "v", MEAN, STD)
    _, cost = distillation.consistency(x_0, CONFIG, SCHEDULE, lambda y: TEACHER)
    for k in (1, 7):
        _, eps, t, s, y = drawn_piece(x_0, generator, k)
        alpha_bar = SCHEDULE.alpha_bar[t][:, None]
        x_t = alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * eps
        x_s = midpoint_step(TEACHER, SCHEDULE, x_t, t, s)
        wanted = x_s if k == 1 else TEACHER(x_s, s)
        d = (TEACHER(x_t, t) - wanted)[:, 0] / (1 - alpha_bar[:, 0]).sqrt()
        c = distillation.HUBER
        assert_close(cost(student, x_0, eps, t, s, y), (d**2 + c**2).sqrt() - c)


def test_what_is_nearer_to_the_data_is_a_target_and_gets_no_gradient(x_0, generator):
    """In units of the noise at t the answer falls by as much as v grows, and the target stays."""
    network = Perfect()
    network.weight.data += 1.0
    _, cost = distillation.consistency(x_0, CONFIG, SCHEDULE, lambda y: TEACHER)
    drawn = drawn_piece(x_0, generator, 8)
    (slope,) = torch.autograd.grad(cost(network, *drawn).mean(), network.weight)
    assert_close(float(slope), 1.0, rtol=0.02, atol=0)


def test_pieces_are_drawn_alike_and_the_same_again(x_0):
    draw, _ = distillation.consistency(x_0, replace(CONFIG, batch=8000), SCHEDULE, None)
    _, eps, t, s, _ = draw(3)
    ends = even_tau(1000, 16)
    places = torch.searchsorted(ends, t)
    assert torch.equal(ends[places], t) and torch.equal(ends[places - 1], s)
    share = places.bincount(minlength=17)[1:].double() / 8000
    assert_close(share, torch.full((16,), 1 / 16, dtype=torch.float64), rtol=0, atol=0.015)
    assert all(torch.equal(a, b) for a, b in zip(draw(3), draw(3), strict=True))
    assert not torch.equal(eps, draw(4)[1])


def test_a_student_learns_the_flow_map(x_0, noise):
    """One evaluation leads to where the teacher's path ends, from noise and from half way."""
    config = replace(CONFIG, lr=0.01)
    learning = distillation.consistency(x_0.float(), config, SCHEDULE, lambda y: TEACHER)
    for report in train.train(Lines(), *learning, config, device="cpu"):
        pass
    answer = denoiser(report.ema_model, SCHEDULE, target="v", clip=False)
    for t in (1000, 500):
        x, at = noise[:500].float(), same_t(t, 500)
        off = float((answer(x, at) - flow(x, at)).square().mean().sqrt())
        assert off < 0.4 * float((TEACHER(x, at) - flow(x, at)).square().mean().sqrt())


# --- adversarial


class Small(nn.Module):
    """A trained network's stand-in: two layers to look through."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 16), nn.Linear(16, 16)
        self.out = nn.Linear(16, 1)

    def forward(self, x, t):
        noise = (1 - SCHEDULE.alpha_bar[t]).sqrt().float()[:, None]
        x = torch.cat([4 * x, 4 * noise], dim=1)
        return self.out(F.silu(self.second(F.silu(self.first(x)))))


@pytest.fixture
def eyes():
    torch.manual_seed(0)
    return Eyes(Small(), ("second", "first"))


def test_eyes_see_the_outputs_of_the_layers_normalised(eyes, noise):
    x, t = noise[:5].float(), same_t(1, 5)
    first = eyes.network.first(
        torch.cat([4 * x, 4 * SCHEDULE.beta[1].sqrt().float().expand(5, 1)], 1)
    )
    second = eyes.network.second(F.silu(first))
    seen = eyes(x, t)  # in the order of their names, whichever comes first
    assert [tuple(one.shape) for one in seen] == [(5, 1, 16), (5, 1, 16)]
    for one, output in zip(seen, (second, first), strict=True):
        centred = output - output.mean(1, keepdim=True)
        naive = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
        assert_close(one[:, 0], naive)
    assert not eyes.network.first._forward_hooks  # and none is left behind
    assert not any(weight.requires_grad for weight in eyes.network.parameters())


def test_eyes_of_a_unet_see_each_place(tiny):
    network = UNet(tiny)
    seen = Eyes(network, ("down.0", "middle_1"))(torch.randn(3, 1, 8, 8), same_t(5, 3))
    assert [tuple(one.shape) for one in seen] == [(3, 16, 8), (3, 16, 8)]


def duel_of(eyes, student=None):
    torch.manual_seed(1)
    return Duel(student or Lines(), (16, 16), hidden=8)


def drawn_duel(x_0, config=CONFIG):
    return distillation.adversarial(x_0.float(), config, SCHEDULE, None, None)[0]


def test_students_are_asked_as_often_as_their_walks_need_it(x_0):
    """Of twelve evaluations for a walk of one, two walks of ... : T is in all of them."""
    _, eps, t, level, noise, _ = drawn_duel(x_0, replace(CONFIG, batch=12_000))(2)
    share = {int(step): float((t == step).double().mean()) for step in t.unique()}
    wanted = {1000: 7 / 12, 500: 3 / 12, 250: 1 / 12, 750: 1 / 12}
    assert set(share) == set(wanted)
    for step, one in wanted.items():
        assert abs(share[step] - one) < 0.02
    assert not torch.equal(eps, noise) and abs(float((eps * noise).mean())) < 0.05
    assert int(level.min()) >= 1 and int(level.max()) <= 1000


def test_the_losses_are_the_formulas_typed_again(eyes, x_0):
    student, begun = Lines(), Lines()
    begun.slope.data[:], begun.shift.data[:] = 0, 0  # x_0_hat = a x_t
    student.slope.data[:], student.shift.data[:] = 0, 0.2  # and 0.2 b less
    duel = duel_of(eyes, student)
    drawn = drawn_duel(x_0)(1)
    _, losses = distillation.adversarial(x_0.float(), CONFIG, SCHEDULE, eyes, begun)
    real, eps, t, level, noise, _ = drawn

    def noised(x, t, eps):
        alpha_bar = SCHEDULE.alpha_bar[t][:, None].float()
        return alpha_bar.sqrt() * x + (1 - alpha_bar).sqrt() * eps

    def seen(x):
        return [one.detach().requires_grad_() for one in eyes(noised(x, level, noise), level)]

    alpha_bar = SCHEDULE.alpha_bar[t][:, None].float()
    fake = noised(real, t, eps) * alpha_bar.sqrt() - (1 - alpha_bar).sqrt() * 0.2
    at_first = noised(real, t, eps) * alpha_bar.sqrt()
    of_real, of_fake = seen(real), seen(fake)
    D_real, D_fake = duel.judged(of_real), duel.judged(of_fake)  # (B, 2)
    slopes = 0.0
    for marks, looked in ((D_real, of_real), (D_fake, of_fake)):
        for layer, one in enumerate(looked):
            (slope,) = torch.autograd.grad(marks[:, layer].sum(), one, retain_graph=True)
            slopes = slopes + slope.square().sum((1, 2)) / 2
    wanted = (1 + (D_fake - D_real).exp()).log().mean(1) + distillation.PENALTY / 2 * slopes
    assert_close(losses["critic"](duel, *drawn), wanted)
    gone = ((fake - at_first) ** 2 / (1 - alpha_bar))[:, 0]
    wanted = (1 + (D_real - D_fake).exp()).log().mean(1) + distillation.ANCHOR * gone
    assert_close(losses["student"](duel, *drawn), wanted)


def test_each_side_moves_itself_alone(eyes, x_0):
    """The critic's loss has no gradient for the student, and the eyes get none at all."""
    duel, drawn = duel_of(eyes), drawn_duel(x_0)(1)
    _, losses = distillation.adversarial(x_0.float(), CONFIG, SCHEDULE, eyes, Lines())
    losses["critic"](duel, *drawn).mean().backward()
    assert duel.student.slope.grad is None and duel.critic[0][0].weight.grad is not None
    losses["student"](duel, *drawn).mean().backward()
    assert float(duel.student.shift.grad.abs().sum()) > 0
    assert all(weight.grad is None for weight in eyes.network.parameters())


def test_a_student_that_draws_one_value_learns_to_spread(eyes, x_0, noise, monkeypatch):
    """It begins with the mean as its one answer to noise, as a teacher would."""
    monkeypatch.setattr(distillation, "ANCHOR", 0.0)
    assert float(TEACHER(noise, same_t(1000, len(noise))).std()) < 0.001
    config = replace(CONFIG, steps=240, lr=0.01, ema=0.98)
    learning = distillation.adversarial(x_0.float(), config, SCHEDULE, eyes, Lines())
    for report in train.train(duel_of(eyes), *learning, config, device="cpu"):
        pass
    answer = denoiser(report.ema_model.student, SCHEDULE, target="v", clip=False)
    x = answer(noise.float(), same_t(1000, len(noise)))
    assert abs(float(x.mean()) - MEAN) < 0.15
    assert 0.5 < float(x.std()) / STD < 1.8


def test_labels_reach_teacher_student_and_critic(tiny, generator):
    pixels = torch.randint(0, 256, (20, 1, 8, 8), generator=generator, dtype=torch.uint8)
    images = Images(pixels, torch.arange(20) % 2, "twenty")
    config = replace(CONFIG, batch=4, labels=True)
    told = []

    class Labelled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(1, 8, 1)

        def forward(self, x, t, y):
            told.append(y)
            return self.layer(x).mean(1, keepdim=True)

    def teacher(y):
        told.append(y)
        return lambda x, t: 0.5 * x

    draw, cost = distillation.consistency(images, config, SCHEDULE, teacher)
    drawn = draw(1)
    assert cost(Labelled(), *drawn).shape == (4,) and len(told) == 3
    eyes = Eyes(Labelled(), ("layer",))
    draw, losses = distillation.adversarial(images, config, SCHEDULE, eyes, Labelled())
    duel, drawn = Duel(Labelled(), (8,)), draw(1)
    assert losses["critic"](duel, *drawn).shape == losses["student"](duel, *drawn).shape == (4,)
    assert len(told) == 3 + 3 + 4
    assert all(torch.equal(y, drawn[-1]) for y in told)


def test_a_student_may_be_a_unet(tiny, tiny_images):
    """Both ways run through the loop, on pictures, and move the student."""
    config = replace(CONFIG, steps=2, batch=4, warmup=1, lr=1e-3)
    teacher = UNet(tiny)
    nn.init.normal_(teacher.out.weight, std=0.05)
    answers = denoiser(teacher.requires_grad_(False), SCHEDULE, target="v", clip=True)
    draw, cost = distillation.consistency(tiny_images, config, SCHEDULE, lambda y: answers)
    students = []
    for network, *learning in (
        (UNet(tiny), draw, cost),
        (
            Duel(UNet(tiny), (8,)),
            *distillation.adversarial(
                tiny_images, config, SCHEDULE, Eyes(teacher, ("middle_1",)), UNet(tiny)
            ),
        ),
    ):
        before = network.state_dict()[
            "down.0.conv_1.weight" if not students else "student.out.bias"
        ]
        before = before.clone()
        for report in train.train(network, *learning, config, device="cpu"):
            assert math.isfinite(report.loss)
        students.append(network)
    assert all(p.isfinite().all() for network in students for p in network.parameters())
    walk = partial(multistep, generator=torch.Generator().manual_seed(0), steps=2)
    answer = denoiser(students[0].eval(), SCHEDULE, target="v", clip=True)
    assert sample.final(walk(answer, SCHEDULE, torch.randn(2, 1, 8, 8))).shape == (2, 1, 8, 8)
