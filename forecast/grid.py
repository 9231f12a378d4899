"""The bird's-eye-view grid: where each cell of a raster lies, in metres."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecast.errors import ConfigError

SUBCELLS = 2**14
"""A box's corners are rounded to so many parts of a cell before its cells are found.

Truth and forecast have the same pose but for the last bits of float32, and many an edge lies on
cell centres (typical sizes are whole numbers of half cells): it has to be on the same side of them
in both.
"""
MOST_CELLS = 8192  # along an axis


@dataclass(frozen=True)
class BEVGrid:
    """A rectangle of square cells around the ego: x forward, y left, both ascending.

    Arrays on the grid end in ``(y, x)``; values belong to cell centres.

    Args:
        x_min_m: Rear edge, metres.
        x_max_m: Front edge, metres.
        y_min_m: Right edge, metres.
        y_max_m: Left edge, metres.
        resolution_m: Side of a cell, metres; must divide both extents.

    Raises:
        ConfigError: The edges are not ordered or the resolution does not divide the extents.
    """

    x_min_m: float
    x_max_m: float
    y_min_m: float
    y_max_m: float
    resolution_m: float

    def __post_init__(self) -> None:
        numbers = tuple(asdict(self).values())
        if not np.isfinite(numbers).all() or self.resolution_m <= 0:
            raise ConfigError(
                "finite grid edges and a positive resolution", str(numbers), "correct the grid"
            )
        for axis, low, high in (
            ("x", self.x_min_m, self.x_max_m),
            ("y", self.y_min_m, self.y_max_m),
        ):
            cells = (high - low) / self.resolution_m
            if not 0.5 <= cells <= MOST_CELLS or abs(cells - round(cells)) > 1e-6:
                raise ConfigError(
                    f"a whole positive number of cells along {axis}, {MOST_CELLS} at most",
                    f"{low}..{high} m at {self.resolution_m} m = {cells:g} cells",
                    "change the edges or the resolution",
                )

    @property
    def height(self) -> int:
        """Number of cells along y."""
        return round((self.y_max_m - self.y_min_m) / self.resolution_m)

    @property
    def width(self) -> int:
        """Number of cells along x."""
        return round((self.x_max_m - self.x_min_m) / self.resolution_m)

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)``, the last two axes of every raster."""
        return self.height, self.width

    @property
    def x_m(self) -> NDArray[np.float64]:
        """Cell centres along x, ``(width,)``, metres."""
        return self.x_min_m + (np.arange(self.width, dtype=np.float64) + 0.5) * self.resolution_m

    @property
    def y_m(self) -> NDArray[np.float64]:
        """Cell centres along y, ``(height,)``, metres."""
        return self.y_min_m + (np.arange(self.height, dtype=np.float64) + 0.5) * self.resolution_m

    def mirror(self) -> BEVGrid:
        """The same grid with left and right swapped."""
        return replace(self, y_min_m=-self.y_max_m, y_max_m=-self.y_min_m)

    def contains(self, x_m: Any, y_m: Any) -> Any:
        """Whether points lie inside the edges (arrays or tensors of any one shape)."""
        return (
            (x_m >= self.x_min_m)
            & (x_m < self.x_max_m)
            & (y_m >= self.y_min_m)
            & (y_m < self.y_max_m)
        )

    def to_attrs(self) -> dict[str, float]:
        """The grid as plain numbers, for a store's attributes."""
        return {name: float(value) for name, value in asdict(self).items()}

    @classmethod
    def from_attrs(cls, attrs: Mapping[str, Any]) -> BEVGrid:
        """The inverse of :meth:`to_attrs`.

        Raises:
            ConfigError: A key is missing, unknown or not a number.
        """
        try:
            return cls(**{name: float(value) for name, value in attrs.items()})
        except (TypeError, ValueError) as error:
            raise ConfigError(
                "a grid of x_min_m, x_max_m, y_min_m, y_max_m, resolution_m",
                repr(attrs),
                "correct the grid's keys",
            ) from error

    @classmethod
    def parse(cls, text: str) -> BEVGrid:
        """A grid by name (``bev-100m``, ``bev-30m``) or as ``x_min,x_max,y_min,y_max,resolution``.

        Raises:
            ConfigError: The text is neither.
        """
        if text in GRIDS:
            return GRIDS[text]
        try:
            numbers = [float(part) for part in text.split(",")]
        except ValueError:
            numbers = []
        if len(numbers) != 5:
            raise ConfigError(
                f"one of {', '.join(GRIDS)} or five numbers x_min,x_max,y_min,y_max,resolution",
                repr(text),
                "correct --grid",
            )
        return cls(*numbers)


GRIDS = {
    "bev-100m": BEVGrid(-50.0, 50.0, -50.0, 50.0, 0.5),
    "bev-30m": BEVGrid(-15.0, 15.0, -15.0, 15.0, 0.15),
}
