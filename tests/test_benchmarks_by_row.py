"""Programs that measure row by row: evaluations, orders; they go on where they were interrupted."""

import json
import math
import sys

import pytest
import torch
from conftest import ROOT, best
from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler
from torch.testing import assert_close

from tutorial_lib.denoise import denoiser
from tutorial_lib.sample import final
from tutorial_lib.schedule import cosine, even_tau, linear

sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))
import common
import evaluations
import orders

MEAN, STD = 0.4, 0.3


def knowing(schedule, target: str = "x_0", clip: bool = False):
    """E[x_0 | x_t] of data N(MEAN, STD^2), in closed form."""
    return denoiser(best(schedule, target, MEAN, STD), schedule, target=target, clip=clip)


def report(pixels):
    """A judge that looks at nothing."""
    return {"count": len(pixels), "feature_distance": 1.0, "second": {"feature_distance": 0.1}}


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A file of results that ship, which may be written."""
    path = tmp_path / "published.json"
    path.write_text(json.dumps({"orders/x/6": {"calls": 6}, "machine": "a machine"}))
    monkeypatch.setattr(common, "PUBLISHED", path)
    return path


def test_results_are_kept_one_by_one_and_then_ship(published, tmp_path):
    results = tmp_path / "new" / "results.json"
    assert common.kept(results, "orders") == {"orders/x/6": {"calls": 6}}
    common.keep(results, "orders/x/6", {"calls": 7})
    common.keep(results, "orders time/x", {})
    assert common.kept(results, "orders") == {"orders/x/6": {"calls": 7}}
    assert json.loads(results.read_text()).keys() == {"orders/x/6", "orders time/x"}
    common.publish(results)
    every = json.loads(published.read_text())
    assert every == {"machine": "a machine", "orders/x/6": {"calls": 7}, "orders time/x": {}}


def test_a_row_of_other_weights_is_not_done(published, tmp_path):
    results, weights = tmp_path / "results.json", ["distilled", "fashion_mnist"]
    first, second = map(common.fingerprint, weights)
    assert first != second and first == common.fingerprint.__wrapped__("distilled")
    assert not common.done(results, "orders/x/6", "distilled")
    common.keep(results, "orders/x/6", {"fingerprint": first})
    assert [common.done(results, "orders/x/6", name) for name in weights] == [True, False]


def test_what_ships_was_measured_with_the_weights_that_ship():
    """Otherwise: sweep once more, and publish."""
    rows = common.kept(ROOT / "none.json", "placement", "orders", "evaluations")
    stale = []
    for key in rows:
        kind, name, *_ = key.split("/")
        weights = evaluations.WAYS[name].weights if kind == "evaluations" else orders.WEIGHTS
        if not common.done(ROOT / "none.json", key, weights):
            stale.append(key)
    assert len(rows) > 40 and stale == []


# --- evaluations


@pytest.mark.parametrize("name", evaluations.WAYS)
def test_each_way_asks_the_network_as_often_as_it_says(name, monkeypatch):
    way, schedule, asked = evaluations.WAYS[name], cosine(1000), []
    knows, takes_labels = knowing(schedule), way.weights != "fashion_mnist"

    def denoise(x_t, t, y=None):
        assert (y is not None) == takes_labels
        asked.append(len(x_t))
        return knows(x_t, t)

    monkeypatch.setattr(evaluations, "_restored", lambda _: (denoise, schedule, takes_labels))
    for steps in way.steps[:3]:
        asked.clear()
        pixels = evaluations.drawn(way, steps, 2)
        assert pixels.shape == (2, 1, 28, 28) and pixels.dtype == torch.uint8
        assert sum(asked) == 2 * way.calls(steps)
        assert torch.equal(pixels, evaluations.drawn(way, steps, 2))


@pytest.mark.parametrize("weights", ["fashion_mnist", "labelled", "distilled"])
def test_shipped_weights_draw_garments(weights):
    way = next(way for way in evaluations.WAYS.values() if way.weights == weights)
    way = evaluations.Way(weights, "multistep" if weights == "distilled" else "dpm++", w=way.w)
    pixels = evaluations.drawn(way, 4, 3).float()
    corners = pixels[:, :, [0, 0, -1, -1], [0, -1, 0, -1]].mean()
    assert corners < 60 < pixels.mean() + 40  # dark corners, something in the middle


@pytest.fixture
def quick(published, tmp_path, monkeypatch):
    """Two rows whose pictures cost nothing."""
    monkeypatch.setattr(evaluations, "RESULTS", tmp_path / "evaluations.json")
    monkeypatch.setattr(evaluations, "ROWS", [("distilled", 1), ("fashion_mnist, heun", 3)])
    black = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    monkeypatch.setattr(evaluations, "drawn", lambda way, steps, count: black[:count])


def test_a_sweep_goes_on_where_it_was_interrupted(quick, monkeypatch):
    judged = []

    def once(pixels):
        if len(judged) == 1:
            judged.append("interrupted")
            raise KeyboardInterrupt
        judged.append("judged")
        return report(pixels)

    monkeypatch.setattr(evaluations.evaluate, "report", once)
    with pytest.raises(KeyboardInterrupt):
        evaluations.sweep(2)
    evaluations.sweep(2)
    evaluations.sweep(2)
    assert judged == ["judged", "interrupted", "judged"]
    found = common.kept(evaluations.RESULTS, "evaluations")
    about = {"calls": 1, "steps": 1, "fingerprint": common.fingerprint("distilled")}
    assert found["evaluations/distilled/1"] == about | report([0, 0])
    about = {"calls": 5, "steps": 3, "fingerprint": common.fingerprint("fashion_mnist")}
    assert found["evaluations/fashion_mnist, heun/5"] == about | report([0, 0])


def test_the_clock_times_every_judged_row_anew(quick, monkeypatch):
    key = "evaluations time/distilled/1"
    common.keep(evaluations.RESULTS, key, {"seconds_for_64": -1.0, "machine": "another"})
    evaluations.sweep(2)
    monkeypatch.setattr(evaluations, "ROWS", [*evaluations.ROWS, ("distilled", 2)])  # not judged
    evaluations.clock(1)
    found = common.kept(evaluations.RESULTS, "evaluations time")
    assert found.keys() == {key, "evaluations time/fashion_mnist, heun/5"}
    assert {value["machine"] for value in found.values()} == {common.machine()}
    assert all(value["seconds_for_64"] >= 0 for value in found.values())


def test_what_was_never_measured_is_not_published(published, tmp_path):
    with pytest.raises(SystemExit, match="nothing to publish"):
        common.publish(tmp_path / "none.json")


# --- orders


def their_walk(theirs, tau, network, x):
    """diffusers' loop over the same steps, which it counts from 0, at double precision."""
    theirs.set_timesteps(len(tau) - 1)
    assert_close(theirs.timesteps, tau[1:].flip(0) - 1)
    for t in theirs.timesteps:
        x = theirs.step(network(x, t.expand(len(x)) + 1), t, x).prev_sample
    return x


