"""The diffusion transformer, against PyTorch's own attention, and what a new one does."""

import pytest
import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from tutorial_lib.nets.dit import DiT, DiTBlock
from tutorial_lib.nets.shapes import count_parameters
from tutorial_lib.nets.unet import UNet, UNetConfig


@pytest.fixture
def filled(generator):
    """A small network, all of whose weights are random."""
    network = DiT(image_size=8, patch=2, width=16, depth=2, heads=2)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    return network


@pytest.mark.equation("Peebles")
def test_a_block_against_pytorchs_attention(generator):
    block = DiTBlock(width=12, heads=3)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5, generator=generator)
    attention = nn.MultiheadAttention(12, 3, batch_first=True)
    attention.load_state_dict(
        {
            "in_proj_weight": block.to_qkv.weight,
            "in_proj_bias": block.to_qkv.bias,
            "out_proj.weight": block.out.weight,
            "out_proj.bias": block.out.bias,
        }
    )
    x, embedding = torch.randn(2, 5, 12, generator=generator), torch.randn(2, 12)
    six = block.modulation(F.silu(embedding))[:, None].chunk(6, dim=-1)
    h = F.layer_norm(x, (12,)) * (1 + six[1]) + six[0]
    expected = x + six[2] * attention(h, h, h, need_weights=False)[0]
    h = F.layer_norm(expected, (12,)) * (1 + six[4]) + six[3]
    assert_close(block(x, embedding), expected + six[5] * block.mlp(h))


def test_a_new_block_returns_its_input_and_a_new_network_nothing():
    x = torch.randn(2, 4, 8)
    assert_close(DiTBlock(8, 2)(x, torch.randn(2, 8)), x)
    assert not DiT()(torch.randn(2, 1, 28, 28), torch.tensor([1, 900])).any()


def test_each_picture_is_treated_by_itself_and_the_step_matters(filled, generator):
    x, t = torch.randn(3, 1, 8, 8, generator=generator), torch.tensor([1, 400, 900])
    out = filled(x, t)
    assert out.shape == x.shape
    assert_close(filled(x[1:2], t[1:2]), out[1:2], rtol=1e-4, atol=1e-4)
    assert (filled(x, t.flip(0)) - out).abs()[::2].max() > 1e-3


def test_without_places_shuffled_patches_come_back_shuffled(filled, generator):
    def shuffled(picture):
        patches = rearrange(picture, "b 1 (y p) (x q) -> b (y x) p q", p=2, q=2)[:, order]
        return rearrange(patches, "b (y x) p q -> b 1 (y p) (x q)", y=4)

    order = torch.randperm(16, generator=generator)
    x, t = torch.randn(1, 1, 8, 8, generator=generator), torch.tensor([7])
    assert (filled(shuffled(x), t) - shuffled(filled(x, t))).abs().max() > 1e-3
    filled.places.zero_()
    assert_close(filled(shuffled(x), t), shuffled(filled(x, t)), rtol=1e-4, atol=1e-4)


def test_it_has_about_as_many_parameters_as_the_unet():
    ratio = count_parameters(DiT()) / count_parameters(UNet(UNetConfig()))
    assert 0.95 < ratio < 1.05


@pytest.mark.parametrize("sizes", [{"patch": 3}, {"width": 126}, {"heads": 5}], ids=str)
def test_sizes_that_do_not_fit_are_refused(sizes):
    with pytest.raises(ValueError, match=r"a multiple of patch = .*, and width .* one of 4"):
        DiT(**sizes)
