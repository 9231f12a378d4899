"""The error paths of constant turn rate on a store."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from forecast.errors import CheckpointError, ConfigError, DataError, ForecastError
from forecast.inference.baseline_forecasts import baseline_forecasts
from forecast.inference.error_paths import packaged_paths, paths_of, save_paths
from forecast.inference.models import load_model
from forecast.inference.request import RolloutRequest, check_model
from forecast.model.resampled_errors import PATHS, SPEEDS_MPS, ResampledErrors
from forecast.model.spec import baseline_of
from forecast.schema import DEFAULT_CLASSES
from tests.support.stores import Mover, sequence_dataset, sequence_store, store_of_classes

STEADY = [
    [Mover(-8.0 + i, 1.0, 0.1 * i, 4.0, 0.2), Mover(6.0, -4.0 + i, 3.0, 1.0)] for i in range(8)
]


def test_a_store_of_constant_turns_has_no_errors(tmp_path: Path) -> None:
    found = paths_of(sequence_store(tmp_path / "s.zarr", STEADY), DEFAULT_CLASSES)
    assert found.off.shape[:3] == (3, len(SPEEDS_MPS) + 1, PATHS)
    assert found.time_s.tolist() == [0.5 * lead for lead in range(1, found.off.shape[3] + 1)]
    assert float(found.off.abs().max()) < 1e-3


def test_errors_are_told_in_the_frame_of_the_forecast_by_speed(tmp_path: Path) -> None:
    data = sequence_dataset(STEADY)
    history = int(data.attrs["history"])
    lead = torch.arange(1, data.sizes["time"] - history + 1).numpy()
    yaw = data["track_state"].values[:, 0, history:, 2]
    # The first agent of each sequence is half a metre further to its left at every lead.
    data["track_state"][:, 0, history:, 0] -= 0.5 * lead * torch.tensor(yaw).sin().numpy()
    data["track_state"][:, 0, history:, 1] += 0.5 * lead * torch.tensor(yaw).cos().numpy()
    data.to_zarr(tmp_path / "s.zarr", zarr_format=3, consolidated=False)
    off = paths_of(str(tmp_path / "s.zarr"), DEFAULT_CLASSES).off[0]
    fast, slow = off[2], off[1]  # 4 m/s and 1 m/s
    wanted = torch.tensor(0.5 * lead).float().expand(PATHS, -1)
    torch.testing.assert_close(fast[..., 1], wanted, atol=1e-2, rtol=0)
    assert float(fast[..., 0].abs().max()) < 1e-2
    assert float(slow.abs().max()) < 1e-3
    assert set(off[4, :, 0, 1].round(decimals=1).tolist()) == {0.0, 0.5}, "too few: of any speed"


def test_what_is_written_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = packaged_paths(DEFAULT_CLASSES)
    path = tmp_path / "paths.safetensors"
    save_paths(whole, path, "a test")
    monkeypatch.setattr("forecast.inference.error_paths.packaged", lambda _: str(path))
    others = packaged_paths(("cyclist", "tram"))
    assert torch.equal(others.off, whole.off[[2, 0]])
    assert torch.equal(others.time_s, whole.time_s)


def test_stores_without_what_is_needed_are_refused(tmp_path: Path) -> None:
    store = sequence_store(tmp_path / "s.zarr", STEADY)
    with pytest.raises(DataError, match="fit the errors on a store prepared alike"):
        paths_of(store, ("vehicle",))
    with pytest.raises(DataError, match=r"8 agents or more .* got 2 in"):
        paths_of(sequence_store(tmp_path / "few.zarr", STEADY[:1]), DEFAULT_CLASSES)
    with pytest.raises(DataError, match="tracks to fit errors on"):
        paths_of(store_of_classes(tmp_path / "c.zarr", STEADY), DEFAULT_CLASSES)
    data = sequence_dataset(STEADY)
    past = data.isel(time=slice(int(data.attrs["history"])))
    past.attrs["horizon"] = 0
    past.to_zarr(tmp_path / "past.zarr", zarr_format=3, consolidated=False)
    with pytest.raises(DataError, match="future frames to fit errors on; got horizon 0"):
        paths_of(str(tmp_path / "past.zarr"), DEFAULT_CLASSES)


def test_the_baseline_goes_by_its_name_alone_or_with_a_store(tmp_path: Path) -> None:
    store = sequence_store(tmp_path / "s.zarr", STEADY)
    assert baseline_of("resampled-errors") == "resampled-errors"
    assert baseline_of(f"resampled-errors:{store}") == "resampled-errors"
    assert baseline_of("resampled-errors.safetensors") is None
    own, shipped = (load_model(f"resampled-errors{name}").model for name in (f":{store}", ""))
    assert isinstance(own, ResampledErrors)
    assert isinstance(shipped, ResampledErrors)
    assert torch.equal(own.errors.off, paths_of(store, DEFAULT_CLASSES).off)
    assert torch.equal(shipped.errors.off, packaged_paths(DEFAULT_CLASSES).off)


@pytest.mark.parametrize(
    ("name", "options", "expected", "message"),
    [
        ("resampled-errors:no.zarr", {}, DataError, "no.zarr"),
        ("resampled-errors", {"mirror": True}, ConfigError, "--mirror with a learned model"),
        ("resampled", {}, CheckpointError, "resampled-errors:STORE"),
    ],
)
def test_what_it_cannot_be_asked_is_refused(
    name: str, options: dict[str, object], expected: type[ForecastError], message: str
) -> None:
    with pytest.raises(expected, match=message):
        check_model(name, **options)


def test_its_errors_are_not_judged_by_their_own_truth(tmp_path: Path) -> None:
    store = sequence_store(tmp_path / "s.zarr", STEADY)
    name = f"resampled-errors:{store}/"
    with pytest.raises(ConfigError, match="other than the data"):
        RolloutRequest(data=store, model=name, output=str(tmp_path / "f.zarr"))
    with pytest.raises(ConfigError, match="other than the data"):
        next(baseline_forecasts(name, store, range(1), 1))
    other = sequence_store(tmp_path / "other.zarr", STEADY)
    with pytest.raises(ConfigError, match="replace"):  # what it reads is not written over
        RolloutRequest(data=other, model=name, output=store, overwrite=True)
