"""Motion of one sequence: agents and ego go where their headings point, at speeds that exist.

The limits were set on recordings and simulated traffic in which nothing is wrong: see
docs/trust.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecast.angles import wrap_angle
from forecast.doctor.clip import FAST_M_S, Clip, Finding, steps

FASTEST_M_S = 90.0  # no agent on a road, nor the ego
ACCELERATION_M_S2 = 15.0  # what an emergency brake does, and a little more
JITTER_M = 3.0  # by which boxes jump between frames when their annotation is adjusted
TURN_RATE = 2.5  # rad/s, more than an ego does
BRAKE_M_S2 = 8.0  # what no vehicle exceeds for seconds
OTHER_SIZE = 1.5  # times: no box of one agent is adjusted by as much at once
FAST_STEPS = 3  # of an agent, before its heading is judged
WRONG_HEADING = np.pi / 4
SOMEWHERE = 0.5  # of the length of a way is left of it in the end


def no_teleports(clip: Clip) -> Iterator[Finding]:
    """No agent deviates further from constant velocity than braking and jitter explain."""
    for track, path in enumerate(clip.centres):
        if jump := _jump(path, clip.dt_s):
            yield Finding(jump, track + 1)


def _jump(path: NDArray[Any], dt_s: float) -> str | None:
    """The first step of a path ``(T, 2)`` that no road user makes, in words."""
    velocity: NDArray[Any] | None = None
    for before, after, moved, seconds in steps(path, dt_s):
        missed = moved - (moved if velocity is None else velocity * seconds)
        limit = JITTER_M + ACCELERATION_M_S2 * seconds**2
        if np.linalg.norm(moved) > JITTER_M + FASTEST_M_S * seconds or (
            np.linalg.norm(missed) > limit
        ):
            off = "" if velocity is None else f", {np.linalg.norm(missed):.1f} m off its way"
            return (
                f"jumps {np.linalg.norm(moved):.1f} m from frame {before} to {after}"
                f" ({seconds:g} s){off}"
            )
        velocity = moved / seconds
    return None


def headings_follow_motion(clip: Clip) -> Iterator[Finding]:
    """Agents that clearly move head in their direction of motion; yaws are radians."""
    if clip.state is None:
        return
    for track, state in enumerate(clip.state):
        if wrong := _wrong_heading(state[:, :2], state[:, 2], clip.dt_s):
            yield Finding(wrong, track + 1)


def _wrong_heading(path: NDArray[Any], yaw: NDArray[Any], dt_s: float) -> str | None:
    if np.nanmax(abs(yaw), initial=0.0) > 2 * np.pi + 0.01:
        worst = yaw[np.nanargmax(abs(yaw))]
        return f"has yaw {worst:.1f}, more than a full turn: degrees instead of radians?"
    fast = [
        (after, moved)
        for _, after, moved, seconds in steps(path, dt_s)
        if np.linalg.norm(moved) > FAST_M_S * seconds
    ]
    if len(fast) < FAST_STEPS:
        return None
    frames, ways = np.array([frame for frame, _ in fast]), np.array([way for _, way in fast])
    if np.linalg.norm(ways.sum(axis=0)) < SOMEWHERE * np.linalg.norm(ways, axis=1).sum():
        return None  # back and forth: a box that is adjusted, not an agent that goes somewhere
    course = np.arctan2(ways[:, 1], ways[:, 0])
    off = _typical_error(yaw[frames], course)
    if not off > WRONG_HEADING:
        return None
    reason = _explanation(yaw[frames], course)
    return f"heads {np.degrees(off):.0f} degrees away from where it goes{reason}"


def _typical_error(yaw: NDArray[Any], course: NDArray[Any]) -> float:
    return float(np.median(abs(wrap_angle(yaw - course))))


def _explanation(yaw: NDArray[Any], course: NDArray[Any]) -> str:
    """The usual mistake that would explain wrong headings, or nothing."""
    mistakes = {
        "degrees instead of radians?": np.radians(yaw),
        "x and y swapped, or yaw from north?": np.pi / 2 - yaw,
        "yaw clockwise, or y to the right?": -yaw,
        "back to front?": yaw + np.pi,
        "a quarter turn off?": yaw + np.pi / 2,
        "a quarter turn off, to the other side?": yaw - np.pi / 2,
    }
    errors = {reason: _typical_error(mended, course) for reason, mended in mistakes.items()}
    reason = min(errors, key=lambda name: errors[name])
    return f": {reason}" if errors[reason] < np.radians(10) else ""


def ego_consistent(clip: Clip) -> Iterator[Finding]:
    """The ego is at the origin at present, moves like a car, and agrees with its own track."""
    ego = clip.ego_pose
    if not np.isfinite(ego).all():
        yield Finding("a pose of the ego is not finite")
        return
    present = ego[clip.history - 1]
    if np.hypot(*present[:2]) > 0.05 or abs(wrap_angle(present[2])) > 0.01:
        x, y, yaw = present
        yield Finding(
            f"the ego is at ({x:.2f}, {y:.2f}), yaw {yaw:.2f}, at present, not at the origin:"
            " poses in another frame?"
        )
    if jump := _jump(ego[:, :2], clip.dt_s):
        yield Finding(f"the ego {jump}")
    if wrong := _wrong_heading(ego[:, :2], ego[:, 2], clip.dt_s):
        yield Finding(f"the ego {wrong}")
    else:
        rate = abs(wrap_angle(np.diff(ego[:, 2]))).max(initial=0.0) / clip.dt_s
        if rate > TURN_RATE:
            yield Finding(f"the ego turns at {rate:.1f} rad/s: degrees instead of radians?")
    yield from _ego_track(clip)


def _ego_track(clip: Clip) -> Iterator[Finding]:
    """A track that is at the ego's place at present must stay with the ego."""
    if clip.state is None:
        return
    present = clip.state[:, clip.history - 1, :2]
    here = np.linalg.norm(present, axis=1) < 0.05  # False where NaN
    for track in np.flatnonzero(here).tolist():
        apart = np.linalg.norm(clip.state[track, :, :2] - clip.ego_pose[:, :2], axis=1)
        if (apart > JITTER_M).any():
            frame = int(np.nanargmax(apart))
            text = f"is the ego at present, but {apart[frame]:.1f} m from it in frame {frame}"
            yield Finding(text, track + 1)


