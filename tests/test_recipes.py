"""The recipes: the search for copies, on a small scale and in the file that ships; training."""

import hashlib
import inspect
from dataclasses import asdict, replace

import pytest
import torch
from conftest import ROOT
from torch.testing import assert_close

from tutorial_lib import checkpoint, data, evaluate, files, train
from tutorial_lib.beyond.solvers import dpm_solver
from tutorial_lib.nets import noisy_classifier
from tutorial_lib.nets.classifier import Classifier, SecondClassifier
from tutorial_lib.nets.noisy_classifier import NoisyClassifier, NoisyClassifierConfig
from tutorial_lib.nets.unet import UNet, UNetConfig, restore
from tutorial_lib.recipes import (
    distilled,
    garments,
    judge,
    labels,
    memory,
    ncsn,
    networks,
    plane,
    targets,
    ways,
)

SPACES = ("pixels", "features")


@pytest.fixture
def small(tmp_path, monkeypatch):
    """60 training and 20 test images, 15 samples of which some are training images, and what is
    stored of them.
    """
    train, test = data.load("embedded", "train"), data.load("embedded", "test")
    train = data.Images(train.pixels[:60], train.labels[:60], "sixty")
    few = data.Images(test.pixels[:20], test.labels[:20], "")
    monkeypatch.setattr(garments, "full", lambda split: train)
    monkeypatch.setattr(garments, "load", lambda source, split: few)
    monkeypatch.setattr(garments, "ASSETS", tmp_path)
    (tmp_path / garments.WEIGHTS).write_bytes(b"some weights")
    samples = torch.cat([test.pixels[100:108], train.pixels[[5, 50, 20]], test.pixels[108:112]])
    garments._search(samples, steps=50, first=2, closest=4)
    stored = checkpoint.load(tmp_path / "nearest.safetensors")
    return train.pixels, few.pixels, samples, *stored


def embed(pixels: torch.Tensor, space: str) -> torch.Tensor:
    """Images (N, 1, 28, 28) as points, (N, D)."""
    if space == "pixels":
        return pixels.flatten(1).double()
    return evaluate.predictions(evaluate.load_classifier(), pixels)[0]


def test_distances_of_samples_and_of_test_images(small):
    train, test, samples, tensors, configuration = small
    for name, pixels in (("samples", samples), ("test", test)):
        for space in SPACES:
            a, b = embed(pixels, space), embed(train, space)
            naive = torch.stack([(b - one).square().sum(1).sqrt().min() for one in a])
            assert_close(tensors[f"{name}.{space}"].double(), naive, rtol=1e-5, atol=1e-3)
    assert configuration["what"] == "training images nearest to 15 samples, and to 20 test images"
    assert configuration["weights_sha256"] == hashlib.sha256(b"some weights").hexdigest()


def test_the_first_samples_and_the_closest_are_shown(small):
    """The three copies stand behind the first two, and the fourth is the nearest of the rest."""
    train, _, samples, tensors, _ = small
    numbers = tensors["shown.numbers"].tolist()
    assert numbers[:2] == [0, 1] and sorted(numbers[2:5]) == [8, 9, 10]
    rest = [i for i in range(2, 15) if i not in (8, 9, 10)]
    assert numbers[5] == min(rest, key=lambda i: float(tensors["samples.pixels"][i]))
    assert torch.equal(tensors["shown.samples"], samples[numbers])
    copied = dict(zip(numbers, tensors["shown.pixels.indices"][:, 0].tolist(), strict=True))
    assert [copied[i] for i in (8, 9, 10)] == [5, 50, 20]
    for space in SPACES:
        indices, images, distances = (
            tensors[f"shown.{space}.{what}"] for what in ("indices", "images", "distances")
        )
        assert torch.equal(images, train[indices])
        assert_close(distances[:, 0], tensors[f"samples.{space}"][numbers])
        assert bool((distances.diff(dim=1) >= 0).all())


