"""What an export is asked for; what is wrong with that is said before torch is loaded."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from forecast.checkpoint.metadata import is_checkpoint
from forecast.checkpoint.packaged import PACKAGED
from forecast.errors import CheckpointError, ConfigError, DataError
from forecast.export.host import METADATA, SCHEMA
from forecast.storage.atomic import refuse_existing, refuse_replacing, refuse_unwritable
from forecast.storage.files import filesystem, is_local
from forecast.storage.sole_writer import refuse_working_folder

NEEDS = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "pt2": (), "aoti": ()}
FORMATS = tuple(NEEDS)
MOST_SLOTS = 4096
OLDEST_TORCH = (2, 14)  # that graphs were made with; 2.7 cannot trace them


@dataclass(frozen=True)
class ExportRequest:
    """What to export, and how.

    Attributes:
        model: A checkpoint; None = the packaged one.
        output: Folder to write.
        formats: Of :data:`FORMATS`.
        slots: Agent slots of each bucket.
        points: Room for lane points, of every bucket.
        data: Sequence store whose histories are compared; None = the packaged sample.
        histories: How many of them.
        horizon: Steps of each.
        overwrite: Whether an export that is there is replaced.

    Raises:
        ForecastError: A format or a count is not admitted, a library is missing, the model is not
            there, or the output is there already, is something else or cannot be written.
    """

    model: str | None
    output: str
    formats: Sequence[str] = ("onnx",)
    slots: Sequence[int] = (64,)
    points: int = 1024
    data: str | None = None
    histories: int = 10
    horizon: int = 6
    overwrite: bool = False

    def __post_init__(self) -> None:
        remedy = "pip install 'bev-forecast[export]'"
        found = version("torch")
        if tuple(map(int, found.split(".")[:2])) < OLDEST_TORCH:
            wanted = "torch {}.{} or later, to export".format(*OLDEST_TORCH)
            raise ConfigError(wanted, found, remedy)
        for name in self.formats:
            if name not in FORMATS:
                raise ConfigError(f"formats {', '.join(FORMATS)}", repr(name), "correct --format")
            for library in NEEDS[name]:
                if find_spec(library) is None:
                    raise ConfigError(f"{library} for --format {name}", "none installed", remedy)
        if "aoti" in self.formats and not shutil.which(os.environ.get("CXX", "g++")):
            wanted, remedy = "a C++ compiler for --format aoti", "install g++, or set CXX"
            raise ConfigError(wanted, "none", remedy)
        self._check_counts()
        model = self.model or PACKAGED
        if model != PACKAGED and not is_checkpoint(Path(model)):
            raise CheckpointError(
                "a checkpoint to export, or `packaged`", model, "check the model's path"
            )
        refuse_working_folder(self.output)
        self.refuse_existing()
        read = [path for path in (self.data, self.model) if path and path != PACKAGED]
        refuse_replacing("--output", self.output, read, ())
        refuse_unwritable(self.output)

    def refuse_existing(self) -> None:
        """Refuses to replace what is there; asked again once the graphs are made, minutes later.

        Raises:
            DataError: The output exists and is not to be replaced, or is no export.
        """
        if not self.overwrite:
            refuse_existing(self.output)
        system, folder = filesystem(self.output)
        if is_local(system) and not _is_replaceable(Path(folder)):
            got = f"{self.output}, which is something else"
            raise DataError("an export to replace", got, "choose another name or remove it")

    def _check_counts(self) -> None:
        counts = {"--agents": self.slots, "--lane-points": [self.points]}
        for option, values in counts.items():
            for value in values:
                if not 1 <= value <= MOST_SLOTS:
                    wanted = f"{option} of 1 to {MOST_SLOTS}"
                    raise ConfigError(wanted, str(value), f"change {option}")
        for option, value in (("--histories", self.histories), ("--horizon", self.horizon)):
            if not 1 <= value <= 10_000:
                raise ConfigError(f"{option} of 1 to 10000", str(value), f"change {option}")
        if not self.formats or not self.slots or len(set(self.slots)) < len(self.slots):
            raise ConfigError(
                "one format and one number of agents at least, each once",
                f"{list(self.formats)} and {list(self.slots)}",
                "change --format or --agents",
            )


def _is_replaceable(folder: Path) -> bool:
    """Whether nothing is there, or nothing in it, or an export, of whatever version."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return True
    try:
        schema = json.loads((folder / METADATA).read_text(encoding="utf-8"))["schema"]
        return str(schema).startswith(f"{SCHEMA.partition('/')[0]}/")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
