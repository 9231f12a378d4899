"""The lyft-l5 source: zarr v2 tables written as published, damaged, and the real scene."""

from __future__ import annotations

import json
import shutil
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numcodecs import Blosc, get_codec

from data_tools.prepare import PrepareOptions, prepare
from data_tools.scene import Scene
from data_tools.sources import source
from data_tools.sources.lyft_l5 import LyftL5
from forecast.errors import DataError
from forecast.storage.stores import open_sequence_store
from tests.support.recordings import (
    assert_read_from_elsewhere,
    assert_read_or_refused,
    heading_errors,
    needs,
    recording,
)
from tests.support.stores import GRID, Mover

LABELS = [f"LABEL_{n}" for n in range(17)]
UNKNOWN, CAR, WALKER = 1, 3, 14
SCENE = [
    ("frame_index_interval", "<i8", (2,)),
    ("host", "<U16"),
    ("start_time", "<i8"),
    ("end_time", "<i8"),
]
FRAME = [
    ("timestamp", "<i8"),
    ("agent_index_interval", "<i8", (2,)),
    ("traffic_light_faces_index_interval", "<i8", (2,)),
    ("ego_translation", "<f8", (3,)),
    ("ego_rotation", "<f8", (3, 3)),
]
AGENT = [
    ("centroid", "<f8", (2,)),
    ("extent", "<f4", (3,)),
    ("yaw", "<f4"),
    ("velocity", "<f4", (2,)),
    ("track_id", "<u8"),
    ("label_probabilities", "<f4", (17,)),
]
FRAMES = 31
EGO = Mover(0.0, 0.0, yaw=0.3, speed=8.0, turn_rate=0.2)
MOVERS = {4: (CAR, Mover(9.0, 1.0, speed=4.0)), 2: (WALKER, Mover(3.0, 5.0, yaw=3.0, speed=1.0))}


