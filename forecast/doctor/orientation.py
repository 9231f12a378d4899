"""Orientation of a whole store: rasters, poses and frames that are mirrored, turned or not moved.

What is parked stands still in the world. Each way in which a store may be turned is undone in
turn; the one under which the most agents stand still must be none of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from forecast.angles import wrap_angle
from forecast.doctor.clip import Clip, Finding, Votes
from forecast.doctor.rasters import cell_of

STILL_M = 0.5
LEAST_WAY_M = 3.0  # of the ego, turns counted as if they were 10 m away
FEWEST_STILL = 3
PARKED = 0.05  # of all agents, before they tell an orientation: fewer are chance
ACROSS = np.radians(30)  # nothing drives this far off its heading

TURNED: dict[str, NDArray[np.float64]] = {
    "mirrored left to right": np.array([[1.0, 0.0], [0.0, -1.0]]),
    "mirrored front to back": np.array([[-1.0, 0.0], [0.0, 1.0]]),
    "turned by half a turn": np.array([[-1.0, 0.0], [0.0, -1.0]]),
    "transposed": np.array([[0.0, 1.0], [1.0, 0.0]]),
    "in the order of an image": np.array([[0.0, -1.0], [-1.0, 0.0]]),
    "turned a quarter to the left": np.array([[0.0, -1.0], [1.0, 0.0]]),
    "turned a quarter to the right": np.array([[0.0, 1.0], [-1.0, 0.0]]),
}
"""What was done to the rasters -> x, y as they are from x, y as they should be."""

REMEDIES = {
    "mirrored left to right": "flip their y axis",
    "mirrored front to back": "flip their x axis",
    "turned by half a turn": "flip both axes",
    "transposed": "swap their axes: rows are y, columns x",
    "in the order of an image": "row 0 is ahead and column 0 left: swap the axes and flip both",
    "turned a quarter to the left": "turn them back to the right",
    "turned a quarter to the right": "turn them back to the left",
}
NOT_MOVED = "not brought to the present frame"
HYPOTHESES = (*TURNED, NOT_MOVED)


@dataclass
class FramesStandStill:
    """Asks a store under which orientation the most agents stand still in the world."""

    votes: Votes = field(default_factory=Votes)

    def add(self, sequence: int, scene: str, clip: Clip) -> None:
        """Takes the votes of one sequence."""
        self.votes.add(sequence, scene, stand_still_votes(clip))

    def findings(self) -> Iterator[Finding]:
        """The orientation that fits better than the store's own: of all scenes, else of some."""
        return self.votes.findings(_turned_frames)

    @property
    def skipped(self) -> str:
        """Why it could say nothing; "" where it could."""
        voters = sum(int(votes[2].max()) for _, votes in self.votes.of_scenes.values())
        return (
            "" if voters else "the ego stands, or (without boxes) drives straight on at one speed"
        )


def stand_still_votes(clip: Clip) -> NDArray[np.int64]:
    """For each hypothesis, who stands still only if it is undone, and who only as it is.

    An agent that could as well drive as it appears has no vote for a hypothesis: oncoming traffic
    at the ego's own speed would stand still if frames were not moved by the ego's pose.

    Returns:
        ``(3, len(HYPOTHESES))`` counts of agents: gains, losses, and all that could vote.
    """
    votes = np.zeros((3, len(HYPOTHESES)), np.int64)
    ego, centres = clip.ego_pose.astype(np.float64), _whole_centres(clip)
    if not len(centres) or not np.isfinite(ego).all():
        return votes
    frame, far = _furthest_seen(centres, ego, clip.history - 1)
    centres, frame = centres[far], frame[far]
    if not len(centres):
        return votes
    now, then = centres[:, clip.history - 1], centres[np.arange(len(centres)), frame]
    apparent = then - now
    still = np.linalg.norm(apparent, axis=1) < STILL_M
    driven = np.linalg.norm(apparent, axis=1) > 2 * STILL_M
    cannot_drive = _uneven(ego, clip.history - 1)[frame]
    votes[2] = cannot_drive.sum() if clip.state is None else len(centres)
    if clip.state is not None:
        yaw = clip.state[far][np.arange(len(frame)), frame, 2]
        course = np.arctan2(apparent[:, 1], apparent[:, 0])
        across = abs(np.sin(yaw - course)) > np.sin(ACROSS)
        cannot_drive = np.asarray(cannot_drive | across)
    for column, moved in enumerate(_undone(clip, ego[frame], now, then)):
        distance = np.linalg.norm(moved, axis=1)
        votes[0, column] = (driven & cannot_drive & (distance < STILL_M)).sum()
        votes[1, column] = (still & (distance > 2 * STILL_M)).sum()
    return votes


def _whole_centres(clip: Clip) -> NDArray[np.float64]:
    """Centres ``(N, T, 2)``; NaN where the grid's edge cuts a mask, which moves its centre."""
    centres = clip.centres
    if clip.state is None:
        for frame, labels in enumerate(clip.instance):
            edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
            centres[edge[edge > 0].astype(np.int64) - 1, frame] = np.nan
    return centres


