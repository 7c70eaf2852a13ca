"""Every source of images, every way it can be damaged, and the way into [-1, 1] and back."""

import gzip
import io
import json
import struct

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import idx_bytes
from PIL import Image
from torch.testing import assert_close

from tutorial_lib import data, readers


@pytest.fixture
def nothing_here(monkeypatch, tmp_path):
    """A machine with no IDX folders and no cached hub copy."""
    monkeypatch.setattr(data, "IDX_FOLDERS", (tmp_path / "none", tmp_path / "none either"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def encoded(pixels: torch.Tensor) -> list[dict]:
    """Images (N, H, W) as the PNG cells of a table."""
    cells = []
    for array in pixels.numpy():
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, "png")
        cells.append({"bytes": buffer.getvalue(), "path": None})
    return cells


def table(pixels, labels) -> datasets.Dataset:
    """The layout of Fashion-MNIST on the hub."""
    label = datasets.ClassLabel(names=list(data.CLASSES))
    features = datasets.Features(image=datasets.Image(), label=label)
    columns = {"image": encoded(pixels), "label": labels.tolist()}
    return datasets.Dataset.from_dict(columns, features=features)


def random_pixels(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def test_all_256_values_survive_the_way_in_and_out():
    pixels = torch.arange(256).to(torch.uint8).view(1, 1, 16, 16)
    x = data.to_model(pixels)
    assert x.dtype == torch.float32
    assert_close(x.flatten().double(), torch.arange(256).double() / 127.5 - 1, rtol=0, atol=1e-6)
    assert float(x.min()) == -1 and float(x.max()) == 1
    assert torch.equal(data.to_pixels(x), pixels)


def test_way_out_clamps_and_rounds():
    x = torch.tensor([-5.0, -1.001, -1.0, 1.0, 1.001, 9.0, torch.inf, -torch.inf])
    assert data.to_pixels(x).tolist() == [0, 0, 0, 255, 255, 255, 255, 0]
    near = torch.arange(256) / 127.5 - 1
    for shift in (-0.49, 0.49):
        assert data.to_pixels(near + shift / 127.5).tolist() == list(range(256))
    assert data.to_pixels(near.double()).tolist() == list(range(256))


def test_nan_has_no_brightness():
    x = torch.zeros(2, 1, 3, 3)
    x[1, 0, 2, 2] = float("nan")
    with pytest.raises(ValueError, match="1 of 18 numbers are NaN"):
        data.to_pixels(x)
    assert data.to_pixels(torch.tensor([-float("inf"), float("inf")])).tolist() == [0, 255]


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_scaled_images_are_not_scaled_again(dtype):
    with pytest.raises(TypeError, match="is this tensor scaled already"):
        data.to_model(torch.zeros(1, 1, 2, 2, dtype=dtype))


def test_batch_flips_only_what_it_is_told():
    images = data.Images(random_pixels(5, 1, 4, 4), torch.arange(5), "")
    indices, flip = torch.tensor([3, 3, 0]), torch.tensor([False, True, True])
    got = data.batch(images, indices, flip)
    straight = data.batch(images, indices)
    assert got.shape == (3, 1, 4, 4) and len(images) == 5
    assert_close(straight, data.to_model(images.pixels[indices]))
    for i in range(3):
        expected = straight[i]
        if flip[i]:
            expected = torch.stack([straight[i, :, :, 3 - k] for k in range(4)], dim=-1)
        assert_close(got[i], expected)


@pytest.mark.parametrize(("split", "count"), [("train", 10_000), ("test", 2_000)])
def test_embedded_images(split, count):
    images = data.load("embedded", split)
    assert images.pixels.shape == (count, 1, 28, 28) and images.pixels.dtype == torch.uint8
    assert images.labels.dtype == torch.int64
    assert images.labels.bincount().tolist() == [count // 10] * 10
    assert "embedded" in images.source and f"{count:,}" in images.source
    assert "\n" not in images.source
    assert len(images.pixels.flatten(1).unique(dim=0)) > 0.99 * count
    trousers = images.pixels[images.labels == 1].double().mean((0, 1))
    assert float(trousers[24, 14]) < 0.6 * float(trousers[24, 11])  # a gap between the legs


def test_embedded_splits_do_not_overlap():
    train, test = (data.load("embedded", split).pixels for split in ("train", "test"))
    known = {image.numpy().tobytes() for image in train}
    assert not known & {image.numpy().tobytes() for image in test}


def test_embedded_mean_is_that_of_the_data_set():
    """-.4279 over all 60,000; the subset of 10,000 has a standard error of about .003."""
    x = data.to_model(data.load("embedded").pixels)
    assert_close(float(x.double().mean()), -0.4279, rtol=0, atol=0.01)


@pytest.mark.parametrize(
    ("source", "sandals", "sneakers"),
    [("embedded", 0.931, 0.996), ("auto", 0.9265, 0.9970)],
    ids=["embedded", "all"],
)
def test_shoes_point_one_way(source, sandals, sneakers):
    """The figures of notebook 05: how many are nearer to their class mean than to its mirror."""
    images = data.load(source)
    if source == "auto" and len(images) != 60_000:
        pytest.skip("the full Fashion-MNIST is not here")
    for name, expected in (("sandal", sandals), ("sneaker", sneakers), ("ankle boot", 1.0)):
        x = data.to_model(images.pixels[images.labels == data.CLASSES.index(name)])
        mean = x.mean(0)
        straight, mirrored = (((x - m) ** 2).sum((1, 2, 3)) for m in (mean, mean.flip(-1)))
        assert_close(float((straight < mirrored).double().mean()), expected, rtol=0, atol=1e-3)


def test_checksums_and_a_tampered_file(monkeypatch, tmp_path):
    assert "2 files match" in data.verify_embedded() and "MIT" in data.verify_embedded()
    for path in data.ASSETS.glob("fashion_mnist_*.*"):
        if path.suffix in (".parquet", ".json"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(data, "ASSETS", tmp_path)
    assert "2 files match" in data.verify_embedded()
    target = tmp_path / "fashion_mnist_test.parquet"
    content = bytearray(target.read_bytes())
    content[len(content) // 2] ^= 1
    target.write_bytes(content)
    with pytest.raises(ValueError, match=r"fashion_mnist_test\.parquet is damaged.*reinstall"):
        data.verify_embedded()


def test_size_of_what_is_embedded():
    about = json.loads((data.ASSETS / "fashion_mnist_data.json").read_text())
    assert sum((data.ASSETS / name).stat().st_size for name in about["sha256"]) <= 8_000_000


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_datasets_library_reads_the_embedded_files(split, tmp_path):
    path = str(data.ASSETS / f"fashion_mnist_{split}.parquet")
    rows = datasets.load_dataset("parquet", data_files=path, split="train", cache_dir=str(tmp_path))
    ours = data.load("embedded", split)
    assert rows.features["label"].names == list(data.CLASSES)
    assert rows["label"][:] == ours.labels.tolist()
    assert b"".join(rows["image"][:]) == ours.pixels.numpy().tobytes()


@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "columns", "cells"])
def test_damaged_parquet(monkeypatch, tmp_path, damage):
    path = tmp_path / "fashion_mnist_train.parquet"
    whole = (data.ASSETS / "fashion_mnist_test.parquet").read_bytes()
    if damage == "columns":
        datasets.Dataset.from_dict({"a": [1], "b": [2]}).to_parquet(path)
    elif damage == "cells":
        datasets.Dataset.from_dict({"image": ["a", "b"], "label": [0, 1]}).to_parquet(path)
    else:
        half = whole[: len(whole) // 2]
        path.write_bytes({"truncated": half, "text": b"PAR1 or not", "empty": b""}[damage])
    monkeypatch.setattr(data, "ASSETS", tmp_path)
    message = r"fashion_mnist_train\.parquet is not a readable Parquet file"
    with pytest.raises(ValueError, match=message):
        data.load("embedded")


@pytest.mark.parametrize("gz", [False, True])
def test_idx_round_trip(tmp_path, write_idx, gz):
    pixels, labels = random_pixels(7, 6, 5), torch.arange(7).to(torch.uint8)
    write_idx(tmp_path, pixels, labels, "train", gz)
    write_idx(tmp_path, pixels[:3], labels[:3], "t10k", gz)
    images = data.load(tmp_path)
    assert torch.equal(images.pixels, pixels[:, None]) and images.labels.tolist() == labels.tolist()
    assert images.labels.dtype == torch.int64
    assert str(tmp_path) in images.source and "7" in images.source
    assert len(data.load(str(tmp_path), "test")) == 3


def test_idx_of_any_dimension(tmp_path):
    for shape in ((4,), (2, 3), (2, 3, 4, 5)):
        array = random_pixels(*shape)
        (tmp_path / "a").write_bytes(idx_bytes(array))
        assert torch.equal(readers.read_idx(tmp_path / "a"), array)


def test_idx_folder_without_labels(idx_folder):
    (idx_folder / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match="no train-labels-idx1-ubyte"):
        data.load(idx_folder)


def test_idx_counts_that_do_not_match(tmp_path, write_idx):
    write_idx(tmp_path, random_pixels(7, 6, 5), torch.zeros(6, dtype=torch.uint8))
    with pytest.raises(ValueError, match="do not match"):
        data.load(tmp_path)


def test_idx_images_of_the_wrong_dimension(tmp_path, write_idx):
    write_idx(tmp_path, random_pixels(7, 6), torch.zeros(7, dtype=torch.uint8))
    with pytest.raises(ValueError, match="do not match"):
        data.load(tmp_path)


def test_idx_without_any_image(tmp_path, write_idx):
    write_idx(tmp_path, random_pixels(0, 8, 8), torch.zeros(0, dtype=torch.uint8))
    with pytest.raises(ValueError, match="no images in"):
        data.load(tmp_path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda b: b[:-1], "header promises"),
        (lambda b: b + b"\0", "header promises"),
        (lambda b: b[:10], "not an IDX file"),
        (lambda b: b"", "begins with nothing"),
        (lambda b: b"\0\0\x0d" + b[3:], "not an IDX file"),  # floats
        (lambda b: b"PK\3\4" + b[4:], "not an IDX file"),
        (lambda b: b[:4] + struct.pack(">I", 2**31) + b[8:], "header promises"),
    ],
    ids=["short", "long", "header", "empty", "floats", "zip", "count"],
)
def test_damaged_idx(idx_folder, spoil, message):
    path = idx_folder / "train-images-idx3-ubyte"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(ValueError, match=message):
        data.load(idx_folder)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda b: b[:-20],
        lambda b: b[:5],
        lambda b: b"no gzip",
        lambda b: b[:30] + b"\0\xff" * 9 + b[48:],
    ],
)
def test_damaged_gzip(tmp_path, write_idx, spoil):
    write_idx(tmp_path, random_pixels(7, 6, 5), torch.zeros(7, dtype=torch.uint8), gz=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(ValueError, match="not a complete gzip file"):
        data.load(tmp_path)
    with pytest.raises(ValueError, match="not a complete gzip file"):
        path.write_bytes(gzip.compress(b"")[:-3])
        readers.read_idx(path)


def write_image(path, array, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(path)


def test_folder_of_grey_images_with_classes_from_subfolders(tmp_path):
    arrays = random_pixels(4, 6, 5).numpy()
    for name, array in zip(("b/2.png", "a/1.png", "a/0.bmp", "c/x.PNG"), arrays, strict=True):
        write_image(tmp_path / name, array)
    (tmp_path / "a" / "notes.txt").write_text("not an image")
    images = data.load(tmp_path)
    assert images.pixels.shape == (4, 1, 6, 5)
    assert images.labels.tolist() == [0, 0, 1, 2]
    by_name = torch.from_numpy(arrays[[2, 1, 0, 3]])
    assert torch.equal(images.pixels[:, 0], by_name)
    assert "4 grey images" in images.source


def test_folder_of_colour_images_puts_channels_first(tmp_path):
    arrays = random_pixels(2, 4, 6, 3).numpy()
    for i, array in enumerate(arrays):
        write_image(tmp_path / f"{i}.png", array)
    images = data.load(tmp_path)
    assert images.pixels.shape == (2, 3, 4, 6) and "colour" in images.source
    for channel in range(3):
        assert np.array_equal(images.pixels[:, channel].numpy(), arrays[..., channel])
    assert images.labels.tolist() == [0, 0]


def test_one_colour_image_makes_all_of_them_colour(tmp_path):
    write_image(tmp_path / "0.png", random_pixels(4, 4).numpy())
    write_image(tmp_path / "1.png", random_pixels(4, 4, 3).numpy())
    write_image(tmp_path / "2.png", random_pixels(4, 4, 3).numpy(), "P")
    write_image(tmp_path / "3.png", random_pixels(4, 4).numpy(), "1")
    images = data.load(tmp_path)
    assert images.pixels.shape == (4, 3, 4, 4)
    assert torch.equal(images.pixels[0, 0], images.pixels[0, 2])
    assert set(images.pixels[3].unique().tolist()) <= {0, 255}


def test_sixteen_bit_grey_keeps_the_upper_eight_bits(tmp_path):
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    Image.fromarray(values).save(tmp_path / "0.png")
    images = data.load(tmp_path)
    assert images.pixels.shape == (1, 1, 8, 8)
    assert images.pixels[0, 0].tolist() == (values // 256).tolist()


def test_images_of_several_sizes_need_one_size(tmp_path):
    write_image(tmp_path / "0.png", np.full((4, 4), 200, np.uint8))
    write_image(tmp_path / "1.png", np.full((9, 7), 100, np.uint8))
    with pytest.raises(ValueError, match=r"2 different sizes.*--size"):
        data.load(tmp_path)
    images = data.load(tmp_path, size=8)
    assert images.pixels.shape == (2, 1, 8, 8)
    assert [image.unique().tolist() for image in images.pixels] == [[200], [100]]
    with pytest.raises(ValueError, match="size must be a positive"):
        data.load(tmp_path, size=0)


def png_with_a_broken_chunk(path):
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 6] ^= 0xFF
    return bytes(content)


@pytest.mark.parametrize(
    "spoil",
    [lambda p: p.read_bytes()[:60], lambda p: b"", lambda p: b"hello", png_with_a_broken_chunk],
)
def test_unreadable_image(tmp_path, spoil):
    write_image(tmp_path / "good.png", random_pixels(40, 40).numpy())
    write_image(tmp_path / "spoilt.png", random_pixels(40, 40).numpy())
    (tmp_path / "spoilt.png").write_bytes(spoil(tmp_path / "spoilt.png"))
    with pytest.raises(ValueError, match=r"spoilt\.png is not a readable image"):
        data.load(tmp_path)


def test_empty_and_missing_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="no IDX files and no images"):
        data.load(tmp_path)
    (tmp_path / "file").write_text("")
    for source in (tmp_path / "nowhere", tmp_path / "file", "embeded"):
        message = "choose auto, embedded, hub or an existing folder"
        with pytest.raises(FileNotFoundError, match=message):
            data.load(source)


def test_unknown_split():
    with pytest.raises(ValueError, match="unknown split 'validation'; choose one of train, test"):
        data.load("embedded", "validation")


def fake_prepared_copy(cache, pixels, labels, revision=data.HUB_REVISION):
    """What `datasets` leaves behind when it has fetched and prepared the hub's copy."""
    folder = cache / data.HUB.replace("/", "___") / "fashion_mnist" / "0.0.0" / revision
    folder.mkdir(parents=True)
    path, features = folder / "fashion_mnist-train.arrow", table(pixels, labels).features
    writer = datasets.arrow_writer.ArrowWriter(path=str(path), features=features)
    for cell, label in zip(encoded(pixels), labels.tolist(), strict=True):
        writer.write({"image": cell, "label": label})
    writer.finalize()


def test_auto_prefers_idx_then_a_cached_hub_copy_then_embedded(
    nothing_here, monkeypatch, tmp_path, idx_folder
):
    assert len(data.load("auto", "test")) == 2000
    assert [name for name, _ in data.available()] == ["embedded"]

    pixels, labels = random_pixels(6, 28, 28), torch.arange(6)
    fake_prepared_copy(tmp_path / "cache", pixels, labels)
    images = data.load("auto")
    assert torch.equal(images.pixels, pixels[:, None]) and images.labels.tolist() == labels.tolist()
    assert images.source.startswith("hub: 6 train images")
    assert [name for name, _ in data.available()] == ["hub", "embedded"]

    monkeypatch.setattr(data, "IDX_FOLDERS", (tmp_path / "none", idx_folder))
    assert len(data.load("auto")) == 12 and len(data.load("auto", "test")) == 5
    assert [name for name, _ in data.available()] == [str(idx_folder), "hub", "embedded"]


def test_a_cached_copy_of_another_revision_is_not_taken(nothing_here, tmp_path):
    pixels, labels = random_pixels(6, 28, 28), torch.arange(6)
    fake_prepared_copy(tmp_path / "cache", pixels, labels, revision="0" * 40)
    assert [name for name, _ in data.available()] == ["embedded"]


def test_auto_never_asks_the_network(nothing_here, monkeypatch):
    def asked(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(datasets, "load_dataset", asked)
    assert "embedded" in data.load("auto", "test").source


def test_hub_without_network_says_what_to_do(nothing_here):
    message = "without network use embedded, or a folder of IDX files"
    with pytest.raises(FileNotFoundError, match=message):
        data.load("hub")


def test_hub_through_a_local_copy_of_the_repository(nothing_here, monkeypatch, tmp_path):
    pixels, labels = random_pixels(5, 28, 28), torch.tensor([3, 1, 4, 1, 5])
    folder = tmp_path / "repository"
    folder.mkdir()
    for split, count in (("train", 5), ("test", 2)):
        rows = table(pixels[:count], labels[:count]).data.table
        pq.write_table(rows, folder / f"{split}-00000-of-00001.parquet")
    monkeypatch.setattr(data, "HUB", str(folder))
    monkeypatch.setattr(data, "HUB_REVISION", None)
    images = data.load("hub")
    assert torch.equal(images.pixels, pixels[:, None]) and images.labels.tolist() == labels.tolist()
    assert len(data.load("hub", "test")) == 2


# --- Images of one's own making


@pytest.mark.parametrize(
    ("pixels", "labels", "classes", "error", "message"),
    [
        (
            np.zeros((2, 1, 4, 4), np.uint8),
            torch.zeros(2),
            (),
            TypeError,
            "got ndarray; .*images_from",
        ),
        (torch.zeros(2, 1, 4, 4), torch.arange(2), (), TypeError, "uint8, .*got torch.float32"),
        (random_pixels(2, 4, 4), torch.arange(2), (), ValueError, r"\(N, C, H, W\).*\(2, 4, 4\)"),
        (random_pixels(0, 1, 4, 4), torch.arange(0), (), ValueError, r"without a zero, got \(0, 1"),
        (random_pixels(2, 1, 4, 4), torch.zeros(2), (), TypeError, "int64, got torch.float32"),
        (random_pixels(2, 1, 4, 4), [0, 1], (), TypeError, "int64, got list"),
        (
            random_pixels(2, 1, 4, 4),
            torch.arange(3),
            (),
            ValueError,
            r"\(2,\), one a picture, got \(3,\)",
        ),
        (
            random_pixels(2, 1, 4, 4),
            torch.arange(2),
            ("cat",),
            ValueError,
            r"0\.\.0, .* got 0\.\.1",
        ),
        (random_pixels(2, 1, 4, 4), -torch.arange(2), ("cat",), ValueError, r"got -1\.\.0"),
    ],
)
def test_images_check_themselves(pixels, labels, classes, error, message):
    with pytest.raises(error, match=message):
        data.Images(pixels, labels, "", classes)


PICTURES = random_pixels(5, 3, 6, 7)  # what every form below has to give
NAMES = ("ant", "bee", "cow")
OF_THEM = torch.tensor([0, 2, 1, 1, 0])


class Pairs(torch.utils.data.Dataset):
    """A data set in PyTorch's sense."""

    def __init__(self, form, labelled=True):
        self.form, self.labelled, self.classes = form, labelled, list(NAMES)

    def __len__(self):
        return len(PICTURES)

    def __getitem__(self, i):
        picture = self.form(PICTURES[i])
        return (picture, int(OF_THEM[i])) if self.labelled else picture


def pillow(pixels: torch.Tensor) -> Image.Image:
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def rows(label: bool = True) -> datasets.Dataset:
    columns = {"img": [pillow(p) for p in PICTURES], "id": list("abcde")}
    features = {"img": datasets.Image(), "id": datasets.Value("string")}
    if label:
        columns["fine"], features["fine"] = OF_THEM.tolist(), datasets.ClassLabel(names=list(NAMES))
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


LAST = PICTURES.permute(0, 2, 3, 1)  # (N, H, W, C)
FORMS = {
    "tensor": (PICTURES, None),
    "channels last": (LAST, None),
    "array": (PICTURES.numpy(), None),
    "array, channels last": (LAST.numpy(), None),
    "alpha": (torch.cat([PICTURES, torch.full((5, 1, 6, 7), 255, dtype=torch.uint8)], 1), None),
    "tuple": ((LAST.numpy(), OF_THEM.numpy()), ()),
    "column of labels": ((PICTURES, OF_THEM[:, None].to(torch.uint8)), ()),
    "dictionary": ({"Images": PICTURES, "y": OF_THEM.tolist()}, ()),
    "names": ((PICTURES, [NAMES[i] for i in OF_THEM]), NAMES),
    "list": ([pillow(p) for p in PICTURES], None),
    "list of arrays": ([p.numpy() for p in LAST], None),
    "data set": (Pairs(pillow), NAMES),
    "data set of tensors": (Pairs(lambda p: p), NAMES),
    "data set without labels": (Pairs(pillow, labelled=False), None),
    "tensor data set": (torch.utils.data.TensorDataset(PICTURES, OF_THEM), ()),
    "subset": (torch.utils.data.Subset(Pairs(pillow), range(5)), ()),
    "rows": (rows(), NAMES),
    "rows without labels": (rows(label=False), None),
    "rows as tensors": (rows().with_format("torch"), NAMES),
    "dictionaries": (
        [{"image": p, "label": int(i)} for p, i in zip(PICTURES, OF_THEM, strict=True)],
        (),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_images_from_all_that_holds_pictures(form):
    """classes None: there are no labels."""
    what, classes = FORMS[form]
    images = data.images_from(what)
    assert torch.equal(images.pixels, PICTURES)
    assert images.labels.tolist() == ([0] * 5 if classes is None else OF_THEM.tolist())
    if "without" not in form:
        assert images.classes == (classes or ())
    assert images.source.startswith("5 colour images of a ")
    assert data.images_from(what, size=4).pixels.shape == (5, 3, 4, 4)


def test_images_from_grey():
    grey = random_pixels(4, 6, 7)
    for what in (grey, grey[:, None], grey.numpy()[..., None], list(grey), list(grey.numpy())):
        assert torch.equal(data.images_from(what).pixels, grey[:, None])
    assert data.images_from(grey, size=3).pixels.shape == (4, 1, 3, 3)
    mixed = data.images_from([grey[0], PICTURES[0]])
    assert mixed.pixels.shape == (2, 3, 6, 7) and torch.equal(mixed.pixels[0, 2], grey[0])
    clear = torch.stack([grey, torch.zeros_like(grey)], dim=-1)  # grey with alpha 0
    assert data.images_from(clear).pixels.unique().tolist() == [255]


def test_what_images_from_makes_shares_no_memory():
    pixels = PICTURES.clone()
    images = data.images_from(pixels)
    pixels.zero_()
    assert torch.equal(images.pixels, PICTURES)


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        (PICTURES / 255, TypeError, r"got float32; .*\(255 \* x\)\.round"),
        (PICTURES.long(), TypeError, "must be uint8 in 0..255, got int64"),
        (torch.zeros(50, 2), ValueError, r"\(50, 2\) are points.*train\.train a draw of your own"),
        (random_pixels(5, 3, 6, 3), ValueError, "which axis holds the channels cannot be told"),
        (random_pixels(5, 9, 6, 7), ValueError, "which axis holds the channels cannot be told"),
        (Pairs(lambda p: p / 255), ValueError, "picture 0 is not .*uint8 in 0..255, got float32"),
        (
            [PICTURES[0], PICTURES[0, :, :4]],
            ValueError,
            "picture 1 has 7 x 4 pixels, unlike .*7 x 6",
        ),
        (["a.png"], ValueError, "picture 0 .* it is a str, not an array or a picture"),
        ([], ValueError, "length 0"),
        (torch.utils.data.DataLoader(PICTURES), TypeError, "got DataLoader; of a loader give its"),
        (7, TypeError, "got int"),
        ((PICTURES, OF_THEM, OF_THEM), ValueError, r"\(pictures, labels\), got 3 parts"),
        ((PICTURES, OF_THEM[:4]), ValueError, "one a picture, got"),
        ((PICTURES, OF_THEM.float()), TypeError, "whole numbers or names, got float32"),
        ({"a": PICTURES}, ValueError, "no pictures among a; name them one of images, image"),
        (datasets.DatasetDict(train=rows()), ValueError, r"splits: train; give .* \['train'\]"),
        (rows().select_columns(["id"]), ValueError, "no column with pictures among id"),
    ],
)
def test_images_from_what_holds_none(what, error, message):
    with pytest.raises(error, match=message):
        data.images_from(what)


# --- files of arrays


def test_arrays_in_a_file(tmp_path):
    pixels = random_pixels(30, 5, 5).numpy()
    np.save(tmp_path / "a.npy", pixels)
    np.savez(tmp_path / "b.npz", images=pixels, labels=np.arange(30) % 3)
    np.savez_compressed(tmp_path / "c.NPZ.npz", pixels)
    for name in ("a.npy", "b.npz", "c.NPZ.npz"):
        known, unseen = (data.load(tmp_path / name, split) for split in ("train", "test"))
        assert len(known) == 27 and len(unseen) == 3
        both = {p.numpy().tobytes() for p in (*known.pixels, *unseen.pixels)}
        assert both == {p.tobytes() for p in pixels}
        assert (
            known.source == f"{tmp_path / name}: 27 grey images (3 of 30 held out as test images)"
        )
    assert data.load(tmp_path / "b.npz").labels.unique().tolist() == [0, 1, 2]
    assert data.load(tmp_path / "a.npy", size=3).pixels.shape == (27, 1, 3, 3)
    np.save(tmp_path / "few.npy", pixels[:9])
    with pytest.raises(FileNotFoundError, match=r"few\.npy has 9 images, too few to hold out"):
        data.load(tmp_path / "few.npy", "test")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"images": np.zeros((20, 4, 4), np.uint8), "y": np.zeros(19, int)}, r"\(20,\).*\(19,\)"),
        ({}, "no pictures among nothing; name them one of images"),
    ],
    ids=["labels of another length", "nothing"],
)
def test_a_file_whose_arrays_do_not_fit_is_named(tmp_path, columns, words):
    np.savez(tmp_path / "a.npz", **columns)
    with pytest.raises(ValueError, match=rf"a\.npz is not a readable file of pictures: .*{words}"):
        data.load(tmp_path / "a.npz")


