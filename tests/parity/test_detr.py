"""The original DETR against transformers' implementation, random weights copied over."""

import re

import pytest
import torch
from torch import Tensor, nn

from forecast.detector.detector import Detector
from forecast.detector.spec import DetectorSpec, PositionName

transformers = pytest.importorskip("transformers")

CLASSES, QUERIES, DIM, HEADS, LAYERS = 7, 9, 128, 8, 2
# Their layer's parts, ours.
PARTS = {
    "encoder_attn": "attention.attention",
    "mlp.fc1": "ffn.0",
    "mlp.fc2": "ffn.2",
    "self_attn_layer_norm": "norm1",
}
# The rest of a detector and of its mask head, theirs to ours.
RENAMED = [
    (r"^detr\.model\.backbone\.model\.(.*)", r"backbone.extract.\1"),
    (r"embedder\.embedder\.convolution", "conv1"),
    (r"embedder\.embedder\.normalization", "bn1"),
    (r"shortcut\.convolution", "downsample.0"),
    (r"shortcut\.normalization", "downsample.1"),
    (r"^detr\.model\.input_projection", "input_proj"),
    (r"^detr\.model\.query_position_embeddings", "transformer.query_embed"),
    (r"^detr\.model\.decoder\.layernorm", "transformer.norm"),
    (r"^detr\.model\.position_embedding\.(row|column)_embeddings", r"position.\1"),
    (r"^detr\.class_labels_classifier", "class_heads.0"),
    (r"^bbox_attention\.q_proj", "mask_head.attention_map.query"),
    (r"^bbox_attention\.k_proj", "mask_head.attention_map.key"),
    (r"^mask_head\.conv1\.conv", "mask_head.input.conv"),
    (r"^mask_head\.conv1\.norm", "mask_head.stage1.0"),
    (r"^mask_head\.conv2", "mask_head.stage2"),
    (r"^mask_head\.output_conv", "mask_head.logits"),
    (r"^mask_head\.fpn_stages\.(\d)\.fpn_adapter", r"mask_head.adapters.\1"),
]


def our_name(theirs: str) -> str:
    """The name in a Detector of a parameter of DetrForSegmentation."""
    name = theirs
    for pattern, ours in RENAMED:
        name = re.sub(pattern, ours, name)
    if stage := re.search(r"encoder\.stages\.(\d)\.layers\.", name):
        name = name.replace(stage[0], f"layer{int(stage[1]) + 1}.")
        part = re.search(r"\.layer\.(\d)\.", name)
        if part:
            number = int(part[1]) + 1
            name = name.replace(f"{part[0]}convolution", f".conv{number}")
            name = name.replace(f"{part[0]}normalization", f".bn{number}")
    if head := re.match(r"detr\.bbox_predictor\.layers\.(\d)", name):
        name = name.replace(head[0], f"box_heads.0.{2 * int(head[1])}")
    if fused := re.match(r"mask_head\.fpn_stages\.(\d)\.refine", name):
        name = name.replace(fused[0], f"mask_head.stage{int(fused[1]) + 3}")
    if layer := re.match(r"detr\.model\.(encoder|decoder)\.layers\.(\d)\.", name):
        coder = layer[1]
        name = name.replace(layer[0], f"transformer.{coder}.{layer[2]}.")
        parts = PARTS | {
            "self_attn": "attention.attention" if coder == "encoder" else "self_attention",
            "encoder_attn_layer_norm": "norm2",
            "final_layer_norm": "norm2" if coder == "encoder" else "norm3",
        }
        for their_part in sorted(parts, key=len, reverse=True):
            if f".{their_part}." in name:
                return name.replace(f".{their_part}.", f".{parts[their_part]}.")
    return name


def our_state(theirs: nn.Module) -> dict[str, Tensor]:
    """Their weights under our names; the three projections of an attention become one."""
    state: dict[str, Tensor] = {}
    projections: dict[str, dict[str, Tensor]] = {}
    for their_name, value in theirs.state_dict().items():
        name = our_name(their_name)
        joined = re.match(r"(transformer.*attention\.)([qkv])_proj\.(weight|bias)", name)
        if joined:
            projections.setdefault(f"{joined[1]}in_proj_{joined[3]}", {})[joined[2]] = value
        else:
            state[name.replace("o_proj", "out_proj")] = value
    for name, parts in projections.items():
        state[name] = torch.cat([parts[letter] for letter in "qkv"])
    return state


