"""From the middle of a box's front, which some tables give, to its centre."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd

from data_tools.classes import TYPICAL_SIZE_M, class_of
from data_tools.sources.presets import Preset


def to_centres(table: pd.DataFrame, preset: Preset, notes: Counter[str]) -> None:
    """Moves positions to the centres of boxes, where a preset says that they are elsewhere.

    Args:
        table: One scene's, with headings in ``yaw_rad`` (of the whole track) and ``yaw_then`` (of
            what was known at each row). ``x_m`` and ``y_m`` are moved half a length back along the
            first; ``x_then`` and ``y_then``, added, along the second.
        preset: Of the table.
        notes: Counts tracks of unknown length, which stay where they are.
    """
    table["x_then"], table["y_then"] = table["x_m"], table["y_m"]
    if preset.position != "front":
        return
    back = _half_lengths(table, notes)
    table["x_then"] -= back * np.cos(table["yaw_then"])
    table["y_then"] -= back * np.sin(table["yaw_then"])
    table["x_m"] -= back * np.cos(table["yaw_rad"])
    table["y_m"] -= back * np.sin(table["yaw_rad"])


def _half_lengths(table: pd.DataFrame, notes: Counter[str]) -> pd.Series[float]:
    """Half the length of each row's agent: of its track, else usual for what it is called."""
    usual = {name: _usual_length(name) for name in table["class"].unique()}
    length = table.groupby("track_id", sort=False)["length_m"].transform("median")
    length = length.fillna(table["class"].map(usual).astype(float))
    unknown = table.loc[length.isna(), "track_id"].nunique()
    notes["tracks of unknown length, their front taken for their centre"] += unknown
    return length.fillna(0.0) / 2


def _usual_length(name: str) -> float:
    kinds = (name.lower(), class_of("tracks", name))
    return next((TYPICAL_SIZE_M[kind][0] for kind in kinds if kind in TYPICAL_SIZE_M), np.nan)
