"""Pickles read without trust: what comes through, and what is refused before it runs."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import struct
import subprocess
from collections import Counter, OrderedDict, defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from data_tools.formats.plain_pickle import PickledArray, load
from forecast.errors import DataError


def revealed(value: Any) -> Any:
    """Look-alikes as the arrays that they stand for."""
    if isinstance(value, PickledArray):
        return value.values
    if isinstance(value, dict):
        return {key: revealed(item) for key, item in value.items()}
    return [revealed(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_numbers_text_containers_and_arrays_come_through(protocol):
    shared = np.arange(6.0)
    content = {
        "plain": [None, True, 3, -2.5, "text", b"bytes", (1, 2), {"a"}, frozenset({1})],
        "arrays": [shared, shared, shared.reshape(2, 3).T, np.zeros((0, 2)), np.array(1.5)],
        "kinds": [np.array(["a", "bcd"]), np.array([True]), np.arange(3, dtype=">i2")],
        "scalar": np.float32(0.5),
        "objects": np.array([None, "a"], object),
        "ordered": OrderedDict(b=1),
    }
    made = revealed(load(pickle.dumps(content, protocol), "a.pkl"))
    np.testing.assert_equal(made, content)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    array=hnp.arrays(
        st.one_of(
            hnp.integer_dtypes(), hnp.floating_dtypes(sizes=(32, 64)), hnp.unicode_string_dtypes()
        ),
        hnp.array_shapes(min_side=0),
    ),
    fortran=st.booleans(),
    protocol=st.sampled_from([3, 4, 5]),
)
def test_every_array_comes_through(array, fortran, protocol):
    array = np.asfortranarray(array) if fortran else array
    np.testing.assert_array_equal(
        revealed(load(pickle.dumps(array, protocol), "a.pkl")), array, strict=True
    )


class Calls:
    """Pickles as a call."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __str__(self) -> str:
        return self.call[0].__qualname__

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    "hostile",
    [
        Calls(os.system, "touch {mark}"),
        Calls(os.mkdir, "{mark}"),
        Calls(builtins.open, "{mark}", "w"),
        Calls(subprocess.run, ["touch", "{mark}"]),
        Calls(builtins.exec, "open('{mark}', 'w')"),
        Calls(builtins.getattr, {}, "clear"),
        Calls(np.fromfile, "/dev/zero"),
        Calls(bytearray, 1 << 40),
        Calls(int, "9" * 4000),
        Calls(defaultdict, list),
        Calls(defaultdict, int, {"a": 1}),
        Counter(a=1),
        np.zeros(2, [("a", "f8"), ("b", "i4")]),
        np.array(["2020-01-01"], "datetime64[s]"),
        np.array([1j]),
    ],
    ids=str,
)
def test_whatever_asks_for_more_is_refused_and_does_not_run(tmp_path, hostile):
    mark = tmp_path / "mark"
    if isinstance(hostile, Calls):
        function, args = hostile.call
        named = [a.format(mark=mark) if isinstance(a, str) else a for a in args]
        hostile = Calls(function, *named)
    with pytest.raises(DataError, match=r"a\.pkl"):
        load(pickle.dumps({"tracks": [hostile]}), "a.pkl")
    assert not mark.exists()


def test_counts_in_a_defaultdict_are_read_as_a_plain_dict():
    counts: Any = defaultdict(int, VEHICLE=3)
    read = load(pickle.dumps({"number": counts, "none": defaultdict()}), "a.pkl")
    assert read == {"number": {"VEHICLE": 3}, "none": {}}
    assert type(read["number"]) is dict


def text(value: str) -> bytes:
    return pickle.BINUNICODE + struct.pack("<I", len(value)) + value.encode()


def glob(module: str, name: str) -> bytes:
    return text(module) + text(name) + pickle.STACK_GLOBAL


