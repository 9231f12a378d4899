"""What the split first convolution, few queries at a time and live queries only save.

300 queries on a memory of 25 x 38, at stride 16, without gradients: the naive form against each
step towards the one that is used. Printed as JSON, one line per pyramid and form; all forms take
turns, so that a machine's mood meets all of them.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from forecast.model.layers.mask_heads import BATCH_CELLS, FpnMaskHead
from tests.support.measure import Cost
from tests.support.naive_mask_head import naive_masks

pytestmark = pytest.mark.benchmark
QUERIES, LIVE, DIM, HEADS, ROUNDS = 300, 60, 256, 8, 5
PYRAMIDS = {
    "resnet18": ((256, 13, 19), (128, 25, 38), (64, 50, 76)),
    "resnet50 dilated": ((1024, 25, 38), (512, 25, 38), (256, 50, 76)),
}


def forms(head: FpnMaskHead, given: tuple[Any, ...]) -> dict[str, Callable[[], Tensor]]:
    """Ways to the same masks, from the naive one to the one that is used."""
    live = torch.zeros(1, QUERIES, dtype=torch.bool)
    live[0, :: QUERIES // LIVE] = True

    def split(batch_cells: int | None, live: Tensor | None = None) -> Tensor:
        head.batch_cells = batch_cells
        masks: Tensor = head(*given, live=live)
        return masks

    return {
        "naive": lambda: naive_masks(head, *given),
        "split": lambda: split(None),
        "split, few at a time": lambda: split(BATCH_CELLS),
        f"split, few at a time, {LIVE} live": lambda: split(BATCH_CELLS, live),
    }


def spread(values: list[float]) -> list[float]:
    """Least, median and most."""
    return [round(value, 2) for value in (min(values), statistics.median(values), max(values))]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", list(PYRAMIDS))
def test_forms_of_the_mask_head(name: str) -> None:
    torch.manual_seed(0)
    levels = PYRAMIDS[name]
    head = FpnMaskHead(DIM, HEADS, [level[0] for level in levels]).eval()
    padding = torch.zeros(1, 25, 38, dtype=torch.bool)
    pyramid = [torch.randn(1, *level) for level in levels]
    given = torch.randn(1, QUERIES, DIM), torch.randn(1, DIM, 25, 38), padding, pyramid
    costs: dict[str, list[tuple[float, float]]] = {}
    answers: dict[str, Tensor] = {}
    for turn in range(ROUNDS + 1):
        for form, work in forms(head, given).items():
            cost = Cost()
            with torch.no_grad():
                answers[form] = work()[:, :: QUERIES // LIVE].clone()
            seconds, peak = cost.so_far()
            if turn:  # the first one warms up
                costs.setdefault(form, []).append((seconds, peak or float("nan")))
    for form, spent in costs.items():
        torch.testing.assert_close(answers[form], answers["naive"], atol=1e-4, rtol=1e-4)
        pairs = list(zip(costs["naive"], spent, strict=True))
        line = {
            "pyramid": name,
            "form": form,
            "seconds": spread([seconds for seconds, _ in spent]),
            "peak_mib": spread([peak for _, peak in spent]),
            "times_faster": spread([naive[0] / own[0] for naive, own in pairs]),
            "times_less_memory": spread([naive[1] / own[1] for naive, own in pairs]),
            "threads": torch.get_num_threads(),
        }
        print(json.dumps(line))
