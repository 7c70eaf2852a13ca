"""The page on training: its commands are understood, and its table names what there is."""

import re
import shlex
from dataclasses import fields

import pytest
from conftest import ROOT

from tutorial_lib import cli
from tutorial_lib.cli import objectives
from tutorial_lib.config import DiffusionConfig
from tutorial_lib.recipes.__main__ import RECIPES

PAGE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line, comments=True)
    for block in re.findall(r"^```bash\n(.*?)^```", PAGE, re.M | re.S)
    for line in block.replace("\\\n", " ").splitlines()
    if not line.startswith("#")
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_its_commands_are_understood(words):
    own = words[words.index("tutorial_lib") + 1 :]
    assert cli._parser().parse_args(own)  # exits when it does not understand


def test_several_processes_and_several_machines_are_among_them():
    launchers = [words[0] for words in COMMANDS]
    assert launchers.count("torchrun") == 3 and "accelerate" in launchers


def test_recipes_in_place_of_an_objective_are_those_that_the_error_names():
    _, _, rows = PAGE.partition("| recipe | what is trained |")
    named = re.findall(r"^\| `(\w+)` \|", rows.partition("\n## ")[0], re.M)
    assert tuple(named) == objectives.RECIPES
    assert set(named) <= {recipe.__name__ for recipe in RECIPES}


def test_every_setting_is_a_flag():
    options = vars(cli._parser().parse_args(["train", "--out", "run"]))
    assert {field.name for field in fields(DiffusionConfig)} <= options.keys()


def test_its_links_lead_somewhere():
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", PAGE)
    assert links and all((ROOT / "docs" / link).exists() for link in links)
