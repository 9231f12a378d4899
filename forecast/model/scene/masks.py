"""Poses and sizes of agents that are known by their masks alone."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from forecast.grid import BEVGrid
from forecast.model.scene.mask_edges import fit_to_edges


def mask_poses(
    instance: Int[Tensor, "b h w"], semantic: Int[Tensor, "b h w"], grid: BEVGrid
) -> tuple[
    Int[Tensor, "b n"],
    Int[Tensor, "b n"],
    Float[Tensor, "b n 3"],
    Float[Tensor, "b n 2"],
    Bool[Tensor, "b n"],
]:
    """Id, class, pose, size of every mask, and whether its axis tells its heading.

    Moments tell a first box, which those that are long enough then fit to their edges. The yaw is
    that of the long axis, which may point either way. A mask that is hardly longer than wide (a
    pedestrian of four cells) has an axis by chance only.
    """
    count = int(instance.max()) + 1 if instance.numel() else 1
    x, y, var, area = _moments(instance, grid, count)
    here = area > 0
    size = sides(var)
    axis = 0.5 * torch.atan2(2 * var[..., 2], var[..., 0] - var[..., 1])
    ids = torch.arange(count, device=here.device).expand_as(here) * here
    long = (size[..., 0] - size[..., 1]) > 2 * grid.resolution_m
    pose = torch.stack((x, y, axis), -1)
    pose, size = fit_to_edges(pose, size, ids * long, instance, grid)
    return ids, _majority_class(instance, semantic, count) * here, pose, size, long


def sides(var: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 2"]:
    """Length and width of a rectangle, from its variance xx, yy, xy."""
    xx, yy, xy = var.unbind(-1)
    extent = torch.hypot(xx - yy, 2 * xy)
    return (6 * torch.stack((xx + yy + extent, xx + yy - extent), -1).clamp(min=0)).sqrt()


def _moments(
    instance: Int[Tensor, "b h w"], grid: BEVGrid, count: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Centre x, y ``(b, n)``, variance xx, yy, xy ``(b, n, 3)`` and area of every id."""
    batch, device = instance.shape[0], instance.device
    x = torch.as_tensor(grid.x_m, dtype=torch.float32, device=device).expand(grid.shape)
    y = torch.as_tensor(grid.y_m, dtype=torch.float32, device=device)[:, None].expand(grid.shape)
    powers = torch.stack((torch.ones_like(x), x, y, x * x, y * y, x * y), -1).flatten(0, 1)
    where = instance.flatten(1).long()[..., None].expand(-1, -1, 6)
    sums = torch.zeros(batch, count, 6, device=device, dtype=torch.float64)
    sums.scatter_add_(1, where, powers.double().expand(batch, -1, -1))
    sums[:, 0] = 0
    area = sums[..., 0]
    mean = sums[..., 1:] / area.clamp(min=1)[..., None]
    mx, my = mean[..., 0], mean[..., 1]
    # A cell is a square, not a point: its own variance makes the sizes those of the mask.
    cell = mean.new_tensor([1.0, 1.0, 0.0]) * grid.resolution_m**2 / 12
    var = mean[..., 2:] - torch.stack((mx * mx, my * my, mx * my), -1) + cell
    return mx.float(), my.float(), var.float(), area


def _majority_class(
    instance: Int[Tensor, "b h w"], semantic: Int[Tensor, "b h w"], count: int
) -> Int[Tensor, "b n"]:
    ids, label = instance.flatten(1).long(), semantic.flatten(1)
    classes = int(label.max()) + 1
    votes = torch.zeros(len(ids), count * classes, device=ids.device)
    votes.scatter_add_(
        1, ids * classes + label.long(), torch.ones_like(votes[:, :1]).expand_as(ids)
    )
    votes = votes.view(len(ids), count, classes)
    votes[..., 0] = 0
    return votes.argmax(-1)