def write_array(path: Path, rows: np.ndarray, chunk: int, **changes: Any) -> None:
    """A zarr v2 array, its last chunk padded as zarr does."""
    path.mkdir()
    dtype = [[name, kind, *([list(s) for s in shape])] for name, kind, *shape in rows.dtype.descr]
    codec = Blosc(cname="lz4", clevel=5, shuffle=Blosc.SHUFFLE)
    meta = {
        "chunks": [chunk],
        "compressor": codec.get_config(),
        "dtype": dtype,
        "fill_value": None,
        "filters": None,
        "order": "C",
        "shape": [len(rows)],
        "zarr_format": 2,
    }
    meta |= changes
    (path / ".zarray").write_text(json.dumps(meta))
    for number in range(-(-len(rows) // chunk)):
        padded = np.zeros(chunk, rows.dtype)
        part = rows[number * chunk :][:chunk]
        padded[: len(part)] = part
        packed = codec.encode(padded) if meta["compressor"] else padded.tobytes()
        (path / str(number)).write_bytes(packed)


def tables(scenes: int = 2) -> dict[str, np.ndarray]:
    """Scenes of the same traffic; the car is seen throughout, the walker from frame 10 to 19."""
    scene, frame = np.zeros(scenes, SCENE), np.zeros(scenes * FRAMES, FRAME)
    agents: list[Any] = []
    clock = np.arange(FRAMES) * 0.1
    ego = EGO.state(clock)
    for number in range(scenes):
        interval = (number * FRAMES, (number + 1) * FRAMES)
        scene[number] = (interval, "host-a1", 1000 + number, 2000)
        for step in range(FRAMES):
            first = len(agents)
            for name, (label, mover) in MOVERS.items():
                x, y, yaw, length, width = mover.state(clock[step : step + 1])[0]
                if name == 4 or 10 <= step < 20:
                    one_hot = np.eye(17)[label]
                    agents.append(((x, y), (length, width, 1.5), yaw, (0, 0), name, tuple(one_hot)))
            cos, sin = np.cos(ego[step, 2]), np.sin(ego[step, 2])
            stamp = 1571846881502692276 + int(clock[step] * 1e9)
            frame[number * FRAMES + step] = (
                stamp,
                (first, len(agents)),
                (0, 0),
                (*ego[step, :2], 270.0),
                [[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]],
            )
    return {"scenes": scene, "frames": frame, "agents": np.array(agents, AGENT)}


def write(path: Path, content: dict[str, np.ndarray] | None = None, **changes: Any) -> str:
    """A store of those tables; ``changes`` to the metadata of its agents."""
    path.mkdir()
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    (path / ".zattrs").write_text(json.dumps({"format_version": 2, "labels": LABELS}))
    chunks = {"scenes": 10, "frames": 20, "agents": 30}
    for name, rows in (content or tables()).items():
        write_array(path / name, rows, chunks[name], **(changes if name == "agents" else {}))
    return str(path)


def test_each_scene_of_each_store_is_a_unit(tmp_path):
    store = write(tmp_path / "a.zarr")
    units = [f"{store}#0", f"{store}#1"]
    origin = source("lyft-l5")
    assert origin.find([store]) == origin.find([str(tmp_path)]) == units
    assert origin.find([f"{tmp_path}/*.zarr"]) == units


@pytest.mark.parametrize("changes", [{}, {"compressor": None}])
def test_a_scene_keeps_its_agents_and_its_ego(tmp_path, changes):
    store = write(tmp_path / "a.zarr", **changes)
    made = LyftL5().read(f"{store}#1", 0.5)
    assert (made.name, made.dt_s) == ("host-a1-1001", 0.5)
    assert made.track_id == ("2", "4", "ego")
    assert made.track_class == ("LABEL_14", "LABEL_3", "EGO")
    np.testing.assert_allclose(made.time_s, np.arange(0, 3.1, 0.5))
    car = MOVERS[4][1].state(made.time_s)
    np.testing.assert_allclose(made.state[1], car, atol=1e-6)
    seen = np.isfinite(made.state[0]).all(axis=-1)
    np.testing.assert_array_equal(seen, [False, False, True, True, False, False, False])
    np.testing.assert_allclose(made.ego_pose, EGO.state(made.time_s)[:, :3])
    np.testing.assert_array_equal(made.state[2, :, :3], made.ego_pose)
    assert made.map == ()


def test_a_track_has_the_label_that_is_likeliest_over_all_its_frames(tmp_path):
    content = tables(1)
    rows = content["agents"]
    walks = np.flatnonzero(rows["track_id"] == 2)
    rows["label_probabilities"][walks[:7]] = 0.51 * np.eye(17)[UNKNOWN]
    rows["label_probabilities"][walks[7:]] = 0.40 * np.eye(17)[WALKER]
    made = LyftL5().read(write(tmp_path / "a.zarr", content) + "#0", 0.5)
    assert made.track_class[0] == f"LABEL_{UNKNOWN}"
    assert made.notes == {"tracks whose label changes, the likeliest taken": 1}


@pytest.mark.parametrize(
    ("table", "field", "place", "value", "reason"),
    [
        ("scenes", "frame_index_interval", 0, (0, 0), "two frames"),
        ("scenes", "frame_index_interval", 0, (0, 99), "some of 31 records"),
        ("scenes", "frame_index_interval", 0, (-5, 9), "some of 31 records"),
        ("scenes", "frame_index_interval", 0, (9, 3), "some of 31 records"),
        ("frames", "timestamp", 9, 0, "regular"),
        ("frames", "timestamp", slice(None), np.arange(31)[::-1] * 10**8, "regular"),
        ("frames", "agent_index_interval", 9, (0, 5), "in the order"),
        ("frames", "agent_index_interval", 30, (40, 20), "in the order"),
        ("frames", "agent_index_interval", 30, (40, 1 << 40), "some of 41 records"),
        ("agents", "track_id", slice(None), 4, "once a frame"),
    ],
)
def test_tables_that_contradict_each_other_are_refused(
    tmp_path, table, field, place, value, reason
):
    content = tables(1)
    content[table][field][place] = value
    store = write(tmp_path / "a.zarr", content)
    with pytest.raises(DataError, match=rf"{reason}.*a\.zarr|a\.zarr.*{reason}"):
        LyftL5().read(f"{store}#0", 0.5)


def test_numbers_that_are_not_finite_are_left_to_be_counted(tmp_path):
    content = tables(1)
    content["agents"]["yaw"][0] = np.nan
    content["agents"]["centroid"][5] = np.inf
    content["frames"]["ego_translation"][0] = np.nan
    made = LyftL5().read(write(tmp_path / "a.zarr", content) + "#0", 0.1)
    assert np.isnan(made.state[1, 0, 2])
    assert np.isinf(made.state[1, 5, :2]).all()
    assert np.isnan(made.ego_pose[0, 0])


def test_scenes_are_read_from_elsewhere(tmp_path):
    write(tmp_path / "a.zarr")
    assert_read_from_elsewhere(LyftL5(), tmp_path)


def test_a_scene_without_agents_has_its_ego(tmp_path):
    content = tables(1)
    content["agents"] = content["agents"][:0]
    content["frames"]["agent_index_interval"] = 0
    made = LyftL5().read(write(tmp_path / "a.zarr", content) + "#0", 0.5)
    assert made.track_id == ("ego",)


FILES = [f"{t}/{n}" for t in ("scenes", "frames", "agents") for n in (".zarray", "0")] + [".zattrs"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "junk", "deep"])
def test_a_missing_or_damaged_file_is_refused_by_name(tmp_path, name, damage):
    store = write(tmp_path / "a.zarr", tables(1))
    path = Path(store) / name
    content = path.read_bytes()
    damaged = {"empty": b"", "cut": content[:-9], "junk": b"junk" * 999, "deep": b"[" * 99_999}
    path.unlink()
    if damage != "missing":
        path.write_bytes(damaged[damage])
    if name == "scenes/.zarray" and damage == "missing":
        with pytest.raises(DataError, match="zarr store with scenes"):
            LyftL5().find([store])
        return
    units = LyftL5().find([store])
    assert len(units) == 1
    with pytest.raises(DataError, match=name.replace("/.zarray", "").replace(".", r"\.")):
        LyftL5().read(units[0], 0.5)


@pytest.mark.parametrize(
    "changes",
    [
        {"zarr_format": 3},
        {"compressor": {"id": "zlib", "level": 1}},
        {"compressor": "blosc"},
        {"filters": [{"id": "delta"}]},
        {"shape": [41, 2]},
        {"shape": [-1]},
        {"shape": ["41"]},
        {"chunks": [0]},
        {"chunks": [1 << 40]},
        {"dtype": "<f8"},
        {"dtype": [["centroid", "<f8", [2]]]},
        {"dtype": [["track_id", "|O"]]},
        {"dtype": [["centroid", "<f8", [1 << 40]]]},
        {"dtype": None},
    ],
)
def test_arrays_of_another_kind_are_refused(tmp_path, changes):
    store = write(tmp_path / "a.zarr", tables(1))
    meta = Path(store) / "agents/.zarray"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | changes))
    with pytest.raises(DataError, match=r"a\.zarr/agents"):
        LyftL5().read(f"{store}#0", 0.5)


