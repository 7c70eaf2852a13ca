"""The command line at a desk like any other: pipes, old terminals, Ctrl-C, programs that read it,
and what one does with a finished run.
"""

import contextlib
import importlib.metadata
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

from tutorial_lib import checkpoint, cli
from tutorial_lib.cli import COMMANDS, COMPUTING, sampling
from tutorial_lib.nets.unet import restore


def command(text: str, **options) -> list[str]:
    """A command line: `out=path` stands for `--out path`; what computes does so on the CPU."""
    named = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    where = ["--device", "cpu"] if text.split()[0] in COMPUTING else []
    return [*shlex.split(text), *named, *where]


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | more


def program(words: list[str], cwd: Path, **more: str) -> subprocess.CompletedProcess:
    start = [sys.executable, "-m", "tutorial_lib", *words]
    return subprocess.run(start, cwd=cwd, env=environment(**more), capture_output=True, timeout=200)


def shell(line: str, cwd: Path) -> subprocess.CompletedProcess:
    """Run a line of bash, in which `$TL` is the program; the exit code is that of its last pipe's
    first command.
    """
    tl = shlex.join([sys.executable, "-m", "tutorial_lib"])
    line = f"{line.replace('$TL', tl)}; exit ${{PIPESTATUS[0]}}"
    options = {"cwd": cwd, "env": environment(), "capture_output": True, "text": True}
    return subprocess.run(["bash", "-c", line], timeout=200, **options)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A short run on five grey images of 8 x 8 pixels, in a folder that many a terminal lacks."""
    folder = tmp_path_factory.mktemp("desk") / "猫"
    (folder / "grey").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)
    for i, one in enumerate(pixels):
        Image.fromarray(one).save(folder / "grey" / f"{i}.png")
    words = command("train --batch 4 --steps 3", data=folder / "grey", out=folder / "run")
    assert cli.main(words) == 0
    return folder / "run"


# --- no message stops the work


class Terminal(io.TextIOWrapper):
    """A stream that somebody watches, of a given encoding."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_terminal_that_lacks_a_letter(run, tmp_path, monkeypatch, encoding):
    """The work is done, under a progress bar, and what is lacking is written as its number."""
    for name in ("TUTORIAL_LIB_QUIET", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(run.parent)

    def said(words: list[str]) -> tuple[int, str, str]:
        streams = [Terminal(io.BytesIO(), encoding=encoding) for _ in range(2)]
        with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
            code = cli.main(words)
        return code, *(stream.buffer.getvalue().decode(encoding) for stream in streams)

    code, out, err = said(command("train --batch 4 --steps 2", data="grey", out=tmp_path / "猫"))
    assert code == 0 and r"\u732b" in out and "2/2" in err
    assert checkpoint.load(tmp_path / "猫")[1]["step"] == 2
    picture = tmp_path / "猫.png"
    code, out, _ = said(command("sample --steps 2 --count 2", weights="run", out=picture))
    assert code == 0 and r"\u732b.png" in out and picture.exists()
    code, out, err = said(command("sample", weights="鼠", out="a.png"))
    assert code == 2 and err.startswith(r"error: no weights at \u9f20")


def test_an_old_terminal_and_a_real_program(run):
    folder = run.parent
    words = command("sample --steps 2 --count 2", weights="run", out="猫.png")
    done = program(words, folder, PYTHONIOENCODING="cp1252")
    assert done.returncode == 0 and done.stderr == b""
    assert rb"\u732b.png" in done.stdout and (folder / "猫.png").exists()


@pytest.mark.skipif(os.name == "nt", reason="pipes of a POSIX shell")
def test_a_reader_that_leaves_and_streams_that_are_closed(tmp_path):
    done = shell("$TL weights | head -1", tmp_path)
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"{min(checkpoint.shipped())}: ")
    assert done.returncode in (0, 141) and done.stderr == ""
    done = shell("$TL info nowhere >&- 2>&-", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


@pytest.mark.skipif(os.name == "nt", reason="pipes of a POSIX system")
@pytest.mark.parametrize("words", [["info", "replay"], ["data"]])
def test_python_says_nothing_of_a_reader_that_has_gone_when_it_ends(tmp_path, words):
    """Nobody is there from the first word on.  What is left in the buffer is written once more as
    Python ends: that must not fail, or it says "Exception ignored ..." and exits with 120.
    """
    reader, writer = os.pipe()
    os.close(reader)
    start = [sys.executable, "-m", "tutorial_lib", *words]
    buffered = environment(PYTHONUNBUFFERED="")  # as Python is, whatever this machine sets
    try:
        done = subprocess.run(
            start, cwd=tmp_path, env=buffered, stdout=writer, stderr=subprocess.PIPE
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_streams_that_are_closed(run, tmp_path, monkeypatch):
    """As a program without a window has none (Windows' pythonw), or after >&-."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    words = command("sample --steps 2 --count 2", weights=run, out=tmp_path / "a.png")
    assert cli.main(words) == 0 and (tmp_path / "a.png").exists()
    assert cli.main(["info", "nowhere"]) == 2
    assert sys.stdout is None and sys.stderr is None


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell")
def test_the_work_goes_on_when_nobody_reads_any_more(run):
    """The reader leaves before the first word; what was asked for is there all the same."""
    folder = run.parent
    pipe = (
        "-u -m tutorial_lib sample --weights run --steps 2 --count 2 --device cpu --out unread.png"
    )
    done = shell(f"(sleep 1; {shlex.quote(sys.executable)} {pipe}) | true", folder)
    assert done.returncode == 141 and done.stderr == ""
    assert Image.open(folder / "unread.png").size == (8 + 2 + 8, 8)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
def test_a_full_disk_under_the_output(run, tmp_path, capsys, monkeypatch):
    """Nothing is lost but the words, and that is said."""
    words = command("sample --steps 2 --count 2", weights=run, out=tmp_path / "a.png")
    with open("/dev/full", "w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        assert cli.main(words) == 2
    assert (tmp_path / "a.png").exists()
    said = "error: could not write to the standard output: No space left on device\n"
    assert capsys.readouterr().err == said


def test_ctrl_c_stops_with_a_word(run, tmp_path, capsys, monkeypatch):
    """In each command that has no better answer to it, before and in the middle of its work."""

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    for name in sorted(COMMANDS.keys() - {"train"}):
        its = {"sample": "--out a.png", "info": "replay", "export": "replay --out a"}
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "load", interrupted)
            patch.setattr(cli.listing.sources, "available", interrupted)
            assert cli.main(command(f"{name} {its.get(name, '')}")) == 130
        assert capsys.readouterr() == ("", "stopped\n")
    monkeypatch.setitem(sampling.SAMPLERS, "ddpm", interrupted)
    words = command("sample --sampler ddpm", weights=run, out=tmp_path / "a.png")
    assert cli.main(words) == 130
    assert capsys.readouterr() == ("", "stopped\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_in_a_real_program(run, tmp_path):
    words = command("sample --sampler ddpm --count 4000", weights=run, out=tmp_path / "a.png")
    start = [sys.executable, "-m", "tutorial_lib", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(start, env=environment(), text=True, **pipes)
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)  # anywhere in its work: while it loads PyTorch, too
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and out == "" and err in ("", "stopped\n"), err
    assert not list(tmp_path.iterdir())


def test_a_bug_still_shows_where_it_is(monkeypatch):
    def broken(path):
        raise KeyError("a bug")

    monkeypatch.setattr(checkpoint, "load", broken)
    with pytest.raises(KeyError):
        cli.main(["weights"])


@pytest.mark.parametrize(
    "ask", [lambda: bytearray(2**62), lambda: np.zeros(2**55), lambda: torch.zeros(2**55)]
)
def test_too_little_memory_is_a_sentence(ask, capsys, monkeypatch):
    monkeypatch.setattr(checkpoint, "load", lambda path: ask())
    assert cli.main(["weights"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: this needs more memory than there is; ask for less at once")


def test_what_a_command_returns_is_the_exit_code(monkeypatch):
    for returned, code in ((None, 0), (0, 0), (143, 143)):
        monkeypatch.setitem(COMMANDS, "data", (lambda options, it=returned: it, cli.listing.add))
        COMMANDS["data"][0].__doc__ = "For a test."
        assert cli.main(["data"]) == code


# --- what it is called, and its options


def test_home_is_meant_by_its_sign_in_every_path(run, tmp_path, monkeypatch):
    """As in --out='~/x.png', where no shell replaces it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(run.parent))
    monkeypatch.setenv("USERPROFILE", str(run.parent))
    words = command("sample --steps 2 --count 2", weights="~/run", out="~/home.png")
    assert cli.main(words) == 0 and (run.parent / "home.png").exists()
    assert cli.main(command("train --batch 4 --steps 1", data="~/grey", out="~/other")) == 0
    assert checkpoint.find(run.parent / "other")
    assert cli.main(["export", "~/run", "--out", "~/exported"]) == 0
    assert cli.main(["info", "~/exported"]) == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("started_as", "said"),
    [
        ("/usr/bin/tutorial-lib", "usage: tutorial-lib weights"),
        ("C:/Scripts/tutorial-lib.exe", "usage: tutorial-lib weights"),
        ("/x/tutorial_lib/__main__.py", "usage: python -m tutorial_lib weights"),
    ],
)
def test_help_calls_the_program_as_it_was_started(started_as, said, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [started_as])
    with pytest.raises(SystemExit):
        cli.main(["weights", "--help"])
    assert capsys.readouterr().out.startswith(said)


