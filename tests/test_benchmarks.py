"""The benchmarks: contestants do what they say, and the page says what was measured."""

import ast
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import benchmarks as pages
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from torch.testing import assert_close

from tutorial_lib import checkpoint, data, diffusion
from tutorial_lib.data import Images

sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))
import ablation
import common
import compare
import contestants
import cost
import evaluations


@pytest.fixture(scope="module")
def images() -> Images:
    """As many as one batch needs."""
    embedded = data.load("embedded", "train")
    return Images(embedded.pixels[:128], embedded.labels[:128], "128 images")


def test_page_is_current():
    found = pages.results()
    shown = pages.PAGE.read_text(encoding="utf-8")
    assert shown == pages.page(found), "run: python tools/benchmarks.py"


def test_readme_says_what_was_measured():
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    found, (_, metrics) = pages.results(), checkpoint.load("fashion_mnist")
    soon = dict(pages.curve(found, pages.OURS))[5]["feature_distance"]
    rivals = [name for name in pages.names(found, "quality") if name != pages.OURS]
    others = [pages.curve(found, name)[-1] for name in rivals]
    best = min(value["feature_distance"] for _, value in others)
    assert {minutes for minutes, _ in others} == {20}
    assert f"samples lie at a Frechet distance of {soon:.1f} from real images" in readme
    assert f"comes to {best:.1f} after twenty minutes" in readme
    low, high = metrics["metrics"]["interval"]
    shipped = metrics["metrics"]["feature_distance"]
    assert f"Frechet distance of {shipped:.2f} (95 %: {low:.2f} to {high:.2f})" in readme


def test_page_of_a_run_that_was_interrupted_says_what_is_missing():
    found = {"machine": "a machine", "speed/ours/0": {"images_per_second": 3.0}}
    text = pages.page(found)
    assert "<!-- begin machine -->\na machine\n<!-- end machine -->" in text
    assert "<!-- begin speed -->\n(not measured yet)\n<!-- end speed -->" in text


JUDGED = {
    "feature_distance": 1.5, "interval": [1.4, 1.75], "floor": 0.2,
    "second": {"feature_distance": 0.125, "interval": [0.1, 0.15], "floor": 0.01},
}  # fmt: skip
MADE_UP = {  # of what is measured row by row
    "orders/steps/6": {"tau": [0, 500, 1000], "before": 3.0, "away": 2.0},
    "orders/dpm++/chosen/6": {"calls": 6} | JUDGED,
    "orders/unipc/chosen/6": {"calls": 6} | JUDGED | {"feature_distance": 1.25},
    "orders/unipc/chosen/10": {"calls": 10} | JUDGED,
    "orders/dpm++/searched/6": {"calls": 6} | JUDGED,
    "evaluations/distilled/1": {"calls": 1} | JUDGED,
    "evaluations/fashion_mnist, ddpm/1000": {"calls": 1000} | JUDGED,
    "evaluations/fashion_mnist, ddpm/25": {"calls": 25} | JUDGED,
    "evaluations time/distilled/1": {"seconds_for_64": 0.05, "machine": "a machine"},
}


def test_page_of_everything_misses_nothing():
    assert {name.split("/")[0] for name in pages.results()} == pages.KINDS
    assert "(not measured yet)" not in pages.PAGE.read_text("utf-8")
    assert "(not measured yet)" in pages.page({})
    assert {*common.BY_ROW} == {name.split("/")[0] for name in MADE_UP} | {"placement"}


def test_rows_of_evaluations_and_of_orders():
    shown = pages.evaluations(MADE_UP).splitlines()
    assert shown[2] == "| fashion_mnist, ddpm | 25 |  | 1.50 | 1.40 to 1.75 | 0.125 |"
    assert shown[3].startswith("| fashion_mnist, ddpm | 1,000 |")
    assert shown[4] == "| distilled | 1 | 0.05 | 1.50 | 1.40 to 1.75 | 0.125 |"
    assert "Seconds measured on: a machine." in shown
    assert pages.orders(MADE_UP).splitlines()[2:] == [
        "| dpm++ chosen | 1.50 / 0.12 |  |",
        "| dpm++ searched | 1.50 / 0.12 |  |",
        "| unipc chosen | 1.25 / 0.12 | 1.50 / 0.12 |",
    ]
    assert list(pages.LOOKS) and set(pages.LOOKS) == set(evaluations.WAYS)


