"""What a configured network looks like inside, and what a change of its settings does to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from forecast.config.config import load_config
from forecast.config.renamed import RENAMED
from forecast.detector.spec import DetectorSpec
from forecast.errors import ConfigError
from forecast.inspection.costs import COUNTED, LayerCost, total
from forecast.model.spec import ForecasterSpec, Inputs
from forecast.storage.yaml_files import parse_yaml

MOST_VARIANTS = 12
# Sizes where none is asked for: the reference's images, the default BEV grid.
DETECTOR_SIZE, FORECASTER_SIZE = (800, 1204), (200, 200)
Spec = DetectorSpec | ForecasterSpec
Frame = tuple[int, int, int]  # channels, height, width


@dataclass(frozen=True)
class Variant:
    """One network.

    Attributes:
        changes: What differs from the configuration, by hyper-parameter.
        input: Channels, height and width of a frame.
        stages: Its tensors in order.
    """

    changes: Mapping[str, Any]
    input: Frame
    stages: tuple[LayerCost, ...]

    @property
    def total(self) -> LayerCost:
        """All stages together."""
        return total(self.stages)

    def to_json(self) -> dict[str, Any]:
        """Lists and plain numbers; the shape of what does not exist is null."""
        return {
            "changes": dict(self.changes),
            "input": list(self.input),
            "stages": [asdict(stage) for stage in self.stages],
            "total": {k: v for k, v in asdict(self.total).items() if k not in ("name", "shape")},
        }


@dataclass(frozen=True)
class ModelSummary:
    """A configured network, and the variants of it that were asked for.

    Attributes:
        source: Configuration or checkpoint.
        kind: "detector" or "forecaster".
        remark: How the figures came about.
        own: The network as configured.
        variants: The network with one change or more; empty where none was asked for.
    """

    source: str
    kind: str
    remark: str
    own: Variant
    variants: tuple[Variant, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The network's own figures at the top, variants in a list."""
        own = {key: value for key, value in self.own.to_json().items() if key != "changes"}
        about = {"source": self.source, "kind": self.kind, "remark": self.remark}
        return about | own | {"variants": [variant.to_json() for variant in self.variants]}


def describe_model(source: str, size: str | None, vary: Sequence[str]) -> ModelSummary:
    """Looks into a network, and into variants of it: every combination of the varied values.

    Args:
        source: A configuration, a checkpoint or a run's folder.
        size: Frame as "800x1204" or "3x800x1204"; None = the usual one.
        vary: Such as "hidden_dim=128,256"; ``input`` may be varied too.

    Raises:
        ConfigError: A setting is unknown or its value not admitted.
        CheckpointError: The checkpoint cannot be read.
    """
    spec, inputs = _read(source)
    ranges = [_range(text) for text in vary]
    if len({pairs[0][0] for pairs in ranges}) < len(ranges):
        raise ConfigError("every --vary key once", " ".join(vary), "write key=a,b,c")
    combinations = [dict(pairs) for pairs in product(*ranges)] if ranges else []
    if len(combinations) > MOST_VARIANTS:
        raise ConfigError(
            f"at most {MOST_VARIANTS} combinations of --vary",
            str(len(combinations)),
            "ask for less",
        )
    # All are checked before the first is run.
    wanted = [_apply(spec, inputs, size, changes) for changes in ({}, *combinations)]
    own, *variants = (
        Variant(changes, frame, _stages(changed, inputs, frame))
        for changes, (changed, frame) in zip(({}, *combinations), wanted, strict=True)
    )
    return ModelSummary(source, *_about(spec), own, tuple(variants))


def _read(source: str) -> tuple[Spec, Inputs]:
    """The network's settings, and what a forecaster's data offer."""
    if Path(source).is_dir() or source.endswith(".safetensors"):
        from forecast.checkpoint.checkpoint import load_checkpoint

        model = load_checkpoint(source).model
        return model.spec, model.inputs
    config = load_config(source, [])
    if config.detector is not None:
        return config.detector, Inputs((), ())  # it reads any channels
    from forecast.schema import DEFAULT_CLASSES, MAP_LAYERS  # loads xarray

    return config.model, Inputs(DEFAULT_CLASSES, MAP_LAYERS)


