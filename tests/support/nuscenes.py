"""A tiny data set in the table layout of nuScenes, for tests."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.stores import Mover

FRAMES = 12
START_US = 1_532_402_927_647_951
EGO = Mover(400.0, 1100.0, yaw=-0.7, speed=5.0, turn_rate=0.2)
CAR = Mover(412.0, 1100.0, yaw=2.0, speed=6.0, turn_rate=-0.15)
Tables = dict[str, list[dict[str, Any]]]


def quaternion(yaw: float) -> list[float]:
    return [float(np.cos(yaw / 2)), 0.0, 0.0, float(np.sin(yaw / 2))]


def times_us(frames: int = FRAMES) -> np.ndarray:
    jitter = np.random.default_rng(0).integers(-50_000, 50_000, frames)
    return START_US + np.arange(frames) * 500_000 + jitter


def add_scene(tables: Tables, name: str, agents: dict[str, tuple[str, Mover]]) -> None:
    """Samples, sweeps, poses and annotations of one scene."""
    times = times_us()
    tokens = [f"{name}-sample-{i}" for i in range(FRAMES)]
    scene = {"token": f"{name}-token", "name": name, "log_token": "log", "description": ""}
    scene |= {"nbr_samples": FRAMES, "first_sample_token": tokens[0]}
    tables["scene"].append(scene | {"last_sample_token": tokens[-1]})
    for i, (token, time) in enumerate(zip(tokens, times, strict=True)):
        links = {
            "prev": tokens[i - 1] if i else "",
            "next": tokens[i + 1] if i + 1 < FRAMES else "",
        }
        own = {"token": token, "timestamp": int(time), "scene_token": f"{name}-token"}
        tables["sample"].append(own | links)
        x, y, yaw, *_ = EGO.state(np.array([0.5 * i]))[0]
        for sweep, channel, key, off in (
            ("key", "lidar", True, 0.0),
            ("between", "lidar", False, 3.0),
            ("camera", "camera", True, 9.0),
        ):
            pose = {"token": f"{token}-{sweep}", "timestamp": int(time)}
            pose |= {"translation": [x + off, y, 0.0], "rotation": quaternion(yaw)}
            tables["ego_pose"].append(pose)
            data = {"token": f"{token}-{sweep}-data", "sample_token": token}
            data |= {"ego_pose_token": pose["token"], "calibrated_sensor_token": f"on-{channel}"}
            tables["sample_data"].append(data | {"is_key_frame": key, "timestamp": int(time)})
    for agent, (category, mover) in agents.items():
        instance = f"{name}-{agent}"
        tables["instance"].append({"token": instance, "category_token": category})
        for i, token in enumerate(tokens):
            x, y, yaw, length, width = map(float, mover.state(np.array([0.5 * i]))[0])
            box = {"token": f"{instance}-{i}", "sample_token": token, "instance_token": instance}
            box |= {"translation": [x, y, 1.0], "size": [width, length, 1.6]}
            box |= {"rotation": quaternion(yaw), "visibility_token": "4", "attribute_tokens": []}
            tables["sample_annotation"].append(box)


def version(scenes: dict[str, dict[str, tuple[str, Mover]]] | None = None) -> Tables:
    """The tables of a version; agents by name, with their category."""
    chosen = scenes or {"scene-0061": {"car": ("vehicle.car", CAR)}}
    names = {category for agents in chosen.values() for category, _ in agents.values()}
    tables: Tables = {
        "category": [{"token": name, "name": name} for name in sorted(names)],
        "attribute": [],
        "visibility": [{"token": str(level), "level": "v"} for level in range(1, 5)],
        "sensor": [
            {"token": "lidar", "channel": "LIDAR_TOP", "modality": "lidar"},
            {"token": "camera", "channel": "CAM_FRONT", "modality": "camera"},
        ],
        "calibrated_sensor": [
            {"token": f"on-{name}", "sensor_token": name} for name in ("lidar", "camera")
        ],
        "log": [{"token": "log", "location": "singapore-onenorth"}],
        **{n: [] for n in ("scene", "sample", "sample_data", "ego_pose", "instance")},
        "sample_annotation": [],
    }
    for name, agents in chosen.items():
        add_scene(tables, name, agents)
    return copy.deepcopy(tables)


def write_version(root: Path, tables: Tables | None = None, name: str = "v1.0-mini") -> str:
    """A version under a root; returns its directory."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    for table, records in (version() if tables is None else tables).items():
        (folder / f"{table}.json").write_text(json.dumps(records))
    return str(folder)


def map_expansion(**changes: Any) -> dict[str, Any]:
    """Two lanes (one bent), an area with a hole, a crossing, and an area far away."""
    nodes = {
        "area": [(380, 1080), (440, 1080), (440, 1120), (380, 1120)],
        "hole": [(400, 1104), (410, 1104), (410, 1114), (400, 1114)],
        "crossing": [(390, 1090), (394, 1090), (394, 1100), (390, 1100)],
        "far": [(5000, 0), (5010, 0), (5010, 10), (5000, 10)],
    }
    straight = {"start_pose": [390, 1085, 0.0], "shape": "LSR", "radius": 50.0}
    bent = {"start_pose": [400, 1090, 0.5], "shape": "LSR", "radius": 20.0}
    content: dict[str, Any] = {
        "version": "1.3",
        "node": [
            {"token": f"{name}{i}", "x": float(x), "y": float(y)}
            for name, corners in nodes.items()
            for i, (x, y) in enumerate(corners)
        ],
        "polygon": [
            {
                "token": name,
                "exterior_node_tokens": [f"{name}{i}" for i in range(4)],
                "holes": [{"node_tokens": [f"hole{i}" for i in range(4)]}] * (name == "area"),
            }
            for name in nodes
        ],
        "drivable_area": [{"token": "d", "polygon_tokens": ["area", "far"]}],
        "ped_crossing": [{"token": "p", "polygon_token": "crossing"}],
        "arcline_path_3": {
            "lane": [straight | {"segment_length": [0.0, 20.0, 0.0]}],
            "connector": [bent | {"segment_length": [10.0, 5.0, 8.0]}],
            "empty": [],
        },
    }
    return content | changes


def write_map(root: Path, content: Any = None) -> Path:
    folder = root / "maps" / "expansion"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "singapore-onenorth.json"
    path.write_text(json.dumps(map_expansion() if content is None else content))
    return path
