"""docs/bring_your_own.md: each command and program on it runs, in the order of the page, and what
one reads of refusals is what it says.
"""

import contextlib
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import datasets
import huggingface_hub
import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from test_cli_train import Writer
from test_hub import Hub

from tutorial_lib import checkpoint, cli, data
from tutorial_lib.cli import COMPUTING
from tutorial_lib.nets.unet import UNet

PAGE = (ROOT / "docs" / "bring_your_own.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
LAUNCHERS = {
    "torchrun": [sys.executable, "-m", "torch.distributed.run", "--standalone"],
    "accelerate": [sys.executable, "-m", "accelerate.commands.accelerate_cli"],
}


def fewer(steps: str) -> str:
    """Fewer steps, and of two numbers the larger one stays the larger."""
    return str(int(steps) // 500 + 2)


def shortened(line: str) -> list[str]:
    """The words of a command, with less to do: of an option said twice the last one counts."""
    program, _, rest = line.partition(" -m tutorial_lib ")
    words = shlex.split(rest)
    if words[0] in COMPUTING:
        words += ["--device", "cpu"]
    if words[0] == "train":
        words += ["--batch", "4"]
        words += ["--minutes", "0.01"] if "--minutes" in words else []
        words += ["--steps", fewer(words[words.index("--steps") + 1])] if "--steps" in words else []
    elif words[0] in COMPUTING:
        words += ["--count", "4", "--steps", "3"]
    return [*shlex.split(program), *words]


def run(line: str) -> None:
    """One command of the page: here, or by a launcher in several processes."""
    program, *words = shortened(line)
    if program == "python":
        assert cli.main(words) == 0, line
        return
    start = words.index("train")
    launch = [*LAUNCHERS[program], *words[:start], "-m", "tutorial_lib", *words[start:]]
    done = subprocess.run(launch, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


@pytest.fixture
def outside(tmp_path, monkeypatch) -> None:
    """An empty folder, and stand-ins for what is not on this machine: the hub and TensorBoard."""
    from accelerate import tracking

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
    monkeypatch.setattr(Writer, "said", [], raising=False)
    board = SimpleNamespace(SummaryWriter=Writer)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", board)
    monkeypatch.setattr(tracking, "get_available_trackers", lambda: ["tensorboard"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_the_page_runs_from_its_top_to_its_end(outside, tmp_path):
    """Every block, with fewer steps; what a program prints is what the page shows below it."""
    assert {language for language, _ in BLOCKS} == {"python", "sh", "text"}
    scope: dict = {}
    printed = ""
    for language, text in BLOCKS:
        if language == "text":
            assert printed == text
        elif language == "sh":
            for line in text.splitlines():
                run(line)
        else:
            text = re.sub(r"\bsteps=(\d+)", lambda found: f"steps={fewer(found[1])}", text)
            text = re.sub(r"\bbatch=\d+", "batch=4", text)
            with contextlib.redirect_stdout(io.StringIO()) as output:
                exec(text, scope)
            printed = output.getvalue()
    for name in ("mine.gif", "by_hand.gif"):
        with Image.open(tmp_path / name) as film:
            assert film.is_animated, name
    assert list((tmp_path / "mine").glob("preview_*.png"))
    runs = {path.parent.name for path in tmp_path.glob(f"*/{checkpoint.FILE}")}
    assert runs > {
        *("mine", "again", "finer", "partly", "shared", "two", "by_hand", "by_class", "classes")
    }


def test_every_command_of_the_page_is_one_of_ours():
    lines = [line for language, text in BLOCKS if language == "sh" for line in text.splitlines()]
    assert len(lines) > 15
    for line in lines:
        assert " -m tutorial_lib " in line and line.split()[0] in ("python", *LAUNCHERS)


def test_programs_are_short_enough_to_be_read():
    for language, text in BLOCKS:
        if language == "python":
            assert max(map(len, text.splitlines())) <= 100


# --- what is refused


def a_picture(path: Path, width: int, height: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (width, height)).save(path)


def train_on_pictures() -> int:
    return cli.main(shlex.split("train --data pictures --steps 1 --out run --device cpu"))


def of_sizes(*sizes: tuple[int, int]) -> Callable[[], object]:
    def make() -> int:
        for number, size in enumerate(sizes * 2):
            a_picture(Path(f"pictures/{number}.png"), *size)
        return train_on_pictures()

    return make


def a_damaged_file() -> int:
    a_picture(Path("pictures/0.png"), 8, 8)
    Path("pictures/1.png").write_bytes(b"\x89PNG\r\n")
    return train_on_pictures()


def a_folder_without_pictures() -> int:
    Path("pictures").mkdir()
    return train_on_pictures()


def a_folder_that_holds_a_run() -> int:
    a_picture(Path("pictures/0.png"), 8, 8)
    checkpoint.save(f"run/{checkpoint.FILE}", {}, {})
    return train_on_pictures()


GREY = np.zeros((6, 8, 8), np.uint8)
MAKERS: dict[str, Callable[[], object]] = {
    "sizes that differ, without `--size`": of_sizes((8, 8), (8, 12)),
    "pictures of more than 512 pixels a side, without `--size`": of_sizes((520, 520)),
    "pictures that are not square, without `--size`": of_sizes((8, 12)),
    "a side that cannot be halved": of_sizes((10, 10)),
    "a damaged file": a_damaged_file,
    "a folder without pictures": a_folder_without_pictures,
    "pixels that are floats": lambda: data.images_from(GREY / 255),
    "numbers of shape (N, D)": lambda: data.images_from(GREY.reshape(6, 64)),
    "an array whose channels could be either axis": lambda: data.images_from(
        np.zeros((6, 3, 8, 3), np.uint8)
    ),
    "a `DataLoader`": lambda: data.images_from(torch.utils.data.DataLoader(list(GREY))),
    "a `DatasetDict`": lambda: data.images_from(
        datasets.DatasetDict(train=datasets.Dataset.from_dict({"image": [1]}))
    ),
    "labels on some pictures only": lambda: data.images_from([(GREY[0], 1), (GREY[1], None)]),
    "a folder that holds a run": a_folder_that_holds_a_run,
}
ROWS = re.findall(r"^\| (.*?) \| `(.*?)` \|", PAGE, re.MULTILINE)


def test_the_table_of_refusals_is_tried_in_full():
    assert {given for given, _ in ROWS} == MAKERS.keys()


@pytest.mark.parametrize(("given", "said"), ROWS, ids=[given[:24] for given, _ in ROWS])
def test_what_is_refused_and_what_one_reads(given, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        assert MAKERS[given]() == 2
        (line,) = capsys.readouterr().err.splitlines()
    except (ValueError, TypeError) as error:
        line = str(error)
    assert said in line


# --- what else the page says


def test_a_byte_for_each_pixel_and_channel():
    ten = data.images_from(np.zeros((10, 64, 64, 3), np.uint8))
    said = f"ten thousand in colour at 64 x 64 take {1000 * ten.pixels.nbytes / 1e6:.0f} MB"
    assert said in " ".join(PAGE.split())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_scripting_needs_a_trace_first(tiny):
    """As the page says: the source cannot be scripted, what was traced can, for any batch."""
    torch.manual_seed(0)
    network = UNet(tiny).eval()
    torch.nn.init.normal_(network.out.weight)
    with pytest.raises(Exception, match="keyword-only arguments"):
        torch.jit.script(network)
    scripted = torch.jit.script(torch.jit.trace(network, (torch.randn(2, 1, 8, 8), torch.ones(2))))
    x_t, t = torch.randn(5, 1, 8, 8), torch.arange(1, 6)
    torch.testing.assert_close(scripted(x_t, t), network(x_t, t))