def test_the_recipe_draws_from_the_weights_that_ship(tmp_path, monkeypatch):
    """One seed, two steps, three samples; the search gets them."""
    asked = []
    monkeypatch.setattr(garments, "_search", lambda samples, steps: asked.append((samples, steps)))
    garments.nearest(count=3, steps=2)
    garments.nearest(count=3, steps=2)
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
    weights = (ROOT / "tutorial_lib" / "assets" / garments.WEIGHTS).read_bytes()
    assert shipped[1]["weights_sha256"] == hashlib.sha256(weights).hexdigest()
    assert "60,000 train images" in shipped[1]["data"]


def test_what_ships_is_true(shipped):
    """Distances between the stored pictures and their features, and no neighbour twice."""
    tensors, samples = shipped[0], shipped[0]["shown.samples"]
    assert samples.shape == (10, 1, 28, 28) and samples.dtype == torch.uint8
    for space in SPACES:
        images, distances = tensors[f"shown.{space}.images"], tensors[f"shown.{space}.distances"]
        assert images.shape == (10, 3, 1, 28, 28)
        for j in range(3):
            apart = embed(samples, space) - embed(images[:, j], space)
            naive = apart.square().sum(1).sqrt()
            assert_close(distances[:, j].double(), naive, rtol=1e-4, atol=1e-3)
        assert all(len(set(row)) == 3 for row in tensors[f"shown.{space}.indices"].tolist())
        assert tensors[f"samples.{space}"].shape == tensors[f"test.{space}"].shape == (2000,)


def test_samples_are_no_nearer_to_the_training_images_than_test_images_are(shipped):
    for space in SPACES:
        samples, test = (shipped[0][f"{name}.{space}"] for name in ("samples", "test"))
        assert float(samples.min()) > 0.9 * float(test.min())
        assert 0.9 < float(samples.median() / test.median()) < 1.15


def test_neighbours_in_the_full_set(shipped):
    """Where it is at hand: indices lead to the stored pictures, and none of 60,000 is nearer."""
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


@pytest.fixture
def short(tmp_path, monkeypatch):
    """The recipes with a narrow network, 4 steps instead of 25,000, 20 images, an empty folder."""
    images = data.load("embedded", "test")
    few = data.Images(images.pixels[:20], images.labels[:20], "twenty")
    config = replace(garments.SHIPPED, steps=4, batch=4, warmup=1, save_every=2, report_every=1)
    (tmp_path / "notebooks" / "figures").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "SHIPPED": config,
        "ASSETS": tmp_path,
        "MILESTONES": (2, 4),
        "REPLAYED": (1, 3),
        "STEPS": 2,
        "ALSO": (1,),
        "UNetConfig": lambda: UNetConfig(widths=(8, 8), heads=1),
        "full": lambda split: few,
        "load": lambda source, split: few,
    }.items():
        monkeypatch.setattr(garments, name, value)
    monkeypatch.setattr(evaluate, "bootstrap_interval", lambda *_: (0.0, 1.0))  # takes ten seconds
    return config


def test_the_recipe_of_the_shipped_weights(short, tmp_path):
    """Train, judge, store, search: what comes out is what `sample` and notebook 05 load."""
    run = tmp_path / "run"
    garments.unet(run, count=12)
    tensors, configuration = checkpoint.load(tmp_path / garments.WEIGHTS)
    assert configuration["train"] == asdict(short) and configuration["step"] == 4
    assert configuration["data"] == "twenty" and "recipe" in configuration
    assert {name.split(".")[0] for name in tensors} == {"ema"}
    assert all(tensor.dtype == torch.float16 for tensor in tensors.values())
    metrics = configuration["metrics"]
    assert metrics["count"] == 12 and metrics["sampler"] == "dpm++, 2 steps, seed 0"
    assert metrics["bits_per_dimension"]["count"] == 20
    assert set(metrics["by_steps"]) == {"1", "2"}
    assert metrics["by_steps"]["2"]["feature_distance"] == metrics["feature_distance"]
    assert metrics["by_steps"]["2"]["second"] == metrics["second"]
    assert {path.name for path in run.iterdir()} == {
        "checkpoint.safetensors",
        "record.json",
        "step_000002.npy",
        "step_000004.npy",
    }
    assert (tmp_path / "notebooks" / "figures" / "training_milestones.png").stat().st_size > 1000
    _, about = checkpoint.load(tmp_path / "nearest.safetensors")
    weights = (tmp_path / garments.WEIGHTS).read_bytes()
    assert about["weights_sha256"] == hashlib.sha256(weights).hexdigest()
    before = (run / "checkpoint.safetensors").read_bytes()
    garments._train_unet(run)  # finished already: resumes, and finds nothing left to do
    assert (run / "checkpoint.safetensors").read_bytes() == before


