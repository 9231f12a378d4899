"""Sizes of the mask head alone: the reference's, both orders of resolution, and finer masks.

On meta tensors in the quick suite; marked slow, by real passes that draw every query and print
their time and peak memory (``-s``).
"""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from forecast.model.layers.mask_heads import FpnMaskHead, MaskPyramid
from tests.support.measure import measured
from tests.support.naive_mask_head import repeat
from tests.support.shapes import Shape, record_mask_head

DIM, HEADS = 256, 8
RESNET18, RESNET50 = (64, 128, 256, 512), (256, 512, 1024, 2048)
Size = tuple[int, int]


class Run(NamedTuple):
    """A frame, its backbone's levels, and sizes after the pyramid's levels have been added."""

    widths: tuple[int, ...]
    frame: Size
    levels: tuple[Size, ...]
    memory: Size
    queries: int
    stride: int
    pyramid: tuple[tuple[int, int, int], ...]


RUNS = {
    "ResNet-50 dilated, stride 16": Run(
        RESNET50,
        (800, 1204),
        ((200, 301), (100, 151), (50, 76), (50, 76)),
        (25, 38),
        300,
        16,
        ((1024, 25, 38), (512, 25, 38), (256, 50, 76)),
    ),
    "ResNet-18, stride 16, down first": Run(
        RESNET18,
        (800, 1204),
        ((200, 301), (100, 151), (50, 76), (25, 38)),
        (25, 38),
        300,
        16,
        ((256, 13, 19), (128, 25, 38), (64, 50, 76)),
    ),
    "ResNet-50 of the original DETR, stride 4": Run(
        RESNET50,
        (800, 1200),
        ((200, 300), (100, 150), (50, 75), (25, 38)),
        (25, 38),
        100,
        4,
        ((1024, 50, 75), (512, 100, 150), (256, 200, 300)),
    ),
    "ResNet-18, wide BEV, stride 4": Run(
        RESNET18,
        (800, 1600),
        ((200, 400), (100, 200), (50, 100), (25, 50)),
        (25, 50),
        50,
        4,
        ((256, 50, 100), (128, 100, 200), (64, 200, 400)),
    ),
    "ResNet-18, BEV of 200 x 200, every cell": Run(
        RESNET18,
        (200, 200),
        ((50, 50), (25, 25), (13, 13), (7, 7)),
        (7, 7),
        50,
        1,
        ((256, 13, 13), (128, 25, 25), (64, 50, 50), (3, 200, 200)),
    ),
}


def expected(run: Run) -> dict[str, Shape]:
    """The table's rows: widths halve from level to level, sizes are those of the levels."""
    outs = [DIM // 2, DIM // 4, DIM // 8, DIM // 16, DIM // 16]
    queries, first = run.queries, DIM + HEADS
    rows: dict[str, Shape] = {
        "mask_head.attention_map": (1, queries, HEADS, *run.memory),
        "mask_head.input": (queries, first, *run.memory),
        "mask_head.stage1": (queries, first, *run.memory),
    }
    for index, level in enumerate(run.pyramid):
        rows[f"pyramid {index}"] = (1, *level)
        rows[f"mask_head.stage{index + 2}"] = (queries, outs[index], *level[1:])
    finest = run.pyramid[-1][1:]
    rows[f"mask_head.stage{len(run.pyramid) + 2}"] = (queries, outs[len(run.pyramid)], *finest)
    rows["mask_head.logits"] = (queries, 1, *finest)
    rows["mask_logits"] = (1, queries, *finest)
    return rows


def shapes_of_run(run: Run, frame: Tensor) -> dict[str, Shape]:
    rows: dict[str, Shape] = {}
    guide = MaskPyramid(run.widths, 3, 4, run.stride)
    head = FpnMaskHead(DIM, HEADS, guide.widths)
    record_mask_head(rows, guide, head)
    levels = [
        torch.rand(1, width, *size) for width, size in zip(run.widths, run.levels, strict=True)
    ]
    queries, memory = torch.rand(1, run.queries, DIM), torch.rand(1, DIM, *run.memory)
    padding = torch.zeros(1, *run.memory, dtype=torch.bool)
    with torch.no_grad():
        masks = head(queries, memory, padding, guide(frame, levels))
    rows["mask_logits"] = tuple(masks.shape)
    assert frame.is_meta or torch.isfinite(masks).all()
    return rows


@pytest.mark.parametrize("name", list(RUNS))
def test_sizes_on_meta_tensors(name: str) -> None:
    run = RUNS[name]
    with torch.device("meta"):
        assert shapes_of_run(run, torch.empty(1, 3, *run.frame)) == expected(run)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(RUNS))
def test_sizes_by_real_passes(name: str) -> None:
    torch.manual_seed(0)
    run = RUNS[name]
    frame = torch.rand(1, 3, *run.frame)
    threads = torch.get_num_threads()
    with measured(f"mask head, {name}, {run.queries} queries, {threads} thread(s)"):
        rows = shapes_of_run(run, frame)
    assert rows == expected(run)


def test_features_and_attention_side_by_side_are_what_the_first_convolution_reads() -> None:
    """The split form never builds this map; its weight is that of one convolution over it."""
    head = FpnMaskHead(DIM, HEADS, (1024, 512, 256))
    memory, padding = torch.rand(1, DIM, 25, 38), torch.zeros(1, 25, 38, dtype=torch.bool)
    with torch.no_grad():
        attention = head.attention_map(torch.rand(1, 300, DIM), memory, padding)
    joined = torch.cat((repeat(memory, 300), attention.flatten(0, 1)), 1)
    assert joined.shape == (300, 264, 25, 38)
    assert head.input.conv.weight.shape == (264, 264, 3, 3)
