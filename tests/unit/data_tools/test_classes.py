"""Labels of sources to classes: the table, and the user's word over it."""

import pytest

from data_tools.classes import CLASSES, class_of
from data_tools.options import PrepareOptions, parse_pair
from forecast.errors import ConfigError


def test_the_table_names_the_class_of_a_label():
    assert class_of("nuscenes", "vehicle.bus.rigid") == "vehicle"
    assert class_of("kitti-tracking", "Van") == "vehicle"


def test_a_label_that_the_table_does_not_have_keeps_its_name_in_lower_case():
    assert class_of("argoverse2-sensor", "DOG") == "dog"
    assert class_of("tracks", "Forklift") == "forklift"


def test_the_user_overrides_the_table_in_whatever_case():
    overrides = [("bus", "bus"), ("DOG", "animal")]
    assert class_of("argoverse2-sensor", "BUS", overrides) == "bus"
    assert class_of("argoverse2-sensor", "DOG", overrides) == "animal"
    assert class_of("argoverse2-sensor", "TRUCK", overrides) == "vehicle"


def test_classes_are_in_lower_case():
    assert all(name.islower() for table in CLASSES.values() for name in table.values())


def test_an_override_is_written_native_equals_class():
    assert parse_pair("vehicle.bus.rigid = bus", "--map-class") == ("vehicle.bus.rigid", "bus")
    assert parse_pair("name=a=b", "--set") == ("name", "a=b")


@pytest.mark.parametrize("text", ["", "BUS", "BUS=", "=bus", "="])
def test_an_override_written_otherwise_is_refused(text):
    with pytest.raises(ConfigError, match="correct --map-class"):
        parse_pair(text, "--map-class")


def test_a_label_may_be_left_out_by_name():
    options = PrepareOptions(classes=("vehicle",), map_classes=(("TRAILER", "none"),))
    assert class_of("argoverse2-sensor", "trailer", options.map_classes) == "none"
