"""A forecast by ONNX Runtime beside one by PyTorch: batch 1, 16 / 64 / 256 agents.

``make benchmark`` prints one line of JSON for each: milliseconds of a history that is observed and
of six steps that are drawn, and how many operations a step is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from forecast.checkpoint.checkpoint import named_checkpoint
from forecast.export import host
from forecast.export.parity import observe_history
from forecast.export.request import ExportRequest
from forecast.export.write import export
from forecast.grid import GRIDS
from forecast.loop import observed, rollout
from forecast.types import BEVSequence
from tests.support.benchmarking import min_median_max
from tests.support.sequences import sequences
from tests.support.stores import Mover

pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
pytestmark = pytest.mark.benchmark
AGENTS = (16, 64, 256)
STEPS, ROUNDS = 6, 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "out"
    export(ExportRequest(model=None, output=str(path), slots=AGENTS, histories=1))
    return path


def crowd(agents: int) -> BEVSequence:
    """Cars all over the grid, half of them driving."""
    rng = np.random.default_rng(agents)
    movers = [
        Mover(*rng.uniform(-48, 48, 2), rng.uniform(-3, 3), speed=float(rng.choice([0.0, 8.0])))
        for _ in range(agents)
    ]
    return sequences([movers], GRIDS["bev-100m"]).crop(0, 3)


def milliseconds(work: Callable[[], object]) -> list[float]:
    """Minimum, median, maximum; the first two rounds warm up."""
    times = []
    for _ in range(ROUNDS + 2):
        began = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - began))
    return min_median_max(times[2:])


@pytest.mark.parametrize("agents", AGENTS)
def test_onnx_runtime_beside_pytorch(folder: Path, agents: int) -> None:
    model, history = named_checkpoint("packaged").model, crowd(agents)
    exported = host.load(folder, agents, threads=torch.get_num_threads())
    with torch.inference_mode():
        present = observed(model, history)
        ahead = model.step(present, history.dt_s)[0]

        def stepped() -> None:
            state = present
            for _ in range(STEPS):
                state, _ = model.step(state, history.dt_s)

        eager = milliseconds(lambda: list(rollout(model, history, STEPS)))
        eager_steps = milliseconds(stepped)
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            model.step(ahead, history.dt_s)
    operations = sum(event.cpu_parent is None for event in profiler.events())
    inner = sum(event.name.startswith("aten::") for event in profiler.events())
    observe_history(exported, history)
    steps = milliseconds(lambda: list(exported.forecast(STEPS, history.dt_s, draw=True)))

    def whole() -> None:
        observe_history(exported, history)
        list(exported.forecast(STEPS, history.dt_s, draw=True))

    print(
        json.dumps(
            {
                "agents": agents,
                "threads": torch.get_num_threads(),
                "pytorch_ms": eager,
                "onnx_ms": milliseconds(whole),
                "pytorch_steps_ms": eager_steps,
                "onnx_steps_ms": steps,
                "pytorch_operations": operations,
                "pytorch_operations_and_inner": inner,
                "onnx_operations": optimized_nodes(folder, "step", agents)
                + optimized_nodes(folder, "draw", agents),
            }
        )
    )


def optimized_nodes(folder: Path, name: str, agents: int) -> int:
    """Operations of a graph after ONNX Runtime has optimized it."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / f"{name}_optimized.onnx")
    onnxruntime.InferenceSession(folder / f"{name}_{agents}.onnx", options)
    return len(onnx.load(options.optimized_model_filepath).graph.node)
