"""The live pages in Firefox: garments are Python's there too, and points are learned.

It is the Firefox that is installed, driven by WebDriver BiDi, which needs npm.  Playwright drives
only a Firefox of its own.
"""

import json
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import npm
import pytest
import torch
from chromium import SECONDS
from test_browser import SHOTS
from test_live import CASES, FEW, LAST, TOLERANCE, expected, folder, server
from test_points import FOLDER as POINTS

__all__ = ["folder", "server"]
HERE = Path(__file__).parent / "firefox"
PACKAGES = Path(__file__).parents[2] / "build" / "npm-firefox"
FIREFOX = next(filter(None, map(shutil.which, ("firefox", "firefox-esr"))), None)
DRAWN = "document.getElementById('status').textContent.includes('1 garment, 2 evaluations')"

pytestmark = pytest.mark.skipif(
    not (FIREFOX and shutil.which("npm") and shutil.which("node")),
    reason="no Firefox, no npm, or no node: `apt-get install firefox-esr npm`",
)


def printed(command: list[str], given: str, seconds: float) -> str:
    """What the driver prints.  Where it takes too long, it is asked to end, and ends Firefox."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True) as program:
        try:
            said, wrong = program.communicate(given, timeout=seconds)
        except BaseException:
            program.terminate()
            with suppress(subprocess.TimeoutExpired):
                program.wait(60)
            program.kill()
            raise
    assert program.returncode == 0, wrong
    return said


def answers(plan: list[list], own: str) -> list:
    """What Firefox answers to the plan of drive.mjs.  Nothing may go wrong on the page, or ask for
    an address that does not begin as `own`.
    """
    if not npm.current(HERE, PACKAGES):
        ping = [shutil.which("npm"), "ping"]
        if subprocess.run(ping, capture_output=True).returncode:
            pytest.skip("npm's registry does not answer")
    packages = npm.fetch(HERE, PACKAGES, "Tests in Firefox")
    command = ["node", str(HERE / "drive.mjs"), FIREFOX, str(packages)]
    found = json.loads(printed(command, json.dumps(plan), 2 * SECONDS))
    assert found["errors"] == []
    assert [url for url in found["addresses"] if not url.startswith((own, "data:", "blob:"))] == []
    return found["answers"]


def test_the_page_draws_what_python_draws(server, folder):
    """From a plain web server, all cases of test_live.py."""
    plan = [["open", server], ["wait", DRAWN], *(["ask", LAST, CASES[name]] for name in CASES)]
    SHOTS.mkdir(parents=True, exist_ok=True)
    plan.append(["shot", str(SHOTS / "live_in_firefox.png")])
    drawn = answers(plan, own=server.partition("index")[0])
    for (name, request), there in zip(CASES.items(), drawn, strict=True):
        last = expected(folder, request)
        for pixels, here in ((there["x"], last.x), (there["x_0_hat"], last.x_0_hat)):
            gap = (torch.tensor(pixels).view_as(here) - here).abs().max()
            assert gap < TOLERANCE, f"{name}: {gap:.2e}"


def test_garments_from_a_file_by_keyboard(folder):
    code = "() => document.getElementById('code').textContent"
    plan = [
        ["open", (folder / "index.html").as_uri() + FEW],
        ["wait", DRAWN],
        ["press", "#seed", "ArrowUp", "Enter"],
        ["wait", "document.getElementById('code').textContent.includes('--seed 1 ')"],
        ["ask", code],
        ["press", "#moment", "Home"],
        ["wait", "document.getElementById('moment-says').textContent.includes('after 0 of 2')"],
    ]
    (said,) = answers(plan, own=folder.as_uri())
    assert "--steps 2 " in said


def test_points_from_a_file_are_learned():
    ready = "document.getElementById('progress-text').textContent.includes('1000 of 1000 steps')"
    plan = [
        ["open", (POINTS / "index.html").as_uri()],
        ["ask", "() => { document.getElementById('steps').value = '1000'; }"],
        ["press", "#train", "Enter"],
        ["wait", ready],
        ["shot", str(SHOTS / "points_in_firefox.png")],
        ["ask", "() => document.getElementById('result-0').textContent"],
    ]
    SHOTS.mkdir(parents=True, exist_ok=True)
    *_, said = answers(plan, own=POINTS.as_uri())
    assert float(re.search(r"median ([\d.]+)", said)[1]) < 0.1
