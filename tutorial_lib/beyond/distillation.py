r"""Distillation: a student that draws in one, two or four evaluations, taught by a trained network.

A student begins with the weights of its teacher, and learns to answer in one evaluation,
$G(x_t, t) \mapsto x_0$, what the teacher needs a whole walk for.  Two ways to teach it, each as a
draw and a loss for `train.train`:

    consistency   the student's answers agree along the teacher's path from noise to data
    adversarial   a critic, which sees through the teacher's eyes, cannot tell them from data

`multistep` draws with a student.  (Notebook 07)
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutorial_lib import train
from tutorial_lib.config import DiffusionConfig
from tutorial_lib.data import Images
from tutorial_lib.denoise import Denoiser, denoiser
from tutorial_lib.diffusion import q_sample
from tutorial_lib.engine.order import generator_of
from tutorial_lib.gaussian import noise_like
from tutorial_lib.sample import Frame
from tutorial_lib.schedule import NoiseSchedule, even_tau, same_t
from tutorial_lib.train import Draw, Loss

Teacher = Callable[[Tensor], Denoiser]  # labels (B,) -> the denoiser that answers for them
EVALUATIONS = (1, 2, 4)  # that a student is trained for
PIECES = 16  # of the teacher's path, even in t; a student's answers at their ends shall agree
HUBER = 0.00054  # of the pseudo-Huber distance: c, less the root of the number of dimensions
PENALTY = 0.1  # of the slopes of a critic
ANCHOR = 1.0  # of the way that a student has gone from where it began


# --- drawing with a student


@torch.no_grad()
def multistep(
    student: Denoiser,
    schedule: NoiseSchedule,
    x_T: Tensor,
    *,
    generator: torch.Generator,
    steps: int | Tensor,
) -> Iterator[Frame]:
    r"""Answer, add fresh noise, answer again: yields x_T and then each state down to x_0.

    $x_0 \leftarrow G(x_t, t)$ and $x_{t'} = \sqrt{\bar\alpha_{t'}} x_0
    + \sqrt{1 - \bar\alpha_{t'}} z$, in turns (Song et al. 2023, Algorithm 1; arXiv 2303.01469).
    One evaluation a step; one step draws G(x_T, T) and needs no noise.

    student: as a denoiser, (x_t, t) -> x_0.
    steps: how many, even in t, as students of this module expect them (1, 2 or 4); or which, rising
    from 0.
    generator: of the noise that each step but the last adds.
    Raises ValueError, when the first frame is asked for, for any other steps.
    """
    tau = steps if isinstance(steps, Tensor) else even_tau(schedule.T, steps)
    schedule.check_tau(tau)
    tau = tau.tolist()
    x = x_T
    yield Frame(tau[-1], x, torch.zeros_like(x))
    for i in range(len(tau) - 1, 0, -1):
        x_0 = x = student(x, same_t(tau[i], len(x)))
        if i > 1:
            t = same_t(tau[i - 1], len(x))
            x = q_sample(schedule, x_0, t, noise_like(x, generator))
        yield Frame(tau[i - 1], x, x_0)


# --- the teacher's path


def ddim_step(
    schedule: NoiseSchedule, x_t: Tensor, x_0_hat: Tensor, t: Tensor, s: Tensor
) -> Tensor:
    r"""From t straight to an earlier s, along an estimate of x_0 (Song, Meng & Ermon 2021, Eq. 12).

    $x_s = \sqrt{\bar\alpha_s} \hat x_0 + \sqrt{1 - \bar\alpha_s} \hat\epsilon$, with the
    $\hat\epsilon$ that belongs to x_t and $\hat x_0$.
    x_t, x_0_hat: (B, ...).  t: (B,) in 1..T.  s: (B,) in 0..T, its own for each item; at s = 0 the
    estimate itself is returned.
    """
    alpha_bar_t, alpha_bar_s = (schedule.alpha_bar[step.cpu()] for step in (t, s))  # (B,) each
    shrink = ((1 - alpha_bar_s) / (1 - alpha_bar_t)).sqrt()  # of the noise
    of_x_0_hat = alpha_bar_s.sqrt() - shrink * alpha_bar_t.sqrt()
    shape = (-1, *[1] * (x_t.ndim - 1))  # (B, 1, ...)
    return shrink.to(x_t).view(shape) * x_t + of_x_0_hat.to(x_t).view(shape) * x_0_hat


def midpoint_step(
    denoise: Denoiser, schedule: NoiseSchedule, x_t: Tensor, t: Tensor, s: Tensor
) -> Tensor:
    """From t to s by the estimate that is made half way: an error of second order for two calls.

    As in `ddim_step`; the first call only leads to the place where the second is made.
    """
    half = (t + s + 1) // 2  # (B,) in 1..T
    x_half = ddim_step(schedule, x_t, denoise(x_t, t), t, half)
    return ddim_step(schedule, x_t, denoise(x_half, half), t, s)


# --- consistency


@dataclass(frozen=True, eq=False)
class Consistency:
    r"""What a step of consistency distillation costs (Song et al. 2023, Algorithm 2).

    From a noised picture x_t the teacher goes one piece of its path, to x_s.  Both lie on the path
    to the same end, so the student's answers, $G(x_t, t)$ and $G(x_s, s)$, should be the same; the
    second, nearer to the data, is what the first is drawn to.  At s = 0 it is x_s itself.
    Their distance is pseudo-Huber, $\sqrt{|d|^2 + c^2} - c$ (Song & Dhariwal 2023).
    (arXiv 2303.01469, 2310.14189)
    """

    config: DiffusionConfig
    schedule: NoiseSchedule
    teacher: Teacher

    def __call__(
        self, network: nn.Module, x_0: Tensor, eps: Tensor, t: Tensor, s: Tensor, y: Tensor
    ) -> Tensor:
        """The loss of each item, (B,).  s: (B,) in 0..t - 1, its own for each."""
        answer = _student(network, self.config, self.schedule, y)
        x_t = q_sample(self.schedule, x_0, t, eps)
        with torch.no_grad():
            x_s = midpoint_step(self.teacher(y), self.schedule, x_t, t, s)
            nearer = answer(x_s, s.clamp(min=1))
            at_the_end = (s == 0).view(-1, *[1] * (x_t.ndim - 1))
            wanted = torch.where(at_the_end, x_s, nearer)
        noise = self.schedule.signal_and_noise(t, like=x_t)[1]  # (B, 1, ...)
        d = ((answer(x_t, t) - wanted) / noise).flatten(1)  # (B, D)
        c = HUBER * d.shape[1] ** 0.5
        return (d.square().sum(1) + c**2).sqrt() - c


def consistency(
    images: Images | Tensor, config: DiffusionConfig, schedule: NoiseSchedule, teacher: Teacher
) -> tuple[Draw, Loss]:
    """What each step draws, and what it costs: the two callables for `train.train`.

    The network that is trained is the student, with the weights of its teacher to start from; it
    predicts config.target.
    """
    ends = even_tau(schedule.T, PIECES)
    return partial(_draw_piece, images, config, ends), Consistency(config, schedule, teacher)


def _draw_piece(
    images: Images | Tensor, config: DiffusionConfig, ends: Tensor, step: int
) -> tuple[Tensor, ...]:
    """x_0, eps, the ends t and s of a piece for each item, all as likely, and labels."""
    x_0, _, eps, y, u = train.draw(images, step, config)
    n = 1 + (u * (len(ends) - 1)).long()  # (B,) in 1..N
    return x_0, eps, ends[n], ends[n - 1], y


def _student(
    network: nn.Module, config: DiffusionConfig, schedule: NoiseSchedule, y: Tensor
) -> Denoiser:
    """A student in training, as a denoiser.  It is not clipped: a clipped pixel has no gradient."""
    given = {"y": y} if config.labels else {}
    return partial(denoiser(network, schedule, target=config.target, clip=False), **given)


# --- adversarial


class Eyes:
    """What a trained network makes of noisy pictures: the outputs of some of its layers.

    network: is not trained.  layers: the names of modules of it, whose outputs are (B, C, ...).
    Called with (x_t, t) and what else the network takes, it returns for each layer (B, P, C), P
    positions of C channels, normalised over the channels.
    """

    def __init__(self, network: nn.Module, layers: Sequence[str]) -> None:
        self.network = network.requires_grad_(False)
        self.layers = {name: network.get_submodule(name) for name in layers}

    def __call__(self, x_t: Tensor, t: Tensor, **given: Tensor) -> list[Tensor]:
        seen: dict[str, Tensor] = {}

        def look(name: str, layer: nn.Module, inputs: tuple, output: Tensor) -> None:
            seen[name] = output

        hooks = [
            layer.register_forward_hook(partial(look, name)) for name, layer in self.layers.items()
        ]
        self.network.to(x_t.device)(x_t, t, **given)
        for hook in hooks:
            hook.remove()
        return [_normalised(seen[name]) for name in self.layers]


def _normalised(output: Tensor) -> Tensor:
    """Of a layer, (B, C, ...), as P positions of C channels, (B, P, C)."""
    positions = output.flatten(2).mT if output.ndim > 2 else output[:, None]
    return F.layer_norm(positions, positions.shape[-1:])


class Duel(nn.Module):
    """A student and its critic, trained against each other.

    critic: a small network for each layer that the `Eyes` see, from C channels to one number,
    the same for all positions.
    """

    def __init__(self, student: nn.Module, widths: Sequence[int], hidden: int = 64) -> None:
        super().__init__()
        self.student = student
        self.critic = nn.ModuleList(
            nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, 1))
            for width in widths
        )

    def judged(self, seen: list[Tensor]) -> Tensor:
        """How real each item looks to each part of the critic, (B, layers), of what `Eyes` saw."""
        marks = [part(one).mean((1, 2)) for part, one in zip(self.critic, seen, strict=True)]
        return torch.stack(marks, dim=1)


@dataclass(frozen=True, eq=False)
class Adversarial:
    r"""What a step of the duel costs: the two losses, of the critic and of the student.

    A real picture and one that the student drew get the same noise, of a random level, and are
    looked at by the teacher's eyes.  The critic gives each a mark D; with the difference
    $\Delta = D(\text{real}) - D(\text{drawn})$, the critic's loss is $\log(1 + e^{-\Delta})$ and
    the student's $\log(1 + e^{\Delta})$ (Jolicoeur-Martineau 2018; Huang et al. 2024).  The critic
    also pays for its slopes; and the student for what its answers differ from those it began with,
    in units of the noise at t, squared: where there is little noise, the answer is hardly open.
    """

    config: DiffusionConfig
    schedule: NoiseSchedule
    eyes: Eyes
    begun: nn.Module

    def of_critic(
        self,
        duel: Duel,
        x_0: Tensor,
        eps: Tensor,
        t: Tensor,
        level: Tensor,
        noise: Tensor,
        y: Tensor,
    ) -> Tensor:
        """The critic's loss of each pair, (B,).

        x_0, eps, t: the student is asked about x_t.  level, noise: of the critic's look, like t and
        eps.
        """
        with torch.no_grad():
            drawn = self._answer(duel.student, x_0, eps, t, y)
            both = [self._seen(picture, level, noise, y) for picture in (x_0, drawn)]
        both = [[one.requires_grad_() for one in seen] for seen in both]
        real, fake = (duel.judged(seen) for seen in both)  # (B, layers) each
        slopes = _squared_slope(real, both[0]) + _squared_slope(fake, both[1])
        return F.softplus(fake - real).mean(1) + PENALTY / 2 * slopes

    def of_student(
        self,
        duel: Duel,
        x_0: Tensor,
        eps: Tensor,
        t: Tensor,
        level: Tensor,
        noise: Tensor,
        y: Tensor,
    ) -> Tensor:
        """The student's loss of each pair, (B,); arguments as for the critic's."""
        drawn = self._answer(duel.student, x_0, eps, t, y)
        with torch.no_grad():
            real = duel.judged(self._seen(x_0, level, noise, y))
            at_first = self._answer(self.begun.to(x_0.device), x_0, eps, t, y)
        fake = duel.judged(self._seen(drawn, level, noise, y))
        _, unit = self.schedule.signal_and_noise(t, like=x_0)  # (B, 1, ...)
        gone = ((drawn - at_first) / unit).square().flatten(1).mean(1)
        return F.softplus(real - fake).mean(1) + ANCHOR * gone

    def _answer(self, student: nn.Module, x_0: Tensor, eps: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """What the student draws when it is asked about x_t."""
        x_t = q_sample(self.schedule, x_0, t, eps)
        return _student(student, self.config, self.schedule, y)(x_t, t)

    def _seen(self, x: Tensor, level: Tensor, noise: Tensor, y: Tensor) -> list[Tensor]:
        """What the eyes see of pictures, behind the noise of that level."""
        given = {"y": y} if self.config.labels else {}
        return self.eyes(q_sample(self.schedule, x, level, noise), level, **given)


def _squared_slope(marks: Tensor, seen: list[Tensor]) -> Tensor:
    """How steeply marks (B, layers) change with what was seen: at a position, squared; (B,).

    Of the true and of the drawn these are the penalties R1 and R2 (Mescheder et al. 2018).
    """
    slopes = torch.autograd.grad(marks.sum(), seen, create_graph=True)
    # a mark is the mean over P positions, so its slope at one of them is P times as steep
    squared = [
        one.shape[1] * slope.square().sum((1, 2)) for one, slope in zip(seen, slopes, strict=True)
    ]
    return torch.stack(squared).mean(0)


def adversarial(
    images: Images | Tensor,
    config: DiffusionConfig,
    schedule: NoiseSchedule,
    eyes: Eyes,
    begun: nn.Module,
) -> tuple[Draw, dict[str, Loss]]:
    """What each step draws, and what it costs each side: for `train.train` of a `Duel`.

    eyes: of the teacher.
    begun: a frozen copy of the student as it begins, best of one that has learned by `consistency`.
    """
    cost = Adversarial(config, schedule, eyes, begun)
    losses = {"critic": cost.of_critic, "student": cost.of_student}
    return partial(_draw_duel, images, config, schedule.T), losses


def _draw_duel(
    images: Images | Tensor, config: DiffusionConfig, T: int, step: int
) -> tuple[Tensor, ...]:
    """x_0 and eps; t, where the student is asked, as often as its walks need it; the critic's level
    of noise, its noise, and labels.
    """
    x_0, level, eps, y, u = train.draw(images, step, config)
    visited = torch.cat([even_tau(T, S)[1:].repeat(max(EVALUATIONS) // S) for S in EVALUATIONS])
    t = visited[(u * len(visited)).long()]  # (B,)
    noise = torch.randn(x_0.shape, generator=generator_of(config.seed + 1, step))
    return x_0, eps, t, level, noise, y
