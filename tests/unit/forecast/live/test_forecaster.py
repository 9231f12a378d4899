"""The rules by which a live forecaster takes frames in, on small models."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from data_tools.geometry import poses_to_world
from forecast.errors import ConfigError, DataError
from forecast.inference.models import LoadedModel
from forecast.live import Counts, Forecaster, Raster, Tracks, WorldMap
from forecast.live.states import agents_in
from tests.support.rollouts import MODELS
from tests.support.small_live import (
    MOVERS,
    WORLD,
    assert_alike,
    drive,
    ego_at,
    live,
    loaded,
    tracks_at,
)
from tests.support.stores import GRID, Mover, draw


@pytest.mark.parametrize(
    "kind", [kind for kind in MODELS if not kind.startswith(("detected", "components"))]
)
def test_every_model_forecasts_in_the_world_under_the_ids_of_the_stack(kind: str) -> None:
    found = drive(live(kind)).forecast(horizon=4, dt_s=0.25)
    assert set(found.ids) <= set(MOVERS)
    assert "car" in found.ids
    assert found.time_s == 1.0
    np.testing.assert_allclose(found.lead_time_s, [0.25, 0.5, 0.75, 1.0])
    assert found.pose.shape == (4, len(found.ids), 3)
    assert found.occupancy.shape == (4, 3, *GRID.shape)
    row = found.ids.index("car")
    now = tracks_at(1.0)
    start = np.array([now.x, now.y])[:, 0]
    assert np.linalg.norm(found.pose[0, row, :2] - start) < 6.0  # in the world, near where it was
    np.testing.assert_allclose(found.size[row], [4.5, 2.0], atol=1e-5)
    assert found.classes[row] == "vehicle"
    assert found.existence[0, row] > 0.5
    assert (found.instance[0] == row + 1).any()
    assert found.instance.max() <= len(found.ids)
    np.testing.assert_array_equal(found.grid_pose, ego_at(1.0))


@pytest.mark.parametrize("kind", ["detected", "components"])
def test_agents_are_found_in_rasters_and_followed_as_the_grid_moves(kind: str) -> None:
    model = live(kind, input_mode="detected")
    parked = np.array([[6.0, 2.0, 0.4, 4.5, 2.0]])
    for k in range(5):
        ego = np.array([0.5 * k, 0.0, 0.02 * k])
        box = parked.copy()
        dx, dy = box[0, 0] - ego[0], box[0, 1] - ego[1]
        cos, sin = math.cos(ego[2]), math.sin(ego[2])
        box[0, :3] = cos * dx + sin * dy, cos * dy - sin * dx, box[0, 2] - ego[2]
        raster = Raster((draw(GRID, box) > 0).astype(int))
        model.observe(0.5 * k, ego_pose=poses_to_world(ego, WORLD), raster=raster)
    found = model.forecast(1)
    assert len(found.ids) == 1
    place = poses_to_world(parked[:, :3], WORLD)[0, :2]
    assert np.linalg.norm(found.pose[0, 0, :2] - place) < 1.5
    with pytest.raises(DataError, match="a raster and no tracks"):
        model.observe(9.0, ego_pose=WORLD, tracks=Tracks.none())


@pytest.mark.parametrize("kind", ["constant-velocity", "constant-turn", "kalman"])
def test_what_stands_in_the_world_is_forecast_to_stand_while_the_ego_drives(kind: str) -> None:
    found = drive(live(kind)).forecast(4, dt_s=0.5)
    now = tracks_at(0.0)
    place = np.array([now.x, now.y])[:, list(MOVERS).index(12)]
    off = found.pose[:, found.ids.index(12), :2] - place
    assert np.abs(off).max() < 0.05


def test_the_world_frame_changes_nothing() -> None:
    near = drive(live(), world=np.zeros(3)).forecast(3)
    far = drive(live()).forecast(3)
    assert near.ids == far.ids
    there = poses_to_world(near.pose, WORLD)
    np.testing.assert_allclose(there[..., :2], far.pose[..., :2], atol=1e-3, rtol=0)
    assert (near.instance != far.instance).mean() < 1e-3


def test_masks_with_ids_are_observed_under_these_ids() -> None:
    model = live("tracked")
    state = np.array([[6.0, 2.0, 0.0, 4.5, 2.0], [-6.0, -4.0, 0.0, 4.5, 2.0]])
    labels = draw(GRID, state).astype(np.int64)
    labels[labels == 1], labels[labels == 2] = 70_000, 5
    for k in range(3):
        model.observe(0.5 * k, ego_pose=WORLD, raster=Raster((labels > 0).astype(int), labels))
    assert set(model.forecast(1).ids) == {5, 70_000}
    with pytest.raises(DataError, match="a raster alone, as in the frame before; got tracks"):
        model.observe(1.5, ego_pose=WORLD, tracks=tracks_at(1.5))


def test_asking_changes_nothing_and_may_come_between_rasters() -> None:
    asked, silent = live("tracked"), live("tracked")
    for k in range(8):
        for one in (asked, silent):
            one.observe(0.1 * k, ego_pose=ego_at(0.1 * k), tracks=tracks_at(0.1 * k))
        asked.forecast(2)
    assert_alike(asked.forecast(2), silent.forecast(2))


def test_a_late_frame_is_left_out_and_counted() -> None:
    model, other = drive(live()), drive(live())
    gone = model.observe(0.75, ego_pose=ego_at(0.75), tracks=Tracks.none())
    assert gone == Counts(late=1)
    assert model.counts == replace(other.counts, late=1)
    assert_alike(model.forecast(2), other.forecast(2))


def test_more_of_the_same_moment_takes_the_place_of_what_was_said() -> None:
    model, other = drive(live("tracked")), drive(live("tracked"))
    wrong = tracks_at(1.6)
    for one, tracks in ((model, wrong), (other, tracks_at(1.1))):
        one.observe(1.1, ego_pose=ego_at(1.1), tracks=tracks)
    again = model.observe(1.1, ego_pose=ego_at(1.1), tracks=tracks_at(1.1))
    assert again == Counts(again=1)
    assert_alike(model.forecast(2), other.forecast(2))
    # A raster that comes after the tracks of its moment joins them.
    late = Raster(np.zeros(GRID.shape, int))
    assert model.observe(1.1, ego_pose=ego_at(1.1), raster=late) == Counts(again=1)
    assert set(model.forecast(1).ids) == set(other.forecast(1).ids)


@pytest.mark.parametrize("off_s", [-0.029, 0.005, 0.029])
def test_a_raster_of_another_clock_joins_the_tracks_of_its_moment(off_s: float) -> None:
    model, other = drive(live("tracked")), drive(live("tracked"))
    raster = Raster(np.zeros(GRID.shape, int))
    assert model.observe(1.0 + off_s, ego_pose=ego_at(1.0), raster=raster) == Counts(again=1)
    other.observe(1.0, ego_pose=ego_at(1.0), raster=raster)
    assert model.forecast(1).time_s == 1.0
    assert_alike(model.forecast(2), other.forecast(2))
    with pytest.raises(DataError, match="a raster without ids"):
        drive(live("tracked")).observe(1.031, ego_pose=ego_at(1.031), raster=raster)


def test_tracks_of_a_fast_tracker_are_moments_of_their_own() -> None:
    assert drive(live(), 0.2, step_s=0.02).counts == Counts(frames=11)


def test_of_a_moment_that_is_told_again_only_who_is_in_it_now_can_lack_a_slot() -> None:
    model = Forecaster(loaded(raster="none", slots=2), grid=GRID)
    movers = {k: Mover(4.0 * k, 4.0) for k in range(3)}
    two = {k: movers[k] for k in (0, 1)}
    for time_s in (0.0, 0.1):
        told = model.observe(time_s, ego_pose=WORLD, tracks=tracks_at(0.0, movers))
        assert told == Counts(frames=1, no_slot=1)
        again = model.observe(time_s, ego_pose=WORLD, tracks=tracks_at(0.0, two))
        assert again == Counts(again=1)


def test_a_model_that_fails_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, other = (drive(Forecaster(loaded(raster="none", slots=3), grid=GRID)) for _ in range(2))

    def fails(*_: object) -> None:
        raise RuntimeError("out of memory")

    crowd = {f"other {k}": Mover(2.0 * k, 8.0) for k in range(5)}
    with monkeypatch.context() as patch:
        patch.setattr(LoadedModel, "observe", fails)
        with pytest.raises(RuntimeError, match="out of memory"):
            model.observe(1.1, ego_pose=ego_at(1.1), tracks=tracks_at(0.0, crowd))
    assert model.counts == other.counts
    for one in (model, other):
        found = one.observe(1.1, ego_pose=ego_at(1.1), tracks=tracks_at(1.1))
        assert found == Counts(frames=1)
    assert_alike(model.forecast(2), other.forecast(2))
    assert len(model._now.ids) == len(MOVERS)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("time_s", "ego"),
    [(3.1, ego_at(1.2)), (-1.5, ego_at(1.2)), (1.1, ego_at(1.0) + np.array([0.0, 900.0, 0.0]))],
    ids=["gap", "clock set back", "leap of the ego"],
)
def test_a_gap_a_clock_set_back_and_a_leap_start_anew(time_s: float, ego: np.ndarray) -> None:
    model, new = drive(live()), live()
    found = model.observe(time_s, ego_pose=ego, tracks=tracks_at(1.0))
    assert (found.restarts, found.frames) == (1, 1)
    new.observe(time_s, ego_pose=ego, tracks=tracks_at(1.0))
    assert_alike(model.forecast(2), new.forecast(2))


def test_missing_frames_are_longer_intervals() -> None:
    """A car of constant speed is where it is, whatever was missed."""
    model = Forecaster(loaded("constant-velocity"), grid=GRID)
    for time_s in (0.0, 0.1, 0.5, 0.6, 1.7, 2.3):
        tracks = tracks_at(time_s - 2.3, {"car": MOVERS["car"]})
        model.observe(time_s, ego_pose=WORLD, tracks=tracks)
    assert model.counts.restarts == 0
    found = model.forecast(1, dt_s=0.5)
    then = tracks_at(0.5, {"car": MOVERS["car"]})
    np.testing.assert_allclose(found.pose[0, 0, :2], [then.x[0], then.y[0]], atol=1e-2)  # type: ignore[index]


def test_of_more_agents_than_slots_the_nearest_are_kept_and_the_others_counted() -> None:
    model = Forecaster(loaded(raster="none", slots=3), grid=GRID)
    movers = {k: Mover(2.0 * k - 6, 4.0, 0.0, 0.0, 1.5, 1.0) for k in range(8)}
    for k in range(4):
        found = model.observe(0.1 * k, ego_pose=WORLD, tracks=tracks_at(0.0, movers))
        assert found.no_slot == 5
    assert model.counts.no_slot == 20
    assert set(model.forecast(1).ids) == {2, 3, 4}


def test_tracks_in_another_frame_than_the_ego_are_counted_as_off_the_grid() -> None:
    """An ego in UTM and tracks in its own frame: nothing is forecast, and the counts say why."""
    model = live()
    for k in range(3):
        tracks = tracks_at(0.1 * k, world=np.zeros(3))
        told = model.observe(0.1 * k, ego_pose=ego_at(0.1 * k), tracks=tracks)
        assert told == Counts(frames=1, off_grid=len(MOVERS))
    assert model.forecast(1).ids == ()
    assert model.counts == Counts(frames=3, off_grid=3 * len(MOVERS))


@pytest.mark.parametrize("kind", ["without raster", "tracked", "constant-turn"])
@pytest.mark.parametrize(("beyond_m", "off"), [(-0.1, 0), (0.5, 0), (1.9, 0), (2.4, 1), (30.0, 1)])
def test_whoever_has_a_cell_on_the_grid_is_forecast_and_not_counted_as_off_it(
    kind: str, beyond_m: float, off: int
) -> None:
    """Boxes of 4.5 m, whose middles are so far beyond the edge; the raster is read later."""
    model = live(kind)
    movers = {"edge": Mover(GRID.x_max_m + beyond_m, 3.0), "inside": Mover(0.0, -4.0)}
    for k in range(3):
        told = model.observe(0.1 * k, ego_pose=WORLD, tracks=tracks_at(0.0, movers))
        assert told == Counts(frames=1, off_grid=off)
    assert len(model.forecast(1).ids) == 2 - off


def test_whoever_lacks_a_slot_is_not_counted_as_off_the_grid_too() -> None:
    model = Forecaster(loaded(raster="none", slots=3), grid=GRID)
    movers = {k: Mover(3.0 * k if k < 2 else 50.0 * k, 4.0) for k in range(5)}
    told = model.observe(0.0, ego_pose=WORLD, tracks=tracks_at(0.0, movers))
    assert told == Counts(frames=1, no_slot=2, off_grid=1)
    assert set(model.forecast(1).ids) == {0, 1}


def test_agents_that_cannot_be_used_are_counted_and_the_others_forecast() -> None:
    model = live()
    for k in range(3):
        tracks = tracks_at(0.1 * k)
        spoilt = replace(tracks, yaw=[math.nan, *np.asarray(tracks.yaw)[1:]])
        assert model.observe(0.1 * k, ego_pose=ego_at(0.1 * k), tracks=spoilt).unusable == 1
    assert set(model.forecast(1).ids) == set(MOVERS) - {"car"}
    assert model.counts == Counts(frames=3, unusable=3)


def test_ids_of_a_raster_in_which_agents_are_found_take_no_slots() -> None:
    model, other = (live("detected", input_mode="detected") for _ in range(2))
    semantic = (draw(GRID, np.array([[6.0, 2.0, 0.4, 4.5, 2.0]])) > 0).astype(int)
    everywhere = 1 + np.arange(semantic.size).reshape(semantic.shape)
    for k in range(3):
        told = model.observe(0.5 * k, ego_pose=WORLD, raster=Raster(semantic, everywhere))
        assert told == Counts(frames=1)
        other.observe(0.5 * k, ego_pose=WORLD, raster=Raster(semantic))
    assert_alike(model.forecast(2), other.forecast(2))


def test_a_buffer_that_the_stack_fills_anew_changes_nothing_that_was_observed() -> None:
    model, other = drive(live()), drive(live())
    buffer = ego_at(1.1)
    model.observe(1.1, ego_pose=buffer, tracks=tracks_at(1.1))
    buffer += 30.0
    other.observe(1.1, ego_pose=ego_at(1.1), tracks=tracks_at(1.1))
    assert_alike(model.forecast(2), other.forecast(2))


@pytest.mark.parametrize("kind", ["tracked", "mirrored", "kalman", "constant-turn"])
def test_an_agent_that_leaps_as_no_vehicle_does_is_new_under_its_id(kind: str) -> None:
    """Its motion would be that of the leap, and its forecast kilometres away."""
    model, new = live(kind), live(kind)
    parked = {"car": Mover(4.0, 3.0), 12: MOVERS[12]}
    far = {"car": Mover(4.0e6, 3.0), 12: MOVERS[12]}
    for k, movers in enumerate((far, far, parked, far, parked)):
        told = model.observe(0.1 * k, ego_pose=WORLD, tracks=tracks_at(0.0, movers))
        assert told == Counts(frames=1, off_grid=int(movers is far))
    new.observe(0.4, ego_pose=WORLD, tracks=tracks_at(0.0, parked))
    found, wanted = model.forecast(2), new.forecast(2)
    assert sorted(map(str, found.ids)) == ["12", "car"]
    row, same = found.ids.index("car"), wanted.ids.index("car")
    np.testing.assert_allclose(found.pose[:, row], wanted.pose[:, same], atol=0.3, rtol=0)
    assert len(model._now.ids) == 2  # type: ignore[union-attr]


def test_an_empty_street_is_a_forecast_too() -> None:
    model = live("tracked")
    for k in range(3):
        model.observe(0.1 * k, ego_pose=ego_at(0.1 * k), tracks=Tracks.none())
    found = model.forecast(2)
    assert found.ids == ()
    assert found.pose.shape == (2, 0, 3)
    assert not found.instance.any()


def test_where_nobody_is_tracked_the_raster_of_the_present_is_empty_and_is_read() -> None:
    """Features of an earlier moment would lie elsewhere, once the ego has driven on."""
    model = drive(live("tracked"))
    for k in range(11, 20):
        model.observe(0.1 * k, ego_pose=ego_at(0.1 * k), tracks=Tracks.none())
    model.forecast(1)
    raster = model._advanced(model._before, model._moment, model._map, True).state.raster  # type: ignore[arg-type]
    assert raster.frame is None
    assert not raster.labels.any()
    model.observe(2.0, ego_pose=ego_at(2.0), tracks=tracks_at(2.0))
    assert "car" in model.forecast(1).ids


def test_an_agent_that_comes_back_after_long_is_new_and_nothing_grows() -> None:
    model = live()
    for k in range(100):
        movers = {f"passing {k // 5}": MOVERS["car"], "parked": Mover(-4.0, 4.0)}
        model.observe(0.1 * k, ego_pose=WORLD, tracks=tracks_at(0.0, movers))
        assert len(model._now.ids) <= 2 + 30 // 5  # type: ignore[union-attr]
    assert agents_in(model._now.state).past.shape[2] == 24  # type: ignore[union-attr]
    assert set(model.forecast(1).ids) >= {"parked", "passing 19"}


def test_the_map_is_that_around_the_ego_wherever_it_drives() -> None:
    """A road of lanes and a drivable strip: what is behind has gone, what comes has come."""
    road = np.array([[-20.0, -4.0], [400.0, -4.0], [400.0, 4.0], [-20.0, 4.0]])
    lane = np.array([[-20.0, 1.0], [400.0, 1.0]])
    flat = [
        poses_to_world(np.c_[points, np.zeros(len(points))], WORLD)[:, :2]
        for points in (road, lane)
    ]
    world = WorldMap(drivable=flat[:1], lane_centre=flat[1:])
    model, new = live("tracked"), live("tracked")
    for k in range(20):
        ego = poses_to_world(np.array([10.0 * k, 0.0, 0.0]), WORLD)
        model.observe(0.4 * k, ego_pose=ego, tracks=Tracks.none(), map=world if not k else None)
    model.forecast(1)
    new.observe(0.4 * 19, ego_pose=ego, tracks=Tracks.none(), map=world)
    shown = [one._advanced(one._before, one._moment, one._map, True) for one in (model, new)]  # type: ignore[arg-type]
    context, fresh = (one.state.context for one in shown)
    assert torch.equal(context.map, fresh.map)
    torch.testing.assert_close(context.points, fresh.points)
    assert context.map[0, 0].any()


@pytest.mark.parametrize("kind", ["without raster", "resampled errors"])
def test_futures_are_drawn_beside_the_forecast_in_the_world(kind: str) -> None:
    driven = drive(live(kind))
    alone = driven.forecast(4, 0.25)
    assert alone.realizations is None
    found = driven.forecast(4, 0.25, realizations=10)
    assert_alike(found, alone)
    futures = found.realizations
    assert futures is not None
    assert futures.shape == (10, *found.pose.shape)
    assert np.nanmax(np.linalg.norm((futures - found.pose)[..., :2], axis=-1)) < 50.0, (
        "in the world"
    )
    assert len({future[-1, found.ids.index("car")].tobytes() for future in futures}) > 5
    few = driven.forecast(4, 0.25, realizations=3).realizations
    np.testing.assert_allclose(few, futures[:3], atol=1e-5)
    other = driven.forecast(4, 0.25, realizations=3, seed=1).realizations
    assert not np.allclose(np.nan_to_num(other), np.nan_to_num(few))


def test_a_model_of_one_future_has_no_realizations() -> None:
    driven = drive(live("constant-turn"))
    with pytest.raises(ConfigError, match="for realizations"):
        driven.forecast(realizations=2)
    for wrong in (0, 2.5, math.nan, math.inf, "x"):
        with pytest.raises(ConfigError, match="realizations"):
            drive(live()).forecast(realizations=wrong)
    for seed in (-1, 0.5, 2**40, "x"):
        with pytest.raises(ConfigError, match="seed"):
            drive(live()).forecast(seed=seed)
