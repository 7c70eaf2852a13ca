"""Slides, book and figures, as far as neither npm nor a browser is needed: `make test-docs` looks
at the slides themselves.
"""

import errno
import json
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import book
import execute
import figures
import folders
import nbformat
import npm
import printable
import printing
import pytest
import slides
import typeset
from conftest import ROOT
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

PATHS = execute.notebooks()
DOT = (  # a PNG of one pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4z8DwHwAFAAH/iZk9HQAAAABJRU5E"
    "rkJggg=="
)


@pytest.fixture(scope="module")
def decks(tmp_path_factory):
    """The slides of each notebook, by its number."""
    out = tmp_path_factory.mktemp("slides")
    made = {execute.number(p): slides.deck(p, typeset.Formulas(), out) for p in PATHS}
    return out, made


def drawn(formulas):
    """In the place of MathJax."""
    return ["<svg></svg>" for _ in formulas]


@pytest.mark.parametrize("number", [execute.number(path) for path in PATHS])
def test_every_notebook_has_a_deck_for_a_lesson(decks, number):
    deck = decks[1][number]
    assert 12 <= len(deck) <= 45
    assert deck[0].kind == "title" and "question" in deck[0].body[1]
    assert deck[-1].kind == "keep" and deck[-1].title == "Keep this"
    assert sum(slide.begins for slide in deck) >= 4, "sections"
    assert sum(slide.kind == "figure" for slide in deck) >= 3
    if number != "19":  # there each slip is a question of its own
        questions = [slide for slide in deck if slide.kind == "ask"]
        assert len(questions) >= 4
        assert all("answer fragment" in slide.body[1] for slide in questions)
    for slide in deck:
        for size in re.findall(r"font-size: ([\d.]+)px", "".join(slide.body)):
            assert float(size) >= 17.5, f"{slide.cell}: code that the last row cannot read"


def test_only_cells_that_are_slides_have_words_of_their_own():
    for path in PATHS:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        shown = {"slide", "subslide", "fragment"}
        kinds = {c["id"]: c["metadata"].get("slideshow", {}).get("slide_type") for c in cells}
        for cell in slides.words(path):
            assert kinds.get(cell) in shown, f"docs/slides/decks, {path.stem}: {cell}"


def test_pictures_have_their_words_and_are_there(decks):
    out, made = decks
    pictures = 0
    for deck in made.values():
        for tag in re.findall(r"<img [^>]*>", "".join("".join(s.body) for s in deck)):
            assert len(re.search(r'alt="([^"]*)"', tag)[1].split()) >= 5, tag
            assert (out / re.search(r'src="([^"]*)"', tag)[1]).stat().st_size > 100
            pictures += 1
    assert pictures > 120


def test_the_guide_for_teachers_is_in_the_notes(decks):
    for number, deck in decks[1].items():
        notes = "\n".join(note for slide in deck for note in slide.notes)
        section = re.search(rf"(?ms)^### {number} .*?(?=^##)", slides.guide())[0]
        for thought in re.findall(r"(?m)^\| (?!students|---)(.+?) \| .+ \|$", section):
            assert thought in notes, (number, thought)
        told = deck[0].notes[0]
        assert "**Aim:**" in told or number == "05b"
        assert "**Time:**" in told or number == "05b"
        assert "Destroying is a formula" in deck[-1].notes[-1]
    spiral = [slide for slide in decks[1]["02"] if slide.title.startswith("2.1")]
    assert "noise is added and nothing is taken away" in spiral[0].notes[0]
    assert "22 minutes" in "".join(decks[1]["02"][0].notes)


def test_a_page_holds_every_slide_once_and_nothing_from_outside(decks):
    formulas = typeset.Formulas()
    deck = slides.deck(PATHS[2], formulas, decks[0])
    page = formulas.fill(slides.page(PATHS[2], deck, formulas), drawn)
    assert page.count("data-cell=") == len(deck)
    assert page.count('<aside class="notes">') > len(deck) // 2
    assert "\ue000" not in page and "{{" not in page
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page.partition("<aside")[0])
    assert page.count("<section") == page.count("</section>")


