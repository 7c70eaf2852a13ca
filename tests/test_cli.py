"""The command line: what it writes, and one clear sentence for everything it cannot do."""

import errno
import os
import pickle
import shlex
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from safetensors.torch import save_file

import tutorial_lib
from tutorial_lib import checkpoint, data, files, sample
from tutorial_lib.beyond.guidance import guided
from tutorial_lib.beyond.milder import limited
from tutorial_lib.beyond.solvers import CHOSEN, dpm_solver, karras_tau
from tutorial_lib.cli import COMPUTING, main, sampling
from tutorial_lib.config import EARLIER
from tutorial_lib.denoise import denoiser, self_conditioned
from tutorial_lib.nets.unet import UNetConfig, restore
from tutorial_lib.schedule import named

FEW = "--batch 4 --steps 3 --report-every 1"


def words(command: str, **options) -> list[str]:
    """A command line: `out=path` stands for `--out path`, and all of it happens on the CPU."""
    named = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    chosen = "--device" in command or command.split()[0] not in COMPUTING
    return [*shlex.split(command), *named, *([] if chosen else ["--device", "cpu"])]


def cli(command: str, **options) -> int:
    return main(words(command, **options))


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """What is the same in all tests and slow to make: folders of images, and runs on them."""
    folder = tmp_path_factory.mktemp("small")
    generator = np.random.default_rng(0)
    shapes = {"grey": (8, 8), "colour": (8, 8, 3), "odd": (9, 9), "wide": (8, 12)}
    for name, shape in shapes.items():
        (folder / name).mkdir()
        for i in range(5):
            pixels = generator.integers(0, 256, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    (folder / "mixed").mkdir()
    for i in (8, 10):
        Image.fromarray(np.zeros((i, i), np.uint8)).save(folder / "mixed" / f"{i}.png")
    for name in ("hat", "Shoe"):
        shutil.copytree(folder / "grey", folder / "classes" / name)
    for name in ("grey", "colour"):
        assert cli(f"train {FEW}", data=folder / name, out=folder / f"{name}_run") == 0
    return folder


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "record.json"  # times
    }


def outcome(run: Path) -> tuple[bytes, list[list[str]]]:
    """What two equal runs have in common to the last bit: all but the times."""
    rows = (run / "loss.csv").read_text().splitlines()
    return (run / checkpoint.FILE).read_bytes(), [row.split(",")[:3] for row in rows]


def refused(capsys, command: str, **options) -> str:
    """Run something that cannot work; the one sentence that it says."""
    capsys.readouterr()
    assert cli(command, **options) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ") and len(lines[0]) > 20
    return lines[0]


def short(value) -> str:
    """The name of a test, from a case's options."""
    if not isinstance(value, str):
        return ""
    return value.replace("{small}/", "").replace("{empty}", "empty").strip("-").replace(" ", "_")


# --- train


def test_training_writes_a_checkpoint_and_its_losses(small):
    tensors, configuration = checkpoint.load(small / "grey_run")
    assert configuration["step"] == 3 and configuration["train"]["batch"] == 4
    assert configuration["model"]["image_size"] == 8 and configuration["model"]["channels"] == 1
    assert "5 grey images" in configuration["data"]
    assert {name.split(".")[0] for name in tensors} == {"model", "ema", "adam", "muon"}
    rows = (small / "grey_run" / "loss.csv").read_text().splitlines()
    assert rows[0] == "step,loss,lr,images_per_second,seconds"
    assert [row.split(",")[0] for row in rows[1:]] == ["1", "2", "3"]
    assert all(0 < float(row.split(",")[1]) < 10 for row in rows[1:])


def test_training_on_embedded_images(tmp_path, capsys):
    assert cli("train --data embedded --batch 2 --steps 1", out=tmp_path) == 0
    out = capsys.readouterr().out
    assert "10,000 train images" in out and "done at step 1 of 1" in out
    assert checkpoint.load(tmp_path)[1]["model"]["image_size"] == 28


def test_every_field_of_the_configuration_is_an_option(small, tmp_path):
    given = {
        "lr": 0.01,
        "lr_end": 0.001,
        "warmup": 1,
        "ema": 0.5,
        "clip": 0.3,
        "accumulation": 2,
        "precision": "no",
        "target": "eps",
        "loss": "l1",
        "schedule": "linear",
        "T": 1001,
        "save_every": 2,
        "flip": True,
        "optimizer": "adam",
        "lr_muon": 0.03,
        "momentum": 0.5,
        "t_sampling": "uniform",
        "self_conditioning": True,
        "labels": True,
        "label_drop": 0.25,
    }
    options = {name.replace("_", "-"): value for name, value in given.items() if value is not True}
    switches = "--flip --self-conditioning --labels"
    where = {"data": small / "classes", "out": tmp_path}
    assert cli(f"train {FEW} {switches} --seed 5", **where, **options) == 0
    stored = checkpoint.load(tmp_path)[1]["train"]
    assert stored == given | {"steps": 3, "batch": 4, "report_every": 1, "seed": 5}


