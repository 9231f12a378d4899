"""Variations of a sequence that traffic allows: its mirror image, and a noisier tracker."""

from __future__ import annotations

from dataclasses import astuple, replace

import torch
from torch import Generator, Tensor

from forecast.data.settings import Augmentation
from forecast.grid import BEVGrid
from forecast.types import BEVSequence


def augment(sequence: BEVSequence, how: Augmentation, history: int, dice: Generator) -> BEVSequence:
    """A varied batch; noise touches only the frames that a model may see."""
    if _toss(how.mirror, dice):
        sequence = sequence.mirror()
    if how.scale > 0:
        sequence = scale(sequence, 1 + how.scale * (2 * float(torch.rand((), generator=dice)) - 1))
    if sequence.map_point is not None and _toss(how.drop_lanes, dice):
        sequence = replace(sequence, map_point=None)
    if sequence.map is not None and _toss(how.drop_map, dice):
        sequence = replace(sequence, map=torch.zeros_like(sequence.map))
    if sequence.track_state is not None:
        noisy = _noise(sequence.track_state, how, history, dice)
        sequence = replace(sequence, track_state=noisy)
    return sequence


def scale(sequence: BEVSequence, factor: float) -> BEVSequence:
    """Everything larger by a factor, cells included, so that rasters stay as they are."""
    grid, state, points = sequence.grid, sequence.track_state, sequence.map_point
    by = sequence.ego_pose.new_tensor([factor, factor, 1.0, factor, factor])
    return replace(
        sequence,
        grid=BEVGrid(*(factor * edge for edge in astuple(grid))),
        ego_pose=sequence.ego_pose * by[:3],
        track_state=None if state is None else state * by,
        map_point=None if points is None else points * by[:3],
    )


def _noise(state: Tensor, how: Augmentation, history: int, dice: Generator) -> Tensor:
    # The dice are the CPU's, so that a run draws the same on every device.
    state, device = state.clone(), state.device
    past = state[:, :, :history]
    shift = torch.randn(past[..., :2].shape, generator=dice).to(device)
    turn = torch.randn(past[..., 2].shape, generator=dice).to(device)
    # One tracker is exact where another trembles: who always sees the same noise mistrusts both.
    level = float(torch.rand((), generator=dice))
    past[..., :2] += level * how.position_noise_m * shift
    past[..., 2] += level * how.heading_noise_rad * turn
    if history > 1:
        hidden = torch.rand(state.shape[:2], generator=dice).to(device) < how.drop_past
        past[:, :, 0] = torch.where(hidden[..., None], torch.nan, past[:, :, 0])
    return state


def _toss(probability: float, dice: Generator) -> bool:
    return bool(torch.rand((), generator=dice) < probability)
