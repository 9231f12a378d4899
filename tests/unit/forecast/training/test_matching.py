from dataclasses import replace
from itertools import combinations, permutations

import pytest
import torch

from forecast.checkpoint.checkpoint import load_checkpoint
from forecast.checkpoint.packaged import packaged
from forecast.config.training import TrackRules
from forecast.data.reader import SequenceReader, collate
from forecast.loop import observed
from forecast.model.detected_input import Detecting
from forecast.model.tracking.tracks import FrameQueries
from forecast.training.matching import CENTRE_COST_PER_M, CLASS_COST, TruthAssignment
from forecast.training.tracking_losses import tracking_loss
from tests.support.stores import GRID


def truth(
    positions: list[tuple[float, float]], frames: int = 2
) -> tuple[torch.Tensor, torch.Tensor]:
    state = torch.tensor([[x, y, 0.0, 4.0, 2.0] for x, y in positions])
    label = torch.ones(1, len(positions), dtype=torch.long)
    return state[None, :, None].expand(1, -1, frames, -1).clone(), label


def queries(
    candidates: list[tuple[float, float]], tracks: list[tuple[int, float, float]], frame: int = 0
) -> FrameQueries:
    places = [*candidates, *((x, y) for _, x, y in tracks)]
    pose = torch.tensor([[x, y, 0.0] for x, y in places])[None]
    ids = torch.tensor([[*(0 for _ in candidates), *(track for track, _, _ in tracks)]])
    live = torch.ones_like(ids, dtype=torch.bool)
    return FrameQueries(
        frame=frame,
        used=ids.amax(1),
        heat=torch.zeros(1, *GRID.shape),
        candidates=len(candidates),
        ids=ids,
        live=live,
        missed=torch.zeros_like(ids),
        pose=pose,
        size=torch.ones(1, len(places), 2),
        score=torch.zeros(1, len(places), 3),
    )


def test_a_track_keeps_its_truth_however_near_a_candidate_is() -> None:
    state, label = truth([(0.0, 0.0), (8.0, 0.0)])
    assignment = TruthAssignment(state, label, GRID)
    ids = assignment(queries([(0.0, 0.0), (8.5, 0.0)], [(1, 3.0, 0.0)])).ids
    assert ids.tolist() == [[0, 2, 1]]


def test_a_track_whose_agent_is_gone_answers_for_nothing_in_every_class() -> None:
    state, label = truth([(0.0, 0.0), (8.0, 0.0)])
    state[0, 0, 1] = torch.nan
    assignment = TruthAssignment(state, label, GRID)
    frame = queries([(20.0, 10.0)], [(1, 0.0, 0.0), (2, 8.0, 0.0)], frame=1)
    confident = replace(frame, score=torch.full_like(frame.score, 3.0))
    assert assignment(confident).ids.tolist() == [[0, 0, 2]]
    loss = tracking_loss(assignment)["class"]
    quiet = TruthAssignment(state, label, GRID)
    lowered = confident.score.clone()
    lowered[0, 1] = -9.0
    quiet(replace(confident, score=lowered))
    assert tracking_loss(quiet)["class"] < loss


def test_a_truth_far_from_every_candidate_is_left_to_the_heatmap() -> None:
    state, label = truth([(0.0, 0.0)])
    assignment = TruthAssignment(state, label, GRID)
    assert assignment(queries([(15.0, 0.0)], [])).ids.tolist() == [[0]]


def test_agents_off_the_grid_cannot_be_matched() -> None:
    state, label = truth([(500.0, 0.0)])
    assignment = TruthAssignment(state, label, GRID)
    assert assignment(queries([(0.0, 0.0)], [])).ids.tolist() == [[0]]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("candidates", "agents"), [(5, 4), (4, 4), (3, 5), (1, 3), (4, 1)])
def test_new_agents_are_matched_at_the_least_total_cost(
    seed: int, candidates: int, agents: int
) -> None:
    torch.manual_seed(seed)
    centres, places = torch.rand(agents, 2) * 2.5, torch.rand(candidates, 2) * 2.5
    state, label = truth([(x, y) for x, y in centres.tolist()])
    label = torch.randint(1, 4, label.shape)
    frame = queries([(x, y) for x, y in places.tolist()], [])
    frame = replace(frame, score=torch.randn_like(frame.score))
    found = TruthAssignment(state, label, GRID)(frame).ids[0].tolist()
    chance = torch.sigmoid(frame.score[0])

    def cost(pairs: list[tuple[int, int]]) -> float:
        return sum(
            CENTRE_COST_PER_M * float((places[c] - centres[t]).norm())
            - CLASS_COST * float(chance[c, label[0, t] - 1])
            for c, t in pairs
        )

    few = min(candidates, agents)
    every = (
        list(zip(cs, ts, strict=True))
        for cs in permutations(range(candidates), few)
        for ts in combinations(range(agents), few)
    )
    best = min(every, key=cost)
    assert sorted((c, t - 1) for c, t in enumerate(found) if t) == sorted(best)


