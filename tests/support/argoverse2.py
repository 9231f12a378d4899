"""Tiny logs and scenarios in the layout of Argoverse 2, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import feather
from pyarrow import parquet as pq
from scipy.spatial.transform import Rotation

from tests.support.stores import Mover

START_NS = 315_966_253_660_357_000
FRAMES = 45
EGO = Mover(500.0, 200.0, yaw=0.4, speed=6.0, turn_rate=0.15)
CAR = Mover(520.0, 210.0, yaw=2.8, speed=7.0, turn_rate=-0.1)
TILT = Rotation.from_euler("xyz", [0.02, -0.03, 0.0])  # the road is not level


def points(*places: tuple[float, float]) -> list[dict[str, float]]:
    return [{"x": float(x), "y": float(y), "z": 20.0} for x, y in places]


def vector_map(**changes: Any) -> dict[str, Any]:
    """A straight lane of two bins, a bike lane with a centre line, two areas and a crossing."""
    straight = {
        "id": 1,
        "lane_type": "VEHICLE",
        "left_lane_boundary": points((500, 204), (540, 204)),
        "right_lane_boundary": points((500, 200), (510, 200), (540, 200)),
    }
    bike = {"id": 2, "lane_type": "BIKE", "centerline": points((540, 198), (500, 198))}
    content: dict[str, Any] = {
        "lane_segments": {"1": straight, "2": bike},
        "drivable_areas": {
            "3": {"area_boundary": points((500, 200), (520, 200), (520, 204), (500, 204))},
            "4": {"area_boundary": points((520, 200), (540, 200), (540, 204), (520, 204))},
        },
        "pedestrian_crossings": {
            "5": {"edge1": points((510, 200), (510, 204)), "edge2": points((513, 200), (513, 204))}
        },
    }
    return content | changes


def times_ns(jitter: bool = True) -> np.ndarray:
    jitter_ns = np.random.default_rng(0).integers(-3_000_000, 3_000_000, FRAMES) * jitter
    return START_NS + np.arange(FRAMES) * 100_000_000 + jitter_ns


def poses(time_ns: np.ndarray) -> dict[str, Any]:
    """The ego's pose at each time, on a tilted road."""
    state = EGO.state((time_ns - START_NS) * 1e-9)
    turned = Rotation.from_euler("z", state[:, 2:3]) * TILT
    return {"timestamp_ns": time_ns, **quaternions(turned)} | places(
        np.column_stack([state[:, :2], np.full(len(state), 20.0)])
    )


def quaternions(rotation: Rotation) -> dict[str, Any]:
    return dict(zip(("qx", "qy", "qz", "qw"), rotation.as_quat().T, strict=True))


def places(xyz: np.ndarray) -> dict[str, Any]:
    return dict(zip(("tx_m", "ty_m", "tz_m"), xyz.T, strict=True))


def annotations(agents: dict[str, tuple[str, Mover]], time_ns: np.ndarray) -> dict[str, Any]:
    """Boxes of agents, by id, in the ego frame of each moment, row by row."""
    ego = EGO.state((time_ns - START_NS) * 1e-9)
    turned = Rotation.from_euler("z", ego[:, 2:3]) * TILT
    columns: dict[str, list[Any]] = {}
    for name, (category, mover) in agents.items():
        state = mover.state((time_ns - START_NS) * 1e-9)
        offset = np.column_stack([state[:, :2] - ego[:, :2], np.zeros(len(state))])
        own = turned.inv() * Rotation.from_euler("z", state[:, 2:3])
        rows = {
            "timestamp_ns": time_ns,
            "track_uuid": [name] * len(time_ns),
            "category": [category] * len(time_ns),
            "length_m": state[:, 3],
            "width_m": state[:, 4],
            **quaternions(own),
            **places(turned.inv().apply(offset)),
        }
        for column, values in rows.items():
            columns.setdefault(column, []).extend(values)
    return columns


def write_log(
    folder: Path,
    boxes: dict[str, Any] | None = None,
    ego: dict[str, Any] | None = None,
    content: Any = None,
    name: str = "annotations.feather",
) -> str:
    """A log in a folder; returns the path of its annotations."""
    time_ns = times_ns()
    (folder / "map").mkdir(parents=True, exist_ok=True)
    boxes = annotations({"car": ("REGULAR_VEHICLE", CAR)}, time_ns) if boxes is None else boxes
    feather.write_feather(pa.table(boxes), folder / name)
    feather.write_feather(
        pa.table(poses(time_ns) if ego is None else ego), folder / "city_SE3_egovehicle.feather"
    )
    text = json.dumps(vector_map() if content is None else content)
    (folder / "map" / "log_map_archive_x____PIT_city_1.json").write_text(text)
    return str(folder / name)


def tracks(agents: dict[str, tuple[str, Mover]], frames: int = 110) -> dict[str, Any]:
    """Rows of a scenario's table."""
    columns: dict[str, list[Any]] = {}
    for name, (kind, mover) in agents.items():
        state = mover.state(np.arange(frames) * 0.1)
        rows = {
            "track_id": [name] * frames,
            "object_type": [kind] * frames,
            "timestep": range(frames),
            "position_x": state[:, 0],
            "position_y": state[:, 1],
            "heading": state[:, 2],
        }
        for column, values in rows.items():
            columns.setdefault(column, []).extend(values)
    return columns


def write_scenario(folder: Path, rows: dict[str, Any] | None = None, content: Any = None) -> str:
    """A scenario in a folder; returns the path of its table."""
    folder.mkdir(parents=True, exist_ok=True)
    agents = {"7": ("vehicle", CAR), "AV": ("vehicle", EGO)}
    path = folder / "scenario_abc.parquet"
    pq.write_table(pa.table(tracks(agents) if rows is None else rows), path)
    text = json.dumps(vector_map() if content is None else content)
    (folder / "log_map_archive_abc.json").write_text(text)
    return str(path)
