"""The U-Net: shapes, legal sizes, gradients, and what weights it accepts."""

from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from tutorial_lib.checkpoint import prefixed
from tutorial_lib.nets import published
from tutorial_lib.nets.shapes import count_parameters, shape_table
from tutorial_lib.nets.unet import UNet, UNetConfig, restore


def awake(config: UNetConfig) -> UNet:
    """A network whose zero-initialised layers have been given weights, as after some training."""
    torch.manual_seed(0)
    model = UNet(config)
    for p in model.parameters():
        if p.ndim > 1 and not p.any():
            nn.init.normal_(p, std=0.1)
    return model


@given(
    multiple=st.integers(1, 3),
    patch=st.sampled_from([1, 2, 4]),
    widths=st.lists(st.sampled_from([4, 8]), min_size=1, max_size=3),
    blocks=st.integers(1, 2),
    channels=st.integers(1, 2),
    batch=st.integers(1, 3),
)
def test_output_is_shaped_like_input(multiple, patch, widths, blocks, channels, batch):
    size = multiple * patch * 2 ** (len(widths) - 1)
    config = UNetConfig(size, channels, patch, widths, blocks, heads=2, groups=2)
    x = torch.zeros(batch, channels, size, size)
    assert UNet(config)(x, torch.ones(batch, dtype=torch.int64)).shape == x.shape


@pytest.mark.parametrize(
    ("size", "channels", "patch", "widths"),
    [(28, 1, 2, (8, 16)), (32, 3, 2, (8, 8, 8)), (28, 1, 1, (8, 8, 8))],
)
def test_usual_sizes(generator, size, channels, patch, widths):
    model = awake(UNetConfig(size, channels, patch, widths, blocks=1, groups=4))
    x = torch.randn(2, channels, size, size, generator=generator)
    assert model(x, torch.tensor([1, 1000])).shape == x.shape


@given(st.integers(1, 70), st.sampled_from([1, 2, 4]), st.integers(1, 4))
def test_illegal_sizes_name_the_nearest_legal_ones(size, patch, levels):
    factor = patch * 2 ** (levels - 1)
    widths = (8,) * levels
    if size % factor == 0:
        assert UNetConfig(size, patch=patch, widths=widths).image_size == size
        return
    with pytest.raises(ValueError, match=f"must be a multiple of {factor}; the nearest") as error:
        UNetConfig(size, patch=patch, widths=widths)
    words = str(error.value).split("legal sizes are")[1].split()
    named = [int(word) for word in words if word.isdigit()]
    below = size - size % factor
    assert named == ([below, below + factor] if below else [factor])
    for legal in named:
        UNetConfig(legal, patch=patch, widths=widths)


def test_four_levels_reject_28():
    with pytest.raises(ValueError, match="24 and 32"):
        UNetConfig(28, patch=1, widths=(8, 8, 8, 8))
    UNetConfig(28, patch=1, widths=(8, 8, 8))


@pytest.mark.parametrize(
    "wrong",
    [
        {"widths": ()},
        {"widths": (0,)},
        {"channels": 0},
        {"patch": 0},
        {"blocks": 0},
        {"heads": 0},
        {"groups": 0},
        {"labels": -1},
        {"widths": (12,)},
        {"widths": (9, 18), "groups": 9},
        {"heads": 3},
        {"image_size": 0},
        {"image_size": -28},
    ],
)
def test_illegal_configurations(wrong):
    message = r"positive whole number|not a multiple of|cannot be halved|not be negative|even"
    with pytest.raises(ValueError, match=message):
        UNetConfig(**wrong)


def test_starts_by_predicting_zeros(tiny, generator):
    out = UNet(tiny)(torch.randn(3, 1, 8, 8, generator=generator), torch.tensor([1, 5, 100]))
    assert_close(out, torch.zeros(3, 1, 8, 8), rtol=0, atol=0)


@pytest.mark.parametrize("widths", [(8,), (8, 16)])
def test_gradient_reaches_every_parameter(generator, widths):
    model = awake(UNetConfig(image_size=8, widths=widths, blocks=2, heads=2, groups=4))
    x = torch.randn(2, 1, 8, 8, generator=generator)
    model(x, torch.tensor([3, 700])).square().sum().backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead


