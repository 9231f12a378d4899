"""Writes a forecast store as a ROS 2 bag (MCAP): PredictedObjects and OccupancyGrid of Autoware.

Everything is in the frame of the ego at the present, and stamped with the present: a forecast is
made then, and knows nothing of where the ego will be.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid5

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from data_tools.formats.ros_messages import (
    BOUNDING_BOX,
    LABELS,
    OCCUPANCY,
    PREDICTED,
    definition,
    quick,
)
from forecast.angles import wrap_angle
from forecast.errors import DataError
from forecast.grid import BEVGrid
from forecast.schema import SequenceMeta
from forecast.storage.atomic import staged_file

Array = NDArray[np.floating[Any]]
Message = dict[str, Any]

EGO_FRAME = "base_link"
ROOT = "/forecast"
SPACE = UUID("8f4b7a52-6c7e-5d0b-9a53-2f1d0c6e4a11")  # of ids
MOST_S = 2**31 - 1  # of a stamp
# Our names of classes that are not labels of Autoware's in lower case.
AUTOWARE = {"vehicle": "CAR", "cyclist": "BICYCLE", "motorcyclist": "MOTORCYCLE"}
UNKNOWN_SPREAD = bytes(36 * 8)  # a covariance that is not known: zeros


def write_mcap(
    path: str,
    forecast: xr.Dataset,
    source: xr.Dataset,
    meta: SequenceMeta,
    *,
    overwrite: bool = False,
) -> None:
    """Writes the forecasts of a store as messages.

    Topics are ``/forecast/objects`` and ``/forecast/occupancy/lead_1`` and so on; where the store
    has several scenes, ``/forecast/scene_0/objects`` and so on. The metadata record ``forecast``
    says what they are.

    Args:
        path: Local path or fsspec URL; it appears when it is complete.
        forecast: The forecast store, of tracked input.
        source: The sequences that were forecast, with tracks.
        meta: Attributes of their store.
        overwrite: Whether something that is already there is replaced.

    Raises:
        DataError: A time fits no stamp, or the path exists or cannot be written.
    """
    from mcap_ros2.writer import Writer

    scenes = list(dict.fromkeys(map(str, forecast["scene"].values)))
    with staged_file(path, overwrite=overwrite) as file, Writer(file) as writer:
        writer.add_metadata("forecast", _metadata(forecast, meta, scenes))
        schemas = {kind: _schema(writer, kind) for kind in (PREDICTED, OCCUPANCY)}
        for index in range(forecast.sizes["sequence"]):
            one = _Forecast.of(forecast, source, meta, index)
            root = f"{ROOT}/scene_{scenes.index(one.scene)}" if len(scenes) > 1 else ROOT
            for name, kind, message in _messages(one, meta.grid):
                topic, stamp_ns = f"{root}/{name}", one.stamp_ns
                writer.write_message(topic, schemas[kind], message, stamp_ns, sequence=index)


def refuse_times(init_times: Iterable[float]) -> None:
    """Refuses times that no stamp can tell, before a forecast is made of them.

    Raises:
        DataError: A time fits no stamp.
    """
    for time_s in init_times:
        _stamp_ns(time_s)


@dataclass(frozen=True)
class _Forecast:
    """One sequence.

    Args:
        scene: Name of its recording.
        stamp_ns: The present.
        dt_s: Seconds between leads.
        ids: ``(n,)`` 16 bytes each, of the agents that were observed and are, in some future,
            there at lead 1.
        label: ``(n,)`` Autoware's number of each one's class.
        size: ``(n, 2)`` length and width, as they were observed last.
        existence: ``(n,)`` probability at the first lead.
        paths: ``(K, lead + 1, n, 3)`` poses, that of the present first; NaN = gone. An agent that
            was lost earlier is then on the straight way from where it was seen to the first lead.
        confidence: ``(K,)``.
        occupancy: ``(lead, y, x)`` probability that a cell is covered, of whatever class.
    """

    scene: str
    stamp_ns: int
    dt_s: float
    ids: tuple[bytes, ...]
    label: NDArray[np.int64]
    size: Array
    existence: Array
    paths: Array
    confidence: Array
    occupancy: Array

    @classmethod
    def of(
        cls, forecast: xr.Dataset, source: xr.Dataset, meta: SequenceMeta, index: int
    ) -> _Forecast:
        """Reads a sequence."""
        one, before = forecast.isel(sequence=index), source.isel(sequence=index)
        state, age_s = _last_seen(before, meta)
        futures, confidence = _futures(one)
        known = np.isfinite(state).all(axis=1)
        known &= np.isfinite(futures[confidence > 0, 0]).all(axis=2).any(axis=0)
        kept = np.flatnonzero(known)
        state, futures = state[kept], futures[:, :, kept]
        gone_on = (age_s[kept] / (age_s[kept] + meta.dt_s))[:, None]
        present = state[:, :3] + gone_on * _mean_step(state[:, :3], futures[:, 0], confidence)
        present = np.broadcast_to(present, (len(futures), 1, len(kept), 3))
        scene, stamp_ns = str(one["scene"].values), _stamp_ns(float(one["init_time"].values))
        if "track_name" in before:
            names = map(str, before["track_name"].values[kept])
            ids = tuple(_id_of(name, scene) for name in names)
        else:
            ids = tuple(_numbered(scene, stamp_ns, track + 1) for track in kept.tolist())
        free = np.prod(1 - one["occupancy"].values.astype(np.float32), axis=1)
        return cls(
            scene=scene,
            stamp_ns=stamp_ns,
            dt_s=meta.dt_s,
            ids=ids,
            label=_labels(meta)[before["track_class"].values[kept]],
            size=state[:, 3:],
            existence=one["existence"].values[0, kept].clip(0, 1),
            paths=np.concatenate([present, futures], axis=1),
            confidence=confidence,
            occupancy=1 - free,
        )


def _last_seen(before: xr.Dataset, meta: SequenceMeta) -> tuple[Array, Array]:
    """Each agent's state ``(N, 5)`` when it was last observed, NaN = never, and its age, seconds.

    Where a store keeps what was observed, ``track_state`` may know the present from later frames.
    """
    if "track_history" in before:
        seen, time_s = before["track_history"].values, before["sample_time"].values
    else:
        seen = before["track_state"].values[:, : meta.history]
        time_s = meta.dt_s * np.arange(1 - meta.history, 1)
    there = np.isfinite(seen).all(axis=2) & np.isfinite(time_s)
    last = there.shape[1] - 1 - there[:, ::-1].argmax(axis=1)
    state = seen[np.arange(len(seen)), last]
    return np.where(there.any(axis=1)[:, None], state, np.nan), -time_s[last]


def _mean_step(start: Array, end: Array, confidence: Array) -> Array:
    """The mean way ``(n, 3)`` of agents ``(n, 3)`` to their poses ``(K, n, 3)`` of some futures."""
    step = end - start
    step[..., 2] = wrap_angle(step[..., 2])
    weight = confidence[:, None, None] * np.isfinite(step).all(axis=2, keepdims=True)
    mean: Array = (weight * np.nan_to_num(step)).sum(axis=0) / weight.sum(axis=0)
    return mean


def _futures(one: xr.Dataset) -> tuple[Array, Array]:
    """The poses ``(K, lead, track, 3)`` of each future, and their weights."""
    if "realization_pose" not in one:
        return one["pose"].values[None], np.ones(1)
    poses: Array = one["realization_pose"].values
    if "realization_weight" in one:
        weight: Array = one["realization_weight"].values
        return poses, weight / weight.sum()
    return poses, np.full(len(poses), 1 / len(poses))


def _labels(meta: SequenceMeta) -> NDArray[np.int64]:
    """Autoware's number of each class of a store, from that of no class on."""
    names = [AUTOWARE.get(name.lower(), name.upper()) for name in meta.classes]
    return np.array([0, *(LABELS.index(name) if name in LABELS else 0 for name in names)])


