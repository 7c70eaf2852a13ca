"""Explorers: each control changes the picture at its ends, its size stays, and no network runs."""

import re
from collections.abc import Iterator

import ipywidgets
import pytest
import torch
from conftest import best
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch.testing import assert_close

from tutorial_lib import data, schedule, toys
from tutorial_lib.course.widgets import n00, n01, n02, n03, n04, n05, n06, n07, n08, n09, n10

COSINE = schedule.cosine(1000)


@pytest.fixture(scope="module")
def walks() -> n06.Recorded:
    network = best(COSINE, "eps", mean=0.2, std=0.5)
    return list(n06.reverse_frames(network, COSINE, target="eps", seeds=2, steps=(3, 8)))[-1]


@pytest.fixture(scope="module")
def placed() -> n06.Placed:
    network = best(COSINE, "eps", mean=0.2, std=0.5)
    found = n06.placement_frames(network, COSINE, target="eps", calls=(3, 5), exact=8)
    return list(found)[-1]


@pytest.fixture(scope="module")
def priced() -> tuple:
    """Noise levels and what each costs four pictures, for an estimate that only shrinks."""
    pixels = data.load("embedded", "test").pixels[:4]
    grid = torch.linspace(-10, 8, 19, dtype=torch.float64)
    return n08.profile(lambda z, gamma: (0.9 * z).clamp(-1, 1), pixels, grid, seed=0), pixels, grid


def with_labels(x_t, t, y):
    """A network whose pictures are the brighter the higher the label: it predicts x_0."""
    return ((y.double() + 1) / 6 - 1).view(-1, 1, 1, 1).to(x_t).expand_as(x_t) + 0.1 * x_t


@pytest.fixture(scope="module")
def filled() -> n10.Filled:
    network = best(COSINE, "eps", mean=-0.4, std=0.6)
    return list(n10.mask_frames(network, COSINE, target="eps", steps=3, rounds=2))[-1]


@pytest.fixture(scope="module")
def requested() -> n10.Requested:
    return list(n10.class_frames(with_labels, COSINE, target="x_0", seeds=3, steps=2))[-1]


EXPLORERS = {
    "walk": n00.walk,
    "chain": n01.chain,
    "noising": n02.noising,
    "step back": n02.step_back,
    "kl": n03.kl,
    "decoder": n03.decoder,
    "network": n04.network,
    "replay": n05.replay,
    "reverse": n06.reverse,
    "placement": n06.placement,
    "rates": n08.rates,
    "solvers": n07.walks,
    "particles": n09.particles,
    "pairs": n09.pairs,
    "asking": n10.asking,
    "masks": n10.masks,
    "classes": n10.classes,
}
# what an explorer takes that is recorded, by fixture, and what else
AHEAD = {"reverse": ("walks", COSINE), "placement": ("placed", COSINE)}
AHEAD |= {"masks": ("filled",), "classes": ("requested",)}


@pytest.fixture(params=EXPLORERS)
def box(request) -> ipywidgets.VBox:
    recorded, *others = AHEAD.get(request.param, ("",))
    arguments = [request.getfixturevalue(recorded), *others] if recorded else []
    if request.param == "rates":
        arguments = request.getfixturevalue("priced")
    return EXPLORERS[request.param](*arguments)


def leaves(box) -> Iterator[ipywidgets.Widget]:
    for child in box.children:
        yield from leaves(child) if hasattr(child, "children") else (child,)


def controls(box) -> list[ipywidgets.Widget]:
    return [leaf for leaf in leaves(box) if not isinstance(leaf, ipywidgets.Image)]


def picture(box) -> bytes:
    (image,) = [leaf for leaf in leaves(box) if isinstance(leaf, ipywidgets.Image)]
    return bytes(image.value)


def ends(control) -> list:
    """The extremes of a slider, all values of anything else."""
    if hasattr(control, "min"):
        return [control.min, control.max]
    if isinstance(control, ipywidgets.Checkbox):
        return [False, True]
    values = [option[1] if isinstance(option, tuple) else option for option in control.options]
    return values if isinstance(control, ipywidgets.Dropdown) else [values[0], values[-1]]


