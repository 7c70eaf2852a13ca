"""The bricks of the U-Net: time embedding, residual block, attention, and the ways down and up.

All of them take and return images of shape (B, C, H, W).
"""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F


def time_embedding(t: Tensor, width: int, longest: float = 10_000.0) -> Tensor:
    r"""Sines and cosines of t at `width / 2` frequencies, falling geometrically from 1 to 1 / longest.

    t: (B,), any real dtype.  width: even, at least 2.  Returns (B, width) float32 in [-1, 1].
    (Vaswani et al. 2017, section 3.5; Ho et al. 2020, appendix B; notebook 04)
    """
    if width < 2 or width % 2:
        raise ValueError(f"the width of a time embedding must be even and at least 2, got {width}")
    if t.ndim != 1:
        raise ValueError(f"t must have shape (B,), got {tuple(t.shape)}")
    half = width // 2
    exponent = torch.arange(half, device=t.device, dtype=torch.float32) / max(half - 1, 1)  # width 2: only 0
    angle = t[:, None].float() * longest**-exponent  # (B, half)
    return torch.cat([angle.sin(), angle.cos()], dim=1)  # (B, width)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each behind group norm and SiLU, around a skip connection.

    The time embedding enters between them as a scale and a shift of every channel (Dhariwal & Nichol 2021;
    the DDPM paper only shifts).  The second convolution starts at zero, so a new block starts as its skip.
    x: (B, channels_in, H, W).  embedding: (B, width_t).  Returns (B, channels_out, H, W).
    """

    def __init__(self, channels_in: int, channels_out: int, width_t: int, groups: int = 8) -> None:
        super().__init__()
        self.norm_1 = nn.GroupNorm(groups, channels_in)
        self.conv_1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.scale_shift = nn.Linear(width_t, 2 * channels_out)
        self.norm_2 = nn.GroupNorm(groups, channels_out)
        self.conv_2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.skip = nn.Identity() if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, 1)
        nn.init.zeros_(self.conv_2.weight)
        nn.init.zeros_(self.conv_2.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv_1(F.silu(self.norm_1(x)))  # (B, channels_out, H, W)
        scale, shift = self.scale_shift(embedding)[:, :, None, None].chunk(2, dim=1)  # (B, channels_out, 1, 1)
        h = self.norm_2(h) * (1 + scale) + shift
        return self.skip(x) + self.conv_2(F.silu(h))


class Attention(nn.Module):
    """Multi-head self-attention between all H x W positions, with a skip around it.

    Written out instead of fused: on a CPU, for a few dozen positions, that is the faster way back.
    x: (B, C, H, W).  Returns the same shape.
    """

    def __init__(self, channels: int, heads: int = 4, groups: int = 8) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be shared by {heads} heads; use a multiple of {heads}")
        self.heads = heads
        self.norm = nn.GroupNorm(groups, channels)
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.to_qkv(self.norm(x))  # (B, 3 C, H, W)
        q, k, v = rearrange(qkv, "b (qkv h c) y x -> qkv b h (y x) c", qkv=3, h=self.heads)  # (B, h, H W, C / h) each
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(dim=-1)  # (B, h, H W, H W)
        attended = rearrange(weights @ v, "b h (y x) c -> b (h c) y x", y=x.shape[2])  # (B, C, H, W)
        return x + self.out(attended)


class Down(nn.Module):
    """Halve height and width by moving each 2 x 2 patch into the channels, then mix: no pixel is thrown away.

    x: (B, channels_in, H, W) with H and W even.  Returns (B, channels_out, H / 2, W / 2).
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(4 * channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(rearrange(x, "b c (y p) (x q) -> b (c p q) y x", p=2, q=2))


class Up(nn.Module):
    """Double height and width by repeating pixels, then smooth with a 3x3 convolution (no checkerboard).

    x: (B, channels_in, H, W).  Returns (B, channels_out, 2 H, 2 W).
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.smooth = nn.Conv2d(channels_in, channels_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.smooth(F.interpolate(x, scale_factor=2, mode="nearest"))
