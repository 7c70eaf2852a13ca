"""How good are the samples, and are they new?

Two small classifiers, the Frechet distance between clouds of their features, and the images nearest
to a sample.  How likely real images are is computed in `beyond.likelihood`.

The distance is built like FID, with a small Fashion-MNIST classifier in place of an Inception
network, and so its numbers compare only with each other: it is never called FID.  A distance is the
opinion of one judge; the second, a network of another kind, is there to be asked as well.
"""

import torch
from torch import Tensor

from tutorial_lib import checkpoint
from tutorial_lib.data import CLASSES, load, to_model
from tutorial_lib.nets.classifier import Classifier, SecondClassifier

Judge = Classifier | SecondClassifier
# shipped weights -> the network, and the shipped moments of its features of real images
JUDGES: dict[str, tuple[type[Judge], str]] = {
    "classifier": (Classifier, "reference"),
    "second_classifier": (SecondClassifier, "second_reference"),
}


def load_classifier(name: str = "classifier") -> Judge:
    """One of the classifiers that ship with the package, ready to use: one of `JUDGES`."""
    if name not in JUDGES:
        raise ValueError(f"unknown classifier {name!r}; choose one of {', '.join(JUDGES)}")
    tensors, _ = checkpoint.load(name)
    model = JUDGES[name][0]()
    model.load_state_dict(checkpoint.part(tensors, "model"))
    return model.eval().requires_grad_(False)


