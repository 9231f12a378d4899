"""Logs in formats of which no sample is at hand, through the command line to a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from forecast.cli import main as cli
from forecast.storage.stores import open_forecast_store, open_sequence_store
from tests.support import nuplan, py123d, waymo_perception


def run(*arguments: str) -> str:
    done = CliRunner().invoke(cli.app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def write_nuplan(folder: Path) -> None:
    nuplan.write_log(folder / "nuplan-v1.1/splits/mini/a.db")
    nuplan.write_map(folder)


def write_py123d(folder: Path) -> None:
    unit = py123d.write_log(folder)
    py123d.write_map(Path(unit).with_name("map.arrow"))


@pytest.mark.parametrize(
    ("source", "write", "agents"),
    [
        ("nuplan", write_nuplan, 3),
        ("py123d", write_py123d, 3),
        ("waymo-perception", waymo_perception.write_segment, 2),
    ],
)
def test_a_log_becomes_a_picture(
    tmp_path: Path, source: str, write: Callable[[Path], object], agents: int
) -> None:
    write(tmp_path / "logs")
    store, out, gif = (str(tmp_path / name) for name in ("s.zarr", "f.zarr", "f.gif"))
    run("prepare", source, str(tmp_path / "logs"), "--output", store, "--workers", "1")
    sequences, meta = open_sequence_store(store)
    assert meta.source == source
    seen = np.isfinite(sequences["track_state"].values[0, ..., 0]).all(axis=-1)
    assert int(seen.sum()) == agents
    assert ("map" in sequences) == (source != "waymo-perception")
    options = ("--model", "constant-turn", "--output", out, "--gif", gif)
    table = run("rollout", "--data", store, *options)
    assert "constant-turn" in table
    assert open_forecast_store(out)["instance"].any()
    with Image.open(gif) as picture:
        assert picture.n_frames > 1
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 4
