"""Pictures and labels read from files: IDX, Parquet, and folders of image files."""

import gzip
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
UNSIGNED_BYTES = b"\0\0\x08"  # how the header of an IDX file of such numbers begins


def read_idx(path: Path) -> Tensor:
    """One IDX file of unsigned bytes, plain or gzipped, as a uint8 tensor.

    IDX is the format in which MNIST and its relatives were published: two zero bytes, the type of
    the numbers, how many axes there are, the length of each axis in four bytes; then the numbers.
    Raises ValueError if the file is damaged or of another kind.  (Notebook 05)
    """
    raw = _unzipped(path)
    axes = raw[3] if len(raw) > 3 else 0
    header = 4 + 4 * axes  # the length of the header, in bytes
    if len(raw) < header or raw[:3] != UNSIGNED_BYTES:
        begins = raw[:4].hex() or "nothing"
        raise ValueError(f"{path} is not an IDX file of unsigned bytes: it begins with {begins}")
    shape = struct.unpack_from(f">{axes}I", raw, offset=4)
    body = np.frombuffer(raw, np.uint8, offset=header)
    if body.size != np.prod(shape):
        raise ValueError(
            f"{path} is damaged: its header promises {shape}, but {body.size:,} bytes follow"
        )
    return torch.from_numpy(body.reshape(shape).copy())


def _unzipped(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
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


def read_folder(folder: Path, size: int | None = None) -> tuple[Tensor, Tensor]:
    """The image files in a folder and below, grey or in colour; each subfolder is a class.

    size: resize each to size x size; without it they must all agree.
    Returns (N, C, H, W) uint8 with C = 1 if all are grey, else 3, and (N,) int64.
    Raises FileNotFoundError where there are no images, ValueError where one cannot be read or their
    sizes differ.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise FileNotFoundError(f"no IDX files and no images ({', '.join(SUFFIXES)}) in {folder}")
    pictures = list(_opened(paths, size))
    sizes = sorted({picture.size for picture in pictures})
    if len(sizes) > 1:
        raise ValueError(
            f"the {len(paths)} images in {folder} have {len(sizes)} different sizes, "
            f"from {sizes[0]} to {sizes[-1]}; "
            "give one size to bring them all to (size=28, or --size 28)"
        )
    if all(picture.mode in ("1", "L", "LA") for picture in pictures):
        grey = [np.asarray(picture.convert("L")) for picture in pictures]  # (H, W) each
        pixels = np.stack(grey)[:, None]  # (N, 1, H, W)
    else:
        colour = [np.asarray(picture.convert("RGB")) for picture in pictures]  # (H, W, 3) each
        pixels = np.stack(colour).transpose(0, 3, 1, 2)  # (N, 3, H, W)
    classes = sorted({path.parent for path in paths})
    labels = [classes.index(path.parent) for path in paths]
    return torch.from_numpy(pixels.copy()), torch.tensor(labels)


def _opened(paths: list[Path], size: int | None) -> Iterator[Image.Image]:
    """The pictures in these files, resized to size x size if a size is given."""
    if size is not None and size < 1:
        raise ValueError(f"size must be a positive number of pixels, got {size}")
    for path in paths:
        try:
            with Image.open(path) as file:
                picture = file.copy()  # reads it
        except (UnidentifiedImageError, OSError) as error:
            raise ValueError(f"{path} is not a readable image: {error}") from error
        if picture.mode.startswith("I;16"):  # grey in 16 bits: keep the upper 8
            picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
        if size is not None:
            picture = picture.resize((size, size), Image.Resampling.LANCZOS)
        yield picture
