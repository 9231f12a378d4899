"""A history in plain text, for programs in any language to try an export with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from forecast.export.host import HISTORY_SCHEMA
from forecast.export.parity import observe_arguments
from forecast.observations import observations
from forecast.types import BEVSequence, Observation


def write_history(path: Path, history: BEVSequence, lane_spacing_m: float) -> None:
    """Writes a history of one sequence, as ``host.read_history`` reads it.

    Args:
        path: File to write.
        history: Of one sequence.
        lane_spacing_m: How far lane points are apart when they are read.
    """
    lines = [HISTORY_SCHEMA, f"dt_s {history.dt_s:.9g}", f"lane_spacing_m {lane_spacing_m:.9g}"]
    layers = np.zeros((0, *history.grid.shape)) if history.map is None else history.map[0].numpy()
    lines.append("map " + " ".join(map(str, layers.shape)))
    lines += ["".join(map(str, row)) for row in layers.reshape(-1, layers.shape[-1]).astype(int)]
    points = np.zeros((0, 3)) if history.map_point is None else history.map_point[0].numpy()
    points = points[np.isfinite(points).all(1)]
    lines += [f"points {len(points)}", *(" ".join(f"{x:.9g}" for x in point) for point in points)]
    frames = list(observations(history))
    lines.append(f"moments {len(frames)}")
    for frame in frames:
        lines += _moment(frame)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _moment(frame: Observation) -> Iterator[str]:
    """Time, ego pose and whether the raster is read; then boxes; then ids in the raster."""
    arguments = observe_arguments(frame)
    agents = list(zip(*(arguments[key] for key in ("ids", "labels", "boxes")), strict=True))
    drawn = bool(arguments["raster"])
    ids = arguments["raster_ids"] if drawn else []
    ego = " ".join(f"{x:.9g}" for x in arguments["ego_pose"])
    yield f"moment {arguments['time_s']:.9g} {ego} {drawn:d} {len(agents)} {len(ids)}"
    for one, label, box in agents:
        yield f"{one} {label} " + " ".join(f"{x:.9g}" for x in box)
    yield " ".join(map(str, ids))
