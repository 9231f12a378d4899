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
from PIL import Image
from typer.testing import CliRunner

from forecast.cli import main as cli
from forecast.errors import DataError
from forecast.storage.stores import open_sequence_store
from forecast.visualization.page import runs, write_page
from tests.support.stores import GRID, Mover, forecast_store, sequence_store, store_of_classes

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


def test_what_cannot_be_drawn_is_refused(stores: tuple[str, str], tmp_path: Path) -> None:
    page = tmp_path / "p.html"
    with pytest.raises(DataError, match="one of 2 sequences"):
        write_page(str(page), stores[0], None, [7])
    other = sequence_store(tmp_path / "other.zarr", SCENES, first=9)
    with pytest.raises(DataError, match="the scenes of"):
        write_page(str(page), other, stores[1])
    assert not page.exists()
