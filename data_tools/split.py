"""Splits scenarios into training and validation by place: no place is in both.

Usage: ``python -m data_tools.split INDEX.csv --out-dir DIR``. The index has columns ``name`` and
``location_group``; scenarios of one group share a place. Which side a group is on depends on its
own name only, so that more recordings never move old ones across. Written are ``train.txt`` and
``val.txt``, lists for ``forecast prepare waymo-json @DIR/train.txt``.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from pathlib import Path

from forecast.errors import DataError
from forecast.storage.files import filesystem, write_whole


def is_validation(group: str, fraction: float) -> bool:
    """Whether a group of scenarios is for validation: a fixed draw from its name."""
    digest = hashlib.sha256(group.encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64


def split(index: Path, fraction: float) -> tuple[list[str], list[str]]:
    """The files of an index for training and for validation.

    Args:
        index: CSV file with ``name`` and ``location_group``; the files lie beside it, as
            ``NAME.json`` or ``NAME.json.gz``.
        fraction: Share of the groups that is for validation, about.

    Returns:
        Paths for training and paths for validation, in the order of the index.

    Raises:
        DataError: The index cannot be read or names a file that is not there.
    """
    try:
        with index.open(newline="", encoding="utf-8") as file:
            rows = [(row["name"], row["location_group"]) for row in csv.DictReader(file)]
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise DataError(
            "a CSV file with name and location_group", f"{index} ({error!r})", "check the path"
        ) from error
    train: list[str] = []
    validation: list[str] = []
    for name, group in rows:
        if not name or not group:
            found = f"a row of {index} with {name!r} and {group!r}"
            raise DataError("a name and a location_group in each row", found, "complete the row")
        (validation if is_validation(group, fraction) else train).append(_file(index, name))
    return train, validation


def _file(index: Path, name: str) -> str:
    for suffix in (".json.gz", ".json"):
        path = index.with_name(name + suffix)
        if path.exists():
            return str(path)
    raise DataError(f"{name}.json or {name}.json.gz", f"neither beside {index}", "fetch it")


def main() -> None:
    """Writes the two lists and says how long they are."""
    parser = argparse.ArgumentParser(description="Split scenarios by place.")
    parser.add_argument("index", type=Path, help="CSV file with name and location_group")
    parser.add_argument("--out-dir", type=Path, required=True, help="where the lists go")
    parser.add_argument("--fraction", type=float, default=0.4, help="share for validation")
    arguments = parser.parse_args()
    train, validation = split(arguments.index, arguments.fraction)
    arguments.out_dir.mkdir(parents=True, exist_ok=True)
    for name, files in (("train", train), ("val", validation)):
        system, path = filesystem(str(arguments.out_dir / f"{name}.txt"))
        write_whole(system, path, "".join(f"{file}\n" for file in files).encode())
        print(f"{path}: {len(files)} scenarios")


if __name__ == "__main__":
    main()
