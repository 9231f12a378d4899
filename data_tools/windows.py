"""A scene to sequences: windows of frames, moved into the ego frame of their present."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from data_tools.centre import EGO, paths
from data_tools.geometry import poses_to_frame
from data_tools.history import recent
from data_tools.jumps import jumps
from data_tools.labels.directions import SPACING_M, lane_directions
from data_tools.labels.map_index import MapIndex, area_of
from data_tools.labels.protocols import PROTOCOLS, Traffic
from data_tools.labels.rasterise import MapEdges, rasterise_map
from data_tools.options import PrepareOptions
from data_tools.scene import FARTHEST_M, Observed, Scene, text_of
from forecast.errors import DataError
from forecast.schema import MAX_INSTANCE_ID

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sequence:
    """One entry of a sequence store, everything in the present ego frame.

    Args:
        semantic: ``(T, H, W)`` 0 background, k = class k - 1.
        instance: ``(T, H, W)`` 0 background, else track + 1.
        map: ``(M, H, W)`` 0/1 by layer; only zeros for a scene without a map.
        track_state: ``(N, T, 5)`` x, y, yaw, length, width; NaN where absent; the true tracks,
            whatever the protocol draws.
        track_class: ``(N,)`` class of each track, from 1.
        track_name: ``(N,)`` what the recording calls each track.
        track_history: ``(N, S, 5)`` the same tracks as observed, up to the present.
        sample_time: ``(S,)`` seconds of these samples, ascending to 0, the present.
        track_score: ``(N, T)`` the tracker's confidence; NaN where it gives none.
        ego_pose: ``(T, 3)`` x, y, yaw of the grid's centre.
        map_point: ``(P, 3)`` x, y, yaw of lane centres inside the grid.
        direction: ``(2, H, W)`` x, y of the direction of lanes; ``(0, H, W)`` if not asked for.
        bev: ``(T, C, H, W)`` further channels.
        init_time: Time of the present frame in its recording, seconds.
    """

    semantic: NDArray[np.uint8]
    instance: NDArray[np.uint16]
    map: NDArray[np.uint8]
    track_state: NDArray[np.float32]
    track_class: NDArray[np.uint8]
    track_name: NDArray[np.str_]
    track_history: NDArray[np.float32]
    sample_time: NDArray[np.float32]
    track_score: NDArray[np.float32]
    ego_pose: Array
    map_point: NDArray[np.float32]
    direction: NDArray[np.float16]
    bev: NDArray[np.float32]
    init_time: float


@dataclass(frozen=True)
class Tracks:
    """The tracks of a scene that can be drawn.

    Args:
        state: ``(N, T, 5)`` in the world frame, NaN in all five where absent.
        label: ``(N,)`` class, from 1.
        name: ``(N,)`` what the recording calls each.
        hidden: ``(N, T)`` whether hardly visible; False where the source does not say.
        observed: The same tracks at the recording's own rate.
        score: ``(N, T)`` the tracker's confidence; NaN where the source does not say.
        notes: What was kept, by the source's labels, and what was left out, by reason.
        unwanted: The source's labels that are of no wanted class.
    """

    state: Array
    label: NDArray[np.uint8]
    name: NDArray[np.str_]
    hidden: NDArray[np.bool_]
    observed: Observed
    score: Array
    notes: dict[str, int]
    unwanted: frozenset[str] = frozenset()


def usable_tracks(
    scene: Scene, classes: tuple[str, ...], class_of: Callable[[str], str] = str.lower
) -> Tracks:
    """Keeps the tracks of the wanted classes and blanks boxes that cannot be drawn.

    A box is blanked if one of its five numbers is not finite (or beyond :data:`FARTHEST_M`) or a
    side is not above zero; a track that has no box left is dropped. Both are counted, tracks by
    what the source calls them.

    Args:
        scene: Its ``track_class`` holds the source's own labels.
        classes: Class names wanted, in the order of their labels, in whatever case.
        class_of: The class of a label.

    Raises:
        DataError: Agents are of the wanted classes, and none has a box that can be drawn.
    """
    number = {name.lower(): place for place, name in enumerate(classes, start=1)}
    names = {native: class_of(native) for native in set(scene.track_class)}
    label = np.array([number.get(names[n].lower(), 0) for n in scene.track_class], np.uint8)
    given = np.isfinite(scene.state).any(axis=-1)
    drawable = _drawable(scene.state)
    kept: NDArray[np.bool_] = (label > 0) & drawable.any(axis=1)
    notes = Counter(
        f"agents {native}, kept as {names[native]}" if keep else left_out_note(native)
        for native, keep in zip(scene.track_class, kept, strict=True)
    )
    bad = given & ~drawable & (label > 0)[:, None]
    notes["boxes without a finite pose or size"] = int(bad.sum())
    if bad.any() and not kept.any():
        agents = ", ".join(sorted({n for n, k in zip(scene.track_class, label, strict=True) if k}))
        raise DataError(
            "a box with a finite pose and sides above 0",
            f"none of the agents {agents}",
            "correct poses and sizes, or leave it out",
        )
    state = np.where(drawable[..., None], scene.state, np.nan)
    seen = scene.observed or Observed(scene.time_s, scene.state)
    observed = np.where(_drawable(seen.state)[..., None], seen.state, np.nan)
    score = np.full(given.shape, np.nan) if scene.score is None else scene.score
    hidden = np.zeros(given.shape, bool) if scene.hidden is None else scene.hidden
    unwanted = frozenset(native for native, name in names.items() if name.lower() not in number)
    return Tracks(
        state[kept],
        label[kept],
        np.array([text_of(name) for name in scene.track_id], str)[kept],
        hidden[kept],
        Observed(seen.time_s, observed[kept]),
        score[kept],
        notes,
        unwanted,
    )


def _drawable(state: Array) -> NDArray[np.bool_]:
    """Whether a box has a place on Earth and sides above zero."""
    placed = (np.abs(state) < FARTHEST_M).all(axis=-1)  # False where NaN
    drawable: NDArray[np.bool_] = placed & (state[..., 3:].min(axis=-1) > 0)
    return drawable


def left_out_note(native: str) -> str:
    """The note on agents of a label that are not drawn."""
    return f"agents {native}, left out"


def sequences(scene: Scene, tracks: Tracks, options: PrepareOptions) -> Iterator[Sequence]:
    """Every window of a scene in which history and horizon fit and the grid's centre is known.

    Where tracks take the ego's place in turn, each window is there once.

    Args:
        scene: With frames every ``dt_s / phases`` seconds.
        tracks: Its tracks.
        options: Length, stride and phases of the windows, grid and its centre.

    Raises:
        DataError: There is no such centre, or more agents in one window than instance ids exist.
    """
    roads = MapIndex.of(scene.map)
    for path, window, present in _centred(scene, tracks, options):
        pose = path[present]
        area = area_of(options.grid, pose)
        lanes = roads.lane_points(area, SPACING_M) if options.directions else None
        seen = recent(tracks.observed, float(scene.time_s[present]))
        yield _sequence(
            Traffic(
                poses_to_frame(tracks.state[:, window], pose),
                tracks.hidden[:, window],
                poses_to_frame(path[window], pose),
                float(pose[2]),
                options.history,
            ),
            replace(seen, state=poses_to_frame(seen.state, pose)),
            tracks.score[:, window],
            tracks.label,
            tracks.name,
            roads.edges(area).to_frame(pose),
            poses_to_frame(roads.lane_points(area), pose),
            None if lanes is None else poses_to_frame(lanes, pose),
            float(scene.time_s[present]),
            options,
        )


def _centred(
    scene: Scene, tracks: Tracks, options: PrepareOptions
) -> Iterable[tuple[Array, slice, int]]:
    """Each window and its present, with the path of what it is centred on."""
    every = (
        (path, window, present)
        for path in paths(options.centre, scene, tracks.state)
        for window, present in spans(path, options)
    )
    if options.centre != EGO:
        return every
    first: dict[int, tuple[Array, slice, int]] = {}
    for path, window, present in every:
        first.setdefault(present, (path, window, present))
    return [first[present] for present in sorted(first)]


def spans(path: Array, options: PrepareOptions) -> Iterator[tuple[slice, int]]:
    """The frames of each sequence and, of them, the present.

    They are wherever the centre is known in all frames and does not jump between them.

    Args:
        path: ``(T, 3)`` poses of the grid's centre, not finite where not known.
        options: Length, stride and phases of the windows.
    """
    span = (options.frames - 1) * options.phases + 1
    jump = jumps(path, options.dt_s / options.phases)
    for start in range(0, len(path) - span + 1, options.stride):
        window = slice(start, start + span, options.phases)
        if np.isfinite(path[window]).all() and not jump[start : start + span - 1].any():
            yield window, start + (options.history - 1) * options.phases


def _sequence(
    traffic: Traffic,
    seen: Observed,
    score: Array,
    label: NDArray[np.uint8],
    name: NDArray[np.str_],
    edges: MapEdges,
    points: Array,
    lanes: Array | None,
    init_time: float,
    options: PrepareOptions,
) -> Sequence:
    grid, places = options.grid, traffic.state
    inside: NDArray[np.bool_] = grid.contains(places[..., 0], places[..., 1])  # False where NaN
    kept = _by_first_appearance(inside)
    if len(kept) > MAX_INSTANCE_ID:
        raise DataError(f"at most {MAX_INSTANCE_ID} agents", str(len(kept)), "use a smaller grid")
    traffic = replace(traffic, state=places[kept], hidden=traffic.hidden[kept])
    label = label[kept]
    instance = PROTOCOLS[options.protocol].draw(traffic, grid)
    label_of_id = np.concatenate([np.zeros(1, np.uint8), label])
    return Sequence(
        semantic=label_of_id[instance],
        instance=instance,
        map=rasterise_map(edges, grid),
        track_state=traffic.state.astype(np.float32),
        track_class=label,
        track_name=name[kept],
        track_history=seen.state[kept].astype(np.float32),
        sample_time=seen.time_s.astype(np.float32),
        track_score=score[kept].astype(np.float32),
        ego_pose=traffic.ego_pose,
        map_point=points[grid.contains(points[:, 0], points[:, 1])].astype(np.float32),
        direction=lane_directions(lanes, grid),
        bev=np.empty((options.frames, 0, *grid.shape), np.float32),
        init_time=init_time,
    )


def _by_first_appearance(inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Tracks that are ever inside the grid, those seen first in front, else in their own order."""
    kept = np.flatnonzero(inside.any(axis=1))
    return kept[np.argsort(inside[kept].argmax(axis=1), kind="stable")]
