"""A store in pictures, and as one HTML page that needs neither server nor network (page.html)."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from forecast.errors import DataError
from forecast.evaluation.counts import mask_centres
from forecast.evaluation.scoring import open_pair
from forecast.schema import SequenceMeta
from forecast.storage.atomic import refuse_existing, staged_file
from forecast.storage.stores import open_sequence_store, refusing_damage
from forecast.visualization.colours import (
    MAP_TONES,
    class_colour,
    id_colour,
    probability_shades,
)
from forecast.visualization.futures import Realizations, has_ids_of_store
from forecast.visualization.render import Layer, write_gif, write_png
from forecast.visualization.view import View, view_of

MOST_SEQUENCES = 12  # taken evenly from the store, so that a page stays a few megabytes
COLOURS = 251  # a prime: ids that share a colour are far apart
FLOW_SPACING = 4  # cells between arrows
COMPRESSION = 6  # of gzip: 9 takes six times as long for two per cent


@dataclass(frozen=True)
class Drawing:
    """What to draw of a store, and where to.

    Attributes:
        data: Sequence store.
        forecast: Forecast store made from it, or None.
        sequence: Which; None = the first in pictures, at most 12 in the page.
        png: Contact sheet to write, or None.
        gif: Animation to write, or None.
        html: Page to write, or None.
        layer: What is drawn of the forecast; in the page what is shown of it at first.
    """

    data: str
    forecast: str | None = None
    sequence: int | None = None
    png: str | None = None
    gif: str | None = None
    html: str | None = None
    layer: Layer = "labels"


def draw_store(drawing: Drawing, overwrite: bool = False) -> None:
    """Draws what is asked for; refuses existing files before the first is written.

    Raises:
        DataError: As :func:`write_page`.
    """
    for path in filter(None, (drawing.png, drawing.gif, drawing.html)):
        refuse_existing(path, overwrite=overwrite)
    data, meta, forecast = _open(drawing.data, drawing.forecast)
    if drawing.png or drawing.gif:
        _check_sequences([drawing.sequence or 0], data, forecast)
        with refusing_damage(drawing.data):
            index, probability = drawing.sequence or 0, drawing.layer != "labels"
            view = view_of(data, meta, index, forecast, probability=probability)
        if drawing.png:
            write_png(drawing.png, view, layer=drawing.layer, overwrite=overwrite)
        if drawing.gif:
            write_gif(drawing.gif, [view], layer=drawing.layer, overwrite=overwrite)
    if drawing.html:
        chosen, how = None if drawing.sequence is None else [drawing.sequence], drawing.layer
        write_page(
            drawing.html, drawing.data, drawing.forecast, chosen, layer=how, overwrite=overwrite
        )


def write_page(
    path: str,
    data_path: str,
    forecast_path: str | None = None,
    sequences: Sequence[int] | None = None,
    *,
    layer: Layer = "labels",
    overwrite: bool = False,
) -> None:
    """Writes sequences of a store, and forecasts beside them, as a self-contained page.

    Args:
        path: The page: local path or fsspec URL.
        data_path: Sequence store.
        forecast_path: Forecast store made from it, or None.
        sequences: Which; None = at most 12, taken evenly.
        layer: What is shown of the forecast at first; all of it can be switched on and off.
        overwrite: Whether an existing file is replaced.

    Raises:
        DataError: A store cannot be read, the two do not belong together, there is no such
            sequence, or the page exists or cannot be written.
    """
    data, meta, forecast = _open(data_path, forecast_path)
    if sequences is None:
        count = _count(data, forecast)
        chosen = np.linspace(0, count - 1, min(count, MOST_SEQUENCES)).round().astype(int)
        sequences = chosen.tolist()
    _check_sequences(sequences, data, forecast)
    with refusing_damage(data_path):
        content = _header(data_path, meta, forecast) | {
            "layer": layer,
            "sequences": [_sequence(data, meta, index, forecast) for index in sequences],
        }
    text = json.dumps(content, separators=(",", ":")).encode()
    packed = base64.b64encode(gzip.compress(text, COMPRESSION, mtime=0)).decode()
    template = (files("forecast.visualization") / "page.html").read_text(encoding="utf-8")
    page = template.replace("{{DATA}}", packed).encode()
    with staged_file(path, overwrite=overwrite) as file:
        file.write(page)


def _open(
    data_path: str, forecast_path: str | None
) -> tuple[xr.Dataset, SequenceMeta, xr.Dataset | None]:
    if forecast_path is None:
        return *open_sequence_store(data_path), None
    forecast, data, meta = open_pair(forecast_path, data_path)
    return data, meta, forecast


def _count(data: xr.Dataset, forecast: xr.Dataset | None) -> int:
    """How many sequences can be drawn: a forecast may have been made of the first few only."""
    return int((data if forecast is None else forecast).sizes["sequence"])


def _check_sequences(
    sequences: Sequence[int], data: xr.Dataset, forecast: xr.Dataset | None
) -> None:
    count = _count(data, forecast)
    for index in sequences or [0]:
        if not 0 <= index < count:
            raise DataError(f"one of {count} sequences", f"sequence {index}", "choose another")


def _header(path: str, meta: SequenceMeta, forecast: xr.Dataset | None) -> dict[str, Any]:
    model = "" if forecast is None else f", forecast by {forecast.attrs.get('model', '?')}"
    grid = meta.grid
    return {
        "title": f"{path}{model}",
        "height": grid.height,
        "width": grid.width,
        "x_max": grid.x_max_m,
        "y_max": grid.y_max_m,
        "resolution": grid.resolution_m,
        "dt": meta.dt_s,
        "tones": MAP_TONES,
        "colours": [id_colour(id_) for id_ in range(COLOURS)],
        "class_colours": [class_colour(label) for label in range(len(meta.classes) + 1)],
        "class_names": list(meta.classes),
        "shades": probability_shades(),
    }


def _sequence(
    data: xr.Dataset, meta: SequenceMeta, index: int, forecast: xr.Dataset | None
) -> dict[str, Any]:
    view = view_of(data, meta, index, forecast, probability=True)
    one = data.isel(sequence=index)
    ours = None if forecast is None else forecast.isel(sequence=index)
    rasters, classes = np.concatenate([view.history, view.truth]), ("", *meta.classes)
    centres = _centres(view, rasters, one)
    seen = [_frame(r, s) for r, s in zip(rasters, one["semantic"].values, strict=True)]
    _describe(seen, centres, classes, meta.dt_s)
    ahead = [] if ours is None else _forecast_frames(view, ours, centres, classes, meta)
    return {
        "name": f"{index}: {view.scene}",
        "classes": ["", *view.classes] if view.classes else [],
        "history": [frame["shown"] for frame in seen[: meta.history]],
        "truth": [frame["shown"] for frame in seen[meta.history :]],
        "forecast": ahead,
        "probability": [] if view.probability is None else _probability(view.probability),
        "realizations": _realizations(view.realizations, classes) if view.realizations else None,
        "ego": np.round(view.ego_pose, 3).tolist(),
        "map": {name: runs(view.map[name]) for name in MAP_TONES if name in view.map},
    }


def _forecast_frames(
    view: View,
    ours: xr.Dataset,
    centres: NDArray[Any],
    classes: tuple[str, ...],
    meta: SequenceMeta,
) -> list[dict[str, Any]]:
    """The frames of a forecast; speeds of lead 1 are from the present, if ids are the store's."""
    rasters = view.forecast
    ids = np.arange(1, int(rasters.max(initial=0)) + 1)
    places = np.stack([mask_centres(raster, ids, view.grid) for raster in rasters], axis=1)
    present = np.full((len(ids), 1, 2), np.nan)
    if has_ids_of_store(ours):
        known = min(len(ids), len(centres))
        present[:known] = centres[:known, meta.history - 1 : meta.history]
    frames = [_frame(r, s) for r, s in zip(rasters, ours["semantic"].values, strict=True)]
    blank = _frame(np.zeros_like(rasters[0]), np.zeros_like(rasters[0]))
    _describe([blank, *frames], np.concatenate([present, places], axis=1), classes, meta.dt_s)
    for frame, flow in zip(frames, ours["flow"].values, strict=True):
        frame["shown"]["flow"] = _arrows(view, frame["raster"], flow)
    return [frame["shown"] for frame in frames]


