"""What the fuzzer of sources damages: tiny recordings of every source, preset and kind of map."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mcap.writer import CompressionType

from forecast.grid import BEVGrid
from tests.support import (
    argoverse2,
    commonroad,
    mcap_bags,
    nuplan,
    nuscenes,
    presets,
    py123d,
    rasters,
    scenarios,
    waymo_perception,
)
from tests.unit.data_tools.sources import (
    test_kitti_tracking,
    test_lyft_l5,
    test_scenarionet,
    test_tracks,
    test_waymo_motion,
)

GRID = BEVGrid(-12.0, 20.0, -8.0, 8.0, 0.5)
LANE = [(0.0, 0.0), (5.0, 0.0), (9.0, 1.0)]


@dataclass(frozen=True)
class Target:
    """What is damaged and who reads it.

    Args:
        source: Who reads it.
        write: Writes a tiny recording into a new folder.
        preset: Of tables.
        victims: Which of its files are damaged, by the ends of their names; all if empty.
    """

    source: str
    write: Callable[[Path], object]
    preset: str | None = None
    victims: tuple[str, ...] = ()


def _nuscenes(folder: Path) -> None:
    nuscenes.write_version(folder)
    nuscenes.write_map(folder)


def _commonroad(folder: Path) -> None:
    commonroad.write(folder / "a.xml", commonroad.LITTLE)
    commonroad.write(folder / "b.xml", commonroad.VARIED)


def _mcap(folder: Path) -> None:
    mcap_bags.write_bag(folder / "a.mcap", mcap_bags.drive())
    plain = CompressionType.NONE  # without checksums, so that damage reaches the messages
    packing = {"compression": plain, "enable_crcs": False}
    mcap_bags.write_bag(folder / "b.mcap", mcap_bags.drive(seconds=2.0), **packing)
    mcap_bags.write_bag(folder / "c.mcap", mcap_bags.drive(seconds=2.0), **packing)
    mcap_bags.without_index(folder / "c.mcap")


def _nuplan(folder: Path) -> None:
    nuplan.write_log(folder / "a.db", frames=51)
    nuplan.write_map(folder)


def _waymo_motion(folder: Path) -> None:
    lane = test_waymo_motion.lane(2, LANE)
    test_waymo_motion.write(folder / "a.tfrecord", test_waymo_motion.scenario(features=[lane]))


def _lyft_l5(folder: Path) -> None:
    test_lyft_l5.write(folder / "a.zarr", test_lyft_l5.tables(1))


def _scenarionet(folder: Path) -> None:
    feature = {"1": {"type": "LANE_FREEWAY", "polyline": np.array(LANE)}}
    scenario = test_scenarionet.scenario(map_features=feature)
    test_scenarionet.write(folder / "sd_a.pkl", scenario)


def _py123d(folder: Path) -> None:
    unit = py123d.write_log(folder)
    py123d.write_map(Path(unit).with_name("map.arrow"))


def _waymo_json(folder: Path) -> None:
    scenarios.write(folder / "a.json", scenarios.crossing(1))


def _tables(folder: Path) -> None:
    drive = test_tracks.drive
    for name in ("a.csv", "b.csv.gz", "c.parquet"):
        test_tracks.written(folder, drive(is_ego=True), drive("w", 1.0, y=5.0), name=name)
    line = {"type": "LineString", "coordinates": [[0.0, 0.0], [20.0, 0.0]]}
    feature = {"type": "Feature", "properties": {"layer": "lane_centre"}, "geometry": line}
    scenarios.write(folder / "a.csv.geojson", {"type": "FeatureCollection", "features": [feature]})


def _rasters(folder: Path) -> None:
    scene = rasters.drive([test_lyft_l5.MOVERS[4][1]], test_lyft_l5.EGO)
    rasters.write_zarr(folder / "a.zarr", rasters.seen(scene, GRID))
    rasters.write_zarr(folder / "b.zarr", rasters.seen(scene, GRID), version=2)
    rasters.write_netcdf(folder / "c.nc", rasters.seen(scene, GRID))
    rasters.write_folder(folder / "d", rasters.seen(scene, GRID), GRID)


_WRITERS: Mapping[str, Callable[[Path], object]] = {
    "argoverse2-sensor": argoverse2.write_log,
    "argoverse2-motion": argoverse2.write_scenario,
    "nuscenes": _nuscenes,
    "nuplan": _nuplan,
    "waymo-motion": _waymo_motion,
    "waymo-perception": waymo_perception.write_segment,
    "lyft-l5": _lyft_l5,
    "kitti-tracking": test_kitti_tracking.write,
    "scenarionet": _scenarionet,
    "commonroad": _commonroad,
    "py123d": _py123d,
    "mcap": _mcap,
    "rasters": _rasters,
    "waymo-json": _waymo_json,
    "tracks": _tables,
}
TARGETS: Mapping[str, Target] = {
    **{name: Target(name, write) for name, write in _WRITERS.items()},
    **{f"tracks:{name}": Target("tracks", w, name) for name, w in presets.WRITERS.items()},
    "lanelet2": Target("tracks", presets.WRITERS["interaction"], "interaction", (".osm",)),
    "geopackage": Target("nuplan", _nuplan, victims=(".gpkg",)),
}
"""Every target by its name: a source's, ``tracks:`` and a preset's, or a kind of map."""
