"""The page of `forecast inspect store --html`: what is in it, and that nothing is fetched."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from PIL import Image
from scipy import ndimage
from typer.testing import CliRunner

from forecast.cli import main as cli
from forecast.errors import ConfigError, DataError
from forecast.grid import BEVGrid
from forecast.storage.stores import open_forecast_store, open_sequence_store
from forecast.visualization.page import runs, write_page
from tests.support.realizations import add_realizations
from tests.support.stores import (
    GRID,
    Mover,
    forecast_store,
    sequence_dataset,
    sequence_store,
    store_of_classes,
)

SCENES = (
    [Mover(0.0, 0.0, speed=4.0), Mover(8.0, 4.0, label=2, length=2.0)],
    [Mover(-4.0, -4.0, 1.0)],
)


@pytest.fixture
def stores(tmp_path: Path) -> tuple[str, str]:
    data = sequence_store(tmp_path / "s.zarr", SCENES)
    return data, forecast_store(tmp_path / "f.zarr", data)


def content(page: Path) -> dict[str, Any]:
    found = re.search(r'<script id="data" type="text/plain">([^<]+)</script>', page.read_text())
    assert found is not None
    unpacked: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(found[1])))
    return unpacked


def cells(pairs: list[int]) -> np.ndarray:
    return np.repeat(pairs[::2], pairs[1::2]).reshape(GRID.shape)


def test_rasters_come_back_from_their_runs() -> None:
    raster = np.random.default_rng(0).integers(0, 3, GRID.shape).astype(np.uint16)
    assert np.array_equal(cells(runs(raster)), raster)


def test_the_page_holds_the_store_and_the_forecast(stores: tuple[str, str], tmp_path: Path) -> None:
    write_page(str(tmp_path / "p.html"), *stores)
    data, meta = open_sequence_store(stores[0])
    instance = data["instance"].values
    found = content(tmp_path / "p.html")
    assert len(found["sequences"]) == 2
    for index, one in enumerate(found["sequences"]):
        shown = [cells(frame["runs"]) for frame in (*one["history"], *one["truth"])]
        assert np.array_equal(shown, instance[index])
        ahead = [cells(frame["runs"]) for frame in one["forecast"]]
        assert np.array_equal(ahead, instance[index, meta.history :])
    first = found["sequences"][0]
    assert first["classes"] == [], "it is shown by its ids"
    for frame in (first["history"][1], first["truth"][0], first["forecast"][2]):
        assert frame["agents"]["1"][:2] == ["vehicle", pytest.approx(4.0, abs=0.6)]
        assert frame["agents"]["2"][:2] == ["pedestrian", pytest.approx(0.0, abs=0.1)]
    assert first["history"][0]["agents"]["1"][1] is None  # nothing before tells its speed


def test_the_page_holds_the_probability_of_each_class_in_per_cent(
    stores: tuple[str, str], tmp_path: Path
) -> None:
    group = zarr.open_group(stores[1], mode="r+", use_consolidated=False)
    occupancy = group["occupancy"]
    assert isinstance(occupancy, zarr.Array)
    chances = np.random.default_rng(0).random(occupancy.shape).astype(np.float16)
    occupancy[:] = chances
    write_page(str(tmp_path / "p.html"), *stores, layer="probability")
    found = content(tmp_path / "p.html")
    assert found["layer"] == "probability"
    assert found["class_names"] == ["vehicle", "pedestrian", "cyclist"]
    for index, one in enumerate(found["sequences"]):
        shown = [[cells(pairs) for pairs in lead] for lead in one["probability"]]
        np.testing.assert_allclose(shown, 100 * chances[index].astype(float), atol=0.501)
        assert one["realizations"] is None


def test_the_page_holds_the_paths_of_all_realizations(
    stores: tuple[str, str], tmp_path: Path
) -> None:
    add_realizations(stores[1], 4)
    write_page(str(tmp_path / "p.html"), *stores)
    poses = open_forecast_store(stores[1])["realization_pose"].values
    first, second = content(tmp_path / "p.html")["sequences"]
    for index, one in enumerate((first, second)):
        assert one["realizations"]["count"] == 4
        for id_, agent in one["realizations"]["agents"].items():
            ours = poses[index, :, :, int(id_) - 1]
            np.testing.assert_allclose(agent["paths"], ours, atol=0.0051)
    one, two = first["realizations"]["agents"].values()
    assert (one["kind"], one["size"], one["present"]) == ("vehicle", [4.5, 2.0], [0.0, 0.0])
    assert (two["kind"], two["size"], two["present"]) == ("pedestrian", [2.0, 2.0], [8.0, 4.0])
    assert list(second["realizations"]["agents"]) == ["1"], "who is in no realization is left out"


def test_twelve_sequences_with_eight_realizations_are_less_than_15_mb(tmp_path: Path) -> None:
    places = np.random.default_rng(0).uniform(-45, 45, (100, 4))
    movers = [Mover(x, y, yaw, abs(speed) / 4) for x, y, yaw, speed in places]
    one = sequence_dataset([movers], grid=BEVGrid(-50, 50, -50, 50, 0.5))
    # Twelve that differ, drawn once: the first, moved along the rows.
    moved = [one.roll(y=3 * index) for index in range(12)]
    data = str(tmp_path / "s.zarr")
    xr.concat(moved, "sequence").to_zarr(data, zarr_format=3, consolidated=False)
    ours = add_realizations(forecast_store(tmp_path / "f.zarr", data), 8)
    occupancy = zarr.open_group(ours, mode="r+", use_consolidated=False)["occupancy"]
    assert isinstance(occupancy, zarr.Array)
    unseen = ndimage.gaussian_filter(np.random.default_rng(1).random(occupancy.shape[2:]), 2)
    for lead in range(6):  # less and less sure, and anywhere someone whom none has seen
        sure = np.asarray(occupancy[0, lead], float)
        spread = ndimage.gaussian_filter(sure, (0, 1 + lead, 1 + lead))
        likely = 1 - (1 - spread) * (1 - 0.1 * unseen)
        occupancy[:, lead] = np.stack([np.roll(likely, 3 * index, axis=1) for index in range(12)])
    page = tmp_path / "p.html"
    write_page(str(page), data, ours)
    found = content(page)["sequences"]
    assert [len(each["realizations"]["agents"]) for each in found] == [100] * 12
    assert page.stat().st_size < 15e6


def test_a_store_without_ids_is_shown_by_its_classes(tmp_path: Path) -> None:
    store = store_of_classes(tmp_path / "c.zarr", SCENES)
    write_page(str(tmp_path / "p.html"), store)
    found = content(tmp_path / "p.html")
    semantic = open_sequence_store(store)[0]["semantic"].values
    for index, one in enumerate(found["sequences"]):
        seen = (*one["history"], *one["truth"])
        assert np.array_equal([cells(frame["runs"]) for frame in seen], semantic[index])
        assert not any(frame["agents"] for frame in seen), "a class is not an agent"
        assert one["classes"] == ["", "vehicle", "pedestrian", "cyclist"]
    assert len(found["class_colours"]) == 4


def test_the_page_fetches_nothing(stores: tuple[str, str], tmp_path: Path) -> None:
    write_page(str(tmp_path / "p.html"), stores[0])
    text = (tmp_path / "p.html").read_text()
    assert "default-src 'none'" in text
    assert not re.findall(r"https?:|<link|src=|@import|fetch\(|XMLHttpRequest|{{", text)


def test_the_command_draws_and_says_what_a_store_holds(
    stores: tuple[str, str], tmp_path: Path
) -> None:
    png, gif, html = (str(tmp_path / f"a.{kind}") for kind in ("png", "gif", "html"))
    drawn = ["--png", png, "--gif", gif, "--html", html, "--sequence", "1"]
    command = ["inspect", "store", stores[0], "--forecast", stores[1], *drawn]
    result = CliRunner().invoke(cli.app, command)
    assert result.exit_code == 0, result.output
    assert "2 at present: 50% move over 2 m" in result.output
    with Image.open(png) as sheet, Image.open(gif) as animation:
        assert sheet.format == "PNG"
        assert getattr(animation, "n_frames", 1) > 1
    (one,) = content(Path(html))["sequences"]
    assert one["name"] == "1: scene-1"
    with pytest.raises(DataError, match="a new path"):
        write_page(html, stores[0])


def test_the_command_draws_probability_where_a_forecast_is_named(
    stores: tuple[str, str], tmp_path: Path
) -> None:
    add_realizations(stores[1], 2)
    drawn: dict[str, list[bytes]] = {}
    for layer in ("labels", "probability", "both"):
        files = [tmp_path / f"{layer}.{kind}" for kind in ("png", "gif", "html")]
        command = ["inspect", "store", stores[0], "--forecast", stores[1], "--layer", layer]
        for option, file in zip(("--png", "--gif", "--html"), files, strict=True):
            command += [option, str(file)]
        result = CliRunner().invoke(cli.app, command)
        assert result.exit_code == 0, result.output
        drawn[layer] = [file.read_bytes() for file in files]
        assert content(files[2])["layer"] == layer
    for pictures in zip(*drawn.values(), strict=True):
        assert len(set(pictures)) == 3
    refused = CliRunner().invoke(
        cli.app, ["inspect", "store", stores[0], "--png", "n.png", "--layer", "both"]
    )
    assert isinstance(refused.exception, ConfigError)
    assert "--forecast for --layer both; got none" in str(refused.exception)


def test_what_cannot_be_drawn_is_refused(stores: tuple[str, str], tmp_path: Path) -> None:
    page = tmp_path / "p.html"
    with pytest.raises(DataError, match="one of 2 sequences"):
        write_page(str(page), stores[0], None, [7])
    other = sequence_store(tmp_path / "other.zarr", SCENES, first=9)
    with pytest.raises(DataError, match="the scenes of"):
        write_page(str(page), other, stores[1])
    assert not page.exists()
