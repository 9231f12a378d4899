"""What is counted: the metrics' definitions on cases small enough to work out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from forecast.evaluation.counts import Forecast, Sum, Truth, count, moving_ids, oracle
from forecast.evaluation.overlap import best_iou
from forecast.evaluation.scores import iou, vpq
from forecast.grid import BEVGrid
from tests.support.stores import GRID, Mover, sequence_dataset

LINE = BEVGrid(0.0, 12.0, 0.0, 1.0, 1.0)


def strip(*frames: str) -> NDArray[Any]:
    """Label maps of one row: each digit is an id, dots are background."""
    return np.array([[[0 if c == "." else int(c) for c in frame]] for frame in frames])


def scene(*frames: str, **options: Any) -> Truth:
    instance = strip(*(frame.ljust(12, ".") for frame in frames))
    return Truth((instance > 0).astype(np.uint8), instance, **options)


def forecast(*frames: str) -> Forecast:
    instance = strip(*(frame.ljust(12, ".") for frame in frames))
    return Forecast((instance > 0).astype(np.uint8), instance)


def total(truth: Truth, guess: Forecast) -> NDArray[np.float64]:
    return count(truth, guess, 1, LINE)[0].sum(axis=0)


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["1111"] * 5, 1.0),
        (["1111", "1111", "2222", "2222", "2222"], 0.8),
        (["1111", "2222", "1111", "2222", "1111"], 0.2),
    ],
    ids=["perfect", "one switch", "a switch in each frame"],
)
def test_vpq_penalises_switches_of_the_id(ids: list[str], expected: float) -> None:
    assert vpq(total(scene("1111", *["1111"] * 5), forecast(*ids))) == pytest.approx(expected)


def test_vpq_lets_a_forecast_id_be_used_again_for_another_agent() -> None:
    truth = scene("11", "11..", "11..", "..22", "..22")
    assert vpq(total(truth, forecast("77..", "77..", "..77", "..77"))) == 1.0


def test_vpq_remembers_an_agent_that_comes_back() -> None:
    truth = scene("11", "11", "", "11")
    assert vpq(total(truth, forecast("77", "", "77"))) == 1.0
    # The switch is one false positive and one miss: 1 / (1 + 1/2 + 1/2).
    assert vpq(total(truth, forecast("77", "", "88"))) == 0.5


def test_vpq_wants_more_than_half_of_the_union() -> None:
    half = total(scene("1", "11.."), forecast("1..."))
    assert half[[Sum.TP, Sum.FP, Sum.FN]].tolist() == [0, 1, 1]
    more = total(scene("1", "111."), forecast("11.."))
    assert more[[Sum.TP, Sum.FP, Sum.FN]].tolist() == [1, 0, 0]
    assert more[Sum.IOU] == pytest.approx(2 / 3)


def test_segments_match_within_their_class_only() -> None:
    truth, guess = scene("11", "11"), forecast("11")
    guess = Forecast(guess.semantic * 2, guess.instance)
    sums = count(truth, guess, 2, LINE)[:, 0]
    assert sums[0, [Sum.TP, Sum.FP, Sum.FN]].tolist() == [0, 0, 1]
    assert sums[1, [Sum.TP, Sum.FP, Sum.FN]].tolist() == [0, 1, 0]
    assert sums[0, Sum.CELL_FN] == sums[1, Sum.CELL_FP] == 2


def test_a_segment_has_the_class_of_most_of_its_cells() -> None:
    truth, guess = scene("1111", "1111"), forecast("1111")
    guess.semantic[0, 0, :4] = [0, 2, 1, 1]
    sums = count(truth, guess, 2, LINE)[:, 0]
    assert sums[0, Sum.TP] == 1
    assert sums[1, [Sum.TP, Sum.FP]].tolist() == [0, 0]
    guess.semantic[:] = 0
    sums = count(truth, guess, 2, LINE)[:, 0]
    assert sums[:, Sum.FP].tolist() == [0, 0]
    assert sums[0, Sum.FN] == 1


def test_iou_is_of_cells_and_leads_beyond_the_truth_are_left_out() -> None:
    sums = count(scene("1", "1111", "11.."), forecast("11..", "11..", "11.."), 1, LINE)[0]
    assert iou(sums).tolist() == [0.5, 1.0]
    assert iou(sums.sum(axis=0)) == pytest.approx(4 / 6)


def test_empty_truth_and_forecast_are_undefined_not_zero() -> None:
    sums = total(scene("", ""), forecast(""))
    assert np.isnan(iou(sums))
    assert np.isnan(vpq(sums))


def track(*centres: float) -> NDArray[Any]:
    """One track's x over the frames, y = 0."""
    return np.stack([centres, np.zeros(len(centres))], axis=-1)