def test_depends_on_the_step_and_on_every_pixel(tiny, generator):
    model = awake(tiny)
    x = torch.randn(1, 1, 8, 8, generator=generator)
    one, other = model(x, torch.tensor([10])).detach(), model(x, torch.tensor([600])).detach()
    assert float((one - other).abs().max()) > 1e-3
    x.requires_grad_()
    model(x, torch.tensor([10]))[0, 0, 0, 0].backward()
    assert bool((x.grad != 0).all())  # attention sees everything


def test_images_of_a_batch_do_not_see_each_other(tiny, generator):
    model = awake(tiny)
    x, t = torch.randn(3, 1, 8, 8, generator=generator), torch.tensor([1, 50, 900])
    apart = torch.cat([model(x[i : i + 1], t[i : i + 1]) for i in range(3)])
    assert_close(model(x, t), apart, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 1, 10, 10), (2, 1, 8, 10), (2, 8, 8), (2, 64)])
def test_images_of_the_wrong_shape(tiny, shape):
    with pytest.raises(ValueError, match=r"takes images of shape \(B, 1, 8, 8\)"):
        UNet(tiny)(torch.zeros(shape), torch.tensor([1, 2]))


@pytest.mark.parametrize("t", [torch.tensor(1), torch.tensor([1]), torch.tensor([[1], [2]])])
def test_steps_of_the_wrong_shape(tiny, t):
    with pytest.raises(ValueError, match=r"t must have shape \(2,\)"):
        UNet(tiny)(torch.zeros(2, 1, 8, 8), t)


def test_parameters_are_counted_by_hand():
    """One linear layer with a bias, and another that is frozen."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4).requires_grad_(False))
    assert count_parameters(model) == 3 * 4 + 4


def test_restored_network_computes_the_same(tiny, generator):
    model = awake(tiny)
    x, t = torch.randn(2, 1, 8, 8, generator=generator), torch.tensor([1, 500])
    tensors = prefixed("ema", model.state_dict()) | {"model.out.weight": torch.ones(1)}
    restored = restore(tensors, {"model": asdict(tiny), "train": {}})
    assert restored.config == tiny and not restored.training
    assert not any(p.requires_grad for p in restored.parameters())
    assert_close(restored(x, t), model(x, t), rtol=1e-4, atol=1e-5)
    rounded = {name: tensor.half() for name, tensor in tensors.items()}
    half = restore(rounded, {"model": asdict(tiny)})
    assert all(p.dtype == torch.float32 for p in half.parameters())
    assert_close(half(x, t), model(x, t), rtol=0.02, atol=0.02)


def test_foreign_configurations_and_tensors_are_refused(tiny):
    tensors = prefixed("ema", UNet(tiny).state_dict())
    message = "not a U-Net's: their configuration has only recipe, data"
    with pytest.raises(ValueError, match=message):
        restore(tensors, {"recipe": "", "data": ""})
    for wrong in ({"widths": (16,)}, {"blocks": 2}, {"channels": 3}):
        with pytest.raises(ValueError, match="do not fit their configuration"):
            restore(tensors, {"model": asdict(tiny) | wrong})
    with pytest.raises(ValueError, match=r"no tensors named ema\.\* .*; they hold nothing"):
        restore({}, {"model": asdict(tiny)})


def test_shape_table_accounts_for_everything(tiny):
    model = UNet(tiny)
    rows = shape_table(model, torch.zeros(1, 1, 8, 8), torch.ones(1))
    assert sum(row.parameters for row in rows) == count_parameters(model)
    names = "embed stem down.0 middle_1 attention middle_2 up.0 norm out"
    assert [row.name for row in rows] == names.split()
    stem = rows[1]
    assert (stem.kind, stem.shape) == ("Conv2d", (1, 8, 4, 4))
    # a multiplication and an addition for each of places x filters x weights
    assert stem.flops == 2 * (4 * 4) * 8 * (4 * 9)
    assert not any(part._forward_hooks for part in model.modules())


def test_shape_table_on_the_device_without_numbers(tiny):
    inputs = torch.zeros(1, 1, 8, 8), torch.ones(1)
    with torch.device("meta"):
        there = shape_table(UNet(tiny), *(x.to("meta") for x in inputs))
    assert there == shape_table(UNet(tiny), *inputs)


def test_shape_table_leaves_no_hooks_behind_when_the_network_fails(tiny):
    model = UNet(tiny)
    with pytest.raises(ValueError, match="takes images of shape"):
        shape_table(model, torch.zeros(1, 1, 9, 9), torch.ones(1))
    assert not any(part._forward_hooks for part in model.modules())


def test_self_conditioning(tiny, generator):
    model = awake(replace(tiny, self_conditioning=True))
    x_t, estimate = torch.randn(2, 2, 1, 8, 8, generator=generator)
    t = torch.tensor([5, 50])
    assert_close(model(x_t, t), model(x_t, t, torch.zeros_like(x_t)), rtol=0, atol=0)
    assert not torch.allclose(model(x_t, t), model(x_t, t, estimate))
    assert model(x_t, t, estimate).shape == x_t.shape
    with pytest.raises(ValueError, match="self_conditioning=True"):
        awake(tiny)(x_t, t, estimate)


def test_labels(tiny, generator):
    """Each label matters; without one all are nobody's; else the network is what it was."""
    torch.manual_seed(0)
    plain = UNet(tiny).state_dict()
    torch.manual_seed(0)
    new = UNet(replace(tiny, labels=3)).state_dict()
    assert {name for name in new if name not in plain} == {"of_label.weight"}
    assert all(torch.equal(plain[name], new[name]) for name in plain)
    model = awake(replace(tiny, labels=3))
    x_t, t = torch.randn(4, 1, 8, 8, generator=generator), torch.full((4,), 50)
    same, nobody = x_t[:1].expand(4, -1, -1, -1), torch.full((4,), -1)
    assert_close(model(x_t, t), model(x_t, t, y=nobody), rtol=0, atol=0)
    seen = model(same, t, y=torch.tensor([-1, 0, 1, 2])).detach()
    assert float(torch.pdist(seen.flatten(1)).min()) > 1e-3


