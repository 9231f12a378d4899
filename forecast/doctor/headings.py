"""Headings of a whole store: a constant offset, half turns between frames, lanes led backwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from forecast.angles import wrap_angle
from forecast.doctor.clip import FAST_M_S, ON_ROADS, Clip, Finding, steps

OFFSET = np.radians(2.5)  # of the median of all that move; recordings have less than half of it
MOSTLY = 0.75  # of those that move are off to the same side
FEWEST = 8  # before a store is judged
STRAIGHT = np.radians(2)  # a step's turn: a rear axle and a middle differ in bends
HALF_TURN = np.radians(150)  # more than anything on wheels turns in a second
ON_LANE_M = 2.0
PARALLEL = 0.9  # cosine


def no_flips(clip: Clip) -> Iterator[Finding]:
    """Nothing on wheels turns by half a turn within a second."""
    if clip.state is None or clip.label is None:
        return
    for track in on_roads(clip):
        state = clip.state[track]
        for before, after, _, seconds in steps(state[:, :2], clip.dt_s):
            turn = abs(float(wrap_angle(state[after, 2] - state[before, 2])))
            if seconds <= 1.0 and turn > HALF_TURN:
                yield Finding(
                    f"turns by {np.degrees(turn):.0f} degrees from frame {before} to {after}:"
                    " front and back mixed up by the tracker? Take the yaw that follows its way",
                    track + 1,
                )
                break


def on_roads(clip: Clip) -> list[int]:
    """Tracks of a clip that are on wheels."""
    if clip.label is None:
        return []
    return [i for i, label in enumerate(clip.label.tolist()) if clip.named(label) in ON_ROADS]


@dataclass
class HeadingOffset:
    """Asks a store whether all that moves heads to the same side of its way.

    One agent may be far off; the median of a store is not: recordings have 0.2 degrees.
    """

    egos: dict[tuple[int, str], float] = field(default_factory=dict)
    agents: dict[tuple[int, str], list[float]] = field(default_factory=dict)

    def add(self, sequence: int, scene: str, clip: Clip) -> None:
        """Takes the offsets of one sequence's ego and agents."""
        ego = heading_offset(clip.ego_pose, clip.dt_s)
        if ego is not None:
            self.egos[sequence, scene] = ego
        if clip.state is not None:
            offsets = (heading_offset(clip.state[track], clip.dt_s) for track in on_roads(clip))
            self.agents[sequence, scene] = [one for one in offsets if one is not None]

    def findings(self) -> Iterator[Finding]:
        """The offset of the agents, and of the ego, where there is one."""
        for who, offsets in (("agents", self._of_agents()), ("the ego", list(self.egos.values()))):
            off = _common_offset(offsets)
            if off is not None:
                side, back = ("left", "-") if off > 0 else ("right", "+")
                degrees = abs(np.degrees(off))
                number = f"{len(offsets)} agents" if who == "agents" else "the ego"
                yield Finding(
                    f"{number} head{'s' * (who != 'agents')} {degrees:.1f} degrees to the {side} of"
                    f" the way, all to one side: a sensor's mounting angle, grid north or degrees?"
                    f" Add {back}{degrees:.1f} degrees to the yaw of {who}"
                )

    def _of_agents(self) -> list[float]:
        return [one for many in self.agents.values() for one in many]

    @property
    def skipped(self) -> str:
        """Why it could say nothing; "" where it could."""
        agents, egos = len(self._of_agents()), len(self.egos)
        few = max(agents, egos) < FEWEST
        return (
            f"too few move: {agents} agents, and the ego in {egos} of the sequences" if few else ""
        )


def heading_offset(poses: NDArray[Any], dt_s: float) -> float | None:
    """How far a path heads away from where it goes straight, radians; None where it does not.

    Args:
        poses: ``(T, >=3)`` x, y, yaw; NaN = not seen.
        dt_s: Seconds between frames.
    """
    moved, yaw = np.diff(poses[:, :2], axis=0), poses[:, 2].astype(np.float64)
    turn = wrap_angle(np.diff(yaw))
    straight = (np.linalg.norm(moved, axis=1) > FAST_M_S * dt_s) & (abs(turn) < STRAIGHT)
    if not straight.any():
        return None
    course = np.arctan2(moved[straight, 1], moved[straight, 0])
    return float(np.median(wrap_angle(yaw[:-1][straight] + turn[straight] / 2 - course)))


def _common_offset(offsets: list[float]) -> float | None:
    """The median, where it is more than noise and most are off to its side."""
    if len(offsets) < FEWEST:
        return None
    off = float(np.median(offsets))
    same_side = np.mean(np.sign(off) * np.array(offsets) > OFFSET / 3)
    return off if abs(off) > OFFSET and same_side > MOSTLY else None


@dataclass
class LanesLead:
    """Asks a store whether vehicles go the way their lanes lead.

    Attributes:
        ways: (sequence, scene) -> for each moving vehicle on a lane, the share of its steps along.
        lanes: Whether there are lane points at all.
    """

    ways: dict[tuple[int, str], list[float]] = field(default_factory=dict)
    lanes: bool = False

    def add(self, sequence: int, scene: str, clip: Clip) -> None:
        """Takes the vehicles of one sequence."""
        self.ways[sequence, scene] = list(along_lanes(clip))
        self.lanes = self.lanes or len(clip.lanes) > 0

    def findings(self) -> Iterator[Finding]:
        """Lanes that lead against the traffic, in the whole store."""
        along = np.array([one for many in self.ways.values() for one in many])
        if len(along) >= FEWEST and (share := float((along < 0.5).mean())) > 0.5:
            yield Finding(
                f"{share:.0%} of {len(along)} vehicles that move on a lane go against the way it"
                " leads: lane points in reverse order? Turn the yaw of map_point by half a turn"
                " (reverse the points of each lane)"
            )

    @property
    def skipped(self) -> str:
        """Why it could say nothing; "" where it could."""
        if not self.lanes:
            return "the store has no lane points"
        count = sum(len(ways) for ways in self.ways.values())
        return "" if count >= FEWEST else f"only {count} vehicles move on lane points"


def along_lanes(clip: Clip) -> Iterator[float]:
    """For each moving vehicle on lanes of one direction, the share of its steps along them."""
    if clip.state is None or not len(clip.lanes):
        return
    tree, lead = KDTree(clip.lanes[:, :2]), clip.lanes[:, 2]
    for track in on_roads(clip):
        path, along = clip.state[track, :, :2], []
        for _, after, moved, seconds in steps(path, clip.dt_s):
            if np.linalg.norm(moved) > FAST_M_S * seconds:
                course = np.arctan2(moved[1], moved[0])
                near = tree.query_ball_point(path[after], ON_LANE_M)
                cosine = np.cos(lead[near] - course)
                ways = cosine[abs(cosine) > PARALLEL] > 0
                if len(ways) and ways.all() == ways.any():  # lanes of both ways tell nothing
                    along.append(bool(ways[0]))
        if along:
            yield float(np.mean(along))
