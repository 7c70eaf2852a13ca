r"""A variance that is learned: the network says, for each pixel, how sure a step back is.

The network returns twice the channels: its prediction, and a share u that mixes the two extremes
beta_tilde and beta on a logarithmic scale.  (Nichol & Dhariwal 2021, arXiv 2102.09672; notebook 08)
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tutorial_lib import checkpoint, gaussian
from tutorial_lib.beyond.variational import decoder_nats
from tutorial_lib.data import to_model
from tutorial_lib.diffusion import q_posterior, q_sample, regression_loss, target_from, x_0_from
from tutorial_lib.gaussian import noise_like
from tutorial_lib.nets.unet import UNet, UNetConfig
from tutorial_lib.sample import Frame
from tutorial_lib.schedule import NoiseSchedule, check_name, even_tau, same_t

Sure = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # (x_t, t) -> x_0_hat, share; like x_t
VARIANCES = ("learned", "beta", "beta_tilde")
LAMBDA = 0.001  # how much the bound counts in the loss


def log_ends(schedule: NoiseSchedule) -> tuple[Tensor, Tensor]:
    r"""The tables of $\log \tilde\beta_t$ and $\log \beta_t$, (T + 1,) each.

    $\tilde\beta_1 = 0$ has no logarithm: there $\tilde\beta_2$ stands in for it, as in the paper
    (or $\beta_1$ itself, where that is the smaller, or T is 1).
    """
    low = schedule.beta_tilde.clone()
    low[0] = low[1] = min(float(schedule.beta[1]), float(low[2]) if schedule.T > 1 else 1.0)
    high = schedule.beta.clone()
    high[0] = high[1]
    return low.log(), high.log()


def log_variance(schedule: NoiseSchedule, share: Tensor, t: Tensor) -> Tensor:
    r"""$\log \sigma^2 = u \log\beta_t + (1 - u) \log\tilde\beta_t$, like share.

    share: (B, ...), about in [0, 1].  t: (B,) in 1..T.
    (Nichol & Dhariwal 2021, Eq. 15; notebook 08)
    """
    low, high = log_ends(schedule)
    return share * schedule.at(high, t, share) + (1 - share) * schedule.at(low, t, share)


def vlb_nats(
    schedule: NoiseSchedule,
    x_0: Tensor,
    x_t: Tensor,
    t: Tensor,
    x_0_hat: Tensor,
    log_sigma2: Tensor,
) -> Tensor:
    r"""$L_{t-1}$ of each image in nats, (B,), for a step back of the variance that is given.

    At t = 1 it is L_0, of a bell of that variance cut at the 256 levels.
    """
    mean_q, variance_q = q_posterior(schedule, x_0, x_t, t)
    mean_p, _ = q_posterior(schedule, x_0_hat, x_t, t)
    floor = variance_q.clamp(min=1e-20)  # at t = 1 it is 0, and the term is another
    terms = gaussian.kl(mean_q, floor, mean_p, log_sigma2.exp()).flatten(1).sum(1)
    first = t.to(terms.device) == 1
    if first.any():
        sigma = (0.5 * log_sigma2[first]).exp()
        terms = terms.index_put((first,), decoder_nats(x_0[first], x_0_hat[first], sigma))
    return terms


def halves(output: Tensor) -> tuple[Tensor, Tensor]:
    """A network's prediction, and its share: the second half of its channels, from [-1, 1]."""
    prediction, raw = output.chunk(2, dim=1)
    return prediction, (raw + 1) / 2


