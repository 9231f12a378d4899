"""Sequences around an ego that turns, as the doctor examines them: right, then spoilt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecast.doctor.checkup import StoreCheck
from forecast.doctor.clip import Clip, Finding, clip_of
from forecast.grid import BEVGrid
from forecast.schema import SequenceMeta
from tests.support.stores import Mover, draw, sequence_dataset

SQUARE = BEVGrid(-30.0, 30.0, -30.0, 30.0, 0.5)
TURNING = Mover(0.0, 0.0, speed=6.0, turn_rate=0.25)
PARKED = (
    Mover(9.0, -6.0, 0.1),
    Mover(4.0, 9.0, np.pi),
    Mover(-8.0, 5.0, 1.2),
    Mover(12.0, 3.0, 0.4),
    Mover(-5.0, -9.0, 0.7),
)
ONCOMING = Mover(15.0, 4.0, np.pi, speed=4.0)


def driving(
    movers: Sequence[Mover] = (*PARKED, ONCOMING),
    ego: Mover = TURNING,
    grid: BEVGrid = SQUARE,
    dt_s: float = 0.5,
) -> Clip:
    """One sequence of movers around an ego."""
    data = sequence_dataset([movers], grid=grid, dt_s=dt_s)
    data["ego_pose"].values[0] = ego.state(data["time"].values)[:, :3]
    return clip_of(data, SequenceMeta.from_attrs(data.attrs, "made up"), 0)


def own_frames(clip: Clip) -> NDArray[Any]:
    """Its boxes as the ego saw them in each frame, ``(N, T, 5)``."""
    assert clip.state is not None
    state, (x, y, yaw) = clip.state.copy(), clip.ego_pose.T
    ahead, left = state[..., 0] - x, state[..., 1] - y
    state[..., 0] = ahead * np.cos(yaw) + left * np.sin(yaw)
    state[..., 1] = left * np.cos(yaw) - ahead * np.sin(yaw)
    state[..., 2] -= yaw
    return state


def moved_by(state: NDArray[Any], ego_pose: NDArray[Any]) -> NDArray[Any]:
    """Boxes of each frame's own frame, moved by the ego's poses."""
    moved, (x, y, yaw) = state.copy(), ego_pose.T
    moved[..., 0] = state[..., 0] * np.cos(yaw) - state[..., 1] * np.sin(yaw) + x
    moved[..., 1] = state[..., 0] * np.sin(yaw) + state[..., 1] * np.cos(yaw) + y
    moved[..., 2] += yaw
    return moved


def turned(state: NDArray[Any], turn: NDArray[np.float64]) -> NDArray[Any]:
    """Boxes turned (or mirrored) by a matrix about the origin."""
    done = state.copy()
    done[..., :2] = state[..., :2] @ turn.T
    heading = np.stack([np.cos(state[..., 2]), np.sin(state[..., 2])], axis=-1) @ turn.T
    done[..., 2] = np.arctan2(heading[..., 1], heading[..., 0])
    return done


def masks_of(clip: Clip, state: NDArray[Any]) -> Clip:
    """The same sequence as masks alone, drawn from other boxes."""
    frames = [draw(clip.grid, state[:, frame]) for frame in range(state.shape[1])]
    instance = np.stack(frames)
    return replace(clip, instance=instance, semantic=(instance > 0) * 1, state=None, label=None)


def asked(check: StoreCheck, clips: Sequence[Clip], scenes: Sequence[str] = ()) -> list[Finding]:
    """What a check of the whole store says of sequences, all of one scene unless told."""
    for index, clip in enumerate(clips):
        check.add(index, scenes[index] if scenes else "drive", clip)
    return list(check.findings())
