"""What a reader would use instead: three other ways to learn Fashion-MNIST, beside ours.

Each begins with what its own documentation shows, which is meant for days on a GPU, and gets
kindnesses for minutes on a CPU: a learning rate of 1e-3, averages over the last tenth or so of the
steps where the package offers averages, no mirror images, which harm shoes (but for the recipe that
has them in its text), and all data in memory.  Weights are float32, as the packages have them; ours
computes in bfloat16 where the CPU has it, and that is measured apart, too.
"""

import copy
import importlib.machinery
import io
import math
import sys
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from common import BATCH
from torch import Tensor, nn
from torch.nn import functional as F

from tutorial_lib import data, sample, train
from tutorial_lib.beyond.solvers import STEPS, dpm_solver
from tutorial_lib.config import DiffusionConfig
from tutorial_lib.denoise import denoiser
from tutorial_lib.nets import published
from tutorial_lib.nets.unet import UNet, UNetConfig
from tutorial_lib.schedule import NoiseSchedule, cosine, from_betas, linear

# where `make bench` installs what must not stand in the project's own environment
PEERS = Path("build/peers")


@dataclass
class Contestant:
    """A way to train and to sample.

    about: one line.
    network: what is trained.
    sampled: whose weights samples come from (averaged, if any are).
    steps: an endless run of training steps; each `next` takes a batch, its data work included.
    schedule, target: what `predict` means in our terms.
    predict: (x_t, t in 1..T) to the prediction.
    native: (count, seed) to uint8 images (N, 1, 28, 28), by the package's own sampler.
    native_about: that sampler in words.
    native_calls: how often it asks the network.
    """

    about: str
    network: nn.Module
    sampled: nn.Module
    steps: Iterator[None]
    schedule: NoiseSchedule
    target: str
    predict: Callable[[Tensor, Tensor], Tensor]
    native: Callable[[int, int], Tensor]
    native_about: str
    native_calls: int
    refresh: Callable[[], None] = lambda: None  # brings `sampled` up to date
    decays: bool = False  # whether the learning rate depends on how long training will take


def _batches(images: data.Images, size: int) -> Iterator[Tensor]:
    """Endless batches in [-1, 1], in a new order each epoch."""
    generator = torch.Generator().manual_seed(0)
    while True:
        for chosen in torch.randperm(len(images), generator=generator).split(size):
            if len(chosen) == size:
                yield data.batch(images, chosen)


def _train(
    network: nn.Module,
    optimizer,
    loss,
    batches,
    after=lambda: None,
    clip: float | None = None,
):
    """The loop that the three others share."""
    network.train()
    for x_0 in batches:
        optimizer.zero_grad()
        loss(x_0).backward()
        if clip:
            nn.utils.clip_grad_norm_(network.parameters(), clip)
        optimizer.step()
        after()
        yield


def ours(
    images: data.Images, seconds: float = 300, batch: int = BATCH, precision: str = "auto"
) -> Contestant:
    """This project, with its defaults; `seconds` decides how fast the learning rate falls."""
    torch.manual_seed(0)
    config = DiffusionConfig(report_every=1, batch=batch, precision=precision)
    network, minutes = UNet(UNetConfig()), 0.99 * seconds / 60
    learning = train.algorithm_1(images, config)
    run = train.train(network, *learning, config, minutes=minutes, device="cpu")
    first = next(run)  # the averaged network exists from here on
    averaged, schedule = first.ema_model, cosine(config.T)

    def native(count: int, seed: int) -> Tensor:
        noise = sample.start(count, (1, 28, 28), generator=torch.Generator().manual_seed(seed))
        denoise = denoiser(averaged, schedule, target=config.target, clip=True)
        run = dpm_solver(denoise, schedule, noise, steps=STEPS)
        return data.to_pixels(sample.final(run))

    def steps() -> Iterator[None]:
        yield
        yield from (None for _ in run)

    return Contestant(
        about="tutorial_lib, its defaults",
        network=network,
        sampled=averaged,
        steps=steps(),
        schedule=schedule,
        target=config.target,
        predict=averaged,
        native=native,
        native_about=f"DPM-Solver++(2M), {STEPS} steps",
        native_calls=STEPS,
        decays=True,
    )


