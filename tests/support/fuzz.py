"""Damage to files, for tests of what readers make of it."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# FUZZ_EXAMPLES=5000 makes minutes of it.
fuzzed = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "25")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The content with some bytes changed, and perhaps its end cut off; or anything else."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    changed = bytearray(content)
    place = st.integers(0, max(len(content) - 1, 0))
    if draw(st.booleans()):
        del changed[draw(place) :]
    for at, value in draw(st.lists(st.tuples(place, st.integers(0, 255)), max_size=20)):
        changed[at : at + 1] = bytes([value])
    return bytes(changed)


def documents(*names: str) -> st.SearchStrategy[Any]:
    """JSON of any shape whose objects have keys of the given names."""
    leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    return st.recursive(
        leaf,
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(names), inner, max_size=6)
        ),
        max_leaves=12,
    )