def test_the_recipe_of_the_recorded_run(short, tmp_path):
    garments.replay(count=2)
    tensors, about = checkpoint.load(tmp_path / "replay.safetensors")
    assert about["train"]["steps"] == 3 and about["train"]["report_every"] == 1
    assert tensors["steps"].tolist() == [1, 3] and tensors["losses"].shape == (3,)
    assert tensors["by_t"].shape == (2, 2, 10)  # moments, present and averaged weights, tenths of t
    assert tensors["samples"].shape == (2, 2, 2, 1, 28, 28)
    assert tensors["samples"].dtype == torch.uint8
    # untrained, v costs as much as predicting zeros: the mean of v squared, about 1 where t is high
    assert bool((tensors["by_t"] > 0).all()) and 0.5 < float(tensors["by_t"][0, 0, -1]) < 1.5


def test_the_recipe_of_the_recorded_walks(tmp_path, monkeypatch):
    monkeypatch.setattr(plane, "ASSETS", tmp_path)
    monkeypatch.setattr(plane, "STAGES", (1, 4))
    plane.walks(count=5)
    tensors, about = checkpoint.load(tmp_path / "walks.safetensors")
    shipped, shipped_about = checkpoint.load("walks")
    assert tensors.keys() == shipped.keys()
    assert about | {"training_steps": shipped_about["training_steps"]} == shipped_about
    assert_close(tensors.pop("beta"), shipped["beta"])
    for places in tensors.values():
        assert places.shape == (2, len(plane.MOMENTS), 5, 2) and places.dtype == torch.int8
        assert torch.equal(places[0, 0], places[1, 0])
        assert not torch.equal(places[0], places[1])
    assert (files.ASSETS / "walks.safetensors").stat().st_size < 200_000


def test_the_recipe_of_the_networks_side_by_side(tmp_path, monkeypatch):
    brief = {"steps": 2, "batch": 2}
    for name, value in {
        "ASSETS": tmp_path, "MOMENTS": (1, 2), "LARGE_MOMENTS": (1, 2), "BRIEFLY": 1, "EVERY": 1,
        "SAMPLES": 16, "TESTS": 8, "RATES": (1e-3, 2e-3),
        "SMALL": replace(networks.SMALL, **brief), "LARGE": replace(networks.LARGE, **brief),
    }.items():  # fmt: skip
        monkeypatch.setattr(networks, name, value)
    networks.networks()
    tensors, about = checkpoint.load(tmp_path / "networks.safetensors")
    shipped, shipped_about = checkpoint.load("networks")
    assert {name: one.shape for name, one in tensors.items()} == {
        name: one.shape for name, one in shipped.items()
    }
    assert about.keys() == shipped_about.keys() and about["behind"] == shipped_about["behind"]
    for part in ("small", "large"):
        found, stored = about["found"][part], shipped_about["found"][part]
        assert {name: one.keys() for name, one in found.items()} == {
            name: one.keys() for name, one in stored.items()
        }
    assert (files.ASSETS / "networks.safetensors").stat().st_size < 200_000


