"""Newcomers: how likely cells are taken by agents that have not been seen yet.

They enter the grid at its edges, come out of side streets or from behind what hides them. No query
stands for them, so they are forecast cell by cell, from the encoded features of the last raster.

Source: Mahjourian et al., "Occupancy Flow Fields" (2022), occupancy of agents that are not seen at
present as a map of its own.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import record_function

from forecast.model.layers.mlp import MLP
from forecast.model.raster_encoder import EncodedFeatures
from forecast.model.scene.likelihood import faded

HIDDEN = 32
# An untrained head finds newcomers less likely than what is taken for none at all.
PRIOR_BIAS = -7.0
# Lower ones, all over the streets, would sum up to more than they tell (soft IoU 0.656 -> 0.623).
LEAST = 1e-2


class NewcomerHead(nn.Module):
    """A dense head at half the grid's resolution: streets are wider than its cells.

    It reads features as they are: nothing else learns from it.

    Args:
        dim: Width of the encoded features.
        pixel_dim: Width of the pixel embedding.
        layers: Map layers, and channels of the user's own.
        classes: Number of classes K.
    """

    def __init__(self, dim: int, pixel_dim: int, layers: int, classes: int) -> None:
        super().__init__()
        self.coarse = nn.Conv2d(dim, HIDDEN, 1)
        self.fine = nn.Conv2d(pixel_dim + layers, HIDDEN, 3, stride=2, padding=1)
        self.mix = nn.Conv2d(HIDDEN, HIDDEN, 3, padding=1)
        self.time = MLP(2, HIDDEN, 2 * HIDDEN, silent=True)
        self.logits = nn.Conv2d(HIDDEN, classes, 1)
        nn.init.zeros_(self.logits.weight)
        nn.init.constant_(self.logits.bias, PRIOR_BIAS)  # type: ignore[arg-type]

    @record_function("newcomers: reading the raster")
    def read(
        self, features: EncodedFeatures, layers: Float[Tensor, "b m h w"]
    ) -> Float[Tensor, "b e hn wn"]:
        """What the last raster and the map tell, once for all leads."""
        fine = self.fine(torch.cat((features.pixels.detach(), layers), 1))
        coarse = functional.interpolate(
            self.coarse(features.levels[0].detach()), fine.shape[-2:], mode="bilinear"
        )
        out: Tensor = functional.relu(self.mix(functional.relu(fine + coarse)))
        return out

    @record_function("newcomers")
    def forward(
        self, read: Float[Tensor, "b e hn wn"], units: float | Float[Tensor, ""]
    ) -> Float[Tensor, "b k hn wn"]:
        """Logits so many time units after the present; a tensor where graphs are exported."""
        if not isinstance(units, Tensor):
            units = torch.tensor(units, dtype=torch.float64)
        time = self.time(torch.stack((units, units.log1p())).to(read))
        scale, shift = time[:, None, None].chunk(2)
        out: Tensor = self.logits(functional.relu(read * (1 + scale) + shift))
        return out


def with_newcomers(
    occupancy: Float[Tensor, "b k h w"], logits: Float[Tensor, "b k hn wn"]
) -> Float[Tensor, "b k h w"]:
    """The occupancy of known agents and of newcomers, as if they came independently.

    Newcomers less likely than :data:`LEAST` are left out, and fade in above it: most cells stay at
    zero.
    """
    likely = functional.interpolate(logits, occupancy.shape[-2:], mode="bilinear").sigmoid()
    return occupancy + (1 - occupancy) * faded(likely, LEAST)
