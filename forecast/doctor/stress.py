"""Stress test: how scores fall as what is observed gets worse, and who is still ahead then."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from data_tools.labels.rasterise import rasterise_boxes
from forecast.checkpoint.packaged import packaged
from forecast.config.data import Corruption
from forecast.data.corruption import corrupt
from forecast.data.reader import SequenceReader, collate
from forecast.errors import DataError
from forecast.evaluation.scores import Accumulator, Gain, gain, values
from forecast.inference.comparison import BaselineComparison
from forecast.inference.models import LoadedModel, load_model_for
from forecast.loop import rollout
from forecast.parallel import Progress
from forecast.types import BEVSequence

SCORES = ("vpq_moving", "ade_moving", "iou")
BATCH = 8
SEED = 0


@dataclass(frozen=True)
class Fault:
    """One kind of fault, and how bad it gets.

    Attributes:
        name: As it is shown.
        setting: Of ``Corruption``.
        unit: Of the levels.
        levels: From none on.
        scale: What turns a level into the setting's unit.
    """

    name: str
    setting: str
    unit: str
    levels: tuple[float, ...]
    scale: float = 1.0

    def corruption(self, level: float) -> Corruption:
        """This fault alone, at a level."""
        value = level * self.scale
        return Corruption.fixed(**{self.setting: int(value) if self.unit == "samples" else value})


FAULTS = (
    Fault("position noise", "position_m", "m", (0, 0.05, 0.1, 0.2, 0.3, 0.5)),
    Fault("heading noise", "heading_rad", "degrees", (0, 1, 3, 8), math.pi / 180),
    Fault("misses", "miss", "%", (0, 10, 30, 50), 0.01),
    Fault("latency", "latency", "samples", (0, 1, 2, 5)),
    Fault("id switches", "switch", "%", (0, 5, 20), 0.01),
)


@dataclass(frozen=True)
class StressPoint:
    """The scores of all forecasters at one level of one fault.

    Attributes:
        fault: Its name.
        unit: Of the level.
        level: How bad it is.
        scores: Score -> forecaster -> value; None where there is nothing to score.
        rival: The best baseline by VPQ moving; None where there is nothing to score.
        ahead: What the model's VPQ moving is above that one's, with its interval.
    """

    fault: str
    unit: str
    level: float
    scores: dict[str, dict[str, float | None]]
    rival: str | None
    ahead: Gain | None


@dataclass(frozen=True)
class StressReport:
    """What a stress test found.

    Attributes:
        model: As it was asked for.
        data: The store.
        label: The class that is scored.
        sequences: How many were forecast at each level.
        scenes: How many recordings they are from.
        points: Fault by fault, level by level.
    """

    model: str
    data: str
    label: str
    sequences: int
    scenes: int
    points: tuple[StressPoint, ...]

    @property
    def forecasters(self) -> tuple[str, ...]:
        """The model, then the baselines."""
        return tuple(self.points[0].scores[SCORES[0]])

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; an undefined score is null."""
        return asdict(self)


def examine_robustness(
    model: str,
    data: str | None = None,
    horizon: int = 6,
    limit: int = 64,
    progress: Progress | None = None,
    faults: Sequence[Fault] = FAULTS,
) -> StressReport:
    """Scores a model and the baselines while one kind of fault after the other grows.

    What is observed is made worse, rasters of the history included; the truth is the store's. All
    levels of a fault get the same random draws, so that they differ in the level alone.

    Args:
        model: Checkpoint, name of a baseline, or "packaged".
        data: Sequence store; None = the packaged sample.
        horizon: Leads.
        limit: Most sequences, taken evenly from the store.
        progress: Told (batches done, batches in all).
        faults: What is made worse, and by how much.

    Raises:
        ForecastError: The store or the model cannot be read, they do not fit, or the store has no
            tracks or no future.
    """
    reader = SequenceReader(data or packaged("sample.zarr"))
    _check_store(reader)
    test = _StressTest(reader, load_model_for(reader, model, "auto"), horizon, limit)
    conditions = [(fault, level) for fault in faults for level in fault.levels]
    total = test.batches * (1 + sum(level > 0 for _, level in conditions))
    done = 0

    def count(how: Corruption | None) -> BaselineComparison:
        nonlocal done
        comparison = test.comparison()
        for _ in test.count(comparison, how):
            done += 1
            if progress is not None:
                progress(done, total)
        return comparison

    clean = count(None)
    label = "vehicle" if "vehicle" in reader.meta.classes else reader.meta.classes[0]
    points = [
        _point(model, fault, level, label, count(fault.corruption(level)) if level else clean)
        for fault, level in conditions
    ]
    scenes = len(clean.accumulators["forecast"].sums())
    return StressReport(model, reader.path, label, len(test.chosen), scenes, tuple(points))


