"""Latency of a live forecaster with the packaged model: every frame, and the next 3 s.

``OMP_NUM_THREADS=2 pytest -m benchmark -s tests/benchmarks/test_live.py`` prints a line of JSON for
each: median and 99th percentile of the time that passes and of the processors' work, milliseconds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from forecast.live import Forecaster
from tests.support.live import traffic

pytestmark = pytest.mark.benchmark
AGENTS, FRAMES, WARM = 64, 200, 30


def timed(call: Callable[[], object], times: list[tuple[float, float]]) -> None:
    """Adds the seconds that pass and those that the processors work."""
    began, worked = time.perf_counter(), time.process_time()
    call()
    times.append((time.perf_counter() - began, time.process_time() - worked))


@pytest.mark.parametrize("every_s", [0.1, 0.5], ids=["raster in every frame", "raster at 2 Hz"])
def test_latency(every_s: float) -> None:
    live = Forecaster("packaged", raster_every_s=every_s)
    times: dict[str, list[tuple[float, float]]] = {"observe": [], "forecast(6)": []}
    for frame in range(WARM + FRAMES):
        time_s, ego, tracks = traffic(frame, AGENTS)
        timed(lambda: live.observe(time_s, ego_pose=ego, tracks=tracks), times["observe"])  # noqa: B023
        if frame % 5 == 0:
            timed(lambda: live.forecast(6), times["forecast(6)"])
    for what, seconds in times.items():
        kept = 1000 * np.array(seconds[WARM if what == "observe" else WARM // 5 :])
        numbers = {
            "median_ms": round(float(np.median(kept[:, 0])), 1),
            "p99_ms": round(float(np.quantile(kept[:, 0], 0.99)), 1),
            "median_cpu_ms": round(float(np.median(kept[:, 1])), 1),
            "p99_cpu_ms": round(float(np.quantile(kept[:, 1], 0.99)), 1),
            "calls": len(kept),
        }
        threads = torch.get_num_threads()
        print(
            json.dumps(
                {
                    "stage": what,
                    "raster_s": every_s,
                    "agents": AGENTS,
                    **numbers,
                    "threads": threads,
                }
            )
        )
