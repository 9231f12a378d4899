"""Input made to break the program: one line and exit code 2, within ten seconds, and no output.

Each list is of kinds, not of files; what is refused elsewhere (tests/e2e/test_bad_*.py) is mistaken
rather than hostile.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forecast.checkpoint.metadata import with_checksum
from forecast.cli import main as cli
from tests.support.refusals import Refused, save_untrained, scenario
from tests.support.stores import content, forecast_store

pytestmark = pytest.mark.timeout(300)  # of a busy machine; ten seconds of an idle one

DEEP = 100_000
TRAIN = ("train", "--config", "c.yaml", "--data", "store.zarr", "--output", "run")
ROLLOUT = ("rollout", "--data", "store.zarr", "--output", "o.zarr", "--gif", "")


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes a JSON file."""
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


ATTRIBUTES: list[tuple[str, Any]] = [
    ("history", 0),
    ("history", -1),
    ("history", "3"),
    ("history", 2.5),
    ("history", 10**12),
    ("history", None),
    ("horizon", True),
    ("dt_s", 0),
    ("dt_s", float("nan")),
    ("dt_s", -0.5),
    ("dt_s", [0.5]),
    ("classes", []),
    ("classes", 3),
    ("classes", "vehicle"),
    ("classes", ["a", 1, "c"]),
    ("classes", ["a", "a", "c"]),
    ("classes", [f"c{index}" for index in range(256)]),
    ("grid", None),
    ("grid", [1, 2]),
    ("grid", {"x_min_m": -1e9, "x_max_m": 1e9, "y_min_m": 0, "y_max_m": 1, "resolution_m": 1}),
    ("source", {"a": 1}),
    ("protocol", "exact"),
]


@pytest.mark.parametrize(("name", "value"), [*ATTRIBUTES, ("map_layers", 4)])
def test_attributes_of_a_sequence_store_are_checked(
    name: str, value: Any, refused: Refused, store: Path
) -> None:
    rewrite(store / "zarr.json", lambda document: document["attributes"].update({name: value}))
    assert "store.zarr" in refused("inspect", "store", "store.zarr")
    refused(*ROLLOUT, "--model", "constant-turn", output="o.zarr")


@pytest.mark.parametrize(("name", "value"), [*ATTRIBUTES, ("model", 1), ("input", None)])
def test_attributes_of_a_forecast_store_are_checked(
    name: str, value: Any, refused: Refused, store: Path, tmp_path: Path
) -> None:
    path = tmp_path / "f.zarr"
    forecast_store(path, str(store))
    rewrite(path / "zarr.json", lambda document: document["attributes"].update({name: value}))
    assert "f.zarr" in refused("inspect", "store", "f.zarr")
    refused("evaluate", "f.zarr", "--data", "store.zarr")


@pytest.mark.parametrize("name", ["history", "dt_s", "classes", "grid", "source", "created_by"])
def test_a_store_that_lacks_an_attribute_is_refused(
    name: str, refused: Refused, store: Path
) -> None:
    rewrite(store / "zarr.json", lambda document: document["attributes"].pop(name))
    assert name in refused("inspect", "store", "store.zarr")


def claims_terabytes(document: dict[str, Any]) -> None:
    document["shape"][0] = 10**12


def has_chunks_of_terabytes(document: dict[str, Any]) -> None:
    document["chunk_grid"]["configuration"]["chunk_shape"][-1] = 10**12


def has_chunks_of_nothing(document: dict[str, Any]) -> None:
    document["chunk_grid"]["configuration"]["chunk_shape"][0] = 0


def is_filled_with_nan(document: dict[str, Any]) -> None:
    document["fill_value"] = "NaN"


@pytest.mark.parametrize(
    "change",
    [claims_terabytes, has_chunks_of_terabytes, has_chunks_of_nothing, is_filled_with_nan],
)
@pytest.mark.parametrize("variable", ["semantic", "instance", "track_class"])
def test_metadata_of_a_variable_are_checked_before_it_is_read(
    change: Callable[[dict[str, Any]], None], variable: str, refused: Refused, store: Path
) -> None:
    rewrite(store / variable / "zarr.json", change)
    assert "store.zarr" in refused("inspect", "store", "store.zarr")
    refused(*ROLLOUT, "--model", "constant-turn", output="o.zarr")


