"""From recordings to a sequence store: the whole way, in parallel, safe against interruption.

Scenes become parts in any order (:mod:`data_tools.part_files`); the store is assembled from the
parts in the order of the units, which makes it the same whatever the number of workers and of
interruptions, and takes its final name at the very end.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cache, partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

import forecast
from data_tools import dense, windows
from data_tools.centre import EGO
from data_tools.classes import class_of
from data_tools.jumps import jumps
from data_tools.labels.protocols import PROTOCOLS
from data_tools.options import PrepareOptions
from data_tools.part_files import PartFiles, Record, told_apart
from data_tools.passing import refuse_passing
from data_tools.report import PrepareReport, notes, refuse_useless, summarise
from data_tools.scene import DenseScene, Scene
from data_tools.sizes import with_typical_sizes
from data_tools.sources import Source, source
from data_tools.sources.inputs import places
from data_tools.store import SHARD, Layout, create_store, shards, write_part, write_shard
from data_tools.suspicions import of_coordinates, of_scene
from forecast.errors import DataError
from forecast.parallel import MapParallel, Progress, map_parallel
from forecast.schema import MAP_LAYERS, SEQUENCE_SCHEMA, SequenceMeta
from forecast.storage.atomic import refuse_replacing
from forecast.storage.files import filesystem, version_of
from forecast.storage.sole_writer import refuse_working_folder, sole_writer

__all__ = ["PrepareOptions", "PrepareReport", "prepare"]


def prepare(
    source_name: str,
    inputs: Sequence[str],
    output: str,
    options: PrepareOptions,
    progress: Progress | None = None,
) -> PrepareReport:
    """Turns recordings into a sequence store.

    Args:
        source_name: Kind of recording, see :func:`data_tools.sources.source`.
        inputs: Files, directories, globs, URLs or ``@list.txt``, as the source understands them.
        output: Where the store goes: local path or fsspec URL.
        options: See :class:`PrepareOptions`.
        progress: Called with (steps done, steps in all): a step for each scene, then one for each
            shard of the store, whose number the scenes decide.

    Raises:
        ConfigError: There is no such source, or what is read would be replaced.
        DataError: An input is missing, the output exists or cannot be written, an unfinished run
            is there and not to be resumed, the one to be resumed was another, or no scene gave a
            sequence.
        PassingError: The machine or a network failed while an input was read.
    """
    refuse_working_folder(output)
    origin = source(source_name, dict(options.settings), options.preset, options.map_classes)
    try:
        with sole_writer(output):
            return _prepare_alone(origin, inputs, output, options, progress)
    except OSError as error:
        raise DataError(
            "room and permission to write",
            f"{error} for {output}",
            "free space or choose another place; --resume goes on from what is done",
        ) from error


def _prepare_alone(
    origin: Source,
    inputs: Sequence[str],
    output: str,
    options: PrepareOptions,
    progress: Progress | None,
) -> PrepareReport:
    began = time.perf_counter()
    parts = PartFiles(output, options.overwrite)
    if not options.resume:
        if not options.overwrite:
            parts.refuse_existing()  # before the inputs are searched
        parts.refuse_unfinished()
    with _stopping(inputs[0] if len(inputs) == 1 else f"{len(inputs)} inputs"):
        units = origin.find(inputs)
    _refuse_replacing_inputs(output, inputs, units, options.overwrite)
    parts.begin(_plan(origin, units, options), options.resume)
    with map_parallel(min(options.workers, len(units)), options.scheduler) as run:
        _read_units(run, parts, origin, units, options, progress)
        records = _usable(parts, origin, units, options)
        if not parts.published:
            _assemble(run, parts, origin, records, options, progress)
            parts.publish()
    parts.discard()
    return summarise(origin.name, records, options, time.perf_counter() - began)


def _refuse_replacing_inputs(
    output: str, inputs: Sequence[str], units: Sequence[str], overwrite: bool
) -> None:
    """Refuses an output that holds what is read, in its place or its partial folder.

    What replaces something inside a folder that is read is refused too: sources read more of it
    than their units name.

    Raises:
        ConfigError: It would be replaced.
    """
    partial_output = f"{output.rstrip('/')}.partial"
    system, _ = filesystem(output)
    there = [one for one in (output, partial_output) if system.exists(filesystem(one)[1])]
    if not there:
        return
    # A unit may be part of a file or folder: PLACE#PART.
    of_units = {place for unit in units for place in (unit, _file_of(unit))}
    read = sorted(of_units.union(places(inputs)))
    for path in there:
        replaced = overwrite and path == output
        refuse_replacing("--output", path, read, around=read if replaced else ())


def _plan(origin: Source, units: Sequence[str], options: PrepareOptions) -> dict[str, Any]:
    """Everything that the result depends on."""
    chosen = asdict(options)
    for name in ("workers", "scheduler", "resume", "overwrite"):
        del chosen[name]
    chosen |= _preset(origin, options)
    versions = {"version": forecast.__version__, "schema": SEQUENCE_SCHEMA}
    return {"source": origin.name, "units": units, **versions, **chosen}


def _preset(origin: Source, options: PrepareOptions) -> dict[str, Any]:
    """What the preset of a source says, if one was chosen: its file may change later."""
    found: Any = getattr(origin, "preset", None)
    return {} if options.preset is None else {"preset": found.to_json()}


def _read_units(
    run: MapParallel,
    parts: PartFiles,
    origin: Source,
    units: Sequence[str],
    options: PrepareOptions,
    progress: Progress | None,
) -> None:
    """Reads the units that have no record yet, and those whose record is no longer true."""
    missing = parts.missing(len(units))
    todo = missing if parts.published else sorted({*missing, *_outdated(parts, units, missing)})
    tasks = [(index, units[index]) for index in todo]
    done = len(units) - len(todo)
    for _ in run(partial(_read_unit, parts, origin, options), tasks):
        done += 1
        if progress:
            progress(done, len(units))


def _outdated(parts: PartFiles, units: Sequence[str], missing: Sequence[int]) -> Iterator[int]:
    """Units of an interrupted run to be read anew: left out then, or of a file that has changed."""
    version = cache(_version)
    for index in sorted({*range(len(units))} - {*missing}):
        record = parts.record_of(index)
        if record.skipped or record.version != version(_file_of(units[index])):
            yield index


def _file_of(unit: str) -> str:
    """The file or folder that a unit is, or is part of."""
    return unit.rpartition("#")[0] or unit


def _version(path: str) -> str:
    """A text that is another one once a file has changed; empty where there is none."""
    try:
        return version_of(path, "a recording")
    except DataError as error:
        refuse_passing(error, path)
        return ""


def _read_unit(
    parts: PartFiles, origin: Source, options: PrepareOptions, task: tuple[int, str]
) -> None:
    """Reads one unit and leaves its parts, then its record."""
    index, unit = task
    version = _version(_file_of(unit))  # before it is read, so that no later change is missed
    try:
        with _stopping(unit):
            scene = origin.read(unit, options.dt_s / options.phases)
        named = partial(
            class_of, origin.name, overrides=options.map_classes, classes=options.classes
        )
        with _naming(unit):
            found, about = _draw(unit, scene, options, named)
            record = _write_parts(parts, index, found, about)
        if not record.sequences:
            raise DataError(
                f"{options.frames} frames in a row with a known {options.centre}",
                f"none in the {len(scene.time_s)} frames of {unit}",
                "lower --history or --horizon, try --centre moving, or leave it out",
            )
    except DataError as error:
        record = Record(unit, skipped=str(error))
    parts.keep(index, replace(record, version=version).to_json())


def _usable(
    parts: PartFiles, origin: Source, units: Sequence[str], options: PrepareOptions
) -> list[Record]:
    """The records of all units; a run that cannot make a store is discarded."""
    records = parts.records(units)
    try:
        refuse_useless(origin.name, records, options)
        _channels(records)
    except DataError:
        parts.discard()
        raise
    return told_apart(records)


@contextmanager
def _stopping(unit: str) -> Iterator[None]:
    """Stops the run where reading failed for a reason that may pass."""
    try:
        yield
    except Exception as error:
        refuse_passing(error, unit)
        raise


@contextmanager
def _naming(unit: str) -> Iterator[None]:
    """Adds the unit's name to errors of drawing its scene."""
    try:
        yield
    except DataError as error:
        raise DataError(error.expected, f"{error.got} in {unit}", error.remedy) from error


