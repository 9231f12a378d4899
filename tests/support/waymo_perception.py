"""Tiny segments of Waymo Open Dataset Perception, version 2, in its columns and types."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet as pq
from scipy.spatial.transform import Rotation

from tests.support.stores import Mover

START_US = 1_552_440_195_362_591
FRAMES = 45
SEGMENT = "10023947602400723454_1120_000_1140_000"
EGO = Mover(860.0, 15568.0, yaw=-0.8, speed=6.0, turn_rate=0.15)
CAR = Mover(872.0, 15560.0, yaw=2.8, speed=7.0, turn_rate=-0.1)
WALKER = Mover(858.0, 15574.0, yaw=1.0, speed=1.2, length=0.7, width=0.8)
AGENTS = {"car": (1, CAR), "walker": (2, WALKER)}
TILT = Rotation.from_euler("xyz", [0.02, -0.03, 0.0])  # the road is not level

KEYS = [("key.segment_context_name", pa.string()), ("key.frame_timestamp_micros", pa.int64())]
POSE_SCHEMA = pa.schema(
    [
        *KEYS,
        ("[VehiclePoseComponent].world_from_vehicle.transform", pa.list_(pa.float64(), 16)),
    ]
)
_COMPONENT = "[LiDARBoxComponent]"
BOX_SCHEMA = pa.schema(
    [
        *KEYS,
        ("key.laser_object_id", pa.string()),
        *((f"{_COMPONENT}.box.center.{axis}", pa.float64()) for axis in "xyz"),
        *((f"{_COMPONENT}.box.size.{axis}", pa.float64()) for axis in "xyz"),
        (f"{_COMPONENT}.box.heading", pa.float64()),
        (f"{_COMPONENT}.type", pa.int8()),
        (f"{_COMPONENT}.num_lidar_points_in_box", pa.int64()),
        (f"{_COMPONENT}.num_top_lidar_points_in_box", pa.int64()),
        *((f"{_COMPONENT}.speed.{axis}", pa.float64()) for axis in "xyz"),
        *((f"{_COMPONENT}.acceleration.{axis}", pa.float64()) for axis in "xyz"),
        (f"{_COMPONENT}.difficulty_level.detection", pa.int8()),
        (f"{_COMPONENT}.difficulty_level.tracking", pa.int8()),
    ]
)


def times_us(frames: int = FRAMES) -> np.ndarray:
    jitter = np.random.default_rng(0).integers(-100, 100, frames)
    return START_US + np.arange(frames) * 100_000 + jitter


def _turned(time_us: np.ndarray) -> tuple[np.ndarray, Rotation]:
    state = EGO.state((time_us - START_US) * 1e-6)
    return state, Rotation.from_euler("z", state[:, 2:3]) * TILT


def pose_rows(time_us: np.ndarray) -> list[dict[str, Any]]:
    """The vehicle's pose at each time, on a tilted road."""
    state, rotation = _turned(time_us)
    world = np.tile(np.eye(4), (len(time_us), 1, 1))
    world[:, :3, :3] = rotation.as_matrix()
    world[:, :2, 3], world[:, 2, 3] = state[:, :2], -651.0
    return [
        dict(zip(POSE_SCHEMA.names, (SEGMENT, int(moment), matrix.ravel().tolist()), strict=True))
        for moment, matrix in zip(time_us, world, strict=True)
    ]


def box_rows(
    time_us: np.ndarray, agents: Mapping[str, tuple[int, Mover]] = AGENTS
) -> list[dict[str, Any]]:
    """Boxes in the vehicle's frame of each moment, whose roads are level there."""
    ego, rotation = _turned(time_us)
    rows = []
    for name, (kind, mover) in agents.items():
        state = mover.state((time_us - START_US) * 1e-6)
        offset = np.column_stack([state[:, :2] - ego[:, :2], np.zeros(len(state))])
        place = rotation.inv().apply(offset)
        ahead = rotation.inv().apply(Rotation.from_euler("z", state[:, 2:3]).apply([1, 0, 0]))
        yaw = np.arctan2(ahead[:, 1], ahead[:, 0])
        for n, moment in enumerate(time_us):
            values = (
                *(SEGMENT, int(moment), name, *place[n], mover.length, mover.width, 1.6, yaw[n]),
                *(kind, 100, 50, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1, 1),
            )
            rows.append(dict(zip(BOX_SCHEMA.names, values, strict=True)))
    return rows


def write_segment(
    root: Path,
    boxes: list[dict[str, Any]] | pa.Table | None = None,
    poses: list[dict[str, Any]] | pa.Table | None = None,
    name: str = SEGMENT,
) -> str:
    """A segment below a folder, such as ``training``; returns the path of its boxes."""
    time_us = times_us()
    made = {
        "lidar_box": (BOX_SCHEMA, box_rows(time_us) if boxes is None else boxes),
        "vehicle_pose": (POSE_SCHEMA, pose_rows(time_us) if poses is None else poses),
    }
    for folder, (schema, rows) in made.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows, schema)
        pq.write_table(table, root / folder / f"{name}.parquet")
    return str(root / "lidar_box" / f"{name}.parquet")
