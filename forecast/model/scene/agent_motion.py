"""How observed agents have moved: the last motion, and where they were some time ago."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from forecast.model.scene import se2
from forecast.model.scene.agents import Agents

# Two moments closer than this are the same.
SAME_MOMENT_S = 0.02
# Share of a step by which clocks may be off.
JITTER = 0.1
# The narrowest circle of an agent's centre, as a share of its length: wheels that turn by 38
# degrees at 0.6 of the length from each other.
LEAST_RADIUS = 0.75
# A way of this much tells front from rear, metres.
CLEAR_WAY_M = 0.5


def least_radius(size: Float[Tensor, "b a 2"]) -> Float[Tensor, "b a"]:
    """Radius of the narrowest circle that agents of a size can turn on, metres."""
    return (LEAST_RADIUS * size[..., 0]).clamp(min=0.1)


def motion_between(
    first: Float[Tensor, "b a 3"], last: Float[Tensor, "b a 3"], size: Float[Tensor, "b a 2"]
) -> Float[Tensor, "b a 3"]:
    """The twist by which agents have come from one pose to another, if headings are to be believed.

    They have made the way between the two places. But a heading that turns by more than a quarter
    is one that was mistaken for its opposite, and a turn that is too narrow for the way made is an
    error of the headings: parked cars do not spin. The turn is bounded accordingly, and the way is
    given as seen with the last heading.

    Args:
        first: Where they were.
        last: Where they are.
        size: Length and width, metres.
    """
    moved = se2.between(first, last)
    turn = moved[..., 2]
    kept = torch.where(opposite(first, last), se2.wrap(turn + math.pi), turn)
    limit = torch.linalg.vector_norm(moved[..., :2], dim=-1) / least_radius(size)
    kept = torch.maximum(torch.minimum(kept, limit), -limit)
    way = se2.rotate(moved[..., :2], kept - turn)
    return se2.log(torch.cat((way, kept[..., None]), -1))


def opposite(first: Float[Tensor, "b a 3"], last: Float[Tensor, "b a 3"]) -> Bool[Tensor, "b a"]:
    """Whether front and rear were confused: two headings more than a quarter turn apart."""
    return se2.wrap(last[..., 2] - first[..., 2]).abs() > math.pi / 2


def same_front(
    agents: Agents,
    expected: Float[Tensor, "b a 3"],
    measured: Float[Tensor, "b a 3"],
    found: Bool[Tensor, "b a"],
) -> tuple[Float[Tensor, "b a"], Float[Tensor, "b a 3"]]:
    """Which end of a box is its front, where it is not the one that it was before.

    The way made tells. Who has not clearly moved where it faces now keeps the front that it had.

    Args:
        agents: As observed so far.
        expected: The pose that each was expected at.
        measured: The pose of its box.
        found: Whether there is one.

    Returns:
        By how much what was believed before has to turn: half a turn, or 0. And the measured poses.
    """
    count = agents.seen.sum(-1)
    mixed = found & (count > 0) & opposite(expected, measured)
    before = (agents.past[..., :2] * agents.seen[..., None]).sum(2)
    way = measured[..., :2] - before / count.clamp(min=1)[..., None]
    yaw = measured[..., 2]
    turned = mixed & (way[..., 0] * yaw.cos() + way[..., 1] * yaw.sin() > CLEAR_WAY_M)
    yaw = torch.where(mixed & ~turned, se2.wrap(yaw + math.pi), yaw)
    turn = torch.where(turned, math.pi, 0.0).to(yaw.dtype)
    return turn, torch.cat((measured[..., :2], yaw[..., None]), -1)


def last_motion(
    agents: Agents, step_s: float
) -> tuple[Float[Tensor, "b a 3"], Float[Tensor, "b a 3"]]:
    """Motion per step at the last sighting, and acceleration: what is gained from step to step.

    The motion is that since the latest earlier sighting at least a step before; of an agent that is
    known for less than a step, since the first. Zero for an agent that was seen once; acceleration
    is zero for one that was not seen for two steps.

    Args:
        agents: As observed, with at least one observation.
        step_s: Seconds of a step.
    """
    now = agents.last_seen
    before = _earlier(agents, now, step_s)
    older = _earlier(agents, before, step_s)
    twist, gap = _motion(agents, before, now, step_s)
    old_twist, old_gap = _motion(agents, older, before, step_s)
    turned = opposite(agents.pose_at(before), agents.pose_at(now))[..., None]
    backwards = old_twist * old_twist.new_tensor([-1.0, -1.0, 1.0])
    old_twist = torch.where(turned, backwards, old_twist)
    steps = torch.stack((gap, old_gap), -1) / step_s
    regular = ((steps > 1 - JITTER) & (steps < 1 + JITTER)).all(-1, keepdim=True)
    return twist, torch.where(regular, twist - old_twist, 0.0)


def _earlier(agents: Agents, index: Int[Tensor, "b a"], step_s: float) -> Int[Tensor, "b a"]:
    """The latest sighting at least a step before another one; else the first there is."""
    age = agents.time_s.gather(1, index)[..., None] - agents.time_s[:, None]
    order = torch.arange(agents.seen.shape[-1], device=index.device)
    early = agents.seen & (age >= (1 - JITTER) * step_s)
    latest = torch.where(early, order, -1).amax(-1)
    first = torch.where(agents.seen, order, len(order)).amin(-1)
    return torch.where(latest >= 0, latest, torch.minimum(first, index))


def _motion(
    agents: Agents, begin: Int[Tensor, "b a"], end: Int[Tensor, "b a"], step_s: float
) -> tuple[Float[Tensor, "b a 3"], Float[Tensor, "b a"]]:
    """Motion per step between two observations of each agent, and the seconds between them."""
    gap = agents.time_s.gather(1, end) - agents.time_s.gather(1, begin)
    moved = motion_between(agents.pose_at(begin), agents.pose_at(end), agents.size)
    steps = gap.clamp(min=SAME_MOMENT_S) / step_s
    twist = moved / steps[..., None]
    return torch.where((gap > SAME_MOMENT_S)[..., None], twist, 0.0), gap


def past_pose(agents: Agents, age_s: float) -> tuple[Float[Tensor, "b a 3"], Bool[Tensor, "b a"]]:
    """Where each agent was some time ago, on an arc between observations, and whether it is known.

    Args:
        agents: With at least one observation.
        age_s: Seconds before the last one.
    """
    then = agents.time_s[:, -1:] - age_s
    after_it = (agents.time_s - then)[:, None]
    count = agents.seen.shape[-1]
    order = torch.arange(count, device=agents.seen.device)
    low = torch.where(agents.seen & (after_it <= SAME_MOMENT_S), order, -1).amax(-1)
    high = torch.where(agents.seen & (after_it >= -SAME_MOMENT_S), order, count).amin(-1)
    known = (low >= 0) & (high < count)
    low, high = low.clamp(min=0), high.clamp(max=count - 1)
    first, last = agents.pose_at(low), agents.pose_at(high)
    begin, end = (agents.time_s.gather(1, index) for index in (low, high))
    # An observation of that very moment is both, and nothing lies between.
    share = torch.where(high > low, (then - begin) / (end - begin).clamp(min=SAME_MOMENT_S), 0.0)
    moved = motion_between(first, last, agents.size)
    turned = se2.between(first, last)[..., 2] - moved[..., 2]  # what is not believed of its heading
    first = torch.cat((first[..., :2], first[..., 2:] + turned[..., None]), -1)
    between = se2.compose(first, se2.exp(moved * share[..., None]))
    return torch.where(known[..., None], between, 0.0), known
