"""`forecast doctor --leak`: models that look ahead are caught, those that do not pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from forecast.cli import doctor as cli_doctor
from forecast.cli import main as cli
from forecast.doctor import leak
from forecast.doctor.leak import PERTURBATIONS, examine_model, leaks
from forecast.loop import rollout
from forecast.model.baselines import Baseline, Components, ComponentState, KinematicState
from forecast.model.detected_input import Detecting
from forecast.types import BEVSequence, Observation, StepForecast
from tests.support.sequences import TRAFFIC, forecaster, sequences
from tests.support.stores import Mover, sequence_dataset

LATE = (*TRAFFIC[0], Mover(60.0, 0.0, 3.1, 20.0))


def batch() -> BEVSequence:
    one = sequences([LATE])
    assert one.track_state is not None
    one.track_state[:, -1, :3] = torch.nan  # the last is seen after the present only
    return one


def crop_first(model: Any) -> leak.Forecaster:
    return lambda sequence: list(rollout(model, sequence.crop(0, 3), 3))


def found(forecast: leak.Forecaster, mode: str = "tracked") -> list[str]:
    with torch.no_grad():
        return [str(one) for one in leaks(forecast, batch(), 3, PERTURBATIONS[mode])]


@pytest.mark.parametrize("name", ["persistence", "constant-velocity", "constant-turn"])
def test_baselines_do_not_leak(name: Any) -> None:
    assert found(crop_first(Baseline(name, 3))) == []


def test_the_forecaster_does_not_leak_with_or_without_ids() -> None:
    model = forecaster()
    assert found(crop_first(model)) == []
    assert found(crop_first(Detecting(model)), "detected") == []
    assert found(crop_first(Components(Baseline("constant-velocity", 3))), "detected") == []


def moved(state: KinematicState, by: Tensor) -> KinematicState:
    return replace(state, agents=replace(state.agents, past=state.agents.past + by))


class Counting(Baseline):
    """Knows how many agents the recording holds in all, the later ones too."""

    def observe(self, state: KinematicState, frame: Observation) -> KinematicState:
        state = super().observe(state, frame)
        if frame.track_class is None:  # the frame is one of detected input
            return state
        return moved(state, 0.01 * (frame.track_class > 0).sum())


class Peeking(Baseline):
    """Finds the frames that the history was cut from."""

    def observe(self, state: KinematicState, frame: Observation) -> KinematicState:
        assert frame.semantic is not None
        whole = frame.semantic._base
        state = super().observe(state, frame)
        return state if whole is None else moved(state, whole[0, 5].sum())


def seeing_everything(sequence: BEVSequence) -> list[StepForecast]:
    return list(rollout(Baseline("persistence", 3), sequence, 3))


@pytest.mark.parametrize(
    "forecast",
    [
        crop_first(Counting("constant-turn", 3)),
        crop_first(Peeking("constant-turn", 3)),
        seeing_everything,
    ],
    ids=["counting", "peeking", "seeing everything"],
)
def test_a_model_that_looks_ahead_is_caught(forecast: leak.Forecaster) -> None:
    (text,) = found(forecast)
    assert "of lead 1 differs when the future changes" in text


def test_reading_ids_is_a_leak_only_for_detected_input() -> None:
    forecast = crop_first(Baseline("constant-turn", 3))
    assert found(forecast) == []
    (text,) = found(forecast, "detected")
    assert "ids and boxes of the past" in text


class Listening(Components):
    """Finds its agents in rasters, but places them by the tracker's samples."""

    reads_tracks = True

    def observe(self, state: ComponentState, frame: Observation) -> ComponentState:
        assert frame.track_state is not None
        state = super().observe(state, frame)
        return replace(state, motion=moved(state.motion, 0.01 * frame.track_state.nansum()))


def test_reading_samples_is_a_leak_for_detected_input() -> None:
    one = batch()
    assert one.track_state is not None
    time_s = torch.tensor([[-1.0, -0.5, 0.0]])
    one = replace(one, track_history=one.track_state[:, :, :3], sample_time=time_s)
    forecast = crop_first(Listening(Baseline("constant-velocity", 3)))
    (text,) = (str(finding) for finding in leaks(forecast, one, 3, PERTURBATIONS["detected"]))
    assert "when ids and boxes of the past changes" in text


def test_chance_is_not_called_a_leak() -> None:
    def forecast(sequence: BEVSequence) -> Iterator[StepForecast]:
        for step in rollout(Baseline("persistence", 3), sequence.crop(0, 3), 1):
            yield replace(step, existence=torch.rand(step.existence.shape))

    (text,) = found(lambda sequence: list(forecast(sequence)))
    assert "from run to run" in text


@pytest.mark.parametrize("change", [leak.change_future, leak.change_labels])
def test_perturbations_change_what_they_say_and_nothing_else(
    change: Callable[[BEVSequence, int, torch.Generator], BEVSequence],
) -> None:
    own = batch()
    other = change(own, 3, torch.Generator().manual_seed(0))
    past = [torch.equal(getattr(own, n)[:, :3], getattr(other, n)[:, :3]) for n in PAST]
    future = [torch.equal(getattr(own, n)[:, 3:], getattr(other, n)[:, 3:]) for n in PAST]
    if change is leak.change_future:
        assert all(past)
        assert not any(future)
    else:
        assert past == [True, False, True]
        assert torch.equal(own.instance > 0, other.instance > 0)


PAST = ("semantic", "instance", "ego_pose")


def test_the_command_says_what_was_tested_and_exits_with_1_on_a_leak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = sequence_dataset([LATE])
    data["track_state"].values[0, -1, :3] = np.nan  # it comes from beyond the grid
    store = str(tmp_path / "s.zarr")
    data.to_zarr(store, mode="w", zarr_format=3, consolidated=False)
    arguments = ["doctor", "--leak", "constant-turn", "--data", store]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    assert "tracked input: no leak in 1 sequence\n" in result.output
    monkeypatch.setattr("forecast.inference.models.Baseline", Counting)
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == cli_doctor.FOUND_WRONG
    assert "sequence 0 (scene-0): pose of lead 1 differs" in result.output


def test_the_packaged_model_does_not_leak() -> None:
    report = examine_model("packaged", limit=1, horizon=2)
    assert report.modes == ("tracked", "detected")
    assert report.healthy, report.findings
