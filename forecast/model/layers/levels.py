"""The levels of a pyramid as one sequence of cells, and where these cells lie."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from forecast.model.layers.deformable_kernels import Shapes
from forecast.model.scene.cells import cell_centres


def shapes_of(levels: Sequence[Tensor]) -> Shapes:
    """Height and width of each level."""
    return [(level.shape[-2], level.shape[-1]) for level in levels]


def flatten_levels(levels: Sequence[Float[Tensor, "b d hl wl"]]) -> Float[Tensor, "b s d"]:
    """All levels, row by row, one after the other."""
    return torch.cat([level.flatten(2).transpose(1, 2) for level in levels], 1)


def unflatten_levels(
    x: Float[Tensor, "b s d"], shapes: Shapes
) -> tuple[Float[Tensor, "b d hl wl"], ...]:
    """The levels of a sequence of cells as maps again."""
    parts = torch.split(x, [h * w for h, w in shapes], 1)
    return tuple(
        part.transpose(1, 2).reshape(len(part), -1, *shape)
        for part, shape in zip(parts, shapes, strict=True)
    )


def level_cell_centres(shapes: Shapes, like: Tensor) -> Float[Tensor, "1 s 1 2"]:
    """Centre of every cell of every level, x and y in [0, 1]."""
    centres = [cell_centres(shape, like.device).flatten(0, 1) for shape in shapes]
    return torch.cat(centres)[None, :, None].to(like.dtype)
