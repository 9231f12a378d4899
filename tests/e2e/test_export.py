"""An export as its users have it: graphs that say what the model says, in Python and in C++."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from forecast.checkpoint.checkpoint import load_checkpoint, save_checkpoint
from forecast.checkpoint.packaged import packaged
from forecast.data.reader import SequenceReader
from forecast.export.host import read_history
from forecast.loop import rollout
from tests.support.commands import forecast, run
from tests.support.sequences import forecaster

pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
pytestmark = pytest.mark.slow
SLOTS = 24
# Compiled graphs need a C++ compiler; the others do not.
FORMATS = ("onnx", "pt2", "aoti") if shutil.which(os.environ.get("CXX", "g++")) else ("onnx", "pt2")
EXAMPLES = Path(__file__).parents[2] / "examples"


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


def test_the_python_example_needs_no_torch(exported: Path) -> None:
    script = EXAMPLES / "onnx_python" / "forecast_history.py"
    code = (
        "import runpy, sys\n"
        "for name in ('torch', 'forecast', 'zarr'): sys.modules[name] = None\n"
        f"sys.argv = ['example', {str(exported)!r}]\n"
        f"runpy.run_path({str(script)!r})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=exported
    )

    np.testing.assert_allclose(printed(done.stdout), own_lines(exported), atol=1e-3)


def test_the_cpp_example_prints_the_same(exported: Path, tmp_path: Path) -> None:
    program = built(tmp_path)

    done = subprocess.run(
        [program, exported, str(SLOTS)], check=True, capture_output=True, text=True
    )

    np.testing.assert_allclose(printed(done.stdout), own_lines(exported), atol=1e-3)


def built(folder: Path) -> Path:
    """The C++ program; skips where there is no compiler or no ONNX Runtime to build it with."""
    if not (shutil.which("cmake") and shutil.which("c++")):
        pytest.skip("no CMake or no C++ compiler")
    configure = ["cmake", "-S", EXAMPLES / "onnx_cpp", "-B", folder]
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


def test_a_graph_that_was_exchanged_is_one_line(exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(exported, folder)
    (folder / f"step_{SLOTS}.onnx").write_bytes((folder / f"draw_{SLOTS}.onnx").read_bytes())
    script = EXAMPLES / "onnx_python" / "forecast_history.py"

    done = subprocess.run(
        [sys.executable, script, folder], capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    assert done.stderr.startswith("error: expected the graph that was exported as step_")
    assert done.stderr.count("\n") == 1
    assert len(read_history(folder)["moments"]) > 3
