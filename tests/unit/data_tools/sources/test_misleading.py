"""Files that are nearly right: the message says what is wrong with them, and what puts it right."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_tools.formats.documents import read_json
from data_tools.formats.tfrecord import masked_crc, read_record
from data_tools.sources.inputs import find_files
from data_tools.sources.tracks_files import load
from data_tools.sources.waymo_motion import WaymoMotion
from forecast.errors import DataError

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n"
HEADER = "scene,track_id,class,time_s,x_m,y_m"


def record(content: bytes) -> bytes:
    """A TFRecord of one record."""
    head = len(content).to_bytes(8, "little")
    sums = [masked_crc(part).to_bytes(4, "little") for part in (head, content)]
    return head + sums[0] + content + sums[1]


def test_rows_that_end_in_a_comma_are_told_so(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"{HEADER}\ns,a,car,0,1,2,\ns,a,car,0.1,1,2,\n")
    with pytest.raises(DataError, match=r"rows of 6 fields, .*t\.csv has; got 7 in the first row"):
        load(str(path))
    path.write_text(f"{HEADER}\ns,a,car,0,1,2\n")
    assert load(str(path)).shape == (1, 6)


def test_a_byte_order_mark_is_no_part_of_a_list(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(HEADER)
    (tmp_path / "list.txt").write_text(f"\ufeff{tmp_path}/a.csv\n", encoding="utf-8")
    assert find_files([f"@{tmp_path}/list.txt"], (".csv",)) == [f"{tmp_path}/a.csv"]


def test_a_git_lfs_pointer_is_told_from_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "pointer"
    path.write_bytes(POINTER)
    for read in (read_json, lambda name: read_record(name, 0)):
        with pytest.raises(DataError, match=r"a Git LFS pointer to it, .*; git lfs pull"):
            read(str(path))


def test_a_tf_example_is_told_from_a_scenario(tmp_path: Path) -> None:
    path = tmp_path / "e.tfrecord"
    path.write_bytes(record(b"\xff" * 9 + b"roadgraph_samples/xyz"))
    with pytest.raises(DataError, match=r"e\.tfrecord#0, a tf\.Example; take .* scenario/"):
        WaymoMotion().read(f"{path}#0", 0.5)
