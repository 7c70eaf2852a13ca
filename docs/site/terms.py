"""Link the words of a notebook to the glossary: each once, where the notebook introduces it.

That is where the word stands alone in bold type, else where it first stands in the section that
`docs/glossary.yml` names as the one that introduces it.  Headings, formulas, code, tables and words
that are a link already stay as they are; and so do the notebooks, for it is done to the page.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath

import api_pages
import yaml
from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

CLOSED = (
    *(nodes.title, nodes.literal, nodes.literal_block, nodes.reference, pending_xref, nodes.math),
    *(nodes.math_block, nodes.raw, nodes.table, nodes.caption, nodes.figure, nodes.strong),
)


@dataclass(frozen=True)
class Term:
    """An entry of the glossary: its place there, its line, and the section that introduces it.

    qualified: its word means something else elsewhere, as in "precision (inverse variance)".
    """

    key: str
    says: str
    where: str
    qualified: bool


@cache
def glossary() -> list[tuple[str, Term]]:
    """Every way to write an entry, in small letters but for abbreviations, with the entry."""
    text = (api_pages.ROOT / "docs" / "glossary.yml").read_text(encoding="utf-8")
    found = []
    for entry in yaml.safe_load(text):
        word, _, beside = entry["term"].removesuffix(")").partition(" (")
        short = bool(beside) and " " not in beside
        term = Term(entry["key"], entry["says"], str(entry["where"]), bool(beside) and not short)
        found += [(form, term) for form in ([word, beside] if short else [word])]
    return [(folded(word), term) for word, term in found]


def folded(word: str) -> str:
    """The word as it is compared: "Score" as "score", but "KID" and "DDIMs" as they are."""
    word = re.sub(r"\s+", " ", word).replace("’", "'")
    return word if re.search(r"[A-Z].*[A-Z]", word.split(" ")[0]) else word[:1].lower() + word[1:]


def words(number: str) -> dict[str, Term]:
    """What a notebook may link, "02": its own meaning of a word before another's."""
    found = {}
    for word, term in glossary():
        own = lesson(term.where) == number
        if own or (not term.qualified and word not in found):
            found[word] = term
    return found


def lesson(where: str) -> str:
    """The number of a section's notebook: "2.3" is in "02", "5b.1" in "05b"."""
    number, _, _ = where.partition(".")
    digits = number.rstrip("b")
    return digits.zfill(2) + number.removeprefix(digits)


def find(text: str, known: dict[str, Term]) -> tuple[str, Term] | None:
    """A term that is the whole of a text, in the singular or the plural."""
    word = folded(text.strip().rstrip(".:,;?"))
    for form in (word, word.removesuffix("s"), word.removesuffix("es")):
        if form in known:
            return form, known[form]
    return None


def link_terms(app: Sphinx, doctree: nodes.document) -> None:
    """Put the links into a notebook's page."""
    docname = PurePosixPath(app.env.current_document.docname)
    if docname.parent.name != "notebooks":
        return
    number = docname.name.partition("_")[0]
    known, linked = words(number), set()
    for strong in list(doctree.findall(nodes.strong)):
        found = find(strong.astext(), known)
        if found and found[1].key not in linked and is_open(strong.parent):
            linked.add(found[1].key)
            strong.replace_self(link(found[1], strong.deepcopy()))
    pattern = any_of(known)
    for section in doctree.findall(nodes.section):
        here = {label.removeprefix("section-") for label in section["ids"]}
        for text in list(section.findall(nodes.Text)):
            if own_section(text) is section and is_open(text.parent):
                link_text(text, pattern, known, here, linked)


def any_of(known: dict[str, Term]) -> re.Pattern:
    """What finds these words in a text, whatever stands between them, the longest first."""
    written = [re.escape(word) for word in sorted(known, key=len, reverse=True)]
    either = "|".join(word.replace("\\ ", "\\s+").replace("'", "['’]") for word in written)
    return re.compile(rf"(?<![\w-])({either})(?:e?s)?(?![\w-])", re.IGNORECASE)


def own_section(node: nodes.Node) -> nodes.Node:
    """The section of the second level that a node is in: the numbered one."""
    found = []
    while node is not None:
        if isinstance(node, nodes.section):
            found.append(node)
        node = node.parent
    return found[-2] if len(found) > 1 else found[-1] if found else node


def is_open(node: nodes.Node) -> bool:
    """Whether a link may stand in a node: in prose, and neither in code nor in another link."""
    while node is not None:
        if isinstance(node, CLOSED) or "nb_element" in getattr(node, "attributes", {}):
            return False
        node = node.parent
    return True


def link_text(
    text: nodes.Text,
    pattern: re.Pattern,
    known: dict[str, Term],
    here: set[str],
    linked: set[str],
) -> None:
    """Link the terms that a section introduces at their first use in a piece of its prose."""
    written, parts, end = text.astext(), [], 0
    for found in pattern.finditer(written):
        term = known.get(folded(found[1]))
        if term and term.where.replace(".", "-") in here and term.key not in linked:
            linked.add(term.key)
            parts += [nodes.Text(written[end : found.start()]), link(term, nodes.Text(found[0]))]
            end = found.end()
    if parts:
        text.parent.replace(text, [*parts, nodes.Text(written[end:])])


def link(term: Term, shown: nodes.Node) -> nodes.reference:
    """The link to an entry; who points at it reads its line."""
    address = f"../docs/glossary.html#{term.key}"
    made = nodes.reference("", "", refuri=address, reftitle=term.says, internal=True)
    made["classes"] = ["term"]
    made += shown
    return made
