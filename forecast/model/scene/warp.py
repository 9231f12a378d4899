"""Moves feature pyramids with the agents from frame to frame, exactly, in metres.

Kornia does the sampling; what is here is the geometry: pixel coordinates of a grid whose cells
need not be square in number, at any level of a pyramid.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from kornia.geometry.transform import remap
from torch import Tensor

from forecast.grid import BEVGrid
from forecast.model.scene import se2
from forecast.model.scene.cells import metric_cell_centres
from forecast.types import SceneContext

# Of a cell. Where a frame moves by half a cell, all centres lie between two cells, and rounding to
# the even one would take every second cell twice and the others never.
SAME_SIDE = 1e-3


def sample_at(
    features: Float[Tensor, "b c h w"],
    source: Float[Tensor, "b ho wo 2"],
    grid: BEVGrid,
    mode: str = "bilinear",
) -> Float[Tensor, "b c ho wo"]:
    """Features at points in metres; zero outside the grid.

    Pixel coordinates count cell centres, hence ``align_corners=True`` whatever the stride.
    """
    height, width = features.shape[-2:]
    x = (source[..., 0] - grid.x_min_m) / (grid.x_max_m - grid.x_min_m) * width - 0.5
    y = (source[..., 1] - grid.y_min_m) / (grid.y_max_m - grid.y_min_m) * height - 0.5
    return remap(features, x, y, mode=mode, padding_mode="zeros", align_corners=True)


def resampled(
    layers: Float[Tensor, "b c h w"], moved: Float[Tensor, "b 3"], grid: BEVGrid
) -> Float[Tensor, "b c h w"]:
    """The same layers on the same grid in another frame; zero where they do not reach.

    Args:
        layers: Of 0 and 1, which they stay.
        moved: Pose of that frame in the present one.
        grid: Of both.
    """
    centres = metric_cell_centres((grid.height, grid.width), grid, layers)
    source = se2.apply(moved[:, None, None], centres) + SAME_SIDE * grid.resolution_m
    return sample_at(layers, source, grid, mode="nearest")


def scene_seen_from(context: SceneContext, moved: Float[Tensor, "b 3"]) -> SceneContext:
    """The scene in another frame.

    The map is drawn from the one that was given, by the whole way since then; dense channels, which
    each frame brings anew, are moved as they are.

    Args:
        context: The scene.
        moved: Pose of that frame in the present one.
    """
    given, points, grid = context.given, context.points, context.grid
    given = context.map if given is None else given
    channels = context.map[:, given.shape[1] :]
    frame = moved if context.frame is None else se2.compose(context.frame, moved)
    layers = [resampled(given, frame, grid)]
    if channels.shape[1]:
        layers.append(resampled(channels, moved, grid))
    return SceneContext(
        map=torch.cat(layers, 1),
        points=None if points is None else se2.between(moved[:, None], points),
        grid=grid,
        given=given,
        frame=frame,
    )


def warp_by_agents(
    levels: tuple[Float[Tensor, "b c hl wl"], ...],
    start: Float[Tensor, "b a 3"],
    pose: Float[Tensor, "b a 3"],
    size: Float[Tensor, "b a 2"],
    moving: Bool[Tensor, "b a"],
    grid: BEVGrid,
    frame: Float[Tensor, "b 3"] | None = None,
) -> tuple[Float[Tensor, "b c hl wl"], ...]:
    """A frame's pyramid with every moving agent's features carried to where it is now.

    The motion since that frame is applied to its features in one go: features warped step after
    step would blur. Under an agent's box the features are those of where that box was; everything
    else stays where it was in the world.

    Args:
        levels: The pyramid of the frame.
        start: Agents' poses when the frame was seen.
        pose: Their poses now.
        size: Length and width, metres.
        moving: Which agents to carry.
        grid: The grid of the pyramid, around the ego then and now.
        frame: Pose of the present ego frame, in which all poses are given, in the ego frame of
            the pyramid; None = the ego has not moved.
    """
    warped = []
    for level in levels:
        shape = (level.shape[-2], level.shape[-1])
        centres = metric_cell_centres(shape, grid, level)
        # A cell that a box touches moves with it: boxes are smaller than coarse cells.
        margin = (grid.x_max_m - grid.x_min_m) / shape[1] / 2
        source = _agent_source(centres, start, pose, size + 2 * margin, moving)
        if frame is not None:
            source = se2.apply(frame[:, None, None], source)
        warped.append(sample_at(level, source, grid))
    return tuple(warped)


def _agent_source(
    centres: Float[Tensor, "h w 2"],
    start: Float[Tensor, "b a 3"],
    pose: Float[Tensor, "b a 3"],
    size: Float[Tensor, "b a 2"],
    moving: Bool[Tensor, "b a"],
) -> Float[Tensor, "b h w 2"]:
    """Where the content of each cell was at the present: the backward flow's end point."""
    body = se2.unapply(pose[:, :, None], centres.flatten(0, 1)[None, None])
    depth = (size[:, :, None] / 2 - body.abs()).amin(-1)
    depth = torch.where(moving[..., None], depth, -torch.inf)
    deepest, owner = depth.max(1)
    index = owner[..., None].expand(-1, -1, 3)
    there = se2.apply(start.gather(1, index), _take_body(body, owner))
    source = torch.where((deepest > 0)[..., None], there, centres.flatten(0, 1))
    return source.reshape(-1, *centres.shape)


def _take_body(
    body: Float[Tensor, "b a s 2"], owner: Float[Tensor, "b s"]
) -> Float[Tensor, "b s 2"]:
    return body.gather(1, owner[:, None, :, None].expand(-1, -1, -1, 2)).squeeze(1)


def sample_own(
    maps: Float[Tensor, "b a hm wm"], points: Float[Tensor, "b a p 2"], grid: BEVGrid
) -> Float[Tensor, "b a p"]:
    """Each agent's own map at its own points, in metres."""
    flat = sample_at(maps.flatten(0, 1)[:, None], points.flatten(0, 1)[:, :, None], grid)
    return flat.view(points.shape[:-1])
