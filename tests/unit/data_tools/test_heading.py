"""Headings from positions: noise is no heading and no turn, real turns are followed at once."""

import numpy as np
import pytest

from data_tools.heading import FEET, WHEELS, Sightings, headings, noise_levels
from forecast.angles import wrap_angle

STEP_S, NOISE_M = 0.1, 0.1
TIME_S = np.arange(120) * STEP_S


def error(generator):
    """A tracker's error of 0.1 m that varies over 0.3 s, ``(n, 2)``."""
    keep = np.exp(-STEP_S / 0.3)
    drawn = NOISE_M * generator.normal(size=(len(TIME_S), 2))
    for row in range(1, len(TIME_S)):
        drawn[row] = keep * drawn[row - 1] + np.sqrt(1 - keep**2) * drawn[row]
    return drawn


def sightings(position, time_s=TIME_S, noise_m=NOISE_M, **columns):
    absent = np.full(len(time_s), np.nan)
    given = {"yaw": absent, "velocity": np.full((len(time_s), 2), np.nan), "speed": absent}
    return Sightings(time_s, position, np.full(len(time_s), noise_m), **(given | columns))


def along(speed, yaw):
    """Positions of an agent with these speeds and headings, each of length n or one number."""
    speed, yaw = np.broadcast_to(speed, TIME_S.shape), np.broadcast_to(yaw, TIME_S.shape)
    return STEP_S * np.cumsum(np.stack([speed * np.cos(yaw), speed * np.sin(yaw)], 1), axis=0)


@pytest.fixture(params=range(5))
def generator(request):
    return np.random.default_rng(request.param)


def test_the_jitter_of_a_parked_car_is_no_heading(generator):
    for _ in range(5):
        causal, whole = headings(sightings(error(generator)), WHEELS)
        assert np.isnan(causal).all()
        assert np.isnan(whole).all()


@pytest.mark.parametrize("speed", [2.0, 10.0, 25.0])
def test_a_straight_noisy_way_has_a_steady_heading(generator, speed):
    seen = sightings(along(speed, 0.5) + error(generator))
    causal, whole = headings(seen, WHEELS)
    assert np.abs(wrap_angle(causal[20:] - 0.5)).max() < np.radians(10)
    assert np.abs(wrap_angle(whole - 0.5)).max() < np.radians(10)
    assert np.abs(wrap_angle(whole[20:-20] - 0.5)).max() < np.radians(5)
    # The way from one position to the next would turn it by far more.
    raw = np.arctan2(*np.diff(seen.position, axis=0).T[::-1])
    rate = np.std(wrap_angle(np.diff(raw[20:])))
    assert np.std(np.diff(causal[20:])) < rate / 5
    assert np.std(np.diff(whole)) < rate / 20


@pytest.mark.parametrize(("speed", "radius_m"), [(4.0, 6.0), (8.0, 10.0), (12.0, 20.0)])
def test_a_real_turn_is_followed_within_three_tenths_of_a_second(speed, radius_m):
    true = np.clip((TIME_S - 4.0) * speed / radius_m, 0.0, np.pi / 2)
    late = {"causal": [], "whole": []}
    for seed in range(10):
        seen = sightings(along(speed, true) + error(np.random.default_rng(seed)))
        for name, yaw in zip(late, headings(seen, WHEELS), strict=True):
            late[name].append(
                TIME_S[(yaw > np.pi / 4).argmax()] - TIME_S[(true > np.pi / 4).argmax()]
            )
            assert np.abs(yaw[-10:] - np.pi / 2).max() < np.radians(10)
    assert np.mean(late["causal"]) < 0.25
    assert np.max(late["causal"]) < 0.35
    assert np.abs(late["whole"]).max() < 0.15


def test_who_reverses_a_short_way_keeps_facing_forward(generator):
    speed = np.interp(TIME_S, [0, 3, 4, 5, 6, 8, 9], [5, 5, 0, 0, -1.5, -1.5, 0])
    causal, whole = headings(sightings(along(speed, 0.0) + error(generator)), WHEELS)
    assert np.nanmax(np.abs(causal)) < np.radians(25)
    assert np.abs(whole).max() < np.radians(15)