def _probability(probability: NDArray[np.uint8]) -> list[list[list[int]]]:
    """Per cent by lead and class, as runs."""
    return [[runs(cells) for cells in classes] for classes in probability]


def _realizations(futures: Realizations, classes: tuple[str, ...]) -> dict[str, Any]:
    """How many there are, and of each agent that is in any: class, size, place now, and paths.

    A path has x, y and yaw at each lead, or nothing.
    """
    agents = {}
    for track in np.flatnonzero(np.isfinite(futures.pose).any(axis=(0, 1, 3))).tolist():
        label = int(futures.label[track])
        agents[track + 1] = {
            "kind": classes[label] if label < len(classes) else f"class {label}",
            "size": _finite(futures.size[None, track])[0],
            "present": _finite(futures.present[None, track])[0],
            "paths": [_finite(path) for path in futures.pose[:, :, track]],
        }
    return {"count": len(futures.pose), "agents": agents}


def _finite(rows: NDArray[Any]) -> list[list[float] | None]:
    """Rows of metres and radians, rounded to what can be seen; None where one is not known."""
    known, rounded = np.isfinite(rows).all(axis=-1), np.round(rows.astype(np.float64), 2)
    return [row if here else None for row, here in zip(rounded.tolist(), known, strict=True)]


def _centres(view: View, rasters: NDArray[Any], one: xr.Dataset) -> NDArray[Any]:
    """``(N, T, 2)`` centre of each id, of its box where known, else of its mask; metres.

    Where a view shows classes for want of ids there are none.
    """
    if view.classes:
        return np.empty((0, len(rasters), 2))
    if "track_state" in one:
        return np.asarray(one["track_state"].values[..., :2], np.float64)
    ids = np.arange(1, int(rasters.max(initial=0)) + 1)
    return np.stack([mask_centres(raster, ids, view.grid) for raster in rasters], axis=1)


