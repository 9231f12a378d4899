"""Waymo Open Motion scenarios as GPUDrive's JSON, made up for tests."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.stores import Mover

STEPS, STEP_S = 91, 0.1
NOWHERE = {"x": -10000.0, "y": -10000.0}


def agent(
    mover: Mover,
    kind: str = "vehicle",
    valid: Sequence[int] | None = None,
    degrees: bool = False,
    **extra: Any,
) -> dict[str, Any]:
    """An object of a scenario: a mover whose pose is given at step 45.

    Args:
        mover: Pose, speed, turn rate and size.
        kind: Its type.
        valid: Steps at which it is seen; all of them if left out.
        degrees: The unit of its heading.
        extra: Further keys, or others in place of these.
    """
    states = mover.state((np.arange(STEPS) - STEPS // 2) * STEP_S)
    seen = [valid is None or step in valid for step in range(STEPS)]
    places = [
        {"x": float(x), "y": float(y)} if s else NOWHERE
        for s, (x, y) in zip(seen, states[:, :2], strict=True)
    ]
    heading = np.degrees(states[:, 2]) if degrees else states[:, 2]
    return {
        "position": places,
        "heading": [float(h) if s else -10000.0 for s, h in zip(seen, heading, strict=True)],
        "velocity": [{"x": 0.0, "y": 0.0}] * STEPS,
        "valid": seen,
        "length": mover.length,
        "width": mover.width,
        "goalPosition": {"x": 0.0, "y": 0.0},
        "type": kind,
        **extra,
    }


def road(kind: str, points: Sequence[tuple[float, float]], **extra: Any) -> dict[str, Any]:
    """A road element of a scenario."""
    geometry = [{"x": x, "y": y} for x, y in points]
    return {"type": kind, "geometry": geometry, **extra}


def scenario(
    objects: Sequence[dict[str, Any]],
    roads: Sequence[dict[str, Any]] = (),
    ego: int | None = 0,
) -> dict[str, Any]:
    """A scenario; ``ego=None`` leaves the metadata out that would name it."""
    content: dict[str, Any] = {
        "name": "made-up",
        "objects": list(objects),
        "roads": list(roads),
        "tl_states": {},
    }
    return content if ego is None else {**content, "metadata": {"sdc_track_index": ego}}


def write(path: Path, content: Any) -> str:
    """Writes JSON, gzipped if the name says so."""
    text = json.dumps(content).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return str(path)


def crossing(seed: int, agents: int = 6) -> dict[str, Any]:
    """A scenario of random traffic around a moving ego, with a small map."""
    random = np.random.default_rng(seed)
    others = [
        agent(
            Mover(
                *random.uniform(-20, 20, 2),
                yaw=random.uniform(-3, 3),
                speed=random.uniform(0, 10),
                turn_rate=random.uniform(-0.3, 0.3),
            ),
            kind=["vehicle", "pedestrian", "cyclist", "other"][index % 4],
        )
        for index in range(agents)
    ]
    roads = [
        road("lane", [(-40.0, 0.0), (0.0, 0.0), (40.0, 5.0)]),
        road("road_edge", [(-40.0, 4.0), (40.0, 9.0)]),
        road("crosswalk", [(10.0, -3.0), (13.0, -3.0), (13.0, 3.0), (10.0, 3.0)]),
    ]
    return scenario([agent(Mover(0.0, 0.0, speed=5.0)), *others], roads)
