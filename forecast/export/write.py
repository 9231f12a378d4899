"""Exports a forecaster: graphs, metadata and parity, in one folder that appears whole or not."""

from __future__ import annotations

import copy
import inspect
import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from forecast import __version__
from forecast.checkpoint.checkpoint import Checkpoint, named_checkpoint
from forecast.checkpoint.packaged import PACKAGED, packaged
from forecast.data.reader import SequenceReader
from forecast.errors import ConfigError, DataError, ParityError
from forecast.export import host, host_arrays
from forecast.export.belonging import file_of, told_by, write_checksums
from forecast.export.compiled import CPU, compile_graph, runner, silent, this_cpu
from forecast.export.compiled import load as load_compiled
from forecast.export.example import write_history
from forecast.export.graphs import make_graph
from forecast.export.host import Arrays, HostForecaster
from forecast.export.layout import GraphSpec, Layout
from forecast.export.parity import LIMIT, Differences, compare, observe_arguments, observe_history
from forecast.export.request import ExportRequest
from forecast.export.slots import SlotForecaster
from forecast.export.translation import translations
from forecast.grid import BEVGrid
from forecast.model.forecaster import Forecaster
from forecast.observations import observations
from forecast.parallel import Progress
from forecast.storage.atomic import staged_folder
from forecast.types import BEVSequence

SUFFIX = {"onnx": "onnx", "pt2": "pt2", "aoti": "aoti.pt2"}
# Parts of the forecaster that each graph uses.
PARTS = {
    "observe": ("observer",),
    "observe_raster": ("observer", "raster_encoder", "decoder", "query_pos_encoder"),
    "look_ahead": ("observer", "agent_encoder", "map_crop", "newcomer_head"),
    "step": (
        *("decoder", "query_pos_encoder", "motion_head", "visibility_head"),
        "query_interaction",
    ),
    "draw": ("mask_head", "newcomer_head"),
}


@dataclass(frozen=True)
class Exported:
    """What an export left behind.

    Attributes:
        output: The folder.
        parity: The largest differences, by format and number of slots.
        histories: How many were compared.
    """

    output: str
    parity: dict[str, dict[str, Differences]]
    histories: int


def export(request: ExportRequest, progress: Progress = lambda done, of: None) -> Exported:
    """Exports a forecaster, and compares what was exported with the forecaster itself.

    Args:
        request: What to export.
        progress: Told after each graph.

    Raises:
        ForecastError: The model or the data cannot be read or exported, what was exported says
            something else than the forecaster, or the folder cannot be written.
    """
    checkpoint = named_checkpoint(request.model or PACKAGED)
    reader = SequenceReader(request.data or packaged("sample.zarr"))
    forecaster = checkpoint.model
    _refuse_unlike(forecaster, reader)
    forecaster.least_cell = reader.meta.small_drawn
    count = min(request.histories, len(reader))
    histories = [_history(reader, index) for index in range(count)]
    if not histories:
        raise DataError("a history to compare with", f"none in {reader.path}", "use another store")
    with staged_folder(request.output) as folder, _refusing_export_errors():
        writer = _Writer(folder, request, checkpoint, reader.meta.grid, progress)
        buckets = [writer.bucket(slots, histories[0]) for slots in request.slots]
        metadata = writer.metadata(buckets)
        parity = {
            kind: {
                str(bucket["slots"]): compare(
                    opened(folder, metadata, kind, bucket), forecaster, histories, request.horizon
                )
                for bucket in buckets
            }
            for kind in request.formats
        }
        _refuse_apart(parity)
        report = {"limit": LIMIT, "histories": count, "horizon": request.horizon, **parity}
        _write_json(folder / "parity.json", report)
        for module in (host, host_arrays):
            shutil.copy(inspect.getfile(module), folder)
        write_history(folder / host.HISTORY, histories[0], forecaster.spec.lane_spacing_m)
        request.refuse_existing()
    return Exported(request.output, parity, count)


def _history(reader: SequenceReader, index: int) -> BEVSequence:
    return reader[index].crop(0, reader.meta.history)


def _refuse_unlike(forecaster: Forecaster, reader: SequenceReader) -> None:
    """Refuses models that graphs are not made of, and data of another kind."""
    inputs, meta = forecaster.inputs, reader.meta
    if forecaster.spec.mask_head != "dot" and forecaster.spec.has_raster_encoder:
        raise ConfigError("a model with mask_head: dot", "fpn", "export another model")
    if inputs.bev_channels:
        raise ConfigError("a model of classes and map alone", "bev channels", "export another")
    if inputs.classes != meta.classes or inputs.map_layers != tuple(reader.map_layers):
        raise DataError(
            f"classes {inputs.classes} and map layers {inputs.map_layers}, as the model knows them",
            f"{meta.classes} and {tuple(reader.map_layers)} in {reader.path}",
            "give --data a store like those that it was trained with",
        )
    if "track_state" not in reader.variables:
        raise DataError("a store with tracks", f"none in {reader.path}", "give another --data")


