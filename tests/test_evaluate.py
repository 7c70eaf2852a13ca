"""The Frechet distance against scipy and closed forms; neighbours against scipy; the classifier against real labels."""

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from tutorial_lib import data, evaluate
from tutorial_lib.evaluate import frechet_distance, moments


def cloud(n: int, width: int, seed: int) -> torch.Tensor:
    """Correlated points that are not centred."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=generator, dtype=torch.float64)
    return torch.randn(n, width, generator=generator, dtype=torch.float64) @ mix + mix[0]


@pytest.fixture(scope="module")
def classifier():
    return evaluate.load_classifier()


@pytest.fixture(scope="module")
def test_images():
    return data.load("embedded", "test")


@pytest.mark.parametrize(("n", "width"), [(50, 3), (200, 20), (2, 1)])
def test_moments_against_numpy(n, width):
    points = cloud(n, width, 0)
    mean, cov = moments(points)
    assert_close(mean.numpy(), points.numpy().mean(0))
    assert_close(cov.numpy(), np.cov(points.numpy(), rowvar=False).reshape(width, width))


def test_moments_of_float32_are_computed_in_float64():
    points = cloud(100, 3, 0).float() + 1000
    assert_close(moments(points)[1], moments(points.double())[1], rtol=0, atol=0)


@pytest.mark.parametrize("n", [0, 1])
def test_moments_of_too_few_points(n):
    with pytest.raises(ValueError, match="at least 2 samples"):
        moments(torch.zeros(n, 3))


@pytest.mark.parametrize(("width", "n"), [(1, 10), (4, 30), (16, 200)])
def test_distance_against_the_matrix_root_of_scipy(width, n):
    a, b = moments(cloud(n, width, 1)), moments(cloud(n, width, 2))
    root = scipy.linalg.sqrtm(a[1].numpy() @ b[1].numpy())
    expected = ((a[0] - b[0]) ** 2).sum() + (a[1] + b[1]).trace() - 2 * np.trace(np.real(root))
    assert_close(frechet_distance(*a, *b), float(expected), rtol=1e-6, atol=1e-8)


@given(
    st.lists(
        st.tuples(st.floats(-3, 3), st.floats(0.01, 4), st.floats(-3, 3), st.floats(0.01, 4)), min_size=1, max_size=6
    )
)
def test_distance_of_diagonal_gaussians_in_closed_form(axes):
    mean_a, std_a, mean_b, std_b = torch.tensor(axes, dtype=torch.float64).T
    got = frechet_distance(mean_a, (std_a**2).diag(), mean_b, (std_b**2).diag())
    assert_close(got, float(((mean_a - mean_b) ** 2 + (std_a - std_b) ** 2).sum()), rtol=1e-6, atol=1e-8)


def test_distance_of_a_cloud_to_itself_is_zero_and_distance_is_symmetric():
    a, b = moments(cloud(100, 8, 1)), moments(cloud(100, 8, 2))
    assert_close(frechet_distance(*a, *a), 0.0, rtol=0, atol=1e-8)
    assert_close(frechet_distance(*a, *b), frechet_distance(*b, *a))


def test_distance_with_fewer_points_than_dimensions():
    """A covariance without an inverse is no obstacle; a shift of the mean still counts in full."""
    points = cloud(5, 12, 0)
    mean, cov = moments(points)
    assert_close(frechet_distance(mean, cov, mean + 2, cov), 4.0 * 12, rtol=1e-6, atol=1e-6)


def test_distance_does_not_depend_on_the_axes():
    a, b = cloud(60, 5, 1), cloud(60, 5, 2)
    turn, _ = torch.linalg.qr(cloud(5, 5, 3))
    turned = frechet_distance(*moments(a @ turn), *moments(b @ turn))
    assert_close(turned, frechet_distance(*moments(a), *moments(b)))


@pytest.mark.parametrize("size", [1, 7, 50, 2000])
@pytest.mark.parametrize("count", [1, 3])
def test_nearest_against_a_tree_of_scipy(size, count):
    """Whatever the pieces, also when the last one holds fewer than `count`."""
    points, references = cloud(20, 4, 1), cloud(50, 4, 2)
    distances, indices = scipy.spatial.KDTree(references.numpy()).query(points.numpy(), k=[*range(1, count + 1)])
    got_indices, got_distances = evaluate.nearest(points, references, count, size)
    assert_close(got_indices, torch.from_numpy(indices))
    assert_close(got_distances, torch.from_numpy(distances))


def test_a_copy_among_images_is_found_at_no_distance(test_images):
    pixels = test_images.pixels[:300]
    wanted = torch.tensor([7, 299, 0])
    indices, distances = evaluate.nearest(pixels[wanted], pixels, size=100)
    assert torch.equal(indices[:, 0], wanted)
    assert_close(distances, torch.zeros(3, 1, dtype=torch.float64), rtol=0, atol=1e-4)
    brighter = pixels[wanted].float() + 2  # all 784 pixels off by 2, so the distance is 2 sqrt(784)
    assert_close(evaluate.nearest(brighter, pixels)[1], torch.full((3, 1), 56.0).double(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("count", [0, 6])
def test_nearest_refuses_what_makes_no_sense(count):
    with pytest.raises(ValueError, match=rf"count must lie in 1\.\.5, the number of references, got {count}"):
        evaluate.nearest(torch.zeros(2, 3), torch.zeros(5, 3), count)
    with pytest.raises(ValueError, match=r"but the first, got \(2, 1, 3, 3\) and \(5, 9\)"):
        evaluate.nearest(torch.zeros(2, 1, 3, 3), torch.zeros(5, 9))


def test_shipped_classifier_knows_the_classes(classifier, test_images):
    features, classes = evaluate.predictions(classifier, test_images.pixels)
    assert features.shape == (2000, 128) and features.dtype == torch.float64
    assert float((classes == test_images.labels).double().mean()) >= 0.92
    assert float((features == 0).all(0).double().mean()) < 0.5  # most features are in use


def test_predictions_do_not_depend_on_the_size_of_the_pieces(classifier, test_images):
    some = test_images.pixels[:30]
    whole, classes = evaluate.predictions(classifier, some)
    pieces, same_classes = evaluate.predictions(classifier, some, size=7)
    assert_close(pieces, whole, rtol=1e-4, atol=1e-4)
    assert torch.equal(classes, same_classes)
    logits = classifier(data.to_model(some))
    assert torch.equal(logits.argmax(1), classes)


def test_distance_grows_with_noise(classifier, test_images, generator):
    real, other = test_images.pixels[:300], test_images.pixels[300:600]
    noise = torch.randn(real.shape, generator=generator)
    distances = [
        evaluate.feature_distance(classifier, data.to_pixels(data.to_model(other) + spread * noise), real)
        for spread in (0.0, 0.3, 1.0)
    ]
    assert distances[0] < distances[1] < distances[2]
    assert_close(evaluate.feature_distance(classifier, real, real), 0.0, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(2, 3, 28, 28), (2, 28, 28), (2, 1, 8, 8), (2, 1, 28, 28)])
def test_only_grey_images_of_28_pixels(classifier, shape):
    dtype = torch.float32 if shape == (2, 1, 28, 28) else torch.uint8
    wrong = torch.zeros(shape, dtype=dtype)
    with pytest.raises(ValueError, match=r"takes uint8 images of shape \(N, 1, 28, 28\)"):
        evaluate.predictions(classifier, wrong)


def test_report_on_real_images(monkeypatch, classifier, test_images):
    """On some of the test images themselves: each class has its share, and the distance is about the floor."""
    load, asked = evaluate.load, []

    def fewer(source, split):
        asked.append((source, split))
        images = load(source, split)
        return data.Images(images.pixels[:600], images.labels[:600], images.source)

    monkeypatch.setattr(evaluate, "load", fewer)
    samples = test_images.pixels[-100:]
    report = evaluate.report(samples)
    assert sorted(asked) == [("embedded", "test"), ("embedded", "train")]
    assert report.keys() == {"count", "feature_distance", "floor", "floor_count", "reference_count", "class_shares"}
    assert (report["count"], report["floor_count"], report["reference_count"]) == (100, 100, 600)
    assert list(report["class_shares"]) == list(data.CLASSES)
    assert_close(sum(report["class_shares"].values()), 1.0)
    expected = test_images.labels[-100:].bincount(minlength=10) / 100
    assert_close(torch.tensor(list(report["class_shares"].values())), expected, rtol=0, atol=0.06)
    reference = load("embedded", "train").pixels[:600]
    assert_close(
        report["feature_distance"], evaluate.feature_distance(classifier, samples, reference), rtol=1e-4, atol=1e-4
    )
    assert 0.3 < report["feature_distance"] / report["floor"] < 3


def test_training_a_classifier(generator):
    """Two classes that differ in brightness are learned in a few dozen steps."""
    labels = torch.arange(1280) % 2
    pixels = torch.randint(0, 100, (1280, 1, 28, 28), generator=generator) + 150 * labels.view(-1, 1, 1, 1)
    images = data.Images(pixels.to(torch.uint8), labels, "")
    torch.manual_seed(0)
    model = evaluate.Classifier()
    losses = list(evaluate.train_classifier(model, images, epochs=1))
    assert len(losses) == 10 and not model.training
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])
    _, classes = evaluate.predictions(model, images.pixels[:100])
    assert float((classes == labels[:100]).double().mean()) > 0.95
