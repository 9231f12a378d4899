"""Tiny nuPlan logs and maps, in the tables and columns of the published ones, for tests.

The log's tables are those of nuplan-devkit's own test data, the map's those of
sg-one-north/9.17.1964; only tables that nothing here reads are left out.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from scipy.spatial.transform import Rotation

from tests.support.geodesy import utm_48_north
from tests.support.stores import Mover

START_US = 1_620_857_890_000_000
FRAMES = 81  # 4 s at 20 Hz
CENTRE = np.array([365_000.0, 142_000.0])  # in Singapore, UTM zone 48N
ZONE = 32648
X, Y = CENTRE
EGO = Mover(X, Y, yaw=0.4, speed=6.0, turn_rate=0.15)
CAR = Mover(X + 12, Y + 8, yaw=2.8, speed=7.0, turn_rate=-0.1)
WALKER = Mover(X + 5, Y - 6, yaw=1.0, speed=1.2, length=0.7, width=0.8)
AGENTS = {"car": ("vehicle", CAR), "walker": ("pedestrian", WALKER)}
CATEGORIES = (
    *("vehicle", "bicycle", "pedestrian", "traffic_cone", "barrier"),
    *("czone_sign", "generic_object"),
)
TILT = Rotation.from_euler("xyz", [0.02, -0.03, 0.0])  # the road is not level

LOG_SCHEMA = """
CREATE TABLE log (token BLOB NOT NULL, vehicle_name VARCHAR(64), date VARCHAR(64),
    timestamp INTEGER, logfile VARCHAR(64), location VARCHAR(64), map_version VARCHAR(64),
    PRIMARY KEY (token));
CREATE TABLE ego_pose (token BLOB NOT NULL, timestamp INTEGER, x FLOAT, y FLOAT, z FLOAT,
    qw FLOAT, qx FLOAT, qy FLOAT, qz FLOAT, vx FLOAT, vy FLOAT, vz FLOAT,
    acceleration_x FLOAT, acceleration_y FLOAT, acceleration_z FLOAT,
    angular_rate_x FLOAT, angular_rate_y FLOAT, angular_rate_z FLOAT,
    epsg INTEGER, log_token BLOB NOT NULL, PRIMARY KEY (token));
CREATE TABLE lidar (token BLOB NOT NULL, log_token BLOB NOT NULL, channel VARCHAR(64),
    model VARCHAR(64), translation BLOB, rotation BLOB, PRIMARY KEY (token));
CREATE TABLE lidar_pc (token BLOB NOT NULL, next_token BLOB, prev_token BLOB,
    ego_pose_token BLOB NOT NULL, lidar_token BLOB NOT NULL, scene_token BLOB,
    filename VARCHAR(128), timestamp INTEGER, PRIMARY KEY (token));
CREATE TABLE lidar_box (token BLOB NOT NULL, lidar_pc_token BLOB NOT NULL,
    track_token BLOB NOT NULL, next_token BLOB, prev_token BLOB, x FLOAT, y FLOAT, z FLOAT,
    width FLOAT, length FLOAT, height FLOAT, vx FLOAT, vy FLOAT, vz FLOAT, yaw FLOAT,
    confidence FLOAT, PRIMARY KEY (token));
CREATE TABLE track (token BLOB NOT NULL, category_token BLOB NOT NULL, width FLOAT,
    length FLOAT, height FLOAT, PRIMARY KEY (token));
CREATE TABLE category (token BLOB NOT NULL, name VARCHAR(64), description TEXT,
    PRIMARY KEY (token));
CREATE TABLE scene (token BLOB NOT NULL, log_token BLOB NOT NULL, name TEXT,
    goal_ego_pose_token BLOB, roadblock_ids TEXT, PRIMARY KEY (token));
CREATE TABLE scenario_tag (token BLOB NOT NULL, lidar_pc_token BLOB NOT NULL, type TEXT,
    agent_track_token BLOB, PRIMARY KEY (token));
CREATE TABLE traffic_light_status (token BLOB NOT NULL, lidar_pc_token BLOB NOT NULL,
    lane_connector_id INTEGER, status VARCHAR(8), PRIMARY KEY (token));
"""

MAP_SCHEMA = """
PRAGMA application_id = 0x47504B47;
CREATE TABLE gpkg_spatial_ref_sys (srs_name TEXT NOT NULL, srs_id INTEGER NOT NULL PRIMARY KEY,
    organization TEXT NOT NULL, organization_coordsys_id INTEGER NOT NULL,
    definition TEXT NOT NULL, description TEXT);
