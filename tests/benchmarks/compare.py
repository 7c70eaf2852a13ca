"""Ours against what a reader would use instead, side by side on one machine.

    python tests/benchmarks/compare.py speed
        speed and memory, what each ingredient brings, costs: minutes
    python tests/benchmarks/compare.py full
        quality after equal time of training as well: hours, resumable
    python tests/benchmarks/compare.py more
        then what each ingredient brings to quality: another hour
    python tests/benchmarks/compare.py publish
        make these results the ones that ship with the package

Every measurement is a process of its own.  Whatever a clock decides has the machine to itself, and
speed is measured in turns (A B C D A B C D); what no clock decides runs side by side, each process
with a thread of its own.  `full` and `more` measure nothing again that build/benchmarks holds of
this machine, so that an interrupted run goes on where it was; `speed` begins afresh.  After a
change to a contestant or to the sampler, delete what it measured.  docs/benchmarks.md and notebook
05b are made from the results that ship.
"""

import argparse
import json
import platform
import resource
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ablation
import torch
from common import (
    BATCH,
    BY_ROW,
    DRAWN,
    PUBLISHED,
    drawn,
    kept,
    machine,
    median_seconds,
    process,
    write,
)
from contestants import CONTESTANTS, Contestant
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tutorial_lib import checkpoint, data, evaluate
from tutorial_lib.nets.shapes import count_parameters

FOLDER = Path("build/benchmarks")
RESULTS = FOLDER / "results.json"
ROUNDS = 2
TIMED = 10  # seconds of training steps that are timed at least, and no fewer than five steps
MINUTES = (5, 20)
OURS_TOO = (1, 2)  # how soon do ours reach what the others have after 20 minutes?
COUNT, NATIVE = 2000, 256
SAVING = threading.Lock()
QUICK = ("front door", "speed/", "calls/", "ablation speed", "cost")  # what `speed` measures


def measure(key: str, *command: str, threads: int | None = None) -> None:
    """Unless there is a result of that name: the last line that a process of its own prints."""
    if key in load():
        return
    print(f"{key} ...", flush=True)
    began = time.perf_counter()
    found = process(*command, threads=threads)
    with SAVING:
        save(load() | {key: found})
    print(f"{key}: {json.dumps(found)[:200]}  ({time.perf_counter() - began:.0f} s)", flush=True)


def side_by_side(works: list[tuple[str, ...]]) -> None:
    """Measure what no clock decides: as many processes at a time as threads, one thread each."""
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(lambda work: measure(*work, threads=1), works))


def load() -> dict:
    """All results so far of this machine."""
    stored = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return stored if stored.get("machine") == machine() else {"machine": machine()}


def save(stored: dict) -> None:
    """Write all results."""
    write(RESULTS, stored)


def speed() -> None:
    """Speed of all in turns, of one ingredient less, and of other sizes."""
    measure("front door", "measures.py")
    for number in range(ROUNDS):
        for name in CONTESTANTS:
            measure(f"speed/{name}/{number}", "compare.py", "train-speed", name)
    for name in CONTESTANTS:
        measure(f"calls/{name}", "compare.py", "call-speed", name)
    measure("ablation speed", "ablation.py", "speed")
    measure("cost", "cost.py")


def full() -> None:
    """Everything: quality at equal time, too."""
    speed()
    made_of_weights = ("training", "quality", "native", "native time")
    for name in CONTESTANTS:
        for m in _budgets(name):
            # perhaps cleaned away: then what was made of them goes, too
            if not _weights(name, 60 * m).exists():
                gone = {f"{kind}/{name}/{m}" for kind in made_of_weights}
                save({key: value for key, value in load().items() if key not in gone})
            measure(f"training/{name}/{m}", "compare.py", "train", name, str(60 * m))
    drawing = []
    for name in CONTESTANTS:
        drawing += [(name, m) for m in (MINUTES if name == "ours" else MINUTES[-1:])]
    for name, m in drawing:
        measure(f"native time/{name}/{m}", "compare.py", "native-time", name, str(60 * m))
    for name in CONTESTANTS:
        measure(f"other precision/{name}", "compare.py", "train-speed", name, "other")
    works = []
    for name, m in drawing:
        works.append((f"native/{name}/{m}", "compare.py", "native", name, str(60 * m)))
    for name in CONTESTANTS:
        for m in (*OURS_TOO, *MINUTES) if name == "ours" else MINUTES:
            works.append((f"quality/{name}/{m}", "compare.py", "judge", name, str(60 * m)))
    side_by_side(works)


def more() -> None:
    """What each ingredient brings to quality, too."""
    full()
    measure("compiled", "ablation.py", "compiled")
    for name in ablation.QUALITY:
        measure(f"ablation quality/{name}", "ablation.py", "quality", name)
    for seed in ablation.SEEDS:
        for name in ablation.STEPS:
            command = ("ablation.py", "quality", name, str(ablation.LONGER), str(seed))
            measure(f"longer/{name}/{seed}", *command)


def _budgets(name: str) -> tuple[int, ...]:
    """Minutes to train; a constant learning rate passes 5 on its way to 20, others start anew."""
    return {"ours": (*OURS_TOO, *MINUTES), "b: diffusers": MINUTES}.get(name, MINUTES[-1:])


# --- what runs in processes of its own; each prints one line of JSON


