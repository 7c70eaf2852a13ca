"""Write docs/quiz.toml as a file for each notebook, in GIFT, which Moodle and others import.

python tools/quiz.py [FOLDER, build/quiz by default]
"""

import re
import sys
import tomllib
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "docs" / "quiz.toml"


def questions() -> dict[str, list[dict]]:
    """The questions of each notebook, by its number: what is asked, right, wrong, and why."""
    return tomllib.loads(SOURCE.read_text(encoding="utf-8"))


def gift(number: str, asked: list[dict]) -> str:
    """One notebook's questions as multiple choice; whatever is chosen, the reason is told."""
    parts = [f"$CATEGORY: $course$/Diffusion models/{number}\n"]
    for k, question in enumerate(asked, 1):
        lines = [f"::{number} quiz {k}::[plain]{plain(question['ask'])} {{"]
        lines += [f"\t={plain(question['right'])}"]
        lines += [f"\t~{plain(wrong)}" for wrong in question["wrong"]]
        lines += [f"\t####{plain(question['why'])}", "}\n"]
        parts.append("\n".join(lines))
    return "\n".join(parts)


def plain(text: str) -> str:
    """Words in which GIFT finds no sign of its own."""
    return re.sub(r"([\\~=#{}:])", r"\\\1", text)


def write(folder: Path) -> None:
    """A file of each notebook that has questions."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, asked in questions().items():
        (folder / f"{number}.gift").write_text(gift(number, asked), encoding="utf-8")


if __name__ == "__main__":
    FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else "build/quiz")
    write(FOLDER)
    print(f"wrote {FOLDER}")
