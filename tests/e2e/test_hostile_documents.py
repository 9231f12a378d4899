"""Presets, scenarios, checkpoints and options made to break the program.

As in test_hostile.py: one line and exit code 2, within ten seconds of an idle machine, no output.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from forecast.checkpoint.checkpoint import load_checkpoint
from forecast.checkpoint.metadata import with_checksum
from tests.e2e.test_hostile import DEEP, ROLLOUT
from tests.support.commonroad import LITTLE
from tests.support.commonroad import write as write_xml
from tests.support.refusals import Refused, save_untrained
from tests.support.stores import content, forecast_store

pytestmark = pytest.mark.timeout(300)  # of a busy machine

TRACKS = ("prepare", "tracks", "t.csv", "--preset", "p.yaml", "--output", "o.zarr", "--workers=1")
SCENARIO = ("prepare", "commonroad", "a.xml", "--output", "o.zarr", "--workers=1")
UNCERTAINTY = "motion_head.uncertainty."
OWN = """files: ["*.csv"]
columns: {track_id: track_id, class: class, time_s: time_s, x_m: x_m, y_m: y_m}
"""


def bomb(first: str, more: str) -> str:
    """Eleven lines that stand for 9 ** 10 values: each has nine aliases of the one before."""
    lines = [f"a0: &a0 {first}"]
    for number in range(1, 11):
        names = ",".join([f"*a{number - 1}"] * 9)
        lines.append(f"a{number}: &a{number} {more.format(f'[{names}]')}")
    return "\n".join(lines) + "\n"


TEXTS = {
    "aliases of aliases": bomb("[x]", "{}"),
    "merges of merges": bomb("{x: 1}", "{{<<: {}}}"),
    "an alias of itself": f"{OWN}classes: &a {{car: *a}}",
    "nested lists": f"{OWN}classes: {'[' * DEEP}",
    "nested mappings": f"{OWN}classes: {'{' * DEEP}",
    "digits": f"{OWN}y_down: {'9' * 5000}",
    "hexadecimal digits": f"{OWN}y_down: 0x{'f' * 5000}",
    "sexagesimal digits": f"{OWN}y_down: 1{':59' * 5000}",
    "no date": f"{OWN}about: !!timestamp soon",
    "no number": f"{OWN}about: !!int ''",
    "no truth": f"{OWN}about: !!bool perhaps",
    "code": f"{OWN}about: !!python/object/apply:os.system [true]",
    "megabytes": f"{OWN}about: {'a' * 2**20}",
    "an unknown field": f"{OWN}'[red]rows[/]': 1",
    "a name of markup": OWN.replace("track_id: track_id", "track_id: '[/]'"),
    "a name of half a character": OWN.replace("track_id: track_id", 'track_id: "\\ud800"'),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_presets_are_refused(kind: str, refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("track_id,class,time_s,x_m,y_m\n1,car,0,0,0\n")
    (tmp_path / "p.yaml").write_text(TEXTS[kind])
    line = refused(*TRACKS, output="o.zarr")
    assert "p.yaml" in line or "t.csv" in line
    if "[" in kind:
        assert "[red]rows[/]" in line


@pytest.mark.parametrize("kind", ["folder", "pipe", "latin-1", "none"])
def test_what_is_no_text_is_no_preset(kind: str, refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("track_id,class,time_s,x_m,y_m\n1,car,0,0,0\n")
    path = tmp_path / "p.yaml"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "latin-1":
        path.write_bytes(OWN.encode() + b"about: caf\xe9")
    assert "p.yaml" in refused(*TRACKS, output="o.zarr")


@pytest.mark.parametrize("kind", ["aliases of aliases", "merges of merges", "no date", "megabytes"])
def test_configurations_are_refused_alike(kind: str, refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(TEXTS[kind].removeprefix(OWN))
    assert "c.yaml" in refused("inspect", "config", "c.yaml")


@pytest.mark.parametrize("value", ["!!timestamp soon", "!!int ''", "2001-99-99", "[" * 5000])
def test_values_on_the_command_line_are_refused_alike(value: str, refused: Refused) -> None:
    assert "--set" in refused("inspect", "config", "--set", f"seed={value}")
    config = str(Path(__file__).parents[2] / "configs" / "small.yaml")
    assert "--vary" in refused("inspect", "model", config, "--vary", f"hidden_dim={value}")


@pytest.mark.parametrize(
    "text",
    [
        LITTLE.replace("4.5", "9" * 5000),
        LITTLE.replace("4.5", "nan"),
        LITTLE.replace("<", "<" * 99),
        LITTLE.replace("2020a", "[red]2020a[/]"),
        f"<?xml version='1.0'?><commonRoad{' a' * 99}/>",
        f"<commonRoad>{'<a>' * DEEP}",
        f"<commonRoad commonRoadVersion='2020a' timeStepSize='{'9' * 5000}'/>",
    ],
    ids=["digits", "nan", "angles", "markup", "attributes", "deep", "step"],
)
def test_scenarios_are_refused(text: str, refused: Refused, tmp_path: Path) -> None:
    write_xml(tmp_path / "a.xml", text)
    assert "a.xml" in refused(*SCENARIO, output="o.zarr")


@pytest.mark.parametrize("kind", ["folder", "pipe", "f", "store.zarr", "none", "[/]", ""])
def test_what_is_no_forecast_is_not_compared_with(
    kind: str, refused: Refused, store: Path, tmp_path: Path
) -> None:
    forecast_store(tmp_path / "f.zarr", str(store))
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "f").write_text("text")
    arguments = ("evaluate", "f.zarr", "--data", "store.zarr", "--against", kind)
    for more in ((), ("--probabilities",), ("--by-lead",), ("--plots", "p")):
        assert kind in refused(*arguments, *more, output="p")


@pytest.mark.parametrize("folder", ["f", "f/deeper", "pipe", "pipe/deeper", "sealed/deeper"])
def test_pictures_are_drawn_into_folders_alone(
    folder: str, refused: Refused, store: Path, tmp_path: Path
) -> None:
    if folder.startswith("sealed") and os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    forecast_store(tmp_path / "f.zarr", str(store))
    (tmp_path / "f").write_text("text")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "sealed").mkdir(mode=0o500)
    before = content(tmp_path)
    refused("evaluate", "f.zarr", "--data", "store.zarr", "--plots", folder)
    assert content(tmp_path) == before


def exchanged(weights: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Replaces the weights of a checkpoint, and their hash in its JSON."""
    weights.unlink()  # tensors may be read from the old file yet
    save_file(tensors, weights)
    found = hashlib.sha256(weights.read_bytes()).hexdigest()
    about = json.loads(weights.with_suffix(".json").read_text())
    weights.with_suffix(".json").write_text(json.dumps(with_checksum(about | {"sha256": found})))


