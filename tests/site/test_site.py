"""The built site: every page is there, with its pictures, formulas and links, loads nothing from
outside, and can be read by everybody.

`make docs test-docs` runs this.  It needs Chromium, as `make test-browser` does, and leaves
screenshots in build/site-shots: look at them.
"""

import functools
import http.server
import json
import re
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import api_pages
import execute
import pytest
import website
import yaml
from chromium import watched
from playwright.sync_api import Page, expect

ROOT = Path(__file__).parents[2]
SITE = ROOT / "build" / "site"
SHOTS = ROOT / "build" / "site-shots"
AXE = ROOT / "build" / "npm" / "node_modules" / "axe-core" / "axe.min.js"
MOST_TERMS = 45  # links to the glossary in a notebook
LARGEST = 3_000_000  # bytes of a page and its pictures; scripts and fonts are shared by all pages
WIDTHS = {"phone": 390, "laptop": 1280, "projector": 1920}
NOTEBOOKS = [f"notebooks/{path.stem}.html" for path in execute.notebooks()]
DOCS = [f"docs/{path.stem}.html" for path in sorted((ROOT / "docs").glob("*.md"))]
API = [f"api/{name}.html" for name in api_pages.modules()]
LIVE = [f"live/{name}/index.html" for name in website.LIVE]  # complete in themselves
PAGES = [
    *("index.html", "README.html", "CHANGELOG.html", "api/index.html", "live/index.html"),
    *(*NOTEBOOKS, *DOCS, *API),
]
KINDS = [
    *("index.html", "README.html", NOTEBOOKS[2], "notebooks/06_sampling_and_gifs.html"),
    *("docs/errata.html", "docs/equations.html", "docs/bring_your_own.html", "docs/glossary.html"),
    *("api/index.html", "api/diffusion.html", "live/index.html", "CHANGELOG.html"),
    *("_modules/tutorial_lib/diffusion.html", "genindex.html", "search.html"),
]


class Contents(HTMLParser):
    """What a page has: places that can be linked to, links, pictures, formulas to be drawn, and
    links to the glossary with the elements that they are in.
    """

    def __init__(self, page: Path):
        super().__init__()
        self.places, self.links, self.pictures, self.formulas = set(), [], [], 0
        self.terms, self.inside = [], []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.places |= {given[key] for key in ("id", "name") if given.get(key)}
        if tag == "img":
            self.pictures.append(given)
        if tag in ("a", "link", "script", "source"):
            self.links += [given[key] for key in ("href", "src") if given.get(key)]
        classes = (given.get("class") or "").split()
        self.formulas += "math" in classes
        if tag == "a" and "term" in classes:
            self.terms.append(
                (given["href"], given.get("title"), {kind for _, kind in self.inside})
            )
        self.inside.append((tag, "math" if "math" in classes else tag))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.inside.pop()

    def handle_endtag(self, tag):
        if tag in (name for name, _ in self.inside):
            while self.inside.pop()[0] != tag:
                pass  # an element that has no end, as <img>


@functools.cache
def contents(name: str) -> Contents:
    return Contents(SITE / name)


def every_page() -> list[str]:
    return sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html"))


def test_there_is_a_page_for_everything():
    missing = [name for name in [*PAGES, *LIVE] if not (SITE / name).is_file()]
    assert not missing, "make docs"
    assert len(PAGES) > 100 and len(NOTEBOOKS) >= 15


def stored_pictures(path: Path) -> int:
    """How many pictures a notebook shows, by its source: outputs, films, and those of its prose."""
    count = 0
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            count += len(re.findall(r"!\[[^\]]*\]\(|<img ", text))
        for output in cell.get("outputs", []):
            page = "".join(output.get("data", {}).get("text/html", ""))
            count += "image/png" in output.get("data", {}) or "<img " in page
    return count


@pytest.mark.parametrize("path", execute.notebooks(), ids=lambda path: path.stem)
def test_a_notebook_shows_every_picture_that_is_stored(path):
    page = contents(f"notebooks/{path.stem}.html")
    shown = [p for p in page.pictures if not p["src"].startswith(("data:", "../_static"))]
    assert len(shown) == stored_pictures(path) > 0


def test_every_picture_is_there_and_has_words():
    for name in every_page():
        for picture in contents(name).pictures:
            where = f"{name}: {picture['src'][:80]}"
            if "_static/" in picture["src"] and "_static/players/" not in picture["src"]:
                continue  # of the theme, beside a text that says the same
            assert len((picture.get("alt") or "").split()) >= 5, where
            for source in (picture["src"], picture.get("data-still")):
                assert source is None or (SITE / name).parent.joinpath(source).is_file(), where


def test_every_link_inside_the_site_leads_somewhere():
    broken = []
    for name in every_page():
        for link in contents(name).links:
            target, place = urldefrag(link)
            if re.match(r"[a-z]+:|//", target):
                continue
            path = (SITE / name).parent / unquote(target).partition("?")[0]
            path = path.resolve() if target else SITE / name
            path = path / "index.html" if path.is_dir() else path
            if not path.is_file():
                broken.append(f"{name} -> {link}")
                continue
            lost = path.suffix == ".html" and place and unquote(place) not in places(path)
            if lost:
                broken.append(f"{name} -> {link}")
    assert not broken


