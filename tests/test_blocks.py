"""The bricks of the U-Net against naive versions and reference functions."""

import math

import hypothesis
import pytest
import torch
from einops import rearrange
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from tutorial_lib.nets.blocks import (
    Attention,
    Down,
    GroupNorm,
    LinearAttention,
    ResidualBlock,
    StandardizedBlock,
    StandardizedConv2d,
    Up,
    time_embedding,
)


@pytest.mark.equation("Vaswani")
@pytest.mark.parametrize("width", [2, 4, 8, 64])
def test_time_embedding_against_a_naive_loop(width):
    t = torch.tensor([0, 1, 7, 500, 1000])
    half = width // 2
    expected = []
    for step in t.tolist():
        frequencies = [10_000 ** -(i / (half - 1)) if half > 1 else 1.0 for i in range(half)]
        sines = [math.sin(step * f) for f in frequencies]
        cosines = [math.cos(step * f) for f in frequencies]
        expected.append(sines + cosines)
    # the tolerance: angles to 1000 in float32
    assert_close(time_embedding(t, width), torch.tensor(expected), rtol=0, atol=1e-4)


@given(st.integers(1, 32), st.lists(st.integers(0, 4000), min_size=1, max_size=8))
def test_time_embedding_is_finite_and_lies_on_circles(half, t):
    embedding = time_embedding(torch.tensor(t), 2 * half)
    assert embedding.shape == (len(t), 2 * half) and embedding.dtype == torch.float32
    assert_close(embedding[:, :half] ** 2 + embedding[:, half:] ** 2, torch.ones(len(t), half))


def test_time_embedding_tells_a_thousand_steps_apart():
    embedding = time_embedding(torch.arange(1001), 64).double()
    distance = torch.cdist(embedding, embedding) + torch.eye(1001) * 9
    assert float(distance.min()) > 0.1


@pytest.mark.parametrize("width", [0, 1, 3, 7, -2])
def test_time_embedding_of_an_illegal_width(width):
    with pytest.raises(ValueError, match="even and at least 2"):
        time_embedding(torch.tensor([1]), width)


@pytest.mark.parametrize("t", [torch.tensor(3), torch.tensor([[1], [2]])])
def test_time_embedding_of_steps_of_the_wrong_shape(t):
    with pytest.raises(ValueError, match=r"must have shape \(B,\)"):
        time_embedding(t, 8)


def awake(module: nn.Module) -> nn.Module:
    """Random weights everywhere, zeros included."""
    torch.manual_seed(0)
    for p in module.parameters():
        nn.init.normal_(p, std=0.3)
    return module


@pytest.mark.parametrize(("channels_in", "channels_out"), [(8, 8), (8, 16), (16, 8)])
def test_residual_block_starts_as_its_skip(generator, channels_in, channels_out):
    block = ResidualBlock(channels_in, channels_out, 6, groups=4)
    x = torch.randn(2, channels_in, 5, 4, generator=generator)
    embedding = torch.randn(2, 6, generator=generator)
    expected = x
    if channels_in != channels_out:
        weight, bias = block.skip.weight[:, :, 0, 0], block.skip.bias
        expected = torch.einsum("oc,bchw->bohw", weight, x) + bias[:, None, None]
    assert_close(block(x, embedding), expected)


def test_residual_block_written_out(generator):
    block = awake(ResidualBlock(8, 8, 6, groups=2))
    x = torch.randn(2, 8, 5, 4, generator=generator)
    embedding = torch.randn(2, 6, generator=generator)

    def normalised(x, norm):
        parts = x.view(2, 2, -1)  # (B, groups, everything else)
        mean = parts.mean(2, keepdim=True)
        variance = parts.var(2, keepdim=True, unbiased=False)
        parts = (parts - mean) / (variance + 1e-5).sqrt()
        return parts.view_as(x) * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)

    h = normalised(x, block.norm_1)
    h = F.conv2d(h * h.sigmoid(), block.conv_1.weight, block.conv_1.bias, padding=1)
    both = embedding @ block.scale_shift.weight.T + block.scale_shift.bias
    h = normalised(h, block.norm_2) * (1 + both[:, :8, None, None]) + both[:, 8:, None, None]
    h = F.conv2d(h * h.sigmoid(), block.conv_2.weight, block.conv_2.bias, padding=1)
    assert_close(block(x, embedding), x + h, rtol=1e-4, atol=1e-5)


