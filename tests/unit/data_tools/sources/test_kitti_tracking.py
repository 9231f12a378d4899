"""The kitti-tracking source: boxes of a made-up world seen by a made-up car, and real sequences."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from data_tools.prepare import PrepareOptions, prepare
from data_tools.sources import source
from data_tools.sources.kitti_tracking import KittiTracking
from forecast.angles import wrap_angle
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

FRAMES = 31
LATITUDE, LONGITUDE, ALTITUDE = 49.011, 8.4229, 112.8
DEGREE_M = 6378137.0 * np.pi / 180  # of latitude, and of longitude on the equator
EGO = Mover(0.0, 0.0, yaw=2.2, speed=9.0, turn_rate=0.15)
CAR = Mover(-9.0, 16.0, yaw=-0.9, speed=5.0, turn_rate=-0.1)
WALKER = Mover(-4.0, 12.0, yaw=1.0, speed=1.2, length=0.8, width=0.6)
DONT_CARE = "{} -1 DontCare -1 -1 -10 219 188 245 218" + " -1000" * 3 + " -10 -1 -1 -1"

# Camera: x right, y down, z forward; velodyne and IMU: x forward, y left, z up. All a bit askew.
AXES = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])
SKEW = Rotation.from_euler("xyz", [0.01, -0.02, 0.008]).as_matrix()
RECTIFY, CAMERA, VELODYNE = SKEW.T, AXES @ SKEW, SKEW
CAMERA_AT, VELODYNE_AT = np.array([-0.004, -0.07, -0.33]), np.array([-0.81, 0.31, -0.8])


def calibration(rectify: Any = RECTIFY, colon: str = "", names: Any = ("cam", "velo")) -> str:
    camera = np.column_stack([CAMERA, CAMERA_AT])
    velodyne = np.column_stack([VELODYNE, VELODYNE_AT])
    rows = {
        "P0:": np.ones(12),
        ("R0_rect" if colon else "R_rect") + colon: rectify,
        f"Tr_velo_{names[0]}{colon}": camera,
        f"Tr_imu_{names[1]}{colon}": velodyne,
    }
    text = (" ".join([name, *(f"{n:.12e}" for n in np.ravel(row))]) for name, row in rows.items())
    return "\n".join(text) + "\n\n"


def poses(ego: Mover = EGO, pitch: float = 0.03, longitude_of_0: float = LONGITUDE) -> str:
    states = ego.state(np.arange(FRAMES) * 0.1)
    latitude = LATITUDE + states[:, 1] / DEGREE_M
    longitude = longitude_of_0 + states[:, 0] / DEGREE_M / np.cos(np.radians(LATITUDE))
    longitude = (longitude + 180) % 360 - 180
    rows = zip(latitude, longitude, wrap_angle(states[:, 2]), strict=True)
    rest = " 0.5" * 24
    return "\n".join(
        f"{north:.13f} {east:.13f} {ALTITUDE} 0.01 {pitch} {yaw:.9f}{rest}"
        for north, east, yaw in rows
    )


def labels(agents: dict[int, tuple[str, Mover, range]], pitch: float = 0.03) -> str:
    """Each agent's box as the rectified camera sees it."""
    clock = np.arange(FRAMES) * 0.1
    rows = []
    for step, ego in enumerate(EGO.state(clock)):
        rows.append(DONT_CARE.format(step))
        body = Rotation.from_euler("ZYX", [ego[2], pitch, 0.01]).as_matrix()
        for name, (kind, mover, seen) in agents.items():
            if step not in seen:
                continue
            x, y, yaw, length, width = mover.state(clock[step : step + 1])[0]
            imu = body.T @ (np.array([x, y, 0.0]) - [*ego[:2], 0.0])
            velodyne = VELODYNE @ imu + VELODYNE_AT
            place = RECTIFY @ (CAMERA @ velodyne + CAMERA_AT)
            ahead = RECTIFY @ CAMERA @ VELODYNE @ body.T @ [np.cos(yaw), np.sin(yaw), 0.0]
            turn = np.arctan2(-ahead[2], ahead[0])
            box = (1.5, width, length, place[0], place[1] + 0.75, place[2], turn)
            numbers = " ".join(f"{number:.9f}" for number in box)
            rows.append(f"{step} {name} {kind} 0 0 0.1 10 20 30 40 {numbers}")
    return "\n".join(rows)


