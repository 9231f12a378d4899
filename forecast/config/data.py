"""What can be set about reading and varying the data."""

from __future__ import annotations

from pydantic import Field
from pydantic.dataclasses import dataclass

from forecast.section import STRICT, Section


@dataclass(frozen=True, config=STRICT)
class Loading(Section):
    """How batches are read."""

    SECTION = "loading"

    batch_size: int = Field(default=8, ge=1)
    """Sequences per step and process."""
    workers: int = Field(default=1, ge=0)
    """Processes that read ahead; 0 reads in the training process."""


@dataclass(frozen=True, config=STRICT)
class Augmentation(Section):
    """How much training varies what it reads; see ``docs/training.md``."""

    SECTION = "augmentation"

    mirror: float = Field(default=0.5, ge=0, le=1)
    """Probability of swapping left and right."""
    position_noise_m: float = Field(default=0.03, ge=0)
    """Largest standard deviation added to each observed position; every batch draws its own level,
    up to this and mostly lower, as every tracker has its own.
    """
    heading_noise_rad: float = Field(default=0.005, ge=0)
    """The same for headings, at the same level."""
    drop_lanes: float = Field(default=0.1, ge=0, le=1)
    """Probability of hiding the lane points of a batch."""
    drop_map: float = Field(default=0.1, ge=0, le=1)
    """Probability of hiding the map raster of a batch."""
    drop_past: float = Field(default=0.05, ge=0, le=1)
    """Probability of hiding the oldest frame of a track."""
    newcomers: float = Field(default=0.0, ge=0, le=1)
    """Probability of hiding all of a track before the present frame, as if its agent had only now
    come into view; a tenth of it for agents that move, as most who come into view are parked.
    In simulated traffic no agent is hidden behind anything.
    """
    scale: float = Field(default=0.0, ge=0)
    """Largest change of the scene's size, as a share: a larger scene has longer cars that drive
    faster on wider streets.
    """
    masks_only: float = Field(default=0.0, ge=0, le=1)
    """Probability that the history of a batch comes as masks with ids, without boxes: what a
    forecaster of rasters or of detected input sees.
    """
