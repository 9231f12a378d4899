"""Rotations in space, as recordings give them, down to headings in the plane."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from forecast.errors import DataError

Array = NDArray[np.float64]


def rotations(wxyz: Array, where: str) -> Rotation:
    """Rotations of quaternions.

    Args:
        wxyz: ``(n, 4)`` quaternions, scalar first, of whatever length above zero.
        where: Their origin, for the error.

    Raises:
        DataError: One is not finite or has no length.
    """
    with np.errstate(over="ignore"):  # too long to be squared: refused below
        length = np.linalg.norm(wxyz, axis=-1)
    bad = ~(np.isfinite(length) & (length > 1e-6))
    if bad.any():
        row = int(bad.argmax())
        raise DataError(
            "a quaternion that is a rotation",
            f"{wxyz[row]} in row {row + 1} of {where}",
            "check it",
        )
    return Rotation.from_quat(wxyz[:, [1, 2, 3, 0]])


def headings(rotation: Rotation) -> Array:
    """Yaw of rotated x axes seen from above, ``(n,)`` radians in [-pi, pi]."""
    forward = rotation.apply([1.0, 0.0, 0.0])
    return np.arctan2(forward[..., 1], forward[..., 0])