def _range(text: str) -> list[tuple[str, Any]]:
    key, _, values = text.partition("=")
    key = key.removeprefix("detector.").removeprefix("model.")
    if not key or not values:
        raise ConfigError("--vary key=a,b", repr(text), "write hidden_dim=128,256")
    try:
        return [(key, parse_yaml(value)) for value in values.split(",")]
    except ValueError as error:
        raise ConfigError("--vary key=a,b", repr(text), "correct the values") from error


def _about(spec: Spec) -> tuple[str, str]:
    """Kind and remark."""
    if isinstance(spec, DetectorSpec):
        return "detector", f"One frame, nothing padded; {COUNTED}."
    from forecast.inspection.forecaster_layers import AGENTS

    agents = min(AGENTS, spec.slots)
    return "forecaster", f"One step of a made-up history of {agents} tracked agents; {COUNTED}."


def _apply(
    spec: Spec, inputs: Inputs, size: str | None, changes: Mapping[str, Any]
) -> tuple[Spec, Frame]:
    """The changed network, and the frame that it is given."""
    settings = {"input": size, **changes}
    size = settings.pop("input")
    spec = _changed(spec, settings)
    if isinstance(spec, DetectorSpec):
        frame = _frame(size, DETECTOR_SIZE, spec.channels)
        if frame[0] != spec.channels:
            raise ConfigError(
                f"frames of {spec.channels} channels, as detector.channels says",
                str(frame[0]),
                "change --input (HEIGHTxWIDTH takes any channels) or detector.channels",
            )
        return spec, frame
    frame = _frame(size, FORECASTER_SIZE, inputs.channels)
    if frame[0] < _known(inputs):
        raise ConfigError(
            f"at least {_known(inputs)} channels: {len(inputs.classes)} classes and "
            f"{len(inputs.map_layers)} map layers",
            str(frame[0]),
            "change --input; channels beyond these are dense ones of your own",
        )
    return spec, frame


@cache
def _stages(spec: Spec, inputs: Inputs, frame: Frame) -> tuple[LayerCost, ...]:
    channels, height, width = frame
    if isinstance(spec, DetectorSpec):
        from forecast.inspection.detector_layers import detector_stages

        return detector_stages(spec, height, width)
    from forecast.inspection.forecaster_layers import forecaster_stages

    seen = Inputs(inputs.classes, inputs.map_layers, channels - _known(inputs))
    return forecaster_stages(spec, seen, height, width)


def _known(inputs: Inputs) -> int:
    """Channels that are not the user's own."""
    return len(inputs.classes) + len(inputs.map_layers)


def _changed(spec: Spec, changes: Mapping[str, Any]) -> Spec:
    unknown = set(changes) - set(asdict(spec))
    for key in sorted(unknown):
        if isinstance(spec, ForecasterSpec) and (new := RENAMED.get(f"model.{key}")):
            raise ConfigError(new, f"--vary {key}", "write its new name")
    if unknown:
        raise ConfigError(
            f"--vary with input or one of {', '.join(asdict(spec))}",
            ", ".join(sorted(unknown)),
            "correct the key",
        )
    adapter: TypeAdapter[Spec] = TypeAdapter(type(spec))
    try:
        return adapter.validate_python(asdict(spec) | dict(changes))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigError(
            f"{where}: {first['msg']}", repr(first["input"]), f"change --vary {where}"
        ) from error


def _frame(text: Any, usual: tuple[int, int], channels: int) -> Frame:
    """Channels, height and width."""
    if text is None:
        return (channels, *usual)
    parts = str(text).lower().split("x")
    if len(parts) not in (2, 3) or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(
            "a size such as 800x1204 or 3x800x1204", str(text), "write CHANNELSxHEIGHTxWIDTH"
        )
    *given, height, width = map(int, parts)
    return (given[0] if given else channels, height, width)