@pytest.mark.parametrize("network", [Classifier, SecondClassifier])
def test_training_a_classifier(generator, network):
    """Two classes that differ in brightness are learned in a few dozen steps."""
    labels = torch.arange(1280) % 2
    pixels = torch.randint(0, 100, (1280, 1, 28, 28), generator=generator)
    pixels = pixels + 150 * labels.view(-1, 1, 1, 1)
    images = data.Images(pixels.to(torch.uint8), labels, "")
    torch.manual_seed(0)
    model = network()
    losses = list(judge.train_classifier(model, images, epochs=1))
    assert len(losses) == 10 and not model.training
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])
    _, classes = evaluate.predictions(model, images.pixels[:100])
    assert float((classes == labels[:100]).double().mean()) > 0.95


def test_the_recipe_of_networks_that_memorise(tmp_path, monkeypatch):
    for name, value in {
        "CONFIG": replace(memory.CONFIG, steps=4, batch=4, report_every=1),
        "SHAPE": UNetConfig(widths=(8, 8), heads=1),
        "ASSETS": tmp_path,
        "COUNTS": (5, 10),
        "UNTIL": (4, 2),
        "MOMENTS": (2, 4),
        "STEPS": 2,
    }.items():
        monkeypatch.setattr(memory, name, value)
    memory.memory(count=3)
    tensors, _ = checkpoint.load(tmp_path / "memory.safetensors")
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    assert shapes == {
        "steps": (2,),
        "losses": (2, 2, 2),
        "distances": (2, 2, 3, 2),
        "samples": (2, 3, 1, 28, 28),
        "nearest": (2, 3),
        "others": (2, 3, 2),
    }
    assert bool(tensors["losses"][0].isfinite().all())
    assert tensors["losses"][1].isnan().all(1).tolist() == [False, True]
    assert tensors["distances"][1].isnan().all(2).all(1).tolist() == [False, True]


def test_the_record_of_networks_that_memorise_agrees_with_itself():
    """Who is nearest to the samples that ship, and how near, searched again."""
    tensors, about = checkpoint.load("memory")
    known = data.load("embedded").pixels
    for k, (n, until) in enumerate(zip(about["counts"], about["until"], strict=True)):
        last = tensors["steps"].tolist().index(until)
        indices, distances = evaluate.nearest(tensors["samples"][k], known[:n], 2)
        assert torch.equal(indices[:, 0], tensors["nearest"][k])
        assert_close((distances / 28).float(), tensors["distances"][k, last])
    copies = tensors["distances"][..., 0] < tensors["distances"][..., 1] / 3
    share = copies.double().mean(2).amax(1)
    assert share[0] > 0.9 > 0.1 > share[-1]
    assert (files.ASSETS / "memory.safetensors").stat().st_size < 300_000


def test_the_recipe_of_the_yardsticks(tmp_path, monkeypatch):
    test = data.load("embedded", "test")
    few = data.Images(test.pixels[:200], test.labels[:200], "two hundred")
    monkeypatch.setattr(judge, "full", lambda split: few)
    monkeypatch.setattr(judge, "ASSETS", tmp_path)
    judge.yardsticks()
    tensors, about = checkpoint.load(tmp_path / "yardsticks.safetensors")
    shipped, shipped_about = checkpoint.load("yardsticks")
    assert about | {"count": 10_000} == shipped_about
    for place in ("first", "second"):
        assert tensors[place].shape == shipped[place].shape == (len(judge.DAMAGES),)
        assert bool((shipped[place] > 0).all()) and int(shipped[place].argmin()) == 0


def test_a_damage_that_does_nothing_gives_the_floor_of_the_shipped_weights():
    shipped, _ = checkpoint.load("yardsticks")
    metrics = checkpoint.load("fashion_mnist")[1]["metrics"]
    assert_close(float(shipped["first"][0]), metrics["floor"], rtol=1e-3, atol=0)
    assert_close(float(shipped["second"][0]), metrics["second"]["floor"], rtol=1e-3, atol=0)


