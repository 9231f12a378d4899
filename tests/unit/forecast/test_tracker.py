from dataclasses import replace

import pytest
import torch

from forecast.errors import ConfigError
from forecast.model.birth import Birth
from forecast.model.forecaster import Detecting
from forecast.model.tracker import peaks
from forecast.model.tracks import FrameQueries
from tests.sequences import forecaster
from tests.support import GRID
from tests.unit.forecast.test_matching import queries


def scored(frame: FrameQueries, *chances: float) -> FrameQueries:
    score = torch.full_like(frame.score, -9.0)
    score[0, :, 0] = torch.logit(torch.tensor(chances))
    return replace(frame, score=score, size=torch.full_like(frame.size, 2.0))


def test_good_candidates_are_born_with_new_ids_and_weak_tracks_end() -> None:
    decide = Birth(birth=0.4, stay=0.5)
    first = scored(queries([(0.0, 0.0), (9.0, 0.0), (0.0, 9.0)], []), 0.9, 0.3, 0.5)
    assert decide(first).ids.tolist() == [[1, 0, 2]]
    second = scored(queries([(9.0, 9.0)], [(1, 0.0, 0.0), (2, 0.0, 9.0)], 1), 0.8, 0.7, 0.2)
    assert decide(second).ids.tolist() == [[3, 1, 0]]


def test_nobody_is_born_inside_a_track_or_a_better_candidate() -> None:
    frame = scored(
        queries([(0.5, 0.0), (9.0, 0.0), (9.5, 0.0)], [(1, 0.0, 0.0)], 1), 0.9, 0.6, 0.8, 0.9
    )
    decide = Birth(0.4, 0.5)
    decide.used = torch.tensor([1])
    assert decide(frame).ids.tolist() == [[0, 0, 2, 1]]


def test_peaks_are_the_strongest_local_maxima_at_their_cells_centres() -> None:
    heat = torch.full((1, *GRID.shape), -5.0)
    heat[0, 10, 20], heat[0, 10, 21], heat[0, 30, 40] = 3.0, 2.0, 1.0
    points, found = peaks(heat, 2, GRID)
    expected = [[GRID.x_m[20], GRID.y_m[10]], [GRID.x_m[40], GRID.y_m[30]]]
    torch.testing.assert_close(points[0].double(), torch.tensor(expected, dtype=torch.float64))
    assert found.all()


def test_a_model_that_reads_no_raster_cannot_detect() -> None:
    with pytest.raises(ConfigError, match="reads the raster"):
        Detecting(forecaster(memory=False))
