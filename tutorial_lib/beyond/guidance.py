r"""Guidance: a walk that is drawn towards what was asked for, further than the data alone would go.

Functions from denoisers to denoisers, which every sampler takes.  They work on the estimate of
x_0; since that is an affine function of eps, v or the score at a given x_t, the same combination of
those would give the same walk.  (Notebook 10)
"""

import math

import torch
from torch import Tensor

from tutorial_lib.data import NOBODY
from tutorial_lib.denoise import Denoiser


def guided(denoise: Denoiser, y: Tensor, w: float, *, clip: bool) -> Denoiser:
    r"""Classifier-free guidance: $\hat x_0 + w (\hat x_0(y) - \hat x_0)$ in place of $\hat x_0$.

    denoise: of a network that takes labels, and with some of them dropped in training; its
    estimates not clipped, since a clipped one would be moved from the wrong place.
    y: (B,) the labels that are asked for, `data.NOBODY` for none.
    w: 0 leaves the labels away, 1 is the plain conditional model, and more exaggerates what tells
    the label's images from all others.  (Ho & Salimans count from 1: their w is ours less 1.)
    clip: clamp the guided estimate to [-1, 1].
    Raises ValueError for a w that is no finite number.
    Costs two evaluations a step, made in one call of twice the batch; for w = 0 or 1 only one.
    (Ho & Salimans 2022, Eq. 6; arXiv 2207.12598)
    """
    if not math.isfinite(w):
        raise ValueError(f"guidance w must be a finite number, got {w}; 1 is the plain model")

    def guide(x_t: Tensor, t: Tensor, **given: Tensor) -> Tensor:
        if w in (0, 1):
            asked = y if w else torch.full_like(y, NOBODY)
            x_0_hat = denoise(x_t, t, y=asked, **given)
        else:
            twice = {name: torch.cat([what, what]) for name, what in given.items()}
            both_y = torch.cat([torch.full_like(y, NOBODY), y])  # (2 B,)
            both = denoise(torch.cat([x_t, x_t]), torch.cat([t, t]), y=both_y, **twice)
            without, with_label = both.chunk(2)
            x_0_hat = without + w * (with_label - without)
        return x_0_hat.clamp(-1, 1) if clip else x_0_hat

    return guide
