"""Checkpoints of older versions, in the words of this one: the only place that knows the old ones.

What they call a setting or a part of the network is renamed as they are read; nothing else changes,
and their files stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional

from forecast.model.visibility import HIDDEN

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


STEPS_LEARNED = 6  # of checkpoints that do not say how many
FRAMES_READ = 3  # likewise
QUERY_POS = "query_pos_encoder.0.weight"
ALL_LANES = {"lane_spacing_m": 0.0}
# Uncertain agents were drawn larger by this part, which is no more: see decision 10.
GONE = "motion_head.footprint_scale."
WITH_OBSERVER = "bev-forecaster/5"  # and the names of today
SETTINGS_OF_TODAY = "bev-forecaster/6"
VISIBILITY = "visibility_head.judge.0.weight"


def converted_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON of a checkpoint with the settings of its network under their present names.

    Raises:
        ValueError: It cannot be converted.
    """
    if metadata["schema"] == SETTINGS_OF_TODAY:
        return dict(metadata)
    if metadata["schema"] == WITH_OBSERVER:
        if metadata["model"]["learned_gain"]:
            raise ValueError("gains learned before motions were averaged mean something else")
        return {**metadata, "model": {**metadata["model"], **ALL_LANES}}
    model = {SETTINGS.get(name, name): value for name, value in metadata["model"].items()}
    if "reads_memory" in metadata:
        read, encoder = bool(metadata["reads_memory"]), bool(model.pop("memory", True))
        model["raster"] = ("always" if read else "detection") if encoder else "none"
    # A trail of as many frames as were read, in motions per frame.
    dt_s = float(metadata["dt_s"])
    model["trail"], model["time_unit_s"] = model.pop("history", FRAMES_READ), dt_s
    # They have learned from frames alone, which they believe.
    model |= {"learned_gain": False, "carry_queries": False, "carry_features": False} | ALL_LANES
    horizon_s = int(metadata.get("learned_horizon", STEPS_LEARNED)) * dt_s
    return {**metadata, "model": model, "learned_horizon_s": horizon_s}


def converted_weights(weights: Mapping[str, Tensor], schema: str) -> dict[str, Tensor]:
    """Weights under the present names of the parts that they belong to.

    Args:
        weights: Those of the file.
        schema: Of its JSON.
    """
    named = {_renamed(name): value for name, value in weights.items()}
    named = {name: value for name, value in named.items() if not name.startswith(GONE)}
    # What is hidden became an input: it changes nothing that was learned without it.
    if VISIBILITY in named:
        named[VISIBILITY] = functional.pad(named[VISIBILITY], (0, HIDDEN))
    if schema in (WITH_OBSERVER, SETTINGS_OF_TODAY):
        return named
    # The time step became an input: it changes nothing that was learned without it.
    named[QUERY_POS] = functional.pad(named[QUERY_POS], (0, 1))
    return named


def _renamed(name: str) -> str:
    for pattern, present in PARTS:
        name = re.sub(pattern, present, name)
    return name
