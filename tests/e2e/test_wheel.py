"""What is installed from a wheel works away from the checkout, and with nothing optional there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import xarray as xr

ROOT = Path(__file__).parents[2]
# What only a backend, a source or an extra needs; OpenCV lies behind mmcv.
OPTIONAL = (
    *("cv2", "mmcv", "MultiScaleDeformableAttention", "torch_ms_deform_attn"),
    *("libsumo", "sumo", "traci", "s3fs", "h5netcdf", "h5py", "playwright", "transformers"),
    *("mcap", "mcap_ros2", "onnx", "onnxruntime", "onnxscript"),
)
# In one process: that nothing of it is asked for, and that every command says what it does.
HELP = """
import importlib.abc, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}}: it is blocked", name=name)

sys.meta_path.insert(0, Blocker())
import forecast
from typer.main import get_command
from forecast.cli.main import app

def commands(command, path):
    yield path
    for name, part in getattr(command, "commands", {{}}).items():
        yield from commands(part, [*path, name])

for path in commands(get_command(app), []):
    try:
        app([*path, "--help"], standalone_mode=False)
    except SystemExit as end:
        assert not end.code, path
    print("HELP OF", *path)
"""


def test_every_command_has_its_help_with_nothing_optional_there() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELP.format(blocked=set(OPTIONAL))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown = re.findall(r"HELP OF ?(.*)", done.stdout)
    assert {"", "rollout", "train", "evaluate", "prepare", "doctor", "inspect model"} <= set(shown)
    assert done.stdout.count("Usage:") == len(shown)


def test_every_dependency_has_a_lower_bound() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    unbounded = [one for one in project["dependencies"] if ">=" not in one]
    assert not unbounded


def without_checkout() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=without_checkout(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    run("git", "clone", "--quiet", ROOT, source, cwd=folder)
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    run(*pip, "--wheel-dir", folder, source, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
def test_a_wheel_has_what_is_needed_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for needed in (
        *("forecast/packaged/model.safetensors", "forecast/packaged/sample.zarr/zarr.json"),
        *("forecast/visualization/page.html", "forecast/py.typed", "data_tools/py.typed"),
        "data_tools/presets/sumo-fcd.yaml",
    ):
        assert needed in names
    assert not [name for name in names if name.startswith(("tests/", "docs/"))]


@pytest.mark.slow
def test_an_installed_wheel_forecasts_and_scores_from_another_folder(
    wheel: Path, tmp_path: Path
) -> None:
    home, elsewhere = tmp_path / "environment", tmp_path / "elsewhere"
    elsewhere.mkdir()
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    (site,) = home.glob("lib/python*/site-packages")
    # Dependencies are those of this environment; its own installation of forecast is not seen,
    # as a .pth file leads to folders and not to what their .pth files lead to.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet")
    run(*pip, "--no-deps", "--no-index", wheel, cwd=elsewhere)
    where = run(python, "-c", "import forecast; print(forecast.__file__)", cwd=elsewhere)
    assert Path(where.strip()).is_relative_to(site)
    forecast = home / "bin" / "forecast"
    run(forecast, "rollout", "--limit", 1, "--output", "f.zarr", "--gif", "f.gif", cwd=elsewhere)
    assert (elsewhere / "f.gif").stat().st_size > 1000
    assert "vehicle" in run(forecast, "evaluate", "f.zarr", cwd=elsewhere)
    assert bool((xr.open_zarr(elsewhere / "f.zarr")["instance"] > 0).any())
