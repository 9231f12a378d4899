"""What is wrong with the data is said in one line, in whatever process it is found."""

from pathlib import Path

import pytest
import xarray as xr

from forecast.errors import DataError
from forecast.training.run import run_training
from tests.support import Mover, sequence_dataset, sequence_store
from tests.unit.forecast.test_resume import CONFIG


@pytest.mark.parametrize("workers", [0, 1])
def test_a_sequence_that_cannot_be_read_ends_training_in_one_line(
    tmp_path: Path, workers: int
) -> None:
    data = sequence_dataset([[Mover(0.0, 0.0)], [Mover(1.0, 0.0)]])
    data["ego_pose"][1] = float("nan")
    data.to_zarr(tmp_path / "data.zarr", zarr_format=3, consolidated=False)
    loading = CONFIG.loading.__class__(batch_size=2, workers=workers)
    config = CONFIG.model_copy(update={"loading": loading})
    with pytest.raises(DataError, match="finite ego poses; got NaN in sequence 1"):
        run_training(config, str(tmp_path / "data.zarr"), None, str(tmp_path / "run"), False)


def test_an_empty_store_teaches_nothing(tmp_path: Path) -> None:
    empty = sequence_dataset([[Mover(0.0, 0.0)]]).isel(sequence=slice(0))
    empty.to_zarr(tmp_path / "empty.zarr", zarr_format=3, consolidated=False)
    with pytest.raises(DataError, match="at least one sequence"):
        run_training(CONFIG, str(tmp_path / "empty.zarr"), None, str(tmp_path / "run"), False)


def test_validation_on_other_map_layers_is_refused(tmp_path: Path) -> None:
    store = sequence_store(tmp_path / "train.zarr", [[Mover(0.0, 0.0)]])
    other: xr.Dataset = sequence_dataset([[Mover(0.0, 0.0)]]).isel(map_layer=slice(2))
    other.attrs["map_layers"] = other.attrs["map_layers"][:2]
    other.to_zarr(tmp_path / "val.zarr", zarr_format=3, consolidated=False)
    with pytest.raises(DataError, match="map layers"):
        run_training(CONFIG, store, str(tmp_path / "val.zarr"), str(tmp_path / "run"), False)
