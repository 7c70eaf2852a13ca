"""The players of the built site: they move by slider, keyboard and button, are still where motion
or scripts are not wanted, weigh little, and can be used by everybody.

Part of `make docs test-docs`; leaves screenshots in build/site-shots.
"""

import json
import re
from functools import cache

import pytest
import test_site
from chromium import SECONDS
from execute import notebooks, number
from players import PLAYERS
from test_site import AXE, SHOTS, SITE

address, page = test_site.address, test_site.page

HEAVIEST = 1_000_000  # bytes of all pictures of a page's players
FILES = {number(path): f"notebooks/{path.stem}.html" for path in notebooks()}
PAGES = sorted({FILES[player.notebook] for player in PLAYERS})
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
# whether every picture of a player that is shown has arrived
ARRIVED = """player => [...player.querySelectorAll("img:not([hidden])")]
    .every(img => img.complete && img.naturalWidth > 0)"""


@cache
def data(name: str) -> list[dict]:
    """What the players of a page know, in their order."""
    text = (SITE / name).read_text(encoding="utf-8")
    return [json.loads(found) for found in re.findall(r'(?s)n/json">(\{"fo.*?)</script>', text)]


def test_every_explorer_of_the_site_is_a_player():
    for name in PAGES:
        text = (SITE / name).read_text(encoding="utf-8")
        wanted = [f"player-{player.name}" for player in PLAYERS if FILES[player.notebook] == name]
        assert sorted(re.findall(r'class="player" id="([^"]+)"', text)) == sorted(wanted)
        assert "An explorer: run this cell" not in text
        assert len(data(name)) == len(wanted)


def test_no_page_has_heavy_players():
    for name in PAGES:
        size = 0
        for each in data(name):
            folder = (SITE / name).parent / each["folder"]
            used = {file for panel in each["panels"] for file, _ in panel["files"]} - {""}
            there = {path.name for path in folder.iterdir()}
            assert used < there, "the first pictures are there, too"
            size += sum(path.stat().st_size for path in folder.iterdir())
        assert 0 < size < HEAVIEST, f"{name}: {size / 1e6:.2f} MB"


def player_of(page, address, player):
    """A player in its page, in sight and with its pictures."""
    page.goto(f"{address}/{FILES[player.notebook]}", wait_until="load")
    box = page.locator(f"#player-{player.name}")
    box.scroll_into_view_if_needed()
    settled(page, box)
    return box


def settled(page, box, frame: int | None = None) -> None:
    """Wait for a frame, or for any, and its pictures."""
    known = (
        "p => p.dataset.frame !== undefined"
        if frame is None
        else f"p => p.dataset.frame === '{frame}'"
    )
    page.wait_for_function(known, arg=box.element_handle())
    page.wait_for_function(ARRIVED, arg=box.element_handle())


@pytest.mark.parametrize("player", PLAYERS, ids=lambda player: player.name)
def test_the_keyboard_changes_the_picture(page, address, player):
    """Every control, from where it begins: picture, its words and the title follow."""
    box = player_of(page, address, player)
    (known,) = [
        each for each in data(FILES[player.notebook]) if f"/{player.name}/" in each["folder"]
    ]
    images = box.locator(".player-first")
    seen = {}
    slider = box.locator("input[type=range]").first
    slider.focus()
    for key, place in (
        ("Home", 0),
        ("ArrowRight", 1),
        ("ArrowLeft", 0),
        ("End", known["counts"][0] - 1),
    ):
        page.keyboard.press(key)
        assert slider.input_value() == str(place)
        others = [int(control.evaluate("c => c.type === 'checkbox' ? +c.checked : +c.value"))
                  for control in box.locator("[data-control]").all()]  # fmt: skip
        frame = 0
        for at, count in zip(others, known["counts"], strict=True):
            frame = frame * count + at
        settled(page, box, frame)
        assert box.locator(".player-title").inner_text() == known["titles"][frame]
        value = slider.get_attribute("aria-valuetext")
        assert f"{known['labels'][0]}: {value}" in images.first.get_attribute("alt")
        assert box.locator("output").first.inner_text() == value
        seen[place] = box.locator(".player-panels").screenshot()
    assert len(set(seen.values())) == len(seen), "each place has its own picture"


