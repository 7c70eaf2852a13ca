"""How the learning rate goes, and how fast the averaged weights follow."""

import math

import torch
from torch import nn


def learning_rate(step: int, *, steps: int, warmup: int, lr: float, lr_end: float) -> float:
    """The rate at a step: a rise in a line over the warm-up, then half a cosine from lr to lr_end.

    steps: of the whole run.  step: 1..steps.  (Notebook 05)
    """
    if step <= warmup:
        return lr * step / warmup
    progress = (step - warmup) / (steps - warmup)  # from 0 to 1
    cosine = 0.5 * (1 + math.cos(math.pi * progress))  # from 1 to 0
    return lr_end + (lr - lr_end) * cosine


def update_ema(ema_model: nn.Module, model: nn.Module, step: int, decay: float) -> None:
    """Move the averaged parameters towards the present ones; buffers are copied.

    The decay warms up as (1 + step) / (10 + step), so that the average forgets its random start.
    """
    decay = min(decay, (1 + step) / (10 + step))
    averaged = list(ema_model.parameters())
    present = [parameter.detach() for parameter in model.parameters()]
    # averaged <- decay * averaged + (1 - decay) * present, all parameters in one call
    torch._foreach_lerp_(averaged, present, 1 - decay)
    for buffer, present_buffer in zip(ema_model.buffers(), model.buffers(), strict=True):
        buffer.copy_(present_buffer)
