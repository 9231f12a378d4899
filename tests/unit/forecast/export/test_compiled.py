"""Compiled graphs: what is not for this machine, or cannot be compiled, is refused in one line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._inductor.exc import CppCompileError

from forecast.export import compiled
from forecast.export.compiled import compile_graph, load, this_cpu
from forecast.export.host import METADATA, SCHEMA, ExportError, checksum


def exported(folder: Path, **changes: Any) -> Path:
    """A folder whose metadata are whole; it holds no graph."""
    about = {"schema": SCHEMA, "formats": ["aoti"], "cpu": this_cpu(), "buckets": []} | changes
    (folder / METADATA).write_text(json.dumps(about | {"sha256": checksum(about)}))
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"formats": ["onnx", "pt2"]}, "compiled graphs; got onnx, pt2; export with --format aoti"),
        ({"cpu": "x86_64 AVX9"}, "a CPU as the graphs are compiled for: x86_64 AVX9; got a "),
        ({"cpu": None}, "a CPU as the graphs are compiled for"),
    ],
)
def test_an_export_that_is_not_for_this_machine_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=message) as caught:
        load(exported(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_a_compiler_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*words: object, **options: object) -> None:
        raise CppCompileError(["g++", "a.cpp"], "no such\ninclude")

    monkeypatch.setattr(compiled.torch._inductor, "aoti_compile_and_package", fails)
    program = torch.export.export(torch.nn.Identity(), (torch.zeros(1),))
    with pytest.raises(ExportError, match=r"a C\+\+ compiler that works; got .*no such") as caught:
        compile_graph(program, tmp_path / "a.pt2")
    assert "\n" not in str(caught.value)
