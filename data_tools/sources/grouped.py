"""What a column of a table says, as text, and its rows by that, found in one pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

Rows = NDArray[np.intp]
MOST_EXACT = 2**53  # of whole numbers held as floats


def as_text(column: pd.Series[Any]) -> NDArray[np.object_]:
    """What each row says, stripped: "" for nothing, whole numbers without a point.

    A value's text depends on no other value: parts of a column say what the whole says.
    """
    if column.dtype == object:  # perhaps of lists, which have no hash
        column = column.astype(str).where(column.notna())
    code, found = pd.factorize(column)
    values = pd.Series(found)
    text = np.array([str(value).strip() for value in found] or [""], object)[: len(found)]
    if types.is_float_dtype(values):  # numbers of classes: 1, not 1.0
        whole = ((values % 1 == 0) & (values.abs() < MOST_EXACT)).to_numpy(bool)
        text[whole] = values[whole].astype("int64").astype(str)
    return np.append(text, "")[code]


def grouped(names: pd.Series[Any] | NDArray[Any]) -> dict[str, Rows]:
    """The places of each name, ascending; names in the order in which they first appear."""
    code, found = pd.factorize(names)
    places = np.split(np.argsort(code, kind="stable"), np.cumsum(np.bincount(code))[:-1])
    # Of no rows at all there is one part, of no name.
    return dict(zip(map(str, found), places, strict=False))


def steps(
    groups: Mapping[str, Rows], values: NDArray[np.float64], lag: int = 1
) -> NDArray[np.float64]:
    """From the row ``lag`` rows before it in its group to each row; NaN where there is none.

    Args:
        groups: The places of each group, which are together all rows.
        values: ``(n, ...)`` a number, or more, for each row.
        lag: So many rows of the group before.

    Returns:
        ``(n, ...)`` differences.
    """
    order = np.concatenate(list(groups.values()))
    group = np.repeat(np.arange(len(groups)), [len(rows) for rows in groups.values()])
    same = group[lag:] == group[:-lag]
    later, earlier = order[lag:][same], order[:-lag][same]
    step = np.full(values.shape, np.nan)
    with np.errstate(over="ignore"):
        step[later] = values[later] - values[earlier]
    return step
