"""A real browser: each notebook runs in JupyterLab, and those with explorers under Voila; their
pictures follow the keyboard.

`make test-browser` runs this in some processes at a time.  It needs Chromium (Debian: `apt-get
install chromium`; elsewhere the variable CHROMIUM says where it is; no test is collected where that
names no program) and keeps screenshots in build/browser.  Nothing here depends on how fast the
machine is: whatever has to come is waited for until it comes, up to the one limit `SECONDS`.  What
tests in a browser share is in chromium.py.
"""

import json
import os
import re
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
from chromium import SECONDS, launched
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Playwright, expect

ROOT = Path(__file__).parents[2]
SHOTS = ROOT / "build" / "browser"
NOTEBOOKS = sorted(
    (ROOT / "notebooks").glob("[0-9][0-9]*_*.ipynb"), reverse=True
)  # the long ones first
TRIALS = 6
LOCAL = urllib.request.build_opener(
    urllib.request.ProxyHandler({})
)  # whatever proxy this machine has
QUIET_LAB = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}
}
PATIENT = f"--MappingKernelManager.kernel_info_timeout={SECONDS}"


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
        "JUPYTER_CONFIG_DIR": str(private), "JUPYTER_RUNTIME_DIR": str(private / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(private / "lab" / "user-settings"),
        "IPYTHONDIR": str(private / "ipython"),
        "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TUTORIAL_LIB_QUIET": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # as readers have it
        "MALLOC_MMAP_THRESHOLD_": "1000000000",  # fewer page faults
        "MALLOC_TRIM_THRESHOLD_": "4000000000",
    }  # fmt: skip
    with (folder.parent / f"server-{port}.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", *command, f"--port={port}", PATIENT],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
        )
        try:
            address, latest = f"http://127.0.0.1:{port}", time.monotonic() + SECONDS
            while True:
                try:
                    LOCAL.open(address, timeout=SECONDS).close()
                    break
                except OSError:
                    assert server.poll() is None, f"{command[0]} ended: see {log.name}"
                    assert time.monotonic() < latest, f"{command[0]} is silent: see {log.name}"
                    time.sleep(0.1)
            yield address
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("browser") / "notebooks"
    shutil.copytree(
        ROOT / "notebooks",
        target,
        ignore=shutil.ignore_patterns("solutions", "*.py", "__pycache__"),
    )
    return target


@pytest.fixture(scope="module")
def lab(folder) -> Iterator[str]:
    options = (
        "--no-browser",
        "--allow-root",
        "--IdentityProvider.token=",
        "--expose-app-in-browser",
    )
    with serving(folder, "jupyterlab", *options) as address:
        yield address


@pytest.fixture(scope="module")
def voila(folder) -> Iterator[str]:
    foreign = (
        "@jupyter/nbgrader",
        "@jupyter-notebook/lab-extension",
    )  # made for other pages than Voila's
    options = (
        "--no-browser",
        "--VoilaConfiguration.show_tracebacks=True",
        *(f"--VoilaConfiguration.extension_denylist={name}" for name in foreign),
        '--Voila.tornado_settings={"disable_check_xsrf": True}',  # see `test_under_voila`
        f"--VoilaExecutor.startup_timeout={SECONDS}",
    )
    with serving(folder, "voila", *options) as address:
        yield address


@pytest.fixture(scope="module")
def context(playwright: Playwright) -> Iterator[BrowserContext]:
    """A browser for all pages: what JupyterLab and Voila are made of is fetched and compiled
    once.
    """
    browser = launched(playwright)
    pages = browser.new_context(viewport={"width": 1250, "height": 1000})
    pages.set_default_timeout(1000 * SECONDS)
    yield pages
    browser.close()


def opened(context: BrowserContext) -> tuple[Page, list[str]]:
    """A page, and what goes wrong on it; if the test fails, its report has all that was said."""
    page, errors = context.new_page(), []

    def say(text: object) -> None:
        print(time.strftime("%X"), str(text)[:300])

    def listen(message: ConsoleMessage) -> None:
        """Voila asks for two style sheets that only the web has, and does without."""
        say(f"console {message.type}: {message.text}")
        elsewhere = message.location["url"].startswith("https://")
        if message.type == "error" and not elsewhere:
            errors.append(message.text)

    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", listen)
    page.on("websocket", lambda socket: say(f"connected to {socket.url}"))
    page.on("websocket", lambda socket: socket.on("close", lambda _: say("connection closed")))
    return page, errors


EXPLORER = ".widget-vbox:has(.widget-image)"
ERROR = "[data-mime-type='application/vnd.jupyter.error']"
# A page looks for its widgets two seconds long.  If they come in the last moment, as they do on a
# busy machine, it says this, although they are there (`get_model` of ipywidgets 8.1.9).
LOST = ".jupyter-widgets:text('model not found')"
HASH = """async image => {
    const bytes = await (await fetch(image.src)).arrayBuffer();
    return new Uint8Array(await crypto.subtle.digest('SHA-256', bytes)).join();
}"""
ANOTHER = f"""async ([image, before]) => {{
    const hash = {HASH};
    return await hash(image).catch(() => before) !== before;  // it may be replaced under our eyes
}}"""