# --- a small notebook


def notebook(tmp_path, *cells, name="02_small.ipynb"):
    path = tmp_path / name
    nbformat.write(new_notebook(cells=list(cells)), path)
    return path


def slide(source, kind="slide", make=new_markdown_cell, **more):
    return make(source, metadata={"slideshow": {"slide_type": kind}}, **more)


TITLE = "# 02 · Small\n\n**The question:** does it work?"


def test_the_types_of_cells_make_the_deck(tmp_path):
    printed = [new_output("stream", text="7\n")]
    path = notebook(
        tmp_path,
        slide(TITLE),
        slide("## 2.1 One\n\nWords.\n\n$$ a = b $$"),
        slide("print(7)", "fragment", new_code_cell, outputs=printed),
        slide("Said after it.\n\n## 2.2 Two\n\nSaid before the next.", "notes"),
        slide("x = 1", "subslide", new_code_cell),
        slide("never", "skip"),
    )
    title, formula, code = slides.deck(path, typeset.Formulas(), tmp_path)
    assert [title.title, formula.title, code.title] == ["Small", "2.1 One", "2.2 Two"]
    assert "Does it work?" in title.body[1]
    assert "Words" not in "".join(formula.body) and "Words." in "".join(formula.notes)
    assert 'class="fragment"' in formula.body[1] and ">7</code>" in formula.body[1]
    assert "Said after it." in "".join(formula.notes)
    assert "Said before the next." in "".join(code.notes)
    assert "never" not in str([title, formula, code])


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([slide(TITLE), slide("## A\n\nNo formula.")], "empty"),
        ([slide(TITLE), slide("x", "slied")], "slied"),
        ([slide(TITLE, "skip")], "none of its cells"),
        ([slide("print(7)", "fragment", new_code_cell)], "without a slide|empty"),
    ],
)
def test_a_deck_that_cannot_be_made_says_why(tmp_path, cells, said):
    with pytest.raises(slides.DeckError, match=said):
        slides.deck(notebook(tmp_path, *cells), typeset.Formulas(), tmp_path)


def test_words_that_fit_nothing_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(slides, "HERE", tmp_path)
    (tmp_path / "decks").mkdir()
    file = tmp_path / "decks" / "02.toml"
    text = slide("## 2.1 One\n\nWords.\n\n$$ a = b $$", id="here")
    path = notebook(tmp_path, slide(TITLE), text)
    for table, said in {
        'show = ["Other words"]': "Other words",
        'ask = "Why?"': "answer",
        'colour = "red"': "colour",
    }.items():
        file.write_text(f"[here]\n{table}\n", encoding="utf-8")
        with pytest.raises(slides.DeckError, match=said):
            slides.deck(path, typeset.Formulas(), tmp_path)
    file.write_text('[here]\nshow = ["Words"]\nask = "Why?"\nanswer = "So."\n', encoding="utf-8")
    _, asked, shown = slides.deck(path, typeset.Formulas(), tmp_path)
    assert asked.kind == "ask" and "So." in asked.body[1]
    assert "Words." in shown.body[0]


def test_lines_rows_and_docstrings_are_cut():
    assert slides.cut(["def f():", "    a", "    b"], {"lines": "2-3"}) == ["a", "b"]
    table = "| x |\n|---|\n| 0 |\n| 1 |\n| 2 |"
    assert slides.chosen_rows(table, [0, 2]) == "| x |\n|---|\n| 0 |\n| 2 |"
    source = 'def f(x):\n    r"""What it does.\n\n    More.\n    """\n    return x'
    assert slides.without_docstring(source) == "def f(x):\n    return x"


# --- formulas


def test_formulas_are_found_and_code_is_left_alone():
    formulas = typeset.Formulas()
    text = "A $x_t$, `$x$`, again $x_t$, 5\\$ and\n\n$$ y $$\n\n```\n$z$\n```\n"
    marked = formulas.mark(text)
    assert list(formulas.found) == [("x_t", False), ("y", True)]
    assert "`$x$`" in marked and "$z$" in marked
    page = formulas.fill(typeset.markdown(marked), lambda found: [f"<svg {t}>" for t, _ in found])
    assert page.count('aria-label="x_t" x_t>') == 2
    assert '<span class="display"><svg role="img" aria-label="y" y></span>' in page