def test_the_program_of_its_own_name_is_this_one(capsys, monkeypatch):
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (script,) = settings["project"]["scripts"].items()
    point = importlib.metadata.EntryPoint(*script, group="console_scripts")
    monkeypatch.setattr(sys, "argv", ["/usr/bin/tutorial-lib", "info", "nowhere"])
    assert script[0] == "tutorial-lib" and point.load()() == 2
    assert capsys.readouterr().err.startswith("error: no weights at nowhere")


def test_only_what_is_random_takes_a_seed(capsys):
    for name in COMMANDS:
        with pytest.raises(SystemExit):
            cli.main([name, "--help"])
        said = capsys.readouterr().out
        assert ("--seed" in said) == ("--device" in said) == (name in COMPUTING), name


# --- for other programs, and finished runs


def printed(capsys, *words: str) -> dict:
    """The one JSON document that a command prints, and nothing else beside it."""
    capsys.readouterr()
    assert cli.main([*words, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def test_json_says_what_the_text_says(capsys):
    found = {one["name"]: one for one in printed(capsys, "weights")["weights"]}
    assert found.keys() == checkpoint.shipped().keys()
    for name, path in checkpoint.shipped().items():
        tensors, configuration = checkpoint.load(path)
        assert found[name]["bytes"] == path.stat().st_size
        assert found[name]["numbers"] == sum(tensor.numel() for tensor in tensors.values())
        assert found[name]["configuration"] == configuration
    sources = {one["name"]: one for one in printed(capsys, "data")["sources"]}
    assert sources["embedded"]["splits"] == {
        "train": {"count": 10_000, "shape": [1, 28, 28], "classes": 10},
        "test": {"count": 2_000, "shape": [1, 28, 28], "classes": 10},
    }


def test_a_split_that_is_missing_is_listed_as_such(capsys, monkeypatch, idx_folder):
    """And does not end the list."""
    for path in idx_folder.glob("t10k-*"):
        path.unlink()
    monkeypatch.setattr(cli.listing.sources, "IDX_FOLDERS", (idx_folder,))
    found = {one["name"]: one["splits"] for one in printed(capsys, "data")["sources"]}
    assert found[str(idx_folder)]["train"] == {"count": 12, "shape": [1, 8, 8], "classes": 7}
    assert found[str(idx_folder)]["test"].keys() == {"missing"}
    assert cli.main(["data"]) == 0
    assert "  test  none: " in capsys.readouterr().out


def test_info_shows_a_run(run, capsys):
    configuration = checkpoint.load(run)[1]
    found = printed(capsys, "info", str(run))
    assert found["configuration"] == configuration and configuration["step"] == 3
    assert found["parts"].keys() == {"model", "ema", "adam", "muon"}
    assert sum(part["numbers"] for part in found["parts"].values()) == found["numbers"]
    assert found["parts"]["ema"]["dtypes"] == ["float32"]
    assert cli.main(["info", str(run)]) == 0
    said = capsys.readouterr().out
    assert "can be sampled from: yes" in said and "can be resumed: yes" in said
    assert "  step: 3" in said and '"batch": 4' in said and "5 grey images" in said


def spoilt(run: Path, folder: Path, kind: str) -> Path:
    """A folder like that of a run, in which something else lies."""
    tensors, configuration = checkpoint.load(run)
    if kind == "no model":
        del configuration["model"]
    elif kind == "no record":
        del configuration["train"]
    elif kind == "no target":
        del configuration["train"]["target"]
    elif kind == "no optimiser":
        tensors = {n: t for n, t in tensors.items() if n.split(".")[0] in ("model", "ema")}
    elif kind == "averaged":
        tensors = {n: t for n, t in tensors.items() if n.startswith("ema.")}
    elif kind == "another network":
        configuration["model"]["widths"] = [8, 8]
    elif kind == "classifier":
        tensors, configuration = checkpoint.load("classifier")
    checkpoint.save(folder / checkpoint.FILE, tensors, configuration)
    return folder


@pytest.mark.parametrize(
    "kind",
    ["whole", "no model", "no target", "no optimiser", "averaged", "another network", "classifier"],
)
def test_info_knows_what_can_be_done(run, tmp_path, capsys, kind):
    """What it says of a file is what comes true when it is tried."""
    folder = spoilt(run, tmp_path / kind, kind)
    found = printed(capsys, "info", str(folder))
    assert ("because" in found["sample"]) != found["sample"]["possible"]
    words = command("sample --steps 1 --count 1", weights=folder, out=tmp_path / "a.npy")
    assert (cli.main(words) == 0) == found["sample"]["possible"]
    if kind in ("whole", "no model", "averaged", "classifier"):
        resume = command("train --resume --steps 4", data=run.parent / "grey", out=folder)
        assert (cli.main(resume) == 0) == found["resume"]["possible"] == (kind == "whole")
    assert found["resume"]["possible"] or "because" in found["resume"]


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("name", ["weights.safetensors", "folder"])
def test_an_export_is_the_averaged_weights_alone(run, tmp_path, capsys, name, half):
    out = tmp_path / "new" / name
    words = ["export", str(run), "--out", str(out), *(["--half"] if half else [])]
    assert cli.main(words) == 0
    tensors, configuration = checkpoint.load(out)
    whole, its_configuration = checkpoint.load(run)
    images = its_configuration["images"] | {"source": "grey"}  # no folders of this machine
    assert configuration == its_configuration | {"data": "grey: 5 grey images", "images": images}
    assert out.name != "folder" or "# A diffusion model of grey" in (out / "README.md").read_text()
    assert {name.split(".")[0] for name in tensors} == {"ema"}
    assert {tensor.dtype for tensor in tensors.values()} == {
        torch.float16 if half else torch.float32
    }
    ours, theirs = restore(tensors, configuration), restore(whole, its_configuration)
    for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b.half().float() if half else b, rtol=0, atol=0)
    size = checkpoint.find(out).stat().st_size
    assert size < checkpoint.find(run).stat().st_size * (0.2 if half else 0.4)
    drawn = command("sample --steps 2 --count 2", weights=out, out=tmp_path / "a.npy")
    assert cli.main(drawn) == 0
    capsys.readouterr()
    assert cli.main(words) == 2, "and it does not overwrite"
    assert "is there already; choose another place" in capsys.readouterr().err


def test_too_few_test_images_are_said_before_anything_is_drawn(run, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "split"
    for split, count in (("train", 3), ("test", 1)):
        (folder / split).mkdir(parents=True)
        for i in range(count):
            (folder / split / f"{i}.png").write_bytes(
                (run.parent / "grey" / f"{i}.png").read_bytes()
            )
    monkeypatch.setattr(sampling.Sampling, "draw", lambda *_, **__: pytest.fail("too late"))
    words = command("evaluate --metrics copies,bpd --count 2", weights=run, data=folder)
    assert cli.main(words) == 2
    assert "bpd needs at least 2 test images" in capsys.readouterr().err


def test_what_an_export_refuses(run, tmp_path, capsys):
    def refused(*words: str) -> str:
        capsys.readouterr()
        assert cli.main(["export", *words]) == 2
        return capsys.readouterr().err

    before = checkpoint.find(run).read_bytes()
    assert "is there already" in refused(str(run), "--out", str(run))
    assert checkpoint.find(run).read_bytes() == before
    assert "no tensors named ema.*" in refused("classifier", "--out", str(tmp_path / "a"))
    assert "no weights at" in refused("nowhere", "--out", str(tmp_path / "a"))
    tensors, configuration = checkpoint.load(run)
    large = {name: torch.full_like(tensor, 1e6) for name, tensor in tensors.items()}
    checkpoint.save(tmp_path / "large.safetensors", large, configuration)
    message = refused(str(tmp_path / "large.safetensors"), "--half", "--out", str(tmp_path / "a"))
    assert "do not fit into 16 bits; leave out --half" in message
    assert not (tmp_path / "a").exists()
