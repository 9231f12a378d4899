"""Constant turn rate with the errors that it made elsewhere."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from forecast.errors import CheckpointError
from forecast.loop import realizations
from forecast.model.baselines import Baseline
from forecast.model.resampled_errors import PATHS, SPEEDS_MPS, ErrorPaths, ResampledErrors
from tests.support.rollouts import run
from tests.support.sequences import sequences
from tests.support.stores import Mover

TIME_S = torch.tensor([0.5, 1.0, 2.0])
SHAPE = (3, len(SPEEDS_MPS) + 1, PATHS, len(TIME_S), 3)
ALONE = [[Mover(-6.0, 0.0, 0.0, 2.0)]]


def paths(off: Tensor | None = None) -> ErrorPaths:
    return ErrorPaths(TIME_S, torch.zeros(SHAPE) if off is None else off)


def test_errors_grow_evenly_between_the_times_they_are_known_at_and_beyond() -> None:
    off = torch.zeros(SHAPE)
    off[1, 2, 5, :, 0] = torch.tensor([1.0, 3.0, 4.0])  # a pedestrian of 3 to 8 m/s
    label, speed = torch.tensor([[2, 2, 1, 0]]), torch.tensor([[5.0, 9.0, 5.0, 5.0]])
    path = torch.tensor([[[5, 5, 5, 5], [4, 5, 5, 5]]])
    for elapsed_s, wanted in (
        (0.0, 0.0),
        (0.25, 0.5),
        (0.75, 2.0),
        (1.5, 3.5),
        (2.0, 4.0),
        (3.0, 6.0),
    ):
        found = paths(off).at(elapsed_s, label, speed, path)
        assert found.shape == (1, 2, 4, 3)
        assert float(found[0, 0, 0, 0]) == pytest.approx(wanted)
        assert float(found.abs().sum()) == pytest.approx(wanted), "of that agent and path alone"


def test_poses_and_masks_are_those_of_constant_turn_rate() -> None:
    batch = sequences([[Mover(-6.0, 0.0, 0.3, 4.0, 0.2), Mover(6.0, 5.0, 1.0, 2.0)]])
    off = torch.randn(SHAPE)
    for one, other in zip(
        run(ResampledErrors(paths(off)), batch, 3),
        run(Baseline("constant-turn", 3), batch, 3),
        strict=True,
    ):
        for name in ("ids", "label", "pose", "instance", "semantic", "flow", "existence"):
            torch.testing.assert_close(getattr(one, name), getattr(other, name), equal_nan=True)
        assert not torch.equal(one.occupancy, other.occupancy)


def test_without_errors_occupancy_is_the_mask_of_constant_turn_rate() -> None:
    batch = sequences([[Mover(-6.0, 0.0, 0.0, 2.0), Mover(5.0, 5.0, 0.0, 1.0, label=3)]])
    model = ResampledErrors(paths())
    for one, other in zip(
        run(model, batch, 2), run(Baseline("constant-turn", 3), batch, 2), strict=True
    ):
        for k in range(3):
            assert torch.equal(one.occupancy[:, k], (other.semantic == k + 1).float())
        assert one.occupancy[:, 0].any()
        assert one.occupancy[:, 2].any()


def test_occupancy_is_the_share_of_error_paths_that_cover_a_cell() -> None:
    off = torch.zeros(SHAPE)
    off[:, :, ::4, :, 1] = 6.0  # a quarter of them 6 m to the left
    batch = sequences(ALONE)
    expected = run(ResampledErrors(paths()), batch, 1)[0].occupancy[0, 0]
    found = run(ResampledErrors(paths(off)), batch, 1)[0].occupancy[0, 0]
    shifted = torch.roll(expected, round(6.0 / batch.grid.resolution_m), 0)
    # 32 draws, one of each eighth in four blocks, have a quarter of the paths but for a few.
    torch.testing.assert_close(found, 0.75 * expected + 0.25 * shifted, atol=0.2, rtol=0)
    assert float(found.sum()) == pytest.approx(float(expected.sum()), rel=1e-3)


def test_an_agent_errs_as_it_began_to_at_all_leads() -> None:
    off = torch.zeros(SHAPE)
    off[..., 0] = torch.linspace(-3.0, 3.0, PATHS)[:, None] * TIME_S
    past = sequences(ALONE).crop(0, 3)
    with torch.inference_mode():
        model = ResampledErrors(paths(off))
        found = torch.stack([one.pose[0, :, 0, 0] for one in realizations(model, past, 4, 8)])
        centre = torch.stack([one.pose[0, 0, 0] for one in run(model, sequences(ALONE), 4)])
    gone = (found - centre) / (0.5 * torch.arange(1, 5))
    torch.testing.assert_close(gone, gone[:, :1].expand_as(gone), atol=1e-4, rtol=0)
    assert float(gone.amax() - gone.amin()) > 3.0, "of eight realizations one is in each eighth"


@pytest.mark.parametrize(
    "wrong",
    [
        {"off": torch.zeros(3, 5, PATHS, 2, 3)},
        {"off": torch.full(SHAPE, torch.nan)},
        {"time_s": TIME_S.flip(0)},
        {"time_s": TIME_S - 0.5},
    ],
)
def test_paths_that_are_none_are_refused(wrong: dict[str, Tensor]) -> None:
    with pytest.raises(CheckpointError, match="finite error paths"):
        replace(paths(), **wrong)
