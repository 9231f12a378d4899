"""What can be set about reading and varying the data."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from forecast.section import STRICT, Section


@dataclass(frozen=True, config=STRICT)
class Loading(Section):
    """How batches are read."""

    SECTION = "loading"

    batch_size: int = Field(default=8, ge=1, le=65_536)
    """Sequences per step and process."""
    workers: int = Field(default=1, ge=0, le=1024)
    """Processes that read ahead; 0 reads in the training process."""


@dataclass(frozen=True, config=STRICT)
class Augmentation(Section):
    """How much training varies what it reads; see ``docs/training.md``."""

    SECTION = "augmentation"

    mirror: float = Field(default=0.5, ge=0, le=1)
    """Probability of swapping left and right."""
    drop_lanes: float = Field(default=0.1, ge=0, le=1)
    """Probability of hiding the lane points of a batch."""
    drop_map: float = Field(default=0.1, ge=0, le=1)
    """Probability of hiding the map raster of a batch."""
    newcomers: float = Field(default=0.0, ge=0, le=1)
    """Probability of hiding all of a track before the present frame, as if its agent had only now
    come into view; a tenth of it for agents that move, as most who come into view are parked.
    In simulated traffic no agent is hidden behind anything.
    """
    unseen: float = Field(default=0.0, ge=0, le=1)
    """Probability that a track is first seen after the present, at any lead: of what recordings
    show at 3 s, a tenth was not seen before. In simulated traffic hardly anything is.
    """
    lost: float = Field(default=0.0, ge=0, le=1)
    """Probability that a track is lost for good at some moment, within 2 s before the present or
    later. In simulated traffic no agent gets out of sight, so that one that was seen a moment
    ago, and is not now, would always be taken to be there.
    """
    scale: float = Field(default=0.0, ge=0)
    """Largest change of the scene's size, as a share: a larger scene has longer cars that drive
    faster on wider streets.
    """
    other_rate: float = Field(default=0.5, ge=0, le=1)
    """Probability that a batch is observed less often and for a shorter time than its store tells:
    every second to fifth sample, and any number of them.
    """
    other_step: float = Field(default=0.0, ge=0, le=1)
    """Probability that a batch is rolled out in steps twice, half or a fifth as long as from frame
    to frame: so that one checkpoint serves several steps.
    """
    wrong_map: float = Field(default=0.0, ge=0, le=1)
    """Probability that the map of a batch, lanes too, lies up to 3 m and 0.1 radians off: the
    forecaster learns to weigh it against how agents drive.
    """
    other_lanes: float = Field(default=0.0, ge=0, le=1)
    """Probability that a batch has fewer lane points than its store, copies of some beside them,
    and places without any: maps differ in how densely they are drawn, in how many lanes cross,
    and vehicles also drive where a map has no lane.
    """
    masks_only: float = Field(default=0.0, ge=0, le=1)
    """Probability that the history of a batch comes as masks with ids, without boxes: what a
    forecaster of rasters or of detected input sees.
    """


@dataclass(frozen=True, config=STRICT)
class Corruption(Section):
    """How trackers and perception spoil what is observed; see ``docs/training.md``.

    Every number is the largest level of one kind of fault. Each scene draws a level of its own up
    to it; 0 switches that kind off. With ``exact`` every scene has just these levels.
    """

    SECTION = "corruption"

    exact: bool = False
    """Whether the levels are those given rather than drawn up to them."""
    clean: float = Field(default=0.25, ge=0, le=1)
    """Share of scenes whose tracks are observed as they are."""
    position_m: float = Field(default=0.5, ge=0)
    """Standard deviation of observed positions, metres; drawn evenly in its logarithm from 0.01."""
    correlation_s: float = Field(default=0.3, ge=0)
    """Seconds over which part of that error persists."""
    range_growth: float = Field(default=1.0, ge=0)
    """Share by which that error is larger 50 m from the ego."""
    along: float = Field(default=0.0, ge=0)
    """Largest factor by which that error is larger along an agent than across it, drawn evenly in
    its logarithm from 1; 0 = the same in all directions. Trackers see one end of a vehicle at most.
    """
    track_spread: float = Field(default=0.0, ge=0)
    """Standard deviation of that level's logarithm among the tracks of a scene."""
    heading_rad: float = Field(default=0.14, ge=0)
    """Standard deviation of observed headings, radians."""
    heading_missing: float = Field(default=0.1, ge=0, le=1)
    """Probability that a scene's headings come from motion, as where a tracker has none."""
    heading_flip: float = Field(default=0.05, ge=0, le=1)
    """Share of tracks whose front and rear are confused."""
    size: float = Field(default=0.15, ge=0, lt=1)
    """Share by which a track's length and width are off."""
    size_jitter: float = Field(default=0.05, ge=0, lt=1)
    """Share by which they vary from sample to sample."""
    miss: float = Field(default=0.3, ge=0, le=1)
    """Share of samples in which an agent is not seen."""
    miss_s: float = Field(default=0.3, ge=0)
    """Seconds that it typically stays unseen; 0 = samples are missed one by one."""
    late: float = Field(default=0.1, ge=0, le=1)
    """Share of tracks that are first seen within the history."""
    switch: float = Field(default=0.1, ge=0, le=1)
    """Share of near pairs of agents whose ids were exchanged within the history."""
    duplicate: float = Field(default=0.03, ge=0, le=1)
    """Share of agents that are tracked twice; the second has no truth."""
    latency: int = Field(default=2, ge=0)
    """Last samples that are not there yet, of all agents or of half of them."""
    mask_edge: float = Field(default=0.5, ge=0, le=1)
    """Share of masks' outlines that are off by a cell, half of it inwards, half outwards."""
    mask_split: float = Field(default=0.1, ge=0, le=1)
    """Share of masks that are split in two."""
    mask_merge: float = Field(default=0.3, ge=0, le=1)
    """Share of the gaps of a cell or two between masks that are filled."""
    mask_miss: float = Field(default=0.1, ge=0, le=1)
    """Share of masks that are missing from a frame."""
    mask_false: float = Field(default=3.0, ge=0)
    """Masks in a frame that no agent has."""

    @classmethod
    def fixed(cls, **levels: float) -> Corruption:
        """Just these faults, at just these levels, all others off: for validation and stress.

        Errors are white and the same at all ranges, and samples are missed one by one, unless
        ``correlation_s``, ``range_growth`` or ``miss_s`` are among the levels.
        """
        off: dict[str, Any] = {item.name: 0 for item in fields(cls)}
        return cls(**off | levels | {"exact": True})
