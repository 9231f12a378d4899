"""Deformable DETR against the implementation in ``transformers``, same weights, random input."""

import pytest
import torch
from torch import Tensor

from forecast.detector.detector import Detector
from forecast.detector.outputs import Detections
from forecast.detector.spec import DetectorSpec

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
from tests.support.huggingface import RESNET, randomise, renamed, resnet18, resnet50  # noqa: E402

TOLERANCE = 1e-4
CHANNELS, CLASSES = 4, 7
SPEC = {
    "channels": CHANNELS,
    "classes": CLASSES,
    "backbone": "resnet18",
    "frozen_norm": True,
    "hidden_dim": 64,
    "queries": 12,
    "ffn": 96,
    "encoder_layers": 2,
    "decoder_layers": 3,
}
RULES = (
    (r"^model\.backbone\.model\.(.*)", r"backbone.extract.\1"),
    *RESNET,
    (r"^model\.decoder\.bbox_embed.*", None),
    (r"^model\.(encoder|decoder)\.layers\.", r"transformer.\1."),
    (r"^model\.", "transformer."),
    (r"position_embedding\.row_embeddings", "position.row"),
    (r"position_embedding\.column_embeddings", "position.column"),
    (r"query_position_embeddings", "query_embed"),
    (r"(encoder\.\d+)\.self_attn\.", r"\1.attention."),
    (r"(encoder\.\d+)\.self_attn_layer_norm", r"\1.norm1"),
    (r"(encoder\.\d+)\.final_layer_norm", r"\1.norm2"),
    (r"(decoder\.\d+)\.self_attn\.o_proj", r"\1.self_attention.out_proj"),
    (r"(decoder\.\d+)\.self_attn\.", r"\1.self_attention."),
    (r"(decoder\.\d+)\.encoder_attn\.", r"\1.attention."),
    (r"(decoder\.\d+)\.self_attn_layer_norm", r"\1.norm1"),
    (r"(decoder\.\d+)\.encoder_attn_layer_norm", r"\1.norm2"),
    (r"(decoder\.\d+)\.final_layer_norm", r"\1.norm3"),
    (r"mlp\.fc1", "ffn.0"),
    (r"mlp\.fc2", "ffn.2"),
    (r"^class_embed", "class_heads"),
    (r"^bbox_embed\.(\d+)\.layers\.(\d+)", lambda m: f"box_heads.{m[1]}.{2 * int(m[2])}"),
)


def pair(
    levels: int, position: str, refine: bool, backbone: str = "resnet18"
) -> tuple[Detector, torch.nn.Module]:
    """Our detector and theirs, with the same weights."""
    stages = (2, 3, 4) if levels > 1 else (4,)
    resnet = {"resnet18": resnet18, "resnet50": resnet50}[backbone]
    theirs = transformers.DeformableDetrForObjectDetection(
        transformers.DeformableDetrConfig(
            backbone_config=resnet(CHANNELS, stages),
            num_labels=CLASSES,
            d_model=64,
            num_queries=12,
            encoder_ffn_dim=96,
            decoder_ffn_dim=96,
            encoder_layers=2,
            decoder_layers=3,
            num_feature_levels=levels,
            position_embedding_type=position,
            with_box_refine=refine,
            attn_implementation="eager",
        )
    )
    randomise(theirs)
    for index in range(3):
        if refine:
            heads = theirs.model.decoder.bbox_embed[index]
            heads.load_state_dict(theirs.bbox_embed[index].state_dict())
        else:  # without refinement all layers share their heads
            theirs.bbox_embed[index] = theirs.bbox_embed[0]
            theirs.class_embed[index] = theirs.class_embed[0]
    settings = SPEC | {"backbone": backbone, "position": position, "box_refine": refine}
    ours = Detector(DetectorSpec(levels=levels, **settings))
    state = renamed(theirs.state_dict(), RULES)
    if not refine:
        state = {k: v for k, v in state.items() if not k.startswith(OTHER_HEADS)}
    for name in [name for name in state if ".q_proj." in name]:
        parts = [state.pop(name.replace("q_proj", part)) for part in ("q_proj", "k_proj", "v_proj")]
        state[name.replace("q_proj.", "in_proj_")] = torch.cat(parts)
    ours.load_state_dict(state)
    return ours.eval(), theirs.eval()


OTHER_HEADS = tuple(f"{kind}_heads.{index}." for kind in ("class", "box") for index in (1, 2))


def compare(ours: Detector, theirs: torch.nn.Module, frame: Tensor, mask: Tensor | None) -> None:
    with torch.no_grad():
        out: Detections = ours(frame, mask)
        pixel_mask = None if mask is None else (~mask).long()
        reference = theirs(frame, pixel_mask=pixel_mask)
    hidden = reference.intermediate_hidden_states.transpose(0, 1)
    pairs = {
        "memory": (out.decoded.memory, reference.encoder_last_hidden_state),
        "hs": (out.decoded.hs, hidden),
        "init_reference": (out.decoded.init_reference, reference.init_reference_points),
        "outputs_class": (out.outputs_class[-1], reference.logits),
        "outputs_coord": (out.outputs_coord[-1], reference.pred_boxes),
    }
    for index, read in enumerate(out.decoded.references[1:]):
        pairs[f"reference {index + 1}"] = (read, reference.intermediate_reference_points[:, index])
    errors = {name: float((a - b).abs().max()) for name, (a, b) in pairs.items()}
    print({name: f"{error:.1e}" for name, error in errors.items()})
    assert all(a.std() > 1e-3 for a, _ in pairs.values()), "silent networks prove nothing"
    assert max(errors.values()) <= TOLERANCE


@pytest.mark.parametrize("refine", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_outputs_equal_transformers(refine: bool, padded: bool) -> None:
    ours, theirs = pair(4, "sine", refine)
    frame = torch.randn(2, CHANNELS, 150, 203)
    mask = None
    if padded:
        mask = torch.zeros(2, 150, 203, dtype=torch.bool)
        mask[0, 101:] = mask[1, :, 130:] = True
        frame = frame.masked_fill(mask[:, None], 0.0)
    compare(ours, theirs, frame, mask)


def test_bottleneck_backbones_equal_transformers() -> None:
    ours, theirs = pair(4, "sine", True, "resnet50")
    compare(ours, theirs, torch.randn(1, CHANNELS, 130, 170), None)


@pytest.mark.parametrize(("levels", "position"), [(1, "sine"), (3, "learned"), (5, "learned")])
def test_other_levels_and_learned_positions_equal_transformers(levels: int, position: str) -> None:
    ours, theirs = pair(levels, position, True)
    compare(ours, theirs, torch.randn(1, CHANNELS, 150, 203), None)
