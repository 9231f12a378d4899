"""Scores by lead: who is still alive, how sure the forecast was, and who is above whom."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from forecast.cli.score_tables import print_by_lead
from forecast.evaluation.by_lead import Fate, count_fates, score_by_lead
from forecast.evaluation.counts import Forecast, Truth
from forecast.inference.writer import ForecastWriter, create_store
from forecast.storage.stores import open_sequence_store
from forecast.types import StepForecast
from tests.support.stores import Mover, forecast_store, perfect_steps, sequence_store

SCENES = [
    [Mover(0.0, 0.0, speed=3.0), Mover(-8.0, 6.0, speed=2.0)],
    [Mover(-5.0, 3.0, speed=4.0), Mover(6.0, -5.0)],
]
LOST_FROM = 4


@pytest.fixture
def data(tmp_path: Path) -> str:
    return sequence_store(tmp_path / "data.zarr", SCENES)


def losing(steps: Iterator[StepForecast]) -> Iterator[StepForecast]:
    """A forecast that gives the second agent up from a lead on."""
    for step in steps:
        if step.lead >= LOST_FROM:
            kept = (step.ids != 2).long()
            drawn = step.instance != 2
            step = replace(
                step,
                ids=step.ids * kept,
                instance=step.instance * drawn,
                semantic=step.semantic * drawn,
            )
        yield step


@pytest.fixture
def lossy(data: str, tmp_path: Path) -> str:
    """A forecast store that is perfect until it loses an agent."""
    dataset, meta = open_sequence_store(data)
    path = str(tmp_path / "lossy.zarr")
    create_store(path, dataset, meta, horizon=meta.horizon, tracks=2, attrs={"model": "lossy"})
    writer = ForecastWriter(path)
    for index in range(len(SCENES)):
        writer.write(slice(index, index + 1), losing(perfect_steps(dataset, meta, index)))
    return path


def test_a_model_that_loses_an_agent_shows_it_from_that_lead_on(data: str, lossy: str) -> None:
    told: list[tuple[int, int]] = []
    found = score_by_lead(lossy, data, progress=lambda *done: told.append(done))
    curve = found.curves["vehicle"]
    assert told == [(1, 2), (2, 2)]
    assert [point.agents for point in curve] == [4] * 6
    alive = [1.0] * (LOST_FROM - 1) + [0.5] * (7 - LOST_FROM)
    assert [point.drawn for point in curve] == alive
    assert [point.matched for point in curve] == alive
    # It did not say that the agent is gone: it says nothing, and is asked about it all the same.
    assert [point.brier for point in curve] == [1 - share for share in alive]


def test_a_class_without_agents_has_nothing_to_score(data: str, lossy: str) -> None:
    point = score_by_lead(lossy, data).curves["cyclist"][0]
    assert (point.iou, point.drawn, point.matched, point.brier) == (None,) * 4
    assert point.agents == 0


def test_what_is_below_a_reference_is_said_with_its_interval(
    data: str, lossy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    perfect = forecast_store(tmp_path / "perfect.zarr", data)
    found = score_by_lead(lossy, data, [perfect])
    first, last = (found.curves["vehicle"][k].gains[perfect]["iou"] for k in (0, -1))
    assert (first.difference, first.below) == (0.0, False)
    assert last.interval is not None
    assert last.interval[0] <= last.difference <= last.interval[1] < 0
    assert (last.below, last.sure) == (True, True)
    print_by_lead(found)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert f"vehicle: gain over perfect ({perfect})" in lines
    *_, row, meaning, below = lines
    assert row.startswith("6 -")
    assert row.endswith("] IoU, VPQ, VPQ moving?")
    assert meaning.startswith("score minus theirs")
    assert below.startswith("below in: ")
    above = score_by_lead(perfect, data, [lossy]).curves["vehicle"][-1].gains[lossy]
    assert above["iou"].difference == -last.difference


def test_the_json_is_that_of_evaluate_with_curves(data: str, lossy: str) -> None:
    found = json.loads(json.dumps(score_by_lead(lossy, data, [lossy]).to_json(), allow_nan=False))
    assert (found["model"], found["horizon"], found["scenes"]) == ("lossy", 6, 2)
    assert found["references"] == {lossy: "lossy"}
    assert [point["lead"] for point in found["classes"]["vehicle"]] == [1, 2, 3, 4, 5, 6]
    gain = found["classes"]["vehicle"][0]["gains"][lossy]["vpq"]
    assert gain == {"difference": 0.0, "interval": [0.0, 0.0]}


def test_leads_and_sequences_that_one_store_lacks_are_left_out(
    data: str, lossy: str, tmp_path: Path
) -> None:
    dataset, meta = open_sequence_store(data)
    path = str(tmp_path / "short.zarr")
    first = dataset.isel(sequence=slice(1))
    create_store(path, first, meta, horizon=2, tracks=2, attrs={"model": "short"})
    steps = [step for step in perfect_steps(dataset, meta, 0) if step.lead <= 2]
    ForecastWriter(path).write(slice(0, 1), steps)
    found = score_by_lead(lossy, data, [path])
    assert (found.scores.sequences, found.scores.horizon) == (1, 2)
    gain = found.curves["vehicle"][0].gains[path]["iou"]
    assert (gain.interval, gain.sure) == (None, False), "one scene has no interval"


def test_nobodys_fate_is_known_where_ids_are_not_those_of_the_truth(
    data: str, tmp_path: Path
) -> None:
    path = forecast_store(tmp_path / "detected.zarr", data, input="detected")
    point = score_by_lead(path, data).curves["vehicle"][0]
    assert point.iou == 1.0
    assert (point.drawn, point.matched, point.brier) == (None,) * 3
    tracked = score_by_lead(forecast_store(tmp_path / "tracked.zarr", data), data)
    assert point.agents == tracked.curves["vehicle"][0].agents > 0


def test_a_reference_that_read_something_else_says_what(
    data: str, lossy: str, tmp_path: Path
) -> None:
    path = forecast_store(tmp_path / "detected.zarr", data, input="detected")
    assert score_by_lead(lossy, data, [path]).references == {path: "perfect, detected input"}
    assert score_by_lead(path, data, [lossy]).references == {lossy: "lossy, tracked input"}


def test_brier_is_the_squared_error_of_existence_of_who_is_visible_at_present() -> None:
    """Id 1 stays, id 2 leaves, id 3 is a pedestrian, id 4 comes later and does not count."""
    present, later = np.array([[1, 1, 2, 3, 0]]), np.array([[1, 1, 0, 3, 4]])
    labels = np.array([0, 1, 1, 2, 1])
    truth = Truth(labels[np.stack([present, later])], np.stack([present, later]))
    instance = np.array([[[1, 2, 2, 0, 4]]])
    existence = np.array([[0.8, 0.4, np.nan, 0.9]])
    sums = count_fates(truth, Forecast(labels[instance], instance, existence=existence), 2)
    vehicle, pedestrian = sums[:, 0]
    assert vehicle[Fate.VISIBLE] == 2
    assert vehicle[Fate.SQUARES] == pytest.approx(0.2**2 + 0.4**2)
    assert vehicle[Fate.THERE : Fate.MATCHED + 1].tolist() == [1, 1, 0], "half is not above half"
    assert pedestrian.tolist() == [1, 1, 1, 0, 0], "no word of it counts as gone"


def test_a_forecast_that_knows_fewer_ids_than_the_truth_is_counted() -> None:
    instance = np.array([[3, 3]])
    truth = Truth(np.ones((2, 1, 2), int), np.stack([instance, instance]))
    nothing = Forecast(np.zeros((1, 1, 2), int), np.zeros((1, 1, 2), int), None, np.ones((1, 1)))
    assert count_fates(truth, nothing, 1)[0, 0].tolist() == [1, 1, 1, 0, 0]


def test_empty_scenes_have_nothing_to_score(tmp_path: Path) -> None:
    data = sequence_store(tmp_path / "empty.zarr", [[], []])
    curve = score_by_lead(forecast_store(tmp_path / "f.zarr", data), data).curves["vehicle"]
    assert [(point.iou, point.agents) for point in curve] == [(None, 0)] * 6
