"""Fill the tables of docs/benchmarks.md and draw its pictures.

The figures come from the results that `make bench` and its sisters store.

    python tools/benchmarks.py
        the page of the project
    python tools/benchmarks.py build/benchmarks/results.json
        the same page from your own results, in build/

The page's prose is written by hand.  What stands between `<!-- begin NAME -->` and
`<!-- end NAME -->` is written here, from `tutorial_lib/assets/benchmarks.json` and from the figures
that travel with the shipped weights.
"""

import json
import math
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from tutorial_lib import checkpoint, files
from tutorial_lib.beyond.variational import LOW
from tutorial_lib.course import plot

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
OURS = "ours"
KINDS = {  # what is measured: the first part of each name in the results
    "machine", "front door", "speed", "calls", "other precision", "training", "quality",
    "native time", "native", "ablation speed", "compiled", "ablation quality", "longer", "cost",
    "placement", "orders", "evaluations", "evaluations time",
}  # fmt: skip
EARLIER = "DDIM, 25 steps even in t"  # what drew the samples of results that do not say it
MARKS = "†‡§"  # behind a row's name, where not one sampler drew all samples of a table


class NotMeasured(Exception):
    """A table asks for a measurement that has not been made yet; says which."""


def results(path: Path = files.ASSETS / "benchmarks.json") -> dict:
    """Everything that was measured."""
    return json.loads(path.read_text())


def of_kind(found: dict, kind: str) -> dict:
    """What was measured of one kind, by what follows the kind in its name.

    "ours/5" of "quality/ours/5"; "" of "machine".
    Raises KeyError for a kind that nobody measures, which is a slip of this program.
    """
    if kind not in KINDS:
        raise KeyError(f"nothing measures {kind!r}; known: {', '.join(sorted(KINDS))}")
    parted = {name.partition("/"): value for name, value in found.items()}
    return {rest: value for (first, _, rest), value in parted.items() if first == kind}


def measured(found: dict, name: str):
    """The measurement of that name.  Raises NotMeasured where it is missing."""
    kind, _, rest = name.partition("/")
    values = of_kind(found, kind)
    if rest not in values:
        raise NotMeasured(name)
    return values[rest]


def names(found: dict, kind: str) -> list[str]:
    """What was measured of one kind: the names between its slashes, ours and the recipe first."""
    first = {rest.split("/")[0] for rest in of_kind(found, kind)}
    return sorted(first, key=lambda name: (name not in (OURS, "the recipe"), name))


def rounds(found: dict, kind: str, name: str, what: str) -> list[float]:
    """One figure of one contestant in every round, rising.  Raises NotMeasured without a round."""
    parts = [(rest.split("/")[0], value) for rest, value in of_kind(found, kind).items()]
    values = sorted(value[what] for owner, value in parts if owner == name)
    if not values:
        raise NotMeasured(f"{kind}/{name}")
    return values


def median(found: dict, kind: str, name: str, what: str) -> float:
    """The median over all rounds of one contestant."""
    return statistics.median(rounds(found, kind, name, what))


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; all columns but the first are numbers.

    Raises NotMeasured if there is nothing to show.
    """
    if not rows:
        raise NotMeasured(f"no rows for {head}")
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def front_door(found: dict) -> str:
    rows = []
    for name, value in measured(found, "front door").items():
        rows.append([name.strip(), f"{value:,}" if isinstance(value, int) else f"{value:,.3g}"])
    return table(["", ""], rows)


def speed(found: dict) -> str:
    rows = []
    ours = median(found, "speed", OURS, "images_per_second")
    for name in names(found, "speed"):
        rates = rounds(found, "speed", name, "images_per_second")
        rate = median(found, "speed", name, "images_per_second")
        calls = measured(found, f"calls/{name}")
        rows.append([
            name,
            f"{measured(found, f'speed/{name}/0')['parameters']:,}",
            f"{calls['GFLOP_an_image']:.2f}",
            f"{rates[0]:.0f} to {rates[-1]:.0f}",
            f"{rate / ours:.2f}",
            f"{median(found, 'speed', name, 'peak_MB'):,.0f}",
            f"{1000 * calls['seconds_a_call']:.0f}",
        ])  # fmt: skip
    head = [
        "", "parameters", "GFLOP an image and call", "training, images/s", "times ours",
        "peak memory, MB", "one call on 64 images, ms",
    ]  # fmt: skip
    return table(head, rows)


def precision(found: dict) -> str:
    """Images a second in both precisions, whatever a contestant's own is."""
    rows = []
    for name in names(found, "other precision"):
        own = median(found, "speed", name, "images_per_second")
        other = measured(found, f"other precision/{name}")["images_per_second"]
        float32, bfloat16 = (other, own) if name == OURS else (own, other)
        rows.append([name, f"{float32:.0f}", f"{bfloat16:.0f}"])
    return table(["images/s in training", "float32", "bfloat16, channels last"], rows)


