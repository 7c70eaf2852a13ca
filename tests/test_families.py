"""One loop for all families: what a step draws and what it costs is all that tells them apart.

Small toys, each with an answer that is known in closed form, or at least to the eye.  Each learns;
and each, killed on its way and resumed from another start, arrives where it would have come to.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from itertools import islice, pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from tutorial_lib import checkpoint, sample, train
from tutorial_lib.beyond.solvers import dpm_solver
from tutorial_lib.config import DiffusionConfig, TrainConfig
from tutorial_lib.denoise import denoiser, self_conditioned
from tutorial_lib.engine.order import generator_of
from tutorial_lib.nets.unet import UNet
from tutorial_lib.schedule import cosine

CONFIG = TrainConfig(
    steps=200,
    batch=128,
    lr=0.01,
    warmup=10,
    ema=0.98,
    precision="no",
    report_every=1,
    save_every=40,
)
SCHEDULE = cosine(50)


def layers(*widths: int) -> nn.Sequential:
    """Linear layers with a bend between them."""
    made = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.SiLU())]
    return nn.Sequential(*made[:-1])


class Family:
    """What is to be trained: `make` builds the network, `draw` and `loss` are those of `train`."""

    def __init__(
        self,
        make: Callable[[], nn.Module],
        draw: train.Draw,
        loss: train.Loss | dict[str, train.Loss],
        config: TrainConfig = CONFIG,
    ) -> None:
        self.make, self.draw, self.loss, self.config = make, draw, loss, config

    def reports(self, out: Path, seed: int = 0, **options) -> Iterator[train.Progress]:
        """Train into a folder; yields what `train` does."""
        torch.manual_seed(seed)  # the initial weights
        reports = train.train(
            self.make(), self.draw, self.loss, self.config, out=out, device="cpu", **options
        )
        yield from reports

    def learn(self, folder: Path) -> tuple[nn.Module, Tensor]:
        """The averaged network and the losses, (steps, parts).

        On the way a second run is killed at its 17th step and goes on from another start: they must
        agree in all they save, to the last bit.
        """
        by_step = []
        for report in self.reports(folder / "whole"):
            by_step += report.by_step
            if report.step == CONFIG.save_every:
                saved = checkpoint.load(folder / "whole")
        losses, broken = torch.tensor(by_step), []
        for first, last, options in ((1, 17, {}), (18, 40, {"seed": 1, "resume": True})):
            reports = self.reports(folder / "broken", **options)
            broken += [step for one in islice(reports, last - first + 1) for step in one.by_step]
            reports.close()  # saves
        assert broken == by_step[: len(broken)]
        agree(checkpoint.load(folder / "broken"), saved)
        return report.ema_model, losses


def agree(one: tuple[dict, dict], other: tuple[dict, dict]) -> None:
    """Two checkpoints: their tensors and what they say of themselves."""
    assert one[1] == other[1] and one[0].keys() == other[0].keys()
    for name, tensor in one[0].items():
        assert torch.equal(tensor, other[0][name]), name


def normal(step: int, *shape: int) -> Tensor:
    """Noise for a step of a run."""
    return torch.randn(CONFIG.batch, *shape, generator=generator_of(7, step))


def fell(losses: Tensor) -> float:
    """The mean loss at the end, in parts of that at the beginning."""
    return float(losses[-30:].mean() / losses[:10].mean())


# --- diffusion with labels


CENTRES = torch.tensor([[0.7, 0.0], [-0.5, 0.6], [-0.5, -0.6]])  # of three classes in the plane
NOBODY = 3  # the label of an image whose label was dropped


class Labelled(nn.Module):
    """A denoising network for points that takes a label."""

    def __init__(self) -> None:
        super().__init__()
        self.of_label, self.body = nn.Embedding(4, 16), layers(2 + 1 + 16, 64, 64, 2)

    def forward(self, x_t, t, y):
        time = t[:, None] / SCHEDULE.T
        return self.body(torch.cat([x_t, time, self.of_label(y)], dim=1))


def draw_labelled(step: int) -> train.Drawn:
    generator = generator_of(0, step)
    y = torch.randint(3, (CONFIG.batch,), generator=generator)
    x_0 = CENTRES[y] + 0.1 * torch.randn(CONFIG.batch, 2, generator=generator)
    t = torch.randint(1, SCHEDULE.T + 1, (CONFIG.batch,), generator=generator)
    eps = torch.randn(x_0.shape, generator=generator)
    return train.Drawn(x_0, t, eps, y, torch.rand(CONFIG.batch, generator=generator))


def labelled_loss(network, x_0, t, eps, y, u):
    y = torch.where(u < 0.2, NOBODY, y)
    return train.training_step(network, SCHEDULE, x_0, t, eps, target="v", y=y)


def test_a_class_conditional_denoiser_with_labels_dropped_by_u(tmp_path):
    """With a label it draws that class; without one, all three."""
    network, losses = Family(Labelled, draw_labelled, labelled_loss).learn(tmp_path)
    assert fell(losses) < 0.6
    denoise = denoiser(network, SCHEDULE, target="v", clip=True)

    def drawn(y: int) -> Tensor:
        x_T = sample.start(200, (2,), generator=torch.Generator().manual_seed(0))
        asked = partial(denoise, y=torch.full((200,), y))
        x_0 = sample.final(sample.ddim(asked, SCHEDULE, x_T, steps=20))
        return torch.cdist(x_0, CENTRES).argmin(1).bincount(minlength=3) / 200

    for y in range(3):
        assert float(drawn(y)[y]) > 0.95
    assert float(drawn(NOBODY).min()) > 0.15


# --- diffusion in a latent space


class Autoencoder(nn.Module):
    """Images that are mixtures of three pictures, and how much of each there is: frozen."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        pictures, _ = torch.linalg.qr(torch.randn(64, 3, generator=generator))
        self.pictures = nn.Parameter(pictures, requires_grad=False)

    def encode(self, images: Tensor) -> Tensor:
        """(B, 1, 8, 8) -> (B, 3)"""
        return images.flatten(1) @ self.pictures

    def decode(self, latents: Tensor) -> Tensor:
        """(B, 3) -> (B, 1, 8, 8)"""
        return (latents @ self.pictures.T).unflatten(1, (1, 8, 8))


