"""Pictures in memory, in whatever form they come, as tensors; and the files that hold such forms.

Those are .npy, .npz and .parquet files, and folders that `datasets` saved.
"""

import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tutorial_lib.folders import TEST, TRAIN
from tutorial_lib.pictures import check_size, is_grey, named, opened, prepared

PIXELS = ("images", "image", "pixels", "img", "x", "data", "arr_0")  # what a column may be called
LABELS = ("labels", "label", "y", "targets", "target", "arr_1")
FILES = (".npy", ".npz", ".parquet")
CHANNELS = (1, 2, 3, 4)  # grey, grey with alpha, colour, colour with alpha


def pictures_from(what: Any, size: int | None = None) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Pixels, labels and names of the classes of pictures in memory: see `data.images_from`."""
    check_size(size)
    labels, names = None, getattr(what, "classes", ())  # as torchvision's data sets call them
    if hasattr(what, "column_names"):
        what, names = _rows(what)
    elif isinstance(what, Mapping):
        what = _of_mapping(what)
    if isinstance(what, tuple):
        if len(what) != 2:
            raise ValueError(f"a tuple must be (pictures, labels), got {len(what)} parts")
        what, labels = what
    if isinstance(what, np.ndarray | Tensor):
        pixels = _of_array(what, size)
    else:
        pixels, own = _of_items(_items(what), size)
        labels = own if labels is None else labels
    numbers, found = _numbered(labels, len(pixels))
    return pixels, numbers, found or tuple(names)


def read_arrays(path: Path, split: str) -> tuple[Any, bool]:
    """What a file of arrays, or a folder that `datasets` saved, holds, for `pictures_from`.

    Returns also whether that is the split alone, rather than all there is.
    """
    kind = path.suffix.lower()
    if kind == ".npy":
        return np.load(path, mmap_mode="r", allow_pickle=False), False
    if kind == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return _of_splits(file, split)
    import datasets

    if kind == ".parquet":
        import pyarrow.parquet as pq

        return datasets.Dataset(pq.ParquetFile(path).read()), False
    saved = datasets.load_from_disk(path)
    return _of_splits(saved, split) if isinstance(saved, Mapping) else (saved, False)


def is_saved_dataset(folder: Path) -> bool:
    """Whether `datasets` saved this folder, with `save_to_disk`."""
    return any((folder / name).is_file() for name in ("state.json", "dataset_dict.json"))


def _of_splits(parts: Mapping, split: str) -> tuple[Any, bool]:
    """What a mapping holds for a split, and whether it has both.

    Keys are `train`, or `x_train` and `train_images` ..., or have no split at all.
    """
    places: dict[tuple[str, str], str] = {}  # (split, name without it) -> key
    order = (*TRAIN, *TEST)  # of several for testing the first counts
    for key in sorted(parts, key=lambda key: [word not in _words(key) for word in order]):
        name = "_".join(word for word in _words(key) if word not in order)
        places.setdefault((_split_of(key), name), key)
    splits = {part for part, _ in places}
    both = splits >= {"train", "test"}
    wanted = split if both else next((part for part in ("train", "", "test") if part in splits), "")
    columns = {name: parts[key] for (part, name), key in places.items() if part == wanted}
    return columns[""] if "" in columns else _of_mapping(columns), both


def _split_of(key: str) -> str:
    for split, names in (("train", TRAIN), ("test", TEST)):
        if set(names) & set(_words(key)):
            return split
    return ""


def _words(key: str) -> list[str]:
    return key.lower().split("_")


def _of_mapping(columns: Mapping) -> tuple[Any, Any]:
    """The pictures of a table, and its labels if it has any."""
    pixels, labels = _first(columns, PIXELS), _first(columns, LABELS)
    if pixels is None:
        raise ValueError(
            f"no pictures among {', '.join(map(str, columns)) or 'nothing'}; "
            f"name them one of {', '.join(PIXELS)}"
        )
    return columns[pixels], None if labels is None else columns[labels]


def _first(columns: Iterable[str], names: tuple[str, ...]) -> str | None:
    by_name = {str(key).lower(): key for key in columns}
    return next((by_name[name] for name in names if name in by_name), None)


def _rows(dataset: Any) -> tuple[Iterator[tuple], tuple[str, ...]]:
    """Pictures with labels, and the names of the classes, of a `datasets.Dataset`."""
    if isinstance(dataset, Mapping):
        split = next(iter(dataset))
        raise ValueError(f"it has splits: {', '.join(dataset)}; give one of them, as [{split!r}]")
    kinds = {name: type(feature).__name__ for name, feature in dataset.features.items()}
    first = {kind: name for name, kind in reversed(kinds.items())}
    picture = first.get("Image") or _first(kinds, PIXELS)
    label = first.get("ClassLabel") or _first(kinds, LABELS)
    if picture is None:
        raise ValueError(f"no column with pictures among {', '.join(kinds)}")
    names = getattr(dataset.features[label], "names", ()) if label else ()
    rows = dataset.select_columns([name for name in (picture, label) if name])
    return ((row[picture], row.get(label)) for row in rows), tuple(names)


def _items(what: Any) -> Iterator[tuple]:
    """Pictures with labels (or None) of what has a length and places, or is an iterator already."""
    if isinstance(what, Iterator):
        return what
    if not (hasattr(what, "__len__") and hasattr(what, "__getitem__")):
        raise TypeError(
            f"pictures must be an array, a data set with a length and places, or a list, "
            f"got {type(what).__name__}; of a loader give its data set, loader.dataset"
        )
    return (_pair(what[i]) for i in range(len(what)))


def _pair(item: Any) -> tuple:
    if isinstance(item, Mapping) and "bytes" not in item:
        return _of_mapping(item)
    if isinstance(item, tuple | list) and len(item) in (1, 2):
        return item[0], item[1] if len(item) == 2 else None
    return item, None


def _of_items(items: Iterable[tuple], size: int | None) -> tuple[Tensor, list | None]:
    """(N, C, H, W) of pictures one by one, and their labels."""
    rows, labels = [], []
    for number, (picture, label) in enumerate(items):
        with named(f"picture {number}"):
            rows.append(_one(picture, size))  # (H, W, C)
        if rows[-1].shape[:2] != rows[0].shape[:2]:
            height, width = rows[-1].shape[:2]
            raise ValueError(
                f"picture {number} has {width} x {height} pixels, "
                f"unlike the first with {rows[0].shape[1]} x {rows[0].shape[0]}; "
                "give one size to bring them all to (size=28)"
            )
        labels.append(label)
    if not rows:
        raise ValueError("there are no pictures: it has length 0")
    channels = max(row.shape[2] for row in rows)
    pixels = np.empty((len(rows), channels, *rows[0].shape[:2]), np.uint8)
    for place, row in zip(pixels, rows, strict=True):
        place[:] = row.transpose(2, 0, 1)  # grey goes into all three channels
    missing = sum(label is None for label in labels)
    if 0 < missing < len(labels):
        raise ValueError(f"{missing:,} of {len(labels):,} pictures have no label")
    return torch.from_numpy(pixels), None if missing else labels


def _one(picture: Any, size: int | None) -> np.ndarray:
    """(H, W, C) uint8, C 1 or 3, of a picture, an array, or an encoded file in a table's cell."""
    if isinstance(picture, Mapping):
        picture = opened(io.BytesIO(picture["bytes"]))
    if isinstance(picture, Image.Image):
        return prepared(picture, size, is_grey(picture))
    if isinstance(picture, np.ndarray | Tensor):
        return _of_array(picture[None], size)[0].permute(1, 2, 0).numpy()
    raise TypeError(f"it is a {type(picture).__name__}, not an array or a picture of Pillow")


