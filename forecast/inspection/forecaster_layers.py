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
from forecast.inspection.costs import Stage
from forecast.inspection.flop_counter import Ledger
from forecast.model.forecaster import Forecaster
from forecast.model.spec import ForecasterSpec, Inputs
from forecast.types import BEVSequence, StepForecast

AGENTS = 16  # of the made-up history, where the network has slots for them
LANE_POINTS = 64
RESOLUTION_M = 0.5
# Every parameter belongs to one of these; painting belongs to the instance map.
ROWS: dict[str, Sequence[str]] = {
    "memory": ["encode"],
    "pixels": ["encode.lateral", "encode.context", "encode.pixel"],
    "queries": ["seed", "crop", "carry"],
    "decoded": ["decoder", "kinematics"],
    "motion": ["motion"],
    "existence": ["sight"],
    "next_queries": ["interact"],
    "mask_logits": ["mask"],
    "instance": [],
    "tracker": ["tracker"],
}


def forecaster_stages(
    spec: ForecasterSpec, inputs: Inputs, height: int, width: int
) -> tuple[Stage, ...]:
    """The stages of one step of a forecaster, tracked input, one sequence of ``AGENTS`` agents.

    Raises:
        ConfigError: The grid is too small for the network or for the agents.
    """
    model = Forecaster(replace(spec, backend="torch"), inputs).eval()
    layers = range(1, spec.backbone_layers + 1 if spec.memory else 1)
    rows = {f"backbone.layer{i}": [f"encode.backbone.extract.layer{i}"] for i in layers}
    rows |= {"backbone.layer1": ["encode.backbone"]} if spec.memory else {}
    ledger = Ledger(rows | ROWS)
    history = made_up(min(AGENTS, spec.slots), spec.history, inputs, height, width)
    with ledger.watch(model):
        ledger.turn_to("queries")
        state = model.start(history)
        after, slots = model.advance(state)
        ledger.turn_to("instance")
        step = model.paint(after, slots)
    tensors: dict[str, Tensor | None] = {
        f"backbone.layer{i}": level
        for i, level in zip(layers, ledger.outputs.get("encode.backbone", ()), strict=True)
    }
    if state.memory is not None:
        tensors |= {"memory": state.memory.flat(), "pixels": state.memory.pixels}
    tensors |= {"queries": state.content} | _step_tensors(ledger.outputs, step)
    tensors["next_queries"] = after.content
    tensors["tracker"] = None  # reads detected input only
    return ledger.stages(model, tensors)


def _step_tensors(outputs: Mapping[str, Any], step: StepForecast) -> dict[str, Tensor | None]:
    return {
        "decoded": outputs["decoder"],
        "motion": outputs["motion"].residual,
        "mask_logits": outputs.get("mask"),
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
