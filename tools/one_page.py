"""Write docs/theory_on_one_page.md, to be printed, from the section of notebook 03 of that name.

python tools/one_page.py
"""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "notebooks" / "03_elbo_and_kl.ipynb"
PAGE = ROOT / "docs" / "theory_on_one_page.md"
HEAD = """\
# The theory on one page

Made by `python tools/one_page.py` from section {number} of
[notebook 03](../notebooks/03_elbo_and_kl.ipynb), which derives it. Symbols are on the
[notation page](notation.md); equation numbers are those of Ho, Jain & Abbeel 2020.
"""


def page() -> str:
    """The whole file: the section without its heading, and without the link to this page."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    title = r"## (\d+\.\d+) The theory on one page\n"
    (section,) = [text for text in texts if re.match(title, text)]
    number = re.match(title, section)[1]
    body = re.sub(title, "", section)
    body = re.sub(r"^\(\[[^\n]*theory_on_one_page[^\n]*\)\n", "", body.lstrip())
    return HEAD.format(number=number) + "\n" + body.strip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