@pytest.fixture
def brief(tmp_path, monkeypatch):
    """The recipe of the student with 2 steps instead of thousands, 20 images, an empty folder."""
    images = data.load("embedded", "test")
    few = data.Images(images.pixels[:20], images.labels[:20], "twenty")
    short = {"steps": 2, "batch": 4, "warmup": 1, "precision": "no"}
    for name, value in {
        "CONSISTENCY": replace(distilled.CONSISTENCY, **short),
        "ADVERSARIAL": replace(distilled.ADVERSARIAL, **short),
        "ASSETS": tmp_path,
        "COUNT": 12,
        "TRIED": 12,
        "full": lambda split: few,
    }.items():
        monkeypatch.setattr(distilled, name, value)
    monkeypatch.setattr(evaluate, "bootstrap_interval", lambda *_: (0.0, 1.0))  # takes ten seconds
    return tmp_path


def test_the_recipe_of_the_student(brief):
    """One method behind the other; what comes out is a network that `restore` takes."""
    distilled.distilled(brief / "run")
    tensors, about = checkpoint.load(brief / distilled.WEIGHTS)
    student = restore(tensors, about)
    teacher = restore(*checkpoint.load(distilled.TEACHER))
    assert student.config == teacher.config
    assert all(tensor.dtype == torch.float16 for tensor in tensors.values())
    assert about["methods"] == {"consistency": 2, "adversarial": 2}
    assert about["evaluations"] == [1, 2, 4] and about["train"]["target"] == "v"
    assert about["consistency"]["momentum"] == distilled.CONSISTENCY.momentum
    assert about["record"]["device"] == "cpu"
    assert set(about["metrics"]) == {"count", "1", "2", "4"} and about["metrics"]["count"] == 12
    theirs = teacher.state_dict()
    moved = [float((one - theirs[name]).abs().max()) for name, one in student.state_dict().items()]
    assert 0 < max(moved) < 0.1  # from the teacher's weights, and not far
    before = (brief / "run" / "adversarial" / "checkpoint.safetensors").read_bytes()
    distilled.taught("adversarial", brief / "run" / "adversarial", start=teacher)  # is finished
    assert (brief / "run" / "adversarial" / "checkpoint.safetensors").read_bytes() == before


def test_a_guided_teacher_teaches_labels(brief, monkeypatch):
    """A student of a network with labels takes labels, and learns what guidance draws."""
    weights, asked = brief / "labelled.safetensors", []
    network = UNet(UNetConfig(widths=(8, 8), heads=1, labels=10))
    about = {"model": asdict(network.config), "train": asdict(distilled.CONSISTENCY)}
    checkpoint.save(weights, checkpoint.prefixed("ema", network.state_dict()), about)
    monkeypatch.setattr(distilled, "TEACHER", str(weights))
    guided = distilled.guided

    def watched(denoise, y, w, clip):
        asked.append((y, w, clip))
        return guided(denoise, y, w, clip=clip)

    monkeypatch.setattr(distilled, "guided", watched)
    student = distilled.taught("consistency", brief / "one")
    assert len(asked) == 2 and asked[0][1:] == (distilled.W, True) and asked[0][0].shape == (4,)
    student = distilled.taught("adversarial", brief / "two", start=student)
    assert distilled.drawn(student, 6, steps=2).shape == (6, 1, 28, 28)


@pytest.fixture
def narrow(tmp_path, monkeypatch):
    """The recipes of notebook 09 with a narrow network, 4 steps, 20 images and an empty folder."""
    images = data.load("embedded", "test")
    few = data.Images(images.pixels[:20], images.labels[:20], "twenty")
    for recipe in (targets, ncsn):
        config = replace(recipe.CONFIG, steps=4, batch=4, warmup=1, save_every=2, report_every=1)
        monkeypatch.setattr(recipe, "CONFIG", config)
        monkeypatch.setattr(recipe, "ASSETS", tmp_path)
        monkeypatch.setattr(recipe, "SHAPE", UNetConfig(widths=(8, 8), heads=1))
        monkeypatch.setattr(recipe, "full", lambda split: few)


