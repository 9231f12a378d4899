"""What a forecaster is made of, in plain numbers; needs no torch to be read and checked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from pydantic import Field
from pydantic import dataclasses as pydantic_dataclasses

from forecast.model.layers.choices import AttentionName, BackboneName, BackendName
from forecast.section import STRICT, Section

MaskHeadName = Literal["dot", "fpn"]
RasterUse = Literal["none", "detection", "always"]
BaselineName = Literal[
    "persistence", "constant-velocity", "constant-turn", "constant-acceleration", "kalman"
]
BASELINES: tuple[BaselineName, ...] = get_args(BaselineName)
COMPONENTS = "components-cv"  # for rasters without ids
RESAMPLED = "resampled-errors"  # or resampled-errors:STORE, with errors on a store of one's own
NOT_LEARNED = (*BASELINES, COMPONENTS, RESAMPLED)


def baseline_of(name: str | None) -> str | None:
    """The baseline that a model's name means; None where it means a checkpoint."""
    kind = RESAMPLED if name is not None and name.startswith(f"{RESAMPLED}:") else name
    return kind if kind in NOT_LEARNED else None


@dataclass(frozen=True)
class Inputs:
    """What the data offers, which fixes the network's input channels."""

    classes: tuple[str, ...]
    map_layers: tuple[str, ...]
    bev_channels: int = 0

    @property
    def channels(self) -> int:
        """Channels of one frame: classes, map layers, the user's own."""
        return len(self.classes) + len(self.map_layers) + self.bev_channels


@pydantic_dataclasses.dataclass(frozen=True, config=STRICT)
class ForecasterSpec(Section):
    """Hyper-parameters of the network; every one may be set in a configuration's ``model``."""

    SECTION = "model"

    trail: int = Field(default=3, ge=1)
    """Poses of each agent, a time unit apart, that its query is made from: the present one and
    those before it. What was observed before, and between them, the query itself carries.
    """
    lane_spacing_m: float = Field(default=3.0, ge=0)
    """Of lane points of one direction nearer to each other than about this one is read, so that
    what is read reaches as far on crowded maps; 0 = all are read.
    """
    time_unit_s: float = Field(default=0.5, gt=0)
    """Seconds that motions are measured in; steps and observations may be any time apart."""
    slots: int = Field(default=256, ge=1)
    """Most agents of one sequence."""
    hidden_dim: int = Field(default=128, gt=0, multiple_of=32)
    """Width of the queries and of the encoded features."""
    scene_dim: int = Field(default=64, gt=0, multiple_of=4)
    """Width of the attentions over neighbours and lane points."""
    attention: AttentionName = "deformable"
    """How encoded features are read: deformable, around each query's place, or dense."""
    heads: int = Field(default=8, ge=1)
    """Heads of that attention and of QIM."""
    points: int = Field(default=4, ge=1)
    """Samples per head and level of deformable attention."""
    ffn: int = Field(default=256, ge=1)
    """Width of the feed-forward networks."""
    encoder_layers: int = Field(default=1, ge=1)
    """Depth of the deformable encoder."""
    decoder_layers: int = Field(default=1, ge=1)
    """Depth of the decoder."""
    backbone: BackboneName = "resnet18"
    """ResNet of the frames."""
    stem_stride: Literal[1, 2, 4] = 4
    """Stride of its stem: 1, 2 or 4."""
    backbone_layers: int = Field(default=4, ge=2, le=4)
    """Residual layers run, from the finest."""
    mask_head: MaskHeadName = "dot"
    """What refines masks: dot (query . pixel embedding at full resolution) or fpn (the convolution
    head of DETR at the stem's stride).
    """
    pixel_dim: int = Field(default=16, gt=0, multiple_of=4)
    """Width of the pixel embedding."""
    raster: RasterUse = "always"
    """What reads the raster: always (forecasts and detection), detection (only what finds agents
    in detected input), or none (queries see tracks and map only).
    """
    queries: int = Field(default=100, ge=1)
    """Detect queries, and slots for the tracks they become, of detected input."""
    birth_threshold: float = Field(default=0.4, gt=0, lt=1)
    """Score from which a detect query becomes a track."""
    track_threshold: float = Field(default=0.5, gt=0, lt=1)
    """Score from which a track of detected input is seen again."""
    miss_tolerance: int = Field(default=0, ge=0)
    """History frames in a row that such a track may go unseen before it ends."""
    update_query_pos: bool = False
    """Whether QIM updates query_pos as well (MOTR), beside what its pose says; else it is made
    anew from the pose at every frame (MOTRv2).
    """
    map_crop: bool = True
    """Whether queries begin with a crop of the map's raster around each agent; the encoded features
    that they read show it too.
    """
    query_interaction: bool = True
    """Whether QIM makes the next step's queries; else decoded queries go on as they are."""
    carry_queries: bool = True
    """Whether queries are carried through what was observed; else they begin at the present."""
    learned_gain: bool = True
    """Whether queries say how far an observation is believed; else it is believed wholly, and the
    motion is that of the last time unit: over a tenth of a second it would be noise.
    """
    carry_features: bool = True
    """Whether encoded features of earlier frames are warped to the present and fused with its own.
    """
    warp: bool = True
    """Whether encoded features are moved with the agents from step to step."""
    read_features: bool = True
    """Whether queries read the encoded features, by deformable attention."""
    refine_masks: bool = True
    """Whether the mask head refines the masks that are drawn."""
    newcomers: bool = True
    """Whether occupancy includes agents that have not been seen yet, as far as rasters are read."""
    keep: float = Field(default=0.5, gt=0, lt=1)
    """Existence probability above which an agent is drawn."""
    backend: BackendName = "auto"
    """Implementation of deformable attention."""

    def __post_init__(self) -> None:
        self.require("hidden_dim", self.hidden_dim % (4 * self.heads) == 0, "4 x heads divides it")
        if self.mask_head == "fpn":
            self.require("hidden_dim", self.hidden_dim % 128 == 0, "128 divides it (fpn mask head)")
            self.require("heads", self.heads % 8 == 0, "8 divides it (fpn mask head)")
            self.require(
                "raster", self.has_raster_encoder, "always or detection with an fpn mask head"
            )

    @property
    def has_raster_encoder(self) -> bool:
        """Whether there is a raster encoder, and with it a tracker."""
        return self.raster != "none"

    def without_raster(self) -> ForecasterSpec:
        """The same, but that only detected input reads the raster."""
        return replace(self, raster="detection") if self.raster == "always" else self

    @property
    def levels(self) -> int:
        """Levels of the encoded features: all residual layers but the finest."""
        return self.backbone_layers - 1
