"""Prints a preset, to be copied and changed: ``python -m data_tools.presets NAME > my.yaml``."""

from __future__ import annotations

import sys

from data_tools.sources.presets import preset_path
from forecast.errors import ConfigError


def main() -> None:
    """Prints the preset whose name is given, or the names of all."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m data_tools.presets NAME")
    try:
        print(preset_path(sys.argv[1]).read_text(encoding="utf-8"), end="")
    except ConfigError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
