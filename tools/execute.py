"""Run the notebooks, refresh the committed ones, or open a working copy in JupyterLab.

    python tools/execute.py run [--part 1] --out build
        executed notebooks, HTML pages and the GIF under build/
    python tools/execute.py refresh [NAME ...]
        execute, normalise and store the committed notebooks
    python tools/execute.py lab
        JupyterLab on a copy in work/, which is yours to edit

Notebooks always run in a copy of their folder, so that what they write never dirties the checkout.
"""

import argparse
import filecmp
import hashlib
import html
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "notebooks"
PARTS = {1: range(7), 2: range(7, 14), 3: range(14, 20)}
WIDGET = "application/vnd.jupyter.widget-view+json"
KEPT = ("alt", "slideshow", "tags")  # of a cell's metadata
SECONDS = 600  # the longest that one cell may take
# what an execution may end with; a kernel dies when memory is short
FAILED = (CellExecutionError, CellTimeoutError, DeadKernelError)
TOGETHER = 2  # notebooks that run side by side; they share the cores


def notebooks(part: int | None = None, names: list[str] | None = None) -> list[Path]:
    """All notebooks in reading order, or those of one part, or those that `names` ask for.

    A part is its main line: what goes deeper, as 04b does, runs with all only.
    """
    found = sorted(HERE.glob("[0-9][0-9]*_*.ipynb"))
    if part is not None:
        main_line = [path for path in found if number(path).isdigit()]
        found = [path for path in main_line if int(number(path)) in PARTS[part]]
    return [path for path in found if asked_for(path, names)]


def chosen(description: str) -> list[Path]:
    """The notebooks whose numbers a program's command line names, or all; ends it for unknown ones.

    description: what the program does, for its --help.
    """
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=plain)
    parser.add_argument("numbers", nargs="*", help="such as 02 or 04b; all when there are none")
    numbers = parser.parse_args().numbers
    if unknown := [name for name in numbers if not notebooks(names=[name])]:
        known = ", ".join(map(number, notebooks()))
        parser.error(f"no notebook is called {', '.join(unknown)}; choose from {known}")
    return notebooks(names=numbers)


def solutions(names: list[str] | None = None) -> list[Path]:
    """The notebooks with the answers to the exercises, chosen in the same way."""
    found = sorted((HERE / "solutions").glob("*.ipynb"))
    return [path for path in found if asked_for(path, names)]


def number(path: Path) -> str:
    """The number of a notebook, its solutions or its exercises: "04", or "04b" of what goes deeper.

    The file's name begins with it, up to the first underscore.
    """
    return path.name.partition("_")[0]


def asked_for(path: Path, names: list[str] | None) -> bool:
    """Whether `names` hold the number of a notebook, or its whole name; no names ask for all."""
    return not names or number(path) in names or path.stem in names


