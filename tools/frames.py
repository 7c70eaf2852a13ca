"""How the frames of a player are drawn and stored; `players.py` says which.

An explorer is called as its notebook calls it, after those statements of the notebook that make its
arguments.  Its own function of the controls' values gives the figures.  A figure's title becomes
words, and the figure is cut into its panels.  Of a panel the picture that is seen first is stored
whole, and of the others what differs from it.
"""

import ast
import contextlib
import hashlib
import io
import json
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise, product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import folders
import numpy as np
from execute import ROOT, notebooks, number

BUILD = ROOT / "build" / "players"
MARK = "An explorer:"  # how the stored output of an explorer begins
DPI = 180  # twice an explorer's, for screens with small pixels
GRAIN = 15  # of the colours: 18 levels of each, so that a picture compresses well
MARGIN = 10  # white pixels around what is drawn
INSIDE = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp | ast.Lambda
BLOCK = 4  # pixels: differences are stored in squares of this size, and a rim of one more
Bits = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class Player:
    """One explorer, and the values of its controls that are drawn.

    grid: by the name of a control, the values it takes; None: all that it offers.  The first
    control is the one that plays.  Controls that are not named keep the value they begin with.
    panels: what each panel shows, from left to right.  One for several axes: these stay together.
    """

    notebook: str
    explorer: str
    grid: dict[str, Sequence | None]
    panels: tuple[str, ...]

    @property
    def name(self) -> str:
        """What it is called in addresses and file names."""
        return f"{self.notebook}-{self.explorer.replace('_', '-')}"


# --- what a notebook does before it calls an explorer


def explorers(path: Path) -> list[str]:
    """The explorers of a notebook, by name, in their order: the cells whose output is one."""
    return [called(cell) for cell in code_cells(path) if is_explorer(cell)]


def is_explorer(cell: dict) -> bool:
    """Whether the stored output of this cell is an explorer."""
    said = ["".join(output.get("data", {}).get("text/plain", "")) for output in cell["outputs"]]
    return any(text.startswith(MARK) for text in said)


def called(cell: dict) -> str:
    """The explorer that a cell calls in its last line."""
    source = "".join(cell["source"])
    found = re.search(r"^widgets\.(\w+)\([^\n]*\)\Z", source.strip(), re.MULTILINE)
    if not found:
        raise ValueError(f"an explorer is called as `widgets.NAME(...)`, in a last line: {source}")
    return found[1]


def code_cells(path: Path) -> list[dict]:
    """The code cells of a notebook."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def program(notebook: str, explorer: str) -> list[ast.stmt]:
    """The statements of a notebook from which its call of an explorer follows; the call is last.

    A statement is kept if it binds a name that is needed further down, or fills what has such a
    name, as `d[k] = ...` and `model.w = ...` do.  What only calls, as `d.append(...)`, is left out.
    """
    (path,) = [path for path in notebooks() if number(path) == notebook]
    before: list[ast.stmt] = []
    for cell in code_cells(path):
        before += ast.parse("".join(cell["source"])).body
        if is_explorer(cell) and called(cell) == explorer:
            break
    else:
        raise ValueError(f"notebook {notebook} calls no explorer {explorer}")
    kept = [before.pop()]
    needed = used(kept[0])
    for statement in reversed(before):
        names = bound(statement)
        if (names | filled(statement)) & needed:
            kept.append(statement)
            if isinstance(statement, ast.Assign | ast.Import | ast.ImportFrom | ast.FunctionDef):
                needed -= names  # for certain, whatever they were before
            needed |= used(statement)
    return kept[::-1]


def bound(node: ast.AST) -> set[str]:
    """The names that a statement gives a value to, those inside functions and `[...]` apart."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, INSIDE):
        return set()
    if isinstance(node, ast.Name):
        return {node.id} if isinstance(node.ctx, ast.Store) else set()
    return set().union(*(bound(child) for child in ast.iter_child_nodes(node)))


