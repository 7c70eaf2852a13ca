"""The bundle for rooms without internet: what goes in, and what its scripts do."""

import re
import shutil
import subprocess
import sys
import tomllib

import bundle
import make_venv
import pytest
from conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_everything_that_setting_up_asks_for_is_fetched_and_pytorch_first():
    wanted = bundle.requirements()
    assert wanted[0].startswith("torch>=")
    extras = PROJECT["project"]["optional-dependencies"]
    named = re.search(r"\[(.*)\]", make_venv.REST[-1])[1].split(",")
    for line in [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]]:
        assert line in wanted
    for extra in (*named, "tests", "grading"):
        assert set(extras[extra]) <= set(wanted)


def test_all_files_of_the_repository_go_in_and_nothing_else():
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone")
    files = bundle.tracked()
    assert {
        "README.md",
        "Makefile",
        "tools/make_venv.py",
        "constraints.txt",
        "notebooks/01_markov_chains.ipynb",
    } <= set(files)
    assert not [name for name in files if name.startswith(("build/", ".venv/"))]


def test_a_folder_that_is_no_clone_is_said(tmp_path):
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "bundle.py", tmp_path / "tools")
    done = subprocess.run(
        [sys.executable, tmp_path / "tools" / "bundle.py"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "made from a git clone" in done.stderr
    assert not (tmp_path / "build").exists()


@pytest.mark.skipif(shutil.which("sh") is None, reason="needs a shell")
def test_the_script_refuses_another_python_and_asks_for_the_right_one(tmp_path):
    (tmp_path / "install.sh").write_text(bundle.INSTALL_SH)
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\nexit 1\n")
    other.chmod(0o755)
    done = subprocess.run(
        ["sh", "install.sh"],
        cwd=tmp_path,
        env={"PYTHON": str(other)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert f"These wheels are for Python {bundle.VERSION}" in done.stdout
    assert not (tmp_path / ".venv").exists()


def test_both_scripts_set_up_without_a_network():
    for text in (bundle.INSTALL_SH, bundle.INSTALL_BAT):
        assert "PIP_NO_INDEX=1" in text
        assert "PIP_FIND_LINKS=wheels" in text
        assert "make_venv.py" in text
