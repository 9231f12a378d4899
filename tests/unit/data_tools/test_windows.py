"""Scenes to sequences: which frames, which tracks, which ids, in which frame of reference."""

from dataclasses import replace

import numpy as np
import pytest

from data_tools import windows
from data_tools.options import PrepareOptions
from data_tools.scene import MapElement, Observed, Scene
from data_tools.windows import sequences, usable_tracks
from forecast.angles import wrap_angle
from forecast.errors import ConfigError, DataError
from forecast.grid import BEVGrid
from tests.support.stores import Mover

GRID = BEVGrid(-12.0, 20.0, -8.0, 8.0, 0.5)
OPTIONS = PrepareOptions(grid=GRID)


def scene(movers, frames=9, kinds=None, ego=None, elements=(), dt_s=0.5):
    """Movers over ``frames`` frames; the ego stands at the origin unless given."""
    time_s = np.arange(frames) * dt_s
    state = np.array([mover.state(time_s) for mover in movers]).reshape(-1, frames, 5)
    return Scene(
        name="made-up",
        time_s=time_s,
        dt_s=dt_s,
        track_id=tuple(str(i) for i in range(len(movers))),
        track_class=tuple(kinds or ["vehicle"] * len(movers)),
        state=state,
        ego_pose=np.zeros((frames, 3)) if ego is None else ego,
        map=tuple(elements),
    )


def all_sequences(made, options=OPTIONS):
    return list(sequences(made, usable_tracks(made, options.classes), options))


@pytest.mark.parametrize(
    ("frames", "stride", "starts"),
    [(8, 1, []), (9, 1, [0]), (12, 1, [0, 1, 2, 3]), (12, 2, [0, 2]), (12, 5, [0])],
)
def test_a_sequence_starts_every_stride_frames_where_history_and_horizon_fit(
    frames, stride, starts
):
    found = all_sequences(scene([Mover(0, 0)], frames), PrepareOptions(grid=GRID, stride=stride))
    assert [s.init_time for s in found] == [(start + 2) * 0.5 for start in starts]


def test_with_phases_sequences_start_between_steps_and_hold_frames_a_whole_step_apart():
    # 5 m/s, frames every 0.1 s: 41 of them hold the 4 s of one sequence exactly.
    driving = scene([Mover(0, 0, speed=5.0)], 43, dt_s=0.1)
    found = all_sequences(driving, PrepareOptions(grid=GRID, phases=5, stride=2))
    assert [s.init_time for s in found] == pytest.approx([1.0, 1.2])
    steps = np.diff(found[1].track_state[0, :, 0])
    np.testing.assert_allclose(steps, 2.5, atol=1e-5)


def test_windows_that_need_an_unknown_ego_pose_are_left_out():
    ego = np.zeros((12, 3))
    ego[0] = np.nan
    ego[11, 2] = np.inf
    found = all_sequences(scene([Mover(0, 0)], 12, ego=ego))
    assert [s.init_time for s in found] == [1.5, 2.0]


def test_everything_is_in_the_ego_frame_of_the_present():
    # The ego drives north past a car that stands 4 m ahead of its present place, facing west.
    time_s = np.arange(9) * 0.5
    ego = np.stack([np.full(9, 100.0), 2.0 * time_s, np.full(9, np.pi / 2)], axis=1)
    lane = MapElement("lane_centre", np.array([[100.0, -30.0], [100.0, 30.0]]))
    (found,) = all_sequences(scene([Mover(100.0, 6.0, yaw=np.pi)], ego=ego, elements=[lane]))
    np.testing.assert_allclose(found.ego_pose[:, 0], 2.0 * (time_s - 1.0), atol=1e-12)
    np.testing.assert_allclose(found.ego_pose[:, 1:], 0.0, atol=1e-12)
    x, y, yaw = np.moveaxis(found.track_state[0, :, :3], -1, 0)
    np.testing.assert_allclose(x, 4.0, atol=1e-5)
    np.testing.assert_allclose(y, 0.0, atol=1e-5)
    np.testing.assert_allclose(wrap_angle(yaw - np.pi / 2), 0.0, atol=1e-6)
    np.testing.assert_allclose(found.map_point[:, 2], 0.0, atol=1e-6)
    lane_rows = np.flatnonzero(found.map[1].any(axis=1))
    assert len(lane_rows) <= 2
    assert abs(GRID.y_m[lane_rows]).max() <= 0.5
    assert found.map[1, lane_rows].any(axis=0).all()


