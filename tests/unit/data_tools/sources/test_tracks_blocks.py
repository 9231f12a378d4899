"""A large table is read block by block, and says the same as if it had been read whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_tools.sources import tracks_blocks, tracks_files
from data_tools.sources.presets import OWN
from data_tools.sources.tracks import Tracks
from data_tools.sources.tracks_blocks import blocks_of
from data_tools.sources.tracks_table import scene_names, scene_table
from forecast.errors import DataError

SCENES, BLOCK = 9, 50
TIMES = np.arange(11) * 0.1


def table() -> pd.DataFrame:
    """Scenes one after another, of 11, 22 or 33 rows."""
    rows = [
        pd.DataFrame(
            {"scene": number, "time_s": TIMES, "track_id": track, "class": "car"}
            | {"x_m": 100.0 * number + 8.0 * TIMES, "y_m": 4.0 * track, "length_m": 4.0}
        )
        for number in range(SCENES)
        for track in range(1 + number % 3)
    ]
    return pd.concat(rows, ignore_index=True)


def written(folder: Path, rows: pd.DataFrame, ending: str) -> str:
    path = str(folder / f"t.{ending}")
    if ending == "parquet":
        rows.to_parquet(path, row_group_size=40)
    else:
        rows.to_csv(path, index=False)
    return path


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every table counts as large, and blocks are of 50 rows."""
    monkeypatch.setattr(tracks_blocks, "LARGE_BYTES", 0)
    monkeypatch.setattr(tracks_blocks, "BLOCK_ROWS", BLOCK)


@pytest.mark.parametrize("ending", ["parquet", "csv", "csv.gz"])
def test_scenes_of_blocks_are_those_of_the_whole_table(
    ending: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = written(tmp_path, table(), ending)
    whole = {name: scene_table(path, name) for name in scene_names(path)}
    assert not blocks_of(path, OWN)
    request.getfixturevalue("small")
    names = scene_names(path)
    assert names == list(whole) == [str(number) for number in range(SCENES)]
    for name in [*names, *reversed(names)]:  # forwards, and back to blocks that were left
        block = scene_table(path, name)
        assert list(block) == list(whole[name])
        for column, values in whole[name].items():
            np.testing.assert_array_equal(block[column], values, err_msg=f"{name} {column}")


@pytest.mark.usefixtures("small")
def test_blocks_are_whole_scenes_one_after_another(tmp_path: Path) -> None:
    blocks = blocks_of(written(tmp_path, table(), "parquet"), OWN)
    assert list(blocks) == [str(number) for number in range(SCENES)]
    apart = list(dict.fromkeys(blocks.values()))
    assert [len(block) for block in apart] == [66, 66, 66]
    assert [row for block in apart for row in block] == list(range(len(table())))


@pytest.mark.usefixtures("small")
def test_no_more_than_a_block_and_what_is_read_at_once_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, table(), "csv")
    passes = []
    chunks = tracks_files.chunks
    monkeypatch.setattr(tracks_blocks, "chunks", lambda *a: passes.append(a) or chunks(*a))
    source = Tracks()
    for unit in source.find([path]):
        assert source.read(unit, 0.5).state.shape[1] == 3
        (reading,) = tracks_blocks._reading
        assert len(reading._held) < 66 + BLOCK
    assert len(passes) == 2  # one to find the scenes, one to read them


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_fault_in_a_later_block_is_told_by_its_row_in_the_file(
    ending: str, tmp_path: Path
) -> None:
    rows = table()
    rows.loc[150, "length_m"] = -4.0
    path = written(tmp_path, rows, ending)
    with pytest.raises(DataError, match=rf"got -4\.0 in column length_m, row 151 of {path}"):
        scene_table(path, str(rows.loc[150, "scene"]))


@pytest.mark.usefixtures("small")
def test_a_fault_while_reading_costs_no_later_scene(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, table(), "csv")
    names = scene_names(path)
    scene_table(path, names[0])
    with monkeypatch.context() as patch:
        patch.setattr(tracks_blocks._reading[0], "_chunks", failing())
        with pytest.raises(DataError, match="the line is down"):
            scene_table(path, names[-1])
    assert len(scene_table(path, names[-1])["x_m"]) == 33


