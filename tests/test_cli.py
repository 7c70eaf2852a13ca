"""The command line: what it writes, and one clear sentence for everything it cannot do."""

import errno
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from safetensors.torch import save_file

import tutorial_lib
from tutorial_lib import checkpoint, data, files
from tutorial_lib.cli import main
from tutorial_lib.nets.unet import UNetConfig

FEW = ["--batch", "4", "--steps", "3", "--report-every", "1", "--device", "cpu"]


def cli(*arguments) -> int:
    return main([str(argument) for argument in arguments])


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """What is the same in all tests and slow to make: folders of images, and runs trained on them."""
    folder = tmp_path_factory.mktemp("small")
    generator = np.random.default_rng(0)
    for name, shape in (
        ("grey", (8, 8)),
        ("colour", (8, 8, 3)),
        ("odd", (9, 9)),
        ("wide", (8, 12)),
    ):
        (folder / name).mkdir()
        for i in range(5):
            Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8)).save(
                folder / name / f"{i}.png"
            )
    (folder / "mixed").mkdir()
    for i in (8, 10):
        Image.fromarray(np.zeros((i, i), np.uint8)).save(folder / "mixed" / f"{i}.png")
    for name in ("grey", "colour"):
        assert cli("train", "--data", folder / name, "--out", folder / f"{name}_run", *FEW) == 0
    return folder


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refused(capsys, *arguments) -> str:
    """Run something that cannot work; the one sentence that it says."""
    capsys.readouterr()
    assert cli(*arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ") and len(lines[0]) > 20
    return lines[0]


def test_training_writes_a_checkpoint_and_its_losses(small):
    tensors, configuration = checkpoint.load(small / "grey_run")
    assert configuration["step"] == 3 and configuration["train"]["batch"] == 4
    assert configuration["model"]["image_size"] == 8 and configuration["model"]["channels"] == 1
    assert "5 grey images" in configuration["data"]
    assert {name.split(".")[0] for name in tensors} == {"model", "ema", "adam", "muon"}
    rows = (small / "grey_run" / "loss.csv").read_text().splitlines()
    assert rows[0] == "step,loss" and [row.split(",")[0] for row in rows[1:]] == ["1", "2", "3"]
    assert all(0 < float(row.split(",")[1]) < 10 for row in rows[1:])


def test_training_on_embedded_images(tmp_path, capsys):
    assert (
        cli(
            "train",
            "--data",
            "embedded",
            "--out",
            tmp_path,
            "--batch",
            2,
            "--steps",
            1,
            "--device",
            "cpu",
        )
        == 0
    )
    out = capsys.readouterr().out
    assert "10,000 train images" in out and "done at step 1 of 1" in out
    assert checkpoint.load(tmp_path)[1]["model"]["image_size"] == 28


def test_every_field_of_the_configuration_is_an_option(small, tmp_path):
    given = {
        "lr": 0.01, "lr_end": 0.001, "warmup": 1, "ema": 0.5, "clip": 0.3, "accumulation": 2, "precision": "no",
        "target": "eps", "loss": "l1", "schedule": "linear", "T": 1001, "save_every": 2, "flip": True,
        "optimizer": "adam", "lr_muon": 0.03, "momentum": 0.5, "t_sampling": "uniform",
    }  # fmt: skip
    options = [
        word for name, value in given.items()
        for word in ((f"--{name.replace('_', '-')}", value) if value is not True else ("--flip",))
    ]  # fmt: skip
    assert (
        cli("train", "--data", small / "grey", "--out", tmp_path, "--seed", 5, *FEW, *options) == 0
    )
    stored = checkpoint.load(tmp_path)[1]["train"]
    expected = given | {"steps": 3, "batch": 4, "report_every": 1, "seed": 5}
    assert stored == expected


def test_resuming_goes_on_where_it_stopped(small, tmp_path, capsys):
    """3 steps and 2 more leave what 5 leave (with a constant learning rate, which knows no end)."""
    steady = ["--data", small / "grey", "--batch", 4, "--warmup", 0, "--lr", 0.001, "--lr-end", 0.001,
              "--precision", "no", "--device", "cpu", "--seed", 1]  # fmt: skip
    assert cli("train", "--out", tmp_path / "a", "--steps", 5, *steady) == 0
    assert cli("train", "--out", tmp_path / "b", "--steps", 3, *steady) == 0
    torch.manual_seed(77)
    assert (
        cli(
            "train",
            "--out",
            tmp_path / "b",
            "--resume",
            "--steps",
            5,
            "--data",
            small / "grey",
            "--device",
            "cpu",
        )
        == 0
    )
    assert snapshot(tmp_path / "a") == snapshot(tmp_path / "b")
    capsys.readouterr()
    assert (
        cli(
            "train",
            "--out",
            tmp_path / "b",
            "--resume",
            "--data",
            small / "grey",
            "--device",
            "cpu",
        )
        == 0
    )
    assert "nothing left to do" in capsys.readouterr().out
    assert snapshot(tmp_path / "a") == snapshot(tmp_path / "b")


def test_training_for_some_time(small, tmp_path, capsys):
    options = ["--batch", 2, "--minutes", 0.0001, "--report-every", 1, "--device", "cpu"]
    assert cli("train", "--data", small / "grey", "--out", tmp_path, *options) == 0
    assert "done at step 20 of 20" in capsys.readouterr().out  # the first 20 are timed


@pytest.mark.parametrize("name", ["grey", "colour"])
def test_sampling_to_every_kind_of_file(small, tmp_path, name):
    common = [
        "--weights",
        small / f"{name}_run",
        "--steps",
        2,
        "--count",
        5,
        "--device",
        "cpu",
        "--out",
    ]
    channels = 3 if name == "colour" else 1
    assert cli("sample", *common, tmp_path / "a.npy") == 0
    pixels = np.load(tmp_path / "a.npy", allow_pickle=False)
    assert pixels.dtype == np.uint8 and pixels.shape == (
        (5, 8, 8) if channels == 1 else (5, 8, 8, 3)
    )
    assert cli("sample", *common, tmp_path / "a.PNG") == 0
    picture = np.asarray(Image.open(tmp_path / "a.PNG"))
    assert picture.shape[:2] == (2 * 8 + 2, 3 * 8 + 2 * 2)
    np.testing.assert_array_equal(picture[:8, :8], pixels[0])  # the same images, in a grid
    np.testing.assert_array_equal(picture[10:, 10:18], pixels[4])
    assert cli("sample", *common, tmp_path / "deeper" / "a.gif") == 0
    animation = Image.open(tmp_path / "deeper" / "a.gif")
    assert (
        animation.format == "GIF" and animation.n_frames == 3
    )  # noise, one moment between, the end
    assert sorted(os.listdir(tmp_path)) == ["a.PNG", "a.npy", "deeper"]


def test_a_gif_has_forty_frames_at_most(small, tmp_path):
    options = ["--weights", small / "grey_run", "--steps", 60, "--count", 1, "--device", "cpu"]
    assert cli("sample", *options, "--out", tmp_path / "a.gif") == 0
    assert Image.open(tmp_path / "a.gif").n_frames == 40


@pytest.mark.parametrize("ending", ["png", "gif", "npy"])
def test_one_seed_gives_identical_bytes(small, tmp_path, ending):
    def drawn(seed, name):
        options = [
            "--weights",
            small / "grey_run",
            "--steps",
            3,
            "--count",
            2,
            "--device",
            "cpu",
            "--seed",
            seed,
        ]
        assert cli("sample", *options, "--out", tmp_path / f"{name}.{ending}") == 0
        return (tmp_path / f"{name}.{ending}").read_bytes()

    once = drawn(4, "a")
    torch.manual_seed(123)
    assert drawn(4, "b") == once
    assert drawn(5, "c") != once


def test_more_images_than_fit_at_once(small, tmp_path, monkeypatch):
    monkeypatch.setattr(tutorial_lib.cli, "CHUNK", 2)
    options = ["--weights", small / "grey_run", "--steps", 2, "--count", 5, "--device", "cpu"]
    assert cli("sample", *options, "--out", tmp_path / "a.npy") == 0
    pixels = np.load(tmp_path / "a.npy")
    assert pixels.shape == (5, 8, 8) and len({image.tobytes() for image in pixels}) == 5


def test_data_lists_what_is_here(capsys, monkeypatch, idx_folder, tmp_path):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(tutorial_lib.data, "IDX_FOLDERS", (idx_folder,))
    assert cli("data") == 0
    lines = capsys.readouterr().out.splitlines()
    assert str(idx_folder) in lines[0] and "taken by auto" in lines[0]
    assert "train" in lines[1] and "12 images of 8 x 8" in lines[1]
    assert "10,000 images of 28 x 28 pixels, 10 classes" in lines[4] and " 2,000 images" in lines[5]
    assert "2 files match their checksums" in lines[-1]


def test_weights_lists_what_ships(capsys):
    assert cli("weights") == 0
    out = capsys.readouterr().out
    for name, path in checkpoint.shipped().items():
        assert f"{name}: {path.stat().st_size / 1e6:.1f} MB" in out
    assert "test_accuracy" in out and "recipe" in out


@pytest.fixture(scope="module")
def untrained(tmp_path_factory) -> Path:
    """A run of a single step on the embedded images: weights of the right shape that draw noise."""
    folder = tmp_path_factory.mktemp("untrained")
    assert (
        cli(
            "train",
            "--data",
            "embedded",
            "--out",
            folder,
            "--batch",
            2,
            "--steps",
            1,
            "--device",
            "cpu",
        )
        == 0
    )
    return folder


def test_evaluate_reports_distance_floor_and_shares(untrained, capsys):
    capsys.readouterr()
    assert (
        cli(
            "evaluate",
            "--weights",
            untrained,
            "--steps",
            2,
            "--count",
            12,
            "--device",
            "cpu",
            "--seed",
            3,
        )
        == 0
    )
    out = capsys.readouterr().out
    assert "12 samples (dpm++, 2 steps)" in out and "seed 3" in out
    assert "distance to 10,000 real images" in out and "the floor, 12 other real images" in out
    assert "95 % interval" in out and "bits" not in out and "nearest" not in out
    shares = [
        float(word.rstrip("%,"))
        for word in out[out.index("T-shirt") :].split()
        if word.rstrip(",").endswith("%")
    ]
    assert len(shares) == 10
    np.testing.assert_allclose(sum(shares), 100, atol=0.6)  # ten roundings of 0.05


def test_evaluate_with_all_metrics(untrained, capsys, monkeypatch):
    monkeypatch.setattr(
        data, "available", lambda: []
    )  # what "auto" takes then is the embedded subset
    assert cli(
        "evaluate", "--weights", untrained, "--sampler", "dpm++", "--steps", 2, "--count", 6, "--device", "cpu",
        "--metrics", "bpd, copies,fd",
    ) == 0  # fmt: skip
    out = capsys.readouterr().out
    assert "distance to 10,000 real images" in out
    assert "samples less than 1 away: 0" in out
    assert "bound on 6 test images" in out
    bound = float(out.split("bits per dimension:\n")[1].split()[0])
    assert 2 < bound < 50  # far from what a trained network reaches


def test_bits_alone_draw_no_samples(untrained, capsys):
    assert (
        cli("evaluate", "--weights", untrained, "--count", 4, "--metrics", "bpd", "--device", "cpu")
        == 0
    )
    out = capsys.readouterr().out
    assert "bits per dimension" in out and "samples" not in out


@pytest.mark.parametrize("sampler", ["ddim", "dpm++", "heun"])
def test_every_sampler_from_the_command_line(tmp_path, sampler):
    """Garments appear within ten steps: dark corners around something brighter, which 10 steps of
    ddpm show as well.
    """
    arguments = ["--sampler", sampler, "--steps", 10, "--count", 8, "--device", "cpu"]
    for name in ("a.npy", "b.npy"):
        assert cli("sample", *arguments, "--out", tmp_path / name) == 0
    pixels = np.load(tmp_path / "a.npy")
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    corners = pixels[:, [0, 0, -1, -1], [0, -1, 0, -1]].mean()
    assert corners < 30 < pixels[:, 8:20, 8:20].mean()


def test_the_fast_samplers_take_25_steps_unless_told_otherwise(untrained, tmp_path):
    common = [
        "sample",
        "--weights",
        untrained,
        "--sampler",
        "ddim",
        "--count",
        2,
        "--device",
        "cpu",
        "--out",
    ]
    assert cli(*common, tmp_path / "a.npy") == 0
    assert cli(*common, tmp_path / "b.npy", "--steps", 25) == 0
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_eta_adds_noise_that_the_seed_decides(tmp_path):
    drawn = {}
    for name, options in {
        "0": [], "0.0": ["--eta", 0], "1": ["--eta", 1], "again": ["--eta", 1],
    }.items():  # fmt: skip
        common = ["--sampler", "ddim", "--steps", 5, "--count", 2, "--device", "cpu"]
        assert cli("sample", *common, *options, "--out", tmp_path / f"{name}.npy") == 0
        drawn[name] = np.load(tmp_path / f"{name}.npy")
    assert (drawn["0"] == drawn["0.0"]).all() and (drawn["1"] == drawn["again"]).all()
    assert (drawn["0"] != drawn["1"]).any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data", "nowhere"], ["no data source 'nowhere'", "embedded"]),
        (["--data", "{empty}"], ["no IDX files and no images"]),
        (["--data", "{small}/odd"], ["image_size 9", "8 and 12"]),
        (["--data", "{small}/wide"], ["must be square", "--size"]),
        (["--data", "{small}/mixed"], ["2 different sizes", "--size"]),
        (["--data", "{small}/odd", "--size", "10"], ["image_size 10", "8 and 12"]),
        (["--data", "{small}/grey", "--size", "0"], ["size must be a positive"]),
        (["--steps", "0"], ["steps must be positive"]),
        (["--steps", "-2"], ["steps must be positive"]),
        (["--batch", "0"], ["batch must be positive"]),
        (["--minutes", "0"], ["minutes must be positive"]),
        (["--minutes", "-1"], ["minutes must be positive"]),
        (["--T", "0"], ["whole number of at least 1"]),
        (["--accumulation", "3"], ["3 equal pieces"]),
        (["--target", "noise"], ["unknown target", "eps, x_0, v, mu"]),
        (["--loss", "l3"], ["unknown loss", "l2, l1, huber"]),
        (["--schedule", "cosinus"], ["unknown schedule", "cosine"]),
        (["--precision", "int4"], ["unknown precision", "bf16"]),
        (["--device", "tpu"], ["unknown device 'tpu'", "cpu"]),
        (["--resume"], ["no weights at"]),
    ],
    ids=lambda value: (
        "_".join(value).replace("{", "").replace("}", "").replace("/", "_")[:30]
        if value[0].startswith("-")
        else ""
    ),
)
def test_training_refuses(small, tmp_path, capsys, options, words):
    (tmp_path / "empty").mkdir()
    filled = [option.format(small=small, empty=tmp_path / "empty") for option in options]
    if "--data" not in filled:
        filled += ["--data", str(small / "grey")]
    message = refused(capsys, "train", "--out", tmp_path / "out", *filled)
    for word in words:
        assert word in message
    assert not snapshot(tmp_path)


