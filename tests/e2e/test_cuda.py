"""On a GPU the commands give what they give on the CPU; skipped where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

from forecast.checkpoint.checkpoint import load_checkpoint
from forecast.cli.main import app
from forecast.config.config import Config
from forecast.config.data import Loading
from forecast.config.training import Stage
from forecast.storage.stores import open_forecast_store
from forecast.training.run import run_training
from tests.support.sequences import SMALL
from tests.support.stores import Mover, sequence_store
from tests.support.trainings import interrupt_at

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
SEQUENCES = "6"


def run(*arguments: str | Path) -> str:
    """A command that must succeed, and what it printed."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def roll_out(output: Path, device: str, *options: str) -> Path:
    run(
        *("rollout", "--device", device, "--limit", SEQUENCES, "--output", output, "--gif", ""),
        *options,
    )
    return output


def share_alike(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Of the cells that somebody has in either label map, the share that the same has in both."""
    either = (first > 0) | (second > 0)
    assert either.any()
    return float((first == second)[either].mean())


@pytest.mark.parametrize(
    "options",
    [(), ("--input", "detected"), ("--mirror",), ("--model", "constant-turn")],
    ids=["tracked", "detected", "mirror", "constant-turn"],
)
def test_a_rollout_is_that_of_the_cpu(tmp_path: Path, options: tuple[str, ...]) -> None:
    cpu, cuda = (
        open_forecast_store(str(roll_out(tmp_path / f"{device}.zarr", device, *options)))
        for device in ("cpu", "cuda")
    )
    assert share_alike(cpu["instance"].values, cuda["instance"].values) > 0.99
    gap = np.abs(cpu["occupancy"].values.astype(float) - cuda["occupancy"].values)
    assert gap.mean() < 1e-4
    if "detected" not in options:  # whose slots may be numbered otherwise where scores tie
        np.testing.assert_allclose(cpu["pose"].values, cuda["pose"].values, atol=0.02)
        np.testing.assert_allclose(cpu["existence"].values, cuda["existence"].values, atol=1e-3)


def test_on_a_gpu_the_device_is_chosen_by_itself(tmp_path: Path) -> None:
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.max_memory_allocated()
    roll_out(tmp_path / "auto.zarr", "auto")
    assert torch.cuda.max_memory_allocated() > before


@pytest.fixture
def street(tmp_path: Path) -> str:
    scenes = [[Mover(-8.0 + i, 1.0, 0.1 * i, 4.0 + i, 0.2), Mover(2.0, -3.0)] for i in range(8)]
    return sequence_store(tmp_path / "street.zarr", scenes)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("detected", [0.0, 0.5], ids=["tracked", "half-detected"])
def test_training_resumes_and_forecasts_on_any_device(
    street: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    precision: Literal["32-true", "bf16-mixed"],
    detected: float,
) -> None:
    config = Config(
        model=SMALL,
        curriculum=(Stage(2, 2, detected=detected),),
        loading=Loading(batch_size=2, workers=1),
        precision=precision,
        save_every_steps=1,
    )
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        interrupt_at(patch, 5)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            run_training(config, [street], street, str(folder), resume=False)
    run_training(config, [street], street, str(folder), resume=True)
    checkpoint = load_checkpoint(folder)
    assert checkpoint.training["steps"] == 8
    assert {weight.device.type for weight in checkpoint.model.parameters()} == {"cpu"}
    assert all(torch.isfinite(weight).all() for weight in checkpoint.model.parameters())
    for device in ("cpu", "cuda"):
        options = ("--device", device, "--output", tmp_path / f"{device}.zarr", "--gif", "")
        run("rollout", "--data", street, "--model", folder, *options)


def test_workers_share_a_gpu(tmp_path: Path) -> None:
    one = roll_out(tmp_path / "one.zarr", "cuda", "--batch-size", "2")
    two = roll_out(tmp_path / "two.zarr", "cuda", "--batch-size", "2", "--workers", "2")
    first, second = (open_forecast_store(str(store))["instance"].values for store in (one, two))
    assert share_alike(first, second) > 0.99


def test_the_doctor_names_the_gpu() -> None:
    assert torch.cuda.get_device_name(0) in run("doctor").replace("\n", " ")
