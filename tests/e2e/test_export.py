"""An export as its users have it: graphs that say what the model says, in Python and in C++."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement

from forecast.checkpoint.checkpoint import load_checkpoint, save_checkpoint
from forecast.checkpoint.packaged import packaged
from forecast.data.reader import SequenceReader
from forecast.export import host
from forecast.export.parity import differences_of, observe_arguments, observe_history
from forecast.loop import observed, rollout
from forecast.observations import observations
from tests.support.commands import forecast, run
from tests.support.moments import drawn, seen_from
from tests.support.sequences import forecaster

pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
pytestmark = pytest.mark.slow
SLOTS = 24
# Compiled graphs need a C++ compiler; the others do not.
FORMATS = ("onnx", "pt2", "aoti") if shutil.which(os.environ.get("CXX", "g++")) else ("onnx", "pt2")
EXAMPLES = Path(__file__).parents[2] / "examples"
REFUSING = Path(__file__).parent / "refusing.cpp"
PYTHON = EXAMPLES / "onnx_python" / "forecast_history.py"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model that reads rasters, exported by the command."""
    folder = tmp_path_factory.mktemp("export")
    save_checkpoint(forecaster(), folder / "model.safetensors", 0.5, {})
    run(
        forecast(
            *("export", folder / "model.safetensors", "--output", folder / "out"),
            *("--format", ",".join(FORMATS), "--agents", SLOTS, "--histories", 2, "--horizon", 3),
        )
    )
    return folder / "out"


def own_lines(folder: Path) -> list[list[float]]:
    """What the forecaster itself says of the exported history: lead, id, pose, existence."""
    model = load_checkpoint(folder.parent / "model.safetensors").model
    reader = SequenceReader(packaged("sample.zarr"))
    lines = []
    with torch.inference_mode():
        for step in rollout(model, reader[0].crop(0, reader.meta.history), 6):
            for one, pose, there in zip(step.ids[0], step.pose[0], step.existence[0], strict=True):
                lines.append([step.lead, int(one), *pose.tolist(), float(there)])
    return sorted(lines)


def printed(output: str) -> list[list[float]]:
    return sorted([float(word) for word in line.split()] for line in output.splitlines())


def test_graphs_say_what_the_model_says(exported: Path) -> None:
    report = json.loads((exported / "parity.json").read_text())

    assert report["histories"] == 2
    for kind in FORMATS:
        assert max(report[kind][str(SLOTS)].values()) <= 1e-3
        assert set(report[kind][str(SLOTS)]) > {"pose_m", "existence", "occupancy"}
    assert not list(exported.parent.glob(".out*"))


def test_metadata_tell_every_tensor(exported: Path) -> None:
    about = json.loads((exported / "metadata.json").read_text())
    import onnxruntime

    assert about["classes"] == ["vehicle", "pedestrian", "cyclist"]
    assert about["grid"]["resolution_m"] == 0.5
    (bucket,) = about["buckets"]
    for graph in bucket["graphs"].values():
        session = onnxruntime.InferenceSession(exported / graph["files"]["onnx"]["path"])
        shapes = {one.name: one.shape for one in session.get_inputs()}
        told = {name: bucket["state"][name]["shape"] for name in graph["state"]}
        told |= {name: one["shape"] for name, one in graph["inputs"].items()}
        assert shapes == told


def test_an_ego_that_carries_the_frame_along(exported: Path) -> None:
    model = load_checkpoint(exported.parent / "model.safetensors").model
    model.use(replace(model.spec, slots=SLOTS))
    reader = SequenceReader(packaged("sample.zarr"))
    model.least_cell = reader.meta.small_drawn
    history = reader[0].crop(0, reader.meta.history)
    graphs = host.load(exported, SLOTS, threads=1)
    moved = torch.tensor([[0.2, 0.1, 0.05]])  # parts of a cell
    observe_history(graphs, history)
    with torch.inference_mode():
        state = observed(model, history)
        frame = list(observations(history))[-1]
        for _ in range(4):
            frame = replace(seen_from(frame, moved), time_s=frame.time_s + 0.1)
            frame = drawn(frame, reader.meta.grid)
            graphs.observe(**observe_arguments(frame))
            state = model.observe(state, frame)

        np.testing.assert_allclose(graphs.state["map_frame"][0, 2], 0.2, atol=1e-5)
        for said in graphs.forecast(3, 0.5, draw=True):
            state, own = model.step(state, 0.5)
            assert max(differences_of(own, said).values()) < 1e-3