def test_training_refuses_damaged_idx(idx_folder, tmp_path, capsys):
    path = idx_folder / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-5])
    assert "is damaged" in refused(capsys, "train", "--data", idx_folder, "--out", tmp_path / "out")
    (idx_folder / "train-labels-idx1-ubyte").unlink()
    assert "no train-labels" in refused(
        capsys, "train", "--data", idx_folder, "--out", tmp_path / "out"
    )
    assert not (tmp_path / "out").exists()


def test_training_does_not_write_over_an_earlier_run(small, capsys):
    before = snapshot(small)
    message = refused(capsys, "train", "--data", small / "grey", "--out", small / "grey_run", *FEW)
    assert "already holds a run" in message and "--resume" in message
    for change in (["--lr", "0.5"], ["--target", "eps"]):
        message = refused(
            capsys,
            "train",
            "--data",
            small / "grey",
            "--out",
            small / "grey_run",
            "--resume",
            *change,
        )
        assert "was trained with" in message
    message = refused(
        capsys, "train", "--data", small / "colour", "--out", small / "grey_run", "--resume"
    )
    assert "weights of another network" in message
    assert snapshot(small) == before


def test_resuming_from_weights_without_a_training_state(tmp_path, capsys):
    (tmp_path / "checkpoint.safetensors").write_bytes(checkpoint.find("classifier").read_bytes())
    assert "nothing to resume" in refused(
        capsys, "train", "--out", tmp_path, "--resume", "--data", "embedded"
    )