def test_a_table_says_what_drew_its_samples():
    """Results of before are those by DDIM's even steps, and say nothing themselves."""
    row = JUDGED | {"steps": 300}
    found = {"ablation quality/the recipe": row}
    assert f"Samples drawn by: {pages.EARLIER}." in pages.ablation_quality(found)
    found["ablation quality/the recipe"] = row | {"sampler": common.DRAWN}
    assert f"Samples drawn by: {common.DRAWN}." in pages.ablation_quality(found)
    found["ablation quality/one less"] = row
    shown = pages.ablation_quality(found)
    assert f"Samples drawn by: † {pages.EARLIER}; ‡ {common.DRAWN}. Only rows" in shown
    assert "| the recipe ‡ |" in shown and "| one less † |" in shown
    _, axes = pages.plt.subplots()
    pages._bars(found, axes)
    assert {one.get_text() for one in axes.get_yticklabels()} == {"the recipe ‡", "one less †"}
    pages.plt.close("all")


def test_distances_by_two_samplers_are_not_compared():
    other = {"sampler": common.DRAWN}
    found = pages.results()
    for key, value in found.items():
        found[key] = value | other if key == "quality/ours/5" else value
    assert "| ours ‡ | 5 |" in pages.quality(found) and "| ours † | 20 |" in pages.quality(found)
    assert "distance after 20 min, ours" in pages.summary(pages.results())
    assert "distance after" not in pages.summary(found)
    _, axes = pages.plt.subplots()
    pages._lines(found, axes)
    assert [one.get_text() for one in axes.texts].count(" ‡") == 1
    pages.plt.close("all")


def test_the_page_shows_what_the_weights_with_labels_and_the_student_hold():
    (_, about), (_, student) = checkpoint.load("labelled"), checkpoint.load("distilled")
    rows = pages.labelled({}).splitlines()[2:]
    for row, (w, value) in zip(rows, about["metrics"]["by_w"].items(), strict=False):
        assert row.startswith(f"| guidance {w} | {value['feature_distance']:.2f} |")
    assert f"at most {about['metrics']['bits_per_dimension']['bpd']:.2f} bits" in rows[-1]
    rows = pages.distilled({}).splitlines()[2:]
    calls = [str(calls) for calls in student["evaluations"]]
    assert [row.split(" | ")[0] for row in rows] == [f"| {number}" for number in calls]
    for row, number in zip(rows, calls, strict=True):
        assert f"| {student['metrics'][number]['second']['feature_distance']:.3f} |" in row


def test_the_page_shows_what_an_image_costs_by_each_way_of_counting():
    rows = pages.likelihoods({}).splitlines()[2:]
    assert len(rows) == 2 + 6 + 4 + 1
    figures = checkpoint.load("fashion_mnist_variance")[1]["metrics"]["bits"]["learned, 1000"]
    price = f"{figures['bpd']:.3f} ± {figures['error']:.3f}"
    way = "fashion_mnist_variance | 1,000 steps, variance learned"
    assert f"| {way} | 2,000 | {price} |" in rows[3]
    bits = checkpoint.load("fashion_mnist_bits")[1]["metrics"]["bits_per_dimension"]
    nats = bits["bpd"] * 543.427  # of 784 dimensions
    assert rows[-1].endswith(f"| {nats:,.0f} |") and "| 10,000 |" in rows[-1]


