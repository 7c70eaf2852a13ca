"""Where should the sampling steps lie?  Distances of the shipped weights' samples, by two judges.

    python tests/benchmarks/placement.py sweep
        2,000 samples of each placement, number of steps and solver (an hour; resumable)
    python tests/benchmarks/placement.py final
        10,000 samples of 25 steps even in t; those of the chosen placement are drawn and judged by
        `python -m tutorial_lib.recipes judged`
    python tests/benchmarks/placement.py publish
        make these results ones that ship with the package; docs/benchmarks.md is made from them

All begin with the same noise.  No clock decides anything here, so other work beside it does no
harm; and the same steps give the same pictures on any machine, up to the last digits.
"""

import sys
import time
from pathlib import Path

import torch
from common import done, fingerprint, keep, publish
from torch import Tensor

from tutorial_lib import checkpoint, data, evaluate, sample
from tutorial_lib.beyond.solvers import CHOSEN, SAMPLERS, karras_tau
from tutorial_lib.denoise import denoiser
from tutorial_lib.nets.unet import restore
from tutorial_lib.schedule import NoiseSchedule, even_tau, named

RESULTS = Path("build/benchmarks/placement.json")
WEIGHTS = "fashion_mnist"
FEW, MANY = 2000, 10_000
EVEN = "even in t"
# root of noise / signal, and the largest of it
PLACEMENTS = {
    f"root {root}, from {largest}": (root, largest)
    for root, largest in [
        *((7, 20), (7, 40), (7, 80), (7, 200)),
        *((5, 80), (5, 200), (5, 400)),
        *((4, 80), (4, 120), (4, 200), (3, 200)),
    ]
}
BEST = f"root {CHOSEN['root']}, from {CHOSEN['largest']:g}"
CLOSE = [(5, 80), (4, 80), (4, 120), (5, 200), (7, 80), (4, 200)]  # the best by ten, or nearly
SWEEP = [
    *(("dpm++", EVEN, steps) for steps in (10, 15, 25)),
    *(("dpm++", name, 10) for name in PLACEMENTS),
    *(("dpm++", f"root {root}, from {largest}", 15) for root, largest in CLOSE),
    *(("dpm++", BEST, steps) for steps in (6, 8, 25)),
    *(("ddim", name, 25) for name in (EVEN, BEST)),
    ("heun", "root 7, from 80", 8),
]
FINAL = [("dpm++", EVEN, 25)]  # those of the chosen placement travel with the weights


def tau_of(schedule: NoiseSchedule, name: str, steps: int) -> Tensor:
    """The steps of that placement, (steps + 1,)."""
    if name == EVEN:
        return even_tau(schedule.T, steps)
    root, largest = PLACEMENTS[name]
    return karras_tau(schedule, steps, root=root, largest=largest)


def drawn(solver: str, name: str, steps: int, count: int) -> Tensor:
    """`count` samples of the shipped weights, (count, 1, 28, 28) uint8."""
    tensors, configuration = checkpoint.load(WEIGHTS)
    about = configuration["train"]
    schedule = named(about["schedule"], about["T"])
    network = restore(tensors, configuration)
    denoise = denoiser(network, schedule, target=about["target"], clip=True)
    noise = sample.start(count, (1, 28, 28), generator=torch.Generator().manual_seed(0))
    tau = tau_of(schedule, name, steps)
    runs = (SAMPLERS[solver](denoise, schedule, x_T, steps=tau) for x_T in noise.split(250))
    return torch.cat([data.to_pixels(sample.final(run)) for run in runs])


def measure(rows: list[tuple[str, str, int]], count: int) -> None:
    """Measure those rows that are not there yet."""
    for solver, name, steps in rows:
        key = f"placement/{solver}/{name}/{steps}/{count}"
        if done(RESULTS, key, WEIGHTS):
            continue
        began = time.perf_counter()
        found = evaluate.report(drawn(solver, name, steps, count))
        calls = 2 * steps - 1 if solver == "heun" else steps
        keep(RESULTS, key, {"calls": calls, "fingerprint": fingerprint(WEIGHTS)} | found)
        first, second = found["feature_distance"], found["second"]["feature_distance"]
        seconds = time.perf_counter() - began
        print(f"{key}: {first:.2f} and {second:.2f} ({seconds:.0f} s)", flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["sweep"]:
        measure(SWEEP, FEW)
    elif sys.argv[1:] == ["final"]:
        measure(FINAL, MANY)
    elif sys.argv[1:] == ["publish"]:
        publish(RESULTS)
    else:
        sys.exit(__doc__)