def randomise(model: nn.Module) -> None:
    """Weights that make every part matter: nothing is zero, and norms have statistics."""
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if not value.is_floating_point():
            continue
        if name.endswith("running_var"):
            nn.init.uniform_(value, 0.5, 1.5)
        elif value.dim() > 1:
            fan_in = value[0].numel() if "embeddings" not in name else 1
            nn.init.normal_(value, 0.0, (gain_of(name) / fan_in) ** 0.5)
        else:
            nn.init.normal_(value, float("norm" in name and name.endswith("weight")), 0.2)


def gain_of(name: str) -> float:
    """Features stay small and queries look at few cells, or their masks would hardly differ."""
    if "backbone" in name or "fpn_adapter" in name:
        return 0.5
    if "query_position" in name:
        return 30.0
    return 12.0 if "bbox_attention" in name else 2.0


def their_detector(position: PositionName) -> nn.Module:
    backbone = transformers.ResNetConfig(
        embedding_size=64,
        hidden_sizes=[64, 128, 256, 512],
        depths=[2, 2, 2, 2],
        layer_type="basic",
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = transformers.DetrConfig(
        backbone_config=backbone,
        num_queries=QUERIES,
        num_labels=CLASSES,
        d_model=DIM,
        encoder_layers=LAYERS,
        decoder_layers=LAYERS,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS,
        position_embedding_type=position,
        attn_implementation="eager",
    )
    model = transformers.DetrForSegmentation(config)
    with torch.no_grad():
        randomise(model)
        # Attention, a share of 1, next to features.
        model.mask_head.conv1.conv.weight[:, DIM:] *= 20
    return model.eval()


def our_detector(position: PositionName, state: dict[str, Tensor]) -> Detector:
    model = Detector(
        DetectorSpec(
            classes=CLASSES,
            backbone="resnet18",
            frozen_norm=True,
            attention="dense",
            hidden_dim=DIM,
            heads=HEADS,
            queries=QUERIES,
            ffn=64,
            encoder_layers=LAYERS,
            decoder_layers=LAYERS,
            position=position,
            mask_head="fpn",
            mask_stride=4,
        )
    )
    model.load_state_dict(state)
    return model.eval()


def frames() -> tuple[Tensor, Tensor]:
    """Two frames, one of them padded right and below, and their padding mask."""
    mask = torch.zeros(2, 96, 130, dtype=torch.bool)
    mask[1, 70:] = mask[1, :, 101:] = True
    return torch.randn(2, 3, 96, 130), mask


def agree(name: str, got: Tensor, expected: Tensor) -> None:
    """Equal to 1e-4, between rows that differ by more: a constant would prove nothing."""
    print(f"{name}: largest difference {float((got - expected).abs().max()):.1e}")
    assert expected.std(1).max() > 0.01
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("position", ["sine", "learned"])
def test_boxes_classes_and_masks_are_those_of_transformers(
    position: PositionName, padded: bool
) -> None:
    torch.manual_seed(3)
    theirs = their_detector(position)
    ours = our_detector(position, our_state(theirs))
    frame, mask = frames()
    with torch.no_grad():
        # Theirs is True where there is data.
        expected = theirs(frame, pixel_mask=(~mask).long() if padded else None)
        got = ours(frame, mask if padded else None)
    assert got.mask_logits is not None
    assert got.mask_logits.shape == (2, QUERIES, 24, 33)
    agree("classes", got.outputs_class[-1], expected.logits)
    agree("boxes", got.outputs_coord[-1], expected.pred_boxes)
    agree("masks", got.mask_logits, expected.pred_masks)


def test_every_decoder_layer_and_the_memory_are_those_of_transformers() -> None:
    torch.manual_seed(4)
    theirs = their_detector("sine")
    ours = our_detector("sine", our_state(theirs))
    frame, mask = frames()
    with torch.no_grad():
        decoded = ours(frame, mask).decoded
    assert decoded.hs.shape == (LAYERS, 2, QUERIES, DIM)
    for depth in range(LAYERS, 0, -1):
        # Their auxiliary outputs feed each normed layer on, unlike the original: cut it short.
        theirs.detr.model.decoder.layers = theirs.detr.model.decoder.layers[:depth]
        with torch.no_grad():
            expected = theirs.detr.model(frame, pixel_mask=(~mask).long())
        agree(f"decoder layer {depth}", decoded.hs[depth - 1], expected.last_hidden_state)
    valid = ~decoded.seg_mask.flatten(1)
    memory = decoded.memory.transpose(0, 1)[valid]
    agree("memory", memory[None], expected.encoder_last_hidden_state[valid][None])
