"""The commands that only list: what data and what weights are here."""

import argparse
import json

from tutorial_lib import checkpoint
from tutorial_lib import data as sources


def data(options: argparse.Namespace) -> None:
    """List the sources of Fashion-MNIST found here, with counts and checksums."""
    for number, (source, what) in enumerate(sources.available()):
        print(f"{source} ({what}){', taken by auto' if number == 0 else ''}")
        for split in sources.SPLITS:
            images = sources.load(source, split)
            size = " x ".join(map(str, images.pixels.shape[2:]))
            classes = len(images.labels.unique())
            print(f"  {split:<5} {len(images):>6,} images of {size} pixels, {classes} classes")
    print(f"embedded: {sources.verify_embedded()}")


def weights(options: argparse.Namespace) -> None:
    """List the weights and records that ship, with their configuration and figures."""
    for name, path in checkpoint.shipped().items():
        tensors, configuration = checkpoint.load(path)
        numbers = sum(tensor.numel() for tensor in tensors.values())
        print(f"{name}: {path.stat().st_size / 1e6:.1f} MB, {numbers:,} numbers")
        for key, value in configuration.items():
            print(f"  {key}: {value if isinstance(value, str | int) else json.dumps(value)}")
