"""How good are the samples, and are they new?  A small classifier, the Frechet distance between clouds of its
features, and the images nearest to a sample.

The distance is built like FID, with a small Fashion-MNIST classifier in place of an Inception network, and so
its numbers compare only with each other: it is never called FID.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutorial_lib import checkpoint
from tutorial_lib.data import CLASSES, Images, batch, load, to_model

FEATURES = 128


class Classifier(nn.Module):
    """A small convolutional network for 28 x 28 grey images.

    forward: x (B, 1, 28, 28) in [-1, 1] to logits (B, 10).  features: the same x to (B, 128), before the last layer.
    """

    def __init__(self) -> None:
        super().__init__()

        def stage(channels_in: int, channels_out: int) -> list[nn.Module]:
            conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
            return [conv, nn.BatchNorm2d(channels_out), nn.ReLU()]

        self.body = nn.Sequential(
            *stage(1, 32), nn.MaxPool2d(2),
            *stage(32, 64), *stage(64, 64), nn.MaxPool2d(2),
            *stage(64, 128), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(128 * 9, FEATURES), nn.ReLU(),
        )  # fmt: skip
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(FEATURES, 10)

    def features(self, x: Tensor) -> Tensor:
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self.body(x)))


def train_classifier(model: Classifier, images: Images, epochs: int, seed: int = 0) -> Iterator[float]:
    """Train with Adam, a one-cycle learning rate and mirror images, in bf16; yields the loss of each step."""
    generator = torch.Generator().manual_seed(seed)
    size = 128
    total = epochs * (len(images) // size)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, weight_decay=1e-5)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=total)
    model.to(memory_format=torch.channels_last).train()
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        for chosen in order[: total // epochs * size].split(size):
            x = batch(images, chosen, torch.rand(size, generator=generator) < 0.5)
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(x.to(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits.float(), images.labels[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
            yield loss.item()
    model.eval()


def load_classifier() -> Classifier:
    """The classifier that ships with the package, ready to use."""
    tensors, _ = checkpoint.load("classifier")
    model = Classifier()
    model.load_state_dict(checkpoint.part(tensors, "model"))
    return model.eval().requires_grad_(False)


@torch.no_grad()
def predictions(model: Classifier, pixels: Tensor, size: int = 500) -> tuple[Tensor, Tensor]:
    """Features (N, 128) in float64 and classes (N,) of uint8 images (N, 1, 28, 28)."""
    if pixels.dtype != torch.uint8 or pixels.shape[1:] != (1, 28, 28):
        raise ValueError(
            f"the classifier takes uint8 images of shape (N, 1, 28, 28), got {pixels.dtype} {tuple(pixels.shape)}"
        )
    device = next(model.parameters()).device
    features = torch.cat([model.features(to_model(part).to(device)) for part in pixels.split(size)])
    return features.double().cpu(), model.head(features).argmax(1).cpu()


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) of features (N, D), in float64."""
    if len(features) < 2:
        raise ValueError(f"a covariance needs at least 2 samples, got {len(features)}")
    return features.double().mean(0), torch.atleast_2d(features.double().T.cov())


def frechet_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    r"""$|\mu_a - \mu_b|^2 + \mathrm{tr}(\Sigma_a + \Sigma_b - 2 (\Sigma_a \Sigma_b)^{1/2})$ (Dowson & Landau 1982).

    The trace of the root is the sum of the roots of the eigenvalues of $\Sigma_a^{1/2} \Sigma_b \Sigma_a^{1/2}$,
    which is symmetric.  All float64.
    """
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    return float((mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross)


def feature_distance(model: Classifier, samples: Tensor, real: Tensor) -> float:
    """Frechet distance between two sets of uint8 images (N, 1, 28, 28) in the features of `model`."""
    return frechet_distance(
        *moments(predictions(model, samples)[0]),
        *moments(predictions(model, real)[0]),
    )


def nearest(points: Tensor, references: Tensor, count: int = 1, size: int = 2000) -> tuple[Tensor, Tensor]:
    """The `count` references nearest to each point: indices and distances, each (N, count), nearest first.

    points: (N, ...), references: (M, ...): images, or features of images.  Distances are Euclidean, float64, in the
    units of both (sums of squares, not means); a copy is found at 0.  References are taken in pieces of `size`, so
    that 60,000 images need little memory.  Raises ValueError when shapes disagree, or for a count outside 1..M.
    """
    if points.shape[1:] != references.shape[1:]:
        shapes = f"{tuple(points.shape)} and {tuple(references.shape)}"
        raise ValueError(f"points and references must agree in all dimensions but the first, got {shapes}")
    if not 1 <= count <= len(references):
        raise ValueError(f"count must lie in 1..{len(references)}, the number of references, got {count}")
    flat, found = points.flatten(1).double(), []
    for first in range(0, len(references), size):
        piece = references[first : first + size].flatten(1).double()
        distances, indices = torch.cdist(flat, piece).topk(min(count, len(piece)), largest=False)  # (N, count)
        found.append((distances, indices + first))
    distances, indices = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))  # the best of each piece
    distances, best = distances.topk(count, largest=False)
    return indices.gather(1, best), distances


def report(samples: Tensor) -> dict:
    """Judge uint8 samples (N, 1, 28, 28): distance to real images, the floor beside it, and the share of each class.

    Real images are the embedded ones, the same on every machine: 10,000 training images are the reference, and
    the floor is the distance of as many test images as there are samples (at most 2,000) from that reference.
    """
    model = load_classifier()
    reference, test = load("embedded", "train").pixels, load("embedded", "test").pixels
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))
    real = test[order[: len(samples)]]
    shares = predictions(model, samples)[1].bincount(minlength=10).double() / len(samples)
    return {
        "count": len(samples),
        "feature_distance": feature_distance(model, samples, reference),
        "floor": feature_distance(model, real, reference),
        "floor_count": len(real),
        "reference_count": len(reference),
        "class_shares": dict(zip(CLASSES, shares.tolist(), strict=True)),
    }
