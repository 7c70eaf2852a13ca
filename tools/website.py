"""Build the course's site: its notebooks as they are stored, its pages, and the package.

    python tools/website.py [OWNER/NAME]      build/site
    python tools/website.py --serve [PORT]    serve what was built, on this machine alone

A build begins with nothing, in a folder of its own, and takes the place of the last one when it is
whole: it does not depend on what earlier ones left, and one that fails leaves the site as it was.
Two at a time share only what is drawn and fetched ahead, in build/players and build/npm, where a
folder takes the place of the last one in the same way.

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
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import api_pages
import folders
import introductions
import live
import npm
import player_pages
from execute import ROOT, notebooks, number

HERE = ROOT / "docs" / "site"
BUILD = ROOT / "build"
SITE, LAUNCH, NPM = BUILD / "site", BUILD / "launch", BUILD / "npm"
# files that pages offer to download
FILES = ("LICENSE", "LICENSE-text", "CITATION.cff", "environment.yml", "docs/quiz.toml")
MATHJAX = ("tex-mml-chtml.js", "output/chtml/fonts/woff-v2", "input/tex/extensions")
# the pages that need neither Python nor the rest of the site, and the notebooks that they lead to
LIVE = {"points": ("00", "02", "06", "07", "09"), "garments": ("06", "07", "10")}
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
    BUILD.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="site-", dir=BUILD) as folder:
        if code := build(Path(folder), options.repository):
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


def build(folder: Path, repository: str) -> int:
    """Build the site in a folder, and put it into its place.  Returns the exit code."""
    assemble(folder, repository)
    if code := sphinx(folder, repository):
        print(f"The site has mistakes, said above; {SITE} is as it was.", file=sys.stderr)
        return code
    made = folder / "site"
    for extend in EXTEND_PAGES:
        extend(made)
    if repository:
        write_launched(folder / "launch", repository)
    folders.put(made, SITE)
    if repository:
        folders.put(folder / "launch", LAUNCH)
    else:
        shutil.rmtree(LAUNCH, ignore_errors=True)
    return 0


def assemble(folder: Path, repository: str) -> None:
    """Bring together all that Sphinx reads: folder/sources, and scripts in folder/static."""
    sources = folder / "sources"
    wanted: dict[str, Path | str] = {"index.md": front_page()} | api_sources()
    pages = [*notebooks(), *(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"]
    files = [ROOT / name for name in FILES]
    figures = [p for name in ("notebooks", "docs") for p in (ROOT / name / "figures").iterdir()]
    wanted |= {path.relative_to(ROOT).as_posix(): path for path in [*pages, *files, *figures]}
    wanted |= {path.relative_to(HERE).as_posix(): path for path in (HERE / "live").glob("*.md")}
    place(sources, wanted)
    place(folder / "static", mathjax())


def place(folder: Path, wanted: dict[str, Path | str]) -> None:
    """Write files into a folder by their names in it, each a text or a copy of a file."""
    for name, content in wanted.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content.read_bytes())


def mathjax() -> dict[str, Path]:
    """The script that draws formulas, and its fonts, from npm; fetched when they are not here."""
    package = npm.fetch(HERE, NPM, "The site's formulas") / "mathjax" / "es5"
    found = {}
    for name in MATHJAX:
        path = package / name
        for file in sorted(path.rglob("*.*")) if path.is_dir() else [path]:
            found[f"mathjax/{file.relative_to(package).as_posix()}"] = file
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
    made.append(toctree("In the browser", ["live/index"]))
    made.append(toctree("Install, run, look up", ["Install and run <README>", "docs/README"]))
    made.append(toctree("Beside the notebooks", [f"docs/{name}" for name in pages]))
    return [*made, toctree("The package", ["api/index", "CHANGELOG"])]


def toctree(caption: str, pages: list[str]) -> str:
    """A hidden table of contents under a heading of its own."""
    return "\n".join(["```{toctree}", f":caption: {caption}", ":hidden:", "", *pages, "```"])


def api_sources() -> dict[str, str]:
    """The pages of the package, each function with the section that introduces it."""
    files = {number(path): path.name for path in notebooks()}
    found, used = introductions.introductions(), introductions.users()
    said = {name: taught(name, found[name], used[name], files) for name in found}
    pages = {"api/index.md": api_pages.index()}
    for module in api_pages.modules().values():
        pages[f"api/{module.name}.md"] = api_pages.page(module, said)
    return pages


def taught(name: str, where: introductions.Section, used: list[str], files: dict) -> str:
    """A line on the section that introduces a function, and on the notebooks that use it too."""
    title = re.sub(r"[`$<>]", "", where.title)
    line = f"Taught in notebook {where.notebook}: {{ref}}`{where.number} {title} <{where.anchor}>`"
    others = [f"[{n}](../notebooks/{files[n]})" for n in used if n != where.notebook]
    return line + (f"; used in {', '.join(others)}" if others else "") + "."


def write_launched(folder: Path, repository: str) -> None:
    """Copies of the notebooks for Colab: a first cell installs the course, links lead to GitHub."""
    web = f"https://github.com/{repository}/blob/main/notebooks/"
    raw = f"https://raw.githubusercontent.com/{repository}/main/notebooks/"
    (folder / "notebooks").mkdir(parents=True)
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
        (folder / "notebooks" / path.name).write_text(text + "\n", encoding="utf-8")


def sphinx(folder: Path, repository: str) -> int:
    """Make folder/site of folder/sources; a warning is an error.  Returns the exit code.

    Nothing that an earlier run read is used, for Sphinx warns only of what it reads.
    """
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet"]
    command += ["-b", "html", "-c", str(HERE), "-d", str(folder / "read")]
    environment = os.environ | {"REPOSITORY": repository, "SITE_STATIC": str(folder / "static")}
    command += [str(folder / "sources"), str(folder / "site")]
    return subprocess.call(command, env=environment, cwd=ROOT)


# --- pages in the browser


def live_pages(site: Path) -> None:
    """Put the pages that train and draw in the visitor's browser into the site."""
    shutil.copytree(HERE / "live" / "points", site / "live" / "points")
    live.build(site / "live" / "garments")
    files = {number(path): path.stem for path in notebooks()}
    for name, lessons in LIVE.items():
        page = site / "live" / name / "index.html"
        text = page.read_text(encoding="utf-8")
        page.write_text(with_way_back(text, [files[lesson] for lesson in lessons], name), "utf-8")


