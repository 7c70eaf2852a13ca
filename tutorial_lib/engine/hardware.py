"""The one place that chooses where to compute, and how precisely."""

import torch
from torch import nn


def get_device(name: str | None = None) -> str:
    """The device of that name, or the best there is: "cuda", "mps" or "cpu".

    Raises ValueError for one that is not here.
    """
    here = ["cpu"]
    if torch.backends.mps.is_available():
        here.insert(0, "mps")
    if torch.cuda.is_available():
        here.insert(0, "cuda")
    if name is not None and name not in here:
        raise ValueError(f"unknown device {name!r}; this machine has {', '.join(here)}")
    return name or here[0]


def accelerator(precision: str, *, accumulation: int, device: str | None):
    """Accelerate's `Accelerator`: devices, processes and mixed precision behind one handle.

    precision: "bf16", "fp16", "no", or "auto" (bf16 or fp16 where the hardware has it).
    accumulation: pieces a batch is cut into.
    device: "cpu" keeps off an accelerator.
    """
    from accelerate import Accelerator  # over half a second to import, so only when somebody trains
    from accelerate.state import AcceleratorState

    device = get_device(device)
    if not torch.distributed.is_initialized():
        AcceleratorState._reset_state(reset_partial_state=True)  # a notebook trains more than once
    return Accelerator(
        mixed_precision=best_precision(device) if precision == "auto" else precision,
        gradient_accumulation_steps=accumulation,
        cpu=device == "cpu",
    )


def lay_out(network: nn.Module) -> None:
    """Bring four-dimensional weights into the order in memory that convolutions are quickest in.

    That is channels-last.  Where something is frozen they get the usual order instead: what comes
    out of a frozen layer needs no gradient, and PyTorch's group norm crashes on the CPU when such
    images are channels-last.
    """
    frozen = not all(weight.requires_grad for weight in network.parameters())
    order = torch.contiguous_format if frozen else torch.channels_last
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.to(memory_format=order)  # also where only strides change


def best_precision(device: str) -> str:
    """What "auto" means here: "bf16" or "fp16" where the hardware multiplies in it, else "no"."""
    if device == "cuda":
        in_hardware = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16" if in_hardware else "fp16"
    if device == "cpu" and torch.cpu._is_avx512_bf16_supported():
        return "bf16"
    return "no"