def test_moving_is_more_than_two_metres_from_the_present_place_at_some_lead() -> None:
    state = np.stack([track(0, 2, 0), track(3, 5.1, 3), track(6, np.nan, 9), track(np.nan, 9, 9)])
    truth = scene("123", "1.2", "..4", track_state=state)
    assert moving_ids(truth, LINE) == {2, 3}


def test_an_agent_that_is_not_there_at_present_is_not_moving() -> None:
    states = [track(np.nan, 5, 9), track(0.5, 5, 9), track(-3, 5, 9)]  # the third is off the grid
    truth = scene(".2", "123", "123", track_state=np.stack(states))
    assert moving_ids(truth, LINE) == {2}


BETWEEN = scene(
    ".2",
    "12",
    "12",
    track_state=np.stack([track(0.5, 5.5, 9.5), track(1.5, 6, 9)]),
    track_class=np.ones(2, np.uint8),
)


def test_an_agent_between_cells_counts_as_any_other() -> None:
    assert moving_ids(BETWEEN, LINE) == {1, 2}
    perfect = oracle(BETWEEN, LINE)
    assert (perfect.instance == BETWEEN.instance[1:]).all()
    sums = total(BETWEEN, perfect)
    assert sums[[Sum.AGENTS, Sum.MOVING_AGENTS, Sum.AGENTS_WITHOUT_CELL]].tolist() == [4, 4, 2]


def test_the_oracle_knows_whoever_the_history_shows() -> None:
    truth = scene("1", "12", "12")
    assert 2 not in oracle(truth, LINE).instance
    assert 2 in oracle(truth, LINE, seen=np.array([2])).instance


def test_without_states_the_masks_tell_who_moves() -> None:
    assert moving_ids(scene("11...22", ".11...22", "..11..22"), LINE) == set()
    assert moving_ids(scene("11...22", ".11....22", "...11.22"), LINE) == {1}


# In every frame below, 1 stands still at cells 0-1 and 2 moves.
STATES = np.stack([track(1, 1, 1), track(5, 8, 11)])
TRAFFIC = scene("11..22", "11.....22", "11........22", track_state=STATES)


def test_vpq_moving_leaves_out_still_agents() -> None:
    sums = total(TRAFFIC, forecast(".......22", "..........22"))
    assert sums[Sum.MOVING_TP : Sum.MOVING_IOU + 1].tolist() == [2, 0, 0, 2]
    assert sums[Sum.FN] == 2
    switched = total(TRAFFIC, forecast("11.....22", "33........22"))
    assert switched[Sum.MOVING_TP : Sum.MOVING_IOU + 1].tolist() == [2, 0, 0, 2]


def test_vpq_moving_counts_false_alarms_on_nothing_and_on_moving_agents() -> None:
    on_nothing = total(TRAFFIC, forecast("11..5..22", "11........22"))
    assert on_nothing[Sum.MOVING_TP : Sum.MOVING_FN + 1].tolist() == [2, 1, 0]
    on_moving = total(TRAFFIC, forecast("11.....25", "11........22"))
    assert on_moving[Sum.MOVING_TP : Sum.MOVING_FN + 1].tolist() == [1, 2, 1]
    on_still = total(TRAFFIC, forecast("155....22", "11........22"))
    assert on_still[Sum.MOVING_TP : Sum.MOVING_FN + 1].tolist() == [2, 0, 0]
    assert on_still[Sum.FP] == 2


