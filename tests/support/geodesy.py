"""A UTM projection by another way than the product's: Gauss-Krueger's series as USGS prints them.

J. P. Snyder, Map Projections - A Working Manual (1987), equations 8-9 to 8-15 and 3-21: in powers
of the longitude, where the product has Krueger's in the third flattening. Good to a millimetre near
the central meridian.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def utm_48_north(longitude: Any, latitude: Any) -> np.ndarray:
    """Easting and northing, metres, of degrees; of several at once, ``(2, n)``."""
    a, e2, k0 = 6378137.0, 0.0066943799901413165, 0.9996
    phi = np.radians(latitude)
    second = e2 / (1 - e2)
    n = a / np.sqrt(1 - e2 * np.sin(phi) ** 2)
    t, c = np.tan(phi) ** 2, second * np.cos(phi) ** 2
    way = np.cos(phi) * np.radians(longitude - 105.0)
    m = a * (
        (1 - e2 / 4 - 3 * e2**2 / 64 - 5 * e2**3 / 256) * phi
        - (3 * e2 / 8 + 3 * e2**2 / 32 + 45 * e2**3 / 1024) * np.sin(2 * phi)
        + (15 * e2**2 / 256 + 45 * e2**3 / 1024) * np.sin(4 * phi)
        - 35 * e2**3 / 3072 * np.sin(6 * phi)
    )
    east = way + (1 - t + c) * way**3 / 6
    east += (5 - 18 * t + t**2 + 72 * c - 58 * second) * way**5 / 120
    north = way**2 / 2 + (5 - t + 9 * c + 4 * c**2) * way**4 / 24
    north += (61 - 58 * t + t**2 + 600 * c - 330 * second) * way**6 / 720
    return np.array([500_000 + k0 * n * east, k0 * (m + n * np.tan(phi) * north)])
