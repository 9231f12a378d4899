"""Checkpoints of the schemas before, made by the code before: commit ffac46b.

``tests/data/checkpoint_v3`` holds what `save_checkpoint` wrote there, with settings other than the
defaults and every weight random, and what that network forecast from the traffic of
``tests/support/sequences.py``. ``networks.json`` has networks with a raster encoder, too large to
be stored: their settings, the names and shapes of their weights in order, and what they forecast
with weights drawn in that order. What they forecast from detected input is of a later version, the
first that says frame by frame who is who; what its tracker finds was the same to the last bit.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from forecast.checkpoint.checkpoint import SILENT, load_checkpoint, save_checkpoint
from forecast.checkpoint.conversion import VISIBILITY, converted_metadata, converted_weights
from forecast.checkpoint.metadata import with_checksum
from forecast.errors import CheckpointError
from forecast.model.detected_input import Detecting
from forecast.model.forecaster import Forecaster
from forecast.model.scene import mask_edges
from forecast.model.spec import ForecasterSpec
from forecast.model.visibility import HIDDEN
from forecast.types import StepForecast
from tests.support.rollouts import Model, run
from tests.support.sequences import INPUTS, TRAFFIC, forecaster, sequences

SCHEMA_4 = "bev-forecaster/4"
OLD = Path(__file__).parents[3] / "data" / "checkpoint_v3"
NETWORKS: dict[str, dict[str, Any]] = json.loads((OLD / "networks.json").read_text())


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "old"))


def assert_forecasts(model: Model, expected: list[dict[str, Any]]) -> None:
    steps: list[StepForecast] = run(model, sequences(TRAFFIC), len(expected))
    for step, then in zip(steps, expected, strict=True):
        assert step.ids.tolist() == then["ids"]
        live = step.ids > 0
        poses = torch.tensor(then["poses"]).view(-1, 3)
        torch.testing.assert_close(step.pose[live], poses, atol=1e-4, rtol=1e-5)
        existence = torch.tensor(then["existence"])
        torch.testing.assert_close(step.existence[live], existence, atol=1e-5, rtol=1e-5)


def test_a_checkpoint_of_schema_3_forecasts_what_it_did() -> None:
    loaded = load_checkpoint(OLD)
    spec = loaded.model.spec
    assert (spec.hidden_dim, spec.scene_dim, spec.raster) == (32, 4, "none")
    assert (spec.birth_threshold, spec.track_threshold, spec.update_query_pos) == (0.3, 0.6, True)
    assert (loaded.model.learned_horizon.seconds, loaded.training) == (1.5, {"steps": 7})
    assert_forecasts(loaded.model, json.loads((OLD / "expected.json").read_text()))


def test_a_checkpoint_of_schema_2_which_had_no_checksum_forecasts_the_same(saved: Path) -> None:
    path = saved / "model.json"
    content = json.loads(path.read_text())
    del content["json_sha256"]
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="changed since"):
        load_checkpoint(saved)
    path.write_text(json.dumps(content | {"schema": "bev-forecaster/2"}))
    assert_forecasts(load_checkpoint(saved).model, json.loads((OLD / "expected.json").read_text()))


def test_reading_leaves_the_old_files_as_they_are(saved: Path) -> None:
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    load_checkpoint(saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def saved_before(model: Forecaster, folder: Path, schema: str) -> dict[str, Any]:
    """Saves a network as it was when visibility knew nothing of being hidden; its JSON."""
    weights = folder / "model.safetensors"
    save_checkpoint(model, weights, 0.5, {})
    tensors = load_file(weights)
    tensors[VISIBILITY] = tensors[VISIBILITY][:, :-HIDDEN].contiguous()
    save_file(tensors, weights)
    content: dict[str, Any] = json.loads((folder / "model.json").read_text())
    content |= {"schema": schema, "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
    (folder / "model.json").write_text(json.dumps(with_checksum(content)))
    return content


def test_a_checkpoint_that_knew_nothing_of_being_hidden_forecasts_what_it_did(
    tmp_path: Path,
) -> None:
    model = forecaster(raster="none")
    with torch.no_grad():
        model.visibility_head.judge[0].weight[:, -HIDDEN:] = 0
    saved_before(model, tmp_path, "bev-forecaster/6")
    loaded, batch = load_checkpoint(tmp_path).model, sequences(TRAFFIC)
    for ours, theirs in zip(run(loaded, batch, 2), run(model, batch, 2), strict=True):
        torch.testing.assert_close(ours.existence, theirs.existence)


def test_gains_learned_before_motions_were_averaged_are_refused(tmp_path: Path) -> None:
    model = Forecaster(ForecasterSpec(raster="none"), INPUTS)
    content = saved_before(model, tmp_path, "bev-forecaster/5")
    with pytest.raises(CheckpointError, match="mean something else"):
        load_checkpoint(tmp_path)
    content["model"]["learned_gain"] = False
    (tmp_path / "model.json").write_text(json.dumps(with_checksum(content)))
    assert not load_checkpoint(tmp_path).model.spec.learned_gain


def weights_of(network: dict[str, Any]) -> dict[str, Tensor]:
    """Weights under their old names, drawn as they were when the forecasts were made."""
    generator = torch.Generator().manual_seed(3)
    drawn = {}
    for name, shape in network["weights"].items():
        norm = len(shape) == 1 and name.endswith(("weight", "running_var"))
        drawn[name] = 0.05 * torch.randn(shape, generator=generator) + norm
    return drawn


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_with_a_raster_encoder_have_the_names_of_today_and_the_same_forecasts(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mask_edges, "ITERATIONS", 0)  # masks told their moments alone
    network = NETWORKS[name]
    spec = ForecasterSpec(
        **converted_metadata({"schema": SCHEMA_4, "dt_s": 0.5, **network})["model"]
    )
    assert spec.raster == "always"
    model = Forecaster(spec, INPUTS).eval()
    weights = converted_weights(weights_of(network), SCHEMA_4)
    own = model.state_dict()
    new = {name: value for name, value in own.items() if name.startswith(SILENT)}
    assert {name: value.shape for name, value in (new | weights).items()} == {
        name: value.shape for name, value in own.items()
    }
    model.load_state_dict(new | weights)
    assert_forecasts(model, network["tracked"])
    assert_forecasts(Detecting(model), network["detected"])


@pytest.mark.parametrize(
    ("memory", "reads_memory", "raster"),
    [
        (True, True, "always"),
        (True, False, "detection"),
        (False, True, "none"),
        (False, False, "none"),
        (None, False, "detection"),
    ],
)
def test_two_switches_of_the_raster_became_one(
    memory: bool | None, reads_memory: bool, raster: str
) -> None:
    """An encoder was part of a network unless ``memory`` said no, as it could be left out."""
    model = {"dim": 64} | ({} if memory is None else {"memory": memory})
    given = {"schema": SCHEMA_4, "model": model, "reads_memory": reads_memory, "dt_s": 0.5}
    found = converted_metadata(given)
    plain = {"hidden_dim": 64, "raster": raster, "trail": 3, "time_unit_s": 0.5}
    plain |= {"learned_gain": False, "carry_queries": False, "carry_features": False}
    plain |= {"lane_spacing_m": 0.0}
    assert found["model"] == plain
    assert found["dt_s"] == 0.5
    assert given["model"] == model, "what was read stays as it is"
