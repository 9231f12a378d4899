"""The drone recordings of highD, inD, rounD, exiD and uniD, three tables each.

``NN_tracks.csv`` has the positions, ``NN_tracksMeta.csv`` the classes and ``NN_recordingMeta.csv``
the frame rate. Two layouts are published. In inD, rounD, exiD and uniD a row has the centre of the
box in metres, y upward, from an origin given in UTM, and the heading in degrees, counter-clockwise;
people and two-wheelers have a size of 0. In highD it has the upper left corner of the box in an
image, y downward, ``width`` along x, and no heading: cars drive along x, to the left on the upper
lanes. Both become the first.
"""

from __future__ import annotations

import posixpath
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from glob import escape
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_tools.formats import lanelet2
from data_tools.formats.lanelet2 import Projection
from data_tools.scene import MapElement
from data_tools.utm import zone_at
from forecast.errors import DataError, reason_of
from forecast.storage.files import filesystem, opened

Array = NDArray[np.float64]

ENDING = "_tracks.csv"
COLUMNS = (
    *("trackId", "frame", "xCenter", "yCenter", "heading"),
    *("width", "length", "xVelocity", "yVelocity"),
)
HIGHD_COLUMNS = ("id", "frame", "x", "y", "width", "height", "xVelocity", "yVelocity")
LEFTWARD = 1.0  # highD's drivingDirection; 2 is to the right
MAX_RATE = 1000.0  # frames a second
SLOW_MPS = 1.0  # below it a velocity is no heading
# Recordings of inD's location 1 while it was being rebuilt have a map of their own.
REBUILT = {1: range(11, 18)}


def read_table(path: str) -> pd.DataFrame:
    """Reads a recording.

    Args:
        path: Of its ``NN_tracks.csv``; the two other tables must lie beside it.

    Returns:
        Columns ``time`` (seconds, of frame 0), ``class``, and :data:`COLUMNS` but for the frame;
        sizes are NaN where they are published as 0.

    Raises:
        DataError: One of the tables is missing or not as published.
    """
    rate = _recording(path, "frameRate")
    if not 0 < rate <= MAX_RATE:
        found = f"{rate:g} in {beside(path, 'recordingMeta')}"
        raise DataError(f"a frameRate above 0, up to {MAX_RATE:g} a second", found, "correct it")
    is_highd = "xCenter" not in _header(path)
    table = _highd(path) if is_highd else _numbers(path, COLUMNS)
    table[["width", "length"]] = table[["width", "length"]].replace(0.0, np.nan)
    table["time"] = table.pop("frame") / rate
    meta = beside(path, "tracksMeta")
    key = "id" if is_highd else "trackId"
    kinds = dict(zip(_numbers(meta, (key,))[key], _text(meta, ("class",))["class"], strict=True))
    table["class"] = table["trackId"].map(kinds)
    lost = table["trackId"][table["class"].isna()]
    if len(lost):
        found = f"none of track {lost.iloc[0]:g} in {meta}"
        raise DataError("a class of every track", found, "restore it")
    table["trackId"] = [f"{name:.0f}" for name in table["trackId"]]
    return table


def beside(path: str, name: str) -> str:
    """The path of another table of a recording."""
    return f"{path.removesuffix(ENDING)}_{name}.csv"


def tables_beside(path: str) -> list[str]:
    """The paths of the two other tables of a recording."""
    return [beside(path, name) for name in ("tracksMeta", "recordingMeta")]


def _highd(path: str) -> pd.DataFrame:
    """A table of highD in the layout of the others."""
    rows = _numbers(path, HIGHD_COLUMNS)
    meta = _numbers(beside(path, "tracksMeta"), ("id", "drivingDirection"))
    direction = rows["id"].map(dict(zip(meta["id"], meta["drivingDirection"], strict=True)))
    moves = np.hypot(rows["xVelocity"], rows["yVelocity"]) > SLOW_MPS
    along = np.degrees(np.arctan2(-rows["yVelocity"], rows["xVelocity"]))
    return pd.DataFrame(
        {
            "trackId": rows["id"],
            "frame": rows["frame"],
            "xCenter": rows["x"] + rows["width"] / 2,
            "yCenter": -(rows["y"] + rows["height"] / 2),
            "heading": np.where(moves, along, np.where(direction == LEFTWARD, 180.0, 0.0)),
            "width": rows["height"],
            "length": rows["width"],
            "xVelocity": rows["xVelocity"],
            "yVelocity": -rows["yVelocity"],
        }
    )


def read_map(path: str, notes: Counter[str]) -> tuple[MapElement, ...]:
    """The map of a recording: highD's from its lane markings, else Lanelet2; empty without one.

    Lanelet2 maps are looked for where the data sets have them, in ``lanelets`` or ``lanelet2`` of
    ``maps`` beside the folder of the tables, as ``location3.osm`` or ``3_NAME.osm`` for location 3.

    Args:
        path: Of its ``NN_tracks.csv``.
        notes: Counts of what had to be left out; added to.

    Raises:
        DataError: The map, or the table that says which it is, is not as published.
    """
    if "xCenter" not in _header(path):
        return tuple(_markings(path))
    found = _lanelet2_path(path)
    if found is None:
        return ()
    longitude = _recording(path, "lonLocation")
    epsg = zone_at(_recording(path, "latLocation"), longitude)
    origin_m = (_recording(path, "xUtmOrigin"), _recording(path, "yUtmOrigin"))
    return lanelet2.read_map(found, Projection(epsg, origin_m), notes)


