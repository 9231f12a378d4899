"""What `forecast inspect store` says of the two kinds of store."""

from pathlib import Path

import numpy as np
import pytest

from forecast.inspection.store import describe_store
from forecast.schema import FORECAST_VARIABLES
from forecast.storage.stores import open_sequence_store
from forecast.workflows import RolloutRequest, rollout_to_store
from tests.support.stores import Mover, sequence_dataset, sequence_store, store_of_classes


def test_a_sequence_store_is_described_by_its_grid_classes_and_variables(tmp_path: Path) -> None:
    store = sequence_store(tmp_path / "s.zarr", [[Mover(0, 0)], [Mover(1, 2), Mover(-5, 0)]])
    facts = describe_store(store)
    assert facts["sequences"] == "2 from 2 scenes"
    assert facts["grid"].startswith("48 x 80 cells of 0.5 m")
    assert "vehicle (3 tracks)" in facts["classes"]
    assert facts["scene"] in ("str (sequence 2)", "object (sequence 2)")  # pandas 3, and 2


@pytest.mark.parametrize(
    ("times", "text"),
    [
        (
            [[np.nan, -0.2, -0.1, 0], [-0.3, -0.2, -0.1, 0]],
            "every 0.1 s, 3 to 4 samples, 0.3 s back",
        ),
        ([[0.0], [0.0]], "at the present only"),
    ],
)
def test_how_agents_were_observed_is_told_where_the_store_has_it(
    tmp_path: Path, times: list[list[float]], text: str
) -> None:
    data = sequence_dataset([[Mover(0, 0)], [Mover(1, 2)]])
    data["sample_time"] = (("sequence", "sample"), np.array(times, np.float32))
    data.to_zarr(tmp_path / "s.zarr", mode="w", zarr_format=3, consolidated=False)
    assert describe_store(str(tmp_path / "s.zarr"))["observed"].startswith(text)
    plain = sequence_store(tmp_path / "plain.zarr", [[Mover(0, 0)]])
    assert "observed" not in describe_store(plain)


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


def test_a_store_without_ids_says_so_and_what_its_rasters_show(tmp_path: Path) -> None:
    scenes = [[Mover(0, 0), Mover(5, 0, label=2, length=1)], []]
    store = store_of_classes(tmp_path / "s.zarr", scenes)
    semantic = open_sequence_store(store)[0]["semantic"].values
    vehicles, walkers = ((semantic == label).sum() for label in (1, 2))
    facts = describe_store(store)
    assert facts["ids"] == "none: roll it out with --input detected"
    assert facts["classes"] == (
        f"vehicle ({vehicles} cells in 9 of 18 frames), pedestrian ({walkers} cells in 9 of 18"
        " frames), cyclist (0 cells in 0 of 18 frames)"
    )


def test_masks_with_ids_are_not_said_to_have_none(tmp_path: Path) -> None:
    masks = sequence_dataset([[Mover(0, 0)]]).drop_vars(["track_state", "track_class"])
    masks.to_zarr(tmp_path / "s.zarr", mode="w", zarr_format=3, consolidated=False)
    facts = describe_store(str(tmp_path / "s.zarr"))
    assert "ids" not in facts
    assert facts["classes"].startswith("vehicle (")