def test_a_car_that_stops_keeps_its_heading_while_it_stands(generator):
    speed = np.interp(TIME_S, [0, 3, 5], [8, 8, 0])
    causal, whole = headings(sightings(along(speed, 1.0) + error(generator)), WHEELS)
    for yaw in (causal, whole):
        assert np.std(yaw[60:]) < np.radians(2)
        assert np.abs(yaw[60:] - 1.0).max() < np.radians(8)


def test_what_backs_out_and_drives_away_faced_forward_all_the_time():
    speed = np.interp(TIME_S, [0, 3, 4, 6], [-1.5, -1.5, 0, 8])
    causal, whole = headings(sightings(along(speed, 0.0), noise_m=0.02), WHEELS)
    assert np.abs(wrap_angle(whole)).max() < np.radians(5)
    assert np.abs(wrap_angle(causal[-10:])).max() < np.radians(5)
    assert np.abs(wrap_angle(causal[10:20])).min() > np.radians(170)  # nobody could know


def test_a_way_that_ends_in_a_leap_back_was_forward_before(generator):
    position = along(10.0, 0.0) + error(generator)
    position[100:] = position[100] - along(8.0, 0.0)[:20]
    causal, whole = headings(sightings(position), WHEELS)
    assert np.abs(wrap_angle(causal[20:95])).max() < np.radians(10)
    assert np.abs(wrap_angle(whole[:95])).max() < np.radians(10)
    assert np.abs(wrap_angle(causal[-1])) > np.radians(170)  # too fast for a car in reverse


def test_a_first_position_that_is_far_off_is_no_motion():
    position = np.zeros((len(TIME_S), 2))
    position[0] = (0.0, 3.0)
    assert np.isnan(headings(sightings(position[:15], TIME_S[:15]), WHEELS)).all()
    position[40] = (2.0, 0.0)
    found, _ = headings(sightings(position[1:], TIME_S[1:]), WHEELS)
    assert np.isnan(found).all()


def test_a_walker_who_goes_back_has_turned_round(generator):
    speed = np.interp(TIME_S, [0, 5, 5.4, 12], [1.4, 1.4, -1.4, -1.4])
    causal, _ = headings(sightings(along(speed, 0.0) + 0.3 * error(generator), noise_m=0.03), FEET)
    assert np.abs(wrap_angle(causal[40:50])).max() < np.radians(25)
    assert np.abs(wrap_angle(causal[-30:])).min() > np.radians(150)


def test_what_creeps_has_really_moved_in_the_end():
    causal, whole = headings(sightings(along(0.25, 2.0)), WHEELS)
    assert np.isnan(causal[:75]).all()
    np.testing.assert_allclose(whole, 2.0, atol=0.1)


def test_the_past_is_the_same_whatever_comes_later():
    position = along(6.0, 0.0) + error(np.random.default_rng(3))
    other = position.copy()
    other[70:] += along(6.0, 1.5)[:50]
    before, after = (headings(sightings(p), WHEELS) for p in (position, other))
    assert before[0][:70].tobytes() == after[0][:70].tobytes()
    assert np.abs(before[0][75:] - after[0][75:]).max() > 0.1
    assert np.abs(before[1][:70] - after[1][:70]).max() > 0  # the other knows the whole track


def test_before_it_really_moves_nothing_is_known_then_and_the_first_heading_afterwards():
    speed = np.interp(TIME_S, [0, 4, 6], [0, 0, 8])
    causal, whole = headings(sightings(along(speed, -2.0)), WHEELS)
    assert np.isnan(causal[:45]).all()
    assert np.isfinite(causal[60:]).all()
    np.testing.assert_allclose(whole, -2.0, atol=0.1)