def test_every_formula_of_the_course_is_closed():
    formulas = typeset.Formulas()
    for path in PATHS:
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "markdown":
                left = re.sub(
                    r"(?s)```.*?```|`[^`\n]*`", "", formulas.mark("".join(cell["source"]))
                )
                assert "$" not in left, (path.stem, cell["id"])
    assert len(formulas.found) > 800
    for tex, _ in formulas.found:
        assert tex.count("{") == tex.count("}") and "\n\n" not in tex, tex


# --- what is missing is said


def test_who_lacks_npm_or_node_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(npm.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match=r"Slides need npm: install Node\.js"):
        npm.fetch(slides.HERE, tmp_path / "npm", "Slides")
    with pytest.raises(SystemExit, match=r"Node\.js"):
        typeset.mathjax([("x", False)])


def test_who_has_no_connection_is_told(tmp_path, monkeypatch):
    false = "/bin/false" if sys.platform != "win32" else "false"
    monkeypatch.setattr(npm.shutil, "which", lambda name: false)
    with pytest.raises(SystemExit, match="is there a connection"):
        npm.fetch(slides.HERE, tmp_path / "npm", "Slides")


def test_who_lacks_chromium_is_told(monkeypatch):
    monkeypatch.delenv("CHROMIUM", raising=False)
    monkeypatch.setattr(printing.shutil, "which", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["book.py", "00"])
    with pytest.raises(SystemExit, match="printed by Chromium: install it"):
        book.main()


def test_a_program_that_chromium_names_is_taken_or_refused(monkeypatch):
    monkeypatch.setenv("CHROMIUM", sys.executable)
    assert printing.chromium() == sys.executable
    monkeypatch.setenv("CHROMIUM", "/nowhere/chrome")
    with pytest.raises(ValueError, match="CHROMIUM says '/nowhere/chrome', which is no program"):
        printing.chromium()
    monkeypatch.setattr(sys, "argv", ["book.py", "00"])
    with pytest.raises(SystemExit, match="correct or unset it"):
        book.main()


def test_pages_to_print_are_not_begun_where_chromium_names_no_program(tmp_path, monkeypatch):
    monkeypatch.setenv("CHROMIUM", "/nowhere/chrome")
    monkeypatch.setattr(printable, "page", lambda name: name)
    monkeypatch.setattr(sys, "argv", ["printable.py", str(tmp_path / "print")])
    with pytest.raises(SystemExit, match="correct or unset it"):
        printable.main()
    assert not (tmp_path / "print").exists()


def test_a_number_that_no_notebook_has_is_refused(monkeypatch, capsys):
    """Also beside one that a notebook has."""
    monkeypatch.setattr(sys, "argv", ["book.py", "00", "77"])
    with pytest.raises(SystemExit):
        book.main()
    said = " ".join(capsys.readouterr().err.split())
    assert "no notebook is called 77; choose from 00, 01, 02" in said


def test_a_page_that_is_not_printed_is_told(tmp_path):
    with pytest.raises(RuntimeError, match="could not print"):
        printing.to_pdf(sys.executable, tmp_path / "page.html", tmp_path / "page.pdf", 1)


def test_packages_are_fetched_once(tmp_path):
    assert not npm.current(slides.HERE, tmp_path)
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / ".package-lock.json").write_text("{}")
    for name in npm.NAMES:
        (tmp_path / name).write_bytes((slides.HERE / name).read_bytes())
    assert npm.fetch(slides.HERE, tmp_path, "Slides") == tmp_path / "node_modules"
    (tmp_path / "package.json").write_text("{}")
    assert not npm.current(slides.HERE, tmp_path)


def test_a_file_is_whole_for_whoever_reads_it_while_it_is_written(tmp_path):
    path = typeset.place(tmp_path / "deck.css", b"the old one")
    with path.open("rb") as reader:
        typeset.place(path, b"another")
        assert reader.read() == b"the old one"
    assert path.read_bytes() == b"another"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(path, content):
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"deck\.css: No space left"):
        typeset.place(tmp_path / "deck.css", b"a new one")
    assert list(tmp_path.iterdir()) == []


