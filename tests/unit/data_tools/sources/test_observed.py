"""Every source of tracks hands its recording on as observed, at its own rate."""

import numpy as np
import pytest

from data_tools.sources import source
from tests.support.fuzz_samples import TARGETS

# The others are recorded ten times a second; these scenarios were interpolated from two.
STEP_S = {"nuscenes": 0.5, "nuplan": 0.05, "scenarionet": 0.5}
NAMES = [name for name, target in TARGETS.items() if name == target.source != "rasters"]


@pytest.mark.parametrize("name", NAMES)
def test_tracks_are_handed_on_at_the_recordings_own_rate(tmp_path, name):
    TARGETS[name].write(tmp_path)
    origin = source(name)
    dt_s = 10 * STEP_S[name] if name == "nuplan" else 2 * STEP_S.get(name, 0.25)
    scene = origin.read(origin.find([str(tmp_path)])[0], dt_s)
    seen = scene.observed
    assert seen is not None
    assert seen.state.shape == (len(scene.track_id), len(seen.time_s), 5)
    np.testing.assert_allclose(np.diff(seen.time_s), STEP_S.get(name, 0.1), atol=0.011)
    # Each frame is one of the samples, on the same clock, with the same boxes.
    every = round(dt_s / STEP_S.get(name, 0.1))
    np.testing.assert_allclose(seen.time_s[::every][: len(scene.time_s)], scene.time_s, atol=1e-9)
    frames = seen.state[:, ::every][:, : len(scene.time_s)]
    np.testing.assert_allclose(frames, scene.state, atol=1e-9)


def test_simulated_traffic_is_observed_at_the_simulations_step():
    pytest.importorskip("sumo", reason="needs SUMO")
    scene = source("sumo").read("21", 0.5)
    np.testing.assert_allclose(np.diff(scene.observed.time_s), 0.1, atol=1e-9)
    np.testing.assert_array_equal(scene.observed.state[:, ::5], scene.state)
