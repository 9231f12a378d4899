"""A published table with a preset, through the command line to a picture."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from data_tools.presets import preset_names
from forecast.cli import main as cli
from forecast.storage.stores import open_forecast_store, open_sequence_store
from tests.support.recordings import needs, recording
from tests.support.refusals import Refused


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli.app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@needs("interaction_csv")
def test_a_preset_leads_to_a_picture(tmp_path: Path) -> None:
    table = recording("interaction_csv") / "k729_vehicle_tracks_004.csv"
    (tmp_path / table.name).write_bytes(table.read_bytes())
    store, out, picture = (str(tmp_path / name) for name in ("s.zarr", "f.zarr", "f.gif"))
    inputs = ("prepare", "tracks", str(tmp_path), "--output", store, "--stride", "8")
    shown = run(*inputs, "--preset", "interaction", "--grid", "bev-30m", "--workers", "1")
    assert "no ego named" in shown
    sequences, meta = open_sequence_store(store)
    assert meta.source == "tracks"
    assert sequences.attrs["preset"]["columns"]["yaw_rad"]["column"] == "psi_rad"
    assert set(sequences["scene"].values) == {table.name}
    run(
        "rollout",
        "--data",
        store,
        "--model",
        "constant-velocity",
        "--output",
        out,
        "--gif",
        picture,
    )
    assert open_forecast_store(out)["instance"].any()
    with Image.open(picture) as image:
        assert image.n_frames > 1


def test_presets_are_listed_printed_and_refused(tmp_path: Path, refused: Refused) -> None:
    shown = re.sub(r"[\s│|]", "", run("prepare", "--help"))  # wrapped, in a frame
    assert all(name in shown for name in preset_names())
    printed = subprocess.run(
        [sys.executable, "-m", "data_tools.presets", "ngsim"],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    (tmp_path / "my.yaml").write_text(printed.stdout.replace("Local_X", "Local_Z"))
    (tmp_path / "us-101.csv").write_text("Vehicle_ID,Global_Time,Local_X,Local_Y\n1,2,3,4\n")
    command = ("prepare", "tracks", "us-101.csv", "--output", "o.zarr")
    line = refused(*command, "--preset", "my.yaml", output="o.zarr")
    assert "Local_Z" in line
    (tmp_path / "my.yaml").write_text("filles: []\n")
    assert "'filles'" in refused(*command, "--preset", "my.yaml", output="o.zarr")
    assert "none.yaml" in refused(*command, "--preset", "none.yaml", output="o.zarr")
    assert "interaction" in refused(*command, "--preset", "intraction", output="o.zarr")


@pytest.mark.parametrize("name", preset_names())
def test_a_wheel_has_the_presets(name: str) -> None:
    import tomllib
    from fnmatch import fnmatch

    root = Path(__file__).parents[2]
    packaged = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = packaged["package-data"]["data_tools"]
    assert any(fnmatch(f"presets/{name}.yaml", pattern) for pattern in patterns)
