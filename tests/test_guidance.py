"""Guidance against the densities that it is made of, and what a network with labels learns."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tutorial_lib import sample, train
from tutorial_lib.beyond import guidance
from tutorial_lib.beyond.guidance import guided
from tutorial_lib.config import DiffusionConfig
from tutorial_lib.data import NOBODY, Images
from tutorial_lib.denoise import denoiser
from tutorial_lib.nets.unet import UNet
from tutorial_lib.schedule import cosine

SCHEDULE = cosine(100)
CENTRES = torch.tensor([[1.0, 0.5], [-1.0, 0.0], [0.2, -1.0]], dtype=torch.float64)
SPREADS = torch.tensor([0.2, 0.4, 0.3], dtype=torch.float64)


def log_densities(x_t: Tensor, t: Tensor) -> Tensor:
    """log p(x_t | y) of three Gaussian classes at step t, (B, 3), but for one constant."""
    alpha_bar = SCHEDULE.alpha_bar[t]
    variance = alpha_bar[:, None] * SPREADS**2 + 1 - alpha_bar[:, None]  # (B, 3)
    away = x_t[:, None, :] - alpha_bar.sqrt()[:, None, None] * CENTRES  # (B, 3, 2)
    return -away.square().sum(2) / (2 * variance) - variance.log()


def log_density(x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """The same for the label of each point, (B,); without one it is that of the mixture."""
    of_class = log_densities(x_t, t)
    chosen = of_class.gather(1, y.clamp(min=0)[:, None])[:, 0]
    return torch.where(y == NOBODY, of_class.logsumexp(1) - torch.tensor(3.0).log(), chosen)


def score(what, x_t: Tensor) -> Tensor:
    """The gradient of a log-density (B,) at x_t."""
    x_t = x_t.detach().requires_grad_()
    return torch.autograd.grad(what(x_t).sum(), x_t)[0]


def exact(x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """E[x_0 | x_t, y] by Tweedie's formula, from the score of the noised density."""
    alpha_bar = SCHEDULE.alpha_bar[t][:, None]
    with torch.enable_grad():
        slope = score(lambda x: log_density(x, t, y), x_t)
    return (x_t + (1 - alpha_bar) * slope) / alpha_bar.sqrt()


@pytest.fixture
def points(generator):
    x_t = torch.randn(200, 2, generator=generator, dtype=torch.float64)
    t = torch.randint(1, 100, (200,), generator=generator)
    return x_t, t, torch.randint(3, (200,), generator=generator)


@pytest.mark.equation("Guidance 6")
@pytest.mark.parametrize("w", [-0.5, 0.3, 1.6, 4.0])
def test_the_guided_estimate_follows_the_product_of_densities(points, w):
    """Its score is that of p(x_t)^(1 - w) p(x_t | y)^w."""
    x_t, t, y = points
    alpha_bar, nobody = SCHEDULE.alpha_bar[t][:, None], torch.full_like(y, NOBODY)
    x_0_hat = guided(exact, y, w, clip=False)(x_t, t)
    follows = (alpha_bar.sqrt() * x_0_hat - x_t) / (1 - alpha_bar)
    wanted = score(lambda x: (1 - w) * log_density(x, t, nobody) + w * log_density(x, t, y), x_t)
    assert_close(follows, wanted)


def test_w_0_and_1_are_the_plain_models_exactly(points):
    x_t, t, y = points
    assert torch.equal(guided(exact, y, 1, clip=False)(x_t, t), exact(x_t, t, y))
    without = exact(x_t, t, torch.full_like(y, NOBODY))
    assert torch.equal(guided(exact, y, 0, clip=False)(x_t, t), without)
    assert_close(guided(exact, y, 1e-9, clip=False)(x_t, t), without)
    assert_close(guided(exact, y, 1 - 1e-9, clip=False)(x_t, t), exact(x_t, t, y))


@pytest.mark.parametrize(("w", "sizes"), [(0, [5]), (1.0, [5]), (2.0, [10])])
def test_one_call_of_the_network_a_step(points, w, sizes):
    called = []

    def denoise(x_t, t, y, x_0_hat=None):
        called.append((len(x_t), len(t), len(y), len(x_0_hat)))
        return x_0_hat

    x_t, t, y = (what[:5] for what in points)
    guided(denoise, y, w, clip=False)(x_t, t, x_0_hat=x_t)
    assert called == [(n, n, n, n) for n in sizes]


def test_clip_is_of_the_guided_estimate(points):
    x_t, t, y = points
    free = guided(exact, y, 5, clip=False)(x_t, t)
    assert float(free.abs().max()) > 1.5
    assert_close(guided(exact, y, 5, clip=True)(x_t, t), free.clamp(-1, 1))