def _refuse_apart(parity: dict[str, dict[str, Differences]]) -> None:
    for kind, buckets in parity.items():
        for slots, differences in buckets.items():
            for name, value in differences.items():
                if not value <= LIMIT:
                    raise ParityError(
                        f"{kind} graphs that say what the forecaster says, to {LIMIT:g}",
                        f"{value:.2g} for {name} of {slots} agents",
                        "nothing was exported; report it with the versions of torch and the format",
                    )


@contextmanager
def _refusing_export_errors() -> Iterator[None]:
    """Turns what a host refuses, which knows no errors of ours, into one of them."""
    try:
        yield
    except host.ExportError as error:
        raise DataError(*error.parts) from error


def _steps_known(checkpoint: Checkpoint) -> tuple[float, float]:
    """The shortest and the longest step that a forecaster was trained for, in seconds.

    ``augmentation.other_step`` of any of its trainings makes some a fifth or twice as long.
    """
    dt_s = checkpoint.dt_s
    return (dt_s / 5, dt_s * 2) if _had_other_steps(checkpoint.training) else (dt_s, dt_s)


def _had_other_steps(training: Any) -> bool:
    """Whether a configuration says so: there are several where runs went on from one another."""
    if isinstance(training, list | tuple):
        return any(map(_had_other_steps, training))
    if not isinstance(training, dict):
        return False
    return any(
        bool(value) if name == "other_step" else _had_other_steps(value)
        for name, value in training.items()
    )


class _Writer:
    """Writes the graphs of one forecaster."""

    def __init__(
        self,
        folder: Path,
        request: ExportRequest,
        checkpoint: Checkpoint,
        grid: BEVGrid,
        progress: Progress,
    ) -> None:
        self.folder, self.request, self.checkpoint, self.grid = folder, request, checkpoint, grid
        self.forecaster = SlotForecaster(checkpoint.model)
        self.levels = _levels(checkpoint.model, grid)
        self.about = self._about()
        self.progress, self.done = progress, 0

    def bucket(self, slots: int, example: BEVSequence) -> dict[str, Any]:
        """Writes the graphs of a bucket, and says what they are."""
        model = self.checkpoint.model
        layout = Layout(
            model.spec, model.inputs, self.grid, slots, self.request.points, self.levels
        )
        examples = _examples(self.forecaster, layout, example)
        graphs = {
            spec.name: self._graph(layout, spec, examples[spec.name]) for spec in layout.graphs
        }
        state = {name: _described(spec) for name, spec in layout.state.items()}
        return {"slots": slots, "state": state, "graphs": graphs}

    def _graph(self, layout: Layout, spec: GraphSpec, example: Arrays) -> dict[str, Any]:
        graph = make_graph(_trimmed(self.forecaster, PARTS[spec.name]), layout, spec)
        tensors = {name: torch.as_tensor(value) for name, value in example.items()}
        with torch.no_grad(), _quiet():
            # Each format has a program of its own: one changes what another would have to read.
            files = {
                kind: self._file(
                    kind, torch.export.export(graph, (), tensors), tensors, layout, spec
                )
                for kind in self.request.formats
            }
        self.done += 1
        self.progress(self.done, len(layout.graphs) * len(self.request.slots))
        return {
            "state": [one.name for one in spec.state],
            "inputs": {one.name: _described(one) for one in spec.inputs},
            "next_state": [one.name for one in spec.next_state],
            "outputs": {one.name: _described(one) for one in spec.outputs},
            "files": files,
        }

    def _file(
        self,
        kind: str,
        program: ExportedProgram,
        tensors: dict[str, Tensor],
        layout: Layout,
        spec: GraphSpec,
    ) -> dict[str, str]:
        path = self.folder / f"{spec.name}_{layout.slots}.{SUFFIX[kind]}"
        if kind == "pt2":
            torch.export.save(program, path)
        elif kind == "aoti":
            compile_graph(program, path)
        else:
            made = torch.onnx.export(
                program,
                (),
                kwargs=tensors,
                output_names=spec.output_names,
                optimize=False,  # ONNX Runtime does it; here it would take minutes
                custom_translation_table=translations(),
                verbose=False,
            )
            assert made is not None
            made.model.metadata_props.update(told_by(self.about, layout, spec))
            made.save(path)
        return file_of(path)

    def metadata(self, buckets: list[dict[str, Any]]) -> dict[str, Any]:
        """Writes what the folder holds, with checksums of all and of itself, and returns it."""
        about: dict[str, Any] = json.loads(json.dumps({**self.about, "buckets": buckets}))
        _write_json(self.folder / host.METADATA, {**about, "sha256": host.checksum(about)})
        write_checksums(self.folder, about)
        return about

    def _about(self) -> dict[str, Any]:
        """What holds for all graphs."""
        model = self.checkpoint.model
        return {
            "schema": host.SCHEMA,
            "version": __version__,
            "checkpoint_sha256": self.checkpoint.hash,
            "grid": self.grid.to_attrs(),
            "classes": list(model.inputs.classes),
            "map_layers": list(model.inputs.map_layers),
            "dt_s": self.checkpoint.dt_s,
            "dt_range_s": list(_steps_known(self.checkpoint)),
            "time_unit_s": model.spec.time_unit_s,
            "learned_horizon_s": model.learned_horizon.seconds,
            "lane_spacing_m": model.spec.lane_spacing_m,
            "keep": model.spec.keep,
            "formats": list(self.request.formats),
            CPU: this_cpu(),
        }


