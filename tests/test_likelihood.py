"""The bound in bits per dimension: closed forms, every term by brute force, and how it scatters."""

import math

import pytest
import torch
from conftest import best
from torch.testing import assert_close

from tutorial_lib import checkpoint, data, diffusion
from tutorial_lib.beyond import likelihood
from tutorial_lib.beyond.likelihood import bits_per_dimension
from tutorial_lib.denoise import denoiser
from tutorial_lib.nets.unet import restore
from tutorial_lib.schedule import linear, named


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def same_image(count: int) -> torch.Tensor:
    """One small picture, many times."""
    pixels = torch.randint(0, 256, (1, 1, 4, 4), generator=seeded(5))
    return pixels.to(torch.uint8).expand(count, -1, -1, -1)


def random_images(count: int, generator: torch.Generator) -> torch.Tensor:
    """Small pictures, each another one."""
    pixels = torch.randint(0, 256, (count, 1, 2, 2), generator=generator)
    return pixels.to(torch.uint8)


@pytest.mark.equation("5")
@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
def test_bits_of_a_network_that_knows_the_picture_in_closed_form(variance):
    """Then only the variances differ, and each L_{t-1} is the same for every pixel, image and
    noise.
    """
    schedule, pixels = linear(1000), same_image(400)
    x_0 = data.to_model(pixels[:1]).double()
    beta, bars = schedule.beta.tolist(), schedule.alpha_bar.tolist()
    nats = 0.0
    for t in range(2, 1001):
        tilde = (1 - bars[t - 1]) / (1 - bars[t]) * beta[t]
        sigma2 = beta[t] if variance == "beta" else tilde
        nats += 16 * 0.5 * (math.log(sigma2 / tilde) + tilde / sigma2 - 1)
    at_the_end = (bars[-1] * (float(x_0.square().sum()) - 16) - 16 * math.log(1 - bars[-1])) / 2
    half = 1 / 255 / math.sqrt(beta[1])
    middle = math.log(math.erf(half / math.sqrt(2)))
    decoder = -16 * middle  # no pixel of this picture is 0 or 255, whose buckets have no end
    assert int(pixels.min()) > 0 and int(pixels.max()) < 255

    def knows(x, t):
        return x_0.to(x).expand(x.shape)

    found = bits_per_dimension(knows, schedule, pixels, generator=seeded(), variance=variance)
    to_bits = 1 / (16 * math.log(2))
    assert_close(found["L_T"], at_the_end * to_bits, rtol=1e-4, atol=1e-7)
    assert_close(found["L_0"], decoder * to_bits, rtol=1e-3, atol=1e-5)
    assert_close(found["L_t"], nats * to_bits, rtol=0.02, atol=1e-5)
    assert_close(found["bpd"], found["L_T"] + found["L_t"] + found["L_0"])


def brute_force(denoise, schedule, x_0, generator, rounds: int = 30) -> float:
    """The bound of pictures x_0 in nats, every term of every t, by the formulas of notebook 03 and
    plain loops.
    """
    total = 0.0
    for _ in range(rounds):
        for k in range(1, schedule.T + 1):
            t = torch.full((len(x_0),), k)
            eps = torch.randn(x_0.shape, generator=generator)
            x_t = diffusion.q_sample(schedule, x_0, t, eps)
            x_0_hat = denoise(x_t, t)
            if k == 1:
                term = diffusion.L_0(schedule, x_0, x_0_hat)
            else:
                term = diffusion.L_t_minus_1(schedule, x_0, x_t, t, x_0_hat)
            total += float(term.mean()) / rounds
    return total + float(diffusion.L_T(schedule, x_0).mean())


def test_bits_against_brute_force(generator):
    schedule, pixels = linear(40, rescaled=True), random_images(300, generator)

    def denoise(x, t):
        return (0.9 * x.clamp(-1, 1)).clamp(-1, 1)

    expected = brute_force(denoise, schedule, data.to_model(pixels), generator) / (4 * math.log(2))
    found = bits_per_dimension(denoise, schedule, pixels, generator=generator, draws=8)
    assert found["count"] == 300
    assert_close(found["bpd"], expected, rtol=0, atol=4 * found["error"])
    assert found["error"] < 0.05 * expected


