"""What an error says in one line, even one that says nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from forecast.checkpoint.checkpoint import save_checkpoint
from forecast.errors import CheckpointError, DataError, reason_of
from forecast.storage.atomic import refusing_os_errors
from forecast.storage.stores import refusing_damage
from tests.support.sequences import forecaster


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError(), "TimeoutError"),
        (OSError("\n"), "OSError"),
        (ValueError("\n first\nsecond"), "first"),
        (OSError(28, "No space left"), "[Errno 28] No space left"),
    ],
)
def test_a_reason_is_one_line_and_never_empty(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason


def test_a_timeout_without_text_is_one_line_wherever_it_strikes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object) -> None:
        raise TimeoutError

    unwritten, damaged = r"to write o\.zarr; got TimeoutError; free", r"one \(TimeoutError\)"
    with pytest.raises(DataError, match=unwritten), refusing_os_errors("o.zarr"):
        silent()
    with pytest.raises(DataError, match=damaged), refusing_damage("o.zarr"):
        silent()
    monkeypatch.setattr("forecast.checkpoint.checkpoint.save_file", silent)
    with pytest.raises(CheckpointError, match=r"to write .*; got TimeoutError; free"):
        save_checkpoint(forecaster(), tmp_path / "model.safetensors", 0.5, {})