def curve(found: dict, name: str) -> list[tuple[int, dict]]:
    """Minutes of training and the quality after them, of one contestant."""
    parts = [(*rest.split("/"), value) for rest, value in of_kind(found, "quality").items()]
    points = [(int(minutes), value) for owner, minutes, value in parts if owner == name]
    return sorted(points, key=lambda point: point[0])


def quality(found: dict) -> str:
    rows, trained = [], of_kind(found, "training")
    for name in names(found, "quality"):
        for minutes, value in curve(found, name):
            run = trained.get(f"{name}/{minutes}")  # a constant rate passes 5 minutes on its way
            steps = f"{run['steps']:,}" if run else ""
            distance = f"{value['feature_distance']:.1f}"
            marked = name + _mark(found, "quality", value)
            rows.append([marked, f"{minutes}", steps, distance, _interval(value)])
    head = [
        "", "minutes of training", "steps", f"distance (floor {_floor(found, 'quality'):.2f})",
        "95 % interval",
    ]  # fmt: skip
    picture = "![Lines of falling distance for each of the four](figures/quality.png)"
    return "\n\n".join([table(head, rows), _sampled(found, "quality"), picture])


def _sampled(found: dict, kind: str) -> str:
    """A line below a table: what drew the samples; of which rows, where that is not one sampler."""
    drew = _samplers(found, kind)
    if len(drew) == 1:
        return f"Samples drawn by: {drew[0]}."
    said = "; ".join(f"{mark} {sampler}" for mark, sampler in zip(MARKS, drew, strict=False))
    return f"Samples drawn by: {said}. Only rows with the same mark can be compared."


def _mark(found: dict, kind: str, value: dict) -> str:
    """What follows the name of a row: nothing where one sampler drew all samples of its table."""
    drew = _samplers(found, kind)
    return f" {MARKS[drew.index(_sampler(value))]}" if len(drew) > 1 else ""


def _samplers(found: dict, kind: str) -> list[str]:
    """What drew the samples of a kind, as the results say."""
    return sorted({_sampler(value) for value in of_kind(found, kind).values()})


def _sampler(value: dict) -> str:
    return value.get("sampler", EARLIER)


def _floor(found: dict, kind: str) -> float:
    """The distance of real images from real images, the same beside every distance of a kind."""
    return next((value["floor"] for value in of_kind(found, kind).values()), 0.0)


def _interval(value: dict, digits: int = 1) -> str:
    low, high = value["interval"]
    return f"{low:.{digits}f} to {high:.{digits}f}"


