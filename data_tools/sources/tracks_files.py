"""The files of a table of tracks: the columns that a preset names, as they stand there."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from data_tools.formats import levelx, sumo_fcd
from data_tools.passing import is_memory
from data_tools.sources.presets import OWN, Preset
from forecast.errors import DataError, reason_of
from forecast.storage.files import filesystem, version_of

MOST_NAMED = 12  # of the columns that were found, in an error
SEPARATORS = {",": ",", ";": ";", "tab": "\t", "space": r"\s+"}
NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", r"\s+": "white space"}
FILES = "files"  # attribute of a table: path, first row and number of rows of each of its files


def load(path: str, preset: Preset = OWN) -> pd.DataFrame:
    """A whole table in its own columns and units, those that its preset names; the last is kept.

    CSV is text throughout, so that what is no number can be quoted as it stands in the file. Rows
    of further files of the recording follow those of the first; :func:`row_of` says which is where.

    Raises:
        DataError: A file cannot be read, lacks a column or has no rows, or two share an id.
    """
    with refusing_damage(path):
        paths = [path, *beside(path, preset)]
        read = (*paths, *_further(path, preset))
        versions = tuple(version_of(one, "a CSV or Parquet table") for one in read)
        return _load(tuple(paths), versions, preset)


def chunks(path: str, preset: Preset, rows: int) -> Iterator[pd.DataFrame]:
    """A table's columns as :func:`load` has them, so many rows at a time, or fewer.

    Raises:
        DataError: A column is missing.
        Exception: The file is damaged; whatever pandas and what it reads with raise.
    """
    if _is_parquet(path):
        system, inner = filesystem(path)
        with pq.ParquetFile(inner, filesystem=system) as table:
            found, wanted = table.schema_arrow.names, preset.columns.named()
            named = [name for name in found if _spelled(name, preset) in wanted]
            # Over all row groups at once the reader would keep what it has read.
            for group in range(table.num_row_groups):
                for batch in table.iter_batches(rows, row_groups=[group], columns=named):
                    yield _wanted(_in_pandas(batch), path, preset)
    else:
        with pd.read_csv(path, **_csv_options(path, preset), chunksize=rows) as reader:
            for part in reader:
                yield _wanted(part, path, preset)


@contextmanager
def refusing_damage(path: str) -> Iterator[None]:
    """Turns whatever reading a table raises into an error of ours, but for too little memory.

    Raises:
        DataError: Something was raised.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # damage makes pandas and what it reads with raise whatever there is
        if is_memory(error):
            raise
        raise DataError(
            "a CSV or Parquet table", f"{path} ({reason_of(error)})", "check the file"
        ) from error


def row_of(table: pd.DataFrame, index: int, path: str) -> str:
    """Where a row of a table is, its rows counted from 1 after the header."""
    for place, first, rows in table.attrs.get(FILES, ()):
        if index < rows:
            return f"row {first + index + 1} of {place}"
        index -= rows
    return f"row {index + 1} of {path}"


def beside(path: str, preset: Preset) -> list[str]:
    """The further files of a recording that are there."""
    folder, name = posixpath.split(path)
    found = []
    for part, other in preset.beside.items():
        if part in name:
            further = posixpath.join(folder, name.replace(part, other, 1))
            found += [further] if further != path and _is_file(further) else []
    return found


def _further(path: str, preset: Preset) -> list[str]:
    """What else a layout reads for the rows of a table."""
    match preset.layout:
        case "levelx":
            places = levelx.tables_beside(path)
        case "sumo-fcd":
            places = sumo_fcd.definitions_beside(path)
        case "table":
            places = []
    return [place for place in places if _is_file(place)]


def _is_file(path: str) -> bool:
    system, inner = filesystem(path)
    return bool(system.isfile(inner))


@lru_cache(maxsize=1)
def _load(paths: tuple[str, ...], _versions: tuple[str, ...], preset: Preset) -> pd.DataFrame:
    """Reads a recording's files; ``_versions`` makes a changed one another."""
    tables = [_checked(path, preset) for path in paths]
    if len(tables) == 1:
        whole = tables[0]
    else:
        _refuse_shared_ids(paths, tables, preset.columns.track_id.column)
        whole = pd.concat(tables, ignore_index=True)
    whole.attrs[FILES] = tuple(
        (path, 0, len(table)) for path, table in zip(paths, tables, strict=True)
    )
    return whole


def _checked(path: str, preset: Preset) -> pd.DataFrame:
    """One file's columns, of those that are named, all that must be there among them."""
    table = _wanted(_read(path, preset), path, preset)
    if table.empty:
        raise DataError("rows", f"none in {path}", "leave it out")
    return table


