"""What `forecast inspect store` says of the two kinds of store."""

from pathlib import Path

import pytest

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


@pytest.mark.parametrize(
    ("speeds", "text"),
    [
        ((3.0, 0.0), "2 at present: 50% move over 2 m, the others are still; speeds"),
        ((3.0, 3.0), "2 at present: 100% move over 2 m; speeds"),
        ((0.0, 0.0), "2 at present: none moves over 2 m; speeds"),
    ],
)
def test_who_is_still_is_told_only_where_some_are_and_some_are_not(
    tmp_path: Path, speeds: tuple[float, float], text: str
) -> None:
    cars = [Mover(0, 4 * n, speed=speed) for n, speed in enumerate(speeds)]
    facts = describe_store(sequence_store(tmp_path / "s.zarr", [cars]))
    assert facts["sequences"] == "1 from 1 scene"
    assert any(fact.startswith(text) for fact in facts.values())


def test_a_forecast_store_is_described_by_its_model_and_all_its_variables(tmp_path: Path) -> None:
    store = sequence_store(tmp_path / "s.zarr", [[Mover(0, 0, speed=3.0)]])
    output = str(tmp_path / "f.zarr")
    rollout_to_store(RolloutRequest(data=store, model="constant-turn", output=output, horizon=2))
    facts = describe_store(output)
    assert facts["model"] == "constant-turn"
    assert facts["leads"] == "2"
    assert set(FORECAST_VARIABLES) <= set(facts)
