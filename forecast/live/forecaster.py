"""A forecaster that a stack tells of every frame, and asks for the next seconds at any time."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike, fspath
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from data_tools.geometry import poses_to_frame
from forecast.checkpoint.packaged import PACKAGED
from forecast.errors import MOST, ConfigError, DataError
from forecast.grid import GRIDS, BEVGrid
from forecast.inference.models import LoadedModel, load_model
from forecast.inference.request import InputMode
from forecast.live.checks import number, of_kind, refuse_unless, short, whole
from forecast.live.frames import observation, off_grid, scene_around
from forecast.live.ids import IdPool, leaps
from forecast.live.inputs import (
    Moment,
    Raster,
    Tracks,
    checked_pose,
    checked_raster,
    checked_time,
    checked_tracks,
)
from forecast.live.outputs import Counts, LiveForecast, collected
from forecast.live.states import agents_in, later, moved_to, with_map_of, without
from forecast.live.world_map import WorldMap
from forecast.loop import branches
from forecast.model.scene.agents import LONGEST_HIDDEN_S, MEMORY, MoreAgentsThanSlots
from forecast.observations import SAME_MOMENT_S
from forecast.schema import MAP_LAYERS
from forecast.types import Draws

LONGEST_GAP_S = 2.0  # after a longer one nothing that was known is worth keeping
ROUNDING_S = 1e-3  # of a time that is told twice; trackers of 50 Hz tell of frames 20 ms apart
MOST_REALIZATIONS = 10_000
SHORTEST_STEP_S, LONGEST_STEP_S = 0.01, 10.0
JITTER_S = 0.03  # by which a frame may be early for the next raster

Place = Literal["first", "next", "again", "late", "anew"]
"""When a moment is, beside the one before."""


@dataclass(frozen=True)
class _Carried:
    """What is carried from moment to moment.

    Attributes:
        state: Of the model, in the ego frame of the moment; its time 0 is the moment's.
        time_s: When, on the stack's clock.
        ego_pose: ``(3,)`` of the ego in the world.
        ids: Numbers of those who are known, as of this moment; never changed.
        raster_s: When the last raster was read; -inf = never.
        frame: Which moment it is, counted.
    """

    state: Any
    time_s: float
    ego_pose: NDArray[np.float64]
    ids: IdPool
    raster_s: float = -math.inf
    frame: int = 0


class Forecaster:
    """Observes frame by frame, in world coordinates of any size, and forecasts from the last.

    Args:
        model: "packaged", a checkpoint, a baseline's name, or a model that is loaded already.
        grid: Around the ego, of all rasters; or its name, such as "bev-30m".
        input_mode: Whether agents come with ids ("tracked"), or are found in rasters ("detected").
        device: Where a model that is loaded by name computes; "auto" is CUDA where there is one.
        mirror: Whether the forecast is averaged with that of the mirrored scene.
        fast: Whether the model leaves rasters out.
        raster_every_s: How often a raster is drawn of the tracks and read, and the map with it;
            inf = only of moments that come with one, and of those that are forecast from.
        min_score: Tracks of a lower score are left out.

    Raises:
        CheckpointError: The checkpoint is missing or damaged.
        ConfigError: The model cannot read this kind of input, or an option is out of range.
    """

    def __init__(
        self,
        model: str | PathLike[str] | LoadedModel = PACKAGED,
        *,
        grid: BEVGrid | str = GRIDS["bev-100m"],
        input_mode: InputMode = "tracked",
        device: str | torch.device = "auto",
        mirror: bool = False,
        fast: bool = False,
        raster_every_s: float = 0.5,
        min_score: float = 0.0,
    ) -> None:
        around, modes = _grid_of(grid), get_args(InputMode)
        refuse_unless(input_mode in modes, f"input_mode as one of {', '.join(modes)}", input_mode)
        named = isinstance(device, str | torch.device)
        refuse_unless(named, "device as text, such as 'cpu'", device)
        refuse_unless(number(raster_every_s) > 0, "raster_every_s above 0", raster_every_s)
        scored = math.isfinite(number(min_score))
        refuse_unless(scored, "min_score as a finite number", min_score)
        if isinstance(model, str | PathLike):
            model = load_model(
                fspath(model),
                input_mode=input_mode,
                device=device,
                mirror=mirror,
                fast=fast,
                map_layers=MAP_LAYERS,
            )
        wanted = "model as a name, a checkpoint's path, or a model that is loaded"
        refuse_unless(isinstance(model, LoadedModel), wanted, model)
        self.model, self.grid, self.tracked = model, around, input_mode == "tracked"
        self.raster_every_s, self.min_score = raster_every_s, min_score
        self.reset()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that agents may be of."""
        return self.model.classes

    @property
    def counts(self) -> Counts:
        """What became of everything that was given since the beginning."""
        return self._total

    def reset(self) -> None:
        """Forgets everything, the map and the counts too."""
        self._map, self._total = WorldMap(), Counts()
        self._before: _Carried | None = None
        self._now: _Carried | None = None
        self._moment: Moment | None = None

    def observe(
        self,
        time_s: float,
        *,
        ego_pose: ArrayLike,
        tracks: Tracks | None = None,
        raster: Raster | None = None,
        map: WorldMap | None = None,
    ) -> Counts:
        """Takes a moment in; whatever is refused changes nothing.

        The moment before may be told of again: what is given now takes the place of what was; a
        raster and tracks up to 30 ms apart are of one moment. A moment before it is late, and left
        out. After a gap of more than 2 s, a clock set back by
        more than 2 s, or a leap that no vehicle makes, everything is forgotten first.

        Args:
            time_s: When, seconds on the stack's clock.
            ego_pose: ``(3,)`` x, y, yaw of the ego in the world, metres and radians.
            tracks: The agents, in the world; with them the raster is drawn of them.
            raster: What was perceived around the ego.
            map: The map from now on; None = the one before.

        Returns:
            What became of this call; :attr:`counts` sums them up.

        Raises:
            DataError: Something is not what it should be, or neither tracks nor a raster fit.
        """
        moment = self._checked(time_s, ego_pose, tracks, raster)
        world = self._map if map is None else of_kind("map", map, WorldMap)
        place, before = self._place(moment), self._now
        if place == "late":
            return self._counted(Counts(late=1))
        if place == "anew":
            before = None
        if place == "again" and self._moment is not None:
            before, moment = self._before, self._moment.joined(moment)
        self._refuse_unreadable(moment, None if before is None else self._moment)
        now = self._advanced(before, moment, world, self._reads(before, moment))
        # Only here, when all has gone well, is anything changed.
        self._before, self._now, self._moment, self._map = before, now, moment, world
        return self._counted(_left_out(moment, now, place, self.grid))

    def forecast(
        self,
        horizon: int = 6,
        dt_s: float = 0.5,
        realizations: int | None = None,
        seed: int = 0,
    ) -> LiveForecast:
        """The next seconds from the last moment on; asking changes nothing.

        Args:
            horizon: Number of leads, 1 to 10,000.
            dt_s: Seconds between them, 0.01 to 10.
            realizations: How many futures are drawn beside the forecast, 1 to 10,000; None = none.
            seed: Of their random numbers, the same ones at every call.

        Raises:
            ConfigError: Nothing was observed yet, the horizon, the step, the number of realizations
                or the seed is out of range, or the model knows one future only.
        """
        horizon = whole("horizon", horizon, 1, MOST["horizon"])
        count = 0
        if realizations is not None:
            count = whole("realizations", realizations, 1, MOST_REALIZATIONS)
        seed = whole("seed", seed, 0, 2**32 - 1)
        reason = "in a shorter step float32 rounds motions away"
        wanted = f"dt_s from {SHORTEST_STEP_S:g} to {LONGEST_STEP_S:g} s ({reason})"
        step_s = number(dt_s)
        refuse_unless(SHORTEST_STEP_S <= step_s <= LONGEST_STEP_S, wanted, dt_s)
        now, moment = self._now, self._moment
        if now is None or moment is None:
            raise ConfigError("an observation before the first forecast", "none", "observe a frame")
        if now.raster_s != now.time_s:  # a forecast starts from a raster of its own moment
            now = self._advanced(self._before, moment, self._map, reads=True)
        state, steps = now.state, []
        for _ in range(horizon):
            state, step = self.model.step(state, step_s)
            steps.append(step)
        draws = Draws(seed, 0, range(count))
        futures = branches(self.model, now.state, horizon, step_s, draws) if count else ()
        return collected(
            steps,
            [one.pose for one in futures],
            agents_in(state),
            now.ids.owner if self.tracked else int,
            self.classes,
            time_s=moment.time_s,
            dt_s=step_s,
            grid=self.grid,
            grid_pose=moment.ego_pose,
        )

    def _checked(
        self, time_s: float, ego_pose: ArrayLike, tracks: Tracks | None, raster: Raster | None
    ) -> Moment:
        """The moment as numbers, without the ids of rasters in which agents are to be found."""
        agents, names = None, self.classes
        if tracks is not None:
            agents = checked_tracks(of_kind("tracks", tracks, Tracks), names, self.min_score)
        if raster is not None:
            raster = of_kind("raster", raster, Raster)
            raster = raster if self.tracked else replace(raster, instance=None)
            raster = checked_raster(raster, self.grid, len(names), self.model.bev_channels)
        return Moment(checked_time(time_s), checked_pose(ego_pose), agents, raster)

    def _place(self, moment: Moment) -> Place:
        last = self._moment
        if last is None:
            return "first"
        since_s = moment.time_s - last.time_s
        if abs(since_s) > LONGEST_GAP_S or (since_s >= 0 and _leaps(last, moment)):
            return "anew"
        # Clocks of tracker and camera jitter.
        if abs(since_s) <= (SAME_MOMENT_S if moment.completes(last) else ROUNDING_S):
            return "again"
        return "next" if since_s > 0 else "late"

    def _refuse_unreadable(self, moment: Moment, last: Moment | None) -> None:
        """Refuses a moment of which the model, or the state that it has, can make nothing."""
        agents, raster = moment.agents, moment.raster
        if self.tracked and agents is None and (raster is None or raster.instance is None):
            got = "neither" if raster is None else "a raster without ids"
            remedy = "give Tracks.none() where no agent is seen, or use input_mode='detected'"
            raise DataError("tracks or a raster with ids", got, remedy)
        if self.tracked and agents is None and raster is not None and _lacks_ids(raster):
            remedy = "give their ids, or use input_mode='detected'"
            raise DataError("ids in instance, for tracked input", "classes without ids", remedy)
        if not self.tracked and (raster is None or agents is not None):
            got = "no raster" if raster is None else "tracks too"
            raise DataError("a raster and no tracks, for detected input", got, "correct the call")
        # Sizes and headings of masks and of boxes do not compare.
        if last is not None and (last.agents is None) != (agents is None):
            kinds = ("tracks", "a raster alone")
            before, now = kinds if agents is None else kinds[::-1]
            remedy = f"give {before} in every frame, or call reset()"
            raise DataError(f"{before}, as in the frame before", now, remedy)

    def _reads(self, before: _Carried | None, moment: Moment) -> bool:
        """Whether a raster is read at a moment."""
        last_s = -math.inf if before is None else before.raster_s
        due = moment.time_s - last_s > self.raster_every_s - JITTER_S
        return due or moment.raster is not None

    @torch.inference_mode()
    def _advanced(
        self, before: _Carried | None, moment: Moment, world: WorldMap, reads: bool
    ) -> _Carried:
        """What is carried on from a moment.

        Args:
            before: What was carried to it; None = nothing was observed before.
            moment: What was seen.
            world: The map.
            reads: Whether a raster is read; the map around the ego is then drawn anew.
        """
        fresh = state = None
        if before is None or reads:
            layers = self.model.map_layers
            fresh = self.model.start(scene_around(world, moment.ego_pose, self.grid, layers))
        if before is not None:
            state = self._brought(before, moment)
            state = (
                state if fresh is None else with_map_of(state, fresh, self.model.bev_channels or 0)
            )
        frame = 0 if before is None else before.frame + 1
        ids = IdPool(MEMORY, LONGEST_HIDDEN_S + ROUNDING_S) if before is None else before.ids.copy()
        numbers = partial(ids.numbers, time_s=moment.time_s, frame=frame)
        seen = observation(moment, numbers, reads, self.grid)
        state = state if state is None else without(state, ids.leapt)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MoreAgentsThanSlots)  # they are counted
            state = self.model.observe(fresh if state is None else state, seen)
        last_s = -math.inf if before is None else before.raster_s
        raster_s = moment.time_s if reads else last_s
        return _Carried(state, moment.time_s, moment.ego_pose, ids, raster_s, frame)

    def _brought(self, before: _Carried, moment: Moment) -> Any:
        """The state as it was, seen from where and when the ego is now."""
        moved = poses_to_frame(moment.ego_pose, before.ego_pose).astype(np.float32)
        state = later(before.state, moment.time_s - before.time_s)
        return moved_to(state, torch.from_numpy(moved)[None].to(self.model.device))

    def _counted(self, counts: Counts) -> Counts:
        self._total += counts
        return counts