def execute(path: Path, folder: Path, formats: tuple[str, ...] = ()) -> tuple[NotebookNode, float]:
    """Run a notebook from top to bottom in `folder`; return it, normalised, and the seconds.

    formats: in which to draw figures, "retina" and "svg" for example; PNG by default.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=SECONDS,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=[
            "--IPKernelApp.log_level=ERROR",
            *(f"--InlineBackend.figure_formats={one}" for one in formats),
        ],
    )
    figures_in_cells = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    began = time.perf_counter()
    try:
        client.execute(env=os.environ | figures_in_cells)
    except DeadKernelError as error:
        said = f"the kernel of {path.name} died; is memory short? Then close what else needs it"
        raise DeadKernelError(said) from error
    return normalise(notebook), time.perf_counter() - began


def normalise(notebook: NotebookNode) -> NotebookNode:
    """Keep only what belongs in git.

    That is: sources, outputs, counts 1..n, cell tags, alt text, which cells are slides, and a hash
    of the sources.
    """
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "sources_sha256": sources_hash(notebook),
    }
    for count, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), 1):
        cell.execution_count = count
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = count
            if "image/png" in output.get("data", {}):
                output.metadata = {"image/png": {"alt": cell.metadata.get("alt", "")}}
            # without a kernel it would only be an error message
            output.get("data", {}).pop(WIDGET, None)
    for cell in notebook.cells:
        cell.metadata = {key: cell.metadata[key] for key in KEPT if key in cell.metadata}
    return notebook


def sources_hash(notebook: NotebookNode) -> str:
    """A hash of all that was executed: it differs when a source was edited after its last run."""
    sources = "\0".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return hashlib.sha256(sources.encode()).hexdigest()


def copy_of_notebooks(target: Path) -> Path:
    """A fresh copy of notebooks/, without what earlier runs left behind."""
    left = shutil.ignore_patterns("outputs", ".ipynb_checkpoints", "*.py", "__pycache__")
    shutil.copytree(HERE, target, ignore=left)
    return target


def page(notebook: NotebookNode, folder: Path, name: str) -> str:
    """The notebook as one HTML page with its pictures inside, each with its words.

    nbconvert's template leaves the alt text of output pictures out; they come in order, so each
    gets its own.
    """
    from nbconvert import HTMLExporter

    resources = {"metadata": {"path": str(folder), "name": name}}
    text, _ = HTMLExporter(embed_images=True).from_notebook_node(notebook, resources=resources)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    nothing = 'alt="No description has been provided for this image"'
    for output in outputs:
        if "image/png" in output.get("data", {}):
            words = html.escape(output.metadata["image/png"]["alt"])
            text = text.replace(nothing, f'alt="{words}"', 1)
    return text


def run(out: Path, part: int | None) -> None:
    """Execute the notebooks into `out`; write HTML beside them, the GIF of notebook 06 on top."""
    began = time.perf_counter()
    shutil.rmtree(out / "notebooks", ignore_errors=True)
    folder = copy_of_notebooks(out / "notebooks")

    def publish(path: Path) -> str:
        """Execute one notebook, write it and its page; return the line that reports it."""
        print(f"{path.stem} ...", flush=True)
        notebook, seconds = execute(path, folder)
        nbformat.write(notebook, folder / path.name)
        (out / f"{path.stem}.html").write_text(page(notebook, folder, path.stem), encoding="utf-8")
        return f"  {path.stem:<32} {seconds:4.0f} s"

    threads = max(1, (os.cpu_count() or 1) // TOGETHER)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    with ThreadPoolExecutor(TOGETHER) as pool:
        last_first = notebooks(part)[::-1]  # the later lessons take longest
        lines = list(pool.map(publish, last_first))[::-1]
    gif = folder / "outputs" / "denoising.gif"
    if gif.exists():
        shutil.copy(gif, out / "denoising.gif")
    took = time.perf_counter() - began
    print(f"\nExecuted {len(lines)} notebooks in {took:.0f} s:", *lines, sep="\n")
    print(f"Pages to read:      {out}/*.html")
    print(f"Executed notebooks: {folder}")
    if gif.exists():
        print(f"Garments out of noise: {out / 'denoising.gif'}")
    print("Next: `make lab` opens the notebooks in JupyterLab, for you to change and play with.")


def refresh(names: list[str]) -> None:
    """Execute and normalise committed notebooks and solutions, in place, with their pictures."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = copy_of_notebooks(Path(temporary) / "notebooks")
        for path in [*notebooks(names=names), *solutions(names)]:
            notebook, seconds = execute(path, folder)
            nbformat.write(notebook, path)
            print(f"{path.name}: {seconds:.0f} s, {path.stat().st_size / 1e6:.2f} MB", flush=True)
        for gif in sorted((folder / "outputs").glob("*.gif")):
            shutil.copy(gif, HERE / "figures")


def working_copy(source: Path, target: Path) -> list[str]:
    """Bring the notebooks into `target`, never over a file edited there; return the names kept.

    A pristine copy in `target/.origin` tells an edited file from one that is merely old.
    """
    kept = []
    for path in sorted([*source.glob("*.ipynb"), *source.glob("figures/*")]):
        name = path.relative_to(source)
        mine, origin = target / name, target / ".origin" / name
        if mine.exists() and not (origin.exists() and filecmp.cmp(mine, origin, shallow=False)):
            kept.append(str(name))
            continue
        for copy in (mine, origin):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    return kept


def lab(arguments: list[str]) -> int:
    """Open JupyterLab on the working copy; further arguments go to JupyterLab."""
    target = ROOT / "work"
    kept = working_copy(HERE, target)
    print(
        f"Your copy of the notebooks is in {target}; "
        "edit it as you like, the originals stay as they are."
    )
    if kept:
        print(
            f"Kept as you left them: {', '.join(kept)}. "
            "To start one afresh, delete it and run this again."
        )
    # the root, so that links to docs/ hold
    here = [f"--ServerApp.root_dir={ROOT}", "--LabApp.default_url=/lab/tree/work"]
    return subprocess.call([sys.executable, "-m", "jupyterlab", *here, *arguments])


def main() -> int:
    """Parse the command line and do what it says."""
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    verbs = parser.add_subparsers(dest="verb", required=True)
    run_parser = verbs.add_parser("run")
    run_parser.add_argument("--part", type=int, choices=PARTS)
    run_parser.add_argument("--out", type=Path, default=Path("build"))
    verbs.add_parser("refresh").add_argument("names", nargs="*")
    verbs.add_parser("lab")
    options, rest = parser.parse_known_args()
    if options.verb == "lab":
        return lab(rest)
    if rest:
        parser.error(f"unknown arguments: {' '.join(rest)}")
    os.environ["TUTORIAL_LIB_QUIET"] = "1"  # no progress bars where nobody watches
    try:
        if options.verb == "run":
            run(options.out.resolve(), options.part)
        else:
            refresh(options.names)
    except FAILED as error:
        print(f"A cell failed, so this stops here:\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
