"""What trackers do to what they observe: noise, misses, exchanged ids; the truth stays as it is."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor
from torch.nn import functional

from forecast.config.data import Corruption
from forecast.model.scene import se2
from forecast.types import BEVSequence

LEAST_POSITION_M = 0.01
"""Smallest positional noise that is drawn: that of offline labels."""
GROWTH_RANGE_M = 50.0
NEAR_M = 5.0
"""Ids are exchanged, and duplicates lie, no further apart than this."""
DUPLICATE_OFFSET_M = 0.5
QUICK_S = 0.15
"""Trackers that say something as often as that may be a whole sample late."""
COURSE_WINDOW_S = 1.0
COURSE_MIN_M = 0.5
"""Headings come from the motion within the window, if it is as long as that."""
# Weak prior of the accelerations that a heading from motion allows, in (metres / second^2)^-2 of
# positions a metre off: it decides only where the samples of the window do not.
COURSE_RIDGE = 1e-3


def observed(sequence: BEVSequence, history: int) -> BEVSequence:
    """The sequence with ``track_history``: the history of ``track_state`` where there is none.

    Args:
        sequence: With or without; without tracks it is returned as it is.
        history: Frames up to and including the present.
    """
    state = sequence.track_state
    if state is None or sequence.track_history is not None:
        return sequence
    before = torch.arange(1 - history, 1, device=state.device, dtype=state.dtype)
    return replace(
        sequence,
        track_history=state[:, :, :history].clone(),
        sample_time=(before * sequence.dt_s).expand(len(state), -1).clone(),
    )


def corrupt(
    sequence: BEVSequence, how: Corruption, history: int, generator: Generator
) -> BEVSequence:
    """The batch as a worse tracker observes it: only ``track_history`` and its times change.

    The truth, which is all else, stays as it is to the last bit. Duplicates are additional tracks,
    behind all others, which only ``track_history`` knows anything of. Ranges are from where the ego
    is at the present. Missing headings are replaced by those of the motion up to each sample.

    Args:
        sequence: The batch.
        how: What is spoiled, and by how much.
        history: Frames that a model may see.
        generator: Of the CPU, so that a run draws the same on every device; nothing is drawn for
            what is off.
    """
    sequence = observed(sequence, history)
    seen, time, label = sequence.track_history, sequence.sample_time, sequence.track_class
    if seen is None or time is None or label is None or not seen.numel():
        return sequence
    draw = _Draws(how, generator, seen)
    given, times = seen.cpu(), time.cpu()
    seen = _switched(given, times, label.cpu(), draw)
    seen, copied = _duplicated(seen, label.cpu(), draw)
    seen = _resized(seen, draw)
    seen = _misplaced(seen, times, draw)
    seen = _misheaded(seen, times, draw)
    seen = _missed(seen, times, draw)
    if how.clean:
        spared = draw.even(draw.batch) < how.clean
        untouched = _padded(given, copied.shape[1])
        seen = torch.where(spared[:, None, None, None], untouched, seen)
        copied = copied.masked_fill(spared[:, None], 0)
    sequence = replace(sequence, track_history=seen.to(time))
    return _with_more_tracks(sequence, copied.to(label)) if copied.shape[1] else sequence


class _Draws:
    """Random draws of a batch's levels and errors, in the order in which they are asked for."""

    def __init__(self, how: Corruption, generator: Generator, like: Tensor) -> None:
        self.how = how
        self.generator = generator
        self.batch = len(like)

    def level(self, name: str) -> Tensor:
        """``(b,)`` from 0 to the largest level of one kind of fault."""
        most = float(getattr(self.how, name))
        return torch.full((self.batch,), most) if self.how.exact else most * self.even(self.batch)

    def logarithmic(self, name: str, least: float) -> Tensor:
        """The same from ``least`` on, and evenly in the logarithm."""
        most = float(getattr(self.how, name))
        if self.how.exact or most <= least:
            return torch.full((self.batch,), most)
        return least * (most / least) ** self.even(self.batch)

    def even(self, *shape: int) -> Tensor:
        """Numbers from 0 to 1."""
        return torch.rand(shape, generator=self.generator)

    def normal(self, *shape: int) -> Tensor:
        """Numbers of standard deviation 1."""
        return torch.randn(shape, generator=self.generator)


