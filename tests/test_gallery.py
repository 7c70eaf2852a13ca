"""The gallery of ten bugs in notebook 06b: its slips find their place, its record is of them."""

import sys

import torch
from conftest import ROOT

from tutorial_lib import checkpoint

sys.path[:0] = [str(ROOT / "tests" / "benchmarks")]
import gallery  # noqa: E402


def test_the_record_has_the_lines_that_the_slips_change():
    tensors, about = checkpoint.load("gallery")
    assert about["letters"] == list(gallery.BUGS) == list(about["answers"])
    for letter, (number, function, slip) in gallery.BUGS.items():
        was, became = gallery.changed(function, slip)
        assert about["answers"][letter] == number
        assert about["bugs"][letter] == {"function": function, "was": was, "became": became}
        assert was and became
        assert tensors[letter].shape == tensors["sound"].shape
        assert not torch.equal(tensors[letter], tensors["sound"])


def test_each_bug_has_a_number_of_its_own():
    numbers = [number for number, *_ in gallery.BUGS.values()]
    assert sorted(numbers) == list(range(1, 11))


def test_a_bug_is_put_in_and_taken_out_again():
    """With a stand-in for the network: shared noise makes pictures that differ less."""

    def network(x_t, t):
        return 0.5 * x_t

    sound = gallery.draw(network)
    _, function, slip = gallery.BUGS["A"]
    broken = gallery.drawn_with(network, function, slip)
    assert torch.equal(gallery.draw(network), sound)
    assert broken.float().std(0).mean() < sound.float().std(0).mean()
