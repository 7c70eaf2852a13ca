"""Ours against what a reader would use instead, side by side on one machine.

    python tests/benchmarks/compare.py speed     speed and memory, what each ingredient brings, costs: minutes
    python tests/benchmarks/compare.py full      quality after equal time of training as well: hours, resumable

Every measurement is a process of its own, alone on the machine, and contestants take turns (A B A B).  `full` measures
nothing again that the results file holds, so that an interrupted run goes on where it was; `speed` begins afresh.
The results ship with the package; docs/benchmarks.md and notebook 05 are made from them.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import ablation
import torch
from contestants import CONTESTANTS, Contestant
from measures import machine

from tutorial_lib import checkpoint, data, evaluate, files
from tutorial_lib.unet import count_parameters

RESULTS = files.ASSETS / "benchmarks.json"
WEIGHTS = Path("build/benchmarks")
ROUNDS = 2
MINUTES = (5, 20)
OURS_TOO = (1, 2)  # how soon do ours reach what the others have after 20 minutes?
COUNT, NATIVE = 2000, 256


def measure(key: str, *command: str) -> dict:
    """The stored result of that name, or else a new one: the last line that a process of its own prints."""
    stored = load()
    if key not in stored:
        print(f"{key} ...", flush=True)
        began = time.perf_counter()
        command = [sys.executable, str(Path(__file__).with_name(command[0])), *command[1:]]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        stored = load() | {key: json.loads(done.stdout.splitlines()[-1])}
        save(stored)
        print(f"  {json.dumps(stored[key])[:200]}  ({time.perf_counter() - began:.0f} s)", flush=True)
    return stored[key]


def load() -> dict:
    """All results so far."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def save(stored: dict) -> None:
    """Write all results."""
    files.write(RESULTS, (json.dumps(stored, indent=1, sort_keys=True) + "\n").encode())


def speed(again: bool = True) -> None:
    """Speed of all in turns, of one ingredient less, and of other sizes."""
    if again:
        save({key: value for key, value in load().items() if not key.startswith(FAST)})
    save(load() | {"machine": machine()})
    measure("front door", "measures.py")
    for number in range(ROUNDS):
        for name in CONTESTANTS:
            measure(f"speed/{name}/{number}", "compare.py", "train-speed", name)
    for name in CONTESTANTS:
        measure(f"calls/{name}", "compare.py", "call-speed", name)
    for name in ablation.SPEED:
        if name != "torch.compile":
            measure(f"ablation speed/{name}", "ablation.py", "speed", name)
    measure("cost", "cost.py")


FAST = ("front door", "speed/", "calls/", "ablation speed/", "cost")


def full() -> None:
    """Everything: quality at equal time, too."""
    speed(again=False)
    for name in CONTESTANTS:
        for minutes in (*OURS_TOO, *MINUTES) if name == "ours" else MINUTES[-1:]:
            measure(f"training/{name}/{minutes}", "compare.py", "train", name, str(60 * minutes))
    for name in CONTESTANTS:
        for minutes in (*OURS_TOO, *MINUTES) if name == "ours" else MINUTES:
            measure(f"quality/{name}/{minutes}", "compare.py", "judge", name, str(60 * minutes))
    for name in CONTESTANTS:
        measure(f"native/{name}", "compare.py", "native", name, str(60 * MINUTES[-1]))
    measure("ablation speed/torch.compile", "ablation.py", "speed", "torch.compile")
    for name in ablation.QUALITY:
        measure(f"ablation quality/{name}", "ablation.py", "quality", name)


# --- what runs in processes of its own; each prints one line of JSON


def train_speed(name: str) -> dict:
    """Images a second over some steps after the first two, and the largest memory of the process."""
    contestant = CONTESTANTS[name](data.load("auto", "train"))
    for _ in range(2):
        next(contestant.steps)
    times = []
    while len(times) < 4 or sum(times) < 5:
        began = time.perf_counter()
        next(contestant.steps)
        times.append(time.perf_counter() - began)
    return {
        "images_per_second": 128 / statistics.median(times),
        "steps": len(times),
        "peak_MB": _peak(),
        "parameters": count_parameters(contestant.network),
        "about": contestant.about,
    }


