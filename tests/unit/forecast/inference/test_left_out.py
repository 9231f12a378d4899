"""More agents than a model has slots for: the nearest are forecast, the others are counted."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from forecast.cli import main as cli
from forecast.inference import models
from forecast.inference.writer import LEFT_OUT
from forecast.model.baselines import Baseline
from forecast.model.scene.agents import MoreAgentsThanSlots
from forecast.storage.stores import open_forecast_store
from tests.support.rollouts import run
from tests.support.sequences import sequences
from tests.support.stores import Mover, sequence_store

NEAR, MIDDLE, FAR = Mover(2, 0), Mover(8, 3), Mover(-14, -9)
OUTSIDE = Mover(40, 0, speed=-16)  # off the grid at present: no model would forecast it


@pytest.fixture
def said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """What a rollout of three sequences by a model of two slots says on stderr."""
    scenes = [[FAR, NEAR, MIDDLE, OUTSIDE], [NEAR], [MIDDLE, NEAR, FAR]]
    data = sequence_store(tmp_path / "data.zarr", scenes)
    monkeypatch.setattr(models, "Baseline", partial(Baseline, slots=2))
    output = ("--output", str(tmp_path / "f.zarr"), "--gif", "")
    argv = ["forecast", "rollout", "--data", data, "--model", "constant-velocity", *output]
    monkeypatch.setattr("sys.argv", argv)
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert not exit_.value.code
    return capsys.readouterr().err


def test_one_line_says_how_many_are_not_forecast(said: str) -> None:
    assert said.splitlines() == [
        "warning: 2 sequences with more agents than the model has room for: 2 in all, the farthest"
        " from the ego, are not forecast"
    ]


@pytest.mark.usefixtures("said")
def test_the_store_has_the_nearest_and_counts_the_others(tmp_path: Path) -> None:
    store = open_forecast_store(str(tmp_path / "f.zarr"))
    assert store[LEFT_OUT].values.tolist() == [1, 0, 1]
    assert store[LEFT_OUT].dims == ("sequence",)
    known = np.isfinite(store["pose"].values[:, 0, :, 0])
    assert known.tolist() == [
        [False, True, True, False],
        [True, False, False, False],
        [True, True, False, False],
    ]


def test_programs_are_warned() -> None:
    with pytest.warns(MoreAgentsThanSlots, match="3 agents in a scene and room for 2"):
        run(Baseline("persistence", 3, slots=2), sequences([[FAR, NEAR, MIDDLE]]), 1)


def test_a_crowd_changes_nothing_for_the_other_sequences() -> None:
    quiet = [MIDDLE, NEAR]
    alone = run(Baseline("persistence", 3, slots=2), sequences([quiet]), 1)[0]
    with pytest.warns(MoreAgentsThanSlots):
        beside = run(
            Baseline("persistence", 3, slots=2), sequences([quiet, [FAR, NEAR, MIDDLE]]), 1
        )[0]
    assert beside.ids[0].tolist() == alone.ids[0].tolist()
    assert (beside.instance[0] == alone.instance[0]).all()
