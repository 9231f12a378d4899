"""Settings that had other names in earlier versions, so that an old one is told its new name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_RASTER = "model.raster (none, detection or always)"
# By the old name, N standing for the number of a stage.
RENAMED = {
    "model.memory": _RASTER,
    "model.dim": "model.hidden_dim",
    "model.hidden": "model.scene_dim",
    "model.birth": "model.birth_threshold",
    "model.stay": "model.track_threshold",
    "model.interact": "model.query_interaction",
    "model.update_position": "model.update_query_pos",
    "curriculum.N.memory": _RASTER,
    "model.history": "model.trail (a model reads histories of any length)",
    "curriculum.N.interval": "curriculum.N.frame_stride",
    "augmentation.position_noise_m": "corruption.position_m",
    "augmentation.heading_noise_rad": "corruption.heading_rad",
    "augmentation.drop_past": "corruption.late",
}


def renamed(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Old and new name of every setting that goes by its old one."""
    stages = settings.get("curriculum")
    sections = [(name, name, settings.get(name)) for name in ("model", "augmentation")]
    if isinstance(stages, list):
        sections += [(f"curriculum.{n}", "curriculum.N", stage) for n, stage in enumerate(stages)]
    for name, known_as, values in sections:
        for key in values if isinstance(values, dict) else ():
            if new := RENAMED.get(f"{known_as}.{key}"):
                yield f"{name}.{key}", new.replace(known_as, name)
