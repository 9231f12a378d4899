"""Where the time of a rollout goes: the program's own functions, each with a stopwatch around it.

Nothing is watched, and nothing costs anything, outside of :func:`watched`.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch

from forecast import workflows
from forecast.data.reader import SequenceReader
from forecast.inference import comparison, job
from forecast.inference.writer import ForecastWriter
from forecast.model import baselines, decoder, detected_input, forecaster
from forecast.model.heads import MotionHead
from forecast.model.layers.mask_heads import DotMaskHead, FpnMaskHead
from forecast.model.query_interaction import QueryInteraction
from forecast.model.scene_attention import LaneAttention, MapCrop, NeighbourAttention
from forecast.storage.resumable import ResumableOutput

SCORING = "baselines and scores"
REST = "the rest"
WATCHED: dict[str, tuple[tuple[Any, str], ...]] = {
    "loading the model": ((job, "load_model_for"),),
    "reading the store": ((SequenceReader, "__getitem__"), (job, "collate")),
    "observing agents": (
        (forecaster, "observe"),
        (detected_input, "observe"),
        (baselines.Baseline, "start"),
        (baselines.Components, "start"),
    ),
    "encoding rasters": ((forecaster.Forecaster, "encode_raster"),),
    "finding and tracking agents": ((detected_input.Detecting, "track"),),
    "making queries": ((forecaster.Forecaster, "begin"),),
    "map crops": ((MapCrop, "forward"),),
    "warping encoded features": ((forecaster.Forecaster, "_warp"),),
    "decoder: neighbours": ((NeighbourAttention, "forward"),),
    "decoder: lanes": ((LaneAttention, "forward"),),
    "decoder: encoded features": ((decoder.DecoderLayer, "_read"),),
    "decoder: the rest": ((decoder.Decoder, "forward"),),
    "motion head": ((MotionHead, "forward"),),
    "query interaction": ((QueryInteraction, "forward"),),
    "moving agents": ((forecaster.Forecaster, "advance"), (baselines.Baseline, "move")),
    "mask head": ((DotMaskHead, "forward"), (FpnMaskHead, "forward")),
    "drawing": ((forecaster.Forecaster, "draw"), (baselines, "rasterize")),
    "writing": ((ForecastWriter, "write"), (ResumableOutput, "keep"), (ResumableOutput, "publish")),
    SCORING: ((comparison.BaselineComparison, "score"), (comparison, "_small")),
    "pictures": ((workflows, "_draw"),),
}
"""Stages in the order in which a rollout comes to them, and the functions that are theirs."""


@dataclass(frozen=True)
class StageTime:
    """What one stage took.

    Attributes:
        stage: Its name.
        seconds: Spent in it, without the stages inside of it.
        share: Of the whole time.
        calls: How often its functions were called.
    """

    stage: str
    seconds: float
    share: float
    calls: int


class Stopwatch:
    """Charges every moment to the innermost stage that is running.

    Attributes:
        seconds: By stage.
        calls: By stage.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()
        self._running, self._since = [REST], time.perf_counter()

    def around(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, with its time charged to ``stage``."""

        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            # Baselines run through functions that are stages of their own elsewhere.
            if self._running[-1] == SCORING:
                return function(*args, **kwargs)
            self.charge()
            self.calls[stage] += 1
            self._running.append(stage)
            try:
                return function(*args, **kwargs)
            finally:
                self.charge()
                self._running.pop()

        return timed

    def charge(self) -> None:
        """Charges the time since the last charge to the stage that is running."""
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()  # what was asked of the device belongs to who asked
        now = time.perf_counter()
        self.seconds[self._running[-1]] += now - self._since
        self._since = now

    def table(self) -> list[StageTime]:
        """Every stage that took part, in the order of a rollout."""
        whole = sum(self.seconds.values()) or 1.0
        return [
            StageTime(stage, self.seconds[stage], self.seconds[stage] / whole, self.calls[stage])
            for stage in (*WATCHED, REST)
            if stage in self.seconds
        ]


@contextmanager
def watched(wanted: bool = True) -> Iterator[list[StageTime]]:
    """Times the rollouts of this process meanwhile; the table is there when the block has ended.

    Args:
        wanted: Whether to; if not, nothing is done and the table stays empty.
    """
    table: list[StageTime] = []
    if not wanted:
        yield table
        return
    stopwatch = Stopwatch()
    with ExitStack() as stack:
        for stage, functions in WATCHED.items():
            for owner, name in functions:
                function = getattr(owner, name)
                setattr(owner, name, stopwatch.around(stage, function))
                stack.callback(setattr, owner, name, function)
        yield table
    stopwatch.charge()
    table += stopwatch.table()
