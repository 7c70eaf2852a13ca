"""Players: every explorer has one, and its frames are what the explorer draws."""

import ast
import importlib
import inspect
import io
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import frames
import numpy as np
import player_pages
import players
import pytest
from conftest import ROOT
from execute import notebooks, number
from frames import Frame, Player
from IPython.core.pylabtools import print_figure
from PIL import Image
from test_widgets import leaves

# arguments of their own, made by networks: `test_recorded_...` compares rates and classes with the
# stills of their notebooks, and nothing compares the others
RECORDED = {"reverse", "placement", "rates", "classes", "masks"}
PLAIN = [player for player in players.PLAYERS if player.explorer not in RECORDED]


def named(player: Player) -> str:
    return player.name


def test_every_explorer_of_the_course_has_a_player():
    shown = [(number(path), name) for path in notebooks() for name in frames.explorers(path)]
    assert sorted(shown) == sorted((each.notebook, each.explorer) for each in players.PLAYERS)
    made = set()
    for path in (ROOT / "tutorial_lib" / "course" / "widgets").glob("n*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and ast.unparse(node.returns or node) == "VBox":
                made.add((path.stem[1:], node.name))
    assert made == set(shown), "an explorer that no notebook shows"


@pytest.mark.parametrize("player", [p for p in players.PLAYERS if p not in PLAIN], ids=named)
def test_what_a_player_moves_is_a_control_of_its_explorer(player):
    """Told by the source, which takes no network."""
    module = importlib.import_module(f"tutorial_lib.course.widgets.n{player.notebook}")
    source = ast.parse(inspect.getsource(getattr(module, player.explorer)))
    words = {node.value for node in ast.walk(source) if isinstance(node, ast.Constant)}
    words |= {node.arg for node in ast.walk(source) if isinstance(node, ast.keyword)}
    assert set(player.grid) <= words


@pytest.mark.parametrize("player", PLAIN, ids=named)
def test_a_frame_is_what_the_explorer_draws(player, monkeypatch):
    """At both ends of the grid and in its middle: the same pixels, but for the title above them."""
    monkeypatch.setattr(frames, "DPI", 90)  # of explorers
    draw, controls = frames.opened(player)
    states = frames.states(player, controls)
    assert len(states) >= 8
    *before, call = frames.program(player.notebook, player.explorer)
    space = {}
    exec(compile(ast.Module(before, []), "notebook", "exec"), space)
    box = eval(compile(ast.Expression(call.value), "notebook", "eval"), space)
    (image,) = [leaf for leaf in leaves(box) if hasattr(leaf, "format")]
    own = {leaf.description: leaf for leaf in leaves(box) if leaf is not image}
    for state in (states[0], states[len(states) // 2], states[-1]):
        for name, value in state.items():
            own[controls[name].description].value = value
        seen = np.asarray(Image.open(io.BytesIO(bytes(image.value))).convert("RGB"))
        drawn = frames.frame(draw(**state))
        assert drawn.title == frames.plain(image.tooltip)
        assert drawn.pixels.shape == seen.shape
        assert int(np.abs(drawn.pixels[60:].astype(int) - seen[60:]).max()) <= frames.GRAIN // 2
        above = (drawn.pixels != frames.coarse(seen)).any((1, 2)).nonzero()[0]
        assert 0 < len(above) < 25 and above.max() < 45, "the title alone is missing"


@pytest.mark.parametrize("player", PLAIN, ids=named)
def test_controls_have_the_words_of_the_explorer_and_a_slider_plays(player):
    _, controls = frames.opened(player)
    chosen = frames.choices(player, controls)
    assert frames.kind(controls[next(iter(chosen))]) == "slider"
    about = [frames.about_control(controls[name], pairs) for name, pairs in chosen.items()]
    for said, name in zip(about, chosen, strict=True):
        assert said["label"] == controls[name].description
        start = chosen[name][said["start"]]
        assert start[1] == controls[name].value


@pytest.mark.parametrize(
    ("notebook", "explorer", "values"),
    [
        ("08", "rates", {"picture": 1, "moment": 14}),
        ("10", "classes", {"label": "sneaker", "w": 1.6, "seed": 0}),
    ],
)
def test_recorded_explorers_get_what_their_notebook_recorded(notebook, explorer, values):
    """The notebook's own still, which a whole run of the notebook has stored."""
    (player,) = [p for p in players.PLAYERS if (p.notebook, p.explorer) == (notebook, explorer)]
    draw, controls = frames.opened(player)
    frames.choices(player, controls)
    (path,) = [path for path in notebooks() if number(path) == notebook]
    cells = frames.code_cells(path)
    k = next(k for k, cell in enumerate(cells)
             if frames.is_explorer(cell) and frames.called(cell) == explorer)  # fmt: skip
    (png,) = [output["data"]["image/png"] for output in cells[k - 1]["outputs"]
              if "image/png" in output.get("data", {})]  # fmt: skip
    stored = opened_png(png)
    figure = draw(**{name: control.value for name, control in controls.items()} | values)
    again = opened_png(print_figure(figure, fmt="png", base64=True))
    other = opened_png(print_figure(draw(**{n: c.value for n, c in controls.items()}
                                         | values | {next(iter(values)): second(controls, values)}),
                                    fmt="png", base64=True))  # fmt: skip
    assert distance(stored, again) < 3
    assert distance(stored, other) > 2 * distance(stored, again) + 1


def opened_png(text: str) -> Image.Image:
    import base64

    return Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB")


def second(controls, values):
    """Another value of the first control."""
    name = next(iter(values))
    control = controls[name]
    options = getattr(control, "options", None)
    return options[0] if options else control.max


def distance(one: Image.Image, other: Image.Image) -> float:
    """The mean difference of two pictures, of one size made, in levels of 255."""
    pair = [np.asarray(each.resize((400, 200)), dtype=float) for each in (one, other)]
    return float(np.abs(pair[0] - pair[1]).mean())


# --- how frames are stored


def test_only_what_an_explorer_needs_is_taken_from_its_notebook():
    text = [ast.unparse(each) for each in frames.program("06", "reverse")]
    assert text[-1] == "widgets.reverse(recorded, schedule)"
    for wanted in ("checkpoint.load", "restore(", "widgets.reverse_frames("):
        assert sum(wanted in line for line in text) == 1
    assert not [line for line in text if line.startswith(("print", "assert", "check_"))]


def test_names_inside_functions_and_comprehensions_do_not_count():
    def names(text):
        return frames.bound(ast.parse(text).body[0])

    assert names("a = [b for b in c]") == {"a"}
    assert names("*_, a = f(lambda c: c)") == {"_", "a"}
    assert names("def f(x):\n    y = x") == {"f"}
    assert names("for a, b in c:\n    d = a") == {"a", "b", "d"}
    assert names("import a.b, c as d") == {"a", "d"}


def test_what_fills_a_value_is_taken_too(monkeypatch, tmp_path):
    def names(text):
        return frames.filled(ast.parse(text).body[0])

    assert names("d['a'] = 1") == names("d['a'].b[0] += 1") == names("c, d.a = 1, 2") == {"d"}
    assert names("for k in x:\n    d[k] = k") == {"d"}
    assert names("def f(d):\n    d[0] = 1") == names("d = [e[0] for e in f]") == set()
    lines = ["d = {0: 0}", "for k in range(3):\n    d[k] = k", "unused = {}", "unused[0] = 1"]
    cells = [
        {"cell_type": "code", "source": "\n".join(lines), "outputs": []},
        {
            "cell_type": "code",
            "source": "widgets.some(d)",
            "outputs": [{"data": {"text/plain": frames.MARK}}],
        },
    ]
    path = tmp_path / "00_some.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    monkeypatch.setattr(frames, "notebooks", lambda: [path])
    kept = [ast.unparse(each) for each in frames.program("00", "some")]
    assert kept == [*lines[:2], "widgets.some(d)"]


def test_a_value_that_a_slider_does_not_have_is_refused():
    slider = SimpleNamespace(min=0, max=1000, step=50, value=50, description="t")

    def chosen(*values):
        return frames.choices(Player("00", "dots", {"t": values}, ("Dots",)), {"t": slider})

    assert chosen(0, 50, 1000) == {"t": [("0", 0), ("50", 50), ("1000", 1000)]}
    for wrong in (2000, -50, 75):
        with pytest.raises(ValueError, match=f"t takes only .0, 50. of .0, 50, {wrong}.; correct"):
            chosen(0, 50, wrong)
    slider = SimpleNamespace(min=-3.0, max=3.0, step=0.1, value=0.3, description="t")
    assert len(chosen(0.3, 0.7, -2.9)["t"]) == 3, "but for rounding"
    with pytest.raises(ValueError, match="t is a slider over numbers; the grid has to name its"):
        frames.choices(Player("00", "dots", {"t": None}, ("Dots",)), {"t": slider})


def two_panels(dots: list[tuple[int, int]]) -> list[Frame]:
    """Frames with an axis in each half: a box, and a dot of its own in the left one."""
    made = []
    for row, column in dots:
        pixels = np.full((60, 100, 3), 255, np.uint8)
        pixels[20:50, [10, 40, 60, 90]] = 0
        pixels[row, column] = (0, 120, 180)
        made.append(Frame(pixels, f"dot at {row}", [(f"row {row}", 25.0), ("right", 75.0)]))
    return made


def test_stored_pictures_laid_over_the_first_give_every_frame(tmp_path):
    dots = [(30, 20), (21, 11), (30, 20), (49, 39)]
    drawn = two_panels(dots)
    player = Player("00", "dots", {"dot": None}, ("Left", "Right"))
    panels, shown = frames.stored(player, drawn, 1, tmp_path)
    rows, columns = frames.cuts(drawn, 2)
    assert (rows.start, rows.stop) == (10, 60) and columns[0].stop == columns[1].start
    assert 40 < columns[0].stop < 60
    assert shown[0] == shown[2] and len({tuple(each) for each in shown}) == 3
    assert [len(panel["files"]) for panel in panels] == [3, 1], "alike pictures are stored once"
    assert [said for _, said in panels[0]["files"]] == ["row 30", "row 21", "row 49"]
    assert panels[1]["files"] == [("", "")], "what never varies is the first picture, and unsaid"
    for frame, places in zip(drawn, shown, strict=True):
        for panel, place, part in zip(panels, places, columns, strict=True):
            seen = Image.open(tmp_path / panel["first"]).convert("RGB")
            assert seen.size == (panel["width"], panel["height"])
            if name := panel["files"][place][0]:
                over = Image.open(tmp_path / name)
                seen.paste(over, mask=over.getchannel("A"))
            assert np.array_equal(np.asarray(seen), frame.pixels[rows, part])


def test_two_programs_may_draw_a_player_at_a_time(tmp_path, monkeypatch):
    """Neither fails, and what is there is whole."""
    menu = SimpleNamespace(options=["one", "two"], value="one", description="dot")
    dots = {"one": (30, 20), "two": (21, 11)}
    monkeypatch.setattr(frames, "BUILD", tmp_path)
    monkeypatch.setattr(frames, "opened", lambda each: (lambda dot: dots[dot], {"dot": menu}))
    monkeypatch.setattr(frames, "frame", lambda dot: two_panels([dot])[0])
    stored, together = frames.stored, threading.Barrier(2)

    def side_by_side(*given):
        together.wait(60)
        made = stored(*given)
        together.wait(60)
        return made

    monkeypatch.setattr(frames, "stored", side_by_side)
    player = Player("00", "dots", {"dot": None}, ("Left", "Right"))
    for _ in range(2):  # at first, and again
        with ThreadPoolExecutor(2) as pool:
            for one in [pool.submit(frames.make, player, "mark") for _ in range(2)]:
                assert one.result() > 0
        assert [path.name for path in tmp_path.iterdir()] == [player.name]
        about = json.loads((tmp_path / player.name / "player.json").read_text())
        files = {name for panel in about["panels"] for name, _ in panel["files"]} - {""}
        files |= {panel["first"] for panel in about["panels"]}
        assert files < {path.name for path in (tmp_path / player.name).iterdir()}
        assert about["titles"] == ["dot at 30", "dot at 21"]


def test_panels_that_touch_are_not_cut():
    drawn = two_panels([(30, 20)])
    drawn[0].pixels[30, 20:80] = 0
    with pytest.raises(ValueError, match="no white between"):
        frames.cuts(drawn, 2)


def test_colours_stay_within_half_a_grain_and_white_stays_white():
    levels = np.arange(256, dtype=np.uint8)
    found = frames.coarse(levels)
    assert int(np.abs(found.astype(int) - levels).max()) <= frames.GRAIN / 2
    assert found[255] == 255 and found[0] == 0
    assert len(np.unique(found)) == 255 // frames.GRAIN + 1


# --- when they are drawn again


def test_a_player_is_drawn_again_when_what_it_shows_has_changed(monkeypatch, tmp_path):
    (player,) = [player for player in players.PLAYERS if player.name == "02-noising"]
    code = ast.Module(frames.program("02", "noising"), [])
    there = players.reached(code)
    assert {"tutorial_lib.schedule", "tutorial_lib.diffusion"} <= there
    assert "tutorial_lib.course.widgets.n02" in there
    assert "tutorial_lib.course.widgets.n03" not in there
    before = players.mark(player)
    assert players.mark(player) == before
    monkeypatch.setattr(players, "BUILD", tmp_path)
    (tmp_path / player.name).mkdir()
    about = {"mark": before}
    (tmp_path / player.name / "player.json").write_text(json.dumps(about))
    assert players.is_fresh(player)
    original = players.source
    for name in ("tutorial_lib.schedule", "tutorial_lib.course.widgets"):
        with monkeypatch.context() as patched:
            patched.setattr(
                players, "source", lambda n, name=name: original(n) + "# new" * (n == name)
            )
            assert players.mark(player) != before
            assert not players.is_fresh(player)
    other = Player(player.notebook, player.explorer, {"t": (0, 250)}, player.panels)
    assert players.mark(other) != before


# --- in a page


PAGE = """<html><head></head><body><article>
<div class="cell_output docutils container">
<div class="output text_plain highlight-myst-ansi notranslate"><div class="highlight"><pre><span>\
</span>An explorer: run this cell, then move its controls by mouse or by arrow keys.
</pre></div>
</div>
</div></article></body></html>"""
ABOUT = {
    "mark": "",
    "controls": [
        {"label": "t", "kind": "slider", "values": ["p(x|y)", "250"], "start": 1},
        {"label": "a < b", "kind": "menu", "values": ["linear", "cosine"], "start": 0},
        {"label": "clip", "kind": "tick", "values": ["off", "on"], "start": 1},
    ],
    "kept": [["T", "1000"], ["w", "1"]],
    "panels": [{"width": 500, "height": 300, "first": "a.webp", "files": [["", "at 250"]]}],
    "frames": [[0]] * 8,
    "titles": [f"</script> {k}" for k in range(8)],
}


def test_a_player_takes_the_place_of_an_explorers_output(monkeypatch):
    (player,) = [player for player in players.PLAYERS if player.name == "02-noising"]
    monkeypatch.setattr(players, "about", lambda each: ABOUT)
    monkeypatch.setattr(
        players, "PLAYERS", (Player("02", "noising", player.grid, ("Four garments",)),)
    )
    made = player_pages.with_players(PAGE, "02", ["noising"])
    assert "run this cell, then" not in made and made.count('class="player"') == 1
    assert "player.js" in made.partition("</head>")[0]
    assert 'alt="Four garments: at 250 (t: 250, a &lt; b: linear, clip: on)"' in made
    assert 'src="../_static/players/02-noising/a.webp"' in made
    assert "&lt;/script&gt; 5</p>" in made, "the title of the frame it begins with"
    assert made.count("</script>") == 2 and "<noscript>" in made
    assert 'aria-label="Move through the forward process of any schedule"' in made
    assert "you can also change T (here 1000) and w (here 1)." in made
    data = json.loads(re.search(r'(?s)application/json">(.*?)</script>', made)[1])
    assert data["counts"] == [2, 2, 2] and data["titles"] == ABOUT["titles"]
    assert data["values"][0] == ["p(x|y)", "250"], "a label may have any sign"
    with pytest.raises(ValueError, match=r"2 explorers, 1 in its page.*frames\.MARK"):
        player_pages.with_players(PAGE, "02", ["noising", "noising"])
    with pytest.raises(
        ValueError, match=r"shows the explorer other, which has no row.*players\.py"
    ):
        player_pages.with_players(PAGE, "02", ["other"])


def test_the_last_control_varies_fastest():
    counts = (3, 2, 5)
    places = [player_pages.place(list(at), list(counts)) for at in np.ndindex(*counts)]
    assert places == list(range(30))


def test_the_script_is_light_and_asks_nobody():
    static = ROOT / "docs" / "site" / "static"
    script = (static / "player.js").read_text(encoding="utf-8")
    assert len(script.encode()) < 8000
    for name in ("player.js", "player.css"):
        assert not re.findall(r"https?:|import |require\(", (static / name).read_text())
