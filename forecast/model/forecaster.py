"""The forecaster: assembles memory, queries, decoder and heads into a step model."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from forecast.grid import BEVGrid
from forecast.model.decoder import Decoder
from forecast.model.heads import RESIDUAL_SCALE, MotionHead
from forecast.model.layers.mask_heads import DotMaskHead, FpnMaskHead
from forecast.model.query_interaction import QueryInteraction
from forecast.model.raster_encoder import Memory, MemoryEncoder
from forecast.model.scene import se2
from forecast.model.scene.agents import Agents, last_change, last_twist, observe
from forecast.model.scene.context import Rows, Surroundings, bounded, relative
from forecast.model.scene.rasterizer import Refiner, paint
from forecast.model.scene.warp import sample_at, warp_by_agents
from forecast.model.scene_attention import MapCrop
from forecast.model.spec import ForecasterSpec, Inputs
from forecast.model.tracker import Tracker
from forecast.model.visibility import Sight
from forecast.types import BEVSequence, StepForecast

# Slower than this per step an agent's features need not be carried anywhere.
STILL_M = 0.1
# Leads that a training is taken to have rolled out at least.
LEARNED_HORIZON = 6
# Motion beyond them: ahead, but neither aside nor turning.
STRAIGHT_ON = (1.0, 0.0, 0.0)


@dataclass(frozen=True)
class ForecastState:
    """Everything that the next step needs; its size does not depend on the lead.

    Attributes:
        lead: Steps made so far.
        agents: The slots as observed at the present.
        around: Map and lanes.
        memory: The present frame's memory; None where the raster is not read.
        observed: The present frame's label map.
        pose: Pose of each slot now.
        twist: Its motion per step, in its own frame.
        change: How much that changed in the last step: its acceleration.
        content: Content part of each query.
        sight: What being looked at from the ego added to existence in the last step.
        position: What QIM adds to its position part; None where it updates content only.
    """

    lead: int
    agents: Agents
    around: Surroundings
    memory: Memory | None
    observed: Int[Tensor, "b h w"]
    pose: Float[Tensor, "b a 3"]
    twist: Float[Tensor, "b a 3"]
    change: Float[Tensor, "b a 3"]
    content: Float[Tensor, "b a d"]
    sight: Float[Tensor, "b a"]
    position: Float[Tensor, "b a d"] | None = None


@dataclass(frozen=True)
class SlotStep:
    """One step before it is painted: what training compares with the truth.

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
        self.read_memory = spec.memory  # forecasts may leave it out, detection never does
        self.learned_horizon = LEARNED_HORIZON
        dim, layers = spec.dim, len(inputs.map_layers) + inputs.bev_channels
        self.traits = len(inputs.classes) + 2
        self.encode = MemoryEncoder(spec, inputs.channels) if spec.memory else None
        self.seed = _mlp(spec.history * 6 + 3 + self.traits, dim)
        self.kinematics = _mlp(3 + 5 + self.traits + 4, dim)
        self.crop = MapCrop(layers, dim) if layers else None
        self.decoder = Decoder(spec, self.traits)
        self.motion = MotionHead(dim)
        self.sight = Sight(self.traits, spec.hidden)
        self.mask = self._mask_head()
        self.interact = (
            QueryInteraction(dim, spec.heads, spec.ffn, spec.update_position)
            if spec.interact
            else None
        )
        self.tracker = Tracker(spec, len(inputs.classes)) if spec.memory else None
        # What the tracker knows of an agent starts silent beside the agent's own history.
        self.carry = nn.Linear(dim, dim)
        nn.init.zeros_(self.carry.weight)
        nn.init.zeros_(self.carry.bias)

    def start(self, history: BEVSequence) -> ForecastState:
        """Reads the past with its ids: agents, map, lanes and (if the model has one) the memory."""
        agents = observe(history, self.spec.slots)
        memory = self.remember(history, -1) if self.read_memory else None
        return self.begin(agents, self.surroundings(history), memory, history.instance[:, -1])

    def begin(
        self,
        agents: Agents,
        around: Surroundings,
        memory: Memory | None,
        observed: Int[Tensor, "b h w"],
    ) -> ForecastState:
        """The state at the present: every agent's query is made from what was seen of it."""
        twist = last_twist(agents)
        past = se2.between(agents.pose[:, :, None], agents.past)
        seen = agents.seen[..., None].to(past.dtype)
        story = torch.cat((relative(past) * seen, seen), -1).flatten(2)
        content = self.seed(torch.cat((story, bounded(twist), self._traits(agents)), -1))
        if self.crop is not None:
            rows = self._rows(agents, agents.pose, twist)
            content = content + agents.packing.pad(self.crop(rows, around))
        change = last_change(agents)
        sight = torch.zeros_like(twist[..., 0])
        return ForecastState(
            0, agents, around, memory, observed, agents.pose, twist, change, content, sight
        )

    def step(self, state: ForecastState) -> tuple[ForecastState, StepForecast]:
        """One step, painted."""
        state, slots = self.advance(state)
        return state, self.paint(state, slots)

    def advance(self, state: ForecastState) -> tuple[ForecastState, SlotStep]:
        """One step of the queries: warp, decode, move, and make the next step's queries."""
        agents = state.agents
        pack, pad = agents.packing.pack, agents.packing.pad
        rows = self._rows(agents, state.pose, state.twist)
        position = self._position(state, rows)
        memory = self._warp(state)
        output = self.decoder(pack(state.content), position, rows, state.around, memory)
        motion = self.motion(output)
        twist = motion.applied(rows.twist, pack(state.change))
        if state.lead >= self.learned_horizon:
            twist = twist * twist.new_tensor(STRAIGHT_ON)
        # Whoever is forecast to stand still stands exactly still, and starts without a push.
        moves = (motion.moving > 0)[:, None]
        twist = pad(twist * moves)
        change = (twist - state.twist) * pad(moves)
        padded = pad(output)
        updated, content = self._next_queries(state, padded, pad(position))
        pose = se2.compose(state.pose, se2.exp(twist))
        sight = self._look(state, replace(rows, pose=pack(pose), twist=pack(twist)))
        slots = SlotStep(
            lead=state.lead + 1,
            agents=agents,
            pose=pose,
            before=state.pose,
            moving=pad(motion.moving),
            existence=pad(motion.existence) + sight,
            # An observed mask is drawn as it was.
            size=agents.size * pad(motion.spread * agents.boxed).exp(),
            output=padded,
        )
        moved = replace(
            state,
            lead=slots.lead,
            pose=pose,
            twist=twist,
            change=change,
            content=content,
            position=updated,
            sight=sight,
        )
        return moved, slots

    def _look(self, state: ForecastState, arrived: Rows) -> Float[Tensor, "b a"]:
        """What being looked at adds to existence; beyond the learned horizon what it last did.

        An ego that drove on for longer than in any training would lose whoever is parked.
        """
        if state.lead >= self.learned_horizon:
            return state.sight
        part = (state.lead + 1) / self.learned_horizon
        return state.agents.packing.pad(self.sight(arrived, state.around, state.lead + 1, part))

    def _position(self, state: ForecastState, rows: Rows) -> Float[Tensor, "n d"]:
        """Position part of the live queries: their motion and where they have come to."""
        pack = state.agents.packing.pack
        come = relative(se2.between(rows.pose, pack(state.agents.pose)))
        change = pack(state.change) / rows.twist.new_tensor(RESIDUAL_SCALE)
        # Accelerations seen in masks are mostly noise, those of boxes are not.
        boxed = torch.full_like(change[:, :1], float(state.agents.boxed))
        features = (bounded(rows.twist), come, rows.traits, change, boxed)
        position: Tensor = self.kinematics(torch.cat(features, -1))
        return position if state.position is None else position + pack(state.position)

    def _next_queries(
        self, state: ForecastState, output: Float[Tensor, "b a d"], position: Float[Tensor, "b a d"]
    ) -> tuple[Float[Tensor, "b a d"] | None, Float[Tensor, "b a d"]]:
        """What QIM adds to the next step's position part, if anything, and its content part.

        Queries beyond the learned horizon stay as they were at its end: updated more often than in
        any training they would drift, and parked cars with them.
        """
        if state.lead + 1 >= self.learned_horizon:
            return state.position, state.content
        if self.interact is None:
            return None, output
        updated, content = self.interact(output, position, state.content, state.agents.live)
        return (updated if self.spec.update_position else None), content

    def paint(self, state: ForecastState, slots: SlotStep) -> StepForecast:
        """Draws the slots of a step."""
        live = slots.agents.live
        existence = torch.sigmoid(slots.existence) * live
        drawn = live & (existence > self.spec.keep)
        rasters = paint(
            replace(slots.agents, size=slots.size),
            slots.pose,
            slots.before,
            existence,
            drawn,
            state.observed,
            state.around.grid,
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
        """The mask head at points of the present frame; None without a memory."""
        memory = state.memory
        if memory is None:
            return None

        grid, head = state.around.grid, self.mask
        if isinstance(head, DotMaskHead):

            def refine(points: Float[Tensor, "b a p 2"]) -> Float[Tensor, "b a p"]:
                pixels = sample_at(memory.pixels, points, grid).permute(0, 2, 3, 1)
                out: Tensor = head(slots.output, pixels)
                return out

            return refine
        coarse = memory.levels[-1]
        nothing_padded = torch.zeros_like(coarse[:, 0], dtype=torch.bool)
        live = slots.agents.live
        maps = head(slots.output, coarse, nothing_padded, memory.guides, live)
        return lambda points: _sample_own(maps, points, grid)

    def remember(self, history: BEVSequence, frame: int) -> Memory | None:
        """The memory of one history frame; None for a model that does not read the raster."""
        if self.encode is None:
            return None
        memory: Memory = self.encode(self._frame(history, frame))
        return memory

    def _mask_head(self) -> DotMaskHead | FpnMaskHead:
        """Starts silent: untrained, masks are those of the boxes."""
        if self.encode is None or self.spec.mask_head == "dot":
            return DotMaskHead(self.spec.dim, self.spec.pixel_dim)
        head = FpnMaskHead(self.spec.dim, self.spec.heads, self.encode.guide_widths)
        nn.init.zeros_(head.logits.weight)
        return head

    def _warp(self, state: ForecastState) -> Memory | None:
        if state.memory is None or state.lead == 0 or not self.spec.warp:
            return state.memory
        shift = torch.linalg.vector_norm((state.pose - state.agents.pose)[..., :2], dim=-1)
        moving: Bool[Tensor, "b a"] = state.agents.live & (shift > STILL_M)
        levels = warp_by_agents(
            state.memory.levels,
            state.agents.pose,
            state.pose.detach(),
            state.agents.size,
            moving,
            state.around.grid,
        )
        return replace(state.memory, levels=levels)

    def _rows(self, agents: Agents, pose: Tensor, twist: Tensor) -> Rows:
        pack = agents.packing.pack
        return Rows(agents.packing, pack(pose), pack(twist), pack(self._traits(agents)))

    def _traits(self, agents: Agents) -> Float[Tensor, "b a k"]:
        one_hot = _one_hot(agents.label, len(self.inputs.classes))
        size = agents.size / agents.size.new_tensor([5.0, 2.0])
        return torch.cat((one_hot.to(size.dtype), size.log1p()), -1)

    def surroundings(self, history: BEVSequence) -> Surroundings:
        """Map, dense channels and lanes of the present frame."""
        parts = _map_parts(history, len(self.inputs.map_layers))
        if history.bev is not None and self.inputs.bev_channels:
            parts.append(history.bev[:, -1].float())
        before, now = history.ego_pose[:, -min(history.frames, 2)], history.ego_pose[:, -1]
        twist = se2.log(se2.between(before, now))
        return Surroundings(torch.cat(parts, 1), history.map_point, history.grid, now, twist)

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
    """Which class each label is; 0 is none. Torch's own looks at labels, and a GPU has to wait."""
    return label[..., None] == torch.arange(1, classes + 1, device=label.device)


def _mlp(features: int, dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, dim), nn.ReLU(), nn.Linear(dim, dim))
