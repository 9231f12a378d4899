"""Rows of a table by what a column of it says, found in one pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Rows = NDArray[np.intp]


def grouped(names: pd.Series[Any] | NDArray[Any]) -> dict[str, Rows]:
    """The places of each name, ascending; names in the order in which they first appear."""
    code, found = pd.factorize(names)
    places = np.split(np.argsort(code, kind="stable"), np.cumsum(np.bincount(code))[:-1])
    # Of no rows at all there is one part, of no name.
    return dict(zip(map(str, found), places, strict=False))


class KeptGroups:
    """The groups of the last table asked for, so that a table of many scenes is read through once.

    Kept are the places alone, eight bytes a row.
    """

    def __init__(self) -> None:
        self._last: tuple[pd.DataFrame, dict[str, Rows]] | None = None

    def of(
        self, table: pd.DataFrame, names: Callable[[pd.DataFrame], pd.Series[str]]
    ) -> dict[str, Rows]:
        """The places of each name in a table.

        Args:
            table: Must not be changed afterwards; the same object has the same groups.
            names: Gives the name of each of its rows.
        """
        if self._last is None or self._last[0] is not table:
            self._last = table, grouped(names(table))
        return self._last[1]