PROJECTED = {"width": 731, "height": 411}  # what a projector of 1280 x 720 shows at 175 %
INSIDE = """image => {
    const room = image.closest('.widget-vbox').parentElement.getBoundingClientRect();
    return image.getBoundingClientRect().right <= room.right + 4;
}"""


def explorers(path: Path) -> int:
    """How many a notebook shows, by its stored outputs."""
    return path.read_text(encoding="utf-8").count("An explorer: run this cell")


def arrived(page: Page, path: Path, otherwise: str) -> None:
    """Wait for the last explorer of a page, if the notebook has any, or for something else."""
    if count := explorers(path):
        last = page.locator(EXPLORER).nth(count - 1)
        expect(last.or_(page.locator(otherwise)).first).to_be_attached()


def move_by_keyboard(page: Page, path: Path, where: str) -> None:
    """Focus each explorer's first slider, press an arrow key, and see its picture become another
    one.
    """
    arrived(page, path, ERROR)
    boxes, count = page.locator(EXPLORER), explorers(path)
    assert page.locator(ERROR).all_text_contents() == []
    expect(boxes).to_have_count(count)
    for i in range(count):
        box = boxes.nth(i)
        box.scroll_into_view_if_needed()
        image, handle = box.locator("img").first, box.locator(".noUi-handle").first
        readout = box.locator(".widget-readout").first
        expect(readout).not_to_be_empty()
        expect(image).to_have_attribute("src", re.compile("^blob:"))
        before, said = image.evaluate(HASH), readout.text_content()
        handle.focus()
        now, last = (handle.get_attribute(f"aria-value{name}") for name in ("now", "max"))
        page.keyboard.press("ArrowLeft" if now == last else "ArrowRight")
        expect(readout).not_to_have_text(said)
        page.wait_for_function(ANOTHER, arg=[image.element_handle(), before], polling=100)
        image.evaluate("image => image.decode().catch(() => null)")  # else the one before is seen
        SHOTS.mkdir(parents=True, exist_ok=True)
        box.screenshot(path=SHOTS / f"{path.stem}_{i + 1}_{where}.png")
    page.set_viewport_size(PROJECTED)
    if count:  # pictures shrink with the page
        last = boxes.nth(count - 1).locator("img").first
        last.scroll_into_view_if_needed()
        page.wait_for_function(INSIDE, arg=last.element_handle(), polling=100)


RUN_ALL = """async seconds => {
    const app = window.jupyterapp, panel = app.shell.currentWidget, context = panel.sessionContext;
    const run = async () => {
        await context.ready;
        await context.session.kernel.info;
        await app.commands.execute('notebook:run-all-cells');
    };
    const late = (_, no) => setTimeout(() => no(new Error('it takes too long')), 1000 * seconds);
    await Promise.race([run(), new Promise(late)]);
    const cells = [...panel.content.model.cells].map(cell => cell.toJSON());
    const errors = cell => cell.outputs.filter(output => output.output_type === 'error');
    const said = cell => errors(cell).map(output => output.evalue);
    const code = cells.filter(cell => cell.cell_type === 'code');
    const wrong = code.filter(cell => !cell.execution_count || said(cell).length);
    return wrong.slice(0, 1).map(cell => [cell.source, said(cell)]);
}"""


def each(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=lambda path: path.stem)


@each(NOTEBOOKS)
def test_in_jupyterlab(path, lab, context):
    page, errors = opened(context)
    page.goto(f"{lab}/lab/tree/{path.name}?reset")
    page.wait_for_function("() => window.jupyterapp?.shell?.currentWidget?.sessionContext")
    assert page.evaluate(RUN_ALL, SECONDS) == []
    move_by_keyboard(page, path, "lab")
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    page.close()
    assert errors == []


@each([path for path in NOTEBOOKS if explorers(path)])
def test_under_voila(path, voila, context):
    """Where there are explorers: for them one opens Voila.

    A page that is closed asks for its kernel to be ended, without the token that Voila 0.5.13
    wants of a form (its issue 1458): unless the server asks for none, kernels pile up.
    """
    for _ in range(TRIALS):  # as a reader would: when widgets are lost, load the page anew
        page, errors = opened(context)
        page.goto(f"{voila}/voila/render/{path.name}", wait_until="load")
        arrived(page, path, f"{ERROR}, {LOST}")
        if not page.locator(LOST).count():
            break
        page.close(run_before_unload=True)
    move_by_keyboard(page, path, "voila")
    assert errors == []
    page.close(run_before_unload=True)
