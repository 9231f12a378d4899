"""`forecast rollout` killed by SIGKILL, then resumed: the store and scores of a whole run."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from forecast.errors import DataError
from forecast.storage.stores import open_forecast_store
from forecast.workflows import RolloutRequest, rollout_to_store
from tests.support.killing import kill_when_there
from tests.support.stores import Mover, content, sequence_store

COUNT = 40


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_rollout_leaves_no_store_and_resumes_to_the_same_bytes(
    workers: int, tmp_path: Path
) -> None:
    scenes = [[Mover(0, 0, speed=index % 7), Mover(-8, 5, label=2)] for index in range(COUNT)]
    data, out = sequence_store(tmp_path / "s.zarr", scenes), tmp_path / "out.zarr"
    start = "from forecast.cli.main import main; main()"
    program = [sys.executable, "-c", start, "rollout", "--data", data, "--model", "constant-turn"]
    options = ["--gif", "", "--batch-size", "1", f"--workers={workers}", "--output", str(out)]
    kill_when_there([*program, *options], "records/*.json", tmp_path / "out.zarr.partial", 3)
    assert not out.exists()
    with pytest.raises(DataError):
        open_forecast_store(str(out))

    request = RolloutRequest(
        data=data, model="constant-turn", output=str(out), batch_size=1, resume=True
    )
    told: list[tuple[int, int]] = []
    resumed = rollout_to_store(request, lambda *done: told.append(done))
    # What was done before the kill was not done again.
    assert told[-1] == (COUNT, COUNT)
    assert len(told) <= COUNT - 3
    whole = rollout_to_store(replace(request, output=str(tmp_path / "whole.zarr"), resume=False))
    assert content(out) == content(Path(whole.output))
    assert resumed.scores == whole.scores
    assert not list(tmp_path.glob("*.partial"))
