"""Scenarios of ScenarioNet / MetaDrive: one pickle each, read by a restricted unpickler.

What differs from the data sets that they were converted from:

- in those of nuScenes the ego's length and width are swapped (a 1.7 m long and 4.1 m wide car);
- there, too, ``boundary_*`` features are the edges of the road, though typed as lane markings;
- MetaDrive wrote one ``size`` of length, width and height a frame until spring 2023;
- what nuScenes has at 2 Hz was interpolated to 10 Hz: between two annotated frames a pose depends
  on the later one, so that only annotated frames count as observed.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_tools.formats.plain_pickle import PickledArray, load
from data_tools.scene import MapElement, Observed, Scene
from data_tools.sources.inputs import decimate, find_files
from data_tools.sources.roads import area, line, widened
from forecast.angles import wrap_angle
from forecast.errors import DataError
from forecast.storage.files import read_whole

Array = NDArray[np.float64]

# Lists of a data set's scenarios that lie beside them.
INDEXES = ("dataset_summary.pkl", "dataset_mapping.pkl")
MAX_BYTES = 1 << 28
NUSCENES = "nuscenes"
ANNOTATED_EVERY = 5  # frames of those that were converted from nuScenes
# A pickle may refer to one array many times: these bound what a small file can unpack to.
MAX_STATES = 5_000_000
MAX_POINTS = 5_000_000


class ScenarioNet:
    """One scenario a file."""

    name = "scenarionet"

    def find(self, inputs: Sequence[str]) -> list[str]:
        """The scenario files in some inputs, without the lists of them.

        Raises:
            DataError: An input does not exist or holds no ``.pkl``.
        """
        files = find_files(inputs, (".pkl",))
        return [file for file in files if posixpath.basename(file) not in INDEXES]

    def read(self, unit: str, dt_s: float) -> Scene:
        """A scenario at ``dt_s``, which must be a multiple of its own step.

        Raises:
            DataError: The file holds more than numbers, text and containers, or no such scenario.
        """
        content = load(read_whole(unit, MAX_BYTES), unit)
        try:
            return _scene(content, unit, dt_s)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise DataError(
                "a ScenarioNet scenario with metadata, tracks and map_features",
                f"{unit} with {error!r}",
                "leave it out",
            ) from error


def _scene(content: Any, unit: str, dt_s: float) -> Scene:
    metadata, tracks = content["metadata"], content["tracks"]
    if metadata.get("coordinate") == "left-handed":
        raise DataError("right-handed coordinates", f"left-handed in {unit}", "convert it")
    time_s = _numbers(metadata["ts"], (-1,))
    ids = tuple(_text(name) for name in tracks)
    if not ids:
        raise DataError("traffic", f"no tracks in {unit}", "leave it out")
    if len(set(ids)) < len(ids) or len(ids) * len(time_s) > MAX_STATES:
        raise DataError("each track id once, in a scene that fits memory", unit, "leave it out")
    ego = _ego(metadata, ids, unit)
    every = decimate(time_s, dt_s, unit)
    annotated = ANNOTATED_EVERY if _text(content.get("version", "")).startswith(NUSCENES) else 1
    state = np.stack([_states(track["state"], len(time_s)) for track in tracks.values()])
    swapped = bool((state[ego, :, 3] < state[ego, :, 4]).any())
    if swapped:
        state[ego, :, 3:] = state[ego, :, :2:-1]
    return Scene(
        name=_text(content["id"]),
        time_s=time_s[every],
        dt_s=dt_s,
        track_id=ids,
        track_class=tuple(_text(track["type"]) for track in tracks.values()),
        state=state[:, every],
        ego_pose=state[ego, every, :3].copy(),
        map=_map(content["map_features"], unit),
        observed=Observed(time_s[::annotated], state[:, ::annotated]),
        notes={"ego wider than long, its sides put right": int(swapped)},
    )


def _ego(metadata: Any, ids: tuple[str, ...], unit: str) -> int:
    name = _text(metadata["sdc_id"])
    if name not in ids:
        raise DataError("the ego, sdc_id, among the tracks", f"none in {unit}", "leave it out")
    return ids.index(name)


def _text(value: Any) -> str:
    if not isinstance(value, str | int):  # containers in containers may unfold without end
        raise TypeError(f"a name, not a {type(value).__name__}")
    return str(value)


def _numbers(value: Any, shape: tuple[int, ...]) -> Array:
    if not isinstance(value, PickledArray):
        raise TypeError(f"an array, not a {type(value).__name__}")
    return np.asarray(value.values, np.float64).reshape(shape)


def _states(state: Any, frames: int) -> Array:
    """A track as ``(T, 5)`` x, y, yaw, length, width; NaN where it is not valid.

    Sizes may be missing: the format asks for poses only.
    """
    columns = np.full((frames, 5), np.nan)
    columns[:, :2] = _numbers(state["position"], (frames, -1))[:, :2]
    yaw = _numbers(state["heading"], (frames,))
    columns[:, 2] = np.where(np.isfinite(yaw), wrap_angle(np.nan_to_num(yaw)), np.nan)
    if "size" in state:
        columns[:, 3:] = _numbers(state["size"], (frames, -1))[:, :2]
    for place, name in ((3, "length"), (4, "width")):
        if name in state:
            columns[:, place] = _numbers(state[name], (frames,))
    columns[~(_numbers(state["valid"], (frames,)) > 0)] = np.nan
    return columns


def _map(features: Any, unit: str) -> tuple[MapElement, ...]:
    """Lanes, edges and crosswalks; drivable are lanes' own areas, or centre lines widened."""
    elements: list[MapElement] = []
    without_area: list[MapElement] = []
    points = 0
    for key, feature in features.items():
        name, kind = _text(key), _text(feature["type"])
        where = f"map feature {name} of {unit}"
        outline, centre = _points(feature, "polygon"), _points(feature, "polyline")
        points += len(outline) + len(centre)
        if points > MAX_POINTS:
            raise DataError(f"a map of {MAX_POINTS} points at most", unit, "leave it out")
        if kind.startswith("LANE"):
            lane = line("lane_centre", centre, where)
            surface = area("drivable", outline, where) if kind != "LANE_BIKE_LANE" else ()
            elements += (*lane, *surface)
            without_area += lane if not surface and kind != "LANE_BIKE_LANE" else ()
        elif kind.startswith("ROAD_EDGE") or name.startswith("boundary_"):
            elements += line("road_edge", centre, where)
        elif kind == "CROSSWALK":
            elements += area("crosswalk", outline, where)
    return (*elements, *widened(without_area))


def _points(feature: Any, name: str) -> Array:
    """Corners or points of a feature, ``(n, 2)``; none where it has no such thing."""
    value = feature.get(name, ())
    if isinstance(value, PickledArray):
        return _numbers(value, (len(value.values), -1))[:, :2]
    if len(value) > MAX_POINTS:
        raise ValueError(f"{len(value)} points")
    pairs = [p.values[:2] if isinstance(p, PickledArray) else p[:2] for p in value]
    return np.array([(float(x), float(y)) for x, y in pairs]).reshape(-1, 2)
