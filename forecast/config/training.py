"""What can be set about training: curriculum, loss and optimizer."""

from __future__ import annotations

from dataclasses import dataclass

from forecast.errors import ConfigError


@dataclass(frozen=True)
class Stage:
    """One part of the curriculum.

    Attributes:
        epochs: Epochs it lasts.
        horizon: Leads rolled out.
        detected: Share of batches whose ids are hidden, so that agents must be found and tracked.
        frame_stride: Every how many-th frame of a sequence is used, from its first one on: history
            and leads alike. Motion per step grows with it, and the present moves later in the
            store's frames, so a store must hold (history - 1 + horizon) x frame_stride + 1 frames.
    """

    epochs: int
    horizon: int
    detected: float = 0.0
    frame_stride: int = 1

    def __post_init__(self) -> None:
        positive = min(self.epochs, self.horizon, self.frame_stride) >= 1
        if not positive or not 0 <= self.detected <= 1:
            raise ConfigError(
                "stages of at least one epoch, one lead and a frame_stride of one, with a share of"
                " detected in 0..1",
                str(self),
                "correct the curriculum",
            )

    def past(self, history: int) -> int:
        """Stored frames up to and including the present."""
        return (history - 1) * self.frame_stride + 1

    def frames(self, history: int) -> int:
        """Frames that a stored sequence must have."""
        return (history - 1 + self.horizon) * self.frame_stride + 1


@dataclass(frozen=True)
class TrackRules:
    """How the tracks of detected input are taught, from one history frame to the next.

    The defaults carry every matched track on and add nothing; the values of MOTR (2022) are
    ``overlap: 0.5, drop: 0.1, insert: 0.3``, those of DINO (2022) ``noise: 0.4, flip: 0.25``.

    Attributes:
        overlap: A track goes on only if the IoU of its box and its true box exceeds this; else its
            agent must be found anew. 0 = every matched track.
        drop: Probability that a track is dropped; its agent must be found anew.
        insert: Probability, per track that goes on, that the nearest candidate that is nobody goes
            on as well: a false positive, to be recognised as such at the next frame, where it ends.
        match_inserted: Whether such a false positive may be matched to a new agent, as in MOTR.
            Otherwise it answers for nothing.
        auxiliary: Whether earlier decoder layers have losses too.
        denoising: Groups of noised truths that are decoded beside the queries, each with a better
            and a worse copy of every agent; 0 = none.
        noise: How far corners of better copies move, as a share of half the box (at least 1 m), and
            headings, in radians; worse copies move by one to two times as much.
        flip: Probability that a copy is told another class.
    """

    overlap: float = 0.0
    drop: float = 0.0
    insert: float = 0.0
    match_inserted: bool = False
    auxiliary: bool = True
    denoising: int = 0
    noise: float = 0.4
    flip: float = 0.25

    def __post_init__(self) -> None:
        shares = (self.overlap, self.drop, self.insert, self.flip)
        if not all(0 <= share <= 1 for share in shares) or min(self.denoising, self.noise) < 0:
            raise ConfigError(
                "tracks with overlap, drop, insert and flip in 0..1, denoising and noise of at"
                " least 0",
                str(self),
                "correct the tracks section",
            )


@dataclass(frozen=True)
class Optimisation:
    """How the weights move.

    Attributes:
        learning_rate: Peak of a cosine schedule.
        backbone_factor: Learning rate of the raster encoder, as a share of the others'.
        weight_decay: Of AdamW.
        warmup_steps: Linear warm-up.
        clip_norm: Largest norm of the gradient.
        dropout: Share of the features of each residual update that a step loses, and of the
            neighbours and lane points that are hidden from each agent.
    """

    learning_rate: float = 1e-3
    backbone_factor: float = 0.3
    weight_decay: float = 0.01
    warmup_steps: int = 100
    clip_norm: float = 1.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ConfigError(
                "optimisation.dropout in 0..1", str(self.dropout), "correct the optimisation"
            )
        if min(self.learning_rate, self.backbone_factor, self.weight_decay, self.clip_norm) < 0:
            raise ConfigError(
                "an optimisation without negative numbers", str(self), "correct the optimisation"
            )


@dataclass(frozen=True)
class LossWeights:
    """Share of each part of the loss.

    Attributes:
        position: Smooth L1 of x and y in the truth's own frame, metres.
        heading: Half the length times 1 - cos of the heading error, metres.
        mask: Soft IoU of the drawn mask on sampled points, which counts above a half.
        moving: Cross-entropy of moving at all in a step.
        existence: Cross-entropy of being there.
        still: Weight of agents that stand still beside those that move (1).
        points: Points per agent on which masks are compared.
    """

    position: float = 1.0
    heading: float = 1.0
    mask: float = 1.0
    moving: float = 0.3
    existence: float = 0.2
    still: float = 0.3
    points: int = 48