def size(png: bytes) -> tuple[int, int]:
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


def test_every_control_changes_the_picture_at_its_ends(box):
    first, begun = picture(box), [(control, control.value) for control in reversed(controls(box))]
    for control in controls(box):
        seen = set()
        for value in ends(control):
            control.value = value
            assert picture(box).startswith(b"\x89PNG")
            assert size(picture(box)) == size(first)
            seen.add(picture(box))
        assert len(seen) == len(ends(control)), f"{control.description} does not change the picture"
        for each, value in begun:  # t follows when T becomes smaller than it
            each.value = value
        assert picture(box) == first, f"{control.description} cannot be undone"


def test_all_extremes_together_draw_a_picture(box):
    """Every control at its first end, then at its last: the corners of what can be asked."""
    for end in (0, -1):
        for control in controls(box):
            control.value = ends(control)[end]
        assert picture(box).startswith(b"\x89PNG")


def test_controls_have_labels_and_take_the_keyboard(box):
    sliders = (ipywidgets.IntSlider, ipywidgets.FloatSlider, ipywidgets.SelectionSlider)
    known = (*sliders, ipywidgets.Dropdown, ipywidgets.Checkbox)
    labels = [control.description for control in controls(box)]
    assert all(labels)
    assert len(set(labels)) == len(labels)
    assert all(isinstance(control, known) for control in controls(box))


def test_the_picture_has_a_fixed_place_and_says_what_it_shows(box):
    (image,) = [leaf for leaf in leaves(box) if isinstance(leaf, ipywidgets.Image)]
    assert image.layout.width == f"{size(image.value)[0]}px"
    assert (image.layout.max_width, image.layout.height) == ("100%", "auto")  # it shrinks
    before = image.tooltip
    assert len(before) > 10
    for control in controls(box):
        control.value = ends(control)[0]
    assert image.tooltip != before


def test_no_network_runs_while_a_slider_moves(box, monkeypatch):
    def forward(self, *_, **__):
        raise AssertionError("a network was asked")

    n04._table.cache_clear()
    if controls(box)[0].description == "image size":  # looks at shapes alone, on no device
        monkeypatch.setattr(torch.nn.Conv2d, "forward", _on_meta(torch.nn.Conv2d.forward))
    else:
        monkeypatch.setattr(torch.nn.Module, "__call__", forward)
    for control in controls(box):
        control.value = ends(control)[-1]


def _on_meta(forward):
    def checked(self, x):
        assert x.device.type == "meta"
        return forward(self, x)

    return checked


@pytest.mark.parametrize("T", [10, 1000])
def test_t_cannot_leave_the_schedule(T):
    box = n02.noising()
    t, steps, _ = controls(box)
    t.value = 1000
    steps.value = T
    assert t.max == T
    assert t.value == T


def test_a_step_back_agrees_with_its_gaussian_the_better_the_smaller_it_is():
    said = r"differ by (\S+) nats"
    titles = [n02.step_back_picture(beta, 0.4).get_suptitle() for beta in (0.5, 0.02, 0.002)]
    large, small, smaller = (float(re.search(said, title)[1]) for title in titles)
    assert large > 10
    assert 0.024 < small < 0.026
    assert 50 < small / smaller < 200  # ten times smaller, a hundred times closer


def test_chains_without_a_limit_say_so():
    swapping, apart = ((0, 1, 0), (1, 0, 0), (0, 1, 0)), ((0, 0, 0), (0, 1, 0), (1, 1, 1))
    assert "there is no limit" in n01.chain_picture(swapping).get_suptitle()
    assert "2 recurrent classes" in n01.chain_picture(apart).get_suptitle()
    assert "multiplies the error by 0.72" in n01.chain_picture().get_suptitle()


def test_an_impossible_network_is_explained():
    figure = n04.network_picture(image_size=28, widths=(32, 64, 128))
    assert "cannot be built" in figure.get_suptitle()
    assert "nearest legal sizes" in figure.axes[0].texts[0].get_text().replace("\n", " ")
    FigureCanvasAgg(figure).draw()
    place, axis = (one.get_window_extent() for one in (figure.axes[0].texts[0], figure.axes[0]))
    assert axis.x0 < place.x0 < place.x1 < axis.x1, "the words are inside the picture"
    assert axis.y0 < place.y0 < place.y1 < axis.y1


