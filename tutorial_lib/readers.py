"""Pictures and labels read from files: IDX, as MNIST was published, and the package's Parquet."""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

SPLITS = {"train": "train", "test": "t10k"}  # ours -> the prefix of the IDX files
UNSIGNED_BYTES = b"\0\0\x08"  # how the header of an IDX file of such numbers begins


def read_idx(path: Path) -> Tensor:
    """One IDX file of unsigned bytes, plain or gzipped, as a uint8 tensor.

    IDX is the format in which MNIST and its relatives were published: two zero bytes, the type of
    the numbers, how many axes there are, the length of each axis in four bytes; then the numbers.
    Raises ValueError if the file is damaged or of another kind.  (Notebook 05)
    """
    raw = _content(path)
    axes = raw[3] if len(raw) > 3 else 0
    header = 4 + 4 * axes  # the length of the header, in bytes
    if len(raw) < header or raw[:3] != UNSIGNED_BYTES:
        begins = raw[:4].hex() or "nothing"
        raise ValueError(f"{path} is not an IDX file of unsigned bytes: it begins with {begins}")
    shape = struct.unpack_from(f">{axes}I", raw, offset=4)
    body = np.frombuffer(raw, np.uint8, offset=header)
    try:
        values = body.reshape(shape)
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged: its header promises {shape}, but {body.size:,} bytes follow"
        ) from error
    return torch.from_numpy(values.copy())


def find_idx(folder: Path) -> Path | None:
    """Where IDX files lie: in a folder itself, or, as other loaders leave them, one or two below.

    Returns None where there are none.  Raises ValueError where they lie in several places.
    """
    if _has_idx(folder):
        return folder
    below = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    places = [place for path in below for place in (path, path / "raw") if _has_idx(place)]
    if len(places) > 1:
        raise ValueError(f"IDX files lie in {' and in '.join(map(str, places))}; name one of them")
    return places[0] if places else None


def idx_file(folder: Path, split: str, kind: str) -> Path | None:
    """The file with a split's "images" or "labels", plain or gzipped; None where there is none.

    Some loaders have a dot in its name where others have a hyphen.
    """
    dimensions = 3 if kind == "images" else 1
    for joint in "-.":
        name = f"{SPLITS[split]}-{kind}{joint}idx{dimensions}-ubyte"
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    return None


def read_idx_split(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """The pictures and labels of one split: (N, 1, H, W) uint8 and (N,) int64.

    Raises FileNotFoundError where one of the two files is missing, ValueError where they are
    damaged or do not fit.
    """
    images, labels = (idx_file(folder, split, kind) for kind in ("images", "labels"))
    if images is None:
        raise FileNotFoundError(
            f"{folder} holds IDX files, but none with {split} images, "
            f"{SPLITS[split]}-images-idx3-ubyte[.gz]"
        )
    if labels is None:
        raise FileNotFoundError(
            f"{folder} holds {images.name} but no {SPLITS[split]}-labels-idx1-ubyte[.gz] beside it"
        )
    pixels = read_idx(images)  # (N, H, W)
    targets = read_idx(labels)  # (N,)
    if pixels.ndim != 3 or targets.shape != pixels.shape[:1]:
        raise ValueError(
            f"{folder}: images of shape {tuple(pixels.shape)} "
            f"and labels of shape {tuple(targets.shape)} do not match"
        )
    if pixels.numel() == 0:
        raise ValueError(f"there are no images in {images}")
    return pixels[:, None], targets.long()


def _has_idx(folder: Path) -> bool:
    return any(idx_file(folder, split, "images") for split in SPLITS)


def _content(path: Path) -> bytes:
    """What is in a file, unzipped if its name ends in .gz."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise type(error)(f"{path} could not be read: {error.strerror}") from error
    try:
        return gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is not a complete gzip file: {error}") from error


def read_parquet(path: Path) -> tuple[Tensor, Tensor]:
    """Pixels and labels of a file with the columns image (784 bytes each) and label.

    Returns (N, 1, 28, 28) uint8 and (N,) int64.  Raises ValueError for any other file.
    (`datasets` reads such a file too, but takes 0.8 s to be imported.)
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
        raw = b"".join(table.column("image").to_pylist())
        pixels = np.frombuffer(raw, np.uint8).reshape(table.num_rows, 1, 28, 28)
        labels = table.column("label").to_numpy().astype(np.int64)
    except (pa.ArrowInvalid, OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not a readable Parquet file of images and labels: {error}"
        ) from error
    return torch.from_numpy(pixels.copy()), torch.from_numpy(labels)
