"""What can be set about training: curriculum, loss and optimizer."""

from __future__ import annotations

from pydantic import Field
from pydantic.dataclasses import dataclass

from forecast.config.data import Augmentation, Corruption
from forecast.section import STRICT, Section


@dataclass(frozen=True, config=STRICT)
class LossWeights(Section):
    """Share of each part of the loss."""

    SECTION = "loss"

    position: float = Field(default=1.0, ge=0)
    """Smooth L1 of x and y in the truth's own frame, metres."""
    present: float = Field(default=1.0, ge=0)
    """Smooth L1 of where agents are at the present, and their headings, once observations have been
    corrected; metres.
    """
    heading: float = Field(default=1.0, ge=0)
    """Half the length times 1 - cos of the heading error, metres."""
    mask: float = Field(default=1.0, ge=0)
    """Soft IoU of the drawn mask on sampled points, which counts above a half."""
    moving: float = Field(default=0.3, ge=0)
    """Cross-entropy of moving at all in a step."""
    existence: float = Field(default=0.2, ge=0)
    """Cross-entropy of being there."""
    uncertainty: float = Field(default=0.1, ge=0)
    """- log likelihood of the true place under the error that is expected of the forecast one."""
    newcomers: float = Field(default=0.2, ge=0)
    """Cross-entropy of the cells of agents that have not been seen yet, in vehicles of 10 m2."""
    still: float = Field(default=0.3, ge=0)
    """Weight of agents that stand still beside those that move (1)."""
    points: int = Field(default=48, ge=1)
    """Points per agent on which masks are compared."""


@dataclass(frozen=True, config=STRICT)
class Stage(Section):
    """One part of the curriculum."""

    SECTION = "curriculum"

    epochs: int = Field(ge=1)
    """Epochs it lasts."""
    horizon: int = Field(ge=1, le=10_000)
    """Leads rolled out."""
    detected: float = Field(default=0.0, ge=0, le=1)
    """Share of batches whose ids are hidden, so that agents must be found and tracked."""
    frame_stride: int = Field(default=1, ge=1, le=10_000)
    """Every how many-th frame of a sequence is used, from its first one on: history and leads
    alike. Motion per step grows with it, and the present moves later in the store's frames, so
    a store must hold (history - 1 + horizon) x frame_stride + 1 frames.
    """
    raster: bool = True
    """Whether tracked input reads the raster, where model.raster is always; without it a step is
    several times faster.
    """
    frozen: tuple[str, ...] = ()
    """Parts of the network that do not learn, such as raster_encoder, whose steps are then faster;
    optimisation.only and optimisation.backbone_factor hold beside it.
    """
    batch_size: int | None = Field(default=None, ge=1)
    """Sequences that a step takes of each batch, where memory or time does not suffice for all of
    loading.batch_size, as with rasters; null = all.
    """
    learning_rate: float | None = Field(default=None, ge=0)
    """Peak of a warm-up and cosine that begin with this stage and last until another stage has one;
    null = what went before goes on, from optimisation.learning_rate at first.
    """
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """In place of optimisation.dropout; null = that."""
    loss: LossWeights | None = None
    """In place of the configuration's `loss`: what is left out has its default; null = that."""
    augmentation: Augmentation | None = None
    """In place of the configuration's `augmentation`, in the same way."""
    corruption: Corruption | None = None
    """In place of the configuration's `corruption`, in the same way: with clean = 1, say, a network
    learns how traffic moves before it learns how trackers err.
    """

    def past(self, history: int) -> int:
        """Stored frames up to and including the present."""
        return (history - 1) * self.frame_stride + 1

    def frames(self, history: int) -> int:
        """Frames that a stored sequence must have."""
        return (history - 1 + self.horizon) * self.frame_stride + 1


@dataclass(frozen=True, config=STRICT)
class TrackRules(Section):
    """How the tracks of detected input are taught, from one history frame to the next.

    The defaults carry every matched track on and add nothing; the values of MOTR (2022) are
    ``overlap: 0.5, drop: 0.1, insert: 0.3``, those of DINO (2022) ``noise: 0.4, flip: 0.25``.
    """

    SECTION = "tracks"

    overlap: float = Field(default=0.0, ge=0, le=1)
    """A track goes on only if the IoU of its box and its true box exceeds this; else its agent
    must be found anew. 0 = every matched track.
    """
    drop: float = Field(default=0.0, ge=0, le=1)
    """Probability that a track is dropped; its agent must be found anew."""
    insert: float = Field(default=0.0, ge=0, le=1)
    """Probability, per track that goes on, that the nearest candidate without an agent goes on
    as well: a false positive, to be recognised as such at the next frame, where it ends.
    """
    match_inserted: bool = False
    """Whether such a false positive may be matched to a new agent, as in MOTR. Otherwise it
    answers for nothing.
    """
    auxiliary: bool = True
    """Whether earlier decoder layers have losses too."""
    denoising: int = Field(default=0, ge=0)
    """Groups of noised truths that are decoded beside the queries, each with a better and a worse
    copy of every agent; 0 = none.
    """
    noise: float = Field(default=0.4, ge=0)
    """How far corners of better copies move, as a share of half the box (at least 1 m), and
    headings, in radians; worse copies move by one to two times as much.
    """
    flip: float = Field(default=0.25, ge=0, le=1)
    """Probability that a copy is told another class."""


@dataclass(frozen=True, config=STRICT)
class Optimisation(Section):
    """How the weights move."""

    SECTION = "optimisation"

    learning_rate: float = Field(default=1e-3, ge=0)
    """Peak of a cosine schedule."""
    backbone_factor: float = Field(default=0.3, ge=0)
    """Learning rate of the raster encoder, as a share of the others'; 0 = it stays as it is, which
    is faster, as nothing is computed backwards through it.
    """
    only: tuple[str, ...] = ()
    """Parts of the network that learn, such as newcomer_head; all others stay as they are. Empty =
    all learn.
    """
    weight_decay: float = Field(default=0.01, ge=0)
    """Of AdamW."""
    warmup_steps: int = Field(default=100, ge=0)
    """Linear warm-up."""
    clip_norm: float = Field(default=1.0, ge=0)
    """Largest norm of the gradient."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the features of each residual update that a step loses, and of the neighbours and
    lane points that are hidden from each agent.
    """
