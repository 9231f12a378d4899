"""Synthetic traffic as tensors, and a small forecaster, for tests of the model and the loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from forecast.data.reader import collate
from forecast.grid import BEVGrid
from forecast.model.forecaster import Forecaster
from forecast.model.scene import se2
from forecast.model.spec import ForecasterSpec, Inputs
from forecast.model.tracking.tracks import FrameQueries, Lifecycle, Tracks
from forecast.observations import observations, scene_context
from forecast.schema import DEFAULT_CLASSES, MAP_LAYERS
from forecast.types import BEVSequence
from tests.support.stores import GRID, Mover, sequence_dataset

INPUTS = Inputs(DEFAULT_CLASSES, MAP_LAYERS)
SMALL = ForecasterSpec(
    hidden_dim=32,
    scene_dim=16,
    heads=4,
    points=2,
    ffn=32,
    backbone_layers=2,
    pixel_dim=8,
    queries=12,
)


def sequences(
    scenes: Sequence[Sequence[Mover]], grid: BEVGrid = GRID, lanes: bool = True, **options: Any
) -> BEVSequence:
    """A batch with one sequence per list of movers; a lane runs along y = 0, egos drive."""
    data = sequence_dataset(scenes, grid, **options)
    tensors = {
        name: torch.as_tensor(data[name].values.astype(kind))
        for name, kind in (
            ("semantic", "int64"),
            ("instance", "int64"),
            ("map", "uint8"),
            ("track_state", "float32"),
            ("track_class", "int64"),
        )
    }
    egos = torch.arange(len(scenes), dtype=torch.float32)  # no two drive alike
    motion = torch.stack((3 + egos, 0 * egos, 0.04 * egos), -1)
    frame = torch.arange(tensors["semantic"].shape[1]) + 1 - options.get("history", 3)
    tensors["ego_pose"] = se2.exp(motion[:, None] * frame[:, None])
    x = torch.arange(grid.x_min_m, grid.x_max_m, 2.0)
    points = torch.stack((x, 0 * x, 0 * x), -1).expand(len(scenes), -1, -1)
    batch = BEVSequence(grid, 0.5, **tensors, map_point=points if lanes else None)
    return collate([batch])


def forecaster(trained: bool = True, **changes: Any) -> Forecaster:
    """A small forecaster; "trained" = every weight random, so that every part has a say."""
    torch.manual_seed(0)
    model = Forecaster(replace(SMALL, **changes), INPUTS).eval()
    if trained:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def tracked(
    model: Forecaster, lifecycle: Lifecycle, history: int = 3
) -> tuple[Tracks, list[FrameQueries]]:
    """Tracks of made-up traffic, with a track manager of the caller's."""
    tracks, frames = tracked_through(model, lifecycle, history)
    return tracks[-1], frames


def tracked_through(
    model: Forecaster, lifecycle: Lifecycle, history: int = 3
) -> tuple[list[Tracks], list[FrameQueries]]:
    """The same, with the tracks after every frame."""
    assert model.tracker is not None
    past = sequences(TRAFFIC, history=history).crop(0, history)
    context = model.start(scene_context(past)).context
    tracks, frames = [model.tracker.start(context)], []
    for frame in observations(past):
        assert frame.semantic is not None
        since_s = torch.full_like(frame.time_s, past.dt_s if frames else 0.0)
        with torch.no_grad():
            features = model.encode_raster(context, frame.semantic)
            now, queries = model.tracker(tracks[-1], features, context, since_s, lifecycle)
        tracks.append(now)
        frames.append(queries)
    return tracks[1:], frames


def some_tracks(ids: Tensor) -> Tracks:
    """Tracks with ids, all else being zero."""
    batch, slots = ids.shape
    zero, none = torch.zeros(batch, slots, 3), torch.zeros_like(ids)
    return Tracks(
        frames=1,
        used=ids.amax(1),
        ids=ids,
        agent=none,
        pose=zero,
        twist=zero,
        missed=none,
        size=zero[..., :2],
        score=zero,
        query=zero.new_zeros(batch, slots, SMALL.hidden_dim),
    )


TRAFFIC: tuple[tuple[Mover, ...], ...] = (
    (
        Mover(0.0, 0.0, 0.1, 8.0, 0.3),
        Mover(10.0, 4.0, 3.0, 5.0),
        Mover(-8.0, -6.0, 1.5, 0.0),
        Mover(4.0, -8.0, 1.5, 1.4, length=0.8, width=0.8, label=2),
    ),
    (Mover(-5.1, 2.1, 0.05, 6.0, -0.2), Mover(12.0, -4.0, 0.7, 3.0, label=3, length=2.0)),
    (),
)
