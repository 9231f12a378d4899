"""Tables of tracks as their publishers write them, and another reading of them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from data_tools.scene import Scene
from data_tools.sources import source
from forecast.angles import wrap_angle


def read(preset: str, *paths: Path, dt_s: float) -> Scene:
    """The one scene of some tables."""
    origin = source("tracks", {}, preset)
    (unit,) = origin.find([str(path) for path in paths])
    return origin.read(unit, dt_s)


def rows_of(path: Path, columns: str = "", delimiter: str = ",") -> list[dict[str, str]]:
    """A file's rows by the csv module; a blank as delimiter stands for any white space."""
    with path.open(newline="") as file:
        lines = [" ".join(line.split()) for line in file] if delimiter == " " else list(file)
    return list(csv.DictReader(lines, columns.split(",") if columns else None, delimiter=delimiter))


def state_at(scene: Scene, track: str, time_s: float) -> np.ndarray:
    """Where a track is at a time, and how large."""
    frame = (time_s - scene.time_s[0]) / scene.dt_s
    assert frame == pytest.approx(round(frame), abs=1e-3)
    return scene.state[scene.track_id.index(track), round(frame)]


def assert_seen_where_rows_are(scene: Scene, counts: dict[str, int]) -> None:
    """Of gapless tracks: each has as many frames as rows."""
    seen = np.isfinite(scene.state).any(axis=-1).sum(axis=1)
    assert dict(zip(scene.track_id, seen.tolist(), strict=True)) == counts


def drives(count: int, frames: int, seed: int = 0) -> np.ndarray:
    """``(count, frames, 3)`` x, y, yaw of agents that turn steadily at 4 to 12 m/s, 0.1 s apart."""
    generator = np.random.default_rng(seed)
    turn, speed = generator.uniform(-0.3, 0.3, count), generator.uniform(4, 12, count)
    yaw = generator.uniform(-3, 3, count)[:, None] + turn[:, None] * 0.1 * np.arange(frames)
    step = 0.1 * speed[:, None, None] * np.stack([np.cos(yaw), np.sin(yaw)], axis=-1)
    place = generator.uniform(-50, 50, (count, 1, 2)) + np.cumsum(step, axis=1)
    return np.concatenate([place, wrap_angle(yaw)[..., None]], axis=-1)