class Latent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = layers(3 + 1, 64, 64, 3)

    def forward(self, z_t, t):
        return self.body(torch.cat([z_t, t[:, None] / SCHEDULE.T], dim=1))


def test_latent_diffusion_draws_what_a_frozen_autoencoder_has_encoded(tmp_path):
    autoencoder, mean, std = Autoencoder(), torch.tensor([1.0, -1.0, 0.0]), 0.3
    before = autoencoder.pictures.clone()

    def images(step: int) -> Tensor:
        return autoencoder.decode(mean + std * normal(step, 3))

    def draw(step: int):
        generator = generator_of(1, step)
        z_0 = autoencoder.encode(images(step))
        t = torch.randint(1, SCHEDULE.T + 1, (CONFIG.batch,), generator=generator)
        return z_0, t, torch.randn(z_0.shape, generator=generator)

    def loss(network, z_0, t, eps):
        return train.training_step(network, SCHEDULE, z_0, t, eps, target="v")

    network, losses = Family(Latent, draw, loss).learn(tmp_path)
    assert fell(losses) < 0.6
    assert torch.equal(autoencoder.pictures, before)
    denoise = denoiser(network, SCHEDULE, target="v", clip=False)
    z_T = sample.start(1000, (3,), generator=torch.Generator().manual_seed(0))
    x_0 = autoencoder.decode(sample.final(sample.ddim(denoise, SCHEDULE, z_T, steps=20)))
    real = torch.cat([images(step) for step in range(1, 9)])
    assert_close(x_0.mean(0), real.mean(0), rtol=0, atol=0.05)
    assert_close(x_0.std(0), real.std(0), rtol=0, atol=0.05)


# --- a variational autoencoder

LONG, NOISE = 1.5, 0.4  # standard deviations of the data along a line, and of the decoder


