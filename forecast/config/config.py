"""The configuration of a training run: one YAML and ``--set a.b=c``; unknown keys are refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forecast.config.data import Augmentation, Loading
from forecast.config.training import LossWeights, Optimisation, Stage, TrackRules
from forecast.detector.spec import DetectorSpec
from forecast.errors import ConfigError, reason_of
from forecast.model.spec import ForecasterSpec


class Config(BaseModel):
    """Everything that a training run depends on beside its data.

    Attributes:
        model: The network.
        detector: A network that finds objects in one frame, in place of ``model``; it can be
            looked into (`forecast inspect model`) and used from Python, but not trained here.
        curriculum: Stages in order.
        loss: Weights of the loss.
        tracks: How tracks of detected input are taught.
        augmentation: Variations of the data.
        optimisation: Optimizer and schedule.
        loading: Batches.
        seed: Where the random numbers of weights, order and augmentation begin.
        ema_decay: Decay of the averaged weights that are validated and shared; 0 = none.
        precision: Of the arithmetic; bf16-mixed halves the memory of activations on GPUs that have
            bfloat16.
        accelerator: What to train on; auto takes the fastest that is there.
        devices: How many of these; more than one trains with a process each (DDP).
        steps_per_epoch: Ends an epoch early, for stores too large to be seen whole; None = never.
        save_every_steps: Steps between checkpoints to resume from.
        initial: A checkpoint to start from (fine-tuning): a path, "packaged", or None.
        backbone_weights: A local file with torchvision's weights of the same ResNet (such as those
            learned on ImageNet) to start the raster's backbone from, or None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: ForecasterSpec = ForecasterSpec()
    detector: DetectorSpec | None = None
    curriculum: tuple[Stage, ...] = Field(default=(Stage(10, 6),), min_length=1)
    loss: LossWeights = LossWeights()
    tracks: TrackRules = TrackRules()
    augmentation: Augmentation = Augmentation()
    optimisation: Optimisation = Optimisation()
    loading: Loading = Loading()
    seed: int = Field(default=0, ge=0)
    ema_decay: float = Field(default=0.998, ge=0.0, lt=1.0)
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    devices: int = Field(default=1, ge=1)
    steps_per_epoch: int | None = Field(default=None, ge=1)
    save_every_steps: int = Field(default=200, ge=1)
    initial: str | None = None
    backbone_weights: str | None = None

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
    settings = _read_yaml(path) if path is not None else {}
    for override in overrides:
        _set(settings, override)
    keys = [override.partition("=")[0] for override in overrides]
    _refuse_unknown(settings, path, keys)
    if settings.get("detector") is not None and "model" in settings:
        changed = any(key.split(".")[0] in ("model", "detector") for key in keys)
        where = " and ".join(filter(None, (path, "--set" if changed else None)))
        raise ConfigError("either `model` or `detector`", f"both in {where}", "leave one out")
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"{where}: {first['msg']}",
            repr(first["input"]),
            f"correct {where} in {_place(where, path, keys)}",
        ) from error


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


def _read_yaml(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            settings = yaml.safe_load(file)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = reason_of(error)
        raise ConfigError(
            "a YAML file", f"{path} ({reason})", "check the path and what is there"
        ) from error
    if not isinstance(settings, dict):
        raise ConfigError("a YAML mapping", f"{path} with {type(settings).__name__}", "correct it")
    return settings


def _set(settings: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.split(".")
    if not equals or not all(parts):
        raise ConfigError("--set a.b=c", repr(override), "write key=value")
    level: Any = settings
    try:
        for part in parts[:-1]:
            level = level[int(part)] if isinstance(level, list) else level.setdefault(part, {})
        last: Any = int(parts[-1]) if isinstance(level, list) else parts[-1]
        level[last] = yaml.safe_load(text)
    except (TypeError, AttributeError, IndexError, ValueError, yaml.YAMLError) as error:
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


def _refuse_unknown(settings: dict[str, Any], path: str | None, keys: Sequence[str]) -> None:
    """Pydantic ignores unknown keys of standard dataclasses; a typing error must not pass."""
    if strange := sorted(set(settings) - set(Config.model_fields)):
        raise ConfigError(
            f"keys among {', '.join(Config.model_fields)}",
            ", ".join(strange),
            f"correct the key in {_place(strange[0], path, keys)}",
        )
    parts: dict[str, type[Any]] = {
        "model": ForecasterSpec,
        "detector": DetectorSpec,
        "loss": LossWeights,
        "tracks": TrackRules,
        "augmentation": Augmentation,
        "optimisation": Optimisation,
        "loading": Loading,
    }
    found = [(name, kind, settings.get(name)) for name, kind in parts.items()]
    stages = settings.get("curriculum")
    if isinstance(stages, list):
        found += [(f"curriculum.{index}", Stage, stage) for index, stage in enumerate(stages)]
    for name, kind, values in found:
        unknown = set(values) - set(kind.__dataclass_fields__) if isinstance(values, dict) else None
        if unknown:
            raise ConfigError(
                f"{name} with keys among {', '.join(kind.__dataclass_fields__)}",
                ", ".join(sorted(unknown)),
                f"correct the key in {_place(f'{name}.{min(unknown)}', path, keys)}",
            )
