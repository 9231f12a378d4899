"""Leak test: what a model may not read is changed, and its forecast must not differ in a bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from forecast.checkpoint.packaged import packaged
from forecast.data.reader import SequenceReader, collate
from forecast.doctor.clip import Finding
from forecast.errors import ConfigError
from forecast.inference.models import Model, load_model_for
from forecast.inference.request import InputMode
from forecast.loop import rollout
from forecast.parallel import Progress
from forecast.types import BEVSequence, StepForecast

Forecaster = Callable[[BEVSequence], list[StepForecast]]
"""From a whole sequence, future included, to its forecast."""
Perturbation = Callable[[BEVSequence, int, torch.Generator], BEVSequence]
SEED = 0


def change_future(sequence: BEVSequence, history: int, random: torch.Generator) -> BEVSequence:
    """Changes every frame after the present; agents first seen there are removed."""
    later = slice(history, None)

    def scrambled(values: Tensor, time: int) -> Tensor:
        values = values.clone()
        future = values.narrow(time, history, values.shape[time] - history)
        kept = torch.rand(future.shape, generator=random) > 0.5
        future.copy_(future.roll((1, 7), dims=(time, -1)) * kept)
        return values

    state, label, bev = sequence.track_state, sequence.track_class, sequence.bev
    ego_pose = sequence.ego_pose.clone()
    ego_pose[:, later] += torch.randn(ego_pose[:, later].shape, generator=random)
    if state is not None and label is not None:
        unseen = ~torch.isfinite(state[:, :, :history, 0]).any(-1)
        state = state.clone()
        state[:, :, later] += torch.randn(state[:, :, later].shape, generator=random)
        state[unseen] = torch.nan
        label = label.masked_fill(unseen, 0)
    return replace(
        sequence,
        semantic=scrambled(sequence.semantic, 1),
        instance=scrambled(sequence.instance, 1),
        ego_pose=ego_pose,
        track_state=state,
        track_class=label,
        bev=None if bev is None else scrambled(bev, 1),
    )


def change_labels(sequence: BEVSequence, history: int, random: torch.Generator) -> BEVSequence:
    """Changes what a tracker reports of the past: ids, boxes and samples, classes and scores."""
    del history  # the whole sequence gets other labels
    ids = torch.randperm(int(sequence.instance.max()) + 1, generator=random) + 1
    label, score = sequence.track_class, sequence.track_score
    state, seen = sequence.track_state, sequence.track_history
    return replace(
        sequence,
        instance=ids.to(sequence.instance.dtype)[sequence.instance] * (sequence.instance > 0),
        track_state=None if state is None else state.flip(1) + 3.0,
        track_class=None if label is None else label.flip(1),
        track_history=None if seen is None else seen.flip(1) + 3.0,
        track_score=None if score is None else 1.0 - score,
    )


PERTURBATIONS: dict[str, dict[str, Perturbation]] = {
    "tracked": {"the future": change_future},
    "detected": {"the future": change_future, "ids and boxes of the past": change_labels},
}
"""Input mode -> what the model may not know -> how it is changed."""


def leaks(
    forecast: Forecaster, sequence: BEVSequence, history: int, changes: Mapping[str, Perturbation]
) -> Iterator[Finding]:
    """What a forecaster reads of what it may not.

    Args:
        forecast: Is given the whole sequence, as it comes from the store.
        sequence: One.
        history: Frames up to and including the present.
        changes: What is changed, and how.
    """
    random = torch.Generator().manual_seed(SEED)
    own = forecast(sequence)
    if difference := _difference(own, forecast(sequence)):
        yield Finding(f"{difference} from run to run: leaks cannot be told from chance")
        return
    for name, change in changes.items():
        if difference := _difference(own, forecast(change(sequence, history, random))):
            yield Finding(f"{difference} when {name} changes: the model reads it")


def _difference(own: list[StepForecast], other: list[StepForecast]) -> str | None:
    """The first field of the first lead that is not the same to the last bit."""
    for one, two in zip(own, other, strict=True):
        for item in fields(one):
            ours, theirs = getattr(one, item.name), getattr(two, item.name)
            if isinstance(ours, Tensor) and not _equal(ours, theirs):
                return f"{item.name} of lead {one.lead} differs"
    return None


def _equal(one: Tensor, two: Tensor) -> bool:
    """Equality in which NaN equals NaN."""
    return one.shape == two.shape and bool(((one == two) | (one.isnan() & two.isnan())).all())


@dataclass(frozen=True)
class LeakReport:
    """What a leak test found.

    Attributes:
        model: As it was asked for.
        modes: Input modes that the model has, and so were tested.
        sequences: How many were forecast in each mode.
        findings: Input mode -> leaks.
    """

    model: str
    modes: tuple[str, ...]
    sequences: int
    findings: dict[str, list[Finding]]

    @property
    def healthy(self) -> bool:
        """Whether nothing leaks."""
        return not any(self.findings.values())


def examine_model(
    model: str,
    data: str | None = None,
    horizon: int = 6,
    limit: int = 8,
    progress: Progress | None = None,
) -> LeakReport:
    """Leak-tests a model, in each of its input modes, on the sequences of a store.

    Args:
        model: Checkpoint, name of a baseline, or "packaged".
        data: Sequence store; None = the packaged sample.
        horizon: Leads.
        limit: Most sequences, taken evenly from the store.
        progress: Told (forecasts done, forecasts in all).

    Raises:
        ForecastError: The store or the model cannot be read, or they do not fit.
    """
    reader = SequenceReader(data or packaged("sample.zarr"))
    models = _in_each_mode(model, reader)
    chosen = torch.linspace(0, len(reader) - 1, min(limit, len(reader))).round().int().tolist()
    findings: dict[str, list[Finding]] = {mode: [] for mode in models}
    for done, (mode, index) in enumerate((m, i) for m in models for i in chosen):
        found = leaks(
            _whole_path(models[mode], reader.meta.history, horizon),
            reader[index],
            reader.meta.history,
            PERTURBATIONS[mode],
        )
        with torch.inference_mode():
            findings[mode] += [
                replace(one, sequence=index, scene=reader.scenes[index]) for one in found
            ]
        if progress is not None:
            progress(done + 1, len(models) * len(chosen))
    return LeakReport(model, tuple(models), len(chosen), findings)


def _whole_path(model: Model, history: int, horizon: int) -> Forecaster:
    """A rollout as `forecast rollout` makes it: the model is given the history only."""

    def forecast(sequence: BEVSequence) -> list[StepForecast]:
        return list(rollout(model, collate([sequence]).crop(0, history), horizon))

    return forecast


def _in_each_mode(model: str, reader: SequenceReader) -> dict[str, Model]:
    """The model by input mode; modes that it does not have are left out."""
    models: dict[str, Model] = {}
    refusals = []
    modes: tuple[InputMode, ...] = ("tracked", "detected")
    for mode in modes:
        try:
            models[mode] = load_model_for(reader, model, "cpu", mode)
        except ConfigError as refusal:
            refusals.append(refusal)
    if not models:
        raise refusals[0]
    return models
