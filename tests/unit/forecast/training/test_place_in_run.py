"""A resumed run counts epochs, batches and steps as an unbroken one, wherever it was cut off."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from forecast.errors import DataError
from forecast.training.module import ForecastTraining
from forecast.training.run import run_training
from forecast.types import BEVSequence
from tests.support.stores import Mover, sequence_store
from tests.support.trainings import QUICK

EPOCH, STEPS = 4, 8  # batches; the second epoch's stage rolls out two leads
Place = tuple[int, int, int, int, int]


@pytest.fixture
def store(tmp_path: Path) -> str:
    scenes = [[Mover(-8.0 + i, 1.0, 0.1 * i, 4.0 + i, 0.2)] for i in range(2 * EPOCH)]
    return sequence_store(tmp_path / "train.zarr", scenes)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[Place]:
    """Steps taken: each its number, epoch, batch, batch among all, and leads of the stage."""
    taken: list[Place] = []
    original = ForecastTraining.training_step

    def training_step(self: ForecastTraining, batch: BEVSequence, index: int) -> Tensor:
        overall = self.trainer.fit_loop.total_batch_idx
        place = self.global_step, self.current_epoch, index, overall, self.stage.horizon
        loss = original(self, batch, index)
        taken.append(place)
        return loss

    monkeypatch.setattr(ForecastTraining, "training_step", training_step)
    return taken


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[set[int]]:
    """What each run that ended had counted of epochs begun, trained and finished."""
    ended: list[set[int]] = []

    def on_fit_end(self: ForecastTraining) -> None:
        epochs = self.trainer.fit_loop.epoch_progress
        ended.append({*vars(epochs.current).values(), *vars(epochs.total).values()})

    monkeypatch.setattr(ForecastTraining, "on_fit_end", on_fit_end)
    return ended


def fail(monkeypatch: pytest.MonkeyPatch, hook: str, step: int, error: Exception) -> None:
    """Ends training in a hook after some step."""
    original = getattr(ForecastTraining, hook)

    def failing(self: ForecastTraining, *args: Any) -> Any:
        if self.global_step == step:
            raise error
        return original(self, *args)

    monkeypatch.setattr(ForecastTraining, hook, failing)


def validated(run: Path) -> list[tuple[int, int]]:
    """Epoch and last step of the validations in the logs."""
    found: list[tuple[int, int]] = []
    for path in sorted(run.glob("csv*/metrics.csv")):
        with path.open(encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row.get("val_ade_moving")]
        found += [(int(row["epoch"]), int(row["step"])) for row in rows]
    return found


BAD = DataError("a whole chunk", "a damaged one", "mend it")


@pytest.mark.parametrize(
    ("hook", "step", "every", "kept", "error"),
    [
        pytest.param("training_step", 3, 2, 2, ArithmeticError(), id="killed-within-an-epoch"),
        pytest.param("training_step", 3, 99, 3, BAD, id="bad-data-at-its-last-step"),
        pytest.param("training_step", 4, 99, 4, BAD, id="bad-data-at-the-next-first"),
        pytest.param("validation_step", 4, 1, 4, ArithmeticError(), id="killed-in-validation"),
        pytest.param("on_train_epoch_end", 4, 1, 4, ArithmeticError(), id="killed-after-it"),
        pytest.param("validation_step", 8, 1, 8, ArithmeticError(), id="killed-in-the-last-one"),
    ],
)
def test_a_resumed_run_counts_as_an_unbroken_one(
    hook: str,
    step: int,
    every: int,
    kept: int,
    error: Exception,
    store: str,
    tmp_path: Path,
    taken: list[Place],
    ended: list[set[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, run = QUICK.model_copy(update={"save_every_steps": every}), tmp_path / "run"
    with monkeypatch.context() as patch:
        fail(patch, hook, step, error)
        with pytest.raises(type(error)):
            run_training(config, [store], store, str(run), resume=False)
    assert len(taken) == step
    run_training(config, [store], store, str(run), resume=True)
    unbroken = [(n, n // EPOCH, n % EPOCH, n, 1 + n // EPOCH) for n in range(STEPS)]
    assert taken == unbroken[:step] + unbroken[kept:]
    assert ended == [{2}]
    missing = {(step // EPOCH - 1, step - 1)} if hook == "validation_step" else set()
    assert set(validated(run)) == {(0, 3), (1, 7)} - missing, "what was cut off is not repeated"
