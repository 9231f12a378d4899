"""Forecasts of a baseline, made when they are scored and stored nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from numpy.typing import NDArray

from forecast.data.reader import SequenceReader, collate
from forecast.errors import DataError
from forecast.evaluation.counts import Forecast
from forecast.evaluation.scoring import in_blocks
from forecast.inference.models import load_model_for
from forecast.inference.request import refuse_own_errors
from forecast.inference.writer import step_arrays
from forecast.loop import rollout
from forecast.model.baselines import COMPONENT_SLOTS
from forecast.model.spec import COMPONENTS
from forecast.storage.stores import lacks_ids, refusing_damage

BATCH = 8


def baseline_forecasts(name: str, data: str, sequences: range, horizon: int) -> Iterator[Forecast]:
    """What a forecast store of a baseline would hold, sequence by sequence.

    Args:
        name: Of the baseline.
        data: Sequence store.
        sequences: Which of its sequences.
        horizon: Leads.

    Raises:
        ConfigError: Its errors are those of the store.
        DataError: The store cannot be read, or has no ids for a baseline that reads them.
    """
    refuse_own_errors(name, data)
    reader = SequenceReader(data)
    meta, tracked = reader.meta, name != COMPONENTS
    with refusing_damage(data):
        blind = tracked and lacks_ids(reader.store, meta)
    if blind:
        got = f"classes without any id in {data}"
        raise DataError(f"ids in the history for {name}", got, f"compare with {COMPONENTS}")
    model = load_model_for(reader, name, "auto", "tracked" if tracked else "detected")
    for block in in_blocks(sequences, meta, horizon * len(meta.classes)):
        for start in range(block.start, block.stop, BATCH):
            places = range(start, min(start + BATCH, block.stop))
            history = collate([reader[place] for place in places]).crop(0, meta.history)
            tracks = COMPONENT_SLOTS * meta.history
            if tracked:
                tracks = max(reader.tracks, int(history.instance.max()))
            with torch.inference_mode():
                arrays = step_arrays(rollout(model, history.to(model.device), horizon), tracks)
            for index in range(len(places)):
                yield _forecast({key: array[index] for key, array in arrays.items()}, tracked)


def _forecast(arrays: dict[str, NDArray[Any]], tracked: bool) -> Forecast:
    return Forecast(
        semantic=arrays["semantic"],
        instance=arrays["instance"],
        pose=arrays["pose"] if tracked else None,
        existence=arrays["existence"] if tracked else None,
        occupancy=arrays["occupancy"],
        flow=arrays["flow"],
    )
