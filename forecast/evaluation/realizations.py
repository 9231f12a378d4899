"""Counts of how good several futures of the same agents are: sums, as all counts are.

Realization k of a forecast is one future of all agents together. Whether an agent is forecast well
by any of them is its *marginal* score; whether one of them is good for all agents at once is the
*joint* one. A single forecast is one realization.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecast.evaluation.boxes import box_iou, overlaps_another
from forecast.evaluation.counts import (
    FOUND_IOU,
    Forecast,
    Truth,
    moving_ids,
    present_ids,
    track_class,
)
from forecast.evaluation.energy import energy_scores
from forecast.evaluation.mask_distance import mask_distances
from forecast.grid import BEVGrid

MISS_M = 2.0
"""Argoverse 2: farther from the truth is a miss."""
SLOW_M_S, FAST_M_S = 1.4, 11.0
"""Waymo: the rectangle of a hit is half as large below one speed, and whole above the other."""
NUMBERS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)
"""Of how many realizations the best one is taken, for curves; as far as there are so many."""


class Tally(IntEnum):
    """The columns of a table of sums ``(class, lead, which, ...)`` before those of the curves.

    ``which`` is all agents, then those that move; all are there at present. Of a lead are what is
    said of the agents at that lead alone; "so far" is over the leads up to it.
    """

    AGENTS = 0  # that are in the truth
    FORECAST = 1  # those of them that some realization has; the next two are over these
    MIN_FDE = 2
    BRIER_MIN_FDE = 3
    MISSED_2_M = 4  # of AGENTS
    BOXED = 5  # AGENTS with heading and size; the next two are of these
    MISSED = 6
    FOUND = 7
    FORECAST_SO_FAR = 8  # agents that a realization has wherever the truth has them
    MIN_ADE = 9
    PAIRS = 10  # AGENTS that both the single forecast and some realization have
    ENERGY = 11
    DISPLACEMENT = 12
    SCENES = 13  # sequences with an agent that all realizations have; the next two are of these
    JOINT_MIN_FDE = 14
    JOINT_BRIER_MIN_FDE = 15
    JOINT_MISSED_2_M = 16  # AGENTS missed in the realization of JOINT_MIN_FDE; without it, least
    BOXED_SCENES = 17  # sequences with BOXED
    JOINT_MISSED = 18
    SCENES_SO_FAR = 19  # with an agent that all realizations have wherever the truth has it
    JOINT_MIN_ADE = 20
    JOINT_PAIRS = 21  # sequences with an agent that the single and all realizations have
    JOINT_ENERGY = 22
    JOINT_DISPLACEMENT = 23
    SHARED_SCENES = 24  # sequences with an agent of known size that is forecast
    COLLISIONS = 25  # share of the realizations with one so far
    TRUE_COLLISIONS = 26
    MASK_SCENES = 27  # sequences in which the truth or a future shows one so far
    MASK_DISTANCE = 28


CURVES = (Tally.MISSED, Tally.MISSED_2_M, Tally.FOUND)
"""Counted for each of :data:`NUMBERS` too; NaN where there are fewer realizations."""
COLUMNS = len(Tally) + len(CURVES) * len(NUMBERS)
WHICH = 2
"""All agents, and those that move."""


def curves_of(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """The columns of the curves: ``(..., COLUMNS)`` to ``(..., len(CURVES), len(NUMBERS))``."""
    return sums[..., len(Tally) :].reshape(*sums.shape[:-1], len(CURVES), len(NUMBERS))


@dataclass(frozen=True)
class Futures:
    """N agents that are there at present, in the truth and in K realizations of L leads.

    Attributes:
        truth: ``(L, N, 5)`` x, y, yaw, and length and width at the present; NaN = not there.
        single: ``(L, N, 2)`` the forecast that is no realization; NaN = none.
        realized: ``(K, L, N, 5)`` as the truth.
        weight: ``(K,)`` of each realization; they add up to 1.
        speed_m_s: ``(N,)`` true speed from the present on; NaN = gone at once.
        groups: ``(N, G)`` who belongs to which group.
        dt_s: Time of a lead.
    """

    truth: NDArray[np.float64]
    single: NDArray[np.float64]
    realized: NDArray[np.float64]
    weight: NDArray[np.float64]
    speed_m_s: NDArray[np.float64]
    groups: NDArray[np.bool_]
    dt_s: float


def count_realizations(
    truth: Truth, forecast: Forecast, classes: int, grid: BEVGrid
) -> NDArray[np.float64]:
    """The sums of one sequence.

    Args:
        truth: L leads.
        forecast: At least L leads.
        classes: Number of classes C.
        grid: Of both.

    Returns:
        ``(C + 1, L, WHICH, COLUMNS)``, the last class being all of them together; where no agent
        can be compared, as of detected input, of masks alone.
    """
    table = np.zeros((truth.horizon, classes + 1, WHICH, COLUMNS))
    if forecast.pose is not None and truth.track_state is not None:
        futures = futures_of(truth, forecast, classes, grid)
        flat = table.reshape(truth.horizon, -1, COLUMNS)
        for counts in (_count_agents, _count_scenes, _count_energy, _count_collisions):
            counts(flat, futures)
    table = table.swapaxes(0, 1)
    _count_masks(table, truth, forecast, grid)
    return table


def futures_of(truth: Truth, forecast: Forecast, classes: int, grid: BEVGrid) -> Futures:
    """What is compared of one sequence; see :func:`count_realizations`."""
    assert forecast.pose is not None
    assert truth.track_state is not None
    ids = present_ids(truth, grid)
    ids = ids[ids <= len(truth.track_state)]
    state = _padded(truth.track_state[ids - 1], 5).swapaxes(0, 1)
    at_present = np.isfinite(state[0, :, :2]).all(axis=-1)
    ids, state = ids[at_present], state[:, at_present]
    happened = state[1:].copy()
    happened[..., 3:] = state[0, :, 3:]
    realized = (
        forecast.pose[None] if forecast.realization_pose is None else forecast.realization_pose
    )
    poses = _of_ids(realized[:, : truth.horizon], ids, 3)
    size = np.broadcast_to(state[0, :, 3:], (*poses.shape[:-1], 2))
    many = len(realized)
    weight = (
        np.full(many, 1 / many)
        if forecast.realization_weight is None
        else forecast.realization_weight
    )
    label = track_class(truth)[ids - 1, None] == np.arange(1, classes + 1)
    kinds = np.concatenate([label, np.ones((len(ids), 1), bool)], axis=1)
    moves = np.isin(ids, list(moving_ids(truth, grid)))
    groups = np.stack([kinds, kinds & moves[:, None]], axis=-1)
    return Futures(
        truth=happened,
        single=_of_ids(forecast.pose[: truth.horizon], ids, 2),
        realized=np.concatenate([poses, size], axis=-1),
        weight=weight.astype(np.float64),
        speed_m_s=_speed(state[..., :2], truth.dt_s),
        groups=groups.reshape(len(ids), WHICH * (classes + 1)),
        dt_s=truth.dt_s,
    )


def _count_agents(table: NDArray[np.float64], futures: Futures) -> None:
    """What is best for each agent by itself."""
    distance = _distance(futures)
    there, best, found = np.isfinite(distance).any(axis=0), distance.min(axis=0), _found(futures)
    happened, boxed = _happened(futures), _known(futures.truth)
    doubt = np.square(1 - futures.weight[distance.argmin(axis=0)])
    so_far = _mean_so_far(distance, happened).min(axis=0)
    hits = {
        Tally.MISSED: within_waymo(futures),
        Tally.MISSED_2_M: (distance <= MISS_M) & happened,
        Tally.FOUND: found,
    }
    none = {column: ~hit.any(axis=0) for column, hit in hits.items()}
    for column, each in {
        Tally.AGENTS: happened,
        Tally.FORECAST: there & happened,
        Tally.MIN_FDE: np.where(there & happened, best, 0.0),
        Tally.BRIER_MIN_FDE: np.where(there & happened, best + doubt, 0.0),
        Tally.MISSED_2_M: happened & none[Tally.MISSED_2_M],
        Tally.BOXED: boxed,
        Tally.MISSED: boxed & none[Tally.MISSED],
        Tally.FOUND: found.any(axis=0),
        Tally.FORECAST_SO_FAR: np.isfinite(so_far),
        Tally.MIN_ADE: np.where(np.isfinite(so_far), so_far, 0.0),
    }.items():
        table[..., column] = each.astype(np.float64) @ futures.groups
    curves = curves_of(table)
    for place, column in enumerate(CURVES):
        counted = happened if column is Tally.MISSED_2_M else boxed
        none_of = missed_by_any(hits[column]) * counted[..., None]
        each = none_of if column is not Tally.FOUND else counted[..., None] - none_of
        curves[:, :, place] = np.einsum("lnm,ng->lgm", each, futures.groups.astype(np.float64))


def _count_scenes(table: NDArray[np.float64], futures: Futures) -> None:
    """What is best for all agents of a group at once."""
    distance, groups = _distance(futures), futures.groups.astype(np.float64)
    happened, boxed = _happened(futures), _known(futures.truth)
    scene, known = _mean_of_groups(_filled(distance), happened, groups)
    best = scene.argmin(axis=0)
    chosen = np.where(known, scene.min(axis=0), 0.0)
    table[..., Tally.SCENES], table[..., Tally.JOINT_MIN_FDE] = known, chosen
    doubt = np.square(1 - futures.weight[best])
    table[..., Tally.JOINT_BRIER_MIN_FDE] = np.where(known, chosen + doubt, 0.0)
    missed = (happened & ~(distance <= MISS_M)).astype(np.float64) @ groups
    in_best = np.take_along_axis(missed, best[None], axis=0)[0]
    table[..., Tally.JOINT_MISSED_2_M] = np.where(known, in_best, missed.min(axis=0))
    outside = (boxed & ~within_waymo(futures)).astype(np.float64) @ groups
    of_some = boxed @ futures.groups
    table[..., Tally.BOXED_SCENES] = of_some
    table[..., Tally.JOINT_MISSED] = of_some & (outside > 0).all(axis=0)
    so_far = _filled(_mean_so_far(distance, happened))
    scene, known = _mean_of_groups(so_far, np.ones_like(happened), groups)
    table[..., Tally.SCENES_SO_FAR] = known
    table[..., Tally.JOINT_MIN_ADE] = np.where(known, scene.min(axis=0), 0.0)


def _count_energy(table: NDArray[np.float64], futures: Futures) -> None:
    """The energy score, beside the displacement of the single forecast of the same agents."""
    comparable = _known(futures.single)[..., None]
    truth = np.where(comparable, futures.truth[..., :2], np.nan)
    energy = energy_scores(futures.realized[..., :2], truth, futures.weight, futures.groups)
    single = np.linalg.norm(futures.single - truth, axis=-1)
    known = np.isfinite(energy[0] + single)
    # The scene's agents must be the same in both.
    whole = np.asarray(_known(futures.realized[..., :2]).all(axis=0))
    same = np.where(whole[..., None], truth, np.nan)
    scene = energy_scores(futures.single[None], same, np.ones(1), futures.groups)[1]
    for column, each in {
        Tally.PAIRS: known,
        Tally.ENERGY: np.where(known, energy[0], 0.0),
        Tally.DISPLACEMENT: np.where(known, single, 0.0),
    }.items():
        table[..., column] = each.astype(np.float64) @ futures.groups
    table[..., Tally.JOINT_PAIRS] = np.isfinite(energy[1])
    table[..., Tally.JOINT_ENERGY] = np.nan_to_num(energy[1])
    table[..., Tally.JOINT_DISPLACEMENT] = np.nan_to_num(scene)


def _count_collisions(table: NDArray[np.float64], futures: Futures) -> None:
    """In which realizations an agent of a group has met another, whose box it overlaps.

    Only of agents that are in the truth too at that lead, and in the truth only of those that are
    forecast: more agents have more collisions.
    """
    there = _known(futures.truth) & _known(futures.realized).any(axis=0)
    happened = np.where(there[..., None], futures.truth, np.nan)
    realized = np.where(there[..., None], futures.realized, np.nan)
    met = np.logical_or.accumulate(overlaps_another(realized) @ futures.groups, axis=1)
    truly = np.logical_or.accumulate(overlaps_another(happened) @ futures.groups, axis=0)
    table[..., Tally.SHARED_SCENES] = np.logical_or.accumulate(there @ futures.groups, axis=0)
    table[..., Tally.COLLISIONS] = np.tensordot(futures.weight, met.astype(np.float64), 1)
    table[..., Tally.TRUE_COLLISIONS] = truly


def _count_masks(
    table: NDArray[np.float64], truth: Truth, forecast: Forecast, grid: BEVGrid
) -> None:
    """The generalized energy distance of masks; of those that move where ids are the truth's."""
    known = forecast.pose is not None
    moving = moving_ids(truth, grid) if known else frozenset[int]()
    distance = mask_distances(truth, forecast, len(table) - 1, moving)
    if distance is None:
        return
    which = slice(WHICH if known else 1)
    table[..., which, Tally.MASK_SCENES] = np.isfinite(distance)[..., which]
    table[..., which, Tally.MASK_DISTANCE] = np.nan_to_num(distance)[..., which]


