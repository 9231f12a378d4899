"""What the commands that need torch do, from top to bottom: train, and roll out to a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch.profiler import record_function

from forecast.config.config import Config
from forecast.data.reader import SequenceReader
from forecast.evaluation.scores import Scores
from forecast.inference.job import RolloutJob
from forecast.inference.request import RolloutRequest
from forecast.parallel import MapParallel, Once, Progress, map_parallel
from forecast.storage.atomic import refusing_os_errors
from forecast.storage.resumable import ResumableOutput
from forecast.storage.sole_writer import sole_writer
from forecast.storage.stores import open_forecast_store, refusing_damage

if TYPE_CHECKING:
    from forecast.training.run import Trained

__all__ = ["RolloutRequest", "RolloutSummary", "rollout_to_store", "train"]

GIF_SEQUENCES = 3


@dataclass(frozen=True)
class RolloutSummary:
    """What a rollout left behind.

    Attributes:
        output: The forecast store.
        gif: The animation, or None.
        mcap: The ROS 2 bag, or None.
        sequences: How many were forecast.
        seconds: Spent forecasting and writing, without the baselines and scores; summed over the
            processes.
        scores: Of the model and the baselines; empty where the truth is unknown.
        left_out: How many agents of each sequence the model had no room for.
        one_moment: Whether the history is a single moment, which tells no motion.
    """

    output: str
    gif: str | None
    sequences: int
    seconds: float
    scores: Mapping[str, Scores] = field(default_factory=dict)
    left_out: Sequence[int] = ()
    one_moment: bool = False
    mcap: str | None = None


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
    with refusing_os_errors(request.output), sole_writer(request.output):
        return _rollout_alone(request, progress)


def _rollout_alone(request: RolloutRequest, progress: Progress | None) -> RolloutSummary:
    opened = Once(partial(RolloutJob, request))
    work, resumable = opened.get(), ResumableOutput(request.output, request.overwrite)
    if request.mcap is not None:
        _refuse_times(work)
    with refusing_os_errors(request.output), resumable.begun(work.plan(), request.resume):
        todo = resumable.missing(len(work.batches))
        if len(todo) == len(work.batches):
            work.lay_out(resumable.store_url)
        done = work.count - sum(len(work.batches[index]) for index in todo)
        with work.reader.identity.checked(), _crew(request, len(todo)) as run:
            for index in run(partial(_forecast_batch, opened, resumable), todo):
                done += len(work.batches[index])
                if progress is not None:
                    progress(done, work.count)
        if not resumable.published:
            with record_function("writing"):
                work.complete(resumable)
                resumable.publish()
    seconds, scores, left_out = work.sum_up(resumable)
    resumable.discard()
    if request.gif is not None:
        _draw(request, work.reader, min(work.count, GIF_SEQUENCES))
    if request.mcap is not None:
        _write_mcap(request.mcap, request, work.reader)
    moment = work.reader.one_moment
    return RolloutSummary(
        request.output, request.gif, work.count, seconds, scores, left_out, moment, request.mcap
    )


def _crew(request: RolloutRequest, batches: int) -> AbstractContextManager[MapParallel]:
    """The processes; what this one may use of the machine is divided among local ones."""
    workers = max(min(request.workers, batches), 1)
    return map_parallel(workers, request.scheduler, max(torch.get_num_threads() // workers, 1))


def _forecast_batch(opened: Once[RolloutJob], resumable: ResumableOutput, index: int) -> int:
    """Forecasts, writes and scores one batch, then keeps its record; in whichever process."""
    work = opened.get()  # outside of inference mode, which kernels can tell from the weights
    with refusing_os_errors(resumable.output), torch.inference_mode():
        record = work.forecast(resumable.store_url, index)
        with record_function("writing"):
            resumable.keep(index, record)
    return index


@record_function("pictures")
def _draw(request: RolloutRequest, reader: SequenceReader, count: int) -> None:
    from forecast.visualization.render import write_gif
    from forecast.visualization.view import view_of

    assert request.gif is not None
    forecast = open_forecast_store(request.output)
    views = [view_of(reader.store, reader.meta, index, forecast) for index in range(count)]
    write_gif(request.gif, views, overwrite=request.overwrite)


def _refuse_times(work: RolloutJob) -> None:
    from forecast.inference.mcap_writer import refuse_times  # what it needs is not always installed

    refuse_times(work.reader.store["init_time"].values[: work.count])


@record_function("messages")
def _write_mcap(path: str, request: RolloutRequest, reader: SequenceReader) -> None:
    from forecast.inference.mcap_writer import write_mcap

    with refusing_damage(request.output):
        forecast = open_forecast_store(request.output)
        write_mcap(path, forecast, reader.store, reader.meta, overwrite=request.overwrite)
