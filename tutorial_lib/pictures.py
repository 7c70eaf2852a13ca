"""Pictures as their owner sees them: upright, on white, in 8 bits; one by one, in little memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from PIL.ExifTags import Base
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from torch import Tensor

from tutorial_lib.folders import Found, find

FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM")  # whatever the file's name
GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")  # modes of Pillow
FEW_BITS = {"1": 255, "L;2": 85, "L;4": 17}  # stored grey -> what Pillow multiplies it by
LARGEST = 512  # pixels a side: beyond it photographs fill the memory and train nothing


class Header(NamedTuple):
    """What a picture's file says before its pixels are decoded.

    size: (width, height) as it is to be seen.  grey: whether it can have no colour.
    transparent: whether it may let the ground through.  frames: whether there is more than one.
    """

    size: tuple[int, int]
    grey: bool
    transparent: bool
    frames: bool


def read_folder(
    folder: Path, split: str = "train", size: int | None = None
) -> tuple[Tensor, Tensor, tuple[str, ...], str]:
    """The pictures of one split of a folder, grey if all of both splits are, else in colour.

    A picture is grey by its kind or its palette, not by its pixels: RGB is colour.
    size: scale the short side of each to `size`, and cut out the middle; without it all must agree.
    Returns (N, C, H, W) uint8 with C 1 or 3, (N,) int64, the names of the classes, and in a line
    what was read.  Raises FileNotFoundError where there are none, ValueError where one cannot be
    read or sizes differ, before any is decoded.
    """
    check_size(size)
    found = find(folder)
    headers = [_header(path) for path in found.paths]
    width, height = (size, size) if size else _common_size(headers, folder, found.paths)
    chosen = [i for i, test in enumerate(found.test) if test == (split == "test")]
    if not chosen:
        raise FileNotFoundError(_no_pictures(folder, split, len(headers)))
    grey = all(header.grey for header in headers)
    pixels = np.empty((len(chosen), 1 if grey else 3, height, width), np.uint8)
    for row, i in enumerate(chosen):
        with named(found.paths[i]), opened(found.paths[i]) as picture:
            if size is not None:
                picture.draft(None, (2 * size, 2 * size))  # JPEG decodes to a fraction at once
            pixels[row] = prepared(picture, size, grey).transpose(2, 0, 1)
    labels = torch.tensor([found.labels[i] for i in chosen])
    source = _source(folder, found, [headers[i] for i in chosen], size, grey)
    return torch.from_numpy(pixels), labels, found.classes, source


def opened(file: Path | BinaryIO) -> Image.Image:
    """A picture whose header has been read, in one of the usual formats.

    (Pillow would take others too, among them EPS, for which it starts another program.)
    """
    return Image.open(file, formats=FORMATS)


def prepared(picture: Image.Image, size: int | None, grey: bool) -> np.ndarray:
    """One picture: turned as the camera says, on white where it is transparent, then scaled.

    Returns (H, W, 1) uint8 if grey, else (H, W, 3).
    """
    _scale_transparency(picture)
    picture.load()
    picture = _in_8_bits(ImageOps.exif_transpose(picture), "L" if grey else "RGB")
    if size is not None:
        picture = ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)
    pixels = np.asarray(picture)
    return pixels[..., None] if grey else pixels


def is_grey(picture: Image.Image) -> bool:
    """Whether it can have no colour: by its mode, or by its palette."""
    if picture.palette is None or picture.mode != "P":
        return picture.mode in GREY or _stored(picture) == "LA;16B"  # which comes as RGBA
    probe = Image.new("P", (1, 1))
    probe.putpalette(picture.palette)
    colours = np.array(probe.getpalette()).reshape(-1, 3)
    return bool((colours == colours[:, :1]).all())


def resized(pixels: Tensor, size: int) -> Tensor:
    """(N, C, H, W) uint8 with C 1 or 3, each scaled and cropped to size x size."""
    check_size(size)
    grey = pixels.shape[1] == 1
    rows = pixels.permute(0, 2, 3, 1).numpy()  # (N, H, W, C)
    small = np.empty((len(rows), size, size, rows.shape[3]), np.uint8)
    for row, array in enumerate(rows):
        small[row] = prepared(Image.fromarray(array[..., 0] if grey else array), size, grey)
    return torch.from_numpy(small).permute(0, 3, 1, 2).contiguous()


def check_size(size: int | None) -> None:
    """Raise ValueError unless it is none, or a positive number of pixels."""
    if size is not None and size < 1:
        raise ValueError(f"size must be a positive number of pixels, got {size}")


@contextmanager
def named(what: Path | str, kind: str = "image") -> Iterator[None]:
    """Whatever a decoder raises becomes an error that names the file."""
    try:
        yield
    except PermissionError as error:
        raise PermissionError(f"{what} may not be read: {error.strerror}") from error
    except Exception as error:
        why = str(error) or type(error).__name__
        raise ValueError(f"{what} is not a readable {kind}: {why}") from error


def _header(path: Path) -> Header:
    with named(path), opened(path) as picture:
        width, height = picture.size
        if isinstance(
            picture, TiffImageFile
        ):  # some versions of Pillow have turned this size already
            width, height = picture.tag_v2[Base.ImageWidth], picture.tag_v2[Base.ImageLength]
        orientation = Image.Image.getexif(picture).get(Base.Orientation)  # decodes nothing
        size = (height, width) if orientation in (5, 6, 7, 8) else (width, height)
        frames = picture.format != "MPO" and getattr(picture, "is_animated", False)
        return Header(size, is_grey(picture), picture.has_transparency_data, frames)


def _common_size(headers: list[Header], folder: Path, paths: list[Path]) -> tuple[int, int]:
    sizes = sorted({header.size for header in headers})
    if len(sizes) > 1:
        raise ValueError(
            f"the {len(headers)} images in {folder} have {len(sizes)} different sizes, "
            f"from {sizes[0]} to {sizes[-1]}; "
            "give one size to bring them all to (size=28, or --size 28)"
        )
    width, height = sizes[0]
    if max(width, height) > LARGEST:
        raise ValueError(
            f"{paths[0]} has {width:,} x {height:,} pixels, and more than {LARGEST} a side are "
            "too many to learn; give a size to bring images to (size=64, or --size 64)"
        )
    return width, height


def _in_8_bits(picture: Image.Image, mode: str) -> Image.Image:
    """In mode L or RGB; what is transparent becomes white."""
    if picture.mode == "F":
        raise ValueError("its pixels are floats, and which of them is white is not known")
    if picture.mode.startswith("I"):
        return _upper_8_bits(picture).convert(mode)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert(mode)


def _scale_transparency(picture: Image.Image) -> None:
    """A PNG's transparent grey or colour to 8 bits, as its pixels will be: Pillow does not."""
    stored, key = _stored(picture), picture.info.get("transparency")
    if isinstance(key, int) and stored in FEW_BITS:
        picture.info["transparency"] = min(key * FEW_BITS[stored], 255)
    if isinstance(key, tuple) and stored == "RGB;16B":
        picture.info["transparency"] = tuple(value >> 8 for value in key)


