"""The recipes of notebook 08 on a small scale: trained, stored, restored, measured."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from tutorial_lib import checkpoint, data, evaluate
from tutorial_lib.beyond import variational
from tutorial_lib.beyond.fine import FineConfig, FineUNet, restore_fine, variational_step
from tutorial_lib.beyond.variance import restore_wide, sure, widened
from tutorial_lib.beyond.variational import decoder_nats, diffusion_nats, noised
from tutorial_lib.denoise import denoiser
from tutorial_lib.nets.unet import restore
from tutorial_lib.recipes import bits, sigma


@pytest.fixture
def few(monkeypatch, tmp_path):
    """Twenty images in the place of all, and an empty folder for what is stored."""
    images = data.load("embedded", "test")
    images = data.Images(images.pixels[:20], images.labels[:20], "twenty")
    for module in (bits, sigma):
        monkeypatch.setattr(module, "full", lambda split: images)
    monkeypatch.chdir(tmp_path)
    return images


def tiny(plan: bits.Plan) -> bits.Plan:
    shape = replace(plan.shape, widths=(8, 8))
    brief = replace(plan.train, steps=4, batch=8, save_every=2, report_every=1, warmup=1)
    return replace(plan, shape=shape, begin=False, train=brief)


def test_the_recipe_of_fewer_bits(few, monkeypatch, tmp_path):
    monkeypatch.setattr(bits, "PLAN", tiny(bits.PLAN))
    monkeypatch.setattr(bits, "ASSETS", tmp_path)
    bits.fine_bits(tmp_path / "run")
    tensors, configuration = checkpoint.load(tmp_path / "fashion_mnist_bits.safetensors")
    assert {name.split(".")[0] for name in tensors} == {"fine"}  # no network of the command line's
    assert all(tensor.dtype == torch.float16 for tensor in tensors.values())
    network = restore_fine(tensors, configuration)
    assert network.config == bits.PLAN.shape
    found = bits.measured(network, few.pixels, low=bits.LOW, high=bits.HIGH, draws=8)
    assert_close(found["bpd"], configuration["metrics"]["bits_per_dimension"]["bpd"])
    before = (tmp_path / "run" / "checkpoint.safetensors").read_bytes()
    bits.learn(bits.PLAN, few, tmp_path / "run")  # finished already: nothing is left to do
    assert (tmp_path / "run" / "checkpoint.safetensors").read_bytes() == before


def test_every_variant_that_is_tried_can_be_built():
    for plan in bits.TRIED.values():
        network = FineUNet(plan.shape)
        if plan.begin:
            network.begin_as(restore(*checkpoint.load("fashion_mnist")))
        out = network(torch.zeros(1, 1, 28, 28), torch.tensor([plan.low]))
        assert out.shape == (1, 2, 28, 28)


def test_the_variants_are_tried_on_held_out_images(few, monkeypatch, tmp_path):
    tried = {"plain": tiny(bits.PLAN), "waves": tiny(bits.TRIED["waves, to -13.3"])}
    monkeypatch.setattr(bits, "TRIED", tried)
    monkeypatch.setattr(bits, "HELD_OUT", 6)
    bits.bits_tried(minutes=None)
    assert (tmp_path / "build" / "bits_tried.json").exists()
    monkeypatch.setattr(bits, "learn", None)
    bits.bits_tried()  # both are there: nothing is trained again


def test_the_loss_is_the_bound_in_expectation():
    """Places below `decoded` are the decoder, divided by its share, and so are the others."""
    torch.manual_seed(0)
    network = FineUNet(FineConfig(widths=(8, 8)))
    x_0 = data.to_model(data.load("embedded", "test").pixels[:4])
    eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(1))
    place = torch.tensor([0.05, 0.125, 0.5625, 0.99])
    with torch.no_grad():
        loss = variational_step(network, x_0, eps, place, low=-10.0, high=8.0, decoded=0.125)
    gamma = torch.tensor([-10.0, -10.0, -1.0, 8 - 18 * 0.01 / 0.875])
    z = noised(x_0, gamma, eps)
    signal, noise = (-gamma).sigmoid().sqrt(), gamma.sigmoid().sqrt()
    x_0_hat = signal.view(4, 1, 1, 1) * z  # a new network says v = 0, and sigma = b / a
    nats = 18 / 0.875 * diffusion_nats(x_0, x_0_hat, gamma)
    at_the_end = decoder_nats(x_0, x_0_hat, (noise / signal).view(4, 1, 1, 1).expand(x_0.shape))
    nats[0] = at_the_end[0] / 0.125
    assert_close(loss, nats / (784 * torch.tensor(2.0).log()), rtol=1e-4, atol=1e-4)


def test_the_bound_learns(few):
    """Sixty steps from scratch lower it by a sixth, on the few images that it sees."""
    plan = tiny(bits.PLAN)
    plan = replace(plan, train=replace(plan.train, steps=60, lr=2e-3, lr_muon=0.02, ema=0.9))
    before = bits.measured(FineUNet(plan.shape), few.pixels, low=-10.0, high=8.0, draws=8)
    after = bits.measured(bits.learn(plan, few, None), few.pixels, low=-10.0, high=8.0, draws=8)
    assert after["bpd"] < 0.84 * before["bpd"]


def test_the_record_of_the_shipped_weights(few, monkeypatch, tmp_path):
    weights = (bits.ASSETS / bits.WEIGHTS).read_bytes()
    (tmp_path / bits.WEIGHTS).write_bytes(weights)
    monkeypatch.setattr(bits, "ASSETS", tmp_path)
    monkeypatch.setattr(bits, "EXACT", {"count": 2, "steps": 3})
    monkeypatch.setattr(variational, "ENOUGH", 50)
    bits.shipped_bits()
    tensors, about = checkpoint.load(tmp_path / "bits.safetensors")
    assert tensors["middle"].shape == (2,) and bool(tensors["middle"].isfinite().all())
    assert set(about["continuous"]) == {"-9", "-10", "-11", "all"}
    assert 2 < about["continuous"]["-10"]["bpd"] < 4


def test_a_widened_network_predicts_as_before_and_is_free(few, generator):
    shipped = restore(*checkpoint.load("fashion_mnist"))
    wide = widened(shipped)
    assert all(parameter.requires_grad for parameter in wide.parameters())
    x, t = torch.randn(2, 1, 28, 28, generator=generator), torch.tensor([3, 700])
    with torch.no_grad():
        x_0_hat, share = sure(wide, sigma.SCHEDULE, target="v", clip=True)(x, t)
        expected = denoiser(shipped, sigma.SCHEDULE, target="v", clip=True)(x, t)
    assert_close(x_0_hat, expected, rtol=1e-4, atol=1e-4)
    assert_close(share, torch.full_like(x, 0.5))


def test_the_recipe_of_the_learned_variance(few, monkeypatch, tmp_path):
    monkeypatch.setattr(evaluate, "bootstrap_interval", lambda *_: (0.0, 1.0))
    brief = replace(sigma.CONFIG, steps=2, batch=4, warmup=1, save_every=1, report_every=1)
    for name, value in {
        "CONFIG": brief, "MEASURED": {3: 5, 1000: 6}, "BY": 3, "DRAWN": 6, "DRAWS": 2,
    }.items():  # fmt: skip
        monkeypatch.setattr(sigma, name, value)
    (tmp_path / sigma.WEIGHTS).write_bytes((sigma.ASSETS / sigma.WEIGHTS).read_bytes())
    monkeypatch.setattr(sigma, "ASSETS", tmp_path)
    sigma.variance(tmp_path / "run")
    tensors, configuration = checkpoint.load(tmp_path / "fashion_mnist_variance.safetensors")
    assert {name.split(".")[0] for name in tensors} == {"wide"}
    assert set(configuration["metrics"]["bits"]) == {
        f"{kind}, {steps}" for kind in ("learned", "beta", "beta_tilde") for steps in (3, 1000)
    }
    network = restore_wide(tensors, configuration)
    assert network(torch.zeros(1, 1, 28, 28), torch.tensor([5])).shape == (1, 2, 28, 28)