def test_earlier_layers_keep_the_tracks_pairs_and_match_the_same_candidates_anew() -> None:
    state, label = truth([(0.0, 0.0), (8.0, 0.0), (0.0, 8.0)])
    last = queries([(0.5, 0.0), (8.0, 0.5), (0.0, 8.0)], [(3, 0.0, 8.0)])
    # An earlier layer saw the two candidates the other way round, and the track on agent 2.
    swapped = last.pose[:, [1, 0, 2, 1]]
    frame = replace(last, earlier=(replace(last, pose=swapped),))
    assignment = TruthAssignment(state, label, GRID)
    assert assignment(frame).ids.tolist() == [[1, 2, 0, 3]]
    (earlier,) = assignment.earlier
    assert earlier.truth.tolist() == [[2, 1, 0, 3]]
    parts = tracking_loss(assignment)
    assert float(parts["earlier_box"]) > float(parts["box"])
    silent = TruthAssignment(state, label, GRID, TrackRules(auxiliary=False))
    silent(frame)
    assert "earlier_box" not in tracking_loss(silent)


def test_a_track_whose_agent_is_gone_is_taught_to_be_nothing_in_every_of_three_classes() -> None:
    state, _ = truth([(0.0, 0.0), (8.0, 0.0)])
    state[0, 0, 1] = torch.nan
    frame = queries([(20.0, 10.0)], [(1, 0.0, 0.0), (2, 8.0, 0.0)], frame=1)
    score = torch.zeros_like(frame.score).requires_grad_()
    box = frame.pose.clone().requires_grad_()
    assignment = TruthAssignment(state, torch.tensor([[1, 3]]), GRID)
    assignment(replace(frame, score=score, pose=box))
    parts = tracking_loss(assignment)
    (parts["class"] + parts["box"]).backward()
    assert score.grad is not None
    assert box.grad is not None
    assert (score.grad[0] > 0).tolist() == [[True] * 3, [True] * 3, [True, True, False]]
    assert not box.grad[0, :2].any(), "nothing has no box"


def test_the_collective_average_divides_once_by_all_truths_and_all_tracks_that_lost_theirs() -> (
    None
):
    state, label = truth([(0.0, 0.0), (8.0, 0.0), (0.0, 8.0)], frames=2)
    state[0, 0, 1] = torch.nan
    assignment = TruthAssignment(state, label, GRID)
    assignment(queries([(0.0, 0.0), (8.0, 0.0), (0.0, 8.0)], []))
    assignment(queries([(20.0, 9.0)], [(1, 0.0, 0.0), (2, 8.0, 0.0), (3, 0.0, 8.0)], frame=1))
    assert float(tracking_loss(assignment)["agents"]) == 3 + 2 + 1


def test_a_pose_that_is_not_a_number_makes_the_loss_none_rather_than_the_matching_fail() -> None:
    state, label = truth([(0.0, 0.0), (3.0, 0.0)])
    frame = queries([(0.5, 0.0), (3.0, 0.0)], [(1, 0.0, 0.0)])
    broken = replace(frame, pose=torch.full_like(frame.pose, torch.nan))
    assignment = TruthAssignment(state, label, GRID)
    assignment(broken)
    assert torch.isnan(tracking_loss(assignment)["box"])


def test_a_sequence_without_any_track_can_be_assigned() -> None:
    state, label = torch.zeros(1, 0, 2, 5), torch.zeros(1, 0, dtype=torch.long)
    assignment = TruthAssignment(state, label, GRID)
    assert assignment(queries([(0.0, 0.0)], [])).ids.tolist() == [[0]]
    parts = tracking_loss(assignment)
    assert float(parts["agents"]) == 0
    assert all(torch.isfinite(part) for part in parts.values())


def test_the_box_loss_is_zero_for_perfect_boxes_only() -> None:
    state, label = truth([(0.25, 0.25)])
    frame = queries([(0.25, 0.25)], [])
    exact = replace(frame, size=torch.tensor([[[4.0, 2.0]]]))
    for boxes, perfect in ((exact, True), (frame, False)):
        assignment = TruthAssignment(state, label, GRID)
        assignment(boxes)
        assert (float(tracking_loss(assignment)["box"]) == 0.0) is perfect


def test_an_agent_that_is_lost_at_the_present_is_remembered_if_it_was_seen_twice() -> None:
    """Else its existence would not be learned, though rollouts remember such an agent."""
    model = load_checkpoint(packaged("model.safetensors")).model
    past = collate([SequenceReader(packaged("sample.zarr"))[0]]).crop(0, 3)
    assert past.track_state is not None
    cells = past.instance[0].flatten(1)
    lost = next(k for k in range(1, 20) if bool(((cells == k).sum(1) > 8).all()))
    state = past.track_state.clone()
    state[:, lost - 1, 2] = torch.nan
    hidden = (past.instance == lost) & torch.tensor([False, False, True])[:, None, None]
    past = replace(
        past,
        track_state=state,
        instance=past.instance.masked_fill(hidden, 0),
        semantic=past.semantic.masked_fill(hidden, 0),
    )
    assert past.track_class is not None
    teacher = TruthAssignment(state, past.track_class, past.grid)
    agents = observed(Detecting(model, teacher), past).forecast.agents
    assert agents.seen[agents.ids == lost].tolist() == [[True, True, False]]
