"""A user's table of tracks, CSV or Parquet: its columns, as arrays in our units, scene by scene.

A table is converted and searched for faults once, as a whole; a fault in one scene's rows costs
that scene only. Rows are counted from 1 after the header.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from data_tools.sources.grouped import Rows, as_text, grouped, steps
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
from data_tools.sources.tracks_blocks import blocks_of, load_block
from data_tools.sources.tracks_files import load, row_of
from forecast.errors import DataError

Array = NDArray[np.float64]
Table = dict[str, NDArray[Any]]

TEXT = ("track_id", "class")
NUMBERS = ("time_s", "x_m", "y_m")
PLACES = ("x_m", "y_m", "length_m", "width_m")
SPEEDS = ("speed_mps", "vx_mps", "vy_mps")
OPTIONAL_NUMBERS = ("yaw_rad", "length_m", "width_m", *SPEEDS, "score")
# Headings in radians stay below four turns; most tables in degrees exceed them.
MAX_YAW_RAD = 8 * np.pi
MAX_SPEED = 1000.0  # m/s, no agent's
LONGEST_QUOTE = 80  # characters of a value in a message
# No tracker has longer steps; times in milliseconds do.
MAX_STEP_S = 10.0
_TRUTH = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


def scene_names(path: str, preset: Preset = OWN) -> list[str]:
    """The scenes of a table, in the order in which they first appear.

    Raises:
        DataError: The table cannot be read, lacks a column, has no rows or a row without scene.
    """
    return list(blocks_of(path, preset) or _whole(path, preset).scenes)


def scene_table(path: str, scene: str | None, preset: Preset = OWN) -> Table:
    """One scene's rows in our columns and units, all of them present and of their type.

    Text columns hold str, numbers float64 (optional ones NaN where not given), ``is_ego`` bool.
    Rows keep the table's order; the times of each track ascend.

    Args:
        path: Of the table.
        scene: Its name; None where the whole table is one.
        preset: What the table's columns are called and mean.

    Returns:
        ``(n,)`` arrays by the names of our columns.

    Raises:
        DataError: A value is missing, of another kind, out of range or given twice.
    """
    whole = _whole(path, preset, scene)
    rows = np.arange(len(whole.rows)) if scene is None else whole.scenes.get(scene)
    if rows is None:
        raise DataError(f"rows of scene {scene!r}", f"none in {path}", "check the scene's name")
    for fault in whole.unreadable:
        fault.refuse(rows)
    table = {name: values[rows] for name, values in whole.columns.items()}
    table["time_s"] = _seconds(table["time_s"], preset.columns.time_s)
    if preset.any_order:
        once = pd.DataFrame(table).drop_duplicates()
        kept = once.sort_values("time_s", kind="stable").index.to_numpy()
        rows, table = rows[kept], {name: values[kept] for name, values in table.items()}
    for fault in whole.out_of_range:
        fault.refuse(rows)
    _check_ego(table, path)
    _check_velocity(whole.rows, path, preset)
    _check_times(table, whole, rows, path)
    return table


@dataclass(frozen=True)
class _Fault:
    """What is wrong with some rows of a table.

    Args:
        wrong: ``(n,)`` whether it is so in each row.
        error: What is raised for a row.
    """

    wrong: NDArray[np.bool_]
    error: Callable[[int], DataError]

    def refuse(self, rows: Rows) -> None:
        """Raises for the first of some rows that is wrong, if any.

        Raises:
            DataError: There is one.
        """
        wrong = self.wrong[rows]
        if wrong.any():
            raise self.error(int(rows[wrong.argmax()]))


class _Whole:
    """All rows of a table or block: where each scene is, columns in our units, their faults.

    Args:
        rows: As they are in the file.
        path: Of the table.
        preset: What its columns are called and mean.
    """

    def __init__(self, rows: pd.DataFrame, path: str, preset: Preset) -> None:
        self.rows, self._path, self._preset = rows, path, preset
        self.unreadable: list[_Fault] = []
        self.out_of_range: list[_Fault] = []
        said, all_rows = preset.columns, np.arange(len(rows))
        scene = self._scenes(said.scene)
        for fault in self.unreadable:  # a row of no scene is a fault of the table
            fault.refuse(all_rows)
        self.scenes = grouped(scene)
        self.columns: Table = {"scene": scene}
        for name in TEXT:
            self.columns[name] = self._texts(said.of(name))
        for name in (*NUMBERS, *OPTIONAL_NUMBERS):
            self.columns[name] = self._numbers(name, said.of(name))
        self.columns["is_ego"] = self._truths(said.is_ego)
        self._given = dict(self.columns)  # in the units of the file
        self._to_our_units(preset)
        self._check_ranges()

    def _scenes(self, said: Column | None) -> NDArray[np.object_]:
        if said is None or said.column not in self.rows.columns:
            return np.full(len(self.rows), posixpath.basename(self._path), object)
        return self._texts(said)

    def _texts(self, said: Text | Column) -> NDArray[np.object_]:
        name = said.column
        if name is None:
            return np.full(len(self.rows), getattr(said, "value", None), object)
        text = as_text(self.rows[name])
        self._note(text == "", f"a {name}", name)
        return text

    def _numbers(self, name: str, said: Any) -> Array:
        """One of our columns as numbers, in the table's own unit; NaN where it has none."""
        if said is None or said.column not in self.rows.columns:
            value = getattr(said, "value", None)
            return np.broadcast_to(np.nan if value is None else value, len(self.rows))
        column = self.rows[said.column]
        numeric = types.is_numeric_dtype(column) and not types.is_bool_dtype(column)
        # Up to pandas 2 a column of texts holds NaN, which is none, where a cell is empty.
        if not (numeric or types.is_string_dtype(column.dropna())):
            error = DataError(
                f"numbers in column {said.column}",
                f"{column.dtype} in {self._path}",
                "convert the column",
            )
            self.unreadable.append(_Fault(np.ones(len(self.rows), bool), lambda _: error))
            return np.broadcast_to(np.nan, len(self.rows))
        number: Array = pd.to_numeric(column, errors="coerce").to_numpy(float, na_value=np.nan)
        wrong = ~np.isfinite(number)
        if wrong.any() and name == "score":  # trackers write NaN for tracks that they did not see
            text = column.astype(str).str.strip().str.lower()
            wrong &= ~text.isin(["nan", ""]).to_numpy(bool)
        if wrong.any() and name in OPTIONAL_NUMBERS:
            wrong &= column.notna().to_numpy(bool)
        self._note(wrong, "a finite number", said.column)
        return number

    def _truths(self, said: Truth | None) -> NDArray[np.bool_]:
        if said is None or said.column not in self.rows.columns:
            return np.zeros(len(self.rows), bool)
        code, found = pd.factorize(self.rows[said.column])
        text = pd.Series(found).astype(str).str.strip()
        if said.equals is not None:
            return np.append(text.eq(said.equals).to_numpy(bool), False)[code]
        truth = text.str.lower().map(_TRUTH)
        unknown = np.append(truth.isna().to_numpy(bool), False)
        self._note(unknown[code], "true, false, 1 or 0", said.column)
        return np.append(truth.eq(True).to_numpy(bool), False)[code]

    def _to_our_units(self, preset: Preset) -> None:
        """Names, numbers and axes as a preset means them, in ours; times stay as they are."""
        columns, said = self.columns, preset.columns
        if preset.classes:
            ours = {theirs.lower(): name for theirs, name in preset.classes.items()}
            code, found = pd.factorize(columns["class"])
            columns["class"] = np.array([ours.get(n.lower(), n) for n in found], object)[code]
        for names, units in ((PLACES, LENGTHS_M), (SPEEDS, SPEEDS_MPS)):
            for name in names:
                one = said.of(name)
                if one is not None and units[one.unit] != 1.0:
                    columns[name] = columns[name] * units[one.unit]
        if said.yaw_rad is not None:
            columns["yaw_rad"] = _counterclockwise(columns["yaw_rad"], said.yaw_rad)
        if preset.y_down:
            for name in ("y_m", "vy_mps", "yaw_rad"):
                columns[name] = -columns[name]

    def _check_ranges(self) -> None:
        for name in ("length_m", "width_m"):
            self._note_range(self.columns[name] <= 0, "a size above 0", name)
        score = self.columns["score"]
        self._note_range((score < 0) | (score > 1), "a score from 0 to 1", "score")
        for name in SPEEDS:
            too_fast = np.abs(self.columns[name]) > MAX_SPEED
            self._note_range(too_fast, f"a speed up to {MAX_SPEED:g} m/s", name)
        said = self._preset.columns.yaw_rad
        in_degrees = said is not None and said.unit == "deg"
        expected = "within four turns" if in_degrees else "in radians (these look like degrees)"
        turned = np.abs(self.columns["yaw_rad"]) > MAX_YAW_RAD
        self._note_range(turned, f"yaw {expected}", "yaw_rad")

    def error(self, expected: str, name: str, row: int) -> DataError:
        """What is said of a row, counted from 0, whose value in one of our columns is wrong."""
        said = self._preset.columns.of(name)
        ours = type(said).model_fields
        unit = f" {said.unit}" if "unit" in ours and said.unit != ours["unit"].default else ""
        return self._error(expected, self._given[name][row], unit, said.column, row)

    def _error(self, expected: str, value: Any, unit: str, column: str, row: int) -> DataError:
        found = "nothing" if pd.isna(value) else repr(getattr(value, "item", lambda: value)())
        found = found if len(found) <= LONGEST_QUOTE else f"{found[:LONGEST_QUOTE]}..."
        where = f"in column {column}, {row_of(self.rows, row, self._path)}"
        return DataError(expected, f"{found}{unit} {where}", "correct the table")

    def _note(self, wrong: NDArray[np.bool_], expected: str, name: str) -> None:
        """Notes rows whose value in a column of the file is wrong."""
        if wrong.any():
            values = self.rows[name]
            self.unreadable.append(
                _Fault(wrong, lambda row: self._error(expected, values.iloc[row], "", name, row))
            )

    def _note_range(self, wrong: NDArray[np.bool_], expected: str, name: str) -> None:
        """Notes rows whose value in one of our columns is wrong."""
        if wrong.any():
            self.out_of_range.append(_Fault(wrong, partial(self.error, expected, name)))