def test_bucket_probabilities_are_those_of_the_decoder():
    title = n03.decoder_picture(mean=0.1, sigma=0.01, pixel=140).get_suptitle()
    lower, upper = (torch.tensor((140 + side) / 127.5 - 1 - 0.1) / 0.01 for side in (-0.5, 0.5))
    mass = float(torch.special.ndtr(upper) - torch.special.ndtr(lower))
    assert title == f"p(pixel = 140) = {mass:.4g}"


def test_walks_of_one_seed_begin_alike_and_their_spread_is_that_of_the_raw_state(walks):
    starts = [pictures[0] for pictures, _ in walks.values()]
    assert all(torch.equal(start, starts[0]) for start in starts)
    for pictures, spread in walks.values():
        assert pictures.shape == (11, 2, 6, 1, 28, 28)
        assert spread.shape == (11, 2)
        assert abs(float(spread[0].mean()) - 1) < 0.05
    assert not torch.equal(walks[8, "beta", True][0][-1], walks[8, "beta_tilde", True][0][-1])


@pytest.mark.parametrize("target", ["x_0", "v"])
def test_walks_do_not_depend_on_what_the_network_predicts(walks, target):
    network = best(COSINE, target, mean=0.2, std=0.5)
    (*_, again) = n06.reverse_frames(network, COSINE, target=target, seeds=2, steps=(3,))
    assert again.keys() == {walk for walk in walks if walk[0] == 3}
    for walk, (pictures, spread) in again.items():
        assert int((pictures.int() - walks[walk][0].int()).abs().max()) <= 1  # rounding
        assert_close(spread, walks[walk][1], rtol=1e-3, atol=1e-4)


def test_recorded_walks_are_whole_and_end_where_the_data_lie():
    """The longer the training, the nearer; the walks of all stages begin with the same noise."""
    walks = n00.recorded()
    assert list(walks.places) == sorted(toys.SHAPES) and walks.t[0] == walks.schedule.T
    assert walks.t == sorted(walks.t, reverse=True) and walks.t[-1] == 0
    for name, places in walks.places.items():
        assert places.shape[:2] == (len(walks.trained), len(walks.t))
        assert torch.equal(places[0, 0], places[-1, 0])
        points = toys.SHAPES[name](20_000, torch.Generator().manual_seed(1))
        away = [float(torch.cdist(x, points).min(dim=1).values.mean()) for x in places[:, -1]]
        assert away == sorted(away, reverse=True)
        assert away[-1] < 0.1 < away[0]
        missed = float(torch.cdist(points[:500], places[-1, -1]).min(dim=1).values.max())
        assert missed < 0.6, "no part of the shape is left out"


def test_what_a_walk_shows_is_the_jump_of_the_data():
    figure = n00.walk_picture(data="two rings", t=30)
    there, _ = (axis.collections[0].get_offsets() for axis in figure.axes)
    share = n00.recorded().schedule.alpha_bar[30]
    assert f"alpha_bar = {share:.3f}" in figure.get_suptitle()
    x_0 = toys.two_rings(len(there), torch.Generator().manual_seed(0))
    expected = float(share) * float(x_0.var()) + 1 - float(share)
    assert abs(float(there.var()) / expected - 1) < 0.15
    with pytest.raises(ValueError):
        n00.walk_picture(t=29)


def test_the_recorded_run_is_whole():
    record = n05.recorded()
    moments = len(record["steps"])
    assert record["steps"].tolist() == sorted(set(record["steps"].tolist()))
    assert len(record["losses"]) == record["steps"][-1]
    assert record["by_t"].shape == (moments, 2, 10)
    assert record["samples"].shape == (moments, 2, 12, 1, 28, 28)
    assert record["by_t"][-1, 1].mean() < 0.3 * record["by_t"][0, 1].mean()


