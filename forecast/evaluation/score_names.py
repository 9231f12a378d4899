"""How scores are called where people read them, and which are better when they are lower."""

from __future__ import annotations

_NAMES = {
    "iou": "IoU",
    "soft_iou": "soft IoU",
    "brier": "Brier score",
    "brier_occupied": "Brier per occupied cell",
    "brier_skill": "Brier skill",
    "log_loss_occupied": "log loss per occupied cell",
    "calibration_error": "calibration error",
    "flow_epe": "flow EPE",
    "flow_auc": "flow-grounded AUC",
    "flow_soft_iou": "flow-grounded soft IoU",
    "min_ade": "minADE",
    "min_fde": "minFDE",
    "brier_min_fde": "Brier-minFDE",
    "miss_rate": "miss rate",
    "miss_rate_2_m": "miss rate at 2 m",
    "found": "found",
    "energy": "energy score",
    "displacement": "displacement",
    "energy_ratio": "energy / displacement",
    "collisions": "collisions",
    "true_collisions": "collisions in truth",
    "mask_distance": "distance of masks",
}
_OF_REALIZATIONS = frozenset({"min_ade", "min_fde", "brier_min_fde", "energy", "displacement"})
_METRES = frozenset({"ade", "fde", "flow_epe"}) | _OF_REALIZATIONS
_ENDINGS = ("moving", "joint")
_LOWER = _METRES | {
    "brier",
    "brier_occupied",
    "log_loss_occupied",
    "calibration_error",
    "miss_rate",
    "miss_rate_2_m",
    "energy_ratio",
    "collisions",
    "true_collisions",
    "mask_distance",
}
TOO_SMALL_TO_SHOW = frozenset({"brier"})
"""Means over all cells, of which nearly all are empty: three digits say nothing."""


def label_of(score: str) -> str:
    """A score's name: that of ``vpq_moving`` is "VPQ moving"."""
    plain, endings = _taken_apart(score)
    return " ".join([_NAMES.get(plain, plain.upper()), *endings])


def unit_of(score: str) -> str:
    """What follows a score's number."""
    return " m" if _taken_apart(score)[0] in _METRES else ""


def lower_is_better(score: str) -> bool:
    """Whether a forecast is better if it has less of this score."""
    return _taken_apart(score)[0] in _LOWER


def _taken_apart(score: str) -> tuple[str, list[str]]:
    """A score and whom it is of: ``vpq_moving`` is ``vpq`` and "moving"."""
    plain, _, last = score.rpartition("_")
    if last not in _ENDINGS:
        return score, []
    name, endings = _taken_apart(plain)
    return name, [*endings, last]
