"""Pictures: where every pixel goes, how large a file may be, and that nothing is left open."""

import inspect
import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import ROOT
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image
from torch.testing import assert_close

from tutorial_lib import data
from tutorial_lib.course import animation, plot


def numbered(n: int, channels: int = 1, height: int = 3, width: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(n)
    shape = (n, channels, height, width)
    return torch.randint(0, 255, shape, generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("n", "columns", "gap"),
    [(1, None, 2), (4, None, 2), (5, None, 1), (5, 2, 0), (7, 7, 3), (3, 5, 2)],
)
def test_tile_against_a_naive_loop(n, channels, columns, gap):
    pixels = numbered(n, channels)
    wide = columns or math.ceil(math.sqrt(n))
    high = math.ceil(n / wide)
    shape = (high * 3 + (high - 1) * gap, wide * 4 + (wide - 1) * gap, channels)
    expected = np.full(shape, 255, np.uint8)
    for i in range(n):
        top, left = i // wide * (3 + gap), i % wide * (4 + gap)
        for c in range(channels):
            expected[top : top + 3, left : left + 4, c] = pixels[i, c]
    got = plot.tile(pixels, columns, gap)
    assert got.dtype == np.uint8 and got.ndim == (2 if channels == 1 else 3)
    assert np.array_equal(got, expected[..., 0] if channels == 1 else expected)


def test_nothing_to_arrange(tmp_path):
    empty = torch.zeros(0, 1, 4, 4, dtype=torch.uint8)
    for call in (
        plot.tile,
        plot.grid,
        lambda x: plot.save(x, tmp_path / "a.png"),
        lambda x: animation.gif([x], tmp_path / "a.gif"),
    ):
        with pytest.raises(ValueError, match="no images"):
            call(empty)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("channels", [1, 3])
def test_png_is_read_back_exactly(tmp_path, channels):
    pixels = numbered(5, channels)
    path = plot.save(pixels, tmp_path / "new" / "a.png", columns=2)
    assert np.array_equal(np.asarray(Image.open(path)), plot.tile(pixels, 2))
    x = pixels.float() / 127.5 - 1
    plot.save(x, path, columns=2)
    assert np.array_equal(np.asarray(Image.open(path)), plot.tile(pixels, 2))


def test_noise_is_clamped_and_never_rescaled(tmp_path):
    x = torch.tensor([-7.0, -1.0, 0.2, 1.0, 7.0]).view(1, 1, 1, 5)
    plot.save(x, tmp_path / "a.png")
    assert np.asarray(Image.open(tmp_path / "a.png")).tolist() == [[0, 0, 153, 255, 255]]
    figure = plot.grid(x / 100)
    assert figure.axes[0].images[0].get_clim() == (0, 255)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_what_is_no_number_is_never_painted(tmp_path, value, dtype):
    """Neither as black or white in a picture, nor left out of a cloud."""
    x = torch.zeros(3, 1, 4, 4, dtype=dtype)
    x[1, 0, 2, 2] = value
    points = x.view(-1, 2).float()
    for call in (
        lambda: plot.save(x, tmp_path / "a.png"),
        lambda: plot.grid(x),
        lambda: plot.strip([torch.zeros_like(x), x], ["a", "b", "c"]),
        lambda: animation.gif([torch.zeros_like(x), x], tmp_path / "a.gif"),
        lambda: plot.clouds([[points]], ["t"], ["forward"]),
        lambda: plot.clouds([[(torch.zeros_like(points), points)]], ["t"], ["drift"]),
        lambda: plot.histogram({"samples": (points, plot.MODEL)}, "title"),
    ):
        with pytest.raises(ValueError, match=r"hold 1 values, of \d+, that are NaN or infinite"):
            call()
    assert not list(tmp_path.iterdir())


def decoded(path) -> tuple[list[np.ndarray], list[int]]:
    movie = Image.open(path)
    frames, durations = [], []
    for i in range(movie.n_frames):
        movie.seek(i)
        durations.append(movie.info["duration"])
        frames.append(np.asarray(movie.convert("RGB")))
    return frames, durations


def test_gif_has_every_frame_and_rests_on_the_last(tmp_path):
    frames = [numbered(4, 1, 8, 8).roll(i, 0) for i in range(6)]
    path = animation.gif(frames, tmp_path / "a.gif", milliseconds=50)
    pictures, durations = decoded(path)
    assert len(pictures) == 6
    assert durations == [50] * 5 + [2000]
    assert Image.open(path).info["loop"] == 0
    for frame, picture in zip(frames, pictures, strict=True):
        levels = np.round(plot.tile(frame) / 17.0) * 17  # 16 greys, 17 apart
        assert np.array_equal(picture[..., 0], levels)
        assert np.array_equal(picture[..., 0], picture[..., 2])


def test_gif_has_sixteen_greys_evenly_from_black_to_white(tmp_path):
    ramp = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    (picture,), _ = decoded(animation.gif([ramp], tmp_path / "a.gif"))
    assert np.unique(picture).tolist() == list(range(0, 256, 17))
    assert int(np.abs(picture[..., 0].astype(int).ravel() - np.arange(256)).max()) <= 8


def test_colour_gif_is_close_to_its_colours(tmp_path):
    colours = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [250, 250, 250]]
    patches = torch.tensor(colours, dtype=torch.uint8)
    frame = patches.view(4, 3, 1, 1).expand(4, 3, 6, 6)
    (picture, _), _ = decoded(animation.gif([frame, frame.flip(0)], tmp_path / "a.gif"))
    expected = plot.tile(frame)
    assert picture.shape == expected.shape == (14, 14, 3)
    assert int(np.abs(picture.astype(int) - expected).max()) <= 8


