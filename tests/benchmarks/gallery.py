"""Ten bugs and what they draw: the gallery of notebook 06b, made by the operators of `mutants.py`.

    python tests/benchmarks/gallery.py      makes tutorial_lib/assets/gallery.safetensors anew

Each bug is one slip in one function of the library, or in the lines of `draw` below that call it.
"""

import ast
import inspect
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests")]
import test_mutations  # noqa: E402
from mutants import (  # noqa: E402
    Slip,
    drop_call,
    drop_root,
    drop_term,
    earlier,
    flip_sign,
    other_call,
    other_constant,
    other_string,
    swap_arguments,
)

from tutorial_lib import checkpoint, data, sample  # noqa: E402
from tutorial_lib.denoise import denoiser  # noqa: E402
from tutorial_lib.files import ASSETS  # noqa: E402
from tutorial_lib.nets.unet import restore  # noqa: E402
from tutorial_lib.schedule import named  # noqa: E402

COUNT, STEPS = 6, 40
OWN = "draw"  # the function below, as a row names it
SHARED = "torch.randn(x[:1].shape, generator=generator, dtype=x.dtype).expand_as(x)"
# letter: its number in the list of exercise 06b.4, the function, and the slip in it
BUGS: dict[str, tuple[int, str, Slip]] = {
    "A": (3, "gaussian.noise_like", other_call(0, randn=SHARED)),
    "B": (9, OWN, other_string(0, cosine="linear")),
    "C": (2, "sample.ddpm", drop_root(0)),
    "D": (8, OWN, other_string(0, v="x_0")),
    "E": (4, "sample.ddpm", other_constant(0)),
    "F": (10, "data.to_pixels", drop_call(3)),
    "G": (1, "sample.ddpm", drop_term(6)),
    "H": (6, "sample.ddpm", swap_arguments(1)),
    "I": (5, "sample.ddpm", earlier(0, name="i")),
    "J": (7, "diffusion.x_0_from", flip_sign(2)),
}


def draw(network) -> Tensor:
    """Garments, (COUNT, 1, 28, 28) uint8, by Algorithm 2."""
    schedule, generator = named("cosine", 1000), torch.Generator().manual_seed(0)
    denoise = denoiser(network, schedule, target="v", clip=False)
    x_T = sample.start(COUNT, (1, 28, 28), generator=generator)
    frames = sample.ddpm(denoise, schedule, x_T, generator=generator, steps=STEPS)
    return data.to_pixels(sample.final(frames))


def source_of(function: str) -> str:
    """What a function says."""
    return inspect.getsource(draw) if function == OWN else test_mutations.source_of(function)


def changed(function: str, slip: Slip) -> tuple[list[str], list[str]]:
    """The lines that the slip changes, before and after."""
    tree = ast.parse(source_of(function)).body[0]
    sound = ast.unparse(tree).splitlines()
    broken = ast.unparse(slip(tree)).splitlines()
    return [one for one in sound if one not in broken], [one for one in broken if one not in sound]


def drawn_with(network, function: str, slip: Slip) -> Tensor:
    """What is drawn with this slip."""
    if function == OWN:
        names = dict(globals())
        exec(ast.unparse(slip(ast.parse(source_of(OWN)).body[0])), names)
        return names[OWN](network)
    with pytest.MonkeyPatch.context() as patch:
        test_mutations.break_library(patch, function, slip)
        return draw(network)


def publish() -> None:
    """Draw the gallery and store it, with the changed lines in its header."""
    network = restore(*checkpoint.load("fashion_mnist"))
    tensors = {"sound": draw(network)}
    lines = {}
    for letter, (_, function, slip) in BUGS.items():
        tensors[letter] = drawn_with(network, function, slip)
        was, became = changed(function, slip)
        lines[letter] = {"function": function, "was": was, "became": became}
    about = {
        "what": "six garments, sound and with each of ten bugs",
        "recipe": "python tests/benchmarks/gallery.py",
        "letters": list(BUGS),
        "answers": {letter: number for letter, (number, *_) in BUGS.items()},
        "bugs": lines,
    }
    checkpoint.save(ASSETS / "gallery.safetensors", tensors, about)


if __name__ == "__main__":
    publish()