@pytest.mark.parametrize(
    ("labels", "y", "message"),
    [
        (0, [0, 0], r"takes no labels; build it with UNetConfig\(labels"),
        (3, [0], r"shape \(2,\), a label for each image, got \(1,\)"),
        (3, [0, 3], r"must lie in 0..2, or be -1 for none, got 0..3"),
        (3, [-2, 1], r"must lie in 0..2, or be -1 for none, got -2..1"),
    ],
)
def test_illegal_labels(tiny, labels, y, message):
    model = UNet(replace(tiny, labels=labels))
    with pytest.raises(ValueError, match=message):
        model(torch.zeros(2, 1, 8, 8), torch.ones(2), y=torch.tensor(y))


@pytest.mark.parametrize("model", ["resnet", None, [1], {"depth": 3}, {"widths": 8}])
def test_a_model_that_is_no_unet_is_refused(tiny, model):
    tensors = prefixed("ema", UNet(tiny).state_dict())
    with pytest.raises(ValueError, match=r"not a U-Net's of this version.*load_state_dict"):
        restore(tensors, {"model": model})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("kind", ["ours", "paper", "annotated"])
def test_a_network_of_any_precision_takes_images_of_any(tiny, generator, kind, dtype):
    make = {"ours": lambda: awake(tiny), "annotated": published.annotated_unet}
    torch.manual_seed(0)
    model = make.get(kind, lambda: published.paper_unet(8, (1, 2), dropout=0.0))()
    shape = {"ours": (2, 1, 8, 8), "annotated": (2, 1, 28, 28)}.get(kind, (2, 3, 8, 8))
    x, t = torch.randn(shape, generator=generator), torch.tensor([1, 500])
    with torch.no_grad():
        expected = model(x, t)
        for images in (x, x.to(dtype)):
            output = model.to(dtype)(images, t)
            assert output.dtype == dtype
            assert_close(output.float(), expected, rtol=0.05, atol=0.05)
