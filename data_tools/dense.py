"""Rasters to sequences: each frame is moved into the ego frame of the present, once and exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools import warp
from data_tools.centre import paths
from data_tools.geometry import poses_to_frame
from data_tools.labels.directions import lane_directions
from data_tools.options import PrepareOptions
from data_tools.scene import DenseScene
from data_tools.windows import Sequence, spans
from forecast.errors import DataError
from forecast.schema import MAP_LAYERS, MAX_INSTANCE_ID, Protocol

Array = NDArray[np.float64]

WARPED = Protocol(
    name="warped",
    frame="present ego, warped from the ego frame of each moment",
    cell_rule="nearest cell of the raster as given",
    overlap="as given",
)


def class_numbers(
    scene: DenseScene, options: PrepareOptions, class_of: Callable[[str], str] = str.lower
) -> tuple[NDArray[np.uint8], dict[str, int]]:
    """The class numbers of a scene's labels.

    Args:
        scene: Its ``native`` holds the source's own labels.
        options: The classes wanted, in the order of their numbers, in whatever case; the grid.
        class_of: The class of a label.

    Returns:
        The number of each label, from that of the background on, 0 for those left out; and notes:
        in how many frames each is, and whether frames end before the grid does.
    """
    wanted = {name.lower(): place for place, name in enumerate(options.classes, start=1)}
    names = [class_of(native) for native in scene.native]
    number = np.array([0, *(wanted.get(name.lower(), 0) for name in names)], np.uint8)
    there = [np.bincount(frame.ravel(), minlength=len(number)) > 0 for frame in scene.semantic]
    notes = {"scenes whose frames end before the grid does": int(not _covers(scene, options))}
    for place, (native, name) in enumerate(zip(scene.native, names, strict=True), start=1):
        fate = f"kept as {name}" if number[place] else "left out"
        notes[f"frames with {native}, {fate}"] = int(np.sum(there, axis=0)[place])
    return number, notes


def _covers(scene: DenseScene, options: PrepareOptions) -> bool:
    have, want = scene.grid, options.grid
    low = have.contains(want.x_min_m, want.y_min_m)
    return bool(low and want.x_max_m <= have.x_max_m and want.y_max_m <= have.y_max_m)


def sequences(
    scene: DenseScene, number: NDArray[np.uint8], options: PrepareOptions
) -> Iterator[Sequence]:
    """Every window of a scene in which history and horizon fit and no frame is missing.

    Args:
        scene: With frames every ``dt_s / phases`` seconds.
        number: The class of each of its labels, see :func:`class_numbers`.
        options: Length, stride and phases of the windows, grid and its centre.

    Raises:
        DataError: The centre is an agent, or a window has more agents than there are instance ids.
    """
    (path,) = paths(options.centre, scene, np.empty((0, len(scene.time_s), 5)))
    path = np.where(scene.row[:, None] < 0, np.nan, path)
    for window, present in spans(path, options):
        pose = path[present]
        at = poses_to_frame(scene.ego_pose[window], pose)
        yield _sequence(
            scene,
            number,
            scene.row[window],
            at,
            poses_to_frame(path[window], pose),
            float(scene.time_s[present]),
            options,
        )


def _sequence(
    scene: DenseScene,
    number: NDArray[np.uint8],
    rows: NDArray[np.int64],
    at: Array,
    ego_pose: Array,
    init_time: float,
    options: PrepareOptions,
) -> Sequence:
    """The frames at ``rows`` of a scene, whose poses in the frame of the result are ``at``."""
    have, want = scene.grid, options.grid

    def moved(move: Callable[..., NDArray[Any]], rasters: NDArray[Any]) -> NDArray[Any]:
        frames = zip(rasters[rows], at, strict=True)
        return np.stack([move(raster, pose, have, want) for raster, pose in frames])

    semantic = number[moved(warp.nearest, scene.semantic)]
    now = options.history - 1
    if scene.map is None:
        layers = np.zeros((len(MAP_LAYERS), *want.shape), np.uint8)
    else:
        layers = warp.nearest(scene.map[rows[now]], at[now], have, want)
    ids = None if scene.instance is None else moved(warp.nearest, scene.instance)
    return Sequence(
        semantic=semantic,
        instance=_instances(ids, semantic),
        map=layers,
        track_state=np.empty((0, options.frames, 5), np.float32),
        track_class=np.empty(0, np.uint8),
        track_name=np.empty(0, str),
        track_history=np.empty((0, 0, 5), np.float32),
        sample_time=np.empty(0, np.float32),
        track_score=np.empty((0, options.frames), np.float32),
        ego_pose=ego_pose,
        map_point=np.empty((0, 3), np.float32),
        direction=lane_directions(None, want),
        bev=moved(warp.bilinear, scene.bev),
        init_time=init_time,
    )


def _instances(
    ids: NDArray[np.integer[Any]] | None, semantic: NDArray[np.uint8]
) -> NDArray[np.uint16]:
    """The source's ids renumbered from 1 in order of appearance; 0 where there is no class.

    Raises:
        DataError: There are more of them than instance ids.
    """
    instance = np.zeros(semantic.shape, np.uint16)
    if ids is None:
        return instance
    there = (ids > 0) & (semantic > 0)
    found, first, index = np.unique(ids[there], return_index=True, return_inverse=True)
    if len(found) > MAX_INSTANCE_ID:
        raise DataError(f"at most {MAX_INSTANCE_ID} agents", str(len(found)), "use a smaller grid")
    instance[there] = 1 + np.argsort(np.argsort(first))[index]
    return instance