_kept: list[_Whole] = []


def _whole(path: str, preset: Preset, scene: str | None = None) -> _Whole:
    """A table, or a large one's block with a scene; the last is kept, so as to be read once."""
    block = blocks_of(path, preset).get(scene) if scene is not None else None
    rows = load(path, preset) if block is None else load_block(path, preset, block)
    if not _kept or _kept[0].rows is not rows:
        _kept[:] = [_Whole(rows, path, preset)]
    return _kept[0]


def _seconds(time: Array, said: Time) -> Array:
    if said.frames_per_s is not None:
        return time / said.frames_per_s
    if said.frame_step_s is None:
        return time / TIMES_PER_S[said.unit or "s"]
    steps, times_seen = np.unique(np.diff(np.unique(time)), return_counts=True)
    usual = steps[times_seen.argmax()] if len(steps) else 1.0
    return time / usual * said.frame_step_s


def _counterclockwise(yaw: Array, said: Heading) -> Array:
    """Headings in radians, counter-clockwise from +x."""
    angle = yaw * (np.pi / 180) if said.unit == "deg" else yaw
    if said.turn == "clockwise":
        angle = -angle
    return angle + np.pi / 2 if said.zero == "y" else angle


def _check_ego(table: Table, path: str) -> None:
    egos = set(table["track_id"][table["is_ego"]])
    if len(egos) > 1:
        raise DataError(
            "one ego a scene",
            f"tracks {', '.join(sorted(egos))} of scene {table['scene'][0]!r} in {path}",
            "mark one track in is_ego",
        )


