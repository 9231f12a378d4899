"""Whatever a recording holds, a source gives scenes or one error; ``make fuzz`` looks longer."""

from __future__ import annotations

import gc
import os
import random
from pathlib import Path

import pytest

from tests.support.fuzz_samples import TARGETS
from tests.support.fuzz_sources import Fuzzer, run_apart
from tests.support.mutation import mutated

CASES = 25


@pytest.mark.parametrize("name", TARGETS)
def test_a_damaged_recording_gives_scenes_or_one_line_that_names_it(
    name: str, tmp_path: Path
) -> None:
    fuzzer = Fuzzer(name, tmp_path, [], seed=0)
    gc.freeze()  # what is there already is not looked through before each case
    if seconds := float(os.environ.get("FUZZ_SECONDS", "0")):
        keep = Path("fuzz-failures")
        keep.mkdir(exist_ok=True)
        assert not run_apart(fuzzer, name, seconds, keep, tmp_path / "case")
        return
    outcomes = {fuzzer.attempt(number) for number in range(CASES)}
    gc.unfreeze()
    assert outcomes == {"scenes", "refused"}  # damage that never shows, or always, tests little


def test_damage_is_drawn_from_its_seed_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": [1, 2, {"b": null}], "c": "text"}')
    first, again = ([mutated(path, random.Random(n)) for n in range(50)] for _ in range(2))
    assert first == again
    assert len(set(first)) > 25
