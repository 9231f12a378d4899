"""Everything in the documentation that can be run runs, in order, in a directory of its own.

A ```bash or ```python block is run unless the line before it is ``<!-- not run: REASON -->``.
Blocks of one page share a directory that holds the repository's ``configs``, as a clone would, and
its Python blocks share their variables.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>.+?) -->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
SHELLS = {"sh", "shell", "console"}  # would not be run: docs use ```bash


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    language: str
    code: str
    reason: str | None


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(page, text.count("\n", 0, m.start()) + 1, m["language"], m["code"], m["reason"])
        for m in BLOCK.finditer(text)
    ]


def commands(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language in ("bash", "python")]


def program(page: Path) -> str:
    """The page as one Python program: what it says, and nothing of its own."""
    lines = ["import subprocess", "page = {'__name__': 'page'}"]
    for block in commands(page):
        where = f"{page.name}:{block.line}"
        if block.reason:
            continue
        if block.language == "python":
            lines.append(f"exec(compile({block.code!r}, {where!r}, 'exec'), page)")
        else:
            shell = ["bash", "-euo", "pipefail", "-c", block.code]
            lines.append(f"subprocess.run({shell!r}, check=True, timeout=600)  # {where}")
    return "\n".join(lines)


def test_shell_blocks_are_written_as_bash() -> None:
    assert not [block for page in PAGES for block in blocks(page) if block.language in SHELLS]


def test_the_documentation_has_commands_that_run() -> None:
    assert [block for page in PAGES for block in commands(page) if not block.reason]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_not_run_say_why(page: Path) -> None:
    reasons = [block.reason for block in commands(page) if block.reason]
    # A mark without a reason, or away from its block, would be no mark.
    assert page.read_text().count("<!-- not run") == len(reasons)
    for reason in reasons:
        assert len(reason.split()) > 2, reason
        for file in re.findall(r"[\w/]+\.(?:md|py)", reason):
            assert (ROOT / file).is_file(), reason


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(not block.reason for block in commands(page))],
    ids=lambda page: page.name,
)
def test_commands_run(page: Path, tmp_path: Path) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "COLUMNS": "100",
    }
    done = subprocess.run(
        [sys.executable, "-"],
        input=program(page),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{page.name}\n{done.stdout}\n{done.stderr}"