STEADY = "--batch 4 --warmup 0 --lr 0.001 --lr-end 0.001 --precision no --seed 1"


def test_resuming_goes_on_where_it_stopped(small, tmp_path, capsys):
    """3 steps and 2 more leave what 5 leave (with a constant learning rate, which knows no end)."""
    a, b = ({"data": small / "grey", "out": tmp_path / name} for name in ("a", "b"))
    assert cli(f"train {STEADY} --steps 5", **a) == 0
    assert cli(f"train {STEADY} --steps 3", **b) == 0
    torch.manual_seed(77)
    assert cli("train --resume --steps 5", **b) == 0
    assert outcome(tmp_path / "a") == outcome(tmp_path / "b")
    capsys.readouterr()
    assert cli("train --resume", **b) == 0
    assert "nothing left to do" in capsys.readouterr().out
    assert outcome(tmp_path / "a") == outcome(tmp_path / "b")


def test_an_older_run_is_resumed_with_the_values_of_its_time(small, tmp_path, capsys):
    """Its record lacks the fields of today; today's defaults, which are others, leave it alone."""
    a, b = ({"data": small / "grey", "out": tmp_path / name} for name in ("a", "b"))
    then = f"{STEADY} --momentum 0.95 --t-sampling uniform --no-self-conditioning --no-labels"
    assert cli(f"train {then} --steps 5", **a) == 0
    assert cli(f"train {then} --steps 3", **b) == 0
    tensors, configuration = checkpoint.load(tmp_path / "b")
    for field, value in EARLIER.items():
        assert configuration["train"].pop(field) == value
    checkpoint.save(tmp_path / "b" / checkpoint.FILE, tensors, configuration)
    for change, words in {
        "--momentum 0.9": "momentum = 0.95, not 0.9",
        "--t-sampling logit-normal": "t_sampling = uniform, not logit-normal",
        "--self-conditioning": "self_conditioning = False, not True",
    }.items():
        assert words in refused(capsys, f"train --resume {change}", **b)
    assert cli("train --resume --steps 5", **b) == 0
    assert outcome(tmp_path / "a") == outcome(tmp_path / "b")


def test_training_for_some_time(small, tmp_path, capsys):
    command = "train --batch 2 --minutes 0.0001 --report-every 1"
    assert cli(command, data=small / "grey", out=tmp_path) == 0
    assert "done at step 1 of 1" in capsys.readouterr().out  # there was no time for more


def test_the_network_fits_the_images(small):
    configuration = checkpoint.load(small / "colour_run")[1]
    assert UNetConfig(**configuration["model"]) == UNetConfig(image_size=8, channels=3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--data nowhere", ["no data source 'nowhere'", "embedded"]),
        ("--data {empty}", ["no IDX files and no images"]),
        ("--data {small}/odd", ["image_size 9", "8 and 12"]),
        ("--data {small}/wide", ["must be square", "--size"]),
        ("--data {small}/mixed", ["2 different sizes", "--size"]),
        ("--data {small}/odd --size 10", ["image_size 10", "8 and 12"]),
        ("--data {small}/grey --size 0", ["size must be a positive"]),
        ("--steps 0", ["steps must be positive"]),
        ("--steps -2", ["steps must be positive"]),
        ("--batch 0", ["batch must be positive"]),
        ("--minutes 0", ["minutes must be positive"]),
        ("--minutes -1", ["minutes must be positive"]),
        ("--T 0", ["whole number of at least 1"]),
        ("--accumulation 3", ["3 equal pieces"]),
        ("--target noise", ["unknown target", "eps, x_0, v, mu"]),
        ("--loss l3", ["unknown loss", "l2, l1, huber"]),
        ("--schedule cosinus", ["unknown schedule", "cosine"]),
        ("--precision int4", ["unknown precision", "bf16"]),
        ("--optimizer sgd", ["unknown optimizer", "muon, adam"]),
        ("--t-sampling middle", ["unknown t_sampling", "logit-normal, uniform"]),
        ("--device tpu", ["unknown device 'tpu'", "cpu"]),
        ("--resume", ["no weights at"]),
    ],
    ids=short,
)
def test_training_refuses(small, tmp_path, capsys, options, said):
    (tmp_path / "empty").mkdir()
    where = {"small": shlex.quote(str(small)), "empty": shlex.quote(str(tmp_path / "empty"))}
    options = options if "--data" in options else options + " --data {small}/grey"
    options = options.format(**where)
    message = refused(capsys, f"train {options}", out=tmp_path / "out")
    assert all(word in message for word in said), message
    assert not snapshot(tmp_path)


def test_training_refuses_damaged_idx(idx_folder, tmp_path, capsys):
    where = {"data": idx_folder, "out": tmp_path / "out"}
    path = idx_folder / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-5])
    assert "is damaged" in refused(capsys, "train", **where)
    (idx_folder / "train-labels-idx1-ubyte").unlink()
    assert "no train-labels" in refused(capsys, "train", **where)
    assert not (tmp_path / "out").exists()


