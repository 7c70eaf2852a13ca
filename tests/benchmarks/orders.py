"""Does a third order, a corrector, or a search for the steps draw better than DPM-Solver++(2M)?

    python tests/benchmarks/orders.py search
        move the steps of the chosen placement until 64 walks end as near as they can to those of a
        hundred steps; for 6, 8 and 10 evaluations (an hour at most; resumable)
    python tests/benchmarks/orders.py sweep
        2,000 samples of each solver and placement, judged by two judges (an hour; resumable)
    python tests/benchmarks/orders.py order
        the order of each solver on a Gaussian whose paths are known (seconds)
    python tests/benchmarks/orders.py publish
        make these results ones that ship with the package

What wins here by both judges, outside their intervals, moves into `beyond.solvers`; until then the
candidates live here.  All begin with the same noise; no clock decides anything.
"""

import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from common import done, fingerprint, keep, kept, publish
from torch import Tensor

from tutorial_lib import checkpoint, data, evaluate, sample
from tutorial_lib.beyond.solvers import CHOSEN, dpm_solver, karras_tau
from tutorial_lib.denoise import Denoiser, denoiser
from tutorial_lib.nets.unet import restore
from tutorial_lib.sample import Frame
from tutorial_lib.schedule import NoiseSchedule, cosine, named, same_t

RESULTS = Path("build/benchmarks/orders.json")
WEIGHTS = "fashion_mnist"
CALLS = (6, 8, 10, 15)
SEARCHED = (6, 8, 10)
FEW, STARTS, EXACT, TRIALS = 2000, 64, 100, 240
ROOTS = {"chosen": CHOSEN, "root 7, from 80": {"root": 7, "largest": 80.0}}


@torch.no_grad()
def dpm_solver_3(
    denoise: Denoiser, schedule: NoiseSchedule, x_T: Tensor, *, steps: Tensor
) -> Iterator[Frame]:
    """DPM-Solver++(3M): a parabola through the last three estimates (after the code of Lu et al.).

    The first step and the last are of first order, the second and the last but one of second.
    """
    tau = steps.tolist()
    a, b, lam = tables(schedule, tau)
    x, known = x_T, []
    yield Frame(tau[-1], x, torch.zeros_like(x))
    for i in range(len(tau) - 1, 0, -1):
        known = [denoise(x, same_t(tau[i], len(x))), *known][:3]
        order = min(len(known), i)
        h = lam[i - 1] - lam[i]
        x_next = b[i - 1] / b[i] * x - a[i - 1] * math.expm1(-h) * known[0]
        if order > 1:
            r_0 = (lam[i] - lam[i + 1]) / h
            first = slope = (known[0] - known[1]) / r_0
        if order == 2:
            x_next = x_next - a[i - 1] * math.expm1(-h) / 2 * slope
        if order == 3:
            r_1 = (lam[i + 1] - lam[i + 2]) / h
            bend = (first - (known[1] - known[2]) / r_1) / (r_0 + r_1)
            slope = first + r_0 * bend
            x_next = x_next + a[i - 1] * (math.expm1(-h) / h + 1) * slope
            x_next = x_next - a[i - 1] * ((math.expm1(-h) + h) / h**2 - 0.5) * bend
        x = x_next
        yield Frame(tau[i - 1], x, known[0])


@torch.no_grad()
def uni_pc(
    denoise: Denoiser, schedule: NoiseSchedule, x_T: Tensor, *, steps: Tensor
) -> Iterator[Frame]:
    """UniPC-2: each estimate also corrects the step that led to it (Zhao et al. 2023, B_2).

    Without another call: the corrected state is not asked about again.
    """
    tau = steps.tolist()
    a, b, lam = tables(schedule, tau)
    x, known, corrected = x_T, [], None
    yield Frame(tau[-1], x, torch.zeros_like(x))
    for i in range(len(tau) - 1, 0, -1):
        now = denoise(x, same_t(tau[i], len(x)))
        if corrected is not None:
            x = corrected(now)
        known = [now, *known][:2]
        h = lam[i - 1] - lam[i]
        base = b[i - 1] / b[i] * x - a[i - 1] * math.expm1(-h) * now
        pull, slope, r = -a[i - 1] * math.expm1(-h), None, 0.0
        x = base
        if len(known) > 1 and i > 1:
            r = (lam[i + 1] - lam[i]) / h
            slope = (known[1] - now) / r
            x = base + pull / 2 * slope
        corrected = corrector(base, pull, now, slope, r, h)
        yield Frame(tau[i - 1], x, now)


def corrector(
    base: Tensor, pull: float, then: Tensor, slope: Tensor | None, r: float, h: float
) -> Callable[[Tensor], Tensor]:
    """From the estimate at the end of a step: the state there, corrected."""
    if slope is None:
        return lambda now: base + pull / 2 * (now - then)
    phi = math.expm1(-h) / -h - 1
    wanted = [phi / math.expm1(-h), 2 * (phi / -h - 0.5) / math.expm1(-h)]
    matrix = torch.tensor([[1.0, 1.0], [r, 1.0]], dtype=torch.float64)
    of_slope, of_now = torch.linalg.solve(matrix, torch.tensor(wanted).double()).tolist()
    return lambda now: base + pull * (of_slope * slope + of_now * (now - then))


def tables(schedule: NoiseSchedule, tau: list[int]) -> tuple[list, list, list]:
    """Signal, noise and the logarithm of their ratio at each of these steps (infinite at 0)."""
    alpha_bar = schedule.alpha_bar[tau]
    lam = (alpha_bar / (1 - alpha_bar)).sqrt().log()
    # at 0 the last step is of first order, and needs a length that is only large
    return alpha_bar.sqrt().tolist(), (1 - alpha_bar).sqrt().tolist(), lam.clamp(max=50).tolist()


