from dataclasses import asdict, replace
from typing import Any

import pytest
import torch

from forecast.errors import ConfigError
from forecast.model.detected_input import Detecting
from forecast.model.scene import se2
from forecast.model.spec import ForecasterSpec
from forecast.model.tracker import peaks
from forecast.model.tracking.lifecycle import TrackManager
from forecast.model.tracking.tracks import Decision, FrameQueries, Tracks
from tests.support.sequences import SMALL, TRAFFIC, forecaster, tracked, tracked_through
from tests.support.stores import GRID
from tests.unit.forecast.training.test_matching import queries


def scored(frame: FrameQueries, *chances: float) -> FrameQueries:
    score = torch.full_like(frame.score, -9.0)
    score[0, :, 0] = torch.logit(torch.tensor(chances))
    return replace(frame, score=score, size=torch.full_like(frame.size, 2.0))


def test_good_candidates_are_born_with_new_ids_and_weak_tracks_end() -> None:
    lifecycle = TrackManager(birth_threshold=0.4, track_threshold=0.5)
    first = scored(queries([(0.0, 0.0), (9.0, 0.0), (0.0, 9.0)], []), 0.9, 0.3, 0.5)
    assert lifecycle(first).ids.tolist() == [[1, 0, 2]]
    second = scored(queries([(9.0, 9.0)], [(1, 0.0, 0.0), (2, 0.0, 9.0)], 1), 0.8, 0.7, 0.2)
    assert lifecycle(second).ids.tolist() == [[3, 1, 0]]


def test_nobody_is_born_inside_a_track_or_a_better_candidate() -> None:
    frame = scored(
        queries([(0.5, 0.0), (9.0, 0.0), (9.5, 0.0)], [(1, 0.0, 0.0)], 1), 0.9, 0.6, 0.8, 0.9
    )
    assert TrackManager(0.4, 0.5)(frame).ids.tolist() == [[0, 0, 2, 1]]


def test_a_weak_track_is_kept_unseen_for_as_long_as_misses_are_tolerated() -> None:
    lifecycle = TrackManager(0.4, 0.5, miss_tolerance=2)
    frame = scored(queries([(9.0, 9.0)], [(1, 0.0, 0.0), (2, 0.0, 9.0)], 1), 0.1, 0.7, 0.2)
    for missed, ids, seen in (
        (0, [0, 1, 2], [False, True, False]),
        (1, [0, 1, 2], [False, True, False]),
        (2, [0, 1, 0], [False, True, False]),
    ):
        decision = lifecycle(replace(frame, missed=torch.tensor([[0, 0, missed]])))
        assert decision.ids.tolist() == [ids]
        assert decision.seen.tolist() == [seen]


def test_nobody_is_born_in_the_box_of_a_track_that_is_missed() -> None:
    frame = scored(queries([(0.5, 0.0)], [(1, 0.0, 0.0)], 1), 0.9, 0.2)
    assert TrackManager(0.4, 0.5, miss_tolerance=1)(frame).ids.tolist() == [[0, 1]]
    assert TrackManager(0.4, 0.5)(frame).ids.tolist() == [[2, 0]]


class Blink:
    """One candidate is born and tracked, but not seen at some frames."""

    def __init__(self, unseen: tuple[int, ...]) -> None:
        self.unseen = unseen
        self.frames: list[FrameQueries] = []

    def denoising_queries(self, frame: int) -> None:
        return None

    def __call__(self, queries: FrameQueries) -> Decision:
        self.frames.append(queries)
        ids = queries.ids.clone()
        if queries.frame == 0:
            ids[:, 0] = 1
        return Decision(ids, (ids > 0) & (queries.frame not in self.unseen))


def blinking(unseen: tuple[int, ...], **changes: Any) -> tuple[list[Tracks], list[FrameQueries]]:
    lifecycle = Blink(unseen)
    tracks, _ = tracked_through(forecaster(**changes), lifecycle, history=4)
    return tracks, lifecycle.frames


def test_a_track_that_is_not_seen_drives_on_and_keeps_what_it_knew() -> None:
    tracks, frames = blinking((2, 3))
    seen, _ = blinking(())
    past = [now.pose[:, 0] for now in tracks]
    for frame in (0, 1):
        torch.testing.assert_close(past[frame], seen[frame].pose[:, 0])
    for frame in (2, 3):
        step = se2.between(past[frame - 2], past[frame - 1])
        expected = se2.compose(past[frame - 1], step)
        torch.testing.assert_close(past[frame], expected, atol=1e-4, rtol=0)
    track = frames[1].candidates  # the first slot, behind the candidates
    torch.testing.assert_close(tracks[-1].score[:, 0], frames[1].score[:, track])
    torch.testing.assert_close(tracks[-1].size[:, 0], frames[1].size[:, track])
    assert [int(frame.missed[0, track]) for frame in frames] == [0, 0, 0, 1]
    assert [int(now.missed[0, 0]) for now in tracks] == [0, 0, 1, 2]


