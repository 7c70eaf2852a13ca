"""Pictures of one's own, in every form that cameras, drawing programs and loaders leave behind."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch.testing import assert_close

from tutorial_lib import data, folders, pictures

# As EXIF numbers them, what brings a stored array to how it is to be seen.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


def random_array(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, array: np.ndarray | Image.Image, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = array if isinstance(array, Image.Image) else Image.fromarray(array)
    picture.save(path, **options)
    return path


def many(folder: Path, count: int, size: int = 4) -> Path:
    """Grey pictures, told apart by their first pixel."""
    for i in range(count):
        array = np.zeros((size, size), np.uint8)
        array[0, 0] = i
        save(folder / f"{i:03}.png", array)
    return folder


def firsts(images: data.Images) -> list[int]:
    return images.pixels[:, 0, 0, 0].tolist()


def png(width: int, height: int, depth: int, kind: int, raw: bytes, **chunks: bytes) -> bytes:
    """A PNG as its specification says it, of rows that begin with a 0."""

    def chunk(name: str, content: bytes) -> bytes:
        named = name.encode() + content
        return struct.pack(">I", len(content)) + named + struct.pack(">I", zlib.crc32(named))

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    extra = b"".join(chunk(name, content) for name, content in chunks.items())
    whole = chunk("IHDR", header) + extra + chunk("IDAT", zlib.compress(raw)) + chunk("IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + whole


# --- as their owner sees them


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "tif"])
def test_pictures_stand_as_the_camera_says(tmp_path, orientation, kind):
    stored = np.zeros((16, 24, 3), np.uint8)
    stored[:8, :8] = 255, 0, 0  # three of the four corners differ
    stored[:8, 16:] = 0, 255, 0
    stored[8:, :8] = 0, 0, 255
    exif = Image.Exif()
    exif[274] = orientation
    lossless = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}
    save(tmp_path / f"0.{kind}", stored, exif=exif, **lossless.get(kind, {}))
    seen = UPRIGHT[orientation](stored).transpose(2, 0, 1)
    images = data.load(tmp_path)
    assert images.pixels.shape[1:] == seen.shape
    assert_close(images.pixels[0].float(), torch.tensor(seen.copy()).float(), rtol=0, atol=8)
    assert data.load(tmp_path, size=8).pixels.shape == (1, 3, 8, 8)


def test_an_exif_block_behind_the_pixels_turns_them_too(tmp_path):
    array = random_array(5, 5)
    exif = Image.Exif()
    exif[274] = 6
    save(tmp_path / "0.png", array, exif=exif)
    content = (tmp_path / "0.png").read_bytes()
    at = content.index(b"eXIf") - 4
    length = 12 + int.from_bytes(content[at : at + 4], "big")
    block, end = content[at : at + length], content.index(b"IEND") - 4
    moved = content[:at] + content[at + length : end] + block + content[end:]
    (tmp_path / "0.png").write_bytes(moved)
    assert np.array_equal(data.load(tmp_path).pixels[0, 0].numpy(), UPRIGHT[6](array))


def test_transparent_is_white(tmp_path):
    """alpha a over white is a c + (1 - a) 255, whatever colour hides below."""
    alpha = np.array([[0, 255], [128, 51]], np.uint8)
    ink = np.full((2, 2), 40, np.uint8)
    expected = alpha / 255 * 40 + (1 - alpha / 255) * 255
    save(tmp_path / "grey" / "0.png", np.dstack([ink, alpha]))
    save(tmp_path / "colour" / "0.png", np.dstack([ink, ink, ink, alpha]))
    save(tmp_path / "webp" / "0.webp", np.dstack([ink, ink, ink, alpha]), lossless=True)
    save(tmp_path / "tif" / "0.tif", np.dstack([ink, ink, ink, alpha]))
    for name, channels in (("grey", 1), ("colour", 3), ("webp", 3), ("tif", 3)):
        images = data.load(tmp_path / name)
        assert images.pixels.shape[1] == channels
        for channel in images.pixels[0].double():
            assert_close(channel.numpy(), expected, rtol=0, atol=1)
        assert "1 with transparency, on white" in images.source


@pytest.mark.parametrize("kind", ["png", "gif"])
def test_a_palette_with_a_transparent_entry(tmp_path, kind):
    picture = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    picture.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200])
    save(tmp_path / f"0.{kind}", picture, transparency=1)
    got = data.load(tmp_path).pixels[0].permute(1, 2, 0).tolist()
    assert got == [[[200, 0, 0], [255] * 3], [[0, 0, 200], [255] * 3]]


def test_palette_entries_that_are_half_transparent(tmp_path):
    picture = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    picture.putpalette([0, 0, 0, 100, 100, 100])
    save(tmp_path / "0.png", picture, transparency=bytes([51, 255]))
    assert data.load(tmp_path).pixels.tolist() == [[[[204, 100]]]]


@pytest.mark.parametrize(
    ("depth", "row", "key", "expected"),
    [
        (1, b"\x40", 1, [0, 255]),
        (1, b"\x40", 0, [255, 255]),
        (2, b"\x1b", 1, [0, 255, 170, 255]),
        (4, b"\x01\x23", 1, [0, 255, 34, 51]),
        (8, b"\0\1\2\3", 1, [0, 255, 2, 3]),
        (16, struct.pack(">4H", 0, 256, 257, 512), 256, [0, 255, 1, 2]),
    ],
)
def test_one_transparent_grey(tmp_path, depth, row, key, expected):
    key = struct.pack(">H", key)
    (tmp_path / "0.png").write_bytes(png(len(expected), 1, depth, 0, b"\0" + row, tRNS=key))
    assert data.load(tmp_path).pixels.tolist() == [[[expected]]]


@pytest.mark.parametrize("depth", [8, 16])
def test_one_transparent_colour(tmp_path, depth):
    form, scale = (">6B", 1) if depth == 8 else (">6H", 256)
    row = struct.pack(form, *(value * scale for value in (1, 2, 3, 4, 5, 6)))
    key = struct.pack(">3H", *(value * scale for value in (1, 2, 3)))
    (tmp_path / "0.png").write_bytes(png(2, 1, depth, 2, b"\0" + row, tRNS=key))
    got = data.load(tmp_path).pixels[0].permute(1, 2, 0).tolist()
    assert got == [[[255, 255, 255], [4, 5, 6]]]


def test_grey_in_16_bits_with_alpha_is_grey(tmp_path):
    row = struct.pack(">4H", 0x80FF, 0xFFFF, 0x4000, 0)
    (tmp_path / "0.png").write_bytes(png(2, 1, 16, 4, b"\0" + row))
    assert data.load(tmp_path).pixels.tolist() == [[[[128, 255]]]]


def test_every_form_of_16_bit_grey_keeps_the_upper_8_bits(tmp_path):
    values = np.arange(64).reshape(8, 8) * 1000
    save(tmp_path / "0.png", values.astype(np.uint16))
    save(tmp_path / "1.tif", values.astype(np.uint16))
    save(tmp_path / "2.tif", Image.fromarray(values.astype(">u2")))  # the other order of bytes
    save(tmp_path / "3.tif", values.astype(np.int32))
    (tmp_path / "4.pgm").write_bytes(b"P5 8 8 65535\n" + values.astype(">u2").tobytes())
    images = data.load(tmp_path)
    assert images.pixels.shape == (5, 1, 8, 8)
    for picture in images.pixels[:, 0]:
        assert picture.tolist() == (values // 256).tolist()
    assert data.load(tmp_path, size=4).pixels.shape == (5, 1, 4, 4)


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (np.full((4, 4), 0.5, np.float32), "pixels are floats"),
        (np.full((4, 4), 70_000, np.int32), "70000 to 70000, beyond 16 bits"),
        (np.full((4, 4), -1, np.int32), "-1 to -1, beyond 16 bits"),
    ],
)
def test_numbers_whose_white_is_unknown(tmp_path, array, why):
    save(tmp_path / "x.tif", array)
    with pytest.raises(ValueError, match=rf"x\.tif is not a readable image: .*{why}"):
        data.load(tmp_path)


def test_a_palette_of_greys_is_grey_and_is_scaled_by_averaging(tmp_path):
    """Nearest neighbours would leave black and white only."""
    board = (np.indices((16, 16)).sum(0) % 2).astype(np.uint8)
    end = [128, 128, 128]  # an entry that is not used
    for name, colours in (("grey", [0, 0, 0, 255, 255, 255]), ("colour", [0, 0, 0, 255, 0, 0])):
        for kind in ("png", "gif", "bmp", "tif"):
            picture = Image.fromarray(board, "P")
            picture.putpalette(colours + end)
            save(tmp_path / name / f"{kind}.{kind}", picture)
        images = data.load(tmp_path / name, size=8)
        assert images.pixels.shape == (4, 1 if name == "grey" else 3, 8, 8)
        middle = images.pixels[:, 0, 2:6, 2:6].float()
        assert_close(middle, torch.full_like(middle, 127.5), rtol=0, atol=20)


def test_print_colours(tmp_path):
    colours = np.array([[[255, 0, 0], [0, 128, 255], [20, 20, 20]]], np.uint8).repeat(16, 1)
    picture = Image.fromarray(colours.repeat(48, 0)).convert("CMYK")
    save(tmp_path / "0.jpg", picture, quality=100)
    save(tmp_path / "1.tif", picture)
    images = data.load(tmp_path, size=48)
    expected = torch.tensor(colours.repeat(48, 0)).permute(2, 0, 1).float()
    assert images.pixels.shape == (2, 3, 48, 48)
    for pixels in images.pixels:
        for x in (8, 24, 40):
            assert_close(pixels[:, 24, x].float(), expected[:, 24, x], rtol=0, atol=12)


@pytest.mark.parametrize("wide", [True, False])
def test_the_short_side_is_scaled_and_the_middle_cut_out(tmp_path, wide):
    """Three squares side by side: the middle one is kept, and a disc stays round."""
    y, x = np.mgrid[:32, :32] - 15.5
    disc = np.where(x**2 + y**2 < 100, 255, 60).astype(np.uint8)
    three = np.hstack([np.zeros((32, 32), np.uint8), disc, np.zeros((32, 32), np.uint8)])
    save(tmp_path / "0.png", three if wide else three.T)
    images = data.load(tmp_path, size=16)
    small = images.pixels[0, 0].float()
    assert int(small[1:15, 1:15].min()) > 40  # nothing of the black squares
    assert abs(int((small[8] > 150).sum()) - int((small[:, 8] > 150).sum())) <= 1
    assert "scaled and cropped to 16 x 16" in images.source
    by_hand = ImageOps.fit(Image.fromarray(disc), (16, 16), Image.Resampling.LANCZOS)
    # overshoots are clipped between the two directions, of which the wide one comes first
    assert_close(small, torch.tensor(np.asarray(by_hand)).float(), rtol=0, atol=10)


def test_pictures_of_one_pixel_width_and_larger_than_the_file(tmp_path):
    save(tmp_path / "0.png", np.full((1, 300), 9, np.uint8))
    save(tmp_path / "1.png", np.full((300, 1), 9, np.uint8))
    images = data.load(tmp_path, size=20)
    assert images.pixels.shape == (2, 1, 20, 20) and images.pixels.unique().tolist() == [9]


def test_moving_pictures_give_their_first_frame(tmp_path):
    frames = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (10, 200, 90)]
    for kind in ("gif", "png", "webp", "tif"):
        options = {"lossless": True} if kind == "webp" else {}
        save(
            tmp_path / f"{kind}.{kind}",
            frames[0],
            save_all=True,
            append_images=frames[1:],
            **options,
        )
    images = data.load(tmp_path)
    assert firsts(images) == [10, 10, 10, 10]
    assert "the first frame of 4 with several" in images.source


# --- damaged, closed, too large


def test_sizes_are_compared_before_anything_is_decoded(tmp_path):
    """The second picture's pixels are damaged: nobody has looked at them."""
    save(tmp_path / "0.png", random_array(40, 40))
    save(tmp_path / "1.png", random_array(50, 40))
    content = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"2 different sizes, from \(40, 40\) to \(40, 50\)"):
        data.load(tmp_path)
    with pytest.raises(ValueError, match=r"1\.png is not a readable image"):
        data.load(tmp_path, size=8)