def test_places_solvers_and_calls_are_compared_from_one_start(placed):
    assert len(placed) == 3 * 3 * 2
    for (_, solver, calls), (tau, pictures, away) in placed.items():
        assert len(tau) - 1 == ((calls + 1) // 2 if solver == "Heun" else calls)
        assert pictures.shape == (6, 1, 28, 28) and pictures.dtype == torch.uint8
        assert 0 <= away < 200
    away = {walk: found[2] for walk, found in placed.items()}
    assert away["root 4, from 120", "DPM++", 5] < away["root 4, from 120", "DPM++", 3]


def test_what_is_priced_adds_up(priced):
    """Costs, errors and guesses belong to each other, at every noise level."""
    (nats, squares, guesses), pixels, grid = priced
    assert nats.shape == squares.shape == (4, 19) and guesses.shape == (4, 19, 1, 28, 28)
    assert_close(nats, 0.5 * (-grid).exp() * squares, rtol=1e-5, atol=1e-8)
    off = (data.to_model(guesses) - data.to_model(pixels)[:, None]).square().flatten(2).mean(2)
    assert_close(off.double(), squares, rtol=0.05, atol=1e-4)  # guesses are whole grey levels


def test_points_in_the_wrong_place_are_counted(generator):
    """Of the data themselves next to none; of one bump alone those of the other."""
    x_0 = n07.BUMPS.sample(20_000, generator)[:, 0]
    assert n07.misplaced(x_0) < 0.03
    right = x_0[x_0 > -0.25]
    assert abs(n07.misplaced(right) - 0.3) < 0.03
    assert n07.misplaced(torch.full((10,), 9.0)) > 0.95
    t = schedule.same_t(300, 4)
    x_t = torch.linspace(-1, 1, 4, dtype=torch.float64)[:, None]
    assert torch.equal(n07.knows(x_t, t), n07.BUMPS.x_0_hat(x_t, float(COSINE.alpha_bar[300])))


@pytest.mark.parametrize("way", n09.WAYS)
def test_walks_on_two_bumps_begin_together_and_end_where_they_should(way):
    """All but plain Langevin find the shares; on bumps that touch, it does, too."""
    ends = {}
    for gap in (5.0, 1.5):
        walk = n09._walk(gap, 0.8, way)
        assert len(walk) == n09.MOMENTS + 1
        assert_close(walk[0][1], n09._walk(gap, 0.8, "Langevin")[0][1])
        x = walk[-1][1]
        ends[gap] = float((n09.bumps(gap, 0.8).weights[0] - (x[:, 0] < 0).double().mean()).abs())
    assert (ends[5.0] > 0.15) == (way == "Langevin")
    assert ends[1.5] < 0.1


def test_crossings_are_counted():
    x_0 = torch.tensor([[0.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
    eps = torch.tensor([[1.0, 1.0], [1.0, 0.0], [6.0, 5.0]])
    assert n09.crossings(x_0, eps) == 1
    assert n09.crossings(x_0, eps[[1, 0, 2]]) == 0
    titles = [n09.pairs_picture(32, pairing).axes[0].get_title() for pairing in n09.PAIRINGS]
    loose, close = (int(title.split()[0]) for title in titles)
    assert close < loose / 10


def test_more_guidance_leaves_less_of_the_inner_bump_and_an_interval_more():
    shares = {w: n10._share_near(n10._walked("right", w, "all steps"), "right")[0] for w in (1, 3)}
    assert abs(shares[1] - 0.5) < 0.1 and shares[3] < 0.1
    assert n10._share_near(n10._walked("right", 3, "t below 300"), "right")[0] > 0.3


def test_what_is_known_is_kept_behind_every_mask(filled):
    true = data.load("embedded", "test").pixels[list(n10.SHOWN)]
    assert set(filled) == {"known", *n10.WAYS}
    for k, mask in enumerate(n10.masks_of().values()):
        known = mask.bool().expand_as(true)
        for way in ("known", "replaced", "rounds"):
            assert torch.equal(filled[way][k][known], true[known])


def test_a_class_is_drawn_from_the_same_starts_at_each_strength(requested):
    brightness = requested[1.0].double().mean((1, 2, 3, 4))
    assert brightness.tolist() == sorted(brightness.tolist())
    assert torch.equal(requested[0.0][0], requested[0.0][9])  # no label, no difference
