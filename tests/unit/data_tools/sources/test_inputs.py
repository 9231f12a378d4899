"""What all sources share: finding inputs and thinning frames out."""

import numpy as np
import pytest

from data_tools.sources import source
from data_tools.sources.inputs import decimate, find_files
from data_tools.sources.observations import frame_numbers
from forecast.errors import ConfigError, DataError

SUFFIXES = (".json", ".json.gz")


@pytest.fixture
def folder(tmp_path):
    for name in ("b.json", "a.json.gz", "deep/c.json", "note.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("{}")
    return tmp_path


def names(found, folder):
    return [path.removeprefix(f"{folder}/") for path in found]


def test_a_directory_gives_its_files_of_the_kind_at_any_depth_sorted(folder):
    assert names(find_files([str(folder)], SUFFIXES), folder) == [
        "a.json.gz",
        "b.json",
        "deep/c.json",
    ]


def test_globs_and_files_are_taken_as_named_in_their_order_and_once(folder):
    inputs = [f"{folder}/note.txt", f"{folder}/*.json", f"{folder}/b.json"]
    assert names(find_files(inputs, SUFFIXES), folder) == ["note.txt", "b.json"]


def test_a_list_gives_its_lines_without_comments(folder):
    listed = folder / "list.txt"
    listed.write_text(f"# mine\n{folder}/b.json\n\n  {folder}/deep  \n")
    assert names(find_files([f"@{listed}"], SUFFIXES), folder) == ["b.json", "deep/c.json"]


def test_urls_are_searched_and_come_back_as_urls(folder):
    found = find_files([f"file://{folder}", f"file://{folder}/b*"], SUFFIXES)
    assert found[1] == f"file://{folder}/b.json"
    assert len(found) == 3


@pytest.mark.parametrize(
    "wrong", ["none.json", "*.none", "@none.txt", "@latin.txt", "empty", "strange://host/a"]
)
def test_an_input_that_is_not_there_is_refused(folder, wrong):
    (folder / "empty").mkdir()
    (folder / "latin.txt").write_bytes(b"\xff\xfe")
    text = wrong if "://" in wrong else f"{folder}/{wrong}"
    text = f"@{folder}/{wrong[1:]}" if wrong.startswith("@") else text
    with pytest.raises(DataError):
        find_files([text], SUFFIXES)


def test_an_unknown_source_is_refused():
    with pytest.raises(ConfigError, match=r"waymo-json, .*sumo"):
        source("none of them")


@pytest.mark.parametrize(("step", "dt_s", "every"), [(0.1, 0.5, 5), (0.1, 0.1, 1), (0.04, 0.2, 5)])
def test_frames_are_thinned_out_to_the_step(step, dt_s, every):
    clock = np.arange(31) * step + np.random.default_rng(0).uniform(-1, 1, 31) * 0.01 * step
    assert decimate(clock, dt_s, "a") == slice(None, None, every)


@pytest.mark.parametrize("late", [0.061, 0.09, 0.139])
@pytest.mark.parametrize("place", [0, 17, 29])
def test_one_step_that_is_off_does_not_lose_a_recording(late, place):
    steps = np.full(30, 0.1)
    steps[place] = late
    assert decimate(np.append(0.0, steps.cumsum()), 0.5, "a") == slice(None, None, 5)


@pytest.mark.parametrize("late", [0.061, 0.09, 0.139])
def test_one_step_that_is_off_makes_no_gap_and_does_not_lose_a_recording_with_some(late):
    steps = np.full(30, 0.1)
    steps[[7, 19]] = 0.3, late  # the first is a gap of two frames
    number = frame_numbers(np.append(0.0, steps.cumsum()), 0.1, 0.01, "a")
    assert np.diff(number).tolist() == [1] * 7 + [3] + [1] * 22
    steps[[3, 4]] = late if late != 0.09 else 0.085
    with pytest.raises(DataError, match=r"frames 0.1 s apart.*from frame 4 to the next in a"):
        frame_numbers(np.append(0.0, steps.cumsum()), 0.1, 0.01, "a")


@pytest.mark.parametrize(
    ("time_s", "reason"),
    [
        ([0.0], "two frames"),
        ([0.0, 0.1, 0.3, 0.4], "regular"),
        ([0.0, 0.1, 0.2, 0.28, 0.36, 0.46, 0.56], "regular"),
        ([0.0, 0.1, 0.2, 0.24, 0.34], "regular"),
        ([0.0, 0.0, 0.0], "regular"),
        ([0.2, 0.1, 0.0], "regular"),
        ([0.0, np.nan, 0.2], "regular"),
        ([0.0, np.inf, np.inf], "regular"),
        ([-1e308, 1e308, -1e308, 1e308], "regular"),
        ([0.0, 0.3, 0.6], "divides"),
        ([0.0, 1.0, 2.0], "divides"),
    ],
)
def test_times_that_cannot_give_the_step_are_refused(time_s, reason):
    with pytest.raises(DataError, match=reason):
        decimate(np.array(time_s), 0.5, "a")
