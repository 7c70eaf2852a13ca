"""What `evaluate` has found, in words."""

from typing import Any


def show(found: dict[str, Any], trained_on: str) -> None:
    """Print it.  trained_on: what the weights have learnt from."""
    print(f"{found['weights']}, seed {found['seed']}")
    if "count" in found:
        print(f"{found['count']:,} samples ({found['sampler']}, {found['steps']} steps)")
    if "fd" in found:
        _print_distance(found["fd"], trained_on)
    if "pr" in found:
        _print_precision_recall(found["pr"])
    if "accuracy" in found:
        shares = ", ".join(f"{share:.1%}" for share in found["accuracy"].values())
        print(f"  samples that look like their label, to the two classifiers: {shares}")
        print("    (real test images like theirs: 92 % to 94 %)")
    if "copies" in found:
        _print_copies(found["copies"])
    if "bpd" in found:
        _print_bound(found["bpd"])
    if "nll" in found:
        _print_exact(found["nll"])
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


def _print_precision_recall(found: dict[str, Any]) -> None:
    print(f"  beside {found['count']:,} training images, for the first classifier:")
    said = f"precision {found['precision']:.3f}, recall {found['recall']:.3f}"
    print(f"    {said} ({found['source']})")


def _print_bound(found: dict[str, Any]) -> None:
    print(f"bound on {found['count']:,} test images ({found['source']}), bits per dimension:")
    print(f"  {found['bpd']:.3f} +- {found['error']:.3f} (standard error)")
    terms = {"L_T": "L_T {:.4f}", "L_t": "L_1 to L_(T-1) {:.3f}", "L_0": "L_0 {:.3f}"}
    said = [form.format(found[name]) for name, form in terms.items() if name in found]
    print(f"  of which {', '.join(said)}")


def _print_exact(found: dict[str, Any]) -> None:
    images = f"{found['count']:,} test images ({found['source']})"
    print(f"exact likelihood of {images}, by the walk without noise, bits per dimension:")
    print(f"  {found['bpd']:.3f} +- {found['error']:.3f} (standard error)")
    shares = f"the walk {found['walk']:.3f}, the decoder {found['decoder']:.3f}"
    print(f"  of which {shares}; {found['nats']:,.0f} nats an image")
