"""Runs an exported forecaster: numpy and ONNX Runtime alone, no torch and nothing else of ours.

`forecast export` writes this file beside the graphs. What is here is what any host has to do, in
whatever language: keep the state, know which slot holds which id, and call the graphs in turn.

    forecaster = load("exported")
    forecaster.start(map_layers, lane_points)
    forecaster.observe(time_s, ego_pose, ids, labels, boxes)   # once for every moment
    for step in forecaster.forecast(horizon=6, dt_s=0.5):
        print(step["id"], step["pose"], step["existence"])
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Arrays = dict[str, NDArray[Any]]
Run = Callable[[str, Arrays], Arrays]
"""Runs the graph of a name."""

SCHEMA = "bev-forecast-export/1"
METADATA = "metadata.json"
HISTORY = "history.txt"
HISTORY_SCHEMA = "bev-forecast-history/1"
DIRECTIONS = 8  # lane points of a square in different eighths of a turn are different lanes
SAME_MOMENT_S = 0.02
LONGEST_S = 600.0  # from which on times are counted anew: float32 has seven digits
SPAN = 4096  # squares are told apart within so many from the origin to each side


class ExportError(ValueError):
    """An exported folder or an input that is not what it should be, in one line."""

    def __init__(self, expected: str, got: str, remedy: str) -> None:
        super().__init__(f"expected {expected}; got {got}; {remedy}")
        self.parts = expected, got, remedy


class HostForecaster:
    """Keeps the state of one scene, and calls the graphs.

    Args:
        bucket: Of the metadata: slots, lane points, state and graphs.
        metadata: Of which it reads ``classes`` and ``lane_spacing_m``.
        run: Runs a graph.

    Attributes:
        state: The state by name.
        left_out: How many agents found no slot in the last observation.
    """

    def __init__(self, bucket: Mapping[str, Any], metadata: Mapping[str, Any], run: Run) -> None:
        self._run, self._graphs, self._state = run, bucket["graphs"], bucket["state"]
        self.slots, self.lane_spacing_m = int(bucket["slots"]), metadata["lane_spacing_m"]
        self.classes, self.left_out = len(metadata["classes"]), 0
        self.start()

    def start(self, layers: ArrayLike | None = None, points: ArrayLike | None = None) -> None:
        """Forgets everything, and takes the map.

        Args:
            layers: ``(M, H, W)`` of 0 and 1, in the order of the metadata; None = empty.
            points: ``(P, 3)`` x, y, yaw of lane centres, NaN padded; None = none. Of more than
                there is room for, the nearest to the ego are kept.
        """
        self.state: Arrays = {
            name: np.zeros(spec["shape"], spec["dtype"]) for name, spec in self._state.items()
        }
        room = self.state["lane_point"]
        room[:] = np.nan
        known = thinned(np.empty((0, 3)) if points is None else points, self.lane_spacing_m)
        near = np.argsort(np.hypot(known[:, 0], known[:, 1]), kind="stable")[: room.shape[1]]
        room[0, : len(near)] = known[np.sort(near)]
        if layers is not None and "map" in self.state:
            given, wanted = np.asarray(layers, np.float32), self.state["map"].shape[1:]
            if given.shape != wanted:
                raise ExportError(f"a map of shape {wanted}", str(given.shape), "crop or fill it")
            self.state["map"] = given[None]
        self._on_raster: NDArray[Any] = np.empty(0, np.int64)
        self._zero_s = self._last_s = -np.inf

    def observe(
        self,
        time_s: float,
        ego_pose: ArrayLike,
        ids: ArrayLike,
        labels: ArrayLike,
        boxes: ArrayLike,
        raster: bool = True,
        raster_ids: ArrayLike | None = None,
        moved: ArrayLike = (0.0, 0.0, 0.0),
    ) -> None:
        """Takes what was seen at one moment.

        Args:
            time_s: When; not before the last one.
            ego_pose: x, y, yaw of the ego.
            ids: ``(N,)`` from 1, each once.
            labels: ``(N,)`` classes from 1.
            boxes: ``(N, 5)`` x, y, yaw, length, width; rows with NaN were not seen.
            raster: Whether the boxes are drawn and the raster is read, if the model reads any.
            raster_ids: Ids of agents that have a cell on the grid though their centre may be off
                it, where ``raster`` is true; None = none.
            moved: Pose of the frame that all of this is given in, in the frame of the observation
                before; zero = the same.
        """
        ids, labels = np.asarray(ids, np.int64), np.asarray(labels, np.int64)
        boxes = np.asarray(boxes, np.float32).reshape(-1, 5)
        shown = np.isfinite(boxes).all(1) & (labels > 0) & (ids > 0)
        ids, labels, boxes = ids[shown], labels[shown], boxes[shown]
        self._refuse_wrong(time_s, ids, labels)
        moved = np.asarray(moved, np.float32)
        slot_id = self._associated(ids, boxes, moved)
        slot_label = np.zeros_like(slot_id)
        box = np.full((self.slots, 5), np.nan, np.float32)
        for row, one in enumerate(ids):
            slot_label[slot_id == one], box[slot_id == one] = labels[row], boxes[row]
        if raster:
            self._on_raster = np.asarray([] if raster_ids is None else raster_ids, np.int64)
        name = "observe_raster" if raster and "observe_raster" in self._graphs else "observe"
        given = {
            "slot_id": slot_id[None],
            "slot_label": slot_label[None],
            "box": box[None],
            "time_s": np.array([self._since_zero(time_s)], np.float32),
            "ego": np.asarray(ego_pose, np.float32)[None],
            "moved": moved[None],
        }
        self.state.update(self._call(name, self.state, given)[0])

    def _refuse_wrong(self, time_s: float, ids: NDArray[Any], labels: NDArray[Any]) -> None:
        if len(np.unique(ids)) < len(ids):
            raise ExportError("every id once in a moment", "one twice", "give each agent its own")
        if (most := labels.max(initial=0)) > self.classes:
            raise ExportError(f"labels of 1 to {self.classes}", str(most), "give classes it knows")
        if not np.isfinite(time_s):
            raise ExportError("a time in seconds", str(time_s), "give the moment's own")
        if time_s < self._last_s - SAME_MOMENT_S:
            found = f"one of {time_s} s after one of {self._last_s} s"
            remedy = "sort them, or leave the late one out"
            raise ExportError("observations in the order of time", found, remedy)

    def _since_zero(self, time_s: float) -> float:
        """A time as the graphs are given it; clocks may count from 1970."""
        if time_s - self._zero_s > LONGEST_S:
            if np.isfinite(self._zero_s):
                shift = np.float32(time_s - self._zero_s)
                self.state["time"] = self.state["time"] - shift
            self._zero_s = time_s
        self._last_s = time_s
        return time_s - self._zero_s

    def forecast(self, horizon: int, dt_s: float, draw: bool = False) -> Iterator[Arrays]:
        """Steps into the future; what was observed stays as it is.

        Args:
            horizon: Number of steps.
            dt_s: Seconds of each.
            draw: Whether rasters are drawn as well.

        Yields:
            For each step ``id`` (0 = empty slot), ``label``, ``pose``, ``existence`` and
            ``uncertainty`` of every slot; and ``instance``, ``semantic``, ``occupancy`` and
            ``flow``, if they are drawn.
        """
        if not self.state["observed"][0]:
            raise ExportError("an observation before the first step", "none", "observe a moment")
        if not self.state.get("raster_seen", np.ones(1))[0]:
            wanted = "an observation whose raster is read before the first step"
            raise ExportError(wanted, "none", "observe a moment with raster=True")
        on_raster = np.isin(self.state["id"], self._on_raster)
        future = dict(self.state)
        future.update(self._call("look_ahead", future, {"on_raster": on_raster})[0])
        for _ in range(horizon):
            given = {"dt": np.array([dt_s], np.float32)}
            changed, said = self._call("step", future, given)
            future.update(changed)
            step = {"id": future["id"][0], "label": future["label"][0]}
            step["pose"] = said["forecast_pose"][0]
            step.update({key: said[key][0] for key in ("existence", "uncertainty")})
            if draw:
                rasters = self._call("draw", future, said)[1]
                step.update({name: raster[0] for name, raster in rasters.items()})
            yield step

    def _call(self, name: str, state: Arrays, given: Arrays) -> tuple[Arrays, Arrays]:
        """What a graph changes of the state, and what else it says."""
        graph = self._graphs[name]
        feed = {key: state[key] for key in graph["state"]}
        feed.update({key: given[key] for key in graph["inputs"]})
        said = self._run(name, feed)
        changed = {key[5:]: value for key, value in said.items() if key.startswith("next_")}
        return changed, {key: said[key] for key in graph["outputs"]}

    def _associated(self, ids: NDArray[Any], boxes: NDArray[Any], moved: NDArray[Any]) -> Any:
        """Which id each slot holds from now on.

        Known agents keep their slots. When others come, agents that were not seen in any of the
        observations that are remembered are forgotten. New agents take free slots, from the first.
        Of more agents than slots the nearest to the ego are kept.
        """
        held = self.state["id"][0].copy()
        new = ~np.isin(ids, held)
        self.left_out = 0
        if not new.any():
            return held
        held[~self.state["seen"][0].any(-1)] = 0
        fresh, place = ids[new], boxes[new, :2]
        if len(fresh) > (held == 0).sum():
            known = np.flatnonzero(held)
            last = _seen_from(moved, self.state["past"][0, known, -1, :2])
            far = np.hypot(*np.concatenate((last, place)).T)
            kept = np.zeros(len(far), bool)
            kept[np.argsort(far, kind="stable")[: self.slots]] = True
            self.left_out = int((~kept).sum())
            held[known[~kept[: len(known)]]] = 0
            fresh = fresh[kept[len(known) :]]
        held[np.flatnonzero(held == 0)[: len(fresh)]] = fresh
        return held


def _seen_from(moved: NDArray[Any], points: NDArray[Any]) -> NDArray[Any]:
    """Points in the frame whose pose in theirs is ``moved``."""
    x, y = (points - moved[:2]).T
    cos, sin = np.cos(moved[2]), np.sin(moved[2])
    return np.stack((cos * x + sin * y, cos * y - sin * x), -1)


def thinned(points: ArrayLike, spacing_m: float) -> NDArray[Any]:
    """The first lane point of each direction in every square of a lattice.

    Args:
        points: ``(P, 3)`` x, y, yaw; NaN padded.
        spacing_m: Side of the squares; 0 = all points are kept.
    """
    points = np.asarray(points, np.float32).reshape(-1, 3)
    points = points[np.isfinite(points).all(1)]
    if not spacing_m:
        return points
    cell = np.floor(points[:, :2] / np.float32(spacing_m)).astype(np.int64)
    cell = np.clip(cell, -SPAN, SPAN - 1) + SPAN
    turns = points[:, 2] / np.float32(2 * np.pi) * np.float32(DIRECTIONS)
    turn = np.round(turns).astype(np.int64) % DIRECTIONS
    key = (cell[:, 0] * 2 * SPAN + cell[:, 1]) * DIRECTIONS + turn
    first = np.unique(key, return_index=True)[1]
    return points[np.sort(first)]


def read_metadata(folder: str | Path) -> dict[str, Any]:
    """The metadata of an exported folder, checked against its own checksum.

    Raises:
        ExportError: It is missing, of another schema, or was edited.
    """
    path = Path(folder) / METADATA
    try:
        metadata: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        schema, stated = metadata["schema"], metadata.pop("sha256")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportError(
            f"a folder that `forecast export` wrote, with {METADATA}",
            f"{path} ({type(error).__name__})",
            "check the folder, or export again",
        ) from error
    if schema != SCHEMA:
        raise ExportError(f"an export of schema {SCHEMA}", f"{schema} in {path}", "export again")
    if checksum(metadata) != stated:
        found = f"one that was edited: {path}"
        raise ExportError(f"the {METADATA} that was exported", found, "export again")
    return metadata


def checksum(metadata: Mapping[str, Any]) -> str:
    """SHA-256 of metadata, whatever the order and the spaces of its file."""
    return hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()


def load(folder: str | Path, slots: int | None = None, threads: int = 0) -> HostForecaster:
    """An exported forecaster on ONNX Runtime.

    Args:
        folder: That `forecast export` wrote.
        slots: The bucket; None = the smallest.
        threads: Of ONNX Runtime; 0 = as many as cores.

    Raises:
        ExportError: The folder lacks something, or a file is not the one that was exported.
    """
    metadata = read_metadata(folder)
    if "onnx" not in metadata["formats"]:
        found = ", ".join(metadata["formats"])
        raise ExportError("graphs for ONNX Runtime", found, "export with --format onnx")
    bucket = bucket_of(metadata, slots)
    sessions = {
        name: _session(Path(folder), graph["files"]["onnx"], threads)
        for name, graph in bucket["graphs"].items()
    }

    def run(name: str, feed: Arrays) -> Arrays:
        session = sessions[name]
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, feed), strict=True))

    return HostForecaster(bucket, metadata, run)


def read_history(folder: str | Path) -> dict[str, Any]:
    """The history that was exported, to try the graphs with.

    Returns:
        ``dt_s``; ``layers`` and ``points`` for :meth:`HostForecaster.start`; ``moments``, each the
        arguments of :meth:`HostForecaster.observe`.

    Raises:
        ExportError: It is missing or damaged.
    """
    path = Path(folder) / HISTORY
    try:
        words = iter(path.read_text(encoding="utf-8").split())
        if next(words) != HISTORY_SCHEMA:
            raise ValueError("another schema")
        dt_s, _ = _number(words, "dt_s"), _number(words, "lane_spacing_m")
        layers, rows, columns = int(_number(words, "map")), int(next(words)), int(next(words))
        cells = [[int(cell) for cell in next(words)] for _ in range(layers * rows)]
        count = int(_number(words, "points"))
        points = np.array([float(next(words)) for _ in range(3 * count)]).reshape(-1, 3)
        moments = [_moment(words) for _ in range(int(_number(words, "moments")))]
        return {
            "dt_s": dt_s,
            "layers": np.array(cells, np.float32).reshape(layers, rows, columns),
            "points": points,
            "moments": moments,
        }
    except (OSError, ValueError, StopIteration) as error:
        found = f"{path} ({type(error).__name__})"
        raise ExportError("the history that was exported", found, "export again") from error


def _number(words: Iterator[str], name: str) -> float:
    if next(words) != name:
        raise ValueError(name)
    return float(next(words))


def _moment(words: Iterator[str]) -> dict[str, Any]:
    time_s = _number(words, "moment")
    ego = [float(next(words)) for _ in range(3)]
    raster, boxes, on_raster = [int(next(words)) for _ in range(3)]
    rows = [[float(next(words)) for _ in range(7)] for _ in range(boxes)]
    table = np.array(rows).reshape(-1, 7)
    return {
        "time_s": time_s,
        "ego_pose": ego,
        "ids": table[:, 0],
        "labels": table[:, 1],
        "boxes": table[:, 2:],
        "raster": bool(raster),
        "raster_ids": [int(next(words)) for _ in range(on_raster)],
    }


def bucket_of(metadata: Mapping[str, Any], slots: int | None) -> Any:
    """The bucket of so many slots; the smallest where None."""
    buckets = {bucket["slots"]: bucket for bucket in metadata["buckets"]}
    chosen = min(buckets) if slots is None else slots
    if chosen not in buckets:
        raise ExportError(f"slots of {sorted(buckets)}", str(slots), "choose one of these")
    return buckets[chosen]


def checked_file(folder: Path, file: Mapping[str, str]) -> Path:
    """The path of a graph that is the one that was exported."""
    path = folder / file["path"]
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ExportError(f"the graph {path}", "none", "export again") from error
    if found != file["sha256"]:
        wanted = f"the graph that was exported as {path.name}"
        raise ExportError(wanted, f"another one: {path}", "export again")
    return path


def _session(folder: Path, file: Mapping[str, str], threads: int) -> Any:
    import onnxruntime

    path = checked_file(folder, file)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # not what it cannot fold
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
