"""A real browser: each notebook runs in JupyterLab and under Voila, and its picture follows the keyboard.

`make test-browser` runs this.  It needs Chromium (Debian: `apt-get install chromium`; elsewhere the variable CHROMIUM
says where it is) and keeps screenshots in build/browser.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).parents[2]
SHOTS = ROOT / "build" / "browser"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
SECONDS = 150  # the longest that one notebook may take to run
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip
QUIET_LAB = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextmanager
def serving(folder: Path, *command: str) -> Iterator[str]:
    """A Jupyter server on a port of its own, with settings of its own; yields its address."""
    port = free_port()
    private = folder.parent / f"private-{port}"
    for room, settings in QUIET_LAB.items():
        package, name = room.split(":")
        path = private / "lab" / "user-settings" / package / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(settings))
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(private), "JUPYTERLAB_SETTINGS_DIR": str(private / "lab" / "user-settings"),
        "JUPYTER_RUNTIME_DIR": str(private / "runtime"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
        "TUTORIAL_LIB_QUIET": "1",
    }  # fmt: skip
    with (folder.parent / f"server-{port}.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", *command, f"--port={port}"], cwd=folder, env=environment, stdout=log, stderr=log
        )
        try:
            address = f"http://127.0.0.1:{port}"
            for _ in range(300):
                try:
                    urllib.request.urlopen(address, timeout=2).close()
                    break
                except OSError:
                    assert server.poll() is None, f"{command[0]} ended: see {log.name}"
                    time.sleep(0.1)
            yield address
        finally:
            server.terminate()
            server.wait(20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("browser") / "notebooks"
    shutil.copytree(ROOT / "notebooks", target, ignore=shutil.ignore_patterns("solutions", "*.py", "__pycache__"))
    return target


@pytest.fixture(scope="module")
def lab(folder) -> Iterator[str]:
    options = ("--no-browser", "--allow-root", "--IdentityProvider.token=", "--expose-app-in-browser")
    with serving(folder, "jupyterlab", *options) as address:
        yield address


@pytest.fixture(scope="module")
def voila(folder) -> Iterator[str]:
    with serving(folder, "voila", "--no-browser", "--VoilaConfiguration.show_tracebacks=True") as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM, "no Chromium: `apt-get install chromium`, or say in CHROMIUM where it is"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


def opened(browser: Browser) -> tuple[Page, list[str]]:
    """A page, and what goes wrong on it."""
    page, errors = browser.new_page(viewport={"width": 1250, "height": 1000}), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    return page, errors


def move_by_keyboard(page: Page, name: str) -> None:
    """Focus each explorer's first slider, press an arrow key, and see its picture change."""
    boxes = page.locator(".widget-vbox:has(img.widget-image, .widget-image)")
    expect(boxes.first).to_be_visible(timeout=20_000)
    for i in range(boxes.count()):
        box = boxes.nth(i)
        box.scroll_into_view_if_needed()
        image, handle, readout = (
            box.locator("img").first,
            box.locator(".noUi-handle").first,
            box.locator(".widget-readout").first,
        )
        before, said = image.get_attribute("src"), readout.inner_text()
        handle.focus()
        page.keyboard.press("ArrowRight")
        if readout.inner_text() == said:
            page.keyboard.press("ArrowLeft")  # it stood at its right end
        expect(readout).not_to_have_text(said)
        expect(image).not_to_have_attribute("src", before)
        SHOTS.mkdir(parents=True, exist_ok=True)
        box.screenshot(path=SHOTS / f"{name}_{i + 1}.png")


RUN_ALL = """async () => {
    const app = window.jupyterapp, context = app.shell.currentWidget.sessionContext;
    await context.ready;
    await context.session.kernel.info;
    await app.commands.execute('notebook:run-all-cells');
    const cells = app.shell.currentWidget.content.model.cells, failed = [];
    for (let i = 0; i < cells.length; i++) {
        const cell = cells.get(i);
        if (cell.type === 'code' && cell.toJSON().outputs.some(o => o.output_type === 'error')) failed.push(i);
    }
    return failed;
}"""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_in_jupyterlab_and_under_voila(path, lab, voila, browser):
    """Voila works on its page while JupyterLab runs the notebook in the other."""
    page_voila, errors_voila = opened(browser)
    page_voila.goto(f"{voila}/voila/render/{path.name}", wait_until="commit", timeout=1000 * SECONDS)
    page, errors = opened(browser)
    page.goto(f"{lab}/lab/tree/{path.name}?reset")
    page.wait_for_function("() => window.jupyterapp?.shell?.currentWidget?.sessionContext", timeout=60_000)
    page.set_default_timeout(1000 * SECONDS)
    assert page.evaluate(RUN_ALL) == []
    move_by_keyboard(page, f"{path.stem[:2]}_lab")
    page.close()
    expect(page_voila.locator(".widget-vbox").first).to_be_visible(timeout=1000 * SECONDS)
    move_by_keyboard(page_voila, f"{path.stem[:2]}_voila")
    page_voila.close()
    assert errors == []
    assert errors_voila == []