def test_photographs_in_full_are_refused_from_their_headers(tmp_path):
    (tmp_path / "0.png").write_bytes(png(4000, 3000, 8, 2, b""))  # no pixels at all
    with pytest.raises(ValueError, match=r"4,000 x 3,000 pixels.*give a size"):
        data.load(tmp_path)


def test_a_picture_beyond_the_limit_of_pillow(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png(20_000, 20_000, 8, 0, b""))
    for size in (None, 8):
        with pytest.raises(ValueError, match=r"bomb\.png is not a readable image: .*exceeds limit"):
            data.load(tmp_path, size=size)


@pytest.mark.parametrize(
    "error",
    [
        SyntaxError("broken"),
        struct.error("broken"),
        OverflowError("broken"),
        EOFError(),
        IndexError,
        MemoryError(),
        ZeroDivisionError("broken"),
        RuntimeError("broken"),
        TypeError("broken"),
    ],
)
def test_whatever_a_decoder_raises_names_the_file(tmp_path, monkeypatch, error):
    save(tmp_path / "odd.png", random_array(4, 4))

    def fails(*_, **__):
        raise error

    monkeypatch.setattr(Image.Image, "convert", fails)
    with pytest.raises(ValueError, match=r"odd\.png is not a readable image: \w+"):
        data.load(tmp_path)


