"""What is in the pictures of scores: the scores themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from forecast.evaluation.against import Compared, compare_stores
from forecast.evaluation.probability_scores import ProbabilityAccumulator
from forecast.evaluation.realization_scores import RealizationAccumulator
from forecast.evaluation.scores import Accumulator, scores_by_lead
from forecast.visualization import score_plots
from forecast.visualization.curves import Panel
from tests.support.futures import add_realizations
from tests.support.stores import Mover, forecast_store, sequence_store

SCENES = [[Mover(0, -4, speed=6)], [Mover(3, -3, speed=4), Mover(-6, 4, label=2)]]

Counted = tuple[
    Compared[Accumulator], Compared[ProbabilityAccumulator], Compared[RealizationAccumulator]
]


@pytest.fixture
def counted(tmp_path: Path) -> Counted:
    data = sequence_store(tmp_path / "s.zarr", SCENES)
    own, other = (forecast_store(tmp_path / name, data) for name in ("a.zarr", "b.zarr"))
    add_realizations(own, data, 3)

    def roll_out(*_: object) -> Any:
        raise AssertionError("no baseline is asked for")

    arguments = own, data, [other], roll_out
    return (
        compare_stores(Accumulator, *arguments),
        compare_stores(ProbabilityAccumulator, *arguments),
        compare_stores(RealizationAccumulator, *arguments),
    )


def test_panels_hold_the_scores_of_every_class_and_forecast(
    counted: Counted,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: dict[str, tuple[Sequence[Sequence[Panel]], str]] = {}

    def keep(paths: list[str], rows: Any, accent: str, *, overwrite: bool) -> None:
        drawn[Path(paths[0]).stem] = rows, accent

    monkeypatch.setattr(score_plots, "write_panels", keep)
    masks, chances, futures = counted
    score_plots.write_score_plots("pictures", masks, chances, futures)
    assert list(drawn) == list(score_plots.PICTURES)
    own, other = list(masks.named())
    assert own.endswith("a.zarr)"), "two of one model are told apart by path"
    assert other.endswith("b.zarr)")
    for rows, accent in drawn.values():
        assert accent == own
        for row in rows:
            assert [panel.title for panel in row] == ["vehicle", "pedestrian"], "no cyclist"
            assert all(list(panel.lines) == [own, other] for panel in row)
    (reliability,), _ = drawn["reliability"]
    assert reliability[0].lines[own].x == reliability[0].lines[own].y == [1.0]
    assert reliability[0].diagonal
    curve = drawn["precision_recall"][0][0][0].lines[own]
    assert curve.y[50] == curve.x[50] == 1.0
    by_lead, _ = drawn["by_lead"]
    assert [row[0].y for row in by_lead] == ["IoU", "VPQ moving", "AUC", "Brier per occupied cell"]
    values, intervals = scores_by_lead(masks.own, "vehicle")
    line = by_lead[1][0].lines[own]
    assert (line.y, line.interval) == (values["vpq_moving"], intervals["vpq_moving"])
    assert line.x == pytest.approx([0.5, 1, 1.5, 2, 2.5, 3])
    by_number, energy = drawn["realizations"][0]
    one = futures.own.scores().classes["vehicle"]
    line = by_number[0].lines[own]
    assert line.x == [1, 2, 3]
    assert line.y == one.by_number["miss_rate_moving"]
    assert by_number[0].lines[other].x == [1], "one future counts as one realization"
    assert energy[0].lines[own].y == one.by_lead["energy_moving"]
    assert energy[0].lines[other].y == [0.0] * 6, "the perfect forecast"
