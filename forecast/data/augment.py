"""Variations of a sequence that traffic allows: its mirror image, newcomers, another size."""

from __future__ import annotations

from dataclasses import astuple, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor
from torch.nn import functional

from forecast.config.data import Augmentation
from forecast.grid import BEVGrid
from forecast.model.scene import se2
from forecast.model.scene.warp import resampled
from forecast.types import BEVSequence

# An agent that moved less than this within the history stands still.
STILL_M = 0.5
# Samples, of which one is kept where a batch is observed least often.
LARGEST_STEP = 5
# Share of a step by which clocks may be off.
SAME_FRAME = 0.1
# How far copies of lane points lie beside them: metres ahead, metres aside, radians.
COPY_OFF = (1.0, 2.0, 0.2)
# Places without lanes in a scene, and their largest radius, metres.
HOLES = 4
HOLE_M = 30.0
# How far wrong maps may lie off: metres, metres, radians.
MAP_OFF = (3.0, 3.0, 0.1)
# Tracks are lost up to so many seconds before the present, or after it; this share of them before:
# in recordings hardly any agent returns that is hidden at the present, while of samples that are
# missed by chance all do.
LOST_S = 2.0
LOST_BEFORE = 0.85
# Moving agents newly appear that much less often: of 20 vehicles new to Waymo scenes, 18 stood.
MOVING_SHARE = 0.1


def augment(
    sequence: BEVSequence,
    how: Augmentation,
    history: int,
    generator: Generator,
    rasters: bool = True,
    shared: Generator | None = None,
) -> BEVSequence:
    """A varied batch; but for those that are lost, agents vanish only in what a model may see.

    Args:
        sequence: The batch.
        how: What is varied, and by how much.
        history: Frames that a model may see.
        generator: Of all random draws.
        rasters: Whether the past's rasters are read: if not, hidden and lost tracks stay in them.
        shared: Of how many samples are observed, which processes that wait for one another draw
            alike; None = ``generator``.
    """
    shared = shared or generator
    if _toss(how.mirror, generator):
        sequence = sequence.mirror()
    if how.scale > 0:
        sequence = scale(
            sequence, 1 + how.scale * (2 * float(torch.rand((), generator=generator)) - 1)
        )
    sequence = _vary_map(sequence, how, generator)
    if sequence.track_history is not None and _toss(how.other_rate, shared):
        sequence = thin(sequence, shared)
    if sequence.track_state is not None:
        state = sequence.track_state
        # Nothing is drawn for what is off.
        if (history > 1 and how.newcomers > 0) or how.unseen > 0:
            sequence = hide(sequence, _first_seen(state, how, history, generator), history, rasters)
        if how.lost > 0:
            sequence = lose(sequence, how.lost, history, generator, rasters)
    return sequence


def _vary_map(sequence: BEVSequence, how: Augmentation, generator: Generator) -> BEVSequence:
    if sequence.map_point is not None and _toss(how.drop_lanes, generator):
        sequence = replace(sequence, map_point=None)
    if sequence.map is not None and _toss(how.drop_map, generator):
        sequence = replace(sequence, map=torch.zeros_like(sequence.map))
    if sequence.map_point is not None and how.other_lanes and _toss(how.other_lanes, generator):
        sequence = replace(
            sequence, map_point=vary_lanes(sequence.map_point, sequence.grid, generator)
        )
    if how.wrong_map and _toss(how.wrong_map, generator):  # nothing is drawn for what is off
        sequence = misplace_map(sequence, generator)
    return sequence


