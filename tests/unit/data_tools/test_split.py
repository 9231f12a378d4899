"""The split by place: no place on both sides, and none that changes sides."""

import sys

import pytest

from data_tools import split
from forecast.errors import DataError

GROUPS = [str(number // 2) for number in range(100)]  # two scenarios a place


def write_index(folder, groups):
    lines = ["name,scenario_id,location_group"]
    for number, group in enumerate(groups):
        name = f"scene_{number}"
        lines.append(f"{name},x,{group}")
        (folder / f"{name}{'.json' if number % 3 else '.json.gz'}").touch()
    index = folder / "index.csv"
    index.write_text("\n".join(lines) + "\n")
    return index


def places(paths):
    return {int(path.rsplit("_")[-1].split(".")[0]) // 2 for path in paths}


def test_no_place_is_on_both_sides_and_every_file_on_one(tmp_path):
    train, validation = split.split(write_index(tmp_path, GROUPS), 0.4)
    assert len(train) + len(validation) == 100
    assert not places(train) & places(validation)
    assert 25 <= len(validation) <= 55


def test_more_recordings_move_none_across(tmp_path):
    before, _ = split.split(write_index(tmp_path, GROUPS[:60]), 0.4)
    after, _ = split.split(write_index(tmp_path, GROUPS), 0.4)
    assert set(before) <= set(after)


@pytest.mark.parametrize(("fraction", "share"), [(0.0, 0), (1.0, 100)])
def test_all_of_them_can_be_on_one_side(tmp_path, fraction, share):
    assert len(split.split(write_index(tmp_path, GROUPS), fraction)[1]) == share


def test_the_command_writes_both_lists(tmp_path, monkeypatch, capsys):
    index = write_index(tmp_path, GROUPS)
    out = tmp_path / "lists"
    monkeypatch.setattr(sys, "argv", ["split", str(index), "--out-dir", str(out)])
    split.main()
    train, validation = split.split(index, 0.4)
    assert (out / "train.txt").read_text().splitlines() == train
    assert (out / "val.txt").read_text().splitlines() == validation
    assert f"{len(train)} scenarios" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text", [None, "a,b\n1,2\n", "name,location_group\nnone,1\n", "name,location_group\nscene_0\n"]
)
def test_an_index_that_cannot_be_used_is_refused(tmp_path, text):
    index = tmp_path / "index.csv"
    if text is not None:
        index.write_text(text)
    with pytest.raises(DataError):
        split.split(index, 0.4)