def test_no_other_program_is_started_for_a_picture(tmp_path):
    """Pillow goes by the content, and hands EPS to Ghostscript."""
    (tmp_path / "x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EOF\n")
    assert Image.open(tmp_path / "x.png").format == "EPS"
    with pytest.raises(ValueError, match=r"x\.png is not a readable image: cannot identify"):
        data.load(tmp_path)


def test_a_picture_by_another_name_is_read(tmp_path):
    save(tmp_path / "0.png", random_array(4, 4), format="bmp")
    assert np.array_equal(data.load(tmp_path).pixels[0, 0].numpy(), random_array(4, 4))


def test_a_closed_file_is_called_so(tmp_path, monkeypatch):
    path = save(tmp_path / "x.png", random_array(4, 4))

    def closed(*_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Image, "open", closed)
    with pytest.raises(PermissionError, match=r"x\.png may not be read: Permission denied"):
        data.load(tmp_path)


def test_a_link_to_nowhere_is_named(tmp_path):
    save(tmp_path / "a.png", random_array(4, 4))
    (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(ValueError, match=r"b\.png is not a readable image: .*No such file"):
        data.load(tmp_path)


MEASURED = """
import resource, sys
from pathlib import Path
from tutorial_lib import data
data.load(sys.argv[2], size=8)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024  # MiB, on Linux
before = peak()
images = data.load(sys.argv[1], size=64)
print(len(images), peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is counted in other units")
def test_photographs_are_held_one_at_a_time(tmp_path):
    """13 of 12 megapixels: 36 MB each when decoded, in Pillow 48; JPEG shrinks as it is decoded."""
    photo = Image.linear_gradient("L").resize((4000, 3000)).convert("RGB")
    save(tmp_path / "photos" / "0.jpg", photo)
    save(tmp_path / "photos" / "0.bmp", photo)
    save(tmp_path / "few" / "0.png", random_array(20, 20))
    for i in range(1, 12):
        (tmp_path / "photos" / f"{i}.jpg").symlink_to("0.jpg")
    program = [sys.executable, "-c", MEASURED, tmp_path / "photos", tmp_path / "few"]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    count, mebibytes = map(int, done.stdout.split())
    assert count == 12  # one is held out
    assert mebibytes < 250


def test_a_photograph_is_made_smaller_while_it_is_decoded(tmp_path, monkeypatch):
    """To the smallest fraction, of 1/2, 1/4 and 1/8, with twice the pixels that are wanted."""
    decoded, prepared = [], pictures.prepared

    def noted(picture, *given):
        decoded.append(picture.size)
        return prepared(picture, *given)

    monkeypatch.setattr(pictures, "prepared", noted)
    save(tmp_path / "0.jpg", Image.new("RGB", (1600, 1200)))
    assert data.load(tmp_path, size=64).pixels.shape == (1, 3, 64, 64)
    assert decoded == [(200, 150)]


# --- what a folder holds


def test_hidden_files_and_folders_are_no_pictures(tmp_path):
    many(tmp_path / "cat", 2)
    for name in (".ipynb_checkpoints/0.png", "__MACOSX/cat/0.png", ".git/0.png", "@eaDir/x.jpg"):
        save(tmp_path / name, random_array(9, 9))
    (tmp_path / "cat" / "._000.png").write_bytes(b"\0\5\x16\7 what macOS leaves behind")
    (tmp_path / "cat" / "Thumbs.db").write_bytes(b"")
    (tmp_path / "cat" / ".DS_Store").write_bytes(b"")
    images = data.load(tmp_path)
    assert len(images) == 2 and images.classes == ("cat",)


def test_a_hidden_folder_can_be_named(tmp_path):
    many(tmp_path / ".cache", 2)
    assert len(data.load(tmp_path / ".cache")) == 2


def test_links_are_followed_and_loops_end(tmp_path):
    many(tmp_path / "far", 2)
    many(tmp_path / "here" / "cat", 1)
    here = tmp_path / "here"
    (here / "dog").symlink_to(tmp_path / "far")
    (here / "cat" / "again").symlink_to(here)  # a loop
    (here / "self").symlink_to(here / "self")  # leads nowhere
    (here / "cat" / "linked.png").symlink_to(tmp_path / "far" / "001.png")
    images = data.load(here)
    assert images.classes == ("cat", "dog") and images.labels.tolist() == [0, 0, 1, 1]
    assert firsts(images) == [0, 1, 0, 1]


def test_a_folder_called_like_a_picture(tmp_path):
    many(tmp_path / "cats.png", 2)
    assert data.load(tmp_path).classes == ("cats.png",)


def test_what_is_not_read_is_counted_and_named(tmp_path):
    many(tmp_path, 2)
    for name in ("a.HEIC", "b.heic", "c.svg", "notes.txt"):
        (tmp_path / name).write_bytes(b"?")
    assert data.load(tmp_path).source == f"{tmp_path}: 2 grey images (3 skipped: 2 .heic, 1 .svg)"


def test_an_empty_folder_says_what_it_holds(tmp_path):
    with pytest.raises(FileNotFoundError, match="it holds nothing"):
        data.load(tmp_path)
    for name in ("a.txt", "b.txt", "c.txt", "d.heic", "README"):
        (tmp_path / name).write_text("")
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
    with pytest.raises(FileNotFoundError) as refused:
        data.load(tmp_path)
    said = str(refused.value)
    assert "1 .heic file, 3 .txt files, 2 folders and 1 unsuffixed file" in said
    assert "1 skipped: 1 .heic" in said and ".png, .jpg" in said


# --- splits


@pytest.mark.parametrize(
    ("train", "test"),
    [("train", "test"), ("Training", "val"), ("train", "valid"), ("TRAIN", "validation")],
)
def test_subfolders_are_splits_with_the_same_classes(tmp_path, train, test):
    many(tmp_path / train / "dog", 3)
    many(tmp_path / train / "cat", 2)
    many(tmp_path / test / "dog", 1)
    many(tmp_path / test / "eel", 1)
    known, unseen = data.load(tmp_path), data.load(tmp_path, "test")
    assert known.classes == unseen.classes == ("cat", "dog", "eel")
    assert known.labels.tolist() == [0, 0, 1, 1, 1] and unseen.labels.tolist() == [1, 2]
    assert "held out" not in known.source


def test_both_splits_are_grey_or_both_in_colour(tmp_path):
    many(tmp_path / "train", 2)
    save(tmp_path / "test" / "0.png", random_array(4, 4, 3))
    assert data.load(tmp_path).pixels.shape[1] == data.load(tmp_path, "test").pixels.shape[1] == 3


def test_of_several_tests_one_is_taken_and_the_rest_named(tmp_path):
    for name, count in (("train", 3), ("val", 2), ("test", 1), ("sketches", 1)):
        many(tmp_path / name, count)
    assert len(data.load(tmp_path)) == 3 and len(data.load(tmp_path, "test")) == 1
    assert "not read: sketches, val)" in data.load(tmp_path).source
    many(tmp_path, 2)
    assert len(data.load(tmp_path)) == 3
    said = "not read: sketches, val, 2 images beside these folders"
    assert said in data.load(tmp_path).source


def test_a_test_folder_beside_classes(tmp_path):
    many(tmp_path / "cat", 2)
    many(tmp_path / "dog", 2)
    many(tmp_path / "test" / "dog", 1)
    known, unseen = data.load(tmp_path), data.load(tmp_path, "test")
    assert known.classes == unseen.classes == ("cat", "dog")
    assert known.labels.tolist() == [0, 0, 1, 1] and unseen.labels.tolist() == [1]


def test_trains_and_planes_are_classes(tmp_path):
    many(tmp_path / "train", 2)
    many(tmp_path / "plane", 2)
    assert data.load(tmp_path).classes == ("plane", "train")


def test_a_train_folder_alone_is_split(tmp_path):
    many(tmp_path / "train" / "cat", 20)
    assert len(data.load(tmp_path)) == 18 and len(data.load(tmp_path, "test")) == 2
    assert data.load(tmp_path).classes == ("cat",)


def test_only_test_pictures(tmp_path):
    many(tmp_path / "test", 3)
    (tmp_path / "train").mkdir()
    with pytest.raises(FileNotFoundError, match="has test images, but none to train on"):
        data.load(tmp_path)


def test_no_test_pictures(tmp_path):
    many(tmp_path / "train", 30)
    (tmp_path / "test").mkdir()
    assert len(data.load(tmp_path)) == 30
    with pytest.raises(FileNotFoundError, match="30 images to train on, but none in its folder"):
        data.load(tmp_path, "test")


def test_a_tenth_is_held_out_the_same_each_time(tmp_path):
    many(tmp_path, 45)
    known, unseen = data.load(tmp_path), data.load(tmp_path, "test")
    assert len(known) == 41 and len(unseen) == 4
    assert sorted(firsts(known) + firsts(unseen)) == list(range(45))
    assert firsts(known) == sorted(firsts(known))
    assert torch.equal(unseen.pixels, data.load(tmp_path, "test").pixels)
    for images in (known, unseen):
        assert "4 of 45 held out as test images" in images.source


def test_what_is_held_out_hardly_changes_when_pictures_come():
    names = [f"{i}.png" for i in range(1000)]
    before, after = folders.held_out(names), folders.held_out([*names, "a new one.png"])
    assert sum(before) == sum(after) == 100
    assert sum(a != b for a, b in zip(before, after[:1000], strict=True)) <= 1
    spread = np.diff([i for i, test in enumerate(before) if test])
    assert 1 < spread.std() < 30  # scattered, neither one block nor every tenth


@pytest.mark.parametrize("count", [1, 9])
def test_of_few_pictures_none_is_held_out(tmp_path, count):
    many(tmp_path, count)
    assert len(data.load(tmp_path)) == count
    with pytest.raises(FileNotFoundError, match=rf"has {count} images to train on, too few"):
        data.load(tmp_path, "test")


def test_classes_are_called_by_their_folders(tmp_path):
    many(tmp_path / "pets" / "animals" / "cat", 1)
    many(tmp_path / "pets" / "dog", 1)
    many(tmp_path / "pets", 1)
    images = data.load(tmp_path / "pets")
    assert images.classes == ("animals/cat", "dog", "pets") and images.labels.tolist() == [2, 0, 1]
    assert data.load("embedded", "test").classes == data.CLASSES


def test_pillow_decodes_nothing_for_a_header(tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[274] = 6
    path = save(tmp_path / "0.png", random_array(6, 4), exif=exif)

    def decodes(*_):
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", decodes)
    assert pictures._header(path) == pictures.Header((6, 4), True, False, False)


def test_a_cell_of_a_table_is_read_like_a_file():
    buffer = io.BytesIO()
    Image.fromarray(np.dstack([random_array(3, 3), np.zeros((3, 3), np.uint8)])).save(buffer, "png")
    images = data.images_from([{"bytes": buffer.getvalue(), "path": None}])
    assert images.pixels.unique().tolist() == [255]
