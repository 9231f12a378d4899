"""A user's table of tracks, CSV or Parquet: its columns, checked one scene at a time.

A fault in one scene's rows costs that scene only. Rows are counted from 1 after the header.
"""

from __future__ import annotations

import posixpath
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from data_tools.sources.grouped import KeptGroups, Rows
from data_tools.sources.presets import (
    LENGTHS_M,
    OWN,
    SPEEDS_MPS,
    TIMES_PER_S,
    Column,
    Heading,
    Preset,
    Text,
    Time,
    Truth,
)
from data_tools.sources.tracks_files import load, row_of
from forecast.errors import DataError

TEXT = ("track_id", "class")
NUMBERS = ("time_s", "x_m", "y_m")
PLACES = ("x_m", "y_m", "length_m", "width_m")
SPEEDS = ("speed_mps", "vx_mps", "vy_mps")
OPTIONAL_NUMBERS = ("yaw_rad", "length_m", "width_m", *SPEEDS, "score")
# Headings in radians stay below four turns; most tables in degrees exceed them.
MAX_YAW_RAD = 8 * np.pi
MAX_SPEED = 1000.0  # m/s, no agent's
# No tracker has longer steps; times in milliseconds do.
MAX_STEP_S = 10.0
_grouped = KeptGroups()
_TRUTH = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


def scene_names(path: str, preset: Preset = OWN) -> list[str]:
    """The scenes of a table, in the order in which they first appear.

    Raises:
        DataError: The table cannot be read, lacks a column, has no rows or a row without scene.
    """
    return list(_rows_of_scenes(load(path, preset), path, preset))


def scene_table(path: str, scene: str | None, preset: Preset = OWN) -> pd.DataFrame:
    """One scene's rows in our columns and units, all of them present and of their type.

    Text columns hold str, numbers float64 (optional ones NaN where not given), ``is_ego`` bool.
    Rows keep the table's order; the times of each track ascend.

    Args:
        path: Of the table.
        scene: Its name; None where the whole table is one.
        preset: What the table's columns are called and mean.

    Raises:
        DataError: A value is missing, of another kind, out of range or given twice.
    """
    rows = whole = load(path, preset)
    if scene is not None:
        rows = whole.iloc[_rows_of_scenes(whole, path, preset).get(scene, [])]
    if rows.empty:
        raise DataError(f"rows of scene {scene!r}", f"none in {path}", "check the scene's name")
    columns = preset.columns
    content: dict[str, Any] = {"scene": _scenes(rows, path, preset)}
    for name in TEXT:
        content[name] = _texts(rows, columns.of(name), path)
    for name in (*NUMBERS, *OPTIONAL_NUMBERS):
        content[name] = _numbers(rows, name, columns.of(name), path)
    content["is_ego"] = _truths(rows, columns.is_ego, path)
    table = _in_our_units(pd.DataFrame(content, index=rows.index), preset)
    if preset.any_order:
        table = table.drop_duplicates().sort_values("time_s", kind="stable")
    table.attrs = rows.attrs
    _check_ranges(table, path)
    _check_velocity(whole, path, preset)
    _check_times(table, path)
    return table


def _rows_of_scenes(whole: pd.DataFrame, path: str, preset: Preset) -> dict[str, Rows]:
    return _grouped.of(whole, lambda table: _scenes(table, path, preset))


def _scenes(rows: pd.DataFrame, path: str, preset: Preset) -> pd.Series[str]:
    said = preset.columns.scene
    if said is None or said.column not in rows.columns:
        return pd.Series(posixpath.basename(path), index=rows.index)
    return _texts(rows, said, path)


def _in_our_units(table: pd.DataFrame, preset: Preset) -> pd.DataFrame:
    """Names, numbers and axes as a preset means them, in ours."""
    ours = {theirs.lower(): name for theirs, name in preset.classes.items()}
    table["class"] = [ours.get(name.lower(), name) for name in table["class"]]
    table["time_s"] = _seconds(table["time_s"], preset.columns.time_s)
    for names, units in ((PLACES, LENGTHS_M), (SPEEDS, SPEEDS_MPS)):
        for name in names:
            said = preset.columns.of(name)
            table[name] *= 1.0 if said is None else units[said.unit]
    if preset.columns.yaw_rad is not None:
        table["yaw_rad"] = _counterclockwise(table["yaw_rad"], preset.columns.yaw_rad)
    if preset.y_down:
        table[["y_m", "vy_mps", "yaw_rad"]] *= -1.0
    return table


def _seconds(time: pd.Series[float], said: Time) -> pd.Series[float]:
    if said.frames_per_s is not None:
        return time / said.frames_per_s
    if said.frame_step_s is None:
        return time / TIMES_PER_S[said.unit or "s"]
    steps, times_seen = np.unique(np.diff(np.unique(time)), return_counts=True)
    usual = steps[times_seen.argmax()] if len(steps) else 1.0
    return time / usual * said.frame_step_s


