"""The images to train on, and whether a resumed run sees those that it has seen before."""

import argparse
import hashlib
from pathlib import Path
from typing import Any

from tutorial_lib import checkpoint, data
from tutorial_lib.cli.card import OURS
from tutorial_lib.cli.earlier import Earlier


def images(
    options: argparse.Namespace, earlier: Earlier | None
) -> tuple[data.Images, dict[str, Any]]:
    """The images to train on, and what the record is to say of them."""
    record = earlier.configuration if earlier and options.resume else {}
    then = record.get("images")
    source = options.data or (then["source"] if then else "auto")
    size = _size(options, earlier, source)
    try:
        images = data.load(source, size=size)
    except FileNotFoundError as error:
        if then is None or options.data:
            raise
        raise FileNotFoundError(
            f"the images that {options.out} was trained on are gone: {error}; "
            "put them back, or say with --data where they are now"
        ) from error
    _check_square(images)
    said = {"source": named(source), "size": size, **_fingerprint(images)}
    if images.classes:
        said["classes"] = list(images.classes)
    if record:
        _check_same(options, record, images, said)
    return images, said


def _size(options: argparse.Namespace, earlier: Earlier | None, source: str) -> int | None:
    """To how many pixels a folder is resized: what was asked, then or now, or what weights take."""
    if earlier is None:
        return options.size
    configuration = earlier.configuration
    side = configuration["model"]["image_size"]
    if options.size not in (None, side):
        raise ValueError(f"{earlier.name} was trained with size = {side}, not {options.size}")
    then = configuration.get("images") if options.resume else None
    if then:
        return then["size"] if options.size is None else options.size
    return side if source not in OURS else None


def _fingerprint(images: data.Images) -> dict[str, Any]:
    """How many images there are, and what tells them from all others."""
    pixels = images.pixels.contiguous()
    digest = hashlib.sha256(str(tuple(pixels.shape)).encode())
    digest.update(pixels.numpy().data)
    return {"count": len(images), "sha256": digest.hexdigest()}


def _check_same(
    options: argparse.Namespace, record: dict[str, Any], images: data.Images, said: dict[str, Any]
) -> None:
    """Raise ValueError unless a resumed run sees the images that it has seen before."""
    out, line, then = options.out, record.get("data"), record.get("images")
    if then is None:  # a record from before images were described
        if options.data is None and line != images.source:
            raise ValueError(
                f"{out} is from an earlier version, which did not note where its images are, "
                f"only {line!r}; name them with --data"
            )
    elif said["sha256"] == then["sha256"]:
        return
    elif said["source"] == then["source"]:
        raise ValueError(
            f"the images of {said['source']} are not those that {out} was trained on: "
            f"{then['count']:,} then, {said['count']:,} now, or other pixels; put the earlier ones "
            f"back, or begin a new run with --from {out}"
        )
    else:
        raise ValueError(
            f"{out} was trained with data = {then['source']} ({line!r}), "
            f"not {said['source']} ({images.source!r}); leave --data out, "
            f"or begin a new run with --from {out}"
        )


def _check_square(images: data.Images) -> None:
    height, width = images.pixels.shape[2:]
    if height != width:
        raise ValueError(
            f"images must be square, got {width} x {height} pixels; give --size to crop them"
        )


def named(source: str) -> str:
    """A source or weights as they are called from any folder: by their name, or the whole path.

    A name that is taken, such as auto, is no path, whatever a folder here is called.
    """
    path = Path(source)
    taken = source in OURS or source in checkpoint.shipped()
    return source if taken or not path.exists() else str(path.resolve())
