"""The classifier in whose features samples are judged, and what real images look like to it."""

import time
from collections.abc import Iterator

import torch
from torch.nn import functional as F

from tutorial_lib import checkpoint, evaluate
from tutorial_lib.data import Images, batch, load
from tutorial_lib.files import ASSETS
from tutorial_lib.nets.classifier import Classifier
from tutorial_lib.recipes.sources import full, sha256


def classifier(epochs: int = 9, seed: int = 0) -> None:
    """Train the classifier on all 60,000 images and store it with its test accuracy."""
    known, test = full("train"), full("test")
    torch.manual_seed(seed)  # the initial weights
    model, began = Classifier(), time.perf_counter()
    per_epoch = len(known) // 128
    for step, loss in enumerate(train_classifier(model, known, epochs, seed), 1):
        if step % per_epoch == 0:
            seconds = time.perf_counter() - began
            print(f"epoch {step // per_epoch}: loss {loss:.3f}, {seconds:.0f} s", flush=True)
    _, classes = evaluate.predictions(model, test.pixels)
    accuracy = float((classes == test.labels).double().mean())
    print(f"test accuracy {accuracy:.4f}")
    configuration = {
        "recipe": {
            "command": "python -m tutorial_lib.recipes classifier",
            "epochs": epochs,
            "seed": seed,
        },
        "data": known.source,
        "metrics": {"test_accuracy": accuracy, "seconds": round(time.perf_counter() - began)},
    }
    checkpoint.save(
        ASSETS / "classifier.safetensors",
        checkpoint.prefixed("model", model.state_dict()),
        configuration,
    )
    reference()


def reference() -> None:
    """Store the moments of the classifier's features, of training and of test images."""
    model, tensors, counts = evaluate.load_classifier(), {}, {}
    for split, images in (("train", load("embedded", "train")), ("test", full("test"))):
        mean, cov = evaluate.moments(evaluate.predictions(model, images.pixels)[0])
        tensors |= {f"{split}.mean": mean, f"{split}.cov": cov}
        counts[f"{split}_count"] = len(images)
    configuration = {
        "what": "mean and covariance of the classifier's features of real images, "
        "to judge samples by",
        "recipe": "python -m tutorial_lib.recipes reference",
        "classifier_sha256": sha256(ASSETS / "classifier.safetensors"),
    }
    checkpoint.save(ASSETS / "reference.safetensors", tensors, configuration | counts)


def train_classifier(
    model: Classifier, images: Images, epochs: int, seed: int = 0
) -> Iterator[float]:
    """Train with Adam, a one-cycle learning rate and mirror images, in bf16; yields each loss."""
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
