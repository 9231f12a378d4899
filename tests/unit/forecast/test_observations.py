"""Which moments a history has, and which of them have rasters."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from forecast.model.scene import se2
from forecast.observations import observations, scene_context
from forecast.types import BEVSequence
from tests.support.sequences import TRAFFIC, forecaster, sequences


def sampled(times: list[list[float]]) -> BEVSequence:
    """Histories of three frames, 0.5 s apart, with samples at times of their own."""
    batch = sequences(TRAFFIC[: len(times)]).crop(0, 3)
    assert batch.track_state is not None
    time_s = torch.tensor(times)
    now = batch.track_state[:, :, 2]
    twist = se2.log(se2.between(batch.track_state[:, :, 1, :3], now[..., :3])) / batch.dt_s
    pose = se2.compose(now[:, :, None, :3], se2.exp(twist[:, :, None] * time_s[:, None, :, None]))
    size = now[:, :, None, 3:].expand(-1, -1, time_s.shape[1], -1)
    history = torch.cat((pose, size), -1)
    return replace(batch, track_history=history, sample_time=time_s)


def moments(history: BEVSequence) -> list[tuple[list[float], int, bool]]:
    """Time, number of tracks, and whether there is a raster."""
    found = []
    for frame in observations(history):
        assert frame.track_state is not None
        time_s = [round(one, 3) for one in frame.time_s.tolist()]
        found.append((time_s, frame.track_state.shape[1], frame.semantic is not None))
    return found


def test_a_frame_between_two_samples_joins_the_nearer_one() -> None:
    """Else it would be a moment in which everybody is out of sight."""
    found = moments(sampled([[-1.05, -0.8, -0.55, -0.3, 0.0]]))
    assert [(time[0], raster) for time, _, raster in found] == [
        (-1.05, True),
        (-0.8, False),
        (-0.55, True),
        (-0.3, False),
        (0.0, True),
    ]
    assert all(tracks > 0 for _, tracks, _ in found)


def test_a_frame_far_from_all_samples_is_no_moment() -> None:
    found = moments(sampled([[-0.1, 0.0]]))
    assert found[0][0] == [-0.1]
    assert [raster for _, _, raster in found] == [False, True]


@pytest.mark.parametrize("other", [[-0.95, -0.55, 0.0], [-0.9, -0.42, 0.0]])
def test_samples_of_several_clocks_are_in_the_order_of_time(other: list[float]) -> None:
    time_s = torch.stack([f.time_s for f in observations(sampled([[-1.0, -0.5, 0.0], other]))])
    assert time_s.shape == (3, 2)
    assert bool((time_s.diff(dim=0) > 0).all())


def test_a_present_without_samples_is_a_moment_whose_raster_was_read_before() -> None:
    """What was read of tracks that are late still stands, and is warped to the present."""
    history = sampled([[-1.0, -0.6, -0.2]])
    assert moments(history)[-1] == ([0.0], 0, True)
    model = forecaster(raster="always")
    state = model.start(scene_context(history))
    with torch.no_grad():
        for frame in observations(history):
            state = model.observe(state, frame)
        assert state.features is not None
        assert bool((state.agents.time_s[:, -1] == 0).all())
        model.step(state, 0.5)
