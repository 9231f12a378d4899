"""What lies on disk: the two stores' names, dimensions, types and attributes.

Both are zarr v3 and open with ``xarray.open_zarr``. docs/data_format.md and
docs/forecast_format.md describe them for users.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from forecast.errors import ConfigError, DataError
from forecast.grid import BEVGrid

SEQUENCE_SCHEMA = "bev-sequence/2"
READ_SEQUENCE_SCHEMAS = (SEQUENCE_SCHEMA, "bev-sequence/1")
FORECAST_SCHEMA = "bev-forecast/2"
READ_FORECAST_SCHEMAS = (FORECAST_SCHEMA, "bev-forecast/1")

DEFAULT_CLASSES = ("vehicle", "pedestrian", "cyclist")
MAP_LAYERS = ("drivable", "lane_centre", "road_edge", "crosswalk")
STATE_NAMES = ("x", "y", "yaw", "length", "width")
POSE_NAMES = ("x", "y", "yaw")
MAX_INSTANCE_ID = 65535
SMALL_DRAWN = "exact-small"
"""The label protocol by which a box is at least one cell; forecasts of its stores draw alike."""
MOST_FRAMES = 10_000  # of a history or a horizon

# name -> (dimensions, dtype); those in OPTIONAL may be absent from a valid sequence store.
SEQUENCE_VARIABLES: dict[str, tuple[tuple[str, ...], str]] = {
    "semantic": (("sequence", "time", "y", "x"), "uint8"),
    "instance": (("sequence", "time", "y", "x"), "uint16"),
    "map": (("sequence", "map_layer", "y", "x"), "uint8"),
    "track_state": (("sequence", "track", "time", "state"), "float32"),
    "track_class": (("sequence", "track"), "uint8"),
    "track_name": (("sequence", "track"), "str"),
    "track_history": (("sequence", "track", "sample", "state"), "float32"),
    "sample_time": (("sequence", "sample"), "float32"),
    "track_score": (("sequence", "track", "time"), "float32"),
    "ego_pose": (("sequence", "time", "pose"), "float64"),
    "map_point": (("sequence", "point", "point_state"), "float32"),
    "direction": (("sequence", "axis", "y", "x"), "float16"),
    "bev": (("sequence", "time", "channel", "y", "x"), "float32"),
    "scene": (("sequence",), "str"),
    "init_time": (("sequence",), "float64"),
}
OPTIONAL_VARIABLES = frozenset(
    {
        "map",
        "track_state",
        "track_class",
        "track_name",
        "track_history",
        "sample_time",
        "track_score",
        "map_point",
        "direction",
        "bev",
    }
)

FORECAST_VARIABLES: dict[str, tuple[tuple[str, ...], str]] = {
    "instance": (("sequence", "lead", "y", "x"), "uint16"),
    "semantic": (("sequence", "lead", "y", "x"), "uint8"),
    "occupancy": (("sequence", "lead", "class", "y", "x"), "float16"),
    "flow": (("sequence", "lead", "axis", "y", "x"), "float16"),
    "existence": (("sequence", "lead", "track"), "float32"),
    "pose": (("sequence", "lead", "track", "pose"), "float32"),
    "uncertainty": (("sequence", "lead", "track", "side"), "float32"),
}
OPTIONAL_FORECAST_VARIABLES = frozenset({"uncertainty"})
"""Those that stores of ``bev-forecast/1`` lack."""
REALIZATION_VARIABLES: dict[str, tuple[tuple[str, ...], str]] = {
    "realization_pose": (("sequence", "realization", "lead", "track", "pose"), "float32"),
    "realization_instance": (("sequence", "realization", "lead", "y", "x"), "uint16"),
}
"""Those of forecast stores with several futures; masks only where they were asked for."""
SIDES = ("ahead", "aside")


@dataclass(frozen=True)
class Protocol:
    """The rules by which boxes become label rasters; its hash travels with every store and score.

    ``exact``: boxes are moved analytically into the present ego frame and rasterised once; a
    cell belongs to a box if its centre lies inside; smaller boxes are drawn over larger ones.
    Others are kinds of it with rules of their own (:mod:`data_tools.labels.protocols`).
    """

    name: str = "exact"
    frame: str = "present ego"
    cell_rule: str = "cell centre inside the box"
    overlap: str = "smaller box on top"

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that change when a rule does."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def to_attrs(self) -> dict[str, Any]:
        """The rules and their hash, for a store's attributes."""
        return {**asdict(self), "hash": self.hash}


