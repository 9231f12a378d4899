"""Realizations for a forecast store that has none, made of the errors that a forecaster makes."""

from __future__ import annotations

import numpy as np
import zarr

from forecast.storage.consolidation import consolidate


def add_realizations(path: str, count: int, seed: int = 0) -> str:
    """Adds ``realization_pose`` to a forecast store: its poses, off by more at each lead.

    Each agent goes faster or slower and bears left or right, by amounts of its own in each
    realization.

    Args:
        path: The forecast store.
        count: How many realizations.
        seed: Of the random numbers.

    Returns:
        The path.
    """
    group = zarr.open_group(path, mode="r+", use_consolidated=False)
    pose = np.asarray(group["pose"])[:, None]
    sequences, _, leads, tracks, _ = pose.shape
    share = np.arange(1, leads + 1)[:, None] / leads
    random = np.random.default_rng(seed)
    shape = sequences, count, 1, tracks
    ahead, aside = random.normal(0, 3.0, shape) * share, random.normal(0, 1.5, shape) * share**2
    yaw = pose[..., 2]
    x = pose[..., 0] + ahead * np.cos(yaw) - aside * np.sin(yaw)
    y = pose[..., 1] + ahead * np.sin(yaw) + aside * np.cos(yaw)
    group.create_array(
        "realization_pose",
        data=np.stack([x, y, yaw + 0.1 * aside], axis=-1).astype(np.float32),
        dimension_names=("sequence", "realization", "lead", "track", "pose"),
    )
    consolidate(path)
    return path
