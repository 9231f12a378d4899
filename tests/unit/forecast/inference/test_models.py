"""Models as they are asked for, and what a rollout says of what it was given."""

from __future__ import annotations

from pathlib import Path

import pytest

from forecast.checkpoint.checkpoint import save_checkpoint
from forecast.data.reader import SequenceReader, collate
from forecast.errors import ConfigError
from forecast.inference.models import load_model
from forecast.inference.request import RolloutRequest
from forecast.loop import rollout
from forecast.model.forecaster import Forecaster
from forecast.workflows import rollout_to_store
from tests.support.sequences import forecaster
from tests.support.stores import Mover, sequence_store


def test_fast_leaves_rasters_out_and_says_so_in_the_forecast(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    save_checkpoint(forecaster(), weights, 0.5, {})
    for fast, raster in ((False, "always"), (True, "detection")):
        loaded = load_model(str(weights), fast=fast, device="cpu")
        assert isinstance(loaded.model, Forecaster)
        assert loaded.model.spec.raster == raster
        assert loaded.provenance.to_attrs()["fast"] == fast


@pytest.mark.parametrize("model", ["packaged", "constant-turn"])
def test_walkers_between_cells_have_one_where_the_labels_give_them_one(
    model: str, tmp_path: Path
) -> None:
    walkers = [Mover(x, 0.0, length=0.3, width=0.3, label=2) for x in (1.0, 3.0, 5.0)]
    data = SequenceReader(sequence_store(tmp_path / "data.zarr", [walkers]))
    history = collate([data[0]]).crop(0, data.meta.history)
    for least_cell, cells in ((True, {0, 1, 2, 3}), (False, {0})):
        made = load_model(
            model, device="cpu", map_layers=data.meta.map_layers, least_cell=least_cell
        )
        drawn = [step.instance for step in rollout(made, history, 2)]
        assert {int(one) for step in drawn for one in step.unique()} == cells


@pytest.mark.parametrize(("model", "kind"), [("kalman", "tracked"), (None, "detected")])
def test_fast_is_for_learned_models_of_tracked_input(model: str | None, kind: str) -> None:
    with pytest.raises(ConfigError, match="--fast with a learned model and tracked input"):
        load_model(model, input_mode=kind, fast=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("history", [1, 2])
def test_a_history_of_a_single_moment_is_said(tmp_path: Path, history: int) -> None:
    store = sequence_store(
        tmp_path / "data.zarr", [[Mover(0.0, 0.0, 0.0, 3.0)]], history=history, horizon=2
    )
    output = str(tmp_path / "forecast.zarr")
    request = RolloutRequest(store, "constant-turn", output, horizon=2)
    assert rollout_to_store(request).one_moment == (history == 1)
