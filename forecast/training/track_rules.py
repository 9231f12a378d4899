"""Which tracks training carries to the next history frame: selection, drops, false positives.

Source: Zeng et al., "MOTR" (2022), active tracks, random drop and insertion in QIM. There an
inserted false positive may be matched to a new agent at the next frame; here only with
``match_inserted``. Overlap is that of boxes in the bird's-eye view. The false positive to insert is
the candidate with the nearest centre, as heatmap peaks hardly ever overlap a track.
"""

from __future__ import annotations

import numpy as np
import shapely
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from forecast.config.training import TrackRules
from forecast.model.scene import se2
from forecast.model.tracking.tracks import FrameQueries

INSERTED = -1
CORNERS = ((0.5, 0.5), (-0.5, 0.5), (-0.5, -0.5), (0.5, -0.5))


def carried_on(
    queries: FrameQueries,
    truth: Int[Tensor, "b q"],
    state: Float[Tensor, "b n 5"],
    rules: TrackRules,
    generator: Generator | None,
) -> Int[Tensor, "b q"]:
    """The ids with which queries go on to the next frame.

    Args:
        queries: What was decoded.
        truth: Track id that each query is matched to; 0 = nothing.
        state: The tracks' true state at this frame (``track = id - 1``).
        rules: What to select, drop and insert.
        generator: Of drops and insertions; None = torch's own.

    Returns:
        ``truth``, but 0 where a track is given up and ``INSERTED`` where a false positive goes on.
    """
    ids = truth
    if rules.overlap > 0:
        ids = _well_placed(queries, ids, state, rules.overlap)
    if rules.drop > 0:
        ids = torch.where(_toss(ids, rules.drop, generator), 0, ids)
    if rules.insert > 0:
        ids = _with_false_positives(queries, truth, ids, _toss(ids, rules.insert, generator))
    return ids


def box_iou(first: Float[Tensor, "n 5"], second: Float[Tensor, "n 5"]) -> Float[Tensor, "n"]:
    """Intersection over union of pairs of turned boxes (x, y, yaw, length, width)."""
    one, other = _polygons(first), _polygons(second)
    both = shapely.area(shapely.intersection(one, other))
    either = shapely.area(one) + shapely.area(other) - both
    iou = np.divide(both, either, out=np.zeros_like(both), where=either > 0)
    return torch.as_tensor(iou, dtype=first.dtype, device=first.device)


def _polygons(boxes: Tensor) -> np.ndarray:
    corners = boxes.new_tensor(CORNERS) * boxes[:, None, 3:]
    polygons: np.ndarray = shapely.polygons(
        se2.apply(boxes[:, None, :3], corners).double().cpu().numpy()
    )
    return polygons


def _toss(ids: Tensor, probability: float, generator: Generator | None) -> Tensor:
    # The generator is the CPU's, so that a run draws the same on every device.
    return torch.rand(ids.shape, generator=generator).to(ids.device) < probability


@torch.no_grad()
def _well_placed(queries: FrameQueries, ids: Tensor, state: Tensor, least: float) -> Tensor:
    sample, query = (ids > 0).nonzero(as_tuple=True)
    box = torch.cat((queries.pose, queries.size), -1)[sample, query].float()
    bad = box_iou(box, state[sample, ids[sample, query] - 1].float()) <= least
    ids = ids.clone()
    ids[sample[bad], query[bad]] = 0
    return ids


@torch.no_grad()
def _with_false_positives(
    queries: FrameQueries, truth: Tensor, ids: Tensor, drawn: Tensor
) -> Tensor:
    """Adds, for every drawn track, the nearest candidate that is matched to nothing."""
    false = queries.live & (truth == 0)
    false[:, queries.candidates :] = False  # an inserted track that went on is no candidate
    gap = torch.cdist(queries.pose[..., :2].float(), queries.pose[..., :2].float())
    gap = gap.masked_fill(~false[:, None], torch.inf)
    nearest = gap.argmin(-1)
    chosen = torch.zeros_like(false)
    sample, query = (drawn & (ids > 0) & false.any(1, keepdim=True)).nonzero(as_tuple=True)
    chosen[sample, nearest[sample, query]] = True
    return torch.where(chosen, INSERTED, ids)
