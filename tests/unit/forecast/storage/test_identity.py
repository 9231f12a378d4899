"""A store that changes while it is read is noticed before what is read of it is used."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
import xarray as xr

from forecast.config.data import Loading
from forecast.data.reader import SequenceReader
from forecast.errors import DataError
from forecast.evaluation.breakdown import break_down
from forecast.evaluation.evaluate import evaluate
from forecast.storage.identity import StoreIdentity, unchanged
from forecast.training.run import run_training
from tests.support.stores import Mover, forecast_store, sequence_store
from tests.support.trainings import QUICK

SCENES = [[Mover(-4.0, 0.0, speed=4.0)], [Mover(4.0, 2.0)]]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return Path(sequence_store(tmp_path / "data.zarr", SCENES))


def remove(store: Path) -> None:
    shutil.rmtree(store)


def replace_with_a_like_one(store: Path) -> None:
    """Same attributes, shapes and times of files: only not the same files."""
    shutil.copytree(store, store.with_name("other.zarr"))  # copies the times as well
    shutil.rmtree(store)
    os.rename(store.with_name("other.zarr"), store)


def replace_with_a_shorter_one(store: Path) -> None:
    shutil.rmtree(store)
    sequence_store(store, SCENES[:1], horizon=3)


def write_anew_in_place(store: Path) -> None:
    sequence_store(store, SCENES)


def change_its_attributes(store: Path) -> None:
    file = store / "zarr.json"
    file.write_text(file.read_text().replace('"synthetic"', '"otherwise"'))


def add_a_variable(store: Path) -> None:
    more = xr.Dataset({"speed": ("sequence", [1.0, 2.0])})
    more.to_zarr(store, mode="a", zarr_format=3, consolidated=False)


CHANGES = [
    remove,
    replace_with_a_like_one,
    replace_with_a_shorter_one,
    write_anew_in_place,
    change_its_attributes,
    add_a_variable,
]


@pytest.mark.parametrize("opened", [True, False], ids=["read before", "not read yet"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_reader_refuses_a_store_that_changed(
    change: Callable[[Path], None], opened: bool, store: Path
) -> None:
    reader = SequenceReader(str(store))
    if opened:
        reader[0]
    change(store)
    with pytest.raises(DataError, match=r"changed, replaced or removed") as caught:
        reader[1]
    assert str(store) in str(caught.value)


def test_a_store_that_is_only_looked_at_or_given_rights_stays_the_same(store: Path) -> None:
    reader = SequenceReader(str(store))
    os.chmod(store / "zarr.json", 0o600)
    os.utime(store / "zarr.json", ns=(0, (store / "zarr.json").stat().st_mtime_ns))
    shutil.copytree(store, store.with_name("copy.zarr"), copy_function=os.link)
    assert reader[0].frames == 9


@pytest.mark.parametrize("variable", ["semantic", "instance", "track_state", "track_class"])
def test_a_chunk_that_is_gone_is_refused(variable: str, store: Path) -> None:
    """zarr reads it as empty."""
    reader = SequenceReader(str(store))
    reader[1]
    shutil.rmtree(store / variable / "c")
    with pytest.raises(DataError, match="a file is gone"):
        reader[1]


def test_agents_may_be_left_out_by_protocols_that_do_so(store: Path) -> None:
    for variable in ("semantic", "instance"):
        shutil.rmtree(store / variable / "c")
    reader = SequenceReader(str(store))
    reader.meta = replace(reader.meta, protocol={**reader.meta.protocol, "name": "powerbev"})
    assert not reader[0].instance.any()


def test_a_store_behind_a_url_is_watched_as_well(store: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(store), "/watched.zarr", recursive=True)
    try:
        reader = SequenceReader("memory://watched.zarr")
        assert len(reader) == 2
        reader[0]
        memory.put(str(store / "zarr.json"), "/watched.zarr/zarr.json")
        with pytest.raises(DataError, match=r"memory://watched\.zarr"):
            reader[0]
    finally:
        memory.rm("/watched.zarr", recursive=True)


def test_where_nothing_is_known_of_files_nothing_is_refused(tmp_path: Path) -> None:
    with unchanged(str(tmp_path / "none.zarr"), "nonesuch://store.zarr"):
        assert StoreIdentity.of("nonesuch://store.zarr").facts is None


@pytest.mark.parametrize("workers", [0, 1])
def test_training_stops_in_one_line_when_its_store_is_replaced(
    store: Path, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from forecast.training.module import ForecastTraining

    def on_train_epoch_end(self: ForecastTraining) -> None:
        if self.current_epoch == 1:
            replace_with_a_like_one(store)

    monkeypatch.setattr(ForecastTraining, "on_train_epoch_end", on_train_epoch_end)
    config = QUICK.model_copy(
        update={
            "loading": Loading(batch_size=2, workers=workers),
            "curriculum": (QUICK.curriculum[0], *QUICK.curriculum),
        }
    )
    with pytest.raises(DataError, match="changed, replaced or removed"):
        run_training(config, [str(store)], None, str(tmp_path / "run"), resume=False)
    assert (tmp_path / "run" / "last.ckpt").is_file()


@pytest.mark.parametrize("which", ["data.zarr", "forecast.zarr"])
@pytest.mark.parametrize("change", [remove, replace_with_a_like_one])
def test_scores_never_mix_two_stores(
    which: str,
    change: Callable[[Path], None],
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("forecast.evaluation.scoring.BLOCK", 1)

    def meddle(done: int, _: int) -> None:
        if done == 1:
            change(tmp_path / which)

    for score in (evaluate, break_down):
        made = forecast_store(tmp_path / "forecast.zarr", str(store))
        more = (["lead"],) if score is break_down else ()
        with pytest.raises(DataError, match=f"{which}, which was changed"):
            score(made, str(store), *more, meddle)
        shutil.rmtree(tmp_path / "forecast.zarr", ignore_errors=True)
        shutil.rmtree(store, ignore_errors=True)
        sequence_store(store, SCENES)
