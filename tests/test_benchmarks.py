"""The benchmarks: contestants do what they say, and the page says what was measured."""

import importlib.util
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from torch.testing import assert_close

from tutorial_lib import data, diffusion
from tutorial_lib.data import Images

sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))
import ablation
import contestants
import cost

SPEC = importlib.util.spec_from_file_location("make_benchmarks", ROOT / "docs" / "make_benchmarks.py")
pages = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(pages)


@pytest.fixture(scope="module")
def images() -> Images:
    """As many as one batch needs."""
    embedded = data.load("embedded", "train")
    return Images(embedded.pixels[:128], embedded.labels[:128], "128 images")


def test_page_is_current():
    assert pages.PAGE.read_text(encoding="utf-8") == pages.page(), "run: python docs/make_benchmarks.py"


def test_page_has_a_place_for_every_table():
    text = pages.PAGE.read_text(encoding="utf-8")
    for name in pages.BLOCKS:
        assert text.count(f"<!-- begin {name} -->\n") == text.count(f"\n<!-- end {name} -->") == 1


def test_tables_and_medians():
    found = {f"speed/ours/{i}": {"rate": rate} for i, rate in enumerate((3.0, 1.0, 2.0))}
    found |= {f"speed/b: other/{i}": {"rate": rate} for i, rate in enumerate((4.0, 6.0))}
    assert pages.names(found, "speed") == ["ours", "b: other"]
    assert pages.median(found, "speed", "ours", "rate") == 2.0
    assert pages.median(found, "speed", "b: other", "rate") == 5.0
    assert pages.table(["", "x"], [["a", "1"]]) == "| | x |\n|---|--:|\n| a | 1 |".replace("| | x |", "|  | x |")


@pytest.mark.parametrize("name", ["ours", "b: diffusers", "c: annotated recipe"])
def test_contestants_train_and_sample(name, images):
    """One step changes the weights; what is sampled from follows; samples are images, the same each time."""
    contestant = contestants.CONTESTANTS[name](images)
    before = [p.detach().clone() for p in contestant.network.parameters()]
    next(contestant.steps)
    next(contestant.steps)
    assert any(not torch.equal(a, b) for a, b in zip(before, contestant.network.parameters(), strict=True))
    contestant.refresh()
    contestant.sampled.eval()
    with torch.no_grad():
        pixels, again = contestant.ddim(2, steps=2), contestant.ddim(2, steps=2)
    assert pixels.shape == (2, 1, 28, 28) and pixels.dtype == torch.uint8
    assert torch.equal(pixels, again)


def test_images_decoded_from_png_are_the_images(images):
    batch = next(contestants._decoded(images))
    plain = data.to_model(images.pixels)
    known = {tuple(image.flatten().tolist()) for image in torch.cat([plain, plain.flip(-1)])}
    assert all(tuple(image.flatten().tolist()) in known for image in batch)


def test_diffusers_counts_steps_from_0(images):
    """Its noising at its step t - 1 is ours at t, so `predict` may shift by one."""
    from diffusers import DDPMScheduler

    contestant = contestants.diffusers(images)
    x_0, eps = data.to_model(images.pixels[:4]), torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([1, 2, 500, 1000])
    theirs = DDPMScheduler(1000).add_noise(x_0, eps, t - 1)
    assert_close(theirs, diffusion.q_sample(contestant.schedule, x_0, t, eps), rtol=0, atol=1e-5)


def test_fused_attention_of_the_ablation_is_the_same_attention():
    torch.manual_seed(0)
    plain = ablation.blocks.Attention(16, heads=4, groups=4)
    torch.nn.init.normal_(plain.out.weight)
    x = torch.randn(2, 16, 3, 5)
    expected = plain(x)
    plain.__class__ = ablation._Fused
    assert_close(plain(x), expected, rtol=1e-4, atol=1e-5)


def test_fitted_rates_explain_times_made_from_two_rates():
    generator = np.random.default_rng(0)
    costs = [cost.Cost("", 0, flops, size) for flops, size in generator.uniform(1e8, 1e9, (6, 2))]
    for c in costs:
        c.seconds = c.flops / 4e11 + c.bytes / 2e10
    per_flop, per_byte = cost.fit(costs)
    np.testing.assert_allclose([1 / per_flop, 1 / per_byte], [4e11, 2e10], rtol=1e-6)


def test_operations_of_a_convolution_are_counted():
    """28 x 28 places, 9 weights, an addition and a multiplication each; three times for a step."""
    model = torch.nn.Module()
    model.layer = torch.nn.Conv2d(1, 2, 3, padding=1, bias=False)
    model.forward = lambda x, t: model.layer(x)
    counted = cost.cost("one layer", model, 28)
    assert counted.flops == 3 * 2 * 28 * 28 * 9 * 2
    assert counted.parameters == 18
