"""Queries that have become alike are noticed while a run goes on."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from forecast.config.data import Loading
from forecast.config.training import Stage
from forecast.model.observer import Observer
from forecast.training import query_spread as query_spread_module
from forecast.training.query_spread import LEAST_SPREAD, QueriesAlike, query_spread
from forecast.training.run import run_training
from tests.support.stores import Mover, sequence_store
from tests.support.trainings import QUICK

OFTEN = QUICK.model_copy(
    update={
        "steps_per_epoch": 1,
        "curriculum": (Stage(4, 1),),
        "loading": Loading(batch_size=8, workers=0),
    }
)
"""Logs every step."""


@pytest.fixture
def store(tmp_path: Path) -> str:
    scenes = [
        [Mover(-8.0 + i + 4 * lane, 3.0 * lane, 0.1 * i, 2.0 * lane, 0.2) for lane in range(8)]
        for i in range(8)
    ]
    return sequence_store(tmp_path / "train.zarr", scenes)


def test_spread_is_that_between_agents_beside_their_size() -> None:
    live = torch.tensor([[True, True, False], [True, False, False]])
    query = torch.full((2, 3, 4), 3.0)
    query[~live] = 100.0
    assert float(query_spread(query, live)) == 0
    query[0, 0], query[0, 1], query[1, 0] = 1.0, -1.0, 0.0
    assert float(query_spread(query, live)) == pytest.approx(1.5**0.5)
    assert float(query_spread(torch.zeros(1, 2, 4), torch.ones(1, 2, dtype=torch.bool))) == 0


def test_a_healthy_run_logs_the_spread_and_warns_of_nothing(tmp_path: Path, store: str) -> None:
    run_training(OFTEN, [store], None, str(tmp_path / "run"), resume=False)
    with next((tmp_path / "run").glob("csv*/metrics.csv")).open() as file:
        logged = [row["query_spread"] for row in csv.DictReader(file) if row.get("query_spread")]
    assert logged
    assert all(float(spread) > LEAST_SPREAD for spread in logged)


def test_queries_that_are_all_the_same_are_warned_of_once(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Observer.__init__

    def alike(self: Observer, *args: Any) -> None:
        original(self, *args)
        nn.init.zeros_(self.query_interaction.norm_query.weight)
        nn.init.constant_(self.query_interaction.norm_query.bias, 5.0)

    monkeypatch.setattr(Observer, "__init__", alike)
    run_training(OFTEN, [store], None, str(tmp_path / "short"), resume=False)  # nothing is said
    monkeypatch.setattr(query_spread_module, "UNTRAINED_STEPS", 0)
    with pytest.warns(QueriesAlike, match="lower optimisation.learning_rate") as warned:
        run_training(OFTEN, [store], None, str(tmp_path / "run"), resume=False)
    assert len([one for one in warned if one.category is QueriesAlike]) == 1
