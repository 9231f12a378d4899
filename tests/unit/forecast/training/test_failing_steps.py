"""Steps that fail: what is not finite, or cannot be read, stops training and costs nothing."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from forecast.checkpoint.checkpoint import load_checkpoint
from forecast.config.data import Loading
from forecast.data.reader import SequenceReader
from forecast.errors import CheckpointError, DataError, TrainingError
from forecast.training.module import ForecastTraining
from forecast.training.run import run_training
from forecast.training.state import StateFile
from forecast.training.watch import MOST_LEFT_OUT
from forecast.types import BEVSequence
from tests.support.stores import Mover, sequence_store
from tests.support.trainings import QUICK

RARELY = QUICK.model_copy(update={"save_every_steps": 1000})


@pytest.fixture
def store(tmp_path: Path) -> str:
    scenes = [[Mover(-8.0 + i, 1.0, 0.1 * i, 4.0 + i, 0.2)] for i in range(8)]
    return sequence_store(tmp_path / "train.zarr", scenes)


def spoil_loss(monkeypatch: pytest.MonkeyPatch, step: int, spoil: Any, steps: int = 1) -> None:
    """Changes the loss of one step, or of some from it on."""
    calls = []
    original = ForecastTraining.training_step

    def training_step(self: ForecastTraining, batch: BEVSequence, index: int) -> Tensor:
        loss = original(self, batch, index)
        calls.append(index)
        return spoil(self, loss) if step < len(calls) <= step + steps else loss

    monkeypatch.setattr(ForecastTraining, "training_step", training_step)


def not_a_number(_: ForecastTraining, loss: Tensor) -> Tensor:
    return loss * torch.nan


def not_a_number_apart(_: ForecastTraining, loss: Tensor) -> Tensor:
    """Not finite, with a gradient that is: that of a constant is 0."""
    return loss + torch.nan


def exploding(module: ForecastTraining, loss: Tensor) -> Tensor:
    """Finite, with a gradient that is not: the square root's at zero."""
    weight = next(module.parameters())
    return loss + (0.0 * weight).abs().sum().sqrt()


@pytest.mark.parametrize("spoil", [not_a_number, not_a_number_apart])
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_what_was_learned(
    spoil: Any, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_training(RARELY, [store], None, str(tmp_path / "whole"), resume=False)
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        spoil_loss(patch, 7, spoil)
        place = rf"at step 7 \(epoch 2 of {RARELY.epochs}\)"
        with pytest.raises(TrainingError, match=f"finite loss; got nan {place}") as caught:
            run_training(RARELY, [store], None, str(run), resume=False)
    assert f"of {store}" in str(caught.value)
    kept = load_checkpoint(run)
    assert kept.training["steps"] == 7
    assert "at step 7" in kept.training["stopped"]
    assert all(value.isfinite().all() for value in kept.model.state_dict().values())
    run_training(RARELY, [store], None, str(run), resume=True)
    assert load_checkpoint(run).hash == load_checkpoint(tmp_path / "whole").hash
    assert "stopped" not in load_checkpoint(run).training


def test_steps_whose_gradient_is_not_finite_are_left_out_unless_there_are_many_in_a_row(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        spoil_loss(patch, 2, exploding, MOST_LEFT_OUT)
        run_training(RARELY, [store], None, str(tmp_path / "run"), resume=False)
    learned = load_checkpoint(tmp_path / "run").model.state_dict()
    assert all(value.isfinite().all() for value in learned.values())
    with monkeypatch.context() as patch:
        spoil_loss(patch, 2, exploding, MOST_LEFT_OUT + 1)
        place = f"at step {2 + MOST_LEFT_OUT} "
        with pytest.raises(TrainingError, match=rf"finite gradient; got (nan|inf) {place}"):
            run_training(RARELY, [store], None, str(tmp_path / "broken"), resume=False)


def test_the_batch_at_fault_is_named(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sequences in the store that they are of, of two."""
    other = sequence_store(tmp_path / "other.zarr", [[Mover(0.0, 0.0)], [Mover(1.0, 1.0)]], first=8)
    seen: list[BEVSequence] = []

    def encode_raster(self: ForecastTraining, batch: BEVSequence, index: int) -> None:
        seen.append(batch)

    monkeypatch.setattr(ForecastTraining, "on_train_batch_start", encode_raster)
    spoil_loss(monkeypatch, 6, not_a_number)
    with pytest.raises(TrainingError) as caught:
        run_training(RARELY, [store, other], None, str(tmp_path / "run"), resume=False)
    named = str(caught.value).split("sequences ")[1].split(" of ")
    path, numbers = named[1].split(";")[0], [int(n.split()[0]) for n in named[0].split(", ")]
    assert all(f"{n} (scene-{n + 8 * (path == other)})" in named[0] for n in numbers)
    reader = SequenceReader(path, raster_frames=seen[-1].instance.shape[1])
    for row, number in enumerate(numbers):
        assert torch.equal(seen[-1].instance[row], reader[number].instance[0])


def test_the_norm_of_the_gradient_is_logged(store: str, tmp_path: Path) -> None:
    longer = QUICK.model_copy(update={"loading": Loading(batch_size=1, workers=0)})
    run_training(longer, [store], None, str(tmp_path / "run"), resume=False)
    with open(tmp_path / "run" / "csv" / "metrics.csv", encoding="utf-8") as file:
        norms = [float(row["grad_norm"]) for row in csv.DictReader(file) if row["grad_norm"]]
    assert norms
    assert min(norms) > 0


@pytest.mark.parametrize("step", [2, 3, 5])
def test_a_run_whose_data_failed_resumes_bit_for_bit_once_it_is_mended(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Step 3 is of the last batch of an epoch of four."""
    run_training(RARELY, [store], None, str(tmp_path / "whole"), resume=False)
    original, read = SequenceReader.__getitem__, []

    def broken(self: SequenceReader, index: int) -> BEVSequence:
        read.append(index)
        if len(read) > 2 * step:
            raise DataError("a whole chunk", "a damaged one", "mend it")
        return original(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(SequenceReader, "__getitem__", broken)
        with pytest.raises(DataError, match="whole chunk"):
            run_training(RARELY, [store], None, str(tmp_path / "run"), resume=False)
    state = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    assert state["global_step"] >= step - 1
    run_training(RARELY, [store], None, str(tmp_path / "run"), resume=True)
    assert load_checkpoint(tmp_path / "run").hash == load_checkpoint(tmp_path / "whole").hash


def test_a_failure_before_anything_was_learned_leaves_no_checkpoint(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_loss(monkeypatch, 0, not_a_number)
    with pytest.raises(TrainingError, match="at step 0"):
        run_training(QUICK, [store], None, str(tmp_path / "run"), resume=False)
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert not (tmp_path / "run" / "last.ckpt").exists()


def test_a_state_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, path = StateFile(), tmp_path / "last.ckpt"
    files.save_checkpoint({"step": 1}, path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CheckpointError, match="No space left"):
        files.save_checkpoint({"step": 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert [found.name for found in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"\x80\x02X"])
def test_a_damaged_state_is_refused_in_one_line(content: bytes, store: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.ckpt").write_bytes(content)
    with pytest.raises(CheckpointError, match="whole state to resume from"):
        run_training(QUICK, [store], None, str(tmp_path / "run"), resume=True)
