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
    """The moments of a history, in the order of time.

    Times are seconds, 0 = the last frame. Where there is a ``track_history``, its samples are the
    moments, and each frame's rasters belong to the sample nearest to it; a frame that is half a
    frame's time from all of them is left out, as no agent was tracked then. Only the present is a
    moment of its own, without tracks, where a sequence has no sample of it. In a batch whose
    samples have several clocks, rasters may join more samples than those of one sequence alone.
    """
    if history.track_history is None or history.sample_time is None:
        yield from (_frame(history, index) for index in range(history.frames))
        return
    time_s = _without_padding(history.sample_time)
    # What is padding in the whole batch is no moment.
    begin = int(history.sample_time.isfinite().any(0).int().argmax())
    rasters = _rasters_of_samples(history, history.sample_time)
    for sample in range(begin, time_s.shape[1]):
        yield _sample(history, sample, time_s[:, sample], rasters.get(sample))
    if float(time_s[:, -1].min()) < -SAME_MOMENT_S:
        yield _frame(history, history.frames - 1, tracks=False)


def _rasters_of_samples(history: BEVSequence, time_s: Float[Tensor, "b s"]) -> dict[int, int]:
    """The frame whose rasters belong to a sample, by the sample's index."""
    found: dict[int, int] = {}
    for index in range(history.frames):
        off = (time_s - _frame_time(history, index)).abs().nan_to_num(torch.inf)
        nearest, sample = off.min(1)
        # Later frames last: of two that are nearest to one sample the later one is its.
        found |= dict.fromkeys(sample[nearest <= history.dt_s / 2].tolist(), index)
    return found


def _frame_time(history: BEVSequence, index: int) -> float:
    return (index - history.frames + 1) * history.dt_s


def _without_padding(time_s: Float[Tensor, "b s"]) -> Float[Tensor, "b s"]:
    """Padding in front takes the time of the first sample, where nothing has passed yet."""
    first = torch.nan_to_num(time_s, nan=torch.inf).amin(1, keepdim=True)
    return torch.where(time_s.isnan(), first, time_s)


def _frame(history: BEVSequence, index: int, tracks: bool = True) -> Observation:
    """A frame's rasters and tracks; none of its tracks where ``tracks`` is False."""
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
