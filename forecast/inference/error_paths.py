"""The error paths of constant turn rate: those that come along, or those of a store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from forecast.checkpoint.packaged import packaged
from forecast.data.reader import SequenceReader, collate
from forecast.errors import DataError
from forecast.loop import observed
from forecast.model.baselines import Baseline
from forecast.model.resampled_errors import PATHS, SPEEDS_MPS, ErrorPaths
from forecast.model.scene import se2
from forecast.schema import DEFAULT_CLASSES

FILE = "error_paths.safetensors"
BATCH = 8
MOST_SEQUENCES = 1000
LEAST_PATHS = 8
"""A class and speed with fewer takes those of the class at any speed, or of all classes."""


def packaged_paths(classes: Sequence[str]) -> ErrorPaths:
    """Those of simulated traffic; classes of other names than ours err as vehicles do."""
    with safe_open(packaged(FILE), "pt") as file:
        time_s, off = file.get_tensor("time_s"), file.get_tensor("off")
    names = list(DEFAULT_CLASSES)
    return ErrorPaths(time_s, off[[names.index(n) if n in names else 0 for n in classes]])


def save_paths(paths: ErrorPaths, path: str | Path, source: str) -> None:
    """Writes what :func:`packaged_paths` reads.

    Args:
        paths: Of the three default classes.
        path: Of the file.
        source: How the store was made that they are of.
    """
    save_file({"time_s": paths.time_s, "off": paths.off}, path, {"source": source})


def paths_of(store: str, classes: Sequence[str], seed: int = 0) -> ErrorPaths:
    """Those of a sequence store, of up to 1,000 sequences spread over it.

    Args:
        store: With tracks; the forecasts of its own sequences would be judged by their truth.
        classes: They must be the store's.
        seed: Of which error paths are taken of many.

    Raises:
        DataError: The store is unreadable, has other classes, or too few agents that were there
            from the present to its last lead.
    """
    reader = SequenceReader(store)
    if tuple(classes) != reader.meta.classes:
        raise DataError(
            f"classes {tuple(classes)}, as the data have, in {store}",
            str(reader.meta.classes),
            "fit the errors on a store prepared alike",
        )
    chosen = torch.linspace(0, len(reader) - 1, min(len(reader), MOST_SEQUENCES)).int().tolist()
    found = [_errors(reader, chosen[at : at + BATCH]) for at in range(0, len(chosen), BATCH)]
    if not found:
        raise DataError("sequences to fit errors on", f"none in {store}", "take another store")
    label, speed, off = (torch.cat(parts) for parts in zip(*found, strict=True))
    if len(label) < LEAST_PATHS:
        raise DataError(
            f"{LEAST_PATHS} agents or more that are there from the present to the last lead",
            f"{len(label)} in {store}",
            "take a larger store with tracks",
        )
    time_s = reader.meta.dt_s * torch.arange(1, reader.meta.horizon + 1)
    return ErrorPaths(time_s, _sampled(label, speed, off, len(classes), seed))


def _errors(
    reader: SequenceReader, places: Sequence[int]
) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"], Float[Tensor, "n t 3"]]:
    """Class from 1, speed in m/s and error path of every agent that was there all the time."""
    batch = collate([reader[place] for place in places])
    history, dt_s = reader.meta.history, reader.meta.dt_s
    if batch.track_state is None or not batch.track_state.shape[1]:
        raise DataError("tracks to fit errors on", f"none in {reader.path}", "take another store")
    if reader.meta.horizon < 1:
        wanted = "a store with future frames to fit errors on"
        raise DataError(wanted, f"horizon 0 in {reader.path}", "take another store")
    model = Baseline("constant-turn", len(reader.meta.classes))
    state = model.look_ahead(observed(model, batch.crop(0, history)), dt_s)
    agents = state.agents
    index = (agents.ids.long() - 1).clamp(0, batch.track_state.shape[1] - 1)
    truth = batch.track_state[..., :3].gather(
        1, index[..., None, None].expand(-1, -1, batch.frames, 3)
    )
    off = []
    for lead in range(1, reader.meta.horizon + 1):
        state = model.move(state, dt_s)
        off.append(se2.between(state.pose, truth[:, :, history - 1 + lead]))
    path = torch.stack(off, 2)
    there = agents.live & path.isfinite().flatten(2).all(-1)
    return agents.label[there], (state.motion[..., 0] / dt_s)[there], path[there]


def _sampled(
    label: Int[Tensor, "n"],
    speed: Float[Tensor, "n"],
    off: Float[Tensor, "n t 3"],
    classes: int,
    seed: int,
) -> Float[Tensor, "k v m t 3"]:
    """As many paths for each class and speed, some of them several times where there are few."""
    generator = torch.Generator().manual_seed(seed)
    bins = torch.bucketize(speed.abs(), speed.new_tensor(SPEEDS_MPS))
    table = off.new_zeros(classes, len(SPEEDS_MPS) + 1, PATHS, *off.shape[1:])
    for kind in range(classes):
        for place in range(table.shape[1]):
            same = label == kind + 1
            pools = (off[same & (bins == place)], off[same], off)
            pool = next((one for one in pools if len(one) >= LEAST_PATHS), off)
            order = torch.randperm(len(pool), generator=generator)
            table[kind, place] = pool[order.repeat(PATHS // len(pool) + 1)[:PATHS]]
    return table