def _check_store(reader: SequenceReader) -> None:
    if "track_state" not in reader.variables:
        raise DataError(
            "a store with tracks, which faults of a tracker can be put on",
            f"no track_state in {reader.path}",
            "prepare one from tracks",
        )
    if reader.meta.horizon < 1 or not len(reader):
        raise DataError(
            "a store with sequences that have a future to score against",
            f"{len(reader)} sequences of horizon {reader.meta.horizon} in {reader.path}",
            "prepare one with `forecast prepare --horizon`",
        )


class _StressTest:
    """Sequences of a store, forecast under one fault after the other."""

    def __init__(
        self, reader: SequenceReader, model: LoadedModel, horizon: int, limit: int
    ) -> None:
        self.reader, self.model, self.horizon = reader, model, horizon
        last, number = len(reader) - 1, min(limit, len(reader))
        self.chosen: list[int] = torch.linspace(0, last, number).round().int().tolist()
        self.batches = -(-number // BATCH)

    def comparison(self) -> BaselineComparison:
        """A comparison in which nothing is counted yet."""
        return BaselineComparison(self.reader.meta, self.horizon, tracked=True)

    def count(self, comparison: BaselineComparison, how: Corruption | None) -> Iterator[None]:
        """Forecasts and counts batch by batch; None = what is observed is left as it is."""
        generator = torch.Generator().manual_seed(SEED)
        history = self.reader.meta.history
        for start in range(0, len(self.chosen), BATCH):
            places = self.chosen[start : start + BATCH]
            batch = collate([self.reader[place] for place in places])
            seen = batch.crop(0, history)
            if how is not None:
                seen = redrawn(corrupt(seen, how, history, generator))
            steps = rollout(self.model, seen, self.horizon)
            for _ in comparison.watch("forecast", steps):
                pass
            comparison.score(batch, [self.reader.scenes[place] for place in places], seen)
            yield


def redrawn(history: BEVSequence) -> BEVSequence:
    """A history whose rasters show the tracks as they were observed.

    Args:
        history: With ``track_history``; frames that are half a frame's time from all of its samples
            are emptied.
    """
    seen, time, label = history.track_history, history.sample_time, history.track_class
    if seen is None or time is None or label is None:
        return history
    instance = torch.zeros_like(history.instance)
    semantic = torch.zeros_like(history.semantic)
    for index in range(history.batch):
        classes = torch.cat((label.new_zeros(1), label[index]))
        for frame in range(history.frames):
            off = (time[index] - (frame + 1 - history.frames) * history.dt_s).abs()
            nearest = int(off.nan_to_num(torch.inf).argmin())
            if not float(off[nearest]) <= history.dt_s / 2:  # as frames join samples
                continue
            there = torch.isfinite(seen[index, :, nearest]).all(-1) & (label[index] > 0)
            boxes = seen[index, there, nearest].double().numpy()
            ids = (there.nonzero()[:, 0] + 1).numpy().astype(np.uint16)
            frames = np.zeros(len(ids), np.int64)
            drawn = rasterise_boxes(boxes, frames, ids, 1, history.grid)[0].astype(np.int64)
            instance[index, frame] = torch.from_numpy(drawn).to(instance)
            semantic[index, frame] = classes[torch.from_numpy(drawn)].to(semantic)
    return replace(history, instance=instance, semantic=semantic)


def _point(
    model: str, fault: Fault, level: float, label: str, comparison: BaselineComparison
) -> StressPoint:
    """What was counted at one level as scores, and who is ahead."""
    counted: dict[str, Accumulator] = {
        model if name == "forecast" else name: accumulator
        for name, accumulator in comparison.accumulators.items()
        if name not in ("oracle", model)
    }
    found: dict[str, dict[str, float | None]] = {score: {} for score in SCORES}
    for name, accumulator in counted.items():
        sums = accumulator.sums()[:, accumulator.classes.index(label)].sum(axis=0)
        for score in SCORES:
            value = float(values(sums)[score])
            found[score][name] = value if math.isfinite(value) else None
    first = found[SCORES[0]]
    rivals = {name: value for name, value in first.items() if name != model and value is not None}
    rival = max(rivals, key=lambda name: rivals[name]) if rivals else None
    ahead = None if rival is None else gain(counted[model], counted[rival], SCORES[0]).get(label)
    return StressPoint(fault.name, fault.unit, level, found, rival, ahead)
