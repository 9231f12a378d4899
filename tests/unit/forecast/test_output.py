"""The forecast store: what the writer promises about names, order, memory and failure."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
import zarr

from forecast.errors import DataError
from forecast.output import BLOCK_LEADS, ForecastWriter
from forecast.schema import FORECAST_VARIABLES, open_forecast_store, open_sequence_store
from forecast.types import StepForecast
from tests.support import GRID, Mover, sequence_store

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
        )


def writer(path: Path | str, store: str, horizon: int = 6, **options: Any) -> ForecastWriter:
    dataset, meta = open_sequence_store(store)
    return ForecastWriter(
        str(path), dataset, meta, horizon=horizon, tracks=3, attrs={"model": "m"}, **options
    )


@pytest.mark.parametrize("horizon", [1, BLOCK_LEADS, BLOCK_LEADS + 1, 2 * BLOCK_LEADS])
def test_reads_back_what_was_written(tmp_path: Path, store: str, horizon: int) -> None:
    with writer(tmp_path / "f.zarr", store, horizon) as out:
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


def test_names_time_space_and_provenance(tmp_path: Path, store: str) -> None:
    with writer(tmp_path / "f.zarr", store, 4) as out:
        out.write(slice(0, 3), steps(3, 4))
    forecast = open_forecast_store(str(tmp_path / "f.zarr"))
    assert forecast.lead.values.tolist() == [1, 2, 3, 4]
    assert forecast.lead_time.values.tolist() == [0.5, 1.0, 1.5, 2.0]
    assert forecast.lead_time.attrs["units"] == "s"
    np.testing.assert_array_equal(forecast.x, GRID.x_m)
    np.testing.assert_array_equal(forecast.y, GRID.y_m)
    assert forecast["class"].values.tolist() == ["vehicle", "pedestrian", "cyclist"]
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

    with writer(tmp_path / "f.zarr", store, 4 * BLOCK_LEADS) as out:
        out.write(slice(0, 3), watched())
    assert most <= 2


@pytest.mark.parametrize("exception", [RuntimeError, KeyboardInterrupt])
def test_leaves_nothing_behind_when_interrupted(
    tmp_path: Path, store: str, exception: type[BaseException]
) -> None:
    def interrupted() -> Iterator[StepForecast]:
        yield from steps(1, 3)
        raise exception

    with pytest.raises(exception), writer(tmp_path / "f.zarr", store) as out:
        out.write(slice(0, 1), interrupted())
    assert os.listdir(tmp_path) == ["sequences.zarr"]


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
    with pytest.raises(DataError, match=message), writer(tmp_path / "f.zarr", store) as out:
        out.write(slice(0, 3), wrong())  # type: ignore[operator]
    assert os.listdir(tmp_path) == ["sequences.zarr"]


def test_refuses_to_finish_without_every_sequence(tmp_path: Path, store: str) -> None:
    with (
        pytest.raises(DataError, match="all 3 sequences; got none of 1"),
        writer(tmp_path / "f.zarr", store) as out,
    ):
        out.write(slice(0, 2), steps(2, 6))
    assert os.listdir(tmp_path) == ["sequences.zarr"]


def test_a_part_of_the_sequences_is_a_whole_store(tmp_path: Path, store: str) -> None:
    with writer(tmp_path / "f.zarr", store, sequences=2) as out:
        out.write(slice(0, 2), steps(2, 6))
    assert open_forecast_store(str(tmp_path / "f.zarr")).sizes["sequence"] == 2


def test_an_existing_path_is_kept_unless_overwritten(tmp_path: Path, store: str) -> None:
    target = tmp_path / "f.zarr"
    target.mkdir()
    (target / "mine").write_text("keep")
    with pytest.raises(DataError, match="choose another or --overwrite"):
        writer(target, store).__enter__()
    assert (target / "mine").read_text() == "keep"
    with writer(target, store, overwrite=True) as out:
        out.write(slice(0, 3), steps(3, 6))
    assert not (target / "mine").exists()
    assert sorted(os.listdir(tmp_path)) == ["f.zarr", "sequences.zarr"]


def test_a_full_disk_is_one_line(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zarr.Array, "__setitem__", full)
    with (
        pytest.raises(DataError, match="no space left on device") as caught,
        writer(tmp_path / "f.zarr", store) as out,
    ):
        out.write(slice(0, 3), steps(3, 6))
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["sequences.zarr"]


def test_a_parent_that_is_a_file_is_one_line(tmp_path: Path, store: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="to write"):
        writer(tmp_path / "file" / "f.zarr", store).__enter__()


def test_writes_to_fsspec_urls(store: str) -> None:
    with writer("memory://bucket/f.zarr", store) as out:
        out.write(slice(0, 3), steps(3, 6))
    assert open_forecast_store("memory://bucket/f.zarr").sizes["lead"] == 6
    names = [entry["name"] for entry in fsspec.filesystem("memory").ls("/bucket")]
    assert names == ["/bucket/f.zarr"]
