"""Steps that nothing on a road makes: where recordings were joined, or a localisation jumped."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data_tools.scene import FARTHEST_M

MAX_ACCELERATION_M_S2 = 20.0  # twice what tyres give
MAX_SPEED_M_S = 100.0
TOLERANCE_M = 3.0  # of noisy positions


def jumps(path: NDArray[np.float64], dt_s: float) -> NDArray[np.bool_]:
    """Which steps of a path neither the one before nor the one after explains.

    Args:
        path: ``(T, 2 or more)`` x, y, metres; NaN where not known.
        dt_s: Seconds between its points.

    Returns:
        ``(T - 1,)`` whether the step from each point to the next is a jump; False beside NaN.
    """
    step = np.diff(path[:, :2].clip(-FARTHEST_M, FARTHEST_M), axis=0)
    change = np.linalg.norm(np.diff(step, axis=0), axis=1)
    before, after = np.append(np.nan, change)[: len(step)], np.append(change, np.nan)[: len(step)]
    limit = MAX_ACCELERATION_M_S2 * dt_s**2 + TOLERANCE_M
    sudden = ~(before <= limit) & ~(after <= limit)  # True where there is no such neighbour
    alone = np.isnan(before) & np.isnan(after)
    way = np.linalg.norm(step, axis=1)
    far = way > np.where(alone, MAX_SPEED_M_S * dt_s + TOLERANCE_M, limit)
    return np.asarray(sudden & far)