def failing() -> Iterator[pd.DataFrame]:
    raise OSError("the line is down")
    yield pd.DataFrame()


@pytest.mark.usefixtures("small")
def test_a_table_that_ends_early_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, table(), "csv")
    names = scene_names(path)
    scene_table(path, names[0])
    monkeypatch.setattr(tracks_blocks._reading[0], "_chunks", iter(()))
    with pytest.raises(DataError, match=r"198 rows or more .* do not change it while it is read"):
        scene_table(path, names[-1])


@pytest.mark.usefixtures("small")
def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    path = written(tmp_path, table(), "csv")
    assert len(scene_names(path)) == SCENES
    scene_table(path, "8")
    written(tmp_path, table().query("scene < 4").assign(y_m=7.0), "csv")
    assert scene_names(path) == ["0", "1", "2", "3"]
    assert set(scene_table(path, "3")["y_m"]) == {7.0}


@pytest.mark.usefixtures("small")
def test_tables_with_scenes_in_pieces_without_names_or_damaged_are_read_whole(
    tmp_path: Path,
) -> None:
    rows = table().sort_values("time_s", kind="stable")
    path = written(tmp_path, rows, "csv")
    assert not blocks_of(path, OWN)
    assert len(scene_table(path, "2")["x_m"]) == 33
    written(tmp_path, table().astype({"scene": "Int64"}).assign(scene=pd.NA), "csv")
    assert not blocks_of(path, OWN)
    with pytest.raises(DataError, match=r"a scene; got nothing in column scene, row 1 of"):
        scene_names(path)
    Path(path).write_text("scene,track_id\n1,2\n")
    with pytest.raises(DataError, match="the columns"):
        scene_names(path)


@pytest.mark.usefixtures("small")
def test_names_do_not_depend_on_what_else_is_in_a_block(tmp_path: Path) -> None:
    days = pd.to_datetime(["2024-05-01 00:00", "2024-05-02 00:00", "2024-05-02 08:30"])
    rows = table().query("scene < 6")
    rows["track_id"] += 10 * rows["scene"]
    rows["scene"] = days[rows["scene"] // 2]
    path = written(tmp_path, rows, "parquet")
    assert blocks_of(path, OWN)
    assert scene_names(path) == [
        "2024-05-01 00:00:00",
        "2024-05-02 00:00:00",
        "2024-05-02 08:30:00",
    ]
    assert sum(len(scene_table(path, name)["x_m"]) for name in scene_names(path)) == len(rows)


def test_large_ids_are_not_rounded_where_one_is_missing(tmp_path: Path) -> None:
    large = 2**60 + 1
    rows = table().astype({"track_id": "Int64"})
    rows["track_id"] += large
    rows.loc[0, "track_id"] = pd.NA
    path = str(tmp_path / "t.parquet")
    bare = pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata(None)
    pq.write_table(bare, path)
    assert set(scene_table(path, "2")["track_id"]) == {str(large + track) for track in range(3)}


@pytest.mark.parametrize("value", [[True], [True, None]])
def test_truths_are_no_numbers(value: list[bool | None], tmp_path: Path) -> None:
    rows = table().query("scene == 2")
    rows["length_m"] = (value * len(rows))[: len(rows)]
    with pytest.raises(DataError, match=r"numbers in column length_m; got (bool|object)"):
        scene_table(written(tmp_path, rows, "parquet"), "2")


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_two_columns_of_one_name_in_any_case_are_refused(ending: str, tmp_path: Path) -> None:
    path = written(tmp_path, table().assign(X_M=1.0), ending)
    any_case = OWN.model_copy(update={"any_case": True})
    assert len(scene_table(path, "2")["x_m"]) == 33
    with pytest.raises(DataError, match=rf"one column x_m in {path}; got 'x_m', 'X_M'"):
        scene_table(path, "2", any_case)
