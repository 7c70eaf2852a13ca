"""The diffusion transformer: a network without convolutions and without a U (notebook 04b)."""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from tutorial_lib.nets.blocks import time_embedding


class DiTBlock(nn.Module):
    """Attention between all patches, then a small network on each of them; t steers both.

    Time gives each half a shift, a scale and a gate for every channel.  All of them start at zero,
    so a new block returns its input ("adaLN-Zero", Peebles & Xie 2022, section 3.2).

    x: (B, N, width), a row for each patch.  embedding: (B, width).  Returns (B, N, width).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1 = nn.LayerNorm(width, elementwise_affine=False)
        self.to_qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width, elementwise_affine=False)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        modulation = self.modulation(F.silu(embedding))[:, None]  # (B, 1, 6 width), for all patches
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = modulation.chunk(6, dim=-1)
        h = self.norm_1(x) * (1 + scale_1) + shift_1
        x = x + gate_1 * self._attend(h)
        h = self.norm_2(x) * (1 + scale_2) + shift_2
        return x + gate_2 * self.mlp(h)

    def _attend(self, x: Tensor) -> Tensor:
        qkv = rearrange(self.to_qkv(x), "b n (qkv h c) -> qkv b h n c", qkv=3, h=self.heads)
        context = F.scaled_dot_product_attention(*qkv)  # (B, h, N, c)
        return self.out(rearrange(context, "b h n c -> b n (h c)"))


class DiT(nn.Module):
    """Predicts, like `UNet`, the target of the training; a transformer over patches of the image.

    image_size: a multiple of patch.  width: a multiple of 4 and of heads.

    x_t: (B, 1, image_size, image_size), about unit variance.  t: (B,) integers.
    Returns a tensor shaped like x_t.  Raises ValueError for sizes that do not fit together.
    (Peebles & Xie 2022, arXiv 2212.09748)
    """

    def __init__(
        self,
        image_size: int = 28,
        patch: int = 4,
        width: int = 128,
        depth: int = 6,
        heads: int = 4,
    ) -> None:
        super().__init__()
        if image_size % patch or width % 4 or width % heads:
            raise ValueError(
                f"image_size {image_size} must be a multiple of patch = {patch}, and width {width} "
                f"one of 4 and of heads = {heads}"
            )
        self.patch, self.side = patch, image_size // patch
        self.stem = nn.Linear(patch**2, width)
        self.register_buffer("places", _places(self.side, width), persistent=False)
        self.embed = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(DiTBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, patch**2)
        for layer in (self.modulation, self.out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        p, side = self.patch, self.side
        embedding = self.embed(time_embedding(t, self.stem.out_features))  # (B, width)
        x = rearrange(x_t, "b 1 (y p) (x q) -> b (y x) (p q)", p=p, q=p)  # (B, N, p p)
        x = self.stem(x) + self.places  # (B, N, width)
        for block in self.blocks:
            x = block(x, embedding)
        shift, scale = self.modulation(F.silu(embedding))[:, None].chunk(2, dim=-1)
        x = self.out(self.norm(x) * (1 + scale) + shift)  # (B, N, p p)
        return rearrange(x, "b (y x) (p q) -> b 1 (y p) (x q)", y=side, p=p, q=p)  # (B, 1, H, W)


def _places(side: int, width: int) -> Tensor:
    """Sines and cosines of the row and of the column of each patch, (side * side, width)."""
    count = torch.arange(side)
    rows = time_embedding(count.repeat_interleave(side), width // 2)  # (N, width / 2)
    columns = time_embedding(count.repeat(side), width // 2)
    return torch.cat([rows, columns], dim=1)