@pytest.mark.parametrize("count", [0, 1 << 40])
def test_a_store_of_no_scenes_or_too_many_is_one_unit_that_is_refused(tmp_path, count):
    store = write(tmp_path / "a.zarr", tables(1))
    meta = Path(store) / "scenes/.zarray"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"shape": [count]}))
    assert LyftL5().find([store]) == [store]
    with pytest.raises(DataError, match=r"scenes; got \d+ in .*a\.zarr/scenes"):
        LyftL5().read(store, 0.5)


@pytest.mark.parametrize(
    "attrs", [{}, [], {"format_version": 1, "labels": LABELS}, {"format_version": 2, "labels": []}]
)
def test_another_version_is_refused(tmp_path, attrs):
    store = write(tmp_path / "a.zarr")
    (Path(store) / ".zattrs").write_text(json.dumps(attrs))
    with pytest.raises(DataError, match="format version 2"):
        LyftL5().read(f"{store}#0", 0.5)


@pytest.mark.parametrize("place", [4, 12])
def test_a_chunk_that_lies_about_its_size_is_refused_unpacked(tmp_path, place):
    store = write(tmp_path / "a.zarr")
    chunk = Path(store) / "agents/0"
    content = bytearray(chunk.read_bytes())
    content[place : place + 4] = struct.pack("<I", 0x7FFFFFF0)  # a bomb; a read beyond the end
    chunk.write_bytes(content)
    with pytest.raises(DataError, match="of other sizes"):
        LyftL5().read(f"{store}#0", 0.5)


