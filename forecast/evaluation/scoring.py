"""A forecast store scored against the sequence store that holds what happened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from forecast.errors import DataError
from forecast.evaluation.agreement import check_agreement
from forecast.evaluation.counts import Forecast, Truth
from forecast.evaluation.scores import Accumulator, SceneSums, Scores
from forecast.parallel import Once, Progress, in_order, map_parallel
from forecast.schema import SequenceMeta
from forecast.storage.stores import (
    blocks,
    open_forecast_store,
    open_sequence_store,
    refuse_impossible,
    refusing_damage,
)

BLOCK = 32  # sequences read and counted together, a shard; one by one takes three times as long
MOST_CELLS = 2**24  # of one variable in memory: few large sequences make a smaller block

Counted = TypeVar("Counted", bound=SceneSums)


def score_stores(
    forecast_path: str, data_path: str, progress: Progress | None = None, workers: int = 1
) -> Scores:
    """Scores a forecast store against the sequence store that holds what happened.

    Leads that only one of the two has are left out, as are the sequences beyond those that were
    forecast; ``horizon`` and ``sequences`` of the result, beside ``forecast_horizon`` and
    ``data_sequences``, say so.

    Args:
        forecast_path: Local path or fsspec URL.
        data_path: Local path or fsspec URL.
        progress: Told (sequences done, sequences in all) now and then.
        workers: Processes; 1 works in this one. Their number does not change a score.

    Raises:
        DataError: A store cannot be read, the two do not describe the same sequences, or the
            truth holds no future.
    """
    pair, total = count_stores(Accumulator, forecast_path, data_path, progress, workers)
    return total.scores(**pair.provenance())


def count_stores(
    kind: type[Counted],
    forecast_path: str,
    data_path: str,
    progress: Progress | None = None,
    workers: int = 1,
) -> tuple[Pair[Counted], Counted]:
    """Counts a forecast store; see :func:`score_stores`.

    Args:
        kind: What is counted.
        forecast_path: Local path or fsspec URL.
        data_path: Local path or fsspec URL.
        progress: Told (sequences done, sequences in all) now and then.
        workers: Processes; 1 works in this one.

    Returns:
        The two stores, and what was counted.

    Raises:
        DataError: As :func:`score_stores`.
    """
    opened = Once(partial(Pair, kind, forecast_path, data_path))
    pair: Pair[Counted] = opened.get()
    total, blocks = pair.counter(), range(len(pair.blocks))
    with map_parallel(min(workers, max(len(blocks), 1)), None) as run:
        # Always in the same order: sums of floats depend on it.
        for counted in in_order(run(partial(_count_block, opened), blocks)):
            total.merge(counted)
            if progress is not None:
                progress(total.sequences, pair.count)
    return pair, total


def provenance(
    forecast: xr.Dataset, data: xr.Dataset, meta: SequenceMeta, data_path: str
) -> dict[str, Any]:
    """Where the scores of a forecast store come from."""
    return {
        "protocol": meta.protocol,
        "forecast_protocol": forecast.attrs.get("protocol", {}),
        "model": name_of(forecast.attrs),
        "input": input_of(forecast.attrs),
        "data": data_path,
        "dt_s": meta.dt_s,
        "forecast_horizon": forecast.sizes["lead"],
        "data_sequences": data.sizes["sequence"],
    }


def name_of(attrs: Mapping[Any, Any]) -> str:
    """The model behind a forecast store, with the kind of rollout unless that was free-running."""
    name, how = str(attrs.get("model", "")), attrs.get("rollout", "free-running")
    return name if how == "free-running" else f"{name}, {how}"


def input_of(attrs: Mapping[Any, Any]) -> str:
    """What the model behind a forecast store read of the history: "tracked" or "detected"."""
    return str(attrs.get("input", "tracked"))


class Pair(Generic[Counted]):
    """A forecast store and its truth, opened once in each process.

    Args:
        kind: What is counted.
        forecast_path: Local path or fsspec URL.
        data_path: Local path or fsspec URL.

    Raises:
        DataError: See :func:`open_pair`.
    """

    def __init__(self, kind: type[Counted], forecast_path: str, data_path: str) -> None:
        self.kind = kind
        self.forecast_path, self.data_path = forecast_path, data_path
        self.forecast, self.data, self.meta = open_pair(forecast_path, data_path)
        self.count = self.forecast.sizes["sequence"]
        self.horizon = min(self.meta.horizon, self.forecast.sizes["lead"])
        masks = "realization_instance" in {*kind.reads} & {*self.forecast.variables}
        futures = self.forecast.sizes["realization"] if masks else 0
        self.blocks = in_blocks(range(self.count), self.meta, self.horizon * (1 + futures))

    def counter(self) -> Counted:
        """One in which nothing is counted yet."""
        return self.kind(self.meta.classes, self.horizon, self.meta.grid)

    def provenance(self) -> dict[str, Any]:
        """Where the scores come from."""
        return provenance(self.forecast, self.data, self.meta, self.data_path)

    def truths(self, sequences: range) -> Iterator[Truth]:
        """What happened in some sequences."""
        return read_truths(self.data_path, self.data, self.meta, sequences, self.horizon)

    def count_block(self, number: int) -> dict[str, Any]:
        """What a block of sequences gives."""
        block, counter = self.blocks[number], self.counter()
        forecasts = read_forecasts(
            self.forecast_path,
            self.forecast,
            self.meta,
            block,
            self.horizon,
            self.kind.reads,
        )
        for truth, forecast in zip(self.truths(block), forecasts, strict=True):
            counter.add(truth, forecast)
        return counter.counted()


def _count_block(opened: Once[Pair[Counted]], number: int) -> tuple[int, dict[str, Any]]:
    """What a block of sequences gives, with its number; in whichever process."""
    return number, opened.get().count_block(number)


def open_pair(forecast_path: str, data_path: str) -> tuple[xr.Dataset, xr.Dataset, SequenceMeta]:
    """A forecast store and the sequence store that holds what happened.

    Raises:
        DataError: A store cannot be read, the two do not describe the same sequences, or the
            truth holds no future.
    """
    forecast = open_forecast_store(forecast_path)
    data, meta = open_sequence_store(data_path)
    check_agreement(forecast, data, meta, forecast_path, data_path)
    return forecast, data, meta


def truth_of(forecast_path: str) -> str:
    """The sequence store that a forecast store says it was made from.

    Raises:
        DataError: The store cannot be read, or does not say.
    """
    made_from = open_forecast_store(forecast_path).attrs.get("data")
    if not isinstance(made_from, str):
        raise DataError(
            "a forecast store that names the sequence store it was made from",
            f"none in {forecast_path}",
            "give the sequence store with --data",
        )
    return made_from


def has_realizations(forecast_path: str) -> bool:
    """Whether a forecast store has several futures of its agents.

    Raises:
        DataError: The store cannot be read.
    """
    return "realization_pose" in open_forecast_store(forecast_path)


def in_blocks(sequences: range, meta: SequenceMeta, horizon: int) -> list[range]:
    """Sequences in blocks that fit in memory, of a shard at most."""
    cells = (1 + horizon) * meta.grid.height * meta.grid.width
    size = min(max(MOST_CELLS // cells, 1), BLOCK)
    return [sequences[start : start + size] for start in range(0, len(sequences), size)]


def read_truths(
    path: str, data: xr.Dataset, meta: SequenceMeta, sequences: range, horizon: int
) -> Iterator[Truth]:
    """The present frame and ``horizon`` leads of some sequences of the store at ``path``.

    Raises:
        DataError: A chunk is damaged, or a class unknown.
    """
    frames = slice(meta.history - 1, meta.history + horizon)
    known = [name for name in ("track_state", "track_class") if name in data]
    names = ["semantic", "instance", *known]
    wanted = data[[*names, "scene"]].isel(sequence=slice(sequences.start, sequences.stop))
    wanted = wanted.isel(time=frames)
    for block in blocks(wanted):
        part = wanted.isel(sequence=block)
        with refusing_damage(path):
            arrays = {name: part[name].values for name in names}
        refuse_impossible(arrays, len(meta.classes), path)
        for index, scene in enumerate(part["scene"].values.tolist()):
            one = {name: array[index] for name, array in arrays.items()}
            yield Truth(**one, scene=scene, dt_s=meta.dt_s)


def read_forecasts(
    path: str,
    forecast: xr.Dataset,
    meta: SequenceMeta,
    sequences: range,
    horizon: int,
    more: Sequence[str] = (),
) -> Iterator[Forecast]:
    """The first ``horizon`` leads of some sequences of the forecast store at ``path``.

    Args:
        path: Of the store, for errors.
        forecast: The store.
        meta: Of the truth.
        sequences: Which.
        horizon: Leads.
        more: Variables beside masks, poses and existence; those that the store lacks are left out.

    Raises:
        DataError: A chunk is damaged, or a class unknown.
    """
    # Tracks can be compared only where the forecast has the truth's ids.
    tracked = input_of(forecast.attrs) == "tracked"
    names = ["semantic", "instance", *(("pose", "existence") if tracked else ())]
    names += [name for name in more if name in forecast]
    wanted = forecast[names].isel(sequence=slice(sequences.start, sequences.stop))
    wanted = wanted.isel(lead=slice(horizon))
    for block in blocks(wanted):
        part = wanted.isel(sequence=block)
        with refusing_damage(path):
            arrays = {name: part[name].values for name in names}
        refuse_impossible(arrays, len(meta.classes), path)
        refuse_impossible_realizations(arrays, path)
        for index in range(part.sizes["sequence"]):
            yield Forecast(**{name: array[index] for name, array in arrays.items()})


def refuse_impossible_realizations(arrays: Mapping[str, NDArray[Any]], path: str) -> None:
    """Refuses no realization at all, and weights of them that are no probabilities.

    Args:
        arrays: Of some sequences, by name.
        path: Of the store, for the error.

    Raises:
        DataError: There is none, there is not a weight for each, one is below 0 or not finite, or
            those of a sequence do not add up to 1.
    """
    remedy = "make the forecast anew with `forecast rollout`"
    if "realization_pose" in arrays and not arrays["realization_pose"].shape[1]:
        raise DataError("one realization at least", f"none in {path}", remedy)
    weight = arrays.get("realization_weight")
    if weight is not None and not (
        "realization_pose" in arrays
        and weight.shape == arrays["realization_pose"].shape[:2]
        and (weight >= 0).all()
        and np.allclose(weight.sum(axis=1), 1, atol=1e-3)
    ):
        wanted = "a realization_weight of 0 or more for each, of 1 in all"
        raise DataError(wanted, f"another in {path}", remedy)