def test_an_axis_that_claims_terabytes_is_refused(refused: Refused, store: Path) -> None:
    rewrite(store / "x" / "zarr.json", claims_terabytes)
    assert "store.zarr" in refused("inspect", "store", "store.zarr")


@pytest.mark.parametrize("many", [f"{'[' * DEEP}{']' * DEEP}", "9" * 5000])
def test_store_attributes_nested_deep_or_of_many_digits_are_refused(
    many: str, refused: Refused, store: Path
) -> None:
    path = store / "zarr.json"
    path.write_text(path.read_text().replace('"attributes": {', f'"attributes": {{"a": {many},', 1))
    assert "a zarr store" in refused("inspect", "store", "store.zarr")


DESCRIPTIONS: list[tuple[str, Any]] = [
    ("dt_s", "soon"),
    ("dt_s", float("inf")),
    ("dt_s", 0),
    ("learned_horizon_s", -3),
    ("inputs", []),
    ("inputs", {"classes": [], "map_layers": [], "bev_channels": 0}),
    ("inputs", {"classes": ["a"], "map_layers": [1], "bev_channels": 0}),
    ("inputs", {"classes": ["a"], "map_layers": [], "bev_channels": 10**9}),
    ("model", None),
    ("model", ["trail"]),
    ("model", {"trail": -1}),
    ("model", {"hidden_dim": 32 * 10**9}),
    ("model", {"decoder_layers": 10**9}),
    ("model", {"ffn": 2**16, "hidden_dim": 2**16}),
    ("sha256", 5),
    ("training", "long"),
    ("version", 1),
]


@pytest.mark.parametrize(("name", "value"), DESCRIPTIONS)
def test_the_description_of_a_checkpoint_is_checked_before_memory_is_taken(
    name: str, value: Any, refused: Refused, store: Path, tmp_path: Path
) -> None:
    save_untrained(tmp_path / "m.safetensors", ("vehicle",), ())
    path = tmp_path / "m.json"
    about = json.loads(path.read_text())
    if name == "model" and isinstance(value, dict):
        value = about["model"] | value
    path.write_text(json.dumps(with_checksum(about | {name: value})))
    line = refused(*ROLLOUT, "--model", "m.safetensors", output="o.zarr")
    assert "m.json" in line


@pytest.mark.parametrize("text", [f"{'[' * DEEP}{']' * DEEP}", '{"a": ' + "9" * 5000 + "}"])
def test_documents_nested_deep_or_of_many_digits_are_refused(
    text: str, refused: Refused, store: Path, tmp_path: Path
) -> None:
    (tmp_path / "d.json").write_text(text)
    (tmp_path / "c.yaml").write_text(text)
    save_untrained(tmp_path / "m.safetensors", ("vehicle",), ())
    (tmp_path / "m.json").write_text(text)
    arguments = ("--output", "o.zarr", "--workers", "1")
    assert "d.json" in refused("prepare", "waymo-json", "d.json", *arguments, output="o.zarr")
    assert "c.yaml" in refused(*TRAIN, output="run")
    assert "c.yaml" in refused("inspect", "config", "c.yaml")
    assert "m.json" in refused(*ROLLOUT, "--model", "m.safetensors", output="o.zarr")
    value = text.removeprefix('{"a": ').removesuffix("}")
    assert "--set" in refused("inspect", "config", "--set", f"seed={value}")


def test_a_map_nested_deep_is_refused(refused: Refused, tmp_path: Path) -> None:
    rows = "\n".join(f"s,a,vehicle,{0.5 * t},{t}.0,0.0,4.0,2.0,1" for t in range(12))
    header = "scene,track_id,class,time_s,x_m,y_m,length_m,width_m,is_ego"
    (tmp_path / "t.csv").write_text(f"{header}\n{rows}\n")
    deep = f"{'[' * 400}0{']' * 400}"
    (tmp_path / "t.csv.geojson").write_text(
        '{"type": "FeatureCollection", "features": [{"type": "Feature", "properties":'
        f' {{"layer": "drivable"}}, "geometry": {{"type": "Polygon", "coordinates": {deep}}}}}]}}'
    )
    arguments = ("t.csv", "--output", "o.zarr", "--workers", "1")
    assert "t.csv.geojson" in refused("prepare", "tracks", *arguments, output="o.zarr")