def test_residual_block_that_adds_the_time(generator):
    """The paper's way: the same number for every place of a channel, before the second norm."""
    block = awake(ResidualBlock(8, 12, 6, groups=2, add=True, dropout=0.5)).eval()
    x = torch.randn(2, 8, 5, 4, generator=generator)
    embedding = torch.randn(2, 6, generator=generator)
    h = block.conv_1(F.silu(block.norm_1(x)))
    weight, bias = block.scale_shift.weight, block.scale_shift.bias
    time = torch.stack([weight @ e + bias for e in embedding])  # (B, 12)
    h = h + time[:, :, None, None].expand_as(h)
    expected = block.skip(x) + block.conv_2(F.silu(block.norm_2(h)))
    assert_close(block(x, embedding), expected, rtol=1e-4, atol=1e-4)
    block.train()
    torch.manual_seed(0)
    first, second = block(x, embedding), block(x, embedding)
    assert not torch.equal(first, second), "dropout is at work in training only"


@pytest.mark.equation("Qiao")
@given(st.integers(1, 5), st.integers(1, 6), st.sampled_from([1, 3]))
def test_standardized_convolution_uses_filters_of_mean_0_and_variance_1(
    channels_in, channels_out, kernel
):
    hypothesis.assume(channels_in * kernel > 1)  # a single weight has no variance
    torch.manual_seed(channels_in)
    conv = StandardizedConv2d(channels_in, channels_out, kernel, stride=2, padding=1)
    x = torch.randn(2, channels_in, 7, 7)
    filters = []
    for w in conv.weight:
        variance = w.square().mean() - w.mean() ** 2
        filters.append((w - w.mean()) / (variance + 1e-5).sqrt())
    expected = F.conv2d(x, torch.stack(filters), conv.bias, stride=2, padding=1)
    assert_close(conv(x), expected, rtol=1e-3, atol=1e-4)


def test_standardized_convolution_ignores_scale_and_shift_of_its_filters(generator):
    conv = StandardizedConv2d(4, 3, 3)
    x = torch.randn(2, 4, 6, 6, generator=generator)
    before = conv(x)
    with torch.no_grad():
        conv.weight.mul_(7).add_(2)
    assert_close(conv(x), before, rtol=1e-3, atol=1e-3)
    # filters of mean 0 do not see a constant
    assert_close(conv(x + 5), before, rtol=1e-3, atol=1e-3)


def test_standardized_block_written_out(generator):
    block = StandardizedBlock(8, 12, 6, groups=2)
    x = torch.randn(2, 8, 5, 4, generator=generator)
    embedding = torch.randn(2, 6, generator=generator)
    both = block.scale_shift(embedding * embedding.sigmoid())
    h = block.norm_1(block.conv_1(x)) * (1 + both[:, :12, None, None]) + both[:, 12:, None, None]
    h = block.norm_2(block.conv_2(h * h.sigmoid()))
    assert_close(block(x, embedding), block.skip(x) + h * h.sigmoid())


