"""Published weights: every name finds its place, and files of other settings are refused."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from forecast.detector.detector import Detector
from forecast.detector.published import load_published
from forecast.detector.spec import DetectorSpec
from forecast.errors import CheckpointError

DEFORMABLE = DetectorSpec(
    classes=5,
    backbone="resnet18",
    hidden_dim=128,
    queries=4,
    ffn=32,
    encoder_layers=1,
    decoder_layers=2,
    frozen_norm=True,
)
DENSE = replace(DEFORMABLE, attention="dense", mask_head="fpn", mask_stride=4)
# Ours to theirs, the other way round than in the package.
LAYERS = r"transformer\.(encoder|decoder)\.(\d)\."
THEIRS = {
    "dense": [
        (r"^backbone\.extract", "detr.backbone.0.body"),
        (r"^input_proj", "detr.input_proj"),
        (r"^transformer\.query_embed", "detr.query_embed"),
        (r"^transformer\.norm", "detr.transformer.decoder.norm"),
        (r"encoder\.(\d)\.attention\.attention", r"encoder.\1.self_attn"),
        (r"decoder\.(\d)\.attention\.attention", r"decoder.\1.multihead_attn"),
        (r"\.self_attention\.", ".self_attn."),
        (r"\.ffn\.0", ".linear1"),
        (r"\.ffn\.2", ".linear2"),
        (LAYERS, r"detr.transformer.\1.layers.\2."),
        (r"^class_heads\.0", "detr.class_embed"),
        (r"^box_heads\.0\.", "detr.bbox_embed."),
        (r"^mask_head\.attention_map\.query", "bbox_attention.q_linear"),
        (r"^mask_head\.attention_map\.key", "bbox_attention.k_linear"),
        (r"^mask_head\.input\.conv", "mask_head.lay1"),
        (r"^mask_head\.stage1\.0", "mask_head.gn1"),
        (r"^mask_head\.stage(\d)\.conv", r"mask_head.lay\1"),
        (r"^mask_head\.stage(\d)\.norm", r"mask_head.gn\1"),
        (r"^mask_head\.logits", "mask_head.out_lay"),
    ],
    "deformable": [
        (r"^backbone\.extract", "backbone.0.body"),
        (r"^transformer\.(input_proj|query_embed)", r"\1"),
        (r"^(transformer\.decoder\.\d)\.norm1", r"\1.norm_"),
        (r"^(transformer\.decoder\.\d)\.norm2", r"\1.norm1"),
        (r"\.norm_", ".norm2"),
        (r"^(transformer\.encoder\.\d)\.attention", r"\1.self_attn"),
        (r"^(transformer\.decoder\.\d)\.attention", r"\1.cross_attn"),
        (r"\.self_attention\.", ".self_attn."),
        (r"\.ffn\.0", ".linear1"),
        (r"\.ffn\.2", ".linear2"),
        (LAYERS, r"transformer.\1.layers.\2."),
        (r"^class_heads", "class_embed"),
        (r"^box_heads", "bbox_embed"),
    ],
}
# Some names as they stand in the published files.
KNOWN = {
    "dense": [
        "detr.transformer.decoder.layers.1.multihead_attn.in_proj_weight",
        "detr.transformer.encoder.layers.0.linear1.bias",
        "detr.bbox_embed.layers.2.weight",
        "detr.backbone.0.body.layer2.0.downsample.1.running_var",
        "mask_head.gn5.bias",
        "mask_head.adapter3.weight",
    ],
    "deformable": [
        "transformer.level_embed",
        "transformer.reference_points.weight",
        "transformer.encoder.layers.0.self_attn.sampling_offsets.bias",
        "transformer.decoder.layers.1.cross_attn.value_proj.weight",
        "transformer.decoder.layers.1.self_attn.out_proj.weight",
        "bbox_embed.1.layers.2.weight",
        "input_proj.3.1.weight",
    ],
}


def published(state: dict[str, Tensor], attention: str) -> dict[str, Tensor]:
    renamed = {}
    for name, value in state.items():
        for pattern, theirs in THEIRS[attention]:
            name = re.sub(pattern, theirs, name)
        if adapter := re.match(r"mask_head\.adapters\.(\d)", name):
            name = name.replace(adapter[0], f"mask_head.adapter{int(adapter[1]) + 1}")
        if layer := re.search(r"bbox_embed\.(\d\.)?([024])\.", name):
            inner = f"bbox_embed.{layer[1] or ''}layers.{int(layer[2]) // 2}."
            name = name.replace(layer[0], inner)
        renamed[name] = value
    return renamed


@pytest.mark.parametrize("spec", [DENSE, DEFORMABLE], ids=["dense", "deformable"])
def test_every_weight_finds_its_place(spec: DetectorSpec, tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = Detector(spec).state_dict()
    file = published(state, spec.attention)
    assert set(KNOWN[spec.attention]) <= set(file)
    torch.save({"model": file, "epoch": 300}, tmp_path / "published.pth")
    detector = Detector(spec)
    load_published(detector, tmp_path / "published.pth")
    for name, value in detector.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=0, atol=0)


def test_masks_are_ignored_where_only_boxes_are_wanted(tmp_path: Path) -> None:
    file = published(Detector(DENSE).state_dict(), "dense")
    torch.save(file, tmp_path / "masks.pth")
    boxes = Detector(replace(DENSE, mask_head="none", frozen_norm=False))
    load_published(boxes, tmp_path / "masks.pth")
    weight = boxes.state_dict()["class_heads.0.weight"]
    torch.testing.assert_close(weight, file["detr.class_embed.weight"])


def test_weights_of_other_settings_are_refused_and_change_nothing(tmp_path: Path) -> None:
    torch.save(published(Detector(DEFORMABLE).state_dict(), "deformable"), tmp_path / "a.pth")
    other = Detector(replace(DEFORMABLE, classes=6))
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"class_heads\.0\.weight and 3 others"):
        load_published(other, tmp_path / "a.pth")
    for name, value in other.state_dict().items():
        torch.testing.assert_close(value, before[name])
    with pytest.raises(CheckpointError):
        load_published(Detector(DENSE), tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"b\.pth"):
        load_published(other, tmp_path / "b.pth")
