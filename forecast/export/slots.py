"""The forecaster on a fixed number of slots, as graphs of fixed shapes need it.

The forecaster packs live agents, whose number differs from moment to moment. Here every slot is a
row, live or not, and the queries of empty slots are seen by no other. What the forecaster decides
in Python (times, whether there was an observation before) is decided by tensors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from forecast.grid import BEVGrid
from forecast.model.forecaster import Forecaster
from forecast.model.layers.mask_heads import DotMaskHead
from forecast.model.learned_horizon import SAME_TIME_S, STRAIGHT_ON, LearnedHorizon
from forecast.model.observer import Observer, warped
from forecast.model.raster_encoder import EncodedFeatures
from forecast.model.scene import se2
from forecast.model.scene.agents import LONGEST_HIDDEN_S, Agents, Association, Seen
from forecast.model.scene.context import PackedQueries
from forecast.model.scene.packing import Packing
from forecast.model.scene.refiner import RowRefiner
from forecast.model.scene.warp import sample_at
from forecast.model.scene_attention import LaneAttention
from forecast.model.state import ForecastState, LastRaster, SlotStep
from forecast.types import Observation, SceneContext


@dataclass(frozen=True)
class EverySlot(Packing):
    """All slots of one sequence as rows; those that are empty stay zero when they are put back."""

    @classmethod
    def of(cls, live: Bool[Tensor, "1 q"]) -> EverySlot:
        """The packing of some slots."""
        return cls(live, torch.arange(live.shape[1], device=live.device))

    @property
    def sequence(self) -> Int[Tensor, "q"]:
        """The only sequence."""
        return torch.zeros_like(self.place)

    def pack(self, slots: Tensor) -> Tensor:
        """The rows of all slots."""
        return slots.flatten(0, 1)

    def pad(self, rows: Tensor) -> Tensor:
        """Rows back in their slots; empty slots are zero."""
        slots = rows.view(*self.live.shape, *rows.shape[1:])
        live = self.live.view(*self.live.shape, *[1] * (rows.dim() - 1))
        # ONNX Runtime cannot choose between booleans.
        if slots.dtype == torch.bool:
            return slots & live
        return torch.where(live, slots, torch.zeros_like(slots))


@dataclass(frozen=True)
class SlotAgents(Agents):
    """Agents whose slots stay where they are.

    Attributes:
        hidden: Seconds for which each has not been seen, where ``seen`` does not tell any more.
        holds: Ids that the slots hold from now on, where an observation comes.
        on_raster: Which agents have a cell in the last raster, where forecasting begins.
        begun: Whether anything was observed before; until then times are meaningless.
    """

    hidden: Float[Tensor, "1 a"] | None = None
    holds: Int[Tensor, "1 a"] | None = None
    on_raster: Bool[Tensor, "1 a"] | None = None
    begun: Bool[Tensor, "1"] | None = None

    @cached_property
    def packing(self) -> Packing:
        """Every slot."""
        return EverySlot.of(self.live)

    @property
    def hidden_s(self) -> Float[Tensor, "1 a"]:
        """Seconds for which each agent has not been seen."""
        return super().hidden_s if self.hidden is None else self.hidden


@dataclass(frozen=True)
class TracedHorizon(LearnedHorizon):
    """The same policy where times are tensors; what is updated is chosen afterwards."""

    def updates_queries(self, arrived_s: float) -> bool:
        """Always: see :meth:`SlotForecaster._next_queries`."""
        return True

    def updates_visibility(self, elapsed_s: float) -> bool:
        """Always: see :meth:`SlotForecaster._visibility`."""
        return True

    def within(self, time_s: Float[Tensor, ""]) -> Bool[Tensor, ""]:
        """Whether a time lies within the learned horizon."""
        return time_s < self.seconds - SAME_TIME_S

    def straightened(self, elapsed_s: Tensor, twist: Tensor) -> Tensor:  # type: ignore[override]
        """The motion of the step that begins at a time; beyond the learned horizon straight on."""
        return torch.where(self.within(elapsed_s), twist, twist * twist.new_tensor(STRAIGHT_ON))


@dataclass(frozen=True)
class SlotAssociation(Association):
    """Slots that stay where they are, and hold another agent or the same.

    Attributes:
        same: Whether it is the same.
    """

    same: Bool[Tensor, "1 a"] | None = None

    def carried(self, old: Tensor) -> Tensor:
        """What the slots have; zero for agents that are new."""
        assert self.same is not None
        same = self.same.view(*self.same.shape, *[1] * (old.dim() - 2))
        if old.dtype == torch.bool:
            return old & same
        return torch.where(same, old, torch.zeros_like(old))


@dataclass(frozen=True)
class SlotRaster(LastRaster):
    """The last raster, if there was one.

    Attributes:
        read: Whether there was one.
    """

    read: Bool[Tensor, "1"] | None = None


class SlotObserver(Observer):
    """The observer where the host has found out already which slot is who.

    Rows of the observation are slots. A slot whose id is not that of the state holds another agent.
    """

    def associate(self, agents: Agents, seen: Seen) -> Association:
        """The slots as they are given."""
        assert isinstance(agents, SlotAgents)
        assert agents.holds is not None
        rows = torch.arange(agents.ids.shape[1], device=agents.ids.device)
        same = agents.ids == agents.holds
        return SlotAssociation(None, agents.holds, seen.ids > 0, rows[None], same)

    def _fused(self, state: ForecastState, features: EncodedFeatures) -> EncodedFeatures:
        raster = state.raster
        if not isinstance(raster, SlotRaster) or raster.read is None:
            return features
        fused, read = super()._fused(state, features), raster.read[:, None, None, None]
        pairs = zip(features.levels, fused.levels, strict=True)
        return replace(features, levels=tuple(torch.where(read, b, a) for a, b in pairs))

    def _gap(self, state: ForecastState, frame: Observation) -> Float[Tensor, "1"]:
        agents = state.agents
        assert isinstance(agents, SlotAgents)
        assert agents.begun is not None
        gap = (frame.time_s - agents.time_s[:, -1]) * agents.begun
        return gap.clamp(min=0) / self.spec.time_unit_s


class SlotLanes(LaneAttention):
    """Lanes, where those that are missing are NaN."""

    def forward(
        self, x: Float[Tensor, "n d"], packed: PackedQueries, context: SceneContext
    ) -> Float[Tensor, "n d"]:
        """Reads the lanes around and ahead; without any lane point returns ``x`` as it is."""
        assert context.points is not None
        read: Tensor = super().forward(x, packed, context)
        return torch.where(torch.isfinite(context.points).any(), read, x)


class SlotRefiner(RowRefiner):
    """The mask head at one list of points.

    Args:
        head: The head.
        raster: Whose embedded cells it reads.
        slots: The step that is drawn.
        grid: The raster's grid.
    """

    def __init__(
        self, head: DotMaskHead, raster: LastRaster, slots: SlotStep, grid: BEVGrid
    ) -> None:
        self.head, self.raster, self.slots, self.grid = head, raster, slots, grid

    def rows(self, agent: Int[Tensor, "n"], points: Float[Tensor, "n 2"]) -> Float[Tensor, "n"]:
        """Adds to the logit of each point; nothing where its agent stands."""
        raster, slots = self.raster, self.slots
        assert raster.features is not None
        places = se2.apply(raster.pose[0].index_select(0, agent), points)
        if raster.frame is not None:
            places = se2.apply(raster.frame, places)
        # One more point than there are: exporters want to know that there is any.
        places = torch.cat((places, torch.zeros_like(raster.pose[0, :1, :2])))
        pixels = sample_at(raster.features.pixels, places[None, :, None], self.grid)[0, :, :-1, 0]
        embedded = self.head.embed(slots.output[0]).index_select(0, agent)
        moves = (slots.moving[0] > 0).index_select(0, agent)
        out: Tensor = (embedded * pixels.T).sum(-1) * moves
        return out


class SlotForecaster(Forecaster):
    """A trained forecaster on a fixed number of slots of one sequence.

    Args:
        forecaster: Whose weights and hyper-parameters are taken.
    """

    def __init__(self, forecaster: Forecaster) -> None:
        super().__init__(replace(forecaster.spec, backend="torch"), forecaster.inputs)
        spec = self.spec
        self.observer = SlotObserver(spec, self.attributes, len(self.inputs.classes))
        for layer in self.decoder.layers:
            layer.lanes = SlotLanes(spec.hidden_dim, spec.scene_dim)
        self.load_state_dict(forecaster.state_dict())
        self.learned_horizon: TracedHorizon = TracedHorizon(forecaster.learned_horizon.seconds)
        self.tracker = None  # finds agents of detected input, which is not exported
        self.least_cell = forecaster.least_cell
        self.eval().requires_grad_(False)

    def present(self, state: ForecastState) -> ForecastState:
        """The same; slots of agents that are not forecast are empty."""
        agents, grid = state.agents, state.context.grid
        assert isinstance(agents, SlotAgents)
        here = grid.contains(state.pose[..., 0], state.pose[..., 1])
        if agents.on_raster is not None:
            here = here | agents.on_raster
        here = here & agents.seen.any(-1) & (agents.hidden_s <= LONGEST_HIDDEN_S) & agents.live
        return replace(
            state, agents=replace(agents, ids=agents.ids * here, label=agents.label * here)
        )

    def slot_refiner(self, raster: LastRaster, slots: SlotStep, grid: BEVGrid) -> RowRefiner:
        """The mask head at points of all agents one after the other."""
        assert isinstance(self.mask_head, DotMaskHead)
        return SlotRefiner(self.mask_head, raster, slots, grid)

    def newcomers_after(
        self, read: Float[Tensor, "1 e hn wn"], elapsed_s: Float[Tensor, "1"]
    ) -> Float[Tensor, "1 k hn wn"]:
        """As ``newcomer_logits``, the time a tensor."""
        assert self.newcomer_head is not None
        arrived_s = elapsed_s[0].clamp(max=self.learned_horizon.seconds)
        logits: Tensor = self.newcomer_head(read, arrived_s / self.spec.time_unit_s)
        return logits

    def _packed(self, agents: Agents, pose: Tensor, twist: Tensor) -> PackedQueries:
        """Live queries do not see those of empty slots."""
        return replace(super()._packed(agents, pose, twist), group=agents.live.flatten())

    def _next_queries(
        self, state: ForecastState, output: Tensor, query_pos: Tensor, arrived_s: float
    ) -> tuple[Tensor | None, Tensor]:
        updated, query = super()._next_queries(state, output, query_pos, arrived_s)
        learned = self.learned_horizon.within(torch.as_tensor(arrived_s))
        if updated is not None and state.query_pos is not None:
            updated = torch.where(learned, updated, state.query_pos)
        return updated, torch.where(learned, query, state.query)

    def _visibility(
        self, state: ForecastState, arrived: PackedQueries, arrived_s: float
    ) -> Float[Tensor, "1 a"]:
        learned = self.learned_horizon.within(torch.as_tensor(state.elapsed_s))
        judged = super()._visibility(state, arrived, arrived_s)
        return torch.where(learned, judged, state.visibility)

    def _warped(self, state: ForecastState) -> EncodedFeatures | None:
        """As the forecaster's, but whether there is anything to warp is told by tensors."""
        raster = state.raster
        if raster is None or raster.features is None or not self.spec.read_features:
            return None
        if not self.spec.warp:
            return raster.features
        assert raster.frame is not None
        now = (torch.as_tensor(state.elapsed_s) == 0) & (raster.frame == 0).all()
        moved = warped(raster, state, state.pose)
        assert moved is not None
        pairs = zip(raster.features.levels, moved.levels, strict=True)
        levels = tuple(torch.where(now, old, new) for old, new in pairs)
        return replace(raster.features, levels=levels)
