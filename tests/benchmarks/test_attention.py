"""Deformable attention by each backend, and by mmcv-lite's own path, at the reference's sizes.

``make benchmark`` prints one line of JSON for each size; the backends take turns, so that a busy
machine is as busy for each.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from forecast.model.layers.deformable_kernels import COMPILED, deformable_attention, problem
from forecast.model.layers.levels import level_cell_centres
from tests.support.mmcv import mmcv_attention

pytestmark = [
    pytest.mark.benchmark,
    # mmcv's, at import and use.
    *(
        pytest.mark.filterwarnings(f"ignore::{kind}")
        for kind in ("DeprecationWarning", "FutureWarning", "UserWarning")
    ),
]
SHAPES = [(100, 151), (50, 76), (50, 76), (25, 38)]  # layers 2 to 4 of a dilated ResNet, one extra
CELLS = sum(height * width for height, width in SHAPES)
HEADS, WIDTH, POINTS = 8, 32, 4
REACH = 2.0  # cells
ROUNDS = 5
Function = Callable[[Tensor, Tensor, Tensor], Tensor]


def functions() -> dict[str, Function]:
    """torch first: the others are compared with it."""
    theirs = mmcv_attention().multi_scale_deformable_attn_pytorch
    sizes = torch.tensor(SHAPES)
    runs = ["torch", *(name for name in COMPILED if problem(name, "cpu") is None)]

    def ours(name: str) -> Function:
        return lambda v, at, w: deformable_attention(v, SHAPES, at, w, name)  # type: ignore[arg-type]

    return {name: ours(name) for name in runs} | {
        "mmcv-lite": lambda value, at, weights: theirs(value, sizes, at, weights)
    }


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward and backward"])
@pytest.mark.parametrize(("part", "queries"), [("encoder", CELLS), ("decoder", 300)])
def test_attention(part: str, queries: int, backward: bool) -> None:
    torch.manual_seed(0)
    shape = (1, queries, HEADS, len(SHAPES), POINTS)
    value = torch.randn(1, CELLS, HEADS, WIDTH, requires_grad=backward)
    # Cells look around themselves, queries anywhere; all within some cells of one place.
    places = (
        level_cell_centres(SHAPES, value) if part == "encoder" else torch.rand(1, queries, 1, 2)
    )
    sizes = torch.tensor([[width, height] for height, width in SHAPES])[:, None]
    locations = places[:, :, None, None].detach() + REACH * torch.randn(*shape, 2) / sizes
    locations.requires_grad_(backward)
    weights = torch.rand(shape).flatten(3).softmax(-1).view(shape).requires_grad_(backward)
    upstream = torch.randn(1, queries, HEADS * WIDTH)
    seconds: dict[str, list[float]] = {}
    for turn in range(ROUNDS + 1):
        for name, function in functions().items():
            start = time.perf_counter()
            out = function(value, locations, weights)
            if backward:
                out.backward(upstream)
            if turn:  # the first warms up
                seconds.setdefault(name, []).append(time.perf_counter() - start)
            del out
    line = {
        "stage": f"attention, {part}, {'forward and backward' if backward else 'forward'}",
        "queries": queries,
        "milliseconds": {name: spread([1000 * s for s in all_]) for name, all_ in seconds.items()},
        "times faster than torch": {
            name: spread([t / s for t, s in zip(seconds["torch"], all_, strict=True)])
            for name, all_ in seconds.items()
        },
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(line))


def spread(values: list[float]) -> list[float]:
    """Minimum, median, maximum."""
    return [round(f(values), 2) for f in (min, statistics.median, max)]
