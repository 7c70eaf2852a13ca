"""The figures of the front door: loading, batches, GIFs, training and sampling speed, memory.

    python tests/benchmarks/measures.py

Times are medians of some repetitions on an idle machine; what starts Python is timed in a process
of its own.
"""

import json
import pkgutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from common import BATCH, median_seconds

import tutorial_lib
from tutorial_lib import data, sample, train
from tutorial_lib.config import DiffusionConfig
from tutorial_lib.course import animation
from tutorial_lib.nets.shapes import count_parameters
from tutorial_lib.nets.unet import UNet, UNetConfig
from tutorial_lib.schedule import cosine, same_t


def timed(code: str) -> tuple[float, float]:
    """Run code in a fresh interpreter: seconds, and the peak of memory in MB."""
    began = time.perf_counter()
    report = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    command = [sys.executable, "-c", f"{code}\n{report}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return time.perf_counter() - began, int(done.stdout.split()[-1]) / 1024


def python(code: str) -> tuple[float, float]:
    """Median seconds of 3 runs, after one that warms the disk's cache; their peak memory, MB."""
    times, peaks = zip(*(timed(code) for _ in range(4)), strict=True)
    return statistics.median(times[1:]), max(peaks)


def loading() -> dict[str, float]:
    """Data, with everything it imports; the bare import of torch beside it."""
    found = {}
    modules = [
        module.name for module in pkgutil.walk_packages(tutorial_lib.__path__, "tutorial_lib.")
    ]
    modules.remove("tutorial_lib.__main__")
    alone, more = "import torch", f"import torch, {', '.join(modules)}"
    pairs = [(timed(alone)[0], timed(more)[0]) for _ in range(6)]  # in turns
    _, *pairs = pairs  # the first pair warms the cache
    found["import torch, s"] = statistics.median(torch_alone for torch_alone, _ in pairs)
    what = "import of all modules of tutorial_lib on top of torch, s (the median of five pairs)"
    found[what] = statistics.median(everything - torch_alone for torch_alone, everything in pairs)
    load = "from tutorial_lib import data; data.load({!r})"
    seconds, peak = python(load.format("embedded"))
    found |= {"embedded data with all imports, s": seconds, "embedded data, peak memory, MB": peak}
    folder = next((folder for folder in data.IDX_FOLDERS if folder.is_dir()), None)
    if folder:
        seconds, peak = python(load.format(str(folder)))
        found |= {"full IDX set with all imports, s": seconds}
        found |= {"full IDX set, peak memory, MB": peak}
    images = data.load("embedded")
    chosen = torch.randint(0, len(images), (BATCH,))
    seconds = median_seconds(lambda: data.batch(images, chosen), 200)
    found[f"a batch of {BATCH}, ms"] = 1000 * seconds
    return found


def gifs() -> dict[str, float]:
    """Time and size of GIFs of real images that dissolve into noise over 40 frames."""
    found, schedule = {}, cosine(1000)
    for count in (16, 64):
        x_0 = data.to_model(data.load("embedded").pixels[:count])
        eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(0))
        moments = [round(1000 * (40 - k) / 40) for k in range(40)]
        signal, noise = schedule.alpha_bar.sqrt(), (1 - schedule.alpha_bar).sqrt()
        frames = [float(signal[t]) * x_0 + float(noise[t]) * eps for t in moments]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.gif"
            seconds = median_seconds(lambda p=path, f=frames: animation.gif(f, p))
            found[f"GIF of {count} images x 40 frames, s"] = seconds
            found[f"GIF of {count} images x 40 frames, kB"] = path.stat().st_size / 1000
    return found


def network() -> dict[str, float]:
    """Training throughput of the default network, and the time of one call of it on 64 images."""
    model, config = UNet(UNetConfig()), DiffusionConfig(steps=40, report_every=20)
    learning = train.algorithm_1(data.load("embedded"), config)
    for report in train.train(model, *learning, config, device="cpu"):
        rate = report.images_per_second  # of the last report
    model.eval()
    x_T = sample.start(64, (1, 28, 28), generator=torch.Generator().manual_seed(0))
    t = same_t(500, 64)
    with torch.no_grad():
        call = median_seconds(lambda: model(x_T, t))
    return {
        "parameters": count_parameters(model),
        f"training, images/s (batch {BATCH}, best precision)": rate,
        "one call on 64 images, ms (float32)": 1000 * call,
    }


def main() -> None:
    found = loading() | gifs() | network()
    for name, value in found.items():
        print(f"{name:<50} {value if isinstance(value, str | int) else f'{value:.3g}'}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
