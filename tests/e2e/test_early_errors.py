"""Mistakes that are told before torch, which takes many seconds, is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from forecast.cli import main as cli
from tests.support.refusals import CONFIG
from tests.support.stores import Mover, forecast_store, sequence_store, store_of_classes

# Whatever imports torch fails, which is no error that a user can mend.
WITHOUT_TORCH = (
    "import sys; sys.modules['torch'] = None; from forecast.cli.main import main; main()"
)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with a store, its forecast, others without future or ids, things in the way."""
    store = sequence_store(tmp_path / "s.zarr", [[Mover(0, 0, speed=4)]])
    forecast_store(tmp_path / "f.zarr", store)
    sequence_store(tmp_path / "past.zarr", [[Mover(0, 0, speed=4)]], horizon=0)
    store_of_classes(tmp_path / "classes.zarr", [[Mover(0, 0, speed=4)]])
    (tmp_path / "there.gif").write_bytes(b"")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.safetensors").write_bytes(b"")
    return tmp_path


def without_torch(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *command.split()],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


TRAIN = f"train --config {CONFIG} --data s.zarr --output new"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (f"{TRAIN} --set model.nope=1", "nope"),
        (f"{TRAIN} --val past.zarr", "past.zarr"),
        (f"{TRAIN} --set initial=nowhere", "nowhere"),
        (TRAIN.replace("s.zarr", "none.zarr"), "none.zarr"),
        (TRAIN.replace("new", "run"), "--resume"),
        ("rollout --data none.zarr --output new.zarr --gif new.gif", "none.zarr"),
        ("rollout --data s.zarr --output f.zarr --gif new.gif", "--overwrite"),
        ("rollout --data s.zarr --output new.zarr --gif there.gif", "there.gif"),
        ("rollout --data s.zarr --output new.zarr --gif new.png", "ends in .gif"),
        ("rollout --data s.zarr --output new.zarr --gif there.gif/new.gif", "no folder"),
        ("rollout --data s.zarr --output new.zarr --model m.safetensors", "m.safetensors"),
        ("rollout --data s.zarr --output new.zarr --model constnt-turn", "constant-turn"),
        ("rollout --data s.zarr --output new.zarr --model past.zarr", "past.zarr"),
        ("rollout --data s.zarr --output new.zarr --model there.gif", "a *.safetensors file"),
        ("rollout --data classes.zarr --output new.zarr --gif new.gif", "add --input detected"),
        ("rollout --model components-cv --output new.zarr", "--input detected"),
        ("evaluate none.zarr --data s.zarr", "none.zarr"),
        ("evaluate f.zarr --data past.zarr", "horizon 0"),
        ("evaluate f.zarr --data s.zarr --by-lead --against none.zarr", "none.zarr"),
    ],
)
def test_a_mistake_is_told_without_torch(command: str, told: str, here: Path) -> None:
    done = without_torch(here, command)
    assert done.returncode == cli.BAD_INPUT, done.stderr
    assert told in done.stderr
    assert not list(here.glob("new*"))


@pytest.mark.parametrize("more", ["", " --by lead", " --cells", " --by-lead"])
def test_scoring_needs_no_torch(more: str, here: Path) -> None:
    done = without_torch(here, f"evaluate f.zarr --data s.zarr{more}")
    assert done.returncode == 0, done.stderr
