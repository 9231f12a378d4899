"""The stages of a forecaster: from a history to the rasters of the next step, and what they cost.

Which agents there are decides the shapes on the way, so that the network runs with numbers, on a
made-up history with a fixed number of agents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from forecast.errors import ConfigError
from forecast.grid import BEVGrid
from forecast.inspection.costs import LayerCost
from forecast.inspection.flop_counter import FlopCounter
from forecast.loop import observed
from forecast.model.forecaster import Forecaster
from forecast.model.spec import ForecasterSpec, Inputs, RasterUse
from forecast.types import BEVSequence, StepForecast

AGENTS = 16  # of the made-up history, where the network has slots for them
HISTORY = 3
LANE_POINTS = 64
RESOLUTION_M = 0.5
# Every parameter belongs to one of these; drawing belongs to the instance map.
ROWS: dict[str, Sequence[str]] = {
    "features": ["raster_encoder"],
    "pixels": ["raster_encoder.lateral", "raster_encoder.context", "raster_encoder.pixel"],
    "queries": ["agent_encoder", "map_crop", "track_encoder", "observer"],
    "decoded": ["decoder", "query_pos_encoder"],
    "motion": ["motion_head"],
    "existence": ["visibility_head", "fading"],
    "next_queries": ["query_interaction"],
    "mask_logits": ["mask_head"],
    "newcomers": ["newcomer_head"],
    "instance": [],
    "tracker": ["tracker"],
}


def forecaster_stages(
    spec: ForecasterSpec, inputs: Inputs, height: int, width: int
) -> tuple[LayerCost, ...]:
    """The stages of one step of a forecaster, tracked input, one sequence of ``AGENTS`` agents.

    Raises:
        ConfigError: The grid is too small for the network or for the agents.
    """
    # The whole network is looked into, also one whose raster encoder serves detection alone.
    raster: RasterUse = "always" if spec.has_raster_encoder else "none"
    model = Forecaster(replace(spec, backend="torch", raster=raster), inputs).eval()
    layers = range(1, spec.backbone_layers + 1 if spec.has_raster_encoder else 1)
    rows = {f"backbone.layer{i}": [f"raster_encoder.backbone.extract.layer{i}"] for i in layers}
    rows |= {"backbone.layer1": ["raster_encoder.backbone"]} if spec.has_raster_encoder else {}
    counter = FlopCounter(rows | ROWS)
    history = made_up(min(AGENTS, spec.slots), HISTORY, inputs, height, width)
    with counter.watch(model):
        counter.turn_to("queries")
        state = model.look_ahead(observed(model, history))
        after, slots = model.advance(state, history.dt_s)
        counter.turn_to("instance")
        step = model.draw(after, slots)
    tensors: dict[str, Tensor | None] = {
        f"backbone.layer{i}": level
        for i, level in zip(layers, counter.outputs.get("raster_encoder.backbone", ()), strict=True)
    }
    if state.features is not None:
        tensors |= {"features": state.features.flat(), "pixels": state.features.pixels}
    tensors |= {"queries": state.query} | _step_tensors(counter.outputs, step)
    tensors["next_queries"] = after.query
    tensors["tracker"] = None  # reads detected input only
    return counter.stages(model, tensors)


def _step_tensors(outputs: Mapping[str, Any], step: StepForecast) -> dict[str, Tensor | None]:
    return {
        "decoded": outputs["decoder"],
        "motion": outputs["motion_head"].residual,
        "mask_logits": outputs.get("mask_head"),
        "newcomers": outputs.get("newcomer_head"),
        "pose": step.pose,
        "existence": step.existence,
        "instance": step.instance,
        "semantic": step.semantic,
        "occupancy": step.occupancy,
        "flow": step.flow,
    }


def made_up(agents: int, frames: int, inputs: Inputs, height: int, width: int) -> BEVSequence:
    """A history of cars that stand still, evenly over the grid, one cell each.

    Raises:
        ConfigError: The grid has no room for them.
    """
    side = math.ceil(agents**0.5)
    if min(height, width) < 4 * side:
        raise ConfigError(
            f"a grid of at least {4 * side} x {4 * side} cells for {agents} agents",
            f"{height} x {width}",
            "change --input",
        )
    grid = BEVGrid(0.0, width * RESOLUTION_M, 0.0, height * RESOLUTION_M, RESOLUTION_M)
    rows = (torch.arange(agents) // side * 2 + 1) * height // (2 * side)
    columns = (torch.arange(agents) % side * 2 + 1) * width // (2 * side)
    instance = torch.zeros(1, frames, height, width, dtype=torch.long)
    instance[:, :, rows, columns] = torch.arange(1, agents + 1)
    place = (torch.stack((columns, rows), -1) + 0.5) * RESOLUTION_M
    still = torch.tensor([0.0, 4.5, 2.0]).expand(agents, 3)  # yaw, length, width
    state = torch.cat((place, still), -1)[None, :, None].expand(-1, -1, frames, -1)
    layers = len(inputs.map_layers)
    dense = torch.zeros(1, frames, inputs.bev_channels, height, width)
    return BEVSequence(
        grid=grid,
        dt_s=0.5,
        semantic=(instance > 0).long(),
        instance=instance,
        ego_pose=torch.zeros(1, frames, 3),
        map=torch.zeros(1, layers, height, width, dtype=torch.uint8) if layers else None,
        track_state=state,
        track_class=torch.ones(1, agents, dtype=torch.long),
        map_point=torch.zeros(1, LANE_POINTS, 3),
        bev=dense if inputs.bev_channels else None,
    )
