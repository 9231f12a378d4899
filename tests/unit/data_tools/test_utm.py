"""UTM: against other formulas, published places and the length of the meridian."""

import numpy as np
import pytest
from scipy.integrate import quad

from data_tools.utm import is_zone, to_utm
from tests.support.geodesy import utm_48_north


@pytest.mark.parametrize("latitude", [-20.0, 0.0, 1.3, 36.1, 60.0])
@pytest.mark.parametrize("away", [-3.0, -1.2, 0.0, 2.9])
def test_places_are_where_other_formulas_have_them(latitude, away):
    found = to_utm(np.array([[105.0 + away, latitude]]), 32648)[0]
    np.testing.assert_allclose(found, utm_48_north(105.0 + away, latitude), atol=2e-3)


@pytest.mark.parametrize(
    ("place", "epsg", "metres", "within_m"),
    [
        # The example of pyproj's own documentation.
        ((-120.108, 34.36116666), 32610, (765975.641, 3805993.134), 1e-3),
        # The CN Tower, in whole metres, as Wikipedia has it.
        ((-79.387139, 43.642567), 32617, (630084, 4833438), 1.0),
    ],
)
def test_places_are_where_they_are_published(place, epsg, metres, within_m):
    np.testing.assert_allclose(to_utm(np.array([place]), epsg)[0], metres, atol=within_m)


@pytest.mark.parametrize("latitude", [-45.0, 10.0, 70.0])
def test_on_the_central_meridian_north_is_the_length_of_its_arc(latitude):
    a, e2 = 6378137.0, 0.0066943799901413165

    def radius(phi):
        return a * (1 - e2) / (1 - e2 * np.sin(phi) ** 2) ** 1.5

    arc, _ = quad(radius, 0.0, np.radians(latitude), epsabs=1e-8)
    zone = 32748 if latitude < 0 else 32648
    east, north = to_utm(np.array([[105.0, latitude]]), zone)[0]
    assert east == 500_000.0
    assert north == pytest.approx(0.9996 * arc + (1e7 if latitude < 0 else 0.0), abs=1e-6)


def test_zones_meet_at_the_antimeridian():
    east, _ = to_utm(np.array([[-179.9, 5.0], [179.9, 5.0]]), 32660).T
    assert 0 < east[0] - east[1] < 25_000


def test_what_is_no_place_near_the_zone_is_refused():
    for place in [(-74.0, 40.0), (np.nan, 1.0), (105.0, 91.0), (365_000.0, 142_000.0)]:
        with pytest.raises(ValueError, match="no longitude and latitude"):
            to_utm(np.array([(105.0, 1.0), place]), 32648)


def test_zones_are_told_by_their_numbers():
    numbers = [32600, 32601, 32660, 32661, 32700, 32701, 32760, 32761, 4326]
    assert [number for number in numbers if is_zone(number)] == [32601, 32660, 32701, 32760]
