"""Rollouts per second on a GPU, batch 1: as they are, and with steps compiled into CUDA graphs.

``make benchmark-gpu`` prints a line of JSON for each number of agents: rollouts per second (a
history observed and six steps drawn), six steps that are not drawn, and what the processor launches
for a step. ``DEVICE=cpu`` tries the same without a GPU, and says nothing about one.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from forecast.checkpoint.checkpoint import named_checkpoint
from forecast.export.graphs import make_graph
from forecast.export.layout import GraphSpec, Layout
from forecast.export.slots import SlotForecaster
from forecast.export.write import _examples, _levels
from forecast.loop import observed, rollout
from forecast.types import map_tensors
from tests.benchmarks.test_export import AGENTS, STEPS, crowd
from tests.support.benchmarking import min_median_max

DEVICE = os.environ.get("DEVICE", "cuda")
pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="no GPU"),
]
ROUNDS = 20
LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cudaGraphLaunch")


def wait() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def per_second(work: Callable[[], object]) -> list[float]:
    """Minimum, median, maximum; the first three rounds warm up."""
    rates = []
    for _ in range(ROUNDS + 3):
        began = time.perf_counter()
        work()
        wait()
        rates.append(1 / (time.perf_counter() - began))
    return min_median_max(rates[3:])


def launched(work: Callable[[], object]) -> int:
    """Kernels and graphs that the processor has a GPU begin."""
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (DEVICE == "cuda")
    with profile(activities=activities) as profiler:
        work()
        wait()
    return sum(event.name in LAUNCHES for event in profiler.events())


@pytest.mark.parametrize("agents", AGENTS)
def test_rollouts_per_second(agents: int) -> None:
    model, history = named_checkpoint("packaged").model.eval(), crowd(agents)
    slots = SlotForecaster(model)
    layout = Layout(
        model.spec, model.inputs, history.grid, agents, 1024, _levels(model, history.grid)
    )
    (spec,) = (one for one in layout.graphs if one.name == "step")
    state = {
        name: torch.as_tensor(value).to(DEVICE).contiguous()
        for name, value in _examples(slots, layout, history)["step"].items()
    }
    model.to(DEVICE)
    history = map_tensors(history, lambda tensor: tensor.to(DEVICE))
    graph = make_graph(slots, layout, spec).to(DEVICE)
    options = {"mode": "reduce-overhead"} if DEVICE == "cuda" else {}
    quick = torch.compile(torch.export.export(graph, (), state).module(), **options)
    found: dict[str, object] = {"agents": agents, "device": DEVICE}
    with torch.inference_mode():
        found["rollouts_per_s"] = per_second(lambda: list(rollout(model, history, STEPS)))
        present = model.look_ahead(observed(model, history))
        found["launches_of_a_step"] = launched(lambda: model.advance(present, history.dt_s))
    with torch.no_grad():  # compiled code does not know inference mode's tensors
        found["six_steps_per_s"] = per_second(lambda: stepped(graph, spec, state))
        found["six_compiled_steps_per_s"] = per_second(lambda: stepped(quick, spec, state))
        found["launches_of_a_compiled_step"] = launched(lambda: quick(**state))
        said, own = quick(**state), graph(**state)
    for name, value in own.items():
        torch.testing.assert_close(said[name], value, atol=1e-3, rtol=1e-3, equal_nan=True)
    print(json.dumps(found))


def stepped(
    graph: Callable[..., dict[str, Tensor]], spec: GraphSpec, state: dict[str, Tensor]
) -> None:
    """Six steps, each of which gets what the one before said."""
    for _ in range(STEPS):
        torch.compiler.cudagraph_mark_step_begin()
        said = graph(**state)
        # A CUDA graph writes its outputs over those of the call before.
        state = state | {one.name: said[f"next_{one.name}"].clone() for one in spec.next_state}
