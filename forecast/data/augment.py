"""Variations of a sequence that traffic allows: its mirror image, and a noisier tracker."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Generator, Tensor

from forecast.data.settings import Augmentation
from forecast.types import BEVSequence


def augment(sequence: BEVSequence, how: Augmentation, history: int, dice: Generator) -> BEVSequence:
    """A varied batch; noise touches only the frames that a model may see."""
    if _toss(how.mirror, dice):
        sequence = mirror(sequence)
    if sequence.map_point is not None and _toss(how.drop_lanes, dice):
        sequence = replace(sequence, map_point=None)
    if sequence.map is not None and _toss(how.drop_map, dice):
        sequence = replace(sequence, map=torch.zeros_like(sequence.map))
    if sequence.track_state is not None:
        noisy = _noise(sequence.track_state, how, history, dice)
        sequence = replace(sequence, track_state=noisy)
    return sequence


def mirror(sequence: BEVSequence) -> BEVSequence:
    """Left and right swapped; the grid must be symmetric about y = 0, else nothing changes."""
    if sequence.grid.y_min_m != -sequence.grid.y_max_m:
        return sequence
    state, points = sequence.track_state, sequence.map_point
    signs = sequence.ego_pose.new_tensor([1.0, -1.0, -1.0, 1.0, 1.0])
    return replace(
        sequence,
        semantic=sequence.semantic.flip(-2),
        instance=sequence.instance.flip(-2),
        ego_pose=sequence.ego_pose * signs[:3],
        map=None if sequence.map is None else sequence.map.flip(-2),
        track_state=None if state is None else state * signs,
        map_point=None if points is None else points * signs[:3],
        bev=None if sequence.bev is None else sequence.bev.flip(-2),
    )


def _noise(state: Tensor, how: Augmentation, history: int, dice: Generator) -> Tensor:
    # The dice are the CPU's, so that a run draws the same on every device.
    state, device = state.clone(), state.device
    past = state[:, :, :history]
    shift = torch.randn(past[..., :2].shape, generator=dice).to(device)
    turn = torch.randn(past[..., 2].shape, generator=dice).to(device)
    past[..., :2] += how.position_noise_m * shift
    past[..., 2] += how.heading_noise_rad * turn
    if history > 1:
        hidden = torch.rand(state.shape[:2], generator=dice).to(device) < how.drop_past
        past[:, :, 0] = torch.where(hidden[..., None], torch.nan, past[:, :, 0])
    return state


def _toss(probability: float, dice: Generator) -> bool:
    return bool(torch.rand((), generator=dice) < probability)
