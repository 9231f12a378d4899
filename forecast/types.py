"""The vocabulary in tensors: what goes into a rollout and what comes out of each step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from forecast.arrays import sequence_arrays
from forecast.errors import DataError
from forecast.grid import BEVGrid

_T = TypeVar("_T")


def map_tensors(value: _T, function: Callable[[Tensor], Tensor]) -> _T:
    """The same value with ``function`` applied to every tensor in it, however deeply nested.

    Descends into frozen dataclasses and tuples; leaves everything else as it is.
    """
    if isinstance(value, Tensor):
        mapped: Any = function(value)
    elif isinstance(value, tuple):
        mapped = tuple(map_tensors(item, function) for item in value)
    elif is_dataclass(value) and not isinstance(value, type):
        mapped = replace(
            value,
            **{
                item.name: map_tensors(getattr(value, item.name), function)
                for item in fields(value)
            },
        )
    else:
        mapped = value
    return cast(_T, mapped)


def on_device(value: _T, device: torch.device | str) -> _T:
    """The same value with every tensor in it on a device."""
    return map_tensors(value, lambda tensor: tensor.to(device, non_blocking=True))


def as_numpy(tensor: Tensor) -> NDArray[Any]:
    """A tensor's values on the CPU; numpy has no bfloat16, which becomes float32."""
    tensor = tensor.detach().cpu()
    return np.asarray((tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy())


@dataclass(frozen=True)
class BEVSequence:
    """A batch of B sequences of T frames, all in the present ego frame (schema ``bev-sequence/2``).

    Rasters may end before the poses do: R <= T frames, at least the history.

    Attributes:
        semantic: 0 background, k = class k - 1.
        instance: 0 background, else the instance id, constant through the sequence.
        ego_pose: x, y, yaw of the ego at each frame, metres and radians.
        map: One 0/1 raster per map layer, or None.
        track_state: x, y, yaw, length, width per track (= id - 1); NaN where absent; or None.
        track_class: Class of each track from 1, 0 = padding; or None.
        track_history: As ``track_state``, but as a tracker observed it, at its own rate, up to and
            including the present; None = the history of ``track_state`` is what was observed.
        sample_time: Seconds of each of its samples, 0 = the present; ascending, NaN = padding, in
            front; or None.
        track_score: The tracker's confidence in each track at each frame; or None.
        map_point: x, y, yaw of lane centres, NaN padded; or None.
        bev: The user's own dense channels; or None.
    """

    grid: BEVGrid
    dt_s: float
    semantic: Int[Tensor, "b r h w"]
    instance: Int[Tensor, "b r h w"]
    ego_pose: Float[Tensor, "b t 3"]
    map: Int[Tensor, "b m h w"] | None = None
    track_state: Float[Tensor, "b n t 5"] | None = None
    track_class: Int[Tensor, "b n"] | None = None
    track_history: Float[Tensor, "b n s 5"] | None = None
    sample_time: Float[Tensor, "b s"] | None = None
    track_score: Float[Tensor, "b n t"] | None = None
    map_point: Float[Tensor, "b p 3"] | None = None
    bev: Float[Tensor, "b r c h w"] | None = None

    @classmethod
    def from_numpy(
        cls,
        grid: BEVGrid,
        dt_s: float,
        *,
        ego_pose: ArrayLike,
        semantic: ArrayLike | None = None,
        instance: ArrayLike | None = None,
        track_state: ArrayLike | None = None,
        track_class: ArrayLike | None = None,
        track_history: ArrayLike | None = None,
        sample_time: ArrayLike | None = None,
        track_score: ArrayLike | None = None,
        map: ArrayLike | None = None,
        map_point: ArrayLike | None = None,
        bev: ArrayLike | None = None,
    ) -> BEVSequence:
        """Sequences from arrays: rasters, boxes or both; the axis B may be left out.

        Args:
            grid: Where the cells are.
            dt_s: Seconds between frames.
            ego_pose: ``(T, 3)`` x, y, yaw of the ego, in the present ego frame as all else.
            semantic: ``(T, H, W)`` 0 background, k = class k - 1. Without it the class of each id.
            instance: ``(T, H, W)`` 0 background, else the instance id. Without it the boxes drawn,
                or no ids where there are no boxes.
            track_state: ``(N, T, 5)`` x, y, yaw, length, width of id 1 to N; NaN where absent.
            track_class: ``(N,)`` class of each, from 1.
            track_history: ``(N, S, 5)`` the same as observed, at a rate of its own, up to the
                present; without it the history of ``track_state`` is what was observed.
            sample_time: ``(S,)`` seconds of these samples, ascending to 0, the present.
            track_score: ``(N, T)`` the tracker's confidence.
            map: ``(M, H, W)`` 0 or 1, a raster per map layer.
            map_point: ``(P, 3)`` x, y, yaw of lane centres.
            bev: ``(T, C, H, W)`` the user's own channels.

        Raises:
            DataError: An array is missing, or has another shape or values than these.
        """
        given: dict[str, ArrayLike | None] = {
            "ego_pose": ego_pose,
            "semantic": semantic,
            "instance": instance,
            "track_state": track_state,
            "track_class": track_class,
            "track_history": track_history,
            "sample_time": sample_time,
            "track_score": track_score,
            "map": map,
            "map_point": map_point,
            "bev": bev,
        }
        if not (math.isfinite(dt_s) and dt_s > 0):
            raise DataError("seconds between frames above 0 as dt_s", str(dt_s), "correct it")
        arrays = sequence_arrays(grid, {k: v for k, v in given.items() if v is not None})
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return cls(grid=grid, dt_s=float(dt_s), **tensors)

    @property
    def batch(self) -> int:
        """Number of sequences."""
        return self.semantic.shape[0]

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.ego_pose.shape[1]

    def crop(self, start: int, stop: int, step: int = 1) -> BEVSequence:
        """Every ``step``-th frame from ``start`` to ``stop`` (exclusive).

        A model may see ``crop(0, history)``, where ``history`` frames end at the present. There
        ``track_history`` ends too: it is left out where frames begin later or are skipped, and of
        fewer frames from the first it would tell their future.
        """
        frames = slice(start, stop, step)
        state, bev, score = self.track_state, self.bev, self.track_score
        same_present = start == 0 and step == 1
        return replace(
            self,
            dt_s=self.dt_s * step,
            semantic=self.semantic[:, frames],
            instance=self.instance[:, frames],
            ego_pose=self.ego_pose[:, frames],
            track_state=None if state is None else state[:, :, frames],
            track_history=self.track_history if same_present else None,
            sample_time=self.sample_time if same_present else None,
            track_score=None if score is None else score[:, :, frames],
            bev=None if bev is None else bev[:, frames],
        )

    def mirror(self) -> BEVSequence:
        """The scene as a mirror beside the ego shows it: left and right swapped, the grid's too."""
        state, points, seen = self.track_state, self.map_point, self.track_history
        signs = _mirror_signs(self.ego_pose)
        return replace(
            self,
            grid=self.grid.mirror(),
            semantic=self.semantic.flip(-2),
            instance=self.instance.flip(-2),
            ego_pose=self.ego_pose * signs[:3],
            map=None if self.map is None else self.map.flip(-2),
            track_state=None if state is None else state * signs,
            track_history=None if seen is None else seen * signs,
            map_point=None if points is None else points * signs[:3],
            bev=None if self.bev is None else self.bev.flip(-2),
        )

    def to(self, device: torch.device | str) -> BEVSequence:
        """The same sequences on a device."""
        return on_device(self, device)


@dataclass(frozen=True)
class SceneContext:
    """What does not move in B scenes, in the frame of the observations.

    Attributes:
        map: Map layers (for a model also the user's dense channels) as numbers in 0..1.
        points: Lane centres x, y, yaw; NaN padded; None where there are none.
        grid: The grid of ``map`` and of all rasters.
        given: The map layers as they were given. Where the frame moves, ``map`` is drawn anew from
            these, or parts of a cell would be lost with every move. None = ``map``.
        frame: Pose of the present frame in that of ``given``; None = the same.
    """

    map: Float[Tensor, "b m h w"]
    points: Float[Tensor, "b p 3"] | None
    grid: BEVGrid
    given: Float[Tensor, "b g h w"] | None = None
    frame: Float[Tensor, "b 3"] | None = None

    @property
    def batch(self) -> int:
        """Number of scenes."""
        return self.map.shape[0]

    def mirror(self) -> SceneContext:
        """The scene as a mirror beside the ego shows it."""
        points = self.points
        return SceneContext(
            self.map.flip(-2),
            None if points is None else points * _mirror_signs(points)[:3],
            self.grid.mirror(),
        )


@dataclass(frozen=True)
class Observation:
    """What was seen of B scenes at one moment: tracks, rasters or both.

    Attributes:
        time_s: When; it never decreases from one observation to the next.
        ego_pose: x, y, yaw of the ego.
        track_id: Id of each track, from 1; 0 = padding; None where no tracks are given.
        track_state: x, y, yaw, length, width of each; NaN where it was not seen; or None.
        track_class: Class of each from 1; or None.
        semantic: 0 background, k = class k - 1; None where no raster was made at this moment.
        instance: 0 background, else the id; or None.
        bev: The user's own dense channels; or None.
        moved: Pose of the frame that all of this is given in, in the frame of the observation
            before; None = the same frame.
    """

    time_s: Float[Tensor, "b"]
    ego_pose: Float[Tensor, "b 3"]
    track_id: Int[Tensor, "b n"] | None = None
    track_state: Float[Tensor, "b n 5"] | None = None
    track_class: Int[Tensor, "b n"] | None = None
    semantic: Int[Tensor, "b h w"] | None = None
    instance: Int[Tensor, "b h w"] | None = None
    bev: Float[Tensor, "b c h w"] | None = None
    moved: Float[Tensor, "b 3"] | None = None

    def mirror(self) -> Observation:
        """The same as a mirror beside the ego shows it."""
        signs = _mirror_signs(self.ego_pose)

        def flipped(raster: Tensor | None) -> Tensor | None:
            return None if raster is None else raster.flip(-2)

        return replace(
            self,
            ego_pose=self.ego_pose * signs[:3],
            track_state=None if self.track_state is None else self.track_state * signs,
            semantic=flipped(self.semantic),
            instance=flipped(self.instance),
            bev=flipped(self.bev),
            moved=None if self.moved is None else self.moved * signs[:3],
        )


def _mirror_signs(like: Tensor) -> Float[Tensor, "5"]:
    """Of x, y, yaw, length and width, where left and right are swapped."""
    return like.new_tensor([1.0, -1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Draws:
    """Which realizations of a batch of sequences are drawn; the same ones are always the same.

    Attributes:
        seed: Of all random numbers, at least 0.
        first: Place of the batch's first sequence among all that are forecast.
        realizations: Their numbers, from 0.
    """

    seed: int
    first: int
    realizations: range


@dataclass(frozen=True)
class RealizationStep:
    """One future step of K realizations of B sequences, A agent slots each.

    Attributes:
        ids: Instance id of each slot, the same in all realizations; 0 = the slot is empty.
        label: Class of each slot from 1; 0 = the slot is empty.
        pose: x, y, yaw in the present frame; NaN = no such agent, or gone in this realization.
        instance: Label maps of ids; None where they are not drawn.
    """

    ids: Int[Tensor, "b a"]
    label: Int[Tensor, "b a"]
    pose: Float[Tensor, "b k a 3"]
    instance: Int[Tensor, "b k h w"] | None = None


@dataclass(frozen=True)
class Realization:
    """One of several possible futures of B sequences: one consistent scene in each of them.

    Attributes:
        number: Which one it is, from 0.
        ids: Instance id of each slot; 0 = the slot is empty.
        label: Class of each slot from 1; 0 = the slot is empty.
        pose: x, y, yaw at every lead, in the present frame; NaN = no such agent, or gone.
        instance: Label map of ids at every lead; None where masks were not asked for.
    """

    number: int
    ids: Int[Tensor, "b a"]
    label: Int[Tensor, "b a"]
    pose: Float[Tensor, "b t a 3"]
    instance: Int[Tensor, "b t h w"] | None = None

    def to_numpy(self) -> dict[str, NDArray[Any]]:
        """All but the number as arrays by name, in the shapes above; without what is None."""
        said = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        return {name: as_numpy(tensor) for name, tensor in said.items()}


def without_tracks(sequence: BEVSequence) -> BEVSequence:
    """The same sequences with rasters alone."""
    return replace(
        sequence,
        track_state=None,
        track_class=None,
        track_history=None,
        sample_time=None,
        track_score=None,
    )


@dataclass(frozen=True)
class StepForecast:
    """One future step of B sequences: A agent slots, and the rasters drawn from them.

    Attributes:
        lead: Steps after the present, from 1.
        ids: Instance id of each slot; 0 = the slot is empty.
        label: Class of each slot from 1; 0 = the slot is empty.
        pose: x, y, yaw in the present frame; NaN = none.
        existence: Probability that the agent is still there.
        instance: Label map of ids.
        semantic: Most likely class, 0 = background.
        occupancy: Probability of each class.
        flow: Backward flow (x, y), metres per step, at the destination cell.
        uncertainty: Expected error of the pose, metres ahead and aside of the agent: the scales of
            Laplace distributions; None = the model does not say.
    """

    lead: int
    ids: Int[Tensor, "b a"]
    label: Int[Tensor, "b a"]
    pose: Float[Tensor, "b a 3"]
    existence: Float[Tensor, "b a"]
    instance: Int[Tensor, "b h w"]
    semantic: Int[Tensor, "b h w"]
    occupancy: Float[Tensor, "b k h w"]
    flow: Float[Tensor, "b 2 h w"]
    uncertainty: Float[Tensor, "b a 2"] | None = None

    def to_numpy(self) -> dict[str, NDArray[Any]]:
        """All but the lead as arrays by name, in the shapes above; without what is None."""
        said = {name: value for name, value in vars(self).items() if value is not None}
        tensors = {name: value for name, value in said.items() if name != "lead"}
        return {name: as_numpy(tensor) for name, tensor in tensors.items()}
