"""Sizes of agents whose recording gives none: those that are typical of what they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from data_tools.classes import TYPICAL_SIZE_M
from data_tools.scene import Scene

Array = NDArray[np.float64]

UNKNOWN = (np.nan, np.nan)
WITHOUT_SIZE = "without a size, of a class without a typical one"


def with_typical_sizes(
    scene: Scene, class_of: Callable[[str], str], classes: Iterable[str]
) -> Scene:
    """A scene in which agents without any length or width have that of their label or class.

    The label goes first, for it says more: a bus is longer than other vehicles.

    Args:
        scene: Sides that are NaN in all frames are not known; those of observations are not known
            wherever they are NaN, for a stack knows only what it has measured until then.
        class_of: The class of a label.
        classes: The classes wanted; their agents of no typical size are counted in the notes.
    """
    wanted = {name.lower() for name in classes}
    names = [class_of(native).lower() for native in scene.track_class]
    size = np.array(
        [
            TYPICAL_SIZE_M.get(native.lower(), TYPICAL_SIZE_M.get(name, UNKNOWN))
            for native, name in zip(scene.track_class, names, strict=True)
        ]
    ).reshape(-1, 2)
    unsized = np.asarray(np.isnan(scene.state[..., 3:]).all(axis=1))
    lacking = unsized & _seen(scene.state).any(axis=1, keepdims=True)
    notes = Counter(scene.notes)
    for track in np.flatnonzero(lacking.any(axis=1)):
        if np.isfinite(size[track]).all():
            notes["tracks with their class's typical size"] += 1
        elif names[track] in wanted:
            notes[f"agents {scene.track_class[track]} {WITHOUT_SIZE}"] += 1
    observed = scene.observed and replace(
        scene.observed, state=_filled(scene.observed.state, size[:, None])
    )
    state = _filled(scene.state, np.where(lacking, size, np.nan)[:, None])
    return replace(scene, state=state, observed=observed, notes=dict(notes))


def _seen(state: Array) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(state[..., :3]).all(axis=-1))


def _filled(state: Array, size: Array) -> Array:
    """States ``(N, T, 5)`` with the sizes ``(N, 1, 2)`` in place of NaN, where they are seen."""
    filled = state.copy()
    missing = np.isnan(state[..., 3:]) & _seen(state)[..., None]
    filled[..., 3:] = np.where(missing, size, state[..., 3:])
    return filled