def test_a_measurement_is_asked_for_by_name():
    found = {"speed/ours/0": {"rate": 1.0}}
    assert pages.measured(found, "speed/ours/0") == {"rate": 1.0}
    with pytest.raises(pages.NotMeasured, match="calls/ours"):
        pages.measured(found, "calls/ours")
    with pytest.raises(pages.NotMeasured, match="speed/b: other"):
        pages.median(found, "speed", "b: other", "rate")
    with pytest.raises(KeyError, match="nothing measures 'sped'"):
        pages.measured(found, "sped/ours/0")


def keys_in(tree: ast.Module) -> Iterator[ast.Constant]:
    """What the page's code looks up: every key between brackets, and the kind of every measurement
    that it asks for.
    """
    asking = (pages.measured, pages.of_kind, pages.names, pages.rounds, pages.median)
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript):
            yield from [node.slice] if isinstance(node.slice, ast.Constant) else []
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {f.__name__ for f in asking}:
            named = node.args[1]
            named = named.values[0] if isinstance(named, ast.JoinedStr) else named
            yield from [named] if isinstance(named, ast.Constant) else []


SOURCE = Path(pages.__file__).read_text(encoding="utf-8")
KEYS = [node.value for node in keys_in(ast.parse(SOURCE)) if isinstance(node.value, str)]


@pytest.fixture(scope="module")
def records():
    """What the weights on the page hold besides tensors."""
    return {name: checkpoint.load(name)[1] for name in ("fashion_mnist", "labelled", "distilled")}


@pytest.mark.parametrize("number", range(len(KEYS)), ids=lambda i: f"{i}-{KEYS[i]}")
def test_a_misspelt_key_is_an_error(number, records, tmp_path, monkeypatch):
    """And never "(not measured yet)": each one in turn loses its first letter."""
    assert len(KEYS) > 40
    monkeypatch.setattr(checkpoint, "load", lambda name: ({}, records[name]))
    monkeypatch.setattr(plt.Figure, "savefig", lambda *_, **__: None)  # slow, and not the matter
    found = MADE_UP | pages.results()
    tree = ast.parse(SOURCE)
    key = [node for node in keys_in(tree) if isinstance(node.value, str)][number]
    key.value = key.value[1:]
    module = {"__name__": "misspelt", "__file__": pages.__file__}
    exec(compile(tree, "misspelt", "exec"), module)
    with pytest.raises(KeyError):
        module["page"](found)
        module["draw"](found, tmp_path)


def test_page_has_a_place_for_every_table():
    text = pages.PAGE.read_text(encoding="utf-8")
    for name in pages.BLOCKS:
        assert text.count(f"<!-- begin {name} -->\n") == text.count(f"\n<!-- end {name} -->") == 1


def test_tables_and_medians():
    found = {f"speed/ours/{i}": {"rate": rate} for i, rate in enumerate((3.0, 1.0, 2.0))}
    found |= {f"speed/b: other/{i}": {"rate": rate} for i, rate in enumerate((4.0, 6.0))}
    assert pages.names(found, "speed") == ["ours", "b: other"]
    assert pages.median(found, "speed", "ours", "rate") == 2.0
    assert pages.median(found, "speed", "b: other", "rate") == 5.0
    assert pages.table(["", "x"], [["a", "1"]]) == "|  | x |\n|---|--:|\n| a | 1 |"


