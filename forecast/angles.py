"""Angles in radians, in NumPy; those of torch are in :mod:`forecast.model.scene.se2`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def wrap_angle(angle_rad: NDArray[Any]) -> NDArray[Any]:
    """The same angles in [-pi, pi), of whatever shape."""
    wrapped: NDArray[Any] = (angle_rad + np.pi) % (2 * np.pi) - np.pi
    return wrapped