def filled(node: ast.AST) -> set[str]:
    """The names of what a statement changes in part, as `d` of `d[k].x = 1`."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef | INSIDE):
        return set()
    if isinstance(node, ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store):
        base = node.value
        while isinstance(base, ast.Subscript | ast.Attribute):
            base = base.value
        return {base.id} if isinstance(base, ast.Name) else set()
    return set().union(*(filled(child) for child in ast.iter_child_nodes(node)))


def used(node: ast.AST) -> set[str]:
    """The names that a statement reads."""
    names = [each for each in ast.walk(node) if isinstance(each, ast.Name)]
    return {name.id for name in names if isinstance(name.ctx, ast.Load)}


def opened(player: Player) -> tuple[Callable, dict]:
    """An explorer's own function of its controls' values, and its controls by name."""
    *before, call = program(player.notebook, player.explorer)
    module = import_module(f"tutorial_lib.course.widgets.n{player.notebook}")
    found: list[tuple[Callable, dict]] = []

    def explorer(draw: Callable, controls: dict, rows: object = ()) -> None:
        found.append((draw, controls))

    space: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        exec(compile(ast.Module(before, []), player.notebook, "exec"), space)
        with patch.object(module, "explorer", explorer):
            exec(compile(ast.Module([call], []), player.notebook, "exec"), space)
    return found[0]


# --- the values of the controls


def offered(control) -> list[tuple[str, Any]] | None:
    """What one can choose, each with its label; None of a slider over numbers."""
    if hasattr(control, "options"):
        pairs = [one if isinstance(one, tuple) else (str(one), one) for one in control.options]
        return [(label, value) for label, value in pairs]
    return [("off", False), ("on", True)] if isinstance(control.value, bool) else None


def choices(player: Player, controls: dict) -> dict[str, list[tuple[str, Any]]]:
    """The values that are drawn of each control, by its name, each with its label."""
    found = {}
    for name, values in player.grid.items():
        options = offered(controls[name])
        if options is None:
            if values is None:
                raise ValueError(
                    f"{player.name}: {name} is a slider over numbers; the grid has to name its "
                    "values"
                )
            options = numbers(controls[name], values)
        found[name] = [pair for pair in options if values is None or pair[1] in values]
        if values and len(found[name]) != len(values):
            taken = [value for _, value in found[name]]
            raise ValueError(
                f"{player.name}: {name} takes only {taken} of {values}; correct the grid"
            )
        if controls[name].value not in [value for _, value in found[name]]:
            raise ValueError(f"{player.name}: {name} begins with {controls[name].value}: add it")
    return found


def numbers(slider, values: Sequence[float]) -> list[tuple[str, Any]]:
    """Those of the values that a slider over numbers can take, each with its label."""
    found = []
    for value in values:
        steps = (value - slider.min) / slider.step
        if slider.min <= value <= slider.max and abs(steps - round(steps)) < 1e-6:
            found.append((f"{value:g}", value))
    return found


def states(player: Player, controls: dict) -> list[dict]:
    """The values of all controls in each frame; the last control varies fastest."""
    begun = {name: control.value for name, control in controls.items()}
    values = [[value for _, value in pairs] for pairs in choices(player, controls).values()]
    return [begun | dict(zip(player.grid, each, strict=True)) for each in product(*values)]


def kind(control) -> str:
    """A slider, a menu, or a tick."""
    name = type(control).__name__
    return {"Dropdown": "menu", "Checkbox": "tick"}.get(name, "slider")


# --- frames


@dataclass
class Frame:
    """A figure without its title: the pixels, (H, W, 3), and what is said above.

    axes: of each its title, and where it is in the middle, in pixels from the left.
    """

    pixels: Bits
    title: str
    axes: list[tuple[str, float]]


def frame(figure) -> Frame:
    """Draw a figure; its title becomes words."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    title = figure.get_suptitle()
    if title:
        figure.suptitle("")
    else:
        title = figure.axes[0].get_title()
        figure.axes[0].set_title("")
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    if (pixels == 255).all():
        raise ValueError(f"nothing can be seen under {title!r}")
    middles = [float(axis.get_window_extent().x0 + axis.get_window_extent().x1) / 2
               for axis in figure.axes]  # fmt: skip
    said = [plain(axis.get_title()) for axis in figure.axes]
    return Frame(coarse(pixels), plain(title), list(zip(said, middles, strict=True)))


def coarse(pixels: Bits) -> Bits:
    """The pixels in fewer colours, none of them further away than GRAIN / 2; white stays white."""
    levels = np.rint(np.arange(256) / GRAIN) * GRAIN
    return levels.astype(np.uint8)[pixels]


def plain(text: str) -> str:
    """A title without the signs of mathematics."""
    return re.sub(r"[${}\\]", "", text)


def cuts(frames: Sequence[Frame], panels: int) -> tuple[slice, list[slice]]:
    """The rows that are drawn on in any frame, and the columns of each panel.

    Between two panels the cut goes through the middle of the widest white stripe.
    """
    drawn = np.zeros(frames[0].pixels.shape[:2], bool)
    for each in frames:
        drawn |= (each.pixels != 255).any(2)
    rows, columns = (np.flatnonzero(drawn.any(axis)) for axis in (1, 0))
    height, width = drawn.shape
    top, bottom = max(0, int(rows[0]) - MARGIN), min(height, int(rows[-1]) + 1 + MARGIN)
    ends = [max(0, int(columns[0]) - MARGIN), min(width, int(columns[-1]) + 1 + MARGIN)]
    if panels > 1:
        middles = [middle for _, middle in frames[0].axes]
        if len(middles) != panels:
            raise ValueError(f"{len(middles)} axes, but words for {panels} panels")
        between = [stripe(columns, left, right) for left, right in pairwise(middles)]
        ends = [ends[0], *between, ends[1]]
    return slice(top, bottom), [slice(left, right) for left, right in pairwise(ends)]


