"""A state to resume from may come from anywhere: it runs no code, and fits or is refused."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from forecast.errors import CheckpointError
from forecast.training.run import run_training
from forecast.training.state import SameSettings
from tests.support.stores import Mover, sequence_store
from tests.support.trainings import QUICK


class Evil:
    """Makes a folder where it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    scenes = [[Mover(-8.0 + i, 1.0, 0.1 * i, 4.0 + i, 0.2)] for i in range(4)]
    return sequence_store(tmp_path_factory.mktemp("data") / "train.zarr", scenes)


@pytest.fixture(scope="module")
def finished(store: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of a run that is complete."""
    run = tmp_path_factory.mktemp("finished")
    run_training(QUICK, [store], None, str(run), resume=False)
    return run / "last.ckpt"


def resume(store: str, run: Path) -> str:
    """The one line that resuming is refused with."""
    with pytest.raises(CheckpointError) as caught:
        run_training(QUICK, [store], None, str(run), resume=True)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("archive", [True, False], ids=["zip", "plain"])
def test_a_state_runs_no_code(archive: bool, store: str, finished: Path, tmp_path: Path) -> None:
    state = torch.load(finished, weights_only=True)
    state["further"] = Evil(tmp_path / "pwned")
    run = tmp_path / "run"
    run.mkdir()
    torch.save(state, run / "last.ckpt", _use_new_zipfile_serialization=archive)
    assert "of tensors and plain values; got a damaged" in resume(store, run)
    assert f"it would run {os.mkdir.__module__}.mkdir" in resume(store, run)
    assert not (tmp_path / "pwned").exists()
    assert [path.name for path in run.iterdir()] == ["last.ckpt"]


def test_a_bare_pickle_runs_no_code(store: str, tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(pickle.dumps(Evil(tmp_path / "pwned")))
    assert "of tensors and plain values" in resume(store, tmp_path)
    assert not (tmp_path / "pwned").exists()


def moments_of_others(state: dict[str, Any]) -> None:
    for kept in state["optimizer_states"][0]["state"].values():
        kept["exp_avg"] = torch.zeros(7)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state: state.pop("SequenceData"), "SequenceData: Field required"),
        (lambda state: state["SequenceData"].update(skip=-1), "SequenceData.skip"),
        (lambda state: state.update(global_step=-1), "global_step"),
        (lambda state: state.update(global_step="many"), "global_step"),
        (lambda state: state.update(state_dict={"w": "none"}), "state_dict.w"),
        (lambda state: state.pop("loops"), "loops"),
        (lambda state: state["loops"]["fit_loop"].clear(), "this network"),
        (lambda state: state.pop("pytorch-lightning_version"), "this network"),
        (lambda state: state["optimizer_states"].clear(), "optimizer_states"),
        (lambda state: state["lr_schedulers"].clear(), "lr_schedulers"),
        (moments_of_others, "moments of"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(
    change: Callable[[dict[str, Any]], None],
    told: str,
    store: str,
    finished: Path,
    tmp_path: Path,
) -> None:
    state = torch.load(finished, weights_only=True)
    state["global_step"] -= 1  # a run with something to do
    state["SequenceData"]["epoch"], state["SequenceData"]["skip"] = 1, 1
    change(state)
    torch.save(state, tmp_path / "last.ckpt")
    assert told in resume(store, tmp_path)


def test_what_an_earlier_version_did_not_know_was_as_by_default() -> None:
    then = SameSettings(QUICK).state_dict()
    for stage in then["curriculum"]:
        del stage["frozen"], stage["raster"]
    SameSettings(QUICK).load_state_dict(then)
    then["curriculum"][0]["horizon"] = 3
    with pytest.raises(CheckpointError, match="the settings of the run"):
        SameSettings(QUICK).load_state_dict(then)
