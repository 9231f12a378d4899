import pickle
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from forecast.config.config import load_config
from forecast.config.data import Loading
from forecast.config.renamed import RENAMED
from forecast.config.training import Stage
from forecast.detector.spec import DetectorSpec
from forecast.errors import ConfigError
from forecast.model.spec import ForecasterSpec
from forecast.training.run import run_training


def write(path: Path, text: str) -> str:
    file = path / "config.yaml"
    file.write_text(text)
    return str(file)


def test_every_configuration_in_the_repository_is_valid() -> None:
    found = sorted(Path("configs").glob("*.yaml"))
    assert found
    for path in found:
        command = "inspect model" if load_config(str(path), []).detector else "train --config"
        assert path.read_text().startswith(f"# forecast {command} configs/{path.name}")


def test_a_detector_cannot_be_trained(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "detector: {queries: 10}\n"), [])
    with pytest.raises(ConfigError, match="`detector`"):
        run_training(config, ["train.zarr"], None, str(tmp_path / "run"), resume=False)
    assert not (tmp_path / "run").exists()


def test_settings_can_be_changed_from_the_command_line(tmp_path: Path) -> None:
    path = write(tmp_path, "curriculum: [{epochs: 3, horizon: 2}]\n")
    config = load_config(path, ["model.hidden_dim=64", "curriculum.0.horizon=4", "seed=5"])
    assert (config.model.hidden_dim, config.curriculum[0].horizon, config.seed) == (64, 4, 5)
    assert config.epochs == 3


