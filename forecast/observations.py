"""A history as the moments that a forecaster observes one after the other."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from forecast.types import BEVSequence, Observation, SceneContext

# A sample this close to a frame was made at the same moment: clocks jitter.
SAME_MOMENT_S = 0.03


def scene_context(history: BEVSequence) -> SceneContext:
    """Map, lanes and grid of a history; a map of no layers where it has none."""
    if history.map is not None:
        layers = history.map.float()
    else:
        shape = (history.batch, 0, *history.grid.shape)
        layers = torch.zeros(shape, device=history.semantic.device)
    return SceneContext(layers, history.map_point, history.grid)


def observations(history: BEVSequence) -> Iterator[Observation]:
    """The frames of a history, and what a tracker observed between them, in the order of time.

    Times are seconds, 0 = the last frame. A sample of ``track_history`` near a frame is one moment
    with it; tracks come from samples where there are any, else from the frames.
    """
    if history.track_history is None or history.sample_time is None:
        yield from (_frame(history, index) for index in range(history.frames))
        return
    time_s = _without_padding(history.sample_time)
    frames = list(range(history.frames))
    # What is padding in the whole batch is no moment: a frame would be taken to be of it.
    begin = int(history.sample_time.isfinite().any(0).int().argmax())
    for sample in range(begin, time_s.shape[1]):
        now = time_s[:, sample]
        while frames and _frame_time(history, frames[0]) < float(now.min()) - SAME_MOMENT_S:
            yield _frame(history, frames.pop(0), tracks=False)
        raster = None
        if frames and bool(((now - _frame_time(history, frames[0])).abs() <= SAME_MOMENT_S).all()):
            raster = frames.pop(0)
        yield _sample(history, sample, now, raster)
    yield from (_frame(history, index, tracks=False) for index in frames)


def _frame_time(history: BEVSequence, index: int) -> float:
    return (index - history.frames + 1) * history.dt_s


def _without_padding(time_s: Float[Tensor, "b s"]) -> Float[Tensor, "b s"]:
    """Padding in front takes the time of the first sample, where nothing has passed yet."""
    first = torch.nan_to_num(time_s, nan=torch.inf).amin(1, keepdim=True)
    return torch.where(time_s.isnan(), first, time_s)


def _frame(history: BEVSequence, index: int, tracks: bool = True) -> Observation:
    """A frame's rasters and its tracks, of which samples tell more where ``tracks`` is False."""
    state, label = history.track_state, history.track_class
    if state is not None and label is not None and not tracks:
        state, label = state[:, :0], label[:, :0]
    time_s = history.ego_pose.new_full((history.batch,), _frame_time(history, index))
    return Observation(
        time_s=time_s,
        ego_pose=history.ego_pose[:, index],
        track_id=None if state is None else _ids(state),
        track_state=None if state is None else state[:, :, index],
        track_class=label,
        semantic=history.semantic[:, index],
        instance=history.instance[:, index],
        bev=None if history.bev is None else history.bev[:, index],
    )


def _sample(
    history: BEVSequence, sample: int, now: Float[Tensor, "b"], raster: int | None
) -> Observation:
    """A sample of the tracker, with the rasters of the frame of the same moment, if any."""
    seen = history.track_history
    assert seen is not None
    with_raster = raster is not None
    return Observation(
        time_s=now,
        ego_pose=_ego_at(history, now),
        track_id=_ids(seen),
        track_state=seen[:, :, sample],
        track_class=history.track_class,
        semantic=history.semantic[:, raster] if with_raster else None,
        instance=history.instance[:, raster] if with_raster else None,
        bev=history.bev[:, raster] if with_raster and history.bev is not None else None,
    )


def _ids(tracks: Float[Tensor, "b n *t 5"]) -> Tensor:
    count = torch.arange(1, tracks.shape[1] + 1, device=tracks.device)
    return count.expand(tracks.shape[0], -1)


def _ego_at(history: BEVSequence, now: Float[Tensor, "b"]) -> Float[Tensor, "b 3"]:
    """The ego's pose between two frames, in a straight line; before the first frame that one's."""
    place = (now / history.dt_s + history.frames - 1).clamp(0, history.frames - 1)
    low = place.floor().long()
    high = (low + 1).clamp(max=history.frames - 1)
    batch = torch.arange(len(now), device=now.device)
    first, last = history.ego_pose[batch, low], history.ego_pose[batch, high]
    return first + (place - low)[:, None] * (last - first)
