"""The logs of a run, made with the first numbers in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger


def loggers(folder: Path) -> list[Logger]:
    """What writes the numbers of a run: as a table, and for TensorBoard."""
    return [
        _Table(folder, name="", version=_unused(folder, "csv")),
        _TensorBoard(folder, name="", version="tensorboard"),
    ]


class _Late(Logger):
    """Leaves nothing of a run that is refused or had ended: Lightning makes its files at once."""

    begun = False

    @property
    def experiment(self) -> Any:
        """The writer, once there is something to write."""
        return super().experiment if self.begun else None  # type: ignore[misc]

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Writes numbers."""
        self.begun = True
        super().log_metrics(metrics, step)  # type: ignore[safe-super]

    def save(self) -> None:
        """Writes what is held back."""
        if self.begun:
            super().save()


class _Table(_Late, CSVLogger):
    """``metrics.csv``."""


class _TensorBoard(_Late, TensorBoardLogger):
    """What TensorBoard reads."""


def _unused(folder: Path, name: str) -> str:
    """``name``, or ``name-2`` and so on: the logger would delete what an interrupted run wrote."""
    names = (name, *(f"{name}-{number}" for number in range(2, 10_000)))
    return next(found for found in names if not (folder / found).exists())
