"""The checkpoint and the sample that come along with the program."""

from __future__ import annotations

from importlib.resources import files

from forecast.errors import DataError

PACKAGED = "packaged"  # names the checkpoint that comes along


def packaged(name: str) -> str:
    """Path of a file that comes with the program.

    Raises:
        DataError: This installation lacks it.
    """
    path = files("forecast") / "packaged" / name
    if not (path.is_file() or path.is_dir()):
        raise DataError(f"the packaged {name}", "none", "install bev-forecast anew")
    return str(path)
