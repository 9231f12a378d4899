"""Whether a forecast and a sequence store belong together: the same scenes, moments and histories.

Two stores of one drive may have the same scenes and times, but be drawn around different agents. So
a forecast store keeps a digest of the poses that it was made from. Rasters are left out of it: a
forecast may be scored against labels of another protocol, or against better ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from forecast.errors import DataError
from forecast.schema import SequenceMeta
from forecast.storage.stores import blocks, refusing_damage

DIGEST = "history_digest"
"""The attribute of a forecast store: variable -> digest."""
# Millimetres and milliradians: prepared on another machine, the last bits may differ. A number on
# the edge between two may be rounded otherwise all the same: copy stores rather than remake them.
DECIMALS = 3
REMEDY = "evaluate against the store that was rolled out"


def history_digest(path: str, data: xr.Dataset, meta: SequenceMeta, count: int) -> dict[str, str]:
    """A digest of each variable that says where everyone was up to the present.

    Padding does not change it, nor do the frames after the present and who appears in them.

    Args:
        path: Of the sequence store, for messages.
        data: The store.
        meta: Its attributes.
        count: How many of its sequences count, from the first.

    Raises:
        DataError: A chunk is damaged.
    """
    names = [name for name in ("ego_pose", "track_state", "track_history") if name in data]
    digests = {name: hashlib.sha256() for name in names}
    known = data[names].isel(sequence=slice(count))
    for places in blocks(known):
        block = known.isel(sequence=places)
        for name, digest in digests.items():
            with refusing_damage(path):
                for poses in _histories(block, name, meta):
                    rounded = np.round(poses.astype(np.float64), DECIMALS) + 0.0  # no -0
                    digest.update(f"{name} {rounded.shape}".encode() + rounded.tobytes())
    return {name: digest.hexdigest()[:12] for name, digest in digests.items()}


def _histories(block: xr.Dataset, name: str, meta: SequenceMeta) -> Iterator[NDArray[Any]]:
    """One variable of each sequence, up to the present."""
    part = block[name]
    values = (part.isel(time=slice(meta.history)) if "time" in part.dims else part).values
    if "track" not in part.dims:
        yield from values
        return
    on_grid = meta.grid.contains(values[..., 0], values[..., 1]).any(axis=-1)
    for tracks, there in zip(values, on_grid, strict=True):
        # Samples in which no track was seen pad those of other sequences.
        yield tracks[there][:, np.isfinite(tracks[there]).any(axis=(0, 2))]


def check_agreement(
    forecast: xr.Dataset, data: xr.Dataset, meta: SequenceMeta, forecast_path: str, data_path: str
) -> None:
    """Refuses to score a forecast against what is not its truth.

    Raises:
        DataError: The two do not describe the same sequences, or the truth holds no future.
    """
    if meta.horizon < 1:
        raise DataError(
            "a sequence store with future frames to score against",
            f"horizon 0 in {data_path}",
            "prepare one with `forecast prepare --horizon`",
        )
    for what, theirs, ours in (
        ("grid", forecast.attrs.get("grid"), meta.grid.to_attrs()),
        ("classes", forecast.attrs.get("classes"), list(meta.classes)),
        ("dt_s", forecast.attrs.get("dt_s"), meta.dt_s),
    ):
        if theirs != ours:
            raise DataError(
                f"{what} {ours} as in {data_path}", f"{theirs} in {forecast_path}", REMEDY
            )
    forecast_of, known = moments(forecast), moments(data)
    if len(forecast_of) > len(known):
        raise DataError(
            f"at most the {len(known)} sequences of {data_path}",
            f"{len(forecast_of)} in {forecast_path}",
            REMEDY,
        )
    if forecast_of != known[: len(forecast_of)]:
        raise DataError(f"the scenes of {data_path}", f"others in {forecast_path}", REMEDY)
    _check_histories(forecast, data, meta, forecast_path, data_path)


def _check_histories(
    forecast: xr.Dataset, data: xr.Dataset, meta: SequenceMeta, forecast_path: str, data_path: str
) -> None:
    """Compares what both stores have; older forecast stores have no digest."""
    made_from = forecast.attrs.get(DIGEST)
    if not isinstance(made_from, dict):
        return
    found = history_digest(data_path, data, meta, forecast.sizes["sequence"])
    other = [name for name, digest in found.items() if made_from.get(name, digest) != digest]
    if other:
        raise DataError(
            f"the history that {forecast_path} was made from",
            f"another {' and '.join(other)} in {data_path} (another centre or observation?)",
            REMEDY,
        )


def moments(dataset: xr.Dataset) -> list[tuple[str, float]]:
    """Scene and time of each sequence."""
    return list(
        zip(dataset["scene"].values.tolist(), dataset["init_time"].values.tolist(), strict=True)
    )
