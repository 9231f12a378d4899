"""What trackers spoil: as much as was asked for, and never the truth."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from forecast.config.data import Corruption
from forecast.data.corruption import corrupt, course_of, observed
from forecast.grid import BEVGrid
from forecast.model.scene import se2
from forecast.types import BEVSequence
from tests.support.sequences import TRAFFIC, sequences

HISTORY = 3
TRACK_FAULTS = {
    "position_m": 0.3,
    "heading_rad": 0.1,
    "heading_missing": 1.0,
    "heading_flip": 0.5,
    "size": 0.15,
    "size_jitter": 0.05,
    "miss": 0.4,
    "late": 0.5,
    "switch": 1.0,
    "duplicate": 0.5,
    "latency": 1,
}
OBSERVED = ("track_history", "sample_time")


def traffic(batch: int = 4, tracks: int = 40, samples: int = 21) -> BEVSequence:
    """Agents in pairs 3 m apart, far from others, driving at 0 to 10 m/s, observed at 10 Hz."""
    grid = BEVGrid(-50, 50, -50, 50, 1.0)
    time = torch.arange(1 - samples, 1) * 0.1
    track = torch.arange(tracks)
    yaw = 0.7 * (track // 2)
    place = torch.stack((30.0 * (track // 2) - 300, 3.0 * (track % 2)), -1)
    way = (track // 2 % 5 * 2.5)[:, None] * time
    x, y = place[:, :1] + way * yaw.cos()[:, None], place[:, 1:] + way * yaw.sin()[:, None]
    size = torch.tensor([4.5, 1.9]).expand(tracks, samples, 2)
    turned = torch.remainder(yaw + math.pi, 2 * math.pi) - math.pi
    pose = torch.stack((x, y, turned[:, None].expand_as(x)), -1)
    seen = torch.cat((pose, size), -1).expand(batch, -1, -1, -1).clone()
    seen[:, 3, :5] = torch.nan
    empty = torch.zeros(batch, 9, *grid.shape, dtype=torch.long)
    return BEVSequence(
        grid=grid,
        dt_s=0.5,
        semantic=empty,
        instance=empty,
        ego_pose=torch.zeros(batch, 9, 3),
        track_state=seen[:, :, -9:].clone(),
        track_class=torch.ones(batch, tracks, dtype=torch.long),
        track_history=seen,
        sample_time=time.expand(batch, -1).clone(),
    )


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def history(sequence: BEVSequence) -> Tensor:
    assert sequence.track_history is not None
    return sequence.track_history


def same(one: Tensor | None, two: Tensor | None) -> bool:
    """Equality to the last bit, in which NaN equals NaN."""
    if one is None or two is None:
        return one is two
    return one.shape == two.shape and bool(((one == two) | (one.isnan() & two.isnan())).all())


def spoiled(sequence: BEVSequence, how: Corruption, seed: int = 0) -> BEVSequence:
    return corrupt(sequence, how, HISTORY, seeded(seed))


@pytest.mark.parametrize("own_rate", [False, True])
@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    on=st.sets(st.sampled_from(sorted(TRACK_FAULTS))),
    exact=st.booleans(),
)
def test_the_truth_stays_as_it_is(own_rate: bool, seed: int, on: set[str], exact: bool) -> None:
    sequence = traffic(2, 8) if own_rate else sequences(TRAFFIC)
    how = replace(Corruption.fixed(**{name: TRACK_FAULTS[name] for name in on}), exact=exact)
    before, after = sequence, spoiled(sequence, how, seed)
    assert after.track_class is not None
    assert before.track_class is not None
    tracks = before.track_class.shape[1]
    for item in fields(before):
        ours, theirs = getattr(after, item.name), getattr(before, item.name)
        if item.name in OBSERVED or not isinstance(theirs, Tensor):
            continue
        if item.name.startswith("track"):
            ours = ours[:, :tracks]
        assert same(ours, theirs), item.name
    assert after.track_state is not None
    assert after.track_state[:, tracks:].isnan().all()
    assert ("duplicate" in on) or after.track_state.shape[1] == tracks
    assert same(history(after), history(spoiled(sequence, how, seed)))
    if not on:
        assert same(history(after), history(observed(sequence, HISTORY)))
    # Nobody is seen who was not there, but for ids that were exchanged.
    if "switch" not in on:
        there = history(observed(sequence, HISTORY)).isfinite().all(-1)
        assert not (history(after)[:, :tracks].isfinite().any(-1) & ~there).any()


@pytest.mark.parametrize("fault", sorted(TRACK_FAULTS))
def test_each_fault_of_trackers_has_an_effect_of_its_own(fault: str) -> None:
    how = Corruption.fixed(**{fault: TRACK_FAULTS[fault]})
    assert not same(history(spoiled(traffic(), how)), history(traffic()))


def test_what_is_off_draws_nothing() -> None:
    generator = seeded()
    before = generator.get_state()
    corrupt(traffic(), Corruption.fixed(), HISTORY, generator)
    assert torch.equal(generator.get_state(), before)


def test_without_a_history_of_its_own_that_of_the_states_is_observed() -> None:
    sequence = sequences(TRAFFIC)
    assert sequence.track_state is not None
    made = observed(sequence, HISTORY)
    assert same(made.track_history, sequence.track_state[:, :, :HISTORY])
    assert made.sample_time is not None
    assert made.sample_time[0].tolist() == pytest.approx([-1.0, -0.5, 0.0])
    assert observed(traffic(), HISTORY).track_history is not None
    bare = replace(sequence, track_state=None, track_class=None)
    assert corrupt(bare, Corruption(), HISTORY, seeded()) is bare


@pytest.mark.parametrize("level", [0.05, 0.3])
def test_noise_is_as_large_as_its_level(level: float) -> None:
    sequence = traffic(16)
    how = Corruption.fixed(position_m=level, heading_rad=level / 3)
    error = history(spoiled(sequence, how)) - history(sequence)
    known = error[error.isfinite().all(-1)]
    assert float(known[:, :2].std()) == pytest.approx(level, rel=0.03)
    turned = torch.remainder(known[:, 2] + math.pi, 2 * math.pi) - math.pi
    assert float(turned.std()) == pytest.approx(level / 3, rel=0.03)
    steps = error[..., :2].nan_to_num(0.0)
    correlation = (steps[:, :, 1:] * steps[:, :, :-1]).mean() / (steps**2).mean()
    assert abs(float(correlation)) < 0.03


def test_noise_persists_for_as_long_as_was_set_and_grows_with_range() -> None:
    sequence = traffic(16)
    how = Corruption.fixed(position_m=0.2, correlation_s=0.3)
    error = (history(spoiled(sequence, how)) - history(sequence))[..., :2]
    error = error[:, 4:]
    correlation = (error[:, :, 1:] * error[:, :, :-1]).mean() / (error**2).mean()
    assert float(correlation) == pytest.approx(math.exp(-0.1 / 0.3), abs=0.03)
    assert float(error.std()) == pytest.approx(0.2, rel=0.05)
    how = Corruption.fixed(position_m=0.2, range_growth=1.0)
    error = (history(spoiled(sequence, how)) - history(sequence))[..., :2]
    at = torch.linalg.vector_norm(history(sequence)[:, :, -1, :2], dim=-1)
    near, far = (error[at < 50], error[at > 150])
    assert float(near.nan_to_num(0.0).std()) == pytest.approx(0.2 * 1.5, rel=0.2)
    assert float(far.nan_to_num(0.0).std()) > 0.2 * 4


def test_noise_is_larger_along_agents_than_across_by_the_factor_that_was_set() -> None:
    sequence = traffic(16)
    error = history(spoiled(sequence, Corruption.fixed(position_m=0.2, along=4.0)))
    error = (error - history(sequence))[..., :2]
    own = se2.rotate(error, -history(sequence)[..., 2])
    along, across = own[own.isfinite().all(-1)].std(0).tolist()
    assert along == pytest.approx(0.4, rel=0.05)
    assert across == pytest.approx(0.1, rel=0.05)


def test_tracks_of_a_scene_differ_in_their_noise_by_the_spread_that_was_set() -> None:
    sequence = traffic(16)
    error = history(spoiled(sequence, Corruption.fixed(position_m=0.2, track_spread=0.7)))
    error = (error - history(sequence))[..., :2].nan_to_num(0.0)
    levels = error.flatten(2).std(2)
    levels = levels[levels > 0].log()
    assert float(levels.mean()) == pytest.approx(math.log(0.2), abs=0.15)
    assert float(levels.std()) == pytest.approx(0.7, rel=0.2)


def test_every_scene_has_a_level_of_its_own() -> None:
    sequence = traffic(64)
    how = replace(Corruption.fixed(position_m=0.5), exact=False)
    error = (history(spoiled(sequence, how)) - history(sequence))[..., :2]
    levels = error.nan_to_num(0.0).flatten(1).std(1)
    assert float(levels.min()) < 0.02
    assert float(levels.max()) > 0.3
    assert float(levels.log().mean().exp()) == pytest.approx(math.sqrt(0.01 * 0.5), rel=0.3)


def test_samples_are_missed_as_often_as_was_set_one_by_one_or_in_bursts() -> None:
    sequence = traffic(32)
    seen = history(sequence)[..., 0].isfinite()
    for lasting_s in (0.0, 0.3):
        gone = history(spoiled(sequence, Corruption.fixed(miss=0.3, miss_s=lasting_s)))
        missed = gone[..., 0].isnan() & seen
        assert float(missed.sum() / seen.sum()) == pytest.approx(0.3, abs=0.02)
        again = (missed[:, :, 1:] & missed[:, :, :-1] & seen[:, :, :-1]).sum()
        share = float(again / (missed[:, :, :-1] & seen[:, :, :-1]).sum())
        kept = math.exp(-0.1 / lasting_s) if lasting_s else 0.0
        assert share == pytest.approx(kept + (1 - kept) * 0.3, abs=0.03)


def test_latency_hides_the_last_samples_and_late_agents_the_first() -> None:
    seen = history(spoiled(traffic(), Corruption.fixed(latency=2)))[..., 0].isfinite()
    assert not seen[:, :, -2:].any()
    assert seen[:, :, -3].all()
    how = replace(Corruption.fixed(latency=2), exact=False)
    seen = history(spoiled(traffic(64), how))[..., 0].isfinite()
    present = seen[:, :, -1].float().mean(1)
    assert 0 < int((present == 0).sum()) < 60
    assert int(((present > 0) & (present < 1)).sum()) > 5
    slow = replace(traffic(64), track_history=history(traffic(64))[:, :, ::5])
    slow = replace(slow, sample_time=torch.arange(-4.0, 1).expand(64, -1) / 2)
    assert history(spoiled(slow, how))[:, :, -1].isfinite().all()
    late = history(spoiled(traffic(), Corruption.fixed(late=1.0)))[..., 0].isfinite()
    assert bool((late[:, :, 1:] >= late[:, :, :-1]).all())
    assert late[:, :, -1].all()
    assert not late.all(2).all()


def test_ids_are_exchanged_between_neighbours_in_the_past_alone() -> None:
    sequence = traffic()
    before, after = history(sequence), history(spoiled(sequence, Corruption.fixed(switch=1.0)))
    assert same(after[:, :, -1], before[:, :, -1])
    swapped = before.view(4, 20, 2, 21, 5).flip(2).flatten(1, 2)
    own = ((after == before) | (after.isnan() & before.isnan())).all(-1)
    other = ((after == swapped) | (after.isnan() & swapped.isnan())).all(-1)
    assert (own | other).all()
    assert (other & ~own)[:, 4:, 0].all()
    # Once own, an id stays its own.
    assert bool((own[:, 4:, 1:] >= own[:, 4:, :-1]).all())


def test_duplicates_follow_an_agent_and_have_no_truth() -> None:
    sequence = traffic()
    after = spoiled(sequence, Corruption.fixed(duplicate=1.0))
    assert after.track_class is not None
    assert after.track_class.shape == (4, 80)
    assert bool((after.track_class == 1).all())
    beside = (history(after)[:, 40:] - history(sequence))[..., :2]
    assert float(beside.std(2)[:, 4:].max()) < 1e-4
    assert float(beside[beside.isfinite()].std()) == pytest.approx(0.5, rel=0.2)


def test_missing_headings_come_from_motion_up_to_each_sample() -> None:
    sequence = traffic()
    after = history(spoiled(sequence, Corruption.fixed(heading_missing=1.0)))
    way = torch.remainder(after[..., 2] - history(sequence)[..., 2] + math.pi, 2 * math.pi)
    moving = torch.arange(40) // 2 % 5 > 0
    off = (way - math.pi).abs()[:, moving]
    assert float(off[off.isfinite()].max()) < 0.01
    assert bool((history(sequence)[..., 0].isnan() == after[..., 2].isnan()).all())
    standing = after[:, ~moving, :, 2]
    assert float(standing.nan_to_num(0.0)[0, 2:].std()) < 1e-6  # all along one axis
    # The heading of a sample does not know those after it, once there was motion.
    changed = sequence.track_history
    assert changed is not None
    changed = changed.clone()
    changed[:, :, -3:, :2] += 2.0
    assert sequence.sample_time is not None
    ours = course_of(history(sequence)[..., :2], sequence.sample_time)
    theirs = course_of(changed[..., :2], sequence.sample_time)
    torch.testing.assert_close(
        ours[:, moving][..., 12:-3], theirs[:, moving][..., 12:-3], equal_nan=True
    )


def test_a_heading_from_motion_does_not_lag_in_a_turn() -> None:
    time = torch.arange(-20, 1) * 0.1
    turn = 0.5 * time
    place = 16 * torch.stack((turn.sin(), 1 - turn.cos()), -1)
    course = course_of(place[None, None], time[None])
    assert float((course[0, 0, -5:] - turn[-5:]).abs().max()) < 0.03


def test_padding_in_front_stays_padding() -> None:
    sequence = traffic(2)
    seen, time = history(sequence).clone(), sequence.sample_time
    assert time is not None
    time = time.clone()
    seen[0, :, :6], time[0, :6] = torch.nan, torch.nan
    sequence = replace(sequence, track_history=seen, sample_time=time)
    after = spoiled(sequence, Corruption())
    assert history(after)[0, :, :6].isnan().all()
    assert history(after)[0, :, 6:].isfinite().any()
    assert same(after.sample_time, time)


def test_a_share_of_scenes_is_observed_as_it_is() -> None:
    batch = observed(sequences([TRAFFIC[0]] * 40), 3)
    assert batch.track_history is not None
    how = Corruption(clean=0.5, duplicate=0.5)
    varied = corrupt(batch, how, 3, torch.Generator().manual_seed(0))
    assert varied.track_history is not None
    assert varied.track_class is not None
    tracks = batch.track_history.shape[1]
    off = (varied.track_history[:, :tracks] - batch.track_history).abs()
    exact = (off.nan_to_num(1.0).flatten(1).amax(1) == 0) & (
        varied.track_class[:, tracks:].sum(1) == 0
    )
    assert 10 <= int(exact.sum()) <= 30