def native(found: dict) -> str:
    rows = []
    for name, minutes in sorted(
        (rest.split("/") for rest in of_kind(found, "native")),
        key=lambda run: (run[0] != OURS, run),
    ):
        value = measured(found, f"native/{name}/{minutes}")
        value = value | measured(found, f"native time/{name}/{minutes}")
        rows.append([
            name, minutes, value["native"], f"{value['seconds_for_64']:.2f}",
            f"{value['feature_distance']:.1f}", _interval(value),
        ])  # fmt: skip
    head = [
        "", "minutes of training", "its own sampler", "64 images, s",
        f"distance (floor {_floor(found, 'native'):.1f})", "95 % interval",
    ]  # fmt: skip
    return table(head, rows)


def summary(found: dict) -> str:
    """The figures that matter most, side by side."""
    ours = median(found, "speed", OURS, "images_per_second")
    others = [name for name in names(found, "speed") if name != OURS]
    rows = []
    for name in others:
        times = ours / median(found, "speed", name, "images_per_second")
        rows.append([f"training speed, as a multiple of {name}", f"{times:.1f}"])
    judged = others and all(curve(found, name) for name in others)
    if judged and len(_samplers(found, "quality")) == 1:
        rows += _soonest(found, {name: curve(found, name)[-1] for name in others})
    return table(["", ""], rows + _own_samplers(found))


def _soonest(found: dict, ends: dict[str, tuple[int, dict]]) -> list[list[str]]:
    """Our distances, the best of the others, and when ours are better than where each one ends."""
    mine = curve(found, OURS)
    rows = [[f"distance after {m} min, ours", f"{v['feature_distance']:.1f}"] for m, v in mine]
    best = min(ends, key=lambda name: ends[name][1]["feature_distance"])
    minutes, value = ends[best]
    said = f"distance after {minutes} min, the best of the others ({best})"
    rows.append([said, f"{value['feature_distance']:.1f}"])
    for name, (late, value) in ends.items():
        soon = (str(m) for m, v in mine if v["interval"][1] <= value["interval"][0])
        said = f"minutes of ours until better than {name} after {late}, intervals apart"
        rows.append([said, next(soon, "not reached")])
    return rows


def _own_samplers(found: dict) -> list[list[str]]:
    """How long each one's own sampler takes after 20 minutes of training, beside ours."""
    rows, took = [], of_kind(found, "native time")
    for name in names(found, "native time"):
        value, ours = took.get(f"{name}/20"), took.get(f"{OURS}/20")
        if value and ours:
            said = f"64 images, {name} by {value['native']}, s (times ours)"
            times = value["seconds_for_64"] / ours["seconds_for_64"]
            rows.append([said, f"{value['seconds_for_64']:.1f} ({times:.0f})"])
    return rows


def ablation_speed(found: dict) -> str:
    spent = measured(found, "ablation speed")
    first = sorted(spent.items(), key=lambda item: (item[0] != "the recipe", item[1]))
    rows = [
        [name, f"{seconds:.3f}", f"{seconds / spent['the recipe']:.2f}"] for name, seconds in first
    ]
    for value in of_kind(found, "compiled").values():
        name = f"torch.compile (after {value['first_step']:.0f} s of compiling)"
        faster = value["seconds_a_step"] / value["seconds_a_step_without"]
        rows.append([name, f"{faster * spent['the recipe']:.3f}", f"{faster:.2f}"])
    return table(["", "seconds a step", "times the recipe's"], rows)


def ablation_quality(found: dict) -> str:
    kind = "ablation quality"
    judged = {name: measured(found, f"{kind}/{name}") for name in names(found, kind)}
    rows = [[name + _mark(found, kind, value), *_taught(value)] for name, value in judged.items()]
    picture = "![A bar of distance for each row, with its interval](figures/ablation.png)"
    return "\n\n".join([table(["", *TAUGHT], rows), _sampled(found, kind), picture])


def longer(found: dict) -> str:
    """A row for each run, with what its network would pay for a test image."""
    rows = []
    runs = [(*rest.split("/"), value) for rest, value in of_kind(found, "longer").items()]
    for name, _, value in sorted(runs, key=lambda run: (run[1], "recipe" not in run[0])):
        bits = f"{value['bpd']:.2f} ± {2 * value['error']:.2f}"
        rows.append([name + _mark(found, "longer", value), *_taught(value), bits])
    filled = table(["", *TAUGHT, "bits per dimension"], rows)
    return filled + "\n\n" + _sampled(found, "longer")


