"""Label protocols: ours stays as it was, and the peers' keep their traps."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from data_tools.labels.protocols import PROTOCOLS, Traffic
from data_tools.options import PrepareOptions
from data_tools.scene import Scene
from data_tools.windows import sequences, usable_tracks
from forecast.errors import ConfigError
from forecast.grid import BEVGrid
from forecast.schema import Protocol, protocol_text
from tests.support.stores import Mover

GRID = BEVGrid(-16.0, 24.0, -12.0, 12.0, 0.5)
TIMES = np.arange(-2, 7) * 0.5
PRESENT = 2


def traffic(*movers, ego=None, hidden=None, world_yaw=0.0):
    """Movers in the frame of an ego that stands at the origin, unless ``ego`` moves it."""
    state = np.array([mover.state(TIMES) for mover in movers])
    unseen = np.zeros(state.shape[:2], bool) if hidden is None else hidden
    path = np.zeros((9, 3)) if ego is None else ego.state(TIMES)[:, :3]
    return Traffic(state, unseen, path, world_yaw, PRESENT + 1)


def drawn(name, made, grid=GRID):
    return PROTOCOLS[name].draw(made, grid)


def extent(labels, id_=1):
    """First and last row and column of an id's cells in metres: its area, from edge to edge."""
    rows, columns = np.nonzero(labels == id_)
    x = GRID.x_m[columns[[columns.argmin(), columns.argmax()]]] + [-0.25, 0.25]
    y = GRID.y_m[rows[[rows.argmin(), rows.argmax()]]] + [-0.25, 0.25]
    return [*x.tolist(), *y.tolist()]


def gone(made, track, frames):
    state = made.state.copy()
    state[track, frames] = np.nan
    return replace(made, state=state)


def hiding(made, track, frames):
    hidden = made.hidden.copy()
    hidden[track, frames] = True
    return replace(made, hidden=hidden)


def test_hashes_stay_and_differ():
    """A rule that changes needs another hash: numbers made under the old one stay apart."""
    found = {name: protocol.hash for name, protocol in PROTOCOLS.items()}
    assert found == {
        "exact": "ad32697c786a",
        "exact-small": "d3ed9bdb963f",
        "fiery": "11fb4fac2e43",
        "uniad": "a69bbfb67a85",
        "powerbev": "08a917c95698",
    }
    assert PROTOCOLS["exact"].to_attrs() == Protocol().to_attrs()
    assert replace(PROTOCOLS["powerbev"], hold_m=2.0).hash != found["powerbev"]


def test_attributes_name_rules_parameters_and_hash():
    attrs = PROTOCOLS["powerbev"].to_attrs()
    assert attrs["hold_m"] == 1.0
    assert attrs["hash"] == PROTOCOLS["powerbev"].hash
    assert protocol_text(attrs) == f"powerbev ({attrs['hash']})"


def test_an_unknown_protocol_is_refused():
    with pytest.raises(
        ConfigError, match=r"exact, exact-small, fiery, uniad, powerbev; got 'bev'.*--protocol"
    ):
        PrepareOptions(protocol="bev")


def scene(hidden=None):
    """Six agents that drive, turn, overlap and leave, and an ego that turns."""
    time_s = np.arange(11) * 0.5
    movers = [
        Mover(3.1, 2.2, 0.4, 4.0, 0.3),
        Mover(3.4, 2.6, 1.4, 1.0, -0.2, 2.1, 0.9),
        Mover(-9.0, -7.7, 2.2),
        Mover(20.0, 8.1, 3.0, 6.0, 0.0, 9.7, 2.6),
        Mover(-11.0, 3.3, 0.1, 9.0),
        Mover(0.0, 0.0, 0.0, 5.0, 0.1),
    ]
    return Scene(
        name="made-up",
        time_s=time_s,
        dt_s=0.5,
        track_id=tuple("abcdef"),
        track_class=("vehicle", "pedestrian", *["vehicle"] * 4),
        state=np.array([mover.state(time_s - 1.0) for mover in movers]),
        ego_pose=movers[-1].state(time_s - 1.0)[:, :3],
        hidden=hidden,
    )


