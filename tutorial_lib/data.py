"""Fashion-MNIST, or a folder of one's own images, as uint8 tensors.

Also the only way from pixels into [-1, 1], where diffusion happens, and back.  (Notebook 05)
"""

import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tutorial_lib.files import ASSETS
from tutorial_lib.readers import read_folder, read_idx, read_parquet

IDX_FOLDERS = (
    Path("data/fashion-mnist"),
    Path("/usr/share/datasets/fashion-mnist"),  # Debian's package dataset-fashion-mnist
)
HUB = "zalando-datasets/fashion_mnist"
HUB_REVISION = "531be5e2ccc9dba0c201ad3ae567a4f3d16ecdd2"
CLASSES = (
    "T-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
SPLITS = {"train": "train", "test": "t10k"}  # ours -> the prefix of the IDX files


@dataclass(frozen=True, eq=False)
class Images:
    """Pictures in memory.

    pixels: (N, C, H, W) uint8.
    labels: (N,) int64.
    source: where they come from, in one line.
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
    x = x.detach().float().clamp(-1, 1)
    pixels = (x + 1) * 127.5
    return pixels.round().to(torch.uint8)


def batch(images: Images, indices: Tensor, flip: Tensor | None = None) -> Tensor:
    """The chosen images in [-1, 1], (B, C, H, W) float32.

    indices: (B,) integers.  flip: (B,) bool, which of them to mirror left to right (default: none).
    """
    x_0 = to_model(images.pixels[indices])
    if flip is None:
        return x_0
    mirrored = x_0.flip(-1)
    return torch.where(flip[:, None, None, None], mirrored, x_0)


def load(source: str | Path = "auto", split: str = "train", size: int | None = None) -> Images:
    """Load one split of a source.

    source: "embedded" (in the package), "hub" (downloads if need be), a folder of IDX files, a
    folder of images with any subfolders as classes, or "auto" (local IDX files, else a cached hub
    copy, else embedded; never the network).
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
    if _idx_file(folder, split, "images"):
        return _idx(folder, split)
    return _image_folder(folder, size)


def available() -> list[tuple[str, str]]:
    """The sources of Fashion-MNIST that this machine has, best first: (name, description).

    It uses no network connection.
    """
    found = []
    for folder in IDX_FOLDERS:
        if _idx_file(folder, "train", "images"):
            found.append((str(folder), "IDX files"))
    if _cached_hub("train"):
        found.append(("hub", f"cached copy of {HUB}"))
    found.append(("embedded", "10,000 + 2,000 images inside the package"))
    return found


def _auto(split: str) -> Images:
    for folder in IDX_FOLDERS:
        if _idx_file(folder, split, "images"):
            return _idx(folder, split)
    if _cached_hub(split):
        return _hub(split)
    return _embedded(split)


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
    pixels, labels = read_parquet(ASSETS / f"fashion_mnist_{split}.parquet")
    source = f"embedded: {len(pixels):,} {split} images of Fashion-MNIST, balanced by class"
    return Images(pixels, labels, source)


def _decode(dataset) -> tuple[Tensor, Tensor]:
    """Pixels and labels of a `datasets.Dataset` with the columns image (encoded) and label."""
    column = dataset.data.column("image").combine_chunks()
    encoded = column.field("bytes").to_pylist()
    decoded = [np.asarray(Image.open(io.BytesIO(file))) for file in encoded]
    pixels = np.stack(decoded)[:, None]  # (N, 1, 28, 28)
    labels = dataset.data.column("label").to_numpy().astype(np.int64)
    return torch.from_numpy(pixels), torch.from_numpy(labels)


def _cached_hub(split: str) -> list[Path]:
    import datasets

    prepared = Path(datasets.config.HF_DATASETS_CACHE) / HUB.replace("/", "___")
    return sorted(prepared.glob(f"**/{HUB_REVISION}/*-{split}.arrow"))


def _hub(split: str) -> Images:
    import datasets

    cached = _cached_hub(split)
    if cached:
        dataset = datasets.Dataset.from_file(str(cached[0]))
    else:
        try:
            dataset = datasets.load_dataset(HUB, revision=HUB_REVISION, split=split)
        except (ConnectionError, OSError) as error:
            raise FileNotFoundError(
                f"could not fetch {HUB} ({error}); "
                "without network use embedded, or a folder of IDX files"
            ) from error
    pixels, labels = _decode(dataset)
    return Images(pixels, labels, f"hub: {len(pixels):,} {split} images of {HUB}")


def _idx_file(folder: Path, split: str, kind: str) -> Path | None:
    """The file with a split's "images" or "labels", plain or gzipped; None where there is none."""
    dimensions = 3 if kind == "images" else 1
    name = f"{SPLITS[split]}-{kind}-idx{dimensions}-ubyte"
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    return None


def _idx(folder: Path, split: str) -> Images:
    images = _idx_file(folder, split, "images")
    labels = _idx_file(folder, split, "labels")
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
    if len(pixels) == 0:
        raise ValueError(f"there are no images in {images}")
    source = f"{folder}: {len(pixels):,} {split} images (IDX)"
    return Images(pixels[:, None], targets.long(), source)


def _image_folder(folder: Path, size: int | None) -> Images:
    pixels, labels = read_folder(folder, size)
    kind = "grey" if pixels.shape[1] == 1 else "colour"
    return Images(pixels, labels, f"{folder}: {len(pixels):,} {kind} images")