@pytest.mark.parametrize(
    "form", ["x_{}", "{}_images"], ids=["as Keras saves MNIST", "as MedMNIST comes"]
)
def test_both_splits_in_one_file(tmp_path, form):
    pixels, labels = random_pixels(12, 5, 5).numpy(), np.arange(12) % 4
    y = form.replace("x", "y").replace("images", "labels")
    parts = {"train": slice(7), "val": slice(9, 12), "test": slice(7, 9)}
    columns = {form.format(part): pixels[place] for part, place in parts.items()}
    columns |= {y.format(part): labels[place, None] for part, place in parts.items()}
    np.savez(tmp_path / "a.npz", **columns)
    for split in ("train", "test"):
        images = data.load(tmp_path / "a.npz", split)
        assert np.array_equal(images.pixels[:, 0].numpy(), pixels[parts[split]])
        assert images.labels.tolist() == labels[parts[split]].tolist()


def test_what_datasets_saved(tmp_path):
    rows().to_parquet(tmp_path / "a.parquet")
    rows().save_to_disk(tmp_path / "b")
    datasets.DatasetDict(train=rows(), validation=rows().select([1])).save_to_disk(tmp_path / "c")
    datasets.DatasetDict(train=rows()).save_to_disk(tmp_path / "d")
    for name in ("a.parquet", "b", "c", "d"):
        images = data.load(tmp_path / name)
        assert torch.equal(images.pixels, PICTURES) and images.classes == NAMES
        assert images.labels.tolist() == OF_THEM.tolist()
    assert torch.equal(data.load(tmp_path / "c", "test").pixels, PICTURES[1:2])


