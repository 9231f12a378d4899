"""What a user can choose about a sequence store."""

from __future__ import annotations

from dataclasses import dataclass

from data_tools import centre
from data_tools.labels.protocols import PROTOCOLS
from forecast.errors import ConfigError, check_counts
from forecast.grid import GRIDS, BEVGrid
from forecast.schema import DEFAULT_CLASSES

MOST_BYTES = 2**32  # of the rasters of one sequence
RASTER_BYTES = 3  # of a cell in a frame: its class and id
LEFT_OUT = "none"  # in place of a class


@dataclass(frozen=True)
class PrepareOptions:
    """How scenes become sequences, and how the work is distributed.

    Args:
        grid: The raster around the centre.
        centre: What the grid is centred on, see :func:`data_tools.centre.parse`.
        history: Frames seen, the present one included.
        horizon: Frames to forecast.
        dt_s: Seconds between frames.
        stride: A sequence starts every so many frames (of ``dt_s / phases``).
        phases: Sequences start at so many points of time within a step, not only at whole steps:
            more sequences of the same recording, which must have frames every ``dt_s / phases``.
        classes: Class names drawn, in the order of their labels; other classes are left out.
        map_classes: Pairs of a source's own label and the class that it becomes, or
            :data:`LEFT_OUT`, before the table of :mod:`data_tools.classes`.
        directions: Whether the direction of lanes is drawn too.
        protocol: Name of the rules by which tracks become labels
            (:mod:`data_tools.labels.protocols`).
        settings: Pairs of name and value that the source understands.
        preset: What the columns of ``tracks`` are called and mean: the name of a preset of
            ``data_tools/presets``, or the path of a YAML file; None for the documented ones.
        workers: Processes; 1 works in this one.
        scheduler: Address of a Dask cluster to use instead, e.g. ``tcp://10.0.0.1:8786``; it and
            the output must be within reach of all its workers.
        resume: Whether to go on with an interrupted run of the same inputs and options.
        overwrite: Whether a store that is there is replaced, once its successor is complete.

    Raises:
        ConfigError: A number is out of its range, a class is named twice or not among those drawn,
            or there is no such centre or protocol.
    """

    grid: BEVGrid = GRIDS["bev-100m"]
    centre: str = centre.EGO
    history: int = 3
    horizon: int = 6
    dt_s: float = 0.5
    stride: int = 1
    phases: int = 1
    classes: tuple[str, ...] = DEFAULT_CLASSES
    map_classes: tuple[tuple[str, str], ...] = ()
    directions: bool = False
    protocol: str = "exact"
    settings: tuple[tuple[str, str], ...] = ()
    preset: str | None = None
    workers: int = 1
    scheduler: str | None = None
    resume: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_counts(
            history=self.history,
            horizon=self.horizon,
            stride=self.stride,
            phases=self.phases,
            workers=self.workers,
        )
        size = self.frames * self.grid.height * self.grid.width * RASTER_BYTES
        if size > MOST_BYTES:
            raise ConfigError(
                f"sequences of {MOST_BYTES} bytes at most",
                f"{size} for {self.frames} frames of {self.grid.shape} cells",
                "choose fewer frames or larger cells",
            )
        if self.protocol not in PROTOCOLS:
            known = ", ".join(PROTOCOLS)
            raise ConfigError(f"a protocol: {known}", repr(self.protocol), "correct --protocol")
        if not 1e-3 <= self.dt_s <= 3600:
            raise ConfigError("dt above 0 s, 0.001 to 3600", f"{self.dt_s:g}", "correct --dt")
        centre.parse(self.centre)
        names = {name.lower() for name in self.classes}
        if not 0 < len(names) == len(self.classes) <= 255:
            raise ConfigError("1 to 255 different classes", str(self.classes), "correct --classes")
        labels = [label.lower() for label, _ in self.map_classes]
        if len(set(labels)) < len(labels):
            twice = max(labels, key=labels.count)
            raise ConfigError("one class for a label", f"two for {twice!r}", "correct --map-class")
        for label, name in self.map_classes:
            if name.lower() not in names | {LEFT_OUT}:
                wanted = f"one of {', '.join(self.classes)}, or {LEFT_OUT}, for {label}"
                raise ConfigError(wanted, repr(name), "correct --map-class or --classes")

    @property
    def frames(self) -> int:
        """Frames of a sequence."""
        return self.history + self.horizon


def parse_pair(text: str, option: str) -> tuple[str, str]:
    """``KEY=VALUE``, as options such as ``--map-class`` take it.

    Raises:
        ConfigError: The text is something else.
    """
    key, mark, value = (part.strip() for part in text.partition("="))
    if not (key and mark and value):
        raise ConfigError("KEY=VALUE", repr(text), f"correct {option}")
    return key, value
