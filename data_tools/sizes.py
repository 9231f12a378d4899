"""Sizes of agents whose recording gives none: those that are typical of what they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from data_tools.classes import TYPICAL_SIZE_M
from data_tools.scene import Scene

WITHOUT_SIZE = "without a size, of a class without a typical one"


def with_typical_sizes(
    scene: Scene, class_of: Callable[[str], str], classes: Iterable[str]
) -> Scene:
    """A scene in which agents without any length or width have that of their label or class.

    The label goes first, for it says more: a bus is longer than other vehicles.

    Args:
        scene: Sides that are NaN in all frames are not known.
        class_of: The class of a label.
        classes: The classes wanted; their agents of no typical size are counted in the notes.
    """
    wanted = {name.lower() for name in classes}
    seen = np.asarray(np.isfinite(scene.state[..., :3]).all(axis=-1))
    unsized = np.asarray(np.isnan(scene.state[..., 3:]).all(axis=1))
    lacking = unsized & seen.any(axis=1, keepdims=True)
    state, notes = scene.state.copy(), Counter(scene.notes)
    for track in np.flatnonzero(lacking.any(axis=1)):
        native = scene.track_class[track]
        name = class_of(native).lower()
        size = TYPICAL_SIZE_M.get(native.lower()) or TYPICAL_SIZE_M.get(name)
        if size:
            sides = np.where(lacking[track], size, state[track, :, 3:])
            state[track, :, 3:] = np.where(seen[track, :, None], sides, np.nan)
            notes["tracks with their class's typical size"] += 1
        elif name in wanted:
            notes[f"agents {native} {WITHOUT_SIZE}"] += 1
    return replace(scene, state=state, notes=dict(notes))