def test_a_menu_and_a_tick_change_the_picture(page, address):
    (player,) = [player for player in PLAYERS if player.name == "06-reverse"]
    box = player_of(page, address, player)
    panels, seen = box.locator(".player-panels"), set()
    seen.add(panels.screenshot())
    before = box.get_attribute("data-frame")
    box.locator("select").select_option("beta")
    page.wait_for_function("([p, b]) => p.dataset.frame !== b", arg=[box.element_handle(), before])
    settled(page, box)
    seen.add(panels.screenshot())
    before = box.get_attribute("data-frame")
    box.locator("input[type=checkbox]").focus()
    page.keyboard.press("Space")
    page.wait_for_function("([p, b]) => p.dataset.frame !== b", arg=[box.element_handle(), before])
    settled(page, box)
    seen.add(panels.screenshot())
    assert len(seen) == 3


def test_it_plays_by_button_and_by_the_space_bar(page, address):
    player = next(player for player in PLAYERS if player.name == "02-noising")
    box = player_of(page, address, player)
    button, slider = box.locator("button"), box.locator("input[type=range]").first
    slider.focus()
    page.keyboard.press("End")
    button.click()
    assert button.inner_text() == "Stop", "from the end it begins again"
    page.wait_for_function("s => +s.value >= 2 && s.value !== s.max", arg=slider.element_handle())
    button.click()
    stopped = slider.input_value()
    assert button.inner_text() == "Play"
    page.wait_for_timeout(1500)
    assert slider.input_value() == stopped
    slider.focus()
    page.keyboard.press("Space")
    page.wait_for_function("s => s.value === s.max", arg=slider.element_handle())
    page.wait_for_function("b => b.textContent === 'Play'", arg=button.element_handle())
    button.focus()
    page.keyboard.press("Home")
    assert slider.input_value() == "0"


def test_whoever_wants_no_motion_goes_step_by_step(browser, address):
    context = browser.new_context(reduced_motion="reduce")
    opened = context.new_page()
    opened.set_default_timeout(1000 * SECONDS)
    box = player_of(opened, address, PLAYERS[0])
    button, slider = box.locator("button"), box.locator("input[type=range]").first
    assert button.inner_text() == "Next"
    slider.focus()
    opened.keyboard.press("Home")
    button.click()
    assert slider.input_value() == "1"
    opened.wait_for_timeout(1500)
    assert slider.input_value() == "1" and button.inner_text() == "Next"
    context.close()


def test_without_scripts_the_first_picture_says_what_to_do(browser, address):
    context = browser.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.set_default_timeout(1000 * SECONDS)
    for name in PAGES:
        opened.goto(f"{address}/{name}", wait_until="load")
        for box in opened.locator(".player").all():
            box.scroll_into_view_if_needed()
            assert box.locator("img").first.is_visible()
            assert len(box.locator("img").first.get_attribute("alt").split()) >= 5
            assert "need JavaScript" in box.inner_text()
            assert not box.locator(".player-controls").is_visible()
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", [FILES["02"], FILES["06"]])
def test_everybody_can_use_it(page, address, name, theme):
    page.add_init_script(f"localStorage.mode = localStorage.theme = '{theme}'")
    page.goto(f"{address}/{name}", wait_until="load")
    page.locator(".player[data-frame]").first.wait_for()
    page.add_script_tag(path=AXE)
    found = page.evaluate("levels => axe.run('.player', {runOnly: levels})", LEVELS)
    said = [(v["id"], v["nodes"][0]["html"][:200]) for v in found["violations"]]
    assert said == [] and found["passes"]
    slider = page.locator(".player input[type=range]").first
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert slider.evaluate("s => getComputedStyle(s).outlineStyle") != "none", "visible focus"
    box = page.locator(".player").first
    box.scroll_into_view_if_needed()
    settled(page, box)
    SHOTS.mkdir(parents=True, exist_ok=True)
    box.screenshot(path=SHOTS / f"player_{number_of(name)}_{theme}.png")


def number_of(name: str) -> str:
    return name.partition("/")[2].partition("_")[0]


@pytest.mark.parametrize("player", PLAYERS, ids=lambda player: player.name)
def test_on_a_phone_letters_stay_readable_and_controls_in_sight(page, address, player):
    """Panels side by side are not much smaller than their letters want, half their own width."""
    page.set_viewport_size({"width": 390, "height": 844})
    box = player_of(page, address, player)
    pictures = box.locator(".player-first").all()
    for picture in pictures:
        wanted = int(picture.get_attribute("width")) / 2
        assert picture.bounding_box()["width"] >= min(0.8 * wanted, 330)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    title = box.locator(".player-title")
    title.evaluate("t => t.scrollIntoView()")
    controls = box.locator(".player-controls").bounding_box()
    assert controls["y"] + controls["height"] <= 845
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"player_{player.name}_phone.png")