def windows_of(made, name):
    options = PrepareOptions(grid=GRID, protocol=name)
    return list(sequences(made, usable_tracks(made, options.classes), options))


def test_exact_is_what_it_was_before_there_were_others():
    digest = hashlib.sha256()
    for sequence in windows_of(scene(), "exact"):
        digest.update(sequence.instance.tobytes() + sequence.semantic.tobytes())
    assert digest.hexdigest()[:16] == "966c83ff07d8310f"


@pytest.mark.parametrize("name", PROTOCOLS)
def test_tracks_and_ids_are_the_true_ones_whatever_is_drawn(name):
    hidden = np.zeros((6, 11), bool)
    hidden[2, :6] = True
    for exact, other in zip(
        windows_of(scene(hidden), "exact"), windows_of(scene(hidden), name), strict=True
    ):
        np.testing.assert_array_equal(other.track_state, exact.track_state)
        np.testing.assert_array_equal(other.track_class, exact.track_class)
        assert other.instance.dtype == np.uint16
        assert other.instance.shape == exact.instance.shape
        both = (exact.instance > 0) & (other.instance == exact.instance)
        assert both.sum() > 0.4 * (exact.instance > 0).sum()
        label_of = np.concatenate([[0], other.track_class])
        np.testing.assert_array_equal(other.semantic, label_of[other.instance])


def test_rounded_corners_make_boxes_a_cell_larger_at_the_far_side():
    # 4 m by 2 m with its sides on the borders of cells: exact has 8 by 4 of them.
    box = traffic(Mover(4.0, 1.0, length=4.0, width=2.0))
    assert extent(drawn("exact", box)[0]) == [2.0, 6.0, 0.0, 2.0]
    for name in ("fiery", "powerbev"):
        assert extent(drawn(name, box)[0]) == [2.0, 6.5, 0.0, 2.5]
    # UniAD's picture has its columns from left to right.
    assert extent(drawn("uniad", box)[0]) == [2.0, 6.5, -0.5, 2.0]


def test_later_tracks_lie_on_earlier_ones_and_smaller_ones_on_larger_in_exact():
    made = traffic(Mover(4, 1, length=1.5, width=1.5), Mover(4, 1, length=6.0, width=4.0))
    for name in PROTOCOLS:
        both = name.startswith("exact")
        assert set(np.unique(drawn(name, made)[0])) == ({0, 1, 2} if both else {0, 2})


@pytest.mark.parametrize("name", ["fiery", "uniad"])
def test_who_is_hardly_visible_is_not_drawn_at_that_frame(name):
    labels = drawn(name, hiding(traffic(Mover(4, 1)), 0, [1, 5]))
    assert np.flatnonzero(~labels.any(axis=(1, 2))).tolist() == [1, 5]
    assert drawn("exact", hiding(traffic(Mover(4, 1)), 0, [1, 5])).any(axis=(1, 2)).all()


