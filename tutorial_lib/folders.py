"""Which pictures a folder holds, of which class each is, and which are kept for testing."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

USUAL = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff")
READ = (*USUAL, ".pgm", ".ppm", ".pbm", ".pnm")
APART = (".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".eps", ".psd", ".tga", ".ico")
NOT_READ = (*APART, ".exr", ".dng", ".raw", ".cr2", ".cr3", ".nef", ".arw")  # counted, and said
HIDDEN = ("__macosx", "$recycle.bin", "system volume information", "@eadir", "lost+found")
TRAIN = ("train", "training")
TEST = ("test", "testing", "val", "valid", "validation")  # the first that is there counts


@dataclass(frozen=True)
class Found:
    """The pictures of a folder, training and test together.

    paths: the files, in order.  classes: the names of the classes, in order.
    labels: the class of each file, a place in `classes`.  test: whether each is kept for testing.
    notes: what else there is to say of them, a few words each.
    """

    paths: list[Path]
    classes: tuple[str, ...]
    labels: list[int]
    test: list[bool]
    notes: list[str]


def find(folder: Path) -> Found:
    """The pictures in a folder and below; links are followed, hidden files and folders left out.

    A class is a folder that holds pictures, and is called by its path.  Subfolders `train` and
    `test` (or val, valid, validation) are the splits; without them a tenth is held out.
    Raises FileNotFoundError where there are no pictures, PermissionError where a folder is closed.
    """
    parts, notes = _parts(folder)
    found, others = [], Counter[str]()
    for split, root in parts.items():
        for path in _files(root, set(), leave_out=_splits_below(root, folder, parts)):
            kind = path.suffix.lower()
            if kind in READ:
                found.append((path, split, path.relative_to(root)))
            elif kind in NOT_READ:
                others[kind] += 1
    if others:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(others.items()))
        notes.append(f"{others.total():,} skipped: {kinds}")
    if not found:
        known = ", ".join(READ)
        skipped = f" ({notes[-1]})" if others else ""
        raise FileNotFoundError(
            f"no IDX files and no images ({known}) in {folder}; it holds {holds(folder)}{skipped}"
        )
    return _labelled(folder, sorted(found), "test" in parts, notes)


def holds(folder: Path) -> str:
    """What lies in a folder, in words: "3 .txt files and 2 folders"."""
    counts = Counter(_kind(path) for path in folder.iterdir())
    said = [f"{count:,} {kind}{'s' * (count != 1)}" for kind, count in sorted(counts.items())]
    if len(said) < 2:
        return said[0] if said else "nothing"
    return f"{', '.join(said[:-1])} and {said[-1]}"


def held_out(names: list[str]) -> list[bool]:
    """Which of some pictures, given by distinct names, are kept for testing: a fixed tenth.

    The choice looks random, is the same on each machine, and hardly changes when pictures come to
    a folder.  Of fewer than ten none is kept.
    """

    def place(name: str) -> bytes:
        return hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()

    chosen = set(sorted(names, key=place)[: len(names) // 10])
    return [name in chosen for name in names]


def _labelled(folder: Path, found: list[tuple], split: bool, notes: list[str]) -> Found:
    """What was found, with classes in the order of their names."""
    own = folder.absolute().name  # the class of what lies in no subfolder
    names = [below.parent.as_posix() if below.parent.name else own for _, _, below in found]
    classes = tuple(sorted(set(names)))
    numbers = {name: number for number, name in enumerate(classes)}
    if split:
        test = [where == "test" for _, where, _ in found]
    else:
        test = held_out([below.as_posix() for _, _, below in found])
    if any(test) and not split:
        notes = [f"{sum(test):,} of {len(test):,} held out as test images", *notes]
    paths = [path for path, _, _ in found]
    return Found(paths, classes, [numbers[name] for name in names], test, notes)


def _parts(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Where each split lies, and what is said of the rest.

    A folder `train` beside others, none of which is a test, is a class: there are trains.
    """
    visible = _visible(folder)
    folders = [path for path in visible if path.is_dir()]
    below = {path.name.lower(): path for path in folders}
    train = next((below[name] for name in TRAIN if name in below), None)
    test = next((below[name] for name in TEST if name in below), None)
    if test is None:
        return {"train": train if train and len(folders) == 1 else folder}, []
    if train is None:
        return {"train": folder, "test": test}, []
    unused = [path.name for path in folders if path not in (train, test)]
    loose = sum(path.suffix.lower() in READ for path in visible if path not in folders)
    if loose:
        unused.append(f"{loose:,} image{'s' * (loose > 1)} beside these folders")
    return {"train": train, "test": test}, [f"not read: {', '.join(unused)}"] * bool(unused)


def _splits_below(root: Path, folder: Path, parts: dict[str, Path]) -> tuple[str, ...]:
    """The subfolders that are no classes: those for testing, where all else is for training."""
    return TEST if root == folder and "test" in parts else ()


def _files(folder: Path, seen: set[Path], leave_out: tuple[str, ...] = ()) -> Iterator[Path]:
    """All visible files below; a folder that several links lead to is entered once."""
    seen.add(folder.resolve())
    folders = []
    for path in _visible(folder):
        if path.is_dir():
            folders.append(path)
        elif path.is_file() or path.is_symlink():  # a link to nowhere is an error, later
            yield path
    for path in sorted(folders, key=Path.is_symlink):  # what lies here comes before links to it
        if path.resolve() not in seen and path.name.lower() not in leave_out:
            yield from _files(path, seen)


def _visible(folder: Path) -> list[Path]:
    paths = sorted(folder.iterdir())
    return [p for p in paths if p.name[0] != "." and p.name.lower() not in HIDDEN]


def _kind(path: Path) -> str:
    if path.is_dir():
        return "folder"
    return f"{path.suffix} file" if path.suffix else "unsuffixed file"
