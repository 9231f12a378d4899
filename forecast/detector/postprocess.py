"""From class logits and mask logits of queries to segments, label maps and masks.

Sources: Carion et al., "End-to-end object detection with transformers" (2020), appendix on
panoptic inference and its public implementation; Cheng et al., "MaskFormer" (2021), for the rule
that weighs masks by their scores.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

KEEP = 0.85  # score from which the original DETR takes a mask into a panoptic map
SMALLEST = 4  # cells: segments of so few or fewer are dropped
NOTHING = -1  # class of cells that no segment covers


@dataclass(frozen=True)
class Segment:
    """One segment of a panoptic map.

    Attributes:
        id: Its value in the map, from 1.
        label: Its class, from 0.
        score: Of the best query that it is made of.
        area: Cells that it covers.
        queries: The queries that it is made of: several where stuff was merged.
    """

    id: int
    label: int
    score: float
    area: int
    queries: tuple[int, ...]


@dataclass(frozen=True)
class Panoptic:
    """A map of segments.

    Attributes:
        ids: Segment of each cell; 0 = none.
        classes: Class of each cell; -1 = none.
        segments: What each id is.
    """

    ids: Int[Tensor, "h w"]
    classes: Int[Tensor, "h w"]
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class LabelMaps:
    """One BEV frame as the project's stores hold it (see ``forecast.types.StepForecast``).

    Attributes:
        instance: Ids; 0 = background.
        semantic: Class k in the order of the classes, from 1; 0 = background.
    """

    instance: Int[Tensor, "h w"]
    semantic: Int[Tensor, "h w"]


def scores_and_labels(
    logits: Float[Tensor, "... c"], no_object: bool
) -> tuple[Float[Tensor, "..."], Int[Tensor, "..."]]:
    """Score and class of each query.

    Args:
        logits: Class logits.
        no_object: Whether the last class stands for "nothing" and classes exclude each other
            (softmax, the original DETR); otherwise each class is judged by its sigmoid
            (deformable).

    Returns:
        The best class and its probability; 0 where "nothing" is likelier than any class.
    """
    if not no_object:
        scores, labels = logits.sigmoid().max(-1)
        return scores, labels
    probability = logits.softmax(-1)
    scores, labels = probability[..., :-1].max(-1)
    return torch.where(scores > probability[..., -1], scores, 0.0), labels


def resize_masks(
    masks: Float[Tensor, "q h w"], size: tuple[int, int] | None
) -> Float[Tensor, "q H W"]:
    """Masks at another size, bilinearly; as they are where no size is given."""
    if size is None or masks.shape[-2:] == size:
        return masks
    if len(masks) == 0:
        return masks.new_zeros(0, *size)
    return functional.interpolate(masks[None], size, mode="bilinear", align_corners=False)[0]


def instance_masks(
    masks: Float[Tensor, "q h w"], size: tuple[int, int] | None = None, threshold: float = 0.5
) -> Bool[Tensor, "q H W"]:
    """Each query's own mask; they may overlap."""
    return resize_masks(masks, size).sigmoid() > threshold


def panoptic(
    scores: Float[Tensor, "q"],
    labels: Int[Tensor, "q"],
    masks: Float[Tensor, "q h w"],
    stuff: Collection[int] = (),
    size: tuple[int, int] | None = None,
    keep: float = KEEP,
    smallest: int = SMALLEST,
) -> Panoptic:
    """The panoptic map of the original DETR: every cell goes to the likeliest mask.

    Masks of one stuff class are one segment. Segments that win too few cells are dropped and
    their cells given to the others, until all are large enough. (The public implementation
    forgets the merging when it does so; here merged masks stay together.)

    Args:
        scores: Of each query.
        labels: Its class, from 0.
        masks: Its mask logits.
        stuff: Classes without instances, such as a road.
        size: Size of the map; that of the masks where None.
        keep: Queries with a higher score take part.
        smallest: Segments of so few cells or fewer are dropped.
    """
    taken = (scores > keep).nonzero()[:, 0]
    groups = _merge_stuff(taken.tolist(), labels.tolist(), stuff)
    share = resize_masks(masks[taken], size).softmax(0)
    row = {query: index for index, query in enumerate(taken.tolist())}
    while True:
        members = [row[query] for group in groups for query in group]
        owner = [number for number, group in enumerate(groups, 1) for _ in group]
        ids = _likeliest(share[members], torch.tensor(owner, dtype=torch.long, device=share.device))
        areas = torch.bincount(ids.flatten(), minlength=len(groups) + 1)[1:].tolist()
        large = [group for group, area in zip(groups, areas, strict=True) if area > smallest]
        if len(large) == len(groups):
            return _described(ids, groups, areas, scores, labels)
        groups = large


def label_maps(
    scores: Float[Tensor, "q"],
    labels: Int[Tensor, "q"],
    masks: Float[Tensor, "q h w"],
    ids: Int[Tensor, "q"] | None = None,
    size: tuple[int, int] | None = None,
    keep: float = 0.5,
) -> LabelMaps:
    """Instance label map and class map of a BEV frame, whose background has no query.

    A cell goes to the mask of highest probability, if that is above one half.

    Args:
        scores: Of each query.
        labels: Its class, from 0.
        masks: Its mask logits.
        ids: Id of each query, from 1, such as a track's; None numbers the drawn ones.
        size: Size of the maps; that of the masks where None.
        keep: Queries with a higher score are drawn.
    """
    taken = (scores > keep).nonzero()[:, 0]
    logits = resize_masks(masks[taken], size)
    background = logits.new_zeros(1, *logits.shape[1:])
    winner = torch.cat((background, logits)).argmax(0)
    drawn = torch.arange(1, len(taken) + 1, device=winner.device) if ids is None else ids[taken]
    zero = torch.zeros(1, dtype=torch.long, device=winner.device)
    instance = torch.cat((zero, drawn.long()))[winner]
    return LabelMaps(instance, torch.cat((zero, labels[taken].long() + 1))[winner])


def _merge_stuff(
    queries: list[int], labels: list[int], stuff: Collection[int]
) -> list[tuple[int, ...]]:
    """One group per thing and one per stuff class, in the order of their first query."""
    groups: dict[tuple[str, int], list[int]] = {}
    for query in queries:
        label = labels[query]
        key = ("stuff", label) if label in stuff else ("thing", query)
        groups.setdefault(key, []).append(query)
    return [tuple(group) for group in groups.values()]


def _likeliest(share: Float[Tensor, "q h w"], owner: Int[Tensor, "q"]) -> Int[Tensor, "h w"]:
    """The owner of the largest share at each cell; 0 where no query takes part."""
    if len(share) == 0:
        return torch.zeros(share.shape[1:], dtype=torch.long, device=share.device)
    return owner[share.argmax(0)]


def _described(
    ids: Int[Tensor, "h w"],
    groups: list[tuple[int, ...]],
    areas: list[int],
    scores: Float[Tensor, "q"],
    labels: Int[Tensor, "q"],
) -> Panoptic:
    segments = tuple(
        Segment(number, int(labels[group[0]]), float(scores[list(group)].max()), area, group)
        for number, (group, area) in enumerate(zip(groups, areas, strict=True), 1)
    )
    table = torch.tensor([NOTHING, *(segment.label for segment in segments)], device=ids.device)
    return Panoptic(ids, table[ids], segments)
