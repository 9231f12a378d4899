"""What a host computes by itself is what the forecaster computes."""

from typing import Any

import numpy as np
import pytest
import torch

from forecast.export.host_arrays import ExportError, placed, seen_from, thinned
from forecast.grid import BEVGrid
from forecast.model.scene import lanes, se2

GRID = BEVGrid(-50.0, 50.0, -30.0, 30.0, 0.5)


def test_lanes_are_thinned_as_the_forecaster_thins_them() -> None:
    points = torch.randn(1, 400, 3, generator=torch.Generator().manual_seed(3)) * 12
    own = lanes.thinned(points, 3.0)[0]

    found = thinned(points[0].numpy(), 3.0)

    own = own[torch.isfinite(own).all(1)].numpy()
    assert {tuple(point) for point in found} == {tuple(point) for point in own}


def test_rows_are_seen_from_a_frame() -> None:
    frame, rows = (5e6, 4e5, 3.0), np.array([(5e6 + 10, 4e5 - 3, -3.0, 4.0, 2.0)])

    seen = seen_from(frame, rows)

    own = se2.between(torch.tensor(frame).double(), torch.from_numpy(rows[:, :3]))
    np.testing.assert_allclose(seen[:, :3], own, atol=1e-9)
    np.testing.assert_array_equal(seen[:, 3:], rows[:, 3:])
    back = np.stack(placed(np.array(frame), seen[:, 0], seen[:, 1]), -1)
    np.testing.assert_allclose(back, rows[:, :2], atol=1e-6)
    assert seen_from(frame, []).shape == (0, 3)


@pytest.mark.parametrize("rows", [[1, 2], [[1, 2]], 5, "a", [[1, 2, 3], [4]]], ids=str)
def test_rows_that_are_no_poses_are_refused(rows: Any) -> None:
    with pytest.raises(ExportError, match="rows"):
        seen_from((0, 0, 0), rows)
