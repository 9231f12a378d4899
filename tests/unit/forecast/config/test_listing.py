"""The listing of settings: complete, explained, and a configuration itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from forecast.config.config import Config, load_config
from forecast.config.data import Augmentation, Loading
from forecast.config.listing import annotated_yaml
from forecast.config.training import LossWeights, Optimisation, Stage, TrackRules
from forecast.detector.spec import DetectorSpec
from forecast.model.spec import ForecasterSpec

PARTS = (
    Config,
    Stage,
    TrackRules,
    Optimisation,
    LossWeights,
    Loading,
    Augmentation,
    ForecasterSpec,
    DetectorSpec,
)


@pytest.mark.parametrize("part", PARTS)
def test_every_setting_is_explained(part: type) -> None:
    fields = part.__pydantic_fields__
    assert fields
    assert all(field.description for field in fields.values())


def test_the_listing_names_every_setting() -> None:
    listed = yaml.safe_load(annotated_yaml(Config()))
    assert listed == Config().model_dump(mode="json")


@pytest.mark.parametrize("path", sorted(Path("configs").glob("*.yaml")), ids=lambda p: p.name)
def test_a_completed_configuration_is_the_same_one(path: Path, tmp_path: Path) -> None:
    config = load_config(str(path), ["seed=7"])
    completed = tmp_path / "completed.yaml"
    completed.write_text(annotated_yaml(config))
    assert load_config(str(completed), []) == config


def test_types_and_defaults_are_said_in_words_of_yaml() -> None:
    lines = [line.strip() for line in annotated_yaml(Config(seed=3)).splitlines()]
    assert "seed: 3  # integer, default 0" in lines
    assert "epochs: 10  # integer, must be given" in lines
    assert "mask_head: dot  # dot | fpn" in lines
    assert "steps_per_epoch: null  # integer | null" in lines
    assert "warp: true  # true | false" in lines


def test_the_listing_fits_a_terminal() -> None:
    assert max(map(len, annotated_yaml(Config()).splitlines())) <= 100
