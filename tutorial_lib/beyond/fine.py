r"""A U-Net for likelihoods: it sees the finest digits, and says how sure it is of each pixel.

Beside z it is shown how many standard deviations z is away from black and from white, which half
of all pixels are exactly, and where z lies between two grey levels.  (Notebook 08)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tutorial_lib import checkpoint
from tutorial_lib.beyond.variational import (
    Continuous,
    Decoder,
    decoder_nats,
    diffusion_nats,
    noised,
    signal_and_noise,
    t_of,
)
from tutorial_lib.nets.unet import UNet, UNetConfig
from tutorial_lib.schedule import named

SCHEDULE = named("cosine", 1000)  # whose t tells the network the noise level
FAR = 4.0  # standard deviations, beyond which a pixel is simply not black


def fourier(z: Tensor, frequencies: Sequence[float]) -> Tensor:
    r"""$\sin(f \pi z)$ and $\cos(f \pi z)$ for each frequency f: fine digits of z, made large.

    With f = 255 they tell where z lies between two grey levels.  (Kingma et al. 2021, appendix C,
    take f = 128 and 256.)  z: (B, C, ...).  Returns (B, 2 C frequencies, ...).
    """
    waves = [wave(f * math.pi * z) for f in frequencies for wave in (torch.sin, torch.cos)]
    return torch.cat(waves, dim=1) if waves else z[:, :0]


@dataclass(frozen=True)
class FineConfig:
    """What determines a `FineUNet`'s shape; patch, widths and blocks as in `UNetConfig`."""

    patch: int = 2
    widths: tuple[int, ...] = (48, 128)
    blocks: int = 1
    # Of the waves that are shown beside z, in units of pi.
    frequencies: tuple[float, ...] = ()
    # Whether distances from black and white are shown.
    edges: bool = True

    def __post_init__(self) -> None:
        for name in ("widths", "frequencies"):  # JSON knows no tuples
            object.__setattr__(self, name, tuple(getattr(self, name)))


class FineUNet(nn.Module):
    r"""From (z, gamma) to v and to the logarithm of a standard deviation, in units of b / a.

    z: (B, 1, 28, 28).  gamma: (B,).  Returns (B, 2, 28, 28).
    """

    def __init__(self, config: FineConfig) -> None:
        super().__init__()
        self.config = config
        channels = 1 + 2 * config.edges + 2 * len(config.frequencies)
        shape = UNetConfig(
            channels=channels, patch=config.patch, widths=config.widths, blocks=config.blocks
        )
        self.unet = UNet(shape)
        self.unet.out = nn.Conv2d(config.widths[0], 2 * config.patch**2, 3, padding=1)
        nn.init.zeros_(self.unet.out.weight)
        nn.init.zeros_(self.unet.out.bias)  # type: ignore[arg-type]  # it has one

    def forward(self, z: Tensor, gamma: Tensor) -> Tensor:
        seen = [z]
        if self.config.edges:
            signal, noise = signal_and_noise(gamma, like=z)
            seen += [((z + s * signal) / noise).clamp(-FAR, FAR) / FAR for s in (1, -1)]
        seen.append(fourier(z, self.config.frequencies))
        t = t_of(SCHEDULE, gamma).to(z)
        return self.unet(torch.cat(seen, dim=1), t)  # (B, 2, 28, 28)

    @torch.no_grad()
    def begin_as(self, trained: UNet) -> None:
        """Take over the weights of a network that predicts v from z alone, on `SCHEDULE`.

        What it does not know, the further inputs and the second output, begins at zero.
        Raises ValueError for one of other widths.
        """
        mine, theirs = self.unet.state_dict(), trained.state_dict()
        folded = self.config.patch**2
        for name, value in theirs.items():
            if name == "stem.weight":
                mine[name].zero_()[:, : value.shape[1]] = value
            elif name.startswith("out."):
                mine[name].zero_()[:folded] = value
            elif mine[name].shape == value.shape:
                mine[name].copy_(value)
            else:
                raise ValueError(
                    f"{name} has shape {tuple(value.shape)}, not {tuple(mine[name].shape)}; "
                    "begin as a network of the same patch, widths and blocks"
                )


def restore_fine(tensors: dict[str, Tensor], configuration: dict[str, Any]) -> FineUNet:
    """The network that `checkpoint.load` has read, ready for use."""
    network = FineUNet(FineConfig(**configuration["model"]))
    network.load_state_dict(checkpoint.part(tensors, "fine"))
    return network.eval().requires_grad_(False)


def estimates(network: nn.Module, z: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
    r"""$\hat x_0$, not clipped, and the standard deviation around it, like z both."""
    signal, noise = signal_and_noise(gamma, like=z)
    v, log_sigma = network(z, gamma).to(z.dtype).chunk(2, dim=1)
    return signal * z - noise * v, noise / signal * log_sigma.clamp(-6, 2).exp()


def fine_denoiser(network: nn.Module) -> Continuous:
    """(z, gamma) -> x_0_hat, clipped to [-1, 1]."""
    return lambda z, gamma: estimates(network, z, gamma)[0].clamp(-1, 1)


def fine_decoder(network: nn.Module, low: float) -> Decoder:
    """The decoder of the network's own mean and standard deviation at the clean end."""

    def nats(x_0: Tensor, z: Tensor) -> Tensor:
        x_0_hat, sigma = estimates(network, z, torch.full((len(z),), low))
        return decoder_nats(x_0, x_0_hat.clamp(-1, 1), sigma)

    return nats


def variational_step(
    network: nn.Module,
    x_0: Tensor,
    eps: Tensor,
    place: Tensor,
    *,
    low: float,
    high: float,
    decoded: float,
) -> Tensor:
    r"""The bound itself as a loss, in bits a dimension of each image, (B,), less the prior's part.

    place: (B,) in [0, 1), spread evenly.  Those below `decoded` are asked for the pixels at the
    clean end, the others for the data at a gamma from low to high; each counts as if it had been
    asked always.
    (Kingma et al. 2021, section 5; notebook 08)
    """
    ending = place < decoded
    share = ((place - decoded) / (1 - decoded)).clamp(min=0)  # 0 at the clean end
    gamma = low + (high - low) * share
    x_0_hat, sigma = estimates(network, noised(x_0, gamma, eps), gamma)
    nats = (high - low) * diffusion_nats(x_0, x_0_hat, gamma) / (1 - decoded)
    if ending.any():
        own = decoder_nats(x_0[ending], x_0_hat[ending], sigma[ending]) / decoded
        nats = nats.index_put((ending,), own)
    return nats / (x_0[0].numel() * math.log(2))
