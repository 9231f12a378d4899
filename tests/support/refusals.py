"""Input that commands refuse, and commands that are refused."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forecast.cli import main as cli

Refused = Callable[..., str]
CONFIG = Path(__file__).parents[2] / "configs" / "small.yaml"


def scenario(steps: int = 91, **changes: Any) -> dict[str, Any]:
    """One car at 8 m/s in the JSON of Waymo scenarios; ``changes`` replace its fields."""
    car = {
        "position": [{"x": 0.8 * step, "y": 0.0} for step in range(steps)],
        "heading": [0.0] * steps,
        "valid": [True] * steps,
        "length": 4.5,
        "width": 2.0,
        "type": "vehicle",
    } | changes
    return {"objects": [car], "roads": [], "metadata": {"sdc_track_index": 0}}


def truncate(variable: Path) -> None:
    """Cuts every chunk of an array of a store in half, as a broken copy does."""
    for chunk in (path for path in (variable / "c").rglob("*") if path.is_file()):
        chunk.write_bytes(chunk.read_bytes()[: chunk.stat().st_size // 2])


def run_with_files_of_at_most(
    size: int, command: str, directory: Path
) -> subprocess.CompletedProcess[str]:
    """The program where no file can grow beyond ``size`` bytes, as on a disk that is full."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return subprocess.run(
        [sys.executable, "-m", "forecast.cli.main", *command.split()],
        cwd=directory,
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def assert_refused(done: subprocess.CompletedProcess[str]) -> None:
    """Exit code 2 and one line."""
    assert done.returncode == cli.BAD_INPUT, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: expected "), done.stderr


def save_untrained(
    path: Path, classes: tuple[str, ...], layers: tuple[str, ...], **spec: Any
) -> str:
    """A checkpoint of a small forecaster that has learned nothing."""
    from forecast.checkpoint.checkpoint import save_checkpoint
    from forecast.model.forecaster import Forecaster
    from forecast.model.spec import ForecasterSpec, Inputs

    small = ForecasterSpec(hidden_dim=32, scene_dim=32, ffn=32, **{"raster": "none", **spec})
    save_checkpoint(Forecaster(small, Inputs(classes, layers)), path, 0.5, {})
    return str(path)
