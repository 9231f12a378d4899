"""Bags of ROS 2: what they say of sizes is not believed."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import zstandard
from mcap.data_stream import RecordBuilder
from mcap.records import Chunk
from mcap.writer import Writer

from data_tools.formats import ros_bag
from data_tools.sources.mcap import Mcap
from forecast.errors import DataError
from tests.support import mcap_bags as bags


@pytest.mark.parametrize("size", [10**5, ros_bag.MOST_BYTES + 1])
def test_a_chunk_is_not_unpacked_beyond_its_bounds(size: int, tmp_path: Path) -> None:
    bomb = zstandard.compress(bytes(10**6))
    output, builder = io.BytesIO(), RecordBuilder()
    Writer(output).start()
    Chunk("zstd", bomb, 0, 0, 0, size).write(builder)
    (tmp_path / "a.mcap").write_bytes(output.getvalue() + builder.end())
    with pytest.raises(DataError, match=r"a chunk of \d+ bytes"):
        list(ros_bag.messages(str(tmp_path / "a.mcap"), {}))


def test_no_room_is_made_for_a_text_that_says_it_has_gigabytes(tmp_path: Path) -> None:
    path = bags.write_bag(tmp_path / "a.mcap", bags.drive())
    whole = Path(path).read_bytes()
    place = len(b"\x89MCAP0\r\n") + 9  # of the length of the header's profile
    Path(path).write_bytes(whole[:place] + (3 * 2**30).to_bytes(4, "little") + whole[place + 4 :])
    with pytest.raises(DataError, match=r"a\.mcap, damaged \(a text of 3221225472 bytes\)"):
        Mcap().read(path, 0.5)