def _grid_of(grid: BEVGrid | str) -> BEVGrid:
    found = GRIDS.get(grid) if isinstance(grid, str) else grid
    if not isinstance(found, BEVGrid):
        wanted = f"grid as a forecast.grid.BEVGrid, or one of {', '.join(GRIDS)}"
        raise ConfigError(wanted, short(grid), "correct it")
    return found


def _lacks_ids(raster: Raster) -> bool:
    """Whether a raster shows classes, and not one id."""
    return bool(np.any(raster.semantic)) and not np.any(raster.instance)


def _leaps(last: Moment, moment: Moment) -> bool:
    """Whether the ego has gone farther than any vehicle does: a localisation that was corrected."""
    before, now = last.ego_pose[:2].tolist(), moment.ego_pose[:2].tolist()
    return leaps(before, now, moment.time_s - last.time_s)


def _left_out(moment: Moment, now: _Carried, place: Place, grid: BEVGrid) -> Counts:
    """What became of a moment that was observed."""
    agents = moment.agents
    known = set(agents_in(now.state).ids.flatten().tolist())
    lacking = now.ids.without_slot(now.frame, known)
    away = [] if agents is None else off_grid(agents, moment.ego_pose, grid)
    return Counts(
        frames=int(place != "again"),
        again=int(place == "again"),
        restarts=int(place == "anew"),
        unusable=0 if agents is None else agents.unusable,
        below_score=0 if agents is None else agents.below_score,
        no_slot=len(lacking),
        off_grid=sum(id_ not in lacking for id_ in away),
    )
