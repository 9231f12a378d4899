"""Stores that are none, damaged or of another schema: one line and exit code 2."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.refusals import Refused, truncate


def test_a_missing_store_is_refused(refused: Refused) -> None:
    assert "none.zarr" in refused("inspect", "store", "none.zarr")


def test_a_file_that_is_no_store_is_refused(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "file.zarr").write_text("not zarr")
    assert "file.zarr" in refused("inspect", "store", "file.zarr")


def test_another_schema_version_is_refused(refused: Refused, store: Path) -> None:
    metadata = store / "zarr.json"
    metadata.write_text(
        metadata.read_text()
        .replace("bev-sequence/2", "bev-sequence/9")
        .replace("bev-sequence/1", "bev-sequence/9")
    )
    line = refused("inspect", "store", str(store))
    assert "bev-sequence/1" in line
    assert "bev-sequence/9" in line


def test_truncated_metadata_is_refused(refused: Refused, store: Path) -> None:
    metadata = store / "zarr.json"
    metadata.write_text(metadata.read_text()[:100])
    assert "store.zarr" in refused("inspect", "store", str(store))


def test_a_store_that_lost_a_variable_is_refused(refused: Refused, store: Path) -> None:
    shutil.rmtree(store / "ego_pose")
    assert "ego_pose" in refused("inspect", "store", str(store))


@pytest.mark.parametrize("variable", ["scene", "track_class"])
def test_a_truncated_chunk_is_refused(variable: str, refused: Refused, store: Path) -> None:
    truncate(store / variable)
    assert "damaged" in refused("inspect", "store", str(store))
