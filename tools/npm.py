"""Fetch what site, slides and book load from npm, in the versions that a lock file pins."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import folders

NAMES = ("package.json", "package-lock.json")


def fetch(manifest: Path, into: Path, purpose: str) -> Path:
    """The packages that the folder `manifest` pins, fetched into `into` if they are not there yet;
    all of them or, where that fails, none.

    purpose: who needs them, for the message that is shown where npm or the connection is missing.
    Returns the folder of the packages.
    """
    packages = into / "node_modules"
    if not current(manifest, into):
        npm = shutil.which("npm")
        if not npm:
            sys.exit(f"{purpose} need npm: install Node.js (https://nodejs.org), and try again.")
        into.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="npm-", dir=into.parent) as folder:
            new = Path(folder) / "new"
            new.mkdir()
            for name in NAMES:
                shutil.copy(manifest / name, new)
            command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            command += ["--loglevel=error", "--fetch-retries=5"]
            if code := subprocess.run(command, cwd=new, check=False).returncode:
                sys.exit(
                    f"npm could not fetch what {manifest}/package.json names (it ended with "
                    f"{code}, and says above why); is there a connection?"
                )
            if not current(manifest, into):  # another program may have been quicker
                folders.put(new, into)
    return packages


def current(manifest: Path, into: Path) -> bool:
    """Whether the packages of `manifest` are there already."""
    there = [into / "node_modules" / ".package-lock.json", *(into / name for name in NAMES)]
    if not all(path.exists() for path in there):
        return False
    return all((into / name).read_bytes() == (manifest / name).read_bytes() for name in NAMES)