class TestFiery:
    """The raster of another frame, warped."""

    def test_what_the_other_frames_grid_does_not_cover_is_empty(self):
        # The ego drives 5 m/s: 3 s on, its grid begins at x = -1.
        parked = traffic(Mover(-6, 5), Mover(5, 5), ego=Mover(0, 0, speed=5.0))
        labels = drawn("fiery", parked)
        seen = [set(np.unique(frame)) - {0} for frame in labels]
        # From a grid that begins behind the box on, the box is cut, then lost.
        assert seen[PRESENT] == {1, 2}
        assert seen[-1] == {2}
        assert all({1, 2} <= set(np.unique(frame)) for frame in drawn("exact", parked))
        assert not (labels[-1][:, GRID.x_m < -1] > 0).any()

    def test_history_is_drawn_by_the_same_rule(self):
        # A second ago the grid ended at x = 14.
        ahead = traffic(Mover(18, 0), ego=Mover(0, 0, speed=10.0))
        labels = drawn("fiery", ahead)
        assert not labels[0].any()
        assert labels[PRESENT].any()

    def test_along_an_arc_the_warp_is_right(self):
        turning = traffic(Mover(10, 2, 0.3), ego=Mover(0, 0, speed=4.0, turn_rate=0.15))
        labels = drawn("fiery", turning)
        for frame in labels[PRESENT + 1 :]:
            np.testing.assert_allclose(extent(frame), extent(labels[PRESENT]), atol=1.0)

    def test_sideways_the_warp_is_fierys_and_wrong(self):
        slipping = traffic(Mover(4, 1), ego=Mover(0, 0, yaw=np.pi / 2, speed=1.0))
        ego = slipping.ego_pose.copy()
        ego[:, 2] = 0.0  # it faces forward and moves to the left, 3 m in 3 s
        labels = drawn("fiery", replace(slipping, ego_pose=ego))
        low = extent(labels[PRESENT])[2]
        assert extent(labels[-1])[2] == low - 2 * 3.0

    def test_the_warp_is_that_of_torch_as_fiery_calls_it(self):
        torch = pytest.importorskip("torch")
        grid = BEVGrid(-12.0, 12.0, -12.0, 12.0, 0.5)
        moving = traffic(
            *(Mover(x, y, x + y) for x in (-8, 0, 8) for y in (-8, 0, 8)),
            ego=Mover(0, 0, 0.0, 3.0, 0.4),
        )
        labels = drawn("fiery", moving, grid)
        for frame, (x, y, yaw) in enumerate(moving.ego_pose):
            # Drawn around that ego and not warped: the same traffic, seen from there.
            seen = replace(
                moving, state=moving.state[:, [frame]], ego_pose=moving.ego_pose[[frame]]
            )
            at_home = replace(seen, state=_from(seen.state, (x, y, yaw)), ego_pose=np.zeros((1, 3)))
            own = torch.from_numpy(drawn("fiery", at_home, grid).transpose(0, 2, 1).astype(float))
            cos, sin, half = np.cos(yaw), np.sin(yaw), 12.0
            theta = torch.tensor([[[cos, -sin, y / half], [sin, cos, -x / half]]])
            places = torch.nn.functional.affine_grid(theta, (1, 1, 48, 48), align_corners=False)
            warped = torch.nn.functional.grid_sample(
                own[None], places, mode="nearest", padding_mode="zeros", align_corners=False
            )
            np.testing.assert_array_equal(labels[frame], warped[0, 0].numpy().T)


def _from(state, pose):
    """States seen from a pose."""
    x, y = state[..., 0] - pose[0], state[..., 1] - pose[1]
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    ahead, left = cos * x + sin * y, cos * y - sin * x
    return np.concatenate(
        [np.stack([ahead, left, state[..., 2] - pose[2]], axis=-1), state[..., 3:]], axis=-1
    )


class TestUniAD:
    """Boxes once, on a picture counted from the left."""

    def test_agent_255_is_drawn_like_any_other(self):
        places = [(x, y) for x in range(-15, 23, 2) for y in range(-11, 12, 1)][:256]
        crowd = traffic(*(Mover(x, y, length=0.4, width=0.4) for x, y in places))
        labels = drawn("uniad", crowd)
        assert set(np.unique(labels)) == set(range(257))

    def test_it_is_the_mirrored_drawing_of_mirrored_traffic(self):
        left, right = Mover(5, 3, 0.4, 3.0, 0.2), Mover(5, -3, -0.4, 3.0, -0.2)
        np.testing.assert_array_equal(
            drawn("uniad", traffic(left)), drawn("powerbev", moving_freely(right))[:, ::-1]
        )

    def test_newcomers_and_boxes_that_the_edge_cuts_are_drawn(self):
        labels = drawn("uniad", gone(traffic(Mover(23.5, 0)), 0, slice(0, 4)))
        assert labels.any(axis=(1, 2)).tolist() == [False] * 4 + [True] * 5


def moving_freely(mover):
    """Traffic whose steps all exceed what PowerBEV holds still."""
    made = traffic(mover)
    assert (np.abs(np.diff(made.state[0, :, :2], axis=0)).max(axis=1) > 1.0).all()
    return made


