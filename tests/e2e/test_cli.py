"""The command line as a user meets it: quick help, one-line errors, exit codes."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from forecast import __version__
from forecast.cli import main as cli

HEAVY = ("torch", "xarray", "zarr", "dask", "matplotlib", "pandas", "mmcv", "cv2")
COMMANDS = ("prepare", "train", "rollout", "evaluate", "inspect", "doctor")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own, as the shell would start it."""
    command = [sys.executable, "-m", "forecast.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_help_names_every_command() -> None:
    shown = CliRunner().invoke(cli.app, ["--help"]).output
    assert all(command in shown for command in COMMANDS)


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_help_loads_nothing_heavy(command: tuple[str, ...]) -> None:
    script = (
        "import sys; from forecast.cli import main as cli\n"
        "sys.argv = ['forecast', *sys.argv[1:], '--help']\n"
        "try: cli.main()\n"
        f"finally: print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *command], capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"


def test_help_answers_at_once() -> None:
    """Half a second on an idle machine; the bound leaves room for a busy one."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        run("train", "--help")
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1.0


def test_version_is_the_package_version() -> None:
    assert run("--version").stdout.strip() == __version__


@pytest.mark.parametrize(
    "arguments",
    [
        ("rollout", "--horizon", "0"),
        ("rollout", "--limit", "0"),
        ("rollout", "--batch-size", "0"),
        ("prepare", "tracks", "x.csv", "--output", "o.zarr", "--horizon", "0"),
        ("prepare", "tracks", "x.csv", "--output", "o.zarr", "--history", "0"),
        ("prepare", "tracks", "x.csv", "--output", "o.zarr", "--stride", "0"),
        ("prepare", "tracks", "x.csv", "--output", "o.zarr", "--workers", "0"),
        ("prepare", "tracks", "x.csv", "--output", "o.zarr", "--dt", "0"),
    ],
)
def test_a_count_below_one_is_refused_in_one_line(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.returncode == cli.BAD_INPUT
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: expected ")


def test_unexpected_errors_say_how_to_see_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 1
    shown = capsys.readouterr().err
    assert "unexpected RuntimeError: first line" in shown
    assert "--debug" in shown
    assert "second line" not in shown


def test_an_object_store_that_does_not_answer_is_no_fault_of_the_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class NoCredentialsError(Exception):
        __module__ = "botocore.exceptions"

    def unanswered() -> None:
        raise NoCredentialsError("Unable to locate credentials")

    monkeypatch.setattr(cli, "app", unanswered)
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == cli.BAD_INPUT
    shown = capsys.readouterr().err
    assert shown.startswith("error: expected an object store that answers; got: Unable to locate")


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("why")

    monkeypatch.setattr(cli, "app", broken)
    monkeypatch.setenv("FORECAST_DEBUG", "1")
    with pytest.raises(RuntimeError, match="why"):
        cli.main()


def test_an_interrupted_command_without_resume_does_not_name_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("forecast.doctor.installation.examine", interrupted)
    done = CliRunner().invoke(cli.app, ["doctor"])
    assert (done.exit_code, done.stderr) == (130, "interrupted\n")


def test_doctor_names_versions_and_devices() -> None:
    done = run("doctor")
    assert done.returncode == 0
    assert "torch " in done.stdout
    assert "cpu" in done.stdout
