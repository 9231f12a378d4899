"""Detected objects of a bag, which have no ids, as rasters in the frame of the ego."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data_tools.labels.rasterise import rasterise_boxes
from data_tools.scene import DenseScene
from data_tools.sources.inputs import decimate
from data_tools.sources.mcap_frames import UNPLACED
from data_tools.sources.mcap_objects import ObjectMessage
from data_tools.sources.observations import frame_numbers
from forecast.errors import DataError
from forecast.grid import BEVGrid

Array = NDArray[np.float64]

# As far beyond the default grid as a car drives in 4 s. Its cells have centres where those of grids
# of 0.5 m do, so that the present is drawn exactly.
GRID = BEVGrid(-100.125, 100.125, -100.125, 100.125, 0.25)
MOST_FRAMES = 1200  # 640,000 bytes each
JITTER = 0.3  # of a step
MOST_LABELS = 255  # rasters are bytes, and 0 is the background
UNDRAWN = "detections without a heading or size, left out"


def detected_scene(
    name: str,
    messages: Sequence[ObjectMessage],
    ego_pose: Array,
    dt_s: float,
    notes: Counter[str],
    path: str,
) -> DenseScene:
    """Detections drawn where they were seen, a frame every ``dt_s``, never interpolated.

    Args:
        name: Of the scene.
        messages: In the frame of the ego at their times.
        ego_pose: ``(n, 3)`` of each message.
        dt_s: Seconds between frames, a multiple of those between messages.
        notes: Counts; added to.
        path: Of the bag.

    Raises:
        DataError: Messages are not regular, too many, of too many labels, or no detection can be
            drawn.
    """
    if len(messages) < 2:
        got = f"{len(messages)} in {path}, {notes[UNPLACED]} more had no odometry near them"
        raise DataError("two messages or more", got, "leave the bag out")
    stamp_s = (np.array([m.stamp_ns for m in messages]) - messages[0].stamp_ns) / 1e9
    step_s = float(np.median(np.diff(stamp_s)))
    frame = frame_numbers(stamp_s, step_s, JITTER * step_s, path)
    time_s = messages[0].stamp_ns / 1e9 + step_s * np.arange(int(frame[-1]) + 1, dtype=np.float64)
    every = decimate(time_s, dt_s, path)
    place = np.full(len(time_s), -1)
    place[frame] = np.arange(len(messages))
    place = place[every]
    drawn = np.flatnonzero(place >= 0)
    if len(drawn) > MOST_FRAMES:
        raise DataError(f"{MOST_FRAMES} frames at most", f"{len(drawn)} in {path}", "split the bag")
    row = np.full(len(place), -1)
    row[drawn] = np.arange(len(drawn))
    native, semantic = _draw([messages[index] for index in place[drawn]], notes, path)
    return DenseScene(
        name=name,
        time_s=time_s[every],
        dt_s=dt_s,
        row=row,
        ego_pose=np.where(row[:, None] < 0, np.nan, ego_pose[place]),
        grid=GRID,
        native=native,
        semantic=semantic,
        instance=None,
        map=None,
        channels=(),
        bev=np.empty((len(drawn), 0, *GRID.shape), np.float32),
        notes=dict(notes),
    )


def _draw(
    messages: Sequence[ObjectMessage], notes: Counter[str], path: str
) -> tuple[tuple[str, ...], NDArray[np.uint8]]:
    """The labels, and ``(frames, H, W)`` their numbers from 1, 0 = background."""
    box = np.concatenate([message.values[:, :5] for message in messages])
    frame = np.repeat(np.arange(len(messages)), [len(m.values) for m in messages])
    labels = np.array([label for message in messages for label in message.labels], object)
    known = np.isfinite(box).all(axis=1)
    notes[UNDRAWN] += int((~known).sum())
    if not known.any():
        raise DataError("detections with headings and sizes", f"none in {path}", "leave it out")
    native, number = np.unique(labels[known].astype(str), return_inverse=True)
    if len(native) > MOST_LABELS:
        got = f"{len(native)} in {path}"
        raise DataError(f"{MOST_LABELS} labels at most", got, "correct what publishes them")
    value = (number + 1).astype(np.uint16)
    drawn = rasterise_boxes(box[known], frame[known], value, len(messages), GRID)
    if not drawn.any():
        nearest_m = np.hypot(*box[known, :2].T).min()
        raise DataError(
            f"detections that cover cells within {GRID.x_max_m:.0f} m of the ego",
            f"none in {path}, the nearest {nearest_m:,.0f} m away",
            "bring odometry and detections into one frame of reference, or leave it out",
        )
    return tuple(map(str, native)), drawn.astype(np.uint8)
