"""One request opened and loaded: any batch of it can be forecast, written and scored."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from torch.profiler import record_function

from forecast import __version__
from forecast.checkpoint.packaged import packaged
from forecast.data.reader import SequenceReader, collate
from forecast.errors import DataError
from forecast.evaluation.agreement import DIGEST, history_digest
from forecast.evaluation.scores import Scores
from forecast.evaluation.scoring import name_of
from forecast.inference.comparison import BaselineComparison, seen_at_present
from forecast.inference.models import Model, choose_device, load_model_for
from forecast.inference.request import RolloutRequest, store_of_errors
from forecast.inference.writer import ForecastWriter, create_store, write_left_out
from forecast.loop import branches, observed, steps, teacher_forced
from forecast.model.baselines import COMPONENT_SLOTS
from forecast.model.detected_input import Detecting
from forecast.model.scene.agents import MoreAgentsThanSlots
from forecast.model.tracking.components import IDS
from forecast.schema import MAX_INSTANCE_ID
from forecast.storage.identity import StoreIdentity
from forecast.storage.resumable import ResumableOutput
from forecast.storage.stores import open_sequence_store
from forecast.types import BEVSequence, Draws


class RolloutJob:
    """What a process needs to do any batch of a request: all is opened and loaded once.

    Raises:
        ForecastError: The data or the model cannot be read, or do not fit.
    """

    def __init__(self, request: RolloutRequest) -> None:
        self.request = request
        self.reader = SequenceReader(request.data or packaged("sample.zarr"))
        self.device = choose_device(request.device)
        with record_function("loading the model"):
            self.model = load_model_for(
                self.reader,
                request.model,
                self.device,
                request.input_mode,
                request.mirror,
                request.fast,
            )
        self.provenance = self.model.provenance.to_attrs()
        self.how: dict[str, Any] = {
            "rollout": "teacher-forced" if request.teacher_forced else "free-running",
            "input": request.input_mode,
            "data": self.reader.path,
        }
        if request.realizations:
            self.how |= {"realizations": request.realizations, "seed": request.seed}
        self.count = min(request.limit or len(self.reader), len(self.reader))
        if self.count < 1:
            found = f"none in {self.reader.path}"
            raise DataError("at least one sequence", found, "prepare more data")
        starts = range(0, self.count, request.batch_size)
        self.batches = [range(start, min(start + starts.step, self.count)) for start in starts]

    def plan(self) -> dict[str, Any]:
        """All that the result depends on."""
        reader, errors = self.reader, store_of_errors(self.request.model)
        contents = {"contents": _contents(reader.store, reader.identity, self._digest)}
        if errors is not None:
            identity, (store, meta) = StoreIdentity.of(errors), open_sequence_store(errors)
            digest = history_digest(errors, store, meta, store.sizes["sequence"])
            contents["errors"] = _contents(store, identity, digest)
        return {
            "version": __version__,
            "model": self.provenance,
            **self.how,
            **contents,
            "sequences": self.count,
            "horizon": self.request.horizon,
            "realization masks": self.request.realization_masks,
            "batch size": self.request.batch_size,
            "device": self.device.type,
        }

    @cached_property
    def _digest(self) -> dict[str, str]:
        """Of the histories that are forecast."""
        reader = self.reader
        return history_digest(reader.path, reader.store, reader.meta, self.count)

    def lay_out(self, url: str) -> None:
        """Makes the forecast store, still without forecasts."""
        reader = self.reader
        create_store(
            url,
            reader.store.isel(sequence=slice(self.count)),
            reader.meta,
            horizon=self.request.horizon,
            tracks=self._tracks(),
            attrs={**self.provenance, **self.how, DIGEST: self._digest},
            realizations=self.request.realizations or 0,
            masks=self.request.realization_masks,
        )

    def forecast(self, url: str, index: int) -> dict[str, Any]:
        """Forecasts one batch into the store at ``url``; what came of it is its record."""
        places, comparison = self.batches[index], self.comparison()
        with record_function("reading the store"):
            batch = collate([self.reader[place] for place in places])
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MoreAgentsThanSlots)  # they are counted here
            known = self._write(url, places, batch.to(self.device), comparison)
            seconds = time.perf_counter() - began
            comparison.score(batch, self.reader.scenes[places.start : places.stop])
        left_out = self._left_out(batch, known)
        return {"seconds": seconds, "counted": comparison.counted(), "left_out": left_out}

    def _write(
        self, url: str, places: range, batch: BEVSequence, comparison: BaselineComparison
    ) -> NDArray[np.bool_]:
        """Writes a batch's forecast, and its realizations from the same state; who is forecast."""
        request, history = self.request, self.reader.meta.history
        horizon, dt_s = request.horizon, batch.dt_s
        sequences, writer = slice(places.start, places.stop), ForecastWriter(url)
        if request.teacher_forced:  # this alone is handed the future
            forecasts = teacher_forced(self.model, batch, history, horizon)
            with record_function("writing"):
                return writer.write(sequences, comparison.watch("forecast", forecasts))
        state = observed(self.model, batch.crop(0, history))
        forecasts = steps(self.model, state, horizon, dt_s)
        with record_function("writing"):
            known = writer.write(sequences, comparison.watch("forecast", forecasts))
            if request.realizations:
                draws = Draws(request.seed, places.start, range(request.realizations))
                masks = request.realization_masks
                futures = branches(self.model, state, horizon, dt_s, draws, masks)
                writer.write_realizations(sequences, futures)
        return known

    def comparison(self) -> BaselineComparison:
        """A comparison in which nothing is counted yet."""
        tracked = self.request.input_mode == "tracked"
        return BaselineComparison(self.reader.meta, self.request.horizon, tracked)

    def _left_out(self, batch: BEVSequence, known: NDArray[np.bool_]) -> list[int]:
        """How many agents of each sequence are seen at present and not forecast.

        Detected input is told of no agent: there is nothing to count.
        """
        there = np.zeros_like(known)
        if self.request.input_mode == "tracked":
            for row, ids in zip(there, seen_at_present(batch, self.reader.meta), strict=True):
                row[ids - 1] = True
        return [int(count) for count in (there & ~known).sum(axis=1)]

    def complete(self, resumable: ResumableOutput) -> None:
        """Adds to the store what only all records together tell."""
        write_left_out(resumable.store_url, self._all_left_out(resumable))

    def _all_left_out(self, resumable: ResumableOutput) -> list[int]:
        records = (resumable.record(index) for index in range(len(self.batches)))
        return [count for record in records for count in record["left_out"]]

    def sum_up(self, resumable: ResumableOutput) -> tuple[float, dict[str, Scores], list[int]]:
        """Seconds, scores and who was left out, of all records.

        Always in the same order: sums of floats differ.
        """
        comparison, seconds = self.comparison(), 0.0
        for index in range(len(self.batches)):
            record = resumable.record(index)
            comparison.merge(record["counted"])
            seconds += record["seconds"]
        scores = comparison.results(name_of({**self.provenance, **self.how}))
        return seconds, scores, self._all_left_out(resumable)

    def _tracks(self) -> int:
        """How many ids a forecast may use."""
        if self.request.input_mode == "detected":
            return _ids_of_detected(self.model.model, self.reader.meta.history)
        if "track_state" in self.reader.variables:
            return self.reader.tracks
        return max(int(self.reader[index].instance.max()) for index in range(self.count))


def _contents(store: xr.Dataset, identity: StoreIdentity, digest: dict[str, str]) -> str:
    """A digest of what a sequence store holds, so that two versions of it are not mixed.

    Rasters and maps are too large to be read for it: that they are others shows in a store that was
    written anew, but not where their chunks were changed in place.
    """
    scenes, times = store["scene"].values.tolist(), store["init_time"].values.tolist()
    about = store.attrs, scenes, times, digest, identity.facts
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()


def _ids_of_detected(model: Model, frames: int) -> int:
    """The largest id of agents that are found in so many rasters: they are given out in turn."""
    queries, most = 0, COMPONENT_SLOTS
    if isinstance(model, Detecting):
        spec = model.model.spec
        queries, most = spec.queries, max(spec.slots - spec.queries, 0)
    return min((queries + most) * frames, IDS + 4 * most, MAX_INSTANCE_ID)
