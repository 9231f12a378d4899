"""Objects of a bag in the frame of its odometry, or in that of the ego, whichever they come in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from data_tools.geometry import poses_to_frame, poses_to_world
from data_tools.scene import FARTHEST_M
from data_tools.sources.mcap_objects import Content, ObjectMessage
from data_tools.sources.tracks_resample import Track, resample
from forecast.errors import DataError

Array = NDArray[np.float64]

UNPLACED = "messages in the frame of the ego at times without odometry, left out"
NOWHERE = "objects without a place on Earth, left out"
NEAR_M = 300.0  # sensors see no further
ELSEWHERE = "the ego is elsewhere; bring odometry and objects into one frame of reference"


def seconds(stamp_ns: list[int]) -> Array:
    """Stamps as seconds, ``(n,)``."""
    return np.array(stamp_ns, np.float64) / 1e9


def ego_at(content: Content, time_s: Array) -> Array:
    """The pose of the ego ``(T, 3)`` at some times; NaN where no odometry is near enough."""
    pose = np.array([message.pose for message in content.ego])
    track = Track(
        name="ego",
        kind="ego",
        time_s=seconds([message.stamp_ns for message in content.ego]),
        pose=pose,
        size_m=np.full(2, np.nan),
        observed=np.pad(pose, ((0, 0), (0, 2)), constant_values=np.nan),
        score=np.full(len(pose), np.nan),
    )
    return resample(track, time_s)[:, :3]


def of_distance(state: Array, ego_pose: Array) -> dict[str, str]:
    """A warning if no object is ever near the ego, so that what is around the ego would be empty.

    Args:
        state: ``(N, T, 5)`` boxes in the frame of the odometry, NaN where absent.
        ego_pose: ``(T, 3)``, NaN where not known.
    """
    off = state[..., :2] - ego_pose[:, :2]
    away_m = np.hypot(off[..., 0], off[..., 1])
    nearest_m = float(np.fmin.reduce(away_m, axis=None, initial=np.inf))
    if not NEAR_M < nearest_m < np.inf:
        return {}
    far = f"{nearest_m / 1e3:,.0f} km" if nearest_m >= 1e4 else f"{nearest_m:,.0f} m"
    return {ELSEWHERE: f"the nearest object is {far} from it"}


def in_frame_of(which: str, content: Content, path: str) -> tuple[list[ObjectMessage], Array]:
    """The objects in the frame of the odometry, or in that of the ego at each message's time.

    Args:
        which: "odometry" or "ego".
        content: Of the bag.
        path: Its path.

    Returns:
        The messages, those left out whose objects cannot be moved there; and ``(n, 3)`` the pose
        of the ego at their times, NaN where it is not known.

    Raises:
        DataError: The objects are in a third frame of reference.
    """
    have, ego = content.objects[0].frame, content.ego[0]
    if have not in (ego.frame, ego.child or ego.frame):  # a frame without a name is none
        raise DataError(
            f"objects in the frame of the odometry, {ego.frame!r} or {ego.child!r}",
            f"objects in {have!r} in {path}",
            "choose another topic, or move them there before: transforms (tf) are not read",
        )
    poses = ego_at(content, seconds([message.stamp_ns for message in content.objects]))
    if have == (ego.frame if which == "odometry" else ego.child):
        moved = list(content.objects)
        known = np.ones(len(moved), bool)
    else:
        move = poses_to_frame if which == "ego" else poses_to_world
        pairs = zip(content.objects, poses, strict=True)
        with np.errstate(all="ignore"):  # of places that are none, left out later
            moved = [replace(m, values=move(m.values, pose)) for m, pose in pairs]
        known = np.isfinite(poses[:, 0])
        content.notes[UNPLACED] += int((~known).sum())
    kept = [message for message, keep in zip(moved, known, strict=True) if keep]
    return list(_somewhere(kept, content.notes)), poses[known]


def _somewhere(messages: list[ObjectMessage], notes: Counter[str]) -> Iterator[ObjectMessage]:
    """Messages without the objects whose places are no numbers, or beyond the Earth."""
    for message in messages:
        near = (np.abs(message.values[:, :2]) < FARTHEST_M).all(axis=1)  # False where NaN
        if near.all():
            yield message
            continue
        notes[NOWHERE] += int((~near).sum())
        places = np.flatnonzero(near)
        yield replace(
            message,
            ids=tuple(message.ids[place] for place in places) if message.ids else (),
            labels=tuple(message.labels[place] for place in places),
            values=message.values[near],
        )
