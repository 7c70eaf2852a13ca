"""What all tests in a browser share: which Chromium, how it is started, and the one driver that
there can be in a process.
"""

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Playwright, expect, sync_playwright

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
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
