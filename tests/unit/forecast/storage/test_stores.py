"""Stores without ids, as a perception network's rasters make them: what is known, and what not."""

from __future__ import annotations

from pathlib import Path

import pytest
import xarray as xr

from forecast.cli.score_tables import print_comparison, print_scores
from forecast.errors import DataError
from forecast.inference.request import RolloutRequest
from forecast.schema import SequenceMeta
from forecast.storage.stores import BLOCK, lacks_ids
from forecast.workflows import rollout_to_store
from tests.support.stores import Mover, classes_alone, sequence_dataset, store_of_classes

SCENES = (
    [Mover(0.0, 0.0, speed=4.0), Mover(8.0, 4.0, label=2, length=2.0)],
    [Mover(-4.0, -4.0, 1.0)],
)


def lacking(data: xr.Dataset) -> bool:
    return lacks_ids(data, SequenceMeta.from_attrs(data.attrs, "memory"))


def test_a_store_lacks_ids_if_no_agent_of_any_history_has_one() -> None:
    data = sequence_dataset(SCENES)
    assert lacking(classes_alone(data))
    assert not lacking(data)
    assert not lacking(data.drop_vars(["track_state", "track_class"])), "its masks have ids"


def test_one_id_in_the_last_history_is_enough() -> None:
    data = classes_alone(sequence_dataset([[Mover(0.0, 0.0)]] * (BLOCK + 1)))
    assert lacking(data)
    data["instance"].values[-1, 0, 0, 0] = 1
    assert not lacking(data)


def test_where_nobody_is_seen_before_the_future_no_id_is_missed() -> None:
    data = classes_alone(sequence_dataset([[], [Mover(0.0, 0.0)]]))
    data["semantic"].values[:, :3] = 0
    assert not lacking(data)


@pytest.mark.parametrize("model", [None, "persistence"])
def test_tracked_input_without_ids_is_refused_rather_than_forecast_empty(
    model: str | None, tmp_path: Path
) -> None:
    data = store_of_classes(tmp_path / "s.zarr", SCENES)
    with pytest.raises(DataError, match=r"ids in the history.* add --input detected"):
        RolloutRequest(data=data, model=model, output=str(tmp_path / "f.zarr"))


def test_a_store_without_any_agent_may_be_rolled_out_either_way(tmp_path: Path) -> None:
    data, output = store_of_classes(tmp_path / "s.zarr", [[], []]), str(tmp_path / "f.zarr")
    RolloutRequest(data=data, output=output)
    RolloutRequest(data=data, output=output, input_mode="detected")


def test_only_what_needs_no_ids_is_scored_against_a_store_without_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = RolloutRequest(
        data=store_of_classes(tmp_path / "s.zarr", SCENES),
        model="components-cv",
        output=str(tmp_path / "f.zarr"),
        input_mode="detected",
    )
    scores = rollout_to_store(request).scores
    assert list(scores) == ["components-cv"], "the others would have scored 0"
    assert (scores["components-cv"].classes["vehicle"].iou or 0) > 0.3
    print_comparison(scores)
    print_scores(scores["components-cv"])
    out = capsys.readouterr().out
    assert out.count("-: not known, because the truth has no ids\n") == 2
    assert "skill:" not in out
    assert "oracle:" not in out
