"""`evaluate --metrics bpd,nll`: what real images cost, by the bound and by the walk without noise.

The second, by the probability-flow ODE, is the exact density of a picture with a trace of noise; a
decoder, which is fitted on training images, tells the pixels from it.  (Notebook 08)
"""

import math
import os
import time

import torch
from torch import Tensor

from tutorial_lib.beyond.exact import middle_nats
from tutorial_lib.beyond.likelihood import bits_per_dimension
from tutorial_lib.beyond.variance import bits_of_steps, sure
from tutorial_lib.beyond.variational import (
    HIGH,
    LOW,
    Continuous,
    Decoder,
    continuous,
    fitted_decoder,
)
from tutorial_lib.cli.trained import Trained, is_wide, prediction
from tutorial_lib.data import to_model
from tutorial_lib.engine.probe import Probe

STEPS = 100  # of Heun's rule, two calls of the network each; 40 are 0.07 bits short, these 0.01
FITTED = 200  # training images, by which the decoder is fitted
PIECE = 32  # images that walk together


def bound(weights: Trained, pixels: Tensor, *, seed: int, device: str) -> dict[str, float]:
    """The bound of `bits_per_dimension`; of a learned variance with that variance."""
    generator = torch.Generator().manual_seed(seed)  # whatever else was measured
    if not is_wide(weights.model):
        denoise = weights.denoiser(clip=True)
        return bits_per_dimension(
            denoise, weights.schedule, pixels, generator=generator, device=device
        )
    estimate = sure(weights.model, weights.schedule, target=weights.target, clip=True)

    def here(x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        x_0_hat, share = estimate(x_t.to(device), t)
        return x_0_hat.cpu(), share.cpu()

    with torch.no_grad():
        return bits_of_steps(
            here, weights.schedule, pixels, generator=generator, steps=weights.schedule.T
        )


def exact(
    weights: Trained, pixels: Tensor, known: Tensor, *, seed: int, device: str, quiet: bool
) -> dict[str, float]:
    """What uint8 images (N, C, H, W) cost along the walk without noise.

    known: training images, for the decoder.  quiet: do not say beforehand how long it takes.
    Returns `bpd` with its standard `error`, the same in `nats` an image, the shares in bpd of the
    `walk` and of the `decoder`, and the `count`.
    """
    network, schedule = prediction(weights.model), weights.schedule
    denoise = continuous(network, schedule, target=weights.target, clip=True)
    generator = torch.Generator().manual_seed(seed)
    low = max(LOW, -math.log(float(schedule.snr[1])))  # if t = 1 is noisier, there
    decoder = _decoder(denoise, to_model(known[:FITTED]), low, generator, device)
    calls = (2 * STEPS + 1) * math.ceil(len(pixels) / PIECE)
    walk = denoise if quiet else _foretold(denoise, calls)
    parts = [_nats(walk, decoder, x, low, generator, device) for x in to_model(pixels).split(PIECE)]
    nats = torch.cat(parts, dim=1).double()  # (2, N)
    whole, to_bits = nats.sum(0), 1 / (pixels[0].numel() * math.log(2))
    return {
        "bpd": float(whole.mean()) * to_bits,
        "error": float(whole.std()) * to_bits / len(pixels) ** 0.5,
        "nats": float(whole.mean()),
        "walk": float(nats[0].mean()) * to_bits,
        "decoder": float(nats[1].mean()) * to_bits,
        "count": len(pixels),
    }


def _decoder(
    denoise: Continuous, x_0: Tensor, low: float, generator: torch.Generator, device: str
) -> Decoder:
    """The decoder that asks the network, which works on the device, and it on the CPU."""

    @torch.no_grad()
    def ask(z: Tensor, gamma: Tensor) -> Tensor:
        return denoise(z.to(device), gamma).cpu()

    return fitted_decoder(ask, x_0, low, generator)


def _nats(
    denoise: Continuous,
    decoder: Decoder,
    x_0: Tensor,
    low: float,
    generator: torch.Generator,
    device: str,
) -> Tensor:
    """Of each image the nats of the walk, of `middle_nats`, and those of the decoder: (2, B)."""
    walk, z = middle_nats(
        denoise, x_0, low=low, high=HIGH, steps=STEPS, generator=generator, device=device
    )
    return torch.stack([walk, decoder(x_0, z)])


def _foretold(denoise: Continuous, calls: int) -> Continuous:
    """The same function, which says after a few calls how long all of them will take."""
    probe, before = Probe(), time.perf_counter()

    def watched(z: Tensor, gamma: Tensor) -> Tensor:
        nonlocal before
        now = time.perf_counter()
        if not probe.done:
            probe.see(1, now - before)
            if probe.done and not os.environ.get("TUTORIAL_LIB_QUIET"):
                print(f"nll: {probe.forecast(calls)}", flush=True)
        before = now
        return denoise(z, gamma)

    return watched
