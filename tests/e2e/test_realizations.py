"""`forecast rollout --realizations`: what lies in the store, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from forecast.errors import ConfigError
from forecast.inference.request import RolloutRequest
from forecast.storage.stores import open_forecast_store
from forecast.workflows import rollout_to_store
from tests.support.stores import Mover, sequence_store

SCENES = [
    [Mover(0.0, 0.0, 0.1, 8.0, 0.3), Mover(10.0, 4.0, 3.0, 5.0)],
    [Mover(-5.0, 2.0, speed=6.0)],
    [],
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return sequence_store(tmp_path_factory.mktemp("data") / "data.zarr", SCENES)


@pytest.mark.parametrize("model", ["kalman", "resampled-errors"])
def test_the_store_is_that_of_the_forecast_and_the_same_in_any_batch(
    data: str, tmp_path: Path, model: str
) -> None:
    stores = {}
    for name, size, count in (("plain", 3, None), ("all", 3, 3), ("each", 1, 2)):
        output = str(tmp_path / f"{name}.zarr")
        rollout_to_store(
            RolloutRequest(
                data,
                model,
                output,
                horizon=2,
                batch_size=size,
                realizations=count,
                seed=4 if count else 0,
            )
        )
        stores[name] = open_forecast_store(output)
    plain, several = stores["plain"], stores["all"]
    assert "realization_pose" not in plain
    for variable in ("instance", "semantic", "occupancy", "existence", "pose"):
        np.testing.assert_array_equal(plain[variable].values, several[variable].values)
    pose = several["realization_pose"].values
    assert pose.shape == (3, 3, *several["pose"].shape[1:])
    there = np.isfinite(pose)
    assert (there == np.isfinite(several["pose"].values)[:, None]).all()
    assert there[0].any()
    np.testing.assert_allclose(pose[:, :2], stores["each"]["realization_pose"].values, atol=1e-4)
    assert (several.attrs["realizations"], several.attrs["seed"]) == (3, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"realizations": 0}, "--realizations of at least 1"),
        ({"realizations": 2, "seed": -1}, "a seed from 0 to"),
        ({"realizations": 2, "seed": 2**32}, "a seed from 0 to"),
        ({"seed": 3}, "--realizations with --seed"),
        ({"realization_masks": True}, "--realizations with --realization-masks"),
        (
            {"realizations": 2, "model": "constant-turn"},
            "resampled-errors, for realizations; got constant",
        ),
        ({"realizations": 2, "mirror": True}, "without mirror"),
        ({"realizations": 2, "teacher_forced": True}, "without --teacher-forced"),
    ],
)
def test_what_has_no_realizations_is_refused(
    data: str, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        RolloutRequest(data, output=str(tmp_path / "f.zarr"), **options)  # type: ignore[arg-type]