def test_a_checkpoint_without_the_uncertainty_forecasts_as_before(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_untrained(path, ("vehicle",), ())
    tensors = load_file(path)
    exchanged(path, {k: v for k, v in tensors.items() if UNCERTAINTY not in k})
    found = load_checkpoint(path).model.state_dict()
    assert all(torch.equal(found[k], v) for k, v in tensors.items() if UNCERTAINTY not in k)


@pytest.mark.parametrize(
    "kind", ["lacks one", "one of other shape", "one of no name of ours", "nan"]
)
def test_a_checkpoint_of_another_uncertainty_is_refused(
    kind: str, refused: Refused, store: Path, tmp_path: Path
) -> None:
    path = tmp_path / "m.safetensors"
    save_untrained(path, ("vehicle",), ())
    tensors = load_file(path)
    name = min(name for name in tensors if UNCERTAINTY in name)
    tensor = tensors.pop(name)
    if kind == "one of other shape":
        tensors[name] = torch.zeros(3, 3, 3)
    elif kind == "one of no name of ours":
        tensors[f"{name}[/]"] = tensor
    elif kind == "nan":
        tensors[name] = torch.full_like(tensor, torch.nan)
    exchanged(path, tensors)
    assert "m.safetensors" in refused(*ROLLOUT, "--model", "m.safetensors", output="o.zarr")
    assert "m.safetensors" in refused("inspect", "model", "m.safetensors")