AGENTS = {0: ("Car", CAR, range(FRAMES)), 3: ("Pedestrian", WALKER, range(10, 21))}


def write(
    root: Path, label: str | None = None, calib: str | None = None, oxts: str | None = None
) -> str:
    texts = {
        "label_02": labels(AGENTS) if label is None else label,
        "calib": calibration() if calib is None else calib,
        "oxts": poses() if oxts is None else oxts,
    }
    for folder, text in texts.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / "0007.txt").write_text(text)
    return str(root / "label_02/0007.txt")


@pytest.mark.parametrize("folder", ["label_02", "label"])
def test_a_sequence_is_found_by_its_labels_not_by_its_other_files(tmp_path, folder):
    write(tmp_path)
    (tmp_path / "label_02").rename(tmp_path / folder)
    units = source("kitti-tracking").find([str(tmp_path)])
    assert units == [f"{tmp_path}/{folder}/0007.txt"]


def test_a_folder_without_labels_is_refused(tmp_path):
    write(tmp_path)
    with pytest.raises(DataError, match="label files"):
        KittiTracking().find([f"{tmp_path}/oxts"])


@pytest.mark.parametrize("names", [("", ("cam", "velo")), (":", ("to_cam", "to_velo"))])
def test_boxes_go_from_the_camera_into_the_world(tmp_path, names):
    made = KittiTracking().read(write(tmp_path, calib=calibration(RECTIFY, *names)), 0.5)
    assert (made.name, made.dt_s) == ("0007", 0.5)
    assert (made.track_id, made.track_class) == (("0", "3"), ("Car", "Pedestrian"))
    np.testing.assert_allclose(made.time_s, np.arange(0, 3.1, 0.5))
    np.testing.assert_allclose(made.ego_pose[:, :2], EGO.state(made.time_s)[:, :2], atol=1e-3)
    turned = wrap_angle(made.ego_pose[:, 2] - EGO.state(made.time_s)[:, 2])
    np.testing.assert_allclose(turned, 0.0, atol=1e-3)
    expected = CAR.state(made.time_s)
    np.testing.assert_allclose(made.state[0, :, :2], expected[:, :2], atol=5e-3)
    # Pitched by 0.03, the camera's turn about its own upright is not quite the turn on the ground.
    np.testing.assert_allclose(wrap_angle(made.state[0, :, 2] - expected[:, 2]), 0, atol=2e-3)
    np.testing.assert_allclose(made.state[0, :, 3:], expected[:, 3:])
    seen = np.isfinite(made.state[1]).all(axis=-1)
    np.testing.assert_array_equal(seen, [False, False, True, True, True, False, False])
    assert made.map == ()


@pytest.mark.parametrize("longitude", [179.9999, -179.9999])
def test_a_drive_across_180_degrees_of_longitude_makes_no_jump(tmp_path, longitude):
    ego = Mover(0.0, 0.0, yaw=0.0 if longitude > 0 else np.pi, speed=20.0)
    unit = write(tmp_path, oxts=poses(ego, longitude_of_0=longitude))
    made = KittiTracking().read(unit, 0.5)
    np.testing.assert_allclose(made.ego_pose[:, :2], ego.state(made.time_s)[:, :2], atol=1e-3)


def test_drives_stacked_in_one_sequence_are_kept_apart(tmp_path):
    shift = 300.0 / DEGREE_M  # of latitude
    first, second = poses().splitlines(), poses().splitlines()
    moved = [" ".join([str(float((w := row.split())[0]) + shift), *w[1:]]) for row in second]
    later = [
        " ".join(
            [str(int((w := row.split())[0]) + FRAMES), w[1], {"Car": "Van"}.get(w[2], w[2]), *w[3:]]
        )
        for row in labels(AGENTS).splitlines()
    ]
    text = {"label": labels(AGENTS) + "\n" + "\n".join(later), "oxts": "\n".join(first + moved)}
    made = KittiTracking().read(write(tmp_path, **text), 0.1)
    kinds = dict(zip(made.track_id, made.track_class, strict=True))
    assert kinds == {"0": "Car", "3": "Pedestrian", "0#2": "Van", "3#2": "Pedestrian"}
    assert np.isfinite(made.state[0]).all(axis=-1).sum() == FRAMES
    options = PrepareOptions(grid=GRID, dt_s=0.1, history=3, horizon=6)
    report = prepare("kitti-tracking", [str(tmp_path)], str(tmp_path / "out.zarr"), options)
    assert report.sequences == 2 * (FRAMES - 8)
    assert report.notes["steps that no vehicle makes, no sequence across"] == 1
    assert "tracks of more than one class, the most frequent taken" not in report.notes


