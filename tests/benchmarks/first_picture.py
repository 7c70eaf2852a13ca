"""How soon the first picture of each page of the site can be seen, from a local server.

    python tests/benchmarks/first_picture.py

`make docs` comes first.  In headless Chromium, a page of 1280 x 900 with nothing of the site in its
cache.  The time is that at which the picture has arrived and the page has begun to be painted: the
picture is not seen earlier, and a little later, for it has to be decoded.  What is printed is the
median of three visits, of the slowest pages and of all; a machine that does something else takes
longer.
"""

import functools
import http.server
import statistics
import sys
import threading
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests")]
SITE = ROOT / "build" / "site"
VISITS = 3
SLOWEST = 5
SEEN = """() => {
    const picture = [...document.querySelectorAll('.bd-article img')].find(it => it.complete);
    if (!picture) return null;
    const [arrived] = performance.getEntriesByName(picture.currentSrc);
    const [painted] = performance.getEntriesByName('first-contentful-paint');
    return Math.max(painted.startTime, arrived ? arrived.responseEnd : 0);
}"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    """The site, without a line for each request."""

    def log_message(self, *arguments: object) -> None:
        pass


def milliseconds(browser: Browser, address: str) -> float | None:
    """Until the first picture of a page can be seen; None of a page without one."""
    times = []
    for _ in range(VISITS):
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        try:
            page = context.new_page()
            page.goto(address)
            page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
            if (seen := page.evaluate(SEEN)) is None:
                return None
            times.append(seen)
        finally:
            context.close()
    return statistics.median(times)


def main() -> None:
    """Visit all pages of notebooks and of docs, and the front page."""
    from chromium import launched

    if not (SITE / "index.html").exists():
        sys.exit("There is no site yet: make docs")
    pages = [
        SITE / "index.html",
        *(path for folder in ("notebooks", "docs") for path in (SITE / folder).glob("*.html")),
    ]
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=SITE)
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with sync_playwright() as playwright:
        browser = launched(playwright)
        found = {}
        for path in pages:
            name = path.relative_to(SITE).as_posix()
            seen = milliseconds(browser, f"http://127.0.0.1:{server.server_address[1]}/{name}")
            if seen is not None:
                found[name] = seen
        browser.close()
    if not found:
        sys.exit(f"None of {len(pages)} pages shows a picture: is {SITE} whole?")
    for name in sorted(found, key=lambda name: -found[name])[:SLOWEST]:
        print(f"{found[name]:5.0f} ms  {name}")
    print(f"{statistics.median(found.values()):5.0f} ms  the median of {len(found)} with pictures")


if __name__ == "__main__":
    main()