def _steps_s(time: Float[Tensor, "b s"]) -> Float[Tensor, "b s"]:
    """Seconds from the sample before; infinite for the first, and for padding."""
    step = functional.pad(time.diff(dim=1), (1, 0), value=torch.inf)
    return step.nan_to_num(torch.inf, posinf=torch.inf)


def _switched(seen: Tensor, time: Tensor, label: Tensor, draw: _Draws) -> Tensor:
    """Pairs of agents that are nearest to each other swap what was seen before some sample."""
    batch, tracks, samples = seen.shape[:3]
    if not draw.how.switch or samples < 2 or tracks < 2:
        return seen
    chance = draw.level("switch")
    padding = torch.isnan(time).sum(1)
    # The first sample after the exchange: from the second that there is to the present.
    after = padding + 1 + (draw.even(batch) * (samples - 1 - padding)).long()
    after = after.clamp(max=samples - 1)
    chosen = draw.even(batch, tracks) < chance[:, None]
    place = seen.gather(2, after[:, None, None, None].expand(-1, tracks, 1, 5))[:, :, 0, :2]
    partner = _mutually_nearest(place, label)
    own = torch.arange(tracks).expand(batch, -1)
    first = torch.minimum(own, partner)
    partner = torch.where(chosen.gather(1, first), partner, own)
    other = seen.gather(1, partner[:, :, None, None].expand_as(seen))
    early = torch.arange(samples) < after[:, None]
    return torch.where(early[:, None, :, None], other, seen)


def _mutually_nearest(place: Float[Tensor, "b n 2"], label: Int[Tensor, "b n"]) -> Tensor:
    """The near agent of its class that is nearest to each, and it to that one; else itself."""
    apart = torch.linalg.vector_norm(place[:, :, None] - place[:, None], dim=-1)
    far = (label[:, :, None] != label[:, None]) | (label[:, None] == 0) | ~(apart <= NEAR_M)
    own = torch.arange(place.shape[1]).expand(len(place), -1)
    apart = apart.masked_fill(far | torch.eye(place.shape[1], dtype=torch.bool), torch.inf)
    nearest = apart.argmin(2)
    mutual = (nearest.gather(1, nearest) == own) & torch.isfinite(apart.amin(2))
    return torch.where(mutual, nearest, own)


def _duplicated(seen: Tensor, label: Tensor, draw: _Draws) -> tuple[Tensor, Tensor]:
    """Tracks that follow others a little beside them, and their classes ``(b, n)``."""
    batch, tracks = seen.shape[:2]
    if not draw.how.duplicate:
        return seen, label[:, :0]
    chance = draw.level("duplicate")
    real = (label > 0) & torch.isfinite(seen[..., 0]).any(-1)
    chosen = (draw.even(batch, tracks) < chance[:, None]) & real
    offset = DUPLICATE_OFFSET_M * draw.normal(batch, tracks, 1, 2)
    most = int(chosen.sum(1).max())
    order = torch.argsort((~chosen).int(), dim=1, stable=True)[:, :most]
    beside = torch.cat((seen[..., :2] + offset, seen[..., 2:]), -1)
    copies = beside.gather(1, order[:, :, None, None].expand(-1, -1, *seen.shape[2:]))
    used = chosen.gather(1, order)
    copies = torch.where(used[..., None, None], copies, torch.nan)
    return torch.cat((seen, copies), 1), torch.where(used, label.gather(1, order), 0)


def _with_more_tracks(sequence: BEVSequence, label: Int[Tensor, "b n"]) -> BEVSequence:
    """The sequence with tracks behind all others, of which the truth knows nothing."""
    state, old, score = sequence.track_state, sequence.track_class, sequence.track_score
    assert old is not None
    more = label.shape[1]
    return replace(
        sequence,
        track_class=torch.cat((old, label), 1),
        track_state=None if state is None else _padded(state, more),
        track_score=None if score is None else _padded(score, more),
    )


def _padded(values: Tensor, more: int) -> Tensor:
    blank = torch.full_like(values[:, :1], torch.nan).expand(-1, more, *values.shape[2:])
    return torch.cat((values, blank), 1)


