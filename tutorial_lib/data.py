"""Fashion-MNIST, or a folder of one's own images, as uint8 tensors; and the only way into [-1, 1]
and back.
"""

import gzip
import hashlib
import io
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from tutorial_lib.files import ASSETS

IDX_FOLDERS = (
    Path("data/fashion-mnist"),
    Path("/usr/share/datasets/fashion-mnist"),
)  # the second is Debian's
HUB, HUB_REVISION = "zalando-datasets/fashion_mnist", "531be5e2ccc9dba0c201ad3ae567a4f3d16ecdd2"
CLASSES = (
    "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
SPLITS = {"train": "train", "test": "t10k"}  # ours -> the prefix of the IDX files
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")


@dataclass(frozen=True, eq=False)
class Images:
    """Pictures in memory.  pixels: (N, C, H, W) uint8.  labels: (N,) int64.  source: where from, in
    one line.
    """

    pixels: Tensor
    labels: Tensor
    source: str

    def __len__(self) -> int:
        return len(self.pixels)


def to_model(pixels: Tensor) -> Tensor:
    """Pixels 0..255 (uint8) to the range in which diffusion happens, [-1, 1] (float32)."""
    if pixels.dtype != torch.uint8:
        raise TypeError(
            f"pixels must be uint8 in 0..255, got {pixels.dtype}; is this tensor scaled already?"
        )
    return pixels.float().div_(127.5).sub_(1)


def to_pixels(x: Tensor) -> Tensor:
    """[-1, 1] back to pixels 0..255 (uint8): clamp, then round; the inverse of `to_model`."""
    return x.detach().float().clamp(-1, 1).add(1).mul_(127.5).round_().to(torch.uint8)


def batch(images: Images, indices: Tensor, flip: Tensor | None = None) -> Tensor:
    """The chosen images in [-1, 1], (B, C, H, W) float32.  flip: (B,) bool, which ones to mirror
    left to right.
    """
    x_0 = to_model(images.pixels[indices])
    return x_0 if flip is None else torch.where(flip[:, None, None, None], x_0.flip(-1), x_0)


def load(source: str | Path = "auto", split: str = "train", size: int | None = None) -> Images:
    """Load one split of a source.

    source: "auto" (local IDX files, else a cached hub copy, else embedded; never the network),
    "embedded", "hub" (downloads if need be), a folder of IDX files, or a folder of images with any
    subfolders as classes.
    size: only for a folder of images: resize each to size x size; without it they must all agree.
    Raises FileNotFoundError or ValueError with what was found and what is legal.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; choose one of {', '.join(SPLITS)}")
    if source == "auto":
        return _auto(split)
    if source == "embedded":
        return _embedded(split)
    if source == "hub":
        return _hub(split)
    folder = Path(source)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no data source {str(source)!r}; choose auto, embedded, hub or an existing folder"
        )
    return (
        _idx(folder, split) if _idx_file(folder, split, "images") else _image_folder(folder, size)
    )


def available() -> list[tuple[str, str]]:
    """The sources of Fashion-MNIST that this machine has, best first: (name, description).  No
    network.
    """
    found = [
        (str(folder), "IDX files") for folder in IDX_FOLDERS if _idx_file(folder, "train", "images")
    ]
    if _cached_hub("train"):
        found.append(("hub", f"cached copy of {HUB}"))
    return [*found, ("embedded", "10,000 + 2,000 images inside the package")]


def _auto(split: str) -> Images:
    for folder in IDX_FOLDERS:
        if _idx_file(folder, split, "images"):
            return _idx(folder, split)
    return _hub(split) if _cached_hub(split) else _embedded(split)


def verify_embedded() -> str:
    """Compare the embedded files with their recorded checksums; raise ValueError on a mismatch."""
    about = json.loads((ASSETS / "fashion_mnist_data.json").read_text())
    for name, expected in about["sha256"].items():
        actual = hashlib.sha256((ASSETS / name).read_bytes()).hexdigest()
        if actual != expected:
            raise ValueError(
                f"{name} is damaged: its SHA-256 is {actual}, not {expected}; reinstall the package"
            )
    return f"{len(about['sha256'])} files match their checksums; {about['licence']}"


def _embedded(split: str) -> Images:
    pixels, labels = _parquet(ASSETS / f"fashion_mnist_{split}.parquet")
    return Images(
        pixels,
        labels,
        f"embedded: {len(pixels):,} {split} images of Fashion-MNIST, balanced by class",
    )


def _parquet(path: Path) -> tuple[Tensor, Tensor]:
    """Columns image (784 bytes each) and label.  `datasets` reads the file too, but needs 0.8 s to
    be imported.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
        pixels = np.frombuffer(b"".join(table.column("image").to_pylist()), np.uint8).reshape(
            table.num_rows, 1, 28, 28
        )
        labels = table.column("label").to_numpy().astype(np.int64)
    except (pa.ArrowInvalid, OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not a readable Parquet file of images and labels: {error}"
        ) from error
    return torch.from_numpy(pixels.copy()), torch.from_numpy(labels)


def _decode(
    dataset,
) -> tuple[Tensor, Tensor]:  # a datasets.Dataset with columns image (encoded) and label
    encoded = dataset.data.column("image").combine_chunks().field("bytes").to_pylist()
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(data))) for data in encoded])  # (N, 28, 28)
    labels = dataset.data.column("label").to_numpy()
    return torch.from_numpy(pixels)[:, None], torch.from_numpy(labels.astype(np.int64))