def hybrid_step(
    network: nn.Module,
    schedule: NoiseSchedule,
    x_0: Tensor,
    t: Tensor,
    eps: Tensor,
    *,
    target: str,
) -> Tensor:
    r"""$L_\text{hybrid} = L_\text{simple} + \lambda L_\text{vlb}$, (B,), $\lambda = 0.001$.

    In the second term the mean is held fixed: the bound teaches the variance alone, L_simple the
    mean.  L_vlb is T times the term of the t that was drawn, in nats a dimension; for a uniform t
    that is on average the sum over all steps.
    (Nichol & Dhariwal 2021, Eq. 16; notebook 08)
    """
    x_t = q_sample(schedule, x_0, t, eps)
    prediction, share = halves(network(x_t, t.to(x_t.device)).to(x_0.dtype))
    simple = regression_loss(prediction, target_from(schedule, target, x_0, eps, t), "l2")
    x_0_hat = x_0_from(schedule, target, prediction, x_t, t).detach()
    log_sigma2 = log_variance(schedule, share, t)
    vlb = vlb_nats(schedule, x_0, x_t, t, x_0_hat, log_sigma2) / x_0[0].numel()
    return simple + LAMBDA * schedule.T * vlb


def sure(network: nn.Module, schedule: NoiseSchedule, *, target: str, clip: bool) -> Sure:
    r"""As `denoise.denoiser`, for a network with a share: (x_t, t) -> $\hat x_0$ and share."""

    def estimate(x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        prediction, share = halves(network(x_t, t.to(x_t.device)).to(x_t.dtype))
        x_0_hat = x_0_from(schedule, target, prediction, x_t, t)
        return (x_0_hat.clamp(-1, 1) if clip else x_0_hat), share

    return estimate


def _mixed(visited: NoiseSchedule, share: Tensor, t: Tensor, variance: str) -> Tensor:
    """The log-variance of a step back, like share: the learned one, or one of the extremes."""
    fixed = {"beta": 1.0, "beta_tilde": 0.0}
    if variance in fixed:
        share = torch.full_like(share, fixed[variance])
    return log_variance(visited, share, t)


@torch.no_grad()
def learned_ddpm(
    estimate: Sure,
    schedule: NoiseSchedule,
    x_T: Tensor,
    *,
    generator: torch.Generator,
    steps: int | Tensor | None = None,
    variance: str = "learned",
) -> Iterator[Frame]:
    r"""Ancestral sampling as `sample.ddpm`, with the variance that the network has learned.

    estimate: of `sure`.  steps: how many of 1..T, evenly; or which, rising from 0.  Between steps
    that are visited the share mixes the extremes of that larger step.
    variance: "learned"; or "beta", "beta_tilde", for comparison.
    (Nichol & Dhariwal 2021, section 4; notebook 08)
    """
    check_name("variance", variance, VARIANCES)
    tau = steps if isinstance(steps, Tensor) else even_tau(schedule.T, steps)
    visited, x = schedule.strided(tau), x_T
    yield Frame(int(tau[-1]), x, torch.zeros_like(x))
    for i in range(visited.T, 0, -1):
        here = same_t(i, len(x))
        x_0_hat, share = estimate(x, same_t(int(tau[i]), len(x)))
        x, _ = q_posterior(visited, x_0_hat, x, here)
        if i > 1:  # the last step shows its mean
            sigma = (0.5 * _mixed(visited, share, here, variance)).exp()
            x = x + sigma * noise_like(x, generator)
        yield Frame(int(tau[i - 1]), x, x_0_hat)


@torch.no_grad()
def bits_of_steps(
    estimate: Sure,
    schedule: NoiseSchedule,
    pixels: Tensor,
    *,
    generator: torch.Generator,
    steps: int,
    variance: str = "learned",
    draws: int = 4,
    piece: int = 100,
) -> dict[str, float]:
    r"""The bound of a chain of few steps or many, in bits a dimension.

    L_0 is computed for every image; of the other steps as many as `draws` (all, where there are no
    more), with chances that fall as 1 / i.  Other arguments as for `learned_ddpm`.
    Returns `bpd`, its standard `error` over images, their `count`, `L_t` and `L_0`.
    """
    check_name("variance", variance, VARIANCES)
    tau = even_tau(schedule.T, steps)
    visited = schedule.strided(tau)

    def term(x_0: Tensor, i: Tensor) -> Tensor:
        x_t = q_sample(visited, x_0, i, noise_like(x_0, generator))
        x_0_hat, share = estimate(x_t, tau[i])
        return vlb_nats(visited, x_0, x_t, i, x_0_hat, _mixed(visited, share, i, variance))

    later, first = [], []
    for part in pixels.split(piece):
        x_0 = to_model(part)
        first.append(term(x_0, same_t(1, len(x_0))))
        if steps - 1 <= draws:
            each = [term(x_0, same_t(i, len(x_0))) for i in range(2, steps + 1)]
            later.append(torch.stack(each).sum(0) if each else torch.zeros_like(first[-1]))
            continue
        i, chance = _some_of(steps, draws, len(x_0), generator)
        weighted = [term(x_0, one) / share.to(x_0) for one, share in zip(i, chance, strict=True)]
        later.append(torch.stack(weighted).mean(0))
    nats = torch.stack([torch.cat(later), torch.cat(first)]).double()  # (2, N)
    bits = nats / (pixels[0].numel() * math.log(2))
    shares = dict(zip(("L_t", "L_0"), bits.mean(1).tolist(), strict=True))
    error = float(bits.sum(0).std() / len(pixels) ** 0.5)
    return {"bpd": sum(shares.values()), "error": error, "count": len(pixels)} | shares


def _some_of(
    steps: int, draws: int, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Steps i of 2..steps, drawn with chances that fall as 1 / i, and these: (draws, count)."""
    chance = 1 / torch.arange(2, steps + 1, dtype=torch.float64)
    chance /= chance.sum()
    drawn = torch.multinomial(chance, draws * count, True, generator=generator).view(draws, count)
    return drawn + 2, chance[drawn]


def widened(model: UNet) -> UNet:
    """A trained U-Net with twice the output channels; the new half begins at zero, in the middle.

    Its predictions are the same as before.  All weights are free to be trained.
    """
    wide = UNet(model.config)
    wide.out = twice(wide.out)
    weights = dict(model.state_dict())
    for name in ("out.weight", "out.bias"):
        weights[name] = torch.cat([weights[name], torch.zeros_like(weights[name])])
    wide.load_state_dict(weights)
    return wide


def twice(out: nn.Conv2d) -> nn.Conv2d:
    """A convolution like this one with twice the channels."""
    return nn.Conv2d(out.in_channels, 2 * out.out_channels, 3, padding=1)


def restore_wide(tensors: dict[str, Tensor], configuration: dict[str, Any]) -> UNet:
    """The network with a learned variance that `checkpoint.load` has read, ready to sample from."""
    model = UNet(UNetConfig(**configuration["model"]))
    model.out = twice(model.out)
    model.load_state_dict(checkpoint.part(tensors, "wide"))
    return model.eval().requires_grad_(False)


class Importance:
    r"""Steps drawn as often as they matter: $p_t \propto \sqrt{\mathbb E[L_t^2]}$.

    It remembers the last few losses of each step; until each has that many, steps are uniform.
    (Nichol & Dhariwal 2021, Eq. 18; notebook 08)
    """

    def __init__(self, T: int, keep: int = 10) -> None:
        self.recent = torch.full((T, keep), torch.nan, dtype=torch.float64)

    def chances(self) -> Tensor:
        """The chance of each step 1..T, (T,)."""
        T = len(self.recent)
        if self.recent.isnan().any():
            return torch.full((T,), 1 / T, dtype=torch.float64)
        weight = self.recent.square().mean(1).sqrt()
        chance = weight / weight.sum()
        return 0.999 * chance + 0.001 / T  # none is forgotten

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`count` steps, and what their losses are multiplied by so that the mean stays: (count,).

        The weight is 1 / (T p_t).
        """
        chance = self.chances()
        k = torch.multinomial(chance, count, replacement=True, generator=generator)
        return k + 1, 1 / (len(chance) * chance[k])

    def update(self, t: Tensor, losses: Tensor) -> None:
        """Remember the losses of these steps, (B,) each, before they were weighted."""
        for step, loss in zip(t.tolist(), losses.tolist(), strict=True):
            row = self.recent[step - 1]
            self.recent[step - 1] = torch.cat([row[1:], row.new_tensor([loss])])
