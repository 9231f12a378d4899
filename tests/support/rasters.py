"""Drives as a perception network sees them: rasters, each in the ego frame of its own moment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from data_tools.geometry import poses_to_frame
from data_tools.labels.rasterise import map_edges, rasterise_boxes, rasterise_map
from data_tools.scene import MapElement, Scene
from forecast.grid import BEVGrid
from forecast.schema import DEFAULT_CLASSES, MAP_LAYERS
from tests.support.stores import Mover

LANE = MapElement("lane_centre", np.array([[-60.0, 1.0], [60.0, 1.0]]))
ROAD = MapElement(
    "drivable", np.array([[-60.0, -9.0], [60.0, -9.0], [60.0, 9.0], [-60.0, 9.0]]), closed=True
)


def drive(movers: Sequence[Mover], ego: Mover, frames: int = 13, dt_s: float = 0.5) -> Scene:
    """Movers around an ego that is itself no agent, all with their poses at the first frame."""
    time_s = np.arange(frames) * dt_s
    return Scene(
        name="drive",
        time_s=time_s,
        dt_s=dt_s,
        track_id=tuple(str(index) for index in range(len(movers))),
        track_class=tuple(DEFAULT_CLASSES[mover.label - 1] for mover in movers),
        state=np.array([mover.state(time_s) for mover in movers]).reshape(-1, frames, 5),
        ego_pose=ego.state(time_s)[:, :3],
        map=(LANE, ROAD),
    )


def seen(scene: Scene, grid: BEVGrid) -> xr.Dataset:
    """The scene as rasters on ``grid``, in the layout that the source ``rasters`` reads."""
    label = [0, *(DEFAULT_CLASSES.index(name) + 1 for name in scene.track_class)]
    instance = [
        boxes(poses_to_frame(scene.state[:, frame], pose), grid)
        for frame, pose in enumerate(scene.ego_pose)
    ]
    edges = map_edges(scene.map)
    layers = [rasterise_map(edges.to_frame(pose), grid) for pose in scene.ego_pose]
    where = np.broadcast_to(grid.x_m, (len(instance), *grid.shape))
    return xr.Dataset(
        {
            "semantic": (("time", "y", "x"), np.array(label, np.uint8)[np.array(instance)]),
            "instance": (("time", "y", "x"), np.array(instance)),
            "map": (("time", "map_layer", "y", "x"), np.array(layers)),
            "bev": (("time", "channel", "y", "x"), where[:, None].astype(np.float32)),
            "ego_pose": (("time", "pose"), scene.ego_pose),
        },
        coords={
            "time": scene.time_s,
            "y": grid.y_m,
            "x": grid.x_m,
            "map_layer": np.array(MAP_LAYERS, object),
            "channel": np.array(["ahead"], object),
        },
        attrs={"classes": list(DEFAULT_CLASSES)},
    )


def boxes(state: NDArray[Any], grid: BEVGrid) -> NDArray[np.uint16]:
    """Ids of boxes ``(N, 5)``, the i-th having id i + 1."""
    ids = np.arange(1, len(state) + 1).astype(np.uint16)
    return rasterise_boxes(state, np.zeros(len(state), np.int64), ids, 1, grid)[0]


def write_zarr(path: Path, data: xr.Dataset, version: int = 3) -> str:
    """Writes a drive as a zarr store."""
    data.to_zarr(path, mode="w", zarr_format=version, consolidated=False)  # type: ignore[call-overload]
    return str(path)


def write_netcdf(path: Path, data: xr.Dataset, engine: str = "scipy") -> str:
    """Writes a drive as a NetCDF file, whose attributes hold no lists."""
    text = ",".join(data.attrs["classes"])
    path.parent.mkdir(parents=True, exist_ok=True)
    data.assign_attrs(classes=text).to_netcdf(path, engine=engine)  # type: ignore[call-overload]
    return str(path)


def write_folder(path: Path, data: xr.Dataset, grid: BEVGrid) -> str:
    """Writes a drive as .npy files."""
    path.mkdir(parents=True)
    for name in ("semantic", "instance", "map", "bev", "ego_pose", "time"):
        if name in data:
            np.save(path / f"{name}.npy", data[name].values)
    about = {
        "grid": grid.to_attrs(),
        "classes": data.attrs["classes"],
        **({"channels": data["channel"].values.tolist()} if "channel" in data else {}),
        "map_layers": data["map_layer"].values.tolist(),
    }
    (path / "rasters.json").write_text(json.dumps(about))
    return str(path)
