from dataclasses import replace
from itertools import permutations

import pytest
import torch

from forecast.model.tracks import FrameQueries
from forecast.training.matching import CENTRE_COST_PER_M, CLASS_COST, TruthAssignment
from forecast.training.perception import perception_loss
from tests.support import GRID


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
    loss = perception_loss(assignment)["class"]
    quiet = TruthAssignment(state, label, GRID)
    lowered = confident.score.clone()
    lowered[0, 1] = -9.0
    quiet(replace(confident, score=lowered))
    assert perception_loss(quiet)["class"] < loss


def test_a_truth_far_from_every_candidate_is_left_to_the_heatmap() -> None:
    state, label = truth([(0.0, 0.0)])
    assignment = TruthAssignment(state, label, GRID)
    assert assignment(queries([(15.0, 0.0)], [])).ids.tolist() == [[0]]


def test_agents_off_the_grid_cannot_be_matched() -> None:
    state, label = truth([(500.0, 0.0)])
    assignment = TruthAssignment(state, label, GRID)
    assert assignment(queries([(0.0, 0.0)], [])).ids.tolist() == [[0]]


@pytest.mark.parametrize("seed", range(5))
def test_new_agents_are_matched_at_the_least_total_cost(seed: int) -> None:
    torch.manual_seed(seed)
    centres = torch.rand(4, 2) * 3.0
    places = torch.rand(5, 2) * 3.0
    state, label = truth([(x, y) for x, y in centres.tolist()])
    frame = queries([(x, y) for x, y in places.tolist()], [])
    frame = replace(frame, score=torch.randn_like(frame.score))
    found = TruthAssignment(state, label, GRID)(frame).ids[0]

    def cost(order: tuple[int, ...]) -> float:
        chance = torch.sigmoid(frame.score[0, :, 0])
        return sum(
            CENTRE_COST_PER_M * float((places[c] - centres[t]).norm())
            - CLASS_COST * float(chance[c])
            for t, c in enumerate(order)
        )

    best = min(permutations(range(5), 4), key=cost)
    assert [int((found == t + 1).nonzero()) for t in range(4)] == list(best)


def test_the_box_loss_is_zero_for_perfect_boxes_only() -> None:
    state, label = truth([(0.25, 0.25)])
    frame = queries([(0.25, 0.25)], [])
    exact = replace(frame, size=torch.tensor([[[4.0, 2.0]]]))
    for boxes, perfect in ((exact, True), (frame, False)):
        assignment = TruthAssignment(state, label, GRID)
        assignment(boxes)
        assert (float(perception_loss(assignment)["box"]) == 0.0) is perfect
