"""The bricks of a U-Net: time embedding, residual blocks, attentions, and the ways down and up.

All but the first take and return images of shape (B, C, H, W).  Notebook 04 builds three networks
from them.
"""

import torch
from einops import rearrange
from torch import Tensor, fx, nn
from torch.nn import functional as F


def time_embedding(t: Tensor, width: int, longest: float = 10_000.0) -> Tensor:
    """Sines and cosines of t, at frequencies that fall geometrically from 1 to 1 / longest.

    t: (B,), any real dtype.  width: even, at least 2: a sine and a cosine for each frequency.
    longest: exercises 04.3 and 04.7 vary it.
    Returns (B, width) float32 in [-1, 1].
    (Vaswani et al. 2017, section 3.5; Ho et al. 2020, appendix B; notebook 04)
    """
    if width < 2 or width % 2:
        raise ValueError(f"the width of a time embedding must be even and at least 2, got {width}")
    if t.ndim != 1:
        raise ValueError(f"t must have shape (B,), got {tuple(t.shape)}")
    half = width // 2
    count = torch.arange(half, device=t.device, dtype=torch.float32)  # 0, 1, ..., half - 1
    exponent = count / max(half - 1, 1)  # (half,) from 0 to 1; for width 2 it is 0
    frequency = longest**-exponent  # (half,) from 1 to 1 / longest
    angle = t[:, None].float() * frequency  # (B, half)
    return torch.cat([angle.sin(), angle.cos()], dim=1)  # (B, width)


class GroupNorm(nn.GroupNorm):
    """`nn.GroupNorm`, kept from a crash of PyTorch's on the CPU, which ends the whole process.

    Its backward pass fails for images in channels-last order that need no gradient, while its own
    weights do: so behind a frozen layer.  Only then are the images brought into the usual order.
    x: (B, C, ...).  Returns the same shape.
    """

    def forward(self, x: Tensor) -> Tensor:
        x = _safely_ordered(x, self.weight, self.bias)
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


