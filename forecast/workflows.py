"""What the commands do, from top to bottom: train, roll out to a store, evaluate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader

from forecast import breakdown
from forecast.breakdown import Row
from forecast.checkpoint import Checkpoint, load_checkpoint
from forecast.config import Config
from forecast.data.reader import SequenceReader, collate
from forecast.errors import ConfigError, DataError
from forecast.identity import unchanged
from forecast.metrics import Forecast, Truth, ceiling
from forecast.model.baselines import (
    BASELINES,
    COMPONENT_SLOTS,
    COMPONENTS,
    Baseline,
    Components,
)
from forecast.model.detecting import Detecting
from forecast.model.forecaster import Forecaster
from forecast.model.mirrored import Mirrored
from forecast.output import ForecastWriter
from forecast.rollout import StepModel, rollout
from forecast.schema import open_forecast_store, open_sequence_store
from forecast.scores import Accumulator, Scores, score_stores
from forecast.staging import refuse_existing
from forecast.types import BEVSequence, StepForecast

Model = StepModel[Any, StepForecast]
Progress = Callable[[int, int], None]
GIF_SEQUENCES = 3
NOT_LEARNED = (*BASELINES, COMPONENTS)


@dataclass(frozen=True)
class RolloutRequest:
    """What to forecast, with what, and where to.

    Attributes:
        data: Sequence store; None = the packaged sample.
        model: Baseline's name or checkpoint; None = the packaged checkpoint.
        output: Forecast store to write.
        gif: Animation to write, or None.
        horizon: Leads.
        input_mode: Whether the history's ids are read.
        mirror: Whether the forecast is averaged with that of the mirrored scene.
        limit: Only the first so many sequences.
        batch_size: Sequences at a time.
        device: "auto" or torch's name of a device.
        overwrite: Whether existing outputs are replaced.
    """

    data: str | None = None
    model: str | None = None
    output: str = "forecast.zarr"
    gif: str | None = None
    horizon: int = 6
    input_mode: Literal["tracked", "detected"] = "tracked"
    mirror: bool = False
    limit: int | None = None
    batch_size: int = 8
    device: str = "auto"
    overwrite: bool = False


@dataclass(frozen=True)
class RolloutSummary:
    """What a rollout left behind.

    Attributes:
        output: The forecast store.
        gif: The animation, or None.
        sequences: How many were forecast.
        seconds: Spent forecasting and writing, without the baselines and scores.
        scores: Of the model and the baselines; empty where the truth is unknown.
    """

    output: str
    gif: str | None
    sequences: int
    seconds: float
    scores: Mapping[str, Scores] = field(default_factory=dict)


def train(config: Config, data: Sequence[str], val: str | None, output: str, resume: bool) -> None:
    """Trains a forecaster; see ``forecast.training.run.run_training``."""
    from forecast.training.run import run_training  # Lightning takes seconds to import

    run_training(config, data, val, output, resume)


def evaluate(forecast: str, data: str, progress: Progress | None = None) -> Scores:
    """Scores a forecast store against a sequence store; see ``forecast.scores.score_stores``."""
    with unchanged(forecast, data):
        return score_stores(forecast, data, _counted(progress))


def break_down(
    forecast: str, data: str, questions: Sequence[str], progress: Progress | None = None
) -> list[Row]:
    """Errors on moving agents by group; see ``forecast.breakdown.break_down``."""
    chosen = [name for name in breakdown.QUESTIONS if name in questions]
    with unchanged(forecast, data):
        return breakdown.break_down(forecast, data, chosen, _counted(progress))


def _counted(progress: Progress | None) -> Callable[[Iterable[int]], Iterator[int]]:
    """Tells a progress bar how many of some sequences are done."""

    def counted(sequences: Iterable[int]) -> Iterator[int]:
        indices = list(sequences)
        for done, index in enumerate(indices, start=1):
            yield index
            if progress is not None:
                progress(done, len(indices))

    return counted


def rollout_to_store(request: RolloutRequest, progress: Progress | None = None) -> RolloutSummary:
    """Forecasts every sequence of a store, streamed to disk, and scores it where truth is known.

    Args:
        request: What to do.
        progress: Told (sequences done, sequences in all) after each batch.

    Raises:
        ForecastError: An input cannot be read or does not fit, or the output cannot be written.
    """
    if request.gif is not None and not request.overwrite:
        refuse_existing(request.gif)
    reader = SequenceReader(request.data or packaged("sample.zarr"))
    device = choose_device(request.device)
    model, about = load_model(request, reader, device)
    contest = Contest(reader, request.horizon, request.input_mode == "tracked")
    dataset, _ = open_sequence_store(reader.path)
    count = min(request.limit or len(reader), len(reader))
    if count < 1:
        raise DataError("at least one sequence", f"none in {reader.path}", "prepare more data")
    writer = ForecastWriter(
        request.output,
        dataset,
        reader.meta,
        horizon=request.horizon,
        tracks=_tracks(reader, count, request, about),
        attrs={**about, "input": request.input_mode, "data": reader.path},
        sequences=count,
        overwrite=request.overwrite,
    )
    seconds = 0.0
    with writer, torch.inference_mode():
        for start, batch in _batches(reader, count, request.batch_size):
            began = time.perf_counter()
            history = batch.crop(0, reader.meta.history).to(device)
            steps = contest.watch("forecast", rollout(model, history, request.horizon))
            writer.write(slice(start, start + batch.batch), steps)
            seconds += time.perf_counter() - began
            contest.score(batch, reader.scenes[start : start + batch.batch])
            if progress is not None:
                progress(start + batch.batch, count)
    if request.gif is not None:
        _draw(request, reader, min(count, GIF_SEQUENCES))
    scores = contest.results(str(about["model"]))
    return RolloutSummary(request.output, request.gif, count, seconds, scores)


class Contest:
    """Scores the forecast and the baselines on the same sequences, as far as truth is known.

    Args:
        reader: The store.
        horizon: Leads forecast; scored up to the store's own horizon.
        tracked: Whether forecast ids are the truth's, so that poses compare.
    """

    def __init__(self, reader: SequenceReader, horizon: int, tracked: bool) -> None:
        self.meta = reader.meta
        self.horizon = min(horizon, reader.meta.horizon)
        self.tracked = tracked
        classes = len(self.meta.classes)
        self.baselines: dict[str, Model] = {name: Baseline(name, classes) for name in BASELINES}
        if not tracked:
            self.baselines[COMPONENTS] = Components(classes)
        self.accumulators = {
            name: Accumulator(self.meta.classes, max(self.horizon, 1), self.meta.grid)
            for name in ("forecast", *self.baselines, "ceiling")
        }
        self._kept: dict[str, list[dict[str, Any]]] = {}

    def watch(self, name: str, steps: Iterable[StepForecast]) -> Iterator[StepForecast]:
        """Passes steps on, keeping what scoring needs of those whose truth is known."""
        self._kept[name] = []
        for step in steps:
            if step.lead <= self.horizon:
                self._kept[name].append(_small(step))
            yield step

    def score(self, batch: BEVSequence, scenes: Iterable[str]) -> None:
        """Rolls the baselines out on the same batch and counts everything."""
        if self.horizon < 1:
            return
        history = batch.crop(0, self.meta.history)
        for name, baseline in self.baselines.items():
            for _ in self.watch(name, rollout(baseline, history, self.horizon)):
                pass
        for index, scene in enumerate(scenes):
            truth = self._truth(batch, index, scene)
            for name, steps in self._kept.items():
                tracks = 0 if truth.track_state is None else len(truth.track_state)
                with_pose = self.tracked or name in BASELINES
                forecast = _forecast(steps, index, tracks if with_pose else 0)
                self.accumulators[name].add(truth, forecast)
            self.accumulators["ceiling"].add(truth, ceiling(truth))

    def results(self, model: str) -> dict[str, Scores]:
        """Scores of the forecast under its model's name, the other baselines and the ceiling."""
        if self.horizon < 1:
            return {}
        names: dict[str, str] = {
            "forecast": model,
            **{name: name for name in self.baselines if name != model},
            "ceiling": "ceiling",
        }
        return {
            shown: self.accumulators[name].scores(
                protocol=self.meta.protocol, model=shown, dt_s=self.meta.dt_s
            )
            for name, shown in names.items()
        }

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


