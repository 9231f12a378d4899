"""What comes with the program: `forecast rollout` with no data and no model of one's own."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from forecast.checkpoint.packaged import packaged
from forecast.data.reader import SequenceReader, collate
from forecast.inference.models import LoadedModel, load_model_for
from forecast.loop import rollout
from forecast.model.scene import se2
from forecast.model.scene.warp import resampled
from forecast.storage.stores import open_forecast_store, open_sequence_store
from forecast.types import BEVSequence
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


def mean_error(model: LoadedModel, batch: BEVSequence, seen: BEVSequence, history: int) -> float:
    """Mean displacement of moving vehicles over six leads, metres."""
    assert batch.track_state is not None
    place = batch.track_state[..., :2]
    moving = (place[:, :, history:] - place[:, :, history - 1, None]).norm(dim=-1).nan_to_num(0)
    far = (moving.amax(-1) > 2) & (batch.track_class == 1)
    off = []
    for step in rollout(model, seen.crop(0, history), 6):
        slot = (step.ids - 1).clamp(min=0)
        truth = place[:, :, history - 1 + step.lead].gather(1, slot[..., None].expand(-1, -1, 2))
        wrong = (step.pose[..., :2] - truth).norm(dim=-1)
        off.append(wrong[far.gather(1, slot) & (step.ids > 0) & torch.isfinite(wrong)])
    return float(torch.cat(off).mean())


def test_a_wrong_map_costs_less_than_having_none() -> None:
    reader = SequenceReader(packaged("sample.zarr"))
    batch, history = collate([reader[index] for index in range(len(reader))]), reader.meta.history
    layers, points = batch.map, batch.map_point
    assert layers is not None
    assert points is not None
    model = load_model_for(reader, None, "cpu")

    def error(off: tuple[float, float, float]) -> float:
        moved = torch.tensor(off).expand(batch.batch, 3)
        shown = resampled(layers.float(), moved, batch.grid).to(layers.dtype)
        lanes = se2.between(moved[:, None], points)
        wrong = replace(batch, map=shown, map_point=lanes)
        return mean_error(model, batch, wrong, history)

    bare = replace(batch, map=torch.zeros_like(layers), map_point=None)
    none = mean_error(model, batch, bare, history)
    right = error((0.0, 0.0, 0.0))
    assert right < 0.9 * none, "a map is worth something"
    assert error((0.0, 0.0, math.radians(5))) < none
    assert error((0.0, 2.0, 0.0)) < none
    assert error((2.0, 0.0, 0.0)) < none


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
