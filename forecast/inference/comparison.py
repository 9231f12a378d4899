"""The forecast and the baselines scored side by side, while the sequences are at hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.profiler import record_function

from forecast.evaluation.counts import Forecast, Truth, oracle
from forecast.evaluation.scores import Accumulator, Scores
from forecast.loop import StepModel, rollout
from forecast.model.baselines import Baseline, Components
from forecast.model.spec import BASELINES, COMPONENTS
from forecast.schema import SequenceMeta
from forecast.types import BEVSequence, StepForecast

SCORING = "baselines and scores"
"""What a profile calls this work, and all that the baselines do in it."""


class BaselineComparison:
    """Scores the forecast and the baselines on the same sequences, as far as truth is known.

    Args:
        meta: Of the store.
        horizon: Leads forecast; scored up to the store's own horizon.
        tracked: Whether forecast ids are the truth's, so that poses compare.
    """

    def __init__(self, meta: SequenceMeta, horizon: int, tracked: bool) -> None:
        self.meta = meta
        self.forecast_horizon = horizon
        self.horizon = min(horizon, meta.horizon)
        self.tracked = tracked
        classes = len(meta.classes)
        self.baselines: dict[str, StepModel[Any, StepForecast]] = {
            name: Baseline(name, classes, least_cell=meta.small_drawn) for name in BASELINES
        }
        if not tracked:
            self.baselines[COMPONENTS] = Components(Baseline("constant-velocity", classes))
        self.accumulators = {
            name: Accumulator(meta.classes, max(self.horizon, 1), meta.grid)
            for name in ("forecast", *self.baselines, "oracle")
        }
        self._kept: dict[str, list[dict[str, Any]]] = {}

    def watch(self, name: str, steps: Iterable[StepForecast]) -> Iterator[StepForecast]:
        """Passes steps on, keeping what scoring needs of those whose truth is known."""
        self._kept[name] = []
        for step in steps:
            if step.lead <= self.horizon:
                self._kept[name].append(_small(step))
            yield step

    @record_function(SCORING)
    def score(
        self, batch: BEVSequence, scenes: Iterable[str], history: BEVSequence | None = None
    ) -> None:
        """Rolls the baselines out on the same batch and counts everything.

        Args:
            batch: The truth.
            scenes: Of each of its sequences.
            history: What the forecast was made from; None = that of the batch.
        """
        if self.horizon < 1:
            return
        history = batch.crop(0, self.meta.history) if history is None else history
        for name, baseline in self.baselines.items():
            for _ in self.watch(name, rollout(baseline, history, self.horizon)):
                pass
        seen = _seen(history)
        for index, scene in enumerate(scenes):
            truth = self._truth(batch, index, scene)
            for name, steps in self._kept.items():
                tracks = 0 if truth.track_state is None else len(truth.track_state)
                with_pose = self.tracked or name in BASELINES
                forecast = _forecast(steps, index, tracks if with_pose else 0)
                self.accumulators[name].add(truth, forecast)
            self.accumulators["oracle"].add(truth, oracle(truth, self.meta.grid, seen[index]))

    def counted(self) -> dict[str, Any]:
        """What was counted so far, as plain JSON values."""
        return {name: one.counted() for name, one in self.accumulators.items()}

    def merge(self, counted: Mapping[str, Any]) -> None:
        """Adds what another comparison of the same store counted."""
        for name, one in self.accumulators.items():
            one.merge(counted[name])

    def results(self, model: str) -> dict[str, Scores]:
        """Scores of the forecast under its model's name, the other baselines and the oracle.

        Where the truth has no ids, left out are the oracle, which is made of them, and, if the
        forecast reads none, the baselines that do: both would seem to miss everything.
        """
        if self.horizon < 1:
            return {}
        names: dict[str, str] = {
            "forecast": model,
            **{name: name for name in self.baselines if name != model},
            "oracle": "oracle",
        }
        scores = {
            shown: self.accumulators[name].scores(
                protocol=self.meta.protocol,
                model=shown,
                input=self._input(name),
                dt_s=self.meta.dt_s,
                forecast_horizon=self.forecast_horizon,
            )
            for name, shown in names.items()
        }
        if scores[model].lack_ids:
            read = self._input("forecast")
            return {shown: one for shown, one in scores.items() if one.input == read}
        return scores

    def _input(self, name: str) -> str:
        """What an entrant reads; the oracle reads no history."""
        if name == "forecast":
            return "tracked" if self.tracked else "detected"
        return {"oracle": "", COMPONENTS: "detected"}.get(name, "tracked")

    def _truth(self, batch: BEVSequence, index: int, scene: str) -> Truth:
        state, label = batch.track_state, batch.track_class
        truth = Truth(
            semantic=batch.semantic[index].numpy(),
            instance=batch.instance[index].numpy(),
            track_state=None if state is None else state[index].numpy(),
            track_class=None if label is None else label[index].numpy(),
            scene=scene,
        )
        return truth.from_present(self.meta.history, self.horizon)


def _seen(history: BEVSequence) -> list[NDArray[np.int64]]:
    """The ids that each history shows on the grid, in tracks or in cells."""
    seen = [np.unique(one[one > 0]).astype(np.int64) for one in history.instance.cpu().numpy()]
    for tracks in (history.track_state, history.track_history):
        if tracks is not None:
            shown = history.grid.contains(tracks[..., 0], tracks[..., 1]).any(-1).cpu().numpy()
            pairs = zip(seen, shown, strict=True)
            seen = [np.union1d(ids, np.flatnonzero(one) + 1) for ids, one in pairs]
    return seen


def seen_at_present(batch: BEVSequence, meta: SequenceMeta) -> list[NDArray[np.int64]]:
    """The ids that are on the grid at present and observed there, of each sequence."""
    now, state = meta.history - 1, batch.track_state
    if state is None:
        return [np.unique(one[one > 0]).astype(np.int64) for one in batch.instance[:, now].numpy()]
    there = meta.grid.contains(state[:, :, now, 0], state[:, :, now, 1])
    if batch.track_history is not None:
        there &= torch.isfinite(batch.track_history[:, :, -1]).all(-1)
    return [np.flatnonzero(one) + 1 for one in there.numpy()]


@record_function(SCORING)
def _small(step: StepForecast) -> dict[str, Any]:
    return {
        "semantic": step.semantic.cpu().numpy().astype(np.uint8),
        "instance": step.instance.cpu().numpy().astype(np.uint16),
        "ids": step.ids.cpu().numpy(),
        "pose": step.pose.float().cpu().numpy(),
    }


def _forecast(steps: list[dict[str, Any]], index: int, tracks: int) -> Forecast:
    """One sequence's leads; poses by track where ``tracks`` > 0."""
    pose = np.full((len(steps), tracks, 3), np.nan, np.float32)
    for lead, step in enumerate(steps if tracks else []):
        slots = step["ids"][index] > 0
        pose[lead, step["ids"][index][slots] - 1] = step["pose"][index][slots]
    return Forecast(
        semantic=np.stack([step["semantic"][index] for step in steps]),
        instance=np.stack([step["instance"][index] for step in steps]),
        pose=pose if tracks else None,
    )
