"""What a longer rollout costs, counted rather than timed: as much for every step, and no memory."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from forecast.loop import StepModel, observed, rollout
from forecast.model.baselines import Baseline
from forecast.model.detected_input import Detecting
from forecast.types import StepForecast, map_tensors
from tests.support.sequences import TRAFFIC, forecaster, sequences

Model = StepModel[Any, StepForecast]
MODELS: dict[str, Callable[[], Model]] = {
    "tracked": forecaster,
    "without raster": lambda: forecaster(raster="none"),
    "detected": lambda: Detecting(forecaster()),
    "constant turn": lambda: Baseline("constant-turn", 3),
}


class Work(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts torch's operations."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.operations += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Model:
    return MODELS[request.param]()


def work_of(model: Model, horizon: int) -> int:
    with torch.inference_mode(), Work() as work:
        for _ in rollout(model, sequences(TRAFFIC).crop(0, 3), horizon):
            pass
    return work.operations


def test_every_step_is_as_much_work(model: Model) -> None:
    short, middle, long = (work_of(model, horizon) for horizon in (6, 24, 96))
    early, late = (middle - short) / (24 - 6), (long - middle) / (96 - 24)
    assert late == pytest.approx(early, rel=1e-3)  # a tensor more or less needs to be copied


def bytes_of(state: Any) -> int:
    """What a state keeps from being freed: whole storages, not only what is seen of them."""
    storages = {}

    def note(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    map_tensors(state, note)
    return sum(storages.values())


def test_a_state_does_not_grow(model: Model) -> None:
    sizes = []
    with torch.inference_mode():
        state = observed(model, sequences(TRAFFIC).crop(0, 3))
        for _ in range(96):
            state, _ = model.step(state, 0.5)
            sizes.append(bytes_of(state))
    assert sizes[5] == sizes[23] == sizes[95]
    assert max(sizes) <= 2 * sizes[5]


def test_a_rollout_keeps_no_forecast(model: Model) -> None:
    alive: list[weakref.ref[Tensor]] = []
    with torch.inference_mode():
        for step in rollout(model, sequences(TRAFFIC).crop(0, 3), 24):
            alive.append(weakref.ref(step.occupancy))
            del step
            # The loop variable of `rollout` holds the last one until the next is there.
            assert sum(one() is not None for one in alive) <= 1
