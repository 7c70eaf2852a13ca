"""Put players into the finished pages: where an explorer needs a kernel, pictures drawn ahead."""

import ast
import html
import json
import re
import shutil
from pathlib import Path

import players
from execute import notebooks, number
from frames import MARK, Player, explorers

WIDE = 1200  # pixels: such a panel scrolls on a phone, for its letters would be too small
LONG = 16  # letters of a label and a value: more leave a slider no room beside them
FOLDER = "_static/players"
NO_SCRIPT = (
    "This is the picture that the explorer begins with. The controls need JavaScript, which is off "
    "here; without it, download the notebook and run this cell."
)
KEYS = "Arrow keys move a slider, Home and End go to its ends, the space bar plays it."
# what a page shows that has no kernel
OUTPUT = re.compile(
    rf'(?s)<div class="output text_plain[^>]*>\s*<div class="highlight"><pre>(?:<span></span>)?'
    rf"{MARK}[^<]*</pre></div>\s*</div>"
)
HEAD = """\
<link rel="stylesheet" href="../_static/player.css" />
<script defer src="../_static/player.js"></script>
</head>"""


def extend(site: Path) -> None:
    """Give every explorer in the notebooks' pages of a finished site its player."""
    players.draw_all()
    for path in notebooks():
        page = site / "notebooks" / f"{path.stem}.html"
        if names := explorers(path):
            text = with_players(page.read_text(encoding="utf-8"), number(path), names)
            page.write_text(text, encoding="utf-8")
    for player in players.PLAYERS:
        for name, picture in players.pictures(player).items():
            (site / FOLDER / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(picture, site / FOLDER / name)


def with_players(text: str, notebook: str, names: list[str]) -> str:
    """A page in which players stand for the outputs of these explorers, in their order."""
    known = {(player.notebook, player.explorer): player for player in players.PLAYERS}
    outputs = OUTPUT.split(text)
    if len(outputs) != len(names) + 1:
        raise ValueError(
            f"notebook {notebook}: {len(names)} explorers, {len(outputs) - 1} in its page; the "
            "text of `Explorer.__repr__` and frames.MARK have to agree"
        )
    made = outputs[0]
    for name, after in zip(names, outputs[1:], strict=True):
        if not (player := known.get((notebook, name))):
            raise ValueError(
                f"notebook {notebook} shows the explorer {name}, which has no row in PLAYERS of "
                "tools/players.py; add one"
            )
        made += markup(player, players.about(player), f"../{FOLDER}/{player.name}/") + after
    return made.replace("</head>", HEAD, 1)


def markup(player: Player, about: dict, folder: str) -> str:
    """A player in HTML.  folder: where its pictures are, seen from the page."""
    controls = about["controls"]
    start = [control["start"] for control in controls]
    k = place(start, [len(control["values"]) for control in controls])
    now = ", ".join(f"{c['label']}: {c['values'][c['start']]}" for c in controls)
    drawn, panels = [], []
    for words, panel, file in zip(player.panels, about["panels"], about["frames"][k], strict=True):
        said = panel["files"][file][1]
        alt = html.escape(f"{words}{': ' if said else ''}{said} ({now})")
        wide = " player-wide" if panel["width"] > WIDE else ""
        size = f'width="{panel["width"]}" height="{panel["height"]}"'
        drawn.append(
            f'<div class="player-panel{wide}" style="--width:{panel["width"]}">'
            f'<img class="player-first" src="{folder}{panel["first"]}" alt="{alt}" {size} '
            'loading="lazy"></div>'
        )
        panels.append({"words": words, "files": panel["files"]})
    data = {
        "folder": folder,
        "counts": [len(control["values"]) for control in controls],
        "labels": [control["label"] for control in controls],
        "values": [control["values"] for control in controls],
        "panels": panels,
        "frames": about["frames"],
        "titles": about["titles"],
    }
    script = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    name = f"player-{player.name}"
    return "\n".join(
        [
            f'<div class="player" id="{name}" '
            f'role="group" aria-label="{html.escape(purpose(player))}">',
            f'<p class="player-title" aria-live="polite">{html.escape(about["titles"][k])}</p>',
            f'<div class="player-panels">{"".join(drawn)}</div>',
            f"<noscript><p>{NO_SCRIPT}</p></noscript>",
            '<div class="player-controls" hidden>',
            *(widget(control, f"{name}-{i}") for i, control in enumerate(controls)),
            '<button type="button" class="player-button">Play</button>',
            "</div>",
            f'<p class="player-help" hidden>{KEYS}{html.escape(kept(about["kept"]))}</p>',
            f'<script type="application/json">{script}</script>',
            "</div>",
        ]
    )


def purpose(player: Player) -> str:
    """What one does with an explorer, as its docstring says."""
    tree = ast.parse(players.source(f"tutorial_lib.course.widgets.n{player.notebook}"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    (function,) = [node for node in functions if node.name == player.explorer]
    first = (ast.get_docstring(function) or "").partition("\n")[0]
    return re.sub(r" \(notebook \w+\)$", "", first.rstrip("."))


def widget(control: dict, name: str) -> str:
    """A control with its label and, for a slider, the value that it has."""
    label, values, start = html.escape(control["label"]), control["values"], control["start"]
    if control["kind"] == "tick":
        checked = " checked" if start else ""
        inside = f'<input type="checkbox" id="{name}" data-control{checked}> {label}'
        return f'<label class="player-control">{inside}</label>'
    head = f'<label for="{name}">{label}</label>'
    if control["kind"] == "menu":
        options = "".join(
            f'<option value="{i}"{" selected" if i == start else ""}>{html.escape(value)}</option>'
            for i, value in enumerate(values)
        )
        inside = f'{head} <select id="{name}" data-control>{options}</select>'
        return f'<div class="player-control">{inside}</div>'
    inside = (
        f'{head} <input type="range" id="{name}" data-control min="0" max="{len(values) - 1}" '
        f'value="{start}" aria-valuetext="{html.escape(values[start])}">'
        f'<output for="{name}">{html.escape(values[start])}</output>'
    )
    long = " player-long" if len(label) + max(map(len, values)) > LONG else ""
    return f'<div class="player-control player-slider{long}">{inside}</div>'


def kept(controls: list[list[str]]) -> str:
    """What the notebook can change and the page cannot."""
    if not controls:
        return ""
    some = [f"{label} (here {value})" for label, value in controls[:3]]
    more = [f"{len(controls) - 3} more"] if len(controls) > 3 else []
    *others, last = some + more
    listed = f"{', '.join(others)} and {last}" if others else last
    return f" In a running notebook you can also change {listed}."


def place(at: list[int], counts: list[int]) -> int:
    """Which frame belongs to these places of the controls; the last control varies fastest."""
    k = 0
    for here, count in zip(at, counts, strict=True):
        k = k * count + here
    return k
