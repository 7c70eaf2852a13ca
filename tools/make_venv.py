"""Make or refresh .venv, in which everything else runs: `python tools/make_venv.py`.

Any verb of the Makefile does so, too.  The steps are the three commands of the README: make the
environment, install PyTorch alone (so that nothing after it pulls another build), install the rest.
A PyTorch built for a GPU that is already there is kept: one inside .venv stays, one of the Python
that runs this file is shared with .venv.
"""

import os
import re
import subprocess
import sys

OLDEST = (3, 11)  # Python; the same as requires-python in pyproject.toml
LEAST_TORCH = "2.6"  # the same as in pyproject.toml
VENV = ".venv"
PYTHON = os.path.join(VENV, *(["Scripts", "python.exe"] if os.name == "nt" else ["bin", "python"]))
ENVIRONMENT = ["-m", "venv", VENV]
TORCH = ["-m", "pip", "install", "-c", "constraints.txt", "torch"]
REST = ["-m", "pip", "install", "-c", "constraints.txt", "-e", ".[notebooks]"]
LIBRARY = os.path.join(VENV, "Lib" if os.name == "nt" else "lib")
COMPILE = ["-m", "compileall", "-qq", "-j", "0", LIBRARY]
LOOK = """
import importlib.metadata, json
try:
    import torch
    needs = importlib.metadata.requires("torch") or []
    print(json.dumps([torch.__version__, bool(torch.version.cuda or torch.version.hip), needs]))
except ImportError:
    print("null")
"""


ON_LINUX = (
    "On Linux pip takes PyTorch's build for NVIDIA GPUs unless told otherwise, "
    "and that is several GB.\n"
    "No such GPU? Ctrl-C, set PIP_EXTRA_INDEX_URL to the CPU address that "
    "https://pytorch.org/get-started/locally/\n"
    "shows, and start again."
)


def main():
    """Do it, from whatever folder this is called."""
    if sys.version_info < OLDEST:
        sys.exit(
            "This is Python {}.{}, but the course needs {}.{} or newer. "
            "Name a newer one, for example: "
            "make PYTHON=python3.12 run".format(*sys.version_info[:2], *OLDEST)
        )
    os.chdir(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    inside = base = None
    if os.path.exists(PYTHON):
        inside = look(PYTHON)
    else:
        base = look(getattr(sys, "_base_executable", None) or sys.executable)
    choice, found = choose(inside, base)
    print(announcement(choice, found, sys.platform), flush=True)
    if not os.path.exists(PYTHON):
        shared = ["--system-site-packages"] if choice == "share" else []
        run([sys.executable, *ENVIRONMENT, "--clear", *shared])
    elif not has_pip(PYTHON):
        run([PYTHON, "-m", "ensurepip"])
    limits = "constraints.txt"
    if choice == "install":
        run([PYTHON, *raw(TORCH)])
    else:
        limits = os.path.join(VENV, "constraints.txt")
        with open("constraints.txt", encoding="utf-8") as ours:
            lines = limited(ours.read().splitlines(True), found)
        with open(limits, "w", encoding="utf-8") as theirs:
            theirs.writelines(lines)
    rest = [limits if word == "constraints.txt" else word for word in raw(REST)]
    run([PYTHON, *quiet(rest)])
    # some packages hold templates that are no Python, so its exit code says nothing
    subprocess.call([PYTHON, *COMPILE])


def has_pip(python):
    """Whether an interpreter can run pip."""
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.call([python, "-m", "pip", "--version"], **silent) == 0


def look(python):
    """The PyTorch that an interpreter imports: (version, built for a GPU?, its needs), or None."""
    import json

    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    done = subprocess.run([python, "-c", LOOK], check=False, **streams)
    lines = done.stdout.decode().splitlines() or ["null"]
    return json.loads(lines[-1])  # importing may have printed something before


def choose(inside, base):
    """What to do about PyTorch, and which one that concerns.

    inside, base: what `look` found in .venv and in the Python it is made from.

    "keep" the one in .venv, "share" the base's, or "install" one.  Only builds for a GPU are worth
    a detour.
    """
    for choice, found in (("keep", inside), ("share", base)):
        if found and found[1] and numbers(found[0]) >= numbers(LEAST_TORCH):
            return choice, found
    return "install", inside


def limited(constraints, found):
    """The constraints, but for PyTorch the version found, and nothing for packages that it pins."""
    own = {canonical(re.split(r"[^\w.-]", need)[0]) for need in found[2]}
    kept = [line for line in constraints if canonical(line.split("==")[0]) not in own | {"torch"}]
    return [*kept, f"torch=={found[0]}\n"]


def announcement(choice, found, platform):
    """What is about to be downloaded, said before it starts."""
    if choice == "keep":
        return f"Refreshing .venv around its PyTorch {found[0]}: at most 250 MB to download."
    if choice == "share":
        what = f"Setting up .venv around the PyTorch {found[0]} of this Python"
        return f"{what}: about 250 MB to download."
    if found:
        what = f"Refreshing .venv, which has PyTorch {found[0]}"
        return f"{what}: only what has changed is downloaded."
    size = "about 250 MB to download, and PyTorch, which is about 200 MB for the CPU."
    silence = "pip is silent during the second part, a minute or so."
    if platform != "linux":
        return f"Setting up .venv: {size}\n{silence}"
    return f"Setting up .venv: {size}\n{ON_LINUX}\n{silence}"


def run(command):
    """Run one step; leave with its exit code when it fails."""
    print("+ " + " ".join(command), flush=True)
    code = subprocess.call(command)
    if code and command[1:4] == ENVIRONMENT:
        cure = "On Debian and Ubuntu: sudo apt install python3-venv"
        sys.exit("Python could not make an environment. " + cure)
    if code:
        sys.exit(code)


def quiet(command):
    """The same pip command, saying only what goes wrong."""
    return [*command[:3], "--quiet", *command[3:]]


def raw(command):
    """The same pip command without the compiling, which pip does on one core, and we on all."""
    return [*command[:3], "--no-compile", *command[3:]]


def numbers(version):
    """The first two numbers of a version: "2.13.0+cpu" -> (2, 13)."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def canonical(name):
    """The name of a package as the index compares it."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


if __name__ == "__main__":
    main()
