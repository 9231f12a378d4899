"""How a step of the rollout is compared with the truth.

Losses of all steps are summed and divided once by the number of agents in the whole clip: the
collective average loss of Zeng et al., "MOTR" (2022).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor
from torch.nn import functional

from forecast.config.training import LossWeights
from forecast.grid import BEVGrid
from forecast.model.scene import se2
from forecast.model.scene.agents import Agents
from forecast.model.scene.refiner import Refiner
from forecast.model.state import SlotStep

# Slope of the sigmoid by which an IoU above one half begins to count.
HIT_SHARPNESS = 10.0
# Metres that mask points fall beyond the masks, both sides together.
MARGIN_M = 2.0
# Metres: about the error that a car's mask forgives at IoU 0.5 across its narrow side.
POSITION_BETA_M = 0.5
# The same for where agents are at the present, of which more is known.
PRESENT_BETA_M = 0.1
# An agent that moves less than this within a time unit stands still.
STILL_M = 0.15
# An agent that moves further than this within the clip counts as moving (as in the metrics).
MOVING_M = 2.0


@dataclass(frozen=True)
class Target:
    """The truth of each slot at one lead.

    Attributes:
        pose: True pose; 0 where absent.
        size: True length and width.
        there: Whether the agent is in the store at that lead.
        inside: Whether its centre lies on the grid as well.
        moved: Whether it has moved since the step before, or since it was last seen.
        weight: Weight of the slot in the clip.
    """

    pose: Float[Tensor, "b a 3"]
    size: Float[Tensor, "b a 2"]
    there: Bool[Tensor, "b a"]
    inside: Bool[Tensor, "b a"]
    moved: Bool[Tensor, "b a"]
    weight: Float[Tensor, "b a"]


def future_of(
    agents: Agents,
    track_state: Float[Tensor, "b n t 5"],
    grid: BEVGrid,
    still: float,
    units: float = 1.0,
) -> list[Target]:
    """The truth of every slot at each future frame.

    Args:
        agents: The slots; ``track = id - 1``.
        track_state: True states at the present and at every future frame.
        grid: Agents off it have left.
        still: Weight of agents that stand still.
        units: Time units of a step.
    """
    state = _truth_of(agents, track_state)
    there = torch.isfinite(state).all(-1)
    # From the true place where known: a mask's centre may be half a cell off, which is no motion.
    present = torch.where(there[:, :, :1, None], state[:, :, :1, :2], agents.pose[:, :, None, :2])
    there = there[:, :, 1:]
    state = torch.where(there[..., None], state[:, :, 1:], 0.0)
    shift = torch.linalg.vector_norm(state[..., :2] - present, dim=-1)
    moving = (there & (shift > MOVING_M)).any(-1)
    weight = torch.where(moving, 1.0, still) * agents.live
    inside = there & grid.contains(state[..., 0], state[..., 1])
    moved = _moved(present[:, :, 0], state[..., :2], there, STILL_M * units)
    return [
        Target(
            pose=state[:, :, k, :3],
            size=state[:, :, k, 3:],
            there=there[:, :, k],
            inside=inside[:, :, k],
            moved=moved[:, :, k],
            weight=weight,
        )
        for k in range(state.shape[2])
    ]


def _truth_of(agents: Agents, track_state: Float[Tensor, "b n t 5"]) -> Float[Tensor, "b a t 5"]:
    """The true states of every slot; NaN where there is no track of its id."""
    # A track without states behind all others, for slots that have none.
    padded = functional.pad(track_state, (0, 0, 0, 0, 0, 1), value=torch.nan)
    last = track_state.shape[1]
    index = torch.where((agents.ids > 0) & (agents.ids <= last), agents.ids - 1, last)
    return padded.gather(1, index[..., None, None].expand(-1, -1, *track_state.shape[2:]))


def _moved(
    place: Float[Tensor, "b a 2"],
    path: Float[Tensor, "b a t 2"],
    there: Bool[Tensor, "b a t"],
    still_m: float,
) -> Bool[Tensor, "b a t"]:
    """Whether each step moved an agent, from where it was last seen."""
    moved = []
    for lead in range(path.shape[2]):
        here = torch.where(there[:, :, lead, None], path[:, :, lead], place)
        moved.append(torch.linalg.vector_norm(here - place, dim=-1) > still_m)
        place = here
    return torch.stack(moved, -1)


def present_loss(
    agents: Agents, present: Float[Tensor, "b n 5"], weights: LossWeights
) -> dict[str, Tensor]:
    """How far the poses that observations were corrected to are from the true ones.

    Args:
        agents: Agents at the present; ``track = id - 1``.
        present: True states there.
        weights: Share of each part.
    """
    if not agents.boxed:  # a mask's centre is what it is
        return {"present": agents.past.new_zeros(())}
    state = _truth_of(agents, present[:, :, None])[:, :, 0]
    there = torch.isfinite(state).all(-1)
    state = torch.where(there[..., None], state, 0.0)
    error = se2.unapply(state[..., :3], agents.pose[..., :2])
    position = functional.smooth_l1_loss(
        error, torch.zeros_like(error), reduction="none", beta=PRESENT_BETA_M
    ).sum(-1)
    turned = (1 - (agents.pose[..., 2] - state[..., 2]).cos()) * state[..., 3] / 2
    return {"present": weights.present * ((position + turned) * there).sum()}


def step_loss(
    step: SlotStep,
    truth: Target,
    grid: BEVGrid,
    weights: LossWeights,
    generator: Generator,
    refine: Refiner | None,
) -> dict[str, Tensor]:
    """Weighted sums over agents of each part of the loss, and the weight they were summed with.

    Args:
        step: The forecast, before drawing.
        truth: What happened.
        grid: The grid, for the sharpness of masks.
        weights: Share of each part.
        generator: Where mask points fall.
        refine: The mask head's residual logits.
    """
    share = truth.weight * truth.there
    error = se2.unapply(truth.pose, step.pose[..., :2])
    position = functional.smooth_l1_loss(
        error, torch.zeros_like(error), reduction="none", beta=POSITION_BETA_M
    ).sum(-1)
    turned = 1 - (step.pose[..., 2] - truth.pose[..., 2]).cos()
    mask = _mask_loss(step, truth, grid, weights.points, generator, refine)
    moving = _cross_entropy(step.moving, truth.moved)
    existence = _cross_entropy(step.existence, truth.inside)
    return {
        "position": weights.position * (position * share).sum(),
        "heading": weights.heading * (turned * truth.size[..., 0] / 2 * share).sum(),
        "mask": weights.mask * (mask * share).sum(),
        "moving": weights.moving * (moving * truth.there).sum(),
        "existence": weights.existence * (existence * step.agents.live).sum(),
        "uncertainty": weights.uncertainty * (_surprise(step, truth) * share).sum(),
        "agents": share.sum(),
    }


def _surprise(step: SlotStep, truth: Target) -> Float[Tensor, "b a"]:
    """- log likelihood of the true place; the pose itself does not learn from it."""
    off = se2.unapply(step.pose.detach(), truth.pose[..., :2]).abs()
    scale = torch.where(truth.there[..., None], step.uncertainty, 1.0)
    return (off / scale + (2 * scale).log()).sum(-1)


def _mask_loss(
    step: SlotStep,
    truth: Target,
    grid: BEVGrid,
    points: int,
    generator: Generator,
    refine: Refiner | None,
) -> Float[Tensor, "b a"]:
    """1 - soft IoU of forecast and true mask, which counts above a half as in VPQ.

    Half of the points lie around each. Overlap that makes no match is worth little, so an
    uncertain forecast is drawn larger: less overlap at best, but a match more often.
    """
    # Each rectangle and a margin of a metre; half the points fall into either.
    drawn, true = step.agents.size + MARGIN_M, truth.size + MARGIN_M
    unit = (
        torch.rand(*step.pose.shape[:2], points, 2, generator=generator).to(step.pose.device) - 0.5
    )
    owner = (torch.arange(points, device=unit.device) % 2 == 0)[:, None]
    around = torch.where(owner, step.pose.detach()[:, :, None], truth.pose[:, :, None])
    world = se2.apply(around, unit * torch.where(owner, drawn[:, :, None], true[:, :, None]))
    body = se2.unapply(step.pose[:, :, None], world)
    true_body = se2.unapply(truth.pose[:, :, None], world)
    # Each point is weighted by the area it stands for: 1 / density of points there.
    density = _density(body.detach(), drawn, owner[:, 0])
    weight = 1 / (density + _density(true_body, true, ~owner[:, 0]))
    logits = _depth(body, step.agents.size) * (2 / grid.resolution_m)
    if refine is not None:
        logits = logits + refine(body)
    forecast = torch.sigmoid(logits)
    target = torch.sigmoid(_depth(true_body, truth.size) * (2 / grid.resolution_m))
    both = (weight * torch.minimum(forecast, target)).sum(-1)
    iou = both / (weight * torch.maximum(forecast, target)).sum(-1).clamp(min=1e-3)
    return 1 - iou * torch.sigmoid(HIT_SHARPNESS * (iou - 0.5))


def _depth(body: Float[Tensor, "b a p 2"], size: Float[Tensor, "b a 2"]) -> Float[Tensor, "b a p"]:
    """Depth of points inside rectangles centred at 0, metres."""
    return (size[:, :, None] / 2 - body.abs()).amin(-1)


def _density(
    body: Float[Tensor, "b a p 2"], size: Float[Tensor, "b a 2"], own: Bool[Tensor, "p"]
) -> Float[Tensor, "b a p"]:
    """Density of points that fall evenly into rectangles around 0, per square metre.

    Args:
        body: The points, in each rectangle's frame.
        size: Length and width of each rectangle.
        own: Which points fell into it, regardless of rounding.
    """
    return (own | (_depth(body, size) > 0)) / size.prod(-1, keepdim=True)


def _cross_entropy(
    logits: Float[Tensor, "b a"], target: Bool[Tensor, "b a"]
) -> Float[Tensor, "b a"]:
    return functional.binary_cross_entropy_with_logits(
        logits, target.to(logits.dtype), reduction="none"
    )
