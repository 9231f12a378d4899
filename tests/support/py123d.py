"""Tiny logs and maps as py123d 0.7.0 writes them: its columns, types, metadata and packing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pyarrow as pa
import shapely
from scipy.spatial.transform import Rotation

from tests.support.stores import Mover

START_US = 1_620_857_890_000_000
FRAMES = 45
EGO = Mover(500.0, 200.0, yaw=0.4, speed=6.0, turn_rate=0.15)  # the middle of the car
CAR = Mover(512.0, 208.0, yaw=2.8, speed=7.0, turn_rate=-0.1)
WALKER = Mover(505.0, 194.0, yaw=1.0, speed=1.2, length=0.7, width=0.8)
AGENTS = {"car": (0, CAR), "walker": (2, WALKER)}  # by NuPlanBoxDetectionLabel
NUPLAN_LABELS = "py123d.parser.registry.NuPlanBoxDetectionLabel"
MIDDLE = [1.461, 0.0, 0.45, 1.0, 0.0, 0.0, 0.0]  # in the frame of the IMU
IDENTITY = [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0]
VEHICLE = {
    "vehicle_name": "nuplan_chrysler_pacifica",
    **{"width": 2.297, "length": 5.176, "height": 1.777, "wheel_base": 3.089},
    **{"center_to_imu_se3": MIDDLE, "rear_axle_to_imu_se3": IDENTITY},
}
LOG = {
    **{"dataset": "nuplan", "split": "nuplan_val", "log_name": "a", "location": "sg-one-north"},
    **{"map_metadata": None, "version": "0.7.0"},
}
BOX_TYPES = {
    "timestamp_us": pa.int64(),
    "bounding_box_se3": pa.list_(pa.list_(pa.float64(), 10)),
    "track_token": pa.list_(pa.string()),
    "label": pa.list_(pa.uint16()),
    "velocity_3d": pa.list_(pa.list_(pa.float64(), 3)),
    "num_lidar_points": pa.list_(pa.int32()),
}
EGO_TYPES = {
    "timestamp_us": pa.int64(),
    "imu_se3": pa.list_(pa.float64(), 7),
    "dynamic_state_se3": pa.list_(pa.float64(), 9),
}


def times_us(frames: int = FRAMES, step_us: int = 100_000) -> np.ndarray:
    jitter = np.random.default_rng(0).integers(-2_000, 2_000, frames)
    return START_US + np.arange(frames) * step_us + jitter


def box_rows(
    time_us: np.ndarray, agents: Mapping[str, tuple[int, Mover]] = AGENTS
) -> list[dict[str, Any]]:
    """One row a frame, with lists of its boxes in the world."""
    rows: list[dict[str, Any]] = []
    for moment in time_us.tolist():
        boxes = []
        for _, mover in agents.values():
            x, y, yaw, length, width = mover.state(np.array([(moment - START_US) * 1e-6]))[0]
            turned = [np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)]
            boxes.append([x, y, 6.5, *turned, length, width, 1.6])
        rows.append(
            {
                "timestamp_us": moment,
                "bounding_box_se3": boxes,
                "track_token": list(agents),
                "label": [label for label, _ in agents.values()],
                "velocity_3d": [None] * len(agents),
                "num_lidar_points": [None] * len(agents),
            }
        )
    return rows


def ego_rows(time_us: np.ndarray) -> list[dict[str, Any]]:
    """The IMU's poses, behind and below the middle of the car."""
    state = EGO.state((time_us - START_US) * 1e-6)
    turned = Rotation.from_euler("z", state[:, 2:3])
    place = np.column_stack([state[:, :2], np.full(len(state), 6.0)]) - turned.apply(MIDDLE[:3])
    x, y, z, w = turned.as_quat().T
    return [
        {
            "timestamp_us": moment,
            "imu_se3": [*place[n], w[n], x[n], y[n], z[n]],
            "dynamic_state_se3": [0.0] * 9,
        }
        for n, moment in enumerate(time_us.tolist())
    ]