def installed(folder: Path, *names: str) -> Path:
    """A folder of packages like one that pip fills: these and what they need, nothing else."""
    waiting, done = list(names), set[str]()
    while waiting:
        name = waiting.pop()
        if name in done:
            continue
        done.add(name)
        found = distribution(name)
        for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            if not (folder / top).exists():
                (folder / top).symlink_to(found.locate_file(top))
        needed = map(Requirement, found.requires or ())
        waiting += [
            one.name for one in needed if not one.marker or one.marker.evaluate({"extra": ""})
        ]
    return folder


def test_the_python_example_needs_numpy_and_onnx_runtime_alone(
    exported: Path, tmp_path: Path
) -> None:
    code = (
        "import runpy, sys\n"
        "from importlib.util import find_spec\n"
        f"sys.path.append({str(installed(tmp_path, 'numpy', 'onnxruntime'))!r})\n"
        "for name in ('torch', 'forecast', 'data_tools', 'zarr', 'xarray', 'safetensors'):\n"
        "    assert find_spec(name) is None, name\n"
        f"sys.argv = ['example', {str(exported)!r}]\n"
        f"runpy.run_path({str(PYTHON)!r})\n"
    )

    done = said([sys.executable, "-I", "-S", "-c", code])

    assert not done.returncode, done.stderr
    np.testing.assert_allclose(printed(done.stdout), own_lines(exported), atol=1e-3)


