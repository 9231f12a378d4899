"""Observations of one moment, made of others."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from data_tools.labels.rasterise import rasterise_boxes
from forecast.grid import BEVGrid
from forecast.model.scene import se2
from forecast.types import Observation


def seen_from(frame: Observation, moved: Tensor) -> Observation:
    """An observation of tracks, given in another frame than the one before."""
    assert frame.track_state is not None
    pose = se2.between(moved[:, None], frame.track_state[..., :3])
    return replace(
        frame,
        ego_pose=se2.between(moved, frame.ego_pose),
        track_state=torch.cat((pose, frame.track_state[..., 3:]), -1),
        moved=moved,
    )


def drawn(frame: Observation, grid: BEVGrid) -> Observation:
    """One scene's observation with the raster of its boxes."""
    assert frame.track_state is not None
    assert frame.track_id is not None
    boxes, ids = frame.track_state[0].double().numpy(), frame.track_id[0].numpy()
    there = np.isfinite(boxes).all(1)
    row = np.zeros(there.sum(), np.int64)
    labels = rasterise_boxes(boxes[there], row, ids[there].astype(np.uint16), 1, grid)
    instance = torch.from_numpy(labels.astype(np.int64))
    return replace(frame, instance=instance, semantic=torch.zeros_like(instance))
