"""Maps of tables of tracks, where the preset says that there are some."""

from __future__ import annotations

import posixpath
from collections import Counter
from glob import escape

from data_tools.formats import lanelet2, levelx
from data_tools.scene import MapElement
from data_tools.sources.presets import Preset
from forecast.storage.files import filesystem


def preset_map(path: str, preset: Preset, notes: Counter[str]) -> tuple[MapElement, ...]:
    """The map of a table as its preset says; empty where there is none.

    Args:
        path: Of the table.
        preset: What it is.
        notes: Counts of what had to be left out of the map; added to.

    Raises:
        DataError: A map is there and cannot be read.
    """
    if preset.layout == "levelx":
        return levelx.read_map(path, notes)
    found = None if preset.map is None else _file(path, preset.map.files)
    if preset.map is None or found is None:
        return ()
    return lanelet2.read_map(found, lanelet2.centred(*preset.map.origin), notes)


def _file(path: str, patterns: tuple[str, ...]) -> str | None:
    """The first file that a pattern leads to from a table's folder."""
    folder, name = posixpath.split(path)
    prefix, mark, _ = path.rpartition("://")
    system, inner = filesystem(folder or ".")
    for pattern in patterns:
        base = escape(inner) if "*" in pattern else inner
        place = pattern.replace("{folder}", posixpath.basename(base))
        place = posixpath.normpath(posixpath.join(base, place))  # object stores know no ".."
        if place.split("/")[0] != base.split("/")[0]:
            continue  # in another bucket
        if "*" in pattern:
            found = [file for file in system.glob(place) if name.startswith(_stem(file))]
        else:
            found = [place] * system.isfile(place)
        if found:
            return f"{prefix}{mark}{max(found, key=len)}"
    return None


def _stem(file: str) -> str:
    return posixpath.splitext(posixpath.basename(file))[0]
