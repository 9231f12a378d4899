"""What can be set about reading and varying the data."""

from __future__ import annotations

from dataclasses import dataclass

from forecast.errors import ConfigError


@dataclass(frozen=True)
class Loading:
    """How batches are read.

    Attributes:
        batch_size: Sequences per step and process.
        workers: Processes that read ahead; 0 reads in the training process.
    """

    batch_size: int = 8
    workers: int = 1

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.workers < 0:
            raise ConfigError(
                "loading with a batch_size of at least 1 and no negative number of workers",
                str(self),
                "correct the loading",
            )


@dataclass(frozen=True)
class Augmentation:
    """How much training varies what it reads; see ``docs/training.md``.

    Attributes:
        mirror: Probability of swapping left and right.
        position_noise_m: Largest standard deviation added to each observed position; every batch
            draws its own level, up to this and mostly lower, as every tracker has its own.
        heading_noise_rad: The same for headings, at the same level.
        drop_lanes: Probability of hiding the lane points of a batch.
        drop_map: Probability of hiding the map raster of a batch.
        drop_past: Probability of hiding the oldest frame of a track.
        newcomers: Probability of hiding all of a track before the present frame, as if its agent
            had only now come into view; a tenth of it for agents that move, as most who come into
            view are parked. In simulated traffic nobody is hidden behind anything.
        scale: Largest change of the scene's size, as a share: a larger scene has longer cars that
            drive faster on wider streets.
        masks_only: Probability that the history of a batch comes as masks with ids, without boxes:
            what a forecaster of rasters or of detected input sees.
    """

    mirror: float = 0.5
    position_noise_m: float = 0.03
    heading_noise_rad: float = 0.005
    drop_lanes: float = 0.1
    drop_map: float = 0.1
    drop_past: float = 0.05
    newcomers: float = 0.0
    scale: float = 0.0
    masks_only: float = 0.0