def test_training_that_stops_being_a_number_keeps_the_last_good_checkpoint(small, tmp_path, capsys):
    """At a learning rate of 1e30 the output overflows at once; what was saved before it did is
    still there.
    """
    wild = [
        "--lr",
        "1e30",
        "--warmup",
        "0",
        "--steps",
        "50",
        "--batch",
        "4",
        "--save-every",
        "1",
        "--device",
        "cpu",
    ]
    message = refused(
        capsys, "train", "--data", small / "grey", "--out", tmp_path, "--precision", "no", *wild
    )
    assert (
        "the loss became nan at step " in message or "the loss became inf" in message
    ) and "last good checkpoint is kept" in message
    bad = int(message.split("at step ")[1].split(",")[0])
    assert checkpoint.load(tmp_path)[1]["step"] == bad - 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--sampler", "ddim-ish"], ["unknown sampler 'ddim-ish'", "ddpm"]),
        (["--device", "tpu"], ["unknown device", "cpu"]),
        (["--count", "0"], ["count must be at least 1"]),
        (["--count", "-5"], ["count must be at least 1"]),
        (["--steps", "0"], ["must lie in 1..1000"]),
        (["--steps", "-1"], ["must lie in 1..1000"]),
        (["--steps", "1001"], ["must lie in 1..1000"]),
        (["--sampler", "heun", "--steps", "1001"], ["must lie in 1..1000"]),
        (["--sampler", "ddim", "--eta", "1.5"], ["eta must lie in [0, 1]", "1.5"]),
        (["--sampler", "dpm++", "--eta", "0.5"], ["--eta is for --sampler ddim", "dpm++"]),
        (["--weights", "nowhere"], ["no weights at nowhere", "classifier"]),
        (["--weights", "classifier"], ["not a U-Net's"]),
    ],
    ids=lambda value: "_".join(value).strip("-") if value[0].startswith("-") else "",
)
@pytest.mark.parametrize("command", ["sample", "evaluate"])
def test_sampling_refuses(small, tmp_path, capsys, options, words, command):
    options = (
        options if "--weights" in options else [*options, "--weights", str(small / "grey_run")]
    )
    out = tmp_path / "a.png"
    out.write_bytes(b"earlier")
    message = refused(
        capsys, command, *options, *(["--out", str(out)] if command == "sample" else [])
    )
    for word in words:
        assert word in message
    assert snapshot(tmp_path) == {"a.png": b"earlier"}