@pytest.mark.parametrize(
    ("text", "overrides", "reason"),
    [
        ("optimizer: sgd", [], "keys among model, detector, .*; got optimizer;"),
        ("model: {dims: 3}", [], "model with keys among trail, .*; got dims;"),
        ("curriculum: [{epoch: 3}]", [], "curriculum.0 with keys among epochs, horizon"),
        ("curriculum: []", [], "curriculum"),
        ("curriculum: [{epochs: 1, horizon: 1, detected: 1.5}]", [], "curriculum.0.detected"),
        ("seed: -1", [], "seed"),
        ("model: {hidden_dim: 30}", [], "model.hidden_dim"),
        ("detector: {dims: 3}", [], "detector with keys among channels, .*; got dims;"),
        ("detector: {hidden_dim: 100}", [], "detector.hidden_dim"),
        ("detector: {backbone: resnet18, dilation: true}", [], "basic blocks"),
        ("{model: {hidden_dim: 64}, detector: {queries: 10}}", [], "either"),
        ("- a list", [], "mapping"),
        ("a: [", [], "YAML"),
        ("seed: 1", ["seed"], "a.b=c"),
        ("seed: 1", ["seed.low=3"], "key"),
        ("seed: 1", ["modle.hidden_dim=64"], "modle"),
        ("model: {backbone: vgg}", [], "backbone"),
        ("model: {heads: 0}", [], "model.heads"),
        ("loading: {batch_size: 0}", [], "batch_size"),
        ("optimisation: {learning_rate: -1.0}", [], "optimisation.learning_rate"),
        ("optimisation: {learning_rate: .nan}", [], "finite number; got nan; correct optimisation"),
        ("augmentation: {mirror: 1.5}", [], "augmentation.mirror"),
        ("loss: {points: 0}", [], "loss.points"),
        ("model: 3", [], "correct model in"),
        ("curriculum: [3]", [], "correct curriculum.0 in"),
    ],
)
def test_mistakes_are_refused_in_plain_words(
    tmp_path: Path, text: str, overrides: list[str], reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        load_config(write(tmp_path, text), overrides)


@pytest.mark.parametrize(
    ("override", "place"),
    [
        ("model.nope=1", "key in --set$"),
        ("nope=1", "key in --set$"),
        ("loading.batch_size=many", "loading.batch_size in --set$"),
        ("curriculum=[]", "curriculum in --set$"),
        ("curriculum.0.epoch=3", "key in --set$"),
        ("detector.queries=3", r"both in .*config\.yaml and --set; leave one out$"),
    ],
)
def test_a_fault_of_set_is_not_looked_for_in_the_file(
    tmp_path: Path, override: str, place: str
) -> None:
    path = write(tmp_path, "{model: {hidden_dim: 64}, curriculum: [{epochs: 1, horizon: 1}]}")
    with pytest.raises(ConfigError, match=place):
        load_config(path, [override])


def test_a_fault_of_the_file_is_looked_for_there_whatever_set_changes(tmp_path: Path) -> None:
    for text in ("model: {nope: 1}", "seed: -1"):
        with pytest.raises(ConfigError, match=r"in .*config\.yaml$"):
            load_config(write(tmp_path, text), ["model.hidden_dim=64"])


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(ConfigError, match="YAML file"):
        load_config("nowhere.yaml", [])


NEW_NAMES = {
    "model.memory": r"model\.raster \(none, detection or always\)",
    "model.dim": r"model\.hidden_dim",
    "model.hidden": r"model\.scene_dim",
    "model.birth": r"model\.birth_threshold",
    "model.stay": r"model\.track_threshold",
    "model.interact": r"model\.query_interaction",
    "model.update_position": r"model\.update_query_pos",
    "model.history": r"model\.trail \(a model reads histories of any length\)",
    "augmentation.position_noise_m": r"corruption\.position_m",
    "augmentation.heading_noise_rad": r"corruption\.heading_rad",
    "augmentation.drop_past": r"corruption\.late",
    "curriculum.1.memory": r"model\.raster \(none, detection or always\)",
    "curriculum.1.interval": r"curriculum\.1\.frame_stride",
}
STAGES = [{"epochs": 1, "horizon": 1}, {"epochs": 1, "horizon": 2}]


def test_every_renamed_setting_is_tried() -> None:
    assert {old.replace(".1.", ".N.") for old in NEW_NAMES} == set(RENAMED)


@pytest.mark.parametrize(("old", "new"), NEW_NAMES.items())
def test_an_old_name_is_refused_with_the_new_one(tmp_path: Path, old: str, new: str) -> None:
    section, _, key = old.rpartition(".")
    settings: dict[str, Any] = {"model": {}, "augmentation": {}}
    settings["curriculum"] = [dict(stage) for stage in STAGES]
    plain = write(tmp_path, yaml.safe_dump(settings))
    with pytest.raises(ConfigError, match=rf"expected {new}; got {old}; rename it in --set$"):
        load_config(plain, [f"{old}=1"])
    changed = settings.get(section, settings["curriculum"][1])
    changed[key] = 1
    path = write(tmp_path, yaml.safe_dump(settings))
    with pytest.raises(ConfigError, match=rf"expected {new}; got {old}; rename .*config\.yaml$"):
        load_config(path, ["seed=3"])


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Stage(1, 1, frame_stride=0), "curriculum.frame_stride: .*; got 0; change curr"),
        (lambda: Loading(workers=-1), "loading.workers: .*; got -1; change loading.workers"),
        (lambda: ForecasterSpec(keep=1.5), "model.keep: .*; got 1.5; change model.keep"),
        (lambda: replace(ForecasterSpec(), heads=7), "model.hidden_dim such that: 4 x heads"),
        (lambda: DetectorSpec(**{"dims": 3}), "detector.dims: .*; got 3; change detector.dims"),
    ],
)
def test_a_bad_value_from_code_is_refused_in_one_line(
    make: Callable[[], object], told: str
) -> None:
    with pytest.raises(ConfigError, match=told) as refused:
        make()
    assert "\n" not in str(refused.value)


def test_sections_are_immutable_values() -> None:
    spec = ForecasterSpec(trail=4)
    assert spec == pickle.loads(pickle.dumps(spec)) == ForecasterSpec(**asdict(spec))
    assert hash(spec) == hash(replace(ForecasterSpec(), trail=4))
    with pytest.raises(AttributeError):
        spec.trail = 5  # type: ignore[misc]


def test_what_is_set_in_one_stage_changes_no_other_that_is_an_alias_of_it() -> None:
    config = load_config("configs/packaged.yaml", ["curriculum.0.corruption.clean=0.5"])
    shares = [stage.corruption and stage.corruption.clean for stage in config.curriculum[:2]]
    assert shares == [0.5, 1.0]