def test_training_does_not_write_over_an_earlier_run(small, capsys):
    before, out = snapshot(small), small / "grey_run"
    message = refused(capsys, f"train {FEW}", data=small / "grey", out=out)
    assert "already holds a run" in message and "--resume" in message
    for change in ("--lr 0.5", "--target eps", "--self-conditioning"):
        message = refused(capsys, f"train --resume {change}", data=small / "grey", out=out)
        assert "was trained with" in message
    message = refused(capsys, "train --resume", data=small / "colour", out=out)
    assert f"was trained with data = {small / 'grey'}" in message
    assert f"not {small / 'colour'}" in message
    assert snapshot(small) == before


def test_resuming_from_weights_without_a_training_state(tmp_path, capsys):
    (tmp_path / "checkpoint.safetensors").write_bytes(checkpoint.find("classifier").read_bytes())
    message = refused(capsys, "train --resume --data embedded", out=tmp_path)
    assert "nothing to resume" in message


def test_training_that_stops_being_a_number_keeps_the_last_good_checkpoint(small, tmp_path, capsys):
    """At a learning rate of 1e30 the output overflows at once; what was saved before it did is
    still there.
    """
    wild = "--lr 1e30 --warmup 0 --steps 50 --batch 4 --save-every 1 --precision no"
    message = refused(capsys, f"train {wild}", data=small / "grey", out=tmp_path)
    assert "the loss became nan at step " in message or "the loss became inf" in message
    assert "last good checkpoint is kept" in message
    bad = int(message.split("at step ")[1].split(",")[0])
    assert checkpoint.load(tmp_path)[1]["step"] == bad - 1


# --- a network that is shown its own last estimate


@pytest.fixture(scope="module")
def conditioned(small, tmp_path_factory) -> Path:
    """A run with --self-conditioning, long enough for its estimates to matter."""
    folder = tmp_path_factory.mktemp("conditioned")
    options = "--self-conditioning --batch 4 --steps 12 --warmup 0 --precision no"
    assert cli(f"train {options}", data=small / "grey", out=folder) == 0
    return folder


@pytest.fixture(scope="module")
def labelled(small, tmp_path_factory) -> Path:
    """A run with --labels, long enough for its labels to matter."""
    folder = tmp_path_factory.mktemp("labelled")
    options = "--labels --batch 4 --steps 12 --warmup 0 --precision no"
    assert cli(f"train {options}", data=small / "classes", out=folder) == 0
    return folder


def test_training_with_labels_resumes_and_knows_its_classes(small, labelled, tmp_path, capsys):
    a, b = ({"data": small / "classes", "out": tmp_path / name} for name in ("a", "b"))
    assert cli(f"train {STEADY} --labels --steps 5", **a) == 0
    assert cli(f"train {STEADY} --labels --steps 3 --preview-every 3", **b) == 0
    assert "labels = True, not False" in refused(capsys, "train --resume --no-labels", **b)
    assert cli("train --resume --steps 5", **b) == 0
    assert outcome(tmp_path / "a") == outcome(tmp_path / "b")
    configuration = checkpoint.load(labelled)[1]
    assert configuration["model"]["labels"] == 2
    assert configuration["images"]["classes"] == ["Shoe", "hat"]
    out = tmp_path / "c"
    message = refused(capsys, f"train --from {labelled} --no-labels", data=small / "grey", out=out)
    assert "labels = True, not False" in message
    assert cli(f"train --from {labelled} --steps 2 --batch 2", data=small / "classes", out=out) == 0
    assert checkpoint.load(out)[1]["model"]["labels"] == 2


def test_labels_need_classes(small, tmp_path, capsys):
    for place in ("grey", "colour"):
        message = refused(capsys, "train --labels", data=small / place, out=tmp_path)
        assert "two classes or more" in message and place in message
    for k in range(3):
        shutil.copytree(small / "grey", tmp_path / "three" / str(k))
    run, out = small / "classes_run", tmp_path / "out"
    if not run.exists():
        assert cli(f"train {FEW} --labels", data=small / "classes", out=run) == 0
    message = refused(capsys, f"train --from {run}", data=tmp_path / "three", out=out)
    assert "knows 2 classes, and these images have 3" in message


