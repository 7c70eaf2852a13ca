"""What the recipes share: the full data, without which none of them runs, and checksums."""

import hashlib
from dataclasses import replace
from pathlib import Path

from tutorial_lib import files
from tutorial_lib.data import IDX_FOLDERS, Images, load


def sha256(path: Path) -> str:
    """The checksum of a file, as text."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def full(split: str) -> Images:
    """One split of the full Fashion-MNIST.  Its source names no folder, because it is recorded.

    Raises FileNotFoundError where there is only the embedded subset.
    """
    images = load("auto", split)
    if len(images) < 10_000 or (split == "train" and len(images) < 60_000):
        raise FileNotFoundError(
            f"the recipes need the full Fashion-MNIST, but this machine has only "
            f"{images.source}; put its IDX files "
            f"into {IDX_FOLDERS[0]}, or install Debian's package dataset-fashion-mnist"
        )
    return replace(images, source=files.without_folders(images.source))
