"""One file for tensors and their configuration: whole or not at all, and never a pickle."""

import errno
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from tutorial_lib import checkpoint, files

TENSORS = {
    "model.a": torch.arange(6.0).view(2, 3),
    "model.b": torch.tensor(3),
    "ema.a": torch.ones(2, dtype=torch.float16),
}
CONFIGURATION = {
    "train": {"lr": 0.1, "target": "v", "flip": False},
    "widths": [1, 2],
    "note": "Grüße",
    "step": 7,
}


@pytest.fixture
def file(tmp_path):
    """A good checkpoint."""
    checkpoint.save(tmp_path / "weights.safetensors", TENSORS, CONFIGURATION)
    return tmp_path / "weights.safetensors"


def test_round_trip(file):
    tensors, configuration = checkpoint.load(file)
    assert configuration == CONFIGURATION
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert_close(tensors[name], tensor, rtol=0, atol=0)


def test_other_memory_layouts_and_gradients_are_saved_by_value(tmp_path):
    image = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last).requires_grad_()
    checkpoint.save(tmp_path / "a.safetensors", {"x": image, "part": image[:, 1]}, {})
    tensors, _ = checkpoint.load(str(tmp_path / "a.safetensors"))
    assert_close(tensors["x"], image.detach(), rtol=0, atol=0)
    assert_close(tensors["part"], image[:, 1].detach(), rtol=0, atol=0)


def test_a_training_folder_stands_for_the_file_in_it(tmp_path):
    checkpoint.save(tmp_path / "run" / "checkpoint.safetensors", TENSORS, CONFIGURATION)
    assert checkpoint.load(tmp_path / "run")[1] == CONFIGURATION
    assert checkpoint.find(str(tmp_path / "run")) == tmp_path / "run" / "checkpoint.safetensors"


class Trap:
    """Unpickling this creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("kind", ["zip", "old", "plain"])
def test_pickles_are_refused_and_never_executed(tmp_path, kind):
    path, trap = tmp_path / "weights.safetensors", tmp_path / "sprung"
    if kind == "plain":
        path.write_bytes(pickle.dumps({"a": Trap(trap)}))
    else:
        torch.save({"a": Trap(trap)}, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(ValueError, match=r"is a pickle, and unpickling can execute code"):
        checkpoint.load(path)
    assert not trap.exists()


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 40, -1])
def test_truncated_files(file, keep):
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ValueError, match="truncated, damaged or of another format"):
        checkpoint.load(file)


def test_text_and_foreign_files(tmp_path):
    (tmp_path / "a.txt").write_text("not weights at all, but quite a long text")
    with pytest.raises(ValueError, match="of another format"):
        checkpoint.load(tmp_path / "a.txt")
    save_file({"a": torch.ones(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ValueError, match="not written by this package"):
        checkpoint.load(tmp_path / "foreign.safetensors")
    save_file({"a": torch.ones(1)}, tmp_path / "other.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="not written by this package"):
        checkpoint.load(tmp_path / "other.safetensors")


@pytest.mark.parametrize("name", ["nowhere", "nowhere/at/all.safetensors"])
def test_missing_weights_name_what_ships(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=r"one of: .*classifier"):
        checkpoint.load(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no weights at"):
        checkpoint.load(tmp_path)  # a folder without a checkpoint


def test_weights_are_offered_and_no_records():
    """What one may ask for is a network; measurements made with one lie beside it."""
    known = {"fashion_mnist", "classifier", "second_classifier"}
    records = {"nearest", "reference", "second_reference", "replay", "walks"}
    assert known <= set(checkpoint.networks()) <= checkpoint.shipped().keys() - records
    with pytest.raises(FileNotFoundError) as refused:
        checkpoint.load("nowhere")
    offered = str(refused.value).partition("one of: ")[2].split(", ")
    assert offered == checkpoint.networks()


def test_shipped_weights_are_found_by_name():
    names = checkpoint.shipped()
    assert "classifier" in names
    for name, path in names.items():
        assert checkpoint.find(name) == path and path.parent == files.ASSETS


@pytest.mark.parametrize("where", ["replace", "write"])
def test_a_full_disk_leaves_the_earlier_file_and_nothing_else(file, monkeypatch, where):
    before = file.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if where == "replace":
        monkeypatch.setattr(os, "replace", full)
    else:
        monkeypatch.setattr(files.Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"could not write .*weights\.safetensors: No space left"):
        checkpoint.save(file, {"a": torch.zeros(1)}, {})
    monkeypatch.undo()
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == [file.name]


def test_a_failure_before_writing_leaves_the_earlier_file(file):
    before = file.read_bytes()
    with pytest.raises(TypeError):
        checkpoint.save(file, {"a": torch.zeros(1)}, {"a set is not JSON": {1}})
    assert file.read_bytes() == before


def test_unwritable_places_are_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"could not write .*choose a folder that can be written"):
        checkpoint.save(tmp_path / "file" / "weights.safetensors", TENSORS, {})
    with pytest.raises(OSError, match="could not write"):
        files.check_writable(tmp_path / "file" / "deeper" / "a.png")
    with pytest.raises(IsADirectoryError, match="give a file"):
        files.check_writable(tmp_path)


def test_checking_a_place_leaves_what_is_there(file):
    before = file.read_bytes()
    files.check_writable(file)
    files.check_writable(file.parent / "new" / "a.png")
    assert file.read_bytes() == before
    assert sorted(os.listdir(file.parent)) == ["new", file.name]
    assert os.listdir(file.parent / "new") == []


def test_part_and_prefixed_are_inverses():
    part = checkpoint.part(TENSORS, "model")
    assert part.keys() == {"a", "b"} and part["b"].dtype == TENSORS["model.b"].dtype
    assert_close(checkpoint.part(TENSORS, "ema")["a"], torch.ones(2))
    again = checkpoint.part(checkpoint.prefixed("x", part), "x")
    assert again.keys() == part.keys()
    assert all(torch.equal(again[name], part[name]) for name in part)
    with pytest.raises(ValueError, match=r"no tensors named adam\.\*.*they hold ema, model"):
        checkpoint.part(TENSORS, "adam")
    with pytest.raises(ValueError, match=r"they hold nothing"):
        checkpoint.part({}, "model")


@pytest.mark.parametrize("header", ["{broken", "[1, 2]", "null", ""])
def test_a_configuration_that_cannot_be_read(tmp_path, header):
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(1)}, path, metadata={checkpoint.HEADER: header})
    with pytest.raises(ValueError, match="configuration that cannot be read"):
        checkpoint.load(path)


def test_names_of_compiled_networks_become_plain(tmp_path):
    """When they are written, and when an older file has them."""
    path, wrapped = tmp_path / "a.safetensors", "model._orig_mod.body._orig_mod.weight"
    checkpoint.save(path, {wrapped: torch.ones(1)}, {})
    assert checkpoint.load(path)[0].keys() == {"model.body.weight"}
    save_file({wrapped: torch.ones(1)}, path, metadata={checkpoint.HEADER: "{}"})
    assert checkpoint.load(path)[0].keys() == {"model.body.weight"}
