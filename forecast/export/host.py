"""Runs an exported forecaster: numpy and ONNX Runtime alone, no torch.

`forecast export` writes this file and host_arrays.py beside the graphs. What is here is what any
host has to do, in whatever language: keep the state, know which slot holds which id, and call the
graphs in turn.

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
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING or __package__:
    from . import host_arrays as arrays
else:  # in an exported folder
    import host_arrays as arrays

ExportError, seen_from = arrays.ExportError, arrays.seen_from

Arrays = dict[str, NDArray[Any]]
Run = Callable[[str, Arrays], Arrays]
"""Runs the graph of a name."""

SCHEMA = "bev-forecast-export/2"
METADATA = "metadata.json"
HISTORY = "history.txt"
HISTORY_SCHEMA = "bev-forecast-history/1"
LONGEST_S = 600.0  # from which on times are counted anew: float32 has seven digits
LATEST_S = 1e12  # from which on float64 is no finer than a tenth of a millisecond
SAME_STEP_S = 1e-6


class HostForecaster:
    """Keeps the state of one scene, and calls the graphs.

    Args:
        bucket: Of the metadata: slots, lane points, state and graphs.
        metadata: Of which it reads ``classes``, ``lane_spacing_m``, ``dt_range_s`` and ``grid``;
            the last two are missing before graphs are exported.
        run: Runs a graph.

    Attributes:
        state: The state by name.
        left_out: How many agents of the last observation are not forecast: no slot was free for
            them, or they are off the grid.
    """

    def __init__(self, bucket: Mapping[str, Any], metadata: Mapping[str, Any], run: Run) -> None:
        self._run, self._graphs, self._state = run, bucket["graphs"], bucket["state"]
        self.slots, self.lane_spacing_m = int(bucket["slots"]), metadata["lane_spacing_m"]
        self.classes, self.left_out = len(metadata["classes"]), 0
        self._grid, self._dt_range_s = metadata.get("grid"), metadata.get("dt_range_s", (1e-3, 60))
        self.start()

    def start(self, layers: ArrayLike | None = None, points: ArrayLike | None = None) -> None:
        """Forgets everything, and takes a map as :meth:`set_map` does, in the first frame."""
        drawn, lanes = self._checked_map(layers, points)
        self.state: Arrays = {
            name: np.zeros(spec["shape"], spec["dtype"]) for name, spec in self._state.items()
        }
        self._on_raster: NDArray[Any] = np.empty(0, np.int64)
        self._zero_s = self._last_s = -np.inf
        self._take_map(drawn, lanes)

    def set_map(self, layers: ArrayLike | None = None, points: ArrayLike | None = None) -> None:
        """Takes another map, in the frame of the last observation; all else stays as it is.

        Args:
            layers: ``(M, H, W)`` of 0 and 1, in the order of the metadata; None = empty.
            points: ``(P, 3)`` x, y, yaw of lane centres; None = none. Of more than there is room
                for, the nearest to the origin are kept.

        Raises:
            ExportError: They are not as they should be; the map stays as it was.
        """
        self._take_map(*self._checked_map(layers, points))

    def _checked_map(
        self, layers: ArrayLike | None, points: ArrayLike | None
    ) -> tuple[Arrays, NDArray[np.float32]]:
        drawn: Arrays = {}
        if "map" in self._state:
            shape = tuple(self._state["map"]["shape"][1:])
            layers = np.zeros(shape) if layers is None else layers
            drawn["map"] = arrays.zeros_and_ones("layers", layers, shape)[None]
            drawn["map_frame"] = np.zeros((1, 3), np.float32)
        given = arrays.numbers("points", [] if points is None else points, (None, 3))
        lanes = arrays.thinned(given, self.lane_spacing_m)
        return drawn, arrays.nearest(lanes, self._state["lane_point"]["shape"][1])

    def _take_map(self, drawn: Arrays, lanes: NDArray[np.float32]) -> None:
        room = np.full_like(self.state["lane_point"], np.nan)
        room[0, : len(lanes)] = lanes
        self.state.update(drawn, lane_point=room)

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
            labels: ``(N,)`` classes from 1, in the order of the metadata.
            boxes: ``(N, 5)`` x, y, yaw, length, width of those who were seen.
            raster: Whether the boxes are drawn and the raster is read, if the model reads any.
            raster_ids: Ids of agents that have a cell on the grid though their centre may be off
                it, where ``raster`` is true; None = none.
            moved: Pose of the frame that all of this is in, in that of the observation before.

        Raises:
            ExportError: Something is not as it should be; the state stays as it was.
        """
        time_s = self._checked_time(time_s)
        ego = arrays.numbers("ego_pose", ego_pose, (3,))
        moved = arrays.numbers("moved", moved, (3,))
        ids, labels, boxes = arrays.agents(ids, labels, boxes, self.classes)
        drawn = arrays.whole("raster_ids", [] if raster_ids is None else raster_ids, (None,))
        self._on_raster = drawn if raster else self._on_raster
        slot_id = self._associated(ids, boxes, moved)
        slot_label = np.zeros_like(slot_id)
        box = np.full((self.slots, 5), np.nan, np.float32)
        for row, one in enumerate(ids):
            slot_label[slot_id == one], box[slot_id == one] = labels[row], boxes[row]
        if self._grid:
            away = arrays.off_grid(box, self._grid) & ~np.isin(slot_id, self._on_raster)
            self.left_out += int(away.sum())
        name = "observe_raster" if raster and "observe_raster" in self._graphs else "observe"
        given = {
            "slot_id": slot_id[None],
            "slot_label": slot_label[None],
            "box": box[None],
            "time_s": np.array([self._since_zero(time_s)], np.float32),
            "ego": ego.astype(np.float32)[None],
            "moved": moved.astype(np.float32)[None],
        }
        self.state.update(self._call(name, self.state, given)[0])

    def _checked_time(self, time_s: float) -> float:
        time_s = float(arrays.numbers("time_s", time_s, (), LATEST_S))
        if time_s < self._last_s:
            found = f"one of {time_s} s after one of {self._last_s} s"
            raise ExportError("observations in the order of time", found, "leave the late one out")
        return time_s

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
            dt_s: Seconds of each, within ``dt_range_s`` of the metadata.
            draw: Whether rasters are drawn as well.

        Returns:
            For each step ``id`` (0 = empty slot), ``label``, ``pose``, ``existence`` and
            ``uncertainty`` of every slot; and ``instance``, ``semantic``, ``occupancy`` and
            ``flow``, if they are drawn.

        Raises:
            ExportError: A number is not as it should be, or nothing was observed yet.
        """
        horizon = int(arrays.whole("horizon", horizon, ()))
        dt_s, (low, high) = float(arrays.numbers("dt_s", dt_s, ())), self._dt_range_s
        if not low - SAME_STEP_S <= dt_s <= high + SAME_STEP_S:
            wanted = f"dt_s of {low:g} to {high:g} s, which it was trained for"
            raise ExportError(wanted, f"{dt_s:g}", "take steps of another length")
        if not self.state["observed"][0]:
            raise ExportError("an observation before the first step", "none", "observe a moment")
        if not self.state.get("raster_seen", np.ones(1))[0]:
            wanted = "an observation whose raster is read before the first step"
            raise ExportError(wanted, "none", "observe a moment with raster=True")
        on_raster = np.isin(self.state["id"], self._on_raster)
        future = dict(self.state)
        future.update(self._call("look_ahead", future, {"on_raster": on_raster})[0])
        return self._steps(future, horizon, dt_s, draw)

    def _steps(self, future: Arrays, horizon: int, dt_s: float, draw: bool) -> Iterator[Arrays]:
        for _ in range(horizon):
            given = {"dt": np.array([dt_s], np.float32)}
            changed, said = self._call("step", future, given)
            future.update(changed)
            step = {key: future[key][0] for key in ("id", "label")}
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
            last = seen_from(moved, self.state["past"][0, known, -1])[:, :2]
            far = np.hypot(*np.concatenate((last, place)).T)
            kept = np.zeros(len(far), bool)
            kept[np.argsort(far, kind="stable")[: self.slots]] = True
            self.left_out = int((~kept).sum())
            held[known[~kept[: len(known)]]] = 0
            fresh = fresh[kept[len(known) :]]
        held[np.flatnonzero(held == 0)[: len(fresh)]] = fresh
        return held


def read_metadata(folder: str | Path) -> dict[str, Any]:
    """The metadata of an exported folder, checked against its own checksum.

    Raises:
        ExportError: It is missing, of another schema, or was edited.
    """
    path = Path(str(folder), METADATA)
    try:
        metadata: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        schema, stated = metadata["schema"], metadata.pop("sha256")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        wanted = f"a folder that `forecast export` wrote, with {METADATA}"
        found = f"{path} ({type(error).__name__})"
        raise ExportError(wanted, found, "check the folder, or export again") from error
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
    path = Path(str(folder), HISTORY)
    try:
        words = iter(path.read_text(encoding="utf-8").split())
        if next(words) != HISTORY_SCHEMA:
            raise ValueError("another schema")
        dt_s, _ = _number(words, "dt_s"), _number(words, "lane_spacing_m")
        if not 0 < dt_s <= LONGEST_S:
            raise ValueError("no step is that long")
        shape = int(_number(words, "map")), int(next(words)), int(next(words))
        cells = [[int(cell) for cell in next(words)] for _ in range(shape[0] * shape[1])]
        layers = arrays.zeros_and_ones("layers", np.array(cells, int).reshape(shape), shape)
        points = _rows(words, int(_number(words, "points")), 3)
        moments = [_moment(words) for _ in range(int(_number(words, "moments")))]
    except (OSError, ValueError, OverflowError, StopIteration) as error:
        found = f"{path} ({type(error).__name__})"
        raise ExportError("the history that was exported", found, "export again") from error
    return {"dt_s": dt_s, "layers": layers, "points": points, "moments": moments}


def _number(words: Iterator[str], name: str) -> float:
    if next(words) != name:
        raise ValueError(name)
    return float(next(words))


def _rows(words: Iterator[str], count: int, columns: int) -> NDArray[np.float64]:
    rows = [[float(next(words)) for _ in range(columns)] for _ in range(count)]
    return np.array(rows).reshape(-1, columns)


def _moment(words: Iterator[str]) -> dict[str, Any]:
    time_s, ego = _number(words, "moment"), _rows(words, 1, 3)[0]
    raster, boxes, on_raster = [int(next(words)) for _ in range(3)]
    table = _rows(words, boxes, 7)
    agents = {"ids": table[:, 0], "labels": table[:, 1], "boxes": table[:, 2:]}
    drawn = {"raster": bool(raster), "raster_ids": [int(next(words)) for _ in range(on_raster)]}
    return {"time_s": time_s, "ego_pose": ego, **agents, **drawn}


def bucket_of(metadata: Mapping[str, Any], slots: int | None) -> Any:
    """The bucket of so many slots; the smallest where None."""
    buckets = {bucket["slots"]: bucket for bucket in metadata["buckets"]}
    chosen = min(buckets) if slots is None else slots
    if chosen not in list(buckets):  # which asks for no hash of what was given
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
