"""A user's table of tracks, CSV or Parquet: its columns, checked one scene at a time.

A fault in one scene's rows costs that scene only. Rows are counted from 1 after the header.
"""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from data_tools.sources.grouped import KeptGroups, Rows
from forecast.errors import DataError, reason_of
from forecast.storage.files import filesystem

MOST_NAMED = 12  # of the columns that were found, in an error

SUFFIXES = (".csv", ".csv.gz", ".parquet")
TEXT = ("scene", "track_id", "class")
NUMBERS = ("time_s", "x_m", "y_m")
OPTIONAL_NUMBERS = (
    *("yaw_rad", "length_m", "width_m"),
    *("speed_mps", "vx_mps", "vy_mps", "score"),
)
REQUIRED = (*TEXT, *NUMBERS)
COLUMNS = (*REQUIRED, *OPTIONAL_NUMBERS, "is_ego")
# Headings in radians stay below four turns; most tables in degrees exceed them.
MAX_YAW_RAD = 8 * np.pi
MAX_SPEED = 1000.0  # m/s, no agent's
# No tracker has longer steps; times in milliseconds do.
MAX_STEP_S = 10.0
_scenes = KeptGroups()
_TRUTH = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


def scene_names(path: str) -> list[str]:
    """The scenes of a table, in the order in which they first appear.

    Raises:
        DataError: The table cannot be read, lacks a column, has no rows or a row without scene.
    """
    return list(_rows_of_scenes(load(path), path))


def scene_table(path: str, scene: str) -> pd.DataFrame:
    """One scene's rows, every column of :data:`COLUMNS` present and of its type.

    Text columns hold str, numbers float64 (optional ones NaN where not given), ``is_ego`` bool.
    Rows keep the table's order; the times of each track ascend.

    Raises:
        DataError: A value is missing, of another kind, out of range or given twice.
    """
    whole = load(path)
    rows = whole.iloc[_rows_of_scenes(whole, path).get(scene, [])]
    if rows.empty:
        raise DataError(f"rows of scene {scene!r}", f"none in {path}", "check the scene's name")
    content: dict[str, Any] = {name: _texts(rows, name, path) for name in TEXT}
    for name in (*NUMBERS, *OPTIONAL_NUMBERS):
        content[name] = _numbers(rows, name, path)
    content["is_ego"] = _truths(rows, path)
    table = pd.DataFrame(content, index=rows.index)
    _check_ranges(table, path)
    _check_velocity(whole, path)
    _check_times(table, path)
    return table


def _rows_of_scenes(whole: pd.DataFrame, path: str) -> dict[str, Rows]:
    return _scenes.of(whole, lambda table: _texts(table, "scene", path))


def load(path: str) -> pd.DataFrame:
    """A whole table as it is, with at least the required columns; the last one read is kept.

    Raises:
        DataError: It cannot be read, lacks a column or has no rows.
    """
    system, inner = filesystem(path)
    try:
        return _load(path, system.ukey(inner))
    except DataError:
        raise
    except Exception as error:  # damage makes pandas and what it reads with raise whatever there is
        raise DataError(
            "a CSV or Parquet table", f"{path} ({reason_of(error)})", "check the file"
        ) from error


@lru_cache(maxsize=1)
def _load(path: str, _version: str) -> pd.DataFrame:
    """Reads a table; ``_version`` makes a changed file a new one."""
    if path.endswith((".parquet", ".pq")):
        table = pd.read_parquet(path)
        found = list(table.columns)
        table = table[[name for name in table.columns if name in COLUMNS]]
    else:
        found = list(pd.read_csv(path, nrows=0).columns)
        _refuse_other_separators(found, path)
        _refuse_longer_rows(found, path)
        # As text first: what is no number is then quoted as it stands in the file.
        table = pd.read_csv(
            path, dtype=str, keep_default_na=False, na_values=[""], usecols=COLUMNS.__contains__
        )
    missing = [name for name in REQUIRED if name not in table.columns]
    if missing:
        raise DataError(
            f"the columns {', '.join(REQUIRED)}",
            f"no {', '.join(missing)} in {path}, but {', '.join(map(repr, found[:MOST_NAMED]))}",
            "add them or rename yours",
        )
    if table.empty:
        raise DataError("rows", f"none in {path}", "leave it out")
    return table.reset_index(drop=True)


def _refuse_longer_rows(header: list[str], path: str) -> None:
    """Refuses rows that end in a comma: pandas would read all columns one place off."""
    with suppress(pd.errors.EmptyDataError):  # a table without rows
        fields = pd.read_csv(path, header=None, skiprows=1, nrows=1, dtype=str).shape[1]
        if fields > len(header):
            raise DataError(
                f"rows of {len(header)} fields, as many as the header of {path} has",
                f"{fields} in the first row",
                "remove the comma at the end of rows, or name the column",
            )


def _refuse_other_separators(header: list[str], path: str) -> None:
    """Refuses tables whose whole header is one column, as spreadsheets of many countries write."""
    for separator, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if len(header) == 1 and separator in header[0]:
            raise DataError(
                "a table separated by commas",
                f"one separated by {name} at {path}",
                "write it with commas, and points in decimal numbers",
            )


def _texts(rows: pd.DataFrame, name: str, path: str) -> pd.Series[str]:
    column = rows[name]
    _refuse(column.isna(), f"a {name}", rows, name, path)
    text = column.astype(str).str.strip()
    _refuse(text == "", f"a {name}", rows, name, path)
    return text


def _numbers(rows: pd.DataFrame, name: str, path: str) -> pd.Series[float]:
    if name not in rows.columns:
        return pd.Series(np.nan, index=rows.index)
    column = rows[name]
    if not (types.is_numeric_dtype(column) or types.is_string_dtype(column)):
        raise DataError(
            f"numbers in column {name}", f"{column.dtype} in {path}", "convert the column"
        )
    number = pd.to_numeric(column, errors="coerce").astype(float)
    wrong = ~pd.Series(np.isfinite(number), index=rows.index)
    if name == "score":  # trackers write NaN for tracks that they did not see
        wrong &= ~column.astype(str).str.strip().str.lower().isin(["nan", ""])
    if name in OPTIONAL_NUMBERS:
        wrong &= column.notna()
    _refuse(wrong, "a finite number", rows, name, path)
    return number


def _truths(rows: pd.DataFrame, path: str) -> pd.Series[bool]:
    if "is_ego" not in rows.columns:
        return pd.Series(False, index=rows.index)
    column = rows["is_ego"]
    truth = column.astype(str).str.strip().str.lower().map(_TRUTH)
    _refuse(truth.isna() & column.notna(), "true, false, 1 or 0", rows, "is_ego", path)
    return truth.eq(True)


def _check_ranges(table: pd.DataFrame, path: str) -> None:
    for name in ("length_m", "width_m"):
        _refuse(table[name] <= 0, "a size above 0", table, name, path)
    score = table["score"]
    _refuse((score < 0) | (score > 1), "a score from 0 to 1", table, "score", path)
    for name in ("speed_mps", "vx_mps", "vy_mps"):
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


def _check_velocity(whole: pd.DataFrame, path: str) -> None:
    there = [name for name in ("vx_mps", "vy_mps") if name in whole.columns]
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
        row = cast(int, rows.index[places[0]]) + 1
        found = "nothing" if pd.isna(value) else repr(getattr(value, "item", lambda: value)())
        raise DataError(
            expected, f"{found} in column {name}, row {row} of {path}", "correct the table"
        )