def test_evaluate_refuses_before_it_samples(small, capsys):
    assert "count must be at least 2" in refused(
        capsys, "evaluate", "--weights", small / "grey_run", "--count", "1"
    )
    message = refused(capsys, "evaluate", "--weights", small / "grey_run", "--metrics", "fd,fid")
    assert "unknown metric 'fid'; choose some of fd, copies, bpd" in message
    message = refused(capsys, "evaluate", "--weights", small / "colour_run", "--count", "4")
    assert "draw (3, 8, 8); leave fd out" in message
    message = refused(
        capsys, "evaluate", "--weights", small / "colour_run", "--count", "4", "--metrics", "bpd"
    )
    assert "(3, 8, 8), but --data has" in message and "(1, 28, 28)" in message


def test_weights_of_other_pictures_are_judged_by_their_own(small, capsys):
    """Grey pictures of 8 x 8: no classifier, but copies and bits, from the folder that they were
    trained on.
    """
    arguments = [
        "--weights",
        small / "grey_run",
        "--steps",
        2,
        "--count",
        4,
        "--device",
        "cpu",
        "--data",
        small / "grey",
    ]
    capsys.readouterr()
    assert cli("evaluate", *arguments, "--metrics", "copies,bpd") == 0
    both = capsys.readouterr().out
    assert "nearest of 5 training images" in both and "bound on 4 test images" in both
    assert cli("evaluate", *arguments, "--metrics", "bpd") == 0
    alone = capsys.readouterr().out
    assert (
        alone.split("bound on")[1].splitlines()[:3] == both.split("bound on")[1].splitlines()[:3]
    )  # the same bits


