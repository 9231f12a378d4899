"""What commands are refused with: a runner that returns the one line, and a store to spoil."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from forecast.cli import main as cli
from tests.support.refusals import Refused
from tests.support.stores import Mover, sequence_store


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Refused:
    """Runs the program in ``tmp_path`` and returns its one line on stderr."""

    def run(*arguments: str, output: str | None = None) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("FORECAST_DEBUG", raising=False)
        monkeypatch.setattr(sys, "argv", ["forecast", *arguments])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        shown = capsys.readouterr().err
        assert exit_.value.code == cli.BAD_INPUT, shown
        assert shown.count("\n") == 1, shown
        assert shown.startswith("error: expected "), shown
        assert "; got" in shown, shown
        if output is not None:
            assert not (tmp_path / output).exists()
        return shown

    return run


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Path]:
    """A small valid sequence store of two scenes."""
    path = tmp_path / "store.zarr"
    sequence_store(path, [[Mover(0, 0, speed=4)], [Mover(5, 3, speed=4), Mover(-5, -3)]])
    yield path
    shutil.rmtree(path, ignore_errors=True)