def vary_lanes(
    points: Float[Tensor, "b p 3"], grid: BEVGrid, generator: Generator
) -> Float[Tensor, "b q 3"]:
    """Some of the lane points, of some a copy beside it that points another way, and holes.

    In a hole there is no lane, as on car parks and in yards.
    """
    batch, count = points.shape[:2]
    kept, copied = 1 - 0.7 * torch.rand(2, batch, 1, generator=generator)
    draws = torch.rand(2, batch, count, generator=generator)
    off = torch.randn(points.shape, generator=generator) * torch.tensor(COPY_OFF)
    everyone = torch.cat((points, se2.compose(points, off.to(points))), 1)
    low = points.new_tensor([grid.x_min_m, grid.y_min_m])
    extent = points.new_tensor([grid.x_max_m, grid.y_max_m]) - low
    centre = low + extent * torch.rand(batch, HOLES, 2, generator=generator).to(points)
    radius = HOLE_M * torch.rand(batch, HOLES, generator=generator).to(points)
    away = torch.linalg.vector_norm(everyone[:, :, None, :2] - centre[:, None], dim=-1)
    chosen = torch.cat((draws[0] < kept, draws[1] < 1 - copied), 1).to(points.device)
    chosen = chosen & (away >= radius[:, None]).all(-1)
    return torch.where(chosen[..., None], everyone, torch.nan)


def misplace_map(sequence: BEVSequence, generator: Generator) -> BEVSequence:
    """The sequence with map and lanes shifted and turned around the ego, each scene's otherwise."""
    even = 2 * torch.rand(sequence.batch, 3, generator=generator) - 1
    off = even.to(sequence.ego_pose) * sequence.ego_pose.new_tensor(MAP_OFF)
    layers, points = sequence.map, sequence.map_point
    if layers is not None:
        layers = resampled(layers.float(), off, sequence.grid).to(layers.dtype)
    if points is not None:
        points = se2.between(off[:, None], points)
    return replace(sequence, map=layers, map_point=points)


def thin(sequence: BEVSequence, generator: Generator) -> BEVSequence:
    """The sequence with every k-th sample before the present, and only the last few of them."""
    samples, time_s = sequence.track_history, sequence.sample_time
    assert samples is not None
    assert time_s is not None
    every = int(torch.randint(1, LARGEST_STEP + 1, (), generator=generator))
    kept = torch.arange(samples.shape[2] - 1, -1, -every).flip(0)
    count = int(torch.randint(1, len(kept) + 1, (), generator=generator))
    kept = kept[-count:].to(samples.device)
    return replace(sequence, track_history=samples[:, :, kept], sample_time=time_s[:, kept])


def hide(
    sequence: BEVSequence, first: Int[Tensor, "b n"], history: int, rasters: bool = True
) -> BEVSequence:
    """The sequence with each track hidden before its first frame.

    Args:
        sequence: Whose cells of a track are those of its id; dense channels are emptied there.
        first: First frame of each track.
        history: Frames up to and including the present.
        rasters: Whether to hide it in rasters too.
    """
    state, frames = sequence.track_state, int(first.max()) if first.numel() else 0
    assert state is not None
    frame = torch.arange(frames, device=first.device)
    hidden = frame[:, None] < first[:, None]
    seen = torch.where(hidden.transpose(1, 2)[..., None], torch.nan, state[:, :, :frames])
    sequence = replace(
        sequence,
        track_state=torch.cat((seen, state[:, :, frames:]), 2),
        track_history=_hidden_samples(sequence, first, history),
    )
    return _without_cells(sequence, hidden) if rasters else sequence


def _hidden_samples(
    sequence: BEVSequence, first: Int[Tensor, "b n"], history: int
) -> Tensor | None:
    """``track_history`` without the samples before each track's first frame."""
    samples, time_s = sequence.track_history, sequence.sample_time
    if samples is None or time_s is None:
        return samples
    since_s = (first - history + 1 - SAME_FRAME) * sequence.dt_s
    early = time_s[:, None] < since_s[..., None]
    # A track that is there from the first frame on keeps what was seen before it.
    early = early & (first > 0)[..., None]
    return torch.where(early[..., None], torch.nan, samples)