@pytest.mark.parametrize("S", [5, 10, 14])
@pytest.mark.parametrize("name", ["dpm++3", "unipc"])
def test_candidates_against_diffusers(name, S):
    """From 15 steps on, theirs takes the last step but one by the third order; ours never does."""
    schedule, tau = linear(1000), even_tau(1000, S)
    x_T = torch.randn(4, 1, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    common_to_both = {
        "num_train_timesteps": 1000,
        "trained_betas": schedule.beta[1:].numpy(),
        "timestep_spacing": "trailing",
        "final_sigmas_type": "zero",
        "lower_order_final": True,
    }
    theirs = (
        DPMSolverMultistepScheduler(**common_to_both, solver_order=3)
        if name == "dpm++3"
        else UniPCMultistepScheduler(**common_to_both, solver_order=2, solver_type="bh2")
    )
    x = their_walk(theirs, tau, best(schedule, "eps", MEAN, STD), x_T)
    ours = final(orders.SOLVERS[name](knowing(schedule, "eps"), schedule, x_T, steps=tau))
    assert_close(ours, x, rtol=0, atol=1e-4)


def test_a_third_order_is_one():
    found = orders.order()
    assert found.keys() == orders.SOLVERS.keys()
    assert 1.7 < found["dpm++"][1][-1] < 2.3 and found["dpm++3"][1][-1] > 2.5
    assert all(math.isfinite(error) for errors, _ in found.values() for error in errors)


@pytest.fixture
def gaussian(published, tmp_path, monkeypatch):
    """All of `orders` for a denoiser that knows, in a folder of its own, with few of everything."""
    schedule = cosine(1000)
    monkeypatch.setattr(orders, "RESULTS", tmp_path / "orders.json")
    monkeypatch.setattr(orders, "shipped", lambda: (knowing(schedule), schedule))
    for name, few in (("FEW", 2), ("STARTS", 2), ("EXACT", 60), ("TRIALS", 30)):
        monkeypatch.setattr(orders, name, few)
    monkeypatch.setattr(orders, "CALLS", (6,))
    monkeypatch.setattr(orders, "SEARCHED", (6,))


def test_a_search_brings_the_ends_nearer_and_is_not_repeated(gaussian, monkeypatch):
    orders.search(6)
    stored = orders.load()["orders/steps/6"]
    assert stored["away"] < stored["before"]
    tau = torch.tensor(stored["tau"])
    assert len(tau) == 7 and tau[0] == 0 and (tau.diff() > 0).all() and tau[-1] <= 1000
    monkeypatch.setattr(orders, "shipped", None)
    orders.search(6)


def test_every_candidate_is_swept_once(gaussian, monkeypatch):
    judged = []
    monkeypatch.setattr(orders.evaluate, "report", lambda p: judged.append(len(p)) or report(p))
    orders.sweep()
    places = len(orders.SOLVERS) * len(orders.ROOTS)
    assert judged == [2] * places
    common.keep(orders.RESULTS, "orders/steps/6", {"tau": [0, 1000], "fingerprint": "of others"})
    orders.sweep()  # what was searched for other weights is not judged
    assert judged == [2] * places
    orders.search(6)
    orders.sweep()
    assert judged == [2] * (places + 1)
    assert orders.load()["orders/dpm++/searched/6"]["calls"] == 6
