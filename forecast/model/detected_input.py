"""Detected input: a forecaster whose agents are found and tracked in rasters without ids."""

from __future__ import annotations

from dataclasses import replace

from jaxtyping import Float, Int
from torch import Tensor

from forecast.errors import ConfigError
from forecast.model.forecaster import Forecaster, ForecastState
from forecast.model.scene.agents import observe
from forecast.model.tracking.components import link_components
from forecast.model.tracking.lifecycle import Birth
from forecast.model.tracking.segment import segment
from forecast.model.tracking.tracks import Decide, FrameQueries, Tracks
from forecast.types import BEVSequence, StepForecast


class Detecting:
    """A forecaster that is given rasters without ids: it finds and tracks the agents itself.

    Args:
        model: The forecaster; it must have a memory.

    Raises:
        ConfigError: It has none.
    """

    def __init__(self, model: Forecaster) -> None:
        if model.tracker is None:
            raise ConfigError(
                "a model that reads the raster (model.memory: true) for detected input",
                "one without",
                "use --input tracked or another checkpoint",
            )
        self.model, self.tracker = model, model.tracker

    def start(self, history: BEVSequence) -> ForecastState:
        """Tracks through the history; ids and ``track_state`` of the store are not read."""
        spec = self.model.spec
        decide = Birth(spec.birth, spec.stay, spec.miss_tolerance)
        return self.track(history, decide, rest=True)[0]

    def track(
        self, history: BEVSequence, decide: Decide, rest: bool = False
    ) -> tuple[ForecastState, list[FrameQueries]]:
        """As :meth:`start`, with births decided from outside; also what each frame showed.

        Args:
            history: The past.
            decide: Says who is born and who stays.
            rest: Whether cells that no track covers become agents as well; in training they have
                no truth.
        """
        frames = [self.model.remember(history, frame) for frame in range(history.frames)]
        memories = [memory for memory in frames if memory is not None]
        around = self.model.surroundings(history)
        tracks, decoded = self.tracker(memories, around, decide)
        instance = segment(history.semantic, tracks, history.grid)
        if rest:
            most = max(self.model.spec.slots - self.model.spec.queries, 0)
            taken = tracks.ids.amax(1)  # a track without a cell keeps its id to itself
            instance = link_components(
                history.semantic, history.grid, history.dt_s, most, instance, taken
            )
        found = replace(history, instance=instance, track_state=None, track_class=None)
        agents = observe(found, self.model.spec.slots)
        memory = memories[-1] if self.model.read_memory else None
        state = self.model.begin(agents, around, memory, instance[:, -1])
        known = _contents(tracks, agents.ids)
        return replace(state, content=state.content + self.model.carry(known)), decoded

    def step(self, state: ForecastState) -> tuple[ForecastState, StepForecast]:
        """As the model's."""
        return self.model.step(state)


def _contents(tracks: Tracks, ids: Int[Tensor, "b a"]) -> Float[Tensor, "b a d"]:
    """What the tracker knows of each agent, in the agents' order; zero in empty slots."""
    same = (tracks.ids[:, None] == ids[..., None]) & (ids > 0)[..., None]
    return same.to(tracks.content.dtype) @ tracks.content
