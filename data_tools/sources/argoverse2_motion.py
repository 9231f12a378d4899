"""Scenarios of the Argoverse 2 Motion Forecasting dataset: ``scenario_*.parquet`` and its map.

The format has no sizes of boxes: agents have those of their class (:mod:`data_tools.sizes`). The
track ``AV`` is the ego. The map, ``log_map_archive_*.json``, lies beside.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from data_tools.formats.columns import read_columns
from data_tools.scene import Scene
from data_tools.sources.argoverse2_map import read_map
from data_tools.sources.inputs import find_files
from data_tools.sources.observations import Observations, scene_of, stack
from forecast.angles import wrap_angle
from forecast.errors import DataError

STEP_S = 0.1
EGO = "AV"
_TYPES = {
    "track_id": pa.string(),
    "object_type": pa.string(),
    "timestep": pa.int64(),
    "position_x": pa.float64(),
    "position_y": pa.float64(),
    "heading": pa.float64(),
}


class Argoverse2Motion:
    """One scenario a Parquet file."""

    name = "argoverse2-motion"

    def find(self, inputs: Sequence[str]) -> list[str]:
        """The scenarios in some inputs.

        Raises:
            DataError: An input does not exist or holds no ``.parquet``.
        """
        return find_files(inputs, (".parquet",))

    def read(self, unit: str, dt_s: float) -> Scene:
        """A scenario at ``dt_s``, which must be a multiple of its 0.1 s.

        Raises:
            DataError: The scenario or its map is missing or not as it should be.
        """
        rows = read_columns(unit, _TYPES)
        yaw = wrap_angle(rows["heading"])
        size = np.full((len(yaw), 2), np.nan)
        box = np.column_stack([rows["position_x"], rows["position_y"], yaw, size])
        frames = int(rows["timestep"].max(initial=-1)) + 1
        seen = Observations(rows["timestep"], rows["track_id"], rows["object_type"], box)
        tracks = stack(seen, frames, unit)
        if EGO not in tracks.track_id:
            raise DataError(f"a track {EGO!r}, the ego", f"none in {unit}", "leave it out")
        ego_pose = tracks.state[tracks.track_id.index(EGO), :, :3]
        name = posixpath.basename(unit).removesuffix(".parquet").removeprefix("scenario_")
        return scene_of(
            name,
            tracks,
            ego_pose,
            step_s=STEP_S,
            dt_s=dt_s,
            where=unit,
            map=read_map(posixpath.join(posixpath.dirname(unit), f"log_map_archive_{name}.json")),
        )
