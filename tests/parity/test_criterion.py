"""The loss of detections against transformers' for DETR and Deformable DETR."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from forecast.detector.criterion import FREE, GONE, DetectionWeights, Objects, SetCriterion
from forecast.detector.outputs import Detections

LAYERS, BATCH, QUERIES, CLASSES = 3, 2, 7, 5


def made(seed: int, logits: int, counts: tuple[int, ...]) -> tuple[Detections, list[Objects]]:
    generator = Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    found = Detections(
        outputs_class=(3 * draw(LAYERS, BATCH, QUERIES, logits) - 2).requires_grad_(),
        outputs_coord=(0.1 + 0.6 * draw(LAYERS, BATCH, QUERIES, 4)).requires_grad_(),
        mask_logits=(4 * draw(BATCH, QUERIES, 6, 8) - 2).requires_grad_(),
        decoded=None,  # type: ignore[arg-type]
    )
    objects = [
        Objects(
            label=(draw(count) * CLASSES).long(),
            box=0.1 + 0.6 * draw(count, 4),
            mask=draw(count, 12, 16) > 0.5,
        )
        for count in counts
    ]
    return found, objects


def theirs(
    name: str, found: Detections, objects: list[Objects], masks: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    pytest.importorskip("transformers")
    from transformers.loss import loss_deformable_detr, loss_for_object_detection

    config = SimpleNamespace(
        class_cost=2.0 if name == "focal" else 1.0,
        bbox_cost=5.0,
        giou_cost=2.0,
        num_labels=CLASSES,
        focal_alpha=0.25,
        eos_coefficient=0.1,
        auxiliary_loss=True,
        bbox_loss_coefficient=5.0,
        giou_loss_coefficient=2.0,
        mask_loss_coefficient=1.0,
        dice_loss_coefficient=1.0,
        decoder_layers=LAYERS,
    )
    truth = [{"class_labels": one.label, "boxes": one.box, "masks": one.mask} for one in objects]
    module: Any = loss_deformable_detr if name == "focal" else loss_for_object_detection
    prefix = "DeformableDetrFor" if name == "focal" else "For"
    function = getattr(module, prefix + ("SegmentationLoss" if masks else "ObjectDetectionLoss"))
    more = {"pred_masks": found.mask_logits} if masks else {}
    loss, parts, _ = function(
        found.outputs_class[-1],
        truth,
        found.outputs_class.device,
        found.outputs_coord[-1],
        config=config,
        outputs_class=found.outputs_class,
        outputs_coord=found.outputs_coord,
        **more,
    )
    return loss, parts


# Masks with focal classes are left out: transformers matches there as if classes were a softmax.
@pytest.mark.parametrize(
    ("kind", "masks"), [("focal", False), ("softmax", False), ("softmax", True)]
)
@pytest.mark.parametrize("counts", [(3, 4), (7, 1), (0, 2)])
def test_losses_and_gradients_are_those_of_transformers(
    kind: Any, counts: tuple[int, ...], masks: bool
) -> None:
    found, objects = made(sum(counts), CLASSES + (kind == "softmax"), counts)
    expected, parts = theirs(kind, found, objects, masks)
    expected.backward()
    wanted = [found.outputs_class.grad, found.outputs_coord.grad, found.mask_logits.grad]  # type: ignore[union-attr]
    again, objects = made(sum(counts), CLASSES + (kind == "softmax"), counts)
    if not masks:
        again = Detections(again.outputs_class, again.outputs_coord, None, again.decoded)
    weights = DetectionWeights(classes=1.0, match_classes=2.0 if kind == "focal" else 1.0)
    ours = SetCriterion(kind, weights)(again, objects)
    names = {"class": "loss_ce", "mask": "loss_mask", "dice": "loss_dice"}
    for name in ("class", "mask", "dice")[: 3 if masks else 1]:
        torch.testing.assert_close(ours[name], parts[names[name]], atol=1e-5, rtol=1e-5)
    total = torch.stack(tuple(ours.values())).sum()
    torch.testing.assert_close(total, expected, atol=1e-4, rtol=1e-5)
    total.backward()
    got = [again.outputs_class.grad, again.outputs_coord.grad]
    got += [again.mask_logits.grad] if again.mask_logits is not None else []
    for one, other in zip(got, wanted, strict=False):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["focal", "softmax"])
def test_kept_pairs_stay_in_every_layer_and_lost_tracks_answer_for_nothing(kind: Any) -> None:
    found, objects = made(0, CLASSES + (kind == "softmax"), (3, 2))
    kept = torch.full((BATCH, QUERIES), FREE)
    kept[0, 4], kept[0, 6], kept[1, 0] = 2, GONE, GONE
    criterion = SetCriterion(kind)
    for logits, boxes in zip(found.outputs_class, found.outputs_coord, strict=True):
        owner = criterion.match(logits, boxes, objects, kept)
        assert owner[0, 4] == 2
        assert sorted(owner[0][owner[0] >= 0].tolist()) == [0, 1, 2]
        assert owner[0, 6] < 0
        assert owner[1, 0] < 0
    parts = criterion(found, objects, kept)
    parts["class"].backward()
    grad = found.outputs_class.grad
    assert grad is not None
    lost = grad[-1, 0, 6]
    if kind == "focal":
        assert (lost > 0).all(), "no class at all"
    else:
        assert (lost[:-1] > 0).all()
        assert lost[-1] < 0, "the class number num_classes"
    free = criterion(found, objects)
    if kind == "focal":  # 5 objects, and 2 tracks that lost theirs, in the divisor
        every = criterion(
            found, [Objects(o.label[:0], o.box[:0]) for o in objects], kept * 0 + GONE
        )
        none = criterion(found, [Objects(o.label[:0], o.box[:0]) for o in objects])
        torch.testing.assert_close(every["class"] * BATCH * QUERIES, none["class"])
    assert set(free) == set(parts)


def test_masks_on_points_approach_masks_everywhere() -> None:
    """A mask of one value has the same cross-entropy at every point."""
    found, objects = made(1, CLASSES, (2, 1))
    flat = Detections(
        found.outputs_class,
        found.outputs_coord,
        torch.full((BATCH, QUERIES, 6, 8), 0.7),
        None,  # type: ignore[arg-type]
    )
    solid = [
        Objects(o.label, o.box, torch.ones(len(o.label), 12, 16, dtype=torch.bool)) for o in objects
    ]
    criterion = SetCriterion("focal", DetectionWeights(points=20), Generator().manual_seed(0))
    parts = criterion(flat, solid)
    chance = torch.sigmoid(torch.tensor(0.7))
    torch.testing.assert_close(parts["mask"], -chance.log())
    dice = 1 - (2 * 20 * chance + 1) / (20 * chance + 20 + 1)
    torch.testing.assert_close(parts["dice"], dice)


def test_points_fall_mostly_where_a_mask_is_in_doubt() -> None:
    edge = torch.linspace(-8, 8, 64).expand(1, 64, 64)
    criterion = SetCriterion("focal", generator=Generator().manual_seed(0))
    points = criterion._points(edge, 400)
    off = (points[0, :, 0] - 0.5).abs()
    assert points.shape == (1, 400, 2)
    assert off[:300].mean() < 0.14 < 0.2 < off[300:].mean()


@pytest.mark.parametrize("points", [0, 10])
@pytest.mark.parametrize("kind", ["focal", "softmax"])
def test_frames_without_objects_have_a_finite_loss(kind: Any, points: int) -> None:
    found, objects = made(3, CLASSES + (kind == "softmax"), (0, 0))
    parts = SetCriterion(kind, DetectionWeights(points=points))(found, objects)
    assert all(torch.isfinite(part) for part in parts.values())
    assert {name for name, part in parts.items() if part > 0} == {"class", "earlier_class"}
    torch.stack(tuple(parts.values())).sum().backward()


def test_a_box_that_is_not_a_number_gives_a_loss_that_is_not_one() -> None:
    found, objects = made(2, CLASSES, (2, 1))
    broken = found.outputs_coord.detach().clone()
    broken[-1, 0] = torch.nan
    parts = SetCriterion("focal")(
        Detections(found.outputs_class, broken, None, found.decoded), objects
    )
    assert torch.isnan(parts["box"])