def _resized(seen: Tensor, draw: _Draws) -> Tensor:
    """Lengths and widths, each track's off by a share of its own, and each sample's."""
    factor = torch.ones_like(seen[..., 3:])
    if draw.how.size:
        share = draw.level("size")[:, None, None, None]
        factor = factor * (1 + share * (2 * draw.even(*seen.shape[:2], 1, 2) - 1))
    if draw.how.size_jitter:
        share = draw.level("size_jitter")[:, None, None, None]
        factor = factor * (1 + share * (2 * draw.even(*factor.shape) - 1))
    return torch.cat((seen[..., :3], seen[..., 3:] * factor), -1)


def _misplaced(seen: Tensor, time: Tensor, draw: _Draws) -> Tensor:
    """Positions off by noise, part of which persists from sample to sample."""
    if not draw.how.position_m:
        return seen
    std = draw.logarithmic("position_m", LEAST_POSITION_M)[:, None, None]
    if draw.how.range_growth:
        growth = draw.level("range_growth")[:, None, None]
        far = torch.linalg.vector_norm(seen[..., :2], dim=-1) / GROWTH_RANGE_M
        std = std * (1 + growth * far)
    if draw.how.track_spread:
        spread = draw.level("track_spread")[:, None] * draw.normal(*seen.shape[:2])
        std = std * spread.exp()[..., None]
    error = draw.normal(*seen.shape[:3], 2)
    if draw.how.correlation_s:
        persists_s = draw.level("correlation_s").clamp(min=1e-6)[:, None]
        share = torch.ones(draw.batch) if draw.how.exact else draw.even(draw.batch)
        kept = (-_steps_s(time) / persists_s).exp()
        lasting = _correlated(draw.normal(*error.shape), kept)
        share = share[:, None, None, None]
        error = (1 - share).sqrt() * error + share.sqrt() * lasting
    if draw.how.along:  # so many times larger ahead than aside, and as large altogether
        larger = draw.logarithmic("along", 1.0).sqrt()
        error = error * torch.stack((larger, 1 / larger), -1)[:, None, None]
        error = se2.rotate(error, seen[..., 2])
    return torch.cat((seen[..., :2] + std[..., None] * error, seen[..., 2:]), -1)


def _correlated(white: Float[Tensor, "b n s c"], kept: Float[Tensor, "b s"]) -> Tensor:
    """Noise of the same power of which a share of each sample is kept by the next."""
    samples = [white[:, :, 0]]
    for index in range(1, white.shape[2]):
        rho = kept[:, index, None, None]
        samples.append(rho * samples[-1] + (1 - rho**2).sqrt() * white[:, :, index])
    return torch.stack(samples, 2)


def _misheaded(seen: Tensor, time: Tensor, draw: _Draws) -> Tensor:
    """Headings off by noise, turned around, or none but what the motion says."""
    yaw, tracks = seen[..., 2], seen.shape[:2]
    if draw.how.heading_rad:
        yaw = yaw + draw.level("heading_rad")[:, None, None] * draw.normal(*yaw.shape)
    if draw.how.heading_flip:
        flipped = draw.even(*tracks) < draw.level("heading_flip")[:, None]
        yaw = yaw + math.pi * flipped[..., None]
    if draw.how.heading_missing:
        missing = draw.even(draw.batch) < draw.how.heading_missing
        # Of an agent that never moved a recording says 0: the direction of its own x axis.
        axis = 2 * math.pi * draw.even(draw.batch)[:, None, None]
        course = course_of(seen[..., :2], time)
        course = torch.where(torch.isnan(course), axis, course)
        course = torch.where(torch.isnan(yaw), yaw, course)
        yaw = torch.where(missing[:, None, None], course, yaw)
    changed = yaw != seen[..., 2]
    yaw = torch.where(changed, se2.wrap(yaw), seen[..., 2])
    return torch.cat((seen[..., :2], yaw[..., None], seen[..., 3:]), -1)


