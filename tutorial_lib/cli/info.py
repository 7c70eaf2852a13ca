"""`info`: what a run or a file of weights holds, how it was made, and what it is good for."""

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

from torch import Tensor

from tutorial_lib import checkpoint
from tutorial_lib.cli import listing, trained

STATE = {"model", "ema"}  # the parts of a run that goes on, beside those of an optimiser
OPTIMISERS = {"adam", "muon"}


def add(parser: argparse.ArgumentParser) -> None:
    """The options of `info`."""
    listing.add(parser)
    parser.add_argument(
        "weights", metavar="NAME|PATH", help="a shipped name, a file, or a folder that train wrote"
    )


def run(options: argparse.Namespace) -> None:
    """Show one run or one file of weights: what it holds, and what can be done with it."""
    path = checkpoint.find(options.weights)
    tensors, configuration = checkpoint.load(path)
    found = {
        **listing.described(path, tensors),
        "parts": _parts(tensors),
        "sample": _sampling(tensors, configuration),
        "resume": _resuming(tensors, configuration),
        "configuration": configuration,
    }
    if options.json:
        listing.print_json(found)
    else:
        _print(path, found)


def _parts(tensors: dict[str, Tensor]) -> dict[str, dict[str, Any]]:
    """The parts of a file by the first word of each tensor's name: how much, and in which dtype."""
    numbers: Counter[str] = Counter()
    dtypes: dict[str, set[str]] = {}
    for name, tensor in tensors.items():
        part = name.split(".")[0]
        numbers[part] += tensor.numel()
        dtypes.setdefault(part, set()).add(str(tensor.dtype).removeprefix("torch."))
    return {part: {"numbers": numbers[part], "dtypes": sorted(dtypes[part])} for part in dtypes}


def _sampling(tensors: dict[str, Tensor], configuration: dict[str, Any]) -> dict[str, Any]:
    """Whether `sample` can draw with these weights, and if not, why."""
    try:
        trained.read(tensors, configuration)
    except (ValueError, TypeError) as error:
        return {"possible": False, "because": str(error)}
    return {"possible": True}


def _resuming(tensors: dict[str, Tensor], configuration: dict[str, Any]) -> dict[str, Any]:
    """Whether `train --resume` can go on with them, and if not, why."""
    parts = {name.split(".")[0] for name in tensors}
    if not (parts >= STATE and parts & OPTIMISERS):
        return {"possible": False, "because": "they hold no state of an optimiser"}
    if missing := [name for name in ("model", "train", "step") if name not in configuration]:
        return {"possible": False, "because": f"they do not record {' and '.join(missing)}"}
    return {"possible": True}


def _print(path: Path, found: dict[str, Any]) -> None:
    print(f"{path}: {found['bytes'] / 1e6:.1f} MB, {found['numbers']:,} numbers")
    for name, part in found["parts"].items():
        print(f"  {name}: {part['numbers']:,} numbers ({', '.join(part['dtypes'])})")
    for what, done in {"sample": "sampled from", "resume": "resumed"}.items():
        answer = "yes" if found[what]["possible"] else f"no, {found[what]['because']}"
        print(f"can be {done}: {answer}")
    print("configuration:")
    listing.print_configuration(found["configuration"])