def test_the_recipe_of_a_flow_beside_diffusion(narrow, tmp_path, monkeypatch):
    monkeypatch.setattr(targets, "CALLS", (1, 3))
    targets.flow(tmp_path / "run", count=6)
    tensors, about = checkpoint.load(tmp_path / "flow.safetensors")
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    assert shapes == {
        "seconds": (3,),
        "distances": (3, 2, 2, 2, 2),
        "floor": (2,),
        "samples": (3, 2, 2, 6, 1, 28, 28),
    }
    assert tensors["samples"].dtype == torch.uint8
    assert bool((tensors["distances"] > tensors["floor"] / 2).all())
    assert about["train"]["steps"] == 4 and about["data"] == "twenty"
    files_of = {path.name for path in (tmp_path / "run").iterdir()}
    assert files_of == set(targets.LEARNED)
    before = (tmp_path / "run" / "flow" / "checkpoint.safetensors").read_bytes()
    model, seconds = targets.trained("flow", tmp_path / "run" / "flow")  # nothing is left to do
    assert (tmp_path / "run" / "flow" / "checkpoint.safetensors").read_bytes() == before
    assert seconds > 0 and not model.training


def test_all_three_learn_from_the_same_and_draw_on_their_own_schedule(generator):
    """An untrained network answers 0: eps and the flow leave x as it is, but for its scale."""
    model = UNetConfig(widths=(8, 8), heads=1)
    torch.manual_seed(0)
    network = targets.UNet(model).eval()
    x_T = torch.randn(2, 1, 28, 28, generator=generator)
    t = torch.tensor([1, 700])
    for learned in targets.LEARNED:
        denoise, noise = targets.prepared(learned, network)
        ab = noise.alpha_bar[t].view(-1, 1, 1, 1).float()
        time = (t / 1000).view(-1, 1, 1, 1)
        length = ((1 - time) ** 2 + time**2).sqrt()
        expected = {"eps": x_T / ab.sqrt(), "v": ab.sqrt() * x_T, "flow": length * x_T}[learned]
        assert_close(denoise(x_T, t), expected.clamp(-1, 1), rtol=1e-4, atol=1e-5)


def test_the_recipe_of_the_annealed_walk(narrow, tmp_path, monkeypatch):
    monkeypatch.setattr(ncsn, "STEPS", (1, 2))
    ncsn.ncsn(tmp_path / "run", count=5)
    tensors, about = checkpoint.load(tmp_path / "ncsn.safetensors")
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    assert shapes == {
        "sigmas": (100,),
        "moments": (16,),
        "walk": (16, 5, 1, 28, 28),
        "distances": (2, 2, 2),
        "samples": (2, 2, 5, 1, 28, 28),
    }
    assert about["train"]["T"] == 100 and about["steps"] == [1, 2]
    assert tensors["moments"][0] == 0 and tensors["moments"][-1] == 99


def test_the_records_of_notebook_09_are_whole():
    tensors, about = checkpoint.load("flow")
    recipe = [list(values) for values in (targets.LEARNED, targets.SOLVERS, targets.CALLS)]
    assert [about[name] for name in ("learned", "solvers", "calls")] == recipe
    assert about["train"] == asdict(targets.CONFIG)
    assert UNetConfig(**about["model"]) == targets.SHAPE
    kinds = [len(values) for values in recipe]
    assert list(tensors["distances"].shape) == [*kinds, len(targets.SEEDS), 2]
    assert tensors["samples"].shape == (*kinds, targets.SHOWN, 1, 28, 28)
    assert bool((tensors["distances"] > tensors["floor"]).all())
    best = tensors["distances"].mean(3)[..., 0].amin(1)  # (networks, calls)
    assert bool((best[:, -1] < best[:, 1]).all())  # fifty calls beat two
    tensors, about = checkpoint.load("ncsn")
    assert (about["steps"], about["step_size"]) == (list(ncsn.STEPS), ncsn.STEP_SIZE)
    assert about["train"] == asdict(ncsn.CONFIG)
    assert UNetConfig(**about["model"]) == ncsn.SHAPE
    assert_close(tensors["sigmas"], ncsn.SIGMAS)
    assert tensors["walk"].shape == (ncsn.MOMENTS, ncsn.SHOWN, 1, 28, 28)
    assert bool((tensors["distances"][-1] < tensors["distances"][0] / 2).all())
    for name, recipe in (("flow", targets.flow), ("ncsn", ncsn.ncsn)):
        _, about = checkpoint.load(name)
        assert about["count"] == inspect.signature(recipe).parameters["count"].default
        assert (files.ASSETS / f"{name}.safetensors").stat().st_size < 400_000