def _cached_hub(split: str) -> list[Path]:
    import datasets

    prepared = Path(datasets.config.HF_DATASETS_CACHE) / HUB.replace("/", "___")
    return sorted(prepared.glob(f"**/{HUB_REVISION}/*-{split}.arrow"))


def _hub(split: str) -> Images:
    import datasets

    if cached := _cached_hub(split):
        dataset = datasets.Dataset.from_file(str(cached[0]))
    else:
        try:
            dataset = datasets.load_dataset(HUB, revision=HUB_REVISION, split=split)
        except (ConnectionError, OSError) as error:
            raise FileNotFoundError(
                f"could not fetch {HUB} ({error}); without network use embedded, or a folder of IDX files"
            ) from error
    pixels, labels = _decode(dataset)
    return Images(pixels, labels, f"hub: {len(pixels):,} {split} images of {HUB}")


def _idx_file(folder: Path, split: str, kind: str) -> Path | None:
    stem = f"{SPLITS[split]}-{kind}-idx{3 if kind == 'images' else 1}-ubyte"
    return next((path for path in (folder / stem, folder / f"{stem}.gz") if path.is_file()), None)


def _idx(folder: Path, split: str) -> Images:
    images, labels = _idx_file(folder, split, "images"), _idx_file(folder, split, "labels")
    if labels is None:
        raise FileNotFoundError(
            f"{folder} holds {images.name} but no {SPLITS[split]}-labels-idx1-ubyte[.gz] beside it"
        )
    pixels, targets = read_idx(images), read_idx(labels)
    if pixels.ndim != 3 or targets.shape != pixels.shape[:1]:
        raise ValueError(
            f"{folder}: images of shape {tuple(pixels.shape)} and labels of shape {tuple(targets.shape)} do not match"
        )
    if len(pixels) == 0:
        raise ValueError(f"there are no images in {images}")
    return Images(
        pixels[:, None], targets.long(), f"{folder}: {len(pixels):,} {split} images (IDX)"
    )


def read_idx(path: Path) -> Tensor:
    """One IDX file of unsigned bytes, plain or gzipped, as a uint8 tensor.  Raises ValueError if it
    is damaged.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is not a complete gzip file: {error}") from error
    if len(raw) < 4 or raw[:3] != b"\0\0\x08" or len(raw) < 4 + 4 * raw[3]:
        raise ValueError(
            f"{path} is not an IDX file of unsigned bytes: it begins with {raw[:4].hex() or 'nothing'}"
        )
    shape = struct.unpack_from(f">{raw[3]}I", raw, 4)
    body = np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3])
    if body.size != np.prod(shape):
        raise ValueError(
            f"{path} is damaged: its header promises {shape}, but {body.size:,} bytes follow"
        )
    return torch.from_numpy(body.reshape(shape).copy())


def _image_folder(folder: Path, size: int | None) -> Images:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise FileNotFoundError(f"no IDX files and no images ({', '.join(SUFFIXES)}) in {folder}")
    pictures = list(_opened(paths, size))
    sizes = sorted({picture.size for picture in pictures})
    if len(sizes) > 1:
        raise ValueError(
            f"the {len(paths)} images in {folder} have {len(sizes)} different sizes, from {sizes[0]} to {sizes[-1]}; "
            "give one size to bring them all to (size=28, or --size 28)"
        )
    mode = "L" if all(picture.mode in ("1", "L", "LA") for picture in pictures) else "RGB"
    pixels = np.stack(
        [np.asarray(picture.convert(mode)) for picture in pictures]
    )  # (N, H, W) or (N, H, W, 3)
    pixels = pixels[:, None] if mode == "L" else pixels.transpose(0, 3, 1, 2)  # (N, C, H, W)
    classes = sorted({path.parent for path in paths})
    labels = torch.tensor([classes.index(path.parent) for path in paths])
    kind = "grey" if mode == "L" else "colour"
    return Images(
        torch.from_numpy(pixels.copy()), labels, f"{folder}: {len(paths):,} {kind} images"
    )


def _opened(paths: list[Path], size: int | None) -> Iterator[Image.Image]:
    if size is not None and size < 1:
        raise ValueError(f"size must be a positive number of pixels, got {size}")
    for path in paths:
        try:
            with Image.open(path) as picture:
                picture.load()
                if picture.mode.startswith("I;16"):  # 16-bit grey: keep the upper 8
                    picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
                yield (
                    picture.copy()
                    if size is None
                    else picture.resize((size, size), Image.Resampling.LANCZOS)
                )
        except (UnidentifiedImageError, OSError) as error:
            raise ValueError(f"{path} is not a readable image: {error}") from error
