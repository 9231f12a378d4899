"""Checkpoints of older versions, in the words of this one: the only place that knows the old ones.

What they call a setting or a part of the network is renamed as they are read; nothing else changes,
and their files stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

SETTINGS = {
    "dim": "hidden_dim",
    "hidden": "scene_dim",
    "birth": "birth_threshold",
    "stay": "track_threshold",
    "interact": "query_interaction",
    "update_position": "update_query_pos",
}
# Pattern of an old name, and what takes its place; every rule is tried, in this order.
PARTS = (
    (r"^encode\.", "raster_encoder."),
    (r"^raster_encoder\.project\.", "raster_encoder.input_proj."),
    (r"^seed\.", "agent_encoder."),
    (r"^kinematics\.", "query_pos_encoder."),
    (r"^crop\.", "map_crop."),
    (r"^motion\.", "motion_head."),
    (r"^motion_head\.spread\.", "motion_head.footprint_scale."),
    (r"^sight\.", "visibility_head."),
    (r"^mask\.", "mask_head."),
    (r"^carry\.", "track_encoder."),
    (r"^tracker\.heat\.", "tracker.heatmap_head."),
    (r"^tracker\.detect$", "tracker.detect_query"),
    (r"^tracker\.look\.", "tracker.pixel_encoder."),
    (r"^tracker\.position\.", "tracker.query_pos_encoder."),
    (r"^tracker\.classify\.", "tracker.class_head."),
    (r"^tracker\.box\.", "tracker.box_head."),
    (r"^(tracker\.)?interact\.", r"\1query_interaction."),
    (r"(decoder\.layers\.\d+)\.memory\.", r"\1.cross_attention."),
    (r"(decoder\.layers\.\d+)\.norm_memory\.", r"\1.norm_features."),
    (r"(query_interaction)\.(ffn|norm)_content\.", r"\1.\2_query."),
    (r"(query_interaction)\.(ffn|norm)_position\.", r"\1.\2_query_pos."),
)


def converted_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON of a checkpoint with the settings of its network under their present names."""
    model = {SETTINGS.get(name, name): value for name, value in metadata["model"].items()}
    read = bool(metadata["reads_memory"])
    encoder = bool(model.pop("memory", True))
    model["raster"] = ("always" if read else "detection") if encoder else "none"
    return {**metadata, "model": model}


def converted_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the present names of the parts that they belong to."""
    return {_renamed(name): value for name, value in weights.items()}


def _renamed(name: str) -> str:
    for pattern, present in PARTS:
        name = re.sub(pattern, present, name)
    return name
