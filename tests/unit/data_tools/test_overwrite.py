"""What `prepare --overwrite` replaces, when, and what it never does."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from data_tools.prepare import PrepareOptions, prepare
from data_tools.sources.waymo_json import WaymoJson
from forecast.errors import ConfigError, DataError, ForecastError
from forecast.grid import BEVGrid
from forecast.storage.stores import open_sequence_store
from tests.support.scenarios import crossing, write
from tests.support.stores import content

OPTIONS = PrepareOptions(grid=BEVGrid(-12.0, 20.0, -8.0, 8.0, 0.5))
OVERWRITE = replace(OPTIONS, overwrite=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of two scenarios."""
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(2):
        write(folder / f"{index}.json", crossing(index, agents=3))
    return folder


@pytest.fixture
def store(folder: Path, tmp_path: Path) -> Path:
    """A store of the first."""
    path = tmp_path / "o.zarr"
    prepare("waymo-json", [str(folder / "0.json")], str(path), OPTIONS)
    return path


def test_a_store_is_replaced_only_when_that_is_asked_for(folder: Path, store: Path) -> None:
    before = content(store)
    with pytest.raises(DataError, match="--overwrite"):
        prepare("waymo-json", [str(folder)], str(store), OPTIONS)
    assert content(store) == before
    prepare("waymo-json", [str(folder)], str(store), OVERWRITE)
    assert set(open_sequence_store(str(store))[0]["scene"].values) == {"0", "1"}
    assert sorted(path.name for path in store.parent.iterdir()) == ["in", "o.zarr"]


def test_an_output_that_exists_is_refused_before_inputs_are_searched(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WaymoJson, "find", lambda *_: pytest.fail("searched"))
    with pytest.raises(DataError, match="which exists"):
        prepare("waymo-json", ["in"], str(store), OPTIONS)


def test_an_interrupted_run_keeps_the_old_store_and_can_be_resumed(
    folder: Path, store: Path
) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    before = content(store)
    with pytest.raises(KeyboardInterrupt):
        prepare("waymo-json", [str(folder)], str(store), OVERWRITE, stop)
    assert content(store) == before
    with pytest.raises(DataError, match="--overwrite"):
        prepare("waymo-json", [str(folder)], str(store), replace(OPTIONS, resume=True))
    prepare("waymo-json", [str(folder)], str(store), replace(OVERWRITE, resume=True))
    assert content(store) != before


@pytest.mark.parametrize(
    ("inputs", "output"),
    [
        (["in"], "in"),
        (["in/0.json"], "in"),
        (["in"], "in/0.json"),
        (["in/*.json"], "in/1.json"),
        (["in/0.json", "@list.txt"], "list.txt"),
        (["i*"], "in/notes"),
        (["@folders.txt"], "in/notes"),
        (["take*"], "take#3"),
    ],
)
def test_what_is_read_is_never_replaced(
    inputs: list[str], output: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    Path("list.txt").write_text("in/1.json\n")
    Path("folders.txt").write_text("in\n")
    Path("in/notes").write_text("of the driver")
    shutil.copytree("in", "take#3")
    before = content(folder.parent)
    with pytest.raises(ConfigError, match="--output apart from what is read"):
        prepare("waymo-json", inputs, output, OVERWRITE)
    assert content(folder.parent) == before


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("output", ["memory://bucket/drives", "memory://bucket"])
def test_recordings_in_a_bucket_are_not_replaced_unasked(
    resume: bool, output: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setattr(MemoryFileSystem, "pseudo_dirs", [""])
    bucket = MemoryFileSystem()
    bucket.put(str(folder), "/bucket/drives", recursive=True)
    options = replace(OPTIONS, resume=resume, workers=1)
    with pytest.raises(ForecastError, match=r"which exists|apart from what is read"):
        prepare("waymo-json", ["memory://bucket/drives"], output, options)
    assert bucket.find("/bucket") == ["/bucket/drives/0.json", "/bucket/drives/1.json"]


def test_what_is_read_is_not_taken_for_an_unfinished_run(folder: Path) -> None:
    folder.rename(folder.parent / "o.zarr.partial")
    before = content(folder.parent)
    with pytest.raises(ConfigError, match=r"o\.zarr\.partial, where"):
        prepare(
            "waymo-json", [f"{folder.parent}/o.zarr.partial"], f"{folder.parent}/o.zarr", OPTIONS
        )
    assert content(folder.parent) == before