def _stored(picture: Image.Image) -> str | None:
    """How Pillow calls the form of a PNG's pixels in the file, unless they are decoded already."""
    if isinstance(picture, PngImageFile) and picture.tile:
        return str(picture.tile[0][3])
    return None


def _upper_8_bits(picture: Image.Image) -> Image.Image:
    """Grey in 16 bits to 8."""
    values = np.asarray(picture)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"its values go from {values.min()} to {values.max()}, beyond 16 bits")
    grey = (values >> 8).astype(np.uint8)
    grey[values == picture.info.get("transparency", -1)] = 255
    return Image.fromarray(grey)


def _no_pictures(folder: Path, split: str, count: int) -> str:
    if split == "train":
        return f"{folder} has test images, but none to train on"
    if count >= 10:
        return f"{folder} has {count:,} images to train on, but none in its folder for testing"
    return (
        f"{folder} has {count:,} images to train on, too few to hold out a tenth, and none for "
        "testing; put ten or more there, or some into a subfolder test"
    )


def _source(folder: Path, found: Found, headers: list[Header], size: int | None, grey: bool) -> str:
    """What was read, in one line."""
    notes = []
    if size is not None and any(header.size != (size, size) for header in headers):
        cut = any(header.size[0] != header.size[1] for header in headers)
        notes.append(f"scaled {'and cropped ' * cut}to {size} x {size}")
    notes += found.notes
    if transparent := sum(header.transparent for header in headers):
        notes.append(f"{transparent:,} with transparency, on white")
    if moving := sum(header.frames for header in headers):
        notes.append(f"the first frame of {moving:,} with several")
    count = f"{len(headers):,} {'grey' if grey else 'colour'} images"
    return f"{folder}: {count}" + f" ({'; '.join(notes)})" * bool(notes)
