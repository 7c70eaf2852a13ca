"""Every figure of the notebooks as a drawing (SVG) and as a picture of twice the size (PNG).

    python tools/figures.py [NUMBER ...]     build/figures/NN/*.svg and *.png

Notebooks are executed, as they are stored; one whose code has not changed since its figures were
made is left as it is.  A file is called after its cell and the title of its figure; `figures.json`
beside them has the words of each.
"""

import base64
import json
import re
import sys
import tempfile
import time
from pathlib import Path

from execute import FAILED, ROOT, chosen, copy_of_notebooks, execute, number
from nbformat import NotebookNode
from typeset import films

FIGURES = ROOT / "build" / "figures"
FORMATS = ("retina", "svg")  # retina: PNG of twice the pixels
TITLE = re.compile(r"\btitle\s*=\s*r?f?[\"'](.+?)[\"']")


def main() -> int:
    """Parse the command line and do what it says."""
    paths = chosen(__doc__)
    with tempfile.TemporaryDirectory() as temporary:
        folder = copy_of_notebooks(Path(temporary) / "notebooks")
        for path in paths:
            if current(path) is not None:
                print(f"{path.stem}: its figures are there")
                continue
            began = time.perf_counter()
            try:
                notebook, _ = execute(path, folder, formats=FORMATS)
            except FAILED as error:
                print(f"{path.stem}: a cell failed, so this stops here:\n{error}", file=sys.stderr)
                return 1
            files = write(notebook, FIGURES / number(path))
            print(f"{path.stem}: {len(files)} files after {time.perf_counter() - began:.0f} s")
    print(f"The figures are in {FIGURES}")
    return 0


def write(notebook: NotebookNode, folder: Path) -> list[Path]:
    """Write the figures of an executed notebook into a folder, which is emptied first."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    files, told = [], {}
    for cell in notebook.cells:
        for count, output in enumerate(shown(cell)):
            stem = name(cell, count)
            told[stem] = {"cell": cell.id, "place": count, "alt": cell.metadata.get("alt", "")}
            if film := films(output):
                told[stem]["alt"] = film[1]
                files.append(folder / f"{stem}.gif")
                files[-1].write_bytes(film[0])
                continue
            data = output["data"]
            files.append(folder / f"{stem}.png")
            files[-1].write_bytes(base64.b64decode(data["image/png"]))
            if "image/svg+xml" in data:
                files.append(folder / f"{stem}.svg")
                files[-1].write_text("".join(data["image/svg+xml"]), encoding="utf-8")
    record = {"sources_sha256": notebook.metadata["sources_sha256"], "figures": told}
    text = json.dumps(record, indent=1, ensure_ascii=False)
    (folder / "figures.json").write_text(text + "\n", encoding="utf-8")
    return files


def shown(cell: NotebookNode) -> list[NotebookNode]:
    """The outputs of a cell that are figures or films."""
    outputs = cell.get("outputs", [])
    return [one for one in outputs if "image/png" in one.get("data", {}) or films(one)]


def name(cell: NotebookNode, count: int) -> str:
    """What the files of a cell's figure are called: its id, and the figure's title."""
    found = TITLE.search("".join(cell["source"]))
    words = re.sub(r"\{[^}]*\}|\\\w+", " ", found[1]) if found else ""
    slug = "-".join(re.findall(r"[a-z0-9]+", words.lower()))[:60].strip("-")
    return cell["id"] + (f"-{count + 1}" if count else "") + (f"_{slug}" if slug else "")


def current(path: Path, figures: Path | None = None) -> dict[tuple[str, int], Path] | None:
    """The files of a notebook's figures, by cell and place in it: drawings, where these are better.

    None when there are none, or when the notebook's code has changed since they were made.
    figures: where they are, `FIGURES` by default.
    """
    folder = (figures or FIGURES) / number(path)
    if not (folder / "figures.json").exists():
        return None
    record = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    stored = json.loads(path.read_text(encoding="utf-8"))["metadata"].get("sources_sha256")
    if record["sources_sha256"] != stored:
        return None
    return {
        (one["cell"], one["place"]): best(folder, stem) for stem, one in record["figures"].items()
    }


def best(folder: Path, stem: str) -> Path:
    """The file of a figure that stays sharp when it is enlarged.

    A drawing, unless it holds photographs, which are stored in it at the size of the screen.
    """
    drawing = folder / f"{stem}.svg"
    if drawing.exists() and "<image " not in drawing.read_text(encoding="utf-8"):
        return drawing
    return next(path for path in (folder / f"{stem}.png", folder / f"{stem}.gif") if path.exists())


if __name__ == "__main__":
    raise SystemExit(main())
