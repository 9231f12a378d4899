"""Lyft Level 5 prediction (Woven Planet): zarr v2 tables of scenes, frames and agents.

The ego is in the frames, not among the agents: it becomes a track of its own, of the size that the
data set's own toolkit draws it with. Labels are probabilities in every frame; a track has the one
with most of it over all its frames. The semantic map has a format of its own and is not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.formats.documents import read_json
from data_tools.formats.zarr2 import open_records
from data_tools.passing import refuse_passing
from data_tools.scene import Observed, Scene
from data_tools.sources.inputs import decimate, find_files
from forecast.angles import wrap_angle
from forecast.errors import DataError

Array = NDArray[np.float64]

FORMAT_VERSION = 2
EGO_LABEL, EGO_SIZE_M = "EGO", (4.87, 1.85)
MAX_SCENES = 1_000_000  # the data set has 16,000
# 25 s at 10 Hz with 4,000 agents are a million.
MAX_STATES = 10_000_000

SCENE = np.dtype([("frame_index_interval", "<i8", (2,)), ("host", "<U16"), ("start_time", "<i8")])
FRAME = np.dtype(
    [
        ("timestamp", "<i8"),
        ("agent_index_interval", "<i8", (2,)),
        ("ego_translation", "<f8", (3,)),
        ("ego_rotation", "<f8", (3, 3)),
    ]
)
AGENT = np.dtype(
    [
        ("centroid", "<f8", (2,)),
        ("extent", "<f4", (3,)),
        ("yaw", "<f4"),
        ("track_id", "<u8"),
        ("label_probabilities", "<f4", (17,)),
    ]
)


class LyftL5:
    """Stores of scenes; a unit of work is one scene, ``path#index`` from 0."""

    name = "lyft-l5"

    def find(self, inputs: Sequence[str]) -> list[str]:
        """The scenes of the stores in some inputs; a store that cannot be read is a unit too.

        Raises:
            DataError: An input does not exist or holds no such store.
        """
        table = "/scenes/.zarray"
        files = [file for file in find_files(inputs, (".zarray",)) if file.endswith(table)]
        if not files:
            raise DataError("a zarr store with scenes", f"none in {inputs[0]}", "check the path")
        units: list[str] = []
        for path in (file.removesuffix(table) for file in files):
            try:
                units += [f"{path}#{index}" for index in range(_scene_count(path))]
            except DataError as error:
                refuse_passing(error, path)
                units.append(path)
        return units

    def read(self, unit: str, dt_s: float) -> Scene:
        """A scene at ``dt_s``, which must be a multiple of its 0.1 s.

        Raises:
            DataError: A table is missing, damaged or of another version, or contradicts another.
        """
        path, mark, index = unit.rpartition("#")
        if not mark:
            _scene_count(unit)  # raises what kept it from being listed
            raise DataError("path#index", repr(unit), "name a scene of the store")
        if not index.isdecimal():
            raise DataError("path#index", repr(unit), "name a scene of the store")
        labels = _labels(path)
        scene = open_records(f"{path}/scenes", SCENE).rows(int(index), int(index) + 1)[0]
        frames = open_records(f"{path}/frames", FRAME).rows(*scene["frame_index_interval"].tolist())
        time_s = (frames["timestamp"] - frames["timestamp"][:1]) / 1e9
        every = decimate(time_s, dt_s, unit)
        agents = open_records(f"{path}/agents", AGENT).rows(*_agent_interval(frames, unit))
        ids, kinds, state, notes = _tracks(agents, frames, labels, unit)
        ego = _ego(frames)
        whole = np.concatenate([state, ego[None]])
        return Scene(
            name=f"{scene['host']}-{scene['start_time']}",
            time_s=time_s[every],
            dt_s=dt_s,
            track_id=(*ids, "ego"),
            track_class=(*kinds, EGO_LABEL),
            state=whole[:, every],
            ego_pose=ego[every, :3].copy(),
            observed=Observed(time_s, whole),
            notes=notes,
        )


def _scene_count(path: str) -> int:
    count = open_records(f"{path}/scenes", SCENE).length
    if not 0 < count <= MAX_SCENES:
        raise DataError(f"1 to {MAX_SCENES} scenes", f"{count} in {path}/scenes", "leave it out")
    return count


def _labels(path: str) -> list[str]:
    attrs = read_json(f"{path}/.zattrs")
    version = attrs.get("format_version") if isinstance(attrs, dict) else None
    labels = attrs.get("labels") if version == FORMAT_VERSION else None
    count = AGENT["label_probabilities"].shape[0]
    if not isinstance(labels, list) or [type(label) for label in labels] != [str] * count:
        raise DataError(
            f"format version {FORMAT_VERSION} with {count} labels",
            f"version {version!r} in {path}/.zattrs",
            "leave it out",
        )
    return labels


def _agent_interval(frames: NDArray[Any], unit: str) -> tuple[int, int]:
    """The agents of all frames, which follow one another."""
    interval = frames["agent_index_interval"]
    apart = (interval[1:, 0] != interval[:-1, 1]).any() or (interval[:, 0] > interval[:, 1]).any()
    if apart:
        raise DataError("agents in the order of their frames", unit, "leave it out")
    return int(interval[0, 0]), int(interval[-1, 1])


def _tracks(
    agents: NDArray[Any], frames: NDArray[Any], labels: Sequence[str], unit: str
) -> tuple[list[str], list[str], Array, dict[str, int]]:
    """Ids, labels and ``(N, T, 5)`` x, y, yaw, length, width of the agents; notes."""
    ids, track = np.unique(agents["track_id"], return_inverse=True)
    if len(ids) * len(frames) > MAX_STATES:
        raise DataError("a scene that fits memory", unit, "leave it out")
    frame = np.repeat(np.arange(len(frames)), np.diff(frames["agent_index_interval"])[:, 0])
    if len(np.unique(track * len(frames) + frame)) < len(agents):
        raise DataError("each track id once a frame", f"one again in {unit}", "leave it out")
    state = np.full((len(ids), len(frames), 5), np.nan)
    yaw = agents["yaw"].astype(np.float64)
    yaw = np.where(np.isfinite(yaw), wrap_angle(np.nan_to_num(yaw)), np.nan)
    state[track, frame] = np.column_stack([agents["centroid"], yaw, agents["extent"][:, :2]])
    share = np.zeros((len(ids), len(labels)))
    np.add.at(share, track, np.nan_to_num(agents["label_probabilities"]))
    kind = share.argmax(axis=1)
    changed = np.unique(track[agents["label_probabilities"].argmax(axis=1) != kind[track]])
    notes = {"tracks whose label changes, the likeliest taken": len(changed)}
    return [str(name) for name in ids], [labels[number] for number in kind], state, notes


def _ego(frames: NDArray[Any]) -> Array:
    """The ego as ``(T, 5)`` x, y, yaw, length, width."""
    rotation = frames["ego_rotation"]
    yaw = np.arctan2(rotation[:, 1, 0], rotation[:, 0, 0])
    size = np.broadcast_to(EGO_SIZE_M, (len(frames), 2))
    return np.column_stack([frames["ego_translation"][:, :2], yaw, size])