def test_sampling_by_label(labelled, tmp_path):
    """By name in any case, or by number; by default at random; and guidance has its say."""

    def drawn(options: str) -> np.ndarray:
        out = tmp_path / "drawn.npy"
        assert cli(f"sample --count 300 --steps 3 {options}", weights=labelled, out=out) == 0
        return np.load(out)

    hats, shoes = drawn("--label HAT"), drawn("--label shoe")
    assert (drawn("--label 1") == hats).all() and (drawn("--label 1 --guidance 1") == hats).all()
    assert (hats != shoes).any((1, 2)).all()
    mixed = drawn("")
    is_hat, is_shoe = ((mixed == of_class).all((1, 2)) for of_class in (hats, shoes))
    assert (is_hat | is_shoe).all() and 100 < is_hat.sum() < 200
    assert (drawn("--label 1 --guidance 3") != hats).any((1, 2)).all()
    nobody = drawn("--label 1 --guidance 0")
    assert (nobody == drawn("--label 0 --guidance 0")).all() and (nobody != hats).any()
    denoise = denoiser(
        restore(*checkpoint.load(labelled)), named("cosine", 1000), target="v", clip=False
    )
    x_T = sample.start(300, (1, 8, 8), generator=torch.Generator().manual_seed(0))
    walk = guided(denoise, torch.ones(300, dtype=torch.int64), 3, clip=True)
    expected = sample.final(dpm_solver(walk, named("cosine", 1000), x_T, steps=3))
    assert (drawn("--label 1 --guidance 3") == data.to_pixels(expected)[:, 0].numpy()).all()
    plain = partial(denoise, y=torch.ones(300, dtype=torch.int64))
    walk = limited(walk, lambda x_t, t: plain(x_t, t).clamp(-1, 1), 500, 940)
    expected = sample.final(dpm_solver(walk, named("cosine", 1000), x_T, steps=3))
    inside = drawn("--label 1 --guidance 3 --guidance-interval 500 940")
    assert (inside == data.to_pixels(expected)[:, 0].numpy()).all()
    assert (inside != hats).any() and (inside != drawn("--label 1 --guidance 3")).any()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--label 2", ["unknown label '2'", "0..1", "Shoe, hat"]),
        ("--label boot", ["unknown label 'boot'", "Shoe, hat"]),
        ("--label -1", ["unknown label '-1'"]),
        ("--guidance nan", ["finite number, got nan"]),
        ("--guidance-interval 1 9", ["how strongly", "--guidance W"]),
        ("--guidance 2 --guidance-interval 9 8", ["1 <= FROM <= TO <= 1000, got 9 and 8"]),
        ("--guidance 2 --guidance-interval 0 8", ["1 <= FROM <= TO <= 1000, got 0 and 8"]),
        ("--guidance 2 --guidance-interval 8 1001", ["1 <= FROM <= TO <= 1000, got 8 and 1001"]),
    ],
)
def test_illegal_labels_and_guidance(labelled, tmp_path, capsys, options, said):
    out = tmp_path / "no.png"
    message = refused(capsys, f"sample {options}", weights=labelled, out=out)
    assert all(words in message for words in said)
    assert not out.exists()


@pytest.mark.parametrize("option", ["--label 1", "--guidance 2", "--guidance-interval 1 9"])
def test_weights_without_labels_refuse_them(small, tmp_path, capsys, option):
    message = refused(
        capsys, f"sample {option}", weights=small / "grey_run", out=tmp_path / "n.png"
    )
    assert "have not learnt labels" in message and option.split()[0] in message


def test_training_with_self_conditioning_resumes(small, tmp_path, capsys):
    a, b = ({"data": small / "grey", "out": tmp_path / name} for name in ("a", "b"))
    assert cli(f"train {STEADY} --self-conditioning --steps 5", **a) == 0
    assert cli(f"train {STEADY} --self-conditioning --steps 3", **b) == 0
    message = refused(capsys, "train --resume --no-self-conditioning", **b)
    assert "self_conditioning = True, not False" in message
    assert cli("train --resume --steps 5", **b) == 0
    assert outcome(tmp_path / "a") == outcome(tmp_path / "b")
    configuration = checkpoint.load(tmp_path / "a")[1]
    assert configuration["model"]["self_conditioning"] is True
    assert configuration["train"]["self_conditioning"] is True


@pytest.mark.parametrize(("name", "sampler"), [("dpm++", dpm_solver), ("ddim", sample.ddim)])
def test_sampling_shows_the_network_its_own_estimates(
    conditioned, tmp_path, monkeypatch, name, sampler
):
    """Each lot of images anew; as the library does by hand, and not as without them."""
    monkeypatch.setattr(sampling, "CHUNK", 2)
    command = f"sample --sampler {name} --steps 4 --count 3 --seed 9"
    for ending in ("png", "npy"):
        assert cli(command, weights=conditioned, out=tmp_path / f"a.{ending}") == 0
    drawn = np.load(tmp_path / "a.npy")
    picture = np.asarray(Image.open(tmp_path / "a.png"))
    np.testing.assert_array_equal(picture[:8, :8], drawn[0])

    tensors, configuration = checkpoint.load(conditioned)
    network, schedule = restore(tensors, configuration), named("cosine", 1000)
    denoise = denoiser(network, schedule, target=configuration["train"]["target"], clip=True)
    x_T = sample.start(3, (1, 8, 8), generator=torch.Generator().manual_seed(9))

    def by_hand(make) -> np.ndarray:
        parts = [sample.final(sampler(make(), schedule, x, steps=4)) for x in x_T.split(2)]
        return data.to_pixels(torch.cat(parts))[:, 0].numpy()

    np.testing.assert_array_equal(drawn, by_hand(lambda: self_conditioned(denoise)))
    assert (drawn != by_hand(lambda: denoise)).any()


