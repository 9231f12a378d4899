"""What the grid is centred on: the ego, another agent, a fixed place, or each agent that moves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data_tools.scene import DenseScene, Scene
from forecast.errors import ConfigError, DataError

Array = NDArray[np.float64]

EGO, MOVING, AGENT = "ego", "moving", "agent:"
MOVED_M = 2.0  # away from where it is first seen: not standing


def parse(text: str) -> Array | None:
    """The pose ``(3,)`` of a fixed place, ``x,y`` or ``x,y,yaw`` in the world; None for agents.

    Raises:
        ConfigError: The text is neither a place nor names agents.
    """
    if text in (EGO, MOVING) or text.removeprefix(AGENT) not in ("", text):
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (2, 3) or not np.isfinite(numbers).all():
        raise ConfigError("ego, moving, agent:ID or x,y[,yaw]", repr(text), "correct --centre")
    return np.array([*numbers, 0.0][:3])


def paths(centre: str, scene: Scene | DenseScene, state: Array) -> list[Array]:
    """Poses ``(T, 3)`` of each thing that the grid is centred on in turn, NaN where not known.

    Args:
        centre: See :func:`parse`.
        scene: What was recorded.
        state: ``(N, T, 5)`` its tracks that are drawn.

    Raises:
        DataError: There is no such agent.
    """
    fixed = parse(centre)
    if fixed is not None:
        return [np.tile(fixed, (len(scene.time_s), 1))]
    if centre == EGO:
        if isinstance(scene, Scene) and scene.ego_tracks:
            return [scene.state[track, :, :3] for track in scene.ego_tracks]
        return [scene.ego_pose]
    if isinstance(scene, DenseScene):
        raise DataError("tracks to centre on", "rasters", "use ego or x,y[,yaw]")
    if centre == MOVING:
        wanted = "an agent that moves"
        found = [track[:, :3] for track in state if _moves(track)]
    else:
        wanted = f"an agent {centre.removeprefix(AGENT)!r}"
        every = zip(scene.track_id, scene.state, strict=True)
        found = [track[:, :3] for name, track in every if f"{AGENT}{name}" == centre]
    if not found:
        raise DataError(wanted, "none", "choose another --centre")
    return found


def _moves(track: Array) -> bool:
    place = track[np.isfinite(track[:, 0]), :2]
    return bool((np.linalg.norm(place - place[:1], axis=1) > MOVED_M).any())