def places(path: Path) -> set[str]:
    """What a link to a page of the site may end with."""
    return contents(path.relative_to(SITE).as_posix()).places


def test_no_page_is_heavy():
    for name in PAGES:
        files = {(SITE / name).parent / p["src"] for p in contents(name).pictures}
        size = (SITE / name).stat().st_size + sum(f.stat().st_size for f in files if f.is_file())
        assert size < LARGEST, f"{name}: {size / 1e6:.1f} MB"


def test_what_a_notebook_teaches_links_there_and_back():
    function = (SITE / "api" / "diffusion.html").read_text(encoding="utf-8")
    lesson = (SITE / "notebooks" / "02_forward_noising.html").read_text(encoding="utf-8")
    assert "notebooks/02_forward_noising.html#section-2-3" in function
    assert "api/diffusion.html#tutorial_lib.diffusion.q_sample" in lesson
    assert "_modules/tutorial_lib/diffusion.html#q_sample" in function


def test_notebooks_can_be_launched_exactly_where_a_repository_is_known():
    known = "github.com/" in above((SITE / "index.html").read_text(encoding="utf-8"))
    for name in NOTEBOOKS:
        header = above((SITE / name).read_text(encoding="utf-8"))
        assert ("colab.research.google.com" in header) == known, name
        assert ("mybinder.org" in header) == known, name
        assert ("/issues/new" in header) == known, name
        assert name.removeprefix("notebooks/").replace(".html", ".ipynb") in header, "a download"


def number(name: str) -> str:
    """Of a notebook's page, "02"."""
    return name.removeprefix("notebooks/").partition("_")[0]


def test_the_words_of_a_notebook_lead_to_the_glossary():
    entries = yaml.safe_load((ROOT / "docs" / "glossary.yml").read_text(encoding="utf-8"))
    said = {entry["key"]: entry["says"] for entry in entries}
    counts = {}
    for name in NOTEBOOKS:
        links = contents(name).terms
        counts[number(name)] = len(links)
        keys = [href.removeprefix("../docs/glossary.html#") for href, _, _ in links]
        assert len(set(keys)) == len(keys), f"{name}: once each"
        assert [title for _, title, _ in links] == [said[key] for key in keys], name
        closed = {"h1", "h2", "h3", "h4", "pre", "code", "math", "table", "button"}
        assert not any(inside & closed for _, _, inside in links), name
        end = (SITE / name).read_text(encoding="utf-8").partition('class="at-the-end')[2]
        assert "../docs/glossary.html" in end.partition("</article>")[0], name
    lessons = {n: count for n, count in counts.items() if n != "19"}  # 19 introduces no word
    assert all(1 <= count <= MOST_TERMS for count in lessons.values()), counts
    assert sum(lessons.values()) >= 150, counts


def test_a_notebook_links_the_words_that_it_introduces():
    first = {href.partition("#")[2] for href, _, _ in contents(NOTEBOOKS[1]).terms}
    assert {"markov-chain", "transition-matrix", "detailed-balance", "aperiodic"} <= first
    judged = contents("notebooks/06b_judging_samples.html").terms
    assert not any(href.endswith("#precision") for href, _, _ in judged)


def test_pages_in_the_browser_and_the_site_lead_to_each_other():
    front = contents("index.html").links
    for name, lessons in website.LIVE.items():
        page = contents(f"live/{name}/index.html")
        assert f"live/{name}/index.html" in front
        assert f"../live/{name}/index.html" in contents("live/index.html").links
        assert "../../index.html" in page.links
        for lesson in NOTEBOOKS:
            assert (number(lesson) in lessons) == (f"../../{lesson}" in page.links), (name, lesson)
    for n, name in {"00": "points", "06": "garments", "09": "points", "10": "garments"}.items():
        (lesson,) = (page for page in NOTEBOOKS if number(page) == n)
        assert f"../live/{name}/index.html" in contents(lesson).links, lesson


def test_a_mistake_is_said_each_time_and_leaves_the_site_as_it_was(tmp_path, monkeypatch, capfd):
    """Sphinx warns only of what it reads: no build may know what an earlier one has read."""
    built = tmp_path / "site"
    built.mkdir()
    (built / "index.html").write_text("an earlier site")
    monkeypatch.setattr(website, "SITE", built)

    def assembled(folder: Path, repository: str) -> None:
        website.place(folder, {"sources/index.md": "# A page\n\n[Lost](nowhere.md)\n"})
        (folder / "static").mkdir()

    monkeypatch.setattr(website, "assemble", assembled)
    for folder in ("first", "second"):
        assert website.build(tmp_path / folder, "") == 1
        assert "nowhere.md" in capfd.readouterr().err
    assert (built / "index.html").read_text() == "an earlier site"


def above(text: str) -> str:
    """A page's text before its article: menus and buttons."""
    return text.partition("<article")[0]


