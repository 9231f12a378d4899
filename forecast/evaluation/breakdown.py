"""Where a forecast errs: its errors on moving agents by lead, speed, manoeuvre and so on.

An error along the lane calls for another remedy (speed, traffic lights, who yields) than one aside
(lanes, turns), and a mean over all agents shows neither.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from forecast.angles import wrap_angle
from forecast.errors import DataError
from forecast.evaluation.counts import FOUND_IOU, MOVING_DISTANCE_M
from forecast.evaluation.overlap import best_iou, iou_by_id
from forecast.evaluation.scoring import input_of, open_pair
from forecast.parallel import Progress
from forecast.schema import SequenceMeta, protocol_text
from forecast.storage.identity import unchanged
from forecast.storage.stores import refuse_impossible, refusing_damage

Question = Literal["class", "lead", "speed", "manoeuvre", "seen", "distance"]
QUESTIONS: tuple[Question, ...] = get_args(Question)

SPEEDS_M_S = (0.0, 0.5, 2.0, 5.0, 8.0, 12.0, 18.0)
DISTANCES_M = (0.0, 15.0, 30.0, 45.0)
STANDING_M_S = 0.5
CHANGED_M_S = 2.0
TURNED_RAD = np.radians(20.0)
# In place of the speed of an agent that was not seen in the frame before the present.
UNKNOWN = -1


@dataclass(frozen=True)
class Errors:
    """One entry per moving agent and lead at which it is in the truth.

    Attributes:
        group: To which group of each question the entry belongs, ``{question: (n,)}``.
        along: Forecast ahead of (+) or behind (-) the truth, metres; NaN where none was made.
        aside: Forecast to the left (+) or right (-) of it, metres.
        found: Whether forecast and true mask overlap by an IoU above one half; of detected input,
            whose ids are its own, whether any forecast mask does.
    """

    group: dict[Question, NDArray[Any]]
    along: NDArray[np.float64]
    aside: NDArray[np.float64]
    found: NDArray[np.bool_]


@dataclass(frozen=True)
class Row:
    """The errors of one group.

    Attributes:
        question: By what the agents were grouped.
        group: Which group.
        entries: Moving agents times leads.
        forecast: How many of them have a forecast pose; None of detected input, whose ids are
            its own.
        along: Mean distance along the true heading, metres; None without a forecast.
        ahead: The same with its sign: positive = ahead of the truth, negative = behind it.
        aside: Mean distance across it, metres.
        displacement: Mean distance, metres.
        found: Share whose masks overlap by an IoU above one half.
        protocol: By which the truth's masks were drawn, name and hash.
    """

    question: str
    group: str
    entries: int
    forecast: int | None
    along: float | None
    ahead: float | None
    aside: float | None
    displacement: float | None
    found: float
    protocol: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def break_down(
    forecast_path: str,
    data_path: str,
    questions: Collection[str] = QUESTIONS,
    progress: Progress | None = None,
) -> list[Row]:
    """The errors of a forecast store on moving agents, by group.

    Args:
        forecast_path: Forecast store. That of detected input shows what was found, not how far off
            it lies: its ids are not those of the truth.
        data_path: The sequence store that holds what happened.
        questions: By what to group, some of ``QUESTIONS``, whose order is that of the rows.
        progress: Told (sequences done, sequences in all) after each.

    Raises:
        DataError: A store cannot be read, the two do not belong together, or the truth has no
            tracks.
    """
    found = []
    with unchanged(forecast_path, data_path):
        forecast, data, meta = open_pair(forecast_path, data_path)
        for name in ("track_state", "track_class"):
            if name not in data:
                raise DataError(f"truth with {name}", f"none in {data_path}", "leave --by out")
        tracked = input_of(forecast.attrs) == "tracked"
        count = forecast.sizes["sequence"]
        for index in range(count):
            with refusing_damage(data_path):
                truth = data.isel(sequence=index).load()
            with refusing_damage(forecast_path):
                guess = forecast[["instance", "pose"]].isel(sequence=index).load()
            for path, one in ((data_path, truth), (forecast_path, guess)):
                arrays = {str(name): one[name].values for name in one.variables}
                refuse_impossible(arrays, len(meta.classes), path)
            found.append(errors_of(truth, guess, meta, tracked))
            if progress is not None:
                progress(index + 1, count)
    protocol, chosen = protocol_text(meta.protocol), [one for one in QUESTIONS if one in questions]
    return [row for question in chosen for row in _rows(question, found, protocol, tracked)]


def errors_of(
    truth: xr.Dataset, guess: xr.Dataset, meta: SequenceMeta, tracked: bool = True
) -> Errors:
    """The errors of one sequence, on agents that are there at the present.

    Args:
        truth: One sequence of a sequence store.
        guess: The same of a forecast store.
        meta: Of the sequence store.
        tracked: Whether the forecast's ids are those of the truth.
    """
    leads = min(meta.horizon, guess.sizes["lead"])
    state = truth["track_state"].values[:, : meta.history + leads].astype(np.float64)
    present, future = state[:, meta.history - 1], state[:, meta.history :]
    shift = np.linalg.norm(future[..., :2] - present[:, None, :2], axis=-1)
    with np.errstate(invalid="ignore"):  # comparisons with NaN, an absent agent, are False
        moving = (shift > MOVING_DISTANCE_M).any(axis=1)
    instance = truth["instance"].values[meta.history - 1 :]
    visible = np.isin(1 + np.arange(len(state)), instance[0])
    moving &= visible | meta.grid.contains(present[:, 0], present[:, 1])
    track, lead = np.nonzero(moving[:, None] & np.isfinite(shift))
    pose = _padded(guess["pose"].values, len(state))[lead, track]
    if not tracked:
        pose = np.full_like(pose, np.nan)
    error = pose[:, :2] - future[track, lead, :2]
    yaw = future[track, lead, 2]
    names = np.array(["", *meta.classes])
    group: dict[Question, NDArray[Any]] = {
        "class": names[truth["track_class"].values[track]],
        "lead": lead + 1,
        "speed": _speed_group(state, meta)[track],
        "manoeuvre": _manoeuvre(state, meta)[track],
        "seen": np.isfinite(state[:, : meta.history, 0]).sum(axis=1)[track],
        "distance": np.digitize(np.linalg.norm(present[track, :2], axis=1), DISTANCES_M[1:]),
    }
    masks = guess["instance"].values
    overlap = iou_by_id if tracked else best_iou
    iou = np.stack([overlap(instance[1 + k], masks[k], len(state)) for k in range(leads)])
    return Errors(
        group=group,
        along=error[:, 0] * np.cos(yaw) + error[:, 1] * np.sin(yaw),
        aside=error[:, 1] * np.cos(yaw) - error[:, 0] * np.sin(yaw),
        found=iou[lead, track] > FOUND_IOU,
    )


def _padded(pose: NDArray[Any], tracks: int) -> NDArray[np.float64]:
    """Poses padded with NaN to at least ``tracks`` tracks."""
    missing = max(tracks - pose.shape[1], 0)
    return np.pad(pose, ((0, 0), (0, missing), (0, 0)), constant_values=np.nan).astype(np.float64)


def _speed_group(state: NDArray[np.float64], meta: SequenceMeta) -> NDArray[np.int64]:
    """Index into ``SPEEDS_M_S`` of the speed in the last observed step, or ``UNKNOWN``."""
    if meta.history < 2:
        return np.full(len(state), UNKNOWN)
    moved = state[:, meta.history - 1, :2] - state[:, meta.history - 2, :2]
    speed = np.linalg.norm(moved, axis=-1) / meta.dt_s
    return np.where(np.isnan(speed), UNKNOWN, np.digitize(speed, SPEEDS_M_S[1:]))


def _manoeuvre(state: NDArray[np.float64], meta: SequenceMeta) -> NDArray[Any]:
    """The manoeuvre of each true track from the present to where it is last seen."""
    now = meta.history - 1
    names = []
    for one in state:
        seen = (np.flatnonzero(np.isfinite(one[now:, 0])) + now).tolist()
        if len(seen) < 2:
            names.append("gone")
            continue
        turn = float(wrap_angle(one[seen[-1], 2] - one[now, 2]))
        before = _speed(one, now - 1, now, meta.dt_s) if now else np.nan
        names.append(_name(turn, before, _speed(one, seen[-2], seen[-1], meta.dt_s)))
    return np.array(names)


def _speed(state: NDArray[np.float64], first: int, last: int, dt_s: float) -> float:
    """The mean speed of a track ``(T, 5)`` between two frames, m/s; NaN where one lacks it."""
    way = float(np.linalg.norm(state[last, :2] - state[first, :2]))
    return way / ((last - first) * dt_s)


def _name(turn: float, before: float, after: float) -> str:
    """Turning counts first, then starting and stopping, then a change of speed (m/s).

    An agent without a speed before the present (NaN) "appears".
    """
    if abs(turn) > TURNED_RAD:
        return "turns left" if turn > 0 else "turns right"
    if np.isnan(before):
        return "appears"
    if before < STANDING_M_S:
        return "starts"
    if after < STANDING_M_S:
        return "stops"
    if abs(after - before) > CHANGED_M_S:
        return "accelerates" if after > before else "brakes"
    return "keeps its speed"


def _rows(question: Question, found: list[Errors], protocol: str, tracked: bool) -> list[Row]:
    if not found:
        return []
    group = np.concatenate([errors.group[question] for errors in found])
    along = np.concatenate([errors.along for errors in found])
    aside = np.concatenate([errors.aside for errors in found])
    hit = np.concatenate([errors.found for errors in found])
    rows = []
    for member in np.unique(group):
        own = group == member
        made = own & np.isfinite(along)
        rows.append(
            Row(
                question=question,
                group=_label(question, member),
                entries=int(own.sum()),
                forecast=int(made.sum()) if tracked else None,
                along=_mean(np.abs(along[made])),
                ahead=_mean(along[made]),
                aside=_mean(np.abs(aside[made])),
                displacement=_mean(np.hypot(along[made], aside[made])),
                found=float(hit[own].mean()),
                protocol=protocol,
            )
        )
    return rows


def _mean(numbers: NDArray[np.float64]) -> float | None:
    return float(numbers.mean()) if len(numbers) else None


def _label(question: Question, member: Any) -> str:
    if question == "speed" and member == UNKNOWN:
        return "not seen just before"
    if question == "speed":
        return _range(SPEEDS_M_S, int(member), "m/s")
    if question == "distance":
        return _range(DISTANCES_M, int(member), "m")
    if question == "seen":
        return f"in {member} {'frame' if member == 1 else 'frames'}"
    return str(member)


def _range(edges: tuple[float, ...], place: int, unit: str) -> str:
    if place + 1 == len(edges):
        return f"from {edges[place]:g} {unit}"
    return f"{edges[place]:g} to {edges[place + 1]:g} {unit}"
