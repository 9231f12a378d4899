"""What prepare suspects of a recording, and what it must not suspect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from data_tools.prepare import PrepareOptions, prepare
from data_tools.scene import MapElement
from data_tools.suspicions import of_coordinates, of_headings, of_map
from forecast.cli.console import print_prepare_report
from forecast.grid import BEVGrid
from tests.support.stores import Mover

TIMES = np.arange(61) * 0.1
TRAFFIC = (
    Mover(0, 0, yaw=0.1, speed=8.0),
    Mover(40, 5, yaw=-3.0, speed=10.0, turn_rate=0.1),
    Mover(5, -9, yaw=1.4, speed=6.0, turn_rate=-0.2),
    Mover(-5, 9, yaw=0.3, speed=5.0),
    Mover(5, 12, yaw=2.0),  # stands
)


def paths(traffic=TRAFFIC, mistake=lambda yaw: yaw, noise=0.05, times=TIMES):
    """Agents whose headings went through a mistake, seen with a tracker's noise."""
    random = np.random.default_rng(0)
    for mover in traffic:
        pose = mover.state(times)[:, :3]
        pose[:, :2] += random.normal(0.0, noise, (len(times), 2))
        pose[:, 2] = mistake(pose[:, 2] + random.normal(0.0, 0.2 * noise, len(times)))
        yield times, pose


@pytest.mark.parametrize("times", [TIMES, TIMES[::5]])
@pytest.mark.parametrize(
    ("mistake", "suspected"),
    [
        (np.degrees, "yaw looks like degrees"),
        (lambda yaw: np.degrees(yaw) % 360, "yaw looks like degrees"),
        (lambda yaw: np.pi / 2 - yaw, "yaw looks clockwise from north"),
        (lambda yaw: -yaw, "yaw looks clockwise; change its sign"),
        (lambda yaw: yaw + np.radians(8), "yaw looks turned by one angle"),
        (lambda yaw: yaw + np.pi / 2, "yaw looks turned by one angle"),
        (lambda yaw: yaw - np.pi, "yaw looks turned by one angle"),
        (lambda yaw: 2.0 * yaw + 2.0, "yaw does not follow the way made"),
    ],
)
def test_headings_of_another_convention_are_suspected_as_what_they_are(mistake, suspected, times):
    ((found, support),) = of_headings(paths(mistake=mistake, times=times)).items()
    assert found.startswith(suspected)
    assert "degrees" in support


def test_an_offset_is_told_with_its_sign():
    for offset in (-20.0, 7.0, 90.0):
        (support,) = of_headings(paths(mistake=lambda y, o=offset: y + np.radians(o))).values()
        assert float(support.split()[0]) == pytest.approx(offset, abs=1.0)


@pytest.mark.parametrize(
    "traffic",
    [
        TRAFFIC,
        TRAFFIC[4:],
        (),
        (*TRAFFIC[:4], Mover(9, 9, yaw=1.0, speed=-5.0)),  # one backs out
        (Mover(0, 0, yaw=1.0, speed=-5.0),),
        (Mover(0, 0, yaw=1.0, speed=-5.0), Mover(0, 0, speed=5.0)),
    ],
)
def test_headings_along_the_way_are_not_suspected(traffic):
    assert of_headings(paths(traffic)) == {}


def test_numbers_that_are_no_places_are_passed_over():
    tracks = list(paths(mistake=np.degrees))
    for _, pose in tracks:
        pose[3:6, 0] = np.nan, np.inf, 1e300
    assert len(of_headings(tracks)) == 1
    xy = np.concatenate([pose[:, :2] for _, pose in tracks])
    assert of_coordinates(xy) == of_map([LINE], xy) == {}


def test_headings_off_by_what_a_tracker_is_off_are_not_suspected():
    random = np.random.default_rng(3)
    errors = np.radians(random.normal(0.0, 4.0, len(TRAFFIC)))
    tracks = [
        (time_s, pose + np.array([0.0, 0.0, error]))
        for (time_s, pose), error in zip(paths(noise=0.2), errors, strict=True)
    ]
    assert of_headings(tracks) == {}


@pytest.mark.parametrize(
    ("origin", "kind", "suspected"),
    [
        ((432_000.0, 5_412_000.0), np.float32, "up to 5412"),
        ((432_000.0, 0.0), np.float32, "up to 432"),
        ((432_000.0, 5_412_000.0), np.float64, None),
        ((500.0, 2_000.0), np.float32, None),
    ],
)
def test_coordinates_that_went_through_float32_far_from_their_origin_are_suspected(
    origin, kind, suspected
):
    xy = np.column_stack([8.0 * TIMES, 0.3 * TIMES]) + origin
    found = of_coordinates(xy.astype(kind).astype(float))
    assert bool(found) == bool(suspected)
    for support in found.values():
        assert support.startswith(str(suspected))
    assert of_coordinates(np.empty((0, 2))) == {}