CREATE TABLE gpkg_contents (table_name TEXT NOT NULL PRIMARY KEY, data_type TEXT NOT NULL,
    identifier TEXT UNIQUE, description TEXT DEFAULT '', last_change DATETIME NOT NULL,
    min_x DOUBLE, min_y DOUBLE, max_x DOUBLE, max_y DOUBLE, srs_id INTEGER);
CREATE TABLE gpkg_geometry_columns (table_name TEXT NOT NULL, column_name TEXT NOT NULL,
    geometry_type_name TEXT NOT NULL, srs_id INTEGER NOT NULL, z TINYINT NOT NULL,
    m TINYINT NOT NULL, PRIMARY KEY (table_name, column_name));
CREATE TABLE meta (fid INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, key TEXT, value TEXT);
CREATE TABLE baseline_paths (fid INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, geom LINESTRING,
    path_type_fid INTEGER, creator_id TEXT(256), lane_fid INTEGER, lane_connector_fid INTEGER,
    dubins_node_fids TEXT(256));
CREATE TABLE road_segments (fid INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, geom POLYGON,
    lane_group_fids TEXT(256));
CREATE TABLE intersections (fid INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, geom POLYGON,
    creator_id TEXT(256), intersection_type_fid INTEGER, is_mini BOOLEAN);
CREATE TABLE generic_drivable_areas (fid INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    geom POLYGON, creator_id TEXT(256));
CREATE TABLE carpark_areas (fid INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, geom POLYGON,
    heading REAL, creator_id TEXT(256));
CREATE TABLE crosswalks (fid INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, geom POLYGON,
    intersection_fids TEXT(256), lane_fids TEXT(256), creator_id TEXT(256), is_marked BOOLEAN);
"""


def token(kind: str, number: int = 0) -> bytes:
    """Eight bytes, as all tokens have."""
    return kind.encode()[:4].ljust(4, b"-") + struct.pack(">I", number)


def scene_token(number: int = 0) -> bytes:
    return token("scen", number)


def write_log(
    path: Path,
    agents: Mapping[str, tuple[str, Mover]] = AGENTS,
    scenes: int = 1,
    frames: int = FRAMES,
    after: Sequence[str] = (),
    map_version: str = "sg-one-north",
) -> str:
    """A log of scenes that follow each other; ``after`` is SQL that spoils it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time_us = times_us(scenes * frames)
    with closing(sqlite3.connect(path)) as file, file:
        file.executescript(LOG_SCHEMA)
        insert(
            *(file, "log", token("log"), "veh-35", "2021-05-12", START_US),
            *(path.stem, "sg-one-north", map_version),
        )
        for number, name in enumerate(CATEGORIES):
            insert(file, "category", token("cat", number), name, f"{name}.")
        for number in range(scenes):
            name, goal = f"scene-{number:04d}", token("ego", 0)
            insert(file, "scene", scene_token(number), token("log"), name, goal, "1 2")
        write_sweeps(file, time_us, frames)
        for number, (kind, mover) in enumerate(agents.values()):
            write_track(file, number, kind, mover, time_us)
        for change in after:
            file.execute(change)
    return str(path)


def times_us(frames: int) -> np.ndarray:
    """Twenty a second, with the jitter of a real lidar."""
    jitter = np.random.default_rng(0).integers(-2_000, 2_000, frames)
    return START_US + np.arange(frames) * 50_000 + jitter


