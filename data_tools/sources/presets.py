"""Presets: what the columns of a table of tracks are called, and what they mean.

A preset is a YAML file of :class:`Preset`: one of ``data_tools/presets`` by its name, or a user's
own by its path. :data:`OWN` is that of the documented columns, for tables without a preset.
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from data_tools.presets import FOLDER, preset_names
from forecast.errors import ConfigError
from forecast.storage.yaml_files import read_yaml

MAX_NAMES = 1000  # columns or classes
Name = Annotated[str, Field(min_length=1, max_length=200)]
Names = Annotated[tuple[Name, ...], Field(min_length=1, max_length=MAX_NAMES)]
FOOT_M = 0.3048
LENGTHS_M = {"m": 1.0, "cm": 0.01, "ft": FOOT_M}
TIMES_PER_S = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
SPEEDS_MPS = {"m/s": 1.0, "km/h": 1 / 3.6, "ft/s": FOOT_M, "mph": 0.44704}


class _Strict(BaseModel):
    """Part of a preset: nothing but what is declared; numbers in place of names are text."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True
    )


class _Part(_Strict):
    """What is said of one of our columns."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, given: Any) -> Any:
        return {"column": given} if isinstance(given, str | int | float) else given


class Column(_Part):
    """A column of the table; in YAML its name alone will do."""

    column: Name


def _refuse_both_or_none(column: str | None, value: str | float | None) -> None:
    if (column is None) == (value is None):
        raise ValueError("give column or value")


class Text(_Part):
    """A column of names, or one name for all rows."""

    column: Name | None = None
    value: Name | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        _refuse_both_or_none(self.column, self.value)
        return self


class Place(Column):
    """A column of places along an axis."""

    unit: Literal["m", "cm", "ft"] = "m"


class Optional(Column):
    """A column that tables may lack."""

    optional: bool = False


class Length(_Part):
    """A column of lengths, or one length for all rows."""

    column: Name | None = None
    value: float | None = Field(default=None, gt=0, le=1000)
    unit: Literal["m", "cm", "ft"] = "m"
    optional: bool = False

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        _refuse_both_or_none(self.column, self.value)
        return self


class Time(Column):
    """A column of times, or of frames that come at a known rate."""

    unit: Literal["s", "ms", "us", "ns"] | None = None
    """Of times; seconds where nothing is said."""
    frames_per_s: float | None = Field(default=None, gt=0, le=1e6)
    """Of frames, whose numbers ascend by 1."""
    frame_step_s: float | None = Field(default=None, gt=0, le=3600)
    """Of frames, whose numbers ascend by some other step: what the usual step is."""

    @model_validator(mode="after")
    def _one_of_three(self) -> Self:
        said = [self.unit, self.frames_per_s, self.frame_step_s]
        if sum(value is not None for value in said) > 1:
            raise ValueError("give one of unit, frames_per_s and frame_step_s")
        return self


class Heading(Optional):
    """A column of headings."""

    unit: Literal["rad", "deg"] = "rad"
    zero: Literal["x", "y"] = "x"
    """The axis along which it is 0; where y leads north, `y` is from north."""
    turn: Literal["counterclockwise", "clockwise"] = "counterclockwise"


class Speed(Optional):
    """A column of speeds, or of velocities along an axis."""

    unit: Literal["m/s", "km/h", "ft/s", "mph"] = "m/s"


class Truth(Optional):
    """A column that says whether; of true and false, or by one value that means true."""

    equals: Name | None = None


class Columns(_Strict):
    """Where each of our columns is found; those that no table has are left out."""

    scene: Optional | None = None
    """Left out where a file is one scene, named after it, as one without the column is."""
    track_id: Column
    class_: Text = Field(alias="class")
    time_s: Time
    x_m: Place
    y_m: Place
    yaw_rad: Heading | None = None
    length_m: Length | None = None
    width_m: Length | None = None
    speed_mps: Speed | None = None
    vx_mps: Speed | None = None
    vy_mps: Speed | None = None
    score: Optional | None = None
    is_ego: Truth | None = None

    def of(self, name: str) -> Any:
        """What is said of one of our columns, by its own name; None if it is left out."""
        return getattr(self, "class_" if name == "class" else name)

    def named(self) -> dict[str, bool]:
        """Every column that the table should have, and whether it must."""
        said = (getattr(self, name) for name in type(self).model_fields)
        wanted: dict[str, bool] = {}
        for one in said:
            if one is not None and one.column is not None:
                wanted[one.column] = wanted.get(one.column, False) or not getattr(
                    one, "optional", False
                )
        return wanted


class Lanelet2(_Strict):
    """Where the Lanelet2 map of a table is."""

    files: Names
    """Paths from the table's folder, the first that is there; `{folder}` stands for the name of
    that folder. Of the files that a path with `*` fits, that whose name the table's begins with.
    """
    origin: tuple[float, float]
    """Latitude and longitude, in degrees, of the place where x = y = 0."""


class Preset(_Strict):
    """How tables of one kind are laid out, and what their columns mean."""

    about: Annotated[str, Field(max_length=300)] = ""
    """What it is for, in a line."""
    files: Names
    """What the names of tables in folders end in, `*` standing for anything."""
    beside: dict[Name, Name] = Field(default={}, max_length=10)
    """Further tables of the same recording, where they are there: a part of the first one's name,
    and what theirs has in its place.
    """
    layout: Literal["table", "levelx", "sumo-fcd"] = "table"
    """Who reads the files: `table` takes CSV and Parquet; `levelx` three tables that belong
    together, as data_tools/formats/levelx.py says, and their map; `sumo-fcd` XML, as
    data_tools/formats/sumo_fcd.py does.
    """
    delimiter: Literal[",", ";", "tab", "space"] = ","
    """Between the fields of a row of CSV; `space` stands for any white space."""
    header: Names | None = None
    """The columns in order, where CSV has no row that names them."""
    any_case: bool = False
    """Whether the columns' names count in capital and small letters alike."""
    any_order: bool = False
    """Whether the rows of a track may be in any order; then the same row twice counts once."""
    columns: Columns
    classes: dict[Name, Name] = Field(default={}, max_length=MAX_NAMES)
    """Their names of classes, in any case, and ours; others stay what they are."""
    y_down: bool = False
    """Whether y points down and headings turn with it, as in images."""
    position: Literal["centre", "front"] = "centre"
    """What of a box the positions are: its centre, or the middle of its front."""
    map: Lanelet2 | None = None
    """Where the map is, if it is not GeoJSON beside the table."""

    def __hash__(self) -> int:
        # Mappings have no hash; presets that differ in these alone are told apart by ==.
        return hash((self.files, self.columns))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: what is said, and no defaults."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)