SOLVERS = {"dpm++": dpm_solver, "dpm++3": dpm_solver_3, "unipc": uni_pc}


def shipped() -> tuple[Denoiser, NoiseSchedule]:
    """The shipped weights."""
    tensors, configuration = checkpoint.load(WEIGHTS)
    about = configuration["train"]
    schedule = named(about["schedule"], about["T"])
    return denoiser(
        restore(tensors, configuration), schedule, target=about["target"], clip=True
    ), schedule


def load() -> dict:
    """All results so far, published ones included."""
    return kept(RESULTS, "orders")


def search(calls: int) -> None:
    """Move one step at a time, at random and ever less; keep what brings the ends nearer."""
    key = f"orders/steps/{calls}"
    if done(RESULTS, key, WEIGHTS):
        return
    denoise, schedule = shipped()
    generator = torch.Generator().manual_seed(1)  # not the starts that are judged
    x_T = sample.start(STARTS, (1, 28, 28), generator=generator)
    exact = sample.final(dpm_solver(denoise, schedule, x_T, steps=EXACT))

    def away(tau: Tensor) -> float:
        x = sample.final(dpm_solver(denoise, schedule, x_T, steps=tau))
        return 127.5 * float((x - exact).square().mean().sqrt())

    tau = karras_tau(schedule, calls, **CHOSEN)
    first = least = away(tau)
    for trial in range(TRIALS):
        place = int(torch.randint(1, calls + 1, (), generator=generator))
        reach = 0.5 * (1 - trial / TRIALS)  # of the way to a neighbour
        moved = tau.double()
        low, high = moved[place - 1], moved[place + 1] if place < calls else moved[-1] + 8
        shift = 2 * float(torch.rand((), generator=generator)) - 1
        moved[place] += reach * shift * (high - low)
        moved = moved.round().long().clamp(max=schedule.T)
        if bool((moved.diff() >= 1).all()) and (distance := away(moved)) < least:
            tau, least = moved, distance
    about = {"tau": tau.tolist(), "before": first, "away": least}
    keep(RESULTS, key, about | {"fingerprint": fingerprint(WEIGHTS)})
    print(key, tau.tolist(), f"{first:.2f} -> {least:.2f} grey levels", flush=True)


def sweep() -> None:
    """Distances of 2,000 samples of each solver, placement and number of calls."""
    denoise, schedule = shipped()
    noise = sample.start(FEW, (1, 28, 28), generator=torch.Generator().manual_seed(0))
    found = [
        (f"orders/{solver}/{place}/{calls}", solver, karras_tau(schedule, calls, **options))
        for solver in SOLVERS
        for place, options in ROOTS.items()
        for calls in CALLS
    ]
    for calls in SEARCHED:
        if done(RESULTS, searched := f"orders/steps/{calls}", WEIGHTS):
            tau = torch.tensor(load()[searched]["tau"])
            found.append((f"orders/dpm++/searched/{calls}", "dpm++", tau))
    for key, solver, tau in found:
        if done(RESULTS, key, WEIGHTS):
            continue
        walks = (SOLVERS[solver](denoise, schedule, x_T, steps=tau) for x_T in noise.split(250))
        report = evaluate.report(torch.cat([data.to_pixels(sample.final(walk)) for walk in walks]))
        keep(RESULTS, key, {"calls": len(tau) - 1, "fingerprint": fingerprint(WEIGHTS)} | report)
        second = report["second"]["feature_distance"]
        print(f"{key}: {report['feature_distance']:.2f} and {second:.3f}", flush=True)


def order() -> dict[str, tuple[list[float], list[float]]]:
    """Of each solver the largest error at the end of paths of a Gaussian, with more and more steps,
    and the order that each doubling of the steps says.
    """
    found: dict[str, tuple[list[float], list[float]]] = {}
    schedule, mean, std = cosine(4000), 0.4, 0.3
    x_T = torch.linspace(-2, 2, 41, dtype=torch.float64)[:, None]

    def knows(x: Tensor, t: Tensor) -> Tensor:
        alpha_bar = schedule.alpha_bar[t][:, None]
        gain = alpha_bar.sqrt() * std**2 / (alpha_bar * std**2 + 1 - alpha_bar)
        return mean + gain * (x - alpha_bar.sqrt() * mean)

    for name, solver in SOLVERS.items():
        errors = []
        for S in (20, 40, 80):
            tau = karras_tau(schedule, S, **CHOSEN)
            ab = float(schedule.alpha_bar[tau[-1]])
            exact = mean + std * (x_T - ab**0.5 * mean) / (ab * std**2 + 1 - ab) ** 0.5
            errors.append(
                float((sample.final(solver(knows, schedule, x_T, steps=tau)) - exact).abs().max())
            )
        orders = [math.log2(errors[k] / errors[k + 1]) for k in range(2)]
        found[name] = errors, orders
    return found


if __name__ == "__main__":
    if sys.argv[1:] == ["search"]:
        for number in SEARCHED:
            search(number)
    elif sys.argv[1:] == ["sweep"]:
        sweep()
    elif sys.argv[1:] == ["order"]:
        for solver, (errors, orders) in order().items():
            print(solver, [f"{e:.1e}" for e in errors], "order", [f"{one:.1f}" for one in orders])
    elif sys.argv[1:] == ["publish"]:
        publish(RESULTS)
    else:
        sys.exit(__doc__)
