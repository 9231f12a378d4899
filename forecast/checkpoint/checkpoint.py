"""Checkpoints for sharing: weights in safetensors, everything else in JSON beside them.

``model.safetensors`` holds tensors only and cannot run code; ``model.json`` says what they are and
carries the hashes of the weights and of itself, so that a damaged or exchanged file is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from forecast import __version__
from forecast.checkpoint.conversion import converted_metadata, converted_weights
from forecast.checkpoint.metadata import (
    SCHEMA,
    Description,
    is_checkpoint,
    read_metadata,
    weights_of,
    with_checksum,
)
from forecast.checkpoint.packaged import PACKAGED, packaged
from forecast.errors import CheckpointError, ConfigError, reason_of
from forecast.model.forecaster import Forecaster
from forecast.model.learned_horizon import LearnedHorizon
from forecast.model.spec import ForecasterSpec, Inputs

USUAL = 512  # a network is made without a look at its size if no setting is larger
MOST = 2**16  # of any whole number among a network's settings
LEAST_BYTES = 2**28  # a network of this size is made whatever the size of its file

# Parts that older versions did not have; untrained they change no forecast.
SILENT = (
    "visibility_head.",
    "motion_head.uncertainty.",
    "observer.correction.share_head.",
    "observer.",
    "fading",
    "newcomer_head.",
)


@dataclass(frozen=True)
class Checkpoint:
    """A forecaster and where it came from.

    Attributes:
        model: In evaluation mode, on the CPU.
        dt_s: Seconds per step that it was trained for.
        hash: SHA-256 of the weights.
        training: What is known of its training.
    """

    model: Forecaster
    dt_s: float
    hash: str
    training: dict[str, Any]


def save_checkpoint(
    model: Forecaster, path: str | Path, dt_s: float, training: dict[str, Any]
) -> None:
    """Writes ``path`` (``*.safetensors``) and its JSON; each appears whole or not at all.

    Raises:
        CheckpointError: The disk refuses.
    """
    weights = Path(path)
    # One name for all attempts: what a killed one has left is overwritten, not piled up.
    temporary = weights.with_name(f".{weights.name}.partial")
    metadata = temporary.with_suffix(".json")
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    about = {
        "schema": SCHEMA,
        "version": __version__,
        "model": asdict(model.spec),
        "inputs": asdict(model.inputs),
        "learned_horizon_s": model.learned_horizon.seconds,
        "dt_s": dt_s,
        "training": training,
    }
    try:
        weights.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, temporary)
        temporary.chmod(0o644)  # safetensors makes files that only their owner may read
        text = json.dumps(with_checksum(about | {"sha256": _sha256(temporary)}), indent=2)
        metadata.write_text(text + "\n", encoding="utf-8")
        os.replace(temporary, weights)
        os.replace(metadata, weights.with_suffix(".json"))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"to write {weights}", reason_of(error), "free some space or choose a writable --output"
        ) from error
    finally:
        for left in (temporary, metadata):
            if left.is_file():
                left.unlink()


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Reads a forecaster: ``path`` is a ``*.safetensors`` file, or a run's folder that holds one.

    Raises:
        CheckpointError: It is missing, damaged, or of another model.
    """
    weights = _weights(Path(path))
    about = read_metadata(weights.with_suffix(".json"))
    schema = about["schema"]
    with _refusing_unknown(weights, about):
        about = about if schema == SCHEMA else converted_metadata(about)
        described = Description.model_validate(about)
    found = _sha256(weights)
    if found != described.sha256:
        raise CheckpointError(
            f"weights with SHA-256 {described.sha256[:12]}...",
            f"{found[:12]}... in {weights}",
            "fetch both files of the checkpoint anew",
        )
    with _refusing_unknown(weights, about):
        spec, inputs = _spec(described.model), Inputs(**described.inputs.model_dump())
        _refuse_larger(spec, inputs, weights)
        model = Forecaster(spec, inputs)
        model.learned_horizon = LearnedHorizon(described.learned_horizon_s)
    try:
        saved = load_file(weights)
        for name, tensor in saved.items():
            if not tensor.isfinite().all():
                raise ValueError(f"{name} is not finite")
        saved = saved if schema == SCHEMA else converted_weights(saved, schema)
        model.load_state_dict(saved | _silent(model, saved))
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            "weights of the model that the JSON describes",
            f"{weights} ({reason_of(error)})",
            "fetch both files of the checkpoint anew",
        ) from error
    return Checkpoint(model.eval(), described.dt_s, found, described.training)


@contextmanager
def _refusing_unknown(weights: Path, about: Mapping[str, Any]) -> Iterator[None]:
    """Turns what is wrong with a description into one line."""
    try:
        yield
    except (
        *(ArithmeticError, AttributeError, LookupError, TypeError, ValueError),
        *(RuntimeError, SafetensorError, ConfigError),
    ) as error:
        raise CheckpointError(
            "a model that this version knows",
            f"{weights.with_suffix('.json')}, written by {about.get('version')}"
            f" ({' '.join(str(error).split())})",
            "use the version that wrote it, or another checkpoint",
        ) from error


def _refuse_larger(spec: ForecasterSpec, inputs: Inputs, weights: Path) -> None:
    """Refuses a network much larger than its weights, before memory is taken for it.

    Raises:
        ValueError: The JSON describes a network that the weights cannot be of.
    """
    numbers = {name: value for name, value in asdict(spec).items() if isinstance(value, int)}
    with safe_open(weights, "pt") as file:
        tensors = len(file.keys())
    for name, value in numbers.items():
        if value > (tensors if name.endswith("_layers") else MOST):
            raise ValueError(f"{name} {value}")
    if max(numbers.values()) <= USUAL:
        return
    with torch.device("meta"):
        wanted = sum(tensor.nbytes for tensor in Forecaster(spec, inputs).state_dict().values())
    if wanted > 2 * weights.stat().st_size + LEAST_BYTES:
        raise ValueError(f"a network of {wanted} bytes")


def _silent(model: Forecaster, saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Untrained weights of what checkpoints of older versions lack: they change no forecast."""
    lacking = tuple(part for part in SILENT if not any(name.startswith(part) for name in saved))
    return {k: v for k, v in model.state_dict().items() if k.startswith(lacking)}


def _weights(path: Path) -> Path:
    if not is_checkpoint(path):
        raise CheckpointError(
            "a *.safetensors file, or a run's folder with model.safetensors",
            str(path),
            "check --model",
        )
    return weights_of(path)


def _spec(settings: dict[str, Any]) -> ForecasterSpec:
    """What an older version did not know yet has its default."""
    unknown = set(settings) - {field.name for field in fields(ForecasterSpec)}
    if unknown:
        raise ValueError(f"unknown in its model: {', '.join(sorted(unknown))}")
    return ForecasterSpec(**settings)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def named_checkpoint(name: str) -> Checkpoint:
    """The checkpoint at a path, or the one that comes along by the name of :data:`PACKAGED`.

    Raises:
        CheckpointError: It is missing or damaged.
    """
    return load_checkpoint(packaged("model.safetensors") if name == PACKAGED else name)
