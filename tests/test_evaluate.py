"""The Frechet distance against scipy and closed forms; neighbours against scipy; copies."""

import hashlib

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from tutorial_lib import checkpoint, data, evaluate
from tutorial_lib.evaluate import frechet_distance, moments

STANDARD = (torch.zeros(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64))  # N(0, I)


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


@pytest.mark.equation("Dowson")
@pytest.mark.parametrize(("width", "n"), [(1, 10), (4, 30), (16, 200)])
def test_distance_against_the_matrix_root_of_scipy(width, n):
    a, b = moments(cloud(n, width, 1)), moments(cloud(n, width, 2))
    root = scipy.linalg.sqrtm(a[1].numpy() @ b[1].numpy())
    expected = ((a[0] - b[0]) ** 2).sum() + (a[1] + b[1]).trace() - 2 * np.trace(np.real(root))
    assert_close(frechet_distance(*a, *b), float(expected), rtol=1e-6, atol=1e-8)


mean_and_spread = (st.floats(-3, 3), st.floats(0.01, 4))


@pytest.mark.equation("Dowson")
@given(st.lists(st.tuples(*mean_and_spread, *mean_and_spread), min_size=1, max_size=6))
def test_distance_of_diagonal_gaussians_in_closed_form(axes):
    mean_a, std_a, mean_b, std_b = torch.tensor(axes, dtype=torch.float64).T
    got = frechet_distance(mean_a, (std_a**2).diag(), mean_b, (std_b**2).diag())
    expected = ((mean_a - mean_b) ** 2 + (std_a - std_b) ** 2).sum()
    assert_close(got, float(expected), rtol=1e-6, atol=1e-8)


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
    tree = scipy.spatial.KDTree(references.numpy())
    distances, indices = tree.query(points.numpy(), k=[*range(1, count + 1)])
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
    _, distances = evaluate.nearest(brighter, pixels)
    assert_close(distances, torch.full((3, 1), 56.0).double(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("count", [0, 6])
def test_nearest_refuses_what_makes_no_sense(count):
    wrong = rf"count must lie in 1\.\.5, the number of references, got {count}"
    with pytest.raises(ValueError, match=wrong):
        evaluate.nearest(torch.zeros(2, 3), torch.zeros(5, 3), count)
    with pytest.raises(ValueError, match=r"but the first, got \(2, 1, 3, 3\) and \(5, 9\)"):
        evaluate.nearest(torch.zeros(2, 1, 3, 3), torch.zeros(5, 9))


def test_weights_of_another_network_are_no_classifier():
    with pytest.raises(ValueError, match=r"'fashion_mnist'; choose one of classifier, second_"):
        evaluate.load_classifier("fashion_mnist")


@pytest.mark.parametrize(("name", "width"), [("classifier", 128), ("second_classifier", 64)])
def test_shipped_classifiers_know_the_classes(name, width, test_images):
    features, classes = evaluate.predictions(evaluate.load_classifier(name), test_images.pixels)
    assert features.shape == (2000, width) and features.dtype == torch.float64
    right = float((classes == test_images.labels).double().mean())
    said = checkpoint.load(name)[1]["metrics"]["test_accuracy"]  # of all 10,000
    assert right >= 0.91 and abs(right - said) < 4 * (said * (1 - said) / 2000) ** 0.5
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

    def distance(samples):
        one, two = (evaluate.predictions(classifier, pixels)[0] for pixels in (samples, real))
        return frechet_distance(*moments(one), *moments(two))

    x = data.to_model(other)
    noisy = [distance(data.to_pixels(x + spread * noise)) for spread in (0.0, 0.3, 1.0)]
    assert noisy[0] < noisy[1] < noisy[2]
    assert_close(distance(real), 0.0, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(2, 3, 28, 28), (2, 28, 28), (2, 1, 8, 8), (2, 1, 28, 28)])
def test_only_grey_images_of_28_pixels(classifier, shape):
    dtype = torch.float32 if shape == (2, 1, 28, 28) else torch.uint8
    wrong = torch.zeros(shape, dtype=dtype)
    with pytest.raises(ValueError, match=r"takes uint8 images of shape \(N, 1, 28, 28\)"):
        evaluate.predictions(classifier, wrong)


def test_report_on_real_images(classifier, test_images):
    """Some of the test images: each class has its share, and the distance is about the floor."""
    samples = test_images.pixels[::10]
    report = evaluate.report(samples)
    assert (report["count"], report["floor_count"], report["reference_count"]) == (200, 200, 10_000)
    assert list(report["class_shares"]) == list(data.CLASSES)
    assert_close(sum(report["class_shares"].values()), 1.0, rtol=0, atol=1e-5)
    expected = test_images.labels[::10].bincount(minlength=10) / 200
    assert_close(torch.tensor(list(report["class_shares"].values())), expected, rtol=0, atol=0.06)
    assert 0.3 < report["feature_distance"] / report["floor"] < 3
    for judged in (report, report["second"]):
        low, high = judged["interval"]
        assert 0 <= low < judged["feature_distance"] < high < 3 * judged["feature_distance"]
    assert 0.3 < report["second"]["feature_distance"] / report["second"]["floor"] < 3


def test_two_judges_disagree_on_something_and_agree_on_noise(test_images, generator):
    """They are two opinions, not one twice; and both are farther from noisy images."""
    noise = torch.randn(300, 1, 28, 28, generator=generator)
    x = data.to_model(test_images.pixels[:300])
    clean, noisy = (evaluate.report(data.to_pixels(x + s * noise)) for s in (0.0, 0.3))
    for judged in (lambda report: report, lambda report: report["second"]):
        assert judged(noisy)["feature_distance"] > 2 * judged(clean)["feature_distance"]
    assert noisy["feature_distance"] != pytest.approx(noisy["second"]["feature_distance"], rel=0.05)


def test_above_2000_samples_the_floor_comes_from_the_full_test_set(test_images):
    """There are no more embedded test images."""
    few = evaluate.report(test_images.pixels[:2000])
    more = evaluate.report(torch.cat([test_images.pixels, test_images.pixels[:1]]))
    assert (few["floor_count"], more["floor_count"]) == (2000, 10_000)
    assert 0 < more["floor"] < few["floor"]  # fewer points look farther away
    # those 2,000 are all there is, so they are their own floor, up to the order of summation
    assert_close(few["feature_distance"], few["floor"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("judge", evaluate.JUDGES)
def test_shipped_moments_are_those_of_the_embedded_images(judge):
    """Recomputed from the pictures, with the classifier that ships, in the order that ships."""
    tensors, about = checkpoint.load(evaluate.JUDGES[judge][1])
    file, classifier = checkpoint.find(judge), evaluate.load_classifier(judge)
    assert about["classifier_sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    mean, cov = moments(evaluate.predictions(classifier, data.load("embedded", "train").pixels)[0])
    assert_close(tensors["train.mean"], mean, rtol=1e-3, atol=1e-4)
    assert_close(tensors["train.cov"], cov, rtol=1e-3, atol=1e-3)
    assert (about["train_count"], about["test_count"]) == (10_000, 10_000)


@pytest.mark.equation("Davison")
@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_bootstrap_interval_covers_the_truth_about_as_often_as_it_says(shift):
    """It should hold what many clouds of this distribution and size measure on average."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(400, 200, 3, generator=generator, dtype=torch.float64) * 1.2 + shift
    truth = sum(frechet_distance(*moments(cloud), *STANDARD) for cloud in points) / len(points)
    held = []
    for cloud in points[:100]:
        low, high = evaluate.bootstrap_interval(cloud, *STANDARD, generator)
        held.append(low <= truth <= high)
    assert 0.86 <= sum(held) / len(held) <= 1.0


def test_bootstrap_interval_shrinks_with_the_root_of_the_count():
    width = []
    for n in (100, 1600):
        generator = torch.Generator().manual_seed(0)
        low, high = evaluate.bootstrap_interval(cloud(n, 3, 1), *STANDARD, generator)
        width.append(high - low)
    assert 2.5 < width[0] / width[1] < 6  # 4, give or take


# --- copies


def test_copies_are_counted_and_distances_are_per_pixel(test_images):
    known, fresh = test_images.pixels[:200], test_images.pixels[200:240]
    off_by_two = known[:3].int() + torch.where(known[:3] > 127, -2, 2)  # in every pixel
    samples = torch.cat([known[:2], off_by_two.to(torch.uint8)])
    found = evaluate.copies(samples, known, fresh)
    assert found["within_1"] == 2
    assert_close(found["samples"], 2.0)
    nearest = ((fresh[:, None].double() - known[None].double()) ** 2).mean((2, 3, 4)).sqrt().amin(1)
    assert_close(found["others"], float(nearest.median()))


# --- precision, recall, obedience


@pytest.mark.equation("Recall")
def test_precision_and_recall_by_a_loop_over_balls():
    samples, real = cloud(60, 3, 1), cloud(50, 3, 2)

    def among(points, others):
        apart = scipy.spatial.distance.cdist(others, others)
        radius = np.sort(apart, axis=1)[:, 3]  # itself is at place 0
        away = scipy.spatial.distance.cdist(points, others)
        return (away <= radius).any(axis=1).mean()

    precision, recall = evaluate.precision_recall(samples, real)
    assert (precision, recall) == (among(samples, real), among(real, samples))


def test_precision_sees_bad_samples_and_recall_missing_ones():
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(400, 2, generator=generator, dtype=torch.float64)
    other = torch.randn(400, 2, generator=generator, dtype=torch.float64)
    good = evaluate.precision_recall(other, real)
    assert min(good) > 0.9
    narrow = evaluate.precision_recall(0.2 * other, real)
    assert narrow[0] > 0.98 and narrow[1] < 0.3
    wide = evaluate.precision_recall(4 * other, real)
    assert wide[0] < 0.4 and wide[1] > 0.9
    with pytest.raises(ValueError, match="need more points: samples has 3"):
        evaluate.precision_recall(real[:3], real)


def test_obedience_of_test_images_is_the_accuracy_of_the_judges(test_images):
    few, y = test_images.pixels[:300], test_images.labels[:300]
    found = evaluate.obedience(few, y)
    for judge, share in found.items():
        _, classes = evaluate.predictions(evaluate.load_classifier(judge), few)
        assert share == sum(a == b for a, b in zip(classes.tolist(), y.tolist(), strict=True)) / 300
    assert min(found.values()) > 0.85
    assert max(evaluate.obedience(few, (y + 1) % 10).values()) < 0.1