def _stamp_ns(time_s: float) -> int:
    """To the microsecond: at the times of clocks, a number of 8 bytes knows no more.

    Raises:
        DataError: A stamp does not go so far.
    """
    if not 0 <= time_s <= MOST_S:
        raise DataError(
            f"times of 0 to {MOST_S} s for stamps", f"an init_time of {time_s:g} s", "omit --mcap"
        )
    return round(time_s * 1e6) * 1000


def _schema(writer: Any, kind: str) -> Any:
    """Registers a type; what is returned describes the same bytes, quicker to write."""
    registered = writer.register_msgdef(kind, definition(kind))
    return replace(registered, data=quick(definition(kind)).encode())


def _metadata(forecast: xr.Dataset, meta: SequenceMeta, scenes: list[str]) -> dict[str, str]:
    about = {
        "schema": forecast.attrs["schema"],
        "model": forecast.attrs.get("model", ""),
        "dt_s": f"{meta.dt_s:g}",
        "horizon": str(forecast.sizes["lead"]),
        "classes": ", ".join(meta.classes),
        "grid": json.dumps(meta.grid.to_attrs()),
    }
    return about | {f"scene_{number}": name for number, name in enumerate(scenes)}


def _messages(one: _Forecast, grid: BEVGrid) -> Iterator[tuple[str, str, Message]]:
    """Name of the topic, type and message."""
    stamp = {"sec": one.stamp_ns // 10**9, "nanosec": one.stamp_ns % 10**9}
    header = {"stamp": stamp, "frame_id": EGO_FRAME}
    yield (
        "objects",
        PREDICTED,
        {"header": header, "objects": [_object(one, place) for place in range(len(one.ids))]},
    )
    info = {
        "map_load_time": stamp,
        "resolution": grid.resolution_m,
        "width": grid.width,
        "height": grid.height,
        "origin": _pose(np.array([grid.x_min_m, grid.y_min_m, 0.0])),
    }
    for lead, occupancy in enumerate(one.occupancy, start=1):
        percent = np.rint(100 * occupancy.clip(0, 1)).astype(np.uint8)
        message = {"header": header, "info": info, "data": percent.tobytes()}
        yield f"occupancy/lead_{lead}", OCCUPANCY, message


def _object(one: _Forecast, place: int) -> Message:
    length, width = one.size[place]
    paths = one.paths[:, :, place]
    return {
        "object_id": {"uuid": one.ids[place]},
        "existence_probability": float(one.existence[place]),
        "classification": [{"label": int(one.label[place]), "probability": 1.0}],
        "kinematics": {
            "initial_pose_with_covariance": {
                "pose": _pose(paths[0, 0]),
                "covariance": UNKNOWN_SPREAD,
            },
            "initial_twist_with_covariance": {
                "twist": _twist(paths, one),
                "covariance": UNKNOWN_SPREAD,
            },
            "initial_acceleration_with_covariance": {"covariance": UNKNOWN_SPREAD},
            "predicted_paths": [
                {
                    "path": [_pose(pose) for pose in path[: _last(path)]],
                    "time_step": _duration(one.dt_s),
                    "confidence": float(confidence),
                }
                for path, confidence in zip(paths, one.confidence, strict=True)
            ],
        },
        "shape": {
            "type": BOUNDING_BOX,
            "dimensions": {"x": float(length), "y": float(width), "z": 0.0},
        },
    }


def _id_of(name: str, scene: str) -> bytes:
    """The id that a tracker gave, or one that stands for the agent throughout its recording."""
    try:
        return UUID(name).bytes
    except ValueError:
        return uuid5(SPACE, f"{scene} {name}").bytes


def _numbered(scene: str, stamp_ns: int, number: int) -> bytes:
    """12 bytes of the sequence, then the id that the agent has in the forecast store."""
    return uuid5(SPACE, f"{scene} {stamp_ns}").bytes[:12] + number.to_bytes(4, "big")


def _last(path: Array) -> int:
    """How many poses a path ``(T, 3)`` has before the first that is not known."""
    gone = np.append(np.isnan(path).any(axis=1), True)
    return int(gone.argmax())


def _twist(paths: Array, one: _Forecast) -> Mapping[str, Mapping[str, float]]:
    """The mean velocity of the first step, in the frame of the agent; of futures that have one."""
    step = _mean_step(paths[0, :1], paths[:, 1, None], one.confidence)
    x, y, turn = step[0] / one.dt_s
    yaw = paths[0, 0, 2]
    ahead, left = np.cos(yaw) * x + np.sin(yaw) * y, np.cos(yaw) * y - np.sin(yaw) * x
    return {
        "linear": {"x": float(ahead), "y": float(left)},
        "angular": {"z": float(turn)},
    }


def _pose(pose: Array) -> Message:
    x, y, yaw = map(float, pose)
    turned = {"z": float(np.sin(yaw / 2)), "w": float(np.cos(yaw / 2))}
    return {"position": {"x": x, "y": y}, "orientation": turned}


def _duration(seconds: float) -> Message:
    ns = round(seconds * 1e9)
    return {"sec": ns // 10**9, "nanosec": ns % 10**9}
