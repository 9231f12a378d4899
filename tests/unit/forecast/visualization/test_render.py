"""Pictures: which way is up, which colour is whose, and what the files hold."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from forecast.errors import DataError
from forecast.grid import BEVGrid
from forecast.schema import SequenceMeta
from forecast.storage.stores import open_forecast_store, open_sequence_store
from forecast.visualization.colours import class_colour, id_colour
from forecast.visualization.render import MARGIN, to_picture, write_gif, write_png
from forecast.visualization.view import View, view_of
from tests.support.stores import (
    GRID,
    Mover,
    classes_alone,
    forecast_store,
    sequence_dataset,
    sequence_store,
)

AHEAD_LEFT = Mover(12, 6, speed=3)


def view(movers: list[Mover], grid: BEVGrid = GRID) -> View:
    """The truth of one synthetic sequence, which is its own forecast too."""
    data = sequence_dataset([movers], grid=grid)
    seen = view_of(data, SequenceMeta.from_attrs(data.attrs, "memory"), 0)
    return replace(seen, forecast=seen.truth, model="perfect")


def frames(path: Path) -> list[NDArray[np.uint8]]:
    """The frames of an animation as ``(rows, columns, 3)``."""
    with Image.open(path) as image:
        found = []
        for index in range(image.n_frames):
            image.seek(index)
            found.append(np.asarray(image.convert("RGB")))
        return found


def centre_of(image: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.float64]:
    """Mean row and column of the pixels of a colour, in parts of the image."""
    close = np.abs(image.astype(int) - colour).max(axis=-1) < 24
    assert close.any()
    return np.argwhere(close).mean(axis=0) / close.shape


def panels(image: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Truth and forecast side by side, without the margins around them."""
    width = (image.shape[1] - 3 * MARGIN) // 2
    return [image[:, left : left + width] for left in (MARGIN, 2 * MARGIN + width)]


def test_forward_is_up_and_left_is_left() -> None:
    raster = np.zeros(GRID.shape, int)
    raster[-1, -1] = 1  # the largest y (left) and the largest x (ahead)
    picture = to_picture(raster)
    assert picture.shape == (GRID.width, GRID.height)
    assert picture[0, 0] == 1


@pytest.mark.parametrize("grid", [GRID, BEVGrid(-24, 24, -9, 9, 0.5), BEVGrid(-9, 9, -24, 24, 1)])
def test_an_agent_ahead_left_is_drawn_in_the_upper_left(tmp_path: Path, grid: BEVGrid) -> None:
    seen = replace(view([Mover(6, 5, length=3)], grid), forecast=np.zeros((0, *grid.shape), int))
    write_gif(str(tmp_path / "f.gif"), [seen])
    for image in frames(tmp_path / "f.gif"):
        row, column = centre_of(image, id_colour(1))
        assert row < 0.5
        assert column < 0.5


def test_an_agent_that_drives_ahead_moves_up(tmp_path: Path) -> None:
    write_gif(str(tmp_path / "f.gif"), [view([Mover(0, 6, speed=3)])])
    rows = [centre_of(image, id_colour(1))[0] for image in frames(tmp_path / "f.gif")]
    assert (np.diff(rows) < 0).all()


def test_an_id_keeps_its_colour_in_history_truth_and_forecast(tmp_path: Path) -> None:
    write_gif(str(tmp_path / "f.gif"), [view([AHEAD_LEFT, Mover(-8, -5, speed=2)])])
    for image in frames(tmp_path / "f.gif"):
        left, right = panels(image)
        for id_ in (1, 2):
            centres = [centre_of(half, id_colour(id_)) for half in (left, right)]
            np.testing.assert_allclose(*centres, atol=0.01)


def test_a_forecast_beside_the_truth_is_drawn_where_it_says(tmp_path: Path) -> None:
    seen = view([AHEAD_LEFT])
    wrong = np.roll(seen.truth, -20, axis=1)  # 10 m to the right
    write_gif(str(tmp_path / "f.gif"), [replace(seen, forecast=wrong)])
    left, right = panels(frames(tmp_path / "f.gif")[-1])
    true, ours = (centre_of(half, id_colour(1)) for half in (left, right))
    assert ours[1] - true[1] == pytest.approx(10 / 24, abs=0.01)


def test_colours_of_neighbouring_ids_differ() -> None:
    colours = np.array([id_colour(id_) for id_ in range(1, 41)])
    steps = np.abs(np.diff(colours, axis=0)).max(axis=1)
    assert steps.min() > 60
    assert len({tuple(colour) for colour in colours.tolist()}) == 40


@pytest.mark.parametrize(
    ("history", "truth", "ours", "count"),
    [(3, 6, 6, 9), (3, 0, 4, 7), (3, 6, 0, 9), (1, 2, 6, 7), (2, 0, 0, 2)],
)
def test_has_a_frame_for_each_time_that_is_known_or_forecast(
    tmp_path: Path, history: int, truth: int, ours: int, count: int
) -> None:
    seen = view([AHEAD_LEFT])
    seen = replace(
        seen,
        history=seen.history[:history],
        truth=seen.truth[:truth],
        forecast=seen.forecast[:ours],
    )
    write_gif(str(tmp_path / "f.gif"), [seen])
    write_png(str(tmp_path / "f.png"), seen)
    with Image.open(tmp_path / "f.gif") as image:
        assert image.format == "GIF"
        assert image.n_frames == count
        assert image.info["duration"] == 500
    with Image.open(tmp_path / "f.png") as image:
        assert image.format == "PNG"


