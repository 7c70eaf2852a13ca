"""Fetch what slides and book load from npm, in the versions that a lock file pins."""

import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("package.json", "package-lock.json")


def fetch(manifest: Path, into: Path, purpose: str) -> Path:
    """The packages that the folder `manifest` pins, fetched into `into` if they are not there yet.

    purpose: who needs them, for the message that is shown where npm or the connection is missing.
    Returns the folder of the packages.
    """
    packages = into / "node_modules"
    if not current(manifest, into):
        npm = shutil.which("npm")
        if not npm:
            sys.exit(f"{purpose} need npm: install Node.js (https://nodejs.org), and try again.")
        into.mkdir(parents=True, exist_ok=True)
        for name in NAMES:
            shutil.copy(manifest / name, into)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        if subprocess.run(command, cwd=into, check=False).returncode:
            sys.exit(
                f"npm could not fetch what {manifest}/package.json names; is there a connection?"
            )
    return packages


def current(manifest: Path, into: Path) -> bool:
    """Whether the packages of `manifest` are there already."""
    there = [into / "node_modules" / ".package-lock.json", *(into / name for name in NAMES)]
    if not all(path.exists() for path in there):
        return False
    return all((into / name).read_bytes() == (manifest / name).read_bytes() for name in NAMES)
