"""Synthetic traffic for tests: boxes on straight or curved paths, as a sequence store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from forecast.grid import BEVGrid
from forecast.inference.writer import ForecastWriter, create_store
from forecast.schema import DEFAULT_CLASSES, MAP_LAYERS, Protocol, SequenceMeta
from forecast.storage.stores import open_sequence_store
from forecast.types import StepForecast

GRID = BEVGrid(-16.0, 24.0, -12.0, 12.0, 0.5)


@dataclass(frozen=True)
class Mover:
    """A box with constant speed and turn rate; ``x``, ``y``, ``yaw`` are its present pose."""

    x: float
    y: float
    yaw: float = 0.0
    speed: float = 0.0
    turn_rate: float = 0.0
    length: float = 4.5
    width: float = 2.0
    label: int = 1

    def state(self, time_s: NDArray[Any]) -> NDArray[Any]:
        """x, y, yaw, length, width at each time, ``(T, 5)``."""
        yaw = self.yaw + self.turn_rate * time_s
        if abs(self.turn_rate) > 1e-9:
            radius = self.speed / self.turn_rate
            x = self.x + radius * (np.sin(yaw) - np.sin(self.yaw))
            y = self.y - radius * (np.cos(yaw) - np.cos(self.yaw))
        else:
            x = self.x + self.speed * np.cos(self.yaw) * time_s
            y = self.y + self.speed * np.sin(self.yaw) * time_s
        size = np.ones_like(time_s)
        return np.stack([x, y, yaw, self.length * size, self.width * size], axis=-1)


def draw(grid: BEVGrid, states: NDArray[Any]) -> NDArray[np.uint16]:
    """Label map of boxes ``(N, 5)`` by the cell-centre rule; the i-th box has id i + 1."""
    labels = np.zeros(grid.shape, np.uint16)
    x, y = np.meshgrid(grid.x_m, grid.y_m)
    for index, (cx, cy, yaw, length, width) in enumerate(states):
        forward = (x - cx) * np.cos(yaw) + (y - cy) * np.sin(yaw)
        left = (y - cy) * np.cos(yaw) - (x - cx) * np.sin(yaw)
        labels[(abs(forward) <= length / 2) & (abs(left) <= width / 2)] = index + 1
    return labels


def sequence_dataset(
    scenes: Sequence[Sequence[Mover]],
    grid: BEVGrid = GRID,
    history: int = 3,
    horizon: int = 6,
    dt_s: float = 0.5,
    first: int = 0,
) -> xr.Dataset:
    """One sequence per list of movers, in the schema of a sequence store.

    Scenes are numbered from ``first``.
    """
    time_s = np.arange(-history + 1, horizon + 1) * dt_s
    tracks = max((len(movers) for movers in scenes), default=0)
    shape = (len(scenes), len(time_s), *grid.shape)
    instance, semantic = np.zeros(shape, np.uint16), np.zeros(shape, np.uint8)
    state = np.full((len(scenes), tracks, len(time_s), 5), np.nan, np.float32)
    label = np.zeros((len(scenes), tracks), np.uint8)
    for index, movers in enumerate(scenes):
        label[index, : len(movers)] = [mover.label for mover in movers]
        for track, mover in enumerate(movers):
            state[index, track] = mover.state(time_s)
        for frame in range(len(time_s)):
            instance[index, frame] = draw(grid, state[index, : len(movers), frame])
            semantic[index, frame] = np.concatenate([[0], label[index]])[instance[index, frame]]
    meta = SequenceMeta(
        source="synthetic",
        grid=grid,
        dt_s=dt_s,
        history=history,
        horizon=horizon,
        classes=DEFAULT_CLASSES,
        map_layers=MAP_LAYERS,
        protocol=Protocol().to_attrs(),
        created_by="tests",
    )
    layers = np.zeros((len(scenes), len(MAP_LAYERS), *grid.shape), np.uint8)
    layers[:, 0, abs(grid.y_m) < 6] = 1
    ego = np.zeros((len(scenes), len(time_s), 3))
    names = [f"scene-{first + index}" for index in range(len(scenes))]
    variables: dict[str, Any] = {
        "semantic": (("sequence", "time", "y", "x"), semantic),
        "instance": (("sequence", "time", "y", "x"), instance),
        "map": (("sequence", "map_layer", "y", "x"), layers),
        "track_state": (("sequence", "track", "time", "state"), state),
        "track_class": (("sequence", "track"), label),
        "ego_pose": (("sequence", "time", "pose"), ego),
        "scene": ("sequence", np.array(names, object)),
        "init_time": ("sequence", np.arange(len(scenes), dtype=float), {"units": "s"}),
    }
    coords = {"time": time_s, "x": grid.x_m, "y": grid.y_m}
    return xr.Dataset(variables, coords=coords, attrs=meta.to_attrs())


def sequence_store(path: Path, scenes: Sequence[Sequence[Mover]], **options: Any) -> str:
    """Writes :func:`sequence_dataset` as zarr and returns its path."""
    dataset = sequence_dataset(scenes, **options)
    dataset.to_zarr(path, mode="w", zarr_format=3, consolidated=False)
    return str(path)


def classes_alone(data: xr.Dataset) -> xr.Dataset:
    """What is left of sequences without ids and boxes."""
    bare = data.drop_vars(["track_state", "track_class"])
    return bare.assign(instance=xr.zeros_like(bare["instance"]))


def store_of_classes(path: Path, scenes: Sequence[Sequence[Mover]], **options: Any) -> str:
    """Writes :func:`sequence_dataset` without ids as zarr and returns its path."""
    dataset = classes_alone(sequence_dataset(scenes, **options))
    dataset.to_zarr(path, mode="w", zarr_format=3, consolidated=False)
    return str(path)


def perfect_steps(data: xr.Dataset, meta: SequenceMeta, index: int) -> Iterator[StepForecast]:
    """The truth of one sequence of a store, as if it had been forecast."""
    one = data.isel(sequence=[index])
    state = torch.from_numpy(one["track_state"].values)
    label = torch.from_numpy(one["track_class"].values.astype(np.int64))
    for lead in range(1, meta.horizon + 1):
        frame = one.isel(time=meta.history - 1 + lead)
        semantic = torch.from_numpy(frame["semantic"].values.astype(np.int64))
        classes = torch.arange(1, len(meta.classes) + 1)[None, :, None, None]
        pose = state[:, :, meta.history - 1 + lead]
        yield StepForecast(
            lead=lead,
            ids=torch.arange(1, label.shape[1] + 1)[None],
            label=label,
            pose=pose[..., :3],
            existence=pose[..., 0].isfinite().float(),
            instance=torch.from_numpy(frame["instance"].values.astype(np.int64)),
            semantic=semantic,
            occupancy=(semantic[:, None] == classes).float(),
            flow=torch.zeros(1, 2, *meta.grid.shape),
        )


def forecast_store(path: Path, sequences: str, **attrs: Any) -> str:
    """Writes the perfect forecast of a sequence store and returns its path."""
    data, meta = open_sequence_store(sequences)
    tracks, attrs = data.sizes["track"], {"model": "perfect", **attrs}
    create_store(str(path), data, meta, horizon=meta.horizon, tracks=tracks, attrs=attrs)
    writer = ForecastWriter(str(path))
    for index in range(data.sizes["sequence"]):
        writer.write(slice(index, index + 1), perfect_steps(data, meta, index))
    return str(path)


def content(path: Path | str) -> dict[str, bytes]:
    """Every file under ``path``."""
    files = (file for file in Path(path).rglob("*") if file.is_file())
    return {str(file.relative_to(path)): file.read_bytes() for file in files}
