"""Areas of a map as rings without holes, and their common outline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import shapely
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Corners are given to the centimetre: a narrower gap between two areas is no edge.
SEAM_M = 0.05


def rings(polygon: shapely.Geometry) -> Iterator[Array]:
    """A polygon, mended and cut through its holes, because a map element is one ring.

    Args:
        polygon: A polygon, or what mending made of one; parts of other kinds are left out.

    Yields:
        ``(n, 2)`` closed rings that cover it.
    """
    for part in shapely.get_parts(shapely.make_valid(polygon)):
        if not isinstance(part, shapely.Polygon):
            yield from rings(part) if hasattr(part, "geoms") else ()
        elif not part.interiors:
            yield np.asarray(part.exterior.coords)[:, :2]
        else:
            low_x, low_y, high_x, high_y = part.bounds
            cut = part.interiors[0].centroid.x
            for side in ((low_x, cut), (cut, high_x)):
                yield from rings(part.intersection(shapely.box(side[0], low_y, side[1], high_y)))


def outline(areas: Sequence[shapely.Geometry]) -> list[Array]:
    """The edges of areas that are not inside or beside another, ``(n, 2)`` each, closed."""
    grown = shapely.union_all(
        shapely.buffer(shapely.make_valid(list(areas)), SEAM_M, join_style="mitre")
    )
    whole = shapely.buffer(grown, -SEAM_M, join_style="mitre")
    return [shapely.get_coordinates(ring) for ring in shapely.get_rings(shapely.get_parts(whole))]