def test_pictures_are_drawn_of_what_was_measured(tmp_path):
    value = {"feature_distance": 3.0, "interval": [2.5, 3.75], "floor": 0.2, "steps": 300}
    found = {
        "machine": "a machine",
        "ablation quality/the recipe": value,
        "ablation quality/one less": value,
    }
    pages.draw(found, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["ablation.png"]
    pages.draw(found | {f"quality/{name}/5": value for name in contestants.CONTESTANTS}, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ablation.png", "quality.png"]
    pages.draw(MADE_UP, tmp_path)
    width, height = Image.open(tmp_path / "evaluations.png").size
    assert width > 2 * height  # two panels
    assert "| one less | 300 | 3.0 | 2.5 to 3.8 |" in pages.ablation_quality(found)
    bits = value | {"bpd": 3.5, "error": 0.02}
    turns = {
        "longer/one less/1": bits,
        "longer/one less/0": bits | {"steps": 301},
        "longer/the recipe/1": bits,
    }
    rows = pages.longer(turns).splitlines()[2:]
    assert rows[0] == "| one less | 301 | 3.0 | 2.5 to 3.8 | 3.50 ± 0.04 |"
    assert rows[1].startswith("| the recipe | 300 |") and rows[2].startswith("| one less | 300 |")


@pytest.mark.parametrize("name", ["ours", "b: diffusers", "c: annotated recipe"])
def test_contestants_train_and_sample(name, images):
    """One step changes the weights; samples follow them, are images, and the same each time."""
    contestant = contestants.CONTESTANTS[name](images, batch=16)
    before = [p.detach().clone() for p in contestant.network.parameters()]
    next(contestant.steps)
    next(contestant.steps)
    pairs = zip(before, contestant.network.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)
    contestant.refresh()
    contestant.sampled.eval()
    law = (contestant.predict, contestant.schedule, contestant.target)
    draw = partial(common.drawn, *law, 2, steps=2)
    with torch.no_grad():
        pixels, again = draw(), draw()
    assert pixels.shape == (2, 1, 28, 28) and pixels.dtype == torch.uint8
    assert torch.equal(pixels, again)


@pytest.fixture
def small_run(images, tmp_path, monkeypatch):
    """A folder of its own, 128 images, and few samples."""
    monkeypatch.setattr(compare, "FOLDER", tmp_path)
    monkeypatch.setattr(compare, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(compare, "COUNT", 4)
    monkeypatch.setattr(compare, "NATIVE", 128)
    monkeypatch.setattr(compare.data, "load", lambda source, split: images)
    return tmp_path


def test_train_then_judge_then_sample(small_run, monkeypatch):
    """All that runs in processes of its own, on the recipe, with a sampler cut short."""
    name = "c: annotated recipe"
    make = partial(contestants.CONTESTANTS[name], batch=8)
    monkeypatch.setitem(compare.CONTESTANTS, name, make)
    trained = compare.train(name, "1")
    assert trained["steps"] >= 1 and trained["seconds"] >= 1
    assert [path.name for path in small_run.iterdir()] == ["c_1.safetensors"]
    first, second = make(compare.data.load("", "")), compare._restored(name, "1")
    pairs = zip(first.network.parameters(), second.network.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)

    x, t = torch.randn(2, 1, 28, 28), torch.tensor([1, 300])
    unhurried = compare._unhurried(name, "1")
    kernels = [weights for weights in unhurried.sampled.parameters() if weights.ndim == 4]
    assert all(weights.is_contiguous(memory_format=torch.channels_last) for weights in kernels)
    with torch.no_grad():
        assert_close(unhurried.predict(x, t), second.predict(x, t), atol=1e-5, rtol=1e-5)

    def shortened(*arguments):
        contestant = make(*arguments)
        contestant.native = lambda count, seed: torch.zeros(count, 1, 28, 28, dtype=torch.uint8)
        return contestant

    def report(pixels):
        return {"count": len(pixels), "class_shares": {}}

    monkeypatch.setitem(compare.CONTESTANTS, name, shortened)
    monkeypatch.setattr(compare.evaluate, "report", report)
    assert compare.judge(name, "1")["count"] == 4
    assert compare.native_time(name, "1")["seconds_for_64"] >= 0
    samples, _ = checkpoint.load(small_run / "c_1_samples.safetensors")
    assert [len(part) for part in samples.values()] == [64]
    assert compare.native(name, "1")["count"] == 128
    once = partial(common.median_seconds, repeat=1, uncounted=0)
    monkeypatch.setattr(compare, "median_seconds", lambda action, *_, **__: once(action))
    calls = compare.call_speed(name)
    assert calls["seconds_for_64"] == 300 * calls["seconds_a_call"]


def test_a_decaying_rate_leaves_weights_at_its_end_alone(small_run, monkeypatch):
    """Or else a run of 20 minutes would overwrite those of 5 with others that are only half way."""
    make = contestants.CONTESTANTS["b: diffusers"]

    def quick(images, seconds=0.0):
        contestant = make(images, seconds)
        contestant.steps = iter(range(3))
        return contestant

    monkeypatch.setitem(compare.CONTESTANTS, "b: diffusers", quick)
    monkeypatch.setattr(compare, "MINUTES", (0, 20))
    compare.train("b: diffusers", "1200")
    assert [path.name for path in small_run.iterdir()] == ["b_1200.safetensors"]


def test_results_of_another_machine_are_not_mixed_with_ours(small_run, monkeypatch):
    compare.save({"machine": "another", "cost": {}})
    assert compare.load() == {"machine": common.machine()}
    compare.save({"machine": common.machine(), "cost": {"a": 1}})
    assert compare.load()["cost"] == {"a": 1}
    monkeypatch.setattr(compare, "process", None)  # what is there is not measured again
    compare.measure("cost", "cost.py")


def test_what_no_clock_decides_runs_side_by_side(small_run, monkeypatch):
    """Two at a time, a thread each, and no result lost when two are saved at once."""
    running, most = set(), []

    def process(*command, threads):
        running.add(command)
        most.append(len(running))
        time.sleep(0.01)
        running.discard(command)
        return {"threads": threads}

    monkeypatch.setattr(compare, "process", process)
    monkeypatch.setattr(compare.torch, "get_num_threads", lambda: 2)
    compare.side_by_side([(f"quality/{i}", "compare.py", str(i)) for i in range(20)])
    found = compare.load()
    assert [found[f"quality/{i}"] for i in range(20)] == [{"threads": 1}] * 20
    assert max(most) == 2


def test_a_process_computes_with_the_threads_it_is_given(monkeypatch):
    seen = []

    def run(*_, env, **__):
        seen.append(env.get("OMP_NUM_THREADS"))
        return SimpleNamespace(stdout="chatter\n[1]\n")

    monkeypatch.setattr(common.subprocess, "run", run)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert common.process("cost.py") == common.process("cost.py", threads=1) == [1]
    assert seen == ["7", "1"]


def test_more_measures_each_ingredient(monkeypatch):
    measured = []
    monkeypatch.setattr(compare, "full", lambda: measured.append("full"))
    monkeypatch.setattr(compare, "measure", lambda key, *command: measured.append((key, *command)))
    compare.more()
    assert measured[:2] == ["full", ("compiled", "ablation.py", "compiled")]
    ingredients = [(f"ablation quality/{n}", "ablation.py", "quality", n) for n in ablation.QUALITY]
    assert measured[2:-4] == ingredients
    name = "all steps alike (uniform t)"
    assert measured[-1] == (f"longer/{name}/1", "ablation.py", "quality", name, "300", "1")


def test_summary_says_how_soon_ours_is_better():
    value = {"feature_distance": 6.0, "interval": [5.5, 6.5], "floor": 0.2, "count": 2000}
    found = {f"speed/{name}/0": {"images_per_second": 100.0} for name in ("ours", "b: other")}
    found |= {"quality/ours/5": value, "quality/b: other/20": value | {"feature_distance": 6.75}}
    said = "| minutes of ours until better than b: other after 20, intervals apart |"
    assert f"{said} not reached |" in pages.summary(found)
    found["quality/ours/7"] = value | {"interval": [4.0, 5.4]}
    assert f"{said} 7 |" in pages.summary(found)


def test_images_decoded_from_png_are_the_images(images):
    batch = next(contestants._decoded(images, 128))
    plain = data.to_model(images.pixels)
    known = {tuple(image.flatten().tolist()) for image in torch.cat([plain, plain.flip(-1)])}
    assert all(tuple(image.flatten().tolist()) in known for image in batch)


def test_diffusers_counts_steps_from_0(images):
    """Its noising at its step t - 1 is ours at t, so `predict` may shift by one."""
    from diffusers import DDPMScheduler

    contestant = contestants.diffusers(images)
    x_0 = data.to_model(images.pixels[:4])
    eps = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([1, 2, 500, 1000])
    theirs = DDPMScheduler(1000).add_noise(x_0, eps, t - 1)
    assert_close(theirs, diffusion.q_sample(contestant.schedule, x_0, t, eps), rtol=0, atol=1e-5)


@pytest.mark.skipif(not contestants.PEERS.exists(), reason="`make bench` installs it")
def test_denoising_diffusion_pytorch_counts_steps_from_0_and_its_v_is_ours(images):
    contestant = contestants.denoising_diffusion(images)
    x_0 = data.to_model(images.pixels[:4])
    eps = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([1, 2, 500, 1000])
    diffusion_object = contestant.sampled
    theirs = diffusion_object.q_sample(x_0, t - 1, eps)
    assert_close(theirs, diffusion.q_sample(contestant.schedule, x_0, t, eps), rtol=0, atol=1e-5)
    v = diffusion_object.predict_v(x_0, t - 1, eps)
    assert_close(v, diffusion.target_from(contestant.schedule, "v", x_0, eps, t), rtol=0, atol=1e-5)


def test_a_slow_minute_of_the_machine_does_not_count(monkeypatch):
    """Each round's machine has its own speed; what counts are ratios, in the median's seconds."""
    calls = []

    def took(script, what, name):
        calls.append(name)
        machine = (1.0, 5.0, 2.0)[(len(calls) - 1) // len(ablation.SPEED)]
        return machine * (1.0 if name == ablation.RECIPE else 3.0)

    monkeypatch.setattr(ablation, "process", took)
    expected = {name: 2.0 if name == ablation.RECIPE else 6.0 for name in ablation.SPEED}
    assert ablation.speed() == expected
    assert calls == [*ablation.SPEED] * 3


def test_fused_attention_of_the_ablation_is_the_same_attention():
    torch.manual_seed(0)
    plain = ablation.blocks.Attention(16, heads=4, groups=4)
    torch.nn.init.normal_(plain.out.weight)
    x = torch.randn(2, 16, 3, 5)
    expected = plain(x)
    plain.__class__ = ablation._Fused
    assert_close(plain(x), expected, rtol=1e-4, atol=1e-5)


def test_fitted_rates_explain_times_made_from_two_rates():
    generator = np.random.default_rng(0)
    costs = [cost.Cost("", 0, flops, size) for flops, size in generator.uniform(1e8, 1e9, (6, 2))]
    for c in costs:
        c.seconds = c.flops / 4e11 + c.bytes / 2e10
    per_flop, per_byte = cost.fit(costs)
    np.testing.assert_allclose([1 / per_flop, 1 / per_byte], [4e11, 2e10], rtol=1e-6)


def test_a_network_left_out_of_the_fit_is_predicted_by_the_others():
    sizes = ((1e9, 1e7), (2e9, 5e7), (3e9, 2e7))
    costs = [cost.Cost("", 0, f, b, f / 4e11 + b / 2e10) for f, b in sizes]
    assert cost.held_out(costs) < 1e-6
    costs[0].seconds *= 2
    assert cost.held_out(costs) > 0.3


def test_operations_of_a_convolution_are_counted():
    """28 x 28 places, 9 weights, an addition and a multiplication each; three times for a step."""
    model = torch.nn.Module()
    model.layer = torch.nn.Conv2d(1, 2, 3, padding=1, bias=False)
    model.forward = lambda x, t: model.layer(x)
    counted = cost.cost("one layer", model, 28)
    assert counted.flops == 3 * 2 * 28 * 28 * 9 * 2
    assert counted.parameters == 18