def write_table(
    path: Path,
    rows: list[dict[str, Any]],
    types: Mapping[str, pa.DataType],
    metadata: Any,
    compression: str | None = None,
    prefix: bool = True,
) -> None:
    """An Arrow IPC file; columns begin with the file's name, as those of logs do."""
    start = f"{path.stem}." if prefix else ""
    content = {b"metadata": msgpack.packb(metadata, use_bin_type=True)}
    schema = pa.schema([(f"{start}{name}", kind) for name, kind in types.items()], content)
    named = [{f"{start}{name}": value for name, value in row.items()} for row in rows]
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema, options=options) as out:
        for begin in range(0, len(rows), 20):  # several batches
            out.write_batch(pa.RecordBatch.from_pylist(named[begin : begin + 20], schema))


def write_log(
    root: Path,
    boxes: list[dict[str, Any]] | None = None,
    ego: list[dict[str, Any]] | None = None,
    labels: Any = NUPLAN_LABELS,
    vehicle: Any = VEHICLE,
    name: str = "a",
    compression: str | None = "zstd",
) -> str:
    """A log in ``root/logs/nuplan_val/NAME``; returns the path of its boxes."""
    folder = root / "logs/nuplan_val" / name
    folder.mkdir(parents=True)
    path, time_us = folder / "box_detections_se3.arrow", times_us()
    about = {"box_detection_label_class": labels}
    rows = box_rows(time_us) if boxes is None else boxes
    write_table(path, rows, BOX_TYPES, about, compression)
    rows = ego_rows(time_us) if ego is None else ego
    write_table(folder / "ego_state_se3.arrow", rows, EGO_TYPES, vehicle, compression)
    sync = [{"timestamp_us": moment} for moment in time_us.tolist()]
    write_table(folder / "sync.arrow", sync, {"timestamp_us": pa.int64()}, LOG)
    return str(path)


def packed(array: Any) -> dict[bytes, Any]:
    """A NumPy array inside msgpack."""
    array = np.asarray(array, np.float64)
    return {
        **{b"__ndarray__": True, b"dtype": array.dtype.str},
        **{b"shape": array.shape, b"data": array.tobytes()},
    }


def city() -> list[tuple[int, dict[str, Any], shapely.Geometry]]:
    """Layer, features and shape of each object."""
    road, walk = shapely.box(470, 196, 530, 204), shapely.box(510, 196, 513, 204)
    line = packed([(470, 198, 1), (500, 198, 1), (530, 198, 1)])
    bike = packed([(470, 205, 1), (530, 205, 1)])
    edge = shapely.LineString([(470, 196, 1), (530, 196, 1)])
    return [
        (0, {"lane_type": 2, "centerline": line}, road),
        (0, {"lane_type": 3, "centerline": bike}, shapely.box(470, 204, 530, 206)),
        (2, {"intersection_type": 1}, shapely.box(530, 196, 550, 216)),
        (3, {}, walk),
        (4, {}, shapely.box(470, 206, 530, 209)),
        (8, {"road_edge_type": 1}, edge),
    ]


def write_map(path: Path, objects: list[tuple[Any, Any, Any]] | None = None) -> None:
    """A map file, in a log's folder or for many logs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "object_id": number,
            "map_layer": layer,
            "features": features if isinstance(features, bytes) else msgpack.packb(features),
            "wkb": shape if isinstance(shape, bytes) else shapely.to_wkb(shape),
        }
        for number, (layer, features, shape) in enumerate(city() if objects is None else objects)
    ]
    types = {
        **{"object_id": pa.int64(), "map_layer": pa.int8()},
        **{"features": pa.binary(), "wkb": pa.binary()},
    }
    write_table(path, rows, types, {"dataset": "nuplan"}, prefix=False)
