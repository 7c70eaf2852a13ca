"""The denoising network of the series: a small U-Net that runs on patches and is quick on a CPU."""

from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from tutorial_lib.nets.blocks import Attention, Down, ResidualBlock, Up, time_embedding


@dataclass(frozen=True)
class UNetConfig:
    """What determines a `UNet`'s shape.

    image_size: height and width in pixels, a multiple of patch * 2 ** (levels - 1).  channels: 1
    grey, 3 colour.
    patch: side of the square of pixels that the stem folds into channels (1: none).
    widths: channels of each level, finest first.  blocks: residual blocks a level, on the way down
    and on the way up; each hands its output across to its partner.  heads: of the attention in the
    middle, at the coarsest level.  groups: of every group norm.  self_conditioning: whether the
    network also takes its last estimate of x_0.
    Raises ValueError when the image cannot be halved often enough, naming the nearest legal sizes.
    """

    image_size: int = 28
    channels: int = 1
    patch: int = 2
    widths: tuple[int, ...] = (48, 128)
    blocks: int = 1
    heads: int = 4
    groups: int = 8
    self_conditioning: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        if (
            not self.widths
            or min(self.channels, self.patch, self.blocks, self.heads, self.groups, *self.widths)
            < 1
        ):
            raise ValueError(
                f"every size in a UNetConfig must be a positive whole number, got {self}"
            )
        for width in self.widths:
            if width % self.groups:
                raise ValueError(f"width {width} is not a multiple of groups = {self.groups}")
        factor = self.patch * 2 ** (len(self.widths) - 1)
        if self.image_size < factor or self.image_size % factor:
            below = self.image_size // factor * factor
            legal = [str(size) for size in (below, below + factor) if size]
            raise ValueError(
                f"image_size {self.image_size} cannot be halved by a U-Net with patch {self.patch} and "
                f"{len(self.widths)} levels: it must be a multiple of {factor}; the nearest legal sizes are "
                f"{' and '.join(legal)}"
            )


class UNet(nn.Module):
    """Predicts, from a noisy image and its step, what `TrainConfig.target` says (eps, x_0 or v).

    x_t: (B, channels, image_size, image_size), about unit variance.  t: (B,) integers.
    x_0_hat: like x_t, an estimate made before, if the network is self-conditioning; zeros by
    default
    (Chen et al. 2022, arXiv 2208.04202).  Returns a tensor shaped like x_t.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        first, width_t, folded = (
            config.widths[0],
            4 * config.widths[0],
            config.channels * config.patch**2,
        )
        self.embed = nn.Sequential(
            nn.Linear(first, width_t), nn.SiLU(), nn.Linear(width_t, width_t), nn.SiLU()
        )
        self.stem = nn.Conv2d(folded * (1 + config.self_conditioning), first, 3, padding=1)

        def block(channels_in: int, channels_out: int) -> ResidualBlock:
            return ResidualBlock(channels_in, channels_out, width_t, config.groups)

        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        width = first
        for level, wide in enumerate(config.widths):
            if level:
                self.down.append(Down(width, wide))
            self.down.extend(block(wide, wide) for _ in range(config.blocks))
            width = wide
        self.middle_1 = block(width, width)
        self.attention = Attention(width, config.heads, config.groups)
        self.middle_2 = block(width, width)
        for level, wide in reversed(list(enumerate(config.widths))):
            self.up.extend(block(2 * wide, wide) for _ in range(config.blocks))
            if level:
                self.up.append(Up(wide, config.widths[level - 1]))
        self.norm = nn.GroupNorm(config.groups, first)
        self.out = nn.Conv2d(first, folded, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x_t: Tensor, t: Tensor, x_0_hat: Tensor | None = None) -> Tensor:
        self._check(x_t, t)
        if self.config.self_conditioning:
            x_t = torch.cat(
                [x_t, torch.zeros_like(x_t) if x_0_hat is None else x_0_hat], dim=1
            )  # (B, 2 C, H, W)
        elif x_0_hat is not None:
            raise ValueError(
                "this network takes no x_0_hat; build it with UNetConfig(self_conditioning=True)"
            )
        embedding = self.embed(time_embedding(t, self.config.widths[0]))  # (B, width_t)
        p = self.config.patch
        x = self.stem(rearrange(x_t, "b c (y p) (x q) -> b (c p q) y x", p=p, q=p))
        skips = []
        for layer in self.down:
            if isinstance(layer, ResidualBlock):
                x = layer(x, embedding)
                skips.append(x)
            else:
                x = layer(x)
        x = self.middle_2(self.attention(self.middle_1(x, embedding)), embedding)
        for layer in self.up:
            if isinstance(layer, ResidualBlock):
                x = layer(
                    torch.cat([x, skips.pop()], dim=1), embedding
                )  # the U-Net's skips are concatenated
            else:
                x = layer(x)
        x = self.out(F.silu(self.norm(x)))
        return rearrange(x, "b (c p q) y x -> b c (y p) (x q)", p=p, q=p)

    def _check(self, x_t: Tensor, t: Tensor) -> None:
        size = self.config.image_size
        if x_t.shape[1:] != (self.config.channels, size, size):
            raise ValueError(
                f"this network takes images of shape (B, {self.config.channels}, {size}, {size}), "
                f"got {tuple(x_t.shape)}; build a UNet with a UNetConfig that fits your data"
            )
        if t.shape != x_t.shape[:1]:
            raise ValueError(
                f"t must have shape ({len(x_t)},), one step for each image, got {tuple(t.shape)}"
            )


def restore(tensors: dict[str, Tensor], configuration: dict[str, Any]) -> UNet:
    """The network that `checkpoint.load` has read: its averaged weights, ready to sample from.

    Raises ValueError when the tensors belong to another configuration.
    """
    if "model" not in configuration:
        raise ValueError(
            f"these weights are not a U-Net's: their configuration has only {', '.join(configuration)}"
        )
    model = UNet(UNetConfig(**configuration["model"]))
    averaged = {
        name.removeprefix("ema."): t.float()
        for name, t in tensors.items()
        if name.startswith("ema.")
    }
    try:
        model.load_state_dict(averaged)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise ValueError(
            f"the weights do not fit their configuration {model.config}: {reason}"
        ) from error
    return model.to(memory_format=torch.channels_last).eval().requires_grad_(False)