def test_sequences_are_read_from_elsewhere(tmp_path):
    write(tmp_path)
    assert_read_from_elsewhere(KittiTracking(), tmp_path)


LABELS, OXTS, CALIB = labels(AGENTS).splitlines(), poses().splitlines(), calibration()


def row_of(rows: list[str], place: int, column: int, value: str) -> str:
    words = rows[place].split()
    words[column] = value
    return "\n".join([*rows[:place], " ".join(words), *rows[place + 1 :]])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"label": ""}, "agents.*label_02/0007"),
        ({"label": DONT_CARE.format(0)}, "agents.*label_02/0007"),
        ({"label": "junk " * 9999}, "row 1 of .*label_02/0007"),
        ({"label": "\n".join(LABELS)[:-200]}, "columns.*row 71 of .*label_02/0007"),
        ({"label": row_of(LABELS, 1, 0, "31")}, "a frame below 31.*row 2 of .*label_02/0007"),
        ({"label": row_of(LABELS, 1, 0, "-1")}, "row 2 of .*label_02/0007"),
        ({"label": row_of(LABELS, 1, 0, "9" * 999)}, "row 2 of .*label_02/0007"),
        ({"label": row_of(LABELS, 1, 0, "9")}, "ascending.*track 0.*label_02/0007"),
        ({"label": "\n".join([*LABELS[:2], LABELS[1]])}, "ascending.*label_02/0007"),
        ({"label": row_of(LABELS, 1, 12, "wide")}, "row 2 of .*label_02/0007"),
        ({"oxts": ""}, "poses.*oxts/0007"),
        ({"oxts": OXTS[0]}, "a frame below 1"),
        ({"oxts": "\n".join(OXTS)[:-2000]}, "row .*label_02/0007|row .*oxts/0007"),
        ({"oxts": "\n".join(OXTS[:20])}, "a frame below 20"),
        ({"oxts": row_of(OXTS, 4, 0, "nan")}, "latitude.*row 5 of .*oxts/0007"),
        ({"oxts": row_of(OXTS, 4, 0, "90")}, "latitude.*row 5 of .*oxts/0007"),
        ({"oxts": row_of(OXTS, 4, 1, "1e9")}, "latitude.*row 5 of .*oxts/0007"),
        ({"oxts": row_of(OXTS, 4, 5, "inf")}, "row 5 of .*oxts/0007"),
        ({"calib": ""}, "no R_rect, Tr_velo_cam, Tr_imu_velo in .*calib/0007"),
        ({"calib": CALIB[: CALIB.index("Tr_imu")]}, "no Tr_imu_velo in .*calib/0007"),
        ({"calib": CALIB[:-99]}, "a rotation.*row 4 of .*calib/0007"),
        ({"calib": calibration(np.zeros((3, 3)))}, "a rotation.*row 2 of .*calib/0007"),
        ({"calib": calibration(2 * RECTIFY)}, "a rotation.*row 2 of .*calib/0007"),
        ({"calib": calibration(np.full((3, 3), np.nan))}, "a rotation.*row 2 of .*calib/0007"),
        ({"calib": calibration(1e308 * RECTIFY)}, "up to 1e.09.*row 2 of .*calib/0007"),
        ({"label": row_of(LABELS, 1, 13, "1e308")}, "up to 1e.09.*row 2 of .*label_02/0007"),
        ({"oxts": row_of(OXTS, 1, 2, "-1e308")}, "up to 1e.09.*row 2 of .*oxts/0007"),
        ({"calib": CALIB.replace("e-", "e-e")}, "numbers.*calib/0007"),
    ],
)
def test_what_is_no_sequence_is_refused_by_file_and_row(tmp_path, change, reason):
    with pytest.raises(DataError, match=reason):
        KittiTracking().read(write(tmp_path, **change), 0.5)