def both_splits(folder: Path, pictures: Path) -> None:
    """Make it a data source whose training and test images are the same few."""
    for split in ("train", "test"):
        (folder / split).symlink_to(pictures)


def test_evaluating_a_self_conditioned_network(small, conditioned, capsys, tmp_path):
    """The bound asks at steps in any order, of images that it has not seen before: without
    estimates.
    """
    both_splits(tmp_path, small / "grey")
    command = "evaluate --metrics bpd,copies --count 4 --steps 2"
    assert cli(command, weights=conditioned, data=tmp_path) == 0
    out = capsys.readouterr().out
    assert "bound on 4 test images" in out and "nearest of 5 training images" in out
    assert 2 < float(out.split("bits per dimension:\n")[1].split()[0]) < 50


# --- sample


@pytest.mark.parametrize("name", ["grey", "colour"])
def test_sampling_to_every_kind_of_file(small, tmp_path, name):
    def drawn(file: str) -> Path:
        run = small / f"{name}_run"
        command = "sample --sampler ddpm --steps 2 --count 5"  # all frames differ
        assert cli(command, weights=run, out=tmp_path / file) == 0
        return tmp_path / file

    pixels = np.load(drawn("a.npy"), allow_pickle=False)
    assert pixels.dtype == np.uint8
    assert pixels.shape == ((5, 8, 8) if name == "grey" else (5, 8, 8, 3))
    picture = np.asarray(Image.open(drawn("a.PNG")))
    assert picture.shape[:2] == (2 * 8 + 2, 3 * 8 + 2 * 2)
    np.testing.assert_array_equal(picture[:8, :8], pixels[0])  # the same images, in a grid
    np.testing.assert_array_equal(picture[10:, 10:18], pixels[4])
    animation = Image.open(drawn("deeper/a.gif"))
    assert animation.format == "GIF"
    assert animation.n_frames == 3  # noise, one moment between, the end
    assert sorted(os.listdir(tmp_path)) == ["a.PNG", "a.npy", "deeper"]


def test_a_gif_has_forty_frames_at_most(small, tmp_path):
    out = tmp_path / "a.gif"
    command = "sample --sampler ddpm --steps 60 --count 1"  # all frames differ
    assert cli(command, weights=small / "grey_run", out=out) == 0
    assert Image.open(out).n_frames == 40


@pytest.mark.parametrize("ending", ["png", "gif", "npy"])
def test_one_seed_gives_identical_bytes(small, tmp_path, ending):
    def drawn(seed, name):
        out = tmp_path / f"{name}.{ending}"
        command = f"sample --steps 3 --count 2 --seed {seed}"
        assert cli(command, weights=small / "grey_run", out=out) == 0
        return out.read_bytes()

    once = drawn(4, "a")
    torch.manual_seed(123)
    assert drawn(4, "b") == once
    assert drawn(5, "c") != once


def test_more_images_than_fit_at_once(small, tmp_path, monkeypatch):
    monkeypatch.setattr(sampling, "CHUNK", 2)
    asked, solver = [], sampling.SAMPLERS["dpm++"]

    def counted(denoise, schedule, x_T, **own):
        asked.append(len(x_T))
        return solver(denoise, schedule, x_T, **own)

    monkeypatch.setitem(sampling.SAMPLERS, "dpm++", counted)
    out = tmp_path / "a.npy"
    assert cli("sample --steps 2 --count 5", weights=small / "grey_run", out=out) == 0
    pixels = np.load(out)
    assert pixels.shape == (5, 8, 8) and len({image.tobytes() for image in pixels}) == 5
    assert asked == [2, 2, 1]


@pytest.mark.parametrize("sampler", ["ddim", "dpm++", "heun"])
def test_every_sampler_from_the_command_line(tmp_path, sampler):
    """Garments appear within ten steps: dark corners around something brighter, which 10 steps of
    ddpm show as well.
    """
    for name in ("a.npy", "b.npy"):
        command = f"sample --sampler {sampler} --steps 10 --count 8"
        assert cli(command, out=tmp_path / name) == 0
    pixels = np.load(tmp_path / "a.npy")
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    corners = pixels[:, [0, 0, -1, -1], [0, -1, 0, -1]].mean()
    assert corners < 30 < pixels[:, 8:20, 8:20].mean()


@pytest.fixture(scope="module")
def untrained(tmp_path_factory) -> Path:
    """A run of a single step on the embedded images: weights of the right shape that draw noise."""
    folder = tmp_path_factory.mktemp("untrained")
    assert cli("train --data embedded --batch 2 --steps 1", out=folder) == 0
    return folder


