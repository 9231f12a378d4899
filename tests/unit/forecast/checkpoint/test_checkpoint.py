import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from forecast.checkpoint import checkpoint, metadata
from forecast.checkpoint.checkpoint import load_checkpoint, save_checkpoint
from forecast.errors import CheckpointError
from forecast.model.forecaster import FADING_PER_S
from forecast.model.learned_horizon import LearnedHorizon
from forecast.model.spec import ForecasterSpec
from tests.support.rollouts import assert_same, run
from tests.support.sequences import TRAFFIC, forecaster, sequences


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_checkpoint(forecaster(), tmp_path / "model.safetensors", 0.5, {"steps": 7})
    return tmp_path


def rewrite(saved: Path, change: dict[str, object]) -> None:
    """Other content, as a program would have written it."""
    path = saved / "model.json"
    path.write_text(json.dumps(metadata.with_checksum(json.loads(path.read_text()) | change)))


def test_a_checkpoint_comes_back_as_it_was(saved: Path) -> None:
    checkpoint = load_checkpoint(saved)
    original = forecaster()
    assert checkpoint.model.spec == original.spec
    assert checkpoint.model.inputs == original.inputs
    assert (checkpoint.dt_s, checkpoint.training) == (0.5, {"steps": 7})
    assert not checkpoint.model.training
    for name, value in original.state_dict().items():
        assert torch.equal(checkpoint.model.state_dict()[name], value), name
    assert sorted(path.name for path in saved.iterdir()) == ["model.json", "model.safetensors"]


def test_whether_forecasts_read_the_raster_is_remembered(tmp_path: Path) -> None:
    model = forecaster(raster="detection")
    save_checkpoint(model, tmp_path / "model.safetensors", 0.5, {})
    assert load_checkpoint(tmp_path).model.spec.raster == "detection"


def test_weights_that_were_tampered_with_are_refused(saved: Path) -> None:
    weights = saved / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match="SHA-256"):
        load_checkpoint(weights)


def test_how_far_training_rolled_out_travels_with_the_weights(tmp_path: Path) -> None:
    model = forecaster()
    model.learned_horizon = LearnedHorizon(6.0)
    save_checkpoint(model, tmp_path / "model.safetensors", 0.5, {})
    assert load_checkpoint(tmp_path).model.learned_horizon.seconds == 6.0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema": "bev-forecaster/9"}, "schema"),
        ({"model": {"depth": 3}}, r"written by .* \(unknown in its model: depth\)"),
        ({"model": {"hidden_dim": 31}}, "model that this version knows"),
        ({"model": {}}, "weights of the model that the JSON describes"),
        ({"inputs": None}, "model that this version knows"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(
    saved: Path, change: dict[str, object], reason: str
) -> None:
    rewrite(saved, change)
    with pytest.raises(CheckpointError, match=reason):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    "change",
    [
        {"dt_s": 0.1},
        {"inputs": {"classes": ["pedestrian"], "map_layers": [], "bev_channels": 0}},
        {"learned_horizon_s": 9.0},
        {"training": {"steps": 8}},
        {"model": {"keep": 0.9}},
        {"more": None},
    ],
)
def test_a_description_that_was_tampered_with_is_refused(
    saved: Path, change: dict[str, object]
) -> None:
    path = saved / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match="changed since"):
        load_checkpoint(saved)


@pytest.mark.parametrize("removed", ["json_sha256", "sha256", "dt_s"])
def test_a_description_that_lost_a_part_is_refused(saved: Path, removed: str) -> None:
    path = saved / "model.json"
    content = json.loads(path.read_text())
    del content[removed]
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="changed since"):
        load_checkpoint(saved)


def test_the_checksum_does_not_depend_on_how_the_json_is_laid_out(saved: Path) -> None:
    path = saved / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))
    load_checkpoint(saved)


@pytest.mark.parametrize("version", ["0.1.0", "0.1.7", "0.2.0", "0.2.9.dev1"])
def test_the_same_and_older_versions_are_read(
    saved: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "__version__", "0.2.0")
    rewrite(saved, {"version": version})
    load_checkpoint(saved)


@pytest.mark.parametrize("version", ["0.3.0", "0.10.1", "1.0.0"])
def test_a_newer_version_is_named(
    saved: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "__version__", "0.2.0")
    rewrite(saved, {"version": version, "schema": "bev-forecaster/9", "model": {"depth": 3}})
    with pytest.raises(CheckpointError, match=f"0.2.0 or older.*written by {version}"):
        load_checkpoint(saved)


def test_weights_that_an_older_version_did_not_have_change_no_forecast(tmp_path: Path) -> None:
    model = forecaster()
    observer = model.observer
    assert observer.fusion is not None
    for layer in (
        model.visibility_head.judge[-1],
        model.motion_head.uncertainty[-1],
        observer.correction.gain_head[-1],
        observer.correction.share_head[-1],
        observer.fusion.carried,
        observer.scene_encoder,
        observer.carry,
    ):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    nn.init.constant_(model.fading, FADING_PER_S)
    weights = tmp_path / "model.safetensors"
    save_checkpoint(model, weights, 0.5, {})
    old = {k: v for k, v in load_file(weights).items() if not k.startswith(checkpoint.SILENT)}
    save_file(old, weights)
    rewrite(tmp_path, {"sha256": hashlib.sha256(weights.read_bytes()).hexdigest()})
    loaded, batch = load_checkpoint(tmp_path).model, sequences(TRAFFIC)
    for ours, theirs in zip(run(loaded, batch, 2), run(model, batch, 2), strict=True):
        assert_same(ours, theirs)


def test_settings_that_an_older_version_did_not_know_have_their_defaults(saved: Path) -> None:
    content = json.loads((saved / "model.json").read_text())
    fields = ("miss_tolerance", "update_query_pos", "track_threshold")
    model = {name: value for name, value in content["model"].items() if name not in fields}
    rewrite(saved, {"model": model, "version": "0.0.9"})
    spec, default = load_checkpoint(saved).model.spec, ForecasterSpec()
    assert [getattr(spec, name) for name in fields] == [getattr(default, name) for name in fields]


def test_a_missing_or_unreadable_file_is_refused(saved: Path) -> None:
    with pytest.raises(CheckpointError, match="safetensors"):
        load_checkpoint(saved / "other.safetensors")
    with pytest.raises(CheckpointError, match="safetensors"):
        load_checkpoint(saved / "model.json")
    (saved / "model.json").write_text("{")
    with pytest.raises(CheckpointError, match="JSON"):
        load_checkpoint(saved)


def test_a_disk_that_refuses_is_one_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="to write"):
        save_checkpoint(forecaster(), tmp_path / "file" / "model.safetensors", 0.5, {})
    (tmp_path / "model.safetensors").mkdir()  # cannot be replaced by a file
    with pytest.raises(CheckpointError, match="to write"):
        save_checkpoint(forecaster(), tmp_path / "model.safetensors", 0.5, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "model.safetensors"]
