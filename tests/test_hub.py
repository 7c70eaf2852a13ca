"""Weights on the hub: what is sent and fetched, against a hub that is a folder of this machine."""

import inspect
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.utils import LocalEntryNotFoundError, filter_repo_objects

from tutorial_lib import checkpoint, cli, hub
from tutorial_lib.config import DiffusionConfig
from tutorial_lib.nets.unet import UNet, restore


class Hub:
    """The three functions of huggingface_hub that we call, over a folder in place of a network.

    A call that the real ones would not take fails, and files are chosen by its own filter.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.signatures = {
            "snapshot_download": inspect.signature(huggingface_hub.snapshot_download),
            "create_repo": inspect.signature(huggingface_hub.HfApi().create_repo),
            "upload_folder": inspect.signature(huggingface_hub.HfApi().upload_folder),
        }
        self.private: dict[str, bool] = {}

    def _given(self, name: str, arguments: tuple, options: dict) -> dict:
        return self.signatures[name].bind(*arguments, **options).arguments

    def _copy(self, source: Path, target: Path, patterns: list[str]) -> None:
        names = [str(p.relative_to(source)) for p in source.rglob("*") if p.is_file()]
        for name in filter_repo_objects(names, allow_patterns=patterns):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, target / name)

    def create_repo(self, *arguments, **options) -> None:
        given = self._given("create_repo", arguments, options)
        assert given["exist_ok"] or given["repo_id"] not in self.private
        self.private.setdefault(given["repo_id"], given["private"])

    def upload_folder(self, *arguments, **options) -> None:
        given = self._given("upload_folder", arguments, options)
        target = self.folder / given["repo_id"] / "main"
        self._copy(Path(given["folder_path"]), target, given["allow_patterns"])

    def snapshot_download(self, *arguments, **options) -> str:
        given = self._given("snapshot_download", arguments, options)
        source = self.folder / given["repo_id"] / (given["revision"] or "main")
        if not source.exists():
            raise LocalEntryNotFoundError("a long explanation of its own")
        target = self.folder / "cache" / given["repo_id"]
        self._copy(source, target, given["allow_patterns"])
        return str(target)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Hub:
    made = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot_download)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: made)
    return made


@pytest.fixture
def run(tmp_path, tiny) -> Path:
    """A folder that looks like that of a run of a tiny network."""
    torch.manual_seed(0)
    state = UNet(tiny).state_dict()
    tensors = checkpoint.prefixed("ema", state) | checkpoint.prefixed("model", state)
    about = {"model": vars(tiny), "train": vars(DiffusionConfig()), "data": "/home/ada/cats: 9"}
    checkpoint.save(tmp_path / "run" / checkpoint.FILE, tensors, about | {"step": 3})
    return tmp_path / "run"


def test_what_is_pushed_comes_back_and_can_be_sampled_from(run, here, tmp_path, capsys):
    out = tmp_path / "exported"
    assert cli.main(["export", str(run), "--out", str(out), "--push", "ada/cats"]) == 0
    assert "--weights hub:ada/cats" in capsys.readouterr().out
    assert here.private == {"ada/cats": True}
    pushed = {path.name for path in (here.folder / "ada" / "cats" / "main").iterdir()}
    assert pushed == {checkpoint.FILE, "README.md"}
    main = here.folder / "ada" / "cats" / "main"
    assert not [path for path in main.iterdir() if b"/home" in path.read_bytes()]
    assert checkpoint.load(main)[1]["data"] == "cats: 9"
    folder = hub.resolve("hub:ada/cats")
    ours, theirs = (restore(*checkpoint.load(place)) for place in (folder, run))
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_nothing_but_weights_is_fetched_and_nothing_private_is_pushed(run, here):
    (run / "notes.txt").write_text("private")
    (run / "loss.csv").write_text("1,2")
    assert hub.push(run, "ada/cats") == "hub:ada/cats"
    main = here.folder / "ada" / "cats" / "main"
    assert {path.name for path in main.iterdir()} == {checkpoint.FILE}
    for name in ("modeling.py", "weights.bin", "weights.pt", "README.md", "config.json"):
        (main / name).write_text("{}")
    fetched = {path.name for path in hub.fetch("ada/cats").iterdir()}
    assert fetched == {checkpoint.FILE, "config.json"}


def test_a_revision_is_named_behind_the_name(run, here):
    shutil.copytree(run, here.folder / "ada" / "cats" / "v1.0")
    with pytest.raises(FileNotFoundError):
        hub.resolve("hub:ada/cats")
    assert (hub.resolve("hub:ada/cats@v1.0") / checkpoint.FILE).exists()


def test_everything_else_is_a_path(tmp_path):
    assert hub.resolve("my_run") == hub.resolve(Path("my_run")) == Path("my_run")
    assert hub.resolve(tmp_path) == tmp_path


def test_what_is_not_there_is_said_in_a_sentence(run, here, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"could not fetch hub:ada/dogs \(.*check its name"):
        hub.fetch("ada/dogs")
    with pytest.raises(FileNotFoundError, match="at v9"):
        hub.fetch("ada/dogs", "v9")
    with pytest.raises(FileNotFoundError, match="push a folder that `export` wrote"):
        hub.push(tmp_path, "ada/cats")

    def refuse(*_, **__):
        raise ConnectionError("no route")

    here.upload_folder = refuse
    with pytest.raises(OSError, match=r"could not push to hub:ada/cats \(ConnectionError\)"):
        hub.push(run, "ada/cats")


class Dropped(Exception):
    """As HTTP clients raise them: no OSError."""


def test_a_connection_that_breaks_is_said_in_a_sentence(run, here, monkeypatch):
    def dropped(*_, **__):
        raise Dropped("[Errno 111] Connection refused")

    here.create_repo = dropped
    with pytest.raises(OSError, match=r"could not push to hub:ada/cats \(Dropped\)"):
        hub.push(run, "ada/cats")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", dropped)
    with pytest.raises(FileNotFoundError, match=r"could not fetch hub:ada/cats \(Dropped\)"):
        hub.fetch("ada/cats")


def test_without_a_network_the_real_library_ends_in_the_same_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="could not fetch hub:ada/cats"):
        hub.resolve("hub:ada/cats")
    with pytest.raises(ValueError, match=r"ada/cats/dogs|repo"):
        hub.resolve("hub:ada/cats/dogs")


def test_a_card_wants_a_folder(run, tmp_path, capsys):
    words = ["export", str(run), "--out", str(tmp_path / "a.safetensors"), "--push", "ada/cats"]
    assert cli.main(words) == 2
    assert "--push uploads a folder" in capsys.readouterr().err
    assert not (tmp_path / "a.safetensors").exists()