def _of_array(what: np.ndarray | Tensor, size: int | None) -> Tensor:
    """(N, C, H, W) uint8, C 1 or 3, of the usual layouts; alpha is put on white."""
    array = what.detach().cpu().numpy() if isinstance(what, Tensor) else what
    if array.ndim < 3:
        raise ValueError(
            f"numbers of shape {array.shape} are points, not pictures; "
            "for points give train.train a draw of your own"
        )
    if array.dtype != np.uint8:
        raise TypeError(
            f"pixels must be uint8 in 0..255, got {array.dtype}; "
            "bring them to 0..255 and round, as in (255 * x).round(), then convert"
        )
    rows = _channels_last(array)  # (N, H, W, C)
    channels = rows.shape[-1]
    if size is None and channels in (1, 3):
        return torch.from_numpy(rows.transpose(0, 3, 1, 2).copy())  # (N, C, H, W)
    pictures = (Image.fromarray(row[..., 0] if channels == 1 else row) for row in rows)
    return _of_items(((picture, None) for picture in pictures), size)[0]


def _channels_last(array: np.ndarray) -> np.ndarray:
    """(N, H, W, C) of (N, H, W), (N, H, W, C) or (N, C, H, W)."""
    if array.ndim == 3:
        return array[..., None]
    first, last = (array.ndim == 4 and array.shape[axis] in CHANNELS for axis in (1, -1))
    if first == last:
        raise ValueError(
            f"pictures of shape {array.shape}: which axis holds the channels cannot be told; "
            "legal are (N, H, W), (N, H, W, C) and (N, C, H, W) with C from 1 to 4. "
            "data.Images takes (N, C, H, W) of any size"
        )
    return array.transpose(0, 2, 3, 1) if first else array


def _numbered(labels: Any, count: int) -> tuple[Tensor, tuple[str, ...]]:
    """Labels as (N,) int64, and the names of classes where the labels are names."""
    if labels is None:
        return torch.zeros(count, dtype=torch.int64), ()
    array = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.array(labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]  # (N, 1) -> (N,)
    if array.dtype.kind == "U":
        names, array = np.unique(array, return_inverse=True)
        return torch.from_numpy(array), tuple(names.tolist())
    if array.dtype.kind not in "iu":
        raise TypeError(f"labels must be whole numbers or names, got {array.dtype}")
    return torch.from_numpy(array.astype(np.int64)), ()
