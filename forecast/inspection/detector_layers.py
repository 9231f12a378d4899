"""The stages of a detector: each tensor on the way from a frame to masks, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from forecast.detector.detector import Detector
from forecast.detector.outputs import Detections
from forecast.detector.spec import DetectorSpec
from forecast.inspection.costs import LayerCost
from forecast.inspection.flop_counter import FlopCounter
from forecast.model.layers.mask_heads import FpnMaskHead

LAYERS = 4  # of a ResNet


def detector_stages(spec: DetectorSpec, height: int, width: int) -> tuple[LayerCost, ...]:
    """The stages of a detector for one frame, by a run without numbers (meta tensors).

    The names are those of the reference's table of shapes.
    """
    with torch.device("meta"):
        model = Detector(replace(spec, backend="torch")).eval()
        counter = FlopCounter(_rows(model))
        frame = torch.zeros(1, spec.channels, height, width)
        with counter.watch(model):
            detections = model(frame)
    return counter.stages(model, _tensors(model, detections, counter.outputs))


def _rows(model: Detector) -> dict[str, Sequence[str]]:
    """Which modules lead to which row; every parameter of a detector belongs to one."""
    rows: dict[str, Sequence[str]] = {
        f"backbone.layer{index}": [f"backbone.extract.layer{index}"]
        for index in range(1, LAYERS + 1)
    }
    rows["backbone.layer1"] = ["backbone"]  # with the stem
    if model.spec.attention == "deformable":
        for level in range(model.spec.levels):
            rows[f"input_proj.{level}"] = [f"transformer.input_proj.{level}"]
    else:
        rows |= {"projected": ["input_proj"], "position": ["position"]}
    rows |= {
        "memory": ["transformer.encoder", "transformer.position", "transformer.level_embed"],
        "hs": ["transformer.decoder", "transformer.query_embed", "transformer.norm"],
        "init_reference": ["transformer.reference_points"],
        "outputs_class": ["class_heads"],
        "outputs_coord": ["box_heads"],
        "semantic_logits": ["semantic_head"],
    }
    rows |= {f"mask_pyramid.{i}": [f"mask_pyramid.reduce.{i}"] for i in range(LAYERS)}
    if (head := _fpn(model)) is None:
        return rows | {"mask_logits": ["dot_head"]}
    rows |= {"attention_map": ["mask_head.attention_map"], "mask_head.input": ["mask_head"]}
    rows |= {"mask_head.stage1": ["mask_head.stage1"], "mask_logits": ["mask_head.logits"]}
    for index, name in enumerate(head.stages):
        rows[f"mask_head.{name}"] = [f"mask_head.{name}", f"mask_head.adapters.{index}"]
    return rows


def _fpn(model: Detector) -> FpnMaskHead | None:
    """The mask head whose stages the table names, if the detector has that one."""
    heads = (child for child in model.children() if isinstance(child, FpnMaskHead))
    return next(heads, None)


def _tensors(
    model: Detector, detections: Detections, outputs: Mapping[str, Any]
) -> dict[str, Tensor | None]:
    decoded = detections.decoded
    tensors: dict[str, Tensor | None] = {
        f"backbone.layer{index}": level for index, level in enumerate(outputs["backbone"], start=1)
    }
    if model.spec.attention == "deformable":
        for level in range(model.spec.levels):
            tensors[f"input_proj.{level}"] = outputs[f"transformer.input_proj.{level}"]
    else:
        tensors["projected"] = outputs["input_proj"]
        tensors["position"] = outputs["position"].flatten(2).permute(2, 0, 1)
    tensors |= {
        "memory": decoded.memory,
        "hs": decoded.hs,
        "init_reference": decoded.init_reference,
        "enc_outputs_class": decoded.enc_outputs_class,
        "enc_outputs_coord_unact": decoded.enc_outputs_coord_unact,
        "seg_memory": decoded.seg_memory,
        "seg_mask": decoded.seg_mask,
        "seg_memory.flat": decoded.seg_memory.flatten(2).transpose(1, 2),
        "seg_mask.flat": decoded.seg_mask.flatten(1),
        "outputs_class": detections.outputs_class,
        "outputs_coord": detections.outputs_coord,
    }
    for index, level in enumerate(outputs.get("mask_pyramid", ())):
        tensors[f"mask_pyramid.{index}"] = level
    if (head := _fpn(model)) is not None:
        tensors["attention_map"] = outputs["mask_head.attention_map"]
        for name in ("input", "stage1", *head.stages):
            tensors[f"mask_head.{name}"] = outputs[f"mask_head.{name}"]
    last = {"mask_logits": detections.mask_logits, "semantic_logits": detections.semantic_logits}
    return tensors | {name: logits for name, logits in last.items() if logits is not None}
