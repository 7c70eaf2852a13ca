"""What all tests in a browser share: which Chromium, how it is started, and the one driver that
there can be in a process.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import printing
import pytest
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

CHROMIUM = printing.chromium()
FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-sync", "--disable-background-networking", "--disable-component-update",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # pages see nothing of the internet
]  # fmt: skip
SECONDS = 600  # the longest that anything may take, a whole notebook on a busy machine included
expect.set_options(timeout=1000 * SECONDS)


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as driver:
        yield driver


def launched(playwright: Playwright) -> Browser:
    """Chromium, started."""
    assert CHROMIUM, "no Chromium: `apt-get install chromium`, or say in CHROMIUM where it is"
    return playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=1000 * SECONDS)


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    started = launched(playwright)
    yield started
    started.close()


@contextmanager
def watched(browser: Browser, own: tuple[str, ...], height: int = 900) -> Iterator[Page]:
    """A page of 1280 pixels, which at its end must have had no error and asked for no address but
    those that begin as one of `own`.
    """
    context = browser.new_context(viewport={"width": 1280, "height": height})
    context.set_default_timeout(1000 * SECONDS)
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("request", lambda one: one.url.startswith(own) or wrong.append(f"asks for {one.url}"))
    try:
        yield page
    except BaseException:
        print(*wrong, sep="\n")  # mostly the very reason
        raise
    finally:
        context.close()
    assert wrong == []
