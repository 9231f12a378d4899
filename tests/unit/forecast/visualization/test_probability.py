"""Probability in the pictures: whole per cent, classes put together, shades read by lightness."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from forecast.schema import SequenceMeta
from forecast.visualization.colours import id_colour, probability_shades
from forecast.visualization.futures import Realizations
from forecast.visualization.render import MARGIN, Layer, write_gif, write_png
from forecast.visualization.view import View, of_any_class, percent, view_of
from tests.support.stores import GRID, Mover, sequence_dataset

SURE = probability_shades()[100][:3]
HALF = probability_shades()[50][:3]


def test_probabilities_become_whole_per_cent() -> None:
    occupancy = np.array([0.0, 0.004, 0.006, 0.5, 0.999, 1.0, np.nan], np.float16)
    np.testing.assert_array_equal(
        percent(occupancy.reshape(1, 1, 1, -1)).ravel(), [0, 0, 1, 50, 100, 100, 0]
    )


def test_of_any_class_is_that_not_all_are_absent() -> None:
    of_classes = np.array([[[50, 0, 100, 10]], [[50, 0, 30, 20]]], np.uint8)
    np.testing.assert_array_equal(of_any_class(of_classes), [[75, 0, 100, 28]])


def test_shades_grow_lighter_so_that_lightness_alone_tells_them_apart() -> None:
    shades = np.array(probability_shades())
    assert shades.shape == (101, 4)
    assert shades[0, 3] == 0
    assert (shades[25:, 3] == 255).all()
    light = shades[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(light) > 0).all()


def view() -> View:
    """A car ahead, forecast perfectly; to its right, where nothing is, a chance of half at last."""
    data = sequence_dataset([[Mover(6, 5, length=6, width=4)]])
    seen = view_of(data, SequenceMeta.from_attrs(data.attrs, "memory"), 0)
    probability = np.zeros((len(seen.truth), 3, *GRID.shape), np.uint8)
    probability[:, 0][seen.truth > 0] = 100
    probability[-1, 1, 10:20, 40:50] = 50
    return replace(seen, forecast=seen.truth, probability=probability)


def close_to(image: NDArray[np.uint8], colour: tuple[int, int, int]) -> int:
    """How many pixels have about that colour."""
    return int((np.abs(image.astype(int) - colour).max(axis=-1) < 24).sum())


def last_panel(path: Path) -> NDArray[np.uint8]:
    """The forecast at the last lead of an animation."""
    with Image.open(path) as image:
        image.seek(image.n_frames - 1)
        last = np.asarray(image.convert("RGB"))
    return last[:, 2 * MARGIN + (last.shape[1] - 3 * MARGIN) // 2 :]


@pytest.mark.parametrize(
    ("layer", "labels", "sure", "half"),
    [
        ("labels", True, False, False),
        ("probability", False, True, True),
        ("both", True, False, True),
    ],
)
def test_probability_is_drawn_in_place_of_the_labels_or_under_them(
    tmp_path: Path, layer: Layer, labels: bool, sure: bool, half: bool
) -> None:
    write_gif(str(tmp_path / "f.gif"), [view()], layer=layer)
    panel = last_panel(tmp_path / "f.gif")[: -panel_foot(tmp_path)]
    # The box is 6 m x 4 m, the chance 5 m x 5 m, in a panel of 13 pixels to the metre.
    assert (close_to(panel, id_colour(1)) > 2000) == labels
    assert (close_to(panel, SURE) > 2000) == sure
    assert (close_to(panel, HALF) > 2000) == half


def panel_foot(tmp_path: Path) -> int:
    """Rows of a frame with the scale of probabilities and what is below."""
    with Image.open(tmp_path / "f.gif") as image:
        return image.height // 6


def test_the_contact_sheet_draws_probability_too(tmp_path: Path) -> None:
    write_png(str(tmp_path / "a.png"), view())
    write_png(str(tmp_path / "b.png"), view(), layer="probability")
    with Image.open(tmp_path / "a.png") as plain, Image.open(tmp_path / "b.png") as likely:
        assert close_to(np.asarray(plain), HALF) < 200 < close_to(np.asarray(likely), HALF)


def test_without_probability_the_labels_are_drawn_whatever_is_asked(tmp_path: Path) -> None:
    write_gif(str(tmp_path / "f.gif"), [replace(view(), probability=None)], layer="probability")
    assert close_to(last_panel(tmp_path / "f.gif"), id_colour(1)) > 2000


def test_realizations_are_paths_from_the_present_with_a_dot_at_each_lead(tmp_path: Path) -> None:
    pose = np.full((2, 6, 1, 3), np.nan)
    pose[:, :, 0, 0] = np.linspace(6, 18, 6)  # ahead
    pose[0, :, 0, 1], pose[1, :, 0, 1] = np.linspace(5, 10, 6), np.linspace(5, -8, 6)
    pose[:, :, 0, 2] = 0
    still = replace(view(), forecast=0 * view().truth, truth=0 * view().truth)
    futures = Realizations(pose, np.array([[0.0, 5.0]]), np.array([[6.0, 4.0]]), np.array([1]))
    write_gif(str(tmp_path / "none.gif"), [still])
    write_gif(str(tmp_path / "fans.gif"), [replace(still, realizations=futures)])
    without, drawn = last_panel(tmp_path / "none.gif"), last_panel(tmp_path / "fans.gif")
    rows, columns = np.nonzero((without != drawn).any(axis=-1))
    per_metre, top = 13, 64  # as large as a panel is, and where it begins
    corners = (columns.min(), rows.min()), (columns.max(), rows.max())
    expected = ((12 - 10) * per_metre, top + (24 - 18) * per_metre)
    np.testing.assert_allclose(corners[0], expected, atol=8)
    np.testing.assert_allclose(
        corners[1], ((12 + 8) * per_metre, top + (24 - 0) * per_metre), atol=8
    )
    assert close_to(drawn, id_colour(1)) > 20, "dots have the agent's colour"