@fx.wrap  # torch.fx cannot look into a decision
def _safely_ordered(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    learning = torch.is_grad_enabled() and (weight.requires_grad or bias.requires_grad)
    if learning and not x.requires_grad and not x.is_contiguous():
        return x.contiguous()
    return x


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each behind group norm and SiLU, and a skip connection around both.

    The time embedding enters between them.  By default it scales and shifts every channel behind
    the norm (Nichol & Dhariwal 2021); with `add`, it is added to every channel before the norm
    (Ho et al. 2020).  The second convolution starts at zero, so a new block starts as its skip.
    dropout: before the second convolution.

    x: (B, channels_in, H, W).  embedding: (B, width_t), to which SiLU has been applied.
    Returns (B, channels_out, H, W).
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        width_t: int,
        groups: int = 8,
        add: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.add = add
        self.norm_1 = GroupNorm(groups, channels_in)
        self.conv_1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.scale_shift = nn.Linear(width_t, (1 if add else 2) * channels_out)
        self.norm_2 = GroupNorm(groups, channels_out)
        self.dropout = nn.Dropout(dropout)
        self.conv_2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        if channels_in == channels_out:
            self.skip = nn.Identity()
        else:
            self.skip = nn.Conv2d(channels_in, channels_out, 1)
        nn.init.zeros_(self.conv_2.weight)
        nn.init.zeros_(self.conv_2.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv_1(F.silu(self.norm_1(x)))  # (B, channels_out, H, W)
        time = self.scale_shift(embedding)  # (B, 2 channels_out); with add, half of that
        time = time[:, :, None, None]  # (B, ..., 1, 1): one number a channel, for all pixels
        if self.add:
            h = self.norm_2(h + time)
        else:
            scale, shift = time.chunk(2, dim=1)  # (B, channels_out, 1, 1) each
            h = self.norm_2(h) * (1 + scale) + shift
        h = self.conv_2(self.dropout(F.silu(h)))  # (B, channels_out, H, W)
        return self.skip(x) + h


class StandardizedConv2d(nn.Conv2d):
    """A convolution that first brings each of its filters to mean 0 and variance 1.

    x: (B, channels_in, H, W).  Returns (B, channels_out, H, W), as `nn.Conv2d` does.
    (Qiao et al. 2019, arXiv 1903.10520)
    """

    def forward(self, x: Tensor) -> Tensor:
        # Of each filter; (channels_out, 1, 1, 1) each.
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True, correction=0)
        weight = (self.weight - mean) * (variance + 1e-5).rsqrt()
        return self._conv_forward(x, weight, self.bias)


class StandardizedBlock(nn.Module):
    """The other popular order: twice a convolution, group norm and SiLU, and a skip around them.

    The convolutions are weight-standardised.  The time embedding scales and shifts every channel
    behind the first norm.
    x: (B, channels_in, H, W).  embedding: (B, width_t), before SiLU.
    Returns (B, channels_out, H, W).
    """

    def __init__(self, channels_in: int, channels_out: int, width_t: int, groups: int = 4) -> None:
        super().__init__()
        self.scale_shift = nn.Linear(width_t, 2 * channels_out)
        self.conv_1 = StandardizedConv2d(channels_in, channels_out, 3, padding=1)
        self.norm_1 = GroupNorm(groups, channels_out)
        self.conv_2 = StandardizedConv2d(channels_out, channels_out, 3, padding=1)
        self.norm_2 = GroupNorm(groups, channels_out)
        if channels_in == channels_out:
            self.skip = nn.Identity()
        else:
            self.skip = nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        time = self.scale_shift(F.silu(embedding))[:, :, None, None]  # (B, 2 channels_out, 1, 1)
        scale, shift = time.chunk(2, dim=1)  # (B, channels_out, 1, 1) each
        h = self.norm_1(self.conv_1(x))  # (B, channels_out, H, W)
        h = F.silu(h * (1 + scale) + shift)
        h = F.silu(self.norm_2(self.conv_2(h)))
        return self.skip(x) + h


class Attention(nn.Module):
    """Multi-head self-attention between all H x W positions, behind a group norm; and a skip.

    The query of each position is compared with the key of every position; the better the two fit,
    the more of that position's value is taken over.
    width: of a head; by default the channels are shared out among the heads.
    bias: whether queries, keys and values have one.

    x: (B, C, H, W).  Returns the same shape.  Time and memory grow with the square of H x W.
    PyTorch has all of this as one function, `F.scaled_dot_product_attention`; its backward pass is
    slower than that of the steps below on a CPU in bfloat16, where the positions are a few dozen.
    """

    def __init__(
        self,
        channels: int,
        heads: int = 4,
        groups: int = 8,
        width: int | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if width is None and channels % heads:
            raise ValueError(
                f"{channels} channels cannot be shared by {heads} heads; use a multiple of {heads}"
            )
        self.heads = heads
        inner = heads * (width or channels // heads)
        self.norm = GroupNorm(groups, channels)
        self.to_qkv = nn.Conv2d(channels, 3 * inner, 1, bias=bias)
        self.out = nn.Conv2d(inner, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.to_qkv(self.norm(x))  # (B, 3 h c, H, W)
        queries, keys, values = _heads(qkv, self.heads)  # (B, h, H W, c) each
        scale = queries.shape[-1] ** -0.5  # 1 / sqrt(c)
        scores = queries @ keys.transpose(-1, -2) * scale  # (B, h, H W, H W)
        weights = scores.softmax(dim=-1)  # (B, h, H W, H W), each row sums to 1
        context = weights @ values  # (B, h, H W, c)
        context = rearrange(context, "b h (y x) c -> b (h c) y x", y=x.shape[2])  # (B, h c, H, W)
        return x + self.out(context)  # (B, C, H, W)


class LinearAttention(nn.Module):
    """Attention without the table of all pairs of positions; its cost grows with H x W alone.

    Keys and values are first gathered into a small summary, from which each query then reads.
    There is a norm of all channels together before it and another behind it, and a skip around.
    x: (B, C, H, W).  Returns the same shape.  (Shen et al. 2018, arXiv 1812.01243)
    """

    def __init__(self, channels: int, heads: int = 4, width: int = 32) -> None:
        super().__init__()
        self.heads = heads
        self.norm = GroupNorm(1, channels)
        self.to_qkv = nn.Conv2d(channels, 3 * heads * width, 1, bias=False)
        self.out = nn.Sequential(nn.Conv2d(heads * width, channels, 1), GroupNorm(1, channels))

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.to_qkv(self.norm(x))  # (B, 3 h c, H, W)
        queries, keys, values = _heads(qkv, self.heads)  # (B, h, H W, c) each
        scale = queries.shape[-1] ** -0.5  # 1 / sqrt(c)
        queries = queries.softmax(dim=-1) * scale  # softmax over the channels of each position
        keys = keys.softmax(dim=-2)  # over the positions
        summary = keys.transpose(-1, -2) @ values  # (B, h, c, c)
        context = queries @ summary  # (B, h, H W, c)
        context = rearrange(context, "b h (y x) c -> b (h c) y x", y=x.shape[2])  # (B, h c, H, W)
        return x + self.out(context)  # (B, C, H, W)


def _heads(qkv: Tensor, heads: int) -> Tensor:
    """(B, 3 h c, H, W) to queries, keys and values of each head, (3, B, h, H W, c)."""
    return rearrange(qkv, "b (qkv h c) y x -> qkv b h (y x) c", qkv=3, h=heads)


class Down(nn.Module):
    """Halve height and width: move each 2 x 2 patch into the channels, then mix these.

    No pixel is thrown away.
    x: (B, channels_in, H, W) with H and W even.  Returns (B, channels_out, H / 2, W / 2).
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(4 * channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        patches = rearrange(x, "b c (y p) (x q) -> b (c p q) y x", p=2, q=2)  # (B, 4 C, H/2, W/2)
        return self.mix(patches)


class Up(nn.Module):
    """Double height and width: repeat each pixel, then smooth with a 3x3 convolution.

    Unlike a transposed convolution this leaves no checkerboard.
    x: (B, channels_in, H, W).  Returns (B, channels_out, 2 H, 2 W).
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.smooth = nn.Conv2d(channels_in, channels_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        repeated = F.interpolate(x, scale_factor=2, mode="nearest")  # (B, channels_in, 2 H, 2 W)
        return self.smooth(repeated)
