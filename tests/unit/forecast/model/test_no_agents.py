"""Scenes without agents: batches of them train, and they are rolled out and scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest

from data_tools.prepare import PrepareOptions, prepare
from forecast.checkpoint.checkpoint import load_checkpoint
from forecast.config.config import Config
from forecast.config.data import Augmentation, Loading
from forecast.config.training import Optimisation, Stage, TrackRules
from forecast.evaluation.breakdown import break_down
from forecast.evaluation.evaluate import evaluate
from forecast.grid import BEVGrid
from forecast.training.run import run_training
from forecast.workflows import RolloutRequest, rollout_to_store
from tests.support.scenarios import agent, scenario, write
from tests.support.sequences import SMALL
from tests.support.stores import Mover, sequence_store

EVERYTHING = Config(
    model=SMALL,
    curriculum=(
        Stage(1, 1),
        Stage(1, 2),
        Stage(1, 1, detected=1.0),
    ),
    tracks=TrackRules(overlap=0.1, drop=0.3, insert=0.5, denoising=2),
    augmentation=Augmentation(masks_only=0.5),
    optimisation=Optimisation(warmup_steps=1),
    loading=Loading(batch_size=1, workers=0),
    accelerator="cpu",
)
SOMEBODY = [Mover(0.0, 0.0, speed=4.0)]


@pytest.mark.parametrize(
    "scenes", [[[], []], [[], SOMEBODY, []]], ids=["no tracks at all", "now and then somebody"]
)
def test_batches_with_nobody_in_them_train(scenes: list[list[Mover]], tmp_path: Path) -> None:
    store = sequence_store(tmp_path / "data.zarr", scenes)
    run_training(EVERYTHING, [store], store, str(tmp_path / "run"), resume=False)
    state = load_checkpoint(tmp_path / "run").model.state_dict()
    assert all(value.isfinite().all() for value in state.values())


@pytest.fixture(scope="module")
def deserted(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store of a recording in which the ego is alone, and itself left out as was asked for."""
    folder = tmp_path_factory.mktemp("deserted")
    write(folder / "alone.json", scenario([agent(Mover(0.0, 0.0, speed=8.0), "other")]))
    path = folder / "alone.zarr"
    grid = BEVGrid(-16.0, 24.0, -12.0, 12.0, 0.5)
    options = PrepareOptions(grid=grid, map_classes=(("other", "none"),))
    prepare("waymo-json", [str(folder / "alone.json")], str(path), options)
    return str(path)


@pytest.mark.parametrize(
    ("mode", "model"),
    [("tracked", None), ("tracked", "constant-turn"), ("detected", None)],
)
def test_a_recording_with_nobody_in_it_is_prepared_forecast_and_scored(
    mode: Literal["tracked", "detected"], model: str | None, deserted: str, tmp_path: Path
) -> None:
    out = str(tmp_path / "forecast.zarr")
    request = RolloutRequest(data=deserted, model=model, output=out, input_mode=mode)
    assert rollout_to_store(request).sequences > 0
    scores = evaluate(out, deserted).to_json()
    assert "NaN" not in json.dumps(scores)
    if mode == "tracked":
        assert break_down(out, deserted, ["lead"]) == []
