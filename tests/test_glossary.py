"""docs/glossary.yml is complete, and docs/glossary.md is made of it as it stands.

Which script a term is written in has oracles of its own: the national character sets.  GB 2312 has
the simplified characters of Chinese and not the traditional ones, JIS those of Japanese, and so on.
"""

import re
import unicodedata
from collections.abc import Iterator

import glossary
import pytest
from conftest import ROOT
from equations import EQUATIONS, sections

ENTRIES = glossary.ENTRIES
LISTS = {"symbols", "equations", "keep", "unsure"}
NEEDED = {"key", "term", "says", "where", *glossary.LANGUAGES}
SCRIPTS = {
    "ko": "[가-힣]",
    "ja": "[ぁ-ゖァ-ヺ一-鿿々]",
    "zh": "[一-鿿]",
    "id": "[A-Za-z]",
    "de": "[A-Za-z]",
}
CHARACTERS = {"ko": "cp949", "ja": "shift_jis", "zh": "gb2312", "id": "latin_1", "de": "latin_1"}


def terms() -> Iterator[tuple[dict, str, list[str], list[str]]]:
    """Entry, language, the English words that are kept there, and its own terms."""
    for entry in ENTRIES:
        for language in glossary.LANGUAGES:
            found = entry[language].split(glossary.BETWEEN)
            kept = 1 if language in entry.get("keep", []) else 0
            yield entry, language, found[:kept], found[kept:]


def test_page_is_current():
    assert glossary.PAGE.read_text(encoding="utf-8") == glossary.page(), (
        "run: python tools/glossary.py"
    )


def test_english_words_that_are_kept_are_read_as_english():
    """What is marked as Korean or Chinese is read by the rules of that language."""
    page = glossary.page()
    marked = re.findall(r"<span lang=\"\w+\">(.*?)</span>", page)
    assert marked and not [text for text in marked if "*" in text or not text]
    entry = {"de": "Adam / Adam-Verfahren", "ko": "Adam", "ja": "アダム", "keep": ["de", "ko"]}
    assert glossary.translation(entry, "ko") == "*Adam*"
    german = '*Adam* / <span lang="de">Adam-Verfahren</span>'
    assert glossary.translation(entry, "de") == german
    unsure = glossary.translation(entry | {"unsure": ["ja"]}, "ja")
    assert unsure == '<span lang="ja">アダム</span> (?)'


def test_there_are_enough_terms_each_once_and_sorted():
    assert len(ENTRIES) >= 150
    for field in ("key", "term"):
        assert len({entry[field].casefold() for entry in ENTRIES}) == len(ENTRIES)
    english = [entry["term"].casefold() for entry in ENTRIES]
    assert english == sorted(english)


def test_entries_are_whole():
    for entry in ENTRIES:
        key = entry["key"]
        assert NEEDED <= entry.keys() <= NEEDED | LISTS | {"warning"}, key
        # one letter alone is the anchor of a heading
        assert re.fullmatch(r"[a-z][a-z0-9]+(-[a-z0-9]+)*|[a-z](-[a-z0-9]+)+", key)
        assert all(entry[field] for field in LISTS & entry.keys()), f"{key}: leave empty ones out"
        marked = {*entry.get("keep", []), *entry.get("unsure", [])}
        assert marked <= glossary.LANGUAGES.keys(), key
        assert entry.get("warning", {"wrong": 1, "right": 1}).keys() == {"wrong", "right"}, key


def test_every_text_is_one_line_that_a_table_can_hold():
    for entry in ENTRIES:
        for text in [*(entry[field] for field in NEEDED), *entry.get("warning", {}).values()]:
            assert isinstance(text, str), f"{text} needs quotes"
            assert text and text == " ".join(text.split()) and not set(text) & set("|*_<>"), text
            # no full-width Latin, no half-width kana, no letters in pieces
            assert text == unicodedata.normalize("NFKC", text), text


def test_definitions_are_short_and_without_a_formula():
    for says in (entry["says"] for entry in ENTRIES):
        assert len(says) <= 160 and says[0].isupper() and says.endswith("."), says
        assert not set(says) & set("=$\\^+"), says


def test_every_term_is_introduced_somewhere():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    to_come = set(re.findall(r"^\| (\d\db?) \| .*\(to come\) \|", readme, re.MULTILINE))
    taught = {number for _, number, _, _ in sections() if number}
    wrong = {e["key"]: e["where"] for e in ENTRIES if e["where"] not in taught | to_come}
    assert wrong == {}, "no such section; of a notebook that is there, say which"


def test_symbols_and_equations_are_listed_on_their_pages():
    notation = (ROOT / "docs" / "notation.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (.*?) \|", notation, re.MULTILINE)
    symbols = {part for cell in cells for part in [cell, *re.findall(r"\$(.*?)\$", cell)]}
    for entry in ENTRIES:
        assert set(entry.get("symbols", [])) <= symbols, entry["key"]
        assert set(entry.get("equations", [])) <= EQUATIONS.keys(), entry["key"]


def test_scripts_are_right():
    for entry, language, kept, own in terms():
        entry[language].encode(CHARACTERS[language])
        for term in kept:
            assert re.search("[A-Za-z]", term) and term.encode("latin_1"), "English stands first"
        for term in own:
            assert re.search(SCRIPTS[language], term), f"{language}: {term}"


def test_no_term_is_said_twice():
    for entry, language, kept, own in terms():
        assert len({*kept, *own}) == len(kept) + len(own), (entry["key"], language)


def test_traditional_characters_and_full_width_letters_would_be_found():
    with pytest.raises(UnicodeEncodeError):
        "馬可夫鏈".encode(CHARACTERS["zh"])
    with pytest.raises(UnicodeEncodeError):
        "马尔可夫链".encode(CHARACTERS["ja"])
    assert unicodedata.normalize("NFKC", "ＫＬ") == "KL"


SLIPS = {  # seen in translated texts, each by a word of its warning
    "adversarial-training": "hostility",
    "bucket": "ember",
    "clip": "scissors",
    "closed-form": "kind",
    "conditioning": "reflex",
    "ddpm": "Fashions",
    "gan": "Community",
    "imagen": "ImageGen",
    "kl-divergence": "Kuala Lumpur",
    "latent-variable": "carriers",
    "left-and-right": "hyperlinks",
    "likelihood": "possibility",
    "nll": "NNL",
    "posterior": "rear part",
    "prior": "beforehand",
    "reparameterisation-trick": "renormalisation",
    "stable-diffusion": "Secure Diffusion",
    "training": "coaching",
    "transformer": "electrical",
    "u-net": "U-Internet",
}


def test_slips_that_circulate_are_warned_of():
    warnings = {entry["key"]: entry["warning"]["wrong"] for entry in ENTRIES if "warning" in entry}
    assert {key: word for key, word in SLIPS.items() if word not in warnings.get(key, "")} == {}
