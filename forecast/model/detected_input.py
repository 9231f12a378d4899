"""Detected input: a forecaster whose agents are found and tracked in rasters without ids."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.profiler import record_function

from forecast.errors import ConfigError
from forecast.model.forecaster import Forecaster
from forecast.model.raster_encoder import EncodedFeatures
from forecast.model.scene.agents import Agents
from forecast.model.state import ForecastState
from forecast.model.tracking.components import LinkedFrame, Parts, link_components
from forecast.model.tracking.frames import has_raster, labelled, remembered
from forecast.model.tracking.lifecycle import TrackManager
from forecast.model.tracking.segment import segment
from forecast.model.tracking.tracks import Lifecycle, Tracks
from forecast.types import Observation, SceneContext, StepForecast


@dataclass(frozen=True)
class DetectingState:
    """What was found so far: no frames, and no more after many than after a few.

    Attributes:
        forecast: The state of the forecaster, which knows the agents that were found.
        tracks: The tracks after the last frame.
        parts: Who is who in the last rasters of each sequence.
    """

    forecast: ForecastState
    tracks: Tracks
    parts: tuple[Parts, ...]

    def seen_from(self, moved: Float[Tensor, "b 3"]) -> DetectingState:
        """The same in another ego frame, whose pose in the present one is given."""
        return DetectingState(
            self.forecast.seen_from(moved),
            self.tracks.seen_from(moved),
            tuple(part.seen_from(by) for part, by in zip(self.parts, moved, strict=True)),
        )


class Detecting:
    """A forecaster that is given rasters without ids: it finds and tracks the agents itself.

    Only who is who differs from tracked input: once that is found out in a frame, the frame is
    observed as any other.

    Args:
        model: The forecaster; it must have a raster encoder.
        teacher: In training: says which candidates are born and which tracks go on, under ids of
            its own. Cells that no track covers become no agents then: they have no truth.

    Raises:
        ConfigError: The model has none.
    """

    reads_tracks = False

    def __init__(self, model: Forecaster, teacher: Lifecycle | None = None) -> None:
        if model.tracker is None:
            raise ConfigError(
                "a model that reads the raster (model.raster not none) for detected input",
                "one without",
                "use --input tracked or another checkpoint",
            )
        self.model, self.tracker, self.teacher = model, model.tracker, teacher

    def start(self, context: SceneContext) -> DetectingState:
        """The state before anything was seen."""
        forecast = self.model.start(context)
        tracks = self.tracker.start(forecast.context)
        return DetectingState(forecast, tracks, (Parts.none(),) * context.batch)

    def observe(self, state: DetectingState, frame: Observation) -> DetectingState:
        """Finds the agents of a frame, and observes them; its ids and tracks are not read.

        A frame without a raster tells nothing.

        Raises:
            DataError: A frame has no raster, but another ego frame than the one before.
        """
        if not has_raster(frame):
            return state
        if frame.moved is not None:
            state, frame = state.seen_from(frame.moved), replace(frame, moved=None)
        context = self.model.context_at(state.forecast.context, frame)
        assert frame.semantic is not None
        features = self.model.encode_raster(context, frame.semantic)
        tracks, found = self._find(state, frame, features, context)
        agents, order = remembered(state.forecast.agents, found.known)
        forecast = self.model.observe(
            state.forecast.take(order, agents), labelled(frame, found.instance), features
        )
        return DetectingState(forecast, replace(tracks, agent=found.agent), found.parts)

    @record_function("finding and tracking agents")
    def _find(
        self,
        state: DetectingState,
        frame: Observation,
        features: EncodedFeatures,
        context: SceneContext,
    ) -> tuple[Tracks, LinkedFrame]:
        """The tracks after a frame, and who is who in it."""
        spec, grid, semantic = self.model.spec, context.grid, frame.semantic
        assert semantic is not None
        since_s = state.forecast.agents.since_last(frame.time_s)
        lifecycle = self.teacher or TrackManager(
            spec.birth_threshold, spec.track_threshold, spec.miss_tolerance
        )
        tracks, _ = self.tracker(state.tracks, features, context, since_s, lifecycle)
        tracked = segment(semantic, tracks, grid)
        if self.teacher is not None:
            own = tracks.ids.clamp(min=0)
            known = torch.cat((own, _seen_twice(state.forecast.agents)), 1)
            return tracks, LinkedFrame(tracked, state.parts, known, own)
        most = max(spec.slots - spec.queries, 0)
        found = link_components(state.parts, semantic, since_s, grid, most, tracks, tracked)
        return tracks, found

    def look_ahead(self, state: DetectingState) -> ForecastState:
        """From observing to forecasting: the model's own state, told what the tracker knows."""
        forecast = self.model.look_ahead(state.forecast)
        known = _track_queries(state.tracks, forecast.agents.ids)
        return replace(forecast, query=forecast.query + self.model.track_encoder(known))

    def step(self, state: DetectingState, dt_s: float) -> tuple[DetectingState, StepForecast]:
        """As the model's."""
        forecast = state.forecast if state.forecast.ahead else self.look_ahead(state)
        forecast, step = self.model.step(forecast, dt_s)
        return replace(state, forecast=forecast), step


def _seen_twice(agents: Agents) -> Int[Tensor, "b a"]:
    """Ids of agents that are remembered while they are hidden, as parts are; 0 = no such agent."""
    return torch.where(agents.seen.sum(-1) > 1, agents.ids, 0)


def _track_queries(tracks: Tracks, ids: Int[Tensor, "b a"]) -> Float[Tensor, "b a d"]:
    """What the tracker knows of each agent, in the agents' order; zero where it knows nothing."""
    same = (tracks.agent[:, None] == ids[..., None]) & (ids > 0)[..., None]
    same = same & (tracks.ids > 0)[:, None]
    return same.to(tracks.query.dtype) @ tracks.query