@pytest.mark.parametrize(("images", "limit"), [(16, 300_000), (64, 1_200_000)])
def test_gif_of_noise_turning_into_images_stays_small(tmp_path, generator, images, limit):
    x_0 = data.to_model(data.load("embedded", "test").pixels[:images])
    noise = torch.randn(x_0.shape, generator=generator)
    frames = []
    for i in range(40):
        ab = math.sin(math.pi / 2 * i / 39) ** 2
        eps = torch.randn(noise.shape, generator=generator)
        frames.append(math.sqrt(ab) * x_0 + math.sqrt(1 - ab) * eps)
    path = animation.gif(frames, tmp_path / "a.gif")
    assert path.stat().st_size <= limit
    assert len(decoded(path)[0]) == 40


def test_an_earlier_gif_survives_frames_that_do_not_fit(tmp_path):
    (tmp_path / "a.gif").write_bytes(b"earlier")
    with pytest.raises(ValueError, match="no images"):
        animation.gif([numbered(2), numbered(0)], tmp_path / "a.gif")
    assert (tmp_path / "a.gif").read_bytes() == b"earlier"


def every_figure() -> dict[str, Figure]:
    rows = [numbered(3), numbered(3)]
    lines = {"a": ([1, 2, 3], plot.DATA), "b": ([3, 2, 1], plot.NOISE)}
    return {
        "grid": plot.grid(numbered(5), title="five images"),
        "strip": plot.strip(rows, ["a", "b", "c"], ["one", "two"], "two rows"),
        "curves": plot.curves([1, 2, 3], lines, "two", "x", "y"),
        "bars": plot.bars(["one", "two"], [1.0, 2.0], "two bars", "height"),
    }


def test_figures_are_returned_and_none_stays_open():
    plt.close("all")
    for name, figure in every_figure().items():
        assert isinstance(figure, Figure), name
    assert plt.get_fignums() == []