def test_a_fast_sampler_of_15_steps_unless_told_otherwise(untrained, tmp_path):
    asked = {"a": "", "b": "--sampler dpm++ --steps 15", "c": "--sampler ddim", "d": "--steps 16"}
    drawn = {}
    for name, said in asked.items():
        command = f"sample --count 2 {said}"
        assert cli(command, weights=untrained, out=tmp_path / f"{name}.npy") == 0
        drawn[name] = (tmp_path / f"{name}.npy").read_bytes()
    assert drawn["a"] == drawn["b"] != drawn["c"]
    assert drawn["a"] != drawn["d"]


def test_samples_that_are_no_numbers_are_not_painted(untrained, tmp_path, monkeypatch, capsys):
    """One NaN among the images, from the third step on: the message says where it began."""

    class Failing(sampling.Sampling):
        def denoise(self, here):
            whole = super().denoise(here)
            calls = iter(range(100))

            def fails(x, t):
                x_0_hat = whole(x, t)
                if next(calls) == 2:
                    x_0_hat[1, 0, 3, 3] = float("nan")
                return x_0_hat

            return fails

    monkeypatch.setattr(sampling, "Sampling", Failing)
    tau = karras_tau(named("cosine", 1000), 5, **CHOSEN).tolist()
    out = tmp_path / "a.png"
    message = refused(capsys, "sample --count 2 --steps 5", weights=untrained, out=out)
    assert f"stopped being numbers on the way to step {tau[2]};" in message
    assert not out.exists()


def test_eta_adds_noise_that_the_seed_decides(tmp_path):
    drawn = {}
    for name, eta in {"0": "", "0.0": "--eta 0", "1": "--eta 1", "again": "--eta 1"}.items():
        out = tmp_path / f"{name}.npy"
        assert cli(f"sample --sampler ddim --steps 5 --count 2 {eta}", out=out) == 0
        drawn[name] = np.load(out)
    assert (drawn["0"] == drawn["0.0"]).all() and (drawn["1"] == drawn["again"]).all()
    assert (drawn["0"] != drawn["1"]).any()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--sampler ddim-ish", ["unknown sampler 'ddim-ish'", "ddpm"]),
        ("--device tpu", ["unknown device", "cpu"]),
        ("--count 0", ["count must be at least 1"]),
        ("--count -5", ["count must be at least 1"]),
        ("--steps 0", ["must lie in 1..1000"]),
        ("--steps -1", ["must lie in 1..1000"]),
        ("--steps 1001", ["must lie in 1..1000"]),
        ("--sampler heun --steps 1001", ["must lie in 1..1000"]),
        ("--sampler ddim --eta 1.5", ["eta must lie in [0, 1]", "1.5"]),
        ("--sampler dpm++ --eta 0.5", ["--eta is for --sampler ddim", "dpm++"]),
        ("--weights nowhere", ["no weights at nowhere", "classifier"]),
        ("--weights classifier", ["not a U-Net's"]),
    ],
    ids=short,
)
@pytest.mark.parametrize("command", ["sample", "evaluate"])
def test_sampling_refuses(small, tmp_path, capsys, options, said, command):
    if "--weights" not in options:
        options += f" --weights {shlex.quote(str(small))}/grey_run"
    out = tmp_path / "a.png"
    out.write_bytes(b"earlier")
    message = refused(capsys, f"{command} {options}", **{"out": out} if command == "sample" else {})
    assert all(word in message for word in said), message
    assert snapshot(tmp_path) == {"a.png": b"earlier"}


@pytest.mark.parametrize("name", ["a.jpg", "a", "a.npz"])
def test_unknown_file_endings_list_the_legal_ones(small, tmp_path, capsys, name):
    message = refused(capsys, "sample", weights=small / "grey_run", out=tmp_path / name)
    assert "--out must end in .png, .gif, .npy" in message
    assert not snapshot(tmp_path)


DAMAGES = {
    "truncated": "truncated, damaged or of another format",
    "text": "truncated, damaged or of another format",
    "empty": "truncated, damaged or of another format",
    "foreign": "not written by this package",
    "pickle": "is a pickle",
    "torch": "is a pickle",
    "mismatch": "do not fit their configuration",
    "no record": "do not say which target they were trained to predict",
    "no folder": "no weights at",
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_sampling_refuses_bad_weights(small, tmp_path, capsys, kind):
    path, out = tmp_path / "weights.safetensors", tmp_path / "a.npy"
    out.write_bytes(b"earlier")
    tensors, configuration = checkpoint.load(small / "grey_run")
    whole = checkpoint.find(small / "grey_run").read_bytes()
    spoilt = {"truncated": whole[:-9], "text": b"hello", "empty": b"", "pickle": pickle.dumps([1])}
    if kind == "mismatch":
        configuration["model"]["widths"] = [32, 64]
        checkpoint.save(path, tensors, configuration)
    elif kind == "no record":
        checkpoint.save(path, tensors, {"model": configuration["model"]})
    elif kind == "foreign":
        save_file({"a": torch.ones(2)}, path)
    elif kind == "torch":
        torch.save(tensors, path)
    elif kind == "no folder":
        path.mkdir()
    else:
        path.write_bytes(spoilt[kind])
    before = snapshot(tmp_path)
    assert DAMAGES[kind] in refused(capsys, "sample --steps 2", weights=path, out=out)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("ending", ["png", "gif", "npy"])
def test_a_full_disk_and_an_unwritable_folder(small, tmp_path, capsys, monkeypatch, ending):
    out = tmp_path / f"a.{ending}"
    out.write_bytes(b"earlier")
    command, run = "sample --steps 2 --count 2", small / "grey_run"
    message = refused(capsys, command, weights=run, out=out / f"in_a_file.{ending}")
    assert "could not write" in message
    assert snapshot(tmp_path) == {out.name: b"earlier"}

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "replace", full)
    assert "No space left" in refused(capsys, command, weights=run, out=out)
    message = refused(capsys, f"train {FEW}", data=small / "grey", out=tmp_path / "run")
    assert "No space left" in message
    assert snapshot(tmp_path) == {out.name: b"earlier"}


