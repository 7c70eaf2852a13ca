"""`make bundle`: the course and every package it needs in one folder, for a room without internet.

build/bundle/ is the repository as git knows it, with `wheels/` and two scripts that install from
there alone.  Wheels are for machines of the same kind as this one: operating system, processor,
version of Python.  What only `make bench` and `make test-browser` need is not among them.
"""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "build" / "bundle"
VERSION = "{}.{}".format(*sys.version_info)
INSTALL_SH = f"""#!/bin/sh
# Set up .venv from wheels/, without a network; then `make run`, `make lab` and `make test` work
# as the README says.
set -e
cd "$(dirname "$0")"
python="${{PYTHON:-python3}}"
"$python" -c 'import sys; sys.exit("{{}}.{{}}".format(*sys.version_info) != "{VERSION}")' || {{
    echo "These wheels are for Python {VERSION}. Name one: PYTHON=python{VERSION} sh install.sh"
    exit 1; }}
export PIP_NO_INDEX=1 PIP_FIND_LINKS=wheels
"$python" tools/make_venv.py
.venv/bin/python -m pip install --quiet -c constraints.txt -e ".[tests,grading]"
touch .venv/.ready && touch .venv/.tests
echo "Ready: make lab"
"""
INSTALL_BAT = f"""@echo off
rem Set up .venv from wheels\\, without a network.
cd /d "%~dp0"
set PIP_NO_INDEX=1
set PIP_FIND_LINKS=wheels
py -{VERSION} tools\\make_venv.py || exit /b 1
echo Ready: .venv\\Scripts\\python tools\\execute.py lab
"""


def tracked() -> list[str]:
    """The files of the repository.  Raises SystemExit outside a clone."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit("a bundle is made from a git clone; this folder is none")
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def requirements() -> list[str]:
    """All that setting up and grading install, PyTorch first, and what building a wheel needs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    needed = list(project["project"]["dependencies"])
    for extra in ("notebooks", "tests", "grading"):
        needed += project["project"]["optional-dependencies"][extra]
    torch = next(line for line in needed if line.startswith("torch>"))
    others = [line for line in needed if line != torch]
    return [torch, *others, *project["build-system"]["requires"]]


def main() -> None:
    """Write the bundle anew; the wheels that are there already are kept."""
    files = tracked()
    for path in BUNDLE.iterdir() if BUNDLE.exists() else ():
        if path.name != "wheels":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in files:
        target = BUNDLE / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    for name, text, end in (("install.sh", INSTALL_SH, "\n"), ("install.bat", INSTALL_BAT, "\r\n")):
        (BUNDLE / name).write_text(text, encoding="utf-8", newline=end)
    (BUNDLE / "install.sh").chmod(0o755)
    wheels = str(BUNDLE / "wheels")
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary", ":all:"]
    download += ["-c", "constraints.txt", "-d", wheels, "--find-links", wheels]
    # PyTorch first and alone, so that nothing pulls another build
    torch, *others = requirements()
    print(f"Fetching {torch} and what it needs ...", flush=True)
    subprocess.run([*download, torch], cwd=ROOT, check=True)
    print("Fetching all others ...", flush=True)
    subprocess.run([*download, torch, *others], cwd=ROOT, check=True)
    size = sum(path.stat().st_size for path in BUNDLE.rglob("*") if path.is_file())
    print(
        f"{BUNDLE}: {size / 1e6:,.0f} MB. "
        "In the room, inside a copy of it: sh install.sh (Windows: install.bat)"
    )


if __name__ == "__main__":
    main()
