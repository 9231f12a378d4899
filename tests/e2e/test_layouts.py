"""Recordings in layouts of their own, through the command line to a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from data_tools.presets import FOLDER
from forecast.cli import main as cli
from forecast.storage.stores import open_sequence_store
from tests.support.levelx import write_highd, write_ind
from tests.support.recordings import needs, recording

# Published with the recordings; the preset's own origin is that of INTERACTION's maps.
ORIGIN = "[49.01160993928274, 8.43856470258739]"


def pictured(folder: Path, *arguments: str) -> str:
    """Prepares a store and draws forecasts of it; the store's path."""
    store, picture = str(folder / "s.zarr"), str(folder / "f.gif")
    prepare = ["prepare", "tracks", *arguments, "--output", store, "--workers", "1"]
    rollout = ["rollout", "--data", store, "--model", "constant-velocity", "--limit", "4"]
    rollout += ["--output", str(folder / "f.zarr"), "--gif", picture]
    for command in (prepare, rollout):
        done = CliRunner().invoke(cli.app, command, catch_exceptions=False)
        assert done.exit_code == 0, done.output
    with Image.open(picture) as image:
        assert image.n_frames > 1
        assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 20
    return store


@needs("interaction_csv")
def test_interaction_with_its_lanelets_leads_to_a_picture(tmp_path: Path) -> None:
    for file in ("k729.osm", "k729_vehicle_tracks_004.csv"):
        (tmp_path / file).write_bytes((recording("interaction_csv") / file).read_bytes())
    preset = (FOLDER / "interaction.yaml").read_text().replace("[0, 0]", ORIGIN)
    (tmp_path / "mine.yaml").write_text(preset)
    store = pictured(tmp_path, str(tmp_path), "--preset", str(tmp_path / "mine.yaml"))
    sequences, meta = open_sequence_store(store)
    drawn = dict(zip(meta.map_layers, np.asarray(sequences["map"]).swapaxes(0, 1), strict=True))
    assert all(layer.any() for layer in drawn.values())
    vehicles = np.asarray(sequences["semantic"])[:, meta.history - 1] == 1
    on_road = drawn["drivable"][vehicles].mean()
    assert vehicles.sum() > 1000
    assert on_road > 0.95
    assert sequences.attrs["preset"]["map"]["origin"][0] == pytest.approx(49.0116, abs=1e-4)


def test_highd_and_ind_lead_to_a_picture(tmp_path: Path) -> None:
    write_highd(tmp_path / "data", 1)
    write_ind(tmp_path / "data", 7)
    store = pictured(
        tmp_path, str(tmp_path / "data"), "--preset", "levelx", "--dt", "0.4", "--stride", "1"
    )
    sequences, meta = open_sequence_store(store)
    assert set(sequences["scene"].values) == {"01_tracks.csv", "07_tracks.csv"}
    layers = list(meta.map_layers)
    highway = np.asarray(sequences["map"])[sequences["scene"].values == "01_tracks.csv"]
    assert highway[:, layers.index("drivable")].any()
