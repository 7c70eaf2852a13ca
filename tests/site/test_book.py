"""A book of one notebook, printed by Chromium: contents that count right, an outline, A4, all text.

`make test-docs` runs this.  It needs Chromium and npm.
"""

import html
import json
import re

import book
import execute
import pytest
from pypdf import PdfReader


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """The book of notebook 00 as a PDF, and the pages of the places in it."""
    out = tmp_path_factory.mktemp("book")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(book, "OUT", out)
        patch.setattr(book, "PAGES", ("notation",))
        patch.setattr(book.sys, "argv", ["book.py", "00"])
        assert book.main() == 0
    return PdfReader(out / "course.pdf"), (out / "course.html").read_text(encoding="utf-8")


def test_the_contents_say_the_right_pages(printed):
    reader, text = printed
    rows = re.findall(r"<span>([^<]*)</span><span class=\"at\" data-place=\"[^\"]*\">(\d+)<", text)
    assert len(rows) >= 8
    for words, page in rows:
        there = " ".join(reader.pages[int(page) - 1].extract_text().split())
        assert " ".join(html.unescape(words).split()) in there, (words, page)
    assert [int(page) for _, page in rows] == sorted(int(page) for _, page in rows)


def test_every_page_is_a4_and_numbered(printed):
    reader, _ = printed
    assert len(reader.pages) > 8
    for number, page in enumerate(reader.pages, 1):
        assert [round(side) for side in page.mediabox[2:]] in ([595, 842], [596, 842])
        if number > 1:
            assert re.search(rf"\b{number}\b", page.extract_text()), number


def test_the_outline_leads_to_the_sections(printed):
    reader, _ = printed
    names = [item.title for item in reader.outline if not isinstance(item, list)]
    assert names[0].startswith("00 · The whole idea") and "Notation" in names
    sections = next(item for item in reader.outline if isinstance(item, list))
    assert sections[0].title == "0.1 One guess is not enough"
    assert reader.metadata.title == "Diffusion models from first principles"


def test_no_code_is_cut(printed):
    """Every line of code of the notebook is there to its end, if broken at the margin."""
    reader, _ = printed
    there = re.sub(r"\s", "", "".join(page.extract_text() for page in reader.pages))
    (path,) = execute.notebooks(names=["00"])
    lines = 0
    for i, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        left_out = any(tag.startswith("exercise") for tag in cell["metadata"].get("tags", []))
        if cell["cell_type"] != "code" or i == 1 or left_out or book.explorer(cell):
            continue
        for line in "".join(cell["source"]).split("\n"):
            assert re.sub(r"\s", "", line) in there, line
            lines += 1
    assert lines > 80
