"""What is wrong with a training run is said before a network is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from forecast.config.config import load_config
from forecast.errors import ForecastError
from forecast.training.checks import check_run
from tests.support.stores import Mover, sequence_store


@pytest.mark.parametrize(
    ("setting", "output", "said"),
    [
        ("seed=0", "file/run", "to write .*which is no folder"),
        ("backbone_weights=nowhere.pth", "run", "a file for backbone_weights"),
        ("initial=nowhere", "run", "for `initial`; got 'nowhere'"),
    ],
)
def test_what_cannot_begin_is_refused_and_leaves_nothing(
    tmp_path: Path, setting: str, output: str, said: str
) -> None:
    store = sequence_store(tmp_path / "train.zarr", [[Mover(0.0, 0.0, speed=3.0)]])
    (tmp_path / "file").write_text("mine")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ForecastError, match=said):
        check_run(load_config(None, [setting]), [store], None, str(tmp_path / output), False)
    assert sorted(tmp_path.iterdir()) == before
