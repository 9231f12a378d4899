"""Scores: from sums to numbers, their intervals, their JSON, and stores scored on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from forecast.errors import DataError
from forecast.evaluation.counts import Forecast, Truth, oracle
from forecast.evaluation.scores import Accumulator, Gain, gain, percentile_interval, resample, skill
from forecast.evaluation.scoring import BLOCK, in_blocks, read_truths, score_stores
from forecast.schema import SequenceMeta
from forecast.storage.consolidation import consolidate
from tests.support.stores import GRID, Mover, forecast_store, sequence_dataset, sequence_store

CLASSES = ("vehicle", "pedestrian", "cyclist")
SCENES = [
    [Mover(0, -4, speed=6), Mover(-6, 4), Mover(9, 0, 1.5, 2, length=1, width=1, label=2)],
    [Mover(3, -3, speed=4), Mover(-9, 1, speed=3)],
    [Mover(-5, 3, speed=8, turn_rate=0.2)],
]


def truths() -> list[Truth]:
    data = sequence_dataset(SCENES)
    meta = SequenceMeta.from_attrs(data.attrs, "memory")
    return list(read_truths("memory", data, meta, range(len(SCENES)), 6))


def perfect(truth: Truth) -> Forecast:
    return oracle(truth, GRID)


def persistence(truth: Truth) -> Forecast:
    return Forecast(
        np.repeat(truth.semantic[:1], truth.horizon, axis=0),
        np.repeat(truth.instance[:1], truth.horizon, axis=0),
    )


def accumulated(forecaster: Any) -> Accumulator:
    accumulator = Accumulator(CLASSES, 6, GRID)
    for truth in truths():
        accumulator.add(truth, forecaster(truth))
    return accumulator


def test_a_perfect_forecast_scores_one_and_a_class_without_agents_null() -> None:
    scores = accumulated(perfect).scores(protocol={"hash": "h"}, model="m", data="d")
    found = json.loads(json.dumps(scores.to_json(), allow_nan=False))
    assert set(found) >= {"classes", "sequences", "scenes", "horizon", "protocol", "model", "data"}
    vehicle = found["classes"]["vehicle"]
    assert vehicle["iou"] == vehicle["vpq"] == vehicle["vpq_moving"] == 1.0
    assert vehicle["iou_by_lead"] == [1.0] * 6
    assert vehicle["ade"] == vehicle["fde_moving"] == 0.0
    assert vehicle["interval"]["iou"] == [1.0, 1.0]
    cyclist = found["classes"]["cyclist"]
    assert cyclist["iou"] is cyclist["vpq"] is cyclist["ade"] is None
    assert cyclist["iou_by_lead"] == [None] * 6
    assert set(cyclist["interval"].values()) == {None}
    assert (found["sequences"], found["scenes"], found["horizon"]) == (3, 3, 6)


def test_vpq_without_true_ids_is_unknown_not_zero() -> None:
    accumulator = Accumulator(CLASSES, 6, GRID)
    for truth in truths():
        nameless = np.where(truth.semantic == 1, 0, truth.instance)  # pedestrians keep theirs
        accumulator.add(replace(truth, instance=nameless), oracle(truth, GRID))
    vehicle, pedestrian, _ = accumulator.scores().classes.values()
    assert vehicle.iou == 1.0
    assert vehicle.vpq is vehicle.vpq_moving is vehicle.sq is vehicle.rq is None
    assert vehicle.vpq_by_lead == vehicle.vpq_moving_by_lead == [None] * 6
    assert vehicle.interval["iou"] is not None
    assert vehicle.interval["vpq"] is None
    assert pedestrian.vpq == 1.0
    assert gain(accumulator, accumulator, "vpq").keys() == {"pedestrian"}


def test_false_alarms_where_there_is_no_truth_score_zero() -> None:
    accumulator = Accumulator(CLASSES, 6, GRID)
    for truth in truths():
        accumulator.add(replace(truth, semantic=0 * truth.semantic), oracle(truth, GRID))
    assert accumulator.scores().classes["vehicle"].vpq == 0.0


def test_displacement_without_poses_is_null() -> None:
    vehicle = accumulated(persistence).scores().classes["vehicle"]
    assert vehicle.ade is None
    assert vehicle.counts["agents_forecast"] == 0
    assert vehicle.vpq is not None


def test_nothing_added_is_nothing_scored() -> None:
    scores = Accumulator(CLASSES, 6, GRID).scores()
    assert scores.classes["vehicle"].iou is None
    assert scores.scenes == scores.sequences == 0


def test_one_scene_has_no_interval() -> None:
    accumulator = Accumulator(CLASSES, 6, GRID)
    for _ in range(2):
        accumulator.add(truths()[0], persistence(truths()[0]))
    scores = accumulator.scores()
    assert (scores.sequences, scores.scenes) == (2, 1)
    assert scores.classes["vehicle"].iou is not None
    assert scores.classes["vehicle"].interval["iou"] is None


def test_the_order_of_sequences_does_not_matter() -> None:
    backwards = Accumulator(CLASSES, 6, GRID)
    for truth in reversed(truths()):
        backwards.add(truth, persistence(truth))
    assert backwards.scores() == accumulated(persistence).scores()


def test_merged_counts_are_those_of_one_accumulator() -> None:
    whole = Accumulator(CLASSES, 6, GRID)
    for truth in truths():
        part = Accumulator(CLASSES, 6, GRID)
        part.add(truth, persistence(truth))
        whole.merge(json.loads(json.dumps(part.counted())))
    assert whole.scores() == accumulated(persistence).scores()


def test_bootstrap_intervals_hold_the_mean_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(200):
        interval = percentile_interval(resample(rng.normal(size=40), 500) / 40)
        assert interval is not None
        inside += interval[0] < 0 < interval[1]
    assert 0.88 < inside / 200 < 0.98


def test_an_interval_with_undefined_draws_is_none() -> None:
    assert percentile_interval(np.array([1.0, np.nan])) is None


def test_skill_is_the_share_of_the_way_to_the_oracle() -> None:
    assert skill(0.7, 0.5, 0.9) == pytest.approx(0.5)
    assert skill(None, 0.5, 0.9) is None
    assert skill(0.5, 0.5, 0.5) is None


def test_where_constant_turn_leaves_next_to_nothing_to_gain_there_is_no_skill() -> None:
    assert skill(0.1, 0.9999, 1.0) is None
    assert skill(0.1, 1.0, 0.9999) is None, "nor where it is above the oracle"
    assert skill(0.94, 0.94, 1.0) == 0.0


def test_gain_pairs_the_draws_of_both_forecasters() -> None:
    better, worse = accumulated(perfect), accumulated(persistence)
    found = gain(better, worse, "iou")["vehicle"]
    assert found.interval is not None
    assert 0 < found.interval[0] <= found.difference <= found.interval[1] < 1
    assert found.sure
    assert not found.below
    assert gain(better, better, "vpq")["vehicle"] == Gain(0.0, (0.0, 0.0))
    assert "cyclist" not in gain(better, worse, "iou")


def test_scores_stores_on_disk(tmp_path: Path) -> None:
    data = sequence_store(tmp_path / "s.zarr", SCENES)
    forecast = forecast_store(tmp_path / "f.zarr", data)
    told: list[tuple[int, int]] = []
    scores = score_stores(forecast, data, lambda *done: told.append(done))
    assert scores.classes["vehicle"].iou == 1.0
    assert scores.classes["vehicle"].ade == 0.0
    assert told == [(3, 3)]
    assert scores.protocol["name"] == "exact"
    assert scores.data == data


def test_the_number_of_workers_changes_no_score(tmp_path: Path) -> None:
    scenes = [SCENES[index % 3] for index in range(2 * BLOCK + 1)]
    data = sequence_store(tmp_path / "s.zarr", scenes)
    forecast = forecast_store(tmp_path / "f.zarr", data)
    assert score_stores(forecast, data, workers=2) == score_stores(forecast, data)


def test_large_sequences_are_read_in_smaller_blocks() -> None:
    meta = SequenceMeta.from_attrs(sequence_dataset(SCENES).attrs, "memory")
    blocks = in_blocks(range(100), meta, 6)
    assert blocks[0] == range(BLOCK)
    assert [index for block in blocks for index in block] == list(range(100))
    assert in_blocks(range(2), meta, 10**9) == [range(1), range(1, 2)]


def test_a_longer_forecast_is_scored_as_far_as_the_truth_goes(tmp_path: Path) -> None:
    data = sequence_store(tmp_path / "s.zarr", SCENES)
    longer = sequence_store(tmp_path / "l.zarr", SCENES, horizon=9)
    scores = score_stores(forecast_store(tmp_path / "f.zarr", longer), data)
    assert (scores.horizon, scores.forecast_horizon) == (6, 9)
    assert scores.classes["vehicle"].iou == 1.0


def test_a_single_lead_is_scored(tmp_path: Path) -> None:
    data = sequence_store(tmp_path / "s.zarr", SCENES, horizon=1)
    scores = score_stores(forecast_store(tmp_path / "f.zarr", data), data)
    assert scores.classes["vehicle"].iou_by_lead == [1.0]


def test_a_forecast_of_the_first_sequences_is_scored_on_those(tmp_path: Path) -> None:
    data = sequence_store(tmp_path / "s.zarr", SCENES)
    first = sequence_store(tmp_path / "first.zarr", SCENES[:2])
    scores = score_stores(forecast_store(tmp_path / "f.zarr", first), data)
    assert (scores.sequences, scores.data_sequences) == (2, 3)


def test_poses_of_detected_agents_are_not_compared_by_id(tmp_path: Path) -> None:
    data = sequence_store(tmp_path / "s.zarr", SCENES)
    forecast = forecast_store(tmp_path / "f.zarr", data, input="detected")
    scores = score_stores(forecast, data)
    assert scores.classes["vehicle"].ade is None
    assert scores.classes["vehicle"].vpq == 1.0


def test_a_store_without_tracks_is_scored_by_its_masks(tmp_path: Path) -> None:
    data = sequence_store(tmp_path / "s.zarr", SCENES)
    forecast = forecast_store(tmp_path / "f.zarr", data)
    bare = xr.open_zarr(data, consolidated=False, chunks=None).drop_vars(
        ["track_state", "track_class"]
    )
    bare.to_zarr(tmp_path / "bare.zarr", zarr_format=3, consolidated=False)
    vehicle = score_stores(forecast, str(tmp_path / "bare.zarr")).classes["vehicle"]
    assert vehicle.vpq_moving == 1.0
    assert vehicle.ade is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scenes": SCENES[:2]}, "at most the 2 sequences"),
        ({"scenes": SCENES, "dt_s": 0.25}, "dt_s 0.25"),
        ({"scenes": SCENES, "horizon": 0}, "future frames to score against"),
        ({"scenes": SCENES[::-1], "first": 1}, "the scenes of"),
    ],
)
def test_refuses_stores_that_do_not_belong_together(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    data = sequence_store(tmp_path / "s.zarr", SCENES)
    forecast = forecast_store(tmp_path / "f.zarr", data)
    other = sequence_store(tmp_path / "other.zarr", **change)
    with pytest.raises(DataError, match=message) as caught:
        score_stores(forecast, other)
    assert "\n" not in str(caught.value)


def test_a_store_of_the_first_schema_is_scored_alike(tmp_path: Path) -> None:
    data = sequence_store(tmp_path / "s.zarr", SCENES)
    forecast = forecast_store(tmp_path / "f.zarr", data)
    scores = score_stores(forecast, data)
    group = zarr.open_group(forecast, mode="r+", use_consolidated=False)
    del group["uncertainty"]
    group.attrs["schema"] = "bev-forecast/1"
    consolidate(forecast)
    assert score_stores(forecast, data) == scores


def test_refuses_what_is_no_forecast(tmp_path: Path) -> None:
    data = sequence_store(tmp_path / "s.zarr", SCENES)
    with pytest.raises(DataError, match="bev-forecast/2"):
        score_stores(data, data)
    with pytest.raises(DataError, match="a zarr store"):
        score_stores(str(tmp_path / "none.zarr"), data)
