"""Print pages by Chromium, where it is."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path


def chromium() -> str | None:
    """Chromium's program: what CHROMIUM says, or one that is installed; None without one."""
    names = (os.environ.get("CHROMIUM"), "chromium", "google-chrome", "chrome")
    return next((path for name in names if name and (path := shutil.which(name))), None)


def without_font(languages: dict[str, str]) -> list[str]:
    """Names of the languages, by code, that no font of this machine can write.

    fontconfig knows; where it is not there, as on Windows and macOS, fonts are taken to be.
    """
    if not (program := shutil.which("fc-list")):
        return []
    fonts = {code: [program, f":lang={code}", "family"] for code in languages}
    return [
        languages[code]
        for code, command in fonts.items()
        if not subprocess.run(command, capture_output=True, text=True).stdout.strip()
    ]


def to_pdf(browser: str, page: Path, target: Path, minutes: float) -> None:
    """Print a page of HTML as PDF.  Raises RuntimeError, with a sentence, where that fails."""
    target.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]
        command += [f"--user-data-dir={profile}", f"--print-to-pdf={target.resolve()}"]
        command.append(page.resolve().as_uri())
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=60 * minutes)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"Chromium has not printed {page} in {minutes} minutes") from None
    if not target.exists():
        raise RuntimeError(f"Chromium could not print {page}: {run.stderr.strip()[-500:]}")