def test_figures_show_what_they_were_given():
    figures = every_figure()
    assert np.array_equal(figures["grid"].axes[0].images[0].get_array(), plot.tile(numbered(5)))
    assert figures["grid"].axes[0].get_title() == "five images"
    strip = figures["strip"]
    assert len(strip.axes) == 6 and [axis.get_title() for axis in strip.axes[:3]] == ["a", "b", "c"]
    assert [strip.axes[i].get_ylabel() for i in (0, 3)] == ["one", "two"]
    for axis, image in zip(strip.axes, [*numbered(3), *numbered(3)], strict=True):
        (shown,) = axis.images
        assert np.array_equal(np.squeeze(shown.get_array()), image[0])
        assert shown.get_clim() == (0, 255)
    (axes,) = figures["curves"].axes
    a, b = axes.lines
    assert (a.get_label(), b.get_label()) == ("a", "b")
    assert list(b.get_ydata()) == [3, 2, 1]
    assert a.get_linestyle() != b.get_linestyle()  # told apart without colour
    (axes,) = figures["bars"].axes
    assert [bar.get_height() for bar in axes.patches] == [1.0, 2.0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["one", "two"]


def test_strip_wants_as_many_images_as_labels():
    with pytest.raises(ValueError):
        plot.strip([numbered(2)], ["a", "b", "c"])
    assert plt.get_fignums() == [] or plt.close("all") is None


@pytest.mark.parametrize(
    ("count", "frames"), [(1, 40), (5, 40), (1001, 40), (1001, 2), (40, 40), (41, 40)]
)
def test_moments_to_keep(count, frames):
    kept = animation.every(count, frames)
    assert kept == sorted(set(kept)) and len(kept) == min(count, frames)
    assert kept[0] == 0 and kept[-1] == count - 1
    if len(kept) > 1:
        gaps = np.diff(kept).astype(float)
        even = np.full(len(gaps), (count - 1) / len(gaps))
        assert_close(gaps, even, rtol=0, atol=1.0)


def test_chains_draws_each_state_and_each_possible_step():
    P = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.5, 0.5], [1.0, 0.0, 0.0]])
    figure = plot.chains({"a": (P, ["x", "y", "z"]), "b": (torch.eye(2), ["0", "1"])}, "Two chains")
    assert plt.get_fignums() == []
    first, second = figure.axes
    words = sorted(text.get_text() for text in first.texts if text.get_text())
    assert words == ["0.25", "0.5", "0.5", "0.75", "1", "x", "y", "z"]
    assert len(first.patches) == 2 + 3 and len(second.patches) == 2 + 2  # loops and states
    assert first.get_title() == "a" and figure.get_suptitle() == "Two chains"


def test_histogram_is_a_density_beside_the_one_that_is_given():
    cloud = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    grid = torch.linspace(-3, 3, 50)
    clouds = {"a": (cloud, plot.DATA), "b": (cloud + 1, plot.NOISE)}
    figure = plot.histogram(clouds, "Clouds", (grid, grid * 0))
    filled, outline = figure.axes[0].patches
    for polygon, shift in ((filled, 0), (outline, 1)):
        x, y = polygon.get_xy().T
        area = abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2  # the shoelace formula
        assert area == pytest.approx(1.0, abs=1e-4)
        assert x[y > 0].min() == pytest.approx(float(cloud.min()) + shift, abs=0.1)
    assert (filled.get_fill(), outline.get_fill()) == (True, False)
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("x", "density")
    assert len(figure.axes[0].lines) == 1


def test_a_legend_below_covers_nothing():
    cloud = torch.randn(100, generator=torch.Generator().manual_seed(0))
    for figure in (
        plot.histogram({"a": (cloud, plot.DATA)}, "t", below=True),
        plot.curves([1, 2], {"a": ([1, 2], plot.DATA)}, "t", "x", "y", below=True),
    ):
        figure.canvas.draw()
        (axes,) = figure.axes
        legend = axes.get_legend().get_window_extent()
        words = axes.xaxis.get_tightbbox()
        assert 0 <= legend.y0 < legend.y1 <= words.y0 < axes.get_window_extent().y0


def test_clouds_reach_as_far_as_they_are_told():
    axes = plot.clouds([[torch.zeros(2, 2)]], ["t"], reach=4).axes[0]
    assert (axes.get_xlim(), axes.get_ylim()) == ((-4, 4), (-4, 4))


def test_bars_colour_and_top():
    figure = plot.bars(["a", "b"], [1.0, 2.0], "t", "y", [plot.DATA, plot.NOISE], top=5.0)
    first, second = figure.axes[0].patches
    assert first.get_facecolor() != second.get_facecolor()
    assert figure.axes[0].get_ylim() == (0.0, 5.0)


def test_bars_of_several_series_stand_side_by_side():
    series = {"one": ([1.0, 2.0], plot.DATA), "two": ([3.0, 4.0], plot.NOISE)}
    axes = plot.bars(["a", "b"], series, "t", "y").axes[0]
    middles = [round(bar.get_x() + bar.get_width() / 2, 2) for bar in axes.patches]
    heights = zip(middles, [bar.get_height() for bar in axes.patches], strict=True)
    assert sorted(heights) == [(-0.2, 1.0), (0.2, 3.0), (0.8, 2.0), (1.2, 4.0)]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["one", "two"]


