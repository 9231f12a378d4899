"""XML from unknown sources: what is read, and what is refused before it costs anything."""

import gzip
import time

import pytest

from data_tools.formats import xml
from data_tools.formats.xml import read_xml
from forecast.errors import DataError

ROAD = b'<map version="2"><lane id="1"><x>0.5</x><y/></lane>\n<lane id="2"/></map>'
ENTITIES = b"".join(
    b'<!ENTITY l%d "%s">' % (i, b"&l%d;" % (i - 1) * 10 if i else b"lol") for i in range(12)
)
BOMB = b"<!DOCTYPE map [%s]><map>&l11;</map>" % ENTITIES


def written(tmp_path, content):
    path = tmp_path / "a.xml"
    path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    "head", [b"", b"\xef\xbb\xbf", b'<?xml version="1.0" encoding="latin-1"?>']
)
def test_the_root_comes_first_and_then_its_children_whole(tmp_path, pack, head):
    parts = read_xml(written(tmp_path, pack(head + ROAD)), "map")
    root = next(parts)
    assert (root.tag, root.attrib) == ("map", {"version": "2"})
    lane = next(parts)
    assert (lane.get("id"), lane.findtext("x"), len(lane)) == ("1", "0.5", 2)
    assert [lane.get("id") for lane in parts] == ["2"]


def test_pieces_may_end_anywhere(tmp_path, monkeypatch):
    monkeypatch.setattr(xml, "PIECE_BYTES", 40)
    assert [part.get("id") for part in read_xml(written(tmp_path, ROAD), "map")][1:] == ["1", "2"]


def test_children_read_are_not_kept(tmp_path):
    parts = read_xml(written(tmp_path, b"<map>%s</map>" % (b"<lane/>" * 100)), "map")
    root = next(parts)
    assert len(list(parts)) == 100
    assert len(root) == 0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no element"),
        (ROAD[:-3], "unclosed token|no element"),
        (ROAD[:30], "no element"),
        (gzip.compress(ROAD)[:-9], "ended"),
        (b"\x1f\x8b\x08 not packed", "a.xml"),
        (b"{}", "not well-formed"),
        (b"<map>\xff</map>", "not well-formed"),
        (b"<map></lane>", "mismatched"),
        (b"<map>&nowhere;</map>", "undefined entity"),
        (b"<osm/>", "of osm"),
        (b'<?xml version="1.0" encoding="none"?><map/>', "unknown encoding"),
        (b'<?xml version="1.0" encoding="shift_jis"?><map/>', "encoding"),
        (ROAD.decode().encode("utf-16"), "UTF-8"),
        (ROAD.decode().encode("utf-32-le"), "UTF-8"),
        (BOMB, "document type"),
        (BOMB.decode().encode("utf-16-le"), "UTF-8"),
        (b'<!DOCTYPE map SYSTEM "file:///etc/passwd"><map/>', "document type"),
        (b"<map>" + b"<lane>" * 5000, "deep"),
        (b"<map>" * 200_000, "deep"),
        (b"<map>" + b"x" * 1_000_000 + b"</map>", "a tag in every"),
        (b'<map name="%s"/>' % (b"x" * 1_000_000), "a tag in every"),
        (b" " * 1_000_000 + BOMB, "a tag in every"),
        (gzip.compress(b"<map>" + b" " * 4_000_000), "a tag in every"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # not the whole content
)
def test_what_is_no_such_xml_is_refused_in_one_line_and_at_once(tmp_path, content, reason):
    path = written(tmp_path, content)
    began = time.process_time()
    with pytest.raises(DataError, match=reason) as refused:
        list(read_xml(path, "map"))
    assert time.process_time() - began < 5
    assert "a.xml" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_more_than_any_map_has_is_refused(tmp_path, monkeypatch):
    path = written(tmp_path, b"<map>" + b"<lane/>" * 50 + b"</map>")
    monkeypatch.setattr(xml, "MAX_ELEMENTS", 50)
    with pytest.raises(DataError, match="50 elements"):
        list(read_xml(path, "map"))
    monkeypatch.undo()
    monkeypatch.setattr(xml, "MAX_BYTES", 300)
    with pytest.raises(DataError, match="300 bytes"):
        list(read_xml(path, "map"))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.xml"):
        list(read_xml(str(tmp_path / "none.xml"), "map"))
