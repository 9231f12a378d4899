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
}
_METRES = frozenset({"ade", "fde", "ade_moving", "fde_moving"})
LOWER_IS_BETTER = _METRES | {"brier", "brier_occupied", "log_loss_occupied", "calibration_error"}
TOO_SMALL_TO_SHOW = frozenset({"brier"})
"""Means over all cells, of which nearly all are empty: three digits say nothing."""


def label_of(score: str) -> str:
    """A score's name: that of ``vpq_moving`` is "VPQ moving"."""
    quality, _, which = score.partition("_")
    return _NAMES.get(score) or f"{_NAMES.get(quality, quality.upper())} {which}".strip()


def unit_of(score: str) -> str:
    """What follows a score's number."""
    return " m" if score in _METRES else ""