def within_waymo(futures: Futures) -> NDArray[np.bool_]:
    """Whether each place is in Waymo's rectangle around the true one: ``(K, L, N)``.

    It has the true heading at that lead, and is twice as long as wide: 1 m to each side at 3 s, 1.8
    at 5 s, 3 at 8 s, on a line between and beyond, and before 3 s in proportion to the time; all
    times a factor of the speed at the present. False where either is not known.

    Source:
        Ettinger et al., Large Scale Interactive Motion Forecasting for Autonomous Driving, ICCV
        2021; ``metrics/motion_metrics.cc`` of the Waymo Open Dataset.
    """
    time_s = futures.dt_s * np.arange(1, len(futures.truth) + 1)
    reach = np.where(time_s <= 3, time_s / 3, 1 + 0.4 * (time_s - 3))
    faster = (futures.speed_m_s - SLOW_M_S) / (FAST_M_S - SLOW_M_S)
    aside_m = reach[:, None] * (0.5 + 0.5 * np.clip(faster, 0, 1))
    x, y = np.moveaxis(futures.realized[..., :2] - futures.truth[..., :2], -1, 0)
    cos, sin = np.cos(futures.truth[..., 2]), np.sin(futures.truth[..., 2])
    ahead, aside = np.abs(cos * x + sin * y), np.abs(cos * y - sin * x)
    hit: NDArray[np.bool_] = (ahead <= 2 * aside_m) & (aside <= aside_m) & _known(futures.truth)
    return hit


