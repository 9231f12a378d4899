"""What the frames of a recording hold, every value checked as it is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from data_tools.sources.rasters_files import DIMS
from data_tools.sources.tracks_table import MAX_YAW_RAD
from forecast.errors import DataError
from forecast.schema import MAP_LAYERS

Array = NDArray[np.float64]

MAX_BYTES = 2**32  # of the frames taken, in memory


@dataclass(frozen=True)
class Frames:
    """The frames taken of a recording.

    Args:
        data: The recording.
        taken: ``(N,)`` where they are along its time.
        unit: Its name, for errors.
    """

    data: xr.Dataset
    taken: NDArray[np.int64]
    unit: str

    def __post_init__(self) -> None:
        sizes = [self.data[name][:1].nbytes for name in DIMS if name in self.data]
        if sum(sizes) * len(self.taken) > MAX_BYTES:
            raise DataError(
                f"frames of {MAX_BYTES} bytes at most",
                f"{len(self.taken)} of {sum(sizes)} in {self.unit}",
                "split the recording",
            )

    def labels(self, name: str, highest: int | None = None) -> NDArray[Any]:
        """Whole numbers from 0, up to ``highest`` if that is given."""
        values = self._read(name)
        if values.dtype.kind not in "biu":
            raise DataError(
                f"whole numbers in {name}", f"{values.dtype} in {self.unit}", "convert them"
            )
        top = np.iinfo(np.int64).max if highest is None else highest
        self._refuse((values < 0) | (values > top), f"0 to {top} in {name}", values)
        return values

    def numbers(self, name: str) -> NDArray[Any]:
        """Finite numbers."""
        values = self._read(name)
        if values.dtype.kind not in "biuf":
            raise DataError(f"numbers in {name}", f"{values.dtype} in {self.unit}", "convert them")
        self._refuse(~np.isfinite(values), f"finite numbers in {name}", values)
        return values

    def poses(self) -> Array:
        """x, y, yaw of the ego, ``(N, 3)``."""
        pose = self.numbers("ego_pose").astype(np.float64)
        if pose.shape[1] != 3:
            raise DataError(
                "x, y, yaw in ego_pose", f"{pose.shape[1]} in {self.unit}", "correct it"
            )
        degrees = np.abs(pose[:, 2:]) > MAX_YAW_RAD
        self._refuse(degrees, "yaw in radians (these look like degrees)", pose[:, 2:])
        return pose

    def channels(self) -> tuple[str, ...]:
        """Names of the channels of ``bev``."""
        if "bev" not in self.data:
            return ()
        return names(self.data["channel"].values, "channel", self.unit)

    def bev(self) -> NDArray[np.float32]:
        """The channels, ``(N, C, H, W)``."""
        if "bev" in self.data:
            return self.numbers("bev").astype(np.float32)
        return np.empty((len(self.taken), 0, *self.data["semantic"].shape[1:]), np.float32)

    def layers(self) -> NDArray[np.uint8] | None:
        """The map, ``(N, M, H, W)``, layers as in ``MAP_LAYERS``."""
        if "map" not in self.data:
            return None
        given = names(self.data["map_layer"].values, "map_layer", self.unit)
        strange = [name for name in given if name not in MAP_LAYERS]
        if strange:
            raise DataError(
                f"map layers of {', '.join(MAP_LAYERS)}",
                f"{strange[0]!r} in {self.unit}",
                "make it a channel of bev",
            )
        values = self.labels("map", 1)
        layers = np.zeros((len(values), len(MAP_LAYERS), *values.shape[2:]), np.uint8)
        layers[:, [MAP_LAYERS.index(name) for name in given]] = values
        return layers

    def _read(self, name: str) -> NDArray[Any]:
        return np.asarray(self.data[name].isel(time=self.taken).values)

    def _refuse(self, wrong: NDArray[np.bool_], expected: str, values: NDArray[Any]) -> None:
        """Raises for the first value that is wrong, if any.

        Raises:
            DataError: There is one.
        """
        if wrong.any():
            place = np.unravel_index(int(wrong.argmax()), wrong.shape)
            where = f"{values[place]!s} in frame {self.taken[place[0]]} of {self.unit}"
            raise DataError(expected, where, "correct the frame (the first is 0)")


def names(given: Any, what: str, unit: str) -> tuple[str, ...]:
    """Different names, as a list or as text with commas between."""
    listed = given.split(",") if isinstance(given, str) else given
    found = tuple(str(name).strip() for name in (listed if np.iterable(listed) else ()))
    if not found or len({name.lower() for name in found}) < len(found):
        raise DataError(f"different names in {what}", f"{list(found)} in {unit}", "name them")
    return found