STATE = pickle.MARK + text("__defaults__") + pickle.NONE + pickle.DICT  # {"__defaults__": None}
SCALAR = glob("numpy.core.multiarray", "scalar")
DTYPE = glob("numpy", "dtype") + text("f8") + pickle.TUPLE1 + pickle.REDUCE
ARRAY = glob("numpy", "ndarray") + pickle.EMPTY_TUPLE + pickle.REDUCE


def array_state(shape: bytes, content: bytes) -> bytes:
    data = pickle.BINBYTES + struct.pack("<I", len(content)) + content
    head = pickle.MARK + pickle.BININT1 + b"\x01" + shape + DTYPE + pickle.NEWFALSE
    return head + data + pickle.TUPLE + pickle.BUILD


HUGE = pickle.LONG1 + b"\x06" + (1 << 40).to_bytes(6, "little")


@pytest.mark.parametrize(
    "program",
    [
        b"",
        b"junk" * 1000,
        bytes(100_000),
        SCALAR + STATE + pickle.BUILD,  # changes a function of ours
        SCALAR + pickle.NONE + STATE + pickle.TUPLE2 + pickle.BUILD,
        glob("numpy", "ndarray") + STATE + pickle.BUILD,  # changes a class of ours
        glob("numpy", "ndarray.tofile"),
        glob("data_tools.formats.plain_pickle", "load"),
        pickle.EMPTY_DICT + pickle.BINPERSID,
        pickle.EXT1 + b"\x01",
        pickle.NONE + pickle.LONG_BINPUT + b"\xff\xff\xff\x7f",  # a memo of 2**31 places
        pickle.BYTEARRAY8 + struct.pack("<Q", 1 << 40),
        pickle.BYTEARRAY8 + struct.pack("<Q", (1 << 64) - 1),
        pickle.BINBYTES8 + struct.pack("<Q", (1 << 63) + 5),
        pickle.FRAME + struct.pack("<Q", 1 << 60),
        ARRAY + array_state(HUGE + pickle.TUPLE1, bytes(8)),
        ARRAY + array_state(pickle.BININT1 + b"\x02" + pickle.TUPLE1, bytes(8)),
        ARRAY + array_state(pickle.LONG1 + b"\x01\xff" + pickle.TUPLE1, bytes(8)),
        ARRAY + array_state(pickle.EMPTY_TUPLE, bytes(7)),
        DTYPE + STATE + pickle.BUILD,
        glob("numpy", "dtype") + text("V8") + pickle.TUPLE1 + pickle.REDUCE,
    ],
    ids=lambda program: repr(program[:40]),
)
def test_programs_that_break_out_or_ask_for_memory_are_refused(program):
    whole = pickle.PROTO + b"\x04" + program
    with pytest.raises(DataError, match=r"a\.pkl"):
        # The last one of a memo without end would do no harm; it must only not take memory.
        load(whole + (b"" if pickle.LONG_BINPUT in program else pickle.STOP), "a.pkl")
    assert load(pickle.dumps(np.float64(2.0)), "a.pkl") == 2.0  # nothing of ours has changed


SAMPLE = pickle.dumps({"a": [np.arange(4.0), np.float32(1)], "b": ("text", {1, 2}, None)})


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(changes=st.lists(st.tuples(st.integers(0, len(SAMPLE)), st.binary(max_size=9)), max_size=4))
def test_changed_pickles_are_read_or_refused(changes):
    content = io.BytesIO(SAMPLE)
    for place, put in changes:
        content.seek(place)
        content.write(put)
    try:
        load(content.getvalue(), "a.pkl")
    except DataError as error:
        assert error.got.startswith("a.pkl (")  # noqa: PT017


def test_what_containers_in_containers_would_unfold_to_is_not_unfolded():
    laughs: Any = "ha"
    for _ in range(200):
        laughs = [laughs, laughs]
    assert isinstance(load(pickle.dumps(laughs), "a.pkl"), list)
