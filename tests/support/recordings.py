"""Real recordings, which stay outside the repository, and what any of them must satisfy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from numpy.typing import NDArray

from data_tools.labels.rasterise import lane_points
from data_tools.scene import Scene
from data_tools.sources import Source
from forecast.angles import wrap_angle
from forecast.errors import DataError


def recording(name: str) -> Path:
    """The folder of a data set beside the repository."""
    return Path(__file__).parents[3] / "shared/data" / name


def needs(name: str) -> pytest.MarkDecorator:
    """Skips a test where a data set is not on this machine."""
    absent = not recording(name).is_dir()
    return pytest.mark.skipif(absent, reason=f"the recordings of {name} are not on this machine")


def heading_errors(state: NDArray[Any], least_m: float = 1.0) -> NDArray[np.float64]:
    """Angles between headings and the motion to the next frame, radians, of what moves.

    Args:
        state: ``(N, T, 5)`` x, y, yaw, length, width.
        least_m: What must be made from one frame to the next to count as moving.
    """
    motion = np.diff(state[..., :2], axis=1)
    moving = np.hypot(motion[..., 0], motion[..., 1]) > least_m
    course = np.arctan2(motion[..., 1], motion[..., 0])
    # Between two frames a turning agent heads along the mean of its two headings.
    turn = wrap_angle(np.diff(state[..., 2], axis=1))
    return np.abs(wrap_angle(course - state[:, :-1, 2] - turn / 2))[moving]


def lane_errors(scene: Scene, *kinds: str) -> NDArray[np.float64]:
    """Angles between headings and the nearest lane, radians, of what moves within 1.5 m of one.

    Args:
        scene: With a map; frames half a second apart.
        kinds: The native labels of those that drive on lanes.
    """
    state = scene.state[[kind in kinds for kind in scene.track_class]]
    motion = np.diff(state[..., :2], axis=1)
    place = state[:, :-1][np.hypot(motion[..., 0], motion[..., 1]) > 1.0]
    lanes = lane_points(scene.map)
    away = np.linalg.norm(place[:, None, :2] - lanes[:, :2], axis=-1)
    along = wrap_angle(lanes[away.argmin(axis=1), 2] - place[:, 2])
    return np.abs(along[away.min(axis=1) < 1.5])


def assert_read_or_refused(origin: Source, unit: str, name: str, dt_s: float = 0.5) -> None:
    """Whatever a unit holds, it gives a scene, or an error that names the file."""
    try:
        made: Scene | str = origin.read(unit, dt_s)
    except DataError as error:
        made = str(error)
    assert isinstance(made, Scene) or name in made


def assert_read_from_elsewhere(origin: Source, path: Path, dt_s: float = 0.5) -> None:
    """What lies on a filesystem that is not this machine's is found and read as it is here.

    Args:
        origin: The source.
        path: A folder of its recordings.
        dt_s: Seconds between frames.
    """
    fsspec.filesystem("memory").put(str(path), str(path), recursive=True)
    here, there = origin.find([str(path)]), origin.find([f"memory://{path}"])
    assert len(here) == len(there) > 0
    for a, b in zip(here, there, strict=True):
        assert b.startswith("memory://")
        np.testing.assert_array_equal(origin.read(a, dt_s).state, origin.read(b, dt_s).state)