def test_one_position_that_is_far_off_is_no_turn_but_another_agent_is_followed(generator):
    position = along(10.0, 0.0) + error(generator)
    position[60] += (0.0, 1.0)
    causal, whole = headings(sightings(position), WHEELS)
    assert np.abs(causal[30:]).max() < np.radians(12)
    assert np.abs(whole).max() < np.radians(5)
    position[80:] += (30.0, 20.0)
    position[80:] = position[80] + along(10.0, 0.4)[:40]
    causal, _ = headings(sightings(position), WHEELS)
    np.testing.assert_allclose(causal[-5:], 0.4, atol=0.1)


def test_a_velocity_is_a_heading_at_once_above_a_metre_a_second():
    velocity = np.tile([-2.0, 0.0], (len(TIME_S), 1))
    causal, whole = headings(sightings(along(2.0, np.pi), velocity=velocity), WHEELS)
    assert np.abs(wrap_angle(causal - np.pi)).max() < 0.02
    parked = headings(sightings(along(0.0, 0.0), velocity=0.1 * velocity), WHEELS)
    assert np.isnan(parked).all()
    assert np.isfinite(whole).all()


def test_a_velocity_and_a_speed_steady_the_heading():
    noisy = along(5.0, 0.0) + 3 * error(np.random.default_rng(0))
    plain, _ = headings(sightings(noisy, noise_m=0.3), WHEELS)
    velocity = np.tile([5.0, 0.0], (len(TIME_S), 1))
    better, _ = headings(sightings(noisy, noise_m=0.3, velocity=velocity), WHEELS)
    assert np.nanstd(better[30:]) < 0.5 * np.nanstd(plain[30:])
    standing = np.zeros(len(TIME_S))
    found, _ = headings(sightings(5 * error(np.random.default_rng(0)), speed=standing), WHEELS)
    assert np.isnan(found).all()


def test_a_yaw_that_is_given_now_and_then_is_kept_in_between():
    yaw = np.full(len(TIME_S), np.nan)
    yaw[::10] = 0.7
    causal, whole = headings(sightings(along(0.0, 0.0), yaw=yaw), WHEELS)
    np.testing.assert_allclose(causal, 0.7, atol=0.01)
    np.testing.assert_allclose(whole, 0.7, atol=0.01)


def test_the_noise_of_a_scene_is_found_and_from_the_past_alone():
    generator = np.random.default_rng(0)
    tracks = [error(generator) + along(9.0 * (n % 2), 0.3 * n) for n in range(10)]
    time_s, number = np.tile(TIME_S, 10), np.repeat(np.arange(10), len(TIME_S))
    level = noise_levels(time_s, number, np.concatenate(tracks))
    assert (np.abs(level - NOISE_M) < 0.4 * NOISE_M).all()
    late = [
        p + np.where(TIME_S > 6.0, 1.0, 0.0)[:, None] * generator.normal(size=p.shape)
        for p in tracks
    ]
    changed = noise_levels(time_s, number, np.concatenate(late))
    np.testing.assert_array_equal(changed[time_s <= 6.0], level[time_s <= 6.0])
    assert changed.max() > 2 * level.max()


def test_one_position_has_no_heading_and_the_usual_noise():
    one = np.zeros(1)
    found = headings(sightings(np.zeros((1, 2)), time_s=one), WHEELS)
    assert np.isnan(found).all()
    assert noise_levels(one, np.zeros(1, np.int64), np.zeros((1, 2))).tolist() == [0.1]


@pytest.mark.parametrize("gait", [WHEELS, FEET])
@pytest.mark.parametrize("far_m", [1e5, 1e7])
def test_an_error_of_many_kilometres_that_comes_at_once_does_not_stop_the_filter(gait, far_m):
    time_s = 0.1 * np.arange(14)
    time_s[2:] -= 0.1 - 1e-9  # the second row and the third are of one moment
    place = np.column_stack([0.5 * np.arange(14) - 26.0, np.full(14, far_m)])
    place[1] = 36.0, 5.0
    yaw = np.full(14, np.nan)
    yaw[:4] = 10.0, 0.3, np.nan, 1.0
    for found in headings(sightings(place, time_s, yaw=yaw), gait):
        assert np.isfinite(found).all()
