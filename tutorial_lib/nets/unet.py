"""The denoising network of the series: a small U-Net that runs on patches and is quick on a CPU."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, fx, nn
from torch.nn import functional as F

from tutorial_lib import checkpoint
from tutorial_lib.nets.blocks import (
    Attention,
    Down,
    GroupNorm,
    ResidualBlock,
    Up,
    time_embedding,
)

LABEL_STD = 0.5  # of a new label's embedding; that of t has entries of about 0.7


@dataclass(frozen=True)
class UNetConfig:
    """What determines a `UNet`'s shape.

    Raises ValueError for sizes that do not fit together, naming the nearest legal ones.
    """

    # Height and width of the images in pixels: a multiple of patch * 2 ** (levels - 1).
    image_size: int = 28
    # Channels of the images: 1 grey, 3 colour.
    channels: int = 1
    # Side of the square of pixels that is folded into channels before the stem; 1: none.
    patch: int = 2
    # Channels of each level of the U, the finest level first.
    widths: tuple[int, ...] = (48, 128)
    # Residual blocks of each level on the way down, and as many on the way up: each block hands
    # its output across to its partner.
    blocks: int = 1
    # Heads of the attention in the middle, at the coarsest level.  Heads and groups change no
    # tensor's shape: weights could not tell them, so every checkpoint says them.
    heads: int = 4
    # Groups of every group norm; they divide each width.
    groups: int = 8
    # Whether the network also takes its last estimate of x_0.
    self_conditioning: bool = False
    # Classes that a label may name, 0 to labels - 1; with 0 the network takes no labels.
    labels: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        sizes = (self.channels, self.patch, self.blocks, self.heads, self.groups, *self.widths)
        if not self.widths or min(sizes) < 1:
            raise ValueError(
                f"every size in a UNetConfig must be a positive whole number, got {self}"
            )
        if self.labels < 0:
            raise ValueError(f"labels must not be negative, got {self.labels}")
        for width in self.widths:
            if width % self.groups:
                raise ValueError(f"width {width} is not a multiple of groups = {self.groups}")
        first, last = self.widths[0], self.widths[-1]
        if first % 2:
            raise ValueError(f"the first width must be even, for sines and cosines, got {first}")
        if last % self.heads:
            raise ValueError(f"the last width {last} is not a multiple of heads = {self.heads}")
        self._check_image_size()

    def _check_image_size(self) -> None:
        levels = len(self.widths)
        factor = self.patch * 2 ** (levels - 1)
        if self.image_size >= factor and self.image_size % factor == 0:
            return
        below = self.image_size // factor * factor
        legal = [str(size) for size in (below, below + factor) if size]
        raise ValueError(
            f"image_size {self.image_size} cannot be halved by a U-Net "
            f"with patch {self.patch} and {levels} levels: "
            f"it must be a multiple of {factor}; the nearest legal sizes are {' and '.join(legal)}"
        )


class UNet(nn.Module):
    """Predicts, from a noisy image and its step, the target of the training.

    That is what `DiffusionConfig.target` says (eps, x_0, v or mu).

    x_t: (B, channels, image_size, image_size), about unit variance.  t: (B,) integers.
    x_0_hat: like x_t, an estimate made before, if the network is self-conditioning; by default
    zeros (Chen et al. 2022, arXiv 2208.04202).
    y: (B,) integers, the labels of the images, if the network takes them; -1, `data.NOBODY`, is an
    image without a label, and so are all by default (Ho & Salimans 2022, arXiv 2207.12598).
    Returns a tensor shaped like x_t, in the precision of the network's weights.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        first, last = config.widths[0], config.widths[-1]
        width_t = 4 * first
        folded = config.channels * config.patch**2  # channels of an image after folding
        block = partial(ResidualBlock, width_t=width_t, groups=config.groups)

        self.embed = nn.Sequential(
            nn.Linear(first, width_t), nn.SiLU(), nn.Linear(width_t, width_t), nn.SiLU()
        )
        self.stem = nn.Conv2d(folded * (1 + config.self_conditioning), first, 3, padding=1)

        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        for level, width in enumerate(config.widths):
            if level > 0:
                self.down.append(Down(config.widths[level - 1], width))
            for _ in range(config.blocks):
                self.down.append(block(width, width))

        self.middle_1 = block(last, last)
        self.attention = Attention(last, config.heads, config.groups)
        self.middle_2 = block(last, last)

        for level in reversed(range(len(config.widths))):
            width = config.widths[level]
            for _ in range(config.blocks):
                self.up.append(block(2 * width, width))  # the skip brings as many again
            if level > 0:
                self.up.append(Up(width, config.widths[level - 1]))

        self.norm = GroupNorm(config.groups, first)
        self.out = nn.Conv2d(first, folded, 3, padding=1)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)
        if config.labels:  # made last: all other weights begin as those of a network without
            self.of_label = nn.Embedding(1 + config.labels, first)  # the first row is nobody's
            nn.init.normal_(self.of_label.weight, std=LABEL_STD)

    def forward(
        self, x_t: Tensor, t: Tensor, x_0_hat: Tensor | None = None, y: Tensor | None = None
    ) -> Tensor:
        self._check(x_t, t, x_0_hat, y)
        dtype = self.stem.weight.dtype  # of all weights: float32, unless somebody has cast them
        time = time_embedding(t, self.config.widths[0]).to(dtype)  # (B, widths[0])
        embedding = self.embed(self._with_label(time, y))  # (B, width_t)

        # The stem: patches of p x p pixels become channels, and then features.
        p = self.config.patch
        x = self._with_estimate(x_t, x_0_hat).to(dtype)  # (B, C, H, W)
        x = rearrange(x, "b c (y p) (x q) -> b (c p q) y x", p=p, q=p)  # (B, C p p, H / p, W / p)
        x = self.stem(x)  # (B, widths[0], H / p, W / p)

        # The way down: every block's output is also kept for the way up.
        skips = []
        for layer in self.down:
            if isinstance(layer, ResidualBlock):
                x = layer(x, embedding)
                skips.append(x)
            else:  # Down: half the height and width
                x = layer(x)

        # The middle: at the coarsest level all positions see each other.
        x = self.middle_1(x, embedding)
        x = self.attention(x)
        x = self.middle_2(x, embedding)

        # The way up: every block also sees what its partner on the way down kept.
        for layer in self.up:
            if isinstance(layer, ResidualBlock):
                x = torch.cat([x, skips.pop()], dim=1)  # twice the channels
                x = layer(x, embedding)
            else:  # Up: twice the height and width
                x = layer(x)

        # The end: features become patches, and these become pixels again.
        x = self.out(F.silu(self.norm(x)))  # (B, C p p, H / p, W / p)
        return rearrange(x, "b (c p q) y x -> b c (y p) (x q)", p=p, q=p)  # (B, C, H, W)

    def _with_estimate(self, x_t: Tensor, x_0_hat: Tensor | None) -> Tensor:
        """What the stem sees: x_t, and for a self-conditioning network x_0_hat behind it."""
        if not self.config.self_conditioning:
            return x_t
        if x_0_hat is None:
            x_0_hat = torch.zeros_like(x_t)
        return torch.cat([x_t, x_0_hat], dim=1)  # (B, 2 C, H, W)

    def _with_label(self, time: Tensor, y: Tensor | None) -> Tensor:
        """What the embedding begins with, (B, widths[0]): that of t, plus that of a label."""
        if not self.config.labels:
            return time
        if y is None:
            return time + self.of_label.weight[0]
        return time + self.of_label(y.to(time.device) + 1)

    def _check(self, x_t: Tensor, t: Tensor, x_0_hat: Tensor | None, y: Tensor | None) -> None:
        channels, size = self.config.channels, self.config.image_size
        if x_t.shape[1:] != (channels, size, size):
            raise ValueError(
                f"this network takes images of shape (B, {channels}, {size}, {size}), "
                f"got {tuple(x_t.shape)}; build a UNet with a UNetConfig that fits your data"
            )
        if t.shape != x_t.shape[:1]:
            raise ValueError(
                f"t must have shape ({len(x_t)},), one step for each image, got {tuple(t.shape)}"
            )
        if x_0_hat is not None and not self.config.self_conditioning:
            raise ValueError(
                "this network takes no x_0_hat; build it with UNetConfig(self_conditioning=True)"
            )
        if y is not None:
            self._check_labels(y, len(x_t))

    def _check_labels(self, y: Tensor, count: int) -> None:
        labels = self.config.labels
        if not labels:
            raise ValueError("this network takes no labels; build it with UNetConfig(labels=...)")
        if y.shape != (count,):
            raise ValueError(
                f"y must have shape ({count},), a label for each image, got {tuple(y.shape)}"
            )
        if _outside(y, labels):
            raise ValueError(
                f"labels must lie in 0..{labels - 1}, or be -1 for none, "
                f"got {int(y.min())}..{int(y.max())}"
            )