def test_the_score_network_is_told_its_level(generator):
    asked = []

    def model(x, level):
        asked.append(level)
        return torch.ones_like(x)

    x, sigma = torch.randn(3, 1, 28, 28, generator=generator), ncsn.SIGMAS[[0, 40, 99]]
    found = ncsn.score_network(model)(x, sigma)
    assert asked[0].tolist() == [100, 60, 1]
    assert_close(found, (-1 / sigma).view(-1, 1, 1, 1).expand_as(x))


NARROW = UNetConfig(widths=(8, 8), heads=1)


@pytest.fixture
def guiding(tmp_path, monkeypatch):
    """The recipes of notebook 10 with narrow networks, 4 steps and 30 images."""
    images = data.load("embedded", "test")
    few = data.Images(images.pixels[:30], images.labels[:30], "thirty", data.CLASSES)
    brief = {"steps": 4, "batch": 4, "warmup": 1, "save_every": 2, "report_every": 1}
    for name, value in {
        "LABELLED": replace(labels.LABELLED, **brief),
        "WEAK": replace(labels.WEAK, **brief),
        "CLASSIFIER": replace(labels.CLASSIFIER, **brief),
        "SHAPE": replace(NARROW, labels=10),
        "WEAK_SHAPE": replace(NARROW, labels=10),
        "CLASSIFIER_SHAPE": NoisyClassifierConfig(widths=(8, 8)),
        "STRENGTHS": (1.0, 2.0),
        "ASSETS": tmp_path,
        "dpm_solver": lambda *given, steps: dpm_solver(*given, steps=2),
        "full": lambda split: few,
        "load": lambda source, split: few,
    }.items():
        monkeypatch.setattr(labels, name, value)
    monkeypatch.setattr(evaluate, "bootstrap_interval", lambda *_: (0.0, 1.0))  # takes ten seconds
    torch.manual_seed(1)
    begun = {name: torch.randn_like(one) for name, one in UNet(NARROW).state_dict().items()}
    about = {"model": asdict(NARROW)}
    checkpoint.save(tmp_path / labels.WEIGHTS, checkpoint.prefixed("ema", begun), about)
    return few


def test_the_network_with_labels_begins_as_the_one_without(guiding, tmp_path):
    before = restore(*checkpoint.load(tmp_path / labels.WEIGHTS))
    told = labels._told(labels.SHAPE).eval()
    x_t, t = torch.randn(3, 1, 28, 28), torch.tensor([1, 500, 1000])
    with torch.no_grad():
        assert_close(told(x_t, t), before(x_t, t), rtol=1e-3, atol=1e-3)
        assert not torch.allclose(told(x_t, t, y=torch.arange(3)), before(x_t, t))


def test_the_recipe_of_the_network_with_labels(guiding, tmp_path):
    """What comes out is what `sample --label` and notebook 10 load, judged at each strength."""
    labels.labelled(tmp_path / "run", count=12)
    tensors, configuration = checkpoint.load(tmp_path / "labelled.safetensors")
    assert {name.split(".")[0] for name in tensors} == {"ema"}
    assert all(tensor.dtype == torch.float16 for tensor in tensors.values())
    assert configuration["train"]["labels"] and configuration["train"]["label_drop"] == 0.15
    assert configuration["model"]["labels"] == 10 and configuration["step"] == 4
    metrics = configuration["metrics"]
    assert set(metrics["by_w"]) == {"1.0", "2.0"} and metrics["count"] == 12
    assert metrics["by_w"]["1.0"]["feature_distance"] == metrics["feature_distance"]
    assert metrics["bits_per_dimension"]["count"] == 30
    for found in metrics["by_w"].values():
        assert 0 <= found["precision"] <= 1 and set(found["obedience"]) == set(evaluate.JUDGES)
    before = (tmp_path / "run" / "checkpoint.safetensors").read_bytes()
    labels._train(UNet, labels.SHAPE, labels.LABELLED, tmp_path / "run")  # is finished
    assert (tmp_path / "run" / "checkpoint.safetensors").read_bytes() == before


