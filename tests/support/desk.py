"""A folder to run the program in, and notes of what is right and what came of it."""

from __future__ import annotations

import contextlib
import io
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import xarray as xr

from forecast.cli import main as cli


@dataclass
class Desk:
    """A copy of a case's folder to work in, and what came of it.

    Attributes:
        found: What is right, what was got and whether that is right.
    """

    folder: Path
    found: list[tuple[str, str, bool]] = field(default_factory=list)

    def forecast(self, *arguments: str) -> tuple[int, str]:
        """The program run in the folder: its exit code and all that it printed."""
        said = io.StringIO()
        with (
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setattr(sys, "argv", ["forecast", *arguments])
            patch.delenv("FORECAST_DEBUG", raising=False)
            try:
                cli.main()
                code = 0
            except SystemExit as exit_:
                code = int(exit_.code or 0)
        return code, said.getvalue()

    def prepare(self, source: str, name: str, *options: str) -> tuple[int, str]:
        """The input made a store, ``out.zarr``."""
        given = ("--output", "out.zarr", "--workers", "1", "--overwrite", *options)
        return self.forecast("prepare", source, name, *given)

    def rollout(self, *options: str) -> tuple[int, str]:
        """``out.zarr`` forecast, into ``f.zarr``."""
        given = ("--data", "out.zarr", "--output", "f.zarr", "--gif", "", "--overwrite")
        return self.forecast("rollout", *given, *options)

    def open(self, name: str = "out.zarr") -> xr.Dataset:
        """A store that was made, in memory."""
        with xr.open_zarr(self.folder / name, consolidated=False, chunks=None) as store:
            return store.load()

    def check(self, right: str, got: object, holds: object) -> None:
        """Notes what is right, what was got, and whether it is that."""
        self.found.append((right, str(got), bool(holds)))

    def says(self, what: str, said: str, *words: str) -> None:
        """Notes whether something was said, whatever the case of its letters."""
        lines = said.splitlines()
        telling = [line for line in lines if any(word.lower() in line.lower() for word in words)]
        self.check(what, " ".join((telling or lines[-1:] or ["nothing"])[0].split()), telling)

    def finds(self, what: str, *words: str, options: tuple[str, ...] = ()) -> None:
        """Notes whether doctor finds something wrong with ``out.zarr``, and says so."""
        code, said = self.forecast("doctor", "out.zarr", *options)
        findings = [line for line in said.splitlines() if line.startswith("    ")]
        shown = "\n".join(findings) if code and findings else said.splitlines()[-1]
        self.says(f"doctor: {what}", shown, *words)