@fx.wrap  # torch.fx cannot look into a decision
def _outside(y: Tensor, labels: int) -> bool:
    """Whether a label is none of -1..labels - 1; a compiler, which knows no values, is told no."""
    if torch.compiler.is_compiling():
        return False
    return bool(((y < -1) | (y >= labels)).any())


def restore(tensors: dict[str, Tensor], configuration: dict[str, Any]) -> UNet:
    """The network that `checkpoint.load` has read: its averaged weights, ready to sample from.

    They are frozen.  To train on from them, free them with `.requires_grad_(True)` and hand the
    network to `train.train`: it starts, and so does the average, from these weights.
    Raises ValueError when the tensors belong to another configuration, or are no U-Net's.
    """
    model = UNet(_shape(configuration))
    averaged = checkpoint.part(tensors, "ema")
    try:
        model.load_state_dict(averaged)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise ValueError(
            f"the weights do not fit their configuration {model.config}: {reason}"
        ) from error
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # its stub lacks it
    return model.eval().requires_grad_(False)


def _shape(configuration: dict[str, Any]) -> UNetConfig:
    """What a checkpoint says of its network.  Raises ValueError unless that is a `UNet`."""
    otherwise = (
        "; a network of another kind is built by yourself, and then takes "
        'load_state_dict(checkpoint.part(tensors, "ema"))'
    )
    if "model" not in configuration:
        held = ", ".join(configuration) or "nothing"
        raise ValueError(
            f"these weights are not a U-Net's: their configuration has only {held}{otherwise}"
        )
    try:
        return UNetConfig(**configuration["model"])
    except TypeError as error:
        raise ValueError(
            f"these weights are not a U-Net's of this version: {configuration['model']} "
            f"does not describe one ({error}){otherwise}"
        ) from error