@pytest.mark.parametrize("folder", ["calib", "oxts", "label_02"])
def test_a_missing_or_binary_file_is_refused_by_name(tmp_path, folder):
    unit = write(tmp_path)
    path = tmp_path / folder / "0007.txt"
    path.write_bytes(b"\xff\x00" * 500)
    with pytest.raises(DataError, match=rf"{folder}/0007\.txt"):
        KittiTracking().read(unit, 0.5)
    path.unlink()
    with pytest.raises(DataError, match=rf"{folder}/0007\.txt"):
        KittiTracking().read(unit, 0.5)


def test_boxes_that_are_not_finite_are_left_to_be_counted(tmp_path):
    made = KittiTracking().read(write(tmp_path, label=row_of(LABELS, 1, 13, "nan")), 0.5)
    assert np.isnan(made.state[0, 0, :2]).all()


TEXTS = {"label_02": "\n".join(LABELS), "calib": CALIB, "oxts": "\n".join(OXTS)}


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    folder=st.sampled_from(sorted(TEXTS)),
    place=st.floats(0, 1),
    put=st.text("0123456789.eE-+ \nnaif_\xa0\x00", max_size=5),
)
def test_a_changed_file_gives_a_scene_or_is_refused(tmp_path, folder, place, put):
    text = TEXTS[folder]
    at = int(place * len(text))
    unit = write(tmp_path)
    (tmp_path / folder / "0007.txt").write_text(text[:at] + put + text[at + len(put) :])
    assert_read_or_refused(KittiTracking(), unit, "0007.txt")


def real() -> list[str]:
    return KittiTracking().find([str(recording("kitti_tracking"))])


@needs("kitti_tracking")
def test_the_real_sequences_have_what_their_files_have():
    units = real()
    assert len(units) == 15
    for unit in units:
        rows = [line.split() for line in Path(unit).read_text().splitlines()]
        agents = [row for row in rows if row[2] != "DontCare"]
        made = KittiTracking().read(unit, 0.1)
        assert set(made.track_id) == {row[1] for row in agents}
        assert np.isfinite(made.state).all(axis=-1).sum() == len(agents)
        kinds = dict(zip(made.track_id, made.track_class, strict=True))
        assert Counter(kinds[row[1]] for row in agents) == Counter(row[2] for row in agents)
        oxts = np.loadtxt(unit.replace("/label/", "/oxts/"))
        assert len(made.time_s) == len(oxts)
        # The IMU measures its speed ahead too (column 8): it must be that of its places.
        speed = np.linalg.norm(np.diff(made.ego_pose[:, :2], axis=0), axis=1) / 0.1
        assert np.median(np.abs(speed - np.abs(oxts[:-1, 8]))) < 0.5, unit


@needs("kitti_tracking")
def test_in_the_real_sequences_cars_head_where_they_go_and_parked_ones_stay():
    errors, drifts = [], []
    for unit in real():
        made = KittiTracking().read(unit, 0.1)
        cars = made.state[[kind in ("Car", "Van", "Truck") for kind in made.track_class]]
        errors.append(heading_errors(cars[:, ::5]))
        for car in cars:
            place = car[np.isfinite(car[:, 0]), :2]
            if len(place) > 20:
                drifts.append(np.linalg.norm(place[-5:].mean(axis=0) - place[:5].mean(axis=0)))
    assert len(np.concatenate(errors)) > 1000
    assert np.median(np.concatenate(errors)) < np.radians(2)
    # The camera passes by them: if its frame went wrong into the world, none would stay.
    assert np.quantile(drifts, 0.3) < 0.3


@needs("kitti_tracking")
def test_real_sequences_become_a_store(tmp_path):
    options = PrepareOptions(grid=GRID, stride=10)
    report = prepare("kitti-tracking", real()[:2], str(tmp_path / "out.zarr"), options)
    assert (report.scenes, report.skipped) == (2, [])
    store, meta = open_sequence_store(str(tmp_path / "out.zarr"))
    assert (meta.source, meta.map_layers) == ("kitti-tracking", ())
    assert (store["track_class"].values > 0).any()