LINE = MapElement("lane_centre", np.array([[0.0, 0.0], [100.0, 50.0]]))
AREA = MapElement("drivable", np.array([[0.0, 0], [900, 0], [900, 900], [0, 900]]), closed=True)
UTM = np.array([432_000.0, 5_412_000.0])
PLACES = np.column_stack([np.linspace(10, 60, 50), np.linspace(5, 30, 50)])


@pytest.mark.parametrize(
    ("elements", "places", "suspected"),
    [
        ((), PLACES, None),
        ((LINE,), np.empty((0, 2)), None),
        ((LINE,), PLACES + np.array([0.0, 5.0]), None),
        ((AREA,), PLACES + 400.0, None),  # far from every edge, in the midst of it
        ((LINE, AREA), PLACES - 5000.0, "7,007 m"),
        ((LINE,), PLACES + UTM, "5,429 km"),
        ((LINE,), PLACES + np.array([0.0, 300.0]), "270 m"),
        ((MapElement("lane_centre", np.array([[9.0, np.nan]])),), PLACES, None),
    ],
)
def test_a_map_that_is_elsewhere_is_suspected_with_its_distance(elements, places, suspected):
    found = of_map(elements, places)
    assert bool(found) == bool(suspected)
    assert all(f"is {suspected} from the traffic" in support for support in found.values())


def test_a_map_in_degrees_or_with_its_axes_swapped_is_told_so():
    degrees = MapElement("lane_centre", np.array([[8.4, 49.0], [8.41, 49.01]]))
    (support,) = of_map([degrees], PLACES + UTM).values()
    assert support.endswith("its coordinates look like degrees")
    east = MapElement("lane_centre", PLACES + UTM)
    (support,) = of_map([east], PLACES[:, ::-1] + UTM[::-1]).values()
    assert support.endswith("with x and y swapped it is there")


EAST = [Mover(0, 5.0 * i, yaw=0.1 * i, speed=8.0) for i in range(4)]  # no number above 25 degrees


def table(folder: Path, traffic: Any = TRAFFIC, origin: float = 0.0, **changes: Any) -> str:
    rows = [
        pd.DataFrame(
            {"scene": scene, "time_s": TIMES, "track_id": place, "class": "car"}
            | dict(zip(("x_m", "y_m", "yaw_rad"), pose.T, strict=True))
            | {"is_ego": place == 0}
        )
        for scene in ("a", "b")
        for place, (_, pose) in enumerate(paths(traffic, changes.get("mistake", np.array)))
    ]
    whole = pd.concat(rows)
    whole[["x_m", "y_m"]] = (whole[["x_m", "y_m"]] + origin).astype(changes.get("kind", float))
    whole.to_parquet(folder / "drive.parquet")
    return str(folder / "drive.parquet")


OPTIONS = PrepareOptions(grid=BEVGrid(-12.0, 20.0, -8.0, 8.0, 0.5))


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({}, ""),
        ({"traffic": EAST}, ""),
        ({"traffic": EAST, "mistake": np.degrees}, "yaw looks like degrees"),
        ({"origin": 4e6, "kind": np.float32}, "coordinates have lost precision in float32"),
    ],
)
def test_prepare_warns_once_and_names_the_scene(tmp_path, capsys, changes, warning):
    report = prepare("tracks", [table(tmp_path, **changes)], str(tmp_path / "out.zarr"), OPTIONS)
    print_prepare_report(report, "out.zarr")
    told = capsys.readouterr().err
    assert told.count("warning") == bool(warning)
    if warning:
        assert told.startswith(f"warning: {warning}")
        assert "(drive.parquet#a: " in told
        assert told.endswith("; 1 scene more)\n")


def test_prepare_warns_of_a_map_that_is_elsewhere(tmp_path, capsys):
    path = table(tmp_path)
    line = '{"type": "LineString", "coordinates": [[8.40, 49.0], [8.41, 49.01]]}'
    feature = f'{{"type": "Feature", "properties": {{"layer": "lane_centre"}}, "geometry": {line}}}'
    Path(f"{path}.geojson").write_text(f'{{"type": "FeatureCollection", "features": [{feature}]}}')
    print_prepare_report(prepare("tracks", [path], str(tmp_path / "out.zarr"), OPTIONS), "out")
    assert capsys.readouterr().err.startswith("warning: the map is elsewhere")