def course_of(
    position: Float[Tensor, "b n s 2"], time: Float[Tensor, "b s"]
) -> Float[Tensor, "b n s"]:
    """Headings from motion, as tables of tracks without headings get them.

    A parabola over the second before each sample gives the direction there. Where an agent hardly
    moved in that second it keeps the heading that it had; before it first moves, the one that it
    then takes.

    Args:
        position: x, y; NaN = not seen.
        time: Seconds, ascending; NaN = padding.

    Returns:
        Radians; NaN for an agent that never moves.
    """
    known = torch.isfinite(position[..., 0]) & torch.isfinite(time)[:, None]
    since = time[:, None, :] - time[:, :, None]  # (b, sample, earlier sample)
    inside = (since <= 0) & (since >= -COURSE_WINDOW_S - 1e-3)
    use = (inside[:, None] & known[:, :, None, :] & known[..., None]).to(position.dtype)
    offset = torch.where(use[..., None] > 0, position[:, :, None] - position[:, :, :, None], 0.0)
    lag = torch.where(inside, since, 0.0)[:, None].expand_as(use)
    powers = torch.stack((torch.ones_like(lag), lag, lag**2), -1)
    weighted = (use[..., None] * powers).mT
    ridge = torch.diag(position.new_tensor([1e-6, 1e-6, COURSE_RIDGE]))
    fitted = torch.linalg.solve(weighted @ powers + ridge, weighted @ offset)
    moved = torch.linalg.vector_norm(offset, dim=-1).amax(-1) >= COURSE_MIN_M
    course = torch.atan2(fitted[..., 1, 1], fitted[..., 1, 0])
    return _filled(torch.where(moved & known, course, torch.nan))


def _filled(values: Float[Tensor, "b n s"]) -> Float[Tensor, "b n s"]:
    """NaN replaced by the last number before, or else by the first after."""
    values = values.clone()
    samples = range(values.shape[2])
    for order in (list(samples), list(samples)[::-1]):
        for before, index in pairwise(order):
            gap = torch.isnan(values[..., index])
            values[..., index] = torch.where(gap, values[..., before], values[..., index])
    return values


def _missed(seen: Tensor, time: Tensor, draw: _Draws) -> Tensor:
    """Samples in which agents are not seen: in bursts, before they are first seen, or not yet."""
    batch, tracks, samples = seen.shape[:3]
    gone = torch.zeros(seen.shape[:3], dtype=torch.bool)
    if draw.how.miss:
        gone = gone | _bursts(draw.even(*gone.shape), draw.level("miss"), time, draw.how.miss_s)
    sample = torch.arange(samples)
    if draw.how.late:
        late = draw.even(batch, tracks) < draw.level("late")[:, None]
        first = (draw.even(batch, tracks) * samples).long()
        gone = gone | (late[..., None] & (sample < first[..., None]))
    if draw.how.latency:
        last = samples - _latency(time, draw)
        if not draw.how.exact:
            some = draw.even(batch)[:, None] < 0.5
            spared = some & (draw.even(batch, tracks) < 0.5)
            last = torch.where(spared, samples, last)
        gone = gone | (sample >= last[..., None])
    return torch.where(gone[..., None], torch.nan, seen)


def _latency(time: Float[Tensor, "b s"], draw: _Draws) -> Tensor:
    """``(b, 1)`` how many of the last samples are not there yet.

    Where levels are drawn, only those of trackers at 10 Hz: from half a second to the next nothing
    is late by a sample, and agents that are not there have gone.
    """
    if draw.how.exact:
        return torch.full((draw.batch, 1), draw.how.latency)
    late = (draw.even(draw.batch, 1) * (draw.how.latency + 1)).long()
    return late * (_steps_s(time)[:, -1:] < QUICK_S)


def _bursts(
    even: Tensor, chance: Float[Tensor, "b"], time: Float[Tensor, "b s"], lasting_s: float
) -> Bool[Tensor, "b n s"]:
    """A share of samples, of which one tends to be like the one before."""
    kept = (-_steps_s(time) / max(lasting_s, 1e-6)).exp()[:, None]
    share = chance[:, None]
    state = even[..., 0] < share
    states = [state]
    for index in range(1, even.shape[2]):
        stay = kept[..., index]
        state = even[..., index] < torch.where(state, stay + (1 - stay) * share, (1 - stay) * share)
        states.append(state)
    return torch.stack(states, 2)