class VAE(nn.Module):
    """A linear one, from the plane to a line and back."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(2, 2), nn.Linear(1, 2)

    def forward(self, x, noise):
        """The bound's negative for each item, in nats."""
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        z = mean + (log_variance / 2).exp() * noise
        error = (x - self.decoder(z)).square() / (2 * NOISE**2) + math.log(NOISE)
        cost = error + 0.5 * math.log(2 * math.pi)
        kl = (mean.square() + log_variance.exp() - 1 - log_variance) / 2
        return cost.sum(1) + kl.sum(1)


def test_a_variational_autoencoder_reaches_the_bound_of_probabilistic_pca(tmp_path):
    """Whose likelihood a linear one's bound meets at its best: data and model are Gaussians with
    variances LONG^2 and NOISE^2 along and across the line, so the best is their entropy.
    """
    way = torch.tensor([0.6, 0.8])
    across = torch.tensor([-0.8, 0.6])

    def draw(step: int):
        along, beside, noise = normal(step, 3).split(1, dim=1)
        return LONG * along * way + NOISE * beside * across, noise

    config = replace(CONFIG, steps=300, lr=0.03)
    network, losses = Family(VAE, draw, lambda network, x, z: network(x, z), config).learn(tmp_path)
    entropy = math.log(LONG * NOISE) + math.log(2 * math.pi * math.e)
    held_out = [network(*draw(step)) for step in range(1000, 1100)]
    bound = torch.cat(held_out).detach()
    error = float(bound.std() / len(bound) ** 0.5)
    assert losses[0] > entropy + 1
    assert entropy - 4 * error < float(bound.mean()) < entropy + 4 * error + 0.05
    learnt = network.decoder.weight[:, 0].detach()
    learnt = learnt * (learnt @ way).sign()  # the line has no direction
    assert_close(learnt, way * (LONG**2 - NOISE**2) ** 0.5, rtol=0, atol=0.1)


# --- a generative adversarial network

TRUTH = torch.tensor([2.0, -1.0])  # the mean of the data


class GAN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.generator, self.discriminator = nn.Linear(2, 2), layers(2, 32, 1)


def discriminator_loss(network, x, z, detach: bool = True):
    made = network.generator(z)
    made = made.detach() if detach else made
    real, fake = network.discriminator(x), network.discriminator(made)
    return (F.softplus(-real) + F.softplus(fake))[:, 0]


def generator_loss(network, x, z):
    return F.softplus(-network.discriminator(network.generator(z)))[:, 0]


def draw_for_gan(step: int):
    x, z = normal(step, 4).split(2, dim=1)
    return TRUTH + 0.5 * x, z


LOSSES = {"discriminator": discriminator_loss, "generator": generator_loss}


def test_a_generative_adversarial_network_with_two_optimisers(tmp_path):
    family = Family(GAN, draw_for_gan, LOSSES, replace(CONFIG, lr=0.03))
    network, losses = family.learn(tmp_path)
    assert losses.shape == (CONFIG.steps, 2)
    torch.manual_seed(0)
    far, near = (
        float((one.generator(normal(1, 2)).mean(0) - TRUTH).norm().detach())
        for one in (GAN(), network)
    )
    assert far > 1.5 and near < 0.3 * far
    # the discriminator had learnt to tell them apart, and no longer can: log 4 is blind guessing
    assert float(losses[:, 0].min()) < 0.7
    assert_close(float(losses[-30:, 0].mean()), math.log(4), rtol=0, atol=0.6)


def numbers(part: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in part.parameters()])


def test_each_loss_moves_its_own_part_and_takes_its_turn(tmp_path):
    """Seen at each call of a loss: what has moved since the call before is the other's part."""
    seen = []

    def watched(name, loss, network, *drawn):
        seen.append((name, numbers(network.discriminator), numbers(network.generator)))
        return loss(network, *drawn)

    losses = {name: partial(watched, name, loss) for name, loss in LOSSES.items()}
    list(Family(GAN, draw_for_gan, losses, replace(CONFIG, steps=5)).reports(tmp_path))
    assert [name for name, _, _ in seen] == ["discriminator", "generator"] * 5
    for (moves, *before), (_, *after) in pairwise(seen):
        stood = [torch.equal(a, b) for a, b in zip(before, after, strict=True)]
        assert stood == ([False, True] if moves == "discriminator" else [True, False])