def _draw(
    unit: str, scene: Scene | DenseScene, options: PrepareOptions, named: Callable[[str], str]
) -> tuple[Iterator[windows.Sequence], Record]:
    """The sequences of a scene, and its record without their number and sizes."""
    joints = int(jumps(scene.ego_pose, scene.dt_s).sum()) if options.centre == EGO else 0
    notes = Counter({"steps that no vehicle makes, no sequence across": joints})
    if isinstance(scene, DenseScene):
        notes += Counter(scene.notes)
        if options.protocol != "exact":
            raise DataError(
                f"tracks for --protocol {options.protocol} to draw", "rasters", "drop it"
            )
        if options.directions:
            raise DataError("lanes for --directions to draw", "rasters", "drop it")
        number, frames = dense.class_numbers(scene, options, named)
        drawn = [label for label in np.unique(scene.semantic).tolist() if label > 0]
        about = Record(
            unit,
            scene.name,
            has_map=scene.map is not None,
            channels=list(scene.channels),
            notes=dict(notes + Counter(frames)),
            warnings=of_coordinates(scene.ego_pose[:, :2]),
            classes=_names(number[drawn], options),
            unwanted=[scene.native[label - 1] for label in drawn if not number[label]],
        )
        return dense.sequences(scene, number, options), about
    scene = with_typical_sizes(scene, named, options.classes)
    tracks = windows.usable_tracks(scene, options.classes, named)
    notes += Counter(scene.notes) + Counter(tracks.notes)
    # At least one track, so that the variable exists even where no agent was seen.
    about = Record(
        unit,
        scene.name,
        tracks=1,
        has_score=scene.score is not None,
        has_map=bool(scene.map),
        notes=dict(notes),
        warnings=of_scene(scene),
        classes=_names(tracks.label, options),
        unwanted=sorted(tracks.unwanted),
    )
    return windows.sequences(scene, tracks, options), about


