"""Graphs compiled for the CPU of this machine by AOTInductor: few operations, no Python in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram


def compile_graph(program: ExportedProgram, path: Path) -> None:
    """Writes a graph as a package of machine code and weights; takes a minute or so.

    Args:
        program: The graph.
        path: The package, whose name ends in ``.pt2``.
    """
    torch._inductor.aoti_compile_and_package(program, package_path=str(path))


def load_compiled(path: Path) -> Any:
    """The function in a package: its code runs in this process, so load your own packages only."""
    return torch._inductor.aoti_load_package(str(path))
