"""Ctrl-C in the midst of the long commands: exit code 130, and one line that says how to go on."""

from __future__ import annotations

from pathlib import Path

from tests.support.commands import forecast
from tests.support.killing import interrupt_when_there
from tests.support.scenarios import crossing, write
from tests.support.stores import Mover, sequence_store

STEPS = 40
LINE = "interrupted; --resume goes on from what was kept"
CONFIG = "{model: {raster: none}, curriculum: [{epochs: 500, horizon: 2}]}"


def moving(folder: Path) -> str:
    """A store that takes a while to forecast."""
    return sequence_store(folder / "s.zarr", [[Mover(0, 0, speed=n % 7)] for n in range(STEPS)])


def test_an_interrupted_prepare_is_one_line_whatever_its_workers_do(tmp_path: Path) -> None:
    for index in range(STEPS):
        write(tmp_path / f"{index:02d}.json", crossing(index, agents=index))
    out = tmp_path / "o.zarr"
    command = forecast("prepare", "waymo-json", tmp_path, "--output", out, "--workers", 2)
    begun = tmp_path / "o.zarr.partial" / "records" / "00000000.json"
    assert interrupt_when_there(command, begun) == (130, f"{LINE}\n")


def test_an_interrupted_rollout_says_how_to_go_on(tmp_path: Path) -> None:
    data, out = moving(tmp_path), tmp_path / "f.zarr"
    options = ("--data", data, "--model", "constant-turn", "--batch-size", 1, "--gif", "")
    command = forecast("rollout", *options, "--output", out)
    begun = tmp_path / "f.zarr.partial" / "records" / "00000000.json"
    assert interrupt_when_there(command, begun) == (130, f"{LINE}\n")


def test_an_interrupted_training_says_how_to_go_on(tmp_path: Path) -> None:
    config, run = tmp_path / "c.yaml", tmp_path / "run"
    config.write_text(CONFIG)
    command = forecast("train", "--config", config, "--data", moving(tmp_path), "--output", run)
    code, said = interrupt_when_there(command, run / "last.ckpt")
    *epochs, last = said.splitlines()
    assert (code, last) == (130, LINE)
    assert all(line.startswith("epoch ") for line in epochs)
