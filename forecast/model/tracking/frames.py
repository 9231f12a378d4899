"""What finding agents in rasters without ids, and observing them, have to tell each other."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from forecast.errors import DataError
from forecast.model.scene.agents import Agents
from forecast.types import Observation


def has_raster(frame: Observation) -> bool:
    """Whether a frame tells anything without ids; one that has no raster does not.

    Raises:
        DataError: It has none, but another ego frame than the one before.
    """
    if frame.semantic is None and frame.moved is not None:
        raise DataError(
            "a raster in every frame that has moved, for detected input",
            "a frame without",
            "leave it out, and let the next one say the whole way",
        )
    return frame.semantic is not None


def labelled(frame: Observation, instance: Int[Tensor, "b h w"]) -> Observation:
    """The frame with ids that were found, instead of whatever tracks and ids it had."""
    return replace(frame, instance=instance, track_id=None, track_state=None, track_class=None)


def remembered(agents: Agents, known: Int[Tensor, "b n"]) -> tuple[Agents, Int[Tensor, "b a"]]:
    """Agents without those that will not be seen again, and their order among all of them.

    What will not be linked any more has lost its id. It is forgotten at once, so that the debris of
    noisy rasters does not take the slots of others.

    Args:
        agents: All that were seen.
        known: Ids that may be seen again.
    """
    kept = agents.live & (agents.ids[:, :, None] == known[:, None]).any(-1)
    order = torch.argsort((~kept).int(), dim=1, stable=True)
    agents = replace(
        agents,
        ids=agents.ids * kept,
        label=agents.label * kept,
        seen=agents.seen & kept[..., None],
    )
    return agents.take(order), order
