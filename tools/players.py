"""Draw the explorers ahead, for pages without a kernel.

    python tools/players.py [02-noising ...]    draw what has changed, into build/players

PLAYERS says which values each explorer's controls take there; `frames.py` draws what the explorer
itself would draw.  Nothing is drawn again before a source, an asset or the grid changes.
"""

import argparse
import ast
import hashlib
import json
import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from importlib import metadata
from pathlib import Path
from unittest.mock import patch

from execute import ROOT
from frames import BUILD, Player, make, program

PACKAGE = ROOT / "tutorial_lib"
DRAWN_WITH = ("matplotlib", "numpy", "pillow", "torch")  # another version: draw again

PLAYERS = (
    Player(
        "00",
        "walk",
        {"t": (50, 36, 27, 18, 12, 6, 3, 0), "data": None, "trained": None},
        ("Points of the data with the noise of step t", "Points on a network's walk back, at t"),
    ),
    Player(
        "01",
        "chain",
        {"steps": (0, 1, 2, 3, 4, 6, 8, 12, 20, 40), "start": None, "w22": (0, 5, 10, 20)},
        ("The transition matrix as a table", "The probabilities of the three states by the hour"),
    ),
    Player(
        "02",
        "noising",
        {"t": (0, 50, 100, 150, 250, 350, 500, 600, 700, 800, 900, 1000), "name": None},
        (
            "Four garments with noise",
            "Histogram of their pixels beside a standard normal",
            "The signal-to-noise ratio by t, and where t stands on it",
        ),
    ),
    Player(
        "02",
        "step_back",
        {"beta": None, "x_1": (-0.8, -0.4, 0.0, 0.4, 0.8, 1.2)},
        (
            "The logarithm of two bumps, its tangent, and the width of the bell",
            "The exact density of x_0, the bell at c, and the bell moved by the score",
        ),
    ),
    Player(
        "03",
        "kl",
        {
            "mean_p": (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0),
            "spread_p": (0.4, 0.7, 1.0, 1.5, 2.0),
        },
        ("Two bells, q and p, and between them the integrand of their divergence",),
    ),
    Player(
        "03",
        "decoder",
        {"sigma": None, "mean": (-1.2, -1.0, 0.09, 0.1, 0.11, 1.0, 1.2)},
        (
            "The density around grey level 140, and its bucket coloured",
            "The probabilities of all 256 grey levels",
        ),
    ),
    Player(
        "04",
        "network",
        {"widths": None, "image_size": None},
        ("Each part's share of the parameters and of the operations, with the shape it returns",),
    ),
    Player(
        "05",
        "replay",
        {"step": None, "averaged": None},
        (
            "The loss of each batch up to this step",
            "The loss by t on fixed images",
            "Twelve samples from the same noise",
        ),
    ),
    Player(
        "06",
        "reverse",
        {"moment": (0, 2, 4, 6, 8, 10), "steps": None, "variance": None, "clip": None},
        (
            "Six pictures on their way back from noise",
            "The standard deviation of the pixels by t, beside that of the forward process",
        ),
    ),
    Player(
        "06",
        "placement",
        {"calls": None, "place": None, "solver": None},
        ("Six garments", "Noise over signal by t, with a dot at each step visited"),
    ),
    Player(
        "07",
        "walks",
        {"calls": (3, 5, 9, 49), "solver": None, "place": None, "eta": (0.0, 1.0)},
        ("Sixteen paths from noise to two bumps", "A histogram of the ends beside the density"),
    ),
    Player(
        "08",
        "rates",
        {"moment": tuple(range(24, -1, -2)), "picture": (0, 1, 2, 3, 4, 5)},
        (
            "A garment, and the guess at this noise level",
            "Bits a pixel by gamma, filled as far as they are sent",
        ),
    ),
    Player(
        "09",
        "pairs",
        {"count": None, "pairing": None, "t": (0.0, 0.25, 0.5, 0.75, 1.0)},
        ("Lines between data and noise", "Arrows from the points at this time towards the data"),
    ),
    Player(
        "09",
        "particles",
        {"moment": (0, 1, 2, 4, 7, 10), "way": None, "gap": (2.0, 5.0)},
        (
            "Two bumps, arrows of the score, and three hundred particles",
            "A histogram of the particles along x beside the density",
        ),
    ),
    Player(
        "10",
        "classes",
        {"seed": (0, 1, 2), "label": None, "w": None},
        (
            "Every start in a row, drawn with each strength in a column; one is framed",
            "The framed picture, enlarged",
        ),
    ),
    Player(
        "10",
        "asking",
        {"w": None, "label": None, "interval": None},
        (
            "Points of the class, of the other classes, and guided points",
            "The share of points near each bump, of the class and of the guided points",
        ),
    ),
    Player(
        "10",
        "masks",
        {"mask": None},
        ("Three garments, what is known of each, and what was filled in, in three ways",),
    ),
)