def test_files_of_objects_are_not_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}, []], object), allow_pickle=True)
    with pytest.raises(
        ValueError, match=r"a\.npy is not a readable file of pictures: .*Python objects"
    ):
        data.load(tmp_path / "a.npy")


# --- every source


def test_size_is_for_pictures_of_ones_own(idx_folder):
    images = data.load(idx_folder, size=4)
    assert images.pixels.shape == (12, 1, 4, 4) and "scaled to 4 x 4" in images.source
    assert data.load(idx_folder, size=8).source == data.load(idx_folder).source
    assert len(data.load("embedded", size=28)) == 10_000
    with pytest.raises(ValueError, match=r"--size is for a folder of images.*28 x 28 .*leave it"):
        data.load("embedded", size=32)
    with pytest.raises(ValueError, match="size must be a positive"):
        data.load("embedded", size=-1)


@pytest.mark.parametrize("place", ["", "raw", "FashionMNIST/raw", "fashion-mnist"])
@pytest.mark.parametrize("joint", ["-", "."])
def test_idx_files_as_other_loaders_leave_them(tmp_path, write_idx, place, joint):
    pixels, labels = random_pixels(7, 6, 5), torch.arange(7).to(torch.uint8)
    folder = write_idx(tmp_path / place, pixels, labels, gz=joint == ".")
    for path in list(folder.iterdir()):
        path.rename(path.with_name(path.name.replace("-idx", f"{joint}idx")))
    images = data.load(tmp_path)
    assert torch.equal(images.pixels[:, 0], pixels) and images.labels.tolist() == labels.tolist()
    assert images.source == f"{folder}: 7 train images (IDX)"


