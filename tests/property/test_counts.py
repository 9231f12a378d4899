"""The counts against slow, independent definitions on random label maps."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torchmetrics import JaccardIndex

from forecast.evaluation.counts import Forecast, Sum, Truth, count
from forecast.evaluation.scores import iou
from forecast.grid import BEVGrid

GRID = BEVGrid(0.0, 5.0, 0.0, 3.0, 1.0)
CLASSES, LEADS, IDS = 2, 4, 4


def labels(frames: int) -> st.SearchStrategy[Any]:
    """Few ids on few cells, so that matches, switches and returns all happen."""
    return arrays(np.uint16, (frames, *GRID.shape), elements=st.integers(0, IDS))


def classes() -> st.SearchStrategy[Any]:
    """The class of each id, background first."""
    return st.lists(st.integers(1, CLASSES), min_size=IDS, max_size=IDS).map(lambda k: [0, *k])


def positions() -> st.SearchStrategy[Any]:
    place = st.one_of(st.just(np.nan), st.floats(-4, 4, width=32))
    return arrays(np.float32, (IDS, LEADS + 1, 2), elements=place)


def cells(frame: Any, ids: list[int], label: int) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for cell, value in enumerate(frame.ravel().tolist()):
        if value and ids[value] == label:
            found.setdefault(value, set()).add(cell)
    return found


def slow_moving(truth: Any, state: Any) -> set[int]:
    moving = set()
    on_grid = {k + 1 for k, place in enumerate(state[:, 0]) if GRID.contains(*place)}
    for id_ in (set(truth[0].ravel().tolist()) | on_grid) - {0}:
        here = state[id_ - 1, 0]
        for place in state[id_ - 1, 1:]:
            if float(((place - here).astype(float) ** 2).sum()) ** 0.5 > 2:
                moving.add(id_)
    return moving


def slow_counts(
    truth: Any, true_class: list[int], guess: Any, class_: list[int], state: Any, label: int
) -> tuple[list[float], list[float]]:
    """TP, FP, FN and sum of IoU, of all and of moving agents, cell by cell."""
    moving = slow_moving(truth, state)
    every, only, last = Counter[str](), Counter[str](), dict[int, int]()
    for true_frame, frame in zip(truth[1:], guess, strict=True):
        there, ours = cells(true_frame, true_class, label), cells(frame, class_, label)
        left = dict(ours)
        for g, mine in there.items():
            partner = [p for p, its in ours.items() if len(mine & its) / len(mine | its) > 0.5]
            counters = [every, only] if g in moving else [every]
            for counter in counters:
                if not partner:
                    counter["fn"] += 1
                elif last.get(g, partner[0]) != partner[0]:
                    counter.update(["fn", "fp"])
                else:
                    both = len(mine & ours[partner[0]]), len(mine | ours[partner[0]])
                    counter["tp"] += 1
                    counter["iou"] += both[0] / both[1]  # type: ignore[assignment]
            for p in partner:
                last[g] = p
                del left[p]
        for its in left.values():
            every["fp"] += 1
            touched = {g for g, mine in there.items() if mine & its}
            only["fp"] += not touched or bool(touched & moving)
    keys = ["tp", "fp", "fn", "iou"]
    return [every[key] for key in keys], [only[key] for key in keys]


@settings(max_examples=150, deadline=None)
@given(labels(LEADS + 1), classes(), labels(LEADS), classes(), positions())
def test_segment_counts_equal_a_slow_transcription(
    truth: Any, true_class: list[int], guess: Any, class_: list[int], state: Any
) -> None:
    # Half of the forecasts stay near the truth: random maps alone hardly ever match.
    guess = np.where(guess > IDS // 2, truth[1:], guess)
    sums = count(
        Truth(np.take(true_class, truth), truth, state),
        Forecast(np.take(class_, guess), guess),
        CLASSES,
        GRID,
    )
    for k in range(CLASSES):
        every, moving = slow_counts(truth, true_class, guess, class_, state, k + 1)
        total = sums[k].sum(axis=0)
        np.testing.assert_allclose(total[Sum.TP : Sum.IOU + 1], every)
        np.testing.assert_allclose(total[Sum.MOVING_TP : Sum.MOVING_IOU + 1], moving)


@settings(max_examples=25, deadline=None)
@given(labels(LEADS + 1), labels(LEADS))
def test_renaming_forecast_ids_changes_nothing(truth: Any, guess: Any) -> None:
    semantic, same = (truth > 0).astype(int), (guess > 0).astype(int)
    renamed = np.where(guess > 0, 65535 - 7 * guess.astype(int), 0).astype(np.uint16)
    one = count(Truth(semantic, truth), Forecast(same, guess), 1, GRID)
    two = count(Truth(semantic, truth), Forecast(same, renamed), 1, GRID)
    np.testing.assert_allclose(one, two)


@pytest.mark.parametrize("seed", range(3))
def test_iou_equals_torchmetrics(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, CLASSES + 1, (3, LEADS + 1, 20, 30))
    guess = np.where(rng.random((3, LEADS, 20, 30)) < 0.3, 0, truth[:, 1:])
    sums = sum(
        count(Truth(t, t), Forecast(g, g), CLASSES, BEVGrid(0, 30, 0, 20, 1))
        for t, g in zip(truth, guess, strict=True)
    )
    theirs = JaccardIndex(task="multiclass", num_classes=CLASSES + 1, average="none")
    expected = theirs(torch.from_numpy(guess), torch.from_numpy(truth[:, 1:]))
    np.testing.assert_allclose(iou(np.asarray(sums).sum(axis=1)), expected[1:], rtol=1e-5)
