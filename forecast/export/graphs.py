"""The graphs as modules: tensors by name in, tensors by name out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from forecast.export.layout import GraphSpec, Layout
from forecast.export.slots import SlotAgents, SlotForecaster, SlotRaster
from forecast.grid import BEVGrid
from forecast.model.newcomers import with_newcomers
from forecast.model.raster_encoder import EncodedFeatures
from forecast.model.scene.agents import LONGEST_HIDDEN_S, slots_of
from forecast.model.scene.context import EgoMotion
from forecast.model.scene.rasterizer import Rasters, rasterize
from forecast.model.scene.warp import resampled
from forecast.model.state import ForecastState, LastRaster, SlotStep
from forecast.types import Observation, SceneContext

Tensors = dict[str, Tensor]
LAST_ID = torch.iinfo(torch.long).max  # empty slots come last


class Graph(nn.Module):
    """One graph of a forecaster.

    Args:
        forecaster: On fixed slots.
        layout: Its tensors.
        spec: Which graph this is.
    """

    def __init__(self, forecaster: SlotForecaster, layout: Layout, spec: GraphSpec) -> None:
        super().__init__()
        self.forecaster, self.layout, self.spec = forecaster, layout, spec

    def forward(self, **tensors: Tensor) -> Tensors:
        """The outputs, in the order of the specification."""
        said = self.run(tensors)
        named = {id(tensor) for tensor in tensors.values()}
        outputs: Tensors = {}
        for name in self.spec.output_names:
            # What goes through as it is, or is said twice, gets a name of its own each time.
            output = said[name].clone() if id(said[name]) in named else said[name]
            # What is given back as a state must lie in memory as it did when it was compiled.
            outputs[name] = output = output.contiguous()
            named.add(id(output))
        return outputs

    def run(self, tensors: Tensors) -> Tensors:
        """All that the graph says, by name."""
        raise NotImplementedError


class Observe(Graph):
    """A moment is seen; with a raster, the boxes are drawn and read."""

    def run(self, tensors: Tensors) -> Tensors:
        """Predicts to the moment and corrects."""
        box, grid = tensors["box"], self.layout.grid
        reads = self.spec.name == "observe_raster"
        empty = torch.zeros((1, *grid.shape), dtype=torch.long) if reads else None
        frame = Observation(
            time_s=tensors["time_s"],
            ego_pose=tensors["ego"],
            track_id=tensors["slot_id"],
            track_state=box,
            track_class=tensors["slot_label"],
            semantic=empty,
            instance=empty,
            moved=tensors["moved"],
        )
        # Before the first moment the memory is empty: what it holds is old, and forgotten first.
        long_ago = frame.time_s[:, None] - 2 * LONGEST_HIDDEN_S
        time_s = torch.where(tensors["observed"][:, None], tensors["time"], long_ago)
        after = self.forecaster.observe(_past(tensors | {"time": time_s}, grid), frame)
        agents, ego, raster = after.agents, after.ego, after.raster
        points, frame_of_map = after.context.points, after.context.frame
        assert ego is not None
        assert points is not None
        assert frame_of_map is not None
        said = {
            "next_id": agents.ids,
            "next_label": agents.label,
            "next_size": agents.size,
            "next_past": agents.past,
            "next_seen": agents.seen,
            "next_time": agents.time_s,
            "next_observed": torch.ones_like(tensors["observed"]),
            "next_ego_pose": ego.pose,
            "next_ego_twist": ego.twist,
            "next_map_frame": frame_of_map,
            "next_lane_point": points,
        }
        if raster is not None:
            said |= _next_raster(raster, tensors["raster_frame"])
        return said | _next_moves(after)


def _next_raster(raster: LastRaster, frame: Tensor) -> Tensors:
    """What is known of the last raster; a raster of this moment lies in this frame."""
    moved = torch.zeros_like(frame) if raster.frame is None else raster.frame
    said = {"next_raster_pose": raster.pose, "next_raster_frame": moved}
    if raster.features is None:
        return said
    levels = {f"next_level_{index}": x for index, x in enumerate(raster.features.levels)}
    read = torch.ones(1, dtype=torch.bool)
    return said | levels | {"next_pixels": raster.features.pixels, "next_raster_seen": read}


class LookAhead(Graph):
    """From what was seen to what will be: who is forecast, and the query of each."""

    def run(self, tensors: Tensors) -> Tensors:
        """Makes the queries of the future."""
        state = _past(tensors, self.layout.grid)
        after = self.forecaster.look_ahead(state)
        nothing = torch.zeros_like(after.pose[..., 0])
        newcomers = {} if after.newcomers is None else {"next_newcomers": after.newcomers}
        return (
            _next_moves(after)
            | newcomers
            | {
                "next_id": after.agents.ids,
                "next_label": after.agents.label,
                "next_present_pose": after.agents.pose,
                "next_hidden": after.agents.hidden_s,
                "next_visibility": nothing,
                "next_elapsed": nothing[0, :1],
                "next_query_pos": torch.zeros_like(after.query),
            }
        )


def _past(tensors: Tensors, grid: BEVGrid) -> ForecastState:
    """The state between two observations."""
    nothing = tensors["past"].new_zeros(1, 0, *grid.shape)
    given, frame = tensors.get("map", nothing), tensors.get("map_frame")
    layers = given if frame is None else resampled(given, frame, grid)
    agents = SlotAgents(
        ids=tensors["id"],
        label=tensors["label"],
        past=tensors["past"],
        seen=tensors["seen"],
        time_s=tensors["time"],
        size=tensors["size"],
        holds=tensors.get("slot_id"),
        on_raster=tensors.get("on_raster"),
        begun=tensors["observed"],
    )
    pose = tensors["pose"]
    ego = tensors.get("ego_pose", pose[:, 0]), tensors.get("ego_twist", pose[:, 0])
    return ForecastState(
        lead=0,
        elapsed_s=0.0,
        ahead=False,
        agents=agents,
        context=SceneContext(layers, tensors.get("lane_point"), grid, given, frame),
        ego=EgoMotion(*ego),
        raster=_raster(tensors, nothing),
        pose=pose,
        twist=tensors["twist"],
        acceleration=tensors["acceleration"],
        query=tensors["query"],
        visibility=torch.zeros_like(pose[..., 0]),
    )


class Step(Graph):
    """One step into the future."""

    def run(self, tensors: Tensors) -> Tensors:
        """Moves all agents by one step."""
        state = _future(tensors, self.layout.grid)
        after, slots = self.forecaster.advance(state, tensors["dt"][0])  # type: ignore[arg-type]
        live = slots.agents.live
        said = {
            "forecast_pose": torch.where(live[..., None], slots.pose, torch.nan),
            "existence": torch.sigmoid(slots.existence) * live,
            "uncertainty": torch.where(live[..., None], slots.uncertainty, torch.nan),
            "before": slots.before,
            "moving": slots.moving,
            "decoded": slots.output,
        }
        return said | _next_moves(after) | _next_future(after)


class Draw(Graph):
    """The rasters of a step."""

    def run(self, tensors: Tensors) -> Tensors:
        """Draws all agents in the order of their ids, as of agents of one size the last is seen."""
        ids = tensors["id"]
        order = torch.argsort(torch.where(ids > 0, ids, LAST_ID), dim=1)
        slots = {
            spec.name: slots_of(tensors[spec.name], order)
            for spec in (*self.spec.state, *self.spec.inputs)
            if spec.name not in ("pixels", "raster_frame", "newcomers", "elapsed")
        }
        rasters = self._drawn(tensors | slots)
        return {
            "instance": rasters.instance,
            "semantic": rasters.semantic,
            "occupancy": self._with_newcomers(rasters.occupancy, tensors),
            "flow": rasters.flow,
        }

    def _with_newcomers(self, occupancy: Tensor, tensors: Tensors) -> Tensor:
        if "newcomers" not in tensors:
            return occupancy
        logits = self.forecaster.newcomers_after(tensors["newcomers"], tensors["elapsed"])
        return with_newcomers(occupancy, logits)

    def _drawn(self, tensors: Tensors) -> Rasters:
        grid, spec = self.layout.grid, self.forecaster.spec
        pose, nothing = tensors["forecast_pose"], tensors["decoded"].new_zeros(1, 0, *grid.shape)
        agents = _agents(tensors, pose)
        pose = torch.where(agents.live[..., None], pose, torch.zeros_like(pose))
        slots = SlotStep(
            lead=1,
            agents=agents,
            pose=pose,
            before=tensors["before"],
            moving=tensors["moving"],
            existence=tensors["existence"],
            uncertainty=tensors["uncertainty"],
            output=tensors["decoded"],
        )
        raster = _raster(tensors, nothing)
        refine = None
        if raster is not None and spec.refine_masks:
            refine = self.forecaster.slot_refiner(raster, slots, grid)
        return rasterize(
            agents,
            pose,
            tensors["before"],
            tensors["existence"],
            agents.live & (tensors["existence"] > spec.keep),
            None,
            grid,
            len(self.forecaster.inputs.classes),
            refine,
            self.forecaster.least_cell,
            torch.nan_to_num(tensors["uncertainty"], nan=1.0),
        )


def make_graph(forecaster: SlotForecaster, layout: Layout, spec: GraphSpec) -> Graph:
    """The module of a graph."""
    match spec.name:
        case "observe" | "observe_raster":
            return Observe(forecaster, layout, spec)
        case "look_ahead":
            return LookAhead(forecaster, layout, spec)
        case "step":
            return Step(forecaster, layout, spec)
        case _:
            return Draw(forecaster, layout, spec)


def _next_moves(state: ForecastState) -> Tensors:
    return {
        "next_pose": state.pose,
        "next_twist": state.twist,
        "next_acceleration": state.acceleration,
        "next_query": state.query,
    }


def _next_future(state: ForecastState) -> Tensors:
    elapsed = torch.as_tensor(state.elapsed_s).reshape(1)
    said = {"next_visibility": state.visibility, "next_elapsed": elapsed}
    return said if state.query_pos is None else said | {"next_query_pos": state.query_pos}


def _future(tensors: Tensors, grid: BEVGrid) -> ForecastState:
    """The state between two steps."""
    agents = _agents(tensors, tensors["present_pose"])
    nothing = tensors["lane_point"].new_zeros(1, 0, *grid.shape)
    return ForecastState(
        lead=1,
        elapsed_s=tensors["elapsed"][0],  # type: ignore[arg-type]
        ahead=True,
        agents=agents,
        context=SceneContext(nothing, tensors["lane_point"], grid),
        ego=EgoMotion(tensors["ego_pose"], tensors["ego_twist"]),
        raster=_raster(tensors, nothing),
        pose=tensors["pose"],
        twist=tensors["twist"],
        acceleration=tensors["acceleration"],
        query=tensors["query"],
        visibility=tensors["visibility"],
        query_pos=tensors.get("query_pos"),
    )


def _agents(tensors: Tensors, present: Tensor) -> SlotAgents:
    """The agents where their past does not matter any more."""
    past = present[:, :, None]
    return SlotAgents(
        ids=tensors["id"],
        label=tensors["label"],
        past=past,
        seen=torch.ones_like(past[..., 0], dtype=torch.bool),
        time_s=torch.zeros_like(past[:, 0, :, 0]),
        size=tensors["size"],
        hidden=tensors.get("hidden"),
    )


def _raster(tensors: Tensors, nothing: Tensor) -> LastRaster | None:
    """The last raster; embedded cells are left out where they are not read."""
    if "raster_pose" not in tensors:
        return None
    levels: list[Tensor] = []
    while (level := tensors.get(f"level_{len(levels)}")) is not None:
        levels.append(level)
    features = EncodedFeatures(tuple(levels), tensors.get("pixels", nothing))
    labels = nothing[:, :0].sum(1).long()
    return SlotRaster(
        features,
        labels,
        tensors["raster_pose"],
        tensors["raster_frame"],
        read=tensors.get("raster_seen"),
    )
