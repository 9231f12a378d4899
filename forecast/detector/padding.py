"""Padding of frames of several sizes in one batch: True where there is no data, as in DETR."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from forecast.errors import DataError


def check_mask(mask: Bool[Tensor, "b h w"], frame: Float[Tensor, "b c h w"]) -> None:
    """Refuses a mask of the wrong form or sense.

    Raises:
        DataError: Another shape or type than one truth value per cell; a frame that is nothing
            but padding, as when True was taken to mean "valid"; or one that is padded elsewhere
            than below and to the right, where no valid ratio could say what is left.
    """
    wanted = (frame.shape[0], *frame.shape[2:])
    if mask.dtype != torch.bool or mask.shape != wanted:
        raise DataError(
            f"a padding mask of truth values, {tuple(wanted)}",
            f"{mask.dtype}, {tuple(mask.shape)}",
            "give True where a cell is padding, or no mask where none is",
        )
    if mask.is_meta:
        return
    if bool(mask.flatten(1).all(1).any()):
        raise DataError(
            "a padding mask that is True only where a cell is padding",
            "a frame that is all padding",
            "turn the mask around (~mask), or give none where nothing is padded",
        )
    valid = ~mask
    rows = torch.arange(wanted[1], device=mask.device) < valid[:, :, 0].sum(1, keepdim=True)
    columns = torch.arange(wanted[2], device=mask.device) < valid[:, 0].sum(1, keepdim=True)
    if not torch.equal(valid, rows[:, :, None] & columns[:, None]):
        raise DataError(
            "a frame in the upper left corner, padded below and to the right",
            "padding elsewhere",
            "move the frame to the corner, or give no mask where nothing is padded",
        )


def shrink_mask(
    mask: Bool[Tensor, "b h w"] | None, level: Float[Tensor, "b d hl wl"]
) -> Bool[Tensor, "b hl wl"]:
    """A frame's padding mask at the resolution of a level; without a mask nothing is padded."""
    batch, _, height, width = level.shape
    if mask is None:
        return torch.zeros(batch, height, width, dtype=torch.bool, device=level.device)
    return functional.interpolate(mask[None].float(), (height, width))[0].bool()


def valid_ratio(mask: Bool[Tensor, "b h w"], dtype: torch.dtype) -> Float[Tensor, "b 2"]:
    """Share of a level's columns and rows that are not padding, from its first row and column."""
    valid = (~mask).to(dtype)
    return torch.stack((valid[:, 0].mean(1), valid[:, :, 0].mean(1)), -1)