def test_slides_are_made_before_two_workers_look_at_them():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (before,) = re.findall(r"^test-docs:([^#\n]*)", makefile, re.MULTILINE)
    assert "slides" in before.split()


def test_what_another_program_has_fetched_meanwhile_stays(tmp_path, monkeypatch):
    """It may be in use already."""
    into = tmp_path / "npm"

    def fetched(command, cwd, check):
        for folder in (cwd, into):
            (folder / "node_modules").mkdir(parents=True)
            (folder / "node_modules" / ".package-lock.json").write_text("{}")
        for name in npm.NAMES:
            (into / name).write_bytes((slides.HERE / name).read_bytes())
        (into / "node_modules" / "of the other").touch()
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(npm.shutil, "which", lambda name: name)
    monkeypatch.setattr(npm.subprocess, "run", fetched)
    assert (npm.fetch(slides.HERE, into, "Slides") / "of the other").exists()


@pytest.mark.parametrize("older", [False, True])
def test_two_programs_may_fetch_at_a_time(tmp_path, monkeypatch, older):
    """Neither fails, and what is there is whole."""
    into, together = tmp_path / "npm", threading.Barrier(2)
    if older:
        (into / "node_modules").mkdir(parents=True)

    def fetched(command, cwd, check):
        (cwd / "node_modules").mkdir()
        (cwd / "node_modules" / ".package-lock.json").write_text("{}")
        together.wait(60)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(npm.shutil, "which", lambda name: name)
    monkeypatch.setattr(npm.subprocess, "run", fetched)
    with ThreadPoolExecutor(2) as pool:
        there = [pool.submit(npm.fetch, slides.HERE, into, "Slides") for _ in range(2)]
    assert [one.result() for one in there] == [into / "node_modules"] * 2
    assert npm.current(slides.HERE, into)
    assert list(tmp_path.iterdir()) == [into], "nothing else is left"


def test_a_folder_takes_its_place_while_others_do(tmp_path):
    def put(n):
        new = tmp_path / f"new-{n}"
        new.mkdir()
        (new / "file").write_text(str(n))
        folders.put(new, tmp_path / "place")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, range(40)))
    assert [path.name for path in tmp_path.iterdir()] == ["place"]
    assert int((tmp_path / "place" / "file").read_text()) in range(40)


@pytest.mark.parametrize("taken", [False, True])
def test_a_folder_that_cannot_be_moved_is_told_and_the_old_one_stays(tmp_path, taken):
    place = tmp_path / "place"
    if taken:
        place.mkdir()
        (place / "file").touch()
    with pytest.raises(FileNotFoundError):
        folders.put(tmp_path / "not there", place)
    assert [path.name for path in tmp_path.rglob("*")] == ["place", "file"] * taken


def test_formulas_are_those_of_the_site_and_nothing_comes_from_elsewhere():
    versions = [
        json.loads((folder / "package.json").read_text())["dependencies"]["mathjax"]
        for folder in (slides.HERE, ROOT / "docs" / "site")
    ]
    assert versions[0] == versions[1]
    for path in slides.HERE.glob("*.*"):
        if path.name != "package-lock.json":
            assert not re.findall(r"cdn|unpkg|googleapis|//fonts", path.read_text("utf-8")), path


# --- figures


def figure_cell(source, drawing="<svg viewBox='0 0 2 1'></svg>"):
    data = {"image/png": DOT, "image/svg+xml": drawing}
    shown = [new_output("display_data", data=data)]
    return new_code_cell(source, id="c7", metadata={"alt": "One dot on white"}, outputs=shown)


def test_a_figure_is_named_after_its_cell_and_title():
    cell = figure_cell('title = f"$x_t$: {n} Dots, $\\\\beta$"')
    assert figures.name(cell, 0) == "c7_x-t-dots"
    assert figures.name(figure_cell("plot()"), 1) == "c7-2"