def stripe(drawn: Bits, left: float, right: float) -> int:
    """The middle of the widest stripe between two places without columns that are drawn on."""
    inside = drawn[(drawn > left) & (drawn < right)].tolist()
    stripes = pairwise([int(left), *inside, int(right)])
    width, middle = max((end - begin, (begin + end) // 2) for begin, end in stripes)
    if width < MARGIN:
        raise ValueError("these panels have no white between them: describe them as one")
    return middle


def overlay(pixels: Bits, first: Bits) -> Bits | None:
    """What has to be laid over the first picture to see this one, (H, W, 4); None: nothing.

    Whole squares and a rim around them, so that nothing of the first shows through at the edges
    when a browser makes both smaller.
    """
    changed = (pixels != first).any(2)
    if not changed.any():
        return None
    height, width = changed.shape
    padded = np.pad(changed, ((0, -height % BLOCK), (0, -width % BLOCK)))
    blocks = padded.reshape(padded.shape[0] // BLOCK, BLOCK, -1, BLOCK).any((1, 3))
    around = np.pad(blocks, 1)
    rim = blocks.copy()
    for down, across in product(range(3), range(3)):
        rim |= around[down : down + len(blocks), across : across + blocks.shape[1]]
    mask = rim.repeat(BLOCK, 0).repeat(BLOCK, 1)[:height, :width]
    seen = np.where(mask[..., None], pixels, 0)
    return np.dstack([seen, np.where(mask, 255, 0)]).astype(np.uint8)


def webp(pixels: Bits) -> bytes:
    """The pixels, (H, W, 3) or (H, W, 4), as a file without loss."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "webp", lossless=True, method=4, quality=75)
    return buffer.getvalue()


# --- what is stored


def make(player: Player, mark: str) -> float:
    """Draw all frames of a player into its folder.  Returns the seconds it took."""
    began = time.perf_counter()
    draw, controls = opened(player)
    chosen = choices(player, controls)
    begun = [[value for _, value in pairs].index(controls[name].value)
             for name, pairs in chosen.items()]  # fmt: skip
    frames = [frame(draw(**state)) for state in states(player, controls)]
    start = int(np.ravel_multi_index(begun, [len(pairs) for pairs in chosen.values()]))
    about = {
        "mark": mark,
        "controls": [about_control(controls[name], pairs) for name, pairs in chosen.items()],
        "kept": [[control.description, value_of(control)] for name, control in controls.items()
                 if name not in chosen],
        "titles": [each.title for each in frames],
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix=f"{player.name}-", dir=BUILD) as own:
        folder = Path(own) / "new"
        folder.mkdir()
        about["panels"], about["frames"] = stored(player, frames, start, folder)
        text = json.dumps(about, ensure_ascii=False)
        (folder / "player.json").write_text(text + "\n", encoding="utf-8")
        folders.put(folder, BUILD / player.name)
    return time.perf_counter() - began


def about_control(control, pairs: list[tuple[str, Any]]) -> dict:
    """What a page has to know of a control."""
    values = [value for _, value in pairs]
    return {
        "label": control.description,
        "kind": kind(control),
        "values": [label for label, _ in pairs],
        "start": values.index(control.value),
    }


def value_of(control) -> str:
    """The value of a control in words."""
    for label, value in offered(control) or []:
        if value == control.value:
            return label
    return f"{control.value:g}"


def stored(
    player: Player, frames: list[Frame], start: int, folder: Path
) -> tuple[list[dict], list[list[int]]]:
    """Write the pictures of each panel, alike ones once.

    Returns what each panel shows and which files it has (an empty name: the first picture as it
    is), and of each frame the place of its file in each panel's list.
    """
    rows, columns = cuts(frames, len(player.panels))
    panels = []
    shown: list[list[int]] = [[] for _ in frames]
    for p in range(len(player.panels)):
        parts = [each.pixels[rows, columns[p]] for each in frames]
        said = [each.axes[p][0] for each in frames] if len(player.panels) > 1 else [""]
        varies = len(set(said)) > 1
        first = write(webp(parts[start]), folder)
        files: dict[tuple[str, str], int] = {}
        names: dict[bytes, str] = {}
        for k, part in enumerate(parts):
            if (same := hashlib.sha256(part.tobytes()).digest()) not in names:
                over = overlay(part, parts[start])
                names[same] = "" if over is None else write(webp(over), folder)
            name = names[same]
            shown[k].append(files.setdefault((name, said[k] if varies else ""), len(files)))
        height, width = parts[0].shape[:2]
        panels.append({"width": width, "height": height, "first": first, "files": list(files)})
    return panels, shown


def write(content: bytes, folder: Path) -> str:
    """Write a picture under a name that follows from its content, and return the name."""
    name = hashlib.sha256(content).hexdigest()[:10] + ".webp"
    (folder / name).write_bytes(content)
    return name