def test_ids_are_those_of_the_tracks_and_semantics_their_classes():
    made = scene([Mover(0, 0), Mover(5, 4, length=1, width=1)], kinds=["vehicle", "cyclist"])
    (found,) = all_sequences(made)
    assert set(np.unique(found.instance)) == {0, 1, 2}
    np.testing.assert_array_equal(found.track_class, [1, 3])
    np.testing.assert_array_equal(found.semantic == 1, found.instance == 1)
    np.testing.assert_array_equal(found.semantic == 3, found.instance == 2)
    row, column = np.nonzero(found.instance[0] == 2)
    assert (abs(GRID.x_m[column] - 5) <= 0.5).all()
    assert (abs(GRID.y_m[row] - 4) <= 0.5).all()


def test_tracks_are_those_ever_inside_the_grid_in_the_order_in_which_they_come_in():
    comes_late = Mover(40.0, 0.0, yaw=np.pi, speed=8.0)
    never = Mover(0.0, 30.0)
    leaves = Mover(15.0, 2.0, speed=8.0)
    (found,) = all_sequences(scene([comes_late, never, leaves, Mover(0, 0)]))
    assert found.track_state.shape == (3, 9, 5)
    np.testing.assert_allclose(found.track_state[:, 0, 0], [15.0, 0.0, 40.0], atol=1e-5)
    # Outside the grid a track has numbers but no cells.
    assert np.isfinite(found.track_state).all()
    assert not (found.instance[0] == 3).any()
    assert (found.instance[8] == 3).any()
    assert not (found.instance[8] == 1).any()


def test_a_track_is_absent_only_where_it_was_not_seen():
    made = scene([Mover(0, 0), Mover(5, 0)])
    made.state[1, 4:6] = np.nan
    (found,) = all_sequences(made)
    absent = np.isnan(found.track_state).all(axis=-1)
    assert np.flatnonzero(absent[1]).tolist() == [4, 5]
    assert not absent[0].any()
    assert [bool((frame == 2).any()) for frame in found.instance] == [not a for a in absent[1]]


def at_ten_hz(movers, seconds=8, ego=None):
    """A scene with frames every 0.5 s, observed every 0.1 s."""
    made = scene(movers, 2 * seconds + 1, ego=ego)
    time_s = np.arange(10 * seconds + 1) * 0.1
    state = np.array([mover.state(time_s) for mover in movers])
    return replace(made, observed=Observed(time_s, state))


def test_the_history_is_that_of_the_recording_in_the_frame_and_order_of_the_truth():
    time_s = np.arange(17) * 0.5
    ego = np.stack([3.0 * time_s, 0 * time_s, np.full(17, 0.3)], axis=1)
    movers = [Mover(60.0, 9.0, yaw=np.pi, speed=8.0), Mover(0.0, 0.0, speed=3.0, turn_rate=0.1)]
    found = all_sequences(at_ten_hz(movers, ego=ego))
    assert [len(s.sample_time) for s in found] == [11, 16] + [21] * 7
    for each in found:
        np.testing.assert_allclose(
            each.sample_time, np.arange(-len(each.sample_time), 0) / 10 + 0.1
        )
        assert each.sample_time[-1] == 0.0
        assert each.track_history.shape == (len(each.track_state), len(each.sample_time), 5)
        # The frames of the truth are among the samples.
        np.testing.assert_array_equal(
            each.track_history[:, ::-5][:, 2::-1], each.track_state[:, :3]
        )


def test_without_a_rate_of_its_own_the_samples_are_the_frames_of_two_seconds():
    found = all_sequences(scene([Mover(0, 0, speed=2.0)], 12))
    assert [s.sample_time.tolist() for s in found] == [
        [-1.0, -0.5, 0.0],
        [-1.5, -1.0, -0.5, 0.0],
        *[[-2.0, -1.5, -1.0, -0.5, 0.0]] * 2,
    ]
    np.testing.assert_array_equal(
        found[-1].track_history[0, :, 0], [-4, -3, -2, -1, 0] + found[-1].track_state[0, 2, 0]
    )


def test_nothing_after_the_present_is_in_the_history():
    made = at_ten_hz([Mover(-5, 0, speed=1.0), Mover(3, 3, yaw=1.0)])
    changed = replace(
        made,
        state=made.state.copy(),
        observed=Observed(made.observed.time_s, made.observed.state.copy()),
    )
    changed.state[:, 7:, :3] += 1.0
    changed.observed.state[:, 31:, :3] += 1.0
    for before, after in zip(all_sequences(made), all_sequences(changed), strict=True):
        same = before.init_time <= 3.0
        assert (before.track_history.tobytes() == after.track_history.tobytes()) == same
        assert (before.track_state != after.track_state).any()


def test_phases_start_between_frames_and_see_the_samples_up_to_their_present():
    driving = at_ten_hz([Mover(0, 0, speed=5.0)], 5)
    driving = replace(driving, time_s=driving.observed.time_s, state=driving.observed.state)
    driving = replace(driving, ego_pose=np.zeros((51, 3)), dt_s=0.1)
    found = all_sequences(driving, PrepareOptions(grid=GRID, phases=5, stride=2))
    assert [len(s.sample_time) for s in found] == [11, 13, 15, 17, 19, 21]
    for each in found:
        np.testing.assert_array_equal(each.track_history[:, -1], each.track_state[:, 2])


