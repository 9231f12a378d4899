"""Headings that a table lacks, from motion, from the velocities in it, or from the lanes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_tools.heading import FEET, WHEELS, Gait, Sightings, headings_of, noise_levels
from data_tools.labels.map_index import MapIndex
from data_tools.scene import FARTHEST_M, MapElement
from data_tools.sources.grouped import Rows, grouped, steps
from data_tools.sources.tracks_table import Table
from forecast.errors import DataError

Array = NDArray[np.float64]

LANE_M = 3.0  # who stands no further from a lane faces its way
VELOCITY = ["vx_mps", "vy_mps"]
# Speeds of positions are measured over so long, and compared where they are above so much.
SPEED_OVER_S, LEAST_SPEED = 0.5, 2.0
LEAST_ROWS = 10
# Kilometres an hour, miles an hour and knots are 3.6, 2.2 and 1.9 times metres a second.
SPEED_RATIOS = (0.6, 1.6)
MAX_TURNED = np.pi / 4


def table_headings(
    table: Table,
    agents: Mapping[str, Rows],
    elements: tuple[MapElement, ...],
    kind_of: Callable[[str], str],
    notes: Counter[str],
) -> tuple[Array, Array]:
    """The heading in each row of a scene's table: that given, else the best that is known.

    Args:
        table: As :func:`data_tools.sources.tracks_table.scene_table` gives it.
        agents: The rows of each agent, which are together all.
        elements: The map, perhaps with lanes.
        kind_of: The class of a label, which says who has wheels.
        notes: Counts how many tracks have a heading from where.

    Returns:
        ``(n,)`` radians, from the whole of each track, and ``(n,)`` from nothing later than the row
        itself, as a stack knows them.
    """
    given = table["yaw_rad"]
    if not np.isnan(given).any():
        return given, given
    near = (np.abs(table["x_m"]) < FARTHEST_M) & (np.abs(table["y_m"]) < FARTHEST_M)
    if not near.all():  # boxes that are nowhere are left out later
        whole, causal = np.zeros((2, len(given)))
        part = {name: values[near] for name, values in table.items()}
        of_part = table_headings(part, grouped(part["track_id"]), elements, kind_of, notes)
        whole[near], causal[near] = of_part
        return whole, causal
    rows_of = [rows for rows in agents.values() if np.isnan(given[rows]).any()]
    gaits = [_gait(table["class"][rows], kind_of) for rows in rows_of]
    seen = _sightings(table, _noise(table, agents), rows_of)
    first = np.array([one.position[0] for one in seen])
    lanes = _lane_headings(first, MapIndex.of(elements))
    whole, causal, standing = given.copy(), given.copy(), np.zeros(len(given))
    for rows, gait, lane, (then, after) in zip(
        rows_of, gaits, lanes, headings_of(seen, gaits), strict=True
    ):
        has_lane = gait is WHEELS and not np.isnan(lane)
        notes["tracks with yaw from their motion"] += 1
        if np.isnan(after).all():
            source = "that of their lane" if has_lane else "heading 0"
            notes[f"tracks that never move and have no yaw, {source}"] += 1
        whole[rows], causal[rows], standing[rows] = after, then, lane if has_lane else 0.0
    for found in (whole, causal):
        np.copyto(found, standing, where=np.isnan(found))
        np.copyto(found, given, where=~np.isnan(given))
    return whole, causal


def most_frequent(kind: NDArray[Any]) -> tuple[str, int]:
    """The most frequent of some labels, of as frequent ones the first, and how many there are."""
    if (kind == kind[0]).all():
        return str(kind[0]), 1
    counts = pd.Series(kind).value_counts()
    return str(counts.index[0]), len(counts)


def refuse_other_units(table: Table, agents: Mapping[str, Rows], path: str) -> None:
    """Refuses speeds that the positions contradict.

    Args:
        table: As :func:`data_tools.sources.tracks_table.scene_table` gives it.
        agents: The rows of each agent, which are together all.
        path: Of the table.

    Raises:
        DataError: They are in another unit, or velocities in another frame.
    """
    velocity = np.column_stack([table[name] for name in VELOCITY])
    if np.isnan(table["speed_mps"]).all() and np.isnan(velocity).all():
        return
    step_s = steps(agents, table["time_s"])
    usual_s = float(np.median(step_s[~np.isnan(step_s)])) if len(step_s) > len(agents) else 0.0
    lag = round(min(max(1.0, SPEED_OVER_S / usual_s), len(step_s))) if usual_s > 0 else 1
    since_s = steps(agents, table["time_s"], lag).clip(min=1e-3)
    position = np.column_stack([table["x_m"], table["y_m"]])
    with np.errstate(over="ignore"):  # a place beyond the earth in a little while
        moved = steps(agents, position, lag) / since_s[:, None]
    moved[~(np.abs(moved) < FARTHEST_M)] = np.nan
    real = np.hypot(moved[:, 0], moved[:, 1])
    said = {"speed_mps": table["speed_mps"]}
    said["vx_mps, vy_mps"] = np.hypot(velocity[:, 0], velocity[:, 1])
    where = f"in scene {table['scene'][0]!r} of {path}"
    for name, speed in said.items():
        known = (real > LEAST_SPEED) & np.isfinite(speed)
        if known.sum() < LEAST_ROWS:
            continue
        ratio = float(np.median(np.abs(speed[known]) / real[known]))
        if not SPEED_RATIOS[0] <= ratio <= SPEED_RATIOS[1]:
            raise DataError(
                f"{name} in metres a second",
                f"{ratio:.2g} times the speeds of x_m and y_m {where}",
                "convert the column (km/h: divide by 3.6), or leave it out",
            )
    both = (real > LEAST_SPEED) & (said["vx_mps, vy_mps"] > LEAST_SPEED)
    if both.sum() >= LEAST_ROWS:
        angle = np.arctan2(*_turned(velocity[both], moved[both]))
        if np.median(np.abs(angle)) > MAX_TURNED:
            raise DataError(
                "vx_mps and vy_mps in the frame of x_m and y_m",
                f"{np.degrees(np.median(np.abs(angle))):.0f} degrees from the motion {where}",
                "turn them into that frame, or leave them out",
            )


def _turned(one: Array, other: Array) -> tuple[Array, Array]:
    """Cross and dot products of vectors ``(n, 2)``."""
    cross = one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0]
    return cross, (one * other).sum(axis=1)


def _gait(label: NDArray[Any], kind_of: Callable[[str], str]) -> Gait:
    usual = label[0] if (label == label[0]).all() else pd.Series(label).mode().iloc[0]
    return WHEELS if kind_of(str(usual)) in ("vehicle", "cyclist") else FEET


def _noise(table: Table, agents: Mapping[str, Rows]) -> Array:
    """The noise level at each row, from the scene until then."""
    order = np.concatenate(list(agents.values()))
    number = np.repeat(np.arange(len(agents)), [len(rows) for rows in agents.values()])
    position = np.column_stack([table["x_m"], table["y_m"]])
    noise = np.empty(len(order))
    noise[order] = noise_levels(table["time_s"][order], number, position[order])
    return noise


def _sightings(table: Table, noise_m: Array, rows_of: Iterable[Rows]) -> list[Sightings]:
    """The sightings of agents with these rows."""
    velocity = np.column_stack([table[name] for name in VELOCITY])
    velocity[~np.isfinite(velocity).all(axis=1)] = np.nan
    every = Sightings(
        time_s=table["time_s"],
        position=np.column_stack([table["x_m"], table["y_m"]]),
        noise_m=noise_m,
        yaw=table["yaw_rad"],
        velocity=velocity,
        speed=np.abs(table["speed_mps"]),
    )
    columns = vars(every).items()
    return [Sightings(**{name: values[rows] for name, values in columns}) for rows in rows_of]


def _lane_headings(place: Array, roads: MapIndex) -> Array:
    """The way that the nearest lane leads at places ``(n, 2)``; NaN where none is near."""
    heading = np.full(len(place), np.nan)
    reach = LANE_M + 0.1
    areas = np.concatenate([place - reach, place + reach], axis=1)
    for number, lanes in enumerate(roads.lane_points_of(areas)):
        away = np.hypot(lanes[:, 0] - place[number, 0], lanes[:, 1] - place[number, 1])
        if away.min(initial=np.inf) <= LANE_M:
            heading[number] = lanes[away.argmin(), 2]
    return heading
