"""The JSON beside a checkpoint's weights: it carries its own checksum and says who can read it.

A version reads what it and older ones wrote, as long as the schema is one it knows; what a newer
minor version wrote may mean something that it does not know.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from forecast import __version__
from forecast.errors import CheckpointError
from forecast.storage.files import refuse_pipe

SCHEMA = "bev-forecaster/7"
OLDER = (
    "bev-forecaster/6",
    "bev-forecaster/5",
    "bev-forecaster/4",
    "bev-forecaster/3",
    "bev-forecaster/2",
)  # in other words: see conversion.py
WITHOUT_CHECKSUM = "bev-forecaster/2"
CHECKSUM = "json_sha256"


Names = Annotated[tuple[str, ...], Field(strict=False, max_length=255)]


class InputsDescription(BaseModel):
    """What the network's input channels are."""

    model_config = ConfigDict(strict=True)

    classes: Annotated[Names, Field(min_length=1)]
    map_layers: Names
    bev_channels: int = Field(ge=0, le=4096)


class Description(BaseModel):
    """What the JSON of a checkpoint says, in the words of this version."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    version: str
    model: dict[str, Any]
    inputs: InputsDescription
    learned_horizon_s: float = Field(gt=0)
    dt_s: float = Field(gt=0)
    sha256: str
    training: dict[str, Any] = {}


def weights_of(path: Path) -> Path:
    """The file of weights that a path names: itself, or that of a run's folder."""
    return path / "model.safetensors" if path.is_dir() else path


def is_checkpoint(path: Path) -> bool:
    """Whether a path names weights that are there."""
    weights = weights_of(path)
    return weights.suffix == ".safetensors" and weights.is_file()


def with_checksum(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content as JSON gives it back, with the hash of all of it under ``json_sha256``."""
    plain = {name: value for name, value in content.items() if name != CHECKSUM}
    plain = json.loads(json.dumps(plain))
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return {**plain, CHECKSUM: hashlib.sha256(text.encode()).hexdigest()}


def read_metadata(path: Path) -> dict[str, Any]:
    """Reads the JSON of a checkpoint.

    Raises:
        CheckpointError: It is missing, was changed after it was written, or is of a newer version
            or of another schema.
    """
    refuse_pipe(str(path))
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            "a JSON file beside the weights", f"{path} ({type(error).__name__})", "fetch it anew"
        ) from error
    if not isinstance(metadata, dict):
        metadata = {}
    schema, version = metadata.get("schema"), metadata.get("version")
    if _minor(version) > _minor(__version__):
        raise CheckpointError(
            f"a checkpoint of forecast {__version__} or older",
            f"{path}, written by {version}",
            f"install forecast {version} or later",
        )
    if schema not in (SCHEMA, *OLDER):
        raise CheckpointError(
            f"schema {SCHEMA!r}",
            f"{schema!r} in {path}",
            f"use another checkpoint, or the version that wrote it ({version})",
        )
    if schema != WITHOUT_CHECKSUM and with_checksum(metadata) != metadata:
        raise CheckpointError(
            f"the JSON as it was written, with SHA-256 {str(metadata.get(CHECKSUM))[:12]}...",
            f"{path}, which was changed since",
            "fetch both files of the checkpoint anew",
        )
    return metadata


def _minor(version: Any) -> tuple[int, int]:
    """Major and minor number; what is no version is older than all."""
    found = re.match(r"(\d+)\.(\d+)", str(version))
    return (int(found[1]), int(found[2])) if found else (0, 0)
