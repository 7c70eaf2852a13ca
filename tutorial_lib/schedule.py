r"""Noise schedules: how much noise each of the T steps of the forward process adds.

A schedule is a table of variances $\beta_1, \dots, \beta_T$; everything else follows from it.
Tables have length T + 1 and are indexed as in the paper: `beta[1]` is the first step, and index 0
stands for clean data, so that `alpha_bar[0] == 1`.  (Ho, Jain & Abbeel 2020, section 2)
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

VARIANCES = ("beta", "beta_tilde")
BETA_1, BETA_T = 1e-4, 0.02  # the usual ends (Ho et al. 2020, section 4)


def check_name(what: str, got: str, legal: Sequence[str]) -> None:
    """Raise ValueError, naming what is legal, unless got is one of these."""
    if got not in legal:
        raise ValueError(f"unknown {what} {got!r}; choose one of {', '.join(legal)}")


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    r"""The tables that belong to $\beta_1, \dots, \beta_T$: float64, on the CPU, of length T + 1.

    beta: (T + 1,) with `beta[0] == 0`; every later entry in (0, 1), the last one in (0, 1].
    Raises ValueError for anything else; warns when $\bar\alpha_T > 10^{-3}$, because then the
    chain does not end in noise and a sampler that starts from N(0, I) starts in the wrong place.
    """

    beta: Tensor

    def __post_init__(self) -> None:
        beta = torch.as_tensor(self.beta, dtype=torch.float64, device="cpu")
        object.__setattr__(self, "beta", beta)
        if beta.ndim != 1 or len(beta) < 2 or beta[0] != 0:
            raise ValueError(
                "beta must be a table of length T + 1 that begins with beta[0] = 0, "
                f"got shape {tuple(beta.shape)}; "
                "build one with schedule.from_betas([beta_1, ..., beta_T])"
            )
        legal = (beta[1:] > 0) & (beta[1:] < 1)
        legal[-1] |= beta[-1] == 1
        if not legal.all():
            t = int(legal.logical_not().nonzero()[0]) + 1
            raise ValueError(
                f"beta_{t} = {float(beta[t]):g}, but every beta must lie strictly between 0 and 1 "
                f"(beta = 1 is legal at the last step, T = {self.T}, only); "
                "choose smaller betas or more steps"
            )
        if self.alpha_bar[-1] > 1e-3:
            warnings.warn(
                f"alpha_bar_T = {float(self.alpha_bar[-1]):.3g}: after T = {self.T} steps a part "
                "of the data is still there, so samples that start from pure noise start in the "
                "wrong place; use more steps, larger betas or rescaled=True",
                stacklevel=3,
            )

    @property
    def T(self) -> int:
        """The number of steps."""
        return len(self.beta) - 1

    @cached_property
    def alpha(self) -> Tensor:
        r"""$\alpha_t = 1 - \beta_t$: the share of the variance that one step keeps."""
        return 1 - self.beta

    @cached_property
    def alpha_bar(self) -> Tensor:
        r"""The share of the data's variance that is left after t steps (Eq. 4).

        $\bar\alpha_t = \prod_{s \le t} \alpha_s$
        """
        return self.alpha.cumprod(0)

    @cached_property
    def beta_tilde(self) -> Tensor:
        r"""The variance of the posterior (Eq. 7).

        $\tilde\beta_t = \frac{1 - \bar\alpha_{t-1}}{1 - \bar\alpha_t} \beta_t$

        `beta_tilde[1] == 0`: given x_0, the step from x_1 back to x_0 leaves nothing to chance.
        """
        beta_tilde = torch.zeros_like(self.beta)
        beta_tilde[1:] = (1 - self.alpha_bar[:-1]) / (1 - self.alpha_bar[1:]) * self.beta[1:]
        return beta_tilde

    @cached_property
    def mu_tilde_weights(self) -> tuple[Tensor, Tensor]:
        r"""The weights of x_0 and x_t in the posterior mean $\tilde\mu_t$ (Eq. 7), (T + 1,) each.

        At t = 0 and t = 1 they are 1 and 0: the step from x_1 back leads to x_0 itself.
        """
        alpha_bar_prev, alpha_bar_t = self.alpha_bar[:-1], self.alpha_bar[1:]
        of_x_0 = torch.ones_like(self.beta)
        of_x_t = torch.zeros_like(self.beta)
        of_x_0[1:] = alpha_bar_prev.sqrt() * self.beta[1:] / (1 - alpha_bar_t)
        of_x_t[1:] = self.alpha[1:].sqrt() * (1 - alpha_bar_prev) / (1 - alpha_bar_t)
        return of_x_0, of_x_t

    def reverse_variance(self, kind: str = "beta") -> Tensor:
        r"""The table of $\sigma_t^2$, the variance of each reverse step (Eq. 1; section 3.2).

        kind: "beta" or "beta_tilde", the two extremes for data of unit variance.  `beta_tilde[1]`
        is 0, which a sampler wants and a likelihood cannot bear; the bound takes beta_1 there.
        Returns (T + 1,).  Raises ValueError for any other kind.
        """
        check_name("variance", kind, VARIANCES)
        return self.beta if kind == "beta" else self.beta_tilde

    @cached_property
    def snr(self) -> Tensor:
        r"""Signal-to-noise ratio $\bar\alpha_t / (1 - \bar\alpha_t)$; infinite at t = 0."""
        return self.alpha_bar / (1 - self.alpha_bar)

    def at(self, table: Tensor, t: Tensor, like: Tensor) -> Tensor:
        """Look `table` up at the steps t, ready to be multiplied with `like`.

        table: (T + 1,).  t: (B,) integers in 1..T.  like: (B, ...), floating-point.
        Returns (B, 1, ...) in the dtype and on the device of `like`.
        Raises TypeError or ValueError when t or `like` is not what it should be.
        """
        self.check_t(t, len(like))
        if not like.is_floating_point():
            raise TypeError(
                f"data must be floating-point numbers, got {like.dtype}; "
                "pixels go through data.to_model first"
            )
        return table[t.long().cpu()].to(like).view(-1, *[1] * (like.ndim - 1))

    def signal_and_noise(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        r"""$\sqrt{\bar\alpha_t}$ and $\sqrt{1 - \bar\alpha_t}$, each (B, 1, ...) (Eq. 4).

        In the dtype and on the device of `like`.
        """
        return self.at(self.alpha_bar.sqrt(), t, like), self.at(
            (1 - self.alpha_bar).sqrt(), t, like
        )

    def check_t(self, t: Tensor, batch: int) -> None:
        """Raise TypeError or ValueError unless t holds `batch` integers in 1..T."""
        if (
            not isinstance(t, Tensor)
            or t.is_floating_point()
            or t.is_complex()
            or t.dtype == torch.bool
        ):
            got = t.dtype if isinstance(t, Tensor) else type(t).__name__
            raise TypeError(
                f"t must be a tensor of integers, got {got}; "
                "use torch.tensor([...]) or same_t(t, batch)"
            )
        if t.shape != (batch,):
            raise ValueError(
                f"t must have shape ({batch},), one step for each image, got {tuple(t.shape)}"
            )
        if batch and not 1 <= int(t.min()) <= int(t.max()) <= self.T:
            raise ValueError(f"t must lie in 1..{self.T}, got {int(t.min())}..{int(t.max())}")

    def check_tau(self, tau: Tensor | Sequence[int]) -> None:
        """Raise ValueError unless tau, the steps to visit, rises from 0 and stays within T."""
        steps = [int(t) for t in tau]
        rises = all(s < t for s, t in pairwise(steps))
        if len(steps) < 2 or steps[0] != 0 or not rises or steps[-1] > self.T:
            raise ValueError(
                "tau must begin at 0, where the data are, and rise to at most "
                f"T = {self.T}, got {steps}"
            )

    def strided(self, tau: Tensor | Sequence[int]) -> "NoiseSchedule":
        r"""The schedule that visits only the steps tau of this one.

        tau: (S + 1,) increasing integers from 0 to T; or to an earlier step, for a chain that
        begins there: `torch.arange(t + 1)` keeps the first t steps, as they are.

        The new schedule has S steps and $\bar\alpha'_i = \bar\alpha_{\tau_i}$, hence
        $\beta'_i = 1 - \bar\alpha_{\tau_i} / \bar\alpha_{\tau_{i-1}}$.
        Raises ValueError for any other tau.
        """
        self.check_tau(tau)
        alpha_bar = self.alpha_bar[tau]
        with warnings.catch_warnings():  # said once already, when this schedule was made
            warnings.simplefilter("ignore", UserWarning)
            return from_betas(1 - alpha_bar[1:] / alpha_bar[:-1])


def from_betas(beta: Tensor | list[float]) -> NoiseSchedule:
    r"""A schedule from its variances $\beta_1, \dots, \beta_T$, a sequence of length T."""
    beta = torch.as_tensor(beta, dtype=torch.float64)
    return NoiseSchedule(torch.cat([beta.new_zeros(1), beta]))


def same_t(t: int, batch: int = 1) -> Tensor:
    """The same step t for each image of a batch: an int64 tensor of shape (batch,)."""
    return torch.full((batch,), t, dtype=torch.int64)


def how_many(T: int, S: int | None) -> int:
    """S, the number of sampling steps; T where none is given.

    Raises ValueError unless 1 <= S <= T.
    """
    S = T if S is None else S
    if not 1 <= S <= T:
        raise ValueError(
            f"the number of sampling steps must lie in 1..{T} (the schedule's T), got {S}"
        )
    return S


def even_tau(T: int, S: int | None = None) -> Tensor:
    """S of the steps 1..T, spread evenly and ending at T, with 0 in front.

    An int64 tensor of length S + 1; all of the steps by default.
    Raises ValueError unless 1 <= S <= T.
    """
    S = how_many(T, S)
    return torch.linspace(0, T, S + 1, dtype=torch.float64).round().long()


def constant(T: int, beta: float = 0.01) -> NoiseSchedule:
    """The same variance at every step."""
    return from_betas(torch.full((_count(T),), beta, dtype=torch.float64))


def linear(
    T: int, beta_1: float = BETA_1, beta_T: float = BETA_T, rescaled: bool = False
) -> NoiseSchedule:
    r"""$\beta_t$ rises in equal steps from beta_1 to beta_T (Ho et al. 2020, section 4).

    rescaled: multiply all betas by 1000 / T, so that a shorter chain destroys about as much as one
    of 1000 steps does; impossible for T <= 20 with the usual ends (ValueError).
    """
    T = _count(T)
    factor = 1000 / T if rescaled else 1.0
    if rescaled and beta_T * factor >= 1:
        raise ValueError(
            f"rescaling to T = {T} would make beta_T = {beta_T * factor:g}, "
            f"which must stay below 1; use more than {math.floor(beta_T * 1000)} steps"
        )
    return from_betas(torch.linspace(beta_1, beta_T, T, dtype=torch.float64) * factor)


def quadratic(T: int) -> NoiseSchedule:
    r"""$\sqrt{\beta_t}$ rises in equal steps, between the usual ends."""
    return from_betas(torch.linspace(BETA_1**0.5, BETA_T**0.5, _count(T), dtype=torch.float64) ** 2)


def sigmoid(T: int) -> NoiseSchedule:
    r"""$\beta_t$ follows a logistic curve over [-6, 6], between the usual ends."""
    curve = torch.linspace(-6, 6, _count(T), dtype=torch.float64).sigmoid()
    return from_betas(BETA_1 + (BETA_T - BETA_1) * curve)


def geometric(T: int) -> NoiseSchedule:
    r"""$\beta_t$ grows by the same factor at every step, between the usual ends."""
    ends = torch.tensor([BETA_1, BETA_T], dtype=torch.float64).log()
    return from_betas(
        torch.linspace(float(ends[0]), float(ends[1]), _count(T), dtype=torch.float64).exp()
    )


def cosine(T: int, s: float = 0.008, beta_max: float = 0.999) -> NoiseSchedule:
    r"""$\bar\alpha_t$ falls along a squared cosine (Nichol & Dhariwal 2021, Eq. 17).

    $\bar\alpha_t = f(t) / f(0)$, $f(t) = \cos^2\left(\frac{t/T + s}{1 + s} \frac{\pi}{2}\right)$

    Betas are clipped above, at beta_max, and not below.
    """
    t = torch.arange(_count(T) + 1, dtype=torch.float64)
    f = torch.cos((t / T + s) / (1 + s) * torch.pi / 2) ** 2
    return from_betas((1 - f[1:] / f[:-1]).clamp(max=beta_max))


def zero_terminal(schedule: NoiseSchedule) -> NoiseSchedule:
    r"""The same schedule with $\beta_T = 1$, so that x_T is pure noise.

    Then only x_0 or v can be predicted at T.
    """
    beta = schedule.beta[1:].clone()
    beta[-1] = 1
    return from_betas(beta)


NAMED: dict[str, Callable[[int], NoiseSchedule]] = {
    "constant": constant,
    "linear": linear,
    "quadratic": quadratic,
    "sigmoid": sigmoid,
    "cosine": cosine,
    "geometric": geometric,
}


def named(name: str, T: int) -> NoiseSchedule:
    """The schedule of that name with its usual constants.

    Raises ValueError for an unknown name or T < 1.
    """
    check_name("schedule", name, tuple(NAMED))
    return NAMED[name](T)


def check_T(T: int) -> None:
    """Raise ValueError unless T is a whole number of at least 1."""
    if not isinstance(T, int) or T < 1:
        raise ValueError(f"T, the number of steps, must be a whole number of at least 1, got {T!r}")


def _count(T: int) -> int:
    check_T(T)
    return T
