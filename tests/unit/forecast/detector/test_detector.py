"""The detector as a whole: what its parts owe each other, whatever the settings."""

from typing import Any

import pytest
import torch

from forecast.detector.detector import Detector
from forecast.detector.spec import DetectorSpec
from forecast.errors import DataError
from forecast.model.layers.mask_heads import ABSENT_LOGIT

SMALL: dict[str, Any] = {
    "backbone": "resnet18",
    "classes": 5,
    "hidden_dim": 128,
    "queries": 6,
    "ffn": 32,
    "encoder_layers": 1,
    "decoder_layers": 3,
}


def detector(**settings: Any) -> Detector:
    torch.manual_seed(0)
    return Detector(DetectorSpec(**(SMALL | settings)))


@pytest.mark.parametrize(
    ("attention", "head", "stem", "stride"),
    [
        ("deformable", "fpn", 4, 16),
        ("deformable", "fpn", 4, 4),
        ("deformable", "fpn", 4, 1),
        ("deformable", "fpn", 2, 8),
        ("deformable", "dot", 4, 1),
        ("deformable", "dot", 1, 1),
        ("dense", "fpn", 4, 4),
        ("dense", "fpn", 2, 1),
        ("dense", "dot", 4, 16),
    ],
)
def test_masks_have_the_resolution_asked_for(
    attention: str, head: str, stem: int, stride: int
) -> None:
    model = detector(
        attention=attention, channels=4, mask_head=head, stem_stride=stem, mask_stride=stride
    )
    live = torch.zeros(2, 6, dtype=torch.bool)
    live[0, 2] = live[1, 4] = True
    with torch.no_grad():
        frame = torch.rand(2, 4, 64, 96)
        masks, drawn = (model.eval()(frame, live=rows).mask_logits for rows in (None, live))
    assert masks is not None
    assert drawn is not None
    assert masks.shape == (2, 6, 64 // stride, 96 // stride)
    assert torch.isfinite(masks).all()
    torch.testing.assert_close(drawn[live], masks[live], atol=1e-4, rtol=1e-4)
    assert (drawn[~live] == ABSENT_LOGIT).all()


@pytest.mark.parametrize(("attention", "position"), [("deformable", "sine"), ("dense", "learned")])
def test_the_last_layer_alone_is_the_last_of_all(attention: str, position: str) -> None:
    every = detector(attention=attention, position=position).eval()
    last = detector(attention=attention, position=position, auxiliary=False).eval()
    last.load_state_dict(every.state_dict())
    frame = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        of_every, of_last = every(frame), last(frame)
    assert of_every.outputs_coord.shape[0] == 3
    assert of_last.outputs_coord.shape[0] == 1
    torch.testing.assert_close(of_last.outputs_class, of_every.outputs_class[-1:])
    torch.testing.assert_close(of_last.outputs_coord, of_every.outputs_coord[-1:])


def test_no_gradient_flows_from_a_layers_boxes_to_the_boxes_before() -> None:
    model = detector()
    torch.nn.init.normal_(model.box_heads[0][4].weight)  # type: ignore[index]
    out = model(torch.rand(1, 3, 64, 96))
    out.outputs_coord[1].sum().backward()
    before, own = ([p.grad for p in model.box_heads[index].parameters()] for index in (0, 1))
    assert all(grad is None or not grad.any() for grad in before)
    assert any(grad is not None and grad.any() for grad in own)


@pytest.mark.parametrize("head", ["fpn", "dot"])
def test_every_parameter_learns_from_boxes_classes_and_masks(head: str) -> None:
    model = detector(mask_head=head)
    # Zero-ended heads stop gradients at the first step only.
    for head in model.box_heads:
        torch.nn.init.normal_(head[4].weight)  # type: ignore[index]
    out = model(torch.rand(2, 3, 64, 96))
    assert out.mask_logits is not None
    loss = (
        out.outputs_class.square().sum() + out.outputs_coord.sum() + out.mask_logits.square().sum()
    )
    loss.backward()
    silent = [name for name, value in model.named_parameters() if value.grad is None]
    assert silent == []


def test_untrained_boxes_stand_on_the_references() -> None:
    out = detector().eval()(torch.rand(1, 3, 64, 96))
    assert out.decoded.init_reference is not None
    for boxes in out.outputs_coord:
        torch.testing.assert_close(boxes[..., :2], out.decoded.init_reference, atol=1e-4, rtol=0)
    assert out.outputs_class.sigmoid().mean() < 0.1


@pytest.mark.parametrize("attention", ["deformable", "dense"])
def test_a_mask_without_padding_is_no_mask(attention: str) -> None:
    model = detector(attention=attention).eval()
    frame = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        without = model(frame)
        with_one = model(frame, torch.zeros(2, 64, 96, dtype=torch.bool))
    torch.testing.assert_close(without.outputs_coord, with_one.outputs_coord)
    torch.testing.assert_close(without.decoded.memory, with_one.decoded.memory)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (torch.ones(1, 64, 96, dtype=torch.bool), "all padding"),
        (torch.zeros(1, 64, 95, dtype=torch.bool), "(1, 64, 95)"),
        (torch.zeros(1, 64, 96), "torch.float32"),
        (torch.arange(96).expand(1, 64, 96) < 10, "padding elsewhere"),
        (torch.arange(64)[:, None].expand(1, 64, 96) < 10, "padding elsewhere"),
        (torch.arange(96).expand(1, 64, 96) % 7 == 6, "padding elsewhere"),
    ],
)
def test_masks_of_the_wrong_sense_or_shape_are_refused(mask: torch.Tensor, words: str) -> None:
    with pytest.raises(DataError) as caught:
        detector()(torch.rand(1, 3, 64, 96), mask)
    assert words in str(caught.value)


@pytest.mark.parametrize("shape", [(1, 4, 64, 96), (1, 3, 32, 20)])
def test_frames_of_other_channels_or_of_a_single_cell_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="3 channels and more than 32 cells"):
        detector()(torch.rand(shape))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_widths_of_the_backbone_flow_into_all_that_reads_it(name: str) -> None:
    with torch.device("meta"):
        model = Detector(DetectorSpec(**(SMALL | {"backbone": name, "mask_head": "fpn"})))  # type: ignore[arg-type]
        out = model(torch.empty(1, 3, 64, 96))
    widths = model.backbone.widths
    inputs = [project[0].in_channels for project in model.transformer.input_proj]  # type: ignore[index,union-attr]
    assert inputs == [*widths[1:], widths[-1]]
    assert model.mask_pyramid.widths == tuple(width // 2 for width in widths[:0:-1])
    assert out.mask_logits is not None
