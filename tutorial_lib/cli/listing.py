"""The commands that only list: what data and what weights are here."""

import argparse
import json
from pathlib import Path
from typing import Any

from torch import Tensor

from tutorial_lib import checkpoint
from tutorial_lib import data as sources


def add(parser: argparse.ArgumentParser) -> None:
    """The one option of all commands that list."""
    parser.add_argument("--json", action="store_true", help="one JSON document instead of text")


def data(options: argparse.Namespace) -> None:
    """List the sources of Fashion-MNIST found here, with counts and checksums."""
    found = [_source(name, kind) for name, kind in sources.available()]
    verified = sources.verify_embedded()
    if options.json:
        print_json({"sources": found, "embedded": verified})
        return
    for number, source in enumerate(found):
        print(f"{source['name']} ({source['kind']}){', taken by auto' if number == 0 else ''}")
        for split, one in source["splits"].items():
            if "missing" in one:
                print(f"  {split:<5} none: {one['missing']}")
                continue
            size = " x ".join(map(str, one["shape"][1:]))
            print(
                f"  {split:<5} {one['count']:>6,} images of {size} pixels, {one['classes']} classes"
            )
    print(f"embedded: {verified}")


def _source(name: str, kind: str) -> dict[str, Any]:
    """One source of data with the sizes of its splits, in plain values."""
    splits: dict[str, dict[str, Any]] = {}
    for split in sources.SPLITS:
        try:
            images = sources.load(name, split)
        except FileNotFoundError as error:
            splits[split] = {"missing": str(error)}
            continue
        shape, classes = list(images.pixels.shape[1:]), len(images.labels.unique())
        splits[split] = {"count": len(images), "shape": shape, "classes": classes}
    return {"name": name, "kind": kind, "splits": splits}


def weights(options: argparse.Namespace) -> None:
    """List the weights and records that ship, with their configuration and figures."""
    found = []
    for name, path in checkpoint.shipped().items():
        tensors, configuration = checkpoint.load(path)
        found.append({"name": name, **described(path, tensors), "configuration": configuration})
    if options.json:
        print_json({"weights": found})
        return
    for one in found:
        print(f"{one['name']}: {one['bytes'] / 1e6:.1f} MB, {one['numbers']:,} numbers")
        print_configuration(one["configuration"])


def described(path: Path, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Where a file of tensors lies, and how large it is, in plain values."""
    numbers = sum(tensor.numel() for tensor in tensors.values())
    return {"path": str(path), "bytes": path.stat().st_size, "numbers": numbers}


def print_configuration(configuration: dict[str, Any]) -> None:
    """One line for each entry."""
    for key, value in configuration.items():
        print(f"  {key}: {value if isinstance(value, str | int) else json.dumps(value)}")


def print_json(document: dict[str, Any]) -> None:
    """One JSON document, in ASCII, whatever the terminal understands."""
    print(json.dumps(document, indent=2))
