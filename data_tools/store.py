"""The writer of sequence stores, schema ``bev-sequence/2``.

How many sequences there are, and how many tracks and points the fullest has, is known only when
every scene has been read. So sequences are first written to parts, files of a few sequences each;
when all are there the store is laid out, and each of its shards is filled from the parts that it
needs, in any order and by any process.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import zarr
from numcodecs.zstd import Zstd
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from data_tools import windows
from data_tools.scene import text_of
from forecast.schema import POSE_NAMES, SEQUENCE_VARIABLES, STATE_NAMES, SequenceMeta
from forecast.storage.consolidation import consolidate
from forecast.storage.files import write_whole

SHARD = 32  # sequences in a shard, and the most in a part

LONG_NAMES = {
    "semantic": "class of the agent in each cell",
    "instance": "id of the agent in each cell, constant through the sequence; 0 is background",
    "map": "map layers in the present ego frame",
    "track_state": "pose and size of each agent in the present ego frame; NaN where absent",
    "track_class": "class of each agent, from 1; 0 is padding",
    "track_name": "what the recording calls each agent; empty is padding",
    "track_history": "pose and size of each agent as observed, in the present ego frame",
    "sample_time": "time of each sample of track_history; 0 is the present",
    "track_score": "the tracker's confidence in each agent",
    "ego_pose": "pose of the ego in the present ego frame",
    "map_point": "lane centres and their direction in the present ego frame; NaN is padding",
    "direction": "the way that the nearest lane leads, a unit vector; 0 where no lane is near",
    "bev": "further channels in the present ego frame; 0 where there is nothing",
    "scene": "recording that the sequence was taken from",
    "init_time": "time of the present frame in its recording",
}
UNITS = {"init_time": "s", "sample_time": "s", "time": "s", "x": "m", "y": "m"}
COLUMN_UNITS = {"x": "m", "y": "m", "yaw": "rad", "length": "m", "width": "m"}


@dataclass(frozen=True)
class Layout:
    """The sizes of a store, besides those that its attributes give.

    Args:
        sequences: Number of sequences.
        tracks: Most tracks of any sequence; a store without them has no ``track_state``.
        points: Most map points of any sequence.
        channels: Names of the channels of ``bev``.
        directions: Whether there is ``direction``.
        samples: Most samples of ``track_history`` of any sequence; 0 = there is none.
        scores: Whether there is ``track_score``.
    """

    sequences: int
    tracks: int
    points: int
    channels: tuple[str, ...] = ()
    directions: bool = False
    samples: int = 0
    scores: bool = False


@dataclass(frozen=True)
class Piece:
    """Consecutive sequences of one part that go to consecutive places of the store.

    Args:
        path: The part's file.
        scene: Name of the recording.
        start: First sequence of the part to take.
        stop: One past the last.
        place: Where the first goes in the store.
    """

    path: str
    scene: str
    start: int
    stop: int
    place: int


def write_part(system: Any, path: str, content: Sequence[windows.Sequence]) -> None:
    """Stores a few sequences until the store is laid out, each array compressed by itself.

    The first line says of each array which variable it is, its type, its shape and its bytes.
    """
    codec, index, packed = Zstd(level=1, checksum=True), [], []
    for sequence in content:
        for name in _FIELDS:
            values = np.asarray(getattr(sequence, name), order="C")
            packed.append(codec.encode(values) if values.size else b"")
            index.append((name, values.dtype.str, values.shape, len(packed[-1])))
    write_whole(system, path, b"\n".join([json.dumps(index).encode(), b"".join(packed)]))


@dataclass(frozen=True)
class Packed:
    """An array as a part holds it.

    Args:
        dtype: Its type.
        shape: Its shape.
        content: Its bytes, compressed; none if it has no values.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    content: memoryview

    def unpack(self, into: NDArray[Any]) -> None:
        """Writes the values into an array of its type and shape."""
        if into.flags.c_contiguous and into.size and into.dtype == self.dtype:
            Zstd().decode(self.content, into)
        elif into.size:
            into[...] = np.frombuffer(Zstd().decode(self.content), self.dtype).reshape(self.shape)


def read_part(system: Any, path: str) -> dict[str, list[Packed]]:
    """The arrays of a part by name, one for each sequence."""
    content = system.cat_file(path)
    start = content.index(b"\n") + 1
    arrays: dict[str, list[Packed]] = {}
    for name, dtype, shape, size in json.loads(content[:start]):
        packed = Packed(np.dtype(dtype), tuple(shape), memoryview(content)[start : start + size])
        arrays.setdefault(name, []).append(packed)
        start += size
    return arrays


def create_store(url: str, meta: SequenceMeta, layout: Layout, further: Mapping[str, Any]) -> None:
    """Lays out an empty store: groups, arrays, coordinates and attributes.

    Args:
        url: Local path or fsspec URL.
        meta: What the attributes say.
        layout: The sizes.
        further: Attributes that readers need not know of.
    """
    attrs = {**meta.to_attrs(), **further, "Conventions": "CF-1.12"}
    group = zarr.open_group(url, mode="w", zarr_format=3, attributes=attrs)
    for name, values in _coordinates(meta, layout).items():
        array = group.create_array(
            name,
            shape=values.shape,
            dtype="str" if values.dtype.kind == "U" else values.dtype,
            dimension_names=[name],
            attributes={"units": UNITS[name]} if name in UNITS else {},
        )
        array[:] = values
    sizes = _sizes(meta, layout)
    for name, (dims, dtype) in SEQUENCE_VARIABLES.items():
        wanted = layout.scores if name == "track_score" else True
        if wanted and all(sizes[dim] for dim in dims[1:]):
            _create_variable(group, name, [sizes[dim] for dim in dims], dims, dtype, meta)
    consolidate(url)