def with_way_back(text: str, lessons: list[str], name: str) -> str:
    """Such a page with links to the site's front page and to notebooks, and no link beyond it."""
    text = re.sub(
        r'href="(?:\.\./)+notebooks/(\w+)\.ipynb"', r'href="../../notebooks/\1.html"', text
    )
    front = '<a href="../../index.html">Diffusion models from first principles</a>'
    numbers = {lesson: lesson.partition("_")[0] for lesson in lessons}
    links = ", ".join(
        f'<a href="../../notebooks/{lesson}.html" aria-label="notebook {n}">{n}</a>'
        for lesson, n in numbers.items()
    )
    way = f'<nav aria-label="Course"><p>{front} · notebooks {links}</p></nav>\n'
    if (count := text.count("<header>\n")) != 1:
        raise ValueError(
            f"the live page {name} needs one line <header>, which gets the links to the site; it "
            f"has {count}"
        )
    return text.replace("<header>\n", f"<header>\n{way}")


# What is added to the site, by this program and others of tools/: each of these functions is given
# the folder of the finished site, and changes or adds pages and files there.  The site is new each
# time, so none has to ask what an earlier build did; what it raises ends the build.
EXTEND_PAGES: tuple[Callable[[Path], None], ...] = (live_pages, player_pages.extend)

if __name__ == "__main__":
    raise SystemExit(main())
