"""The same drive in two stores, under another name and cut at other moments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from forecast.angles import wrap_angle
from forecast.doctor.clip import Clip

STEP_S = 0.05  # between the moments of one drive that are compared with the other's presents
NEAR_M = 0.5  # what the ego and others do in half a step, and interpolated bends
SIZE_WEIGHT = 3.0  # sizes are constant: they must agree to a third of that
NEAREST = 6  # agents of a moment that are looked up
FEWEST_MOVING, FEWEST_STILL = 3, 5  # agents, beside the ego, that must agree
AGREEING = 0.6  # of those seen in both
WAY_M = 2.0  # less is standing


@dataclass(frozen=True)
class Drive:
    """The tracks of one sequence.

    Attributes:
        scene: Its recording.
        time_s: ``(T,)`` from its present.
        ego: ``(T, 3)`` x, y, yaw in its present frame.
        state: ``(N, T, 4)`` x, y, length, width, NaN = not seen; those on the ego left out.
    """

    scene: str
    time_s: NDArray[Any]
    ego: NDArray[Any]
    state: NDArray[Any]

    def at(self, time_s: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Ego ``(M, 3)`` and state ``(N, M, 4)`` between frames, at times within the sequence."""
        place = (time_s - self.time_s[0]) / (self.time_s[1] - self.time_s[0])
        before = np.clip(np.floor(place + 1e-6).astype(int), 0, len(self.time_s) - 2)
        share = np.clip(place - before, 0.0, 1.0)
        share[share < 1e-5] = 0.0
        after = np.where(share > 0, before + 1, before)  # a frame itself needs no neighbour
        turn = self.ego[after] - self.ego[before]
        turn[:, 2] = wrap_angle(turn[:, 2])
        ego = self.ego[before] + share[:, None] * turn
        start = self.state[:, before]
        return ego, start + share[:, None] * (self.state[:, after] - start)


def drive_of(scene: str, clip: Clip) -> Drive | None:
    """What is compared of one sequence; None without tracks, frames or agents at present."""
    if clip.state is None or len(clip.ego_pose) < 2 or not np.isfinite(clip.ego_pose).all():
        return None
    time_s = (np.arange(len(clip.ego_pose)) - (clip.history - 1)) * clip.dt_s
    tracks = clip.state[..., [0, 1, 3, 4]].astype(np.float32)
    present = tracks[:, clip.history - 1]
    whole = np.isfinite(present).all(axis=-1)  # others have no place to be looked up at
    others = tracks[whole & (np.linalg.norm(present[:, :2], axis=-1) > 1.0)]
    if len(others) < FEWEST_MOVING:
        return None
    return Drive(scene, time_s, clip.ego_pose.astype(np.float64), others)


def same_drives(ours: Sequence[Drive], theirs: Sequence[Drive]) -> Iterator[tuple[str, str]]:
    """Pairs of scenes that are one drive, each once.

    Every moment of our drives, to ``STEP_S``, is looked up among the presents of theirs: where the
    nearest agents are in the same places around the ego, the tracks are compared.
    """
    if not theirs:
        return
    present = [drive.state[:, np.argmin(abs(drive.time_s))] for drive in theirs]
    tree = KDTree(np.concatenate(present) * (1, 1, SIZE_WEIGHT, SIZE_WEIGHT))
    owner = np.repeat(np.arange(len(theirs)), [len(agents) for agents in present])
    known: set[tuple[str, str]] = set()
    for drive in ours:
        for time_s, other in _candidates(drive, tree, owner):
            pair = (drive.scene, theirs[other].scene)
            if pair not in known and agree(drive, theirs[other], time_s):
                known.add(pair)
                yield pair


def _candidates(
    drive: Drive, tree: KDTree, owner: NDArray[np.int64]
) -> Iterator[tuple[float, int]]:
    """Moments of a drive, each with another whose present has agents where it has them."""
    count = round((drive.time_s[-1] - drive.time_s[0]) / STEP_S) + 1
    times = np.linspace(drive.time_s[0], drive.time_s[-1], count)
    ego, state = drive.at(times)
    state[..., :2] = _seen_from(ego, state[..., :2])
    for moment, time_s in enumerate(times.tolist()):
        agents = state[np.isfinite(state[:, moment]).all(axis=-1), moment]
        nearest = np.argsort(np.hypot(agents[:, 0], agents[:, 1]))[:NEAREST]
        if len(nearest) < FEWEST_MOVING:
            continue
        points = agents[nearest] * (1, 1, SIZE_WEIGHT, SIZE_WEIGHT)
        found = tree.query_ball_point(points, NEAR_M, p=np.inf)
        drives = Counter(int(one) for hits in found for one in np.unique(owner[hits]))
        for other, votes in drives.most_common():
            if votes < FEWEST_MOVING:
                break
            yield time_s, other


def agree(ours: Drive, theirs: Drive, time_s: float) -> bool:
    """Whether tracks and ego are the same if their present is ours at ``time_s``."""
    inside = (theirs.time_s + time_s > ours.time_s[0] - 1e-6) & (
        theirs.time_s + time_s < ours.time_s[-1] + 1e-6
    )
    if inside.sum() < 2:
        return False
    here, agents = ours.at(theirs.time_s[inside] + time_s)
    origin = np.repeat(ours.at(np.array([time_s]))[0], len(here), axis=0)
    ego, other = theirs.ego[inside], theirs.state[:, inside]
    if _furthest(_seen_from(origin, here[None, :, :2])[0], ego[:, :2]) > 2 * NEAR_M:
        return False
    ways = _seen_from(origin, agents[..., :2])
    apart = np.linalg.norm(ways[:, None] - other[None, ..., :2], axis=-1)  # (N, other N, T)
    both = np.isfinite(apart).sum(axis=-1) >= 2
    apart = np.where(both, np.nanmax(np.nan_to_num(apart, nan=-1.0), axis=-1), np.inf)
    same = apart.min(axis=1) < 2 * NEAR_M if apart.shape[1] else np.zeros(len(apart), bool)
    moving = np.array([_way(path) > WAY_M for path in (ego[:, :2], *ways[same])])
    need = FEWEST_MOVING if moving.any() else FEWEST_STILL
    comparable = min(int(both.any(axis=1).sum()), int(both.any(axis=0).sum()))
    return bool(same.sum() >= max(need, AGREEING * comparable))


def _seen_from(ego: NDArray[Any], points: NDArray[Any]) -> NDArray[Any]:
    """Points ``(N, M, 2)`` in the frames of poses ``(M, 3)``."""
    x, y = (points - ego[:, :2]).transpose(2, 0, 1)
    cos, sin = np.cos(ego[:, 2]), np.sin(ego[:, 2])
    return np.stack([x * cos + y * sin, y * cos - x * sin], axis=-1)


def _furthest(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float(np.linalg.norm(one - other, axis=-1).max())


def _way(path: NDArray[Any]) -> float:
    """The way from the first seen place of ``(T, 2)`` to the last, metres."""
    seen = path[np.isfinite(path).all(axis=-1)]
    return float(np.linalg.norm(seen[-1] - seen[0])) if len(seen) else 0.0