TAUGHT = ("steps in that time", "distance", "95 % interval")


def _taught(value: dict) -> list[str]:
    return [f"{value['steps']:,}", f"{value['feature_distance']:.1f}", _interval(value)]


SWEPT, JUDGED = 2000, 10_000  # samples


def placement(found: dict) -> str:
    """Both judges' distances: a row for each solver and placement, a column for each cost."""
    rows = _placed(found, SWEPT)
    return _by_calls([(f"{solver} {placed}", value) for solver, placed, value in rows])


def _by_calls(judged: list[tuple[str, dict]]) -> str:
    """A row for each name, a column for each number of calls, in the cells both distances."""
    cells: dict[str, dict[int, str]] = {}
    for name, value in judged:
        both = f"{value['feature_distance']:.2f} / {value['second']['feature_distance']:.2f}"
        cells.setdefault(name, {})[value["calls"]] = both
    costs = sorted({calls for row in cells.values() for calls in row})
    rows = [[name, *(row.get(c, "") for c in costs)] for name, row in cells.items()]
    return table(["calls of the network", *map(str, costs)], rows)


def orders(found: dict) -> str:
    """Other rules and other steps beside those of the default, as `placement` shows them."""
    parts = [(*rest.split("/"), value) for rest, value in of_kind(found, "orders").items()]
    judged = [part for part in parts if part[0] != "steps"]  # those are what a search has found
    first = ["dpm++ chosen", "dpm++ searched"]
    rows = [(f"{solver} {placed}", value) for solver, placed, _, value in judged]
    order = {name: number for number, name in enumerate(first)}
    return _by_calls(sorted(rows, key=lambda row: (order.get(row[0], len(first)), row[0])))


def evaluations(found: dict) -> str:
    """A row for each way and number of evaluations: its time, and both judges' distances."""
    rows, took = [], of_kind(found, "evaluations time")
    for name, points in _by_way(found).items():
        for calls, value in points:
            time = took.get(f"{name}/{calls}")
            seconds = f"{time['seconds_for_64']:.2f}" if time else ""
            second = f"{value['second']['feature_distance']:.3f}"
            first = f"{value['feature_distance']:.2f}"
            rows.append([name, f"{calls:,}", seconds, first, _interval(value, 2), second])
    head = [
        "", "evaluations", "64 pictures, s",
        f"first judge (floor {_floor(found, 'evaluations'):.2f})", "95 % interval", "second judge",
    ]  # fmt: skip
    timed = sorted({value["machine"] for value in took.values()})
    machines = [f"Seconds measured on: {'; and '.join(timed)}."] if timed else []
    picture = (
        "![Two panels against the number of evaluations: on the left the distance of each way to "
        "draw, on the right its seconds for 64 pictures](figures/evaluations.png)"
    )
    return "\n\n".join([table(head, rows), *machines, picture])


def _by_way(found: dict) -> dict[str, list[tuple[int, dict]]]:
    """(evaluations, figures) of each way to draw, rising; as in `LOOKS`."""
    points: dict[str, list[tuple[int, dict]]] = {}
    for rest, value in of_kind(found, "evaluations").items():
        points.setdefault(rest.rpartition("/")[0], []).append((value["calls"], value))
    return {name: sorted(points[name], key=lambda p: p[0]) for name in LOOKS if name in points}


# Of the ways in the plot: a colour for the weights, line and marker for the sampler.
LOOKS = {
    "fashion_mnist, ddpm": (plot.DATA, "^:"),
    "fashion_mnist, ddim": (plot.DATA, "s--"),
    "fashion_mnist, heun": (plot.DATA, "D-."),
    "fashion_mnist, dpm++": (plot.DATA, "o-"),
    "labelled, dpm++": (plot.MODEL, "o-"),
    "labelled, dpm++, guidance 1.3": (plot.MODEL, "v--"),
    "distilled": (plot.NOISE, "*-"),
}


