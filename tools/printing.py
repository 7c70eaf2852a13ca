"""Print pages by Chromium, where it is."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")  # as systems call it


def chromium() -> str | None:
    """Chromium's program: what CHROMIUM says, or one that is installed; None without one.

    Raises ValueError where CHROMIUM names no program.
    """
    if asked := os.environ.get("CHROMIUM"):
        if not (path := shutil.which(asked)):
            raise ValueError(
                f"CHROMIUM says {asked!r}, which is no program here: correct or unset it"
            )
        return path
    return next(filter(None, map(shutil.which, NAMES)), None)


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
    # Chromium may still write into its profile while that is removed
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]
        command += [f"--user-data-dir={profile}", f"--print-to-pdf={target.resolve()}"]
        command.append(page.resolve().as_uri())
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=60 * minutes)
        except subprocess.TimeoutExpired:
            raise RuntimeError(
                f"Chromium has not printed {page} in {minutes} minutes; the machine may be busy: "
                "try again, or raise MINUTES in tools/book.py or tools/printable.py"
            ) from None
    if not target.exists():
        raise RuntimeError(f"Chromium could not print {page}: {run.stderr.strip()[-500:]}")
