"""What goes into the graphs and comes out of them: names, shapes, units and meanings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from forecast.grid import BEVGrid
from forecast.model.newcomers import HIDDEN
from forecast.model.scene.agents import MEMORY
from forecast.model.spec import ForecasterSpec, Inputs

MOTION = "m, m, rad per time unit"
POSE = "m, m, rad"


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a graph.

    Attributes:
        name: Its name.
        shape: Its shape, always the same.
        dtype: ``float32``, ``int64`` or ``bool``.
        unit: What its numbers are measured in; "" where they have no unit.
        meaning: What it says.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    unit: str
    meaning: str


@dataclass(frozen=True)
class GraphSpec:
    """A graph seen from outside; an output ``next_NAME`` is the new value of the state ``NAME``.

    Attributes:
        name: Its name.
        state: What it reads of the state.
        inputs: What else it is given.
        outputs: What it says.
        next_state: What it changes of the state.
    """

    name: str
    state: tuple[TensorSpec, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    next_state: tuple[TensorSpec, ...]

    @property
    def output_names(self) -> list[str]:
        """Of all outputs, the state first."""
        return [f"next_{spec.name}" for spec in self.next_state] + [
            spec.name for spec in self.outputs
        ]


@dataclass(frozen=True)
class Layout:
    """The tensors of one bucket.

    Attributes:
        spec: Hyper-parameters of the forecaster.
        inputs: Classes and map layers.
        grid: The grid of map and rasters.
        slots: Agent slots.
        points: Lane points.
        levels: Height and width of each level of the encoded features; empty where no raster is
            read.
    """

    spec: ForecasterSpec
    inputs: Inputs
    grid: BEVGrid
    slots: int
    points: int
    levels: tuple[tuple[int, int], ...]

    @property
    def graphs(self) -> tuple[GraphSpec, ...]:
        """All graphs, in the order in which they are run."""
        names = ("observe", "observe_raster") if self.levels else ("observe",)
        observe = (self._observe(name) for name in names)
        return (*observe, self._look_ahead, self._step, self._draw)

    @cached_property
    def state(self) -> dict[str, TensorSpec]:
        """Everything that is carried from graph to graph, zero at the start."""
        agents = (*self._who, *self._past, *self._moves, *self._future, *self._newcomers)
        scene = (*self._ego, *self._scene, *self._raster)
        return {spec.name: spec for spec in (*agents, *scene)}

    def _slots(self, name: str, last: tuple[int, ...], unit: str, meaning: str) -> TensorSpec:
        return TensorSpec(name, (1, self.slots, *last), "float32", unit, meaning)

    @cached_property
    def _who(self) -> tuple[TensorSpec, ...]:
        slots = (1, self.slots)
        return (
            TensorSpec("id", slots, "int64", "", "instance id of each slot; 0 = empty"),
            TensorSpec("label", slots, "int64", "", "class of each slot from 1; 0 = empty"),
            self._slots("size", (2,), "m", "length and width"),
        )

    @cached_property
    def _past(self) -> tuple[TensorSpec, ...]:
        memory = f"{MEMORY} observations of about two seconds, newest last"
        seen = (1, self.slots, MEMORY)
        return (
            self._slots("past", (MEMORY, 3), POSE, f"x, y, yaw at {memory}"),
            TensorSpec("seen", seen, "bool", "", f"whether it was seen in each of {memory}"),
            TensorSpec("time", (1, MEMORY), "float32", "s", f"times of {memory}"),
            TensorSpec("observed", (1,), "bool", "", "whether anything was observed yet"),
        )

    @cached_property
    def _moves(self) -> tuple[TensorSpec, ...]:
        return (
            self._slots("pose", (3,), POSE, "x, y, yaw now"),
            self._slots("twist", (3,), MOTION, "ahead, aside, turned, in the agent's own frame"),
            self._slots("acceleration", (3,), f"{MOTION}, squared", "acceleration"),
            self._slots("query", (self.spec.hidden_dim,), "", "the track query"),
        )

    @cached_property
    def _future(self) -> tuple[TensorSpec, ...]:
        parts: tuple[TensorSpec, ...] = (
            self._slots("present_pose", (3,), POSE, "x, y, yaw at the present"),
            self._slots("hidden", (), "s", "for how long it was not seen at the present"),
            self._slots("visibility", (), "", "what visibility adds to existence, a logit"),
            TensorSpec("elapsed", (1,), "float32", "s", "time of the steps so far"),
        )
        if self.spec.update_query_pos:
            parts += (self._slots("query_pos", (self.spec.hidden_dim,), "", "added by QIM"),)
        return parts

    @cached_property
    def _newcomers(self) -> tuple[TensorSpec, ...]:
        if not (self.levels and self.spec.newcomers):
            return ()
        height, width = self.grid.shape
        shape = (1, HIDDEN, (height + 1) // 2, (width + 1) // 2)
        meaning = "what the last raster tells of agents that were not seen yet"
        return (TensorSpec("newcomers", shape, "float32", "", meaning),)

    @cached_property
    def _ego(self) -> tuple[TensorSpec, ...]:
        return (
            TensorSpec("ego_pose", (1, 3), "float32", POSE, "x, y, yaw of the ego when last seen"),
            TensorSpec("ego_twist", (1, 3), "float32", MOTION, "its motion, in its own frame"),
        )

    @cached_property
    def _scene(self) -> tuple[TensorSpec, ...]:
        points = TensorSpec(
            "lane_point",
            (1, self.points, 3),
            "float32",
            POSE,
            "x, y, yaw of lane centres, one in a square and direction; NaN = none",
        )
        return (*self._map, *self._map_frame, points)

    @property
    def _map_frame(self) -> tuple[TensorSpec, ...]:
        meaning = "the present frame in the map's"
        frame = TensorSpec("map_frame", (1, 3), "float32", POSE, meaning)
        return (frame,) if self._map else ()

    @cached_property
    def _map(self) -> tuple[TensorSpec, ...]:
        layers = self.inputs.map_layers
        if not layers:
            return ()
        shape = (1, len(layers), *self.grid.shape)
        meaning = f"as it was given, 0 or 1: {', '.join(layers)}"
        return (TensorSpec("map", shape, "float32", "", meaning),)

    @cached_property
    def _raster(self) -> tuple[TensorSpec, ...]:
        if not self.levels:
            return ()
        pixels = (1, self.spec.pixel_dim, *self.grid.shape)
        return (
            *self._levels,
            TensorSpec("pixels", pixels, "float32", "", "embedding of every cell"),
            TensorSpec("raster_seen", (1,), "bool", "", "whether a raster was read yet"),
            *self._raster_frame,
        )

    @cached_property
    def _levels(self) -> tuple[TensorSpec, ...]:
        dim = self.spec.hidden_dim
        return tuple(
            TensorSpec(f"level_{index}", (1, dim, *shape), "float32", "", "encoded features")
            for index, shape in enumerate(self.levels)
        )

    @property
    def _pixels(self) -> tuple[TensorSpec, ...]:
        return tuple(spec for spec in self._raster if spec.name == "pixels")

    @cached_property
    def _raster_frame(self) -> tuple[TensorSpec, ...]:
        return (
            self._slots("raster_pose", (3,), POSE, "x, y, yaw at the last raster"),
            TensorSpec(
                "raster_frame", (1, 3), "float32", POSE, "the present frame in the raster's"
            ),
        )

    def _observe(self, name: str) -> GraphSpec:
        moved = (*self._map_frame, self._scene[-1])
        changed = (*self._who, *self._past, *self._moves, *self._ego, *moved)
        state = changed
        if name == "observe_raster":
            changed, state = (*changed, *self._raster), (*changed, *self._raster, *self._map)
        elif self.levels:
            changed = state = (*changed, *self._raster_frame)
        return GraphSpec(name, state, self._seen, (), changed)

    @cached_property
    def _seen(self) -> tuple[TensorSpec, ...]:
        slots = (1, self.slots)
        box = "x, y, yaw, length, width of the slot's agent; NaN = not seen"
        return (
            TensorSpec("slot_id", slots, "int64", "", "id that the slot holds now; 0 = empty"),
            TensorSpec("slot_label", slots, "int64", "", "its class from 1, where it is seen"),
            self._slots("box", (5,), "m, m, rad, m, m", box),
            TensorSpec("time_s", (1,), "float32", "s", "when it was seen; never decreases"),
            TensorSpec("ego", (1, 3), "float32", POSE, "x, y, yaw of the ego"),
            TensorSpec(
                "moved",
                (1, 3),
                "float32",
                POSE,
                "pose of the frame of all this in that of the observation before; 0 = the same",
            ),
        )

    @property
    def _look_ahead(self) -> GraphSpec:
        cells = "whether the agent has a cell in the last raster, though its centre may be off it"
        state = (*self._who, *self._past, *self._moves, *self._map, *self._map_frame)
        if self._newcomers:
            state += (self._levels[0], *self._pixels, *self._raster_frame)
        given = TensorSpec("on_raster", (1, self.slots), "bool", "", cells)
        future = (*self._who[:2], *self._moves[1:], *self._future, *self._newcomers)
        return GraphSpec("look_ahead", state, (given,), (), future)

    @property
    def _step(self) -> GraphSpec:
        raster = (*self._levels, *self._raster_frame) if self.levels else ()
        points = self._scene[-1:]
        state = (*self._who, *self._moves, *self._future, *self._ego, *points, *raster)
        dt = TensorSpec("dt", (1,), "float32", "s", "seconds of the step")
        later = tuple(spec for spec in self._future if spec.name not in ("present_pose", "hidden"))
        return GraphSpec("step", state, (dt,), self._said, (*self._moves, *later))

    @cached_property
    def _said(self) -> tuple[TensorSpec, ...]:
        return (
            self._slots("forecast_pose", (3,), POSE, "x, y, yaw after the step; NaN = no agent"),
            self._slots("existence", (), "", "probability that the agent is still there"),
            self._slots(
                "uncertainty",
                (2,),
                "m",
                "expected error ahead and aside: scales of Laplace distributions; NaN = no agent",
            ),
            self._slots("before", (3,), POSE, "x, y, yaw before the step, for `draw`"),
            self._slots("moving", (), "", "logit of moving, for `draw`"),
            self._slots("decoded", (self.spec.hidden_dim,), "", "decoded queries, for `draw`"),
        )

    @property
    def _draw(self) -> GraphSpec:
        raster = self._raster_frame if self.levels else ()
        elapsed = tuple(spec for spec in self._future if spec.name == "elapsed")
        newcomers = (*elapsed, *self._newcomers) if self._newcomers else ()
        classes, shape = len(self.inputs.classes), self.grid.shape
        labels = "int64"
        outputs = (
            TensorSpec("instance", (1, *shape), labels, "", "id in each cell; 0 = background"),
            TensorSpec("semantic", (1, *shape), labels, "", "class in each cell from 1"),
            TensorSpec("occupancy", (1, classes, *shape), "float32", "", "probability"),
            TensorSpec("flow", (1, 2, *shape), "float32", "m per step", "backward: x, y"),
        )
        state = (*self._who, *self._pixels, *raster, *newcomers)
        return GraphSpec("draw", state, self._said, outputs, ())
