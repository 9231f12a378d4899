"""The raster encoder: from one BEV frame to encoded features on several levels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from forecast.errors import ConfigError
from forecast.grid import BEVGrid
from forecast.model.layers.attention import feature_attention
from forecast.model.layers.backbone import Backbone
from forecast.model.layers.deformable_kernels import Shapes
from forecast.model.layers.encoder import EncoderLayer
from forecast.model.layers.levels import (
    flatten_levels,
    level_cell_centres,
    shapes_of,
    unflatten_levels,
)
from forecast.model.layers.position_encoding import sine_position
from forecast.model.spec import ForecasterSpec


@dataclass(frozen=True)
class EncodedFeatures:
    """The encoded pyramid of one frame.

    Attributes:
        levels: Feature maps that the decoder reads, finest first.
        pixels: Embedding of every raster cell, for masks and for finding new agents.
        guides: The backbone's features that guide an fpn mask head, coarse to fine.
    """

    levels: tuple[Float[Tensor, "b d hl wl"], ...]
    pixels: Float[Tensor, "b e h w"]
    guides: tuple[Float[Tensor, "b c hl wl"], ...] = ()

    @property
    def shapes(self) -> Shapes:
        """Height and width of each level."""
        return shapes_of(self.levels)

    def flat(self) -> Float[Tensor, "b s d"]:
        """All levels flattened one after the other."""
        return flatten_levels(self.levels)


def reference_points(
    points: Float[Tensor, "b q 2"], grid: BEVGrid, levels: int
) -> Float[Tensor, "b q levels 2"]:
    """Points in metres as fractions of the grid, x first, repeated for every level.

    The grid's edges are 0 and 1, so that a level's stride does not shift them.
    """
    low = points.new_tensor([grid.x_min_m, grid.y_min_m])
    extent = points.new_tensor([grid.x_max_m - grid.x_min_m, grid.y_max_m - grid.y_min_m])
    return ((points - low) / extent)[:, :, None].expand(-1, -1, levels, -1)


class RasterEncoder(nn.Module):
    """Backbone, input projections, encoder, pixel embedding, and features that guide masks.

    Args:
        spec: Hyper-parameters; the decoder reads all residual layers but the finest.
        channels: Input channels of a frame.
    """

    def __init__(self, spec: ForecasterSpec, channels: int) -> None:
        super().__init__()
        self.dim, self.num_levels = spec.hidden_dim, spec.levels
        self.backbone = Backbone(spec.backbone, channels, spec.stem_stride, spec.backbone_layers)
        widths, dim, pixel_dim = self.backbone.widths, spec.hidden_dim, spec.pixel_dim
        self.input_proj = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, dim, 1), nn.GroupNorm(32, dim)) for width in widths[1:]
        )
        self.level_embed = nn.Parameter(torch.randn(self.num_levels, dim) * 0.1)
        self.encoder = nn.ModuleList(
            EncoderLayer(
                feature_attention(
                    spec.attention,
                    spec.hidden_dim,
                    spec.heads,
                    spec.levels,
                    spec.points,
                    spec.backend,
                ),
                dim,
                spec.ffn,
            )
            for _ in range(spec.encoder_layers)
        )
        self.guided = spec.mask_head == "fpn"
        # Pixels read the finest level, the encoded features and the raster itself: masks need the
        # full resolution, since a car is only two cells wide at the finest level.
        self.lateral = nn.Conv2d(widths[0], pixel_dim, 1)
        self.context = nn.Conv2d(dim, pixel_dim, 1)
        self.pixel = nn.Sequential(
            nn.Conv2d(pixel_dim + channels, pixel_dim, 3, padding=1),
            nn.GroupNorm(4, pixel_dim),
            nn.ReLU(),
            nn.Conv2d(pixel_dim, pixel_dim, 3, padding=1),
        )

    @property
    def guide_widths(self) -> tuple[int, ...]:
        """Channels of ``EncodedFeatures.guides``, coarse to fine."""
        return tuple(reversed(self.backbone.widths[:-1])) if self.guided else ()

    def forward(self, frame: Float[Tensor, "b c h w"]) -> EncodedFeatures:
        """Encodes one frame.

        Raises:
            ConfigError: The grid is so small that its coarsest level is a single cell.
        """
        height, width = frame.shape[-2:]
        if max(height, width) <= self.backbone.strides[-1]:
            raise ConfigError(
                f"a grid of more than {self.backbone.strides[-1]} cells along x or y",
                f"{height} x {width} cells",
                "use a larger or finer grid, or a model with model.raster: none",
            )
        # The same numbers; convolutions on the CPU take a sixth less time on channels side by side.
        frame = frame.contiguous(memory_format=torch.channels_last)
        pyramid = self.backbone(frame)
        levels = [p(level) for p, level in zip(self.input_proj, pyramid[1:], strict=True)]
        shapes, x = shapes_of(levels), flatten_levels(levels)
        position = torch.cat(
            [
                sine_position(h, w, self.dim, x.device) + self.level_embed[index]
                for index, (h, w) in enumerate(shapes)
            ]
        )
        reference = level_cell_centres(shapes, x).expand(x.shape[0], -1, self.num_levels, -1)
        for layer in self.encoder:
            x = layer(x, position, reference, shapes)
        encoded = unflatten_levels(x, shapes)
        guides = tuple(reversed(pyramid[:-1])) if self.guided else ()
        return EncodedFeatures(encoded, self._pixels(frame, pyramid[0], encoded[0]), guides)

    def _pixels(self, frame: Tensor, fine: Tensor, coarse: Tensor) -> Tensor:
        context = nn.functional.interpolate(
            self.context(coarse), fine.shape[-2:], mode="bilinear", align_corners=False
        )
        upsampled = nn.functional.interpolate(
            self.lateral(fine) + context, frame.shape[-2:], mode="bilinear", align_corners=False
        )
        out: Tensor = self.pixel(torch.cat((upsampled, frame), 1))
        return out