def last(losses, folder: Path, **changed) -> train.Progress:
    """The last report of a few steps of the GAN."""
    config = replace(CONFIG, steps=6, **changed)
    *_, report = Family(GAN, draw_for_gan, losses, config).reports(folder)
    return report


def test_a_loss_that_reaches_into_another_part_does_not_move_it(tmp_path):
    """Whether the discriminator's loss lets its gradient flow into the generator or not."""
    flowing = LOSSES | {"discriminator": partial(discriminator_loss, detach=False)}
    one, other = last(LOSSES, tmp_path / "one"), last(flowing, tmp_path / "other")
    assert one.by_step == other.by_step
    agree(checkpoint.load(tmp_path / "one"), checkpoint.load(tmp_path / "other"))


@pytest.mark.parametrize("accumulation", [2, 4])
def test_two_losses_by_pieces_of_a_batch(tmp_path, accumulation):
    whole = last(LOSSES, tmp_path / "whole")
    pieces = last(LOSSES, tmp_path / "pieces", accumulation=accumulation)
    assert_close(pieces.by_step, whole.by_step, rtol=1e-4, atol=1e-5)
    assert_close(numbers(pieces.ema_model), numbers(whole.ema_model), rtol=1e-3, atol=1e-4)


def test_reports_tell_the_losses_apart(tmp_path):
    report = last(LOSSES, tmp_path, report_every=4)
    assert report.step == 6 and report.parts == ("discriminator", "generator")
    assert [len(of_step) for of_step in report.by_step] == [2, 2]
    assert_close(report.losses, [sum(of_step) for of_step in report.by_step])
    assert_close(report.loss, sum(report.losses) / 2)


# --- a normalizing flow


class Coupling(nn.Module):
    """One of two coordinates is stretched and shifted as the other says."""

    def __init__(self, moved: int) -> None:
        super().__init__()
        self.moved, self.body = moved, layers(1, 32, 2)

    def forward(self, x):
        """(B, 2) -> (B, 2), and the logarithm of the determinant, (B,)."""
        kept, moved = x[:, 1 - self.moved], x[:, self.moved]
        log_scale, shift = self.body(kept[:, None]).unbind(1)
        log_scale = log_scale.tanh()
        both = [kept, moved * log_scale.exp() + shift]
        return torch.stack(both if self.moved else both[::-1], dim=1), log_scale


class Flow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.couplings = nn.ModuleList(Coupling(i % 2) for i in range(4))

    def forward(self, x):
        """log p(x) of each point, (B,)."""
        log_p = torch.zeros(len(x))
        for coupling in self.couplings:
            x, log_determinant = coupling(x)
            log_p = log_p + log_determinant
        return log_p - x.square().sum(1) / 2 - math.log(2 * math.pi)


def test_a_normalizing_flow_by_maximum_likelihood(tmp_path):
    """Of a bent cloud, whose entropy is known: no density can cost less than that on average."""

    def draw(step: int):
        a, b = normal(step, 2).unbind(1)
        return (torch.stack([a, a**2 / 2 + 0.3 * b - 0.5], dim=1),)

    network, losses = Family(Flow, draw, lambda network, x: -network(x)).learn(tmp_path)
    entropy = math.log(0.3) + math.log(2 * math.pi * math.e)
    held_out = torch.cat([-network(*draw(step)) for step in range(1000, 1100)]).detach()
    error = float(held_out.std() / len(held_out) ** 0.5)
    assert float(losses[:10].mean()) > entropy + 0.6
    assert entropy - 4 * error < float(held_out.mean()) < entropy + 0.25
    # a density: its integral over the plane is 1
    grid = torch.linspace(-6, 12, 400)
    points = torch.cartesian_prod(grid, grid)
    mass = network(points).exp().sum() * (grid[1] - grid[0]) ** 2
    assert_close(float(mass.detach()), 1.0, rtol=0, atol=0.01)


# --- an autoregressive model

P = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.2, 0.6], [0.1, 0.7, 0.2]])  # a chain of three states


