"""A forecast by ONNX Runtime and by AOTInductor beside one by PyTorch: batch 1, 16 to 256 agents.

``make benchmark`` prints one line of JSON for each: milliseconds of a history that is observed and
of six steps that are drawn, and how many operations a drawn step is. Compiling takes minutes;
``EXPORTED=folder`` measures what ``forecast export --format onnx,aoti --agents 16,64,256`` wrote.
"""

from __future__ import annotations

import json
import os
import re
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from forecast.checkpoint.checkpoint import named_checkpoint
from forecast.export import compiled, host
from forecast.export.parity import observe_history
from forecast.export.request import ExportRequest
from forecast.export.write import export
from forecast.grid import GRIDS
from forecast.loop import observed, steps
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
    if made := os.environ.get("EXPORTED"):
        return Path(made)
    path = tmp_path_factory.mktemp("export") / "out"
    formats = ("onnx", "aoti")
    export(ExportRequest(None, str(path), formats, AGENTS, histories=1))
    return path


def crowd(agents: int) -> BEVSequence:
    """Cars all over the grid, half of them driving, among as many lane points as graphs have."""
    rng = np.random.default_rng(agents)
    movers = [
        Mover(*rng.uniform(-48, 48, 2), rng.uniform(-3, 3), speed=float(rng.choice([0.0, 8.0])))
        for _ in range(agents)
    ]
    lanes = rng.uniform((-50, -50, -3), (50, 50, 3), (1, 1024, 3)).astype(np.float32)
    history = sequences([movers], GRIDS["bev-100m"]).crop(0, 3)
    return replace(history, map_point=torch.from_numpy(lanes))


def milliseconds(work: Callable[[], object]) -> list[float]:
    """Minimum, median, maximum; the first two rounds warm up."""
    times = []
    for _ in range(ROUNDS + 2):
        began = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - began))
    return min_median_max(times[2:])


@pytest.mark.parametrize("agents", AGENTS)
def test_exported_graphs_beside_pytorch(folder: Path, agents: int) -> None:
    model, history = named_checkpoint("packaged").model, crowd(agents)
    hosts = {
        "onnx": host.load(folder, agents, threads=torch.get_num_threads()),
        "aoti": compiled.load(folder, agents),
    }
    found: dict[str, object] = {"agents": agents, "threads": torch.get_num_threads()}
    with torch.inference_mode():
        present = observed(model, history)
        found["pytorch_observe_ms"] = milliseconds(lambda: observed(model, history))
        found["pytorch_steps_ms"] = milliseconds(
            lambda: list(steps(model, present, STEPS, history.dt_s))
        )
        ahead = model.step(present, history.dt_s)[0]
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            model.step(ahead, history.dt_s)
    found["pytorch_operations"] = sum(
        event.name.startswith("aten::") and not _inner(event) for event in profiler.events()
    )
    for name, one in hosts.items():
        found[f"{name}_observe_ms"] = milliseconds(lambda one=one: observe_history(one, history))
        found[f"{name}_steps_ms"] = milliseconds(
            lambda one=one: list(one.forecast(STEPS, history.dt_s, draw=True))
        )
    for name, count in (("onnx", optimized_nodes), ("aoti", launched)):
        found[f"{name}_operations"] = sum(count(folder, part, agents) for part in ("step", "draw"))
    print(json.dumps(found))
    assert 5 * found["aoti_operations"] <= found["pytorch_operations"]  # type: ignore[operator]


def _inner(event: Any) -> bool:
    """Whether an operation is part of another one."""
    parent = event.cpu_parent
    return parent is not None and (parent.name.startswith("aten::") or _inner(parent))


def launched(folder: Path, name: str, agents: int) -> int:
    """Kernels that a compiled graph calls: its own, and those of torch."""
    with zipfile.ZipFile(folder / f"{name}_{agents}.aoti.pt2") as package:
        (source,) = (one for one in package.namelist() if one.endswith(".wrapper.cpp"))
        text = package.read(source).decode()
    return len(re.findall(r"^\s+cpp_fused\w*\(|aoti_torch_cpu_\w+\(", text, re.MULTILINE))


def optimized_nodes(folder: Path, name: str, agents: int) -> int:
    """Operations of a graph after ONNX Runtime has optimized it."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / f"{name}_optimized.onnx")
    onnxruntime.InferenceSession(folder / f"{name}_{agents}.onnx", options)
    return len(onnx.load(options.optimized_model_filepath).graph.node)