@pytest.mark.parametrize("seed", ["-1", str(2**70)])
def test_a_seed_out_of_range(capsys, seed):
    assert "seed must lie in 0..2**63 - 1" in refused(capsys, "weights", "--seed", seed)


@pytest.mark.parametrize("name", ["a.jpg", "a", "a.npz"])
def test_unknown_file_endings_list_the_legal_ones(small, tmp_path, capsys, name):
    message = refused(capsys, "sample", "--weights", small / "grey_run", "--out", tmp_path / name)
    assert "--out must end in .png, .gif, .npy" in message
    assert not snapshot(tmp_path)


@pytest.mark.parametrize(
    "kind", ["truncated", "text", "empty", "foreign", "pickle", "torch", "mismatch", "no folder"]
)
def test_sampling_refuses_bad_weights(small, tmp_path, capsys, kind):
    path, out = tmp_path / "weights.safetensors", tmp_path / "a.npy"
    out.write_bytes(b"earlier")
    whole = checkpoint.find(small / "grey_run").read_bytes()
    tensors, configuration = checkpoint.load(small / "grey_run")
    if kind == "mismatch":
        configuration["model"]["widths"] = [32, 64]
        checkpoint.save(path, tensors, configuration)
    elif kind == "foreign":
        save_file({"a": torch.ones(2)}, path)
    elif kind == "torch":
        torch.save(tensors, path)
    elif kind == "no folder":
        path.mkdir()
    else:
        path.write_bytes(
            {"truncated": whole[:-9], "text": b"hello", "empty": b"", "pickle": pickle.dumps([1])}[
                kind
            ]
        )
    before = snapshot(tmp_path)
    message = refused(capsys, "sample", "--weights", path, "--steps", 2, "--out", out)
    expected = {"foreign": "not written by this package", "pickle": "is a pickle", "torch": "is a pickle",
                "mismatch": "do not fit their configuration", "no folder": "no weights at"}  # fmt: skip
    assert expected.get(kind, "truncated, damaged or of another format") in message
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("ending", ["png", "gif", "npy"])
def test_a_full_disk_and_an_unwritable_folder(small, tmp_path, capsys, monkeypatch, ending):
    out = tmp_path / f"a.{ending}"
    out.write_bytes(b"earlier")
    options = ["--weights", small / "grey_run", "--steps", 2, "--count", 2, "--device", "cpu"]
    message = refused(capsys, "sample", *options, "--out", out / f"in_a_file.{ending}")
    assert "could not write" in message
    assert snapshot(tmp_path) == {out.name: b"earlier"}

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "replace", full)
    assert "No space left" in refused(capsys, "sample", *options, "--out", out)
    assert "No space left" in refused(
        capsys, "train", "--data", small / "grey", "--out", tmp_path / "run", *FEW
    )
    assert snapshot(tmp_path) == {out.name: b"earlier"}