def missed_by_any(hit: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How likely some of K realizations, drawn at random, all miss.

    Args:
        hit: ``(K, ...)``.

    Returns:
        ``(..., len(NUMBERS))``, of each number of realizations; NaN where there are fewer.
    """
    many = len(hit)
    table = np.full((many + 1, len(NUMBERS)), np.nan)
    for place, number in enumerate(NUMBERS):
        if number <= many:
            rest = [comb(many - hits, number) for hits in range(many + 1)]
            table[:, place] = np.array(rest, float) / comb(many, number)
    missed: NDArray[np.float64] = table[np.count_nonzero(hit, axis=0)]
    return missed


def _known(states: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which states ``(..., size)`` have all their numbers."""
    known: NDArray[np.bool_] = np.asarray(np.isfinite(states).all(axis=-1))
    return known


def _happened(futures: Futures) -> NDArray[np.bool_]:
    """Where the agents truly are, ``(L, N)``, whether or not their heading and size are known."""
    return _known(futures.truth[..., :2])


def _found(futures: Futures) -> NDArray[np.bool_]:
    """Whether the box of each realization overlaps the true one by more than half."""
    found: NDArray[np.bool_] = box_iou(futures.realized, futures.truth) > FOUND_IOU
    return found


def _distance(futures: Futures) -> NDArray[np.float64]:
    """From the true places, ``(K, L, N)`` metres; infinite where one of the two is not there."""
    apart = np.linalg.norm(futures.realized[..., :2] - futures.truth[..., :2], axis=-1)
    distance: NDArray[np.float64] = np.nan_to_num(apart, nan=np.inf)
    return distance


def _mean_so_far(distance: NDArray[np.float64], happened: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean over the leads so far at which the truth has the agent; infinite if one is missing."""
    total = np.where(happened, distance, 0.0).cumsum(axis=1)
    leads = happened.cumsum(axis=0)
    return np.where(leads > 0, total / leads.clip(1), np.inf)


def _filled(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """A realization without an agent counts as its worst one: leaving it out gains nothing."""
    there = np.isfinite(distance)
    worst = np.where(there, distance, -np.inf).max(axis=0)
    return np.where(there, distance, worst)


def _mean_of_groups(
    distance: NDArray[np.float64], counted: NDArray[np.bool_], groups: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Mean ``(K, L, G)`` over the agents that all realizations have, and where there is one."""
    whole = np.isfinite(distance).all(axis=0) & counted
    size = whole.astype(np.float64) @ groups
    return np.where(whole, distance, 0.0) @ groups / size.clip(1), size > 0


def _speed(place: NDArray[np.float64], dt_s: float) -> NDArray[np.float64]:
    """From the present, ``place[0]``, to where the agent is seen next, ``(N,)`` m/s."""
    seen = np.isfinite(place[1:]).all(axis=-1)
    first = seen.argmax(axis=0)
    moved = np.take_along_axis(place[1:], first[None, :, None], axis=0)[0] - place[0]
    speed: NDArray[np.float64] = np.linalg.norm(moved, axis=-1) / (dt_s * (first + 1))
    return speed


def _of_ids(pose: NDArray[Any], ids: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    """Poses ``(..., tracks, >= 2)`` of some ids ``(..., len(ids), size)``; NaN = none."""
    found = np.full((*pose.shape[:-2], len(ids), size), np.nan)
    known = ids <= pose.shape[-2]
    found[..., known, :] = _padded(pose[..., ids[known] - 1, :], size)
    return found


def _padded(state: NDArray[Any], size: int) -> NDArray[np.float64]:
    """The first numbers of each state; NaN in place of those that it lacks."""
    missing = [(0, 0)] * (state.ndim - 1) + [(0, max(size - state.shape[-1], 0))]
    return np.pad(state[..., :size].astype(np.float64), missing, constant_values=np.nan)