def _frame(raster: NDArray[Any], semantic: NDArray[Any]) -> dict[str, Any]:
    return {"raster": raster, "semantic": semantic, "shown": {"runs": runs(raster)}}


def _describe(
    frames: Sequence[dict[str, Any]],
    centres: NDArray[Any],
    classes: tuple[str, ...],
    dt_s: float,
) -> None:
    """Adds the agents of each frame: id -> class, speed since the frame before, x, y."""
    for number, frame in enumerate(frames):
        ids, first = np.unique(frame["raster"], return_index=True)
        labels = frame["semantic"].ravel()[first]
        agents = {}
        for id_, label in zip(ids.tolist(), labels.tolist(), strict=True):
            if id_ == 0 or id_ > len(centres) or not np.isfinite(centres[id_ - 1, number]).all():
                continue
            x, y = centres[id_ - 1, number]
            moved = centres[id_ - 1, number] - centres[id_ - 1, max(number - 1, 0)]
            speed = round(float(np.hypot(*moved)) / dt_s, 2) if number else np.nan
            kind = classes[label] if label < len(classes) else f"class {label}"
            known = speed if np.isfinite(speed) else None
            agents[id_] = [kind, known, round(float(x), 2), round(float(y), 2)]
        frame["shown"]["agents"] = agents


def _arrows(view: View, raster: NDArray[Any], flow: NDArray[Any]) -> list[list[float]]:
    """x, y and backward flow, metres, at every few cells of the agents."""
    grid = view.grid
    row, column = np.nonzero(raster)
    kept = (row % FLOW_SPACING == 0) & (column % FLOW_SPACING == 0)
    row, column = row[kept], column[kept]
    dx, dy = flow[:, row, column].astype(np.float64)
    arrows = np.stack([grid.x_m[column], grid.y_m[row], dx, dy], axis=1)
    finite: list[list[float]] = np.round(arrows[np.isfinite(arrows).all(axis=1)], 2).tolist()
    return finite


def runs(raster: NDArray[Any]) -> list[int]:
    """A raster row by row as value, length, value, length ..."""
    flat = raster.ravel()
    starts = np.flatnonzero(np.r_[True, flat[1:] != flat[:-1]])
    lengths = np.diff(np.r_[starts, flat.size])
    pairs: list[int] = np.stack([flat[starts].astype(np.int64), lengths], axis=1).ravel().tolist()
    return pairs