def write_shard(url: str, system: Any, pieces: Iterable[Piece]) -> None:
    """Fills one shard of every variable.

    Args:
        url: A store made by :func:`create_store`.
        system: The filesystem of the parts.
        pieces: Neighbours in the store that make up whole shards.
    """
    group = zarr.open_group(url, mode="r+", zarr_format=3)
    pieces = list(pieces)
    names = [text_of(piece.scene) for piece in pieces for _ in range(piece.start, piece.stop)]
    rows: dict[str, list[Packed]] = {}
    for piece in pieces:
        for name, values in read_part(system, piece.path).items():
            rows.setdefault(name, []).extend(values[piece.start : piece.stop])
    start, stop = pieces[0].place, pieces[0].place + len(names)
    for name, array in group.arrays():
        if name == "scene":
            array[start:stop] = np.array(names)
        elif name in rows:
            array[start:stop] = _join(name, rows.pop(name), array.shape[1:])


def part_counts(sequences: int) -> list[int]:
    """How many sequences each part of a scene holds."""
    return [min(SHARD, sequences - start) for start in range(0, sequences, SHARD)]


def shards(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Cuts pieces at the borders of shards and groups them by shard, in order."""
    cut: list[Piece] = []
    for piece in pieces:
        offset = piece.start - piece.place
        place, end = piece.place, piece.place + piece.stop - piece.start
        while place < end:
            border = min(end, (place // SHARD + 1) * SHARD)
            cut.append(Piece(piece.path, piece.scene, place + offset, border + offset, place))
            place = border
    for _, group in itertools.groupby(cut, key=lambda piece: piece.place // SHARD):
        yield list(group)


_FIELDS = [field.name for field in fields(windows.Sequence)]


def _join(name: str, rows: list[Packed], sizes: tuple[int, ...]) -> NDArray[Any]:
    """The arrays of sequences as one, padded behind with NaN or 0; samples in front.

    Args:
        name: The variable.
        rows: One for each sequence, which may be smaller than ``sizes``.
        sizes: Of the result, without the first axis.
    """
    dims, dtype = SEQUENCE_VARIABLES[name][0][1:], max(row.dtype for row in rows)
    joined = np.zeros((len(rows), *sizes), dtype)
    if dtype.kind == "f":
        joined[:] = np.nan
    for row, values in enumerate(rows):
        # The present is the last sample of all sequences.
        inner = (
            slice(size - length, size) if dim == "sample" else slice(length)
            for dim, length, size in zip(dims, values.shape, sizes, strict=True)
        )
        values.unpack(joined[row : row + 1, *inner])
    return joined


def _coordinates(meta: SequenceMeta, layout: Layout) -> dict[str, NDArray[Any]]:
    names: dict[str, tuple[str, ...]] = {
        "map_layer": meta.map_layers,
        "channel": layout.channels,
        "axis": ("x", "y") if layout.directions else (),
    }
    return {
        "time": (np.arange(meta.history + meta.horizon) - (meta.history - 1)) * meta.dt_s,
        "y": meta.grid.y_m,
        "x": meta.grid.x_m,
        "state": np.array(STATE_NAMES),
        "pose": np.array(POSE_NAMES),
        **{dim: np.array(values) for dim, values in names.items() if values},
    }


def _sizes(meta: SequenceMeta, layout: Layout) -> dict[str, int]:
    return {
        "sequence": layout.sequences,
        "time": meta.history + meta.horizon,
        "y": meta.grid.height,
        "x": meta.grid.width,
        "map_layer": len(meta.map_layers),
        "track": layout.tracks,
        "sample": layout.samples,
        "state": len(STATE_NAMES),
        "pose": len(POSE_NAMES),
        "point": layout.points,
        "point_state": len(POSE_NAMES),
        "channel": len(layout.channels),
        "axis": 2 if layout.directions else 0,
    }


def _create_variable(
    group: zarr.Group,
    name: str,
    shape: Sequence[int],
    dims: tuple[str, ...],
    dtype: str,
    meta: SequenceMeta,
) -> None:
    attrs: dict[str, Any] = {"long_name": LONG_NAMES[name]}
    if name in UNITS:
        attrs["units"] = UNITS[name]
    if name in ("semantic", "track_class"):
        attrs["flag_values"] = list(range(len(meta.classes) + 1))
        attrs["flag_meanings"] = " ".join(("background", *meta.classes))
    if dims[-1] in ("state", "pose", "point_state"):
        columns = STATE_NAMES if dims[-1] == "state" else POSE_NAMES
        attrs["columns"] = {column: COLUMN_UNITS[column] for column in columns}
    one_each = len(shape) > 1 and dtype != "str"  # names are few, and not all as long
    group.create_array(
        name,
        shape=tuple(shape),
        dtype=dtype,
        chunks=(1 if one_each else SHARD, *shape[1:]),
        shards=(SHARD, *shape[1:]) if one_each else None,
        compressors=ZstdCodec(level=3),
        fill_value=np.nan if dtype.startswith("float") else "" if dtype == "str" else 0,
        dimension_names=dims,
        attributes=attrs,
    )
