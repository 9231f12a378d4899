"""The forecast store: what the writer promises about names, order, memory and failure."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

from forecast.errors import DataError
from forecast.inference.writer import BLOCK_LEADS, ForecastWriter, create_store
from forecast.loop import REALIZATIONS_AT_ONCE
from forecast.schema import FORECAST_VARIABLES, REALIZATION_VARIABLES
from forecast.storage.stores import open_forecast_store, open_sequence_store
from forecast.types import Realization, StepForecast
from tests.support.stores import GRID, Mover, content, sequence_store

SCENES = [[Mover(0, 0, speed=4), Mover(5, 5)], [Mover(3, -3)], []]


@pytest.fixture
def store(tmp_path: Path) -> str:
    return sequence_store(tmp_path / "sequences.zarr", SCENES)


def steps(batch: int, horizon: int, first: int = 1, track: int = 2) -> Iterator[StepForecast]:
    """Slot 0 is empty, slot 1 holds ``track``; values name the lead."""
    for lead in range(first, first + horizon):
        yield StepForecast(
            lead=lead,
            ids=torch.tensor([[0, track]]).expand(batch, 2),
            label=torch.tensor([[0, 1]]).expand(batch, 2),
            pose=torch.full((batch, 2, 3), float(lead)),
            existence=torch.full((batch, 2), 0.5),
            instance=torch.full((batch, *GRID.shape), track),
            semantic=torch.full((batch, *GRID.shape), lead % 4),
            occupancy=torch.full((batch, 3, *GRID.shape), 0.25, dtype=torch.bfloat16),
            flow=torch.full((batch, 2, *GRID.shape), -lead / 4),
            uncertainty=torch.full((batch, 2, 2), lead / 2),
        )


def laid_out(path: Path | str, store: str, horizon: int = 6) -> ForecastWriter:
    dataset, meta = open_sequence_store(store)
    attrs = {"model": "m"}
    create_store(str(path), dataset, meta, horizon=horizon, tracks=3, attrs=attrs)
    return ForecastWriter(str(path))


@pytest.mark.parametrize("horizon", [1, BLOCK_LEADS, BLOCK_LEADS + 1, 2 * BLOCK_LEADS])
def test_reads_back_what_was_written(tmp_path: Path, store: str, horizon: int) -> None:
    out = laid_out(tmp_path / "f.zarr", store, horizon)
    out.write(slice(0, 2), steps(2, horizon))
    out.write(slice(2, 3), steps(1, horizon, track=3))
    forecast = open_forecast_store(str(tmp_path / "f.zarr"))
    leads = np.arange(1, horizon + 1)
    for name, (_, dtype) in FORECAST_VARIABLES.items():
        assert forecast[name].dtype == dtype
    assert (forecast.instance[0] == 2).all()
    assert (forecast.instance[2] == 3).all()
    np.testing.assert_array_equal(forecast.semantic[:, :, 0, 0], np.tile(leads % 4, (3, 1)))
    assert (forecast.occupancy == 0.25).all()
    np.testing.assert_array_equal(forecast.flow[1, :, 1, 2, 3], -leads / 4)
    np.testing.assert_array_equal(forecast.pose[0, :, 1, 0], leads)
    assert np.isnan(forecast.pose[0, :, [0, 2]]).all()
    assert np.isnan(forecast.existence[2, :, :2]).all()
    assert (forecast.existence[2, :, 2] == 0.5).all()
    np.testing.assert_array_equal(forecast.uncertainty[0, :, 1, 1], leads / 2)
    assert np.isnan(forecast.uncertainty[2, :, 1]).all()


def test_names_time_space_and_provenance(tmp_path: Path, store: str) -> None:
    laid_out(tmp_path / "f.zarr", store, 4).write(slice(0, 3), steps(3, 4))
    forecast = open_forecast_store(str(tmp_path / "f.zarr"))
    assert forecast.lead.values.tolist() == [1, 2, 3, 4]
    assert forecast.lead_time.values.tolist() == [0.5, 1.0, 1.5, 2.0]
    assert forecast.lead_time.attrs["units"] == "s"
    np.testing.assert_array_equal(forecast.x, GRID.x_m)
    np.testing.assert_array_equal(forecast.y, GRID.y_m)
    assert forecast["class"].values.tolist() == ["vehicle", "pedestrian", "cyclist"]
    assert forecast.side.values.tolist() == ["ahead", "aside"]
    assert forecast.scene.values.tolist() == ["scene-0", "scene-1", "scene-2"]
    assert forecast.init_time.values.tolist() == [0.0, 1.0, 2.0]
    assert forecast.attrs["model"] == "m"
    assert forecast.attrs["grid"] == GRID.to_attrs()
    assert forecast.attrs["horizon"] == 4


def test_lets_go_of_each_step_before_the_next_but_one(tmp_path: Path, store: str) -> None:
    alive: weakref.WeakSet[StepForecast] = weakref.WeakSet()
    most = 0

    def watched() -> Iterator[StepForecast]:
        nonlocal most
        for step in steps(3, 4 * BLOCK_LEADS):
            alive.add(step)
            most = max(most, len(alive))
            yield step

    laid_out(tmp_path / "f.zarr", store, 4 * BLOCK_LEADS).write(slice(0, 3), watched())
    assert most <= 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: steps(3, 5), "leads 1 to 6 in order; got 5 of them"),
        (lambda: steps(3, 7), "leads 1 to 6 in order"),
        (lambda: steps(3, 6, first=2), "leads 1 to 6 in order"),
        (lambda: steps(3, 6, track=4), "ids up to 3; got id 4"),
    ],
)
def test_refuses_leads_and_ids_that_do_not_fit(
    tmp_path: Path, store: str, wrong: object, message: str
) -> None:
    out = laid_out(tmp_path / "f.zarr", store)
    with pytest.raises(DataError, match=message):
        out.write(slice(0, 3), wrong())  # type: ignore[operator]


def test_no_two_sequences_share_a_chunk(tmp_path: Path, store: str) -> None:
    laid_out(tmp_path / "f.zarr", store)
    group = zarr.open_group(tmp_path / "f.zarr", mode="r")
    assert {name: group[name].chunks[0] for name in FORECAST_VARIABLES} == dict.fromkeys(
        FORECAST_VARIABLES, 1
    )


def test_two_writers_make_the_bytes_of_one(tmp_path: Path, store: str) -> None:
    one, two = (laid_out(tmp_path / name, store) for name in ("one.zarr", "two.zarr"))
    one.write(slice(0, 3), steps(3, 6))
    two.write(slice(2, 3), steps(1, 6))
    ForecastWriter(two.url).write(slice(0, 2), steps(2, 6))
    assert content(tmp_path / "one.zarr") == content(tmp_path / "two.zarr")


def test_a_full_disk_is_one_line(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    out = laid_out(tmp_path / "f.zarr", store)
    monkeypatch.setattr(zarr.Array, "__setitem__", full)
    with pytest.raises(DataError, match="no space left on device") as caught:
        out.write(slice(0, 3), steps(3, 6))
    assert "\n" not in str(caught.value)


def test_writes_to_fsspec_urls(store: str) -> None:
    laid_out("memory://bucket/f.zarr", store).write(slice(0, 3), steps(3, 6))
    assert open_forecast_store("memory://bucket/f.zarr").sizes["lead"] == 6


def test_realizations_are_written_beside_the_forecast(tmp_path: Path, store: str) -> None:
    dataset, meta = open_sequence_store(store)
    count, path = REALIZATIONS_AT_ONCE + 2, str(tmp_path / "f.zarr")
    create_store(path, dataset, meta, horizon=2, tracks=3, attrs={}, realizations=count, masks=True)
    out = ForecastWriter(path)
    out.write(slice(0, 3), steps(3, 2))
    out.write_realizations(slice(0, 2), futures(2, 2, count))
    out.write_realizations(slice(2, 3), futures(1, 2, count, track=3))
    forecast = open_forecast_store(path)
    assert forecast.realization.values.tolist() == list(range(count))
    assert forecast.realization.attrs["standard_name"] == "realization"
    pose = forecast.realization_pose.values
    assert pose.shape == (3, count, 2, 3, 3)
    numbers = np.arange(count)[:, None, None] + np.array([0.0, 0.5])[:, None]
    for sequence, track in ((0, 1), (1, 1), (2, 2)):
        np.testing.assert_array_equal(pose[sequence, :, :, track], numbers + np.zeros(3))
        assert np.isfinite(pose[sequence]).any((0, 1, 3)).nonzero()[0].tolist() == [track]
    masks = forecast.realization_instance
    assert masks.dtype == np.uint16
    np.testing.assert_array_equal(masks[2, :, 0, 0, 0], np.arange(count))


def test_without_realizations_the_store_has_none(tmp_path: Path, store: str) -> None:
    laid_out(tmp_path / "f.zarr", store)
    forecast = open_forecast_store(str(tmp_path / "f.zarr"))
    assert not {"realization", *REALIZATION_VARIABLES} & set(forecast.variables)


def futures(batch: int, horizon: int, count: int, track: int = 2) -> Iterator[Realization]:
    """Slot 0 is empty, slot 1 holds ``track``; values name the realization and half the lead."""
    for number in range(count):
        pose = torch.full((batch, horizon, 2, 3), float(number))
        pose += torch.arange(horizon)[:, None, None] / 2
        yield Realization(
            number=number,
            ids=torch.tensor([[0, track]]).expand(batch, 2),
            label=torch.tensor([[0, 1]]).expand(batch, 2),
            pose=pose,
            instance=torch.full((batch, horizon, *GRID.shape), number),
        )