def placement_final(found: dict) -> str:
    """The chosen placement, whose figures travel with the weights, beside the popular one."""
    metrics = checkpoint.load("fashion_mnist")[1]["metrics"]
    judged = [("even in t", value["calls"], value) for *_, value in _placed(found, JUDGED)]
    chosen = sorted((int(steps), value) for steps, value in metrics["by_steps"].items())
    judged += [("as chosen", steps, value) for steps, value in chosen]
    rows = []
    for placed, calls, value in judged:
        both = [value, value["second"]]
        figures = [[f"{v['feature_distance']:.3f}", _interval(v, 3)] for v in both]
        rows.append([placed, str(calls), *figures[0], *figures[1]])
    return table(["", "calls", *_judges(metrics)], rows)


def _placed(found: dict, count: int) -> list[tuple[str, str, dict]]:
    """(solver, placement, figures) of so many samples, the popular placement first."""
    parts = [(*rest.split("/"), value) for rest, value in of_kind(found, "placement").items()]
    chosen = [(s, p, value) for s, p, _, n, value in parts if int(n) == count]
    order = {"dpm++": 0, "heun": 1, "ddim": 2}
    return sorted(
        chosen,
        key=lambda row: (order[row[0]], not row[1].startswith("even"), row[1], row[2]["calls"]),
    )


def cost(found: dict) -> str:
    rows = []
    for c in measured(found, "cost")["table"]:
        rows.append([
            c["name"], f"{c['parameters'] / 1e6:.1f}", f"{c['flops'] / 1e9:.2f}",
            f"{c['bytes'] / 1e6:.0f}", f"{1000 * c['seconds']:.2f}",
            f"{1000 * c['model_seconds']:.2f}",
        ])  # fmt: skip
    head = [
        "",
        "parameters, M",
        "GFLOP an image and step",
        "MB an image and step",
        "ms measured",
        "ms by the model",
    ]
    return table(head, rows)


def limits(found: dict) -> str:
    found = measured(found, "cost")
    return table(["", ""], [[k, f"{v:,.3g}"] for k, v in found.items() if k != "table"])


def shipped(found: dict) -> str:
    metrics = checkpoint.load("fashion_mnist")[1]["metrics"]
    return table(
        ["", ""], [[key.replace("_", " "), _plain(value)] for key, value in metrics.items()]
    )


def labelled(found: dict) -> str:
    """The weights with labels by strength of guidance, and what they pay for a test image."""
    metrics = checkpoint.load("labelled")[1]["metrics"]
    rows = []
    for w, value in metrics["by_w"].items():
        seen = [f"{share:.3f}" for share in value["obedience"].values()]
        spread = [f"{value[name]:.3f}" for name in ("precision", "recall")]
        rows.append([f"guidance {w}", *_both(value), *spread, " / ".join(seen)])
    head = ["", *_judges(metrics), "precision", "recall", "seen as asked for, by both"]
    bits = metrics["bits_per_dimension"]
    mean, error = f"{bits['bpd']:.2f}", f"{bits['error']:.2f}"
    said = f"Unseen images, without their labels, cost at most {mean} bits per dimension on average"
    return f"{table(head, rows)}\n\n{said} (standard error {error})."


def distilled(found: dict) -> str:
    """The student in each number of evaluations that it has learnt."""
    about = checkpoint.load("distilled")[1]
    metrics = {calls: about["metrics"][str(calls)] for calls in about["evaluations"]}
    rows = [[str(calls), *_both(value)] for calls, value in metrics.items()]
    return table(["evaluations", *_judges(checkpoint.load("labelled")[1]["metrics"])], rows)


