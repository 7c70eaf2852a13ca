"""A few hundred damaged files; `python tests/fuzz.py files 10000` tries more."""

import random
from pathlib import Path

import fuzz


def test_sound_files_are_read(tmp_path):
    for name, (content, read) in fuzz.whole_files(tmp_path).items():
        place = tmp_path / "one" / name
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(content)
        assert fuzz._end(read, place) == "read", name
        place.unlink()


def test_damaged_files_are_read_or_refused_by_name():
    ends, faults = fuzz.files(420)
    assert not faults
    kinds = {name for name, _ in ends}
    assert len(kinds) >= 20 and sum(ends.values()) == 420
    assert sum(count for (_, end), count in ends.items() if end == "refused") > 200


def test_a_reader_that_fails_is_caught(tmp_path):
    place = tmp_path / "x.png"

    def unnamed(path: Path):
        raise ValueError("bad file")

    def other(path: Path):
        raise KeyError(path)

    assert "without the file's name" in fuzz._end(unnamed, place)
    assert "KeyError" in fuzz._end(other, place)


def test_damage_changes_most_files_and_is_repeatable():
    content = bytes(range(200))
    changed = [fuzz.damaged(content, random.Random(k)) for k in range(100)]
    assert changed == [fuzz.damaged(content, random.Random(k)) for k in range(100)]
    assert sum(c != content for c in changed) > 90
