"""What of the network learns, reads and how fast, by the stages of a curriculum."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from forecast.checkpoint.checkpoint import load_checkpoint
from forecast.config.data import Augmentation, Corruption, Loading
from forecast.config.training import LossWeights, Optimisation, Stage
from forecast.errors import ConfigError
from forecast.training import module
from forecast.training.module import ForecastTraining
from forecast.training.run import run_training
from forecast.training.stages import LearningRate
from tests.support.sequences import SMALL, forecaster
from tests.support.stores import Mover, sequence_store
from tests.support.trainings import QUICK


@pytest.fixture
def store(tmp_path: Path) -> str:
    scenes = [[Mover(-8.0 + i, 1.0, 0.1 * i, 4.0 + i, 0.2)] for i in range(8)]
    return sequence_store(tmp_path / "train.zarr", scenes)


def weights(path: Path) -> dict[str, Tensor]:
    return dict(load_checkpoint(path).model.state_dict())


def test_only_the_parts_that_are_named_learn(store: str, tmp_path: Path) -> None:
    reading = QUICK.model_copy(update={"model": SMALL, "curriculum": (Stage(1, 1),)})
    run_training(reading, [store], None, str(tmp_path / "begun"), resume=False)
    only = Optimisation(warmup_steps=2, only=("newcomer_head",))
    going_on = reading.model_copy(update={"initial": str(tmp_path / "begun"), "optimisation": only})
    run_training(going_on, [store], None, str(tmp_path / "run"), resume=False)
    before, after = weights(tmp_path / "begun"), weights(tmp_path / "run")
    changed = {name.split(".")[0] for name in after if not torch.equal(after[name], before[name])}
    assert changed == {"newcomer_head"}


def test_a_part_that_the_network_lacks_is_refused(store: str, tmp_path: Path) -> None:
    lacking = QUICK.model_copy(update={"optimisation": Optimisation(only=("newcomer_heads",))})
    with pytest.raises(ConfigError, match=r"optimisation\.only: newcomer_heads"):
        run_training(lacking, [store], None, str(tmp_path / "run"), resume=False)


def test_a_stage_says_what_is_frozen_and_whether_the_raster_is_read(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = replace(SMALL, raster="always")
    without = Stage(1, 1, raster=False, frozen=("raster_encoder", "mask_head"))
    stages = (without, Stage(1, 1, frozen=("motion_head",)))
    config = QUICK.model_copy(update={"model": reading, "curriculum": stages})
    seen: list[tuple[int, str, bool, dict[str, Tensor]]] = []
    step = ForecastTraining.training_step

    def watched(self: ForecastTraining, batch: Any, index: int) -> Tensor:
        assert self.model.raster_encoder is not None
        now = {name: one.detach().clone() for name, one in self.model.state_dict().items()}
        seen.append(
            (self.current_epoch, self.model.spec.raster, self.model.raster_encoder.training, now)
        )
        return step(self, batch, index)

    monkeypatch.setattr(ForecastTraining, "training_step", watched)
    run_training(config, [store], None, str(tmp_path / "run"), resume=False)
    assert [one[:3] for one in seen] == 4 * [(0, "detection", False)] + 4 * [(1, "always", True)]

    def learned(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
        return {n.split(".")[0] for n in after if not torch.equal(after[n], before[n])}

    first = learned(seen[0][3], seen[4][3])
    assert "motion_head" in first
    assert not {"raster_encoder", "mask_head"} & first
    second = learned(seen[4][3], seen[7][3])
    assert {"raster_encoder", "mask_head"} <= second
    assert "motion_head" not in second
    assert load_checkpoint(tmp_path / "run").model.spec.raster == "always"


def test_stages_that_name_a_learning_rate_begin_a_cosine() -> None:
    rates = (None, None, 0.0005, None, 0.002)
    stages = tuple(Stage(2, 1, learning_rate=rate) for rate in rates)
    rate = LearningRate(stages, Optimisation(learning_rate=0.001, warmup_steps=4), 1000)
    found = [rate(step) for step in range(1001)]
    for begun, end, peak in ((0, 400, 0.001), (400, 800, 0.0005), (800, 1000, 0.002)):
        assert found[begun] < 0.3 * peak, "it warms up"
        assert max(found[begun:end]) == pytest.approx(peak, rel=1e-2)
        assert found[(begun + end) // 2] == pytest.approx(0.51 * peak, rel=1e-2)
        assert found[end - 1] == pytest.approx(0.02 * peak, rel=2e-2)
    assert found[1000] == pytest.approx(0.02 * 0.002)


def test_a_stage_may_learn_where_the_others_do_not(store: str, tmp_path: Path) -> None:
    still = Optimisation(learning_rate=0.0, weight_decay=0.0, warmup_steps=1)
    changed = []
    for name, rate in (("still", None), ("learns", 0.01)):
        stages = (Stage(1, 1), Stage(1, 1, learning_rate=rate))
        config = QUICK.model_copy(update={"curriculum": stages, "optimisation": still})
        run_training(config, [store], None, str(tmp_path / name), resume=False)
        changed.append(weights(tmp_path / name))
    assert any(not torch.equal(changed[0][name], changed[1][name]) for name in changed[0])


def test_validation_judges_the_network_as_it_is_shared(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = replace(SMALL, raster="always")
    stages = (Stage(1, 1, raster=False), Stage(1, 1, raster=False))
    config = QUICK.model_copy(update={"model": reading, "curriculum": stages})
    seen = []
    for name in ("training_step", "validation_step"):
        step = getattr(ForecastTraining, name)

        def watched(self: Any, *given: Any, name: str = name, step: Any = step) -> Any:
            seen.append((name, self.model.spec.raster))
            return step(self, *given)

        monkeypatch.setattr(ForecastTraining, name, watched)
    run_training(config, [store], store, str(tmp_path / "run"), resume=False)
    assert set(seen) == {("training_step", "detection"), ("validation_step", "always")}


def test_a_stage_in_which_nothing_learns_is_refused(store: str, tmp_path: Path) -> None:
    only = Optimisation(only=("motion_head",))
    stages = (Stage(1, 1), Stage(1, 1, frozen=("motion_head",)))
    nothing = QUICK.model_copy(update={"curriculum": stages, "optimisation": only})
    with pytest.raises(
        ConfigError, match=r"learns in stage 2 .*curriculum\.1\.frozen: motion_head"
    ):
        run_training(nothing, [store], None, str(tmp_path / "run"), resume=False)


def test_a_stage_that_uses_nothing_that_learns_is_refused(store: str, tmp_path: Path) -> None:
    reading = replace(SMALL, raster="always")
    update = {
        "model": reading,
        "curriculum": (Stage(1, 1, raster=False),),
        "optimisation": Optimisation(only=("newcomer_head",)),
    }
    with pytest.raises(ConfigError, match=r"something is used that learns; .* epoch 1"):
        run_training(
            QUICK.model_copy(update=update), [store], None, str(tmp_path / "run"), resume=False
        )


def test_a_stage_that_freezes_a_part_that_the_network_lacks_is_refused(
    store: str, tmp_path: Path
) -> None:
    lacking = QUICK.model_copy(update={"curriculum": (Stage(1, 1), Stage(1, 1, frozen=("head",)))})
    with pytest.raises(ConfigError, match=r"parts of the network: .*curriculum\.1\.frozen: head"):
        run_training(lacking, [store], None, str(tmp_path / "run"), resume=False)


def test_a_stage_takes_so_many_sequences_of_each_batch(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []
    losses = ForecastTraining._losses

    def counted(self: ForecastTraining, batch: Any, *rest: Any) -> Any:
        taken.append(batch.batch)
        return losses(self, batch, *rest)

    monkeypatch.setattr(ForecastTraining, "_losses", counted)
    curriculum = (Stage(epochs=1, horizon=1, batch_size=3), Stage(epochs=1, horizon=1))
    loading = Loading(batch_size=8, workers=0)
    config = QUICK.model_copy(update={"curriculum": curriculum, "loading": loading})
    run_training(config, [store], None, str(tmp_path / "run"), resume=False)
    assert taken == [3, 8]


def test_a_stage_has_a_loss_augmentation_and_corruption_of_its_own(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, list[Any]] = {"corrupt": [], "augment": [], "step_loss": []}

    def listening(name: str, place: int) -> Any:
        real = getattr(module, name)

        def heard(*args: Any) -> Any:
            given[name].append(args[place])
            return real(*args)

        return heard

    for name, place in (("corrupt", 1), ("augment", 1), ("step_loss", 3)):
        monkeypatch.setattr(module, name, listening(name, place))
    own = LossWeights(mask=0.5), Augmentation(mirror=0.1), Corruption(clean=1.0)
    common = LossWeights(mask=2.0), Augmentation(mirror=0.9), Corruption(clean=0.4)
    first = Stage(1, 1, loss=own[0], augmentation=own[1], corruption=own[2])
    names = ("loss", "augmentation", "corruption")
    config = QUICK.model_copy(
        update={"curriculum": (first, Stage(1, 1)), "steps_per_epoch": 1}
        | dict(zip(names, common, strict=True))
    )
    run_training(config, [store], None, str(tmp_path / "run"), resume=False)
    assert given["augment"] == [own[1], common[1]]
    # Validation spoils at levels of its own.
    assert [how for how in given["corrupt"] if not how.exact] == [own[2], common[2]]
    assert given["step_loss"] == [own[0], common[0]]


def test_a_stage_has_a_dropout_of_its_own(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = []
    losses = ForecastTraining._losses

    def seen(self: ForecastTraining, *given: Any) -> Any:
        shares.append({part.p for part in self.model.modules() if isinstance(part, nn.Dropout)})
        return losses(self, *given)

    monkeypatch.setattr(ForecastTraining, "_losses", seen)
    curriculum = (Stage(1, 1, dropout=0.0), Stage(1, 1))
    how = replace(QUICK.optimisation, dropout=0.2)
    config = QUICK.model_copy(
        update={"curriculum": curriculum, "optimisation": how, "steps_per_epoch": 1}
    )
    run_training(config, [store], None, str(tmp_path / "run"), resume=False)
    assert shares == [{0.0}, {0.2}]


def test_steps_over_skipped_frames_are_learned_as_long_as_they_take() -> None:
    """Beyond what it has learned a forecaster drives straight on."""
    model = forecaster(trained=False)
    parts = LossWeights(), Augmentation(), Corruption(), Optimisation()
    stages = (Stage(1, 6, frame_stride=2), Stage(1, 6))
    ForecastTraining(model, stages, *parts, history=3, dt_s=0.5, steps=1, seed=0)
    assert model.learned_horizon.seconds == 2 * 6 * 0.5