def train_speed(name: str, precision: str = "its own") -> dict:
    """Images a second over some steps after the first two, and the largest memory of the process.

    Ours in the batches that they learn from, the others in batches of 128.

    precision: "other" is float32 for ours, and for the others bfloat16 with channels last, as ours
        has it.
    """
    other, mine = precision == "other", name == "ours"
    options = {"precision": "no"} if other and mine else {}
    batch = BATCH if mine else 128
    contestant = CONTESTANTS[name](data.load("auto", "train"), batch=batch, **options)
    if other and not mine:
        contestant.network.to(memory_format=torch.channels_last)
    steps = 0
    with torch.autocast("cpu", torch.bfloat16, enabled=other and not mine):
        next(contestant.steps)
        next(contestant.steps)
        began = time.perf_counter()
        while steps < 5 or time.perf_counter() - began < TIMED:
            next(contestant.steps)
            steps += 1
    return {
        "images_per_second": batch * steps / (time.perf_counter() - began),
        "peak_MB": _peak(),
        "parameters": count_parameters(contestant.network),
        "about": contestant.about,
    }


def call_speed(name: str) -> dict:
    """Seconds of one call of the network on 64 images, and of all calls of the native sampler."""
    contestant = CONTESTANTS[name](data.load("embedded", "train"))
    next(contestant.steps)
    contestant.sampled.eval()
    x, t = torch.randn(64, 1, 28, 28), torch.full((64,), 5)
    with torch.no_grad():
        call = median_seconds(lambda: contestant.predict(x, t), 10, uncounted=2)
        with FlopCounterMode(display=False) as counted:
            contestant.predict(x[:1], t[:1])
    return {
        "seconds_a_call": call,
        "calls": contestant.native_calls,
        "seconds_for_64": call * contestant.native_calls,
        "GFLOP_an_image": counted.get_total_flops() / 1e9,
    }


def train(name: str, seconds: str) -> dict:
    """Train for that long, store the weights; at a constant rate after each of `MINUTES`, too."""
    contestant = CONTESTANTS[name](data.load("auto", "train"), float(seconds))
    stops = {float(seconds)}
    if not contestant.decays:
        stops |= {60.0 * minutes for minutes in MINUTES if 60 * minutes < float(seconds)}
    began, steps, left = time.perf_counter(), 0, sorted(stops)
    for _ in contestant.steps:
        steps += 1
        while left and time.perf_counter() - began >= left[0]:
            _store(name, contestant, left.pop(0))
        if not left:
            break
    else:  # ours knows its number of steps, and may be done a few seconds early
        _store(name, contestant, float(seconds))
    return {"steps": steps, "seconds": time.perf_counter() - began, "peak_MB": _peak()}


def _store(name: str, contestant: Contestant, seconds: float) -> None:
    contestant.refresh()
    tensors = checkpoint.prefixed("net", contestant.sampled.state_dict())
    checkpoint.save(_weights(name, seconds), tensors, {})


def _weights(name: str, seconds: float) -> Path:
    return FOLDER / f"{name.split(':')[0]}_{seconds:g}.safetensors"


def _restored(name: str, seconds: str) -> Contestant:
    contestant = CONTESTANTS[name](data.load("embedded", "train"))
    tensors, _ = checkpoint.load(_weights(name, float(seconds)))
    contestant.sampled.load_state_dict(checkpoint.part(tensors, "net"))
    contestant.sampled.eval()
    return contestant


def _unhurried(name: str, seconds: str) -> Contestant:
    """The same where no clock decides: channels last, the same pictures in less time."""
    contestant = _restored(name, seconds)
    contestant.sampled.to(memory_format=torch.channels_last)
    return contestant


def judge(name: str, seconds: str) -> dict:
    """2,000 samples by the same sampler for all: `DRAWN`."""
    contestant = _unhurried(name, seconds)
    images = drawn(contestant.predict, contestant.schedule, contestant.target, COUNT)
    return {"sampler": DRAWN} | _judged(images)


def native_time(name: str, seconds: str) -> dict:
    """Seconds for the first 64 samples by the contestant's own sampler, which stay in a file."""
    contestant = _restored(name, seconds)
    began = time.perf_counter()
    with torch.no_grad():
        images = contestant.native(64, 0)
    took = time.perf_counter() - began
    checkpoint.save(_samples(name, seconds), {"images": images}, {})
    return {"seconds_for_64": took, "native": contestant.native_about}


def _samples(name: str, seconds: str) -> Path:
    weights = _weights(name, float(seconds))
    return weights.with_stem(f"{weights.stem}_samples")


def native(name: str, seconds: str) -> dict:
    """Those 64 and as many more as make it 256, judged."""
    contestant = _unhurried(name, seconds)
    parts = [checkpoint.load(_samples(name, seconds))[0]["images"]]
    with torch.no_grad():
        parts += [contestant.native(64, seed) for seed in range(1, NATIVE // 64)]
    return _judged(torch.cat(parts))


def _judged(images: Tensor) -> dict:
    return {key: value for key, value in evaluate.report(images).items() if key != "class_shares"}


def _peak() -> float:
    """The largest memory of this process so far, MB."""
    units = 1024 if platform.system() == "Linux" else 1024**2  # in a MB: kB or bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / units


WORK: dict[str, Callable[..., dict]] = {
    "train-speed": train_speed,
    "call-speed": call_speed,
    "train": train,
    "judge": judge,
    "native-time": native_time,
    "native": native,
}


def publish() -> None:
    """Let the results ship, beside those that other programs measure row by row."""
    write(PUBLISHED, kept(RESULTS, *BY_ROW) | json.loads(RESULTS.read_text()))


def main() -> None:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("what", choices=["speed", "full", "more", "publish", *WORK])
    parser.add_argument("arguments", nargs="*")
    options = parser.parse_args()
    if options.what in WORK:
        print(json.dumps(WORK[options.what](*options.arguments)))
        return
    if options.what == "speed":
        save({key: value for key, value in load().items() if not key.startswith(QUICK)})
    {"speed": speed, "full": full, "more": more, "publish": publish}[options.what]()


if __name__ == "__main__":
    main()
