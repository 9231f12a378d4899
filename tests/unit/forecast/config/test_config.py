from pathlib import Path

import pytest

from forecast.config.config import load_config
from forecast.errors import ConfigError
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
        ("model: {dims: 3}", [], "dims"),
        ("curriculum: [{epoch: 3}]", [], "epoch"),
        ("curriculum: []", [], "curriculum"),
        ("curriculum: [{epochs: 1, horizon: 1, detected: 1.5}]", [], "0..1"),
        ("seed: -1", [], "seed"),
        ("model: {hidden_dim: 30}", [], "model.hidden_dim"),
        ("detector: {dims: 3}", [], "dims"),
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
        ("optimisation: {learning_rate: -1.0}", [], "negative"),
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
