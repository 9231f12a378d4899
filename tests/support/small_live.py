"""Small live forecasters, and traffic around an ego that drives far from the world's origin."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from data_tools.geometry import poses_to_world
from forecast.inference.models import LoadedModel, Provenance
from forecast.live import Forecaster, LiveForecast, Tracks
from forecast.schema import DEFAULT_CLASSES, MAP_LAYERS
from tests.support.rollouts import MODELS
from tests.support.sequences import forecaster
from tests.support.stores import GRID, Mover

WORLD = np.array([3.2e6, -5.4e6, 2.0])
MOVERS = {
    "car": Mover(4.0, 3.0, 0.0, 6.0),
    ("lidar", 4): Mover(-6.0, -4.0, 1.5, 3.0, 0.2),
    12: Mover(8.0, -6.0, 3.0, 0.0, length=0.8, width=0.8, label=2),
}


def loaded(kind: str = "tracked", **changes: Any) -> LoadedModel:
    model = forecaster(**changes) if changes else MODELS[kind]()
    return LoadedModel(
        model, Provenance("small"), torch.device("cpu"), DEFAULT_CLASSES, MAP_LAYERS, 0, MAP_LAYERS
    )


def live(kind: str = "without raster", **options: Any) -> Forecaster:
    return Forecaster(loaded(kind), grid=GRID, **options)


def ego_at(time_s: float, world: np.ndarray = WORLD) -> np.ndarray:
    """Driving ahead at 4 m/s in a wide bend."""
    yaw = 0.1 * time_s
    return poses_to_world(np.array([40 * math.sin(yaw), 40 - 40 * math.cos(yaw), yaw]), world)


def tracks_at(
    time_s: float, movers: dict[Any, Mover] = MOVERS, world: np.ndarray = WORLD
) -> Tracks:
    state = np.array([mover.state(np.array([time_s]))[0] for mover in movers.values()])
    state = state.reshape(-1, 5)
    x, y, yaw = poses_to_world(state[:, :3], world).T
    names = [DEFAULT_CLASSES[mover.label - 1] for mover in movers.values()]
    return Tracks(list(movers), x, y, yaw, state[:, 3], state[:, 4], names)


def drive(
    to: Forecaster, until_s: float = 1.0, step_s: float = 0.25, world: np.ndarray = WORLD
) -> Forecaster:
    for k in range(round(until_s / step_s) + 1):
        time_s = k * step_s
        to.observe(time_s, ego_pose=ego_at(time_s, world), tracks=tracks_at(time_s, world=world))
    return to


def assert_alike(one: LiveForecast, other: LiveForecast, atol: float = 0.0) -> None:
    assert one.ids == other.ids
    np.testing.assert_allclose(one.pose, other.pose, atol=atol, rtol=0)
    np.testing.assert_allclose(one.existence, other.existence, atol=max(atol, 1e-6), rtol=0)
    assert (one.instance != other.instance).mean() <= (1e-3 if atol else 0.0)
