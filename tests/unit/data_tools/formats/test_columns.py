"""Feather and Parquet files that nobody vouches for."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from data_tools.formats import columns
from data_tools.formats.columns import read_columns
from forecast.errors import DataError

TYPES = {"name": pa.string(), "count": pa.int64(), "size": pa.float64()}
ROWS = {"name": ["a", "b"], "count": [1, 2], "size": [0.5, 1.5], "other": [None, None]}


def write(path, rows=ROWS, **options):
    table = pa.table(rows)
    if path.suffix == ".parquet":
        pq.write_table(table, path, **options)
    else:
        feather.write_feather(table, path, **options)
    return str(path)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.feather", {"compression": "lz4"}),
        ("a.feather", {"compression": "zstd"}),
        ("a.feather", {"compression": "uncompressed"}),
        ("a.parquet", {"compression": "snappy"}),
        ("a.parquet", {"compression": "zstd"}),
    ],
)
def test_columns_are_read_whatever_their_packing(tmp_path, name, options):
    found = read_columns(write(tmp_path / name, **options), TYPES)
    assert list(found) == list(TYPES)
    assert found["name"].tolist() == ["a", "b"]
    assert found["count"].tolist() == [1, 2]
    assert found["size"].dtype == np.float64


def test_types_that_fit_are_taken_over(tmp_path):
    rows = {
        "name": pa.array(["a", "b"]).dictionary_encode(),
        "count": pa.array([1, 2], pa.uint8()),
        "size": pa.array([1, 2], pa.float32()),
    }
    found = read_columns(write(tmp_path / "a.feather", rows), TYPES)
    assert found["name"].tolist() == ["a", "b"]
    assert found["size"].tolist() == [1.0, 2.0]


def test_rows_in_many_batches_are_read_in_order(tmp_path):
    rows = {"count": np.arange(1000)}
    path = write(tmp_path / "a.feather", rows, chunksize=7)
    np.testing.assert_array_equal(read_columns(path, {"count": pa.int64()})["count"], range(1000))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": [0.5, np.nan]}, "every row of size; got nan in row 2 of"),
        ({"size": [-np.inf, 1.0]}, "every row of size; got -inf in row 1 of"),
        ({"name": ["a", None]}, "every row of name; got None in row 2 of"),
        ({"count": [1, None]}, "every row of count; got None in row 2 of"),
        ({"count": ["one", "two"]}, "a Feather or Parquet table"),
        ({"count": [1.5, 2.0]}, "a Feather or Parquet table"),
    ],
)
@pytest.mark.parametrize("name", ["a.feather", "a.parquet"])
def test_values_that_are_missing_or_of_another_kind_are_refused(tmp_path, name, change, message):
    path = write(tmp_path / name, ROWS | change)
    with pytest.raises(DataError, match=message):
        read_columns(path, TYPES)


@pytest.mark.parametrize(
    "content",
    [b"", b"ARROW1", b"ARROW1\0\0", b"PAR1", b"PAR1PAR1", b"FEA1" + bytes(90), b"\xff" * 10_000],
)
def test_junk_is_refused(tmp_path, content):
    path = tmp_path / "a.feather"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a Feather or Parquet table .*a\.feather"):
        read_columns(str(path), TYPES)


@pytest.mark.parametrize("name", ["a.feather", "a.parquet"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_a_file_cut_short_is_refused(tmp_path, name, share):
    path = tmp_path / name
    write(path, {"count": np.random.default_rng(0).integers(0, 10**9, 2000)})
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(DataError, match=r"a Feather or Parquet table"):
        read_columns(str(path), {"count": pa.int64()})


@pytest.mark.parametrize("limit", ["MAX_BYTES", "MAX_ROWS"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.feather", {"compression": "zstd"}),
        ("a.feather", {"compression": "lz4"}),
        ("a.feather", {"compression": "uncompressed"}),
        ("a.parquet", {"compression": "zstd"}),
    ],
)
def test_a_table_that_unpacks_into_too_much_is_refused_before_it_is(
    tmp_path, monkeypatch, name, options, limit
):
    path = write(tmp_path / name, {"size": np.zeros(100_000)}, **options)
    asked = {"size": pa.float64()}
    size = 100_000 if limit == "MAX_ROWS" or name.endswith("parquet") else 800_000
    if limit == "MAX_ROWS" or not name.endswith("parquet"):
        monkeypatch.setattr(columns, limit, size)
        assert len(read_columns(path, asked)["size"]) == 100_000
    monkeypatch.setattr(columns, limit, size - 1 if limit == "MAX_ROWS" else 10)
    monkeypatch.setattr(columns.pa.ipc, "open_stream", lambda _: pytest.fail("it was unpacked"))
    monkeypatch.setattr(columns.pq.ParquetFile, "read", lambda *_, **__: pytest.fail("unpacked"))
    with pytest.raises(DataError, match="more than"):
        read_columns(path, asked)


def test_text_of_an_attackers_dictionary_is_counted_too(tmp_path, monkeypatch):
    rows = {"name": pa.array(["x" * 50_000]).dictionary_encode()}
    path = write(tmp_path / "a.feather", rows, compression="zstd")
    monkeypatch.setattr(columns, "MAX_BYTES", 40_000)
    with pytest.raises(DataError, match="more than"):
        read_columns(path, {"name": pa.string()})
