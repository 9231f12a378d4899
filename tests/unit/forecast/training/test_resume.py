"""Training that reads the raster in some stages only resumes as exactly as any other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from forecast.checkpoint.checkpoint import load_checkpoint
from forecast.cli.main import app
from forecast.config.config import Config
from forecast.config.data import Loading
from forecast.config.training import Optimisation, Stage
from forecast.data.module import BatchOrder
from forecast.errors import CheckpointError
from forecast.training.module import ForecastTraining
from forecast.training.run import run_training
from tests.support.sequences import SMALL
from tests.support.stores import Mover, sequence_store
from tests.support.trainings import STAGED, interrupt_at


@pytest.fixture
def store(tmp_path: Path) -> str:
    scenes = [[Mover(-8.0 + i, 1.0, 0.1 * i, 4.0 + i, 0.2)] for i in range(6)]
    return sequence_store(tmp_path / "train.zarr", scenes)


def interrupted(store: str, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was stopped at its second step."""
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            run_training(STAGED, [store], None, str(run), resume=False)


UNLIKE = (Stage(1, 1), Stage(1, 1, raster=False, frozen=("raster_encoder", "mask_head")))
READING = STAGED.model_copy(update={"model": replace(SMALL, raster="always"), "curriculum": UNLIKE})


@pytest.mark.parametrize(("config", "step"), [(STAGED, 1), (STAGED, 5), (READING, 4)])
def test_stages_with_and_without_the_raster_resume_bit_for_bit(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Config, step: int
) -> None:
    run_training(config, [store], None, str(tmp_path / "whole"), resume=False)
    with monkeypatch.context() as patch:
        interrupt_at(patch, step)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            run_training(config, [store], None, str(tmp_path / "parts"), resume=False)
    run_training(config, [store], None, str(tmp_path / "parts"), resume=True)
    whole, parts = (
        load_checkpoint(tmp_path / name).model.state_dict() for name in ("whole", "parts")
    )
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name


@pytest.mark.parametrize("step", [3, 5])
def test_workers_that_read_ahead_resume_in_the_order_of_the_interrupted_epoch(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    config = STAGED.model_copy(update={"loading": Loading(batch_size=2, workers=1)})
    run_training(config, [store], store, str(tmp_path / "whole"), resume=False)
    with monkeypatch.context() as patch:
        interrupt_at(patch, step)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            run_training(config, [store], store, str(tmp_path / "parts"), resume=False)
    run_training(config, [store], store, str(tmp_path / "parts"), resume=True)
    assert load_checkpoint(tmp_path / "parts").hash == load_checkpoint(tmp_path / "whole").hash


def test_a_run_is_not_resumed_on_other_batches(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(store, tmp_path / "run", monkeypatch)
    before = sorted((tmp_path / "run").rglob("*"))
    with pytest.raises(CheckpointError, match="batch size"):
        run_training(STAGED, [store, store], None, str(tmp_path / "run"), resume=True)
    assert sorted((tmp_path / "run").rglob("*")) == before, "a refusal leaves nothing"


def test_a_run_that_another_version_began_is_not_resumed(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(store, tmp_path / "run", monkeypatch)
    path = tmp_path / "run" / "last.ckpt"
    state = torch.load(path, weights_only=True)
    del state["state_dict"]["model.visibility_head.judge.0.weight"]
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"began.*1 weights, such as model\.visibility_head"):
        run_training(STAGED, [store], None, str(tmp_path / "run"), resume=True)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 7}, ": seed=0; got seed=7;"),
        ({"steps_per_epoch": 1}, ": steps_per_epoch=null; got steps_per_epoch=1;"),
        (
            {"optimisation": Optimisation(warmup_steps=3, dropout=0.2)},
            ": optimisation.warmup_steps=2; got optimisation.warmup_steps=3;",
        ),
    ],
)
def test_a_run_is_not_resumed_with_other_settings(
    store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, object],
    named: str,
) -> None:
    interrupted(store, tmp_path / "run", monkeypatch)
    other = STAGED.model_copy(update=change)
    before = sorted((tmp_path / "run").rglob("*"))
    with pytest.raises(CheckpointError, match=named):
        run_training(other, [store], None, str(tmp_path / "run"), resume=True)
    assert sorted((tmp_path / "run").rglob("*")) == before, "a refusal leaves nothing"
    again = STAGED.model_copy(update={"loading": Loading(batch_size=2, workers=1)})
    run_training(again, [store], None, str(tmp_path / "run"), resume=True)


def test_a_run_resumed_after_its_last_step_reads_the_raster_as_before(
    store: str, tmp_path: Path
) -> None:
    blind = replace(SMALL, raster="detection")
    config = STAGED.model_copy(update={"model": blind, "curriculum": (Stage(1, 1),)})
    for resume in (False, True):
        run_training(config, [store], None, str(tmp_path / "run"), resume=resume)
        assert load_checkpoint(tmp_path / "run").model.spec.raster == "detection"


def test_every_epoch_has_an_order_of_its_own(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    original = BatchOrder.__iter__

    def spy(self: BatchOrder) -> Iterator[list[int]]:
        batches = list(original(self))
        drawn.append(batches)
        return iter(batches)

    monkeypatch.setattr(BatchOrder, "__iter__", spy)
    run_training(STAGED, [store], None, str(tmp_path / "run"), resume=False)
    assert len(drawn) == 2
    assert drawn[0] != drawn[1]


def test_a_finished_run_that_is_resumed_keeps_its_averaged_weights(
    store: str, tmp_path: Path
) -> None:
    run_training(STAGED, [store], None, str(tmp_path / "run"), resume=False)
    before = load_checkpoint(tmp_path / "run").hash
    run_training(STAGED, [store], None, str(tmp_path / "run"), resume=True)
    assert load_checkpoint(tmp_path / "run").hash == before


def test_a_finished_run_that_is_resumed_says_so_and_gets_no_further_logs(
    store: str, tmp_path: Path
) -> None:
    config, output = tmp_path / "config.yaml", tmp_path / "run"
    config.write_text(STAGED.model_dump_json())
    command = f"train --config {config} --data {store} --val {store} --output {output}"
    first = CliRunner().invoke(app, command.split())
    before = sorted(output.rglob("*"))
    again = CliRunner().invoke(app, [*command.split(), "--resume"])
    assert f"{output}: trained; " in first.output
    assert f"{output}: had been trained already, all of its 6 steps; " in again.output
    assert sorted(output.rglob("*")) == before


def test_the_optimizer_lists_its_parameters_in_the_model_s_order() -> None:
    """Its saved state is found again by position."""
    from tests.support.sequences import forecaster

    model = forecaster(trained=False)
    training = ForecastTraining(
        model,
        STAGED.curriculum,
        STAGED.loss,
        STAGED.augmentation,
        STAGED.corruption,
        STAGED.optimisation,
        history=3,
        dt_s=0.5,
        steps=1,
        seed=0,
    )
    made = training.configure_optimizers()
    assert isinstance(made, dict)
    fast, slow = (group["params"] for group in made["optimizer"].param_groups)
    assert model.raster_encoder is not None
    assert [id(one) for one in slow] == [id(one) for one in model.raster_encoder.parameters()]
    assert len(fast) + len(slow) == len(list(model.parameters()))
