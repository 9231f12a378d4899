"""What an export is refused for, before anything slow is loaded."""

from pathlib import Path

import pytest

from forecast.errors import ForecastError
from forecast.export.request import ExportRequest


@pytest.fixture(autouse=True)
def torch_that_exports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests need none, and the oldest torch that the package admits cannot export."""
    monkeypatch.setattr("forecast.export.request.version", lambda name: "2.14.0")


def request(folder: Path, **options: object) -> ExportRequest:
    return ExportRequest(**{"model": None, "output": str(folder / "out"), **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"formats": ("tensorrt",)}, "formats onnx, pt2, aoti; got 'tensorrt'"),
        ({"slots": (0,)}, "--agents of 1 to 4096; got 0"),
        ({"slots": (32, 32)}, "each once"),
        ({"slots": (99999,)}, "--agents of 1 to 4096"),
        ({"points": 0}, "--lane-points of 1 to 4096; got 0"),
        ({"histories": 0}, "--histories of 1"),
        ({"horizon": 0}, "--horizon of 1"),
        ({"model": "kalman"}, "a checkpoint to export"),
    ],
    ids=lambda value: None if isinstance(value, dict) else value[:12],
)
def test_refused(tmp_path: Path, options: dict[str, object], said: str) -> None:
    with pytest.raises(ForecastError) as refusal:
        request(tmp_path, **options)

    assert said in str(refusal.value)


def test_machine_code_needs_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")

    with pytest.raises(ForecastError, match="a C\\+\\+ compiler for --format aoti; got none"):
        request(tmp_path, formats=("aoti",))


def test_an_output_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()

    with pytest.raises(ForecastError, match="which exists"):
        request(tmp_path)
    assert request(tmp_path, overwrite=True).overwrite


def test_a_library_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forecast.export.request.find_spec", lambda name: None)

    with pytest.raises(ForecastError, match=r"expected onnx for --format onnx; got none installed"):
        request(tmp_path)


def test_a_torch_that_cannot_trace_graphs_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forecast.export.request.version", lambda name: "2.7.0+cpu")

    with pytest.raises(ForecastError, match=r"torch 2.14 or later, to export; got 2.7.0\+cpu"):
        request(tmp_path)