@pytest.mark.parametrize(
    "arguments",
    [
        (*ROLLOUT, "--model", "constant-turn", "--horizon", "1000000000"),
        (*ROLLOUT, "--model", "constant-turn", "--batch-size", "1000000000"),
        (*ROLLOUT, "--model", "constant-turn", "--workers", "1000000000"),
        ("prepare", "sumo", "1", "--output", "o.zarr", "--history", "1000000000"),
        ("prepare", "sumo", "1", "--output", "o.zarr", "--horizon", "9999", "--grid=bev-30m"),
        ("prepare", "sumo", "1", "--output", "o.zarr", "--stride", "99999999999"),
        ("prepare", "sumo", "1", "--output", "o.zarr", "--workers", "1000000000"),
        ("prepare", "sumo", "1", "--output", "o.zarr", "--dt", "nan"),
        ("prepare", "sumo", "1", "--output", "o.zarr", "--dt", "1e-300"),
        ("prepare", "sumo", "1", "--output", "o.zarr", "--grid=-1e9,1e9,-1e9,1e9,0.01"),
        ("prepare", "sumo", "1", "--output", "o.zarr", "--grid=0,1e300,0,1,1e-300"),
        ("prepare", "sumo", "1", "--output", "o.zarr", "--grid=nan,1,0,1,1"),
        ("inspect", "config", "--set", "seed=4294967296"),
        ("inspect", "config", "--set", "seed=-1"),
        ("inspect", "config", "--set", "loading.batch_size=1000000000"),
        ("inspect", "config", "--set", "loading.workers=1000000000"),
        ("inspect", "config", "--set", "model.slots=1000000000"),
        ("inspect", "config", "--set", "model.hidden_dim=320000000000"),
        ("inspect", "config", "--set", "curriculum.0.horizon=1000000000"),
        ("inspect", "config", "--set", "optimisation.weight_decay=.inf"),
    ],
)
def test_settings_have_bounds(arguments: tuple[str, ...], refused: Refused, store: Path) -> None:
    refused(*arguments, output="o.zarr")