def _counterclockwise(yaw: pd.Series[float], said: Heading) -> pd.Series[float]:
    """Headings in radians, counter-clockwise from +x."""
    angle = yaw * (np.pi / 180) if said.unit == "deg" else yaw
    if said.turn == "clockwise":
        angle = -angle
    return angle + np.pi / 2 if said.zero == "y" else angle


def _texts(rows: pd.DataFrame, said: Text | Column, path: str) -> pd.Series[str]:
    name = said.column
    if name is None:
        return pd.Series(getattr(said, "value", None), index=rows.index, dtype=str)
    column = rows[name]
    _refuse(column.isna(), f"a {name}", rows, name, path)
    text = column.astype(str).str.strip()
    _refuse(text == "", f"a {name}", rows, name, path)
    return text


def _numbers(rows: pd.DataFrame, name: str, said: Any, path: str) -> pd.Series[float]:
    """One of our columns as numbers, in the table's own unit; NaN where it has none."""
    if said is None or said.column not in rows.columns:
        return pd.Series(getattr(said, "value", None), index=rows.index, dtype=float)
    column = rows[said.column]
    if not (types.is_numeric_dtype(column) or types.is_string_dtype(column)):
        raise DataError(
            f"numbers in column {said.column}", f"{column.dtype} in {path}", "convert the column"
        )
    number: pd.Series[float] = pd.to_numeric(column, errors="coerce").astype(float)
    wrong = ~pd.Series(np.isfinite(number), index=rows.index)
    if name == "score":  # trackers write NaN for tracks that they did not see
        wrong &= ~column.astype(str).str.strip().str.lower().isin(["nan", ""])
    if name in OPTIONAL_NUMBERS:
        wrong &= column.notna()
    _refuse(wrong, "a finite number", rows, said.column, path)
    return number


def _truths(rows: pd.DataFrame, said: Truth | None, path: str) -> pd.Series[bool]:
    if said is None or said.column not in rows.columns:
        return pd.Series(False, index=rows.index)
    column = rows[said.column]
    text = column.astype(str).str.strip()
    if said.equals is not None:
        return text.eq(said.equals)
    truth = text.str.lower().map(_TRUTH)
    _refuse(truth.isna() & column.notna(), "true, false, 1 or 0", rows, said.column, path)
    return truth.eq(True)


def _check_ranges(table: pd.DataFrame, path: str) -> None:
    for name in ("length_m", "width_m"):
        _refuse(table[name] <= 0, "a size above 0", table, name, path)
    score = table["score"]
    _refuse((score < 0) | (score > 1), "a score from 0 to 1", table, "score", path)
    for name in SPEEDS:
        too_fast = table[name].abs() > MAX_SPEED
        _refuse(too_fast, f"a speed up to {MAX_SPEED:g} m/s", table, name, path)
    degrees = table["yaw_rad"].abs() > MAX_YAW_RAD
    _refuse(degrees, "yaw in radians (these look like degrees)", table, "yaw_rad", path)
    egos = table.loc[table["is_ego"], "track_id"].unique()
    if len(egos) > 1:
        raise DataError(
            "one ego a scene",
            f"tracks {', '.join(sorted(egos))} of scene {table['scene'].iloc[0]!r} in {path}",
            "mark one track in is_ego",
        )


def _check_velocity(whole: pd.DataFrame, path: str, preset: Preset) -> None:
    said = {name: preset.columns.of(name) for name in ("vx_mps", "vy_mps")}
    there = [name for name, one in said.items() if one and one.column in whole.columns]
    if len(there) == 1:
        raise DataError("vx_mps and vy_mps together", f"{there[0]} alone in {path}", "add both")


def _check_times(table: pd.DataFrame, path: str) -> None:
    """Within a track every time is later than that of the row before it, by seconds at most."""
    step = table.groupby("track_id", sort=False)["time_s"].diff()
    _refuse(step == 0, "each time of a track once", table, "time_s", path)
    _refuse(step < 0, "times that ascend within a track", table, "time_s", path)
    usual = float(step.median())
    if usual > MAX_STEP_S:
        raise DataError(
            f"time_s in seconds, those of a track at most {MAX_STEP_S:g} apart",
            f"{usual:g} from one to the next in scene {table['scene'].iloc[0]!r} of {path}",
            "divide time_s by 1e3 (milliseconds), 1e6 (microseconds) or 1e9 (nanoseconds)",
        )


def _refuse(
    wrong: pd.Series[bool], expected: str, rows: pd.DataFrame, name: str, path: str
) -> None:
    """Raises for the first row that is wrong, if any.

    Raises:
        DataError: There is one.
    """
    places: NDArray[np.intp] = np.flatnonzero(wrong.to_numpy(bool))
    if len(places):
        value = rows[name].iloc[places[0]]
        row = row_of(rows, cast(int, rows.index[places[0]]), path)
        found = "nothing" if pd.isna(value) else repr(getattr(value, "item", lambda: value)())
        raise DataError(expected, f"{found} in column {name}, {row}", "correct the table")
