"""A forecast store scored against the sequence store that holds what happened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import xarray as xr

from forecast.errors import DataError
from forecast.metrics import Forecast, Truth
from forecast.parallel import Once, in_order, spread
from forecast.schema import (
    SequenceMeta,
    open_forecast_store,
    open_sequence_store,
    refusing_damage,
)
from forecast.scores import Accumulator, Scores

BLOCK = 8  # sequences that are counted together

Progress = Callable[[int, int], None]


def score_stores(
    forecast_path: str, data_path: str, progress: Progress | None = None, workers: int = 1
) -> Scores:
    """Scores a forecast store against the sequence store that holds what happened.

    Reads one sequence at a time. Leads that only one of the two has are left out, as are the
    sequences beyond those that were forecast; ``horizon`` and ``sequences`` of the result, beside
    ``forecast_horizon`` and ``data_sequences``, say so.

    Args:
        forecast_path: Local path or fsspec URL.
        data_path: Local path or fsspec URL.
        progress: Told (sequences done, sequences in all) now and then.
        workers: Processes; 1 works in this one. Their number does not change a score.

    Raises:
        DataError: A store cannot be read, the two do not describe the same sequences, or the
            truth holds no future.
    """
    opened = Once(partial(_Pair, forecast_path, data_path))
    pair = opened.get()
    total, blocks = pair.accumulator(), range(-(-pair.count // BLOCK))
    with spread(min(workers, max(len(blocks), 1)), None) as run:
        # Always in the same order: sums of floats differ in another one.
        for counted in in_order(run(partial(_count_block, opened), blocks)):
            total.merge(counted)
            if progress is not None:
                progress(total.sequences, pair.count)
    return total.scores(**provenance(pair.forecast, pair.data, pair.meta, data_path))


def provenance(
    forecast: xr.Dataset, data: xr.Dataset, meta: SequenceMeta, data_path: str
) -> dict[str, Any]:
    """What the scores of a forecast store say of where they come from."""
    return {
        "protocol": meta.protocol,
        "forecast_protocol": forecast.attrs.get("protocol", {}),
        "model": name_of(forecast.attrs),
        "data": data_path,
        "dt_s": meta.dt_s,
        "forecast_horizon": forecast.sizes["lead"],
        "data_sequences": data.sizes["sequence"],
    }


def name_of(attrs: Mapping[Any, Any]) -> str:
    """The model behind a forecast store; what was shown the truth on the way bears that in it."""
    name, how = str(attrs.get("model", "")), attrs.get("rollout", "free-running")
    return name if how == "free-running" else f"{name}, {how}"


class _Pair:
    """The two stores, opened once in each process."""

    def __init__(self, forecast_path: str, data_path: str) -> None:
        self.forecast_path, self.data_path = forecast_path, data_path
        self.forecast, self.data, self.meta = open_pair(forecast_path, data_path)
        self.count = self.forecast.sizes["sequence"]

    def accumulator(self) -> Accumulator:
        """One in which nothing is counted yet."""
        horizon = min(self.meta.horizon, self.forecast.sizes["lead"])
        return Accumulator(self.meta.classes, horizon, self.meta.grid)


def _count_block(opened: Once[_Pair], block: int) -> tuple[int, dict[str, Any]]:
    """What a block of sequences gives, with its number."""
    pair = opened.get()
    accumulator = pair.accumulator()
    for index in range(block * BLOCK, min((block + 1) * BLOCK, pair.count)):
        with refusing_damage(pair.data_path):
            truth = read_truth(pair.data, pair.meta, index, accumulator.horizon)
        with refusing_damage(pair.forecast_path):
            forecast = read_forecast(pair.forecast, index, accumulator.horizon)
        accumulator.add(truth, forecast)
    return block, accumulator.counted()


def open_pair(forecast_path: str, data_path: str) -> tuple[xr.Dataset, xr.Dataset, SequenceMeta]:
    """A forecast store and the sequence store that holds what happened.

    Raises:
        DataError: A store cannot be read, the two do not describe the same sequences, or the
            truth holds no future.
    """
    forecast = open_forecast_store(forecast_path)
    data, meta = open_sequence_store(data_path)
    _check_agreement(forecast, data, meta, forecast_path, data_path)
    return forecast, data, meta


def read_truth(data: xr.Dataset, meta: SequenceMeta, index: int, horizon: int) -> Truth:
    """The present frame and ``horizon`` leads of one sequence of a store."""
    frames = slice(meta.history - 1, meta.history + horizon)
    one = data.isel(sequence=index, time=frames)
    return Truth(
        semantic=one["semantic"].values,
        instance=one["instance"].values,
        track_state=one["track_state"].values if "track_state" in one else None,
        track_class=one["track_class"].values if "track_class" in one else None,
        scene=str(one["scene"].values),
    )


def read_forecast(forecast: xr.Dataset, index: int, horizon: int) -> Forecast:
    """The first ``horizon`` leads of one sequence of a forecast store."""
    one = forecast.isel(sequence=index, lead=slice(horizon))
    # Tracks compare only where the forecast speaks of the truth's ids.
    tracked = forecast.attrs.get("input", "tracked") == "tracked"
    return Forecast(
        semantic=one["semantic"].values,
        instance=one["instance"].values,
        pose=one["pose"].values if tracked else None,
        existence=one["existence"].values if tracked else None,
    )


def _check_agreement(
    forecast: xr.Dataset, data: xr.Dataset, meta: SequenceMeta, forecast_path: str, data_path: str
) -> None:
    if meta.horizon < 1:
        raise DataError(
            "a sequence store with future frames to score against",
            f"horizon 0 in {data_path}",
            "prepare one with `forecast prepare --horizon`",
        )
    remedy = "evaluate against the store that was rolled out"
    for what, theirs, ours in (
        ("grid", forecast.attrs.get("grid"), meta.grid.to_attrs()),
        ("classes", forecast.attrs.get("classes"), list(meta.classes)),
        ("dt_s", forecast.attrs.get("dt_s"), meta.dt_s),
    ):
        if theirs != ours:
            raise DataError(
                f"{what} {ours} as in {data_path}", f"{theirs} in {forecast_path}", remedy
            )
    forecast_of, known = _origin(forecast), _origin(data)
    if len(forecast_of) > len(known):
        raise DataError(
            f"at most the {len(known)} sequences of {data_path}",
            f"{len(forecast_of)} in {forecast_path}",
            remedy,
        )
    if forecast_of != known[: len(forecast_of)]:
        raise DataError(f"the scenes of {data_path}", f"others in {forecast_path}", remedy)


def _origin(dataset: xr.Dataset) -> list[tuple[str, float]]:
    """Scene and time of each sequence."""
    return list(
        zip(dataset["scene"].values.tolist(), dataset["init_time"].values.tolist(), strict=True)
    )