class TestPowerBEV:
    """Boxes held still, completed and dropped."""

    def test_an_agent_stands_until_it_is_more_than_a_metre_away(self):
        # 0.6 m a step from x = -0.1 on: the second step, 1.2 m away, is the first that counts.
        labels = drawn("powerbev", traffic(Mover(1.1, 0.3, speed=1.2)))
        for frame, x in enumerate([-0.1, -0.1, 1.1, 1.1, 2.3, 2.3, 3.5, 3.5, 4.7]):
            np.testing.assert_array_equal(
                labels[frame], drawn("powerbev", traffic(Mover(x, 0.3)))[frame]
            )

    def test_an_agent_below_the_pace_never_stands_where_it_is(self):
        still = drawn("powerbev", traffic(Mover(4, 1, speed=0.2)))
        assert (still == still[0]).all()

    def test_a_metre_is_counted_along_the_axes_of_the_recording(self):
        # 1.2 m a step straight ahead; in a world turned by 45 degrees 0.85 m along each axis.
        ahead = traffic(Mover(1, 0, speed=2.4))
        straight = drawn("powerbev", ahead)
        aslant = drawn("powerbev", replace(ahead, world_yaw=np.pi / 4))
        assert (straight[1] != straight[0]).any()
        assert (aslant[1] == aslant[0]).all()
        assert (aslant[2] != aslant[0]).any()

    def test_headings_are_held_with_the_place_and_sizes_are_those_of_the_first_frame(self):
        turning = traffic(Mover(4, 1, 0.0, turn_rate=0.5))
        state = turning.state.copy()
        state[0, 1:, 3] = 9.0
        labels = drawn("powerbev", replace(turning, state=state))
        assert (labels == labels[0]).all()

    def test_frames_without_the_agent_show_its_last_pose(self):
        labels = drawn("powerbev", gone(traffic(Mover(0, 0, speed=4.0)), 0, [3, 4, 7, 8]))
        for frame, last in ((3, 2), (4, 2), (7, 6), (8, 6)):
            np.testing.assert_array_equal(labels[frame], labels[last])
        assert (labels[5] != labels[2]).any()

    def test_boxes_that_the_edge_cuts_are_not_drawn(self):
        # 4.5 m long: at x = 21.8 it ends at 24.05, beyond the grid's edge; at 21.7 inside.
        inside, cut = Mover(21.7, 0), Mover(21.8, 5)
        assert set(np.unique(drawn("powerbev", traffic(inside, cut)))) == {0, 1}
        assert set(np.unique(drawn("exact", traffic(inside, cut)))) == {0, 1, 2}

    def test_who_comes_after_the_present_is_never_drawn(self):
        late = gone(traffic(Mover(4, 1)), 0, slice(0, PRESENT + 1))
        assert not drawn("powerbev", late).any()
        # Nor who was there but cut by the edge until then.
        entering = traffic(Mover(23.0, 0, np.pi, speed=4.0))
        assert not drawn("powerbev", entering).any()
        assert drawn("exact", entering)[1:].any(axis=(1, 2)).all()

    def test_who_is_hardly_visible_begins_when_it_is_seen_and_then_stays(self):
        made = hiding(traffic(Mover(4, 1)), 0, [0, 2, 4, 5])
        assert drawn("powerbev", made).any(axis=(1, 2)).tolist() == [False] + [True] * 8
        unseen = hiding(traffic(Mover(4, 1)), 0, [0, 1, 2])
        assert not drawn("powerbev", unseen).any()

    def test_history_is_drawn_from_what_was_before(self):
        """Else rasters would tell a model what is to come."""
        made = traffic(Mover(0, 0, 0.2, 3.0, 0.3), Mover(-12.0, 5, 0.1, 0.9), Mover(22, -3, 3.0, 5))
        changed = made.state.copy()
        changed[:, PRESENT + 1 :] = np.nan
        past = slice(0, PRESENT + 1)
        np.testing.assert_array_equal(
            drawn("powerbev", replace(made, state=changed))[past], drawn("powerbev", made)[past]
        )