def test_figures_belong_to_the_code_that_made_them(tmp_path):
    made = new_notebook(cells=[figure_cell('title = "A dot"')], metadata={"sources_sha256": "1"})
    path = tmp_path / "02_small.ipynb"
    nbformat.write(made, path)
    assert figures.current(path, tmp_path) is None
    files = figures.write(made, tmp_path / "02")
    assert [file.name for file in files] == ["c7_a-dot.png", "c7_a-dot.svg"]
    assert figures.current(path, tmp_path) == {("c7", 0): tmp_path / "02" / "c7_a-dot.svg"}
    told = json.loads((tmp_path / "02" / "figures.json").read_text())["figures"]
    assert told["c7_a-dot"]["alt"] == "One dot on white"
    made.metadata["sources_sha256"] = "2"
    nbformat.write(made, path)
    assert figures.current(path, tmp_path) is None, "the notebook has changed"


def test_photographs_are_taken_as_pictures(tmp_path):
    cell = figure_cell("plot()", "<svg viewBox='0 0 2 1'><image href='x'/></svg>")
    figures.write(new_notebook(cells=[cell], metadata={"sources_sha256": "1"}), tmp_path)
    assert figures.best(tmp_path, "c7").suffix == ".png"


def test_a_refreshed_notebook_keeps_its_slides():
    cell = slide("1 + 1", "subslide", new_code_cell)
    kept = execute.normalise(new_notebook(cells=[cell])).cells[0].metadata
    assert kept == {"slideshow": {"slide_type": "subslide"}}


# --- the book


@pytest.fixture(scope="module")
def printed():
    """The book of notebooks 00 and 02, as HTML."""
    formulas = typeset.Formulas()
    return formulas.fill(book.page([PATHS[0], PATHS[2]], formulas), drawn)


def test_the_book_has_its_chapters_in_order(printed):
    chapters = re.findall(r'<section class="chapter" id="(.*?)"', printed)
    assert chapters == ["nb-00", "nb-02", "glossary", "notation", "equations"]
    assert "\ue000" not in printed and "{{" not in printed
    listed = book.headings(printed)
    assert [place for level, place, _ in listed if level == 1] == chapters
    sections = [words for level, _, words in listed if level == 2]
    for path in (PATHS[0], PATHS[2]):
        text = path.read_text(encoding="utf-8")
        assert len(re.findall(r'"## \d+\.\d+ ', text)) >= 6
    assert len(sections) == sum(
        len(re.findall(r'"## \d+\.\d+ ', path.read_text(encoding="utf-8")))
        for path in (PATHS[0], PATHS[2])
    )


def test_the_book_stands_alone(printed):
    """Every link inside leads somewhere, and every picture is in it."""
    places = set(re.findall(r' id="([^"]*)"', printed))
    links = re.findall(r'href="#([^"]*)"', printed)
    assert len(links) > 60 and set(links) <= places
    for source in re.findall(r'<img [^>]*?src="([^"]{0,60})', printed):
        assert source.startswith("data:image/"), source
    assert not re.findall(r'href="(?!#|https?:|book\.css|code\.css)', printed)


def test_the_book_leaves_checks_and_explorers_to_the_notebooks(printed):
    assert "check_environment" not in printed and "def guess_of_x_0" not in printed
    assert "has an explorer" in printed and "The cell to fill in" in printed
    assert "<details" not in printed
    assert "walk_back" in printed


def test_contents_get_their_page_numbers(printed):
    found = {place: k for k, (_, place, _) in enumerate(book.headings(printed), 3)}
    text = book.numbered(printed, found)
    rows = re.findall(r'data-place="(.*?)">(\d+)</span>', text)
    assert dict(rows) == {place: str(page) for place, page in found.items()}
    assert "000</span>" in book.numbered(printed, {}), "room is kept before the first print"


def test_a_film_is_printed_as_four_moments():
    content = (ROOT / "notebooks" / "figures" / "denoising.gif").read_bytes()
    shown = book.picture(content, "Garments come out of noise")
    assert shown.count("data:image/png;base64,") == 4
    assert shown.count('alt="Garments come out of noise"') == 1