def annotated(images: data.Images, seconds: float = 0, batch: int = 128) -> Contestant:
    """The popular annotated recipe: T = 300 linear, Huber, Adam 1e-3, mirror images, out of PNG."""
    torch.manual_seed(0)
    network, schedule = published.annotated_unet(), linear(300)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    noises = torch.Generator().manual_seed(1)

    def loss(x_0: Tensor) -> Tensor:
        t = torch.randint(0, 300, (batch,), generator=noises)
        noise = torch.randn(x_0.shape, generator=noises)
        alpha_bar = schedule.alpha_bar[1:][t].float().view(-1, 1, 1, 1)  # (B, 1, 1, 1)
        x_t = alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * noise
        return F.smooth_l1_loss(network(x_t, t), noise)

    def native(count: int, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        noise = sample.start(count, (1, 28, 28), generator=generator)
        denoise = denoiser(predict, schedule, target="eps", clip=False)
        run = sample.ddpm(denoise, schedule, noise, generator=generator)
        return data.to_pixels(sample.final(run))

    def predict(x: Tensor, t: Tensor) -> Tensor:
        return network(x, t - 1)

    about = (
        "the annotated recipe: its U-Net (28; 1, 2, 4), "
        "T = 300 linear, eps, Huber, Adam 1e-3, no EMA"
    )
    return Contestant(
        about=about,
        network=network,
        sampled=network,
        steps=_train(network, optimizer, loss, _decoded(images, batch)),
        schedule=schedule,
        target="eps",
        predict=predict,
        native=native,
        native_about="DDPM, all 300 steps",
        native_calls=300,
    )


def _decoded(images: data.Images, size: int) -> Iterator[Tensor]:
    """Batches as `datasets` and torchvision make them: PNG, PIL, mirrored, a tensor, one by one."""
    import numpy as np
    from PIL import Image, ImageOps

    def png(pixels: Tensor) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(pixels[0].numpy()).save(buffer, "png")
        return buffer.getvalue()

    def transformed(file: bytes, flip: bool) -> Tensor:
        picture = Image.open(io.BytesIO(file))
        picture = ImageOps.mirror(picture) if flip else picture
        return torch.from_numpy(np.array(picture))[None].float() / 255 * 2 - 1

    files, generator = [png(pixels) for pixels in images.pixels], torch.Generator().manual_seed(0)

    def batches() -> Iterator[Tensor]:
        while True:
            for chosen in torch.randperm(len(files), generator=generator).split(size):
                if len(chosen) == size:
                    flips = (torch.rand(size, generator=generator) < 0.5).tolist()
                    pairs = zip(chosen, flips, strict=True)
                    yield torch.stack([transformed(files[i], flip) for i, flip in pairs])

    return batches()


def denoising_diffusion(images: data.Images, seconds: float = 0, batch: int = 32) -> Contestant:
    """denoising_diffusion_pytorch: a Unet, GaussianDiffusion's defaults, its example's batch."""
    _without_torchvision()
    from denoising_diffusion_pytorch.denoising_diffusion_pytorch import GaussianDiffusion, Unet
    from ema_pytorch import EMA

    torch.manual_seed(0)
    network = Unet(dim=28, dim_mults=(1, 2, 4), channels=1)
    diffusion = GaussianDiffusion(network, image_size=28, sampling_timesteps=250)
    # its Trainer averages every tenth step and not before the 100th, too far behind in a short run
    averaged = EMA(diffusion, beta=0.995, update_every=1, update_after_step=0)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.9, 0.99))

    def predict(x: Tensor, t: Tensor) -> Tensor:
        return averaged.ema_model.model(x, t - 1)

    def native(count: int, seed: int) -> Tensor:
        torch.manual_seed(seed)
        return data.to_pixels(averaged.ema_model.sample(batch_size=count) * 2 - 1)

    def loss(x_0: Tensor) -> Tensor:
        return diffusion((x_0 + 1) / 2)

    about = (
        "denoising_diffusion_pytorch: Unet(28, (1, 2, 4)), "
        "T = 1000 sigmoid, v, EMA 0.995, Adam 1e-3"
    )
    batches = _batches(images, batch)
    return Contestant(
        about=about,
        network=network,
        sampled=averaged.ema_model,
        steps=_train(network, optimizer, loss, batches, after=averaged.update, clip=1.0),
        schedule=from_betas(diffusion.betas),
        target="v",
        predict=predict,
        native=native,
        native_about="DDIM, 250 steps",
        native_calls=250,
    )


