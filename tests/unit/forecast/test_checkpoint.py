import json
from pathlib import Path

import pytest
import torch

from forecast.checkpoint import load_checkpoint, save_checkpoint
from forecast.errors import CheckpointError
from tests.sequences import forecaster


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_checkpoint(forecaster(), tmp_path / "model.safetensors", 0.5, {"steps": 7})
    return tmp_path


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
    model = forecaster()
    model.read_memory = False
    save_checkpoint(model, tmp_path / "model.safetensors", 0.5, {})
    assert load_checkpoint(tmp_path).model.read_memory is False


def test_weights_that_were_tampered_with_are_refused(saved: Path) -> None:
    weights = saved / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match="SHA-256"):
        load_checkpoint(weights)


def test_how_far_training_rolled_out_travels_with_the_weights(tmp_path: Path) -> None:
    model = forecaster()
    model.learned_horizon = 12
    save_checkpoint(model, tmp_path / "model.safetensors", 0.5, {})
    assert load_checkpoint(tmp_path).model.learned_horizon == 12


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema": "bev-forecaster/9"}, "schema"),
        ({"model": {"depth": 3}}, "model that this version knows"),
        ({"model": {"dim": 31}}, "model that this version knows"),
        ({"model": {}}, "weights of the model that the JSON describes"),
        ({"inputs": None}, "model that this version knows"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(
    saved: Path, change: dict[str, object], reason: str
) -> None:
    note = saved / "model.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | change))
    with pytest.raises(CheckpointError, match=reason):
        load_checkpoint(saved)


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
