"""The configuration of a training run: one YAML and ``--set a.b=c``; unknown keys are refused."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forecast.config.data import Augmentation, Corruption, Loading
from forecast.config.renamed import renamed
from forecast.config.training import LossWeights, Optimisation, Stage, TrackRules
from forecast.detector.spec import DetectorSpec
from forecast.errors import ConfigError
from forecast.model.spec import ForecasterSpec
from forecast.section import STRICT
from forecast.storage.yaml_files import parse_yaml, read_yaml

UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")  # pydantic's words for unknown keys


class Config(BaseModel):
    """Everything that a training run depends on beside its data."""

    model_config = ConfigDict(frozen=True, **STRICT)

    model: ForecasterSpec = ForecasterSpec()
    """The network."""
    detector: DetectorSpec | None = None
    """A network that finds objects in one frame, in place of `model`; it can be looked into
    (`forecast inspect model`) and used from Python, but not trained here.
    """
    curriculum: tuple[Stage, ...] = Field(default=(Stage(10, 6),), min_length=1)
    """Stages in order."""
    loss: LossWeights = LossWeights()
    """Weights of the loss."""
    tracks: TrackRules = TrackRules()
    """How tracks of detected input are taught."""
    augmentation: Augmentation = Augmentation()
    """Variations of the data."""
    corruption: Corruption = Corruption()
    """How what is observed is spoiled, as trackers and perception do."""
    optimisation: Optimisation = Optimisation()
    """Optimizer and schedule."""
    loading: Loading = Loading()
    """Batches."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Where the random numbers of weights, order and augmentation begin."""
    ema_decay: float = Field(default=0.998, ge=0.0, lt=1.0)
    """Decay of the averaged weights that are validated and shared; 0 = none."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    """Of the arithmetic; bf16-mixed halves the memory of activations on GPUs that have bfloat16."""
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    """What to train on; auto takes the fastest that is there."""
    devices: int = Field(default=1, ge=1, le=1024)
    """How many of these; more than one trains with a process each (DDP)."""
    steps_per_epoch: int | None = Field(default=None, ge=1, le=10**9)
    """Ends an epoch early, for stores too large to be seen whole; null = never."""
    save_every_steps: int = Field(default=200, ge=1, le=10**9)
    """Steps between checkpoints to resume from."""
    initial: str | None = None
    """A checkpoint to start from (fine-tuning): a path, "packaged", or null."""
    backbone_weights: str | None = None
    """A local file with torchvision's weights of the same ResNet (such as those learned on
    ImageNet) to start the raster's backbone from, or null.
    """

    @property
    def epochs(self) -> int:
        """Epochs of the whole curriculum."""
        return sum(stage.epochs for stage in self.curriculum)


def load_config(path: str | None, overrides: list[str]) -> Config:
    """Reads a configuration.

    Args:
        path: YAML file, or None for the defaults.
        overrides: Changes such as ``optimisation.learning_rate=0.0003``; values are YAML.

    Raises:
        ConfigError: The file is missing or malformed, or a key or value is not admitted.
    """
    settings = read_yaml(path) if path is not None else {}
    for override in overrides:
        _set(settings, override)
    keys = [override.partition("=")[0] for override in overrides]
    for old, new in renamed(settings):
        raise ConfigError(new, old, f"rename it in {_place(old, path, keys)}")
    if settings.get("detector") is not None and "model" in settings:
        changed = any(key.split(".")[0] in ("model", "detector") for key in keys)
        where = " and ".join(filter(None, (path, "--set" if changed else None)))
        raise ConfigError("either `model` or `detector`", f"both in {where}", "leave one out")
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        raise _refused(error, path, keys) from error


def refuse_detector(config: Config) -> None:
    """Refuses to train what has no training here.

    Raises:
        ConfigError: The configuration is of a detector.
    """
    if config.detector is not None:
        raise ConfigError(
            "a configuration with `model`, a forecaster, to train",
            "one with `detector`",
            "look into it with `forecast inspect model`, or train configs/small.yaml",
        )


def _set(settings: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.split(".")
    if not equals or not all(parts):
        raise ConfigError("--set a.b=c", repr(override), "write key=value")
    level: Any = settings
    try:
        for part in parts[:-1]:
            key_in: Any = int(part) if isinstance(level, list) else part
            below = level[key_in] if isinstance(level, list) else level.get(part, {})
            # A copy, as a YAML alias is the same object as its anchor: of another stage, say.
            level[key_in] = copy(below)
            level = level[key_in]
        last: Any = int(parts[-1]) if isinstance(level, list) else parts[-1]
        level[last] = parse_yaml(text)
    except (TypeError, AttributeError, IndexError, ValueError) as error:
        raise ConfigError(
            "--set with a key of the configuration", repr(override), "correct the key"
        ) from error


def _place(where: str, path: str | None, keys: Sequence[str]) -> str:
    """Where a setting came from: the file, or ``--set`` if one of its keys is it or around it.

    Of a part as a whole, whose settings do not go together, either may be at fault.
    """
    if path is None or any(f"{where}.".startswith(f"{key}.") for key in keys):
        return "--set"
    return f"--set or {path}" if any(key.startswith(f"{where}.") for key in keys) else path


def _refused(error: ValidationError, path: str | None, keys: Sequence[str]) -> ConfigError:
    """One line of the faults that pydantic found: an unknown key first, as it explains others."""
    first = min(error.errors(), key=lambda fault: fault["type"] not in UNKNOWN)
    *above, key = first["loc"]
    where = ".".join(map(str, first["loc"]))
    place = _place(where, path, keys)
    if first["type"] in UNKNOWN:
        section = ".".join(map(str, above))
        known = f"{section} with keys" if section else "keys"
        expected = f"{known} among {', '.join(_settings_of(above))}"
        return ConfigError(expected, str(key), f"correct the key in {place}")
    return ConfigError(
        f"{where}: {first['msg']}", repr(first["input"]), f"correct {where} in {place}"
    )


def _settings_of(where: Sequence[int | str]) -> list[str]:
    """The keys of a section; ``where`` leads there, past numbers of list items."""
    section: Any = Config
    for part in where:
        if isinstance(part, str):
            hint = section.__pydantic_fields__[part].annotation
            kinds = (hint, *get_args(hint))  # Section, Section | None or tuple[Section, ...]
            section = next(kind for kind in kinds if hasattr(kind, "__pydantic_fields__"))
    return list(section.__pydantic_fields__)
