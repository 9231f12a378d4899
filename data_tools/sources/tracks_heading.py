"""Headings that a table lacks, from motion, from the velocities in it, or from the lanes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from data_tools.classes import class_of
from data_tools.heading import FEET, WHEELS, Gait, Sightings, headings_of, noise_levels
from data_tools.labels.map_index import MapIndex
from data_tools.scene import FARTHEST_M, MapElement
from data_tools.sources.grouped import grouped
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
    table: pd.DataFrame, elements: tuple[MapElement, ...], notes: Counter[str]
) -> tuple[Array, Array]:
    """The heading in each row of a scene's table: that given, else the best that is known.

    Args:
        table: As :func:`data_tools.sources.tracks_table.scene_table` gives it.
        elements: The map, perhaps with lanes.
        notes: Counts how many tracks have a heading from where.

    Returns:
        ``(n,)`` radians, from the whole of each track, and ``(n,)`` from nothing later than the row
        itself, as a stack knows them.
    """
    given = table["yaw_rad"].to_numpy(float)
    if not np.isnan(given).any():
        return given, given
    near = (table[["x_m", "y_m"]].abs() < FARTHEST_M).all(axis=1).to_numpy(bool)
    if not near.all():  # boxes that are nowhere are left out later
        whole, causal = np.zeros((2, len(table)))
        whole[near], causal[near] = table_headings(table[near], elements, notes)
        return whole, causal
    roads = MapIndex.of(elements)
    noise, columns = _noise(table), columns_of(table)
    tracks = [
        (rows, {name: values[rows] for name, values in columns.items()})
        for rows in grouped(columns["track_id"]).values()
        if np.isnan(given[rows]).any()
    ]
    gaits = [_gait(track["class"]) for _, track in tracks]
    seen = [_sightings(track, noise[rows]) for rows, track in tracks]
    whole, causal = given.copy(), given.copy()
    found_of = headings_of(seen, gaits)
    for (rows, track), gait, (then, after) in zip(tracks, gaits, found_of, strict=True):
        standing = _lane_heading(track, roads) if gait is WHEELS else np.nan
        notes["tracks with yaw from their motion"] += 1
        if np.isnan(after).all():
            source = "heading 0" if np.isnan(standing) else "that of their lane"
            notes[f"tracks that never move and have no yaw, {source}"] += 1
        for target, found in ((whole, after), (causal, then)):
            found = np.where(np.isnan(found), np.nan_to_num(standing), found)
            target[rows] = np.where(np.isnan(given[rows]), found, given[rows])
    return whole, causal


def columns_of(table: pd.DataFrame) -> dict[str, NDArray[Any]]:
    """The columns as arrays, which are many times faster than a table to take a few rows of."""
    return {
        str(name): column.to_numpy(object if types.is_string_dtype(column) else None)
        for name, column in table.items()
    }


def most_frequent(kind: NDArray[Any]) -> tuple[str, int]:
    """The most frequent of some labels, of as frequent ones the first, and how many there are."""
    if (kind == kind[0]).all():
        return str(kind[0]), 1
    counts = pd.Series(kind).value_counts()
    return str(counts.index[0]), len(counts)


def refuse_other_units(table: pd.DataFrame, path: str) -> None:
    """Refuses speeds that the positions contradict.

    Raises:
        DataError: They are in another unit, or velocities in another frame.
    """
    if table[["speed_mps", *VELOCITY]].isna().to_numpy().all():
        return
    by_track = table.groupby("track_id", sort=False)
    step_s = float(by_track["time_s"].diff().median())
    lag = round(min(max(1.0, SPEED_OVER_S / step_s), len(table))) if step_s > 0 else 1
    since_s = by_track["time_s"].diff(lag).clip(lower=1e-3).to_numpy(float)
    moved = by_track[["x_m", "y_m"]].diff(lag).to_numpy(float) / since_s[:, None]
    moved[~(np.abs(moved) < FARTHEST_M)] = np.nan
    real = np.hypot(moved[:, 0], moved[:, 1])
    velocity = table[VELOCITY].to_numpy(float)
    said = {"speed_mps": table["speed_mps"].to_numpy(float)}
    said["vx_mps, vy_mps"] = np.hypot(velocity[:, 0], velocity[:, 1])
    where = f"in scene {table['scene'].iloc[0]!r} of {path}"
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


def _gait(label: NDArray[Any]) -> Gait:
    usual = label[0] if (label == label[0]).all() else pd.Series(label).mode().iloc[0]
    return WHEELS if class_of("tracks", str(usual)) in ("vehicle", "cyclist") else FEET


def _noise(table: pd.DataFrame) -> Array:
    """The noise level at each row, from the scene until then."""
    number = table["track_id"].factorize()[0]
    order = np.argsort(number, kind="stable")
    noise = np.empty(len(table))
    noise[order] = noise_levels(
        table["time_s"].to_numpy(float)[order],
        number[order],
        table[["x_m", "y_m"]].to_numpy(float)[order],
    )
    return noise


def _sightings(track: dict[str, NDArray[Any]], noise_m: Array) -> Sightings:
    velocity = np.column_stack([track[name] for name in VELOCITY])
    return Sightings(
        time_s=track["time_s"],
        position=np.column_stack([track["x_m"], track["y_m"]]),
        noise_m=noise_m,
        yaw=track["yaw_rad"],
        velocity=np.where(np.isfinite(velocity).all(axis=1, keepdims=True), velocity, np.nan),
        speed=np.abs(track["speed_mps"]),
    )


def _lane_heading(track: dict[str, NDArray[Any]], roads: MapIndex) -> float:
    """The way that the lane leads where an agent is first seen; NaN where none is near."""
    x, y = track["x_m"][0], track["y_m"][0]
    reach = LANE_M + 0.1
    lanes = roads.lane_points(np.array([x - reach, y - reach, x + reach, y + reach]))
    away = np.hypot(lanes[:, 0] - x, lanes[:, 1] - y)
    return float(lanes[away.argmin(), 2]) if away.min(initial=np.inf) <= LANE_M else np.nan