def _furthest_seen(
    centres: NDArray[np.float64], ego: NDArray[np.float64], present: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Each agent's frame with the ego furthest from its present pose, and whether it is far."""
    apart = ego - ego[present]
    way = np.hypot(apart[:, 0], apart[:, 1]) + 10 * abs(wrap_angle(apart[:, 2]))
    seen = np.asarray(np.isfinite(centres).all(axis=-1))
    ways = np.where(seen & seen[:, [present]], way, -1.0)
    return ways.argmax(axis=1), np.asarray(ways.max(axis=1) > LEAST_WAY_M)


def _uneven(ego: NDArray[np.float64], present: int) -> NDArray[np.bool_]:
    """Whether the ego turned, or changed its speed, between the present and each frame ``(T,)``."""
    uneven = np.zeros(len(ego), bool)
    for frame in range(len(ego)):
        low, high = sorted((frame, present))
        share = np.linspace(0, 1, high - low + 1)[:, None]
        straight = ego[low, :2] + share * (ego[high, :2] - ego[low, :2])
        missed = np.linalg.norm(ego[low : high + 1, :2] - straight, axis=1).max()
        turned = abs(wrap_angle(ego[frame, 2] - ego[present, 2]))
        uneven[frame] = missed > STILL_M or turned > np.radians(5)
    return uneven


def _undone(
    clip: Clip, ego: NDArray[np.float64], now: NDArray[np.float64], then: NDArray[np.float64]
) -> Iterator[NDArray[np.float64]]:
    """What agents would move by, ``(N, 2)``, if each hypothesis in turn were undone."""
    grid = clip.grid
    centre = np.zeros(2)
    if clip.state is None:  # rasters are turned about the middle of the grid, boxes about the ego
        middle = (grid.x_min_m + grid.x_max_m, grid.y_min_m + grid.y_max_m)
        centre = np.array(middle) / 2
    own = _rotated(then - ego[:, :2], -ego[:, 2])  # in the ego's frame at that time
    for turn in TURNED.values():
        mended, present = (own - centre) @ turn + centre, (now - centre) @ turn + centre
        yield _rotated(mended, ego[:, 2]) + ego[:, :2] - present
    yield _rotated(then, ego[:, 2]) + ego[:, :2] - now


def _rotated(points: NDArray[np.float64], angle: NDArray[np.float64]) -> NDArray[np.float64]:
    x, y = points.T
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([x * cos - y * sin, x * sin + y * cos], axis=1)


def _turned_frames(votes: NDArray[np.int64]) -> str:
    """What is wrong by the votes ``(3, len(HYPOTHESES))`` of a store or scene; "" if nothing."""
    gains, losses, all_ = votes
    best = int((gains - losses).argmax())
    if gains[best] < max(FEWEST_STILL, PARKED * all_[best]) or gains[best] <= 3 * losses[best]:
        return ""
    name, text = HYPOTHESES[best], f"{gains[best]} agents stand still only if"
    if name == NOT_MOVED:
        return (
            f"{text} each frame is moved by its ego pose: frames not brought to the present"
            " frame? Move each by its pose, or leave the poses out"
        )
    remedy = REMEDIES[name]
    if name == "mirrored left to right":
        remedy += "; or the ego poses are left-handed: negate their y and yaw"
    return f"{text} frames are {name} ({losses[best]} as they are): {remedy}"


@dataclass
class RastersFitBoxes:
    """Asks a store with rasters and boxes in which orientation its masks lie in its boxes."""

    votes: Votes = field(default_factory=Votes)

    def add(self, sequence: int, scene: str, clip: Clip) -> None:
        """Takes the votes of one sequence."""
        self.votes.add(sequence, scene, masks_in_boxes(clip))

    def findings(self) -> Iterator[Finding]:
        """The orientation in which masks lie in their boxes, where it is not the store's."""
        return self.votes.findings(_turned_masks)

    @property
    def skipped(self) -> str:
        """Why it could say nothing; "" where it could."""
        boxes = sum(int(votes[0]) for _, votes in self.votes.of_scenes.values())
        return "" if boxes >= FEWEST_STILL else f"only {boxes} boxes are drawn"


def masks_in_boxes(clip: Clip) -> NDArray[np.int64]:
    """How often a box has its own id at its centre, by orientation of the rasters.

    Returns:
        ``(2 + len(TURNED),)`` counts: boxes looked at, as it is, as if each turn were undone.
    """
    counts = np.zeros(2 + len(TURNED), np.int64)
    if clip.state is None:
        return counts
    grid = clip.grid
    middle = np.array([grid.x_min_m + grid.x_max_m, grid.y_min_m + grid.y_max_m]) / 2
    turns = (np.eye(2), *TURNED.values())
    for frame, labels in enumerate(clip.instance):
        boxes = clip.state[:, frame]
        large = boxes[:, 3:].min(axis=1) > np.sqrt(2) * grid.resolution_m  # False where NaN
        inside = large & grid.contains(boxes[:, 0], boxes[:, 1])
        drawn = inside & np.isin(np.arange(1, len(boxes) + 1), labels)
        (tracks,) = np.nonzero(drawn)
        counts[0] += len(tracks)
        for column, turn in enumerate(turns):
            there = (boxes[tracks, :2] - middle) @ turn.T + middle
            counts[1 + column] += (labels[cell_of(clip, there)] == tracks + 1).sum()
    return counts


def _turned_masks(counts: NDArray[np.int64]) -> str:
    """What is wrong by the counts of :func:`masks_in_boxes`; "" if nothing."""
    boxes, own, turned = counts[0], counts[1], counts[2:]
    best = int(turned.argmax())
    if boxes < FEWEST_STILL or turned[best] <= max(0.5 * boxes, 2 * own):
        return ""
    name = list(TURNED)[best]
    return (
        f"{turned[best]} of {boxes} boxes have their mask at their centre only if rasters are"
        f" {name} ({own} as they are): {REMEDIES[name]}"
    )
