"""What a heatmap is taught: a bump at every visible agent."""

from __future__ import annotations

import torch

from forecast.grid import BEVGrid
from forecast.training.tracking_losses import _bumps

GRID = BEVGrid(-8.0, 12.0, -6.0, 6.0, 0.5)


def test_bumps_are_those_of_one_agent_after_the_other() -> None:
    torch.manual_seed(0)
    state = torch.randn(3, 9, 5) * 6.0  # some lie off the grid, but reach into it
    state[1, 2:4] = torch.nan
    visible = torch.isfinite(state).all(-1)
    visible[2] = False
    heat = torch.zeros(3, *GRID.shape)
    plain = torch.zeros_like(heat)
    x, y = (torch.arange(count) for count in (GRID.width, GRID.height))
    for sample, track in visible.nonzero().tolist():
        u = ((state[sample, track, 0] - GRID.x_min_m) / GRID.resolution_m - 0.5).round()
        v = ((state[sample, track, 1] - GRID.y_min_m) / GRID.resolution_m - 0.5).round()
        bump = torch.exp(-(y - v).square()[:, None] / 2 - (x - u).square() / 2)
        plain[sample] = torch.maximum(plain[sample], bump)
    torch.testing.assert_close(_bumps(heat, state, visible, GRID), plain, atol=1e-6, rtol=0)
    assert plain[0].max() == 1.0
