"""Build the course's site: its notebooks as they are stored, its pages, and the package.

    python tools/website.py [OWNER/NAME]      build/site, from sources assembled in build/site-src
    python tools/website.py --serve [PORT]    serve what was built, on this machine alone

OWNER/NAME, on GitHub: pages then link to the repository, and notebooks to places that run them;
copies for Colab, whose first cell installs the course, go to build/launch.
Needs Node's npm, which fetches the script that draws formulas; the pages load nothing from outside.
"""

import argparse
import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import api_pages
import introductions
from execute import ROOT, notebooks, number

HERE = ROOT / "docs" / "site"
BUILD = ROOT / "build"
SOURCES, STATIC, EXTRA = BUILD / "site-src", BUILD / "site-static", BUILD / "site-extra"
SITE, LAUNCH, NPM = BUILD / "site", BUILD / "launch", BUILD / "npm"
# files that pages offer to download
FILES = ("LICENSE", "LICENSE-text", "CITATION.cff", "environment.yml", "docs/quiz.toml")
MATHJAX = ("tex-mml-chtml.js", "output/chtml/fonts/woff-v2", "input/tex/extensions")
INSTALL = """\
# Only where the course is not installed, as on Colab: this takes a minute or two.
import importlib.util

if importlib.util.find_spec("tutorial_lib") is None:
    %pip install --quiet "tutorial_lib[notebooks] @ git+https://github.com/{repository}"\
"""


def main() -> int:
    """Parse the command line and do what it says."""
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("repository", nargs="?", default="", help="OWNER/NAME on GitHub")
    parser.add_argument("--serve", type=int, nargs="?", const=8000, metavar="PORT")
    options = parser.parse_args()
    if options.serve is not None:
        return serve(options.serve)
    if options.repository and not re.fullmatch(r"[\w.-]+/[\w.-]+", options.repository):
        parser.error(
            f"the repository is OWNER/NAME, for example a-user/a-name; not {options.repository!r}"
        )
    began = time.perf_counter()
    assemble(options.repository)
    if code := sphinx(options.repository):
        return code
    pages = len(list(SITE.rglob("*.html")))
    took = time.perf_counter() - began
    print(f"{pages} pages in {SITE} after {took:.0f} s. To see them: make site-serve")
    return 0


