"""The recipe that looks for copies: what it stores, on a small scale and in the file that ships."""

import hashlib

import pytest
import torch
from conftest import ROOT
from torch.testing import assert_close

from tutorial_lib import checkpoint, data, evaluate, files
from tutorial_lib import recipes

SPACES = ("pixels", "features")


@pytest.fixture
def small(tmp_path, monkeypatch):
    """60 training and 20 test images, 15 samples (3 are training images), and what is stored."""
    train, test = data.load("embedded", "train"), data.load("embedded", "test")
    train = data.Images(train.pixels[:60], train.labels[:60], "sixty")
    twenty = data.Images(test.pixels[:20], test.labels[:20], "")
    monkeypatch.setattr(recipes, "_full", lambda split: train)
    monkeypatch.setattr(recipes, "load", lambda source, split: twenty)
    monkeypatch.setattr(recipes, "ASSETS", tmp_path)
    (tmp_path / recipes.WEIGHTS).write_bytes(b"some weights")
    samples = torch.cat([test.pixels[100:108], train.pixels[[5, 50, 20]], test.pixels[108:112]])
    recipes._search(samples, steps=50, first=2, closest=4)
    tensors, configuration = checkpoint.load(tmp_path / "nearest.safetensors")
    return train.pixels, twenty.pixels, samples, tensors, configuration


def test_distances_of_samples_and_of_test_images(small):
    train, test, samples, tensors, configuration = small
    model = evaluate.load_classifier()
    embed = {
        "pixels": lambda x: x.flatten(1).double(),
        "features": lambda x: evaluate.predictions(model, x)[0],
    }
    for name, pixels in (("samples", samples), ("test", test)):
        for space in SPACES:
            a, b = embed[space](pixels), embed[space](train)
            naive = torch.stack([(b - one).square().sum(1).sqrt().min() for one in a])
            assert_close(tensors[f"{name}.{space}"].double(), naive, rtol=1e-5, atol=1e-3)
    assert configuration["what"] == "training images nearest to 15 samples, and to 20 test images"
    assert configuration["weights_sha256"] == hashlib.sha256(b"some weights").hexdigest()


def test_the_first_samples_and_the_closest_are_shown(small):
    """Behind the first two samples stand the three copies, then the nearest of the rest."""
    train, _, samples, tensors, _ = small
    numbers = tensors["shown.numbers"].tolist()
    assert numbers[:2] == [0, 1] and sorted(numbers[2:5]) == [8, 9, 10]
    rest = [i for i in range(2, 15) if i not in (8, 9, 10)]
    assert numbers[5] == min(rest, key=lambda i: float(tensors["samples.pixels"][i]))
    assert torch.equal(tensors["shown.samples"], samples[numbers])
    copied = dict(zip(numbers, tensors["shown.pixels.indices"][:, 0].tolist(), strict=True))
    assert [copied[i] for i in (8, 9, 10)] == [5, 50, 20]
    for space in SPACES:
        parts = ("images", "indices", "distances")
        images, indices, distances = (tensors[f"shown.{space}.{part}"] for part in parts)
        assert torch.equal(images, train[indices])
        assert_close(distances[:, 0], tensors[f"samples.{space}"][numbers])
        assert bool((distances.diff(dim=1) >= 0).all())


def test_the_recipe_draws_from_the_weights_that_ship(tmp_path, monkeypatch):
    """One seed, two steps, three samples; the search gets them."""
    asked = []
    monkeypatch.setattr(recipes, "_search", lambda samples, steps: asked.append((samples, steps)))
    recipes.nearest(count=3, steps=2)
    recipes.nearest(count=3, steps=2)
    (samples, steps), (again, _) = asked
    assert samples.shape == (3, 1, 28, 28) and samples.dtype == torch.uint8 and steps == 2
    assert torch.equal(samples, again)


@pytest.fixture(scope="module")
def shipped():
    return checkpoint.load("nearest")


def test_what_ships_belongs_to_the_weights_that_ship(shipped):
    """Weights made anew need a new search: `python -m tutorial_lib.recipes nearest`."""
    path = files.ASSETS / "nearest.safetensors"
    assert path.stat().st_size < 100_000
    weights = (ROOT / "tutorial_lib" / "assets" / recipes.WEIGHTS).read_bytes()
    assert shipped[1]["weights_sha256"] == hashlib.sha256(weights).hexdigest()
    assert "60,000 train images" in shipped[1]["data"]


def test_what_ships_is_true(shipped):
    """Pixel distances from pictures, feature distances by the classifier; no neighbour twice."""
    tensors, model = shipped[0], evaluate.load_classifier()
    samples = tensors["shown.samples"]
    assert samples.shape == (10, 1, 28, 28) and samples.dtype == torch.uint8
    embed = {
        "pixels": lambda x: x.flatten(1).double(),
        "features": lambda x: evaluate.predictions(model, x)[0],
    }
    for space in SPACES:
        images, distances = tensors[f"shown.{space}.images"], tensors[f"shown.{space}.distances"]
        assert images.shape == (10, 3, 1, 28, 28)
        for j in range(3):
            naive = (embed[space](samples) - embed[space](images[:, j])).square().sum(1).sqrt()
            assert_close(distances[:, j].double(), naive, rtol=1e-4, atol=1e-3)
        assert all(len(set(row)) == 3 for row in tensors[f"shown.{space}.indices"].tolist())
        assert tensors[f"samples.{space}"].shape == tensors[f"test.{space}"].shape == (2000,)


def test_samples_are_no_nearer_to_the_training_images_than_test_images_are(shipped):
    for space in SPACES:
        samples, test = (shipped[0][f"{name}.{space}"] for name in ("samples", "test"))
        assert float(samples.min()) > 0.9 * float(test.min())
        assert 0.9 < float(samples.median() / test.median()) < 1.15


def test_neighbours_in_the_full_set(shipped):
    """The indices lead to the stored pictures, and of the full 60,000 none is nearer."""
    train = data.load("auto", "train")
    if len(train) < 60_000:
        pytest.skip(f"needs the full Fashion-MNIST, here is only {train.source}")
    tensors = shipped[0]
    for space in SPACES:
        found = train.pixels[tensors[f"shown.{space}.indices"]]
        assert torch.equal(found, tensors[f"shown.{space}.images"])
    indices, distances = evaluate.nearest(tensors["shown.samples"], train.pixels, 3)
    assert torch.equal(indices, tensors["shown.pixels.indices"])
    assert_close(distances.float(), tensors["shown.pixels.distances"])


def test_training_a_classifier(generator):
    """Two classes that differ in brightness are learned in a few dozen steps."""
    labels = torch.arange(1280) % 2
    pixels = torch.randint(0, 100, (1280, 1, 28, 28), generator=generator)
    pixels = pixels + 150 * labels.view(-1, 1, 1, 1)
    images = data.Images(pixels.to(torch.uint8), labels, "")
    torch.manual_seed(0)
    model = evaluate.Classifier()
    losses = list(recipes.train_classifier(model, images, epochs=1))
    assert len(losses) == 10 and not model.training
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])
    _, classes = evaluate.predictions(model, images.pixels[:100])
    assert float((classes == labels[:100]).double().mean()) > 0.95
