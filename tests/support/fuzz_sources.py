"""Damages recordings until a source stumbles: ``python -m tests.support.fuzz_sources TARGET``.

Whatever a recording holds, a source must give scenes that become sequences, or one ForecastError
that names the file: no other exception and no warning, within ten seconds of work and a gigabyte.
The damage is drawn from ``--seed``, so that ``--only N`` repeats one case. Each kind of failure is
left in ``--keep``, once. With recordings (``INPUT...``, copied first) those are damaged too, and
not only the tiny ones that the tests make.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from data_tools.classes import class_of
from data_tools.options import PrepareOptions
from data_tools.prepare import _draw, _naming
from data_tools.scene import DenseScene, Scene
from data_tools.sources import Source, source
from forecast.errors import ForecastError
from tests.support.fuzz_samples import GRID, TARGETS
from tests.support.measure import Cost
from tests.support.mutation import mutated

MOST_SECONDS, MOST_MIB = 10, 1024
MOST_ADDRESSES = 8 * 2**30  # so that a case does not take the machine with it
UNITS, SEQUENCES = 2, 2  # tried of each damaged recording
LARGE_BYTES = 3_000_000  # sensors' data, which no source here reads


class Fuzzer:
    """Draws cases, each from its own number, and tries them on a source.

    Args:
        name: One of :data:`~tests.support.fuzz_samples.TARGETS`.
        folder: Where recordings are put and damaged.
        inputs: Recordings to damage beside those that tests make.
        seed: Of all draws.
    """

    def __init__(self, name: str, folder: Path, inputs: list[str], seed: int) -> None:
        target = TARGETS[name]
        self.origin: Source = source(target.source, {}, target.preset)
        self.victims = target.victims
        self.seed = seed
        made = folder / "made"
        made.mkdir()
        target.write(made)
        self.roots = [made]
        for number, path in enumerate(inputs):
            copied = folder / f"copy-{number}"
            if Path(path).is_dir():
                shutil.copytree(path, copied)
            else:
                copied.mkdir()
                shutil.copy(path, copied)
            self.roots.append(copied)
        self.options = PrepareOptions(grid=GRID)

    def case(self, number: int) -> tuple[Path, bytes, Path]:
        """A root, the new content of one of its files, and that file."""
        chance = random.Random(f"{self.seed}-{number}")
        # What tests make is small, so that many of it are tried in the time of a real one.
        root = self.roots[0] if chance.random() < 0.7 else chance.choice(self.roots)
        every = sorted(f for f in root.rglob("*") if f.is_file() and _read_by_some(f))
        files = [f for f in every if f.name.endswith(self.victims or "")] or every
        victim = chance.choice(files)
        return root, mutated(victim, chance), victim

    def attempt(self, number: int) -> str:
        """What came of a case: "scenes" or "refused".

        Raises:
            BaseException: Whatever must not happen.
        """
        root, content, victim = self.case(number)
        before = victim.read_bytes()
        victim.write_bytes(content)
        try:
            with limited():
                return self._read(root, victim)
        finally:
            victim.write_bytes(before)

    def _read(self, root: Path, victim: Path) -> str:
        place = next((p for p in (*victim.parents, root) if p.parent == root), root)
        try:
            for unit in self._units(root, victim):
                scene = self.origin.read(unit, self.options.dt_s)
                check(scene)
                named = partial(class_of, self.origin.name, overrides=())
                with _naming(unit):
                    found, _ = _draw(unit, scene, self.options, named)
                    for _ in islice(found, SEQUENCES):
                        pass
        except ForecastError as error:
            refuse_exhaustion(error)
            text = str(error)
            assert str(root) in text, f"names no file of {place}: {text}"
            assert "\n" not in text, f"more than a line: {text!r}"
            assert len(text) < 2000, f"{len(text)} characters: {text[:300]}"
            return "refused"
        return "scenes"

    def _units(self, root: Path, victim: Path) -> list[str]:
        """Some units, those of the damaged file first."""
        units = self.origin.find([str(root)])
        near = str(victim.parent)
        units.sort(key=lambda unit: (not unit.startswith(str(victim)), near not in unit))
        return units[:UNITS]


def check(scene: Scene | DenseScene) -> None:
    """What every scene promises.

    Raises:
        AssertionError: It is not so.
    """
    assert np.isfinite(scene.time_s).all()
    assert (np.diff(scene.time_s) > 0).all()
    if isinstance(scene, Scene):
        assert scene.state.shape == (len(scene.track_id), len(scene.time_s), 5)
        assert len(scene.track_class) == len(scene.track_id)
        assert all(np.isfinite(element.points).all() for element in scene.map)


@contextmanager
def limited() -> Iterator[None]:
    """Warnings are errors, and time and memory have an end.

    Raises:
        TimeoutError: Ten seconds of work were not enough.
        MemoryError: A gigabyte was not.
    """
    cost = Cost()

    def stop(*_: object) -> None:
        raise Hang(f"more than {MOST_SECONDS} s of work")

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    faulthandler.dump_traceback_later(20 * MOST_SECONDS, exit=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", UserWarning)  # zarr names what is not its own
            yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        faulthandler.cancel_dump_traceback_later()
    _, peak = cost.so_far()
    if peak is not None and peak > MOST_MIB:
        raise Hang(f"{peak:.0f} MiB")


class Hang(BaseException):
    """Too long or too large; no Exception, which a source might take for a fault of the file."""


def refuse_exhaustion(error: BaseException | None) -> None:
    """Running out of memory is no way to find a fault, except in numcodecs' reader of texts.

    That one trusts the number of texts that a chunk begins with, and makes room for them.

    Raises:
        Hang: It ran out.
    """
    while error is not None:
        frames = traceback.extract_tb(error.__traceback__)
        if isinstance(error, MemoryError) and "vlen" not in frames[-1].filename:
            raise Hang("memory ran out") from error
        error = error.__cause__


def _read_by_some(path: Path) -> bool:
    return path.stat().st_size < LARGE_BYTES or path.suffix in (".json", ".gz", ".pkl")


def _signature(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "data_tools" in f.filename or "forecast/" in f.filename] or frames
    return f"{type(error).__name__} at {Path(ours[-1].filename).name}:{ours[-1].lineno}"


def run(fuzzer: Fuzzer, name: str, seconds: float, keep: Path, first: int, progress: Path) -> int:
    """Tries cases from number ``first`` on until the time is over; how many failures there were."""
    found: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    end = time.monotonic() + seconds
    number = first
    while time.monotonic() < end:
        progress.write_text(str(number))
        try:
            outcomes[fuzzer.attempt(number)] += 1
        except (Exception, Hang) as error:
            signature = _signature(error)
            found[signature] += 1
            if found[signature] == 1:
                _, content, victim = fuzzer.case(number)
                kept = keep / f"{name}-{number}-{victim.name}"
                kept.write_bytes(content)
                print(
                    f"{name}: case {number}: {signature}: {str(error)[:300]!r}; {kept}", flush=True
                )
        number += 1
    rest = ", ".join(f"{count} {what}" for what, count in sorted(outcomes.items()))
    total = ", ".join(f"{count} x {what}" for what, count in found.items()) or "none"
    print(f"{name}: {number - first} cases ({rest}); failures: {total}", flush=True)
    return sum(found.values())


def run_apart(fuzzer: Fuzzer, name: str, seconds: float, keep: Path, progress: Path) -> int:
    """The same in a process of its own, begun anew after each case that kills it."""
    end, first, failures = time.monotonic() + seconds, 0, 0
    while (left := end - time.monotonic()) > 0:
        child = os.fork()
        if not child:
            resource.setrlimit(resource.RLIMIT_AS, (MOST_ADDRESSES,) * 2)
            os._exit(run(fuzzer, name, left, keep, first, progress) > 0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) in (0, 1):
            return failures + os.WEXITSTATUS(status)
        number = int(progress.read_text())
        _, content, victim = fuzzer.case(number)
        (keep / f"{name}-{number}-{victim.name}").write_bytes(content)
        print(f"{name}: case {number} ended the process (status {status})", flush=True)
        failures, first = failures + 1, number + 1
    return failures


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=tuple(TARGETS))
    parser.add_argument("inputs", nargs="*", help="recordings to damage copies of")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="try this case alone, in the open")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-failures"))
    chosen: Any = parser.parse_args()
    chosen.keep.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = Fuzzer(chosen.target, Path(folder), chosen.inputs, chosen.seed)
        if chosen.only is not None:
            print(fuzzer.attempt(chosen.only))
            return
        gc.freeze()  # what is there already is not looked through before each case
        progress = Path(folder) / "case"
        failed = run_apart(fuzzer, chosen.target, chosen.seconds, chosen.keep, progress)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
