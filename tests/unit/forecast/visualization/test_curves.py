"""Pictures of scores by level."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from forecast.errors import DataError
from forecast.visualization.colours import ACCENT, PAPER
from forecast.visualization.curves import Panel, write_curves


def test_each_panel_is_drawn_and_what_is_unknown_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "curves.png"
    lines = {"mine": [0.5, None, 0.2], "other": [0.3, 0.2, 0.1]}
    panel = Panel("noise", "m", (0, 0.1, 0.3), lines)
    write_curves(str(path), [panel], "VPQ", "mine")
    one = np.asarray(Image.open(path).convert("RGB"))
    assert tuple(one[2, 2]) == PAPER
    write_curves(str(path), [panel, panel], "VPQ", "mine", overwrite=True)
    two = np.asarray(Image.open(path).convert("RGB"))
    assert two.shape[1] == pytest.approx(2 * one.shape[1], abs=2)
    accent = (np.abs(two.astype(int) - ACCENT) < 12).all(-1)
    columns = accent.any(0)
    assert columns[: two.shape[1] // 2].any()
    assert columns[two.shape[1] // 2 :].any()
    with pytest.raises(DataError):
        write_curves(str(path), [panel], "VPQ", "mine")
