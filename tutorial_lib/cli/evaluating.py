"""`evaluate`: weights judged by their samples, and by what real images cost them."""

import argparse
import time
from pathlib import Path
from typing import Any

from torch import Tensor

from tutorial_lib import data, evaluate
from tutorial_lib.cli import likelihood, listing, reporting
from tutorial_lib.cli.sampling import Sampling, add_sampling

METRICS = ("fd", "pr", "accuracy", "copies", "bpd", "nll")
JUDGED = ("fd", "pr", "accuracy")  # by the classifiers
DRAWN = {*JUDGED, "copies"}  # need samples
PRICED = ("bpd", "nll")  # need a denoiser
REAL = {"pr", "copies", *PRICED}  # need real images
NEAREST = 3  # k of precision and recall
NLL_COUNT = 64  # test images


def add(parser: argparse.ArgumentParser) -> None:
    """The options of `evaluate`."""
    add_sampling(parser, count=2000)
    parser.add_argument(
        "--metrics",
        default="fd",
        help="some of fd (Frechet distance), pr (precision and recall), accuracy (of the labels "
        "asked for), copies, bpd (bound) and nll (exact likelihood, slow), with commas between "
        "them (default fd)",
    )
    parser.add_argument(
        "--nll-count",
        type=int,
        default=NLL_COUNT,
        help=f"number of test images for nll (default {NLL_COUNT}: two minutes on a CPU)",
    )
    parser.add_argument(
        "--data",
        help=f"real images for {', '.join(name for name in METRICS if name in REAL)} "
        "(default: those that the weights learnt from)",
    )
    listing.add(parser)


def run(options: argparse.Namespace) -> None:
    """Judge weights: samples beside real images and labels, copies, bits per dimension."""
    metrics = _metrics(options.metrics)
    began, task = time.perf_counter(), Sampling.prepared(options)
    _check(options, task, metrics)
    real = _real_images(options, task, metrics) if REAL & set(metrics) else {}
    found: dict[str, Any] = {"weights": str(options.weights), "seed": options.seed}
    if DRAWN & set(metrics):
        samples = task.draw(keep=1)[-1]
        found |= {"count": len(samples), "sampler": task.name, "steps": task.steps}
        found |= _judged(samples, task, real, metrics)
    found |= _priced(options, task, real, metrics)
    found["seconds"] = time.perf_counter() - began
    if options.json:
        listing.print_json(found)
    else:
        reporting.show(found, task.weights.record.get("data", "data unknown"))


def _judged(
    samples: Tensor, task: Sampling, real: dict[str, data.Images], metrics: list[str]
) -> dict[str, Any]:
    """What is asked for of the samples, in the order of METRICS."""
    found: dict[str, Any] = {}
    if "fd" in metrics:
        found["fd"] = evaluate.report(samples)
    if "pr" in metrics:
        found["pr"] = _precision_recall(samples, real["train"])
    if "accuracy" in metrics:
        assert task.y is not None  # as `_check` has seen
        found["accuracy"] = evaluate.obedience(samples, task.y)
    if "copies" in metrics:
        known, others = real["train"].pixels, real["test"].pixels[: len(samples)]
        found["copies"] = evaluate.copies(samples, known, others)
        found["copies"] |= {"known": len(known), "source": real["train"].source}
    return found


def _precision_recall(samples: Tensor, real: data.Images) -> dict[str, Any]:
    """By the features of the first classifier, of as many samples as real images."""
    count, judge = min(len(samples), len(real)), evaluate.load_classifier()
    drawn, known = (evaluate.predictions(judge, p[:count])[0] for p in (samples, real.pixels))
    precision, recall = evaluate.precision_recall(drawn, known, k=NEAREST)
    return {"precision": precision, "recall": recall, "count": count, "source": real.source}


def _priced(
    options: argparse.Namespace, task: Sampling, real: dict[str, data.Images], metrics: list[str]
) -> dict[str, Any]:
    """What real images cost, by the bound and exactly, as far as it is asked for."""
    found: dict[str, Any] = {}
    how: dict[str, Any] = {"seed": options.seed, "device": task.device}
    if "bpd" in metrics:
        pixels = real["test"].pixels[: options.count]
        found["bpd"] = likelihood.bound(task.weights, pixels, **how)
    if "nll" in metrics:
        pixels, known = real["test"].pixels[: options.nll_count], real["train"].pixels
        how["quiet"] = options.json
        found["nll"] = likelihood.exact(task.weights, pixels, known, **how)
    for one in found.values():
        one["source"] = real["test"].source
    return found


def _metrics(text: str) -> list[str]:
    metrics = [name.strip() for name in text.split(",")]
    if unknown := [name for name in metrics if name not in METRICS]:
        raise ValueError(f"unknown metric {unknown[0]!r}; choose some of {', '.join(METRICS)}")
    return metrics


def _check(options: argparse.Namespace, task: Sampling, metrics: list[str]) -> None:
    """Raise ValueError for what cannot be measured, before anything is drawn."""
    for name, count in {"count": options.count, "nll_count": options.nll_count}.items():
        if count < 2:
            raise ValueError(f"{name} must be at least 2, to have a spread to compare, got {count}")
    if "pr" in metrics and options.count <= NEAREST:
        raise ValueError(f"pr needs a count above {NEAREST}, got {options.count}; draw more")
    shape = tuple(task.x_T.shape[1:])
    for name in JUDGED:
        if name in metrics and shape != (1, 28, 28):
            raise ValueError(
                f"{name}: the classifier judges images of shape (1, 28, 28), "
                f"but these weights draw {shape}; leave {name} out of --metrics"
            )
    labels, classes = task.weights.model.config.labels, len(data.CLASSES)
    if "accuracy" in metrics and labels != classes:
        raise ValueError(
            f"accuracy: the classifiers know the {classes} classes of Fashion-MNIST, and these "
            f"weights {labels or 'no'} labels; leave accuracy out, or take weights with labels"
        )
    _check_priced(task, metrics)


def _check_priced(task: Sampling, metrics: list[str]) -> None:
    """Raise ValueError where weights have no density, or none that the walk finds."""
    for name in PRICED:
        if name in metrics and task.weights.evaluations:
            raise ValueError(
                f"{name}: these weights are distilled, and their answers are samples, which have "
                f"no price in bits; leave {name} out of --metrics, or measure their teacher"
            )
    if "nll" in metrics and (task.weights.target == "mu" or task.weights.schedule.T < 2):
        raise ValueError(
            "nll asks between the steps, which weights that predict mu, or of a single step, "
            "cannot answer; leave nll out of --metrics"
        )


def _real_images(
    options: argparse.Namespace, task: Sampling, metrics: list[str]
) -> dict[str, data.Images]:
    """Both splits of --data.

    Raises ValueError unless they have the shape of the samples, and are as many as it takes.
    """
    shape = tuple(task.x_T.shape[1:])
    source = options.data or task.weights.source
    size = shape[-1] if Path(source).exists() else None
    real = {split: data.load(source, split, size=size) for split in data.SPLITS}
    for images in real.values():
        its_shape = tuple(images.pixels.shape[1:])
        if its_shape != shape:
            raise ValueError(
                f"these weights draw images of shape {shape}, "
                f"but --data has {images.source}, of shape {its_shape}; name their own"
            )
    for name in PRICED:
        if name in metrics and len(real["test"]) < 2:
            raise ValueError(
                f"{name} needs at least 2 test images, to have a spread, and there is 1: "
                f"{real['test'].source}; add pictures, or leave {name} out of --metrics"
            )
    return real
