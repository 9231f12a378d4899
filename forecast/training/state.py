"""The state that a run resumes from: written whole or not at all, and kept when a step fails."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io import TorchCheckpointIO
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError
from torch import Tensor

from forecast.config.config import Config
from forecast.data.module import SequenceData
from forecast.errors import CheckpointError, DataError, TrainingError, reason_of

# Settings that a resumed run may change, as what is learned stays the same. Processes are compared
# where batches are (data/module.py).
HARMLESS = ("accelerator", "devices")


class StateFile(TorchCheckpointIO):
    """Lightning's state on a local disk, renamed to its name when it is complete.

    Lightning's own ends with a move from the system's temporary folder. To another disk that is a
    copy, and who is killed while it is made has neither the old state nor the new one.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Writes the state; until it is complete, the one before stays.

        Raises:
            CheckpointError: The disk refuses.
        """
        state = Path(path)
        # One name for all attempts: what a killed one has left is overwritten, not piled up.
        partial = state.with_name(f".{state.name}.partial")
        try:
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, state)
        except (OSError, RuntimeError) as error:  # torch's own writer knows no OSError
            partial.unlink(missing_ok=True)
            raise CheckpointError(
                f"to write {state}", reason_of(error), "free some space, then add --resume"
            ) from error

    def load_checkpoint(self, path: str | Path, *args: Any, **options: Any) -> dict[str, Any]:
        """Reads the state. It is a pickle, of which only tensors and plain values are admitted.

        Raises:
            CheckpointError: It is damaged, or would run code.
        """
        try:
            options["weights_only"] = True
            state: dict[str, Any] = super().load_checkpoint(path, *args, **options)
            _State.model_validate(state)
        except Exception as error:  # a damaged pickle makes torch raise any exception
            raise CheckpointError(
                "a whole state to resume from, of tensors and plain values",
                f"a damaged {path} ({_fault(error)})",
                "restore it, or remove it to train from the start",
            ) from error
        return state


class _Place(BaseModel):
    """The place in the data, see :class:`forecast.data.module.SequenceData`."""

    epoch: NonNegativeInt
    skip: NonNegativeInt
    order: dict[str, Any]


class _State(BaseModel):
    """What a state must hold for us; the rest is Lightning's, which says where it does not fit."""

    model_config = ConfigDict(arbitrary_types_allowed=True, strict=True)

    global_step: NonNegativeInt
    place: _Place = Field(alias="SequenceData")
    state_dict: dict[str, Tensor]
    # Without them Lightning would go on with others.
    optimizer_states: list[dict[str, Any]] = Field(min_length=1)
    lr_schedulers: list[dict[str, Any]] = Field(min_length=1)


def _fault(error: Exception) -> str:
    """What is wrong with a state, in one line; torch's own tells how to run its code."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    if named := re.search(r"GLOBAL (\S+)", str(error)):
        return f"it would run {named[1]}"
    return "no pickle" if "weights_only" in str(error) else reason_of(error)


@contextmanager
def refusing_another_state(path: Path | None, recount: Recount) -> Iterator[None]:
    """Turns what Lightning raises of a state that does not fit into a one-line error.

    Args:
        path: Of the state, or None where nothing is resumed.
        recount: Knows when the state has been taken up.

    Raises:
        CheckpointError: The state is not one of this network and optimizer.
    """
    try:
        yield
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if path is None or recount.resumed or isinstance(error, torch.OutOfMemoryError):
            raise
        raise CheckpointError(
            "the state of a run of this network and version",
            f"another in {path} ({reason_of(error)})",
            "restore it, or remove it to train from the start",
        ) from error


class KeepState(pl.Callback):
    """Saves the state before the step whose data or loss was at fault, to be resumed once mended.

    Such a step has not changed the weights yet. Processes that train together do not fail
    together and could not save together: they keep the last regular state.

    Args:
        path: Of the state.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Saves after at least one step, and only between or within steps: not in validation."""
        expected = isinstance(exception, DataError | TrainingError)
        if expected and trainer.training and trainer.world_size == 1 and trainer.global_step:
            trainer.save_checkpoint(self.path)


class SameSettings(pl.Callback):
    """Refuses to go on with a run whose settings were others: neither of the two would come of it.

    Args:
        config: Of this run.
    """

    def __init__(self, config: Config) -> None:
        self.settings = _settings(config)

    def state_dict(self) -> dict[str, Any]:
        """What the state says of the run's settings."""
        return self.settings

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Compares.

        Raises:
            CheckpointError: A setting differs that changes what is learned.
        """
        # What an earlier version did not know was as by default, unless it knew what is gone.
        with suppress(ValidationError):
            state_dict = _settings(Config.model_validate(state_dict))
        then, now = _flat(state_dict), _flat(self.settings)
        other = sorted(key for key in {*then, *now} if then.get(key) != now.get(key))
        if other:
            raise CheckpointError(
                f"the settings of the run in this folder: {_listed(then, other)}",
                _listed(now, other),
                "repeat its --config and --set to resume; to go on with others, start a run of its"
                " own with --set initial=RUN",
            )


def _settings(config: Config) -> dict[str, Any]:
    """Settings that change what is learned, as plain values."""
    settings = config.model_dump(mode="json", exclude=set(HARMLESS))
    del settings["loading"]["workers"]
    return settings


def _flat(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Settings by the names that ``--set`` knows them by."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        key = f"{above}{name}"
        flat |= _flat(value, f"{key}.") if isinstance(value, dict) else {key: value}
    return flat


def _listed(settings: Mapping[str, Any], keys: Iterable[str]) -> str:
    return ", ".join(f"{key}={json.dumps(settings.get(key))}" for key in keys)


class Recount(pl.Callback):
    """Counts a resumed run's epochs and batches anew, from the steps that it has taken.

    A state is saved within a step, after it, before a validation or after one, and Lightning's own
    counts are then of as many kinds, some of which it goes on from one too high or too low. The
    steps taken and the place in the data (:class:`forecast.data.module.SequenceData`) never are.

    Attributes:
        begun: Steps that had been taken when the run was resumed.
        resumed: Whether the whole state has been taken up.
    """

    begun = 0
    resumed = False

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Puts right what Lightning is about to load."""
        loop, place = checkpoint["loops"]["fit_loop"], checkpoint[SequenceData.__qualname__]
        self.begun = step = int(checkpoint["global_step"])
        epoch, batch = place["epoch"], place["skip"]
        begun = epoch + (batch > 0)
        for count in loop["epoch_progress"].values():
            count |= {"ready": begun, "started": begun, "processed": epoch, "completed": epoch}
        batches = loop["epoch_loop.batch_progress"]
        for kind, done in (("total", step), ("current", batch)):
            batches[kind] = dict.fromkeys(batches[kind], done)
        batches["is_last_batch"] = False
        loop["epoch_loop.state_dict"]["_batches_that_stepped"] = step

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Notes that the state is taken up.

        Raises:
            ValueError: What the optimizer remembers is of other weights; torch does not compare.
        """
        for optimizer in trainer.optimizers:
            for weights, kept in optimizer.state.items():
                shapes = {tuple(one.shape) for one in kept.values() if isinstance(one, Tensor)}
                if not shapes <= {(), tuple(weights.shape)}:
                    raise ValueError(f"moments of {shapes} for weights of {tuple(weights.shape)}")
        self.resumed = True
