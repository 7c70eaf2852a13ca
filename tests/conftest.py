"""What the tests share: tiny networks, tiny images, files made of synthetic pixels.  Nothing here
needs a network.
"""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before `datasets` is imported by anybody
os.environ["TUTORIAL_LIB_QUIET"] = "1"

import gzip
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import matplotlib
import pytest
import torch

from tutorial_lib.data import Images
from tutorial_lib.diffusion import q_posterior
from tutorial_lib.nets.unet import UNetConfig
from tutorial_lib.schedule import NoiseSchedule, linear

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background work ignores Ctrl-C,
    signal.signal(signal.SIGINT, signal.default_int_handler)  # and what it starts does, too
torch.set_num_threads(1)
matplotlib.use("Agg")  # nothing opens a window
hypothesis.settings.register_profile("small", max_examples=25, deadline=None, derandomize=True)
hypothesis.settings.load_profile("small")

ROOT = Path(__file__).parent.parent
# The tests that take longest, the longest first: each of these files is one piece of work.
LONG = (
    "test_grading.py",
    "test_judge.py",
    "test_cli.py",
    "test_cli_train.py",
    "test_mutations.py",
    "test_widgets.py",
    "test_bring_your_own.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, and of the notebooks the last: what is left when one of several workers
    has nothing more to do is then short.
    """

    def place(item: pytest.Item) -> tuple:
        if item.path.name in LONG:
            return 0, LONG.index(item.path.name)
        if item.path.parent.name == "notebooks":
            return 1, -int(item.path.name[:2])
        return (2,)

    items.sort(key=place)


def is_lesson(path: Path) -> bool:
    """Whether a notebook is a lesson of full length.

    That is neither the overview, 00, nor the errata lab, 19, nor one that goes deeper, as 04b does.
    """
    number = path.name.partition("_")[0]
    return number.isdigit() and number not in ("00", "19")


@pytest.fixture(autouse=True, scope="module")
def no_window() -> Iterator[None]:
    """The processes that tests start open none either.  Notebooks that are checked beside these
    tests are not in a module: their kernels draw in cells, as usual.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLBACKEND", "Agg")
        yield


@pytest.fixture
def generator() -> torch.Generator:
    """Randomness that is the same in every run."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def schedule() -> NoiseSchedule:
    """A short schedule that ends in noise: 100 steps that destroy as much as 1000 do."""
    return linear(100, rescaled=True)


@pytest.fixture
def tiny() -> UNetConfig:
    """The smallest U-Net of interest."""
    return UNetConfig(image_size=8, widths=(8,), patch=2, blocks=1, heads=2, groups=4)


@pytest.fixture
def tiny_images(generator) -> Images:
    """Ten grey images of 8 x 8 random pixels."""
    pixels = torch.randint(0, 256, (10, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return Images(pixels, torch.arange(10), "ten random images")


def best(
    schedule: NoiseSchedule, target: str, mean: float = 0.5, std: float = 0.3
) -> Callable[..., torch.Tensor]:
    """The network that knows: for data N(mean, std^2) E[x_0 | x_t] is linear in x_t, and so is
    every other target.
    """

    def network(x_t, t):
        ab = schedule.alpha_bar[t].to(x_t).view(-1, *[1] * (x_t.ndim - 1))
        x_0 = mean + ab.sqrt() * std**2 / (ab * std**2 + 1 - ab) * (x_t - ab.sqrt() * mean)
        if target == "x_0":
            return x_0
        if target == "mu":
            return q_posterior(schedule, x_0, x_t, t)[0]
        eps = (x_t - ab.sqrt() * x_0) / (1 - ab).sqrt()
        return {"eps": eps, "v": ab.sqrt() * eps - (1 - ab).sqrt() * x_0}[target]

    return network


def idx_bytes(array: torch.Tensor) -> bytes:
    """The IDX encoding of unsigned bytes, as its specification says it."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + bytes(
        array.flatten().tolist()
    )


@pytest.fixture
def write_idx() -> Callable[..., Path]:
    """A function that writes one split of a folder of IDX files, plain or gzipped."""

    def write(folder: Path, pixels, labels, prefix: str = "train", gz: bool = False) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, array in (
            (f"{prefix}-images-idx3-ubyte", pixels),
            (f"{prefix}-labels-idx1-ubyte", labels),
        ):
            content = idx_bytes(array)
            (folder / (name + ".gz" * gz)).write_bytes(gzip.compress(content) if gz else content)
        return folder

    return write


@pytest.fixture
def idx_folder(tmp_path, generator, write_idx) -> Path:
    """A folder with IDX files of 12 training and 5 test images, 8 x 8."""
    for prefix, count in (("train", 12), ("t10k", 5)):
        pixels = torch.randint(0, 256, (count, 8, 8), generator=generator, dtype=torch.uint8)
        labels = torch.randint(0, 10, (count,), generator=generator, dtype=torch.uint8)
        write_idx(tmp_path / "idx", pixels, labels, prefix)
    return tmp_path / "idx"


@pytest.fixture
def their_t() -> Callable[[torch.Tensor | int], torch.Tensor | int]:
    """Our step number, 1..T, to that of a library that counts from 0: the one place where indices
    shift.
    """
    return lambda t: t - 1
