"""How scores are called where people read them."""

from __future__ import annotations

_NAMES = {"iou": "IoU"}
_METRES = frozenset({"ade", "fde", "ade_moving", "fde_moving"})
LOWER_IS_BETTER = _METRES


def label_of(score: str) -> str:
    """A score's name: that of ``vpq_moving`` is "VPQ moving"."""
    quality, _, which = score.partition("_")
    return _NAMES.get(score) or f"{_NAMES.get(quality, quality.upper())} {which}".strip()


def unit_of(score: str) -> str:
    """What follows a score's number."""
    return " m" if score in _METRES else ""
