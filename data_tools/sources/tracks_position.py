"""From the middle of a box's front, which some tables give, to its centre."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data_tools.classes import TYPICAL_SIZE_M, class_of
from data_tools.sources.presets import Preset
from data_tools.sources.tracks_table import Table

MapClasses = Sequence[tuple[str, str]]


def to_centres(table: Table, preset: Preset, map_classes: MapClasses, notes: Counter[str]) -> None:
    """Moves positions to the centres of boxes, where a preset says that they are elsewhere.

    Args:
        table: One scene's, with headings in ``yaw_rad`` (of the whole track) and ``yaw_then`` (of
            what was known at each row). ``x_m`` and ``y_m`` are moved half a length back along the
            first; ``x_then`` and ``y_then``, added, along the second.
        preset: Of the table.
        map_classes: The user's own pairs of label and class.
        notes: Counts tracks of unknown length, which stay where they are.
    """
    table["x_then"], table["y_then"] = table["x_m"], table["y_m"]
    if preset.position != "front":
        return
    back = _half_lengths(table, map_classes, notes)
    for seen, yaw in (("then", table["yaw_then"]), ("m", table["yaw_rad"])):
        table[f"x_{seen}"] = table[f"x_{seen}"] - back * np.cos(yaw)
        table[f"y_{seen}"] = table[f"y_{seen}"] - back * np.sin(yaw)


def _half_lengths(
    table: Table, map_classes: MapClasses, notes: Counter[str]
) -> NDArray[np.float64]:
    """Half the length of each row's agent: of its track, else usual for what it is called."""
    usual = {name: _usual_length(name, map_classes) for name in set(table["class"])}
    rows = pd.DataFrame({name: table[name] for name in ("track_id", "class", "length_m")})
    length = rows.groupby("track_id", sort=False)["length_m"].transform("median")
    length = length.fillna(rows["class"].map(usual).astype(float))
    unknown = rows.loc[length.isna(), "track_id"].nunique()
    notes["tracks of unknown length, their front taken for their centre"] += unknown
    return length.fillna(0.0).to_numpy() / 2


def _usual_length(name: str, map_classes: MapClasses) -> float:
    kinds = (name.lower(), class_of("tracks", name, map_classes))
    return next((TYPICAL_SIZE_M[kind][0] for kind in kinds if kind in TYPICAL_SIZE_M), np.nan)