@torch.no_grad()
def call_speed(name: str) -> dict:
    """Seconds of one call of the network on 64 images, and of as many calls as the contestant's own sampler makes."""
    contestant = CONTESTANTS[name](data.load("embedded", "train"))
    next(contestant.steps)
    contestant.sampled.eval()
    x, t, times = torch.randn(64, 1, 28, 28), torch.full((64,), 5), []
    for _ in range(12):
        began = time.perf_counter()
        contestant.predict(x, t)
        times.append(time.perf_counter() - began)
    call = statistics.median(times[2:])
    return {"seconds_a_call": call, "calls": contestant.native_calls, "seconds_for_64": call * contestant.native_calls}


def train(name: str, seconds: str) -> dict:
    """Train for that long; store the weights then, and after each of `MINUTES` on the way."""
    contestant = CONTESTANTS[name](data.load("auto", "train"), float(seconds))
    began, steps, left = time.perf_counter(), 0, sorted({*(60 * m for m in MINUTES), float(seconds)})
    for _ in contestant.steps:
        steps += 1
        while left and time.perf_counter() - began >= left[0]:
            _store(name, contestant, left.pop(0))
        if not left or left[0] > float(seconds):
            break
    else:  # ours knows its number of steps, and may be done a few seconds early
        _store(name, contestant, float(seconds))
    return {"steps": steps, "seconds": time.perf_counter() - began, "peak_MB": _peak()}


def _store(name: str, contestant: Contestant, seconds: float) -> None:
    contestant.refresh()
    checkpoint.save(_weights(name, seconds), checkpoint.prefixed("net", contestant.sampled.state_dict()), {})


def _weights(name: str, seconds: float) -> Path:
    return WEIGHTS / f"{name.split(':')[0]}_{seconds:g}.safetensors"


def _restored(name: str, seconds: str) -> Contestant:
    contestant = CONTESTANTS[name](data.load("embedded", "train"))
    next(contestant.steps)
    tensors, _ = checkpoint.load(_weights(name, float(seconds)))
    contestant.sampled.load_state_dict(checkpoint.part(tensors, "net"))
    contestant.sampled.eval()
    return contestant


@torch.no_grad()
def judge(name: str, seconds: str) -> dict:
    """2,000 samples by 25 steps of DDIM, the same for all."""
    began = time.perf_counter()
    found = evaluate.report(_restored(name, seconds).ddim(COUNT))
    return {key: value for key, value in found.items() if key != "class_shares"} | {
        "seconds": time.perf_counter() - began
    }


@torch.no_grad()
def native(name: str, seconds: str) -> dict:
    """Samples by the contestant's own sampler, 64 at a time."""
    contestant, parts, times = _restored(name, seconds), [], []
    for seed in range(NATIVE // 64):
        began = time.perf_counter()
        parts.append(contestant.native(64, seed))
        times.append(time.perf_counter() - began)
    found = evaluate.report(torch.cat(parts))
    return {key: value for key, value in found.items() if key != "class_shares"} | {
        "seconds_for_64": statistics.median(times),
        "native": contestant.native_about,
    }


def _peak() -> float:
    """The largest memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if platform.system() == "Linux" else 1024**2)


WORK: dict[str, Callable[..., dict]] = {
    "train-speed": train_speed,
    "call-speed": call_speed,
    "train": train,
    "judge": judge,
    "native": native,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "full", *WORK])
    parser.add_argument("arguments", nargs="*")
    options = parser.parse_args()
    if options.what in WORK:
        print(json.dumps(WORK[options.what](*options.arguments)))
        return
    print(machine())
    {"speed": speed, "full": full}[options.what]()
    print(f"all in {RESULTS}; python docs/make_benchmarks.py writes docs/benchmarks.md from it")


if __name__ == "__main__":
    main()