# --- in a browser


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The site on a port of its own."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    handler = functools.partial(Quiet, directory=SITE)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def page(browser, address) -> Iterator[Page]:
    """A page that fails the test when something goes wrong on it or it asks another machine."""
    with watched(browser, (address, "data:", "blob:")) as page:
        yield page


DRAWN = "() => window.MathJax?.startup?.promise?.then(() => true)"
# formulas, in the text and in the menus, that have not been drawn just once
UNDRAWN = """() => [...document.querySelectorAll(".math")]
    .filter((formula) => formula.querySelectorAll("mjx-container").length !== 1)
    .map((formula) => formula.textContent)"""


@pytest.mark.parametrize("name", [*PAGES, *KINDS[-3:]])  # the last have no source of their own
def test_a_page_draws_its_formulas_and_asks_nobody(page, address, name):
    page.goto(f"{address}/{name}", wait_until="load")
    if formulas := contents(name).formulas:
        page.wait_for_function(DRAWN)
        assert page.locator(".math").count() == formulas
        assert page.evaluate(UNDRAWN) == []
        assert page.locator("mjx-merror").count() == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", KINDS)
def test_everybody_can_read_it(page, address, name, theme):
    """axe-core finds nothing against the levels A and AA of the web's guidelines."""
    page.add_init_script(f"localStorage.mode = localStorage.theme = '{theme}'")
    page.goto(f"{address}/{name}", wait_until="load")
    assert page.locator("html").get_attribute("data-theme") == theme
    if contents(name).formulas:
        page.wait_for_function(DRAWN)
    assert violations(page) == []


def violations(page: Page) -> list[tuple]:
    """What axe-core finds against the levels A and AA: the rule, the first element, how many."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    levels = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
    found = page.evaluate("levels => axe.run({runOnly: levels})", levels)["violations"]
    return [(v["id"], v["nodes"][0]["html"][:200], len(v["nodes"])) for v in found]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", LIVE)
def test_everybody_can_use_a_page_in_the_browser(page, address, name, theme):
    page.emulate_media(color_scheme=theme)
    page.goto(f"{address}/{name}", wait_until="load")
    assert violations(page) == []


def test_garments_are_drawn_from_the_built_site(page, address):
    page.goto(f"{address}/index.html", wait_until="load")
    page.locator("article").get_by_role("link", name="Garments in your browser").click()
    page.wait_for_url("**/live/garments/index.html")
    page.goto(f"{page.url}#count=1&steps=2", wait_until="load")
    page.reload()
    expect(page.locator("#status")).to_contain_text("1 garment, 2 evaluations")
    grey = page.locator("#x_0_hat").evaluate(GREY)
    assert max(grey) - min(grey) > 100, "a picture has light and dark"
    page.get_by_role("link", name="Diffusion models from first principles").click()
    page.wait_for_url("**/index.html")
    assert page.title() == "Diffusion models from first principles"


GREY = """(canvas) => {
    const { width, height } = canvas;
    const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
    return [...pixels.filter((_, i) => i % 4 === 0)];
}"""


def test_points_are_learned_and_drawn_from_the_built_site(page, address):
    page.goto(f"{address}/{NOTEBOOKS[0]}", wait_until="load")
    page.locator("article").get_by_role("link", name="Learn in your browser").click()
    page.wait_for_url("**/live/points/index.html")
    page.evaluate("byId('steps').append(new Option('20', '20', true, true))")
    page.locator("#train").click()
    page.wait_for_function("learn.phase === 'trained'", polling=200)
    for which in (0, 1):
        expect(page.locator(f"#result-{which}")).to_contain_text(re.compile(r"median \d"))
        assert len(set(page.locator(f"#walk-{which}").evaluate(GREY))) > 10, "points are drawn"
    page.get_by_role("link", name="notebook 09", exact=True).click()
    page.wait_for_url("**/notebooks/09_*.html")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", [*KINDS, *LIVE])
def test_it_fits_the_screen(page, address, name, width):
    page.set_viewport_size({"width": WIDTHS[width], "height": 900})
    page.goto(f"{address}/{name}", wait_until="load")
    if contents(name).formulas:
        page.wait_for_function(DRAWN)
    SHOTS.mkdir(parents=True, exist_ok=True)
    shot = name.removesuffix(".html").replace("/", "-")
    page.screenshot(path=SHOTS / f"{shot}_{width}.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTHS[width]


def test_a_film_can_be_stopped(page, address):
    page.goto(f"{address}/index.html", wait_until="load")
    film, button = page.locator("img[data-still]").first, page.locator(".film-button").first
    moving = film.get_attribute("src")
    button.click()
    assert film.get_attribute("src") == film.get_attribute("data-still") != moving
    button.click()
    assert film.get_attribute("src") == moving


def test_whoever_wants_no_motion_sees_stills(page, address):
    page.emulate_media(reduced_motion="reduce")
    page.goto(f"{address}/index.html", wait_until="load")
    film = page.locator("img[data-still]").first
    assert film.get_attribute("src") == film.get_attribute("data-still")


def test_the_search_finds_an_equations_function(page, address):
    page.goto(f"{address}/search.html?q=q_sample", wait_until="load")
    page.locator("#search-results li a").first.wait_for()
