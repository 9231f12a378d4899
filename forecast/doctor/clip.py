"""One sequence's arrays as they are examined, and the findings about it; needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from forecast.evaluation.counts import mask_centres
from forecast.grid import BEVGrid
from forecast.schema import SequenceMeta

FAST_M_S = 2.0
"""Above this speed the direction of motion gives an agent's heading; below it is jitter."""
ON_ROADS = frozenset({"vehicle", "car", "truck", "van", "bus", "trailer", "motorcycle", "cyclist"})
"""Classes that keep to roads and go where they head."""


@dataclass(frozen=True)
class Finding:
    """A fault, in words.

    Attributes:
        text: What is wrong, without naming where.
        agent: Instance id at fault; None where it is not one agent's.
        sequence: Index in the store; None = the store as a whole.
        scene: Name of its recording.
    """

    text: str
    agent: int | None = None
    sequence: int | None = None
    scene: str = ""

    def __str__(self) -> str:
        """One line, the place first."""
        where = [] if self.sequence is None else [f"sequence {self.sequence}"]
        where += [f"({self.scene})"] if self.scene else []
        agent = "" if self.agent is None else f", agent {self.agent}"
        place = " ".join(where) + agent
        return f"{place}: {self.text}" if place else self.text


@dataclass
class Votes:
    """Counts of a store's sequences, judged for the whole store first, then scene by scene.

    Attributes:
        of_scenes: Scene -> its first sequence, and the sum of its sequences' counts.
    """

    of_scenes: dict[str, tuple[int, NDArray[Any]]] = field(default_factory=dict)

    def add(self, sequence: int, scene: str, counts: NDArray[Any]) -> None:
        """Takes the counts of one sequence; the same shape for all."""
        first, so_far = self.of_scenes.get(scene, (sequence, np.zeros_like(counts)))
        self.of_scenes[scene] = (first, so_far + counts)

    def findings(self, judge: Callable[[NDArray[Any]], str]) -> Iterator[Finding]:
        """What ``judge`` says of the store as a whole, or else of single scenes; "" = nothing."""
        counts = [votes for _, votes in self.of_scenes.values()]
        if counts and (text := judge(np.sum(counts, axis=0))):
            yield Finding(text)
            return
        for scene, (first, votes) in self.of_scenes.items():
            if text := judge(votes):
                yield Finding(text, None, first, scene)


@dataclass(frozen=True)
class Clip:
    """One sequence of a store, everything in the present ego frame; metres, radians.

    Attributes:
        grid: Of the rasters.
        dt_s: Seconds between frames.
        history: Frames up to and including the present.
        classes: Names; class k is ``classes[k - 1]``.
        semantic: ``(T, y, x)``.
        instance: ``(T, y, x)``.
        ego_pose: ``(T, 3)`` x, y, yaw.
        state: ``(N, T, 5)`` x, y, yaw, length, width, NaN = absent; None = masks only.
        label: ``(N,)`` class of each track, 0 = padding; None where ``state`` is.
        map: Layer -> ``(y, x)`` 0/1; empty without a map.
        lanes: ``(P, 3)`` x, y, yaw of lane centres, finite.
        exact: Whether boxes were drawn by the protocol "exact": nothing left out, nothing moved.
    """

    grid: BEVGrid
    dt_s: float
    history: int
    classes: tuple[str, ...]
    semantic: NDArray[Any]
    instance: NDArray[Any]
    ego_pose: NDArray[Any]
    state: NDArray[Any] | None = None
    label: NDArray[Any] | None = None
    map: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    lanes: NDArray[Any] = field(default_factory=lambda: np.empty((0, 3)))
    exact: bool = True

    @property
    def has_ids(self) -> bool:
        """Whether agents are told apart, by tracks or by ids in the rasters."""
        return self.state is not None or bool(self.instance.any())

    @property
    def centres(self) -> NDArray[Any]:
        """``(N, T, 2)`` centre of each id (row = id - 1): of its box, else of its mask."""
        if self.state is not None:
            return np.asarray(self.state[..., :2], np.float64)
        ids = np.arange(1, int(self.instance.max(initial=0)) + 1)
        frames = [mask_centres(frame, ids, self.grid) for frame in self.instance]
        return np.stack(frames, axis=1)

    def named(self, label: int) -> str:
        """A class by name."""
        return self.classes[label - 1] if 0 < label <= len(self.classes) else f"class {label}"


def clip_of(data: xr.Dataset, meta: SequenceMeta, index: int) -> Clip:
    """One sequence of an open store; call it where damaged chunks are refused."""
    one = data.isel(sequence=index)
    layers = one["map"].values if "map" in one else ()
    lanes = one["map_point"].values if "map_point" in one else np.empty((0, 3))
    has_tracks = "track_state" in one and "track_class" in one
    return Clip(
        grid=meta.grid,
        dt_s=meta.dt_s,
        history=meta.history,
        classes=meta.classes,
        semantic=one["semantic"].values,
        instance=one["instance"].values,
        ego_pose=one["ego_pose"].values,
        state=one["track_state"].values.astype(np.float64) if has_tracks else None,
        label=one["track_class"].values if has_tracks else None,
        map=dict(zip(meta.map_layers, layers, strict=False)),
        lanes=lanes[np.isfinite(lanes).all(axis=-1)],
        exact=meta.protocol.get("name") == "exact",
    )


def steps(path: NDArray[Any], dt_s: float) -> Iterator[tuple[int, int, NDArray[Any], float]]:
    """The steps between the frames at which something is seen.

    Args:
        path: ``(T, 2)`` metres, NaN = not seen.
        dt_s: Seconds between frames.

    Yields:
        Frame before, frame after, displacement ``(2,)`` in metres, seconds between.
    """
    seen = np.flatnonzero(np.isfinite(path).all(axis=-1)).tolist()
    for before, after in pairwise(seen):
        yield before, after, path[after] - path[before], (after - before) * dt_s
