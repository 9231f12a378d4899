"""How chunks are read: by another decoder, to the same values and with the same refusals."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from forecast.storage.chunks import DAMAGE, quickly
from forecast.storage.stores import open_store

ITEMS, EACH = 7, (5, 6)


def array(url: str, kind: str) -> np.ndarray:
    """A sharded variable as stores have them, and what was put into it."""
    values = np.random.default_rng(0).integers(0, 200, (ITEMS, *EACH)).astype(kind)
    made = zarr.create_array(
        url, shape=values.shape, chunks=(1, *EACH), shards=(4, *EACH), dtype=kind, overwrite=True
    )
    made[:] = values
    return values


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float16", "float32", "float64"])
@pytest.mark.parametrize("prefix", ["", "file://", "memory://"])
def test_entries_are_read_as_they_were_written_wherever_they_lie(
    kind: str, prefix: str, tmp_path: Path
) -> None:
    url = f"{prefix}{tmp_path}/v.zarr"
    values = array(url.removeprefix("file://"), kind)
    with quickly(url):
        opened = zarr.open_array(url, mode="r")
    np.testing.assert_array_equal([opened[index] for index in range(ITEMS)], values)
    np.testing.assert_array_equal(opened[2:6], values[2:6])


def test_local_chunks_do_not_go_through_zarrs_own_pipeline(tmp_path: Path) -> None:
    array(str(tmp_path), "uint8")
    with quickly(str(tmp_path)):
        local = zarr.open_array(str(tmp_path), mode="r")
    plain = zarr.open_array(str(tmp_path), mode="r")
    names = [type(one.async_array.codec_pipeline).__name__ for one in (local, plain)]
    assert names == ["ZarrsCodecPipeline", "BatchedCodecPipeline"]


@pytest.mark.parametrize("damage", ["cut", "garbled"])
def test_a_damaged_shard_is_refused_as_zarr_refuses_it(damage: str, tmp_path: Path) -> None:
    array(str(tmp_path), "float32")
    shard = next(path for path in tmp_path.rglob("c/0/0/0"))
    content = bytearray(shard.read_bytes())
    garbled = content[:40] + content[30:-10] + b"x" * 9
    shard.write_bytes(content[:-9] if damage == "cut" else garbled)
    with quickly(str(tmp_path)):
        opened = zarr.open_array(str(tmp_path), mode="r")
    with pytest.raises(DAMAGE):
        opened[0]


def test_an_empty_chunk_without_a_shard_around_it_is_damage_too(tmp_path: Path) -> None:
    made = zarr.create_array(tmp_path, shape=(4, 9), chunks=(1, 9), dtype="float64")
    made[:] = 1.0
    (tmp_path / "c/0/0").write_bytes(b"")
    with quickly(str(tmp_path)):
        opened = zarr.open_array(tmp_path, mode="r")
    with pytest.raises(DAMAGE):
        opened[0]


def test_threads_that_open_stores_leave_the_settings_as_they_were(tmp_path: Path) -> None:
    xr.Dataset({"v": ("i", np.arange(5))}).to_zarr(tmp_path / "s.zarr", consolidated=False)
    before = zarr.config.get("codec_pipeline.path"), zarr.config.get("threading.max_workers")

    def open_often(_: int) -> int:
        return sum(int(open_store(str(tmp_path / "s.zarr")).v.sum()) for _ in range(5))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(open_often, range(8))) == [50] * 8
    after = zarr.config.get("codec_pipeline.path"), zarr.config.get("threading.max_workers")
    assert after == before


def test_texts_that_the_decoder_does_not_know_are_read_without_a_warning(tmp_path: Path) -> None:
    texts = np.array(["a", "bc"], dtype="U12")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr's own, that this type has no specification yet
        xr.Dataset({"v": ("i", texts)}).to_zarr(tmp_path / "s.zarr", consolidated=False)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert open_store(str(tmp_path / "s.zarr")).v.values.tolist() == ["a", "bc"]
    assert not [one for one in told if "ZarrsCodecPipeline" in str(one.message)]