def main() -> int:
    """Parse the command line and do what it says."""
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("names", nargs="*", metavar="NAME", help="all, if none is given")
    names = parser.parse_args().names
    if unknown := set(names) - {player.name for player in PLAYERS}:
        parser.error(f"there is no player {', '.join(sorted(unknown))}")
    draw_all([player for player in PLAYERS if not names or player.name in names])
    return 0


# --- what has changed


def mark(player: Player) -> str:
    """What a player's pictures follow from, in one number: sources, assets, versions, the grid."""
    code = ast.unparse(ast.Module(program(player.notebook, player.explorer), []))
    modules = sorted(reached(ast.parse(code)))
    parts = [player.explorer, repr(player.grid), f"{len(player.panels)} panels", code, assets()]
    parts += [source(name) for name in modules]
    parts += [Path(__file__).with_name("frames.py").read_text(encoding="utf-8")]
    parts += [f"{name} {metadata.version(name)}" for name in DRAWN_WITH]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def reached(tree: ast.AST) -> set[str]:
    """The modules of the package that code imports, directly or through others."""
    found: set[str] = set()
    waiting = imported(tree)
    while waiting:
        name = waiting.pop()
        if name not in found and source(name):
            found.add(name)
            waiting |= imported_by(name)
    return found


@cache
def imported_by(name: str) -> set[str]:
    """What a module of the package imports."""
    return imported(ast.parse(source(name)))


def imported(tree: ast.AST) -> set[str]:
    """Names that code imports from the package, of modules or of what is in them."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("tutorial_lib.")}


@cache
def source(name: str) -> str:
    """What stands in a module of the package, by its dotted name; nothing if it is no module."""
    path = ROOT.joinpath(*name.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file.read_text(encoding="utf-8")
    return ""


@cache
def assets() -> str:
    """One number for all data and weights that ship."""
    total = hashlib.sha256()
    for path in sorted((PACKAGE / "assets").iterdir()):
        total.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def about(player: Player) -> dict:
    """What is stored of a player."""
    return json.loads((BUILD / player.name / "player.json").read_text(encoding="utf-8"))


def is_fresh(player: Player) -> bool:
    """Whether what is stored of a player is what would be drawn now."""
    stored = BUILD / player.name / "player.json"
    return stored.is_file() and about(player)["mark"] == mark(player)


def draw_all(players: Sequence[Player] = PLAYERS) -> None:
    """Draw the frames of all players that are not fresh, on all cores."""
    stale = [player for player in players if not is_fresh(player)]
    if not stale:
        return
    print(f"Drawing {len(stale)} explorers ahead, which later builds need not", flush=True)
    BUILD.mkdir(parents=True, exist_ok=True)
    environment = {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "TUTORIAL_LIB_QUIET": "1"}
    with patch.dict(os.environ, environment):
        context = multiprocessing.get_context("spawn")
        workers = min(os.cpu_count() or 1, len(stale))
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            marks = [mark(player) for player in stale]
            for player, took in zip(stale, pool.map(make, stale, marks), strict=True):
                size = sum(file.stat().st_size for file in pictures(player).values())
                frames = len(about(player)["frames"])
                print(f"  {player.name}: {frames} frames, {size // 1000} kB, {took:.0f} s")


def pictures(player: Player) -> dict[str, Path]:
    """The files of a player's pictures, by the name under which a page finds them."""
    folder = BUILD / player.name
    return {f"{player.name}/{path.name}": path for path in sorted(folder.glob("*.webp"))}


if __name__ == "__main__":
    sys.exit(main())
