"""Graphs compiled for the CPU of this machine by AOTInductor: few operations, no Python in them."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch._inductor.exc import CppCompileError, InductorError
from torch.export import ExportedProgram

from forecast.export.host import (
    Arrays,
    ExportError,
    HostForecaster,
    Run,
    bucket_of,
    checked_file,
    read_metadata,
)

CPU = "cpu"  # in the metadata: the kind that graphs are compiled for
# As many threads as torch has when it runs, not as it had when it compiled.
CONFIGURATION = {"cpp.dynamic_threads": True}
# They say that there is no CUDA, and that a package is of another CPU though it fits this one.
TALKS = ("torch.utils.cpp_extension", "torch.export.pt2_archive._package")


def compile_graph(program: ExportedProgram, path: Path) -> None:
    """Writes a graph as a package of machine code and weights; takes a minute or so.

    Its inputs must lie in memory as those did that it was exported with, which are contiguous: it
    does not look.

    Args:
        program: The graph.
        path: The package, whose name ends in ``.pt2``.

    Raises:
        ExportError: It cannot be compiled, for want of a C++ compiler that works.
    """
    try:
        with silent(*TALKS):
            torch._inductor.aoti_compile_and_package(
                program, package_path=str(path), inductor_configs=CONFIGURATION
            )
    except (InductorError, CppCompileError) as error:
        got = " ".join(str(error).split())[:200]
        raise ExportError("a C++ compiler that works", got, "mend it, or set CXX") from error


def this_cpu() -> str:
    """The kind of CPU that compiled graphs run on, such as ``x86_64 AVX2``."""
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def load(folder: str | Path, slots: int | None = None) -> HostForecaster:
    """An exported forecaster of compiled graphs, which run in this process.

    Args:
        folder: That `forecast export --format aoti` wrote, on a machine with such a CPU.
        slots: The bucket; None = the smallest.

    Raises:
        ExportError: The folder lacks something, a file is not the one that was exported, or it was
            exported on another kind of CPU.
    """
    metadata = read_metadata(folder)
    if "aoti" not in metadata["formats"]:
        found = ", ".join(metadata["formats"])
        raise ExportError("compiled graphs", found, "export with --format aoti")
    if metadata.get(CPU) != this_cpu():
        got = f"a {this_cpu()}"
        raise ExportError(
            f"a CPU as the graphs are compiled for: {metadata.get(CPU)}", got, "export here"
        )
    bucket = bucket_of(metadata, slots)
    with silent(*TALKS):
        graphs = {
            name: torch._inductor.aoti_load_package(
                str(checked_file(Path(folder), graph["files"]["aoti"]))
            )
            for name, graph in bucket["graphs"].items()
        }
    return HostForecaster(bucket, metadata, runner(graphs.__getitem__))


def runner(graph_of: Callable[[str], Any]) -> Run:
    """What a host calls to run a graph of torch's by its name."""

    def run(name: str, feed: Arrays) -> Arrays:
        given = {key: torch.as_tensor(value).contiguous() for key, value in feed.items()}
        with torch.inference_mode():
            said = graph_of(name)(**given)
        return {key: value.numpy() for key, value in said.items()}

    return run


@contextmanager
def silent(*names: str) -> Iterator[None]:
    """Hides what loggers of these names say below an error."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
