"""How noisy a tracker is: the noise of the Kalman filter, of each scene."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from jaxtyping import Float
from torch import Tensor

from forecast.model.kalman import follow
from forecast.model.kalman_motion import KalmanNoise

POSITION_LEVELS_M = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8)
"""Levels that a scene may have; below the first the motion itself is less regular."""
HEADING_LEVELS_RAD = (0.005, 0.02, 0.05, 0.15, 0.4)
APART_S = 0.3


def noise_of_scene(
    track_history: Float[Tensor, "b n s c"],
    sample_time: Float[Tensor, "b s"],
    noise: KalmanNoise | None = None,
) -> KalmanNoise:
    """The noise of the measurements, one level per scene, by the likelihood of all its tracks.

    Parked agents tell most. Only samples :data:`APART_S` apart are read, as a tracker's error
    persists from one to the next: a faster filter would take it for motion.

    Args:
        track_history: As :func:`follow` takes it.
        sample_time: Likewise.
        noise: What is kept of it is the noise of the motion.
    """
    chosen = _apart(sample_time)
    history, time = track_history[:, :, chosen], sample_time[:, chosen]
    found = noise or KalmanNoise()
    for name, levels in (("position_m", POSITION_LEVELS_M), ("heading_rad", HEADING_LEVELS_RAD)):
        # All levels at once, as further scenes of one batch.
        scenes, tried = len(history), history.new_tensor(levels)
        changed: dict[str, Any] = {name: tried.repeat_interleave(scenes)[:, None]}
        many = replace(_repeated(found, scenes, len(levels)), **changed)
        likelihood = follow(
            history.repeat(len(levels), 1, 1, 1), time.repeat(len(levels), 1), many
        )[1]
        best = likelihood.sum(1).view(len(levels), scenes).argmax(0)
        changed = {name: tried[best][:, None]}
        found = replace(found, **changed)
    return found


def _repeated(noise: KalmanNoise, scenes: int, times: int) -> KalmanNoise:
    """The noise of a batch that is repeated some times."""
    changed: dict[str, Any] = {
        name: value.expand(scenes, -1).repeat(times, 1)
        for name, value in vars(noise).items()
        if isinstance(value, Tensor) and value.dim() == 2
    }
    return replace(noise, **changed)


def _apart(sample_time: Float[Tensor, "b s"]) -> list[int]:
    """Indices of samples, the last among them, that are some time apart in every sequence."""
    chosen = [sample_time.shape[1] - 1]
    for index in reversed(range(chosen[0])):
        gap = sample_time[:, chosen[-1]] - sample_time[:, index]
        if bool((gap.nan_to_num(math.inf) >= APART_S - 1e-3).all()):
            chosen.append(index)
    return chosen[::-1]
