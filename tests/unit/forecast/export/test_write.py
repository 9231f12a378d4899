"""An export appears whole, and only where it says what the forecaster says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forecast.checkpoint.checkpoint import Checkpoint
from forecast.checkpoint.packaged import packaged
from forecast.cli.export import _counts
from forecast.data.reader import SequenceReader
from forecast.errors import ConfigError, DataError, ParityError
from forecast.export.host import ExportError
from forecast.export.layout import Layout
from forecast.export.parity import LIMIT
from forecast.export.request import ExportRequest
from forecast.export.slots import SlotForecaster
from forecast.export.write import (
    _examples,
    _levels,
    _refuse_apart,
    _refuse_unlike,
    _refusing_export_errors,
    _steps_known,
    export,
)
from forecast.model.forecaster import Forecaster
from forecast.model.spec import Inputs
from forecast.storage.atomic import staged_folder
from tests.support.sequences import INPUTS, SMALL, forecaster, sequences
from tests.support.stores import GRID, Mover


@pytest.mark.parametrize("value", [2 * LIMIT, np.inf, np.nan], ids=["more", "agents", "nan"])
def test_graphs_that_say_something_else_are_refused(value: float) -> None:
    _refuse_apart({"onnx": {"32": {"pose_m": LIMIT}}})

    with pytest.raises(ParityError, match=r"for existence of 32 agents; nothing was exported"):
        _refuse_apart({"onnx": {"32": {"pose_m": 0.0, "existence": value}}})


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match=r"to write .*out; got is a directory"),
        staged_folder(str(tmp_path / "out")) as folder,
    ):
        folder.write_text("")
    assert not list(tmp_path.iterdir())

    with staged_folder(str(tmp_path / "out")) as folder:
        (folder / "file").touch()
        assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "file"]


def test_a_folder_is_local_and_below_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(DataError, match="to write"), staged_folder(str(tmp_path / "file" / "out")):
        pass
    with pytest.raises(ConfigError, match="a local folder"), staged_folder("memory://out"):
        pass


@pytest.mark.parametrize("raster", ["always", "none"])
def test_every_graph_has_inputs_where_all_moments_have_rasters(raster: str) -> None:
    model = forecaster(raster=raster)
    history = sequences([[Mover(0.0, 0.0, speed=5.0)]]).crop(0, 3)
    layout = Layout(model.spec, INPUTS, GRID, 4, 24, _levels(model, GRID))

    examples = _examples(SlotForecaster(model), layout, history)

    for spec in layout.graphs:
        assert set(examples[spec.name]) == {one.name for one in (*spec.state, *spec.inputs)}


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_appears_while_graphs_are_made_is_not_replaced(
    overwrite: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def takes_the_name(*_: object) -> dict[str, int]:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.pdf").touch()
        return {"slots": 4}

    monkeypatch.setattr("forecast.export.request.version", lambda name: "2.14.0")
    monkeypatch.setattr("forecast.export.write._Writer.bucket", takes_the_name)
    monkeypatch.setattr("forecast.export.write.opened", lambda *_: None)
    monkeypatch.setattr("forecast.export.write.compare", lambda *_: {})
    monkeypatch.setattr("forecast.export.write._Writer.metadata", lambda *_: {})
    request = ExportRequest(None, str(tmp_path / "out"), ("pt2",), overwrite=overwrite)

    with pytest.raises(DataError, match=r"out, which (exists|is something else)"):
        export(request)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "thesis.pdf"]


OTHER_STEP = {"augmentation": {"other_step": 0.1}}


@pytest.mark.parametrize(
    ("training", "known"),
    [
        ({}, (0.4, 0.4)),
        ({"config": {"augmentation": {"other_step": 0.0}}}, (0.4, 0.4)),
        ({"config": OTHER_STEP}, (0.08, 0.8)),
        ({"runs": {"first": OTHER_STEP, "second": {"seed": 1}}}, (0.08, 0.8)),
        ({"config": {"curriculum": [{"augmentation": None}, OTHER_STEP]}}, (0.08, 0.8)),
        ({"runs": 3}, (0.4, 0.4)),
    ],
    ids=[
        "unknown",
        "one step",
        "other steps",
        "in one of its runs",
        "in a stage",
        "another record",
    ],
)
def test_steps_are_those_of_the_training(
    training: dict[str, Any], known: tuple[float, float]
) -> None:
    checkpoint = Checkpoint(forecaster(trained=False), 0.4, "", training)

    assert _steps_known(checkpoint) == pytest.approx(known)


def test_what_the_host_refuses_is_an_error_of_ours() -> None:
    with (
        pytest.raises(DataError, match=r"^expected a map; got none; crop it$"),
        _refusing_export_errors(),
    ):
        raise ExportError("a map", "none", "crop it")


def test_models_and_stores_that_do_not_fit_are_refused() -> None:
    reader = SequenceReader(packaged("sample.zarr"))
    other = Forecaster(SMALL, Inputs(("tram",), INPUTS.map_layers))
    channels = Forecaster(SMALL, Inputs(INPUTS.classes, INPUTS.map_layers, 2))
    fpn = forecaster(trained=False, mask_head="fpn", hidden_dim=128, heads=8)

    with pytest.raises(DataError, match="classes"):
        _refuse_unlike(other, reader)
    with pytest.raises(ConfigError, match="channels"):
        _refuse_unlike(channels, reader)
    with pytest.raises(ConfigError, match="fpn"):
        _refuse_unlike(fpn, reader)
    _refuse_unlike(forecaster(trained=False), reader)


def test_agents_are_numbers() -> None:
    assert _counts("32,128") == (32, 128)
    with pytest.raises(ConfigError, match="numbers of agents such as 32,128; got 'many'"):
        _counts("many")
