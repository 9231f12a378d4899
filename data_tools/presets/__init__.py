"""The presets that come with the package: how published tables of tracks are laid out.

``data_tools/sources/presets.py`` says what each may hold. ``python -m data_tools.presets NAME``
prints one, to be copied and changed.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent


def preset_names() -> list[str]:
    """The names of the presets, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))
