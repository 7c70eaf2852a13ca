"""The classifiers in whose features samples are judged, and what real images look like to them."""

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutorial_lib import checkpoint, evaluate
from tutorial_lib.data import Images, batch, load
from tutorial_lib.engine.hardware import best_precision
from tutorial_lib.files import ASSETS
from tutorial_lib.recipes.sources import full, sha256


def classifier(epochs: int = 9) -> None:
    """Train the classifier on all 60,000 images and store it with its test accuracy."""
    _train_judge("classifier", epochs, seed=0)
    reference()


def second_classifier(epochs: int = 9) -> None:
    """The same for the second one, from another seed."""
    _train_judge("second_classifier", epochs, seed=1)
    second_reference()


def reference() -> None:
    """Store the moments of the classifier's features, of training and of test images."""
    _store_moments("classifier")


def second_reference() -> None:
    """The same for the second one."""
    _store_moments("second_classifier")


def yardsticks() -> None:
    """Store how far damaged photographs are from real ones: what a distance is worth.

    All 10,000 test images, damaged in each of the ways of `DAMAGES`, against the 10,000 embedded
    training images: `first` and `second` hold the distances that the two judges see.
    """
    pixels, tensors = full("test").pixels, {}
    for judge, place in (("classifier", "first"), ("second_classifier", "second")):
        model, (shipped, _) = (
            evaluate.load_classifier(judge),
            checkpoint.load(evaluate.JUDGES[judge][1]),
        )
        known = (shipped["train.mean"], shipped["train.cov"])
        seen = [
            evaluate.moments(evaluate.predictions(model, damage(pixels))[0])
            for damage in DAMAGES.values()
        ]
        distances = [evaluate.frechet_distance(*one, *known) for one in seen]
        tensors[place] = torch.tensor(distances, dtype=torch.float64)
        print(place, dict(zip(DAMAGES, distances, strict=True)), flush=True)
    about = {
        "what": "distances of 10,000 damaged test images from 10,000 training images",
        "recipe": "python -m tutorial_lib.recipes yardsticks",
        "damages": list(DAMAGES),
        "count": len(pixels),
    }
    checkpoint.save(ASSETS / "yardsticks.safetensors", tensors, about)


def _sprinkled(pixels: Tensor) -> Tensor:
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0))
    return (pixels + 8 * noise).round().clamp(0, 255).to(torch.uint8)


def _blurred(pixels: Tensor) -> Tensor:
    mean = F.avg_pool2d(pixels.float(), 3, stride=1, padding=1)
    return ((pixels + mean) / 2).round().to(torch.uint8)


DAMAGES: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda pixels: pixels,
    "shifted by one pixel": lambda pixels: pixels.roll(1, dims=3),
    "noise of 8 grey levels": _sprinkled,
    "half blurred (3 x 3)": _blurred,
}


def _train_judge(name: str, epochs: int, seed: int) -> None:
    """Train one of the `JUDGES` and store its weights."""
    known, test = full("train"), full("test")
    torch.manual_seed(seed)  # the initial weights
    model, began = evaluate.JUDGES[name][0](), time.perf_counter()
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
            "command": f"python -m tutorial_lib.recipes {name}",
            "epochs": epochs,
            "seed": seed,
        },
        "data": known.source,
        "metrics": {"test_accuracy": accuracy, "seconds": round(time.perf_counter() - began)},
    }
    checkpoint.save(
        ASSETS / f"{name}.safetensors",
        checkpoint.prefixed("model", model.state_dict()),
        configuration,
    )


def _store_moments(judge: str) -> None:
    """Store what real images look like to one of the `JUDGES`."""
    model, name = evaluate.load_classifier(judge), evaluate.JUDGES[judge][1]
    tensors: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    for split, images in (("train", load("embedded", "train")), ("test", full("test"))):
        mean, cov = evaluate.moments(evaluate.predictions(model, images.pixels)[0])
        tensors |= {f"{split}.mean": mean, f"{split}.cov": cov}
        counts[f"{split}_count"] = len(images)
    configuration = {
        "what": "mean and covariance of the classifier's features of real images, "
        "to judge samples by",
        "recipe": f"python -m tutorial_lib.recipes {name}",
        "classifier_sha256": sha256(ASSETS / f"{judge}.safetensors"),
    }
    checkpoint.save(ASSETS / f"{name}.safetensors", tensors, configuration | counts)


def train_classifier(
    model: nn.Module, images: Images, epochs: int, seed: int = 0
) -> Iterator[float]:
    """Train with Adam, a one-cycle learning rate and mirror images; yields each loss.

    In bf16 where the processor has it; elsewhere that is ten times slower than float32.
    The loop is its own: the judges that ship, by which all distances are measured, came out of it.
    """
    bf16 = best_precision("cpu") == "bf16"
    generator = torch.Generator().manual_seed(seed)
    size = 128
    total = epochs * (len(images) // size)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, weight_decay=1e-5)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=total)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # its stub lacks it
    model.train()
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        for chosen in order[: total // epochs * size].split(size):
            x = batch(images, chosen, torch.rand(size, generator=generator) < 0.5)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits = model(x.to(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits.float(), images.labels[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
            yield loss.item()
    model.eval()