def test_idx_files_in_two_places(tmp_path, write_idx):
    write_idx(tmp_path / ".hidden", random_pixels(7, 6, 5), torch.arange(7).to(torch.uint8))
    with pytest.raises(FileNotFoundError, match="it holds 1 folder"):
        data.load(tmp_path)
    for name in ("MNIST", "FashionMNIST"):
        write_idx(tmp_path / name / "raw", random_pixels(7, 6, 5), torch.arange(7).to(torch.uint8))
    with pytest.raises(ValueError, match=r"FashionMNIST/raw and in .*; name one of them"):
        data.load(tmp_path)


def test_idx_files_of_one_split_alone(tmp_path, write_idx, nothing_here, monkeypatch):
    write_idx(tmp_path / "mine", random_pixels(7, 6, 5), torch.arange(7).to(torch.uint8))
    message = "holds IDX files, but none with test images, t10k-images-idx3-ubyte"
    with pytest.raises(FileNotFoundError, match=message):
        data.load(tmp_path / "mine", "test")
    monkeypatch.setattr(data, "IDX_FOLDERS", (tmp_path / "mine",))
    assert len(data.load("auto")) == 7
    assert [name for name, _ in data.available()] == [str(tmp_path / "mine"), "embedded"]


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
def test_a_closed_idx_file_is_called_so(idx_folder, monkeypatch, name):
    def closed(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(readers.Path, "read_bytes", closed)
    with pytest.raises(PermissionError, match="images-idx3-ubyte could not be read: Permission"):
        data.load(idx_folder)


def test_an_idx_file_of_too_many_axes(tmp_path):
    (tmp_path / "a").write_bytes(b"\0\0\x08\xff" + b"\0\0\0\1" * 255 + b"\7")
    with pytest.raises(ValueError, match="a is damaged: its header promises"):
        readers.read_idx(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"\0\0\x08\4" + b"\xff" * 12 + b"\0" * 4)
    with pytest.raises(ValueError, match="a is damaged"):
        readers.read_idx(tmp_path / "a")


def test_fashion_mnist_has_names_and_other_idx_files_none(idx_folder, monkeypatch):
    assert data.load(idx_folder).classes == ()
    monkeypatch.setattr(data, "IDX_FOLDERS", (idx_folder,))
    assert data.load("auto").classes == data.load("embedded").classes == data.CLASSES