def test_out_is_a_folder(small, tmp_path, capsys):
    (tmp_path / "a.png").mkdir()
    assert "is a folder; give a file" in refused(
        capsys, "sample", "--weights", small / "grey_run", "--out", tmp_path / "a.png"
    )


def test_what_the_parser_refuses_exits_with_2(capsys):
    for arguments in (["sing"], ["sample"], ["train", "--out", "x", "--steps", "many"], []):
        with pytest.raises(SystemExit) as stop:
            cli(*arguments)
        assert stop.value.code == 2
        assert capsys.readouterr().err


def test_help_names_every_option(capsys):
    for command, words in {
        "train": ["--minutes", "--resume", "--no-flip", "--T"],
        "sample": [".npy", "--sampler"],
    }.items():
        with pytest.raises(SystemExit) as stop:
            cli(command, "--help")
        assert stop.value.code == 0
        out = capsys.readouterr().out
        assert all(word in out for word in [*words, "--seed", "--device"])


def test_as_a_program_from_any_folder(tmp_path):
    def program(*arguments):
        command = [sys.executable, "-m", "tutorial_lib", *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120
        )

    version = program("--version")
    assert version.returncode == 0 and version.stdout.strip() == tutorial_lib.__version__
    wrong = program("sample", "--out", "a.jpg")
    assert wrong.returncode == 2 and wrong.stdout == ""
    assert wrong.stderr.startswith("error: ") and len(wrong.stderr.splitlines()) == 1
    assert not snapshot(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to catch")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_run_can_be_resumed(small, tmp_path, number):
    arguments = ["train", "--data", small / "grey", "--out", tmp_path, "--batch", 2, "--steps", 100_000,
                 "--report-every", 1, "--save-every", 5, "--device", "cpu"]  # fmt: skip
    command = [sys.executable, "-m", "tutorial_lib", *map(str, arguments)]
    process = subprocess.Popen(
        command, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        began = time.monotonic()
        while not (tmp_path / "checkpoint.safetensors").exists() and time.monotonic() - began < 100:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.1)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0 and err == "", err  # and quiet, because nobody watches
    assert "stopped at step" in out and "saved in" in out
    step = checkpoint.load(tmp_path)[1]["step"]
    assert f"stopped at step {step} of 100000" in out and step >= 5
    assert len((tmp_path / "loss.csv").read_text().splitlines()) == step + 1
    resumed = [
        "train",
        "--data",
        small / "grey",
        "--out",
        tmp_path,
        "--resume",
        "--steps",
        step + 1,
        "--device",
        "cpu",
    ]
    assert cli(*resumed) == 0
    assert checkpoint.load(tmp_path)[1]["step"] == step + 1
    assert len((tmp_path / "loss.csv").read_text().splitlines()) == step + 2


def test_two_processes_follow_the_curve_of_one(small, tmp_path):
    options = [
        "--data",
        str(small / "grey"),
        "--steps",
        "4",
        "--batch",
        "4",
        "--precision",
        "no",
        "--device",
        "cpu",
    ]
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
    ]
    command = [*launcher, "-m", "tutorial_lib", "train", "--out", str(tmp_path / "two"), *options]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("done at step 4") == 1, "one process speaks for both"
    assert cli("train", "--out", tmp_path / "one", *options) == 0
    one, two = (
        np.loadtxt(tmp_path / name / "loss.csv", delimiter=",", skiprows=1)
        for name in ("one", "two")
    )
    assert one.shape == (4, 2)
    np.testing.assert_allclose(two, one, atol=1e-5)


def test_the_network_fits_the_images(small):
    configuration = checkpoint.load(small / "colour_run")[1]
    assert UNetConfig(**configuration["model"]) == UNetConfig(image_size=8, channels=3)
