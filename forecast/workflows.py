"""What the commands do, from top to bottom: train, roll out to a store, evaluate."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from forecast import __version__
from forecast.config.config import Config
from forecast.data.reader import SequenceReader, collate
from forecast.errors import DataError
from forecast.evaluation.evaluate import break_down, evaluate, measure_drift
from forecast.evaluation.scores import Scores
from forecast.evaluation.scoring import name_of
from forecast.inference.comparison import Contest
from forecast.inference.models import choose_device, load_model
from forecast.inference.request import RolloutRequest, packaged
from forecast.inference.writer import ForecastWriter, create_store
from forecast.model.baselines import COMPONENT_SLOTS
from forecast.parallel import Once, Spread, spread
from forecast.rollout import rollout, teacher_forced
from forecast.schema import open_forecast_store, open_sequence_store
from forecast.storage.atomic import refusing_os_errors
from forecast.storage.resumable import Stage
from forecast.types import BEVSequence, StepForecast

if TYPE_CHECKING:
    from forecast.training.run import Trained

__all__ = [
    "RolloutRequest",
    "RolloutSummary",
    "break_down",
    "evaluate",
    "measure_drift",
    "packaged",
    "rollout_to_store",
    "train",
]

Progress = Callable[[int, int], None]
GIF_SEQUENCES = 3


@dataclass(frozen=True)
class RolloutSummary:
    """What a rollout left behind.

    Attributes:
        output: The forecast store.
        gif: The animation, or None.
        sequences: How many were forecast.
        seconds: Spent forecasting and writing, without the baselines and scores; summed over the
            processes.
        scores: Of the model and the baselines; empty where the truth is unknown.
    """

    output: str
    gif: str | None
    sequences: int
    seconds: float
    scores: Mapping[str, Scores] = field(default_factory=dict)


def train(
    config: Config, data: Sequence[str], val: str | None, output: str, resume: bool
) -> Trained:
    """Trains a forecaster, or goes on; see ``forecast.training.run.run_training``."""
    from forecast.training.run import run_training  # Lightning takes seconds to import

    return run_training(config, data, val, output, resume)


def rollout_to_store(request: RolloutRequest, progress: Progress | None = None) -> RolloutSummary:
    """Forecasts every sequence of a store, streamed to disk, and scores it where truth is known.

    The work is done batch by batch under ``OUTPUT.partial``, in this process or by several, and a
    record is kept of each batch; whatever stops the run, ``resume`` goes on from there.

    Args:
        request: What to do.
        progress: Told (sequences done, sequences in all) after each batch.

    Raises:
        ForecastError: An input cannot be read or does not fit, the output cannot be written or
            would replace what is read, an unfinished run is there and not to be resumed, or the
            one to be resumed was another.
    """
    request.check()
    opened = Once(partial(_Work, request))
    work, stage = opened.get(), Stage(request.output, request.overwrite)
    with refusing_os_errors(request.output), stage.begun(work.plan(), request.resume):
        todo = stage.missing(len(work.batches))
        if len(todo) == len(work.batches):
            work.lay_out(stage.store_url)
        done = work.count - sum(len(work.batches[index]) for index in todo)
        with work.reader.identity.checked(), _crew(request, len(todo)) as run:
            for index in run(partial(_forecast_batch, opened, stage), todo):
                done += len(work.batches[index])
                if progress is not None:
                    progress(done, work.count)
        if not stage.published:
            stage.publish()
    seconds, scores = work.sum_up(stage)
    stage.discard()
    if request.gif is not None:
        _draw(request, work.reader, min(work.count, GIF_SEQUENCES))
    return RolloutSummary(request.output, request.gif, work.count, seconds, scores)


def _crew(request: RolloutRequest, batches: int) -> AbstractContextManager[Spread]:
    """The processes; what this one may use of the machine is divided among local ones."""
    workers = max(min(request.workers, batches), 1)
    return spread(workers, request.scheduler, max(torch.get_num_threads() // workers, 1))


def _forecast_batch(opened: Once[_Work], stage: Stage, index: int) -> int:
    """Forecasts, writes and scores one batch, then keeps its record; in whichever process."""
    work = opened.get()  # outside of inference mode, which kernels can tell from the weights
    with refusing_os_errors(stage.output), torch.inference_mode():
        stage.keep(index, work.forecast(stage.store_url, index))
    return index


class _Work:
    """What a process needs to do any batch of a request: all is opened and loaded once.

    Raises:
        ForecastError: The data or the model cannot be read, or do not fit.
    """

    def __init__(self, request: RolloutRequest) -> None:
        self.request = request
        self.reader = SequenceReader(request.data or packaged("sample.zarr"))
        self.device = choose_device(request.device)
        self.model, self.about = load_model(
            request.model, self.reader, self.device, request.input_mode, request.mirror
        )
        self.how = {
            "rollout": "teacher-forced" if request.teacher_forced else "free-running",
            "input": request.input_mode,
            "data": self.reader.path,
        }
        self.count = min(request.limit or len(self.reader), len(self.reader))
        if self.count < 1:
            found = f"none in {self.reader.path}"
            raise DataError("at least one sequence", found, "prepare more data")
        starts = range(0, self.count, request.batch_size)
        self.batches = [range(start, min(start + starts.step, self.count)) for start in starts]

    def plan(self) -> dict[str, Any]:
        """All that the result depends on."""
        source, _ = open_sequence_store(self.reader.path)
        about = source.attrs, source["scene"].values.tolist(), source["init_time"].values.tolist()
        return {
            "version": __version__,
            "model": self.about,
            **self.how,
            "contents": hashlib.sha256(json.dumps(about).encode()).hexdigest(),
            "sequences": self.count,
            "horizon": self.request.horizon,
            "batch size": self.request.batch_size,
            "device": self.device.type,
        }

    def lay_out(self, url: str) -> None:
        """Makes the forecast store, still without forecasts."""
        source, meta = open_sequence_store(self.reader.path)
        create_store(
            url,
            source.isel(sequence=slice(self.count)),
            meta,
            horizon=self.request.horizon,
            tracks=self._tracks(),
            attrs={**self.about, **self.how},
        )

    def forecast(self, url: str, index: int) -> dict[str, Any]:
        """Forecasts one batch into the store at ``url``; what came of it is its record."""
        places, contest = self.batches[index], self.contest()
        batch = collate([self.reader[place] for place in places])
        began = time.perf_counter()
        steps = contest.watch("forecast", self.steps(batch.to(self.device)))
        ForecastWriter(url).write(slice(places.start, places.stop), steps)
        seconds = time.perf_counter() - began
        contest.score(batch, self.reader.scenes[places.start : places.stop])
        return {"seconds": seconds, "counted": contest.counted()}

    def steps(self, batch: BEVSequence) -> Iterator[StepForecast]:
        """The leads that were asked for; only teacher forcing is handed the future."""
        history, horizon = self.reader.meta.history, self.request.horizon
        if self.request.teacher_forced:
            return teacher_forced(self.model, batch, history, horizon)
        return rollout(self.model, batch.crop(0, history), horizon)

    def contest(self) -> Contest:
        """A contest in which nothing is counted yet."""
        tracked = self.request.input_mode == "tracked"
        return Contest(self.reader.meta, self.request.horizon, tracked)

    def sum_up(self, stage: Stage) -> tuple[float, dict[str, Scores]]:
        """Seconds and scores of all records, always in the same order: sums of floats differ."""
        contest, seconds = self.contest(), 0.0
        for index in range(len(self.batches)):
            record = stage.record(index)
            contest.merge(record["counted"])
            seconds += record["seconds"]
        return seconds, contest.results(name_of({**self.about, **self.how}))

    def _tracks(self) -> int:
        """How many ids a forecast may use."""
        if self.request.input_mode == "detected":
            queries = int(self.about.get("queries", 0))
            return (queries + COMPONENT_SLOTS) * self.reader.meta.history
        if "track_state" in self.reader.variables:
            return self.reader.tracks
        return max(int(self.reader[index].instance.max()) for index in range(self.count))


def _draw(request: RolloutRequest, reader: SequenceReader, count: int) -> None:
    from forecast.visualization.render import view_of, write_gif

    assert request.gif is not None
    forecast = open_forecast_store(request.output)
    dataset, meta = open_sequence_store(reader.path)
    views = [view_of(dataset, meta, index, forecast) for index in range(count)]
    write_gif(request.gif, views, overwrite=request.overwrite)
