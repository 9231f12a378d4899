"""Rollouts per second on a GPU, batch 1: as they are, and with all graphs compiled (CUDA graphs).

``make benchmark-gpu`` prints a line of JSON for each number of agents: rollouts per second (a
history observed and six steps drawn), the same compiled, six steps that are not drawn, and what the
processor launches for a step. ``DEVICE=cpu`` tries the same without a GPU, and says nothing about
one.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from forecast.checkpoint.checkpoint import named_checkpoint
from forecast.export.graphs import make_graph
from forecast.export.host import HostForecaster
from forecast.export.layout import GraphSpec, Layout
from forecast.export.parity import observe_history
from forecast.export.slots import SlotForecaster
from forecast.export.write import _examples, _levels, in_torch
from forecast.loop import observed, rollout
from forecast.types import BEVSequence, map_tensors
from tests.benchmarks.test_export import AGENTS, STEPS, crowd
from tests.support.benchmarking import min_median_max

DEVICE = os.environ.get("DEVICE", "cuda")
pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="no GPU"),
]
ROUNDS = 20
LAUNCHES = (
    *("cudaLaunchKernel", "cudaLaunchKernelExC"),
    *("cuLaunchKernel", "cuLaunchKernelEx", "cudaGraphLaunch"),
)
READ_BY_HOST = ("id", "label", "past", "seen", "time", "observed", "raster_seen")


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
    inputs, plain = _examples(slots, layout, history), in_torch(slots, layout)
    own = told(plain, history)
    model.to(DEVICE)
    state = {
        name: {key: torch.as_tensor(value).to(DEVICE).contiguous() for key, value in given.items()}
        for name, given in inputs.items()
    }
    graphs = {spec.name: make_graph(slots, layout, spec).to(DEVICE) for spec in layout.graphs}
    quick = {name: compiled(graph, state[name]) for name, graph in graphs.items()}
    host = in_torch(slots, layout)
    host._run = partial(run_on_device, quick)
    (spec,) = (one for one in layout.graphs if one.name == "step")
    found: dict[str, object] = {"agents": agents, "device": DEVICE}
    there = map_tensors(history, lambda tensor: tensor.to(DEVICE))
    with torch.inference_mode():
        found["rollouts_per_s"] = per_second(lambda: list(rollout(model, there, STEPS)))
        present = model.look_ahead(observed(model, there))
        found["launches_of_a_step"] = launched(lambda: model.advance(present, history.dt_s))
    with torch.no_grad():  # compiled code does not know inference mode's tensors
        found["compiled_rollouts_per_s"] = per_second(lambda: told(host, history))
        step, fast = graphs["step"], quick["step"]
        found["six_steps_per_s"] = per_second(lambda: stepped(step, spec, state["step"]))
        found["six_compiled_steps_per_s"] = per_second(lambda: stepped(fast, spec, state["step"]))
        found["launches_of_a_compiled_step"] = launched(lambda: fast(**state["step"]))
    for before, after in zip(own, told(host, history), strict=True):
        for name in ("pose", "existence", "occupancy"):
            expected, other = torch.as_tensor(before[name]), torch.as_tensor(after[name]).cpu()
            torch.testing.assert_close(other, expected, atol=1e-3, rtol=1e-3, equal_nan=True)
    print(json.dumps(found))


def compiled(graph: torch.nn.Module, given: dict[str, Tensor]) -> Callable[..., dict[str, Tensor]]:
    """A graph of fixed shapes, on a GPU as one CUDA graph where nothing of it follows the data."""
    options = {"mode": "reduce-overhead"} if DEVICE == "cuda" else {}
    program = torch.export.export(graph, (), given).module()
    quick: Callable[..., dict[str, Tensor]] = torch.compile(program, **options)
    return quick


def run_on_device(
    graphs: dict[str, Callable[..., dict[str, Tensor]]], name: str, feed: dict[str, Any]
) -> dict[str, Any]:
    """Runs a graph; what no host reads stays where it is."""
    given = {key: torch.as_tensor(value).to(DEVICE).contiguous() for key, value in feed.items()}
    torch.compiler.cudagraph_mark_step_begin()
    said = graphs[name](**given)
    # A CUDA graph writes its outputs over those of the call before.
    return {
        key: value.cpu().numpy() if key.removeprefix("next_") in READ_BY_HOST else value.clone()
        for key, value in said.items()
    }


def told(host: HostForecaster, history: BEVSequence) -> list[dict[str, Any]]:
    """What a host says of a history: it is observed, and six steps are drawn."""
    observe_history(host, history)
    return list(host.forecast(STEPS, history.dt_s, draw=True))


def stepped(
    graph: Callable[..., dict[str, Tensor]], spec: GraphSpec, state: dict[str, Tensor]
) -> None:
    """Six steps, each of which gets what the one before said."""
    for _ in range(STEPS):
        torch.compiler.cudagraph_mark_step_begin()
        said = graph(**state)
        # A CUDA graph writes its outputs over those of the call before.
        state = state | {one.name: said[f"next_{one.name}"].clone() for one in spec.next_state}
