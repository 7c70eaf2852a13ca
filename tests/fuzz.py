"""Damaged files: whatever a reader is given, it reads it, or says in a plain error which is bad.

    python tests/fuzz.py files 10000

damages files of every kind that the package reads, so many times, and prints each that ends in
another way.  File number k is always damaged in the same way: `--first k` shows it again.
"""

import argparse
import faulthandler
import gzip
import io
import random
import struct
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import torch
from conftest import idx_bytes
from PIL import Image

from tutorial_lib import checkpoint, data, readers

PLAIN = (ValueError, OSError)  # what a reader may raise, FileNotFoundError among them
TEXT = [bytes([letter]) for letter in b"0123456789{}[]',:aT "]
EXTREME = (0, 1, 2, 255, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def whole_files(folder: Path) -> dict[str, tuple[bytes, Callable[[Path], object]]]:
    """Sound files of each kind: name -> (content, the reader for the folder they lie in)."""
    array = np.random.default_rng(0).integers(0, 256, (12, 10, 4), dtype=np.uint8)
    colour, grey = Image.fromarray(array[..., :3].copy()), Image.fromarray(array[..., 0].copy())
    exif = Image.Exif()
    exif[274] = 6
    deep = Image.fromarray(array[..., 0].astype(np.uint16) * 257)
    table = {"image": [colour] * 12, "label": list(range(12))}
    kinds = datasets.Features(image=datasets.Image(), label=datasets.Value("int64"))
    cells = {"image": [bytes(784)] * 3, "label": [0, 1, 2]}
    files = {
        "alpha.png": _encoded(Image.fromarray(array), exif=exif),
        "palette.png": _encoded(colour.quantize(8), "png", transparency=3),
        "deep.png": _encoded(deep, "png"),
        "a.jpg": _encoded(colour, "jpeg", exif=exif),
        "cmyk.jpg": _encoded(colour.convert("CMYK"), "jpeg", progressive=True),
        "a.bmp": _encoded(colour, "bmp"),
        "palette.bmp": _encoded(colour.quantize(8), "bmp"),
        "a.gif": _encoded(colour.quantize(8), "gif", save_all=True, append_images=[grey]),
        "a.webp": _encoded(Image.fromarray(array), "webp", exif=exif),
        "a.tif": _encoded(colour, "tiff", exif=exif),
        "packed.tiff": _encoded(grey, "tiff", compression="tiff_lzw"),
        "a.ppm": _encoded(colour, "ppm"),
        "a.pgm": _encoded(grey, "ppm"),
        "train-images-idx3-ubyte": idx_bytes(torch.from_numpy(array)),
        "a.gz": gzip.compress(idx_bytes(torch.from_numpy(array))),
        "a.npy": _saved(np.save, np.stack([array] * 12)),
        "a.npz": _saved(np.savez, x_train=array, y_train=np.arange(12), x_test=array),
        "packed.npz": _saved(np.savez_compressed, images=array, labels=np.arange(12)),
        "table.parquet": _parquet(folder, datasets.Dataset.from_dict(table, features=kinds)),
        "cells.parquet": _parquet(folder, datasets.Dataset.from_dict(cells)),
        "a.safetensors": _weights(folder),
    }
    return {name: (content, _reader(name)) for name, content in files.items()}


def damaged(content: bytes, chance: random.Random) -> bytes:
    """The same with some of it lost, changed, repeated or inserted, at the head more often."""
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        end = len(content) if chance.random() < 0.5 else min(len(content), 80)
        at = chance.randrange(end + 1)
        length = chance.choice((1, 1, 2, 4, 16, 100))
        behind = content[at + length :]
        number = struct.pack(chance.choice((">I", "<I", ">H", "<H")), 0)
        value = chance.choice(EXTREME) % 256 ** len(number)
        number = value.to_bytes(len(number), chance.choice(("big", "little")))
        content = chance.choice(
            (
                content[:at],  # cut off
                content[:at] + behind,  # cut out
                content[:at] + chance.randbytes(length) + behind,  # changed
                content[:at] + chance.randbytes(length) + content[at:],  # inserted
                content[:at] + content[at : at + length] + content[at:],  # repeated
                content[:at] + number + content[at + len(number) :],  # an extreme number
                content[:at] + chance.choice(TEXT) + content[at + 1 :],  # as in a header
            )
        )
    return content


def files(count: int, first: int = 0) -> tuple[Counter, list[str]]:
    """Damage this many files and read them.

    Returns how many of each kind were read all the same and how many refused, and what went wrong.
    """
    faults, ends = [], Counter()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = whole_files(Path(folder))
        names = list(whole)
        for number in range(first, first + count):
            name = names[number % len(names)]
            content, read = whole[name]
            place = Path(folder) / "one" / name
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(damaged(content, random.Random(number)))
            end = _end(read, place)
            place.unlink()
            ends[name, end if end in ("read", "refused") else "fault"] += 1
            if end not in ("read", "refused"):
                faults.append(f"{number} {name}: {end}")
    return ends, faults


def _end(read: Callable[[Path], object], place: Path) -> str:
    """How reading ends: "read", "refused", or what is wrong with the error."""
    try:
        read(place)
    except PLAIN as error:
        if place.name in str(error):
            return "refused"
        return f"{type(error).__name__} without the file's name: {error}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return "read"


def _reader(name: str) -> Callable[[Path], object]:
    if name.endswith("safetensors"):
        return checkpoint.load
    if name == "cells.parquet":
        return readers.read_parquet
    if "." not in name or name.endswith("gz"):
        return readers.read_idx
    if name.endswith(("npy", "npz", "parquet")):
        return data.load
    return lambda path: data.load(path.parent, size=None if len(name) % 2 else 8)


def _encoded(picture: Image.Image, kind: str = "png", **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _saved(save: Callable, *arrays: np.ndarray, **named: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    save(buffer, *arrays, **named)
    return buffer.getvalue()


def _parquet(folder: Path, table: datasets.Dataset) -> bytes:
    table.to_parquet(folder / "whole.parquet")
    return (folder / "whole.parquet").read_bytes()


def _weights(folder: Path) -> bytes:
    tensors = {"a": torch.arange(12.0).view(3, 4), "b": torch.ones(3, dtype=torch.int64)}
    checkpoint.save(folder / "whole.safetensors", tensors, {"model": {"widths": [8, 16]}})
    return (folder / "whole.safetensors").read_bytes()


def told(ends: Counter, faults: list[str], tried: str) -> bool:
    """Print how many of each kind ended in which way, and what went wrong; whether anything did."""
    for (name, end), number in sorted(ends.items()):
        print(f"{name:<24} {end:<8} {number:>6}")
    print(*faults, f"{len(faults)} faults in {tried}", sep="\n")
    return bool(faults)


if __name__ == "__main__":
    faulthandler.enable()
    datasets.disable_progress_bars()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["files"])
    parser.add_argument("count", type=int)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    ends, faults = files(options.count, options.first)
    raise SystemExit(told(ends, faults, f"{options.count:,} files"))
