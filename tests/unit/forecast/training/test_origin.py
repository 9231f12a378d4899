"""A checkpoint says which command of which commit made it."""

import subprocess
import sys
from pathlib import Path

import pytest

from forecast.training.origin import command, commit


@pytest.mark.parametrize("program", ["/env/bin/forecast", "/site-packages/forecast/__main__.py"])
def test_the_command_can_be_typed_again(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [program, "train", "--data", "my store.zarr"])
    assert command() == "forecast train --data 'my store.zarr'"


@pytest.mark.parametrize("program", ["notebook.py", "/site-packages/pytest/__main__.py"])
def test_python_that_trains_is_no_command(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [program, "--secret"])
    assert command() is None


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(
        ["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_a_checkout_tells_its_commit_and_whether_it_was_changed(tmp_path: Path) -> None:
    git(tmp_path, "init")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-m", "first")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert commit(tmp_path) == head
    (tmp_path / "a").write_text("2")
    assert commit(tmp_path) == f"{head}+"


def test_an_environment_inside_another_checkout_has_none(tmp_path: Path) -> None:
    git(tmp_path, "init")
    inside = tmp_path / "venv"
    inside.mkdir()
    assert commit(inside) is None


def test_a_folder_that_is_no_checkout_has_none(tmp_path: Path) -> None:
    assert commit(tmp_path) is None
    assert commit(tmp_path / "missing") is None
