"""Detected input: a forecaster whose agents are found and tracked in rasters without ids."""

from __future__ import annotations

from dataclasses import replace

from jaxtyping import Float, Int
from torch import Tensor
from torch.profiler import record_function

from forecast.errors import ConfigError
from forecast.model.forecaster import Forecaster, ForecastState
from forecast.model.scene.agents import observe
from forecast.model.tracking.components import link_components
from forecast.model.tracking.lifecycle import TrackManager
from forecast.model.tracking.segment import segment
from forecast.model.tracking.tracks import FrameQueries, Lifecycle, Tracks
from forecast.types import BEVSequence, StepForecast


class Detecting:
    """A forecaster that is given rasters without ids: it finds and tracks the agents itself.

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

    def start(self, history: BEVSequence) -> ForecastState:
        """Tracks through the history; ids and ``track_state`` of the store are not read."""
        spec = self.model.spec
        lifecycle = TrackManager(spec.birth_threshold, spec.track_threshold, spec.miss_tolerance)
        return self.track(history, lifecycle, rest=True)[0]

    @record_function("finding and tracking agents")
    def track(
        self, history: BEVSequence, lifecycle: Lifecycle, rest: bool = False
    ) -> tuple[ForecastState, list[FrameQueries]]:
        """As :meth:`start`, with births decided from outside; also what each frame showed.

        Args:
            history: The past.
            lifecycle: Says which candidates are born and which tracks go on.
            rest: Whether cells that no track covers become agents as well; in training they have
                no truth.
        """
        frames = [self.model.encode_raster(history, frame) for frame in range(history.frames)]
        encoded = [features for features in frames if features is not None]
        context = self.model.scene_context(history)
        tracks, decoded = self.tracker(encoded, context, lifecycle)
        instance = segment(history.semantic, tracks, history.grid)
        if rest:
            most = max(self.model.spec.slots - self.model.spec.queries, 0)
            taken = tracks.ids.amax(1)  # a track without a cell keeps its id to itself
            instance = link_components(
                history.semantic, history.grid, history.dt_s, most, instance, taken
            )
        found = replace(history, instance=instance, track_state=None, track_class=None)
        agents = observe(found, self.model.spec.slots)
        features = encoded[-1] if self.model.spec.raster == "always" else None
        state = self.model.begin(agents, context, features, instance[:, -1])
        known = _track_queries(tracks, agents.ids)
        return replace(state, query=state.query + self.model.track_encoder(known)), decoded

    def step(self, state: ForecastState) -> tuple[ForecastState, StepForecast]:
        """As the model's."""
        return self.model.step(state)


def _track_queries(tracks: Tracks, ids: Int[Tensor, "b a"]) -> Float[Tensor, "b a d"]:
    """What the tracker knows of each agent, in the agents' order; zero in empty slots."""
    same = (tracks.ids[:, None] == ids[..., None]) & (ids > 0)[..., None]
    return same.to(tracks.query.dtype) @ tracks.query
