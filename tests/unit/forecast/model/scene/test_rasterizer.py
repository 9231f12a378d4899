"""Painting looks only where somebody is, and draws what looking everywhere would draw."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from forecast.grid import BEVGrid
from forecast.model.scene import se2
from forecast.model.scene.agents import Agents
from forecast.model.scene.rasterizer import rasterize, rasterize_classes
from forecast.model.scene.refiner import Refiner
from tests.support.naive_rasterizer import naive_rasterize
from tests.support.rollouts import agents_of as observed_agents
from tests.support.sequences import sequences
from tests.support.stores import Mover

WIDE = BEVGrid(-30.0, 34.0, -20.0, 20.0, 0.5)
FINE = BEVGrid(-6.0, 9.0, -4.5, 6.0, 0.15)
CROWD = (
    Mover(0.3, 0.2, 0.4, 6.0, length=17.6, width=2.5),  # a lorry
    Mover(1.9, 1.1, 2.0, 5.0),  # a car that overlaps with it
    Mover(-4.1, 3.3, -1.1, 1.4, length=0.6, width=0.6, label=2),
    Mover(8.4, 5.2, 1.57, 3.0, length=1.8, width=0.7, label=3),  # at the border of the fine grid
)
PAIR = (Mover(-5.2, -4.1, 3.1, 9.0), Mover(-2.7, -3.2, 0.8, 0.0, length=12.0, width=2.6))


def agents_of(grid: BEVGrid, boxed: bool) -> tuple[Agents, Tensor]:
    past = sequences([CROWD, PAIR, ()], grid).crop(0, 3)
    if not boxed:
        past = replace(past, track_state=None, track_class=None)
    return observed_agents(past), past.instance[:, -1]


def wavy(points: Tensor) -> Tensor:
    """A mask head that eats into some masks and adds to others."""
    return 3 * torch.sin(points[..., 0]) * torch.cos(points[..., 1])


@pytest.mark.parametrize("refine", [None, wavy], ids=["as it is", "refined"])
@pytest.mark.parametrize("known_by", ["boxes", "masks", "masks, some hidden"])
@pytest.mark.parametrize("grid", [WIDE, FINE], ids=["wide", "fine"])
def test_painting_near_agents_equals_painting_everywhere(
    grid: BEVGrid, known_by: str, refine: Refiner | None
) -> None:
    boxed = known_by == "boxes"
    agents, observed = agents_of(grid, boxed)
    if "hidden" in known_by:
        observed = observed.masked_fill(observed == 1, 0)
    torch.manual_seed(0)
    motion = torch.randn_like(agents.pose) * torch.tensor([6.0, 2.0, 1.5])
    pose = se2.compose(agents.pose, motion)
    existence = torch.rand(agents.ids.shape) * agents.live
    drawn = agents.live & (existence > 0.3)
    given = agents, pose, agents.pose, existence, drawn, observed, grid, 3, refine
    ours, theirs = rasterize(*given), naive_rasterize(*given)
    assert ours.instance.any()
    assert torch.equal(ours.instance, theirs.instance)
    assert torch.equal(ours.semantic, theirs.semantic)
    if boxed and refine is None:
        assert torch.equal(rasterize_classes(agents, pose, drawn, grid), theirs.semantic)
    torch.testing.assert_close(ours.occupancy, theirs.occupancy, atol=2e-5, rtol=0)
    torch.testing.assert_close(ours.flow, theirs.flow, atol=2e-5, rtol=0)


@pytest.mark.parametrize("boxed", [True, False], ids=["boxes", "masks"])
def test_occupancy_is_how_likely_agents_that_err_cover_a_cell(boxed: bool) -> None:
    agents, observed = agents_of(WIDE, boxed)
    torch.manual_seed(1)
    error = 0.1 + torch.rand(*agents.ids.shape, 2) * torch.tensor([3.0, 0.7])
    existence = torch.rand(agents.ids.shape) * agents.live
    given = agents, agents.pose, agents.pose, existence, agents.live, observed, WIDE, 3
    ours = rasterize(*given, uncertainty=error)
    theirs = naive_rasterize(*given, uncertainty=error)
    # Cells that an agent covers with less than about a hundredth are left out.
    torch.testing.assert_close(ours.occupancy, theirs.occupancy, atol=0.02, rtol=0)
    certain = rasterize(*given)
    assert torch.equal(ours.instance, certain.instance)
    assert ours.occupancy.max() <= 1
    assert (ours.occupancy > 0.05).sum() > (certain.occupancy > 0.05).sum()


def test_broken_poses_draw_nothing_and_break_nothing() -> None:
    agents, observed = agents_of(WIDE, boxed=True)
    pose = torch.full_like(agents.pose, torch.nan)
    everyone = agents.live.float()
    rasters = rasterize(agents, pose, pose, everyone, agents.live, observed, WIDE, 3)
    assert not rasters.instance.any()
    assert not rasters.occupancy.any()


def test_who_has_left_the_grid_is_not_drawn_at_its_border() -> None:
    agents, observed = agents_of(WIDE, boxed=True)
    gone = agents.pose + torch.tensor([500.0, -300.0, 0.0])
    rasters = rasterize(agents, gone, gone, agents.live.float(), agents.live, observed, WIDE, 3)
    assert not rasters.instance.any()
    assert not rasters.occupancy.any()


def test_of_agents_known_by_masks_a_hidden_one_is_its_box_and_the_others_are_their_masks() -> None:
    apart = (CROWD[0], replace(CROWD[1], y=9.0), CROWD[2])
    past = sequences([apart], WIDE).crop(0, 3)
    agents = observed_agents(replace(past, track_state=None, track_class=None))
    striped = torch.arange(WIDE.width) % 4 == 0
    observed = past.instance[:, -1].masked_fill(striped, 0)
    given = agents, agents.pose, agents.pose, agents.live.float(), agents.live
    masks = rasterize(*given, observed, WIDE, 3).instance
    ours = rasterize(*given, observed.masked_fill(observed == 1, 0), WIDE, 3).instance
    boxes = rasterize(replace(agents, boxed=True), *given[1:], observed, WIDE, 3).instance
    assert torch.equal(ours == 1, boxes == 1)
    assert not torch.equal(masks == 1, boxes == 1)
    for number in (2, 3):
        assert torch.equal(ours == number, masks == number)
