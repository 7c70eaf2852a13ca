"""`export`: the averaged weights of a run alone, to be kept, shared and sampled from."""

import argparse
from pathlib import Path
from typing import Any

from torch import Tensor

from tutorial_lib import checkpoint, files, hub
from tutorial_lib.cli.card import card

ENDING = ".safetensors"


def add(parser: argparse.ArgumentParser) -> None:
    """The options of `export`."""
    parser.add_argument("run_folder", metavar="RUN", help="a folder that train wrote, or its file")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE|DIR",
        help=f"a file that ends in {ENDING}, or a folder, which gets a README.md as well",
    )
    parser.add_argument(
        "--half", action="store_true", help="in 16 bits: half the size, and nearly as exact"
    )
    parser.add_argument(
        "--push", metavar="USER/NAME", help="upload that folder to Hugging Face's hub, in private"
    )


def run(options: argparse.Namespace) -> None:
    """Write the averaged weights of a run alone, without what training needs."""
    alone = options.out.suffix == ENDING
    if alone and options.push:
        raise ValueError("--push uploads a folder, with its card; let --out be one")
    path = options.out if alone else options.out / checkpoint.FILE
    wanted = [path] if alone else [path, options.out / hub.CARD]
    for place in wanted:
        if place.exists():
            raise ValueError(f"{place} is there already; choose another place, or move it away")
    tensors, configuration = checkpoint.load(options.run_folder)
    averaged = checkpoint.prefixed("ema", checkpoint.part(tensors, "ema"))
    configuration = _public(configuration)
    checkpoint.save(path, _halved(averaged) if options.half else averaged, configuration)
    if not alone:
        files.write(options.out / hub.CARD, card(configuration).encode())
    print(f"averaged weights in {path} ({path.stat().st_size / 1e6:.1f} MB)")
    if options.push:
        print(f"pushed: they are --weights {hub.push(options.out, options.push)}")


def _halved(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in 16 bits.  Raises ValueError where a number is too large for them."""
    halved = {}
    for name, tensor in tensors.items():
        halved[name] = tensor.half() if tensor.is_floating_point() else tensor
    for name, tensor in halved.items():
        if not tensor.isfinite().all():
            raise ValueError(f"{name} has numbers that do not fit into 16 bits; leave out --half")
    return halved


def _public(value: Any) -> Any:
    """A record, with the folders of this machine called by their last name alone: it is shared."""
    if isinstance(value, dict):
        return {name: _public(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_public(one) for one in value]
    return files.without_folders(value) if isinstance(value, str) else value