@pytest.mark.parametrize("w", [float("nan"), float("inf")])
def test_illegal_guidance(points, w):
    with pytest.raises(ValueError, match="finite number, got"):
        guided(exact, points[2], w, clip=True)


def test_guidance_draws_a_walk_further_out(generator):
    """Class 0 lies to the right: the stronger the guidance, the further; its spread shrinks."""
    x_T = torch.randn(400, 2, generator=generator, dtype=torch.float64)
    y, means, spreads = torch.zeros(400, dtype=torch.int64), [], []
    for w in (1, 2, 4):
        x_0 = sample.final(sample.ddim(guided(exact, y, w, clip=False), SCHEDULE, x_T, steps=50))
        means.append(float(x_0[:, 0].mean()))
        spreads.append(float(x_0.std(0).mean()))
    assert abs(means[0] - 1) < 0.03 and abs(spreads[0] - 0.2) < 0.02
    assert means[0] < means[1] < means[2]
    assert spreads[0] > spreads[1] > spreads[2]


def test_a_network_with_labels_learns_them_by_algorithm_1(tiny):
    """Class 0 is black and class 1 white: with a label each is drawn, without one both."""
    pixels = torch.full((40, 1, 8, 8), 20, dtype=torch.uint8)
    pixels[20:] = 235
    images = Images(pixels, torch.arange(2).repeat_interleave(20), "halves")
    short = {"steps": 300, "batch": 32, "warmup": 5, "ema": 0.9, "precision": "no"}
    config = DiffusionConfig(**short, T=50, labels=True, t_sampling="uniform", report_every=300)
    torch.manual_seed(0)
    learning = train.algorithm_1(images, config)
    for report in train.train(UNet(replace(tiny, labels=2)), *learning, config, device="cpu"):
        network = report.ema_model
    schedule = cosine(50)
    denoise = denoiser(network, schedule, target="v", clip=False)
    x_T = sample.start(64, (1, 8, 8), generator=torch.Generator().manual_seed(1))

    def white(y: int, w: float) -> float:
        """The share of white images."""
        walk = guided(denoise, torch.full((64,), y), w, clip=True)
        x_0 = sample.final(sample.ddim(walk, schedule, x_T, steps=10))
        return float((x_0.mean((1, 2, 3)) > 0).double().mean())

    assert white(0, 1) < 0.15 and white(0, 3) < 0.06
    assert white(1, 1) > 0.85 and white(1, 3) > 0.94
    assert 0.2 < white(0, 0) < 0.8


# --- by a classifier, away from a worse model, several conditions


def posterior(x_t: Tensor, t: Tensor) -> Tensor:
    """log p(y | x_t) of the three classes, by Bayes' rule: the classifier that is never surpassed,
    but for a constant of each point.
    """
    return log_densities(x_t, t)


@pytest.mark.equation("Dhariwal Algorithm 2")
@pytest.mark.parametrize("w", [0.0, 1.0, 2.5])
def test_the_best_classifier_guides_as_the_labels_do(points, w):
    x_t, t, y = points
    without = lambda x_t, t: exact(x_t, t, torch.full_like(t, NOBODY))  # noqa: E731
    by_classifier = guidance.classifier_guided(without, SCHEDULE, posterior, y, w, clip=False)
    assert_close(by_classifier(x_t, t), guided(exact, y, w, clip=False)(x_t, t))


def test_in_eps_the_slope_counts_as_in_the_paper(points):
    """Their Algorithm 2 takes sqrt(1 - alpha_bar) of it from eps."""
    x_t, t, y = points
    alpha_bar = SCHEDULE.alpha_bar[t][:, None]
    without = lambda x_t, t: exact(x_t, t, torch.full_like(t, NOBODY))  # noqa: E731
    log_p = lambda x: posterior(x, t).log_softmax(1).gather(1, y[:, None]).sum()  # noqa: E731
    eps = (x_t - alpha_bar.sqrt() * without(x_t, t)) / (1 - alpha_bar).sqrt()
    eps = eps - 1.7 * (1 - alpha_bar).sqrt() * guidance.slope(log_p, x_t)
    naive = (x_t - (1 - alpha_bar).sqrt() * eps) / alpha_bar.sqrt()
    got = guidance.classifier_guided(without, SCHEDULE, posterior, y, 1.7, clip=False)(x_t, t)
    assert_close(got, naive)