def _check_velocity(whole: pd.DataFrame, path: str, preset: Preset) -> None:
    said = {name: preset.columns.of(name) for name in ("vx_mps", "vy_mps")}
    there = [name for name, one in said.items() if one and one.column in whole.columns]
    if len(there) == 1:
        raise DataError("vx_mps and vy_mps together", f"{there[0]} alone in {path}", "add both")


def _check_times(table: Table, whole: _Whole, rows: Rows, path: str) -> None:
    """Within a track every time is later than that of the row before it, by seconds at most."""
    time_s = table["time_s"]
    step_s = steps(grouped(table["track_id"]), time_s)
    faults = {"each time of a track once": step_s == 0}
    faults["times that ascend within a track"] = step_s < 0
    for expected, wrong in faults.items():
        if wrong.any():
            raise whole.error(expected, "time_s", int(rows[wrong.argmax()]))
    known = step_s[~np.isnan(step_s)]
    usual = float(np.median(known)) if len(known) else 0.0
    if usual > MAX_STEP_S:
        raise DataError(
            f"time_s in seconds, those of a track at most {MAX_STEP_S:g} apart",
            f"{usual:g} from one to the next in scene {table['scene'][0]!r} of {path}",
            "divide time_s by 1e3 (milliseconds), 1e6 (microseconds) or 1e9 (nanoseconds)",
        )
