"""`forecast prepare` killed by SIGKILL, then resumed: the store of an uninterrupted run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from data_tools.prepare import PrepareOptions, prepare
from forecast.errors import DataError
from forecast.grid import BEVGrid
from forecast.storage.stores import open_sequence_store
from tests.support.killing import kill_when_there
from tests.support.scenarios import crossing, write
from tests.support.stores import content

GRID = "-12,20,-8,8,0.5"


def command(inputs: str, output: Path, workers: int, *more: str) -> list[str]:
    start = "from forecast.cli.main import main; main()"
    program = [sys.executable, "-c", start, "prepare", "waymo-json", inputs]
    return [*program, "--output", str(output), f"--grid={GRID}", f"--workers={workers}", *more]


@pytest.mark.parametrize(
    ("workers", "wanted", "count"),
    [(2, "records/*.json", 3), (1, "store/instance/c/**/0", 1)],
    ids=["while reading, two workers", "while assembling"],
)
def test_a_killed_run_leaves_no_store_and_resumes_to_the_same_bytes(
    workers: int, wanted: str, count: int, tmp_path: Path
) -> None:
    inputs = tmp_path / "in"
    inputs.mkdir()
    for index in range(24):
        write(inputs / f"{index:02d}.json", crossing(index, agents=index))
    out, whole = tmp_path / "out.zarr", tmp_path / "whole.zarr"
    partial = tmp_path / "out.zarr.partial"
    kill_when_there(command(str(inputs), out, workers), wanted, partial, count)
    assert not out.exists()
    with pytest.raises(DataError):
        open_sequence_store(str(out))

    grid = BEVGrid.parse(GRID)
    told: list[tuple[int, int]] = []
    resume = PrepareOptions(grid=grid, resume=True)
    prepare("waymo-json", [str(inputs)], str(out), resume, lambda *done: told.append(done))
    # What was done before the kill was not done again.
    assert sum(total == 24 for _, total in told) < 24
    prepare("waymo-json", [str(inputs)], str(whole), PrepareOptions(grid=grid))
    assert content(out) == content(whole)
    assert not partial.exists()
