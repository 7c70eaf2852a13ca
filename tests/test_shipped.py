"""The weights that ship: found by name and by default, judged, and good for a few steps."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from tutorial_lib import checkpoint, data, diffusion, evaluate, sample
from tutorial_lib.beyond.distillation import EVALUATIONS
from tutorial_lib.beyond.guidance import guided
from tutorial_lib.beyond.solvers import dpm_solver
from tutorial_lib.cli import main
from tutorial_lib.config import schedule_of
from tutorial_lib.denoise import denoiser
from tutorial_lib.nets.unet import UNet, UNetConfig, restore
from tutorial_lib.recipes import distilled, labels, ways
from tutorial_lib.recipes.sources import sha256
from tutorial_lib.schedule import named

SHAPES = {"fashion_mnist": UNetConfig(), "labelled": UNetConfig(labels=len(data.CLASSES))}


@pytest.fixture(scope="module", params=list(SHAPES))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def shipped(name):
    return checkpoint.load(name)


def test_configuration_recipe_and_figures_travel_with_the_weights(name, shipped):
    tensors, configuration = shipped
    assert {"model", "data", "train", "step", "recipe", "metrics"} <= configuration.keys()
    assert configuration["train"]["T"] == 1000
    assert "60,000" in configuration["data"]
    assert UNetConfig(**configuration["model"]) == SHAPES[name]
    assert {name.split(".")[0] for name in tensors} == {"ema"}
    assert checkpoint.find(name).stat().st_size <= 8_000_000


def test_samples_were_judged_when_the_weights_were_made(shipped):
    metrics = shipped[1]["metrics"]
    assert metrics["count"] == metrics["floor_count"] == 10_000
    assert min(metrics["class_shares"].values()) >= 0.03
    assert_close(sum(metrics["class_shares"].values()), 1.0)
    low, high = metrics["interval"]
    assert 0 < metrics["floor"] < low < metrics["feature_distance"] < high
    bound = metrics["bits_per_dimension"]
    assert bound["count"] == 10_000
    assert_close(bound["L_T"] + bound["L_t"] + bound["L_0"], bound["bpd"])
    assert 2 < bound["bpd"] < 5


def test_the_network_knows_garments(shipped):
    """Its estimate of x_0 from half-noised test images is far nearer than the mean image is."""
    configuration = shipped[1]["train"]
    schedule, model = named(configuration["schedule"], configuration["T"]), restore(*shipped)
    x_0 = data.to_model(data.load("embedded", "test").pixels[:32])
    t = torch.full((32,), int((schedule.alpha_bar - 0.5).abs().argmin()))
    eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(0))
    x_t = diffusion.q_sample(schedule, x_0, t, eps)
    x_0_hat = denoiser(model, schedule, target=configuration["target"], clip=False)(x_t, t)
    error, baseline = (x_0_hat - x_0).square().mean(), (x_0.mean(0) - x_0).square().mean()
    assert float(error) < 0.2 * float(baseline)


def test_it_is_more_than_an_untrained_network(shipped):
    x, t = torch.zeros(1, 1, 28, 28), torch.tensor([500])
    assert float(UNet(UNetConfig())(x, t).detach().abs().max()) == 0
    assert float(restore(*shipped)(x, t).abs().max()) > 0.1


@pytest.fixture(scope="module")
def asked():
    return checkpoint.load("labelled")


def test_labels_are_obeyed_and_guidance_makes_them_plainer(asked):
    """What the file says of 10,000 samples at each strength holds for forty."""
    by_w = asked[1]["metrics"]["by_w"]
    shares = [row["obedience"]["second_classifier"] for row in by_w.values()]
    assert next(iter(by_w)) == "1.0" and shares == sorted(shares)
    y = torch.arange(len(data.CLASSES)).repeat(4)
    x_T = sample.start(len(y), (1, 28, 28), generator=torch.Generator().manual_seed(0))
    schedule, model = schedule_of(asked[1]), restore(*asked)
    walk = guided(denoiser(model, schedule, target="v", clip=False), y, 2.0, clip=True)
    pixels = data.to_pixels(sample.final(dpm_solver(walk, schedule, x_T, steps=8)))
    assert evaluate.obedience(pixels, y)["second_classifier"] > 0.8


def sampled(path, *options: str) -> bytes:
    """What the command line draws into a file."""
    assert main(["sample", *options, "--device", "cpu", "--out", str(path)]) == 0
    return path.read_bytes()


def test_sampling_takes_them_by_default_and_is_repeatable(tmp_path):
    once, again = (
        sampled(tmp_path / name, "--steps", "4", "--count", "3") for name in ("a.npy", "b.npy")
    )
    assert once == again
    pixels = np.load(tmp_path / "a.npy")
    assert pixels.shape == (3, 28, 28) and pixels.dtype == np.uint8
    corners = pixels[:, [0, 0, -1, -1], [0, -1, 0, -1]].mean()
    assert corners < 60 < pixels.mean() + 40  # dark corners, something in the middle


def test_by_name_or_by_default_is_the_same(tmp_path):
    few = ("--steps", "2", "--count", "1")
    by_name = sampled(tmp_path / "b.png", *few, "--weights", "labelled")
    assert by_name == sampled(tmp_path / "a.png", *few)


def test_the_student_says_who_taught_it_and_how():
    """Its teacher is the network that ships: when that is trained anew, so must the student be."""
    tensors, about = checkpoint.load("distilled")
    teacher = {
        "weights": distilled.TEACHER,
        "sha256": sha256(checkpoint.find(distilled.TEACHER)),
        "w": distilled.W,
    }
    assert about["teacher"] == teacher
    steps = {
        "consistency": distilled.CONSISTENCY.steps,
        "adversarial": distilled.ADVERSARIAL.steps,
    }
    assert about["methods"] == steps
    assert restore(tensors, about).config == SHAPES["labelled"]
    assert tuple(about["evaluations"]) == EVALUATIONS
    by_calls = [about["metrics"][str(calls)]["feature_distance"] for calls in EVALUATIONS]
    assert by_calls == sorted(by_calls, reverse=True)


def test_the_worse_network_is_that_of_its_recipe():
    tensors, about = checkpoint.load("weak")
    assert restore(tensors, about).config == labels.WEAK_SHAPE
    assert about["train"]["steps"] == about["step"] == labels.WEAK.steps


def test_the_ways_of_guidance_were_measured_as_their_recipe_says():
    _, about = checkpoint.load("ways")
    asked = {f"{way} {w}" for way in ways.WAYS for w in ways.STRENGTHS}
    assert about["found"].keys() == {"plain guidance 1.0", *asked}
    recorded = (tuple(about["interval"]), about["share"], about["still"])
    assert recorded == (ways.INTERVAL, ways.SHARE, ways.STILL)
