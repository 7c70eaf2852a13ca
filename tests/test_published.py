"""The published networks: counts, and the paper's weight for weight with the reference library."""

import pytest
import torch
from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import nn
from torch.testing import assert_close

from tutorial_lib.nets import blocks
from tutorial_lib.nets.published import annotated_unet, paper_unet
from tutorial_lib.nets.shapes import count_parameters

# our names of a residual block's layers, and those of the reference library
LAYERS = {
    "norm_1": "norm1",
    "conv_1": "conv1",
    "scale_shift": "time_emb_proj",
    "norm_2": "norm2",
    "conv_2": "conv2",
    "skip": "conv_shortcut",
}


def test_the_popular_annotated_network_to_the_last_parameter():
    assert count_parameters(annotated_unet()) == 2_020_257


@pytest.mark.parametrize(
    ("size", "multipliers", "parameters"),
    [(32, (1, 2, 2, 2), 35_746_307), (256, (1, 1, 2, 2, 4, 4), 113_673_219)],
)
def test_the_networks_of_the_paper_to_the_last_parameter(size, multipliers, parameters):
    with torch.device("meta"):
        model = paper_unet(size, multipliers)
        assert count_parameters(model) == parameters
        assert model(torch.empty(2, 3, size, size), torch.empty(2)).shape == (2, 3, size, size)


def test_the_popular_network_runs_and_every_parameter_learns(generator):
    torch.manual_seed(0)  # the initial weights
    model = annotated_unet()
    # attention starts at zero, and hides its queries
    nn.init.normal_(model.middle[2].out.weight, std=0.1)
    x = torch.randn(2, 1, 28, 28, generator=generator)
    out = model(x, torch.tensor([3, 900]))
    assert out.shape == x.shape
    (out * torch.randn(out.shape, generator=generator)).sum().backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


def test_where_the_paper_attends():
    """At 16 x 16 behind each of two blocks down and three up; once in the middle; nowhere else."""
    with torch.device("meta"):
        model = paper_unet()
        parts = called(model, (blocks.Attention,), torch.empty(1, 3, 32, 32), torch.empty(1))
    assert [shape[-1] for _, shape in parts] == [16, 16, 4, 16, 16, 16]


def called(
    model: nn.Module, kinds: tuple[type, ...], *inputs
) -> list[tuple[nn.Module, torch.Size]]:
    """Parts of these kinds in the order in which a call ends them, with the shapes they return."""
    order = []

    def note(part, _, out):
        order.append((part, out.shape))

    parts = [part for part in model.modules() if isinstance(part, kinds)]
    handles = [part.register_forward_hook(note) for part in parts]
    with torch.no_grad():
        model(*inputs)
    for handle in handles:
        handle.remove()
    return order


def copy(ours: nn.Module, *theirs: nn.Module) -> None:
    """Give a layer the weights of its counterpart, or of several that it holds as one."""
    with torch.no_grad():
        for name, p in ours.named_parameters():
            p.copy_(torch.cat([getattr(part, name) for part in theirs]).view_as(p))


def test_the_paper_s_network_agrees_with_the_reference_library(generator):
    """The same weights in `diffusers`' network for CIFAR-10 give the same output."""
    theirs = UNet2DModel(
        sample_size=32,
        in_channels=3,
        out_channels=3,
        block_out_channels=(128, 256, 256, 256),
        layers_per_block=2,
        down_block_types=["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
        flip_sin_to_cos=False,
        freq_shift=1,
        downsample_padding=1,
        norm_eps=1e-5,
        attention_head_dim=256,
        norm_num_groups=32,
        act_fn="silu",
    ).eval()
    ours = paper_unet().eval()
    x, t = torch.randn(1, 3, 32, 32, generator=generator), torch.tensor([321])
    assert count_parameters(ours) == count_parameters(theirs)
    with torch.no_grad():
        for p in theirs.parameters():
            p.add_(0.02 * torch.randn(p.shape, generator=generator))  # the zeros too
    pairs = zip(
        called(ours, (blocks.ResidualBlock, blocks.Attention, blocks.Up), x, t),
        called(theirs, (ResnetBlock2D, Attention, Upsample2D), x, t),
        strict=True,
    )
    for (mine, shape), (other, other_shape) in pairs:
        assert shape == other_shape
        if isinstance(mine, blocks.Up):
            copy(mine.smooth, other.conv)
        elif isinstance(mine, blocks.Attention):
            copy(mine.norm, other.group_norm)
            copy(mine.to_qkv, other.to_q, other.to_k, other.to_v)
            copy(mine.out, other.to_out[0])
        else:
            for name, other_name in LAYERS.items():
                if isinstance(getattr(other, other_name), nn.Module):
                    copy(getattr(mine, name), getattr(other, other_name))
    copy(ours.embed[0], theirs.time_embedding.linear_1)
    copy(ours.embed[2], theirs.time_embedding.linear_2)
    copy(ours.down[0][0], theirs.conv_in)
    for stage, block in zip((3, 6, 9), theirs.down_blocks, strict=False):
        copy(ours.down[stage][0], block.downsamplers[0].conv)
    copy(ours.up[-1][-3], theirs.conv_norm_out)
    copy(ours.up[-1][-1], theirs.conv_out)
    with torch.no_grad():
        expected = theirs(x, t).sample
        assert float(expected.std()) > 0.05
        assert_close(ours(x, t), expected, rtol=1e-3, atol=1e-4)
