"""The files that inputs name, and the frames of a recording that a step takes."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from glob import has_magic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecast.errors import DataError, counted
from forecast.storage.files import filesystem, opened

LATE = 0.4  # of a step
MOST_ENDINGS = 4  # of files in a folder, in an error


def find_files(
    inputs: Sequence[str],
    suffixes: tuple[str, ...],
    expected: str = "",
    remedy: str = "check the path",
) -> list[str]:
    """The files among some inputs, in the order given, directories and globs sorted.

    Args:
        inputs: Files, directories (searched to any depth), globs of either, fsspec URLs, or
            ``@list.txt``, a text file with one such input per line, blank lines and ``#`` comments
            left out.
        suffixes: What names of files in directories must end in, ``*`` standing for anything; a
            file named outright or by a glob may be called anything.
        expected: What an input should be, where the endings do not say it.
        remedy: What can be done where it is not.

    Raises:
        DataError: An input does not exist or holds no such file.
    """
    found: dict[str, None] = {}  # a dict keeps the order and drops what is named twice
    for text in _expand_lists(inputs):
        files = _files_of(text, suffixes)
        if not files:
            raise DataError(
                expected or f"a file, directory, glob or @list of {' or '.join(suffixes)}",
                f"{_content(text)} at {text}",
                remedy,
            )
        found.update(dict.fromkeys(files))
    return list(found)


def _content(text: str) -> str:
    """What is in a folder, for an error message: ``12 files, of .png``."""
    system, path = filesystem(text)
    files = system.find(path) if system.isdir(path) else []
    endings = Counter(posixpath.splitext(file)[1] or "no ending" for file in files)
    kinds = ", ".join(ending for ending, _ in endings.most_common(MOST_ENDINGS))
    return f"{counted(len(files), 'file')}, of {kinds}," if files else "nothing"


def decimate(time_s: NDArray[np.float64], dt_s: float, where: str) -> slice:
    """The slice that turns a regular recording into one with steps of exactly ``dt_s``.

    Args:
        time_s: ``(T,)`` seconds, ascending and regular to a tenth of a step; one step in twenty,
            or a single one, may be further off.
        dt_s: Seconds between frames wanted: a whole multiple of the recording's step.
        where: Name of the recording, for the error.

    Raises:
        DataError: Fewer than two frames, irregular times, or a step that does not divide ``dt_s``.
    """
    remedy = "choose a --dt that is a multiple of it"
    if len(time_s) < 2:
        raise DataError("two frames or more", f"{len(time_s)} in {where}", "leave it out")
    with np.errstate(all="ignore"):  # of times that are not finite, refused below
        steps = np.diff(time_s)
        step = float(np.median(steps))
        off = np.abs(steps / step - 1)
    if not (step > 0 and mostly_regular(off, 0.1)):
        raise DataError(
            "regular times", f"steps of {steps.min():g} to {steps.max():g} s in {where}", remedy
        )
    every = dt_s / step
    # Clocks jitter: 0.5 s of frames 0.0999 s apart is still every fifth frame.
    if every < 0.99 or abs(every - round(every)) > 0.02 * round(every):
        raise DataError(f"a step that divides {dt_s:g} s", f"{step:g} s in {where}", remedy)
    return slice(None, None, round(every))


def mostly_regular(off: NDArray[np.float64], usual: float) -> bool:
    """Whether steps are as long as they should be, but for a few: a clock was set, a frame late.

    Args:
        off: ``(T - 1,)`` how far each is off, in steps.
        usual: How far they may be; one in twenty, or a single one, up to :data:`LATE`.
    """
    few = max(1, len(off) // 20)
    return bool((off <= max(usual, LATE)).all() and (off > usual).sum() <= few)  # False for NaN


def places(inputs: Sequence[str]) -> list[str]:
    """Every file and folder that inputs name: themselves, their lists and what is in these, globs.

    Raises:
        DataError: A list cannot be read.
    """
    named = [text.removeprefix("@") for text in inputs]
    for text in _expand_lists(inputs):
        system, path = filesystem(text)
        found = system.glob(path) if has_magic(path) else [path]
        prefix, _, _ = text.partition("://")
        named += [text, *(f"{prefix}://{place}" if "://" in text else place for place in found)]
    return named


def _expand_lists(inputs: Sequence[str]) -> list[str]:
    expanded: list[str] = []
    for text in inputs:
        if not text.startswith("@"):
            expanded.append(text)
            continue
        try:
            with opened(text[1:], "rt", encoding="utf-8-sig") as file:
                lines = [line.strip() for line in file]
        except (OSError, UnicodeDecodeError) as error:
            raise DataError("a text file of inputs", f"{text} ({error})", "check it") from error
        expanded += [line for line in lines if line and not line.startswith("#")]
    return expanded


def _files_of(text: str, suffixes: tuple[str, ...]) -> list[str]:
    system, path = filesystem(text)
    if system.isfile(path):
        return [text]
    files: set[str] = set()
    for place in [path] if system.isdir(path) else system.glob(path):
        files.update([place] if system.isfile(place) else _files_in(system, place, suffixes))
    prefix, _, _ = text.partition("://")
    return sorted(f"{prefix}://{file}" if "://" in text else file for file in files)


def _files_in(system: Any, folder: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    for file in system.find(folder):
        name = posixpath.basename(file)
        if any(fnmatchcase(name, f"*{suffix}") for suffix in suffixes):
            yield file
