"""Walks of points in the plane, back from noise: the explorer of notebook 00."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from tutorial_lib import checkpoint, toys
from tutorial_lib.denoise import denoiser
from tutorial_lib.diffusion import q_sample
from tutorial_lib.files import ASSETS
from tutorial_lib.sample import ddpm
from tutorial_lib.schedule import from_betas

SCHEDULE = from_betas(torch.linspace(0, 0.9, 51)[1:] ** 3)  # the one that notebook 00 types
STAGES = (100, 500, 3000)  # steps of training after which a walk is recorded
MOMENTS = (50, 45, 40, 36, 33, 30, 27, 24, 21, 18, 15, 12, 9, 6, 3, 0)  # t, of each walk
GRAIN = 30  # parts of a unit that are stored


class Network(nn.Module):
    """The network of notebook 00: from (x_t, t) to the noise in x_t.

    x: (B, 2).  t: (B,).
    """

    def __init__(self, width: int = 128):
        super().__init__()
        sizes = [33, width, width, width]
        hidden = [nn.Sequential(nn.Linear(a, b), nn.SiLU()) for a, b in pairwise(sizes)]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, 2))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        inputs = torch.cat([x, t[:, None] / SCHEDULE.T], dim=1)  # (B, 3)
        waves = [wave(k * inputs) for k in (1, 2, 4, 8, 16) for wave in (torch.sin, torch.cos)]
        return self.layers(torch.cat([inputs, *waves], dim=1))  # (B, 33) -> (B, 2)


def walks(count: int = 400) -> None:
    """Train a network for each shape of `toys.SHAPES`, and record its walks as it learns.

    Stored are, by the shape's name, the places of `count` points at each of the STAGES and MOMENTS,
    (stages, moments, count, 2), in 1/GRAIN as int8; and the schedule's betas from t = 1 on.
    """
    recorded = {name: _learn(name, count) for name in toys.SHAPES}
    about = {
        "what": "points in the plane on their way back from noise",
        "recipe": "python -m tutorial_lib.recipes walks",
        "training_steps": STAGES,
        "t": MOMENTS,
        "grain": GRAIN,
    }
    checkpoint.save(ASSETS / "walks.safetensors", recorded | {"beta": SCHEDULE.beta[1:]}, about)


def _learn(name: str, count: int, batch: int = 256) -> Tensor:
    """Train for one shape, by the loop that notebook 00 types; walk back at each of the STAGES."""
    torch.manual_seed(0)  # the initial weights
    network, generator = Network(), torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    rates = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, STAGES[-1])
    found = []
    for step in range(1, STAGES[-1] + 1):
        x_0 = toys.SHAPES[name](batch, generator)
        t = torch.randint(1, SCHEDULE.T + 1, (batch,), generator=generator)
        eps = torch.randn(x_0.shape, generator=generator)
        loss = (network(q_sample(SCHEDULE, x_0, t, eps), t) - eps).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rates.step()
        if step in STAGES:
            found.append(_walk(network, count))
            print(f"{name}, step {step}: loss {loss.item():.3f}", flush=True)
    return torch.stack(found)


def _walk(network: nn.Module, count: int) -> Tensor:
    """Where points are at each of the MOMENTS: (moments, count, 2) in 1/GRAIN, int8."""
    generator = torch.Generator().manual_seed(1)
    denoise = denoiser(network, SCHEDULE, target="eps", clip=False)
    x_T = torch.randn(count, 2, generator=generator)
    frames = ddpm(denoise, SCHEDULE, x_T, generator=generator, variance="beta")
    places = torch.stack([frame.x for frame in frames if frame.t in MOMENTS])
    return (places * GRAIN).round().clamp(-127, 127).to(torch.int8)