OWN = Preset(
    about="the documented columns",
    files=("*.csv", "*.csv.gz", "*.parquet"),
    columns=Columns.model_validate(
        {name: name for name in ("scene", "track_id", "class", "time_s", "x_m", "y_m")}
        | {
            name: {"column": name, "optional": True}
            for name in Columns.model_fields
            if not Columns.model_fields[name].is_required() and name != "scene"
        }
    ),
)


def preset_path(name: str) -> Path:
    """Where a preset is: one of the package, or the user's own file.

    Raises:
        ConfigError: There is none of that name.
    """
    names = preset_names()
    if name in names:
        return FOLDER / f"{name}.yaml"
    if name.endswith((".yaml", ".yml")):
        return Path(name)
    raise ConfigError(
        f"a preset: {', '.join(names)}, or the path of your own .yaml file",
        repr(name),
        "correct --preset",
    )


def load_preset(name: str) -> Preset:
    """A preset, by its name or by the path of a YAML file.

    Raises:
        ConfigError: There is none, it cannot be read, or it is not as documented.
    """
    path = str(preset_path(name))
    try:
        return Preset.model_validate(read_yaml(path))
    except ValidationError as error:
        raise _refused(error, path) from error


def _refused(error: ValidationError, path: str) -> ConfigError:
    """One line of the faults that pydantic found: an unknown key first, as it explains others."""
    first = min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    *above, key = first["loc"]
    where = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        section = ".".join(map(str, above))
        known = ", ".join(_keys(above))
        expected = f"{section} with keys among {known}" if section else f"keys among {known}"
        return ConfigError(expected, repr(key), f"correct the key in {path}")
    if first["type"] == "missing":
        return ConfigError(f"{where} in a preset", f"none in {path}", "add it")
    message = first["msg"].removeprefix("Value error, ")
    # Aliases of YAML can make a small file say very much.
    return ConfigError(f"{where}: {message}", reprlib.repr(first["input"]), f"correct {path}")


def _keys(above: Sequence[int | str]) -> list[str]:
    """The keys of a part of a preset; ``above`` leads there."""
    part: Any = Preset
    for name in above:
        field = next(
            field for key, field in part.model_fields.items() if name in (key, field.alias)
        )
        hint = field.annotation
        part = next(kind for kind in (hint, *get_args(hint)) if hasattr(kind, "model_fields"))
    return [field.alias or key for key, field in part.model_fields.items()]
