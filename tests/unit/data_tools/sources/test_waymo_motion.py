"""The waymo-motion source: TFRecords and Scenario messages, whole, damaged and made up."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_tools.formats.tfrecord import masked_crc
from data_tools.prepare import PrepareOptions, prepare
from data_tools.scene import Scene
from data_tools.sources import source
from data_tools.sources.waymo_motion import WaymoMotion
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

FRAMES, PRESENT = 21, 10
EGO = Mover(0.0, 0.0, yaw=0.3, speed=8.0, turn_rate=0.2)
WALKER = Mover(6.0, 2.0, yaw=-1.0, speed=1.5, length=0.8, width=0.6)


# A writer of the wire format on its own, so that reader and test share no schema.


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    out = b""
    while number > 0x7F:
        out, number = out + bytes([number & 0x7F | 0x80]), number >> 7
    return out + bytes([number])


def field(number: int, value: Any) -> bytes:
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    if isinstance(value, float):
        return varint(number << 3 | 1) + struct.pack("<d", value)
    return varint(number << 3) + varint(value)


def single(number: int, value: float) -> bytes:
    return varint(number << 3 | 5) + struct.pack("<f", value)


def states(mover: Mover, valid: Sequence[int] = range(FRAMES)) -> bytes:
    out = b""
    for step, (x, y, yaw, length, width) in enumerate(
        mover.state((np.arange(FRAMES) - PRESENT) * 0.1)
    ):
        place = field(2, float(x)) + field(3, float(y)) + field(4, 1.0)
        size = single(5, length) + single(6, width) + single(7, 1.6) + single(8, yaw)
        out += field(3, place + size + field(11, 1) if step in valid else field(11, 0))
    return out


def track(number: int, mover: Mover, kind: int = 1, **chosen: Any) -> bytes:
    return field(1, number) + field(2, kind) + states(mover, **chosen)


def polyline(number: int, points: Sequence[tuple[float, float]]) -> bytes:
    return b"".join(field(number, field(1, x) + field(2, y) + field(3, 0.0)) for x, y in points)


def lane(kind: int, points: Sequence[tuple[float, float]]) -> bytes:
    return field(3, field(1, 25.0) + field(2, kind) + polyline(8, points))


def scenario(
    tracks: Sequence[bytes] = (track(7, EGO), track(-4, WALKER, kind=2)),
    features: Sequence[bytes] = (),
    times: Sequence[float] = tuple(np.arange(FRAMES) * 0.1),
    ego: int | None = 0,
    name: bytes = b"abc123",
) -> bytes:
    out = b"".join(field(1, float(time)) for time in times)
    out += b"".join(field(2, content) for content in tracks)
    out += field(5, name) + field(10, PRESENT) + field(99, b"of a later version")
    out += b"".join(field(8, field(1, 40 + i) + f) for i, f in enumerate(features))
    return out if ego is None else out + field(6, ego)


def record(content: bytes) -> bytes:
    head = struct.pack("<Q", len(content))
    crcs = [struct.pack("<I", masked_crc(part)) for part in (head, content)]
    return head + crcs[0] + content + crcs[1]


def write(path: Path, *contents: bytes) -> str:
    path.write_bytes(b"".join(record(content) for content in contents))
    return str(path)


def read(tmp_path: Path, content: bytes, dt_s: float = 0.5) -> Scene:
    return WaymoMotion().read(write(tmp_path / "a.tfrecord", content) + "#0", dt_s)


def test_the_checksum_is_the_one_of_rfc_3720():
    assert google_crc32c.value(bytes(32)) == 0x8A9136AA


def test_the_source_is_found_by_its_name():
    assert isinstance(source("waymo-motion"), WaymoMotion)


def test_each_record_is_a_unit_of_shards_named_as_published(tmp_path):
    shard = write(
        tmp_path / "training.tfrecord-00000-of-01000", *(scenario(name=n) for n in (b"a", b"b"))
    )
    (tmp_path / "LICENSE").write_text("none of them")
    units = WaymoMotion().find([str(tmp_path)])
    assert units == [f"{shard}#0", f"{shard}#1"]
    assert [WaymoMotion().read(unit, 0.5).name for unit in reversed(units)] == ["b", "a"]


def test_a_scenario_keeps_its_tracks_their_poses_and_its_ego(tmp_path):
    made = read(tmp_path, scenario(ego=1))
    assert (made.name, made.dt_s, made.track_id) == ("abc123", 0.5, ("7", "-4"))
    assert made.track_class == ("TYPE_VEHICLE", "TYPE_PEDESTRIAN")
    np.testing.assert_allclose(made.time_s, [0.0, 0.5, 1.0, 1.5, 2.0])
    for got, mover in zip(made.state, (EGO, WALKER), strict=True):
        np.testing.assert_allclose(got, mover.state(made.time_s - 1.0), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(made.ego_pose, made.state[1, :, :3])


def test_only_valid_states_are_there(tmp_path):
    made = read(tmp_path, scenario([track(1, EGO), track(2, WALKER, valid=range(5, 16))]))
    assert np.isfinite(made.state[1]).all(axis=-1).tolist() == [False, True, True, True, False]
    assert np.isnan(made.state[1, 0]).all()


def test_the_map_has_lanes_their_width_edges_and_crosswalks(tmp_path):
    square = [(0.0, 0.0), (2.0, 0.0), (2.0, 4.0), (0.0, 4.0)]
    features = [
        lane(2, [(0.0, 0.0), (5.0, 0.0), (10.0, 0.0)]),
        lane(3, [(0.0, 20.0), (10.0, 20.0)]),
        lane(1, [(0.0, 0.0)]),
        field(5, field(1, 1) + polyline(2, [(0.0, 3.0), (10.0, 3.0)])),
        field(8, polyline(1, square)),
        field(4, field(1, 1) + polyline(2, square)),
        field(10, polyline(1, square)),
    ]
    made = read(tmp_path, scenario(features=features))
    kinds = [(element.layer, element.closed) for element in made.map]
    assert kinds == [
        ("lane_centre", False),
        ("lane_centre", False),
        ("road_edge", False),
        ("crosswalk", True),
        ("drivable", True),
    ]
    np.testing.assert_array_equal(made.map[0].points, [[0, 0], [5, 0], [10, 0]])
    drivable = made.map[4].points
    np.testing.assert_allclose(
        [drivable.min(axis=0), drivable.max(axis=0)], [[0, -1.75], [10, 1.75]]
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff" * 50, "a Scenario message"),
        (b"", "traffic"),
        (scenario([]), "traffic"),
        (scenario(ego=None), "sdc_track_index"),
        (scenario(ego=2), "sdc_track_index"),
        (scenario(ego=-1), "sdc_track_index"),
        (scenario([track(7, EGO), track(7, WALKER)]), "each track id once"),
        (scenario(times=()), "two frames"),
        (scenario(times=np.arange(20) * 0.1), "20 states of each track"),
        (scenario(times=-np.arange(FRAMES) * 0.1), "regular times"),
        (scenario(times=[0.0] * FRAMES), "regular times"),
        (scenario(times=[np.nan] * FRAMES), "regular times"),
        (scenario(times=np.arange(FRAMES) * 0.3), "divides"),
        (scenario(features=[lane(1, [(0.0, np.nan), (1.0, 1.0)])]), "map feature 40"),
        (scenario(features=[lane(1, [(0.0, 1e300), (1.0, 1.0)])]), "map feature 40"),
    ],
)
def test_what_is_no_scenario_is_refused_by_file_and_record(tmp_path, content, reason):
    with pytest.raises(DataError, match=rf"(?s){reason}.*a\.tfrecord#0|a\.tfrecord#0.*{reason}"):
        read(tmp_path, content)


def test_states_that_are_not_finite_are_left_to_be_counted(tmp_path):
    wrong = Mover(np.nan, 2.0)
    made = read(tmp_path, scenario([track(1, EGO), track(2, wrong)]))
    assert np.isnan(made.state[1, :, 0]).all()
    assert np.isfinite(made.state[1, :, 1]).all()


DAMAGED = [
    (lambda good: good[:5], 0),  # within the length
    (lambda good: good[:500], 0),  # within the content
    (lambda good: good[:-2], 0),  # within the last checksum
    (lambda good: good[:100] + bytes([good[100] ^ 1]) + good[101:], 0),
    (lambda good: bytes([good[0] ^ 1]) + good[1:], 0),
    (lambda good: b"", 0),
    (lambda good: b"\x1f\x8b\x08" + good, 0),  # compressed
    (lambda good: struct.pack("<QI", 1 << 60, masked_crc(struct.pack("<Q", 1 << 60))), 0),
    (lambda good: good + good[:40], 1),
    (lambda good: good + b"junk" * 9, 1),
]


@pytest.mark.parametrize(("damage", "bad"), DAMAGED)
def test_a_damaged_record_is_refused_by_name_and_those_before_it_are_read(tmp_path, damage, bad):
    path = tmp_path / "a.tfrecord"
    path.write_bytes(damage(record(scenario())))
    units = WaymoMotion().find([str(path)])
    assert len(units) == bad + 1
    for unit in units[:bad]:
        assert WaymoMotion().read(unit, 0.5).name == "abc123"
    with pytest.raises(DataError, match=rf"record {bad} of .*a\.tfrecord"):
        WaymoMotion().read(units[bad], 0.5)


def test_a_hundred_megabytes_of_junk_are_refused_at_once(tmp_path):
    path = tmp_path / "a.tfrecord"
    with path.open("wb") as file:
        file.truncate(100 << 20)
    assert WaymoMotion().find([str(path)]) == [f"{path}#0"]
    with pytest.raises(DataError, match="checksums"):
        WaymoMotion().read(f"{path}#0", 0.5)


@pytest.mark.parametrize("unit", ["a.tfrecord", "#0", "{path}#", "{path}#x", "{path}#1", "none#0"])
def test_a_unit_that_is_not_there_is_refused(tmp_path, unit):
    path = write(tmp_path / "a.tfrecord", scenario())
    with pytest.raises(DataError):
        WaymoMotion().read(unit.format(path=path), 0.5)


def test_records_are_read_from_elsewhere(tmp_path):
    write(tmp_path / "a.tfrecord", scenario(), scenario())
    assert_read_from_elsewhere(WaymoMotion(), tmp_path)


def test_a_file_that_grows_is_counted_anew(tmp_path):
    path = write(tmp_path / "a.tfrecord", scenario())
    assert len(WaymoMotion().find([path])) == 1
    write(tmp_path / "a.tfrecord", scenario(), scenario())
    assert len(WaymoMotion().find([path])) == 2


LITTLE = scenario(features=[lane(2, [(0.0, 0.0), (5.0, 0.0)])])


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(changes=st.lists(st.tuples(st.integers(0, len(LITTLE)), st.binary(max_size=4)), max_size=5))
def test_a_changed_message_gives_a_scene_or_is_refused(tmp_path, changes):
    content = LITTLE
    for place, put in changes:
        content = content[:place] + put + content[place + len(put) :]
    _read_or_refuse(tmp_path, record(content))


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=st.binary(max_size=300))
def test_any_bytes_are_refused(tmp_path, content):
    _read_or_refuse(tmp_path, content)
    _read_or_refuse(tmp_path, record(content))


def _read_or_refuse(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "any.tfrecord"
    path.write_bytes(content)
    for unit in WaymoMotion().find([str(path)]):
        assert_read_or_refused(WaymoMotion(), unit, "any.tfrecord")


# The real sample, against a reading of its wire format that shares nothing with the source.


def fields(content: bytes) -> Iterator[tuple[int, Any]]:
    place = 0

    def number() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte, place = content[place], place + 1
            value, shift = value | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                return value

    while place < len(content):
        key = number()
        if key & 7 == 0:
            yield key >> 3, number()
            continue
        size = {1: 8, 5: 4}.get(key & 7) or number()
        place += size
        yield key >> 3, content[place - size : place]


SAMPLE = "motion_data_one_scenario.tfrecord"


@needs("waymo_motion_tfrecord")
def test_the_real_scenario_has_what_its_bytes_have():
    path = recording("waymo_motion_tfrecord") / SAMPLE
    content = path.read_bytes()
    raw = list(fields(content[12 : 12 + struct.unpack("<Q", content[:8])[0]]))
    tracks = [list(fields(value)) for number, value in raw if number == 2]
    made = WaymoMotion().read(f"{path}#0", 0.1)
    assert made.name == next(value for number, value in raw if number == 5).decode()
    assert made.track_id == tuple(str(dict(track)[1]) for track in tracks)
    kinds = {1: "TYPE_VEHICLE", 2: "TYPE_PEDESTRIAN", 3: "TYPE_CYCLIST"}
    assert Counter(made.track_class) == Counter(kinds[dict(track)[2]] for track in tracks)
    valid = [[dict(fields(v)).get(11, 0) for n, v in track if n == 3] for track in tracks]
    np.testing.assert_array_equal(np.isfinite(made.state).all(axis=-1), np.array(valid, bool))
    features = Counter(  # but one lane of this sample has a single point, which is no line
        kind
        for number, v in raw
        if number == 8
        for kind, content in fields(v)
        if kind != 3 or sum(n == 8 for n, _ in fields(content)) > 1
    )
    layers = Counter(element.layer for element in made.map)
    assert (layers["lane_centre"], layers["road_edge"]) == (features[3], features[5])
    assert layers["crosswalk"] == features[8]
    assert layers["drivable"] > 0


@needs("waymo_motion_tfrecord")
def test_in_the_real_scenario_heading_agrees_with_motion_and_lanes():
    made = WaymoMotion().read(f"{recording('waymo_motion_tfrecord') / SAMPLE}#0", 0.5)
    errors = heading_errors(made.state)
    assert len(errors) > 100
    assert np.median(errors) < np.radians(1)


@needs("waymo_motion_tfrecord")
def test_the_real_scenario_becomes_a_store(tmp_path):
    options = PrepareOptions(grid=GRID, stride=5)
    folder = str(recording("waymo_motion_tfrecord"))
    report = prepare("waymo-motion", [folder], str(tmp_path / "out.zarr"), options)
    assert (report.scenes, report.sequences, report.skipped) == (1, 3, [])
    store, meta = open_sequence_store(str(tmp_path / "out.zarr"))
    assert meta.source == "waymo-motion"
    assert set(store["scene"].values.tolist()) == {"637f20cafde22ff8"}
    assert store["map"].values.any(axis=(2, 3)).all()
    assert (store["track_class"].values > 0).any(axis=1).all()
    assert meta.classes == ("vehicle", "pedestrian", "cyclist")
