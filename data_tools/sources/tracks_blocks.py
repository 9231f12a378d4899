"""A large table of tracks in blocks of whole scenes, so that memory does not grow with its rows.

A first pass finds where scenes are. A second one reads the block of whatever scene is asked for and
goes on from there, as scenes are read in the order of the table. A table whose scenes' rows do not
stand together has no blocks: it is read whole.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pandas as pd

from data_tools.sources.grouped import as_text
from data_tools.sources.presets import Preset
from data_tools.sources.tracks_files import FILES, beside, chunks, refusing_damage
from forecast.errors import DataError
from forecast.storage.files import filesystem, version_of

LARGE_BYTES = 2**23  # of a file; smaller ones are read whole
BLOCK_ROWS = 2**17


def blocks_of(path: str, preset: Preset) -> Mapping[str, range]:
    """The rows of the block that each scene is in, by scene; none where a table is read whole.

    Raises:
        DataError: The table is not there, cannot be read or lacks a column.
    """
    system, inner = filesystem(path)
    version = version_of(path, "a CSV or Parquet table")
    named = preset.columns.scene is not None and preset.layout == "table"
    # A folder scene=7 says what all rows of its files have.
    named = named and "=" not in posixpath.dirname(path)
    if not named or beside(path, preset) or (system.size(inner) or 0) < LARGE_BYTES:
        return {}
    return _found(path, version, preset)


def load_block(path: str, preset: Preset, rows: range) -> pd.DataFrame:
    """A block of a table in its own columns and units; the last is kept.

    Raises:
        DataError: The file cannot be read.
    """
    with refusing_damage(path):
        return _load(path, version_of(path, "a CSV or Parquet table"), preset, rows)


@lru_cache(maxsize=256)  # of a folder's tables, which are all looked through before one is read
def _found(path: str, _version: str, preset: Preset) -> Mapping[str, range]:
    with refusing_damage(path):
        return _in_blocks(_scenes(path, preset))


def _scenes(path: str, preset: Preset) -> dict[str, range]:
    """The rows of each scene; none where they do not stand together or one has no name."""
    assert preset.columns.scene is not None
    column = preset.columns.scene.column
    scenes: dict[str, range] = {}
    first = 0
    for rows in chunks(path, preset, BLOCK_ROWS):
        if column not in rows:
            return {}
        names = as_text(rows[column])
        starts = np.flatnonzero(np.append(True, names[1:] != names[:-1])).tolist()
        for start, stop in pairwise([*starts, len(names)]):
            so_far = scenes.get(names[start], range(first + start, first + start))
            if names[start] == "" or so_far.stop != first + start:
                return {}
            scenes[names[start]] = range(so_far.start, first + stop)
        first += len(names)
    return scenes


def _in_blocks(scenes: Mapping[str, range]) -> dict[str, range]:
    """The block of each scene: scenes one after another, of :data:`BLOCK_ROWS` rows or more."""
    blocks: dict[str, range] = {}
    together: list[str] = []
    for number, (name, rows) in enumerate(scenes.items(), start=1):
        together.append(name)
        block = range(scenes[together[0]].start, rows.stop)
        if len(block) >= BLOCK_ROWS or number == len(scenes):
            blocks |= dict.fromkeys(together, block)
            together = []
    return blocks


@lru_cache(maxsize=1)
def _load(path: str, version: str, preset: Preset, rows: range) -> pd.DataFrame:
    """Reads a block; ``version`` makes a changed file another."""
    if not _reading or not _reading[0].goes_on_to(path, version, preset, rows):
        _reading[:] = [_Reading(path, version, preset)]
    try:
        block = _reading[0].rows(rows)
    except Exception:
        _reading.clear()  # the next one begins anew
        raise
    block.attrs[FILES] = ((path, rows.start, len(block)),)
    return block


class _Reading:
    """A file that is read from its beginning, and what was read of it last."""

    def __init__(self, path: str, version: str, preset: Preset) -> None:
        self._of = path, version, preset
        self._chunks = chunks(path, preset, BLOCK_ROWS)
        self._held, self._first = pd.DataFrame(), 0

    def goes_on_to(self, path: str, version: str, preset: Preset, rows: range) -> bool:
        """Whether some rows are still ahead, or held."""
        return self._of == (path, version, preset) and rows.start >= self._first

    def rows(self, rows: range) -> pd.DataFrame:
        """Some rows, counted anew; those before them are forgotten."""
        held = [self._held]
        while self._first + sum(map(len, held)) < rows.stop:
            part = next(self._chunks, None)
            if part is None:
                raise DataError(
                    f"{rows.stop} rows or more in {self._of[0]}, as when it was read first",
                    f"{self._first + sum(map(len, held))}",
                    "do not change it while it is read",
                )
            held.append(part)
            while len(held) > 1 and self._first + len(held[0]) <= rows.start:
                self._first += len(held.pop(0))
        self._held = pd.concat(held, ignore_index=True).iloc[rows.start - self._first :]
        self._first = rows.start
        return self._held.iloc[: len(rows)].reset_index(drop=True)


_reading: list[_Reading] = []