@pytest.mark.equation("Shen")
def test_linear_attention_against_loops(generator):
    attention = LinearAttention(6, heads=2, width=3)
    x = torch.randn(2, 6, 3, 4, generator=generator)
    for image, out in zip(x, attention(x), strict=True):
        qkv = attention.to_qkv(attention.norm(image[None]))[0]
        qkv = qkv.reshape(3, 2, 3, 12)  # (q k v, heads, c, places)
        heads = torch.zeros(2, 3, 12)
        for h, (q, k, v) in enumerate(zip(*qkv, strict=True)):
            # each channel of the keys: a distribution over the places
            weight = k.exp() / k.exp().sum(1, keepdim=True)
            for i in range(12):
                asked = q[:, i].exp() / q[:, i].exp().sum() / 3**0.5
                heads[h, :, i] = sum(asked[c] * (weight[c] * v).sum(1) for c in range(3))
        expected = image + attention.out(heads.reshape(1, 6, 3, 4))[0]
        assert_close(out, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kind", "growth"), [(Attention, 16), (LinearAttention, 4)])
def test_attention_grows_as_it_says(kind, growth):
    """When the side doubles, operations on pairs of places grow sixteenfold, others fourfold."""

    def operations(side: int) -> int:
        with FlopCounterMode(display=False) as counter, torch.device("meta"):
            kind(8)(torch.empty(1, 8, side, side))
        return counter.get_total_flops()

    assert growth - 1 < operations(128) / operations(64) <= growth


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_against_the_fused_function(generator, heads):
    attention = awake(Attention(16, heads, groups=4))
    x = torch.randn(3, 16, 5, 4, generator=generator)
    normed = F.group_norm(x, 4, attention.norm.weight, attention.norm.bias)
    q, k, v = F.conv2d(normed, attention.to_qkv.weight, attention.to_qkv.bias).chunk(3, dim=1)
    q, k, v = (part.reshape(3, heads, 16 // heads, 20).transpose(-1, -2) for part in (q, k, v))
    attended = F.scaled_dot_product_attention(q, k, v).transpose(-1, -2).reshape(3, 16, 5, 4)
    expected = x + F.conv2d(attended, attention.out.weight, attention.out.bias)
    assert_close(attention(x), expected, rtol=1e-4, atol=1e-4)


def test_attention_with_heads_of_a_given_width(generator):
    attention = awake(Attention(6, heads=2, groups=1, width=5, bias=False))
    x = torch.randn(2, 6, 3, 4, generator=generator)
    qkv = F.conv2d(attention.norm(x), attention.to_qkv.weight)
    q, k, v = qkv.chunk(3, dim=1)  # (B, 10, H, W) each
    q, k, v = (part.reshape(2, 2, 5, 12).transpose(-1, -2) for part in (q, k, v))
    attended = F.scaled_dot_product_attention(q, k, v).transpose(-1, -2).reshape(2, 10, 3, 4)
    assert_close(attention(x), x + attention.out(attended), rtol=1e-4, atol=1e-4)
    assert attention.to_qkv.bias is None


def test_attention_does_not_care_where_things_are(generator):
    attention = awake(Attention(8, 2, groups=4))
    x = torch.randn(1, 8, 3, 4, generator=generator)
    order = torch.randperm(12, generator=generator)

    def shuffled(x):
        return x.flatten(2)[:, :, order].view_as(x)

    assert_close(attention(shuffled(x)), shuffled(attention(x)), rtol=1e-4, atol=1e-4)


def test_attention_starts_as_the_identity(generator):
    x = torch.randn(2, 8, 3, 3, generator=generator)
    assert_close(Attention(8, 2, groups=4)(x), x, rtol=0, atol=0)


def test_attention_heads_must_divide_the_channels():
    with pytest.raises(ValueError, match="cannot be shared by 3 heads; use a multiple of 3"):
        Attention(8, heads=3)


def test_down_loses_nothing(generator):
    """With the identity as its mixture it only moves pixels, and they can be moved back."""
    down = Down(3, 12)
    with torch.no_grad():
        down.mix.weight.copy_(torch.eye(12)[:, :, None, None])
        down.mix.bias.zero_()
    x = torch.randn(2, 3, 6, 8, generator=generator)
    y = down(x)
    assert y.shape == (2, 12, 3, 4)
    assert_close(y, F.pixel_unshuffle(x, 2), rtol=0, atol=0)
    assert_close(rearrange(y, "b (c p q) y x -> b c (y p) (x q)", p=2, q=2), x, rtol=0, atol=0)


def test_up_repeats_pixels_then_smooths(generator):
    up = awake(Up(3, 5))
    x = torch.randn(2, 3, 4, 6, generator=generator)
    repeated = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert_close(up(x), F.conv2d(repeated, up.smooth.weight, up.smooth.bias, padding=1))
    assert up(x).shape == (2, 5, 8, 12)


@pytest.mark.parametrize("kind", [GroupNorm, Attention, LinearAttention, ResidualBlock])
@pytest.mark.parametrize("frozen", ["", "weight", "bias"])
def test_images_without_gradient_may_come_in_any_order(generator, kind, frozen):
    """Channels-last, as a frozen layer returns them: PyTorch's own group norm ends the process."""
    torch.manual_seed(0)
    block = {GroupNorm: lambda: GroupNorm(2, 8), ResidualBlock: lambda: ResidualBlock(8, 8, 6)}
    part = block.get(kind, lambda: kind(8))()
    for name, p in part.named_parameters():
        p.requires_grad_(not frozen or not name.endswith(frozen))
    given = (torch.randn(2, 6, generator=generator),) if kind is ResidualBlock else ()
    x = torch.randn(2, 8, 5, 4, generator=generator)
    grads = []
    for images in (x, x.to(memory_format=torch.channels_last)):
        part.zero_grad()
        part(images, *given).square().sum().backward()
        grads.append([p.grad.clone() for p in part.parameters() if p.requires_grad])
    for ours, usual in zip(*grads, strict=True):
        assert_close(ours, usual, rtol=1e-4, atol=1e-4)


def test_group_norm_is_torchs_and_leaves_the_order_alone_where_nothing_is_learnt(generator):
    """To the last bit, so that shipped weights draw what they drew."""
    ours, torchs = GroupNorm(2, 8), nn.GroupNorm(2, 8)
    x = torch.randn(2, 8, 5, 4, generator=generator).to(memory_format=torch.channels_last)
    with torch.no_grad():
        assert torch.equal(ours(x), torchs(x))
        assert ours(x).is_contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    for norm in (ours, torchs):
        norm(x).square().sum().backward()
    assert torch.equal(ours.weight.grad, torchs.weight.grad)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*is deprecated")
@pytest.mark.parametrize("follow", [torch.jit.script, torch.fx.symbolic_trace])
def test_a_residual_block_can_be_scripted_and_traced(generator, follow):
    block = awake(ResidualBlock(8, 8, 6, groups=2)).eval()
    x, embedding = (torch.randn(shape, generator=generator) for shape in ((2, 8, 5, 4), (2, 6)))
    assert_close(follow(block)(x, embedding), block(x, embedding))
