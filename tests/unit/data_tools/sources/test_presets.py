"""What a preset may say, and what is refused of it in one line."""

import pickle
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools import prepare as preparing
from data_tools.options import PrepareOptions
from data_tools.presets import preset_names
from data_tools.sources import source
from data_tools.sources.presets import OWN, load_preset
from data_tools.sources.tracks import Tracks
from forecast.errors import ConfigError, DataError, ForecastError
from forecast.storage.stores import open_sequence_store

SAID = """
files: ["*.csv"]
columns:
  track_id: id
  class: {value: vehicle}
  time_s: {column: ms, unit: ms}
  x_m: east
  y_m: north
  yaw_rad: {column: heading, unit: deg, zero: y, turn: clockwise}
"""


def written(folder: Path, text: str = SAID, name: str = "my.yaml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def table(folder: Path, seconds: int = 8, name: str = "a.csv") -> str:
    """One vehicle that drives north at 10 m/s."""
    rows = [f"7,{1000 * t},5.0,{10 * t},0" for t in range(seconds)]
    (folder / name).write_text("\n".join(["id,ms,east,north,heading", *rows]))
    return str(folder / name)


def test_every_preset_of_the_package_is_one_and_says_what_it_is_for():
    assert {"interaction", "argoverse1", "apolloscape", "trajnet", "ngsim", "sind"} <= {
        *preset_names()
    }
    for name in preset_names():
        preset = load_preset(name)
        assert preset.about
        assert pickle.loads(pickle.dumps(preset)) == preset
        assert hash(pickle.loads(pickle.dumps(preset))) == hash(preset)
        assert preset.to_json()["columns"]["track_id"]


def test_help_lists_the_presets():
    from forecast.cli.prepare import PresetName

    (option,) = PresetName.__metadata__
    assert all(name in option.help for name in preset_names())


def test_without_a_preset_columns_are_the_documented_ones():
    assert Tracks().preset == source("tracks").preset == OWN
    required = [name for name, must in OWN.columns.named().items() if must]
    assert required == ["scene", "track_id", "class", "time_s", "x_m", "y_m"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("files:", "file:", "expected keys among about, files, .*; got 'file'; correct the key in"),
        ("x_m: east", "x: east", "expected columns with keys among scene, .*; got 'x'"),
        ("unit: ms", "units: ms", "expected columns.time_s with keys among column, .*'units'"),
        ("unit: ms", "unit: minutes", "columns.time_s.unit: Input should be 's', 'ms'"),
        ("unit: ms", "unit: ms, frames_per_s: 10", "give one of unit, frames_per_s and frame"),
        ("  y_m: north\n", "", "expected columns.y_m in a preset; got none in"),
        ("x_m: east", "x_m: {unit: ft}", "expected columns.x_m.column in a preset; got none"),
        ("{value: vehicle}", "{}", "columns.class: give column or value"),
        ("zero: y", "zero: north", "columns.yaw_rad.zero: Input should be 'x' or 'y'"),
        ('["*.csv"]', "[]", "files: "),
        ('["*.csv"]', "*.csv", "expected a YAML file"),
        ("id\n", "[id, id2]\n", "columns.track_id: "),
        ("id\n", "&a [*a]\n", "expected a YAML file"),
        ("unit: ms", "frames_per_s: .nan", "columns.time_s.frames_per_s: "),
        ("unit: ms", "frames_per_s: 0", "columns.time_s.frames_per_s: "),
        ("x_m: east", f"x_m: {'e' * 300}", "columns.x_m.column: "),
        ("files:", "classes: [1]\nfiles:", "classes: "),
        (SAID, "- 1\n", "expected a YAML mapping; got .* with list"),
        (SAID, "[" * 100_000, "expected a YAML file"),
    ],
)
def test_what_is_no_preset_is_refused_in_a_line(tmp_path, old, new, expected):
    assert old in SAID
    path = written(tmp_path, SAID.replace(old, new))
    with pytest.raises(ConfigError, match=expected) as refused:
        load_preset(path)
    assert str(tmp_path) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 1000


def test_a_small_file_that_says_very_much_is_quoted_in_short(tmp_path):
    names = "abcdefghijklmno"
    doubled = (f"&{b} [*{a}, *{a}]" for a, b in pairwise(names))
    with pytest.raises(ConfigError, match="expected a YAML file") as refused:
        load_preset(written(tmp_path, f"about: [&a [1, 1], {', '.join(doubled)}]\n{SAID}"))
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("name", ["interction", "none.yaml", "", ".", "../presets/ngsim"])
def test_a_preset_that_is_not_there_is_refused(name):
    with pytest.raises(ConfigError, match=r"expected a (preset: apolloscape|YAML file)"):
        load_preset(name)


def test_only_tracks_have_presets():
    with pytest.raises(ConfigError, match="expected --preset with tracks; got it with waymo-json"):
        source("waymo-json", {}, "ngsim")
    with pytest.raises(ConfigError, match="'preset', which tracks does not have"):
        source("tracks", {"preset": "ngsim"})


def test_the_store_says_what_the_preset_was(tmp_path):
    options = PrepareOptions(preset=written(tmp_path), history=2, horizon=2)
    preparing.prepare("tracks", [table(tmp_path)], str(tmp_path / "o.zarr"), options)
    store, meta = open_sequence_store(str(tmp_path / "o.zarr"))
    assert meta.source == "tracks"
    said = yaml.safe_load(SAID)
    assert store.attrs["preset"]["files"] == said["files"]
    assert store.attrs["preset"]["columns"]["yaw_rad"] == said["columns"]["yaw_rad"]
    assert store["ego_pose"].values[0, :, 0] == pytest.approx([-5, 0, 5, 10])  # north is ahead


def test_another_preset_is_not_resumed_whatever_its_path(tmp_path, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    inputs, output = [table(tmp_path)], str(tmp_path / "o.zarr")
    first = PrepareOptions(preset=written(tmp_path), history=2, horizon=2)
    with monkeypatch.context() as patch:
        patch.setattr(preparing, "_assemble", interrupted)
        with pytest.raises(KeyboardInterrupt):
            preparing.prepare("tracks", inputs, output, first)
    again = PrepareOptions(preset=first.preset, history=2, horizon=2, resume=True)
    written(tmp_path, SAID.replace("{value: vehicle}", "{value: pedestrian}"))
    with pytest.raises(DataError, match=r"others \(preset\) than"):
        preparing.prepare("tracks", inputs, output, again)
    moved = written(tmp_path, SAID, "moved.yml")
    same = PrepareOptions(preset=moved, history=2, horizon=2, resume=True)
    assert preparing.prepare("tracks", inputs, output, same).sequences


KEYS = ("files", "columns", "track_id", "class", "time_s", "x_m", "y_m", "column", "unit", "header")
leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
documents = st.recursive(
    leaf,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | st.integers(), inner, max_size=6)
    ),
    max_leaves=12,
)


@given(document=documents, place=st.sampled_from([(), ("columns",), ("columns", "x_m")]))
@settings(deadline=None, max_examples=100)
def test_whatever_yaml_holds_it_is_a_preset_or_refused(tmp_path_factory, document, place):
    whole = yaml.safe_load(SAID)
    if place:
        inner = whole
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = document
    else:
        whole = document
    path = written(tmp_path_factory.getbasetemp(), yaml.safe_dump(whole))
    try:
        said = str(load_preset(path))
    except ForecastError as error:
        said = str(error)
    assert "\n" not in said
