"""Detected input: a forecaster whose agents are found and tracked in rasters without ids."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jaxtyping import Float, Int
from torch import Tensor
from torch.profiler import record_function

from forecast.errors import ConfigError
from forecast.model.forecaster import Forecaster
from forecast.model.frame_window import FrameWindow
from forecast.model.state import ForecastState
from forecast.model.tracking.components import link_components
from forecast.model.tracking.lifecycle import TrackManager
from forecast.model.tracking.segment import segment
from forecast.model.tracking.tracks import FrameQueries, Lifecycle, Tracks
from forecast.types import Observation, SceneContext, StepForecast


@dataclass(frozen=True)
class DetectingState:
    """The frames so far and, once a step was made, the agents that were found in them."""

    window: FrameWindow
    forecast: ForecastState | None = None


class Detecting:
    """A forecaster that is given rasters without ids: it finds and tracks the agents itself.

    Only who is who differs from tracked input: once the tracker has said that, the frames are
    observed as any others.

    Args:
        model: The forecaster; it must have a raster encoder.

    Raises:
        ConfigError: It has none.
    """

    def __init__(self, model: Forecaster) -> None:
        if model.tracker is None:
            raise ConfigError(
                "a model that reads the raster (model.raster not none) for detected input",
                "one without",
                "use --input tracked or another checkpoint",
            )
        self.model, self.tracker = model, model.tracker

    def start(self, context: SceneContext) -> DetectingState:
        """The state before anything was seen."""
        return DetectingState(FrameWindow(self.model.start(context).context))

    def observe(self, state: DetectingState, frame: Observation) -> DetectingState:
        """Encodes a frame; its ids and tracks are not read."""
        if frame.semantic is None:
            return state
        context = self.model.context_at(state.window.context, frame)
        features = self.model.encode_raster(context, frame.semantic)
        return DetectingState(state.window.with_frame(frame, features))

    def look_ahead(self, window: FrameWindow) -> ForecastState:
        """The agents that the tracker finds in the frames."""
        spec = self.model.spec
        lifecycle = TrackManager(spec.birth_threshold, spec.track_threshold, spec.miss_tolerance)
        return self.track(window, lifecycle, rest=True)[0]

    @record_function("finding and tracking agents")
    def track(
        self, window: FrameWindow, lifecycle: Lifecycle, rest: bool = False
    ) -> tuple[ForecastState, list[FrameQueries]]:
        """As :meth:`look_ahead`, with births decided from outside; also what each frame showed.

        Args:
            window: The past.
            lifecycle: Says which candidates are born and which tracks go on.
            rest: Whether cells that no track covers become agents as well; in training they have
                no truth.
        """
        encoded = [features for features in window.features if features is not None]
        grid, semantic = window.context.grid, window.semantic
        tracks, decoded = self.tracker(encoded, window.context, lifecycle)
        instance = segment(semantic, tracks, grid)
        if rest:
            most = max(self.model.spec.slots - self.model.spec.queries, 0)
            taken = tracks.ids.amax(1)  # a track without a cell keeps its id to itself
            instance = link_components(semantic, grid, window.dt_s, most, instance, taken)
        state = self.model.start(window.context)
        reads = self.model.spec.raster == "always"
        for frame, features in zip(window.labelled(instance), encoded, strict=True):
            state = self.model.observe(state, frame, features if reads else None)
        state = self.model.look_ahead(state)
        known = _track_queries(tracks, state.agents.ids)
        return replace(state, query=state.query + self.model.track_encoder(known)), decoded

    def step(self, state: DetectingState, dt_s: float) -> tuple[DetectingState, StepForecast]:
        """As the model's."""
        forecast, step = self.model.step(state.forecast or self.look_ahead(state.window), dt_s)
        return replace(state, forecast=forecast), step


def _track_queries(tracks: Tracks, ids: Int[Tensor, "b a"]) -> Float[Tensor, "b a d"]:
    """What the tracker knows of each agent, in the agents' order; zero in empty slots."""
    same = (tracks.ids[:, None] == ids[..., None]) & (ids > 0)[..., None]
    return same.to(tracks.query.dtype) @ tracks.query