def likelihoods(found: dict) -> str:
    """What a test image costs: by which weights, and how it is counted."""
    rows = [
        _priced(name, "1,000 steps", _figures(name)["bits_per_dimension"])
        for name in ("fashion_mnist", "labelled")
    ]
    for name, bits in _figures("fashion_mnist_variance")["bits"].items():
        kind, steps = name.split(", ")
        way = f"{int(steps):,} steps, variance {kind}"
        rows.append(_priced("fashion_mnist_variance", way, bits))
    for name, bits in checkpoint.load("bits")[1]["continuous"].items():
        low = LOW if name == "all" else float(name)
        rows.append(_priced("fashion_mnist", f"continuous time, from {low:g}", bits))
    bits = _figures("fashion_mnist_bits")["bits_per_dimension"]
    rows.append(_priced("fashion_mnist_bits", f"continuous time, from {LOW:g}", bits))
    return table(["weights", "bound", "test images", "bits per dimension", "nats an image"], rows)


def _figures(weights: str) -> dict:
    return checkpoint.load(weights)[1]["metrics"]


def _priced(weights: str, way: str, bits: dict) -> list[str]:
    """A row of a bound, with its standard error."""
    price = f"{bits['bpd']:.3f} ± {bits['error']:.3f}"
    nats = bits["bpd"] * 784 * math.log(2)
    return [weights, way, f"{bits['count']:,}", price, f"{nats:,.0f}"]


def _both(value: dict) -> list[str]:
    """Both judges' distances with their intervals."""
    second = value["second"]
    first = [f"{value['feature_distance']:.2f}", _interval(value, 2)]
    return [*first, f"{second['feature_distance']:.3f}", _interval(second, 3)]


def _judges(metrics: dict) -> list[str]:
    """The heads of those columns, with the distance of real images."""
    first = f"first judge (floor {metrics['floor']:.2f})"
    return [
        first, "95 % interval", f"second judge (floor {metrics['second']['floor']:.3f})",
        "95 % interval",
    ]  # fmt: skip


def _plain(value) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(part)}" for key, part in value.items())
    if isinstance(value, list):
        return " to ".join(map(_plain, value))
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def machine(found: dict) -> str:
    return measured(found, "machine")


BLOCKS: dict[str, Callable[[dict], str]] = {
    "machine": machine, "summary": summary, "front door": front_door, "speed": speed,
    "precision": precision, "quality": quality, "native": native,
    "ablation speed": ablation_speed, "ablation quality": ablation_quality, "longer": longer,
    "cost": cost, "limits": limits, "shipped": shipped, "placement": placement,
    "placement final": placement_final, "orders": orders, "evaluations": evaluations,
    "labelled": labelled, "distilled": distilled, "likelihoods": likelihoods,
}  # fmt: skip


def page(found: dict) -> str:
    """The page with its blocks filled in; where a measurement is missing it says so."""
    text = PAGE.read_text(encoding="utf-8")
    for name, write in BLOCKS.items():
        begin, end = f"<!-- begin {name} -->\n", f"\n<!-- end {name} -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        try:
            filled = write(found)
        except NotMeasured:
            filled = "(not measured yet)"
        text = before + begin + filled + end + after
    return text


