"""Made-up futures of several agents: what happened, and several realizations of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from forecast.evaluation.counts import Forecast, Truth
from forecast.grid import BEVGrid
from forecast.storage.consolidation import consolidate
from forecast.storage.stores import open_sequence_store

GRID = BEVGrid(-40.0, 40.0, -40.0, 40.0, 1.0)
CLASSES = ("vehicle", "pedestrian")


def futures(
    seed: int, many: int, agents: int = 5, leads: int = 4, gaps: bool = False, spread: float = 1.5
) -> tuple[Truth, Forecast]:
    """Vehicles and pedestrians that drive about; with gaps, some are not there now and then."""
    rng = np.random.default_rng(seed)
    yaw, speed = rng.uniform(-3, 3, agents), rng.uniform(0, 12, agents) * rng.integers(0, 2, agents)
    time_s = 0.5 * np.arange(leads + 1)
    along = speed[:, None] * time_s
    state = np.zeros((agents, leads + 1, 5))
    state[..., 0] = rng.uniform(-9, 9, (agents, 1)) + np.cos(yaw)[:, None] * along
    state[..., 1] = rng.uniform(-9, 9, (agents, 1)) + np.sin(yaw)[:, None] * along
    state[..., 2], state[..., 3], state[..., 4] = yaw[:, None], 4.5, 2.0
    errors = rng.normal(0, spread, (many + 1, leads, agents, 3)) * (1, 1, 0.2)
    pose = state[:, 1:, :3].swapaxes(0, 1) + errors
    if gaps:
        state[rng.random(state.shape[:2]) < 0.2] = np.nan
        state[:, 0] = np.where(np.isnan(state[:, 0]), 1.0, state[:, 0])
        pose[rng.random(pose.shape[:3]) < 0.2] = np.nan
    nothing = np.zeros((leads + 1, *GRID.shape), np.uint8)
    truth = Truth(nothing, nothing, state, rng.integers(1, 3, agents), f"scene-{seed}")
    return truth, Forecast(nothing[1:], nothing[1:], pose[0], realization_pose=pose[1:])


def add_realizations(
    forecast: str,
    data: str,
    many: int,
    spread_m: float = 1.0,
    weight: NDArray[Any] | None = None,
) -> str:
    """Adds realizations around its poses to a forecast store; who stands, stands in all."""
    group = zarr.open_group(forecast, mode="r+", use_consolidated=False)
    pose: Any = group["pose"]
    sequences, leads, tracks, _ = pose.shape
    rng = np.random.default_rng(0)
    slip = rng.normal(0, spread_m / leads, (sequences, many, 1, tracks, 1))
    step = np.arange(1, leads + 1)[:, None, None]
    now = open_sequence_store(data)[0]
    moved = pose[:, -1, :, :2] - now["track_state"].values[:, :, now.attrs["history"] - 1, :2]
    moves = np.linalg.norm(moved, axis=-1)[:, None, None, :, None] > 0.1
    poses = np.repeat(pose[:][:, None], many, axis=1)
    poses[..., :2] += np.where(moves, slip * step, 0.0)
    dims = ("sequence", "realization", "lead", "track", "pose")
    group.create_array("realization_pose", data=poses, dimension_names=dims)
    if weight is not None:
        both = np.broadcast_to(weight, (sequences, many)).astype(np.float32)
        group.create_array("realization_weight", data=both, dimension_names=dims[:2])
    consolidate(forecast)
    return forecast
