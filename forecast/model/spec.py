"""What a forecaster is made of, in plain numbers; needs no torch to be read and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from forecast.errors import ConfigError
from forecast.model.layers.choices import AttentionName, BackboneName, BackendName

MaskHeadName = Literal["dot", "fpn"]
RasterUse = Literal["none", "detection", "always"]
BaselineName = Literal["persistence", "constant-velocity", "constant-turn", "constant-acceleration"]
BASELINES: tuple[BaselineName, ...] = get_args(BaselineName)
COMPONENTS = "components-cv"  # for rasters without ids


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


@dataclass(frozen=True)
class ForecasterSpec:
    """Hyper-parameters of the network; every one may be set in a configuration's ``model``.

    Attributes:
        history: Frames read, the present one included.
        slots: Most agents of one sequence.
        hidden_dim: Width of the queries and of the encoded features.
        scene_dim: Width of the attentions over neighbours and lane points.
        attention: How encoded features are read: deformable, around each query's place, or dense.
        heads: Heads of that attention and of QIM.
        points: Samples per head and level of deformable attention.
        ffn: Width of the feed-forward networks.
        encoder_layers: Depth of the deformable encoder.
        decoder_layers: Depth of the decoder.
        backbone: ResNet of the frames.
        stem_stride: Stride of its stem: 1, 2 or 4.
        backbone_layers: Residual layers run, from the finest.
        mask_head: What refines masks: dot (query . pixel embedding at full resolution) or fpn (the
            convolution head of DETR at the stem's stride).
        pixel_dim: Width of the pixel embedding.
        raster: What reads the raster: always (forecasts and detection), detection (only what finds
            agents in detected input), or none (queries see tracks and map only).
        queries: Detect queries, and slots for the tracks they become, of detected input.
        birth_threshold: Score from which a detect query becomes a track.
        track_threshold: Score from which a track of detected input is seen again.
        miss_tolerance: History frames in a row that such a track may go unseen before it ends.
        update_query_pos: Whether QIM updates query_pos as well (MOTR), beside
            what its pose says; else it is made anew from the pose at every frame (MOTRv2).
        query_interaction: Whether QIM makes the next step's queries; else decoded queries go on as
            they are.
        warp: Whether encoded features are moved with the agents from step to step.
        keep: Existence probability above which an agent is drawn.
        backend: Implementation of deformable attention.
    """

    history: int = 3
    slots: int = 256
    hidden_dim: int = 128
    scene_dim: int = 64
    attention: AttentionName = "deformable"
    heads: int = 8
    points: int = 4
    ffn: int = 256
    encoder_layers: int = 1
    decoder_layers: int = 1
    backbone: BackboneName = "resnet18"
    stem_stride: int = 4
    backbone_layers: int = 4
    mask_head: MaskHeadName = "dot"
    pixel_dim: int = 16
    raster: RasterUse = "always"
    queries: int = 100
    birth_threshold: float = 0.4
    track_threshold: float = 0.5
    miss_tolerance: int = 0
    update_query_pos: bool = False
    query_interaction: bool = True
    warp: bool = True
    keep: float = 0.5
    backend: BackendName = "auto"

    def __post_init__(self) -> None:
        self._check("heads", self.heads >= 1, "at least 1")
        self._check("backbone", self.backbone in get_args(BackboneName), "a ResNet known here")
        self._check("backend", self.backend in get_args(BackendName), "a backend known here")
        self._check(
            "hidden_dim",
            self.hidden_dim > 0 and self.hidden_dim % (4 * self.heads) == 0,
            "4 x heads divides it",
        )
        self._check("hidden_dim", self.hidden_dim % 32 == 0, "32 divides it (group norm)")
        self._check("raster", self.raster in get_args(RasterUse), "none, detection or always")
        self._check("attention", self.attention in get_args(AttentionName), "a kind known here")
        self._check("mask_head", self.mask_head in get_args(MaskHeadName), "a head known here")
        if self.mask_head == "fpn":
            self._check("hidden_dim", self.hidden_dim % 128 == 0, "128 divides it (fpn mask head)")
            self._check("heads", self.heads % 8 == 0, "8 divides it (fpn mask head)")
            self._check(
                "raster", self.has_raster_encoder, "always or detection with an fpn mask head"
            )
        self._check("scene_dim", self.scene_dim > 0 and self.scene_dim % 4 == 0, "4 divides it")
        self._check("pixel_dim", self.pixel_dim > 0 and self.pixel_dim % 4 == 0, "4 divides it")
        self._check("stem_stride", self.stem_stride in (1, 2, 4), "1, 2 or 4")
        self._check("backbone_layers", 2 <= self.backbone_layers <= 4, "2, 3 or 4")
        self._check("birth_threshold", 0 < self.birth_threshold < 1, "between 0 and 1")
        self._check("track_threshold", 0 < self.track_threshold < 1, "between 0 and 1")
        self._check("miss_tolerance", self.miss_tolerance >= 0, "at least 0")
        self._check("keep", 0 < self.keep < 1, "between 0 and 1")
        for name in (
            "history",
            "slots",
            "queries",
            "points",
            "ffn",
            "encoder_layers",
            "decoder_layers",
        ):
            self._check(name, getattr(self, name) >= 1, "at least 1")

    @property
    def has_raster_encoder(self) -> bool:
        """Whether there is a raster encoder, and with it a tracker."""
        return self.raster != "none"

    @property
    def levels(self) -> int:
        """Levels of the encoded features: all residual layers but the finest."""
        return self.backbone_layers - 1

    def _check(self, name: str, holds: bool, rule: str) -> None:
        if not holds:
            raise ConfigError(
                f"model.{name} such that: {rule}", str(getattr(self, name)), f"change model.{name}"
            )
