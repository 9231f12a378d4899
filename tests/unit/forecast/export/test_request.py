"""What an export is refused for, before anything slow is loaded."""

import json
from pathlib import Path

import pytest

from forecast.errors import ConfigError, DataError, ForecastError
from forecast.export.host import SCHEMA
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


@pytest.mark.parametrize(
    "files",
    [{"thesis.pdf": ""}, {"metadata.json": "{}"}, {"metadata.json": '{"schema": "of-others/1"}'}],
    ids=["a folder", "metadata", "metadata of others"],
)
def test_only_an_export_is_overwritten(tmp_path: Path, files: dict[str, str]) -> None:
    (tmp_path / "out").mkdir()
    for name, text in files.items():
        (tmp_path / "out" / name).write_text(text)

    with pytest.raises(DataError, match=r"expected an export to replace; got .*something else"):
        request(tmp_path, overwrite=True)

    (tmp_path / "out" / "metadata.json").write_text(json.dumps({"schema": SCHEMA}))
    assert request(tmp_path, overwrite=True).overwrite


def test_a_file_is_not_overwritten_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "out").touch()

    with pytest.raises(DataError, match="an export to replace"):
        request(tmp_path, overwrite=True)


def test_the_working_folder_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError, match="holds the working folder"):
        request(tmp_path, output=".", overwrite=True)


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