def said(command: list[object]) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C++ example."""
    return built(EXAMPLES / "onnx_cpp", tmp_path_factory.mktemp("build"))


def test_the_cpp_example_prints_the_same(exported: Path, program: Path) -> None:
    done = said([program, exported, SLOTS])

    assert not done.returncode, done.stderr
    np.testing.assert_allclose(printed(done.stdout), own_lines(exported), atol=1e-3)


def built(source: Path, folder: Path) -> Path:
    """A C++ program; skips where there is no compiler or no ONNX Runtime to build it with."""
    if not (shutil.which("cmake") and shutil.which("c++")):
        pytest.skip("no CMake or no C++ compiler")
    configure = ["cmake", "-S", source, "-B", folder]
    if include := os.environ.get("ONNXRUNTIME_INCLUDE_DIR"):
        configure.append(f"-DONNXRUNTIME_INCLUDE_DIR={include}")
    import onnxruntime

    wheel = Path(onnxruntime.__file__).parent / "capi"
    if libraries := sorted(wheel.glob("libonnxruntime.so*")):
        library = folder / "libonnxruntime.so.1"  # the name by which programs ask for it
        library.symlink_to(libraries[0])
        configure.append(f"-DONNXRUNTIME_LIBRARY={library}")
    done = subprocess.run(configure, capture_output=True, text=True, check=False)
    if "ONNXRUNTIME_" in done.stderr:
        pytest.skip("no headers of ONNX Runtime: set ONNXRUNTIME_INCLUDE_DIR")
    assert done.returncode == 0, done.stderr
    subprocess.run(["cmake", "--build", folder], check=True, capture_output=True)
    return folder / "forecast_history"


def copied(name: str, over: str) -> Callable[[Path], object]:
    return lambda folder: shutil.copy(
        folder / f"{name}_{SLOTS}.onnx", folder / f"{over}_{SLOTS}.onnx"
    )


def edited(name: str, pattern: str, put: str) -> Callable[[Path], object]:
    """Changes the first place of a file at which a pattern is found."""

    def edit(folder: Path) -> None:
        text, count = re.subn(pattern, put, (folder / name).read_text(), count=1)
        assert count
        (folder / name).write_text(text)

    return edit


def box(pattern: str, put: str) -> Callable[[Path], object]:
    """Changes the first box of the first moment: id, label, x, y, yaw, length, width."""
    return edited(host.HISTORY, rf"(moment .*\n){pattern}", rf"\g<1>{put}")


def with_another_weight(folder: Path) -> None:
    path = folder / f"step_{SLOTS}.onnx"
    graph = bytearray(path.read_bytes())
    graph[len(graph) // 2] ^= 1
    path.write_bytes(graph)


def gone(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "observe as observe_raster": (copied("observe", "observe_raster"), "as observe_raster_24.onnx"),
    "draw as step": (copied("draw", "step"), "exported as step_24.onnx"),
    "a weight": (with_another_weight, "exported as step_24.onnx"),
    "no observe_raster": (gone(f"observe_raster_{SLOTS}.onnx"), "observe_raster_24.onnx"),
    "metadata": (edited("metadata.json", r"\[\n +0\.\d+", "[\n0.01"), "metadata.json"),
    "no metadata": (gone("metadata.json"), "with metadata.json"),
    "no history": (gone(host.HISTORY), "the history that was exported"),
    "cut history": (edited(host.HISTORY, r"moment (.*\n)+", "moment 0"), "the history that was"),
    "rows": (edited(host.HISTORY, r"\n[01]{9}", "\n"), "the history that was exported"),
    "map": (edited(host.HISTORY, r"map \d+", "map 3"), "the history that was exported"),
    "dt": (edited(host.HISTORY, r"dt_s \S+", "dt_s 5"), "dt_s of 0.5 to 0.5 s.*got 5"),
    "label": (box(r"(\d+) \d+", r"\2 0"), "labels of whole numbers from 1 to 3; got 0"),
    "class": (box(r"(\d+) \d+", r"\2 4"), "labels of whole numbers from 1 to 3; got 4"),
    "id": (box(r"\d+", "0"), "ids of whole numbers from 1 to .*; got 0"),
    "id twice": (box(r"\d+(.*\n)(\d+)", r"\3\2\3"), "every id once in a moment"),
    "length": (box(r"((\S+ ){5})\S+", r"\2-4"), "lengths and widths above 0.*got -4"),
    "far": (box(r"(\S+ \S+) \S+", r"\2 4650000"), r"boxes of finite numbers.*got 4650000"),
    "late": (edited(host.HISTORY, r"(moment -\S+)", "moment 1"), "in the order of time"),
}


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    """A copy of the export, to be damaged."""
    shutil.copytree(exported, tmp_path / "copy", ignore=shutil.ignore_patterns("*.pt2"))
    return tmp_path / "copy"


def refusal(command: list[object], code: int) -> str:
    """The one line by which a program refuses."""
    done = said(command)
    assert done.returncode == code, done.stdout + done.stderr
    assert not done.stdout
    assert done.stderr.startswith("error: expected ")
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize("damage", DAMAGE)
def test_python_refuses_what_was_not_exported(folder: Path, damage: str) -> None:
    change, expected = DAMAGE[damage]
    change(folder)

    assert re.search(expected, refusal([sys.executable, PYTHON, folder], 1))


@pytest.mark.parametrize("damage", DAMAGE)
def test_cpp_refuses_what_was_not_exported(program: Path, folder: Path, damage: str) -> None:
    change, expected = DAMAGE[damage]
    change(folder)

    assert re.search(expected, refusal([program, folder, SLOTS], 2))


@pytest.mark.parametrize("slots", ["abc", "7", "", "-1", "24x", "9" * 30])
def test_cpp_refuses_other_slots(program: Path, exported: Path, slots: str) -> None:
    assert "slots" in refusal([program, exported, slots], 2)


def test_checksums_are_those_of_all_files(exported: Path) -> None:
    lines = [line.split("  ") for line in (exported / "checksums.txt").read_text().splitlines()]

    for checksum, name in lines:
        assert hashlib.sha256((exported / name).read_bytes()).hexdigest() == checksum
    graphs = {path.name for kind in ("*.onnx", "*.pt2") for path in exported.glob(kind)}
    assert {name for _, name in lines} == graphs | {"metadata.json"}


def of_another_export(folder: Path) -> None:
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(folder / f"step_{SLOTS}.onnx")
    (told,) = [one for one in graph.metadata_props if one.key == "bev_forecast"]
    told.value = "of another grid"
    onnx.save(graph, folder / f"step_{SLOTS}.onnx")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (copied("draw", "step"), f"the graph step_{SLOTS}; got draw_{SLOTS}"),
        (of_another_export, f"graphs of one export; got step_{SLOTS} of another"),
    ],
    ids=["name", "export"],
)
def test_graphs_tell_themselves_whose_they_are(
    program: Path, folder: Path, change: Callable[[Path], object], expected: str
) -> None:
    change(folder)
    names = [line.split("  ")[1] for line in (folder / "checksums.txt").read_text().splitlines()]
    lines = [
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n"
        for name in names
        if (folder / name).exists()
    ]
    (folder / "checksums.txt").write_text("".join(lines))

    assert expected in refusal([program, folder, SLOTS], 2)


def test_what_cpp_refuses_leaves_the_state_as_it_was(
    program: Path, exported: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(EXAMPLES / "onnx_cpp", source)
    shutil.copy(REFUSING, source / "main.cpp")

    done = said([built(source, tmp_path), exported])

    assert done.stdout == "7 0 1\n", done.stderr  # 8 is off the grid
