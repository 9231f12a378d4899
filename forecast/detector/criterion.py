"""The loss of a detector: each object is matched to one query, then class, box and mask compared.

Sources: Carion et al., "End-to-end object detection with transformers" (2020), matching and the
no-object class; Zhu et al., "Deformable DETR" (2021), focal classes without one; Zeng et al.,
"MOTR" (2022), tracks that keep their object and tracks that lost it; Cheng et al., "Mask2Former"
(2022), masks compared on points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor
from torch.nn import functional
from torchvision.ops import (
    box_convert,
    generalized_box_iou,
    generalized_box_iou_loss,
    sigmoid_focal_loss,
)

from forecast.detector.outputs import Detections
from forecast.model.layers.assignment import least_cost
from forecast.model.layers.average import mean_count

ClassLoss = Literal["focal", "softmax"]
# In `kept`: a query to be matched, and a track whose object is gone.
FREE, GONE = -1, -2
ALPHA, GAMMA = 0.25, 2.0
# Of the points on which masks are compared: candidates for each, share of doubtful ones.
OVERSAMPLED, DOUBTFUL = 3, 0.75


@dataclass(frozen=True)
class Objects:
    """The true objects of one frame.

    Attributes:
        label: Class, from 0.
        box: cx, cy, w, h as fractions of the frame.
        mask: Masks at any resolution, the same for all frames; or None.
    """

    label: Int[Tensor, "n"]
    box: Float[Tensor, "n 4"]
    mask: Bool[Tensor, "n h w"] | None = None


@dataclass(frozen=True)
class DetectionWeights:
    """Share of each part of the loss and of the cost of a match; defaults of Deformable DETR.

    The original DETR weighs classes 1 in both.

    Attributes:
        classes: Class loss.
        box: L1 of cx, cy, w, h.
        giou: 1 - generalised IoU.
        mask: Focal loss of cells (all of them), or cross-entropy (on points).
        dice: Dice loss of masks.
        match_classes: Class in the cost of a match.
        match_box: L1 there.
        match_giou: Generalised IoU there.
        nothing: Weight of no-object among the classes of a softmax.
        points: Points on which masks are compared; 0 = at every cell of the true mask.
    """

    classes: float = 2.0
    box: float = 5.0
    giou: float = 2.0
    mask: float = 1.0
    dice: float = 1.0
    match_classes: float = 2.0
    match_box: float = 5.0
    match_giou: float = 2.0
    nothing: float = 0.1
    points: int = 0


@dataclass(frozen=True)
class SetCriterion:
    """The loss of detections.

    Attributes:
        kind: "focal": a sigmoid per class, nothing is no class at all. "softmax": nothing is the
            last class.
        weights: Of its parts.
        generator: Where mask points fall; None = torch's own.
    """

    kind: ClassLoss
    weights: DetectionWeights = DetectionWeights()
    generator: Generator | None = None

    def __call__(
        self,
        found: Detections,
        objects: Sequence[Objects],
        kept: Int[Tensor, "b q"] | None = None,
    ) -> dict[str, Tensor]:
        """Weighted parts of the loss; those of earlier decoder layers are summed as ``earlier_*``.

        Every layer matches on its own, among the same free queries. Masks are compared after the
        last layer only.

        Args:
            found: What the detector returned.
            objects: The true objects of each frame.
            kept: The object that each query keeps from before, ``FREE`` or ``GONE``; None = all
                queries are free. Lost tracks count as objects in the divisor, as in MOTR.
        """
        like = found.outputs_coord
        if kept is None:
            kept = torch.full(like.shape[1:3], FREE, device=like.device)
        total = sum(len(one.label) for one in objects) + (kept == GONE).sum()
        count = mean_count(like.new_tensor(0.0) + total)
        *earlier, last = zip(found.outputs_class, found.outputs_coord, strict=True)
        owner = self.match(*last, objects, kept)
        parts = self._boxes(*last, objects, owner, count)
        if found.mask_logits is not None and all(one.mask is not None for one in objects):
            parts |= self._masks(found.mask_logits, objects, owner, count)
        for layer in earlier:
            answers = self._boxes(*layer, objects, self.match(*layer, objects, kept), count)
            for name, part in answers.items():
                parts[f"earlier_{name}"] = parts.get(f"earlier_{name}", 0.0) + part
        return parts

    @torch.no_grad()
    def match(
        self,
        logits: Float[Tensor, "b q c"],
        boxes: Float[Tensor, "b q 4"],
        objects: Sequence[Objects],
        kept: Int[Tensor, "b q"],
    ) -> Int[Tensor, "b q"]:
        """The object that each query answers for, by least total cost; negative for nothing."""
        owner = kept.clone()
        for index, one in enumerate(objects):
            known = torch.zeros_like(one.label, dtype=torch.bool)
            known[kept[index][kept[index] >= 0]] = True
            new = (~known).nonzero().squeeze(1)
            free = (kept[index] == FREE).nonzero().squeeze(1)
            cost = self._cost(logits[index, free], boxes[index, free], one.label[new], one.box[new])
            rows, columns = least_cost(cost)
            owner[index, free[rows]] = new[columns]
        return owner

    def _cost(self, logits: Tensor, boxes: Tensor, label: Tensor, box: Tensor) -> Tensor:
        how = self.weights
        corners = (box_convert(boxes, "cxcywh", "xyxy"), box_convert(box, "cxcywh", "xyxy"))
        overlap: Tensor = generalized_box_iou(*corners)
        return (
            how.match_classes * self._class_cost(logits)[:, label]
            + how.match_box * torch.cdist(boxes, box, p=1)
            - how.match_giou * overlap
        )

    def _class_cost(self, logits: Tensor) -> Tensor:
        if self.kind == "softmax":
            return -logits.softmax(-1)
        hit: Tensor = sigmoid_focal_loss(logits, torch.ones_like(logits), ALPHA, GAMMA)
        miss: Tensor = sigmoid_focal_loss(logits, torch.zeros_like(logits), ALPHA, GAMMA)
        return hit - miss

    def _boxes(
        self,
        logits: Tensor,
        boxes: Tensor,
        objects: Sequence[Objects],
        owner: Tensor,
        count: Tensor,
    ) -> dict[str, Tensor]:
        """Classes of all queries, boxes of those that answer for an object."""
        how, mine = self.weights, owner >= 0
        classes = logits.shape[-1] - (self.kind == "softmax")
        label = torch.full_like(owner, classes)
        label[mine] = _of(owner, [one.label for one in objects])
        box, truth = boxes[mine], _of(owner, [one.box for one in objects])
        corners = (box_convert(box, "cxcywh", "xyxy"), box_convert(truth, "cxcywh", "xyxy"))
        return {
            "class": how.classes * self._class_loss(logits, label, count),
            "box": how.box * (box - truth).abs().sum() / count,
            "giou": how.giou * generalized_box_iou_loss(*corners, reduction="sum") / count,
        }

    def _class_loss(self, logits: Tensor, label: Tensor, count: Tensor) -> Tensor:
        if self.kind == "softmax":
            weight = torch.ones_like(logits[0, 0])
            weight[-1] = self.weights.nothing
            return functional.cross_entropy(logits.flatten(0, 1), label.flatten(), weight)
        target = functional.one_hot(label, logits.shape[-1] + 1)[..., :-1].to(logits.dtype)
        loss: Tensor = sigmoid_focal_loss(logits, target, ALPHA, GAMMA, "sum")
        return loss / count

    def _masks(
        self, logits: Tensor, objects: Sequence[Objects], owner: Tensor, count: Tensor
    ) -> dict[str, Tensor]:
        """Masks of the queries that answer for an object."""
        how, mine = self.weights, logits[owner >= 0]
        truth = _of(owner, [one.mask for one in objects if one.mask is not None]).to(mine.dtype)
        if how.points:
            points = self._points(mine, how.points)
            mine, truth = _sample(mine, points), _sample(truth, points)
            cells = functional.binary_cross_entropy_with_logits(mine, truth, reduction="none")
        else:
            fine = functional.interpolate(mine[:, None], truth.shape[-2:], mode="bilinear")
            mine, truth = fine.flatten(1), truth.flatten(1)
            cells = sigmoid_focal_loss(mine, truth, ALPHA, GAMMA)
        chance = mine.sigmoid()
        both, either = (chance * truth).sum(1), (chance + truth).sum(1)
        return {
            "mask": how.mask * cells.mean(1).sum() / count,
            "dice": how.dice * (1 - (2 * both + 1) / (either + 1)).sum() / count,
        }

    @torch.no_grad()
    def _points(self, logits: Tensor, points: int) -> Float[Tensor, "n p 2"]:
        """Points in [0, 1]: mostly where the mask is in doubt, the others anywhere."""
        shape = (len(logits), OVERSAMPLED * points, 2)
        drawn = torch.rand(shape, generator=self.generator).to(logits.device, logits.dtype)
        doubtful = int(DOUBTFUL * points)
        first = _sample(logits, drawn).abs().topk(doubtful, dim=1, largest=False).indices
        chosen = drawn.gather(1, first[..., None].expand(-1, -1, 2))
        anywhere = torch.rand(len(logits), points - doubtful, 2, generator=self.generator)
        return torch.cat((chosen, anywhere.to(drawn)), 1)


def _of(owner: Tensor, values: Sequence[Tensor]) -> Tensor:
    """What each query that answers for an object should say, in the queries' order."""
    return torch.cat([one[mine[mine >= 0]] for mine, one in zip(owner, values, strict=True)])


def _sample(image: Float[Tensor, "n h w"], points: Float[Tensor, "n p 2"]) -> Tensor:
    """Bilinear values at points in [0, 1]; beyond the outermost centres those of the border."""
    where = 2 * points[:, None] - 1
    read = functional.grid_sample(image[:, None], where, padding_mode="border", align_corners=False)
    return read[:, 0, 0]