def _without_torchvision() -> None:
    """Let denoising_diffusion_pytorch be imported: stand-ins for what it does not use here."""
    sys.path.append(str(PEERS))
    for name in ("torchvision", "torchvision.transforms", "torchvision.utils"):
        if name not in sys.modules:
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)
    sys.modules["torchvision"].transforms = sys.modules["torchvision.transforms"]
    sys.modules["torchvision"].utils = sys.modules["torchvision.utils"]


def diffusers(images: data.Images, seconds: float = 300, batch: int = 32) -> Contestant:
    """diffusers: a UNet2DModel of like size (our choice of widths), trained as its example does.

    That is the one of unconditional training: DDPMScheduler, AdamW, EMA, warm-up and cosine.
    """
    from diffusers import DDPMScheduler, UNet2DModel
    from diffusers.training_utils import EMAModel

    torch.manual_seed(0)
    network = UNet2DModel(
        sample_size=28,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(32, 64, 96),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
    )
    scheduler = DDPMScheduler(1000)
    weights = network.parameters()
    optimizer = torch.optim.AdamW(weights, lr=1e-5, betas=(0.95, 0.999), weight_decay=1e-6)
    averaged = EMAModel(network.parameters(), decay=0.9999, use_ema_warmup=True, power=0.75)
    shadow = copy.deepcopy(network)
    noises, total = torch.Generator().manual_seed(1), max(1.0, seconds)
    began: list[float] = []

    def loss(x_0: Tensor) -> Tensor:
        t = torch.randint(0, 1000, (batch,), generator=noises)
        noise = torch.randn(x_0.shape, generator=noises)
        return F.mse_loss(network(scheduler.add_noise(x_0, noise, t), t).sample, noise)

    def after() -> None:
        """Warm-up and half a cosine, by the clock: nobody knows the number of steps beforehand."""
        began.append(time.perf_counter())
        done = min(1.0, (began[-1] - began[0]) / total)
        warmth = min(1.0, (1 + len(began)) / 100)
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * warmth * 0.5 * (1 + math.cos(math.pi * done))
        averaged.step(network.parameters())

    def predict(x: Tensor, t: Tensor) -> Tensor:
        return shadow(x, t - 1).sample

    def native(count: int, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(count, 1, 28, 28, generator=generator)
        scheduler.set_timesteps(1000)
        for t in scheduler.timesteps:
            x = scheduler.step(shadow(x, t).sample, t, x, generator=generator).prev_sample
        return data.to_pixels(x)

    return Contestant(
        about="diffusers: UNet2DModel(32, 64, 96), T = 1000 linear, eps, AdamW 1e-3, EMA",
        network=network,
        sampled=shadow,
        steps=_train(network, optimizer, loss, _batches(images, batch), after, clip=1.0),
        schedule=linear(1000),
        target="eps",
        predict=predict,
        native=native,
        native_about="DDPM, all 1,000 steps",
        native_calls=1000,
        refresh=lambda: averaged.copy_to(shadow.parameters()),
        decays=True,
    )


CONTESTANTS = {
    "ours": ours,
    "a: denoising_diffusion_pytorch": denoising_diffusion,
    "b: diffusers": diffusers,
    "c: annotated recipe": annotated,
}
