"""How good are pictures by so many evaluations of the network, and how long do they take?

    python tests/benchmarks/evaluations.py sweep
        distances of 1,000 samples by two judges: every sampler on the shipped weights without
        labels, those with labels, guided and not, and the distilled ones (an hour or two, half of
        it for the thousand steps, which come last; resumable: each row is stored as it is done)
    python tests/benchmarks/evaluations.py clock
        seconds for 64 pictures of each row that has been judged, all in one go (some minutes, on an
        idle machine)
    python tests/benchmarks/evaluations.py publish
        make these results ones that ship with the package; then `python tools/benchmarks.py` makes
        table and plot of docs/benchmarks.md

Each sampler takes the steps that it takes by itself.  All begin with the same noise and the same
labels, drawn at random.  No clock decides anything in `sweep`, so other work beside it does no
harm.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import torch
from common import done, fingerprint, keep, kept, machine, median_seconds, publish
from torch import Tensor

from tutorial_lib import checkpoint, data, evaluate, sample
from tutorial_lib.beyond.distillation import EVALUATIONS, multistep
from tutorial_lib.beyond.guidance import guided
from tutorial_lib.beyond.solvers import SAMPLERS
from tutorial_lib.config import schedule_of
from tutorial_lib.denoise import Denoiser, denoiser
from tutorial_lib.nets.unet import restore
from tutorial_lib.schedule import NoiseSchedule

RESULTS = Path("build/benchmarks/evaluations.json")
FEW, TIMED, SIZE = 1000, 64, 250  # samples that are judged; pictures that are timed; of a piece
USUAL = (5, 10, 15, 25, 50)


@dataclass(frozen=True)
class Way:
    """A way to draw pictures.

    weights: their shipped name.  w: of guidance, for weights that take labels.
    steps: how many are tried.
    calls: steps -> evaluations of the network a picture.
    """

    weights: str
    sampler: str
    steps: tuple[int, ...] = USUAL
    w: float = 1.0
    calls: Callable[[int], int] = int


WAYS = {
    "fashion_mnist, ddpm": Way("fashion_mnist", "ddpm", (*USUAL, 100, 1000)),
    "fashion_mnist, ddim": Way("fashion_mnist", "ddim"),
    "fashion_mnist, dpm++": Way("fashion_mnist", "dpm++"),
    "fashion_mnist, heun": Way(
        "fashion_mnist", "heun", (3, 5, 8, 13, 25), calls=lambda steps: 2 * steps - 1
    ),
    "labelled, dpm++": Way("labelled", "dpm++"),
    "labelled, dpm++, guidance 1.3": Way(
        "labelled", "dpm++", (3, 5, 8, 15, 25), w=1.3, calls=lambda steps: 2 * steps
    ),
    "distilled": Way("distilled", "multistep", EVALUATIONS),
}
ROWS = sorted(
    ((name, steps) for name, way in WAYS.items() for steps in way.steps),
    key=lambda row: WAYS[row[0]].calls(row[1]),
)  # a sweep that was interrupted has something of each way


def drawn(way: Way, steps: int, count: int) -> Tensor:
    """`count` pictures, (count, 1, 28, 28) uint8, labels at random where the weights take them."""
    denoise, schedule, takes_labels = _restored(way.weights)
    generator = torch.Generator().manual_seed(0)
    noise = sample.start(count, (1, 28, 28), generator=generator)
    labels = torch.randint(len(data.CLASSES), (count,), generator=generator)
    draw: Callable = multistep if way.sampler == "multistep" else SAMPLERS[way.sampler]
    if way.sampler in ("multistep", "ddpm"):
        draw = partial(draw, generator=generator)
    pictures = []
    for x_T, y in zip(noise.split(SIZE), labels.split(SIZE), strict=True):
        asked = guided(denoise, y, way.w, clip=True) if takes_labels else denoise
        pictures.append(data.to_pixels(sample.final(draw(asked, schedule, x_T, steps=steps))))
    return torch.cat(pictures)


@cache
def _restored(weights: str) -> tuple[Denoiser, NoiseSchedule, bool]:
    """A denoiser of shipped weights, their schedule, and whether they take labels.

    With labels its estimates are not clipped: they are guided first.
    """
    tensors, configuration = checkpoint.load(weights)
    network, schedule = restore(tensors, configuration), schedule_of(configuration)
    takes_labels, target = network.config.labels > 0, configuration["train"]["target"]
    denoise = denoiser(network, schedule, target=target, clip=not takes_labels)
    return denoise, schedule, takes_labels


def sweep(count: int = FEW) -> None:
    """Judge those rows that are not there yet."""
    for name, steps in ROWS:
        calls, weights = WAYS[name].calls(steps), WAYS[name].weights
        key = f"evaluations/{name}/{calls}"
        if done(RESULTS, key, weights):
            continue
        began = time.perf_counter()
        found = evaluate.report(drawn(WAYS[name], steps, count))
        about = {"calls": calls, "steps": steps, "fingerprint": fingerprint(weights)}
        keep(RESULTS, key, about | found)
        first, second = found["feature_distance"], found["second"]["feature_distance"]
        seconds = time.perf_counter() - began
        print(f"{key}: {first:.2f} and {second:.3f} ({seconds:.0f} s)", flush=True)


def clock(count: int = TIMED) -> None:
    """Time all judged rows, those that were timed before as well: they belong to one hour."""
    judged = kept(RESULTS, "evaluations")
    for name, steps in ROWS:
        if f"evaluations/{name}/{WAYS[name].calls(steps)}" not in judged:
            continue
        seconds = median_seconds(partial(drawn, WAYS[name], steps, count), repeat=3)
        key = f"evaluations time/{name}/{WAYS[name].calls(steps)}"
        keep(RESULTS, key, {"seconds_for_64": seconds, "machine": machine()})
        print(f"{key}: {seconds:.2f} s", flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["sweep"]:
        sweep()
    elif sys.argv[1:] == ["clock"]:
        clock()
    elif sys.argv[1:] == ["publish"]:
        publish(RESULTS)
    else:
        sys.exit(__doc__)
