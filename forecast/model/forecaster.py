"""The forecaster: one loop of queries through what was seen and into the future."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.profiler import record_function

from forecast.errors import ConfigError
from forecast.model.decoder import Decoder
from forecast.model.heads import RESIDUAL_SCALE, MotionHead
from forecast.model.layers.mlp import MLP, silent_linear
from forecast.model.learned_horizon import LearnedHorizon
from forecast.model.mask_refiner import mask_head_of, mask_refiner
from forecast.model.newcomers import NewcomerHead, with_newcomers
from forecast.model.observer import Observer, warped
from forecast.model.query_interaction import QueryInteraction
from forecast.model.raster_encoder import EncodedFeatures, RasterEncoder
from forecast.model.scene import se2
from forecast.model.scene.agent_motion import past_pose
from forecast.model.scene.agents import LONGEST_HIDDEN_S, Agents, attributes_of, one_hot, present
from forecast.model.scene.context import PackedQueries, bounded, relative
from forecast.model.scene.lanes import thinned
from forecast.model.scene.rasterizer import rasterize
from forecast.model.scene.refiner import Refiner
from forecast.model.scene_attention import MapCrop
from forecast.model.spec import ForecasterSpec, Inputs
from forecast.model.state import ForecastState, SlotStep
from forecast.model.tracker import Tracker
from forecast.model.visibility import VisibilityHead
from forecast.types import Observation, SceneContext, StepForecast

# By how much existence falls, as a logit, per second that an agent is hidden; learned from there.
FADING_PER_S = 12.0


class Forecaster(nn.Module):
    """Carries one query per agent through time, a residual on constant turn rate at every step.

    Args:
        spec: Hyper-parameters.
        inputs: Classes, map layers and channels of the data.
    """

    reads_tracks = True

    def __init__(self, spec: ForecasterSpec, inputs: Inputs) -> None:
        super().__init__()
        self.spec, self.inputs = spec, inputs
        self.least_cell = False  # Whether a box is drawn as one cell at least: a rule of labels.
        self.learned_horizon = LearnedHorizon()
        dim, layers = spec.hidden_dim, len(inputs.map_layers) + inputs.bev_channels
        self.attributes = len(inputs.classes) + 2
        self.raster_encoder = (
            RasterEncoder(spec, inputs.channels) if spec.has_raster_encoder else None
        )
        self.agent_encoder = MLP(spec.trail * 6 + 3 + self.attributes, dim, dim)
        self.query_pos_encoder = MLP(3 + 5 + self.attributes + 4 + 1, dim, dim)
        self.map_crop = MapCrop(layers, dim) if layers and spec.map_crop else None
        self.decoder = Decoder(spec, self.attributes)
        self.motion_head = MotionHead(dim)
        self.visibility_head = VisibilityHead(self.attributes, spec.scene_dim)
        self.mask_head = mask_head_of(spec, self.raster_encoder)
        self.query_interaction = (
            QueryInteraction(dim, spec.heads, spec.ffn, spec.update_query_pos)
            if spec.query_interaction
            else None
        )
        self.tracker = Tracker(spec, len(inputs.classes)) if spec.has_raster_encoder else None
        # What the tracker knows of an agent starts silent beside the agent's own history.
        self.track_encoder = silent_linear(dim, dim)
        self.observer = Observer(spec, self.attributes, len(inputs.classes))
        self.fading = nn.Parameter(torch.tensor(FADING_PER_S))
        self.newcomer_head = (
            NewcomerHead(dim, spec.pixel_dim, layers, len(inputs.classes))
            if spec.has_raster_encoder
            else None
        )

    def use(self, spec: ForecasterSpec) -> None:
        """Takes other hyper-parameters, with which the weights are the same."""
        self.spec = self.observer.spec = spec

    def start(self, context: SceneContext) -> ForecastState:
        """The state before anything was seen: no agent is known."""
        # Layers of a map that is not there, and channels that no frame has brought yet, are empty.
        channels = len(self.inputs.map_layers) + self.inputs.bev_channels
        missing = channels - context.map.shape[1]
        empty = context.map.new_zeros(context.batch, missing, *context.grid.shape)
        layers, points = torch.cat((context.map.float(), empty), 1), context.points
        if points is not None and self.spec.lane_spacing_m:
            points = thinned(points, self.spec.lane_spacing_m)
        context = replace(context, map=layers, points=points, given=context.map.float())
        agents = Agents.none(context.map)
        none = context.map.new_zeros(context.batch, 1, 3)
        return ForecastState(
            lead=0,
            elapsed_s=0.0,
            ahead=False,
            agents=agents,
            context=context,
            ego=None,
            raster=None,
            pose=none,
            twist=none,
            acceleration=none,
            query=none.new_zeros(context.batch, 1, self.spec.hidden_dim),
            visibility=none[..., 0],
        )

    def observe(
        self, state: ForecastState, frame: Observation, features: EncodedFeatures | None = None
    ) -> ForecastState:
        """Predicts to the frame's time, reads it, finds out who is who, and corrects.

        Args:
            state: Before it; not one that has stepped into the future.
            frame: What was seen.
            features: Of its raster, where they have been encoded already.

        Raises:
            ConfigError: The state has stepped into the future.
        """
        if state.ahead:
            raise ConfigError(
                "a state that observed last", "one of the future", "observe before it steps"
            )
        if frame.moved is not None:
            state = state.seen_from(frame.moved)
        state = replace(state, context=self.context_at(state.context, frame))
        encode = None
        if frame.semantic is not None and self.spec.raster == "always":
            encode = partial(self.encode_raster, state.context, known=features)
        after: ForecastState = self.observer(state, frame, encode, self.read_scene)
        return after

    def context_at(self, context: SceneContext, frame: Observation) -> SceneContext:
        """The scene with a frame's dense channels, if the model has any."""
        if frame.bev is None or not self.inputs.bev_channels:
            return context
        layers = context.map[:, : len(self.inputs.map_layers)]
        return replace(context, map=torch.cat((layers, frame.bev.float()), 1))

    @record_function("reading what was seen")
    def read_scene(self, state: ForecastState, features: EncodedFeatures) -> Float[Tensor, "b a d"]:
        """What queries read of a frame, where its agents are."""
        agents = state.agents
        packed = self._packed(agents, state.pose, state.twist)
        query_pos = self._query_pos(state, packed, packed.pose, 1.0)
        query = agents.packing.pack(state.query)
        return agents.packing.pad(self.decoder(query, query_pos, packed, state.context, features))

    @record_function("making queries")
    def look_ahead(self, state: ForecastState) -> ForecastState:
        """From observing to forecasting: who is there, and a query of what was seen of each.

        Raises:
            ConfigError: Nothing was observed.
        """
        if state.ego is None or state.agents.past.shape[2] == 0:
            raise ConfigError("an observation before the first step", "none", "observe a frame")
        state = self.present(state)
        agents = state.agents
        twist, acceleration = self.observer.motion(state)
        state = replace(state, twist=twist, acceleration=acceleration)
        query = self.agent_encoder(
            torch.cat((self._trail(agents), bounded(state.twist), self._attributes(agents)), -1)
        )
        if self.map_crop is not None:
            packed = self._packed(agents, state.pose, state.twist)
            query = query + agents.packing.pad(self.map_crop(packed, state.context))
        query = query + self.observer.carried(state.query)
        return replace(state, ahead=True, query=query, newcomers=self._newcomers(state))

    def _newcomers(self, state: ForecastState) -> Float[Tensor, "b e hn wn"] | None:
        """What tells of newcomers; None where no raster is read."""
        head, features = self.newcomer_head, state.features
        if head is None or features is None or not self.spec.newcomers:
            return None
        read: Tensor = head.read(features, state.context.map)
        return read

    def newcomer_logits(self, state: ForecastState) -> Float[Tensor, "b k hn wn"] | None:
        """How likely newcomers are in each cell after a step; beyond the learned horizon as there.

        None where no raster is read.
        """
        if self.newcomer_head is None or state.newcomers is None:
            return None
        arrived_s = min(state.elapsed_s, self.learned_horizon.seconds)
        logits: Tensor = self.newcomer_head(state.newcomers, arrived_s / self.spec.time_unit_s)
        return logits

    def present(self, state: ForecastState) -> ForecastState:
        """The same with those agents alone that are forecast."""
        cells = None if state.raster is None else state.raster.labels
        agents = state.agents
        fresh_enough = agents.seen.any(-1) & (agents.hidden_s <= LONGEST_HIDDEN_S)
        agents, order = present(agents, state.pose, fresh_enough, cells, state.context.grid)
        return state.take(order, agents)

    def _trail(self, agents: Agents) -> Float[Tensor, "b a f"]:
        """Where each agent was, from where it is."""
        unit, count = self.spec.time_unit_s, self.spec.trail
        parts = []
        for age in reversed(range(count)):
            pose, known = past_pose(agents, age * unit) if age else (agents.pose, agents.live)
            known = known[..., None].to(pose.dtype)
            parts += [torch.cat((relative(se2.between(agents.pose, pose)) * known, known), -1)]
        return torch.cat(parts, -1)

    def step(self, state: ForecastState, dt_s: float) -> tuple[ForecastState, StepForecast]:
        """One step, drawn."""
        state, slots = self.advance(state, dt_s)
        return state, self.draw(state, slots)

    @record_function("moving agents")
    def advance(self, state: ForecastState, dt_s: float) -> tuple[ForecastState, SlotStep]:
        """One step of the queries: warp, decode, move, and make the next step's queries."""
        if not state.ahead:
            state = self.look_ahead(state)
        agents, units = state.agents, dt_s / self.spec.time_unit_s
        arrived_s = state.elapsed_s + dt_s
        pack, pad = agents.packing.pack, agents.packing.pad
        packed = self._packed(agents, state.pose, state.twist)
        query_pos = self._query_pos(state, packed, pack(agents.pose), units)
        features = self._warped(state)
        output = self.decoder(pack(state.query), query_pos, packed, state.context, features)
        motion = self.motion_head(output)
        twist = motion.applied(packed.twist, pack(state.acceleration), units)
        twist = self.learned_horizon.straightened(state.elapsed_s, twist)
        # An agent forecast to stand keeps its pose exactly, and starts without acceleration.
        moves = (motion.moving > 0)[:, None]
        twist = pad(twist * moves)
        acceleration = (twist - state.twist) / units * pad(moves)
        padded = pad(output)
        updated, query = self._next_queries(state, padded, pad(query_pos), arrived_s)
        pose = se2.compose(state.pose, se2.exp(twist * units))
        arrived = replace(packed, pose=pack(pose), twist=pack(twist))
        visibility = self._visibility(state, arrived, arrived_s)
        slots = SlotStep(
            lead=state.lead + 1,
            agents=agents,
            pose=pose,
            before=state.pose,
            moving=pad(motion.moving),
            existence=pad(motion.existence) + visibility - self.fading * agents.hidden_s,
            uncertainty=pad(motion.error(arrived_s / self.spec.time_unit_s)),
            output=padded,
        )
        moved = replace(
            state,
            lead=slots.lead,
            elapsed_s=arrived_s,
            pose=pose,
            twist=twist,
            acceleration=acceleration,
            query=query,
            query_pos=updated,
            visibility=visibility,
        )
        return moved, slots

    def _visibility(
        self, state: ForecastState, arrived: PackedQueries, arrived_s: float
    ) -> Float[Tensor, "b a"]:
        """What visibility from the ego adds to existence after this step."""
        if not self.learned_horizon.updates_visibility(state.elapsed_s):
            return state.visibility
        assert state.ego is not None
        part = self.learned_horizon.part(arrived_s)
        units = arrived_s / self.spec.time_unit_s
        agents = state.agents
        return agents.packing.pad(self.visibility_head(arrived, agents, state.ego, units, part))

    def _query_pos(
        self,
        state: ForecastState,
        packed: PackedQueries,
        origin: Float[Tensor, "n 3"],
        units: float,
    ) -> Float[Tensor, "n d"]:
        """The live queries' query_pos: their motion, where they have come to, and the time step."""
        pack = state.agents.packing.pack
        come = relative(se2.between(packed.pose, origin))
        acceleration = pack(state.acceleration) / packed.twist.new_tensor(RESIDUAL_SCALE)
        # Accelerations seen in masks are mostly noise, those of boxes are not.
        boxed = torch.full_like(acceleration[:, :1], float(state.agents.boxed))
        step = (torch.ones_like(boxed) * units).log()
        features = (bounded(packed.twist), come, packed.attributes, acceleration, boxed, step)
        query_pos: Tensor = self.query_pos_encoder(torch.cat(features, -1))
        return query_pos if state.query_pos is None else query_pos + pack(state.query_pos)

    def _next_queries(
        self,
        state: ForecastState,
        output: Float[Tensor, "b a d"],
        query_pos: Float[Tensor, "b a d"],
        arrived_s: float,
    ) -> tuple[Float[Tensor, "b a d"] | None, Float[Tensor, "b a d"]]:
        """What QIM adds to the next step's query_pos, if anything, and the next query."""
        if not self.learned_horizon.updates_queries(arrived_s):
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
            slots.agents,
            slots.pose,
            slots.before,
            existence,
            drawn,
            None if state.raster is None else state.raster.labels,
            state.context.grid,
            len(self.inputs.classes),
            self.refiner(state, slots),
            self.least_cell,
            slots.uncertainty,
        )
        occupancy, logits = rasters.occupancy, self.newcomer_logits(state)
        if logits is not None:
            occupancy = with_newcomers(occupancy, logits)
        return StepForecast(
            lead=slots.lead,
            ids=slots.agents.ids,
            label=slots.agents.label,
            pose=torch.where(live[..., None], slots.pose, torch.nan),
            existence=existence,
            instance=rasters.instance,
            semantic=rasters.semantic,
            occupancy=occupancy,
            flow=rasters.flow,
            uncertainty=torch.where(live[..., None], slots.uncertainty, torch.nan),
        )

    def refiner(self, state: ForecastState, slots: SlotStep) -> Refiner | None:
        """The mask head at points of each agent's own frame; None where the raster is not read.

        A box that is forecast to stand is drawn as it is: nothing about it is uncertain.
        """
        raster = state.raster
        if raster is None or raster.features is None or not self.spec.refine_masks:
            return None
        grid = state.context.grid
        refine = mask_refiner(self.mask_head, raster, raster.features, slots, grid)
        if not slots.agents.boxed:
            return refine
        moves = (slots.moving > 0)[..., None]
        return lambda body: refine(body) * moves

    @record_function("encoding rasters")
    def encode_raster(
        self,
        context: SceneContext,
        semantic: Int[Tensor, "b h w"],
        known: EncodedFeatures | None = None,
    ) -> EncodedFeatures:
        """The features of the classes that were seen, and of the map; or those that are known.

        Raises:
            ConfigError: The model does not read rasters.
        """
        if known is not None:
            return known
        if self.raster_encoder is None:
            raise ConfigError("a model that reads rasters", "model.raster: none", "use another")
        occupied = one_hot(semantic, len(self.inputs.classes)).permute(0, 3, 1, 2).float()
        features: EncodedFeatures = self.raster_encoder(torch.cat((occupied, context.map), 1))
        return features

    @record_function("warping encoded features")
    def _warped(self, state: ForecastState) -> EncodedFeatures | None:
        """The last raster's features, carried to where its agents are now."""
        raster = state.raster
        if raster is None or raster.features is None or not self.spec.read_features:
            return None
        if (state.lead == 0 and raster.frame is None) or not self.spec.warp:
            return raster.features
        return warped(raster, state, state.pose.detach())

    def _packed(self, agents: Agents, pose: Tensor, twist: Tensor) -> PackedQueries:
        pack = agents.packing.pack
        return PackedQueries(
            agents.packing, pack(pose), pack(twist), pack(self._attributes(agents))
        )

    def _attributes(self, agents: Agents) -> Float[Tensor, "b a k"]:
        return attributes_of(agents, len(self.inputs.classes))
