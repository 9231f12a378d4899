"""Stores without ``track_state``, maps a model does not know, and grids that pooling cuts."""

from dataclasses import replace
from typing import Any

import torch

from forecast.grid import BEVGrid
from forecast.inference.models import LoadedModel, Provenance
from forecast.loop import rollout
from forecast.model.baselines import Baseline
from forecast.model.scene.context import PackedQueries
from forecast.model.scene.packing import Packing
from forecast.model.scene_attention import crop
from forecast.observations import scene_context
from forecast.schema import MAP_LAYERS
from forecast.training.losses import future_of
from forecast.types import BEVSequence, Observation, SceneContext, StepForecast
from tests.support.rollouts import agents_of
from tests.support.sequences import sequences
from tests.support.stores import GRID, Mover


def blind(batch: BEVSequence) -> BEVSequence:
    return replace(batch, track_state=None, track_class=None)


def one_row() -> PackedQueries:
    """An agent at the ego's place, looking ahead."""
    packing = Packing.of(torch.ones(1, 1, dtype=torch.bool))
    return PackedQueries(packing, torch.zeros(1, 3), torch.zeros(1, 3), torch.zeros(1, 1))


def test_a_heading_is_told_by_the_frames_that_show_the_agent() -> None:
    batch = sequences([[Mover(-9.0, -4.0, 0.0, speed=4.0)]])
    instance = batch.instance.clone()
    instance[:, 0] = 0  # where it was not seen, its place is no evidence
    agents = agents_of(blind(replace(batch, instance=instance)).crop(0, 3))
    assert torch.cos(agents.pose[0, 0, 2]) > 0.98


def test_a_mask_claims_no_cells_that_a_larger_neighbour_s_window_covers() -> None:
    small, large = Mover(-8.0, 0.0), Mover(12.0, 6.0, length=12.0)
    alone, beside = (
        next(rollout(Baseline("persistence", 3), blind(sequences([[*movers]])).crop(0, 3), 1))
        for movers in ((small,), (small, large))
    )
    near = (slice(None), slice(None), slice(None), slice(0, 36))
    assert torch.equal(alone.occupancy[near], beside.occupancy[near])


def test_a_model_without_map_layers_is_given_no_map() -> None:
    given: list[SceneContext] = []

    class Listener:
        reads_tracks = True

        def start(self, context: SceneContext) -> None:
            given.append(context)

        def observe(self, state: Any, frame: Observation) -> None:
            raise NotImplementedError

        def step(self, state: Any, dt_s: float) -> tuple[Any, StepForecast]:
            raise NotImplementedError

    loaded = LoadedModel(
        Listener(), Provenance("listener"), torch.device("cpu"), ("vehicle",), MAP_LAYERS
    )
    loaded.start(scene_context(sequences([[]])))
    assert given[0].map.shape[1] == 0


def test_the_crop_is_registered_where_pooling_does_not_divide_the_grid() -> None:
    grid = BEVGrid(-15.0, 15.0, -15.0, 15.0, 0.15)  # 200 cells, pooled by 7
    raster = torch.zeros(1, 1, *grid.shape)
    raster[0, 0, 95:105, 180:190] = 1.0  # a patch centred on x = 12.75, y = 0
    rows = one_row()
    seen = crop(rows, SceneContext(raster, None, grid))[0, 0]
    ahead = (torch.arange(32) + 0.5) * 1.5 - 12.0
    centre = (seen.sum(0) * ahead).sum() / seen.sum()
    assert abs(centre - 12.75) < 0.35


def test_a_grid_smaller_than_a_crop_cell_can_be_read() -> None:
    grid = BEVGrid(0.0, 0.6, 0.0, 0.3, 0.15)
    rows = one_row()
    around = SceneContext(torch.ones(1, 2, *grid.shape), None, grid)
    assert crop(rows, around).shape[1] == 2


def test_an_agent_that_stands_still_is_not_told_to_have_moved_by_its_mask() -> None:
    # The first is cut by the border, so that its mask's centre is not its own.
    batch = sequences([[Mover(GRID.x_max_m - 0.5, 3.2), Mover(-8.0, -4.0, 0.0, speed=4.0)]])
    assert batch.track_state is not None
    agents = agents_of(blind(batch).crop(0, 3))
    assert (agents.pose[0, 0, :2] - batch.track_state[0, 0, 2, :2]).norm() > 0.5
    truths = future_of(agents, batch.track_state[:, :, 2:], batch.grid, 0.3)
    assert [truth.moved[0, :2].tolist() for truth in truths] == [[False, True]] * len(truths)
    torch.testing.assert_close(truths[0].weight[0, :2], torch.tensor([0.3, 1.0]))