def test_vpq_moving_counts_switches_and_misses_of_moving_agents() -> None:
    switched = total(TRAFFIC, forecast("11.....22", "11........33"))
    assert switched[Sum.MOVING_TP : Sum.MOVING_FN + 1].tolist() == [1, 1, 1]
    missed = total(TRAFFIC, forecast("11", "11"))
    assert missed[Sum.MOVING_TP : Sum.MOVING_FN + 1].tolist() == [0, 0, 2]


MOVERS = [
    Mover(0, -4, speed=6),
    Mover(-6, 4),
    Mover(10, 0, np.pi / 2, 2, length=1, width=1, label=2),
]


def whole(movers: list[Mover] = MOVERS, history: int = 3) -> Truth:
    """The truth of one synthetic sequence."""
    data = sequence_dataset([movers]).isel(sequence=0)
    return Truth(
        data["semantic"].values,
        data["instance"].values,
        data["track_state"].values,
        data["track_class"].values,
        "scene",
    ).from_present(history)


def test_displacement_is_between_true_and_forecast_centres() -> None:
    truth = whole()
    perfect = oracle(truth, GRID)
    assert perfect.pose is not None
    shifted = Forecast(perfect.semantic, perfect.instance, perfect.pose + np.array([3, 4, 0, 0, 0]))
    sums = count(truth, shifted, 3, GRID)
    vehicle, pedestrian = sums[0].sum(axis=0), sums[1].sum(axis=0)
    assert vehicle[[Sum.AGENTS, Sum.PAIRS, Sum.MOVING_PAIRS]].tolist() == [12, 12, 6]
    assert vehicle[Sum.DISTANCE] == pytest.approx(60)
    assert pedestrian[Sum.MOVING_DISTANCE] == pytest.approx(30)


def test_an_agent_without_forecast_is_counted_but_has_no_distance() -> None:
    truth = whole()
    perfect = oracle(truth, GRID)
    assert perfect.pose is not None
    pose = perfect.pose[:, :2].copy()  # fewer tracks than the truth: the pedestrian has none
    pose[2:, 0] = np.nan
    sums = count(truth, Forecast(perfect.semantic, perfect.instance, pose), 3, GRID).sum(axis=1)
    assert sums[0, [Sum.AGENTS, Sum.PAIRS, Sum.DISTANCE]].tolist() == [12, 8, 0]
    assert sums[1, [Sum.AGENTS, Sum.PAIRS]].tolist() == [6, 0]


def test_without_track_classes_the_masks_tell_them() -> None:
    truth = whole()
    bare = Truth(truth.semantic, truth.instance, truth.track_state)
    perfect = oracle(truth, GRID)
    np.testing.assert_array_equal(count(truth, perfect, 3, GRID), count(bare, perfect, 3, GRID))


def test_the_oracle_is_perfect_for_what_is_seen_at_present() -> None:
    late = Mover(-40, 0, speed=16)  # enters the grid after the present
    truth = whole([*MOVERS, late])
    sums = count(truth, oracle(truth, GRID), 3, GRID)[0].sum(axis=0)
    assert vpq(sums, Sum.MOVING_TP) == 1.0
    assert sums[Sum.FP] == 0
    assert sums[Sum.FN] > 0


def test_a_single_missed_agent_is_a_vpq_of_zero_and_not_undefined() -> None:
    assert vpq(total(scene("11", "11"), forecast(""))) == 0.0


def test_the_background_and_ids_beyond_the_tracks_are_nobodys_best_mask() -> None:
    true, guess = strip("1...33")[0], strip("..22.4")[0]
    assert best_iou(true, guess, 1).tolist() == [0.0]
    assert best_iou(true, guess, 3).tolist() == [0.0, 0.0, 0.5]
