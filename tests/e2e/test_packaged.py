"""What comes with the program: `forecast rollout` with no data and no model of one's own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from forecast.checkpoint.packaged import packaged
from forecast.storage.stores import open_forecast_store, open_sequence_store
from forecast.workflows import RolloutRequest, RolloutSummary, rollout_to_store

MIB = 2**20


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> RolloutSummary:
    """The packaged sample rolled out with the packaged checkpoint."""
    folder = tmp_path_factory.mktemp("packaged")
    return rollout_to_store(
        RolloutRequest(output=str(folder / "forecast.zarr"), gif=str(folder / "forecast.gif"))
    )


def test_the_packaged_checkpoint_beats_constant_turn_on_moving_vehicles(
    summary: RolloutSummary,
) -> None:
    ours, theirs = (
        summary.scores[name].classes["vehicle"] for name in ("packaged", "constant-turn")
    )
    assert ours.vpq_moving is not None
    assert theirs.vpq_moving is not None
    assert ours.vpq_moving > theirs.vpq_moving + 0.05


def test_without_ids_it_beats_linked_components(tmp_path: Path) -> None:
    output = str(tmp_path / "detected.zarr")
    scores = rollout_to_store(RolloutRequest(output=output, input_mode="detected")).scores
    ours, theirs = (scores[name].classes["vehicle"] for name in ("packaged", "components-cv"))
    assert ours.iou is not None
    assert theirs.iou is not None
    assert ours.iou > theirs.iou + 0.02
    assert ours.vpq_moving is not None
    assert theirs.vpq_moving is not None
    assert ours.vpq_moving > theirs.vpq_moving + 0.03


def test_the_forecast_store_holds_six_leads_of_every_sequence(summary: RolloutSummary) -> None:
    forecast = open_forecast_store(summary.output)
    data, _ = open_sequence_store(packaged("sample.zarr"))
    assert forecast.sizes["lead"] == 6
    assert forecast.sizes["sequence"] == data.sizes["sequence"]
    assert forecast["scene"].values.tolist() == data["scene"].values.tolist()


def test_the_picture_is_an_animation(summary: RolloutSummary) -> None:
    assert summary.gif is not None
    with Image.open(summary.gif) as picture:
        assert getattr(picture, "n_frames", 1) > 6


def test_what_is_packaged_is_small_simulated_and_not_trained_on() -> None:
    weights = Path(packaged("model.safetensors"))
    assert weights.stat().st_size <= 25 * MIB
    about = json.loads(weights.with_suffix(".json").read_text())
    _, meta = open_sequence_store(packaged("sample.zarr"))
    assert about["training"]["data"] == meta.source == "sumo"


def test_a_machine_without_opencv_and_mmcv_rolls_out(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['cv2'] = sys.modules['mmcv'] = None\n"
        "from forecast.cli import main as cli\n"
        "sys.argv = 'forecast rollout --limit 1 --horizon 2'.split(); cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "forecast.zarr").is_dir()
    assert (tmp_path / "forecast.gif").is_file()
