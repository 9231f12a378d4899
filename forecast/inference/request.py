"""What a rollout is asked for; what is wrong with that is said before anything slow is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from data_tools.formats.ros_messages import refuse_missing_packages
from forecast.checkpoint.metadata import is_checkpoint, weights_of
from forecast.checkpoint.packaged import PACKAGED, packaged
from forecast.errors import CheckpointError, ConfigError, DataError, check_counts
from forecast.model.spec import COMPONENTS, NOT_LEARNED, RESAMPLED, baseline_of
from forecast.storage.atomic import refuse_existing, refuse_replacing, refuse_unwritable
from forecast.storage.files import is_within
from forecast.storage.resumable import ResumableOutput
from forecast.storage.sole_writer import refuse_working_folder
from forecast.storage.stores import lacks_ids, open_sequence_store, refusing_damage

InputMode = Literal["tracked", "detected"]
ONE_FUTURE = tuple(name for name in NOT_LEARNED if name not in ("kalman", RESAMPLED))
"""Models that do not say how large their errors are, and so have no realizations."""


@dataclass(frozen=True)
class RolloutRequest:
    """What to forecast, with what, and where to; checked once, where it is made, without torch.

    Attributes:
        data: Sequence store; None = the packaged sample.
        model: Baseline's name or checkpoint; None = the packaged checkpoint.
        output: Forecast store to write.
        gif: Animation to write, or None.
        mcap: ROS 2 bag to write, or None.
        horizon: Leads.
        input_mode: Whether the history's ids are read.
        mirror: Whether the forecast is averaged with that of the mirrored scene.
        fast: Whether a model that reads rasters is to leave them out.
        teacher_forced: Whether every lead starts from the true frames before it.
        limit: Only the first so many sequences.
        batch_size: Sequences at a time.
        device: "auto" or torch's name of a device.
        overwrite: Whether existing outputs are replaced.
        workers: Processes; 1 works in this one.
        scheduler: Address of a Dask cluster to use instead, e.g. ``tcp://10.0.0.1:8786``; data,
            model and output must be within reach of all its workers.
        resume: Whether to go on with an interrupted run of the same request.
        realizations: How many futures are drawn beside the forecast; None = none.
        seed: Of their random numbers.
        realization_masks: Whether their masks are stored too.

    Raises:
        ForecastError: A count is below one, options exclude each other, the data or the model are
            not there, the data have no ids for tracked input, or an output would replace something
            or cannot be written.
    """

    data: str | None = None
    model: str | None = None
    output: str = "forecast.zarr"
    gif: str | None = None
    mcap: str | None = None
    horizon: int = 6
    input_mode: InputMode = "tracked"
    mirror: bool = False
    fast: bool = False
    teacher_forced: bool = False
    limit: int | None = None
    batch_size: int = 8
    device: str = "auto"
    overwrite: bool = False
    workers: int = 1
    scheduler: str | None = None
    resume: bool = False
    realizations: int | None = None
    seed: int = 0
    realization_masks: bool = False

    def __post_init__(self) -> None:
        check_counts(
            horizon=self.horizon,
            limit=self.limit,
            batch_size=self.batch_size,
            workers=self.workers,
            realizations=self.realizations,
        )
        self._check_realizations()
        _refuse_replacing_inputs(self)
        refuse_working_folder(self.output)
        self._check_data()
        if self.gif is not None and not self.gif.lower().endswith(".gif"):
            raise ConfigError("a --gif that ends in .gif", self.gif, "rename it, or '' for none")
        if self.teacher_forced and self.input_mode == "detected":
            raise ConfigError(
                "tracked input for --teacher-forced, so that ids persist from lead to lead",
                "detected input",
                "leave one of them out",
            )
        check_model(self.model, self.input_mode, self.mirror, self.fast)
        refuse_own_errors(self.model, self.data or packaged("sample.zarr"))
        if not self.resume:
            output = ResumableOutput(self.output, self.overwrite)
            output.refuse_existing()
            output.refuse_unfinished()
        if self.gif is not None:
            refuse_existing(self.gif, overwrite=self.overwrite)
        self._check_mcap()
        for path in filter(None, (self.output, self.gif, self.mcap)):
            refuse_unwritable(path)

    def _check_realizations(self) -> None:
        check_seed(self.seed)
        if self.realizations is None:
            if self.seed:
                raise ConfigError("--realizations with --seed", "none", "say how many, or drop it")
            if self.realization_masks:
                raise ConfigError(
                    "--realizations with --realization-masks", "none", "say how many, or drop it"
                )
        elif self.teacher_forced:
            raise ConfigError(
                "--realizations without --teacher-forced", "both", "leave one of them out"
            )
        elif self.mirror or self.model in ONE_FUTURE:
            refuse_realizations(self.model or PACKAGED, self.mirror)

    def _check_data(self) -> None:
        """Refuses tracked input of agents without ids: the forecast would be empty."""
        path = self.data or packaged("sample.zarr")
        data, meta = open_sequence_store(path)
        if self.input_mode == "detected":
            return
        with refusing_damage(path):
            nobody_known = lacks_ids(data, meta)
        if nobody_known:
            got = f"classes without any id in {path}"
            raise DataError("ids in the history for tracked input", got, "add --input detected")

    def _check_mcap(self) -> None:
        """Refuses a bag that cannot be written, before long work for it."""
        if self.mcap is None:
            return
        refuse_missing_packages()
        if not self.mcap.lower().endswith(".mcap"):
            raise ConfigError("an --mcap that ends in .mcap", self.mcap, "rename it")
        data, _ = open_sequence_store(self.data or packaged("sample.zarr"))
        if self.input_mode == "detected" or not data.sizes.get("track", 0):
            raise ConfigError(
                "tracks for --mcap, whose objects have ids and sizes",
                "detected input" if self.input_mode == "detected" else "data without them",
                "leave it out",
            )
        refuse_existing(self.mcap, overwrite=self.overwrite)


def check_seed(seed: int) -> None:
    """Refuses a seed that random numbers do not begin with.

    Raises:
        ConfigError: It is one.
    """
    if not 0 <= seed < 2**32:
        raise ConfigError("a seed from 0 to 2^32 - 1", str(seed), "change it")


def refuse_realizations(name: str, mirror: bool) -> NoReturn:
    """Says which models have several futures.

    Args:
        name: Of one that has not.
        mirror: Whether that is because its forecast is averaged with that of the mirrored scene.

    Raises:
        ConfigError: Always.
    """
    wanted = f"a learned model without mirror, kalman or {RESAMPLED}, for realizations"
    got = f"{name} with mirror" if mirror else name
    raise ConfigError(wanted, got, "drop one of them" if mirror else "take another model")


def check_model(
    name: str | None,
    input_mode: InputMode = "tracked",
    mirror: bool = False,
    fast: bool = False,
) -> None:
    """Refuses a model that is not there, or cannot read this kind of input.

    Args:
        name: Baseline's name or checkpoint; None = the packaged checkpoint.
        input_mode: Whether the history's ids are read.
        mirror: Whether the forecast is averaged with that of the mirrored scene.
        fast: Whether rasters are left out.

    Raises:
        CheckpointError: It is neither a baseline nor a path that is there.
        ConfigError: It cannot be asked for this.
    """
    for option, asked in (("--mirror", mirror), ("--fast", fast)):
        if asked and (input_mode == "detected" or baseline_of(name)):
            got = f"{name or PACKAGED} and {input_mode} input"
            raise ConfigError(f"{option} with a learned model and tracked input", got, "drop it")
    if name == COMPONENTS and input_mode == "tracked":
        raise ConfigError("a model for tracked input", COMPONENTS, "add --input detected")
    if store := store_of_errors(name):
        open_sequence_store(store)
    elif not (name in (None, PACKAGED, *NOT_LEARNED) or is_checkpoint(Path(str(name)))):
        known = ", ".join((PACKAGED, *NOT_LEARNED, f"{RESAMPLED}:STORE"))
        wanted = f"a *.safetensors file, a run's folder, or one of {known}"
        raise CheckpointError(wanted, repr(name), "correct --model")


def store_of_errors(name: str | None) -> str | None:
    """The store that the errors of :data:`RESAMPLED` are to be of; None where none is named."""
    if baseline_of(name) != RESAMPLED:
        return None
    return str(name).partition(":")[2] or None


def refuse_own_errors(name: str | None, data: str) -> None:
    """Refuses to judge errors by the truth that they are the errors of.

    Args:
        name: Of the model.
        data: Sequence store that it is to forecast.

    Raises:
        ConfigError: The errors are those of the data.
    """
    store = store_of_errors(name)
    if store is not None and is_within(store, data) and is_within(data, store):
        remedy = "take them of a store that is not judged, such as the one that is trained on"
        raise ConfigError(f"a {RESAMPLED}:STORE other than the data", store, remedy)


def _refuse_replacing_inputs(request: RolloutRequest) -> None:
    """Refuses outputs in whose place, finished or not, lies what is read, --overwrite or not.

    Nothing is written into the data either; a run's folder, though, may well get its forecasts.

    Raises:
        ConfigError: An output is one of the inputs, holds one, or lies in the data.
    """
    data = request.data or packaged("sample.zarr")
    kept = [data]
    model = request.model or PACKAGED
    if store := store_of_errors(model):
        kept.append(store)
    elif model not in (PACKAGED, *NOT_LEARNED):
        weights = weights_of(Path(model))
        kept += [str(weights), str(weights.with_suffix(".json"))]
    unfinished = f"{request.output.rstrip('/')}.partial"
    written = [("--output", request.output), ("--output", unfinished)]
    if request.gif is not None:
        written.append(("--gif", request.gif))
        if is_within(request.output, request.gif):
            raise ConfigError("a --gif beside --output", request.gif, "choose another")
    if request.mcap is not None:
        written.append(("--mcap", request.mcap))
        if is_within(request.output, request.mcap) or is_within(request.mcap, request.output):
            raise ConfigError("an --mcap beside --output", request.mcap, "choose another")
    for option, path in written:
        refuse_replacing(option, path, kept, around=[data])