def _names(label: NDArray[np.uint8], options: PrepareOptions) -> list[str]:
    return [name for k, name in enumerate(options.classes, start=1) if (label == k).any()]


def _write_parts(
    parts: PartFiles, index: int, found: Iterator[windows.Sequence], about: Record
) -> Record:
    sizes: list[tuple[int, int, int]] = []
    for part, content in enumerate(_batches(found, SHARD)):
        write_part(parts.system, parts.part_path(index, part), content)
        sizes += [
            (len(item.track_state), len(item.map_point), len(item.sample_time)) for item in content
        ]
    tracks, points, samples = map(max, zip((about.tracks, 0, 0), *sizes, strict=True))
    return replace(about, sequences=len(sizes), tracks=tracks, points=points, samples=samples)


def _batches(found: Iterator[windows.Sequence], size: int) -> Iterator[list[windows.Sequence]]:
    while batch := list(islice(found, size)):
        yield batch


def _meta(
    origin: Source, records: Sequence[Record], layout: Layout, options: PrepareOptions
) -> SequenceMeta:
    return SequenceMeta(
        source=origin.name,
        grid=options.grid,
        dt_s=options.dt_s,
        history=options.history,
        horizon=options.horizon,
        classes=options.classes,
        map_layers=MAP_LAYERS if any(record.has_map for record in records) else (),
        protocol=(PROTOCOLS[options.protocol] if layout.tracks else dense.WARPED).to_attrs(),
        created_by=f"bev-forecast {forecast.__version__}",
    )


def _assemble(
    run: MapParallel,
    parts: PartFiles,
    origin: Source,
    records: Sequence[Record],
    options: PrepareOptions,
    progress: Progress | None,
) -> None:
    """Lays the store out and fills it, shard by shard."""
    layout = Layout(
        sequences=sum(record.sequences for record in records),
        tracks=max(record.tracks for record in records),
        points=max(record.points for record in records),
        channels=_channels(records),
        directions=options.directions and any(record.has_map for record in records),
        samples=max(record.samples for record in records),
        scores=any(record.has_score for record in records),
    )
    meta = _meta(origin, records, layout, options)
    further = {"notes": notes(records, options), "centre": options.centre}
    further |= _preset(origin, options)
    create_store(parts.store_url, meta, layout, further)
    tasks = list(shards(parts.pieces(records)))
    filled = run(partial(write_shard, parts.store_url, parts.system), tasks)
    for done, _ in enumerate(filled, start=len(records) + 1):
        if progress:
            progress(done, len(records) + len(tasks))


def _channels(records: Sequence[Record]) -> tuple[str, ...]:
    """The channels that all scenes have.

    Raises:
        DataError: They have different ones.
    """
    units = {tuple(record.channels): record.unit for record in records if record.sequences}
    if len(units) > 1:
        found = (f"{', '.join(names) or 'none'} in {unit}" for names, unit in units.items())
        raise DataError("the same channels in all scenes", "; ".join(found), "prepare them apart")
    (channels,) = units
    return channels