class NextState(nn.Module):
    """What comes after each state, as a language model that sees a single word.

    Its last layer is a multiple of its first: the weights are tied.
    """

    def __init__(self) -> None:
        super().__init__()
        self.table, self.mix, self.last = nn.Embedding(3, 8), layers(8, 16, 8), nn.Linear(8, 3)
        self.last.weight = self.table.weight

    def forward(self, states):
        return self.last(self.mix(self.table(states)))  # (B, L) -> (B, L, 3)


def test_an_autoregressive_model_learns_the_chain(tmp_path):
    """Its loss is, at best, the entropy rate of the chain."""

    def draw(step: int):
        u = torch.rand(16, CONFIG.batch, generator=generator_of(2, step))
        states = [(3 * u[0]).long().clamp(max=2)]
        for here in u[1:]:
            states.append((here[:, None] > P.cumsum(1)[states[-1]]).sum(1).clamp(max=2))
        return (torch.stack(states, dim=1),)  # (B, 16)

    def loss(network, states):
        logits = network(states[:, :-1]).flatten(0, 1)
        each = F.cross_entropy(logits, states[:, 1:].flatten(), reduction="none")
        return each.view(len(states), -1).mean(1)

    network, losses = Family(NextState, draw, loss, replace(CONFIG, steps=200)).learn(tmp_path)
    law = torch.linalg.matrix_power(P, 100)[0]
    rate = float(-(law[:, None] * P * P.log()).sum())
    assert float(losses[:10].mean()) > rate + 0.15
    assert_close(float(losses[-50:].mean()), rate, rtol=0, atol=0.02)
    assert_close(network(torch.arange(3)).softmax(1).detach(), P, rtol=0, atol=0.03)
    assert network.last.weight is network.table.weight


# --- flow matching


class Velocity(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = layers(2 + 1, 64, 64, 2)

    def forward(self, x, time):
        return self.body(torch.cat([x, time[:, None]], dim=1))


def test_flow_matching_between_noise_and_data(tmp_path):
    """Straight lines from data to noise; their mean velocity leads back, by Euler's rule."""

    def draw(step: int):
        generator = generator_of(3, step)
        side = torch.randint(2, (CONFIG.batch, 1), generator=generator) * 2.0 - 1
        near = 0.1 * torch.randn(CONFIG.batch, 2, generator=generator)
        time = torch.rand(CONFIG.batch, generator=generator)
        return near + side, near.new_empty(near.shape).normal_(generator=generator), time

    def loss(network, x, noise, time):
        here = (1 - time[:, None]) * x + time[:, None] * noise
        return (network(here, time) - (noise - x)).square().mean(1)

    network, losses = Family(Velocity, draw, loss).learn(tmp_path)
    assert fell(losses) < 0.7
    x = sample.start(500, (2,), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for k in range(20, 0, -1):
            x = x - network(x, torch.full((500,), k / 20)) / 20
    # two heaps, at (1, 1) and (-1, -1)
    side = x.mean(1, keepdim=True).sign()
    assert float((x - side).norm(dim=1).quantile(0.9)) < 0.5
    assert_close(float((side > 0).float().mean()), 0.5, rtol=0, atol=0.1)


# --- self-conditioning


def test_self_conditioning_by_algorithm_1(tmp_path, tiny, tiny_images):
    """A U-Net, moved by Muon and Adam; it listens to its own estimate when it draws."""
    short = asdict(replace(CONFIG, steps=45, batch=8))
    config = DiffusionConfig(**short, T=50, self_conditioning=True)
    shape = replace(tiny, self_conditioning=True)
    learning = train.algorithm_1(tiny_images, config)
    network, losses = Family(lambda: UNet(shape), *learning, config).learn(tmp_path)
    assert losses.shape == (45, 1) and fell(losses) < 0.95
    tensors, _ = checkpoint.load(tmp_path / "whole")
    assert {name.split(".")[0] for name in tensors} == {"model", "ema", "adam", "muon"}

    schedule = cosine(50)
    denoise = denoiser(network, schedule, target="v", clip=True)
    x_T = sample.start(4, (1, 8, 8), generator=torch.Generator().manual_seed(0))
    for sampler in (sample.ddim, dpm_solver):
        told, never = (
            sample.final(sampler(one, schedule, x_T, steps=5))
            for one in (self_conditioned(denoise), denoise)
        )
        assert told.isfinite().all() and not torch.equal(told, never)
