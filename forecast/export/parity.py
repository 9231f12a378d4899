"""Parity: what exported graphs say beside what the forecaster itself says, on real histories."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from forecast.errors import DataError
from forecast.export.host import Arrays, HostForecaster
from forecast.loop import rollout
from forecast.model.forecaster import Forecaster
from forecast.model.scene.agents import MoreAgentsThanSlots
from forecast.observations import observations
from forecast.types import BEVSequence, Observation, StepForecast

LIMIT = 1e-3
"""The largest difference that is accepted: metres, radians, or a probability.

Of an expected error of more than a metre it is a share. Of label maps it is the share of cells
that differ: a box's edge may lie on a cell's centre, and a hair to its left or right.
"""

Differences = dict[str, float]


def compare(
    host: HostForecaster, forecaster: Forecaster, histories: Iterable[BEVSequence], horizon: int
) -> Differences:
    """The largest difference of every output.

    Args:
        host: The exported forecaster.
        forecaster: The forecaster itself; of more agents than the host has slots it keeps as many.
        histories: Of one sequence each.
        horizon: Steps of each.
    """
    spec, largest = forecaster.spec, defaultdict[str, float](float)
    forecaster.use(replace(spec, slots=host.slots))
    try:
        for history in histories:
            for differences in _of_history(host, forecaster, history, horizon):
                for name, value in differences.items():
                    # Not a number is worse than any.
                    largest[name] = max(largest[name], np.inf if np.isnan(value) else value)
    finally:
        forecaster.use(spec)
    return dict(largest)


def _of_history(
    host: HostForecaster, forecaster: Forecaster, history: BEVSequence, horizon: int
) -> Iterator[Differences]:
    observe_history(host, history)
    steps = host.forecast(horizon, history.dt_s, draw=True)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore", MoreAgentsThanSlots)
        for own, exported in zip(rollout(forecaster, history, horizon), steps, strict=True):
            yield differences_of(own, exported)


def observe_history(host: HostForecaster, history: BEVSequence) -> None:
    """Gives a history to an exported forecaster, as the loop gives it to the forecaster itself."""
    points = None if history.map_point is None else history.map_point[0]
    host.start(
        None if history.map is None or not history.map.shape[1] else history.map[0].numpy(),
        None if points is None else points[points.isfinite().all(1)].numpy(),
    )
    for frame in observations(history):
        host.observe(**observe_arguments(frame))


def observe_arguments(frame: Observation) -> dict[str, Any]:
    """What the host is given of an observation: the agents that were seen, without padding.

    Raises:
        DataError: It has no tracks: agents that are known by masks alone are not exported.
    """
    ids, labels, boxes = frame.track_id, frame.track_class, frame.track_state
    if ids is None or labels is None or boxes is None:
        raise DataError(
            "tracks, which an exported forecaster reads", "rasters alone", "use another store"
        )
    there = frame.instance is not None and bool(boxes.shape[1])
    seen = boxes[0].isfinite().all(1) & (labels[0] > 0)
    drawn = np.zeros(0, int) if frame.instance is None else np.unique(frame.instance.numpy())
    return {
        "time_s": float(frame.time_s[0]),
        "ego_pose": frame.ego_pose[0].numpy(),
        "ids": ids[0][seen].numpy(),
        "labels": labels[0][seen].numpy(),
        "boxes": boxes[0][seen].numpy(),
        "raster": there and frame.semantic is not None,
        "raster_ids": drawn[drawn > 0],
        "moved": np.zeros(3) if frame.moved is None else frame.moved[0].numpy(),
    }


def differences_of(own: StepForecast, exported: Arrays) -> Differences:
    """How far one step is from the forecaster's own."""
    said = own.to_numpy()
    ids = said["ids"][0]
    slots = exported["id"]
    if set(ids[ids > 0]) != set(slots[slots > 0]):
        return {"agents": np.inf}
    place = {one: slot for slot, one in enumerate(slots) if one > 0}
    rows = [place[one] for one in ids[ids > 0]]
    agents = {name: said[name][0][ids > 0] for name in ("pose", "existence", "uncertainty")}
    pose = exported["pose"][rows] - agents["pose"]
    turned = np.remainder(pose[:, 2] + np.pi, 2 * np.pi) - np.pi
    error = agents["uncertainty"]
    same = exported["instance"] == said["instance"][0]
    flow = (exported["flow"] - said["flow"][0]) * same
    return {
        "pose_m": _largest(pose[:, :2]),
        "yaw_rad": _largest(turned),
        "existence": _largest(exported["existence"][rows] - agents["existence"]),
        "uncertainty_m": _largest((exported["uncertainty"][rows] - error) / np.maximum(error, 1)),
        "occupancy": _largest(exported["occupancy"] - said["occupancy"][0]),
        "flow_m": _largest(flow),
        "instance_cells": float((~same).mean()),
        "semantic_cells": float((exported["semantic"] != said["semantic"][0]).mean()),
    }


def _largest(values: NDArray[Any]) -> float:
    return float(np.abs(values).max()) if values.size else 0.0
