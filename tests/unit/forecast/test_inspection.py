"""What `forecast inspect store` says of the two kinds of store."""

from pathlib import Path

from forecast.inspection import describe_store
from forecast.schema import FORECAST_VARIABLES
from forecast.workflows import RolloutRequest, rollout_to_store
from tests.support import Mover, sequence_store


def test_a_sequence_store_is_described_by_its_grid_classes_and_variables(tmp_path: Path) -> None:
    store = sequence_store(tmp_path / "s.zarr", [[Mover(0, 0)], [Mover(1, 2), Mover(-5, 0)]])
    facts = describe_store(store)
    assert facts["sequences"] == "2 from 2 scenes"
    assert facts["grid"].startswith("48 x 80 cells of 0.5 m")
    assert "vehicle (3 tracks)" in facts["classes"]
    assert facts["scene"] == "str (sequence 2)"


def test_a_forecast_store_is_described_by_its_model_and_all_its_variables(tmp_path: Path) -> None:
    store = sequence_store(tmp_path / "s.zarr", [[Mover(0, 0, speed=3.0)]])
    output = str(tmp_path / "f.zarr")
    rollout_to_store(RolloutRequest(data=store, model="constant-turn", output=output, horizon=2))
    facts = describe_store(output)
    assert facts["model"] == "constant-turn"
    assert facts["leads"] == "2"
    assert set(FORECAST_VARIABLES) <= set(facts)
