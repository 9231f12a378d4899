"""The logs of a run; their files are made when the first metrics are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger


def loggers(folder: Path) -> list[Logger]:
    """The loggers of a run's metrics: a CSV table and TensorBoard."""
    return [
        _Table(folder, name="", version=_unused(folder, "csv")),
        _TensorBoard(folder, name="", version="tensorboard"),
    ]


class _Late(Logger):
    """Makes no files before there are metrics: Lightning would, for refused runs too."""

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
    """The files that TensorBoard reads."""


def _unused(folder: Path, name: str) -> str:
    """``name``, ``name-2`` and so on: the logger would overwrite that of an interrupted run."""
    names = (name, *(f"{name}-{number}" for number in range(2, 10_000)))
    return next(found for found in names if not (folder / found).exists())
