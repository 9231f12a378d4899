"""Work map_parallel over processes: nothing of Dask's inner life reaches the terminal."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from forecast.parallel import map_parallel

# What a busy machine may hear from a worker, and at the end from its nanny.
PROGRAM = """
import logging
from forecast.parallel import map_parallel

def complain(number):
    for name in ("distributed.worker", "distributed.gc"):
        logging.getLogger(name).warning("inner life")
    return number

if __name__ == "__main__":
    with map_parallel(2, None) as run:
        assert sorted(run(complain, range(2))) == [0, 1]
        logging.getLogger("distributed.nanny").warning("inner life")
"""


@pytest.mark.parametrize(("debug", "lines"), [("", 0), ("1", 5)])
def test_the_log_of_dask_is_heard_only_in_debugging(debug: str, lines: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"FORECAST_DEBUG": debug},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.count("inner life") == lines, done.stderr
    if not debug:
        assert not done.stderr


@pytest.mark.parametrize("own", [None, "{}"])
def test_all_is_as_before_when_the_work_is_done(
    own: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import distributed  # noqa: F401 - it sets its loggers up

    monkeypatch.delenv("DASK_LOGGING", raising=False)
    if own is not None:
        monkeypatch.setenv("DASK_LOGGING", own)
    before = logging.getLogger("distributed").level
    with map_parallel(2, None) as run:
        assert list(run(str, [1])) == ["1"]
    assert logging.getLogger("distributed").level == before
    assert os.environ.get("DASK_LOGGING") == own
