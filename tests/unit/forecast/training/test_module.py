"""Training: what it writes, that it resumes exactly, and that it stops when it goes wrong."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models import resnet18

from forecast.checkpoint.checkpoint import load_checkpoint
from forecast.config.data import Augmentation, Corruption, Loading
from forecast.config.training import LossWeights, Optimisation, Stage, TrackRules
from forecast.data.corruption import observed
from forecast.errors import CheckpointError, ConfigError, DataError
from forecast.training import module
from forecast.training.module import ForecastTraining, _per_agent
from forecast.training.run import run_training
from forecast.training.step_kind import StepKind
from tests.support.sequences import SMALL, forecaster, sequences
from tests.support.stores import Mover, sequence_dataset, sequence_store
from tests.support.trainings import QUICK, interrupt_at

PLACES = ((-8, 2.0), (0, -4.0), (6, 5.0))


@pytest.fixture
def store(tmp_path: Path) -> str:
    scenes = [
        [Mover(-8.0 + i, 1.0, 0.1 * i, 4.0 + i, 0.2), Mover(6.0, -4.0 + i, 3.0, 2.0)]
        for i in range(8)
    ]
    return sequence_store(tmp_path / "train.zarr", scenes)


def weights(path: Path) -> dict[str, Tensor]:
    return dict(load_checkpoint(path).model.state_dict())


def test_a_run_leaves_weights_logs_and_a_state_to_resume(store: str, tmp_path: Path) -> None:
    run_training(QUICK, [store], store, str(tmp_path / "run"), resume=False)
    checkpoint = load_checkpoint(tmp_path / "run")
    assert checkpoint.training["steps"] == 8
    assert checkpoint.training["config"]["curriculum"][1]["horizon"] == 2
    assert (tmp_path / "run" / "last.ckpt").is_file()
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))
    with open(tmp_path / "run" / "csv" / "metrics.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for noise in ("", "_noise_0.1m", "_noise_0.3m"):
        found = [row for row in rows if row[f"val_ade_moving{noise}"]]
        assert len(found) == 2, "one an epoch"
    assert float(found[-1]["val_ade_moving_noise_0.3m"]) > float(found[-1]["val_ade_moving"])
    assert [row["step"] for row in rows if row["loss"]] == ["3", "7"], "each epoch's last"
    assert any(name.startswith("loss_") for name in rows[0])


@pytest.mark.parametrize("jolt_m", [0.0, 1.0])
def test_there_is_no_ratio_to_a_baseline_that_does_not_err(
    store: str, tmp_path: Path, jolt_m: float
) -> None:
    data = sequence_dataset([[Mover(-8.0, 1.0, 0.0, 4.0, 0.2)]])
    data["track_state"][..., 4:, 0] += jolt_m  # agents of a constant turn, but for that
    data.to_zarr(tmp_path / "val.zarr", zarr_format=3, consolidated=False)
    run_training(QUICK, [store], str(tmp_path / "val.zarr"), str(tmp_path / "run"), resume=False)
    with open(tmp_path / "run" / "csv" / "metrics.csv", encoding="utf-8") as file:
        columns = csv.DictReader(file).fieldnames or ()
    assert "val_ade_moving" in columns
    assert ("val_ade_ratio" in columns) == (jolt_m > 0)


def test_validation_compares_the_same_agents_as_the_baseline(tmp_path: Path) -> None:
    """Who is out of sight at the present is forecast, and unknown to the baseline."""
    batch = observed(sequences([[Mover(float(x), y, 0.1, 4.0) for x, y in PLACES]]), 3)
    assert batch.track_history is not None
    lost = batch.track_history.clone()
    lost[0, 0, -1] = torch.nan
    parts = LossWeights(), Augmentation(), Corruption(), Optimisation()
    network, stages = forecaster(trained=False), (Stage(1, 6),)
    task = ForecastTraining(network, stages, *parts, history=3, dt_s=0.5, steps=1, seed=0)
    with torch.no_grad():
        model, baseline, count = task._displacement(replace(batch, track_history=lost), batch)
    assert count == 2 * 6, "of two agents, six leads"
    assert float(baseline / count) < 0.1, "they keep their turn"
    assert float(model / count) < 0.1, "as an untrained forecaster says"


@pytest.mark.parametrize("step", [1, 3, 6])
def test_a_run_that_was_stopped_ends_with_the_same_weights_bit_for_bit(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    run_training(QUICK, [store], None, str(tmp_path / "whole"), resume=False)
    with monkeypatch.context() as patch:
        interrupt_at(patch, step)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            run_training(QUICK, [store], None, str(tmp_path / "parts"), resume=False)
    assert not (tmp_path / "parts" / "model.safetensors").exists()
    run_training(QUICK, [store], None, str(tmp_path / "parts"), resume=True)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name


def test_training_changes_the_weights_and_lowers_the_loss(store: str, tmp_path: Path) -> None:
    longer = QUICK.model_copy(
        update={
            "curriculum": (Stage(20, 2),),
            "augmentation": Augmentation(0.0, 0.0, 0.0, other_rate=0.0),
            "corruption": Corruption(clean=1.0),
            "loading": Loading(batch_size=8, workers=0),  # the same batch at every step
        }
    )
    run_training(longer, [store], None, str(tmp_path / "run"), resume=False)
    with open(tmp_path / "run" / "csv" / "metrics.csv", encoding="utf-8") as file:
        loss = [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]
    assert loss[-1] < loss[0]


def test_detected_input_trains_perception(store: str, tmp_path: Path) -> None:
    config = QUICK.model_copy(update={"model": SMALL, "curriculum": (Stage(1, 1, detected=1.0),)})
    run_training(config, [store], None, str(tmp_path / "run"), resume=False)
    before = forecaster(trained=False).state_dict()
    after = weights(tmp_path / "run")
    for name in ("tracker.detect_query", "tracker.class_head.bias", "tracker.heatmap_head.2.bias"):
        assert not torch.equal(before[name], after[name]), name


RULES = TrackRules(overlap=0.1, drop=0.3, insert=0.5, denoising=2)


def test_every_rule_for_tracks_and_two_decoder_layers_train_together(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: set[str] = set()
    original = ForecastTraining.log

    def log(self: ForecastTraining, name: str, value: Tensor, **options: Any) -> None:
        assert torch.isfinite(value)
        parts.update([name] if value > 0 else [])
        original(self, name, value, **options)

    monkeypatch.setattr(ForecastTraining, "log", log)
    monkeypatch.setattr(module, "LOG_EVERY_STEPS", 1)
    config = QUICK.model_copy(
        update={
            "model": replace(SMALL, decoder_layers=2, update_query_pos=True),
            "curriculum": (Stage(1, 1, detected=1.0),),
            "tracks": RULES,
        }
    )
    run_training(config, [store], None, str(tmp_path / "run"), resume=False)
    assert {
        f"loss_{kind}{part}" for kind in ("", "earlier_", "denoised_") for part in ("class", "box")
    } <= parts


def test_rules_for_tracks_change_nothing_for_tracked_input(store: str, tmp_path: Path) -> None:
    for name, tracks in (("plain", TrackRules()), ("ruled", RULES)):
        config = QUICK.model_copy(update={"tracks": tracks})
        run_training(config, [store], None, str(tmp_path / name), resume=False)
    plain, ruled = weights(tmp_path / "plain"), weights(tmp_path / "ruled")
    assert all(torch.equal(value, ruled[name]) for name, value in plain.items())


def test_a_stage_may_use_every_second_frame_as_far_as_the_store_reaches(
    store: str, tmp_path: Path
) -> None:
    """3 + 6 frames, every second: 3 of history and 2 leads, and not one more."""
    last = Stage(1, 1)
    stages = (Stage(1, 2, frame_stride=2), last)
    config = QUICK.model_copy(update={"curriculum": stages})
    run_training(config, [store], None, str(tmp_path / "run"), resume=False)
    assert load_checkpoint(tmp_path / "run").training["steps"] == 8
    stages = (Stage(1, 3, frame_stride=2), last)
    longer = QUICK.model_copy(update={"curriculum": stages})
    with pytest.raises(DataError, match="horizon of at least 8"):
        run_training(longer, [store], None, str(tmp_path / "longer"), resume=False)
    with pytest.raises(ConfigError, match="frame_stride"):
        Stage(1, 1, frame_stride=0)


def test_every_second_frame_is_what_a_store_of_twice_the_step_holds() -> None:
    scene = [[Mover(0.0, 0.0, 0.3, 5.0, 0.2), Mover(-6.0, 4.0, 0.1, 2.0)]]
    # Present at frame 4 of 9, or two steps of a second after the first frame of 5.
    fine = sequences(scene, history=5, horizon=4, dt_s=0.5).crop(0, 9, 2)
    coarse = sequences(scene, history=3, horizon=2, dt_s=1.0)
    assert fine.frames == 5
    assert fine.dt_s == 1.0
    assert fine.track_state is not None
    assert coarse.track_state is not None
    torch.testing.assert_close(fine.track_state, coarse.track_state)
    assert torch.equal(fine.instance, coarse.instance)


@pytest.mark.parametrize("seed", range(6))
def test_longer_and_shorter_steps_are_compared_with_the_frames_that_they_reach(seed: int) -> None:
    scene = [[Mover(0.0, 0.0, 0.3, 3.0, 0.1), Mover(-6.0, 4.0, 0.1, 2.0)]]  # no change of motion
    batch = sequences(scene, history=3, horizon=4)
    how = Augmentation(mirror=0, drop_lanes=0, drop_map=0, other_rate=0, other_step=1.0)
    task = ForecastTraining(
        forecaster(trained=False),
        (Stage(1, 4),),
        LossWeights(mask=0, moving=0, existence=0, present=0),
        how,
        Corruption.fixed(),
        Optimisation(),
        history=3,
        dt_s=0.5,
        steps=1,
        seed=0,
    )
    parts = task._losses(batch, StepKind(4), torch.Generator().manual_seed(seed))
    assert float(parts["position"].detach()) < 1e-3
    assert float(parts["heading"].detach()) < 1e-3


def test_a_raster_encoder_that_does_not_learn_stays_with_its_statistics(
    store: str, tmp_path: Path
) -> None:
    frozen = Optimisation(backbone_factor=0.0)
    config = QUICK.model_copy(update={"model": SMALL, "optimisation": frozen})
    first = str(tmp_path / "first")
    run_training(config, [store], None, first, resume=False)
    again = config.model_copy(update={"initial": first})
    run_training(again, [store], None, str(tmp_path / "second"), resume=False)
    before, after = weights(tmp_path / "first"), weights(tmp_path / "second")
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert any(name.startswith("motion_head.") for name in changed)
    assert not [name for name in changed if name.startswith("raster_encoder.")]


def test_an_epoch_may_end_early(store: str, tmp_path: Path) -> None:
    config = QUICK.model_copy(update={"steps_per_epoch": 1})
    run_training(config, [store], None, str(tmp_path / "run"), resume=False)
    assert load_checkpoint(tmp_path / "run").training["steps"] == 2


def test_bf16_trains(store: str, tmp_path: Path) -> None:
    config = QUICK.model_copy(update={"precision": "bf16-mixed", "curriculum": (Stage(1, 1),)})
    run_training(config, [store], None, str(tmp_path / "run"), resume=False)
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "run").values())


def test_a_folder_that_holds_a_run_is_not_overwritten(store: str, tmp_path: Path) -> None:
    run_training(QUICK, [store], None, str(tmp_path / "run"), resume=False)
    with pytest.raises(ConfigError, match="new folder"):
        run_training(QUICK, [store], None, str(tmp_path / "run"), resume=False)


def test_a_store_that_does_not_fit_is_refused(store: str, tmp_path: Path) -> None:
    longer = QUICK.model_copy(update={"curriculum": (Stage(1, 7),)})
    with pytest.raises(DataError, match="horizon of at least 7"):
        run_training(longer, [store], None, str(tmp_path / "run"), resume=False)
    assert not (tmp_path / "run").exists()


def test_fine_tuning_starts_from_a_checkpoint(store: str, tmp_path: Path) -> None:
    run_training(QUICK, [store], None, str(tmp_path / "first"), resume=False)
    frozen = Optimisation(learning_rate=0.0, weight_decay=0.0)
    tuned = QUICK.model_copy(update={"initial": str(tmp_path / "first"), "optimisation": frozen})
    run_training(tuned, [store], None, str(tmp_path / "second"), resume=False)
    second = weights(tmp_path / "second")
    for name, value in weights(tmp_path / "first").items():
        torch.testing.assert_close(second[name], value)


def test_fine_tuning_shows_what_it_has_to_improve_on(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = str(tmp_path / "first")
    run_training(QUICK, [store], None, first, resume=False)
    capsys.readouterr()
    frozen = Optimisation(learning_rate=0.0, weight_decay=0.0)
    tuned = QUICK.model_copy(update={"initial": first, "optimisation": frozen})
    run_training(tuned, [store], store, str(tmp_path / "second"), resume=False)
    begin, epoch, *_ = capsys.readouterr().err.splitlines()
    name, before = begin.split(": ")
    assert name == first
    assert before.startswith("val_ade_")
    assert before in epoch, "weights that nothing moves are as good as before"


def test_fine_tuning_says_what_does_not_fit(store: str, tmp_path: Path) -> None:
    packaged = QUICK.model_copy(update={"initial": "packaged", "model": SMALL})
    with pytest.raises(CheckpointError, match=r"by hidden_dim, .*; set model\.hidden_dim="):
        run_training(packaged, [store], None, str(tmp_path / "run"), resume=False)
    assert not (tmp_path / "run").exists()


def test_a_backbone_may_start_from_weights_of_its_own(store: str, tmp_path: Path) -> None:
    published = resnet18(weights=None).state_dict()
    torch.save(published, tmp_path / "resnet18.pth")
    frozen = QUICK.model_copy(
        update={
            "model": SMALL,
            "backbone_weights": str(tmp_path / "resnet18.pth"),
            "optimisation": Optimisation(learning_rate=0.0, weight_decay=0.0),
        }
    )
    run_training(frozen, [store], None, str(tmp_path / "run"), resume=False)
    trained = weights(tmp_path / "run")
    key = "layer1.0.conv1.weight"
    assert torch.equal(trained[f"raster_encoder.backbone.extract.{key}"], published[key])
    blind = frozen.model_copy(update={"model": QUICK.model})
    with pytest.raises(ConfigError, match="reads the raster"):
        run_training(blind, [store], None, str(tmp_path / "blind"), resume=False)
    twice = frozen.model_copy(update={"initial": str(tmp_path / "run")})
    with pytest.raises(ConfigError, match="both"):
        run_training(twice, [store], None, str(tmp_path / "twice"), resume=False)


@pytest.mark.parametrize(
    ("curriculum", "message"),
    [
        ((Stage(1, 1, detected=0.5),), "raster: detection or always"),
        ((Stage(1, 1, frame_stride=2),), "frame_stride 1"),
    ],
)
def test_a_curriculum_that_the_model_cannot_follow_is_refused(
    curriculum: tuple[Stage, ...], message: str, store: str, tmp_path: Path
) -> None:
    config = QUICK.model_copy(update={"curriculum": curriculum})
    with pytest.raises(ConfigError, match=message):
        run_training(config, [store], None, str(tmp_path / "run"), resume=False)
    assert not (tmp_path / "run").exists()


def test_two_processes_train_one_model(store: str, tmp_path: Path) -> None:
    """DDP over gloo, started as a user would: by the command line's own processes."""
    import subprocess
    import sys

    (tmp_path / "config.yaml").write_text(
        "model: {hidden_dim: 32, scene_dim: 16, heads: 4, points: 2, ffn: 32, backbone_layers: 2,"
        " pixel_dim: 8, queries: 12, raster: none}\n"
        "curriculum: [{epochs: 1, horizon: 1}]\n"
        "loading: {batch_size: 2, workers: 0}\naccelerator: cpu\ndevices: 2\n"
    )
    command = [sys.executable, "-m", "forecast.cli.main", "train", "--config", "config.yaml"]
    done = subprocess.run(
        [*command, "--data", store, "--output", "run"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained; forecast with") == 1
    assert load_checkpoint(tmp_path / "run").training["steps"] == 2  # 8 sequences, 2 x 2 a step


def test_processes_divide_by_their_mean_number_of_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that an agent weighs the same in a process with few as in one with many."""
    parts = {"box": torch.tensor(8.0), "agents": torch.tensor(1.0)}
    assert _per_agent(parts) == {"box": torch.tensor(8.0)}

    def add_the_other_process(count: Tensor) -> None:
        count += 3.0

    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.all_reduce", add_the_other_process)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    assert _per_agent(parts) == {"box": torch.tensor(4.0)}
    assert parts["agents"] == 1.0