def opened(
    folder: Path, metadata: dict[str, Any], kind: str, bucket: dict[str, Any]
) -> HostForecaster:
    """What was exported, from its files."""
    if kind == "onnx":
        return host.load(folder, bucket["slots"], threads=torch.get_num_threads())
    if kind == "aoti":
        return load_compiled(folder, bucket["slots"])
    return HostForecaster(bucket, metadata, _of_programs(folder, bucket))


Watch = Callable[[str, Arrays], None]
"""Is told which graph is run, and on what."""


def _of_programs(folder: Path, bucket: dict[str, Any]) -> host.Run:
    programs = {
        name: torch.export.load(host.checked_file(folder, graph["files"]["pt2"])).module()
        for name, graph in bucket["graphs"].items()
    }
    return runner(programs.__getitem__)


def in_torch(
    forecaster: SlotForecaster, layout: Layout, watch: Watch = lambda name, feed: None
) -> HostForecaster:
    """The graphs before they are exported, behind the same host; ``watch`` is told each call."""
    graphs = {spec.name: make_graph(forecaster, layout, spec) for spec in layout.graphs}
    described = {
        spec.name: {
            "state": [one.name for one in spec.state],
            "inputs": [one.name for one in spec.inputs],
            "outputs": [one.name for one in spec.outputs],
        }
        for spec in layout.graphs
    }
    state = {name: asdict(spec) for name, spec in layout.state.items()}
    bucket = {"slots": layout.slots, "state": state, "graphs": described}
    about = {"lane_spacing_m": layout.spec.lane_spacing_m, "classes": layout.inputs.classes}
    run = runner(graphs.__getitem__)

    def watched(name: str, feed: Arrays) -> Arrays:
        watch(name, feed)
        return run(name, feed)

    return HostForecaster(bucket, about, watched)


def _examples(
    forecaster: SlotForecaster, layout: Layout, history: BEVSequence
) -> dict[str, Arrays]:
    """Inputs of each graph, from a real history."""
    inputs: dict[str, Arrays] = {}
    runner = in_torch(forecaster, layout, inputs.__setitem__)
    observe_history(runner, history)
    last = observe_arguments(list(observations(history))[-1])
    for raster in (False, True):  # all moments of the history may be of one kind
        runner.observe(**last | {"raster": raster})
    for _ in runner.forecast(2, history.dt_s, draw=True):
        pass
    return inputs


def _levels(forecaster: Forecaster, grid: BEVGrid) -> tuple[tuple[int, int], ...]:
    """Height and width of each level of the encoded features; none where no raster is read."""
    if forecaster.spec.raster != "always" or forecaster.raster_encoder is None:
        return ()
    frame = torch.zeros(1, forecaster.inputs.channels, *grid.shape)
    with torch.inference_mode():
        return tuple((h, w) for h, w in forecaster.raster_encoder(frame).shapes)


def _trimmed(forecaster: SlotForecaster, parts: tuple[str, ...]) -> SlotForecaster:
    """The forecaster without what a graph does not use, whose weights would be written."""
    some = copy.copy(forecaster)
    modules = {name: part if name in parts else None for name, part in some._modules.items()}
    object.__setattr__(some, "_modules", modules)
    return some


def _described(spec: Any) -> dict[str, Any]:
    return {name: value for name, value in asdict(spec).items() if name != "name"}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides what the exporters tell of themselves."""
    with warnings.catch_warnings(), silent("torch.onnx", "onnxscript", "onnx_ir"):
        warnings.simplefilter("ignore")
        yield
