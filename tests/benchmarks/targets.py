"""Which target, schedule and network measure best after the same few minutes of training?

    python tests/benchmarks/targets.py --steps 500 --count 1000 --out build/targets.json

Each candidate trains from one seed on the full data, alone on the machine; samples come from 50 strided DDPM steps.
The deeper network gets as many steps as fit into the time that the first candidate took.  What the output file
holds already is not measured again, so an interrupted run goes on.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

import torch

from tutorial_lib import data, evaluate, sample, train
from tutorial_lib.schedule import named
from tutorial_lib.unet import UNet, UNetConfig

CANDIDATES = [
    ("v", "cosine", 1),
    ("eps", "linear", 1),
    ("v", "cosine", 2),
    ("eps", "cosine", 1),
    ("v", "linear", 1),
]


def measure(images, target: str, schedule: str, blocks: int, steps: int, minutes: float | None, count: int) -> dict:
    """Train one candidate, sample from its averaged weights and judge the samples."""
    torch.manual_seed(0)
    model, config = UNet(UNetConfig(blocks=blocks)), train.TrainConfig(steps=steps, target=target, schedule=schedule)
    began = time.perf_counter()
    for last in train.train(model, images, config, minutes=minutes):
        pass
    seconds = time.perf_counter() - began
    noise = torch.Generator().manual_seed(0)
    tables, pixels = named(schedule, config.T), []
    for part in sample.start(count, (1, 28, 28), noise).split(250):
        pixels.append(data.to_pixels(sample.final(sample.ddpm(last.ema_model, tables, part, noise, target, steps=50))))
    report = evaluate.report(torch.cat(pixels))
    return {"config": asdict(last.config), "blocks": blocks, "seconds": round(seconds), "steps": last.step} | report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("build/targets.json"))
    options = parser.parse_args()
    images = data.load("auto")
    results = json.loads(options.out.read_text()) if options.out.exists() else []
    done = {(r["config"]["target"], r["config"]["schedule"], r["blocks"]) for r in results}
    for target, schedule, blocks in CANDIDATES:
        if (target, schedule, blocks) in done:
            continue
        minutes = results[0]["seconds"] / 60 if blocks > 1 else None
        results.append(measure(images, target, schedule, blocks, options.steps, minutes, options.count))
        got = results[-1]
        print(f"{target:>4} {schedule:<7} blocks {blocks}: {got['steps']} steps in {got['seconds']} s, "
              f"distance {got['feature_distance']:.1f} (floor {got['floor']:.2f})", flush=True)  # fmt: skip
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