def test_several_sequences_follow_one_another(tmp_path: Path) -> None:
    write_gif(str(tmp_path / "f.gif"), [view([AHEAD_LEFT]), view([])])
    assert len(frames(tmp_path / "f.gif")) == 18


def test_a_store_and_its_forecast_become_a_view(tmp_path: Path) -> None:
    sequences = sequence_store(tmp_path / "s.zarr", [[], [AHEAD_LEFT]])
    data, meta = open_sequence_store(sequences)
    forecast = open_forecast_store(forecast_store(tmp_path / "f.zarr", sequences))
    seen = view_of(data, meta, 1, forecast)
    np.testing.assert_array_equal(seen.forecast, seen.truth)
    assert (seen.model, seen.scene) == ("perfect", "scene-1")
    assert seen.frames == [-2, -1, 0, 1, 2, 3, 4, 5, 6]
    assert set(seen.map) == {"drivable", "lane_centre", "road_edge", "crosswalk"}
    with pytest.raises(DataError, match="a sequence from 0 to 1; got 2"):
        view_of(data, meta, 2, forecast)


def test_a_store_without_a_map_is_drawn(tmp_path: Path) -> None:
    write_gif(str(tmp_path / "f.gif"), [replace(view([AHEAD_LEFT]), map={})])
    assert len(frames(tmp_path / "f.gif")) == 9


def test_an_existing_picture_is_kept_unless_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "f.gif"
    path.write_text("mine")
    with pytest.raises(DataError, match="choose another or --overwrite"):
        write_gif(str(path), [view([])])
    assert path.read_text() == "mine"
    write_gif(str(path), [view([])], overwrite=True)
    assert len(frames(path)) == 9
    assert os.listdir(tmp_path) == ["f.gif"]


def test_a_failed_picture_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(DataError, match="no space left"):
        write_png(str(tmp_path / "f.png"), view([]))
    assert os.listdir(tmp_path) == []


def test_writes_to_fsspec_urls() -> None:
    write_png("memory://pictures/f.png", view([]))
    assert fsspec.filesystem("memory").exists("/pictures/f.png")


def view_of_classes() -> View:
    """A vehicle ahead and a pedestrian behind whom nobody has told apart, forecast with ids."""
    data = sequence_dataset([[Mover(8, 3, speed=2), Mover(-8, -5, label=2, length=3)]])
    meta, ids = SequenceMeta.from_attrs(data.attrs, "memory"), data["instance"].values[0, 3:]
    seen = view_of(classes_alone(data), meta, 0)
    return replace(seen, forecast=np.where(ids > 0, ids + 6, 0), model="perfect")


def test_agents_without_ids_are_drawn_by_class_where_they_are(tmp_path: Path) -> None:
    write_gif(str(tmp_path / "f.gif"), [view_of_classes()])
    for image in frames(tmp_path / "f.gif"):
        observed = panels(image)[0][: -image.shape[0] // 4]  # without the legend
        assert centre_of(observed, class_colour(1))[0] < centre_of(observed, class_colour(2))[0]


def test_a_forecast_keeps_its_ids_beside_a_truth_of_classes(tmp_path: Path) -> None:
    write_gif(str(tmp_path / "f.gif"), [view_of_classes()])
    left, right = panels(frames(tmp_path / "f.gif")[-1])
    vehicle, walker = (centre_of(right, id_colour(id_)) for id_ in (7, 8))
    np.testing.assert_allclose(vehicle[0], centre_of(left[:-120], class_colour(1))[0], atol=0.1)
    assert vehicle[0] < walker[0]


def test_classes_leave_no_trails(tmp_path: Path) -> None:
    # The middle of all vehicles is no place where one has been.
    seen = replace(view_of_classes(), forecast=np.zeros((0, *GRID.shape), int))
    write_png(str(tmp_path / "whole.png"), seen)
    write_png(str(tmp_path / "end.png"), replace(seen, history=0 * seen.history))
    with Image.open(tmp_path / "whole.png") as whole, Image.open(tmp_path / "end.png") as end:
        now, leads = np.split(np.asarray(whole) != np.asarray(end), [whole.width // 4], axis=1)
    assert now.any()
    assert not leads.any(), "the past is seen in what came after it"


def test_the_colour_of_a_class_is_no_id_s() -> None:
    ids = np.array([id_colour(id_) for id_ in range(1, 250)])
    for label in range(1, 9):
        assert np.abs(ids - class_colour(label)).max(axis=-1).min() > 24


def test_a_sequence_with_ids_or_with_nobody_is_not_drawn_by_class() -> None:
    assert view([AHEAD_LEFT]).classes == ()
    assert view([]).classes == ()
