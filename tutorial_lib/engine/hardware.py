"""The one place that chooses where to compute."""

import torch


def get_device(name: str | None = None) -> str:
    """ "cuda", "mps" or "cpu": the one asked for, or the best there is.  Raises ValueError for one
    that is not here.
    """
    here = ["cpu"]
    if torch.backends.mps.is_available():
        here.insert(0, "mps")
    if torch.cuda.is_available():
        here.insert(0, "cuda")
    if name is not None and name not in here:
        raise ValueError(f"unknown device {name!r}; this machine has {', '.join(here)}")
    return name or here[0]
