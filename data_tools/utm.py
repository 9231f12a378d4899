"""Longitude and latitude in the plane of a UTM zone, on the WGS 84 ellipsoid.

The series are those of Krueger in the third flattening, to the fourth order: within 6 degrees of
the central meridian they are exact to less than a micrometre.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SEMI_MAJOR_M, FLATTENING = 6378137.0, 1 / 298.257223563
SCALE = 0.9996
FALSE_EASTING_M, FALSE_NORTHING_M = 500_000.0, 10_000_000.0
NORTH, SOUTH = 32600, 32700  # EPSG numbers, before that of the zone
MAX_LATITUDE, MAX_AWAY = 84.0, 20.0  # degrees, from the equator and from the central meridian
_N = FLATTENING / (2 - FLATTENING)
_RADIUS_M = SEMI_MAJOR_M / (1 + _N) * (1 + _N**2 / 4 + _N**4 / 64)
_ALPHA = (
    _N / 2 - 2 * _N**2 / 3 + 5 * _N**3 / 16 + 41 * _N**4 / 180,
    13 * _N**2 / 48 - 3 * _N**3 / 5 + 557 * _N**4 / 1440,
    61 * _N**3 / 240 - 103 * _N**4 / 140,
    49561 * _N**4 / 161280,
)


def is_zone(epsg: int) -> bool:
    """Whether an EPSG number is that of a UTM zone on WGS 84."""
    return 1 <= epsg - NORTH <= 60 or 1 <= epsg - SOUTH <= 60


def zone_at(latitude: float, longitude: float) -> int:
    """The EPSG number of the zone that a place is in, of the first where it is none."""
    number = int((longitude + 180) % 360 // 6) + 1 if np.isfinite(longitude) else 1
    return (NORTH if latitude >= 0 else SOUTH) + number


def to_utm(degrees: Array, epsg: int) -> Array:
    """Easting and northing.

    Args:
        degrees: ``(n, 2)`` longitude and latitude.
        epsg: Number of the zone; see :func:`is_zone`.

    Returns:
        ``(n, 2)`` metres.

    Raises:
        ValueError: A place is not finite, or too far from the zone.
    """
    south = epsg > SOUTH
    meridian = 6 * (epsg - (SOUTH if south else NORTH)) - 183
    with np.errstate(invalid="ignore"):  # of what is not finite, refused below
        away = (degrees[:, 0] - meridian + 180) % 360 - 180
        near = (np.abs(away) <= MAX_AWAY) & (np.abs(degrees[:, 1]) <= MAX_LATITUDE)
    if not near.all():
        place = degrees[int(near.argmin())]
        raise ValueError(f"{place[0]:g}, {place[1]:g} is no longitude and latitude near the zone")
    along, latitude = np.radians(away), np.radians(degrees[:, 1])
    root = 2 * np.sqrt(_N) / (1 + _N)
    sine = np.sin(latitude)
    conformal = np.sinh(np.arctanh(sine) - root * np.arctanh(root * sine))
    xi = np.arctan2(conformal, np.cos(along))
    eta = np.arctanh(np.sin(along) / np.hypot(1, conformal))
    north, east = xi.copy(), eta.copy()
    for order, alpha in enumerate(_ALPHA, start=1):
        north += alpha * np.sin(2 * order * xi) * np.cosh(2 * order * eta)
        east += alpha * np.cos(2 * order * xi) * np.sinh(2 * order * eta)
    origin = np.array([FALSE_EASTING_M, FALSE_NORTHING_M if south else 0.0])
    return np.asarray(origin + SCALE * _RADIUS_M * np.stack([east, north], axis=-1))