def ids_not_reused(clip: Clip) -> Iterator[Finding]:
    """No id goes over to another agent: far away after a gap, or of another constant size."""
    for track, path in enumerate(clip.centres):
        text = _far_after_gap(path, clip.dt_s)
        if text is None and clip.state is not None:
            text = _other_size(clip.state[track, :, 3:])
        if text is not None:
            text += ": another agent with its id? Give each an id of its own"
            yield Finding(text, track + 1)


def _far_after_gap(path: NDArray[Any], dt_s: float) -> str | None:
    """A way ``(T, 2)`` over a gap that the speeds on its sides do not explain, in words."""
    parts = list(steps(path, dt_s))
    speeds = [float(np.linalg.norm(moved)) / seconds for _, _, moved, seconds in parts]
    for index, (before, after, moved, seconds) in enumerate(parts):
        around = speeds[max(index - 1, 0) : index] + speeds[index + 1 : index + 2]
        if after - before == 1 or not around:
            continue
        gained = BRAKE_M_S2 * seconds**2 / (2 * len(around))  # there and back, or one way
        if np.linalg.norm(moved) > JITTER_M + max(around) * seconds + gained:
            return (
                f"is seen again {np.linalg.norm(moved):.1f} m away after a gap of {seconds:g} s"
                f" (frame {after}), at {max(around):.1f} m/s at most before and after"
            )
    return None


def _other_size(sides: NDArray[Any]) -> str | None:
    """A size ``(T, 2)`` that is constant, and from some frame on constantly another, in words."""
    (seen,) = np.nonzero((sides > 0).all(axis=-1))  # False where NaN
    sizes = sides[seen]
    for cut in range(2, len(sizes) - 1):
        one, other = np.median(sizes[:cut], axis=0), np.median(sizes[cut:], axis=0)
        constant = np.allclose(sizes[:cut], one, rtol=0.02) and np.allclose(
            sizes[cut:], other, rtol=0.02
        )
        if constant and max((one / other).max(), (other / one).max()) > OTHER_SIZE:
            return (
                f"is {one[0]:.1f} x {one[1]:.1f} m before frame {seen[cut]} and"
                f" {other[0]:.1f} x {other[1]:.1f} m from there on"
            )
    return None