def test_out_is_a_folder(small, tmp_path, capsys):
    (tmp_path / "a.png").mkdir()
    message = refused(capsys, "sample", weights=small / "grey_run", out=tmp_path / "a.png")
    assert "is a folder; give a file" in message


# --- evaluate


def test_evaluate_reports_distance_floor_and_shares(untrained, capsys):
    capsys.readouterr()
    assert cli("evaluate --steps 2 --count 12 --seed 3", weights=untrained) == 0
    out = capsys.readouterr().out
    assert "12 samples (dpm++, 2 steps)" in out and "seed 3" in out
    assert "distance to 10,000 real images of Fashion-MNIST" in out
    assert out.count("12 other real images in their place") == out.count("95 % interval") == 2
    assert "first " in out and "second" in out and "says little" not in out
    assert "bits" not in out and "nearest" not in out
    said = [word.rstrip(",") for word in out[out.index("T-shirt") :].split()]
    shares = [float(word.rstrip("%")) for word in said if word.endswith("%")]
    assert len(shares) == 10
    np.testing.assert_allclose(sum(shares), 100, atol=0.6)  # ten roundings of 0.05


def test_evaluate_says_what_it_compares_with_when_the_weights_know_other_images(
    untrained, tmp_path, capsys
):
    tensors, configuration = checkpoint.load(untrained)
    own = tmp_path / "own.safetensors"
    checkpoint.save(own, tensors, configuration | {"data": "bags: 80 grey images"})
    assert cli("evaluate --steps 2 --count 3", weights=own) == 0
    out = capsys.readouterr().out
    assert "of Fashion-MNIST" in out
    assert "says little of these weights, which were trained on bags: 80 grey images" in out


def test_evaluate_with_all_metrics(untrained, capsys, monkeypatch):
    monkeypatch.setattr(data, "IDX_FOLDERS", ())  # what "auto" takes then is the embedded subset
    monkeypatch.setattr(data, "_cached_hub", lambda split: [])
    command = "evaluate --sampler dpm++ --steps 2 --count 6"
    assert cli(command, weights=untrained, metrics="bpd, copies,fd") == 0
    out = capsys.readouterr().out
    assert "distance to 10,000 real images" in out
    assert "nearest of 10,000 training images (embedded" in out
    assert "samples less than 1 away: 0" in out
    assert "bound on 6 test images" in out
    bound = float(out.split("bits per dimension:\n")[1].split()[0])
    assert 2 < bound < 50  # far from what a trained network reaches


def test_bits_alone_draw_no_samples(untrained, capsys):
    assert cli("evaluate --count 4 --metrics bpd", weights=untrained) == 0
    out = capsys.readouterr().out
    assert "bits per dimension" in out and "samples" not in out


def test_evaluate_refuses_before_it_samples(small, capsys):
    grey, colour = small / "grey_run", small / "colour_run"
    message = refused(capsys, "evaluate --count 1", weights=grey)
    assert "count must be at least 2" in message
    message = refused(capsys, "evaluate --metrics fd,fid", weights=grey)
    assert "unknown metric 'fid'; choose some of fd, pr, accuracy, copies" in message
    message = refused(capsys, "evaluate --count 4", weights=colour)
    assert "draw (3, 8, 8); leave fd out" in message
    message = refused(capsys, "evaluate --count 4 --metrics bpd", weights=colour, data="embedded")
    assert "(3, 8, 8), but --data has" in message and "(1, 28, 28)" in message


def test_weights_of_other_pictures_are_judged_by_their_own(small, capsys, tmp_path):
    """Grey pictures of 8 x 8: no classifier, but copies and bits, from a folder with both splits:
    without them five pictures are too few to hold any out.
    """
    both_splits(tmp_path, small / "grey")

    def said(metrics: str) -> str:
        capsys.readouterr()
        own = {"weights": small / "grey_run", "data": tmp_path}
        assert cli("evaluate --steps 2 --count 4", metrics=metrics, **own) == 0
        return capsys.readouterr().out

    both, alone = said("copies,bpd"), said("bpd")
    assert "nearest of 5 training images" in both and "bound on 4 test images" in both
    bits = [out.split("bound on")[1].splitlines()[:3] for out in (both, alone)]
    assert bits[0] == bits[1]
    few = {"weights": small / "grey_run", "data": small / "grey"}
    message = refused(capsys, "evaluate --steps 2 --count 4 --metrics bpd", **few)
    assert "5 images to train on, too few to hold out a tenth" in message