def write_sweeps(file: sqlite3.Connection, time_us: np.ndarray, frames: int) -> None:
    """Sweeps and the poses of the rear axle, on a tilted road."""
    state = EGO.state((time_us - START_US) * 1e-6)
    x, y, z, w = (Rotation.from_euler("z", state[:, 2:3]) * TILT).as_quat().T
    for n, (moment, pose) in enumerate(zip(time_us.tolist(), state.tolist(), strict=True)):
        turned = (float(w[n]), float(x[n]), float(y[n]), float(z[n]))
        insert(
            *(file, "ego_pose", token("ego", n), moment, pose[0], pose[1], 6.0, *turned),
            *([0.0] * 9 + [ZONE, token("log")]),
        )
        insert(
            *(file, "lidar_pc", token("pc", n), None, None, token("ego", n), token("lid")),
            *(scene_token(n // frames), f"{n}.pcd", moment),
        )


def write_track(
    file: sqlite3.Connection, number: int, kind: str, mover: Mover, time_us: np.ndarray
) -> None:
    size = (mover.width, mover.length, 1.6)
    insert(file, "track", token("trk", number), token("cat", CATEGORIES.index(kind)), *size)
    state = mover.state((time_us - START_US) * 1e-6)
    for n, (x, y, yaw, *_) in enumerate(state.tolist()):
        insert(
            *(file, "lidar_box", token("b", number * 100_000 + n), token("pc", n)),
            *(token("trk", number), None, None, x, y, 6.5, *size, 0.0, 0.0, 0.0, yaw),
            0.25 + 0.5 * number,
        )


def insert(file: sqlite3.Connection, table: str, *values: Any) -> None:
    marks = ", ".join("?" * len(values))
    file.execute(f"INSERT INTO {table} VALUES ({marks})", values)


def degrees(metres: np.ndarray) -> np.ndarray:
    """Longitude and latitude ``(n, 2)`` of places near :data:`CENTRE`, found by trying."""
    found = np.full(metres.shape, [103.8, 1.28])
    for _ in range(30):
        found += (metres - utm_48_north(*found.T).T) / [111_000.0, 110_500.0]
    assert np.abs(metres - utm_48_north(*found.T).T).max() < 1e-7
    return found


def shape_blob(shape: shapely.Geometry, srs_id: int = 4326, envelope: int = 1) -> bytes:
    """A shape as GeoPackages have it, with an envelope, or without (0)."""
    low_x, low_y, high_x, high_y = shape.bounds
    box = struct.pack("<4d", low_x, high_x, low_y, high_y) if envelope else b""
    head = b"GP\0" + bytes([1 | envelope << 1]) + struct.pack("<i", srs_id)
    return head + box + bytes(shapely.to_wkb(shape))


def city() -> dict[str, list[tuple[shapely.Geometry, tuple[Any, ...]]]]:
    """Shapes by layer, in metres from :data:`CENTRE`, with their further columns."""

    def box(*bounds: float) -> shapely.Geometry:
        return shapely.box(*bounds)

    road = shapely.LineString([(-30, -2), (0, -2), (30, -2)])
    connector = shapely.LineString([(30, -2), (38, 2), (40, 10)])
    walk = shapely.LineString([(-30, 9), (30, 9)])
    return {
        "baseline_paths": [
            (road, (0, "a", 7, None, None)),
            (connector, (1, "a", None, 9, None)),
            (walk, (2, "a", None, None, None)),
        ],
        "road_segments": [(box(-30, -4, 30, 4), ("1",))],
        "intersections": [(box(30, -4, 50, 16), ("a", 1, 0))],
        "generic_drivable_areas": [(box(-30, 4, -20, 10), ("a",))],
        "carpark_areas": [(box(0, 4, 10, 8), (0.0, "a"))],
        "crosswalks": [(box(10, -4, 13, 4), ("1", "7", "a", 1))],
    }


def write_map(
    folder: Path,
    shapes: Mapping[str, list[tuple[shapely.Geometry, tuple[Any, ...]]]] | None = None,
    srs_id: int = 4326,
    zone: str = "epsg:32648",
    after: Sequence[str] = (),
    location: str = "sg-one-north",
) -> str:
    """A map in ``folder/maps``, by default in longitude and latitude."""
    path = folder / "maps" / location / "9.17.1964" / "map.gpkg"
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as file, file:
        file.executescript(MAP_SCHEMA)
        for number in (4326, ZONE):
            insert(file, "gpkg_spatial_ref_sys", "", number, "EPSG", number, "", "")
        insert(file, "meta", 1, "geographicCoordSystem", "epsg:4326")
        insert(file, "meta", 2, "projectedCoordSystem", zone)
        for layer, features in (city() if shapes is None else shapes).items():
            insert(file, "gpkg_geometry_columns", layer, "geom", "GEOMETRY", srs_id, 0, 0)
            for shape, columns in features:
                moved = shapely.transform(shape, lambda xy: xy + CENTRE)
                if srs_id == 4326:
                    moved = shapely.transform(moved, degrees)
                insert(file, layer, None, shape_blob(moved, srs_id), *columns)
        for change in after:
            file.execute(change)
    return str(path)