def load_model(
    request: RolloutRequest, reader: SequenceReader, device: torch.device
) -> tuple[Model, dict[str, Any]]:
    """The model that was asked for, made to fit the store, and what a forecast store says of it.

    Raises:
        CheckpointError: The checkpoint is missing or damaged.
        ConfigError: The model cannot read this kind of input.
        DataError: The store does not offer what the model was trained on.
    """
    classes = len(reader.meta.classes)
    if request.mirror and (request.input_mode == "detected" or request.model in NOT_LEARNED):
        raise ConfigError("--mirror with a learned model and tracked input", "others", "drop it")
    if request.model == COMPONENTS:
        if request.input_mode == "tracked":
            raise ConfigError("a model for tracked input", COMPONENTS, "add --input detected")
        return Components(classes), {"model": COMPONENTS}
    for name in BASELINES:
        if request.model == name:
            if request.input_mode == "detected":
                raise ConfigError(
                    f"a learned model or {COMPONENTS} for detected input",
                    name,
                    "use --input tracked",
                )
            return Baseline(name, classes), {"model": name}
    checkpoint = load_checkpoint(request.model or packaged("model.safetensors"))
    _check_fit(checkpoint, reader)
    forecaster = checkpoint.model.to(device)
    about = {
        "model": "packaged" if request.model is None else request.model,
        "mirrored": request.mirror,
        "checkpoint_sha256": checkpoint.hash,
        "queries": forecaster.spec.queries,
        "config": checkpoint.training.get("config", {}),
    }
    layers = forecaster.inputs.map_layers
    return _WithLayers(_reading(forecaster, request), reader.meta.map_layers, layers), about


