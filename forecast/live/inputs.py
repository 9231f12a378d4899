"""What a stack says of one moment, checked before any of it reaches a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data_tools.scene import LONGEST_M
from forecast.errors import DataError, counted
from forecast.grid import BEVGrid
from forecast.live.checks import Array, finite, floats, refusing, short

FARTHEST_M = 1e9  # no world frame of anything on Earth reaches as far


@dataclass(frozen=True)
class Tracks:
    """The agents that a tracker shows at one moment; of N agents, each a value.

    Attributes:
        ids: Who each is: numbers, text or anything hashable, the same from frame to frame. An agent
            whose id is None or NaN is left out: it could not be followed.
        x: World x of the middle of each box, metres.
        y: World y.
        yaw: Heading, radians, counter-clockwise from the world's x axis.
        length: Along the heading, metres.
        width: Across it.
        classes: Name of each agent's class, such as "vehicle".
        score: The tracker's confidence in each, finite; None = it gives none.
    """

    ids: Sequence[Hashable] | NDArray[Any]
    x: ArrayLike
    y: ArrayLike
    yaw: ArrayLike
    length: ArrayLike
    width: ArrayLike
    classes: Sequence[str] | NDArray[Any]
    score: ArrayLike | None = None

    @classmethod
    def none(cls) -> Tracks:
        """A moment at which the tracker shows no agent."""
        return cls((), (), (), (), (), (), ())


@dataclass(frozen=True)
class Raster:
    """What was perceived around the ego, on the forecaster's grid in the ego frame of the moment.

    Attributes:
        semantic: ``(H, W)`` 0 background, k = class k - 1.
        instance: ``(H, W)`` 0 background, else an id that stays the agent's, where ``semantic`` has
            a class; None = not known. Detected input does not read it.
        bev: ``(C, H, W)`` your own channels, of a model that was trained with some; or None.
    """

    semantic: ArrayLike
    instance: ArrayLike | None = None
    bev: ArrayLike | None = None


@dataclass(frozen=True)
class Agents:
    """Tracks that were checked, as numbers.

    Attributes:
        ids: Who each of the N is.
        state: ``(N, 5)`` x, y, yaw, length, width in the world.
        label: ``(N,)`` class of each from 1.
        unusable: How many were left out for NaN, infinity, a place or size that none has, or no id.
        below_score: How many were left out for their score.
    """

    ids: tuple[Hashable, ...]
    state: Array
    label: NDArray[np.int64]
    unusable: int = 0
    below_score: int = 0


@dataclass(frozen=True)
class Moment:
    """Everything that was said of one moment.

    Attributes:
        time_s: When, on the stack's clock.
        ego_pose: ``(3,)`` x, y, yaw of the ego in the world.
        agents: What the tracker showed; None = it was not asked.
        raster: What was perceived, as arrays of whole numbers; or None.
    """

    time_s: float
    ego_pose: Array = field(repr=False)
    agents: Agents | None = None
    raster: Raster | None = None

    def completes(self, other: Moment) -> bool:
        """Whether one of the two has tracks alone, the other a raster alone."""
        alone = {(one.agents is None, one.raster is None) for one in (self, other)}
        return alone == {(True, False), (False, True)}

    def joined(self, later: Moment) -> Moment:
        """The same moment, of which something more or something else was said."""
        agents = self.agents if later.agents is None else later.agents
        raster = self.raster if later.raster is None else later.raster
        return replace(later, time_s=self.time_s, agents=agents, raster=raster)


def checked_time(time_s: float) -> float:
    """A time in seconds.

    Raises:
        DataError: It is not a finite number.
    """
    return float(finite("time_s", time_s, ()))


def checked_pose(pose: ArrayLike, name: str = "ego_pose") -> Array:
    """A pose ``(3,)``.

    Raises:
        DataError: It is not three finite numbers, or as far away as no agent may be.
    """
    array = finite(name, pose, (3,))
    if not (np.abs(array) < FARTHEST_M).all():
        wanted = f"{name} below {FARTHEST_M:g} m and rad"
        raise DataError(wanted, f"{array}", f"correct {name}")
    return array


@refusing("tracks of which every column is a sequence", "correct tracks")
def checked_tracks(tracks: Tracks, classes: Sequence[str], min_score: float) -> Agents:
    """The agents of which all is known; the others are counted.

    Args:
        tracks: As a stack gave them.
        classes: Names that may occur, in the order of their numbers.
        min_score: Agents below it are left out.

    Raises:
        DataError: Columns are not of one length or hold no numbers, an id is there twice or cannot
            be one, or a class has another name.
    """
    ids = _ids(tracks.ids)
    names = ("x", "y", "yaw", "length", "width")
    columns = [_column(name, getattr(tracks, name), len(ids)) for name in names]
    named = np.array([not _is_missing(id_) for id_ in ids], bool)
    state = np.stack(columns, axis=1)
    label = _labels(tracks.classes, len(ids), classes)
    near = (np.abs(state[:, :3]) < FARTHEST_M).all(axis=1)  # False where NaN
    good = named & near & ((state[:, 3:] > 0) & (state[:, 3:] < LONGEST_M)).all(axis=1)
    sure = np.ones(len(ids), bool)
    if tracks.score is not None:
        score = _column("score", tracks.score, len(ids))
        good, sure = good & np.isfinite(score), score >= min_score
    kept = good & sure
    return Agents(
        tuple(id_ for id_, keep in zip(ids, kept.tolist(), strict=True) if keep),
        state[kept],
        label[kept],
        unusable=int((~good).sum()),
        below_score=int((good & ~sure).sum()),
    )


@refusing("a raster of arrays of one shape each", "correct raster")
def checked_raster(raster: Raster, grid: BEVGrid, classes: int, channels: int | None) -> Raster:
    """The raster as arrays of whole numbers.

    Args:
        raster: As a stack gave it.
        grid: Of the forecaster.
        classes: How many there are.
        channels: How many channels of one's own the model reads; None = none of any number.

    Raises:
        DataError: An array has another shape or other values than it may have.
    """
    semantic = _whole("semantic", raster.semantic, grid, classes)
    instance = raster.instance
    if instance is not None:
        instance = _whole("instance", instance, grid, np.iinfo(np.int64).max)
        if unknown := int(((semantic == 0) & (instance > 0)).sum()):
            wanted = "a class in semantic wherever instance has an id"
            raise DataError(
                wanted, f"{counted(unknown, 'cell')} without", "set instance to 0 there"
            )
    bev = raster.bev
    if channels:
        shape = (channels, *grid.shape)
        bev = np.zeros(shape) if bev is None else finite("bev", bev, shape)
    elif bev is not None:
        got = f"an array of shape {np.shape(bev)}"
        raise DataError("no bev: the model reads no channels of yours", got, "leave bev out")
    return Raster(semantic, instance, bev)


def _column(name: str, value: ArrayLike, count: int) -> Array:
    wanted = f"a number for each of {count} ids in {name}"
    array = floats(wanted, name, value)
    if array.shape != (count,):
        raise DataError(wanted, f"shape {array.shape}", f"correct {name}")
    return array


def _ids(ids: Sequence[Hashable] | NDArray[Any]) -> list[Hashable]:
    listed = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
    try:
        times = Counter(listed)
    except TypeError as error:
        raise DataError("ids that can be hashed", short(listed), "use text or numbers") from error
    for id_, count in times.items():
        if count > 1 and not _is_missing(id_):
            raise DataError("every id once in a frame", f"{short(id_)} twice", "drop or rename one")
    return listed


def _is_missing(id_: Hashable) -> bool:
    """Whether it is None or NaN, which tables have where there is no id."""
    return id_ is None or id_ != id_


def _labels(
    names: Sequence[str] | NDArray[Any], count: int, classes: Sequence[str]
) -> NDArray[np.int64]:
    listed = names.tolist() if isinstance(names, np.ndarray) else list(names)
    if len(listed) != count:
        got = f"{len(listed)} names"
        raise DataError(f"a class for each of {count} ids", got, "correct classes")
    number = {name: place for place, name in enumerate(classes, start=1)}
    for name in listed:
        if not isinstance(name, str) or name not in number:
            known = ", ".join(classes)
            raise DataError(f"a class of {known}", short(name), "rename it, or leave the agent out")
    return np.array([number[name] for name in listed], np.int64)


def _whole(name: str, value: ArrayLike, grid: BEVGrid, most: int) -> NDArray[np.int64]:
    wanted = f"whole numbers from 0 to {most} in {name} of shape {grid.shape}"
    array = np.asarray(value)
    if array.shape != grid.shape or array.dtype.kind not in "iub":
        got = f"{array.dtype} of shape {array.shape}"
        raise DataError(wanted, got, f"correct {name}, or the forecaster's grid")
    whole = array.astype(np.int64)
    if whole.min() < 0 or whole.max() > most:
        raise DataError(wanted, f"{array.min()} to {array.max()}", f"correct {name}")
    return whole
