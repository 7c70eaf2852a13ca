"""What every notebook uses: the environment check, sources, pictures, progress."""

import errno
import importlib.metadata
import io
import os
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from tutorial_lib import __version__, diffusion
from tutorial_lib.course import animation, notebook


@pytest.fixture
def versions(monkeypatch):
    """Installed versions that a test may change; None is a missing package."""
    installed = {package: "99.0" for package in notebook.NEEDS}

    def version(package: str) -> str:
        if installed[package] is None:
            raise importlib.metadata.PackageNotFoundError(package)
        return installed[package]

    monkeypatch.setattr(importlib.metadata, "version", version)
    return installed


def test_all_is_well(capsys):
    notebook.check_environment(__version__)
    said = capsys.readouterr().out
    assert said == f"tutorial_lib {__version__}: everything this notebook needs is here.\n"


@pytest.mark.parametrize("only", ["", "outputs"], ids=["folder", "outputs"])
def test_a_read_only_folder_sends_everything_elsewhere(
    tmp_path, tmp_path_factory, capsys, monkeypatch, only
):
    """As on a shared hub; whatever the notebook names by a relative path then lies in one place."""
    (tmp_path / "outputs").mkdir()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    locked, write = tmp_path / only, Path.write_bytes

    def refuse(path, content):
        if path.absolute().is_relative_to(locked):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return write(path, content)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    monkeypatch.setattr(Path, "write_bytes", refuse)
    notebook.check_environment(__version__)
    said = capsys.readouterr().out.splitlines()[1]
    assert said.startswith(f"{tmp_path} is read-only; what this notebook writes goes to ")
    assert said.endswith(str(Path.cwd())) and Path.cwd().parent == elsewhere
    animation.gif([torch.zeros(1, 1, 4, 4)], "outputs/a.gif")
    assert Path("outputs/a.gif").exists()
    notebook.check_environment(__version__)
    assert len(capsys.readouterr().out.splitlines()) == 1, "once is enough"
    assert not list((tmp_path / "outputs").iterdir())


def test_a_folder_that_can_be_written_is_left_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    notebook.check_environment(__version__)
    assert Path.cwd() == tmp_path and not list(tmp_path.iterdir())


def test_a_later_patch_of_the_same_series_is_fine():
    major, minor, *_ = __version__.split(".")
    notebook.check_environment(f"{major}.{minor}.99")


@pytest.mark.parametrize("other", ["99.0.0", "0.99.0"])
def test_notebook_of_another_series(other):
    message = rf"belongs to tutorial_lib {other}, but {__version__} .*pip install -e"
    with pytest.raises(RuntimeError, match=message):
        notebook.check_environment(other)


def test_missing_and_old_packages_are_all_listed(versions):
    versions["einops"], versions["torch"], versions["numpy"] = None, "2.5.1+cu118", "1.9.3"
    with pytest.raises(RuntimeError) as error:
        notebook.check_environment(__version__)
    lines = str(error.value).splitlines()
    assert lines[0] == "This notebook cannot run here yet:" and len(lines) == 4
    text = "\n".join(lines)
    assert "einops is missing; run `pip install einops`" in text
    assert "torch 2.5.1+cu118 is too old; run `pip install -U torch` (2.6 or newer)" in text
    assert "numpy 1.9.3 is too old" in text  # 9 is less than 26, though not as text


@pytest.mark.parametrize(
    "fine", ["2.6", "2.6.0+cpu", "2.10.0", "3.0.0rc1", "2.13.0a0+git1234", "2.6rc1"]
)
def test_every_form_of_a_version_is_understood(versions, fine):
    versions["torch"] = fine
    notebook.check_environment(__version__)


def test_old_python(monkeypatch, versions):
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    with pytest.raises(RuntimeError, match=r"Python .* is too old; install 3\.11"):
        notebook.check_environment(__version__)


def test_show_source_prints_the_code_itself(capsys):
    notebook.show_source(diffusion.q_sample)
    printed = capsys.readouterr().out
    assert printed.startswith("def q_sample(")
    assert printed.endswith("return signal * x_0 + noise * eps\n")
    names = {"Tensor": torch.Tensor, "NoiseSchedule": object, "_same_shape": lambda *_: None}
    exec(printed, names)  # what is shown can be run
    assert names["q_sample"].__doc__ == diffusion.q_sample.__doc__


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("variable", [None, "CI", "TUTORIAL_LIB_QUIET"])
def test_progress_is_silent_unless_somebody_watches(monkeypatch, watched, variable):
    class Screen(io.StringIO):
        def isatty(self):
            return watched

    screen = Screen()
    for name in ("CI", "TUTORIAL_LIB_QUIET"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "1")
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr(sys, "stderr", screen)
    assert list(notebook.progress(range(5))) == [0, 1, 2, 3, 4]
    shown = screen.getvalue()
    if watched and variable is None:
        assert "5/5" in shown and "step/s" in shown
    else:
        assert shown == ""