@pytest.mark.parametrize("unit", ["{}", "{}#", "{}#-1", "{}#2", "{}#x", "none#0", "#"])
def test_a_unit_that_is_not_there_is_refused(tmp_path, unit):
    with pytest.raises(DataError):
        LyftL5().read(unit.format(write(tmp_path / "a.zarr")), 0.5)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(FILES),
    place=st.floats(0, 1),
    put=st.binary(max_size=6),
)
def test_a_changed_file_gives_a_scene_or_is_refused(tmp_path, name, place, put):
    store = tmp_path / "any.zarr"
    if not store.exists():
        write(store, tables(1))
    copy = tmp_path / "any-copy.zarr"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(store, copy)
    content = bytearray((copy / name).read_bytes())
    at = int(place * len(content))
    content[at : at + len(put)] = put
    (copy / name).write_bytes(content)
    assert_read_or_refused(LyftL5(), f"{copy}#0", "any-copy.zarr")


# The real scene, against a reading of its chunks that shares nothing with the source.

STORE = recording("lyft_l5") / "single_scene.zarr"


def raw(name: str) -> np.ndarray:
    meta = json.loads((STORE / name / ".zarray").read_text())
    dtype = np.dtype([(field, kind, *map(tuple, shape)) for field, kind, *shape in meta["dtype"]])
    chunks = range(-(-meta["shape"][0] // meta["chunks"][0]))
    codec = get_codec(meta["compressor"])
    parts = [codec.decode((STORE / name / str(chunk)).read_bytes()) for chunk in chunks]
    return np.frombuffer(b"".join(parts), dtype)[: meta["shape"][0]]


def read_real(dt_s: float) -> Scene:
    (unit,) = LyftL5().find([str(STORE)])
    return LyftL5().read(unit, dt_s)


@needs("lyft_l5")
def test_the_real_scene_has_what_its_tables_have():
    agents, frames, made = raw("agents"), raw("frames"), read_real(0.1)
    assert len(made.time_s) == len(frames) == 248
    assert set(made.track_id) == {*(str(n) for n in agents["track_id"]), "ego"}
    seen = np.isfinite(made.state[:-1]).all(axis=-1)
    first, stop = frames["agent_index_interval"].T
    np.testing.assert_array_equal(seen.sum(axis=0), stop - first)
    row = agents[first[100]]
    track = made.track_id.index(str(row["track_id"]))
    np.testing.assert_allclose(made.state[track, 100, :2], row["centroid"])
    label = agents["label_probabilities"].argmax(axis=1)
    steady = {}
    for name in np.unique(agents["track_id"]):
        kinds = np.unique(label[agents["track_id"] == name])
        if len(kinds) == 1:
            steady[str(name)] = kinds[0]
    changed = made.notes["tracks whose label changes, the likeliest taken"]
    assert len(steady) == len(made.track_id) - 1 - changed
    names = json.loads((STORE / ".zattrs").read_text())["labels"]
    kinds = dict(zip(made.track_id, made.track_class, strict=True))
    assert all(kinds[name] == names[kind] for name, kind in steady.items())
    assert Counter(made.track_class).most_common(1)[0][0] == "PERCEPTION_LABEL_UNKNOWN"


@needs("lyft_l5")
def test_in_the_real_scene_cars_and_the_ego_head_where_they_go():
    made = read_real(0.5)
    for kind, limit in (("EGO", 1), ("PERCEPTION_LABEL_CAR", 2)):
        errors = heading_errors(made.state[[name == kind for name in made.track_class]])
        assert len(errors) > 40
        assert np.median(errors) < np.radians(limit)


@needs("lyft_l5")
def test_the_real_scene_becomes_a_store(tmp_path):
    options = PrepareOptions(grid=GRID, stride=10)
    report = prepare("lyft-l5", [str(STORE)], str(tmp_path / "out.zarr"), options)
    assert (report.scenes, report.skipped) == (1, [])
    store, meta = open_sequence_store(str(tmp_path / "out.zarr"))
    assert (meta.source, meta.map_layers) == ("lyft-l5", ())
    assert (store["track_class"].values == 1).any(axis=1).all()
