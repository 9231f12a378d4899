"""The forecaster: raster encoder, queries, decoder and heads, one step at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.profiler import record_function

from forecast.grid import BEVGrid
from forecast.model.decoder import Decoder
from forecast.model.heads import RESIDUAL_SCALE, MotionHead
from forecast.model.layers.mask_heads import DotMaskHead, FpnMaskHead
from forecast.model.layers.mlp import MLP
from forecast.model.learned_horizon import LearnedHorizon
from forecast.model.query_interaction import QueryInteraction
from forecast.model.raster_encoder import EncodedFeatures, RasterEncoder
from forecast.model.scene import se2
from forecast.model.scene.agents import Agents, last_acceleration, last_twist, observe
from forecast.model.scene.context import PackedQueries, SceneContext, bounded, relative
from forecast.model.scene.rasterizer import Refiner, rasterize
from forecast.model.scene.warp import sample_at, warp_by_agents
from forecast.model.scene_attention import MapCrop
from forecast.model.spec import ForecasterSpec, Inputs
from forecast.model.tracker import Tracker
from forecast.model.visibility import VisibilityHead
from forecast.types import BEVSequence, StepForecast

# An agent that has moved less than this since the present keeps its features where they are.
STILL_M = 0.1


@dataclass(frozen=True)
class ForecastState:
    """Everything that the next step needs; its size does not depend on the lead.

    Attributes:
        lead: Steps made so far.
        agents: The slots as observed at the present.
        context: Map and lanes.
        features: The present frame's features; None where the raster is not read.
        observed: The present frame's label map.
        pose: Pose of each slot now.
        twist: Its motion per step, in its own frame.
        acceleration: How much that changed in the last step.
        query: What each query has learned of its agent.
        visibility: What visibility from the ego added to existence in the last step.
        query_pos: What QIM adds to the query's ``query_pos``; None where it updates the query only.
    """

    lead: int
    agents: Agents
    context: SceneContext
    features: EncodedFeatures | None
    observed: Int[Tensor, "b h w"]
    pose: Float[Tensor, "b a 3"]
    twist: Float[Tensor, "b a 3"]
    acceleration: Float[Tensor, "b a 3"]
    query: Float[Tensor, "b a d"]
    visibility: Float[Tensor, "b a"]
    query_pos: Float[Tensor, "b a d"] | None = None


@dataclass(frozen=True)
class SlotStep:
    """One step before it is drawn: what training compares with the truth.

    Attributes:
        lead: Steps after the present.
        agents: The slots.
        pose: Pose of each slot after the step.
        before: Pose before it.
        moving: Logit of moving in this step.
        existence: Logit of being there.
        size: Length and width that it is drawn with.
        output: Decoded queries, for the mask head.
    """

    lead: int
    agents: Agents
    pose: Float[Tensor, "b a 3"]
    before: Float[Tensor, "b a 3"]
    moving: Float[Tensor, "b a"]
    existence: Float[Tensor, "b a"]
    size: Float[Tensor, "b a 2"]
    output: Float[Tensor, "b a d"]


class Forecaster(nn.Module):
    """Carries one query per agent through time, a residual on constant turn rate at every step.

    Args:
        spec: Hyper-parameters.
        inputs: Classes, map layers and channels of the data.
    """

    def __init__(self, spec: ForecasterSpec, inputs: Inputs) -> None:
        super().__init__()
        self.spec, self.inputs = spec, inputs
        self.learned_horizon = LearnedHorizon()
        dim, layers = spec.hidden_dim, len(inputs.map_layers) + inputs.bev_channels
        self.attributes = len(inputs.classes) + 2
        self.raster_encoder = (
            RasterEncoder(spec, inputs.channels) if spec.has_raster_encoder else None
        )
        self.agent_encoder = MLP(spec.history * 6 + 3 + self.attributes, dim, dim)
        self.query_pos_encoder = MLP(3 + 5 + self.attributes + 4, dim, dim)
        self.map_crop = MapCrop(layers, dim) if layers else None
        self.decoder = Decoder(spec, self.attributes)
        self.motion_head = MotionHead(dim)
        self.visibility_head = VisibilityHead(self.attributes, spec.scene_dim)
        self.mask_head = self._mask_head()
        self.query_interaction = (
            QueryInteraction(dim, spec.heads, spec.ffn, spec.update_query_pos)
            if spec.query_interaction
            else None
        )
        self.tracker = Tracker(spec, len(inputs.classes)) if spec.has_raster_encoder else None
        # What the tracker knows of an agent starts silent beside the agent's own history.
        self.track_encoder = nn.Linear(dim, dim)
        nn.init.zeros_(self.track_encoder.weight)
        nn.init.zeros_(self.track_encoder.bias)

    def start(self, history: BEVSequence) -> ForecastState:
        """Reads the past with its ids: agents, map, lanes and, if forecasts read it, the raster."""
        agents = observe(history, self.spec.slots)
        features = self.encode_raster(history, -1) if self.spec.raster == "always" else None
        return self.begin(agents, self.scene_context(history), features, history.instance[:, -1])

    @record_function("making queries")
    def begin(
        self,
        agents: Agents,
        context: SceneContext,
        features: EncodedFeatures | None,
        observed: Int[Tensor, "b h w"],
    ) -> ForecastState:
        """The state at the present: every agent's query is made from what was seen of it."""
        twist = last_twist(agents)
        past = se2.between(agents.pose[:, :, None], agents.past)
        seen = agents.seen[..., None].to(past.dtype)
        story = torch.cat((relative(past) * seen, seen), -1).flatten(2)
        query = self.agent_encoder(torch.cat((story, bounded(twist), self._attributes(agents)), -1))
        if self.map_crop is not None:
            packed = self._packed(agents, agents.pose, twist)
            query = query + agents.packing.pad(self.map_crop(packed, context))
        acceleration = last_acceleration(agents)
        visibility = torch.zeros_like(twist[..., 0])
        return ForecastState(
            0,
            agents,
            context,
            features,
            observed,
            agents.pose,
            twist,
            acceleration,
            query,
            visibility,
        )

    def step(self, state: ForecastState) -> tuple[ForecastState, StepForecast]:
        """One step, drawn."""
        state, slots = self.advance(state)
        return state, self.draw(state, slots)

    @record_function("moving agents")
    def advance(self, state: ForecastState) -> tuple[ForecastState, SlotStep]:
        """One step of the queries: warp, decode, move, and make the next step's queries."""
        agents = state.agents
        pack, pad = agents.packing.pack, agents.packing.pad
        packed = self._packed(agents, state.pose, state.twist)
        query_pos = self._query_pos(state, packed)
        features = self._warp(state)
        output = self.decoder(pack(state.query), query_pos, packed, state.context, features)
        motion = self.motion_head(output)
        twist = motion.applied(packed.twist, pack(state.acceleration))
        twist = self.learned_horizon.straightened(state.lead, twist)
        # An agent forecast to stand keeps its pose exactly, and starts without acceleration.
        moves = (motion.moving > 0)[:, None]
        twist = pad(twist * moves)
        acceleration = (twist - state.twist) * pad(moves)
        padded = pad(output)
        updated, query = self._next_queries(state, padded, pad(query_pos))
        pose = se2.compose(state.pose, se2.exp(twist))
        visibility = self._visibility(state, replace(packed, pose=pack(pose), twist=pack(twist)))
        slots = SlotStep(
            lead=state.lead + 1,
            agents=agents,
            pose=pose,
            before=state.pose,
            moving=pad(motion.moving),
            existence=pad(motion.existence) + visibility,
            # An observed mask is drawn as it was.
            size=agents.size * pad(motion.footprint_scale * agents.boxed).exp(),
            output=padded,
        )
        moved = replace(
            state,
            lead=slots.lead,
            pose=pose,
            twist=twist,
            acceleration=acceleration,
            query=query,
            query_pos=updated,
            visibility=visibility,
        )
        return moved, slots

    def _visibility(self, state: ForecastState, arrived: PackedQueries) -> Float[Tensor, "b a"]:
        """What visibility from the ego adds to existence after this step."""
        if not self.learned_horizon.updates_visibility(state.lead):
            return state.visibility
        part = self.learned_horizon.part(state.lead)
        return state.agents.packing.pad(
            self.visibility_head(arrived, state.context, state.lead + 1, part)
        )

    def _query_pos(self, state: ForecastState, packed: PackedQueries) -> Float[Tensor, "n d"]:
        """The live queries' query_pos: their motion and where they have come to."""
        pack = state.agents.packing.pack
        come = relative(se2.between(packed.pose, pack(state.agents.pose)))
        acceleration = pack(state.acceleration) / packed.twist.new_tensor(RESIDUAL_SCALE)
        # Accelerations seen in masks are mostly noise, those of boxes are not.
        boxed = torch.full_like(acceleration[:, :1], float(state.agents.boxed))
        features = (bounded(packed.twist), come, packed.attributes, acceleration, boxed)
        query_pos: Tensor = self.query_pos_encoder(torch.cat(features, -1))
        return query_pos if state.query_pos is None else query_pos + pack(state.query_pos)

    def _next_queries(
        self,
        state: ForecastState,
        output: Float[Tensor, "b a d"],
        query_pos: Float[Tensor, "b a d"],
    ) -> tuple[Float[Tensor, "b a d"] | None, Float[Tensor, "b a d"]]:
        """What QIM adds to the next step's query_pos, if anything, and the next query."""
        if not self.learned_horizon.updates_queries(state.lead):
            return state.query_pos, state.query
        if self.query_interaction is None:
            return None, output
        updated, query = self.query_interaction(output, query_pos, state.query, state.agents.live)
        return (updated if self.spec.update_query_pos else None), query

    @record_function("drawing")
    def draw(self, state: ForecastState, slots: SlotStep) -> StepForecast:
        """Draws the slots of a step."""
        live = slots.agents.live
        existence = torch.sigmoid(slots.existence) * live
        drawn = live & (existence > self.spec.keep)
        rasters = rasterize(
            replace(slots.agents, size=slots.size),
            slots.pose,
            slots.before,
            existence,
            drawn,
            state.observed,
            state.context.grid,
            len(self.inputs.classes),
            self.refiner(state, slots),
        )
        return StepForecast(
            lead=slots.lead,
            ids=slots.agents.ids,
            label=slots.agents.label,
            pose=torch.where(live[..., None], slots.pose, torch.nan),
            existence=existence,
            instance=rasters.instance,
            semantic=rasters.semantic,
            occupancy=rasters.occupancy,
            flow=rasters.flow,
        )

    def refiner(self, state: ForecastState, slots: SlotStep) -> Refiner | None:
        """The mask head at points of the present frame; None where the raster is not read."""
        features = state.features
        if features is None:
            return None

        grid, head = state.context.grid, self.mask_head
        if isinstance(head, DotMaskHead):

            def refine(points: Float[Tensor, "b a p 2"]) -> Float[Tensor, "b a p"]:
                pixels = sample_at(features.pixels, points, grid).permute(0, 2, 3, 1)
                out: Tensor = head(slots.output, pixels)
                return out

            return refine
        coarse = features.levels[-1]
        nothing_padded = torch.zeros_like(coarse[:, 0], dtype=torch.bool)
        live = slots.agents.live
        maps = head(slots.output, coarse, nothing_padded, features.guides, live)
        return lambda points: _sample_own(maps, points, grid)

    @record_function("encoding rasters")
    def encode_raster(self, history: BEVSequence, frame: int) -> EncodedFeatures | None:
        """The features of one history frame; None for a model that does not read the raster."""
        if self.raster_encoder is None:
            return None
        features: EncodedFeatures = self.raster_encoder(self._frame(history, frame))
        return features

    def _mask_head(self) -> DotMaskHead | FpnMaskHead:
        """Untrained it adds nothing: masks are those of the boxes."""
        if self.raster_encoder is None or self.spec.mask_head == "dot":
            return DotMaskHead(self.spec.hidden_dim, self.spec.pixel_dim)
        head = FpnMaskHead(self.spec.hidden_dim, self.spec.heads, self.raster_encoder.guide_widths)
        nn.init.zeros_(head.logits.weight)
        return head

    @record_function("warping encoded features")
    def _warp(self, state: ForecastState) -> EncodedFeatures | None:
        if state.features is None or state.lead == 0 or not self.spec.warp:
            return state.features
        shift = torch.linalg.vector_norm((state.pose - state.agents.pose)[..., :2], dim=-1)
        moving: Bool[Tensor, "b a"] = state.agents.live & (shift > STILL_M)
        levels = warp_by_agents(
            state.features.levels,
            state.agents.pose,
            state.pose.detach(),
            state.agents.size,
            moving,
            state.context.grid,
        )
        return replace(state.features, levels=levels)

    def _packed(self, agents: Agents, pose: Tensor, twist: Tensor) -> PackedQueries:
        pack = agents.packing.pack
        return PackedQueries(
            agents.packing, pack(pose), pack(twist), pack(self._attributes(agents))
        )

    def _attributes(self, agents: Agents) -> Float[Tensor, "b a k"]:
        one_hot = _one_hot(agents.label, len(self.inputs.classes))
        size = agents.size / agents.size.new_tensor([5.0, 2.0])
        return torch.cat((one_hot.to(size.dtype), size.log1p()), -1)

    def scene_context(self, history: BEVSequence) -> SceneContext:
        """Map, dense channels and lanes of the present frame."""
        parts = _map_parts(history, len(self.inputs.map_layers))
        if history.bev is not None and self.inputs.bev_channels:
            parts.append(history.bev[:, -1].float())
        before, now = history.ego_pose[:, -min(history.frames, 2)], history.ego_pose[:, -1]
        twist = se2.log(se2.between(before, now))
        return SceneContext(torch.cat(parts, 1), history.map_point, history.grid, now, twist)

    def _frame(self, history: BEVSequence, frame: int) -> Float[Tensor, "b c h w"]:
        classes = len(self.inputs.classes)
        one_hot = _one_hot(history.semantic[:, frame], classes)
        parts: list[Tensor] = [one_hot.permute(0, 3, 1, 2).float()]
        parts += _map_parts(history, len(self.inputs.map_layers))
        if history.bev is not None and self.inputs.bev_channels:
            parts.append(history.bev[:, frame].float())
        return torch.cat(parts, 1)


def _sample_own(
    maps: Float[Tensor, "b a hm wm"], points: Float[Tensor, "b a p 2"], grid: BEVGrid
) -> Float[Tensor, "b a p"]:
    """Each agent's own map at its own points, in metres."""
    flat = sample_at(maps.flatten(0, 1)[:, None], points.flatten(0, 1)[:, :, None], grid)
    return flat.view(points.shape[:-1])


def _map_parts(history: BEVSequence, layers: int) -> list[Tensor]:
    if history.map is not None:
        return [history.map.float()]
    return [torch.zeros(history.batch, layers, *history.grid.shape, device=history.semantic.device)]


def _one_hot(label: Int[Tensor, "*n"], classes: int) -> Bool[Tensor, "*n k"]:
    """Which class each label is; 0 is none. Torch's own waits for a GPU."""
    return label[..., None] == torch.arange(1, classes + 1, device=label.device)
