"""The forecaster that was asked for by name: a baseline, or a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from forecast.checkpoint.checkpoint import named_checkpoint
from forecast.checkpoint.packaged import PACKAGED
from forecast.data.reader import SequenceReader
from forecast.errors import ConfigError, DataError
from forecast.inference.error_paths import packaged_paths, paths_of
from forecast.inference.request import (
    InputMode,
    check_model,
    refuse_realizations,
    store_of_errors,
)
from forecast.loop import BranchingModel, StepModel
from forecast.model.baselines import Baseline, Components
from forecast.model.branching import Branching
from forecast.model.detected_input import Detecting
from forecast.model.forecaster import Forecaster
from forecast.model.mirrored import Mirrored
from forecast.model.resampled_errors import ResampledErrors
from forecast.model.sampled_baselines import SampledBaseline, SampledComponents, SampledKalman
from forecast.model.spec import BASELINES, COMPONENTS, RESAMPLED, baseline_of
from forecast.schema import DEFAULT_CLASSES
from forecast.types import (
    Draws,
    Observation,
    RealizationStep,
    SceneContext,
    StepForecast,
    on_device,
)

Model = StepModel[Any, StepForecast]


@dataclass(frozen=True)
class Provenance:
    """Where a forecast comes from.

    Attributes:
        model: A baseline's name, "packaged", or the path of a checkpoint.
        mirrored: Whether the forecast is averaged with that of the mirrored scene; None, here and
            below, for a baseline.
        fast: Whether rasters were left out.
        checkpoint_sha256: Of the weights.
        queries: Detect queries of detected input.
        config: The settings of its training, as far as they are known.
    """

    model: str
    mirrored: bool | None = None
    fast: bool | None = None
    checkpoint_sha256: str | None = None
    queries: int | None = None
    config: Mapping[str, Any] | None = None

    def to_attrs(self) -> dict[str, Any]:
        """Plain JSON values for a store's attributes; without what there is not."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to be rolled out, and what it needs to be given.

    It moves what it is given to its device, and computes no gradients.

    Attributes:
        model: The forecaster or baseline itself.
        provenance: What it is.
        device: Where it computes.
        classes: Names of the classes 1, 2, ...
        map_layers: Names of the map's layers as they are given, in order; None = any map.
        bev_channels: The user's own channels; None = any number.
        known_layers: Of the map's layers, those that the model was trained with; it is given an
            empty one for each that is not among ``map_layers``.
    """

    model: Model = field(repr=False)
    provenance: Provenance
    device: torch.device
    classes: tuple[str, ...]
    map_layers: tuple[str, ...] | None = None
    bev_channels: int | None = None
    known_layers: tuple[str, ...] = field(default=(), repr=False)

    @property
    def reads_tracks(self) -> bool:
        """Whether agents come as tracks: of tracked input they do."""
        return self.model.reads_tracks

    def start(self, context: SceneContext) -> Any:
        """The state before anything was seen.

        Raises:
            DataError: Map layers are not those that the model was told of.
        """
        with torch.inference_mode():
            return self.model.start(self._with_known_layers(on_device(context, self.device)))

    def observe(self, state: Any, frame: Observation) -> Any:
        """The state after a moment was seen."""
        with torch.inference_mode():
            return self.model.observe(state, on_device(frame, self.device))

    def step(self, state: Any, dt_s: float) -> tuple[Any, StepForecast]:
        """The next state and the forecast of the next step."""
        with torch.inference_mode():
            return self.model.step(state, dt_s)

    def branch(self, state: Any, draws: Draws, dt_s: float) -> Any:
        """The state repeated for some realizations.

        Raises:
            ConfigError: The model knows one future only.
        """
        with torch.inference_mode():
            return self._branching().branch(state, draws, dt_s)

    def step_branches(
        self, branches: Any, dt_s: float, masks: bool = False
    ) -> tuple[Any, RealizationStep]:
        """The next state and poses of all realizations."""
        with torch.inference_mode():
            return self._branching().step_branches(branches, dt_s, masks)

    def _branching(self) -> BranchingModel[Any, StepForecast, Any]:
        if isinstance(self.model, SampledBaseline | SampledComponents):
            return self.model
        if isinstance(self.model, Forecaster | Detecting):
            return Branching(self.model)
        refuse_realizations(self.provenance.model, bool(self.provenance.mirrored))

    def _with_known_layers(self, context: SceneContext) -> SceneContext:
        """The scene with the map layers that the model knows; those it is not given are empty."""
        given = context.map.shape[1]
        if self.map_layers is None or not given:
            return context
        if given != len(self.map_layers):
            remedy = "name the layers: load_model(..., map_layers=...)"
            raise DataError(f"{len(self.map_layers)} map layers", str(given), remedy)
        found = dict(zip(self.map_layers, context.map.unbind(1), strict=True))
        empty = torch.zeros_like(context.map[:, 0])
        layers = [found.get(name, empty) for name in self.known_layers]
        return replace(context, map=torch.stack(layers, 1) if layers else context.map[:, :0])


def load_model(
    name: str | None = PACKAGED,
    *,
    input_mode: InputMode = "tracked",
    device: str | torch.device = "auto",
    mirror: bool = False,
    fast: bool = False,
    classes: Sequence[str] = DEFAULT_CLASSES,
    map_layers: Sequence[str] | None = None,
    least_cell: bool = False,
) -> LoadedModel:
    """The model that was asked for.

    Args:
        name: Baseline's name or checkpoint; "packaged" or None = the packaged checkpoint.
        input_mode: Whether the history's ids are read (tracked), or agents are found in its
            classes alone (detected).
        device: Where it computes; "auto" is CUDA where there is one.
        mirror: Whether the forecast is averaged with that of the mirrored scene.
        fast: Whether rasters are left out: queries read tracks, lanes and map crops alone.
        classes: Of the data that a baseline is given. A checkpoint has its own.
        map_layers: Names of the layers of the map that it is given; None = those that it knows, in
            its own order.
        least_cell: Whether a box is drawn as one cell at least.

    Raises:
        CheckpointError: The checkpoint is missing or damaged.
        ConfigError: The model cannot read this kind of input, or there is no such device.
    """
    check_model(name, input_mode, mirror, fast)
    device = choose_device(device)
    if (baseline := _not_learned(name, classes, least_cell, input_mode)) is not None:
        return LoadedModel(baseline, Provenance(str(name)), device, tuple(classes))
    checkpoint = named_checkpoint(name := name or PACKAGED)
    forecaster = checkpoint.model.to(device)
    forecaster.least_cell = least_cell
    if fast:
        forecaster.use(forecaster.spec.without_raster())
    known = forecaster.inputs.map_layers
    return LoadedModel(
        model=_reading(forecaster, input_mode, mirror),
        provenance=Provenance(
            name,
            mirror,
            fast,
            checkpoint.hash,
            forecaster.spec.queries,
            checkpoint.training.get("config", {}),
        ),
        device=device,
        classes=forecaster.inputs.classes,
        map_layers=known if map_layers is None else tuple(map_layers),
        bev_channels=forecaster.inputs.bev_channels,
        known_layers=known,
    )


def _not_learned(
    name: str | None, classes: Sequence[str], least_cell: bool, input_mode: InputMode
) -> Model | None:
    """The baseline of a name, of linked components where ids are hidden; None of a checkpoint."""
    baseline = _baseline(name, classes, least_cell)
    if baseline is None or input_mode == "tracked":
        return baseline
    if isinstance(baseline, SampledBaseline):
        return SampledComponents(baseline)
    return Components(baseline)


def _baseline(name: str | None, classes: Sequence[str], least_cell: bool) -> Baseline | None:
    if name == "kalman":
        return SampledKalman(len(classes), least_cell)
    if baseline_of(name) == RESAMPLED:
        store = store_of_errors(name)
        paths = packaged_paths(classes) if store is None else paths_of(store, classes)
        return ResampledErrors(paths, least_cell)
    name = "constant-velocity" if name == COMPONENTS else name
    for baseline in BASELINES:
        if name == baseline:
            return Baseline(baseline, len(classes), least_cell=least_cell)
    return None


def load_model_for(
    reader: SequenceReader,
    name: str | None,
    device: str | torch.device,
    input_mode: InputMode = "tracked",
    mirror: bool = False,
    fast: bool = False,
) -> LoadedModel:
    """The model that was asked for, made to fit a store.

    Args:
        reader: The store.
        name: See :func:`load_model`, as of the others.
        device: Where it computes.
        input_mode: Whether the history's ids are read.
        mirror: Whether the forecast is averaged with that of the mirrored scene.
        fast: Whether rasters are left out.

    Raises:
        CheckpointError: The checkpoint is missing or damaged.
        ConfigError: The model cannot read this kind of input, or there is no such device.
        DataError: The store does not offer what the model was trained on.
    """
    meta = reader.meta
    model = load_model(
        name,
        input_mode=input_mode,
        device=device,
        mirror=mirror,
        fast=fast,
        classes=meta.classes,
        map_layers=meta.map_layers,
        least_cell=meta.small_drawn,
    )
    for what, wanted, found in (
        ("classes", model.classes, meta.classes),
        ("bev channels", model.bev_channels, reader.bev_channels),
    ):
        if wanted is not None and wanted != found:
            raise DataError(
                f"{what} {wanted}, as the model was trained with",
                f"{found} in {reader.path}",
                "prepare the data alike, or use another checkpoint",
            )
    return model


def _reading(forecaster: Forecaster, input_mode: InputMode, mirror: bool) -> Model:
    """The forecaster, given the input that was asked for."""
    if input_mode == "detected":
        return Detecting(forecaster)
    return Mirrored(forecaster) if mirror else forecaster


def choose_device(name: str | torch.device) -> torch.device:
    """The device by name; "auto" is CUDA where there is one.

    Raises:
        ConfigError: There is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            "a device that torch has here, such as cpu", repr(name), "change --device"
        ) from error
    return device