def serve(port: int) -> int:
    """Serve the built site until Ctrl-C, to this machine alone."""
    if not (SITE / "index.html").exists():
        sys.exit("There is no site yet: make docs")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=SITE)
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        print(f"http://127.0.0.1:{server.server_address[1]}/ (Ctrl-C ends it)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0
    return 0


def assemble(repository: str) -> None:
    """Bring together all that Sphinx reads; what has not changed keeps its time."""
    wanted = {SOURCES / "index.md": front_page()}
    wanted |= api_sources()
    for path in [*notebooks(), *(ROOT / "docs").glob("*.md"), ROOT / "README.md"]:
        wanted[SOURCES / path.relative_to(ROOT)] = path
    for path in [ROOT / "CHANGELOG.md", *(ROOT / name for name in FILES)]:
        wanted[SOURCES / path.relative_to(ROOT)] = path
    for folder in ("notebooks/figures", "docs/figures"):
        for path in sorted((ROOT / folder).iterdir()):
            wanted[SOURCES / path.relative_to(ROOT)] = path
    extra = {}
    for path in sorted((HERE / "live").rglob("*")):
        if path.is_file():
            into = (wanted, SOURCES) if path.suffix == ".md" else (extra, EXTRA)
            into[0][into[1] / path.relative_to(HERE)] = path
    place(SOURCES, wanted)
    place(EXTRA, extra)
    place(STATIC, mathjax())
    shutil.rmtree(LAUNCH, ignore_errors=True)
    if repository:
        write_launched(repository)


def place(folder: Path, wanted: dict[Path, Path | str]) -> None:
    """Make a folder hold exactly these files, each a text or a copy of a file."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in [path for path in folder.rglob("*") if path.is_file() and path not in wanted]:
        path.unlink()
    for path, content in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        new = content.encode() if isinstance(content, str) else content.read_bytes()
        if not path.exists() or path.read_bytes() != new:
            path.write_bytes(new)


def mathjax() -> dict[Path, Path]:
    """The script that draws formulas, and its fonts, from npm; fetched when they are not here."""
    NPM.mkdir(parents=True, exist_ok=True)
    names = ("package.json", "package-lock.json")
    there = [NPM / "node_modules" / ".package-lock.json", *(NPM / name for name in names)]
    fresh = all(path.exists() for path in there)
    if not (fresh and all((NPM / n).read_bytes() == (HERE / n).read_bytes() for n in names)):
        for name in names:
            shutil.copy(HERE / name, NPM)
        npm = shutil.which("npm")
        if not npm:
            sys.exit("The site needs npm, for the script that draws its formulas: install Node.js")
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        if subprocess.run(command, cwd=NPM, check=False).returncode:
            sys.exit(
                "npm could not fetch what docs/site/package.json names; is there a connection?"
            )
    package = NPM / "node_modules" / "mathjax" / "es5"
    found = {}
    for name in MATHJAX:
        path = package / name
        for file in sorted(path.rglob("*.*")) if path.is_dir() else [path]:
            found[STATIC / "mathjax" / file.relative_to(package)] = file
    return found


# --- pages that are written here


def section(text: str, heading: str) -> str:
    """A section of the README, with its heading, up to the next of the same level."""
    return re.search(rf"(?ms)^## {re.escape(heading)}$.*?(?=^## |\Z)", text)[0].strip()


def front_page() -> str:
    """The first page: the README's film, introduction and map of the series, and what leads on."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    introduction = re.search(r"(?ms)\A# [^\n]*\n(.*?)(?=^To look first|^## )", readme)[1].strip()
    text = (HERE / "index.md").read_text(encoding="utf-8")
    text = text.replace("<!-- README: introduction -->", introduction)
    text = text.replace("<!-- README: series -->", section(readme, "The series"))
    return text.replace("<!-- toctrees -->", "\n\n".join(toctrees(readme)))


def toctrees(readme: str) -> list[str]:
    """The site's table of contents: each part of the series, as its map says it, then the rest."""
    made = []
    for table in section(readme, "The series").split("\n\n"):
        if head := re.match(r"\| (Part [^|]*?) \| ([^|]*?) \|", table):
            pages = re.findall(r"\]\((notebooks/[^)]+)\.ipynb\)", table)
            made.append(toctree(f"{head[1]}: {head[2]}", pages))
    listed = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    inside = re.findall(r"^\| \[.+?\]\((\w+)\.md\)", listed, re.MULTILINE)
    there = sorted(path.stem for path in (ROOT / "docs").glob("*.md"))
    pages = [*inside, *(name for name in there if name not in [*inside, "README"])]
    if live := sorted(path.stem for path in (HERE / "live").glob("*.md")):
        made.append(toctree("In the browser", [f"live/{name}" for name in live]))
    made.append(toctree("Install, run, look up", ["Install and run <README>", "docs/README"]))
    made.append(toctree("Beside the notebooks", [f"docs/{name}" for name in pages]))
    return [*made, toctree("The package", ["api/index", "CHANGELOG"])]


def toctree(caption: str, pages: list[str]) -> str:
    """A hidden table of contents under a heading of its own."""
    return "\n".join(["```{toctree}", f":caption: {caption}", ":hidden:", "", *pages, "```"])


def api_sources() -> dict[Path, str]:
    """The pages of the package, each function with the section that introduces it."""
    files = {number(path): path.name for path in notebooks()}
    found, used = introductions.introductions(), introductions.users()
    said = {name: taught(name, found[name], used[name], files) for name in found}
    pages = {SOURCES / "api" / "index.md": api_pages.index()}
    for module in api_pages.modules().values():
        pages[SOURCES / "api" / f"{module.name}.md"] = api_pages.page(module, said)
    return pages


def taught(name: str, where: introductions.Section, used: list[str], files: dict) -> str:
    """A line on the section that introduces a function, and on the notebooks that use it too."""
    title = re.sub(r"[`$<>]", "", where.title)
    line = f"Taught in notebook {where.notebook}: {{ref}}`{where.number} {title} <{where.anchor}>`"
    others = [f"[{n}](../notebooks/{files[n]})" for n in used if n != where.notebook]
    return line + (f"; used in {', '.join(others)}" if others else "") + "."


def write_launched(repository: str) -> None:
    """Copies of the notebooks for Colab: a first cell installs the course, links lead to GitHub."""
    web = f"https://github.com/{repository}/blob/main/notebooks/"
    raw = f"https://raw.githubusercontent.com/{repository}/main/notebooks/"
    (LAUNCH / "notebooks").mkdir(parents=True)
    for path in notebooks():
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                text = "".join(cell["source"])
                text = re.sub(r"(!\[[^\]]*\]\(|<img src=\")(?=figures/)", rf"\1{raw}", text)
                text = re.sub(r"(?<!!)(\[[^\]]*\]\()(?![a-z]+:|#)", rf"\1{web}", text)
                cell["source"] = text.splitlines(keepends=True)
        source = INSTALL.format(repository=repository).splitlines(keepends=True)
        cell = {"cell_type": "code", "execution_count": None, "id": "install", "metadata": {}}
        notebook["cells"].insert(0, cell | {"outputs": [], "source": source})
        text = json.dumps(notebook, indent=1, ensure_ascii=False)
        (LAUNCH / "notebooks" / path.name).write_text(text + "\n", encoding="utf-8")


def sphinx(repository: str) -> int:
    """Make the pages; a warning is an error.  Returns the exit code."""
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet"]
    command += ["-b", "html", "-c", str(HERE), "-d", str(BUILD / "site-cache")]
    environment = os.environ | {"REPOSITORY": repository}
    return subprocess.call([*command, str(SOURCES), str(SITE)], env=environment, cwd=ROOT)


if __name__ == "__main__":
    raise SystemExit(main())
