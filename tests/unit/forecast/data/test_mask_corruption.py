"""What perception spoils of masks: as much as was asked for, and never the truth."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator

from forecast.config.data import Corruption
from forecast.data.mask_corruption import corrupt_rasters
from forecast.grid import BEVGrid
from forecast.types import BEVSequence

HISTORY = 3
MASK_FAULTS = {
    "mask_edge": 0.5,
    "mask_split": 1.0,
    "mask_merge": 1.0,
    "mask_miss": 0.5,
    "mask_false": 3.0,
}


def seeded(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def masked(seed: int = 0) -> BEVSequence:
    """Many rectangles with ids, some of them a cell apart."""
    grid = BEVGrid(-50, 50, -40, 40, 0.5)
    instance = torch.zeros(2, 5, *grid.shape, dtype=torch.long)
    for index in range(48):
        row, column = 12 + index // 8 * 24, 10 + index % 8 * 23 + 5 * (index % 2)
        instance[:, :, row : row + 6, column : column + 9] = 2 * index + 1
        instance[:, :, row : row + 6, column + 10 : column + 17] = 2 * index + 2
    semantic = torch.where(instance > 0, 1 + instance % 3, 0)
    return BEVSequence(grid, 0.5, semantic, instance, torch.zeros(2, 5, 3))


def test_what_is_off_draws_nothing() -> None:
    generator = seeded()
    before = generator.get_state()
    corrupt_rasters(masked(), Corruption.fixed(), HISTORY, generator)
    assert torch.equal(generator.get_state(), before)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    on=st.sets(st.sampled_from(sorted(MASK_FAULTS))),
    exact=st.booleans(),
)
def test_the_masks_of_the_future_stay_as_they_are(seed: int, on: set[str], exact: bool) -> None:
    sequence = masked()
    how = replace(Corruption.fixed(**{name: MASK_FAULTS[name] for name in on}), exact=exact)
    after = corrupt_rasters(sequence, how, HISTORY, seeded(seed))
    for ours, theirs in (
        (after.instance, sequence.instance),
        (after.semantic, sequence.semantic),
    ):
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours[:, HISTORY:], theirs[:, HISTORY:])
        assert on or torch.equal(ours, theirs)
    assert torch.equal(after.instance > 0, after.semantic > 0)
    # A cell of a mask has its class.
    known = (after.instance > 0) & (after.instance <= 96)
    assert torch.equal(after.semantic[known], 1 + after.instance[known] % 3)
    again = corrupt_rasters(sequence, how, HISTORY, seeded(seed))
    assert torch.equal(after.instance, again.instance)


@pytest.mark.parametrize("fault", sorted(MASK_FAULTS))
def test_each_fault_of_masks_does_what_it_says(fault: str) -> None:
    sequence = masked()
    how = Corruption.fixed(**{fault: MASK_FAULTS[fault]})
    before = sequence.instance[:, :HISTORY]
    after = corrupt_rasters(sequence, how, HISTORY, seeded()).instance[:, :HISTORY]
    lost, added = (before > 0) & (after == 0), (before == 0) & (after > 0)
    assert not ((before > 0) & (after > 0) & (before != after)).any()
    shares = (float(lost.sum() / (before > 0).sum()), float(added.sum() / (before > 0).sum()))
    if fault == "mask_edge":
        edge = 96 * (2 * 6 + 2 * 8) / (48 * 6 * 16)  # about
        assert shares[0] == pytest.approx(0.25 * edge, rel=0.3)
        assert shares[1] > 0.05
    elif fault == "mask_split":
        assert 0.05 < shares[0] < 0.4
        assert shares[1] == 0
    elif fault == "mask_merge":
        assert shares[0] == 0
        # The gap of a cell between two masks, six cells long, of each of 48 pairs in six frames.
        gaps = before.roll(1, -1).bool() & before.roll(-1, -1).bool() & (before == 0)
        assert int(gaps.sum()) >= 6 * 48 * 6
        assert bool(added[gaps].all())
        assert int(added.sum()) < 2 * int(gaps.sum())
    elif fault == "mask_miss":
        assert shares[0] == pytest.approx(0.5, abs=0.1)
        whole = torch.zeros(97).scatter_add_(0, before[0, 0].flatten(), torch.ones(160 * 200))
        left = torch.zeros(97).scatter_add_(0, after[0, 0].flatten(), torch.ones(160 * 200))
        assert bool(((left == whole) | (left == 0))[1:].all())
    else:
        assert shares[0] == 0
        # Up to three in each of six frames, none of them in two.
        seen = [set(after[:, frame][added[:, frame]].tolist()) for frame in range(HISTORY)]
        assert all(ids <= set(range(97, 97 + 3 * HISTORY)) for ids in seen)
        assert sum(map(len, seen)) == len(set.union(*seen))
        assert int(added.sum()) > 50


def test_a_false_mask_takes_no_id_of_who_comes_later() -> None:
    """It would be taught that agent's truth."""
    sequence = masked()
    state = torch.full((2, 120, 5, 5), torch.nan)
    sequence = replace(sequence, track_state=state, track_class=torch.ones(2, 120).long())
    how = Corruption.fixed(mask_false=3.0)
    after = corrupt_rasters(sequence, how, HISTORY, seeded())
    added = (after.instance != sequence.instance)[:, :HISTORY]
    assert int(after.instance[:, :HISTORY][added].min()) > 120
