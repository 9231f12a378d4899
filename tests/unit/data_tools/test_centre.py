"""The grid around something else than the ego."""

from dataclasses import replace

import numpy as np
import pytest

from data_tools.options import PrepareOptions
from data_tools.prepare import prepare
from data_tools.windows import sequences, usable_tracks
from forecast.errors import ConfigError, DataError
from forecast.grid import BEVGrid
from forecast.storage.stores import open_sequence_store
from tests.support.rasters import drive, seen, write_zarr
from tests.support.scenarios import agent, scenario, write
from tests.support.stores import Mover

GRID = BEVGrid(-30.0, 40.0, -30.0, 30.0, 0.5)
TRAFFIC = (
    Mover(8.0, 0.0, 0.1, 6.0, 0.1),
    Mover(-6.0, 4.0, 1.6),
    Mover(15.0, 5.0, 3.0, 2.0, length=1.0, width=1.0, label=2),
)
SCENE = drive(TRAFFIC, Mover(0.0, 0.0, 0.3, 5.0))


def around(centre, scene=SCENE, **options):
    chosen = PrepareOptions(grid=GRID, centre=centre, **options)
    return list(sequences(scene, usable_tracks(scene, chosen.classes), chosen))


def test_a_fixed_place_is_the_origin_of_every_frame():
    found = around("2,1,1.5707963267948966")
    assert len(found) == 5
    for start, window in enumerate(found):
        np.testing.assert_array_equal(window.ego_pose, np.zeros((9, 3)))
        x, y = SCENE.state[1, start, :2]
        np.testing.assert_allclose(
            window.track_state[1, :, :2], [[y - 1.0, 2.0 - x]] * 9, atol=1e-5
        )
    np.testing.assert_array_equal(around("2,1")[0].map, around("2,1,0")[0].map)


def test_an_agent_is_where_the_ego_would_be():
    for window in around("agent:0"):
        np.testing.assert_allclose(window.ego_pose[2], 0.0, atol=1e-12)
        np.testing.assert_allclose(window.track_state[0, :, :3], window.ego_pose, atol=1e-5)


def test_every_agent_that_moves_has_its_turn_and_those_that_stand_have_none():
    found = around("moving")
    assert len(found) == 10
    for window, centre in zip(found, [0] * 5 + [2] * 5, strict=True):
        np.testing.assert_allclose(window.track_state[centre, :, :3], window.ego_pose, atol=1e-5)
    # Only those of the classes that are drawn.
    assert len(around("moving", classes=("pedestrian",))) == 5


@pytest.mark.parametrize("centre", ["agent:0", "2,1,1.5", "moving"])
def test_what_was_observed_is_in_the_frame_of_that_centre_too(centre):
    for window in around(centre):
        now = window.track_state[:, 2]
        np.testing.assert_array_equal(window.track_history[:, -1], now)
        np.testing.assert_array_equal(window.track_history[:, -3:], window.track_state[:, :3])


def test_frames_in_which_an_agent_is_not_seen_are_no_centre():
    scene = replace(SCENE, state=SCENE.state.copy())
    scene.state[0, :3] = np.nan
    assert [window.init_time for window in around("agent:0", scene)] == [2.5, 3.0]


def test_tracks_take_the_ego_s_place_in_turn_and_each_window_is_there_once():
    scene = replace(SCENE, state=SCENE.state.copy(), ego_tracks=(2, 0))
    scene.state[2, :2] = np.nan  # the first of them is not seen from the start
    found = around("ego", scene)
    assert [window.init_time for window in found] == [1.0, 1.5, 2.0, 2.5, 3.0]
    whose = [0, 0, 2, 2, 2]
    for window, track in zip(found, whose, strict=True):
        have = window.track_state[:, 2, 3][np.abs(window.track_state[:, 2, :3]).max(axis=1) < 1e-5]
        np.testing.assert_allclose(have, scene.state[track, 5, 3])


def test_an_agent_that_is_not_there_is_told():
    with pytest.raises(DataError, match="an agent '7'; got none"):
        around("agent:7")
    with pytest.raises(DataError, match="an agent that moves; got none"):
        around("moving", drive(TRAFFIC[1:2], Mover(0.0, 0.0)))


@pytest.mark.parametrize("text", ["", "Ego", "agent:", "1", "1,2,3,4", "1,nan", "1;2"])
def test_what_is_no_centre_is_refused(text):
    with pytest.raises(ConfigError, match="correct --centre"):
        PrepareOptions(centre=text)


def test_a_scene_gives_a_sequence_per_moving_agent_and_the_store_says_how(tmp_path):
    objects = [
        agent(Mover(0.0, 0.0, speed=5.0)),
        agent(Mover(5.0, 5.0)),
        agent(Mover(9.0, 0, 1, 3)),
    ]
    path = write(tmp_path / "a.json", scenario(objects))
    options = PrepareOptions(grid=GRID, centre="moving", stride=20)
    prepare("waymo-json", [path], str(tmp_path / "out.zarr"), options)
    store, _ = open_sequence_store(str(tmp_path / "out.zarr"))
    assert store.attrs["centre"] == "moving"
    assert store["scene"].values.tolist() == ["a", "a"]  # one recording, as scores must know
    assert len(set(store["instance"][:, 2, 60, 60].values.tolist())) == 2


def test_rasters_can_be_seen_from_a_fixed_place_but_not_from_agents(tmp_path):
    wide = BEVGrid(-60.0, 60.0, -60.0, 60.0, 0.5)
    path = write_zarr(tmp_path / "drive.zarr", seen(SCENE, wide).drop_vars(("bev", "channel")))
    options = PrepareOptions(grid=GRID, centre="2,1,0.5")
    prepare("rasters", [path], str(tmp_path / "out.zarr"), options)
    store, _ = open_sequence_store(str(tmp_path / "out.zarr"))
    assert not store["ego_pose"].any()
    for row, window in enumerate(around("2,1,0.5")):
        have, want = store["semantic"][row].values > 0, window.semantic > 0
        assert (have & want).sum() > 0.75 * (have | want).sum()
    options = replace(options, centre="moving")
    with pytest.raises(DataError, match="tracks to centre on; got rasters"):
        prepare("rasters", [path], str(tmp_path / "none.zarr"), options)