def test_drawing_small_steps_more_often_pays():
    """With the shipped weights, 240 plain draws of t from 2..T scatter several times as much."""
    tensors, configuration = checkpoint.load("fashion_mnist")
    schedule, generator = named(configuration["train"]["schedule"], 1000), seeded()
    pixels, model = data.load("embedded", "test").pixels[:60], restore(tensors, configuration)
    denoise = denoiser(model, schedule, target="v", clip=True)
    found = bits_per_dimension(denoise, schedule, pixels, generator=generator)
    assert 1.5 < found["bpd"] < 5 and found["L_T"] < 1e-4
    x_0, plain = data.to_model(pixels), []
    for _ in range(4):
        t = torch.randint(2, 1001, (60,), generator=generator)
        x_t = diffusion.q_sample(schedule, x_0, t, torch.randn(x_0.shape, generator=generator))
        x_0_hat = diffusion.x_0_from(schedule, "v", model(x_t, t), x_t, t).clamp(-1, 1)
        plain.append(999 * diffusion.L_t_minus_1(schedule, x_0, x_t, t, x_0_hat))
    scatter = torch.stack(plain).mean(0).std() / 60**0.5 / (784 * math.log(2))
    assert found["error"] < 0.4 * float(scatter)


def test_the_error_is_that_of_the_bound_over_images(generator):
    """Of 100 estimates on pictures of one distribution, each says truly how far they scatter."""
    schedule = linear(60, rescaled=True)
    denoise = denoiser(best(schedule, "eps", 0.0, 0.6), schedule, target="eps", clip=True)
    found = [
        bits_per_dimension(denoise, schedule, random_images(50, generator), generator=generator)
        for _ in range(100)
    ]
    scatter = torch.tensor([one["bpd"] for one in found]).std()
    said = torch.tensor([one["error"] for one in found]).mean()
    # 4 / sqrt(2 * 99): how well 100 values know their own spread.  The draws of t are spread evenly
    # over all images, so the truth is a little below.
    assert 0.5 < float(scatter / said) < 1.28


def test_bits_do_not_depend_on_the_size_of_the_pieces(generator, monkeypatch):
    """What is drawn for each image may differ, what is measured may not."""
    schedule, pixels = linear(40, rescaled=True), random_images(300, generator)

    def measured(piece):
        monkeypatch.setattr(likelihood, "PIECE", piece)
        return bits_per_dimension(
            lambda x, t: 0.9 * x.clamp(-1, 1), schedule, pixels, generator=seeded(1), draws=8
        )

    whole, pieces = measured(300), measured(7)
    assert_close(pieces["L_T"], whole["L_T"], rtol=1e-5, atol=0)
    both = math.hypot(pieces["error"], whole["error"])
    assert_close(pieces["bpd"], whole["bpd"], rtol=0, atol=4 * both)


def test_one_seed_one_bound_and_no_gradient():
    schedule, weight = linear(40, rescaled=True), torch.ones((), requires_grad=True)
    asked = []

    def denoise(x, t):
        asked.append(weight * x)
        return asked[-1].clamp(-1, 1)

    once, again, other = (
        bits_per_dimension(denoise, schedule, same_image(5), generator=seeded(seed))
        for seed in (1, 1, 2)
    )
    assert once == again != other
    assert not any(x.requires_grad for x in asked)


@pytest.mark.parametrize(
    ("pixels", "draws", "T"),
    [
        (torch.zeros(3, 1, 2, 2), 4, 40),
        (same_image(1), 4, 40),
        (same_image(3), 0, 40),
        (same_image(3), 4, 1),
    ],
)
@pytest.mark.filterwarnings("ignore:alpha_bar_T")
def test_bits_refuses_what_makes_no_sense(pixels, draws, T):
    wrong = "the bound needs at least 2 uint8 images, 1 draw and T = 2"
    with pytest.raises(ValueError, match=wrong):
        bits_per_dimension(
            lambda x, t: x, linear(T), pixels, generator=torch.Generator(), draws=draws
        )
