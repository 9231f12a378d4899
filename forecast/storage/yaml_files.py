"""YAML files from unknown sources."""

from __future__ import annotations

from typing import Any

import yaml

from forecast.errors import ConfigError, reason_of
from forecast.storage.files import refuse_pipe


def read_yaml(path: str) -> dict[str, Any]:
    """The mapping that a local YAML file holds.

    Raises:
        ConfigError: The file is missing, no YAML, nested beyond reason, or holds something else.
        DataError: It is a pipe or device.
    """
    refuse_pipe(path)
    try:
        with open(path, encoding="utf-8") as file:
            settings = yaml.safe_load(file)
    # ValueError: of text that is no UTF-8, of dates and of integers that are none.
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = reason_of(error)
        raise ConfigError(
            "a YAML file", f"{path} ({reason})", "check the path and what is there"
        ) from error
    if not isinstance(settings, dict):
        raise ConfigError("a YAML mapping", f"{path} with {type(settings).__name__}", "correct it")
    return settings