def test_weights_find_what_they_have_learnt_from_and_both_its_splits(small, capsys, tmp_path):
    """Without --data.  Test images that were taken from the training images would be 0.0 away."""
    folder, weights = tmp_path / "own", tmp_path / "own.safetensors"
    (folder / "test").mkdir(parents=True)
    (folder / "train").symlink_to(small / "grey")
    for i in range(3):
        Image.new("L", (8, 8), "white").save(folder / "test" / f"{i}.png")
    tensors, configuration = checkpoint.load(small / "grey_run")
    checkpoint.save(weights, tensors, configuration | {"images": {"source": str(folder)}})
    assert cli("evaluate --steps 2 --count 6 --metrics copies,bpd", weights=weights) == 0
    out = capsys.readouterr().out
    known = np.stack([np.asarray(Image.open(path)) for path in (small / "grey").iterdir()])
    away = np.sqrt(np.square(255.0 - known).mean(axis=(1, 2))).min()  # of white, grey levels
    assert f"nearest of 5 training images ({folder}" in out
    assert f"from a test image {away:.1f}\n" in out and away > 50
    assert f"bound on 3 test images ({folder}" in out


# --- all commands


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


@pytest.mark.parametrize("seed", ["-1", str(2**70)])
def test_a_seed_out_of_range(capsys, seed):
    assert "seed must lie in 0..2**63 - 1" in refused(capsys, f"sample --out a.png --seed {seed}")


def test_what_the_parser_refuses_exits_with_2(capsys):
    for command in ("sing", "sample", "train --out x --steps many", ""):
        with pytest.raises(SystemExit) as stop:
            main(command.split())
        assert stop.value.code == 2
        assert capsys.readouterr().err


def test_help_names_every_option(capsys):
    own = {
        "train": ["--minutes", "--resume", "--no-flip", "--T", "--self-conditioning", "crop"],
        "sample": [".npy", "--sampler"],
        "evaluate": ["--metrics", "--sampler"],
    }
    for command, options in own.items():
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0
        out = capsys.readouterr().out
        assert all(word in out for word in [*options, "--seed", "--device"])


# --- programs


def test_as_a_program_from_any_folder(tmp_path):
    def program(*arguments):
        command = [sys.executable, "-m", "tutorial_lib", *arguments]
        options = {"capture_output": True, "text": True, "timeout": 120}
        return subprocess.run(command, cwd=tmp_path, env=environment(), **options)

    version = program("--version")
    assert version.returncode == 0 and version.stdout.strip() == tutorial_lib.__version__
    wrong = program("sample", "--out", "a.jpg")
    assert wrong.returncode == 2 and wrong.stdout == ""
    assert wrong.stderr.startswith("error: ") and len(wrong.stderr.splitlines()) == 1
    assert not snapshot(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to catch")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_run_can_be_resumed(small, tmp_path, number):
    where = {"data": small / "grey", "out": tmp_path}
    endless = "train --batch 2 --steps 100000 --report-every 1 --save-every 5"
    command = [sys.executable, "-m", "tutorial_lib", *words(endless, **where)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, env=environment(), text=True, **pipes)
    try:
        began = time.monotonic()
        while not (tmp_path / "checkpoint.safetensors").exists() and time.monotonic() - began < 100:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.1)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + number, err  # so that no command after && goes on
    assert err.strip() == "stopping, saving ... (once more leaves at once)"
    assert "stopped at step" in out and "saved in" in out
    step = checkpoint.load(tmp_path)[1]["step"]
    assert f"stopped at step {step} of 100000" in out and step >= 5
    assert len((tmp_path / "loss.csv").read_text().splitlines()) == step + 1
    assert cli(f"train --resume --steps {step + 1}", **where) == 0
    assert checkpoint.load(tmp_path)[1]["step"] == step + 1
    assert len((tmp_path / "loss.csv").read_text().splitlines()) == step + 2


def test_two_processes_follow_the_curve_of_one(small, tmp_path):
    def options(name: str) -> list[str]:
        command = "train --steps 4 --batch 4 --precision no"
        return words(command, data=small / "grey", out=tmp_path / name)

    launcher = "-m torch.distributed.run --standalone --nproc_per_node 2 -m tutorial_lib"
    command = [sys.executable, *launcher.split(), *options("two")]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("done at step 4") == 1, "one process speaks for both"
    assert main(options("one")) == 0
    one, two = (
        np.loadtxt(tmp_path / name / "loss.csv", delimiter=",", skiprows=1)
        for name in ("one", "two")
    )
    assert one.shape == (4, 5)
    np.testing.assert_allclose(two[:, :3], one[:, :3], atol=1e-5)