def draw(found: dict, folder: Path) -> None:
    """The pictures of the page, of whatever has been measured."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, kind, panels, fill in (
        ("quality", "quality", 1, _lines),
        ("ablation", "ablation quality", 1, _bars),
        ("evaluations", "evaluations", 2, _panels),
    ):
        if names(found, kind):
            figure, axes = plt.subplots(1, panels, figsize=(7 if panels == 1 else 10, 3.5))
            fill(found, axes)
            for panel in figure.axes:
                panel.spines[["top", "right"]].set_visible(False)
            figure.tight_layout()
            figure.savefig(folder / f"{name}.png", dpi=110)
            plt.close(figure)


def _lines(found: dict, axes) -> None:
    """Distance against minutes of training."""
    colours = zip(
        names(found, "quality"), (plot.MODEL, plot.NOISE, plot.DATA, plot.QUIET), strict=True
    )
    for name, colour in colours:
        points = [(minutes, value["feature_distance"]) for minutes, value in curve(found, name)]
        axes.plot(*zip(*points, strict=True), "o-", color=colour, label=name)
        for minutes, value in curve(found, name):
            axes.vlines(minutes, *value["interval"], color=colour, lw=0.8)
            axes.text(minutes, value["feature_distance"], _mark(found, "quality", value))
    axes.set(xscale="log", yscale="log", xlabel="minutes of training", ylabel="distance")
    axes.set_title("Distance to real images after equal time")
    axes.set_xticks([1, 2, 5, 20], ["1", "2", "5", "20"])
    axes.set_yticks([3, 5, 10, 20, 40], ["3", "5", "10", "20", "40"])
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=8)


def _bars(found: dict, axes) -> None:
    """Distance with one thing changed, and its interval."""
    kind = "ablation quality"
    rows = {name: measured(found, f"{kind}/{name}") for name in names(found, kind)}
    rows = dict(sorted(rows.items(), key=lambda item: -item[1]["feature_distance"]))
    distances = [value["feature_distance"] for value in rows.values()]
    below = [value["feature_distance"] - value["interval"][0] for value in rows.values()]
    above = [value["interval"][1] - value["feature_distance"] for value in rows.values()]
    colours = [plot.MODEL if name == "the recipe" else plot.QUIET for name in rows]
    axes.barh(
        [name + _mark(found, kind, value) for name, value in rows.items()],
        distances,
        xerr=[below, above],
        color=colours,
        ecolor="black",
        error_kw={"lw": 0.8},
    )
    axes.set(xlabel="distance after a minute and a half of training")
    axes.set_title("One thing changed, all others as they are")


def _panels(found: dict, axes) -> None:
    """Distance on the left, seconds on the right, against evaluations of the network."""
    took = of_kind(found, "evaluations time")
    for name, points in _by_way(found).items():
        colour, line = LOOKS[name]
        calls = [number for number, _ in points]
        looks = {"color": colour, "label": name, "ms": 5, "lw": 1.2}
        axes[0].plot(calls, [value["feature_distance"] for _, value in points], line, **looks)
        for number, value in points:
            axes[0].vlines(number, *value["interval"], color=colour, lw=0.8)
        timed = [(n, took[f"{name}/{n}"]["seconds_for_64"]) for n in calls if f"{name}/{n}" in took]
        axes[1].plot([n for n, _ in timed], [seconds for _, seconds in timed], line, **looks)
    most = max(number for points in _by_way(found).values() for number, _ in points)
    marks = [mark for mark in (1, 2, 5, 10, 20, 50, 100, 1000) if mark <= most]
    for panel, title in zip(axes, ("Distance", "Seconds for 64 pictures"), strict=True):
        panel.set(xscale="log", yscale="log", xlabel="evaluations of the network a picture")
        panel.set_title(title)
        panel.set_xticks(marks, [f"{mark:,}" for mark in marks])
        panel.yaxis.set_major_formatter("{x:g}")
        panel.xaxis.minorticks_off()
    least, most = axes[1].get_ylim()
    marks = [mark * 10**power for power in range(-3, 4) for mark in (1, 2, 5)]
    axes[1].set_yticks([mark for mark in marks if least <= mark <= most])
    axes[1].yaxis.minorticks_off()
    axes[0].legend(frameon=False, fontsize=7)


def main() -> None:
    own = len(sys.argv) > 1
    found = results(Path(sys.argv[1])) if own else results()
    out = Path(sys.argv[1]).with_name("benchmarks.md") if own else PAGE
    out.write_text(page(found), encoding="utf-8")
    draw(found, out.with_name("figures"))
    print(f"Wrote {out}")


if __name__ == "__main__":
    main()
