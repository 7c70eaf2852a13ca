"""What the benchmarks share: the machine in words, the clock, how samples are drawn for judging."""

import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tutorial_lib import checkpoint, data, files, sample
from tutorial_lib.beyond.solvers import STEPS, dpm_solver
from tutorial_lib.config import TrainConfig
from tutorial_lib.denoise import denoiser
from tutorial_lib.schedule import NoiseSchedule

BFLOAT16 = torch.cpu._is_avx512_bf16_supported()  # whether this CPU computes with it
BATCH = TrainConfig().batch  # images a step of ours
DRAWN = f"DPM-Solver++(2M), {STEPS} steps in chosen places"  # samples for judging, of all alike
PUBLISHED = files.ASSETS / "benchmarks.json"
BY_ROW = (
    "placement",
    "orders",
    "evaluations",
    "evaluations time",
)  # kinds with programs of their own


def machine() -> str:
    """The machine in words.  Rented processors may share a name: their family tells them apart."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = cpu.get("model name", platform.processor())
    if "cpu family" in cpu:
        name += f" (family {cpu['cpu family']}, model {cpu['model']})"
    cores = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return f"{name}, {cores}, torch {torch.__version__}, {platform.system()}"


def process(script: str, *arguments: str, threads: int | None = None) -> Any:
    """What a script of this folder prints as its last line, in JSON, run in a process of its own.

    threads: how many the process may compute with; None for all.
    """
    command = [sys.executable, str(Path(__file__).with_name(script)), *arguments]
    environment = os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def median_seconds(action: Callable[[], object], repeat: int = 5, uncounted: int = 1) -> float:
    """The median time of `repeat` calls, after some that are not counted."""
    times = []
    for _ in range(uncounted + repeat):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return statistics.median(times[uncounted:])


@torch.no_grad()
def drawn(
    predict: Callable,
    schedule: NoiseSchedule,
    target: str,
    count: int,
    steps: int = STEPS,
) -> Tensor:
    """`count` images as `DRAWN` says, uint8, always from the same noise, all in float32."""
    denoise = denoiser(predict, schedule, target=target, clip=True)
    noise = sample.start(count, (1, 28, 28), generator=torch.Generator().manual_seed(0))
    runs = (dpm_solver(denoise, schedule, x_T, steps=steps) for x_T in noise.split(32))
    return torch.cat([data.to_pixels(sample.final(run)) for run in runs])


# --- results that are measured row by row


def kept(results: Path, *kinds: str) -> dict:
    """All results of these kinds so far: the published ones, and in their place those of a file."""
    mine = json.loads(results.read_text()) if results.exists() else {}
    every = json.loads(PUBLISHED.read_text()) | mine
    return {name: value for name, value in every.items() if name.partition("/")[0] in kinds}


@cache
def fingerprint(weights: str) -> str:
    """What a distance depends on in one word: the numbers of shipped weights and of both judges."""
    found = hashlib.sha256()
    for name in (weights, "classifier", "second_classifier"):
        tensors, _ = checkpoint.load(name)
        for key in sorted(tensors):
            found.update(key.encode())
            found.update(tensors[key].contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]


def done(results: Path, key: str, weights: str) -> bool:
    """Whether there is a result of that name, of these weights and judges as they ship today."""
    stored = kept(results, key.partition("/")[0]).get(key, {})
    return stored.get("fingerprint") == fingerprint(weights)


def keep(results: Path, key: str, value: dict) -> None:
    """Store one more result in that file."""
    mine = json.loads(results.read_text()) if results.exists() else {}
    write(results, mine | {key: value})


def publish(results: Path) -> None:
    """Let the results of that file ship, in the file of all benchmarks."""
    if not results.exists():
        sys.exit(f"there is nothing to publish: {results} is not there; measure first")
    write(PUBLISHED, json.loads(PUBLISHED.read_text()) | json.loads(results.read_text()))


def write(path: Path, found: dict) -> None:
    """Store results by name."""
    files.write(path, (json.dumps(found, indent=1, sort_keys=True) + "\n").encode())
