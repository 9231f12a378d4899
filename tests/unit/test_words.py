"""Words that the project gave up for the field's: none may come back into code, settings or docs.

Checkpoints, stores and runs of older versions still hold some of them; what converts or refuses
those, and what tells of the past, is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("forecast", "data_tools", "configs", "docs")
SUFFIXES = {".py", ".html", ".md", ".yaml"}
# The old names stand here on purpose.
LEFT_OUT = (
    "docs/_build",  # pages made of those that are read
    "docs/history",
    "docs/decisions",
    "forecast/checkpoint/conversion.py",
    "forecast/config/config.py",
    "forecast/cli/evaluate.py",
    "forecast/detector/criterion.py",  # the Dice loss keeps its name
)
WORDS = (
    *("painter", "paint", "paints", "painted", r"\w*_paint", r"paint_\w+"),
    *("Surroundings", "Sight", "Ledger", "Anatomy", "Contest", "contest", "anatomy", "ledger"),
    *("MemoryEncoder", "read_memory", "reads_memory", "Memory"),
    *("measure_drift", "--drift", "drift"),
    *(r"\w*_told", "dice", "sealed", "UNSEALED", "Extra", "traits", "nobody", "ceiling"),
)
FORBIDDEN = re.compile("|".join(rf"(?<![\w-]){word}(?!\w)" for word in WORDS))


def texts() -> Iterator[Path]:
    yield ROOT / "README.md"
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            inside = path.relative_to(ROOT).as_posix()
            if path.suffix in SUFFIXES and not inside.startswith(LEFT_OUT):
                yield path


def found_in(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        for match in FORBIDDEN.finditer(line):
            yield number, match.group()


def test_words_given_up_do_not_come_back() -> None:
    places = [
        f"{path.relative_to(ROOT)}:{number}: {word}"
        for path in texts()
        for number, word in found_in(path.read_text(encoding="utf-8"))
    ]
    assert not places, "\n".join(places)


def test_a_word_given_up_is_found() -> None:
    text = "a rasterizer\nclass Sight:\n    worker_deaths_told()\n# evaluate --drift"
    assert list(found_in(text)) == [(2, "Sight"), (3, "worker_deaths_told"), (4, "--drift")]
    assert not list(found_in("painterly sights, an insight, in memory, retold"))
