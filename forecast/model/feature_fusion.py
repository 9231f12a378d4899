"""Fusion: what is seen now and what was seen before, warped to now, as one pyramid."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.profiler import record_function

from forecast.model.raster_encoder import EncodedFeatures


class FeatureFusion(nn.Module):
    """A gate in every cell says how much of the carried features is added to those of the frame.

    So what is hidden now but was seen before is still there. Untrained it adds nothing.

    Args:
        dim: Width of the encoded features.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gate = nn.Conv2d(2 * dim, dim, 1)
        self.carried = nn.Conv2d(dim, dim, 1)
        nn.init.zeros_(self.carried.weight)
        nn.init.zeros_(self.carried.bias)  # type: ignore[arg-type]

    @record_function("fusing encoded features")
    def forward(
        self, now: EncodedFeatures, carried: tuple[Float[Tensor, "b d hl wl"], ...]
    ) -> EncodedFeatures:
        """The features of a frame, with those of the frames before, warped to it, added."""
        levels = tuple(
            new + torch.sigmoid(self.gate(torch.cat((new, old), 1))) * self.carried(old)
            for new, old in zip(now.levels, carried, strict=True)
        )
        return replace(now, levels=levels)