def protocol_text(attrs: Mapping[str, Any]) -> str:
    """A protocol, as a store's attributes have it, by name and hash."""
    return f"{attrs.get('name')} ({attrs.get('hash')})"


@dataclass(frozen=True)
class SequenceMeta:
    """The attributes of a sequence store that a reader needs to understand its arrays."""

    source: str
    grid: BEVGrid
    dt_s: float
    history: int
    horizon: int
    classes: tuple[str, ...]
    map_layers: tuple[str, ...]
    protocol: Mapping[str, Any]
    created_by: str

    @property
    def small_drawn(self) -> bool:
        """Whether labels, and so forecasts, draw a box as one cell at least."""
        return self.protocol.get("name") == SMALL_DRAWN

    def to_attrs(self) -> dict[str, Any]:
        """Plain JSON values for zarr."""
        return {
            "schema": SEQUENCE_SCHEMA,
            "source": self.source,
            "protocol": dict(self.protocol),
            "grid": self.grid.to_attrs(),
            "dt_s": self.dt_s,
            "history": self.history,
            "horizon": self.horizon,
            "classes": list(self.classes),
            "map_layers": list(self.map_layers),
            "created_by": self.created_by,
        }

    @classmethod
    def from_attrs(cls, attrs: Mapping[str, Any], where: str) -> SequenceMeta:
        """Reads the attributes back.

        Raises:
            DataError: The schema is another one, or an attribute is missing or malformed.
        """
        remedy = "make the store anew with `forecast prepare`"
        found = read_attributes(
            SequenceAttributes, attrs, READ_SEQUENCE_SCHEMAS, where, remedy
        ).model_dump()
        return cls(**found | {"grid": BEVGrid.from_attrs(found["grid"])})


class Attributes(BaseModel):
    """What both stores say of themselves; further attributes are their makers' own."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    source: str
    grid: dict[str, float]
    dt_s: float = Field(gt=0)
    history: int = Field(ge=1, le=MOST_FRAMES)
    classes: Annotated[tuple[str, ...], Field(strict=False, min_length=1, max_length=255)]
    protocol: dict[str, Any]


class SequenceAttributes(Attributes):
    """The attributes of a sequence store."""

    horizon: int = Field(ge=0, le=MOST_FRAMES)
    map_layers: Annotated[tuple[str, ...], Field(strict=False)]
    created_by: str


class ForecastAttributes(Attributes):
    """The attributes of a forecast store."""

    horizon: int = Field(ge=1, le=MOST_FRAMES)
    model: str = ""
    input: str = "tracked"
    rollout: str = "free-running"
    data: str | None = None
    realizations: int = Field(default=0, ge=0)
    seed: int = 0


_Attributes = TypeVar("_Attributes", bound=Attributes)


def read_attributes(
    kind: type[_Attributes],
    attrs: Mapping[str, Any],
    schemas: tuple[str, ...],
    where: str,
    remedy: str,
) -> _Attributes:
    """The attributes of a store, each of its type and in its bounds.

    Args:
        kind: What they are checked against.
        attrs: As they lie on disk.
        schemas: Those of which the store may be.
        where: Path of the store, for the error.
        remedy: What can be done where they are not.

    Raises:
        DataError: The schema is another one, or an attribute is missing or malformed.
    """
    check_schema(attrs, schemas, where, remedy)
    try:
        found = kind.model_validate(dict(attrs))
        BEVGrid.from_attrs(found.grid)
    except (ValidationError, ConfigError) as error:
        raise DataError(
            f"the attributes of {schemas[0]}", f"{where} with {_fault(error)}", remedy
        ) from error
    if len(set(found.classes)) < len(found.classes):
        raise DataError("classes of different names", f"{found.classes} in {where}", remedy)
    return found


def _fault(error: ValidationError | ConfigError) -> str:
    if isinstance(error, ConfigError):
        return f"grid: {error.got}"
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


def check_schema(
    attrs: Mapping[str, Any], schemas: tuple[str, ...], where: str, remedy: str
) -> None:
    """Refuses a store of another kind or version.

    Raises:
        DataError: ``attrs["schema"]`` is none of ``schemas``.
    """
    if attrs.get("schema") not in schemas:
        wanted = "schema " + " or ".join(map(repr, schemas))
        raise DataError(wanted, f"{attrs.get('schema')!r} in {where}", remedy)
