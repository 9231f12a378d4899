"""Stores without a map beside those that have one, through the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from forecast.cli import main as cli
from forecast.errors import DataError
from forecast.schema import MAP_LAYERS
from forecast.storage.stores import open_sequence_store
from tests.support.stores import Mover, sequence_dataset

CONFIG = """
model: {hidden_dim: 32, scene_dim: 16, heads: 4, points: 2, ffn: 32, backbone_layers: 2,
        pixel_dim: 8, queries: 12}
curriculum: [{epochs: 1, horizon: 1, detected: 0.5}]
loading: {batch_size: 1, workers: 0}
accelerator: cpu
"""


def write(path: Path, layers: tuple[str, ...], named: bool = True) -> str:
    """A store of two scenes; without layers it has no map, whether or not it names some."""
    dataset = sequence_dataset([[Mover(-4.0, 1.0, speed=4.0)], [Mover(3.0, -2.0, speed=3.0)]])
    dataset = dataset.isel(map_layer=range(len(layers))) if layers else dataset.drop_vars("map")
    dataset.attrs["map_layers"] = list(layers if layers or not named else MAP_LAYERS)
    dataset.to_zarr(path, zarr_format=3, consolidated=False)
    return str(path)


@pytest.fixture
def stores(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "config.yaml").write_text(CONFIG)
    return {
        "mapped": write(tmp_path / "mapped.zarr", MAP_LAYERS),
        "other": write(tmp_path / "other.zarr", MAP_LAYERS[:2]),
        "bare": write(tmp_path / "bare.zarr", (), named=False),
        "named": write(tmp_path / "named.zarr", ()),
    }


def test_a_store_without_map_has_no_layers_whatever_it_names(stores: dict[str, str]) -> None:
    assert open_sequence_store(stores["mapped"])[1].map_layers == MAP_LAYERS
    assert open_sequence_store(stores["named"])[1].map_layers == ()
    shown = CliRunner().invoke(cli.app, ["inspect", "store", stores["named"]]).output
    assert re.search("map layers +none", shown)


def train(folder: Path, data: list[str], val: str) -> Result:
    chosen = [word for path in data for word in ("--data", path)]
    fixed = ("--config", str(folder / "config.yaml"), "--output", str(folder / "run"))
    return CliRunner().invoke(cli.app, ["train", *fixed, *chosen, "--val", val])


@pytest.mark.parametrize(
    ("data", "val"),
    [(("mapped", "bare"), "named"), (("named", "mapped"), "mapped"), (("bare", "named"), "bare")],
)
def test_a_store_without_map_joins_those_with_one_in_any_place(
    data: tuple[str, ...], val: str, stores: dict[str, str], tmp_path: Path
) -> None:
    done = train(tmp_path, [stores[name] for name in data], stores[val])
    assert done.exit_code == 0, done.output
    about = json.loads((tmp_path / "run" / "model.json").read_text())
    assert about["inputs"]["map_layers"] == list(MAP_LAYERS if "mapped" in data else ())
    assert about["training"]["steps"] == 4


@pytest.mark.parametrize(
    ("data", "val", "at_fault"),
    [
        (("bare", "mapped", "other"), "bare", "other"),
        (("mapped", "bare"), "other", "other"),
        (("bare",), "mapped", "mapped"),
    ],
)
def test_two_different_maps_are_refused(
    data: tuple[str, ...], val: str, at_fault: str, stores: dict[str, str], tmp_path: Path
) -> None:
    done = train(tmp_path, [stores[name] for name in data], stores[val])
    assert isinstance(done.exception, DataError)
    assert "expected map layers (or no map)" in str(done.exception)
    assert stores[at_fault] in str(done.exception)
    assert not (tmp_path / "run").exists()