def _reading(forecaster: Forecaster, request: RolloutRequest) -> Model:
    """The forecaster, given the input that was asked for."""
    if request.input_mode == "detected":
        return Detecting(forecaster)
    return Mirrored(forecaster) if request.mirror else forecaster


class _WithLayers:
    """A model that is given the map layers it knows, by name; layers the store lacks are empty."""

    def __init__(self, model: Model, have: tuple[str, ...], want: tuple[str, ...]) -> None:
        self.model = model
        self.index = [have.index(name) if name in have else -1 for name in want]

    def start(self, history: BEVSequence) -> Any:
        if history.map is not None:
            found = history.map.unbind(1)
            empty = history.map.new_zeros(history.batch, *history.grid.shape)
            layers = [found[index] if index >= 0 else empty for index in self.index]
            history = replace(history, map=torch.stack(layers, 1) if layers else None)
        return self.model.start(history)

    def step(self, state: Any) -> tuple[Any, StepForecast]:
        return self.model.step(state)


def packaged(name: str) -> str:
    """Path of a file that comes with the program.

    Raises:
        DataError: This installation lacks it.
    """
    path = files("forecast") / "packaged" / name
    if not (path.is_file() or path.is_dir()):
        raise DataError(f"the packaged {name}", "none", "install bev-forecast anew")
    return str(path)


def choose_device(name: str) -> torch.device:
    """The device by name; "auto" is CUDA where there is one.

    Raises:
        ConfigError: There is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            "a device that torch has here, such as cpu", repr(name), "change --device"
        ) from error
    return device


def _check_fit(checkpoint: Checkpoint, reader: SequenceReader) -> None:
    model, meta = checkpoint.model, reader.meta
    for what, wanted, found in (
        ("classes", model.inputs.classes, meta.classes),
        ("history", model.spec.history, meta.history),
        ("dt_s", checkpoint.dt_s, meta.dt_s),
        ("bev channels", model.inputs.bev_channels, reader.bev_channels),
    ):
        if wanted != found:
            raise DataError(
                f"{what} {wanted}, as the model was trained with",
                f"{found} in {reader.path}",
                "prepare the data alike, or use another checkpoint",
            )


def _tracks(
    reader: SequenceReader, count: int, request: RolloutRequest, about: Mapping[str, Any]
) -> int:
    """How many ids a forecast may use."""
    if request.input_mode == "detected":
        return (int(about.get("queries", 0)) + COMPONENT_SLOTS) * reader.meta.history
    if "track_state" in reader.variables:
        return reader.tracks
    return max(int(reader[index].instance.max()) for index in range(count))


def _batches(reader: SequenceReader, count: int, size: int) -> Iterator[tuple[int, BEVSequence]]:
    chosen = torch.utils.data.Subset(reader, range(count))
    start = 0
    for batch in DataLoader(chosen, batch_size=size, collate_fn=collate):
        yield start, batch
        start += batch.batch


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


def _draw(request: RolloutRequest, reader: SequenceReader, count: int) -> None:
    from forecast.render import view_of, write_gif

    assert request.gif is not None
    forecast = open_forecast_store(request.output)
    dataset, meta = open_sequence_store(reader.path)
    views = [view_of(dataset, meta, index, forecast) for index in range(count)]
    write_gif(request.gif, views, overwrite=request.overwrite)
