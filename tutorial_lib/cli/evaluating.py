"""`evaluate`: weights judged by their samples and by their bound."""

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from tutorial_lib import data, evaluate
from tutorial_lib.beyond.likelihood import bits_per_dimension
from tutorial_lib.cli import listing
from tutorial_lib.cli.sampling import Sampling, add_sampling
from tutorial_lib.denoise import denoiser

METRICS = ("fd", "copies", "bpd")


def add(parser: argparse.ArgumentParser) -> None:
    """The options of `evaluate`."""
    add_sampling(parser, count=2000)
    parser.add_argument(
        "--metrics",
        default="fd",
        help=f"some of {','.join(METRICS)}, with commas between them (default fd)",
    )
    parser.add_argument(
        "--data", help="real images for copies, bpd (default: those that the weights learnt from)"
    )
    listing.add(parser)


def run(options: argparse.Namespace) -> None:
    """Judge weights: distance of samples to real images, copies, bits per dimension."""
    metrics = _metrics(options.metrics)
    began, task = time.perf_counter(), Sampling.prepared(options)
    _check(options, task, metrics)
    real = _real_images(options, task, metrics) if {"copies", "bpd"} & set(metrics) else {}
    found: dict[str, Any] = {"weights": str(options.weights), "seed": options.seed}
    if {"fd", "copies"} & set(metrics):
        samples = task.draw(keep=1)[-1]
        found |= {"count": len(samples), "sampler": options.sampler, "steps": task.steps}
    if "fd" in metrics:
        found["fd"] = evaluate.report(samples)
    if "copies" in metrics:
        known, others = real["train"].pixels, real["test"].pixels[: len(samples)]
        found["copies"] = evaluate.copies(samples, known, others)
        found["copies"] |= {"known": len(known), "source": real["train"].source}
    if "bpd" in metrics:
        found["bpd"] = _bound(task, real["test"], options) | {"source": real["test"].source}
    found["seconds"] = time.perf_counter() - began
    if options.json:
        listing.print_json(found)
    else:
        _print(found, task.trained_on)


def _metrics(text: str) -> list[str]:
    metrics = [name.strip() for name in text.split(",")]
    if unknown := [name for name in metrics if name not in METRICS]:
        raise ValueError(f"unknown metric {unknown[0]!r}; choose some of {', '.join(METRICS)}")
    return metrics


def _check(options: argparse.Namespace, task: Sampling, metrics: list[str]) -> None:
    if options.count < 2:
        raise ValueError(
            f"count must be at least 2, to have a spread to compare, got {options.count}"
        )
    shape = tuple(task.x_T.shape[1:])
    if "fd" in metrics and shape != (1, 28, 28):
        raise ValueError(
            "fd: the classifier judges images of shape (1, 28, 28), "
            f"but these weights draw {shape}; leave fd out of --metrics"
        )


def _real_images(
    options: argparse.Namespace, task: Sampling, metrics: list[str]
) -> dict[str, data.Images]:
    """Both splits of --data.

    Raises ValueError unless they have the shape of the samples, and are as many as it takes.
    """
    shape = tuple(task.x_T.shape[1:])
    source = options.data or task.source
    size = shape[-1] if Path(source).exists() else None
    real = {split: data.load(source, split, size=size) for split in data.SPLITS}
    for images in real.values():
        its_shape = tuple(images.pixels.shape[1:])
        if its_shape != shape:
            raise ValueError(
                f"these weights draw images of shape {shape}, "
                f"but --data has {images.source}, of shape {its_shape}; name their own"
            )
    if "bpd" in metrics and len(real["test"]) < 2:
        raise ValueError(
            f"bpd needs at least 2 test images, to have a spread, and there is 1: "
            f"{real['test'].source}; add pictures, or leave bpd out of --metrics"
        )
    return real


def _bound(task: Sampling, images: data.Images, options: argparse.Namespace) -> dict[str, float]:
    return bits_per_dimension(
        denoiser(task.model, task.schedule, target=task.target, clip=True),
        task.schedule,
        images.pixels[: options.count],
        generator=torch.Generator().manual_seed(options.seed),  # whatever else was measured
        device=task.device,
    )


def _print(found: dict[str, Any], trained_on: str) -> None:
    print(f"{found['weights']}, seed {found['seed']}")
    if "count" in found:
        print(f"{found['count']:,} samples ({found['sampler']}, {found['steps']} steps)")
    if "fd" in found:
        _print_distance(found["fd"], trained_on)
    if "copies" in found:
        _print_copies(found["copies"])
    if "bpd" in found:
        _print_bound(found["bpd"])
    print(f"{found['seconds']:.0f} s")


def _print_distance(found: dict, trained_on: str) -> None:
    real = f"{found['reference_count']:,} real images of Fashion-MNIST"
    print(f"  distance to {real}, in the features of two classifiers:")
    floor = f"{found['floor_count']:,} other real images in their place: "
    for name, judged in (("first ", found), ("second", found["second"])):
        low, high = judged["interval"]
        print(
            f"    {name} {judged['feature_distance']:.2f} "
            f"(95 % interval {low:.2f} to {high:.2f}; {floor}{judged['floor']:.2f})"
        )
    if "fashion" not in trained_on.lower():
        print(f"    (it says little of these weights, which were trained on {trained_on})")
    print("  " + ", ".join(f"{name} {share:.1%}" for name, share in found["class_shares"].items()))


def _print_copies(found: dict[str, Any]) -> None:
    whose = f"{found['known']:,} training images ({found['source']})"
    print(f"  nearest of {whose}, median, grey levels a pixel:")
    print(f"    from a sample {found['samples']:.1f}, from a test image {found['others']:.1f}")
    print(f"    samples less than 1 away: {found['within_1']:,}")


def _print_bound(found: dict[str, Any]) -> None:
    print(f"bound on {found['count']:,} test images ({found['source']}), bits per dimension:")
    print(f"  {found['bpd']:.3f} +- {found['error']:.3f} (standard error)")
    shares = {"L_T": ".4f", "L_t": ".3f", "L_0": ".3f"}
    said = {name: format(found[name], digits) for name, digits in shares.items()}
    print(f"  of which L_T {said['L_T']}, L_1 to L_(T-1) {said['L_t']}, L_0 {said['L_0']}")
