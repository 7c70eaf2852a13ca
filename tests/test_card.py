"""Model cards: what they say is what the weights' own record says, in a form that the hub reads."""

import shlex

import pytest
import yaml

from tutorial_lib import checkpoint
from tutorial_lib.cli import _parser
from tutorial_lib.cli.card import card
from tutorial_lib.config import DiffusionConfig

RECORD = {
    "model": {"image_size": 8, "channels": 3, "widths": [16, 32], "blocks": 2, "patch": 2},
    "data": "/home/anna/my shapes: 300 colour images",
    "images": {"source": "/home/anna/my shapes", "size": 8, "count": 300, "sha256": "ab12"},
    "train": {"steps": 70, "lr": 0.01, "flip": True, "target": "eps", "report_every": 1},
    "step": 60,
    "record": {"torch": "2.6.0"},
}


def head(text: str) -> dict:
    """What the YAML between the first two lines of dashes says."""
    before, between, _ = text.split("---\n", 2)
    assert before == ""
    return yaml.safe_load(between)


def test_a_card_says_what_the_record_says_and_no_private_path():
    text = card(RECORD, figures={"final loss": "0.0123"})
    assert head(text)["license"] == "unknown" and "datasets" not in head(text)
    assert "diffusion" in head(text)["tags"]
    for said in ("colour pictures, 8 x 8", "my shapes: 300 colour images", "ab12", "16, 32"):
        assert said in text
    for said in ("- step: 60", "- target: eps", "- flip: yes", "torch: 2.6.0", "0.0123"):
        assert said in text
    assert "/home/anna" not in text


def test_the_command_on_a_card_trains_the_same():
    """It is read by the parser of the command line, and gives the settings back."""
    (command,) = [line for line in card(RECORD).splitlines() if "tutorial_lib train" in line]
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "tutorial_lib"]
    options = _parser().parse_args(words[3:])
    asked = {name: getattr(options, name) for name in RECORD["train"] if name != "report_every"}
    assert asked | {"report_every": 1} == RECORD["train"]
    assert (options.data, options.size) == ("my shapes", 8)
    assert (options.widths, options.blocks, options.patch) == ((16, 32), 2, None)
    assert options.lr_end is None and options.seed == DiffusionConfig().seed
    # of which the record is too old to speak
    assert (options.momentum, options.t_sampling) == (0.95, "uniform")


@pytest.mark.parametrize(
    ("weights", "name"), [("hub:ada/cats", "hub:ada/cats"), ("/home/anna/first run", "first run")]
)
def test_a_card_names_the_weights_that_training_began_from(weights, name):
    text = card(RECORD | {"from": {"weights": weights, "step": 3}})
    assert f"- began from the weights: {name}\n" in text
    (command,) = [line for line in text.splitlines() if "tutorial_lib train" in line]
    words = shlex.split(command)
    assert words[words.index("--from") + 1] == name and "/home/anna" not in text


@pytest.mark.parametrize("source", ["auto", "embedded", "hub"])
def test_fashion_mnist_has_its_licence_and_its_name_on_the_hub(source):
    record = RECORD | {"images": RECORD["images"] | {"source": source}}
    assert head(card(record))["license"] == "mit"
    assert head(card(record))["datasets"] == ["zalando-datasets/fashion_mnist"]


def test_the_card_of_the_shipped_weights():
    """Their record is older: it lacks the images and the versions, and has figures."""
    text = card(checkpoint.load("fashion_mnist")[1])
    assert head(text)["license"] == "mit"
    assert "1.26 (95 %: 1.18 to 1.33), 10,000 samples" in text and "at most: 3.38" in text
    assert "- step: 25000" in text and "Made with" not in text
    assert "fashion-mnist: 60,000 train images" in text and "/usr/share" not in text
