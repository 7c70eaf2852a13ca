"""Fashion-MNIST, or pictures of one's own, as uint8 tensors.

Also the only way from pixels into [-1, 1], where diffusion happens, and back.  (Notebook 05)
"""

import hashlib
import io
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tutorial_lib.arrays import FILES, is_saved_dataset, pictures_from, read_arrays
from tutorial_lib.files import ASSETS
from tutorial_lib.folders import held_out
from tutorial_lib.pictures import check_size, named, read_folder, resized
from tutorial_lib.readers import SPLITS, find_idx, idx_file, read_idx_split, read_parquet

IDX_FOLDERS = (
    Path("data/fashion-mnist"),
    Path("/usr/share/datasets/fashion-mnist"),  # Debian's package dataset-fashion-mnist
)
HUB = "zalando-datasets/fashion_mnist"
HUB_REVISION = "531be5e2ccc9dba0c201ad3ae567a4f3d16ecdd2"
CLASSES = (
    *("T-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
NOBODY = -1  # the label of an image that is shown without one


@dataclass(frozen=True, eq=False)
class Images:
    """Pictures in memory.

    pixels: (N, C, H, W) uint8, N at least 1.
    labels: (N,) int64.
    source: where they come from, in one line.
    classes: what the labels 0, 1, ... are called, or nothing.
    Raises TypeError or ValueError where they are not of this kind; `images_from` makes them so.
    """

    pixels: Tensor
    labels: Tensor
    source: str
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_pixels(self.pixels)
        _check_labels(self.labels, len(self.pixels), self.classes)

    def __len__(self) -> int:
        return len(self.pixels)


def _check_pixels(pixels: Tensor) -> None:
    if not isinstance(pixels, Tensor):
        kind = type(pixels).__name__
        raise TypeError(f"pixels must be a tensor, got {kind}; data.images_from makes them of that")
    if pixels.dtype != torch.uint8:
        raise TypeError(f"pixels must be uint8, 0..255, got {pixels.dtype}")
    if pixels.ndim != 4 or pixels.numel() == 0:
        shape = tuple(pixels.shape)
        raise ValueError(f"pixels must have a shape (N, C, H, W) without a zero, got {shape}")


def _check_labels(labels: Tensor, count: int, classes: tuple[str, ...]) -> None:
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64:
        got = getattr(labels, "dtype", type(labels).__name__)
        raise TypeError(f"labels must be a tensor of int64, got {got}")
    if labels.shape != (count,):
        shape = tuple(labels.shape)
        raise ValueError(f"labels must have the shape ({count},), one a picture, got {shape}")
    if classes and not 0 <= int(labels.min()) <= int(labels.max()) < len(classes):
        raise ValueError(
            f"labels must lie in 0..{len(classes) - 1}, the places of the {len(classes)} classes, "
            f"got {int(labels.min())}..{int(labels.max())}"
        )


def to_model(pixels: Tensor) -> Tensor:
    """Pixels 0..255 (uint8) to the range in which diffusion happens, [-1, 1] (float32)."""
    if pixels.dtype != torch.uint8:
        raise TypeError(
            f"pixels must be uint8 in 0..255, got {pixels.dtype}; is this tensor scaled already?"
        )
    return pixels.float().div_(127.5).sub_(1)


def to_pixels(x: Tensor) -> Tensor:
    """[-1, 1] back to pixels 0..255 (uint8): clamp, then round; the inverse of `to_model`.

    Raises ValueError for NaN, which has no brightness.
    """
    _refuse_nan(x)
    x = x.detach().float().clamp(-1, 1)
    pixels = (x + 1) * 127.5
    return pixels.round().to(torch.uint8)


def _refuse_nan(x: Tensor) -> None:
    if x.isnan().any():
        raise ValueError(
            f"{int(x.isnan().sum()):,} of {x.numel():,} numbers are NaN, which no pixel can show; "
            "look for the step at which they began"
        )


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
    folder of images with any subfolders as classes, arrays in a .npy, .npz or .parquet file or
    saved by `datasets`, or "auto" (local IDX files, else a cached hub copy, else embedded; never
    the network).
    split: "train" or "test".  A folder of images has them as subfolders; where there is no split a
    fixed tenth is the test.
    size: for pictures of your own: scale the short side of each to `size`, and cut out the middle;
    without it they must all agree.
    Raises FileNotFoundError or ValueError with what was found and what is legal.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; choose one of {', '.join(SPLITS)}")
    check_size(size)
    if source in ("auto", "embedded", "hub"):
        find = {"auto": _auto, "embedded": _embedded, "hub": _hub}[source]
        return _as_published(find(split), size)
    place = Path(source)
    if place.is_file() and place.suffix.lower() in FILES:
        return _arrays(place, split, size)
    if not place.is_dir():
        raise FileNotFoundError(
            f"no data source {str(source)!r}; choose auto, embedded, hub or an existing folder, "
            f"or a file ({', '.join(FILES)})"
        )
    if idx := find_idx(place):
        return _to_size(_idx(idx, split), size)
    if is_saved_dataset(place):
        return _arrays(place, split, size)
    pixels, labels, classes, said = read_folder(place, split, size)
    return Images(pixels, labels, said, classes)


def images_from(what: Any, size: int | None = None) -> Images:
    """Images of pictures that are in memory.

    what: one of
    - an array or tensor, uint8, (N, H, W), (N, H, W, C) or (N, C, H, W), C from 1 to 4;
    - a `datasets.Dataset` with a column of pictures, and of labels if there are any;
    - a data set in PyTorch's sense, or a list: each item a picture (of Pillow, an array, a tensor),
      or (picture, label), or a dictionary of these;
    - (pictures, labels), or a dictionary such as {"images": pictures, "labels": labels}.
    Labels may be names.  What is transparent becomes white; colour stays if one picture has any.
    size: as in `load`.
    Raises TypeError or ValueError with what was got and what is legal, so for pixels that are
    floats.  Points, (N, D), are no pictures: give `train.train` a draw of your own.
    """
    pixels, labels, classes = pictures_from(what, size)
    kind = f"{type(what).__module__.split('.')[0]}.{type(what).__name__}"
    return Images(
        pixels, labels, f"{_count(pixels)} of a {kind.removeprefix('builtins.')}", classes
    )


def available() -> list[tuple[str, str]]:
    """The sources of Fashion-MNIST that this machine has, best first: (name, description).

    It uses no network connection.
    """
    found = []
    for folder in IDX_FOLDERS:
        if any(idx_file(folder, split, "images") for split in SPLITS):
            found.append((str(folder), "IDX files"))
    if _cached_hub("train"):
        found.append(("hub", f"cached copy of {HUB}"))
    found.append(("embedded", "10,000 + 2,000 images inside the package"))
    return found


def _auto(split: str) -> Images:
    for folder in IDX_FOLDERS:
        if idx_file(folder, split, "images"):
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
    return Images(pixels, labels, source, CLASSES)


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
    return Images(pixels, labels, f"hub: {len(pixels):,} {split} images of {HUB}", CLASSES)


def _idx(folder: Path, split: str) -> Images:
    pixels, labels = read_idx_split(folder, split)
    source = f"{folder}: {len(pixels):,} {split} images (IDX)"
    with named(folder, "folder of Fashion-MNIST"):
        return Images(pixels, labels, source, CLASSES if folder in IDX_FOLDERS else ())


def _arrays(path: Path, split: str, size: int | None) -> Images:
    """One split of a file of arrays; a tenth is held out where there is no split.

    What does not fit together, labels of another length for example, is said of all that the file
    holds, and with its name.
    """
    with named(path, "file of pictures"):
        what, whole = read_arrays(path, split)
        pixels, labels, classes = pictures_from(what, size)
        images = Images(pixels, labels, f"{path}: {_count(pixels)}", classes)
    if whole:
        return images
    test = torch.tensor(held_out([str(number) for number in range(len(images))]))
    chosen = test if split == "test" else ~test
    if not chosen.any():
        raise FileNotFoundError(
            f"{path} has {len(images)} images, too few to hold out a tenth for testing; "
            "it takes ten"
        )
    said = f" ({int(test.sum()):,} of {len(test):,} held out as test images)"
    pixels, labels = pixels[chosen], labels[chosen]
    return Images(pixels, labels, f"{path}: {_count(pixels)}{said}", classes)


def _as_published(images: Images, size: int | None) -> Images:
    """Fashion-MNIST, which is not scaled: raise ValueError for another size."""
    height, width = images.pixels.shape[2:]
    if size not in (None, height):
        raise ValueError(
            f"size={size} or --size is for a folder of images, or a file of arrays; "
            f"{images.source} are of {width} x {height} pixels; leave it out"
        )
    return images


def _to_size(images: Images, size: int | None) -> Images:
    """The same pictures, scaled if a size is given and they have another."""
    if size is None or tuple(images.pixels.shape[2:]) == (size, size):
        return images
    source = f"{images.source}, scaled to {size} x {size}"
    return replace(images, pixels=resized(images.pixels, size), source=source)


def _count(pixels: Tensor) -> str:
    return f"{len(pixels):,} {'grey' if pixels.shape[1] == 1 else 'colour'} images"
