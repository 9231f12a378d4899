"""The last frames without ids, which are found and linked together when a forecast is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

from forecast.errors import DataError
from forecast.model.raster_encoder import EncodedFeatures
from forecast.types import Observation, SceneContext

# Frames that are remembered: two seconds at 2 Hz.
LONGEST = 5


@dataclass(frozen=True)
class FrameWindow:
    """The last frames with rasters, oldest first.

    Attributes:
        context: Map and lanes.
        frames: The frames.
        features: Their encoded features; None of those that were not encoded.
    """

    context: SceneContext
    frames: tuple[Observation, ...] = ()
    features: tuple[EncodedFeatures | None, ...] = ()

    def with_frame(
        self, frame: Observation, features: EncodedFeatures | None = None
    ) -> FrameWindow:
        """With one more frame, and without the oldest; a frame without a raster tells nothing.

        Raises:
            DataError: The ego frame has moved: rasters of several ego frames cannot be linked.
        """
        if frame.moved is not None:
            raise DataError(
                "rasters of one ego frame for detected input", "a frame that moved", "warp them"
            )
        if frame.semantic is None:
            return self
        return replace(
            self,
            frames=(*self.frames, frame)[-LONGEST:],
            features=(*self.features, features)[-LONGEST:],
        )

    @property
    def semantic(self) -> Int[Tensor, "b t h w"]:
        """Class maps of all frames."""
        if not self.frames:
            raise DataError("a frame with a raster for detected input", "none", "observe one")
        return torch.stack([_raster(frame) for frame in self.frames], 1)

    @property
    def dt_s(self) -> float:
        """Seconds from frame to frame, on average."""
        times = self.frames[0].time_s, self.frames[-1].time_s
        steps = max(len(self.frames) - 1, 1)
        return float((times[1] - times[0]).mean()) / steps

    def labelled(self, instance: Int[Tensor, "b t h w"]) -> Iterator[Observation]:
        """The frames with ids instead of whatever tracks and ids they had."""
        for frame, labels in zip(self.frames, instance.unbind(1), strict=True):
            yield replace(frame, instance=labels, track_id=None, track_state=None, track_class=None)


def _raster(frame: Observation) -> Tensor:
    assert frame.semantic is not None
    return frame.semantic