def _wanted(table: pd.DataFrame, path: str, preset: Preset) -> pd.DataFrame:
    """The columns of a file that are named, as the preset spells them."""
    wanted = preset.columns.named()
    found = [_spelled(name, preset) for name in table.columns]
    required = [name for name, must in wanted.items() if must]
    if twice := [name for name in wanted if found.count(name) > 1]:
        spelled = [name for name in table.columns if _spelled(name, preset) == twice[0]]
        raise DataError(
            f"one column {twice[0]} in {path}", ", ".join(map(repr, spelled)), "rename the others"
        )
    missing = [name for name in required if name not in found]
    if missing:
        raise DataError(
            f"the columns {', '.join(required)}",
            f"no {', '.join(missing)} in {path}, but {', '.join(map(repr, found[:MOST_NAMED]))}",
            "add them or rename yours" if preset == OWN else "take another --preset",
        )
    table.columns = pd.Index(found)
    return table[[name for name in found if name in wanted]].reset_index(drop=True)


def _spelled(name: str, preset: Preset) -> str:
    """A column's name as the preset spells it."""
    if not preset.any_case:
        return name
    return next((own for own in preset.columns.named() if own.lower() == name.lower()), name)


def _read(path: str, preset: Preset) -> pd.DataFrame:
    match preset.layout:
        case "levelx":
            return levelx.read_table(path)
        case "sumo-fcd":
            return sumo_fcd.read_table(path)
        case "table" if _is_parquet(path):
            system, inner = filesystem(path)
            return _in_pandas(pq.read_table(inner, filesystem=system))
        case "table":
            table: pd.DataFrame = pd.read_csv(path, **_csv_options(path, preset))
            return table


def _in_pandas(table: pa.Table | pa.RecordBatch) -> pd.DataFrame:
    """With whole numbers as such where some are missing: as floats, large ids would be rounded."""
    whole = {kind(): of() for kind, of in ((pa.int64, pd.Int64Dtype), (pa.uint64, pd.UInt64Dtype))}
    frame: pd.DataFrame = table.to_pandas(types_mapper=whole.get)
    return frame


def _is_parquet(path: str) -> bool:
    return path.endswith((".parquet", ".pq"))


def _csv_options(path: str, preset: Preset) -> dict[str, Any]:
    """How pandas reads a CSV table; every column: only then it tells of rows that are too long."""
    separator = SEPARATORS[preset.delimiter]
    if preset.header is None:
        found = list(pd.read_csv(path, sep=separator, nrows=0).columns)
        _refuse_other_separators(found, separator, path)
    else:
        found = list(preset.header)
    _refuse_other_lengths(found, separator, preset.header is None, path)
    return {
        "sep": separator,
        "header": 0 if preset.header is None else None,
        "names": found,
        "dtype": str,
        "keep_default_na": False,
        "na_values": [""],
    }


def _refuse_other_lengths(header: list[str], separator: str, in_file: bool, path: str) -> None:
    """Refuses rows that pandas would read some places off: those longer than the header."""
    with suppress(pd.errors.EmptyDataError):  # a table without rows
        row = pd.read_csv(
            path, sep=separator, header=None, skiprows=int(in_file), nrows=1, dtype=str
        )
        fields = row.shape[1]
        if in_file and fields > len(header):
            raise DataError(
                f"rows of {len(header)} fields, as many as the header of {path} has",
                f"{fields} in the first row",
                "remove the comma at the end of rows, or name the column",
            )
        if not in_file and fields != len(header):
            raise DataError(
                f"rows of {len(header)} fields between {NAMES[separator]}, {', '.join(header)}",
                f"{fields} in the first row of {path}",
                "take another --preset, or correct its header",
            )


def _refuse_other_separators(header: list[str], wanted: str, path: str) -> None:
    """Refuses tables whose whole header is one column, as spreadsheets of many countries write."""
    for separator in (",", ";", "\t", "|"):
        if len(header) == 1 and separator in header[0] and separator != wanted:
            raise DataError(
                f"a table separated by {NAMES[wanted]}",
                f"one separated by {NAMES[separator]} at {path}",
                "write it with commas, and points in decimal numbers"
                if wanted == ","
                else "write it so, or correct the preset's delimiter",
            )


def _refuse_shared_ids(paths: tuple[str, ...], tables: list[pd.DataFrame], column: str) -> None:
    """Refuses an id that two files of a recording have: its agents would become one."""
    owner: dict[str, str] = {}
    for path, table in zip(paths, tables, strict=True):
        for name in table[column].dropna().astype(str).unique():
            if name in owner:
                raise DataError(
                    f"ids of their own in {path}",
                    f"{column} {name!r}, which {owner[name]} has too",
                    "rename those of one file",
                )
            owner[name] = path