def test_labels_and_noise_are_the_same_at_each_strength(guiding):
    torch.manual_seed(0)
    model = UNet(labels.SHAPE)
    with torch.no_grad():  # what begins at zero would hide the labels
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    (y, plain), (again, _), (_, strong) = (labels.drawn(model, 5, w) for w in (1.0, 1.0, 3.0))
    assert torch.equal(y, again) and y.shape == (5,)
    assert plain.shape == (5, 1, 28, 28) and plain.dtype == torch.uint8
    assert not torch.equal(plain, strong)


def test_the_recipe_of_the_worse_network(guiding, tmp_path):
    labels.weak(tmp_path / "run")
    tensors, configuration = checkpoint.load(tmp_path / "weak.safetensors")
    assert configuration["recipe"] == "python -m tutorial_lib.recipes weak"
    assert restore(tensors, configuration).config == labels.WEAK_SHAPE


def test_the_recipe_of_the_noisy_classifier(guiding, tmp_path):
    labels.noisy_classifier(tmp_path / "run")
    tensors, configuration = checkpoint.load(tmp_path / "noisy_classifier.safetensors")
    assert all(tensor.dtype == torch.float16 for tensor in tensors.values())
    model = noisy_classifier.restore(tensors, configuration)
    logits = model(torch.zeros(3, 1, 28, 28), torch.tensor([1, 500, 1000]))
    assert logits.shape == (3, 10) and len(configuration["metrics"]["accuracy_by_tenth_of_t"]) == 10


def test_the_noisy_classifier_learns(generator):
    """Black and white pictures are told apart in little noise, and not in pure noise."""
    y = torch.arange(200) % 2
    pixels = (20 + 200 * y).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 28, 28)
    images = data.Images(pixels.contiguous(), y, "")
    config = replace(labels.CLASSIFIER, steps=40, batch=32, warmup=5, ema=0.8, precision="no")
    torch.manual_seed(0)
    network = NoisyClassifier(NoisyClassifierConfig(widths=(8, 8), classes=2))
    learning = labels._classification(images, config)
    for report in train.train(network, *learning, config, device="cpu"):
        pass
    accuracy = labels.accuracy_by_t(report.ema_model.eval(), images)
    assert min(accuracy[:3]) > 0.95 and accuracy[-1] < 0.85


def test_the_recipe_of_the_milder_ways(guiding, tmp_path, monkeypatch):
    """With networks of four steps, drawn by two: every way and strength is judged and stored."""
    labels.labelled(tmp_path / "run", count=12)
    labels.weak(tmp_path / "weak_run")
    shipped = {name: tmp_path / f"{name}.safetensors" for name in ("labelled", "weak")}
    judges = checkpoint.shipped()
    monkeypatch.setattr(checkpoint, "shipped", lambda: judges | shipped)
    for name, value in {
        "ASSETS": tmp_path,
        "STRENGTHS": (2.0,),
        "dpm_solver": lambda *given, steps: dpm_solver(*given, steps=2),
        "load": lambda source: guiding,
    }.items():
        monkeypatch.setattr(ways, name, value)
    ways.ways(count=10, size=6)
    tensors, about = checkpoint.load(tmp_path / "ways.safetensors")
    expected = {"plain guidance 1.0", *(f"{name} 2.0" for name in ways.WAYS)}
    assert tensors.keys() == about["found"].keys() == expected
    assert all(pixels.shape == (10, 1, 28, 28) for pixels in tensors.values())
    for found in about["found"].values():
        assert found["first"] > 0 and 0 <= found["recall"] <= 1 and 0 < found["contrast"] < 1.1