def test_slopes_are_found_inside_a_sampler(points):
    """Samplers switch gradients off, and the answer must not carry any."""
    x_t, _, y = points
    without = lambda x_t, t: exact(x_t, t, torch.full_like(t, NOBODY))  # noqa: E731
    walk = guidance.classifier_guided(without, SCHEDULE, posterior, y, 1.0, clip=True)
    x_0 = sample.final(sample.ddim(walk, SCHEDULE, x_t, steps=5))
    assert not x_0.requires_grad and bool((x_0.abs() <= 1).all())


@pytest.mark.equation("Guide")
def test_two_models_with_errors_of_one_kind_leave_the_truth(points):
    """One is 1 wrong and the other 3 in the same direction: w = 1.5 takes the error away."""
    x_t, t, y = points
    wrong = torch.tensor([0.3, -0.2], dtype=torch.float64)
    strong, weak = (lambda x, t, y, k=k: exact(x, t, y) + k * wrong for k in (1, 3))
    walk = guidance.autoguided(strong, weak, 1.5, clip=False)
    assert_close(walk(x_t, t, y=y), exact(x_t, t, y))
    for w, plain in ((0, weak), (1, strong)):
        assert_close(
            guidance.autoguided(strong, weak, w, clip=False)(x_t, t, y=y), plain(x_t, t, y)
        )


def test_one_condition_is_plain_guidance(points):
    x_t, t, y = points
    one = guidance.composed(exact, [(y, 1.7)], clip=True)(x_t, t)
    assert_close(one, guided(exact, y, 1.7, clip=True)(x_t, t))
    half = guidance.composed(exact, [(y, 0.85), (y, 0.85)], clip=True)(x_t, t)
    assert_close(half, one)


@pytest.mark.equation("Composed")
def test_independent_conditions_compose_exactly():
    """Four clusters at (+-1, +-1): the label 0 asks for the right ones, 1 for the upper ones."""
    corners = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64)
    members = {NOBODY: [0, 1, 2, 3], 0: [0, 1], 1: [0, 2], 2: [0]}

    def denoise(x_t, t, y):
        alpha_bar = SCHEDULE.alpha_bar[t][:, None]
        variance = alpha_bar * 0.01 + 1 - alpha_bar  # (B, 1)
        away = x_t[:, None] - alpha_bar.sqrt()[..., None] * corners  # (B, 4, 2)
        log_joint = -away.square().sum(2) / (2 * variance)
        for label, kept in members.items():
            others = [k for k in range(4) if k not in kept]
            for k in others:
                log_joint[y == label, k] = -torch.inf
        mean = log_joint.softmax(1) @ corners
        g = alpha_bar.sqrt() * 0.01 / variance
        return mean * (1 - g * alpha_bar.sqrt()) + g * x_t

    generator = torch.Generator().manual_seed(0)
    x_t = torch.randn(100, 2, generator=generator, dtype=torch.float64)
    t = torch.randint(1, 101, (100,), generator=generator)
    y = [torch.full_like(t, label) for label in range(3)]
    both = guidance.composed(denoise, [(y[0], 1.0), (y[1], 1.0)], clip=False)
    assert_close(both(x_t, t), denoise(x_t, t, y[2]))
    neither = guidance.composed(denoise, [(y[0], 1.0), (y[1], -1.0)], clip=False)
    x_0 = sample.final(sample.ddim(neither, SCHEDULE, x_t, steps=50))
    lower = x_0[:, 1] < 0  # right and not upper; what the walk makes of it is far outside
    assert float((x_0[:, 0] > 0).double().mean()) > 0.9
    assert float(lower.double().mean()) > 0.7 and float(x_0[lower, 1].mean()) < -2


def test_several_conditions_in_one_call(points):
    called = []

    def denoise(x_t, t, y, x_0_hat):
        called.append((len(x_t), len(t), y.tolist(), len(x_0_hat)))
        return x_0_hat

    x_t, t, y = (what[:2] for what in points)
    walk = guidance.composed(denoise, [(y, 1.0), (y, -0.5)], clip=False)
    walk(x_t, t, x_0_hat=x_t)
    assert called == [(6, 6, [NOBODY, NOBODY, *y.tolist(), *y.tolist()], 6)]


def test_illegal_conditions(points):
    y = points[2]
    with pytest.raises(ValueError, match="at least one condition"):
        guidance.composed(exact, [], clip=False)
    with pytest.raises(ValueError, match="finite number, got nan"):
        guidance.composed(exact, [(y, float("nan"))], clip=False)
    with pytest.raises(ValueError, match="finite number, got inf"):
        guidance.autoguided(exact, exact, float("inf"), clip=False)