@torch.no_grad()
def predictions(model: Judge, pixels: Tensor, size: int = 500) -> tuple[Tensor, Tensor]:
    """Features (N, D) in float64 and classes (N,) of uint8 images (N, 1, 28, 28).

    model: one of `JUDGES`; D is 128 for the first and 64 for the second.

    Raises ValueError for any others.
    """
    if pixels.dtype != torch.uint8 or pixels.shape[1:] != (1, 28, 28):
        raise ValueError(
            "the classifier takes uint8 images of shape (N, 1, 28, 28), "
            f"got {pixels.dtype} {tuple(pixels.shape)}"
        )
    device = next(model.parameters()).device
    features = torch.cat([model.features(to_model(part).to(device)) for part in pixels.split(size)])
    return features.cpu().double(), model.head(features).argmax(1).cpu()


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) of features (N, D), in float64.

    Raises ValueError for fewer than two.
    """
    if len(features) < 2:
        raise ValueError(f"a covariance needs at least 2 samples, got {len(features)}")
    return features.double().mean(0), torch.atleast_2d(features.double().T.cov())


def frechet_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    r"""The Frechet distance between two Gaussians, squared (Dowson & Landau 1982).

    $|\mu_a - \mu_b|^2 + \mathrm{tr}(\Sigma_a + \Sigma_b - 2 (\Sigma_a \Sigma_b)^{1/2})$

    The trace of the root is the sum of the roots of the eigenvalues of
    $\Sigma_a^{1/2} \Sigma_b \Sigma_a^{1/2}$, which is symmetric.  Means (D,), covariances (D, D),
    all float64; returns 0 for equal clouds.
    """
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    return float((mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross)


def bootstrap_interval(
    features: Tensor, mean: Tensor, cov: Tensor, generator: torch.Generator
) -> tuple[float, float]:
    """The 95 % interval of the Frechet distance of `features` (N, D) from a fixed mean and cov.

    It says how far the distance varies with the sampling of the features, which are drawn again
    with replacement, 200 times.  A resampled cloud repeats points, which makes every distance a
    little too large; so only the spread is taken from the rounds, and laid around the distance
    itself (the basic bootstrap, with its bias removed; Davison & Hinkley 1997, section 5.2).
    """
    n = len(features)
    clouds = (features[torch.randint(n, (n,), generator=generator)] for _ in range(200))
    drawn = torch.tensor([frechet_distance(*moments(cloud), mean, cov) for cloud in clouds])
    around = frechet_distance(*moments(features), mean, cov) + float(drawn.mean())
    low, high = (around - float(drawn.quantile(share)) for share in (0.975, 0.025))
    return max(low, 0.0), high  # no distance is negative


def nearest(
    points: Tensor, references: Tensor, count: int = 1, size: int = 2000
) -> tuple[Tensor, Tensor]:
    """The nearest references of each point: their indices and distances, (N, count) each.

    The nearest comes first.  Distances are Euclidean, float64, in the units of both (sums of
    squares, not means); a copy is found at 0.
    points: (N, ...), references: (M, ...): images, or features of images.
    size: references are taken in pieces of so many, so that 60,000 images need little memory.
    Raises ValueError when shapes disagree, or for a count outside 1..M.
    """
    if points.shape[1:] != references.shape[1:]:
        shapes = f"{tuple(points.shape)} and {tuple(references.shape)}"
        raise ValueError(
            f"points and references must agree in all dimensions but the first, got {shapes}"
        )
    if not 1 <= count <= len(references):
        raise ValueError(
            f"count must lie in 1..{len(references)}, the number of references, got {count}"
        )
    flat, found = points.flatten(1).double(), []
    for first in range(0, len(references), size):
        piece = references[first : first + size].flatten(1).double()
        distances, indices = torch.cdist(flat, piece).topk(
            min(count, len(piece)), largest=False
        )  # (N, count)
        found.append((distances, indices + first))
    distances, indices = (
        torch.cat(parts, dim=1) for parts in zip(*found, strict=True)
    )  # the best of each piece
    distances, best = distances.topk(count, largest=False)
    return indices.gather(1, best), distances


def precision_recall(samples: Tensor, real: Tensor, k: int = 3) -> tuple[float, float]:
    """Fidelity and variety apart: the share of samples among real points, and the other way round.

    A point is among others if it lies in the ball of one of them, which reaches to its k-th nearest
    neighbour in its own set.
    samples, real: features, (N, D) and (M, D); compare sets of one size, for larger sets have
    smaller balls.
    Raises ValueError unless both have more than k points.
    (Kynkäänniemi et al. 2019, arXiv 1904.06991)
    """
    for name, points in (("samples", samples), ("real", real)):
        if len(points) <= k:
            raise ValueError(
                f"balls to the neighbour number {k} need more points: {name} has {len(points)}"
            )
    return _share_among(samples, real, k), _share_among(real, samples, k)


def _share_among(points: Tensor, cloud: Tensor, k: int) -> float:
    """The share of the points (N, D) that lie in the ball of some point of the cloud (M, D)."""
    radius = nearest(cloud, cloud, k + 1)[1][:, k]  # (M,), itself is the first
    inside = [
        (torch.cdist(part.double(), cloud.double()) <= radius).any(dim=1)
        for part in points.split(500)
    ]
    return float(torch.cat(inside).double().mean())


def obedience(samples: Tensor, y: Tensor) -> dict[str, float]:
    """How many of the samples are what was asked for: the share that each judge gives the label y.

    samples: uint8 (N, 1, 28, 28).  y: (N,) the labels that were asked for.
    Returns the share by the name of the judge.  Real test images are given their own by 0.92 to
    0.94, so more than that is a sign of guidance, and not of better pictures.
    """
    found = {}
    for judge in JUDGES:
        _, classes = predictions(load_classifier(judge), samples)
        found[judge] = float((classes == y).double().mean())
    return found


def report(samples: Tensor) -> dict:
    """Judge uint8 samples (N, 1, 28, 28): their distance to real images, and their classes.

    The reference is 10,000 training images, the embedded ones; the moments of their features ship
    with the package.  The floor, beside the distance, is that of other real images from the same
    reference: as many as there are samples from among the embedded test images, or, where these do
    not suffice, the 10,000 of the full test set, whose moments ship too.
    Returns count, feature_distance and its interval, floor, floor_count, reference_count and
    class_shares, the share of each class; and under "second" feature_distance, interval and floor
    as the second judge sees them, whose numbers are on a scale of their own.
    Raises ValueError for images of another kind, and for fewer than two.
    """
    found, classes = _distance(samples, "classifier")
    second, _ = _distance(samples, "second_classifier")
    shares = (classes.bincount(minlength=len(CLASSES)) / len(samples)).tolist()
    return {
        "count": len(samples),
        **found,
        "class_shares": dict(zip(CLASSES, shares, strict=True)),
        "second": {name: second[name] for name in ("feature_distance", "interval", "floor")},
    }


def _distance(samples: Tensor, judge: str) -> tuple[dict, Tensor]:
    """What one judge says of uint8 samples: the distance and what belongs to it; their classes."""
    model, (shipped, about) = load_classifier(judge), checkpoint.load(JUDGES[judge][1])
    features, classes = predictions(model, samples)
    test, reference = load("embedded", "test").pixels, (shipped["train.mean"], shipped["train.cov"])
    floor_count, others = about["test_count"], (shipped["test.mean"], shipped["test.cov"])
    if len(samples) <= len(test):
        floor_count, others = len(samples), moments(predictions(model, test[: len(samples)])[0])
    generator = torch.Generator().manual_seed(0)
    return {
        "feature_distance": frechet_distance(*moments(features), *reference),
        "interval": bootstrap_interval(features, *reference, generator),
        "floor": frechet_distance(*others, *reference),
        "floor_count": floor_count,
        "reference_count": about["train_count"],
    }, classes


def copies(samples: Tensor, known: Tensor, others: Tensor) -> dict[str, float]:
    """Are uint8 samples copied from the `known` (training) images?  All three: (N, C, H, W), any N.

    Returns the median distance of a sample from the known image nearest to it, the same for
    `others`, which are certainly no copies (test images), both in grey levels a pixel (root mean
    square), and the number of samples that are nearer than one of these.
    """
    near, usual = (nearest(x, known)[1][:, 0] / known[0].numel() ** 0.5 for x in (samples, others))
    return {
        "samples": float(near.median()),
        "others": float(usual.median()),
        "within_1": int((near < 1).sum()),
    }
