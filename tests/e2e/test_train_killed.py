"""`forecast train` killed by SIGKILL five times, and resumed: the weights of an unbroken run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.support.stores import Mover, sequence_store

SCENES, EPOCH = 12, 6  # sequences, and the steps of two of them that make an epoch
CONFIG = """
model: {hidden_dim: 32, scene_dim: 16, heads: 4, points: 2, ffn: 32, backbone_layers: 2,
        pixel_dim: 8, queries: 12}
curriculum:
  - {epochs: 1, horizon: 1}
  - {epochs: 1, horizon: 2, detected: 0.5}
  - {epochs: 1, horizon: 2, frame_stride: 2}
  - {epochs: 1, horizon: 2}
tracks: {drop: 0.1, insert: 0.3, denoising: 2}
augmentation: {masks_only: 0.3}
optimisation: {warmup_steps: 2, dropout: 0.1}
loading: {batch_size: 2, workers: 1}
ema_decay: 0.9
save_every_steps: 2
accelerator: cpu
"""


class Run:
    """A training in a folder, started and killed again and again.

    Args:
        folder: Where its configuration and stores are; its output is in ``name`` there.
        name: Of the output.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.output = folder, folder / name
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> subprocess.Popen[str]:
        """Starts or resumes it, in a process group of its own."""
        command = "train --config config.yaml --data train.zarr --val val.zarr --resume --output"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "forecast.cli.main", *command.split(), self.output.name],
            cwd=self.folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return self.process

    def finish(self) -> None:
        """Starts it and waits until it has ended well."""
        shown, _ = self.start().communicate(timeout=900)
        assert self.process is not None
        assert self.process.returncode == 0, shown

    def kill(self, delay: float) -> None:
        """Kills it and its workers after some seconds; what it leaves can be read."""
        process = self.process
        assert process is not None
        time.sleep(delay)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        shown, _ = process.communicate()
        # On a machine that is busy, the moment to kill may be missed, but only at the end.
        assert process.returncode in (-signal.SIGKILL, 0), shown
        if (weights := self.output / "model.safetensors").exists():
            load_file(weights)
        self.step()

    def wait_for(self, name: str) -> None:
        """Waits until a file of the output appears or is replaced."""
        path, before = self.output / name, _written(self.output / name)
        deadline = time.monotonic() + 600
        while _written(path) in (None, before):
            assert self.process is not None
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def step(self) -> int:
        """Optimizer steps of the last state; 0 before there is one."""
        path = self.output / "last.ckpt"
        state: dict[str, Any] = {"global_step": 0}
        if path.exists():
            state = torch.load(path, weights_only=True)
        return int(state["global_step"])


def _written(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def traffic(number: int) -> list[Mover]:
    """One or two cars, or nobody."""
    cars = [
        Mover(-8.0 + number % 7, 1.0, 0.1 * number, 4.0 + number % 5, 0.2),
        Mover(6.0, -4.0 + number % 4, 3.0, 2.0),
    ]
    return cars[: number % 3]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_five_kills_change_no_bit_of_the_weights(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG)
    for name, first in (("train", 0), ("val", 100)):
        sequence_store(tmp_path / f"{name}.zarr", [traffic(first + n) for n in range(SCENES)])
    whole, run, generator = Run(tmp_path, "whole"), Run(tmp_path, "parts"), random.Random(0)
    whole.finish()

    run.start()
    run.kill(generator.uniform(0.0, 2.0))  # while the program starts

    run.start()
    for _ in range(generator.randint(1, 2)):
        run.wait_for("last.ckpt")
    run.kill(generator.uniform(0.0, 0.2))  # within a step

    run.start()
    for _ in range(generator.randint(1, 2)):
        run.wait_for(".last.ckpt.partial")
    run.kill(generator.uniform(0.0, 0.005))  # while the state is written

    run.start()
    run.wait_for("last.ckpt")
    while run.step() % EPOCH:
        run.wait_for("last.ckpt")
    run.kill(generator.uniform(0.0, 0.2))  # while an epoch is validated

    run.start()
    run.wait_for(".model.safetensors.partial")
    run.kill(0.0)  # while the weights are written
    assert run.step() == 4 * EPOCH

    run.finish()
    for name in ("model.safetensors", "model.json"):
        assert (run.output / name).read_bytes() == (whole.output / name).read_bytes(), name
    assert not list(run.output.glob(".*")), "what a killed run left is overwritten, not piled up"
