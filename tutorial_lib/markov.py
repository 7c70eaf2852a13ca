r"""Markov chains: finite ones, their long run and their reversal, and chains for a given density.

A finite chain on S states is its transition matrix P, (S, S): row i holds the probabilities
$P_{ij}$ of going from state i to state j.  The distribution of the state is a row of S
probabilities; one step multiplies it by P from the right.  (Notebook 01)
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor


def transition_matrix(rows: list[list[float]] | Tensor) -> Tensor:
    """Check a transition matrix and return it, (S, S) float64.

    Raises ValueError unless it is square, has no negative entry, and each row sums to 1 (within
    1e-6).
    """
    P = torch.as_tensor(rows, dtype=torch.float64)
    if P.ndim != 2 or P.shape[0] != P.shape[1] or P.numel() == 0:
        raise ValueError(f"a transition matrix is square, got shape {tuple(P.shape)}")
    if (P < 0).any():
        raise ValueError(f"probabilities cannot be negative, got {float(P.min()):g}")
    sums = P.sum(1)
    if not torch.allclose(sums, torch.ones_like(sums), atol=1e-6):
        got = [round(total, 6) for total in sums.tolist()]
        raise ValueError(f"each row of a transition matrix must sum to 1, got {got}")
    return P


def distributions(P: Tensor, start: Tensor | list[float], steps: int) -> Tensor:
    r"""The distributions of the state after 0, 1, ..., `steps` steps, by $S_n = S_{n-1} P$.

    start: (S,), the first of them.  Returns (steps + 1, S), one a row.
    """
    rows = [torch.as_tensor(start, dtype=torch.float64)]
    for _ in range(steps):
        rows.append(rows[-1] @ P)
    return torch.stack(rows)


def simulate(P: Tensor, start: int, steps: int, generator: torch.Generator) -> Tensor:
    """Walk: the states visited from `start`, (steps + 1,) int64."""
    cumulative = P.cumsum(1)
    uniform = torch.rand(steps, dtype=torch.float64, generator=generator)
    states = [start]
    for u in uniform:
        here = states[-1]
        below = int((cumulative[here] <= u).sum())  # the first state whose cumulative sum exceeds u
        states.append(min(below, len(P) - 1))  # rounding may leave the last sum a little under 1
    return torch.tensor(states)


def stationary(P: Tensor) -> Tensor:
    r"""The distribution with $\pi = \pi P$, (S,): the left eigenvector of P for the eigenvalue 1.

    Raises ValueError when there are several: when the chain has more than one recurrent class.
    """
    recurrent = [states for states, closed in classes(P) if closed]
    if len(recurrent) > 1:
        raise ValueError(
            f"this chain has {len(recurrent)} recurrent classes, {recurrent}, "
            "and so several stationary distributions"
        )
    values, vectors = torch.linalg.eig(P.T)
    nearest_to_1 = (values - 1).abs().argmin()
    vector = vectors[:, nearest_to_1].real
    return vector / vector.sum()


def eigenvalues(P: Tensor) -> Tensor:
    r"""Eigenvalues of P, complex, the largest in absolute value first.

    The first is 1; a chain that forgets its start does so like $|\lambda_2|^n$, oscillating where
    $\lambda_2$ is not positive.
    """
    values = torch.linalg.eigvals(P)
    largest_first = values.abs().argsort(descending=True)
    return values[largest_first]


def classes(P: Tensor) -> list[tuple[list[int], bool]]:
    """The communicating classes of the chain: for each, its states, and whether it is recurrent.

    A communicating class is a set of states that can all reach each other.  In a finite chain it is
    recurrent exactly when it is closed: no way leads out of it.
    """
    size = len(P)
    reach = (torch.eye(size) + (P > 0)) > 0  # (S, S): i can reach j in one step at most
    for _ in range(size.bit_length()):  # ... in 2, 4, 8, ... until it is S or more
        reach = reach.double() @ reach.double() > 0
    together = reach & reach.T  # (S, S): and j can reach i
    found = []
    for state in range(size):
        members = together[state].nonzero().flatten().tolist()
        if members[0] < state:
            continue  # this class was found at its first state
        leaves = reach[state][~together[state]].any()
        found.append((members, not bool(leaves)))
    return found


def period(P: Tensor, state: int) -> int:
    """The greatest common divisor of all times at which the chain can return to `state`.

    1 means that the state is aperiodic; 0 means that the chain never returns.
    """
    step = (P > 0).double()  # (S, S): 1 where one step can lead from i to j
    ways = torch.eye(len(P), dtype=torch.float64)  # the same for n steps
    divisor = 0
    for n in range(1, 2 * len(P) ** 2 + 1):  # enough to see every cycle and its combinations
        ways = ((ways @ step) > 0).double()
        if ways[state, state]:
            divisor = math.gcd(divisor, n)
    return divisor


def settles(P: Tensor) -> bool:
    """Whether the distribution of the state has a limit, from every start.

    It has exactly when every recurrent class is aperiodic.
    """
    return all(period(P, states[0]) == 1 for states, closed in classes(P) if closed)


def forgets(P: Tensor) -> bool:
    """Whether the distribution of the state has one limit, the same from every start.

    It has exactly when there is a single recurrent class, and that class is aperiodic.
    """
    recurrent = [states for states, closed in classes(P) if closed]
    return settles(P) and len(recurrent) == 1


def reverse(P: Tensor, before: Tensor) -> Tensor:
    r"""The transition matrix of one step back, by Bayes' rule, (S, S).

    $R_{ji} = S_{n-1}(i)\, P_{ij} / S_n(j)$

    before: (S,), the distribution $S_{n-1}$ of the state before the step.  Unlike P, R depends on
    it.
    Raises ValueError when some state cannot have been reached, and so has no way back.
    """
    joint = before.to(P)[:, None] * P  # (S, S): before, after
    after = joint.sum(0)
    if (after == 0).any():
        state = int((after == 0).nonzero()[0])
        raise ValueError(f"state {state} cannot be reached from this start: no way back")
    return (joint / after).T


def flow(P: Tensor) -> Tensor:
    r"""Net flow of probability in the long run, $\pi_i P_{ij} - \pi_j P_{ji}$, (S, S).

    It is zero everywhere exactly when the chain is in detailed balance.
    """
    joint = stationary(P)[:, None] * P  # (S, S): before, after
    return joint - joint.T


def autoregression(phi: Tensor, eps: Tensor) -> Tensor:
    r"""AR(p): $X_t = \sum_{i=1}^p \varphi_i X_{t-i} + \epsilon_t$, from zeros.

    phi: (p,).  eps: (N,) noise.  Returns (N,).  The sum runs over *different* past values.
    """
    p = len(phi)
    x = torch.zeros(p + len(eps), dtype=eps.dtype)
    for t in range(len(eps)):
        x[p + t] = phi @ x[t : p + t].flip(0) + eps[t]
    return x[p:]


def metropolis(
    log_density: Callable[[Tensor], Tensor], x: Tensor, scale: float, generator: torch.Generator
) -> Iterator[Tensor]:
    """Many chains whose stationary distribution has this density; yields their states, for ever.

    Propose a step from N(0, scale^2); accept it with probability min(1, p(new) / p(old)), else
    stay.  The density p need be known only up to a factor, which cancels in p(new) / p(old).
    x: (N,) the starts.
    log_density: elementwise.
    (Metropolis et al. 1953)
    """
    while True:
        new = x + scale * torch.randn(x.shape, generator=generator, dtype=x.dtype)
        u = torch.rand(x.shape, generator=generator, dtype=x.dtype)
        log_ratio = log_density(new) - log_density(x)
        accept = u.log() < log_ratio
        x = torch.where(accept, new, x)
        yield x


def langevin(
    score: Callable[[Tensor], Tensor], x: Tensor, step: float, generator: torch.Generator
) -> Iterator[Tensor]:
    r"""Walk uphill on the log-density and add noise; yields the states of many chains, for ever.

    $x \leftarrow x + \frac{h}{2} \nabla \log p(x) + \sqrt h\, z$, where h is the step.

    The stationary distribution is p only as h goes to 0, or with a Metropolis correction.
    x: (N,) the starts.
    score: elementwise, the derivative of the log-density.
    """
    while True:
        uphill = step / 2 * score(x)
        z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = x + uphill + step**0.5 * z
        yield x