def test_boxes_that_cannot_be_drawn_are_not_in_the_history():
    made = at_ten_hz([Mover(0, 0), Mover(5, 0)])
    made.observed.state[1, 12, 3] = 0.0
    made.observed.state[1, 13, 0] = np.inf
    (first, *_) = all_sequences(made, PrepareOptions(grid=GRID, stride=2, history=5))
    absent = np.isnan(first.track_history).all(axis=-1)
    assert np.flatnonzero(absent[1]).tolist() == [12, 13]
    assert not absent[0].any()


def test_the_trackers_confidence_goes_with_its_tracks():
    made = scene([Mover(40.0, 0.0, yaw=np.pi, speed=8.0), Mover(0, 0)])
    score = np.stack([np.linspace(0, 1, 9), np.full(9, 0.5)])
    (found,) = all_sequences(replace(made, score=score))
    np.testing.assert_allclose(found.track_score, score[::-1])
    (found,) = all_sequences(made)
    assert found.track_score.shape == (2, 9)
    assert np.isnan(found.track_score).all()


def test_boxes_that_cannot_be_drawn_and_other_classes_are_left_out_and_counted():
    made = scene(
        [Mover(0, 0), Mover(5, 0), Mover(9, 0), Mover(3, 3)], kinds=["vehicle"] * 3 + ["cone"]
    )
    made.state[1, :, 3] = 0.0
    made.state[2, :2, 0] = np.inf, 1e300
    made.state[2, 2, 4] = np.nan
    tracks = usable_tracks(made, OPTIONS.classes)
    assert tracks.notes == {
        "agents vehicle, kept as vehicle": 2,
        "agents vehicle, left out": 1,
        "agents cone, left out": 1,
        "boxes without a finite pose or size": 12,
    }
    assert len(tracks.state) == 2
    assert np.isnan(tracks.state[1, :3]).all()
    assert np.isfinite(tracks.state[1, 3:]).all()


def test_a_scene_whose_agents_have_no_box_at_all_is_refused():
    made = scene([Mover(0, 0), Mover(5, 0), Mover(9, 0)], kinds=["Car", "vehicle", "cone"])
    made.state[:2, :, 3] = np.nan
    with pytest.raises(DataError, match="none of the agents Car, vehicle"):
        usable_tracks(made, OPTIONS.classes, lambda name: name.replace("Car", "vehicle"))
    made.state[0, 8, 3] = 4.0
    assert len(usable_tracks(made, OPTIONS.classes, lambda _: "vehicle").state) == 2


def test_classes_are_numbered_as_the_user_lists_them():
    made = scene([Mover(0, 0), Mover(5, 4)], kinds=["pedestrian", "vehicle"])
    options = PrepareOptions(grid=GRID, classes=("vehicle", "pedestrian"))
    assert all_sequences(made, options)[0].track_class.tolist() == [2, 1]


def test_labels_become_classes_in_one_place_and_the_case_of_class_names_is_free():
    made = scene([Mover(0, 0), Mover(5, 4), Mover(9, 4)], kinds=["BUS", "DOG", "CAR"])
    table = {"BUS": "vehicle", "CAR": "vehicle"}
    tracks = usable_tracks(made, ("Dog", "vehicle"), lambda name: table.get(name, name.lower()))
    assert tracks.label.tolist() == [2, 1, 2]
    assert tracks.notes["agents BUS, kept as vehicle"] == 1


def test_a_scene_without_traffic_or_map_gives_empty_sequences():
    (found,) = all_sequences(scene([]))
    assert not found.instance.any()
    assert not found.map.any()
    assert found.track_state.shape == (0, 9, 5)
    assert found.map_point.shape == (0, 3)


def test_more_agents_than_ids_are_refused(monkeypatch):
    monkeypatch.setattr(windows, "MAX_INSTANCE_ID", 1)
    with pytest.raises(DataError, match="at most 1 agents; got 2"):
        all_sequences(scene([Mover(0, 0), Mover(5, 0)]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"history": 0},
        {"horizon": 0},
        {"stride": 0},
        {"workers": 0},
        {"dt_s": 0.0},
        {"dt_s": float("nan")},
        {"classes": ()},
        {"classes": ("vehicle", "vehicle")},
        {"classes": ("vehicle", "Vehicle")},
        {"map_classes": (("BUS", "vehicle"), ("bus", "vehicle"))},
        {"map_classes": (("BUS", "buss"),)},
    ],
)
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match=r"(correct|change) --"):
        PrepareOptions(**wrong)
