"""Assemble the page that draws garments in the visitor's browser, in build/site/live/garments/.

python tools/live.py [--out FOLDER] [WEIGHTS ...]

The page is docs/site/live/garments/ in one file, and works from a plain web server and from
file://.  Beside it lie the weights of its networks, each twice: as the file that a server sends,
and as base64 in a script, for file://, which may fetch nothing; a visitor loads one of the two, and
only of the network that is chosen.  WEIGHTS: names or files, as `python -m tutorial_lib sample`
takes them; by default NETWORKS.
"""

import argparse
import base64
import json
import re
from pathlib import Path

from tutorial_lib import checkpoint, files

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "docs" / "site" / "live" / "garments"
OUT = ROOT / "build" / "site" / "live" / "garments"
NETWORKS = ("fashion_mnist", "labelled", "distilled")
MOST = 8e6  # bytes that a visitor may have to load before the first picture


def build(out: Path = OUT, weights: tuple[str, ...] = ()) -> Path:
    """Write the page and its weights, and return the page.

    Raises ValueError when it would be too large to load, or sources do not fit into it.
    """
    networks = []
    for name in weights or NETWORKS:
        path = checkpoint.find(name)
        key = re.sub(r"\W", "_", path.stem)
        content = path.read_bytes()
        files.write(out / "weights" / f"{key}.safetensors", content)
        encoded = base64.b64encode(content).decode()
        script = f'WEIGHTS["{key}"] = "{encoded}";\n'
        files.write(out / "weights" / f"{key}.js", script.encode())
        networks.append({"name": key, "title": title(checkpoint.load(name)[1])})
        if len(content) > MOST:
            raise ValueError(
                f"{path} has {len(content) / 1e6:.1f} MB; this page is for networks of at most "
                f"{MOST / 1e6:.0f} MB: store the weights as float16, or train a smaller network"
            )
    page = files.write(out / "index.html", assembled(networks).encode())
    return page


def title(configuration: dict) -> str:
    """What a network is called in the list: what it can do."""
    labels = "with labels" if configuration.get("model", {}).get("labels") else "without labels"
    return f"distilled, {labels}" if "evaluations" in configuration else labels


def assembled(networks: list[dict[str, str]]) -> str:
    """The page with its style, its scripts, its kernels and the list of networks inside."""
    page = (SOURCES / "index.html").read_text(encoding="utf-8")
    style = (SOURCES / "style.css").read_text(encoding="utf-8")
    page = page.replace('<link rel="stylesheet" href="style.css">', f"<style>\n{style}</style>")
    listed = json.dumps(networks).replace("<", "\\u003c")
    page = page.replace('type="application/json">', f'type="application/json">{listed}')
    page = re.sub(r'<script([^>]*) src="([^"]+)"></script>', _inside, page)
    if re.search(r'(src|href)="(?!data:)', page):
        raise ValueError("the page still asks for another file; let tools/live.py put it inside")
    return page


def _inside(script: re.Match) -> str:
    """A script's element with its text in place of its address; what is no text as base64."""
    attributes, name = script.groups()
    path = SOURCES / name
    if path.suffix == ".wasm":
        text = base64.b64encode(path.read_bytes()).decode()
    else:
        text = f"// {name}\n" + path.read_text(encoding="utf-8")
    if "</script" in text or "<!--" in text:
        raise ValueError(f"{path} has a piece of HTML in it that would end its script; split it")
    return f"<script{attributes}>\n{text}</script>"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("weights", nargs="*", metavar="WEIGHTS", help="names or files")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER")
    options = parser.parse_args()
    page = build(options.out, tuple(options.weights))
    loads = [page.stat().st_size / 1e3]
    loads += [path.stat().st_size / 1e3 for path in (page.parent / "weights").glob("*.safetensors")]
    print(f"{page}: " + ", ".join(f"{kilobytes:.0f} kB" for kilobytes in loads))


if __name__ == "__main__":
    main()