def test_names_are_not_read_as_markup(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def rename(document: dict[str, Any]) -> None:
        names = ["[/]", "[red]a", "[b]"]
        document["attributes"] |= {"classes": names, "source": "[/bold] :smile:"}

    rewrite(store / "zarr.json", rename)
    monkeypatch.chdir(tmp_path)
    for arguments in (
        ("inspect", "store", "store.zarr"),
        (*ROLLOUT, "--model", "constant-turn"),
        ("evaluate", "o.zarr"),
        ("evaluate", "o.zarr", "--by", "class"),
        ("evaluate", "o.zarr", "--by-lead"),
    ):
        monkeypatch.setattr(sys, "argv", ["forecast", *arguments])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        shown = capsys.readouterr()
        assert exit_.value.code == 0, shown.err
        assert "[/]" in shown.out
        if arguments[0] == "inspect":
            assert "[/bold] :smile:" in shown.out


@pytest.mark.parametrize("output", [".", "..", "./"])
def test_the_working_folder_is_never_an_output(
    output: str, refused: Refused, store: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.json").write_text(json.dumps(scenario()))
    before = content(tmp_path)
    for more in ((), ("--overwrite",)):
        arguments = ("--model", "constant-turn", "--gif", "", "--output", output, *more)
        assert "--output" in refused("rollout", *arguments)
        assert "--output" in refused("prepare", "waymo-json", "a.json", "--output", output, *more)
    assert content(tmp_path) == before
    assert not (tmp_path.parent / f"{tmp_path.name}.partial").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("prepare", "waymo-json", "pipe", "--output", "o.zarr", "--workers", "1"),
        ("prepare", "tracks", "pipe", "--output", "o.zarr", "--workers", "1"),
        ("prepare", "tracks", "folder", "--output", "o.zarr", "--workers", "1"),
        ("prepare", "waymo-motion", "folder", "--output", "o.zarr", "--workers", "1"),
        ("prepare", "waymo-json", "@pipe", "--output", "o.zarr", "--workers", "1"),
        ("inspect", "store", "pipe"),
        ("inspect", "store", "folder"),
        ("inspect", "config", "pipe"),
        (*ROLLOUT, "--model", "pipe"),
        (*ROLLOUT, "--model", "m.safetensors"),
        ("rollout", "--model", "constant-turn", "--gif", "", "--output", "pipe"),
        ("train", "--config", "pipe", "--data", "store.zarr", "--output", "run"),
    ],
)
def test_a_pipe_is_not_waited_for(
    arguments: tuple[str, ...], refused: Refused, store: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    save_untrained(tmp_path / "m.safetensors", ("vehicle",), ())
    (tmp_path / "m.json").unlink()
    for place in ("pipe", "m.json", "folder/a.csv", "folder/zarr.json", "folder/a.tfrecord"):
        os.mkfifo(tmp_path / place)
    refused(*arguments, output="o.zarr")


def test_two_programs_do_not_write_one_output(
    refused: Refused, store: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.json").write_text(json.dumps(scenario()))
    (tmp_path / "run").mkdir()
    locks = [(tmp_path / name).open("w") for name in (".o.zarr.lock", "run/.last.ckpt.lock")]
    for lock in locks:  # as the first program does
        fcntl.flock(lock, fcntl.LOCK_EX)
    arguments = ("--output", "o.zarr", "--workers", "1")
    for more in ((), ("--overwrite",), ("--resume",)):
        alone = "alone in writing o.zarr"
        assert alone in refused("prepare", "waymo-json", "a.json", *arguments, *more)
        assert alone in refused(*ROLLOUT, "--model", "constant-turn", *more)
    (tmp_path / "c.yaml").write_text(
        "{model: {raster: none}, curriculum: [{epochs: 1, horizon: 1}]}"
    )
    assert "alone in writing" in refused(*TRAIN)
    for lock in locks:  # the first program dies
        lock.close()
    command = ("prepare", "waymo-json", "a.json", *arguments)
    subprocess.run([sys.executable, "-m", "forecast.cli.main", *command], cwd=tmp_path, check=True)
    assert sorted(path.name for path in tmp_path.glob("*o.zarr*")) == ["o.zarr"]


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_names_that_are_no_text_are_shown_and_stored(locale: str, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9.json"
    Path(os.fsdecode(name)).write_text(json.dumps(scenario()))
    (tmp_path / "store").mkdir()
    environment = os.environ | {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

    def run(*arguments: str | bytes) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "forecast.cli.main", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            check=False,
        )

    made = run("prepare", "waymo-json", name, "--output", b"\xe9.zarr", "--workers", "1")
    assert made.returncode == 0, made.stderr
    assert b" from 1 scene" in run("inspect", "store", b"\xe9.zarr").stdout
    rolled = (b"\xe9.zarr", "--model", "constant-turn", "--output", "f\u00e9.zarr", "--gif", "")
    done = run("rollout", "--data", *rolled)
    assert done.returncode == 0, done.stderr
    missing = run("inspect", "store", b"none\xe9.zarr")
    assert missing.returncode == cli.BAD_INPUT
    assert missing.stderr.count(b"\n") == 1


@pytest.mark.parametrize("text", ["", "[]", "{", '{"units": 3}', f"{'[' * DEEP}"])
def test_a_spoiled_unfinished_run_is_refused(
    text: str, refused: Refused, store: Path, tmp_path: Path
) -> None:
    partial = tmp_path / "o.zarr.partial"
    (partial / "records").mkdir(parents=True)
    (partial / "plan.json").write_text(text)
    (partial / "records" / "00000000.json").write_text("[]")
    line = refused(*ROLLOUT, "--model", "constant-turn", "--resume", output="o.zarr")
    assert "--overwrite" in line
