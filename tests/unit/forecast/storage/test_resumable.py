"""The stage of a run: what is kept when it stops, what is refused, what takes the final name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from data_tools.part_files import ResumableOutput as SceneStage
from forecast.errors import DataError
from forecast.storage.resumable import ResumableOutput
from tests.support.stores import content

PLAN = {"horizon": 6, "model": {"name": "m"}}


def worked(path: Path | str, overwrite: bool | None = False) -> ResumableOutput:
    """A stage with a store, such as a run has before it publishes."""
    stage = ResumableOutput(str(path), overwrite)
    stage.begin(PLAN, resume=False)
    stage.system.makedirs(f"{stage.root}/store", exist_ok=True)
    stage.system.pipe_file(f"{stage.root}/store/zarr.json", b"new")
    stage.keep(0, {"seconds": 0.1})
    return stage


def resumed(path: Path, overwrite: bool | None = False) -> ResumableOutput:
    stage = ResumableOutput(str(path), overwrite)
    stage.begin(PLAN, resume=True)
    return stage


def test_what_is_recorded_is_not_missing_when_the_run_is_resumed(tmp_path: Path) -> None:
    worked(tmp_path / "o.zarr")
    stage = resumed(tmp_path / "o.zarr")
    assert stage.missing(3) == [1, 2]
    assert stage.record(0) == {"seconds": 0.1}


def test_an_unfinished_run_is_not_begun_anew_unasked(tmp_path: Path) -> None:
    worked(tmp_path / "o.zarr")
    before = content(tmp_path)
    line = r"expected no unfinished run at .*o\.zarr; got .*; add --resume .* or --overwrite"
    with pytest.raises(DataError, match=line):
        ResumableOutput(str(tmp_path / "o.zarr")).begin(PLAN, resume=False)
    assert content(tmp_path) == before


def test_a_run_that_was_killed_before_its_first_record_stops_nobody(tmp_path: Path) -> None:
    ResumableOutput(str(tmp_path / "o.zarr")).begin(PLAN, resume=False)
    ResumableOutput(str(tmp_path / "o.zarr")).begin({"horizon": 7}, resume=False)


def test_with_overwrite_nothing_is_left_of_an_earlier_run(tmp_path: Path) -> None:
    worked(tmp_path / "o.zarr")
    stage = ResumableOutput(str(tmp_path / "o.zarr"), overwrite=True)
    stage.begin(PLAN, resume=False)
    assert stage.missing(2) == [0, 1]
    assert not stage.system.exists(f"{stage.root}/store")


def test_another_plan_is_refused_and_what_differs_is_named(tmp_path: Path) -> None:
    stage = worked(tmp_path / "o.zarr")
    with pytest.raises(DataError, match=r"others \(horizon, limit\) than in .*plan.json"):
        stage.begin({**PLAN, "horizon": 7, "limit": 2}, resume=True)


def test_a_refused_resumption_leaves_the_interrupted_run_as_it_was(tmp_path: Path) -> None:
    worked(tmp_path / "o.zarr")
    before = content(tmp_path)
    other = ResumableOutput(str(tmp_path / "o.zarr"))
    with pytest.raises(DataError, match="horizon"), other.begun({"horizon": 7}, resume=True):
        pass
    assert content(tmp_path) == before


def test_a_refused_start_leaves_the_work_of_another_run_as_it_was(tmp_path: Path) -> None:
    worked(tmp_path / "o.zarr")
    (tmp_path / "o.zarr").write_text("of a third")
    before = content(tmp_path)
    other = ResumableOutput(str(tmp_path / "o.zarr"), overwrite=False)
    with pytest.raises(DataError, match="which exists"), other.begun(PLAN, resume=False):
        pass
    assert content(tmp_path) == before


@pytest.mark.parametrize("kind", [ResumableOutput, SceneStage])
def test_a_start_that_fails_leaves_nothing(
    kind: type[ResumableOutput], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        kind(str(tmp_path / "o.zarr")).begin(PLAN, resume=False)
    assert not list(tmp_path.iterdir())


def interrupt(stage: ResumableOutput, work: Callable[[], object]) -> None:
    """Begins, works and is interrupted."""

    def run() -> None:
        with stage.begun(PLAN, resume=False):
            work()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()


def test_a_run_that_fails_before_its_first_record_leaves_nothing(tmp_path: Path) -> None:
    stage = ResumableOutput(str(tmp_path / "o.zarr"))
    unfinished = Path(stage.root) / "records" / "00000000.json.1a2b.tmp"
    interrupt(stage, lambda: unfinished.write_text("half a rec"))
    assert not list(tmp_path.iterdir())


def test_what_is_gone_may_be_discarded_again(tmp_path: Path) -> None:
    stage = worked(tmp_path / "o.zarr")
    stage.discard()
    stage.discard()
    assert not list(tmp_path.iterdir())


def test_a_run_that_fails_after_it_can_be_resumed(tmp_path: Path) -> None:
    stage = ResumableOutput(str(tmp_path / "o.zarr"))
    interrupt(stage, lambda: stage.keep(1, {}))
    assert resumed(tmp_path / "o.zarr").missing(2) == [0]


@pytest.mark.parametrize(
    ("overwrite", "remedy"), [(None, "another name or remove it"), (False, "--overwrite")]
)
def test_an_output_that_exists_is_refused(
    tmp_path: Path, overwrite: bool | None, remedy: str
) -> None:
    (tmp_path / "o.zarr").mkdir()
    natural = f"expected a new output; got .*o.zarr, which exists; .*{remedy}"
    with pytest.raises(DataError, match=natural):
        ResumableOutput(str(tmp_path / "o.zarr"), overwrite).begin(PLAN, resume=False)
    assert [path.name for path in tmp_path.iterdir()] == ["o.zarr"]


def test_an_output_that_appeared_meanwhile_is_refused(tmp_path: Path) -> None:
    stage = worked(tmp_path / "o.zarr")
    (tmp_path / "o.zarr").mkdir()
    with pytest.raises(DataError, match="--overwrite"):
        stage.publish()
    with pytest.raises(DataError, match="--overwrite"):
        resumed(tmp_path / "o.zarr")


def test_what_is_overwritten_stays_until_its_successor_is_complete(tmp_path: Path) -> None:
    output = tmp_path / "o.zarr"
    output.mkdir()
    (output / "zarr.json").write_text("old")
    worked(output, overwrite=True)
    stage = resumed(output, overwrite=True)
    assert content(output) == {"zarr.json": b"old"}
    assert not stage.published  # though there is something of that name
    stage.publish()
    assert content(output) == {"zarr.json": b"new"}
    stage.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["o.zarr"]


def test_a_run_killed_while_tidying_up_is_published(tmp_path: Path) -> None:
    worked(tmp_path / "o.zarr").publish()
    stage = resumed(tmp_path / "o.zarr")
    assert stage.published
    assert stage.missing(1) == []


def without_a_store(path: Path) -> ResumableOutput:
    """A stage such as `prepare` has before it assembles a store of its parts."""
    stage = ResumableOutput(str(path))
    stage.begin(PLAN, resume=False)
    stage.keep(0, {})
    return stage


@pytest.mark.parametrize("started", [worked, without_a_store])
def test_a_store_of_others_is_not_taken_for_our_own(
    started: Callable[[Path], ResumableOutput], tmp_path: Path
) -> None:
    started(tmp_path / "o.zarr")
    (tmp_path / "o.zarr").mkdir()
    (tmp_path / "o.zarr" / "zarr.json").write_text("of others")
    before = content(tmp_path)
    with pytest.raises(DataError, match="which exists"):
        resumed(tmp_path / "o.zarr")
    assert content(tmp_path) == before


def test_an_attempt_to_publish_that_failed_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    stage = worked(tmp_path / "o.zarr")
    monkeypatch.setattr("forecast.storage.resumable.publish", killed)
    with pytest.raises(KeyboardInterrupt):
        stage.publish()
    stage = resumed(tmp_path / "o.zarr")
    stage.system.rm(f"{stage.root}/store", recursive=True)  # as `prepare` does to assemble anew
    (tmp_path / "o.zarr").write_text("of others")
    assert not stage.published


def test_chunks_that_were_being_written_are_swept_away(tmp_path: Path) -> None:
    stage = worked(tmp_path / "o.zarr")
    unfinished = Path(stage.root) / "store" / "instance" / "c.0.0.0.1a2b.partial"
    unfinished.parent.mkdir()
    unfinished.write_text("half a chu")
    resumed(tmp_path / "o.zarr")
    assert not unfinished.exists()


def test_object_stores_are_published_too() -> None:
    stage = worked("memory://bucket/staged/o.zarr")
    stage.publish()
    assert stage.published
    stage.discard()
    assert stage.system.find("/bucket/staged") == ["/bucket/staged/o.zarr/zarr.json"]


def test_what_a_killed_worker_left_unfinished_is_not_published(tmp_path: Path) -> None:
    stage = worked(tmp_path / "o.zarr")
    (Path(stage.root) / "store/c.0.0.0.1a2b.partial").write_bytes(b"half a chu")
    stage.publish()
    assert content(tmp_path / "o.zarr") == {"zarr.json": b"new"}


def test_a_complete_output_is_not_overwritten_where_nothing_can_be_resumed(tmp_path: Path) -> None:
    output = tmp_path / "o.zarr"
    output.mkdir()
    with pytest.raises(DataError, match=r"none beside .*, which is complete; leave out"):
        ResumableOutput(str(output), overwrite=True).begin(PLAN, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["o.zarr"]
