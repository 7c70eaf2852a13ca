"""`evaluate`: weights judged by their samples and by their bound."""

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor

from tutorial_lib import data, evaluate
from tutorial_lib.beyond.likelihood import bits_per_dimension
from tutorial_lib.cli.sampling import Sampling, add_sampling
from tutorial_lib.denoise import denoiser

METRICS = ("fd", "copies", "bpd")


def add(parser: argparse.ArgumentParser) -> None:
    """The options of `evaluate`."""
    add_sampling(parser, sampler="dpm++", count=2000)
    parser.add_argument(
        "--metrics",
        default="fd",
        help=f"some of {','.join(METRICS)}, with commas between them (default fd)",
    )
    parser.add_argument("--data", default="auto", help="real images for copies, bpd; as in train")


def run(options: argparse.Namespace) -> None:
    """Judge weights: distance of samples to real images, copies, bits per dimension."""
    metrics = [name.strip() for name in options.metrics.split(",")]
    if unknown := [name for name in metrics if name not in METRICS]:
        raise ValueError(f"unknown metric {unknown[0]!r}; choose some of {', '.join(METRICS)}")
    began, task = time.perf_counter(), Sampling.prepared(options)
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
    real = _real_images(options, shape) if {"copies", "bpd"} & set(metrics) else {}
    print(f"{options.weights}, seed {options.seed}")
    if {"fd", "copies"} & set(metrics):
        samples = task.draw(keep=1)[-1]
        print(f"{options.count:,} samples ({options.sampler}, {task.steps} steps)")
    if "fd" in metrics:
        _print_distance(evaluate.report(samples))
    if "copies" in metrics:
        _print_copies(samples, real["train"], real["test"].pixels)
    if "bpd" in metrics:
        _print_bound(task, real["test"], options)
    print(f"{time.perf_counter() - began:.0f} s")


def _real_images(options: argparse.Namespace, shape: tuple[int, ...]) -> dict[str, data.Images]:
    """Both splits of --data.  Raises ValueError unless they have the shape of the samples."""
    size = shape[-1] if Path(options.data).is_dir() else None
    real = {split: data.load(options.data, split, size=size) for split in data.SPLITS}
    for images in real.values():
        its_shape = tuple(images.pixels.shape[1:])
        if its_shape != shape:
            raise ValueError(
                f"these weights draw images of shape {shape}, "
                f"but --data has {images.source}, of shape {its_shape}; name their own"
            )
    return real


def _print_distance(found: dict) -> None:
    low, high = found["interval"]
    print(
        f"  distance to {found['reference_count']:,} real images, in the classifier's features: "
        f"{found['feature_distance']:.2f} (95 % interval {low:.2f} to {high:.2f})"
    )
    count, floor = found["floor_count"], found["floor"]
    print(f"  the floor, {count:,} other real images in their place: {floor:.2f}")
    print("  " + ", ".join(f"{name} {share:.1%}" for name, share in found["class_shares"].items()))


def _print_copies(samples: Tensor, known: data.Images, others: Tensor) -> None:
    found = evaluate.copies(samples, known.pixels, others[: len(samples)])
    whose = f"{len(known):,} training images ({known.source})"
    print(f"  nearest of {whose}, median, grey levels a pixel:")
    print(f"    from a sample {found['samples']:.1f}, from a test image {found['others']:.1f}")
    print(f"    samples less than 1 away: {found['within_1']:,}")


def _print_bound(task: Sampling, images: data.Images, options: argparse.Namespace) -> None:
    found = bits_per_dimension(
        denoiser(task.model, task.schedule, target=task.target, clip=True),
        task.schedule,
        images.pixels[: options.count],
        generator=torch.Generator().manual_seed(options.seed),  # whatever else was measured
        device=task.device,
    )
    print(f"bound on {found['count']:,} test images ({images.source}), bits per dimension:")
    print(f"  {found['bpd']:.3f} +- {found['error']:.3f} (standard error)")
    shares = {"L_T": ".4f", "L_t": ".3f", "L_0": ".3f"}
    said = {name: format(found[name], digits) for name, digits in shares.items()}
    print(f"  of which L_T {said['L_T']}, L_1 to L_(T-1) {said['L_t']}, L_0 {said['L_0']}")