def _lanelet2_path(path: str) -> str | None:
    location = int(_recording(path, "locationId"))
    number = int(_recording(path, "recordingId"))
    names = [f"location{location}.osm", f"{location}_*.osm", f"{location:02d}_*.osm"]
    if number in REBUILT.get(location, ()):
        names.insert(0, f"location{location}_construction.osm")
    system, inner = filesystem(path)
    above = posixpath.dirname(posixpath.dirname(inner))
    for name in names if above else ():  # nothing is above a bucket
        for folder in ("lanelets", "lanelet2"):
            found = sorted(system.glob(f"{escape(above)}/maps/{folder}/**/{name}"))
            if found:
                prefix, mark, _ = path.rpartition("://")
                return f"{prefix}{mark}{found[0]}"
    return None


def _markings(path: str) -> Iterator[MapElement]:
    """Lanes between highD's markings, which are straight lines along x."""
    rows = _numbers(path, ("x", "width"))
    ends = np.array([rows["x"].min(), (rows["x"] + rows["width"]).max()])
    meta = beside(path, "recordingMeta")
    for name, way in (("upperLaneMarkings", ends[::-1]), ("lowerLaneMarkings", ends)):
        across = -np.sort(_places(str(_text(meta, (name,)).iloc[0, 0]), f"{name} of {meta}"))
        sides = [np.column_stack([way, np.full(2, y)]) for y in across]
        for left, right in pairwise(sides):
            yield MapElement("lane_centre", (left + right) / 2)
        yield MapElement("drivable", np.concatenate([sides[0], sides[-1][::-1]]), closed=True)
        yield MapElement("road_edge", sides[0])
        yield MapElement("road_edge", sides[-1])


def _places(text: str, where: str) -> Array:
    """Two numbers or more between semicolons."""
    try:
        places = np.array([float(part) for part in text.split(";")])
    except ValueError:
        places = np.full(2, np.nan)
    if len(places) < 2 or not np.isfinite(places).all():
        found = f"{text[:50]!r} in {where}"
        raise DataError("two or more numbers between semicolons", found, "correct it")
    return places


def _recording(path: str, column: str) -> float:
    return float(_numbers(beside(path, "recordingMeta"), (column,))[column].iloc[0])


def _header(path: str) -> list[str]:
    """The names of a table's columns."""
    return list(_read(path, nrows=0).columns)


def _numbers(path: str, columns: Sequence[str]) -> pd.DataFrame:
    """Columns of a table, each value a finite number.

    Raises:
        DataError: The table cannot be read, has no rows, or a column or value is missing.
    """
    _refuse_missing(path, columns)
    try:
        table = _read(path, dtype=defaultdict(lambda: str, dict.fromkeys(columns, float)))
    except DataError:  # as text, what is no number is known by its row
        table = _text(path, columns).apply(pd.to_numeric, errors="coerce").astype(float)
    wrong = ~np.isfinite(table[list(columns)].to_numpy())
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        found = str(_text(path, columns).fillna("nothing").iloc[row, column])[:50]
        raise DataError(
            "a finite number",
            f"{found!r} in column {columns[column]}, row {row + 1} of {path}",
            "correct the table",
        )
    _refuse_empty(table, path)
    return table[list(columns)]


def _text(path: str, columns: Sequence[str]) -> pd.DataFrame:
    """Columns of a table as they stand there; what is empty is missing."""
    _refuse_missing(path, columns)
    table = _read(path, dtype=str, keep_default_na=False, na_values=[""])
    _refuse_empty(table, path)
    return table[list(columns)]


def _refuse_empty(table: pd.DataFrame, path: str) -> None:
    if table.empty:
        raise DataError("rows", f"none in {path}", "leave it out")


def _refuse_missing(path: str, columns: Sequence[str]) -> None:
    header = _header(path)
    missing = [name for name in columns if name not in header]
    if missing:
        raise DataError(
            f"the columns {', '.join(columns)}",
            f"no {', '.join(missing)} in {path}",
            "restore it, or take another --preset",
        )


def _read(path: str, **options: Any) -> pd.DataFrame:
    """A table with all its columns: only so does pandas tell of rows that are too long."""
    try:
        with opened(path) as file, warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table: pd.DataFrame = pd.read_csv(file, index_col=False, **options)
            return table
    except DataError:
        raise
    except Exception as error:  # damage makes pandas raise whatever there is
        wanted = f"a {posixpath.basename(path)} as published"
        raise DataError(wanted, f"{path} ({reason_of(error)})", "restore it") from error
