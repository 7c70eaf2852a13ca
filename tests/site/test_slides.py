"""The slides in a browser, from files: nothing overflows, nothing is too small, nobody is asked.

`make test-docs` makes the slides and runs this.  It needs Chromium, and leaves screenshots of three
decks in build/slides-shots: look at them.
"""

from collections.abc import Iterator
from pathlib import Path

import execute
import pytest
from chromium import watched
from playwright.sync_api import Page

ROOT = Path(__file__).parents[2]
SLIDES = ROOT / "build" / "slides"
SHOTS = ROOT / "build" / "slides-shots"
AXE = ROOT / "build" / "npm-slides" / "node_modules" / "axe-core" / "axe.min.js"
NUMBERS = [execute.number(path) for path in execute.notebooks()]
LOOKED_AT = ("00", "02", "06")
# What is wrong with the present slide: what leaves the page or its frame, and what is too small.
MEASURE = """() => {
  const slide = Reveal.getCurrentSlide(), wrong = [];
  const frame = slide.querySelector(".frame").getBoundingClientRect();
  for (const part of slide.querySelectorAll("h1, h2, .body, .body *")) {
    const box = part.getBoundingClientRect();
    if (!box.width || part.closest("svg svg, g")) continue;
    const out = box.left < 0 || box.top < 0 || box.right > 1280 || box.bottom > 696;
    const cut = part.scrollWidth > part.clientWidth + 1 && part.matches("pre, table, .body");
    const place = [box.left, box.top, box.right, box.bottom].map(Math.round);
    if (out || cut) wrong.push(`${part.tagName} ${part.className} ${place}`);
  }
  for (const picture of slide.querySelectorAll("img")) {
    const box = picture.getBoundingClientRect();
    if (!picture.naturalWidth) wrong.push(`no picture: ${picture.src}`);
    if (Math.max(box.width / 1280, box.height / 720) < 0.25) wrong.push(`small: ${picture.src}`);
  }
  for (const text of slide.querySelectorAll(".body :is(pre, p, li, td)")) {
    const size = parseFloat(getComputedStyle(text).fontSize);
    if (size < 17.5) wrong.push(`${size} pixels: ${text.textContent.slice(0, 40)}`);
  }
  for (const formula of slide.querySelectorAll(".body .display svg")) {
    const em = 1000 * formula.getBoundingClientRect().height / formula.viewBox.baseVal.height;
    if (em < 20) wrong.push(`a formula of ${em} pixels`);
  }
  if (Math.abs(frame.height - 720) > 1) wrong.push(`the frame is ${frame.height} high`);
  return wrong;
}"""


@pytest.fixture
def decks() -> Path:
    """The folder of slides.  Not made here, for another worker may be reading it."""
    assert (SLIDES / "index.html").is_file(), "make slides"
    return SLIDES


@pytest.fixture
def page(browser) -> Iterator[Page]:
    """A page that fails the test when something goes wrong on it or it asks for what is no file."""
    with watched(browser, ("file:", "data:", "blob:", "about:"), height=720) as page:
        yield page


@pytest.mark.parametrize("number", NUMBERS)
def test_no_slide_overflows(decks, page, number):
    page.goto((decks / f"{number}.html").as_uri(), wait_until="load")
    wrong, count = {}, 0
    while True:
        page.evaluate("while (Reveal.availableFragments().next) Reveal.nextFragment()")
        if found := page.evaluate(MEASURE):
            wrong[count + 1] = found[:3]
        if number in LOOKED_AT:
            SHOTS.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=SHOTS / f"{number}_{count + 1:02d}.png")
        count += 1
        if page.evaluate("Reveal.isLastSlide()"):
            break
        page.evaluate("Reveal.next()")
    assert wrong == {}
    assert count == page.locator(".slides section:not(:has(section))").count() >= 12


def test_an_answer_waits_for_a_key(decks, page):
    page.goto((decks / "00.html").as_uri(), wait_until="load")
    page.keyboard.press("ArrowRight")
    answer = page.locator("section.present .answer")
    assert answer.evaluate("a => getComputedStyle(a).visibility") == "hidden"
    page.keyboard.press("ArrowRight")
    assert "visible" in answer.get_attribute("class")


def test_the_speaker_has_a_window_with_notes(decks, page):
    page.goto((decks / "02.html").as_uri(), wait_until="load")
    with page.expect_popup() as opened:
        page.keyboard.press("s")
    opened.value.get_by_text("each root is where it is for a reason").first.wait_for()


@pytest.mark.parametrize("name", ["index.html", "00.html", "03.html"])
def test_everybody_can_read_it(decks, page, name):
    """axe-core finds nothing against the levels A and AA of the web's guidelines."""
    page.goto((decks / name).as_uri(), wait_until="load")
    page.add_script_tag(path=AXE)
    levels = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
    run = "levels => axe.run({runOnly: levels, preload: false})"  # a file may read no other
    found = page.evaluate(run, levels)["violations"]
    said = [(v["id"], v["nodes"][0]["html"][:200], len(v["nodes"])) for v in found]
    assert said == []


def test_every_deck_is_in_the_index(decks, page):
    page.goto((decks / "index.html").as_uri(), wait_until="load")
    links = page.locator("li a").evaluate_all("links => links.map(a => a.getAttribute('href'))")
    assert links == [f"{number}.html" for number in NUMBERS]
