"""An export appears whole, and only where it says what the forecaster says."""

from pathlib import Path

import numpy as np
import pytest

from forecast.checkpoint.packaged import packaged
from forecast.cli.export import _counts
from forecast.data.reader import SequenceReader
from forecast.errors import ConfigError, DataError
from forecast.export.parity import LIMIT
from forecast.export.write import ParityError, _refuse_apart, _refuse_unlike, _staged
from forecast.model.forecaster import Forecaster
from forecast.model.spec import Inputs
from tests.support.sequences import INPUTS, SMALL, forecaster


@pytest.mark.parametrize("value", [2 * LIMIT, np.inf, np.nan], ids=["more", "agents", "nan"])
def test_graphs_that_say_something_else_are_refused(value: float) -> None:
    _refuse_apart({"onnx": {"32": {"pose_m": LIMIT}}})

    with pytest.raises(ParityError, match=r"for existence of 32 agents; nothing was exported"):
        _refuse_apart({"onnx": {"32": {"pose_m": 0.0, "existence": value}}})


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError), _staged(str(tmp_path / "out")) as folder:
        folder.write_text("")
    assert not list(tmp_path.iterdir())

    with _staged(str(tmp_path / "out")) as folder:
        (folder / "file").touch()
        assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "file"]


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
