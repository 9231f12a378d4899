"""Batches: their order, and what is wrong with the data said in one line, wherever it is found."""

import itertools
from pathlib import Path

import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from forecast.checkpoint.checkpoint import load_checkpoint
from forecast.data.module import BatchOrder
from forecast.data.reader import SequenceReader
from forecast.errors import DataError
from forecast.grid import BEVGrid
from forecast.training.run import run_training
from tests.support.stores import Mover, sequence_dataset, sequence_store
from tests.support.trainings import STAGED


@pytest.mark.parametrize("workers", [0, 1])
def test_a_sequence_that_cannot_be_read_ends_training_in_one_line(
    tmp_path: Path, workers: int
) -> None:
    data = sequence_dataset([[Mover(0.0, 0.0)], [Mover(1.0, 0.0)]])
    data["ego_pose"][1] = float("nan")
    data.to_zarr(tmp_path / "data.zarr", zarr_format=3, consolidated=False)
    loading = STAGED.loading.__class__(batch_size=2, workers=workers)
    config = STAGED.model_copy(update={"loading": loading})
    with pytest.raises(DataError, match="finite ego poses; got NaN in sequence 1"):
        run_training(config, [str(tmp_path / "data.zarr")], None, str(tmp_path / "run"), False)


def test_an_empty_store_teaches_nothing(tmp_path: Path) -> None:
    empty = sequence_dataset([[Mover(0.0, 0.0)]]).isel(sequence=slice(0))
    empty.to_zarr(tmp_path / "empty.zarr", zarr_format=3, consolidated=False)
    with pytest.raises(DataError, match="at least one sequence"):
        run_training(STAGED, [str(tmp_path / "empty.zarr")], None, str(tmp_path / "run"), False)


def test_validation_on_other_map_layers_is_refused(tmp_path: Path) -> None:
    store = sequence_store(tmp_path / "train.zarr", [[Mover(0.0, 0.0)]])
    other: xr.Dataset = sequence_dataset([[Mover(0.0, 0.0)]]).isel(map_layer=slice(2))
    other.attrs["map_layers"] = other.attrs["map_layers"][:2]
    other.to_zarr(tmp_path / "val.zarr", zarr_format=3, consolidated=False)
    with pytest.raises(DataError, match="map layers"):
        run_training(STAGED, [store], str(tmp_path / "val.zarr"), str(tmp_path / "run"), False)


def test_stores_of_different_protocols_do_not_teach_one_model(tmp_path: Path) -> None:
    store = sequence_store(tmp_path / "train.zarr", [[Mover(0.0, 0.0)]])
    other: xr.Dataset = sequence_dataset([[Mover(0.0, 0.0)]])
    other.attrs["protocol"] = {**other.attrs["protocol"], "name": "fiery", "hash": "11fb4fac2e43"}
    other.to_zarr(tmp_path / "other.zarr", zarr_format=3, consolidated=False)
    both = [store, str(tmp_path / "other.zarr")]
    with pytest.raises(DataError, match=r"protocol exact \(.* in all stores; got fiery \(11fb"):
        run_training(STAGED, both, None, str(tmp_path / "run"), False)


def test_every_process_draws_its_own_share_of_an_epoch() -> None:
    shares = [BatchOrder([10, 6], 2, seed=3, rank=rank, replicas=2) for rank in range(2)]
    drawn = [list(share) for share in shares]
    assert len(drawn[0]) == len(drawn[1]) == len(shares[0]) == 4
    assert sorted(itertools.chain(*drawn[0], *drawn[1])) == list(range(16))
    shares[0].set_epoch(1)
    assert list(shares[0]) != drawn[0]


@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=3),
    st.integers(1, 5),
    st.integers(1, 3),
)
def test_a_batch_is_of_one_store_and_no_sequence_comes_twice(
    lengths: list[int], size: int, replicas: int
) -> None:
    batches = list(BatchOrder(lengths, size, seed=0))
    ends = [0, *itertools.accumulate(lengths)]
    for batch in batches:
        assert any(
            low <= min(batch) and max(batch) < high for low, high in itertools.pairwise(ends)
        )
    numbers = list(itertools.chain(*batches))
    assert len(set(numbers)) == len(numbers)
    orders = [BatchOrder(lengths, size, 0, rank, replicas) for rank in range(replicas)]
    assert {len(list(order)) for order in orders} == {len(orders[0])}


def test_an_order_that_skips_goes_on_where_it_was() -> None:
    order = BatchOrder([9], 1, seed=0)
    whole = list(order)
    order.skip = 4
    assert list(order) == whole[4:]
    assert list(order) == whole, "only the interrupted epoch starts midway"


def test_stores_of_different_grids_train_together(tmp_path: Path) -> None:
    grid = BEVGrid(-16.0, 16.0, -12.0, 12.0, 0.5)
    scenes = [[Mover(float(x), 0.0, speed=4.0)] for x in range(4)]
    stores = [
        sequence_store(tmp_path / "large.zarr", scenes),
        sequence_store(tmp_path / "small.zarr", scenes[:2], grid=grid),
    ]
    trained = run_training(STAGED, stores, stores[1], str(tmp_path / "run"), resume=False)
    assert load_checkpoint(trained.weights).training["sequences"] == 6


def test_rasters_of_the_future_may_stay_on_disk_but_its_poses_do_not(tmp_path: Path) -> None:
    store = sequence_store(tmp_path / "store.zarr", [[Mover(0.0, 0.0, 0.0, 4.0)]])
    whole, lean = SequenceReader(store)[0], SequenceReader(store, raster_frames=3)[0]
    assert lean.frames == whole.frames
    assert lean.track_state is not None
    assert whole.track_state is not None
    assert torch.equal(lean.track_state, whole.track_state)
    assert torch.equal(lean.instance, whole.instance[:, :3])
    assert torch.equal(lean.crop(0, 3).semantic, whole.crop(0, 3).semantic)