def _without_cells(sequence: BEVSequence, hidden: Bool[Tensor, "b f n"]) -> BEVSequence:
    """The rasters without the cells of tracks that are hidden in the first frames."""
    frames = min(hidden.shape[1], sequence.instance.shape[1])  # rasters may end at the present
    # Column 0: a cell without an id, or whose id has no track, is never hidden.
    gone = functional.pad(hidden[:, :frames], (1, 0))
    raster = sequence.instance[:, :frames]
    ids = raster.flatten(2).long()
    cells = gone.gather(2, torch.where(ids < gone.shape[2], ids, 0)).view_as(raster)
    return replace(
        sequence,
        instance=_without(sequence.instance, cells),
        semantic=_without(sequence.semantic, cells),
        bev=None if sequence.bev is None else _without(sequence.bev, cells[:, :, None]),
    )


def _without(raster: Tensor, cells: Bool[Tensor, "b f *k h w"]) -> Tensor:
    """A raster whose first frames are empty in some cells."""
    frames = cells.shape[1]
    return torch.cat((torch.where(cells, 0, raster[:, :frames]), raster[:, frames:]), 1)


def lose(
    sequence: BEVSequence, share: float, history: int, generator: Generator, rasters: bool = True
) -> BEVSequence:
    """The sequence without a share of its tracks from some moment on, seen and true ones alike.

    Args:
        sequence: The batch.
        share: Probability that a track is lost.
        history: Frames up to the present.
        generator: Of the CPU.
        rasters: Whether rasters lose its cells too.
    """
    state, samples, time_s = sequence.track_state, sequence.track_history, sequence.sample_time
    assert state is not None
    frame_s = (torch.arange(state.shape[2]) - (history - 1)) * sequence.dt_s
    until_s = float(frame_s[-1])
    draws = torch.rand(2, *state.shape[:2], 1, generator=generator)
    before, after = draws[1] / LOST_BEFORE - 1, (draws[1] - LOST_BEFORE) / (1 - LOST_BEFORE)
    lost_s = torch.where(draws[1] < LOST_BEFORE, before * LOST_S, after * until_s)
    lost_s = torch.where(draws[0] < share, lost_s, torch.inf).to(state.device)
    gone = frame_s.to(state.device) > lost_s
    sequence = replace(sequence, track_state=state.masked_fill(gone[..., None], torch.nan))
    if rasters:
        sequence = _without_cells(sequence, gone.transpose(1, 2))
    if samples is None or time_s is None:
        return sequence
    gone = time_s[:, None] > lost_s
    return replace(sequence, track_history=samples.masked_fill(gone[..., None], torch.nan))


def _first_seen(state: Tensor, how: Augmentation, history: int, generator: Generator) -> Tensor:
    """The frame in which each track is first seen."""
    chance = how.newcomers * _hidden(state[:, :, :history])
    new = torch.rand(state.shape[:2], generator=generator) < chance
    first = torch.where(new, history - 1, 0)
    if how.unseen > 0 and state.shape[2] > history:
        draws = torch.rand(2, *state.shape[:2], generator=generator)
        later = history + (draws[1] * (state.shape[2] - history)).long()
        first = torch.where(draws[0] < how.unseen, later, first)
    return first.to(state.device)


def scale(sequence: BEVSequence, factor: float) -> BEVSequence:
    """Everything larger by a factor, cells included, so that rasters stay as they are."""
    grid, state, points = sequence.grid, sequence.track_state, sequence.map_point
    seen = sequence.track_history
    by = sequence.ego_pose.new_tensor([factor, factor, 1.0, factor, factor])
    return replace(
        sequence,
        grid=BEVGrid(*(factor * edge for edge in astuple(grid))),
        ego_pose=sequence.ego_pose * by[:3],
        track_state=None if state is None else state * by,
        track_history=None if seen is None else seen * by,
        map_point=None if points is None else points * by[:3],
    )


def _hidden(past: Tensor) -> Tensor:
    """How often each agent newly appears, relative to one that stands still."""
    shift = torch.linalg.vector_norm(past[:, :, -1:, :2] - past[..., :2], dim=-1)
    went = shift.nan_to_num(0.0).amax(-1).cpu()  # from where it was first seen
    return torch.where(went < STILL_M, 1.0, MOVING_SHARE)


def _toss(probability: float, generator: Generator) -> bool:
    return bool(torch.rand((), generator=generator) < probability)
