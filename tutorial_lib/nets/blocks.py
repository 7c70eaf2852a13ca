"""The bricks of a U-Net: time embedding, residual blocks, attentions, and the ways down and up.

All of them take and return images of shape (B, C, H, W); notebook 04 builds three networks from
them.
"""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F


def time_embedding(t: Tensor, width: int, longest: float = 10_000.0) -> Tensor:
    r"""Sines and cosines of t at `width / 2` frequencies, falling geometrically from 1 to 1 /
    longest.

    t: (B,), any real dtype.  width: even, at least 2.  Returns (B, width) float32 in [-1, 1].
    (Vaswani et al. 2017, section 3.5; Ho et al. 2020, appendix B; notebook 04)
    """
    if width < 2 or width % 2:
        raise ValueError(f"the width of a time embedding must be even and at least 2, got {width}")
    if t.ndim != 1:
        raise ValueError(f"t must have shape (B,), got {tuple(t.shape)}")
    half = width // 2
    exponent = torch.arange(half, device=t.device, dtype=torch.float32) / max(
        half - 1, 1
    )  # width 2: only 0
    angle = t[:, None].float() * longest**-exponent  # (B, half)
    return torch.cat([angle.sin(), angle.cos()], dim=1)  # (B, width)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each behind group norm and SiLU, around a skip connection (pre-norm).

    The time embedding enters between them.  By default as a scale and a shift of every channel
    behind the norm
    (Nichol & Dhariwal 2021); with `add`, it is added to every channel before the norm (Ho et al.
    2020). The second convolution starts at zero, so a new block starts as its skip.  dropout:
    before that convolution.
    x: (B, channels_in, H, W).  embedding: (B, width_t), behind its activation.  Returns (B,
    channels_out, H, W).
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        width_t: int,
        groups: int = 8,
        add: bool = False,
        dropout: float = 0,
    ) -> None:
        super().__init__()
        self.add = add
        self.norm_1 = nn.GroupNorm(groups, channels_in)
        self.conv_1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.scale_shift = nn.Linear(width_t, (1 if add else 2) * channels_out)
        self.norm_2 = nn.GroupNorm(groups, channels_out)
        self.dropout = nn.Dropout(dropout)
        self.conv_2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.skip = (
            nn.Identity()
            if channels_in == channels_out
            else nn.Conv2d(channels_in, channels_out, 1)
        )
        nn.init.zeros_(self.conv_2.weight)
        nn.init.zeros_(self.conv_2.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv_1(F.silu(self.norm_1(x)))  # (B, channels_out, H, W)
        time = self.scale_shift(embedding)[
            :, :, None, None
        ]  # (B, channels_out or twice that, 1, 1)
        if self.add:
            h = self.norm_2(h + time)
        else:
            scale, shift = time.chunk(2, dim=1)  # (B, channels_out, 1, 1) each
            h = self.norm_2(h) * (1 + scale) + shift
        return self.skip(x) + self.conv_2(self.dropout(F.silu(h)))


class StandardizedConv2d(nn.Conv2d):
    """A convolution whose filters are brought to mean 0 and variance 1, each by itself, before they
    are used.

    (Qiao et al. 2019, arXiv 1903.10520.)  x: (B, channels_in, H, W).  Returns what `nn.Conv2d`
    would.
    """

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(
            self.weight, dim=(1, 2, 3), keepdim=True, correction=0
        )  # (out, 1, 1, 1)
        return self._conv_forward(x, (self.weight - mean) * (variance + 1e-5).rsqrt(), self.bias)


class StandardizedBlock(nn.Module):
    """The other popular order: convolution (weight-standardised) first, then group norm and SiLU,
    twice, and a skip.

    The time embedding scales and shifts every channel behind the first norm.
    x: (B, channels_in, H, W).  embedding: (B, width_t), before its activation.  Returns (B,
    channels_out, H, W).
    """

    def __init__(self, channels_in: int, channels_out: int, width_t: int, groups: int = 4) -> None:
        super().__init__()
        self.scale_shift = nn.Linear(width_t, 2 * channels_out)
        self.conv_1 = StandardizedConv2d(channels_in, channels_out, 3, padding=1)
        self.norm_1 = nn.GroupNorm(groups, channels_out)
        self.conv_2 = StandardizedConv2d(channels_out, channels_out, 3, padding=1)
        self.norm_2 = nn.GroupNorm(groups, channels_out)
        self.skip = (
            nn.Identity()
            if channels_in == channels_out
            else nn.Conv2d(channels_in, channels_out, 1)
        )

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.scale_shift(F.silu(embedding))[:, :, None, None].chunk(
            2, dim=1
        )  # (B, channels_out, 1, 1)
        h = F.silu(self.norm_1(self.conv_1(x)) * (1 + scale) + shift)  # (B, channels_out, H, W)
        return self.skip(x) + F.silu(self.norm_2(self.conv_2(h)))


class Attention(nn.Module):
    """Multi-head self-attention between all H x W positions, behind a group norm and with a skip
    around it.

    width: of a head; by default the channels are shared out among the heads.  bias: of the queries,
    keys and values.
    Written out instead of fused: on a CPU, for a few dozen positions, that is the faster way back.
    x: (B, C, H, W).  Returns the same shape.  Time and memory grow with the square of H x W.
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
        self.heads, inner = heads, heads * (width or channels // heads)
        self.norm = nn.GroupNorm(groups, channels)
        self.to_qkv = nn.Conv2d(channels, 3 * inner, 1, bias=bias)
        self.out = nn.Conv2d(inner, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = _heads(self.to_qkv(self.norm(x)), self.heads)  # (B, h, H W, c) each
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(
            dim=-1
        )  # (B, h, H W, H W)
        attended = rearrange(
            weights @ v, "b h (y x) c -> b (h c) y x", y=x.shape[2]
        )  # (B, h c, H, W)
        return x + self.out(attended)


class LinearAttention(nn.Module):
    """Attention without the table of all pairs: keys and values are first gathered into a small (c,
    c) summary.

    (Shen et al. 2018, arXiv 1812.01243.)  One norm of all channels together before it, one behind,
    and a skip around.
    x: (B, C, H, W).  Returns the same shape.  Time and memory grow with H x W.
    """

    def __init__(self, channels: int, heads: int = 4, width: int = 32) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(1, channels)
        self.to_qkv = nn.Conv2d(channels, 3 * heads * width, 1, bias=False)
        self.out = nn.Sequential(nn.Conv2d(heads * width, channels, 1), nn.GroupNorm(1, channels))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = _heads(self.to_qkv(self.norm(x)), self.heads)  # (B, h, H W, c) each
        q = q.softmax(dim=-1) * q.shape[-1] ** -0.5  # over the channels of each position
        summary = k.softmax(dim=-2).transpose(-1, -2) @ v  # over the positions; (B, h, c, c)
        return x + self.out(rearrange(q @ summary, "b h (y x) c -> b (h c) y x", y=x.shape[2]))


def _heads(qkv: Tensor, heads: int) -> Tensor:
    """(B, 3 h c, H, W) to queries, keys and values of each head, (3, B, h, H W, c)."""
    return rearrange(qkv, "b (qkv h c) y x -> qkv b h (y x) c", qkv=3, h=heads)


class Down(nn.Module):
    """Halve height and width by moving each 2 x 2 patch into the channels, then mix: no pixel is
    thrown away.

    x: (B, channels_in, H, W) with H and W even.  Returns (B, channels_out, H / 2, W / 2).
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(4 * channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(rearrange(x, "b c (y p) (x q) -> b (c p q) y x", p=2, q=2))


class Up(nn.Module):
    """Double height and width by repeating pixels, then smooth with a 3x3 convolution (no
    checkerboard).

    x: (B, channels_in, H, W).  Returns (B, channels_out, 2 H, 2 W).
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.smooth = nn.Conv2d(channels_in, channels_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.smooth(F.interpolate(x, scale_factor=2, mode="nearest"))
