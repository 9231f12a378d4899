"""Pictures of scores by level."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from forecast.errors import DataError
from forecast.visualization.colours import PAPER
from forecast.visualization.curves import OWN, Line, Panel, write_panels

LEVELS = (0, 0.1, 0.3)
LINES = {
    "mine": Line(LEVELS, [0.5, None, 0.2], [(0.4, 0.6), None, (0.1, 0.3)]),
    "other": Line(LEVELS, [0.3, 0.2, 0.1]),
}
PANEL = Panel("noise", "m", "VPQ", LINES)


def test_each_panel_is_drawn_and_what_is_unknown_is_left_out(tmp_path: Path) -> None:
    path = str(tmp_path / "curves.png")
    write_panels([path], [[PANEL]], "mine")
    one = np.asarray(Image.open(path).convert("RGB"))
    assert tuple(one[2, 2]) == PAPER
    write_panels([path], [[PANEL, PANEL], [PANEL, PANEL]], "mine", overwrite=True)
    four = np.asarray(Image.open(path).convert("RGB"))
    assert four.shape[1] == pytest.approx(2 * one.shape[1], abs=2)
    assert four.shape[0] > 1.8 * one.shape[0]
    accent = (np.abs(four.astype(int) - OWN) < 12).all(-1)
    height, width = accent.shape
    for rows in (slice(height // 2), slice(height // 2, None)):
        for columns in (slice(width // 2), slice(width // 2, None)):
            assert accent[rows, columns].any()
    with pytest.raises(DataError):
        write_panels([path], [[PANEL]], "mine")


def test_an_svg_has_its_text_as_text_and_is_the_same_each_time(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("a.svg", "b.svg")]
    for path in paths:
        write_panels([path], [[PANEL]], "mine")
    first, second = (Path(path).read_text() for path in paths)
    assert first == second
    for text in ("noise", "VPQ", "mine", "other"):
        assert f">{text}</text>" in first