def test_a_track_that_is_seen_again_has_missed_nothing() -> None:
    tracks, frames = blinking((1,))
    assert [int(now.missed[0, 0]) for now in tracks] == [0, 1, 0, 0]
    assert [int(frame.missed[0, frame.candidates]) for frame in frames] == [0, 0, 1, 0]


def test_a_track_moves_on_by_the_time_that_has_passed() -> None:
    tracks, _ = blinking(())
    last = tracks[-1]
    assert last.twist[:, 0].abs().max() > 0.1
    step = se2.between(tracks[-2].pose, last.pose)[:, :1]
    for share in (0.0, 0.2, 2.0):
        expected = se2.compose(last.pose[:, :1], se2.exp(se2.log(step) * share))
        found = last.predicted(torch.full((len(TRAFFIC),), 0.5 * share))[:, :1]
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_in_another_ego_frame_a_track_is_where_it_was_in_the_world() -> None:
    tracks, _ = blinking(())
    moved = torch.tensor([[2.0, -1.0, 0.7]]).expand(len(TRAFFIC), -1)
    since_s = torch.full((len(TRAFFIC),), 0.5)
    there = tracks[-1].seen_from(moved).predicted(since_s)
    back = se2.compose(moved[:, None], there)
    torch.testing.assert_close(back, tracks[-1].predicted(since_s), atol=1e-4, rtol=0)


def test_updated_positions_are_carried_and_only_where_they_are_asked_for() -> None:
    """MOTR's position update has weights of its own, which change what tracks are next."""
    plain, _ = blinking(())
    assert plain[-1].query_pos is None
    tracks, frames = blinking((), update_query_pos=True)
    assert tracks[-1].query_pos is not None
    model = forecaster(update_query_pos=True)
    assert model.tracker is not None
    simple = forecaster()
    names = {name for name in model.state_dict() if name.startswith("tracker.")}
    assert {name.split(".")[2] for name in names - set(simple.state_dict())} == {
        "ffn_query_pos",
        "norm_query_pos",
    }
    assert model.tracker.query_interaction.norm_query_pos is not None
    with torch.no_grad():
        model.tracker.query_interaction.norm_query_pos.bias.add_(1.0)
    _, moved = tracked(model, Blink(()), history=4)
    track = frames[0].candidates
    torch.testing.assert_close(moved[0].score, frames[0].score)
    assert (moved[1].score - frames[1].score)[:, track].abs().max() > 1e-4


def test_nobody_takes_the_slot_of_somebody() -> None:
    """Where slots are short, inserted false positives are the first to go."""

    class Crowd(Blink):
        def __call__(self, queries: FrameQueries) -> Decision:
            ids = torch.zeros_like(queries.ids)
            ids[:, : queries.candidates] = -1
            ids[:, queries.candidates - 1] = 7
            return Decision(ids, ids != 0)

    tracks, _ = tracked(forecaster(), Crowd(()))
    assert tracks.ids[:, 0].tolist() == [7] * len(TRAFFIC)


def test_checkpoints_from_before_these_settings_describe_the_same_model() -> None:
    old = asdict(SMALL)
    for name in ("track_threshold", "miss_tolerance", "update_query_pos"):
        del old[name]
    assert ForecasterSpec(**old) == SMALL
    assert (SMALL.track_threshold, SMALL.miss_tolerance, SMALL.update_query_pos) == (0.5, 0, False)


def test_peaks_are_the_strongest_local_maxima_at_their_cells_centres() -> None:
    heat = torch.full((1, *GRID.shape), -5.0)
    heat[0, 10, 20], heat[0, 10, 21], heat[0, 30, 40] = 3.0, 2.0, 1.0
    points, found = peaks(heat, 2, GRID)
    expected = [[GRID.x_m[20], GRID.y_m[10]], [GRID.x_m[40], GRID.y_m[30]]]
    torch.testing.assert_close(points[0].double(), torch.tensor(expected, dtype=torch.float64))
    assert found.all()


def test_a_model_that_reads_no_raster_cannot_detect() -> None:
    with pytest.raises(ConfigError, match="reads the raster"):
        Detecting(forecaster(raster="none"))