def test_curves_on_logarithmic_axes():
    axes = plot.curves([1, 10], {"a": ([1, 100], plot.DATA)}, "t", "x", "y", log="y").axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "log")


@pytest.mark.parametrize(
    ("x", "labels"),
    [([15, 31, 63], ["15", "31", "63"]), ([10, 11, 12], None), (range(1, 99), None)],
)
def test_few_values_on_a_logarithmic_axis_are_its_ticks(x, labels):
    axes = plot.curves(x, {"a": (list(x), plot.DATA)}, "t", "x", "y", log="xy").axes[0]
    own = axes.get_xticks().tolist() == list(x)
    assert own == bool(labels)
    if labels:
        assert [label.get_text() for label in axes.get_xticklabels()] == labels
        assert not len(axes.get_xticks(minor=True))


def test_film_has_a_frame_for_each_figure(tmp_path):
    figures = [plot.bars(["a"], [height], "t", "y", top=3.0) for height in (1.0, 2.0, 3.0)]
    movie = Image.open(animation.film(figures, tmp_path / "a.gif", milliseconds=100))
    assert movie.n_frames == 3
    assert movie.size == (480, 240)
    durations = []
    for frame in range(3):
        movie.seek(frame)
        durations.append(movie.info["duration"])
    assert durations == [100, 100, 2000]


def test_kl_integrand_draws_what_integrates_to_the_divergence():
    grid = torch.linspace(-8, 8, 1601, dtype=torch.float64)
    log_q, log_p = (torch.distributions.Normal(mean, 1).log_prob(grid) for mean in (0, 1))
    figure = plot.kl_integrand(grid, log_q, log_p, "KL")
    _, _, integrand, _ = figure.axes[0].lines
    total = float(integrand.get_ydata().sum()) * 0.01
    assert_close(total, 0.5, rtol=1e-6, atol=0)  # the closed form


def test_clouds_draws_points_and_arrows():
    points, arrows = torch.rand(7, 2), (torch.rand(5, 2), torch.rand(5, 2))
    rows = [[points, points], [arrows, arrows]]
    figure = plot.clouds(rows, ["a", "b"], ["forward", "drift"], "Clouds")
    top, _, bottom, _ = figure.axes
    assert len(top.collections[0].get_offsets()) == 7 and top.get_title() == "a"
    assert len(bottom.collections[0].get_offsets()) == 5 and bottom.get_ylabel() == "drift"


def test_clouds_have_the_colours_that_are_asked_for():
    points = torch.rand(3, 2)
    figure = plot.clouds([[points, points]], ["a", "b"], colours=[[plot.MODEL, points[:, 0]]])
    left, right = (axis.collections[0] for axis in figure.axes)
    assert to_hex(left.get_facecolor()[0]).upper() == plot.MODEL
    assert_close(torch.as_tensor(right.get_array()).float(), points[:, 0])
    (plain,) = plot.clouds([[points]], ["a"]).axes
    assert to_hex(plain.collections[0].get_facecolor()[0]).upper() == plot.DATA


def test_a_film_in_which_the_noise_falls_evenly():
    noise = [math.sin(math.pi / 2 * t / 100) for t in range(100, -1, -1)]
    kept = animation.by_noise(noise, 21)
    assert kept[0] == 0 and kept[-1] == 100 and kept == sorted(set(kept))
    levels = np.array([noise[i] for i in kept])
    assert np.abs(levels - np.linspace(1, 0, 21)).max() < 0.02  # the places are 0.016 apart
    assert animation.by_noise([1.0, 0.5, 0.0], 40) == [0, 1, 2]


def test_every_function_is_exercised_here_and_used_by_a_notebook_or_the_library():
    public = [
        f"{room.__name__.rpartition('.')[2]}.{name}"
        for room in (plot, animation)
        for name, item in vars(room).items()
        if inspect.isfunction(item) and item.__module__ == room.__name__ and name[0] != "_"
    ]
    assert {"plot.grid", "plot.bars", "animation.gif", "animation.film"} <= set(public)
    here = Path(__file__).read_text(encoding="utf-8")
    there = [*(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "tutorial_lib").rglob("*.py")]
    users = "".join(path.read_text(encoding="utf-8") for path in there)
    for name in public:
        assert f"{name}(" in here, name
        own = name.rpartition(".")[2]
        assert f"{name}(" in users or f" {own}(" in users.replace(f"def {own}(", ""), name
