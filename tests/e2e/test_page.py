"""The page in a browser: sliding, clicking, keys and hovering, read back from what is shown."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import zarr

from forecast.visualization.page import write_page
from tests.support.realizations import add_realizations
from tests.support.stores import Mover, forecast_store, sequence_store

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
if BROWSER is None:
    pytest.skip(f"no browser: none of {', '.join(BROWSERS)}", allow_module_level=True)

# Of the car in the first sequence, in realization 1: from 0, 0 to 9, 6, a step half a second.
TURNS_LEFT = [[1.5 * lead, lead, 0.6] for lead in range(1, 7)]

TROUBLES: list[str] = []
ASKED: list[str] = []


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    folder = tmp_path_factory.mktemp("page")
    scenes = [[Mover(0.0, 0.0, speed=4.0)], [Mover(-4.0, -4.0, 1.0, label=2, length=2.0)]]
    data = sequence_store(folder / "s.zarr", scenes)
    path = folder / "page.html"
    ours = add_realizations(forecast_store(folder / "f.zarr", data), 3)
    realizations = zarr.open_group(ours, mode="r+")["realization_pose"]
    assert isinstance(realizations, zarr.Array)
    realizations[0, 1, :, 0] = TURNS_LEFT
    occupancy = zarr.open_group(ours, mode="r+")["occupancy"]
    assert isinstance(occupancy, zarr.Array)
    occupancy[0, :, 0, 4:8, 8:12], occupancy[0, :, 1, 4:8, 8:12] = 0.5, 0.4
    write_page(str(path), data, ours)
    with sync_playwright() as player:
        browser = player.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox"], timeout=300_000
        )
        shown = browser.new_page(viewport={"width": 1400, "height": 1000})
        shown.set_default_timeout(120_000)
        shown.on("pageerror", lambda error: TROUBLES.append(str(error)))
        shown.on("console", lambda line: TROUBLES.append(line.text))
        shown.on("request", lambda request: ASKED.append(request.url))
        shown.goto(path.as_uri())
        shown.wait_for_selector("body[data-ready=yes]")
        yield shown
        browser.close()


@pytest.fixture(autouse=True)
def from_the_present(page: Any) -> None:
    page.select_option("#sequence", index=0)
    slide(page, 0)
    page.select_option("#realization", index=0)
    page.select_option("#class", index=0)
    for layer in ("map", "history", "truth", "forecast", "fans"):
        page.set_checked(f"#{layer}", True)
    for layer in ("flow", "ids", "probability"):
        page.set_checked(f"#{layer}", False)


def slide(page: Any, to: int) -> None:
    page.fill("#time", str(to))


def now(page: Any) -> str:
    return str(page.text_content("#now"))


def hover(page: Any, x_m: float, y_m: float) -> str:
    """What is said of a place, in metres ahead and to the left of the ego."""
    box = page.locator("#view").bounding_box()
    cell = page.evaluate("scale")
    column, row = (12.0 - y_m) / 0.5 * cell, (24.0 - x_m) / 0.5 * cell
    page.mouse.move(box["x"] + 1 + column, box["y"] + 1 + row)
    return str(page.inner_text("#about"))


def picture(page: Any) -> str:
    return str(page.evaluate("document.getElementById('view').toDataURL()"))


def test_the_slider_moves_time_from_the_history_to_the_last_lead(page: Any) -> None:
    assert now(page) == "now"
    slide(page, -2)
    assert now(page) == "-1.0 s"
    slide(page, 6)
    assert now(page) == "+3.0 s"
    assert picture(page) != (slide(page, 5), picture(page))[1]


def test_hovering_names_id_class_and_speed_in_every_layer_that_is_on(page: Any) -> None:
    assert hover(page, 0.1, 0.1) == "history: id 1, vehicle, 4.0 m/s"
    assert hover(page, 20.0, 8.0) == ""
    slide(page, 4)  # two seconds later, eight metres on
    said = hover(page, 8.1, 0.1).splitlines()
    assert said[0] == "truth: id 1, vehicle, 4.0 m/s"
    assert said[1].startswith("forecast: id 1, vehicle, 4.")
    page.set_checked("#forecast", False)
    assert hover(page, 8.1, 0.2) == "truth: id 1, vehicle, 4.0 m/s"


@pytest.mark.parametrize(
    "layer", ["map", "history", "truth", "forecast", "probability", "fans", "flow", "ids"]
)
def test_every_layer_can_be_switched(page: Any, layer: str) -> None:
    slide(page, 0 if layer == "history" else 3)
    before = picture(page)
    page.click(f"#{layer}")
    assert picture(page) != before
    page.click(f"#{layer}")
    assert picture(page) == before


def test_keys_step_through_time_sequences_and_layers(page: Any) -> None:
    page.locator("#help").click()
    page.keyboard.press("ArrowRight")
    assert now(page) == "+0.5 s"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert now(page) == "-0.5 s"
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.getElementById('sequence').selectedIndex") == 1
    assert "pedestrian" in hover(page, -4.0, -4.0)
    page.keyboard.press("t")
    assert not page.is_checked("#truth")


def colour(page: Any, x_m: float, y_m: float) -> list[int]:
    """Red, green and blue that are seen at a place, in metres ahead and to the left of the ego."""
    found: list[int] = page.evaluate(
        """place => {
            const [column, row] = pixel(...place);
            const pen = new OffscreenCanvas(1, 1).getContext("2d");
            pen.drawImage($("view"), -Math.floor(column), -Math.floor(row));
            return Array.from(pen.getImageData(0, 0, 1, 1).data).slice(0, 3);
        }""",
        [x_m, y_m],
    )
    return found


def test_probability_is_shown_of_any_class_or_of_one_and_told_by_class(page: Any) -> None:
    slide(page, 2)
    page.click("#probability")
    place = -11.2, -9.2  # in the cells 4 to 8, 8 to 12 of the raster
    assert hover(page, *place) == "probability: vehicle 50 %, pedestrian 40 %"
    shades = page.evaluate("store.shades")
    assert colour(page, *place) == shades[70][:3], "1 - 0.5 x 0.6"
    page.select_option("#class", label="pedestrian")
    assert colour(page, *place) == shades[40][:3]
    page.select_option("#class", label="cyclist")
    assert colour(page, *place) not in (shades[70][:3], shades[40][:3])
    slide(page, 0)
    assert hover(page, *place) == "", "at present it is known who is there"


def test_probability_lies_under_the_label_maps_or_replaces_them(page: Any) -> None:
    slide(page, 4)
    for layer in ("truth", "fans"):
        page.set_checked(f"#{layer}", False)
    car = 9.2, 0.6
    labels = colour(page, *car)
    page.click("#probability")
    assert colour(page, *car) == labels
    page.click("#forecast")
    assert colour(page, *car) == page.evaluate("store.shades")[100][:3]


def test_a_realization_is_played_box_by_box(page: Any) -> None:
    page.set_checked("#truth", False)
    page.select_option("#realization", label="realization 1")
    for lead in (1, 4, 6):
        slide(page, lead)
        x_m, y_m, _ = TURNS_LEFT[lead - 1]
        assert hover(page, x_m, y_m).startswith("realization 1: id 1, vehicle, 3.6 m/s")
        assert hover(page, x_m + 4.0, y_m - 2.0) == "", "beyond the box, or where another is"
    page.select_option("#realization", label="label maps")
    assert hover(page, 9.0, 6.0) == ""
    assert hover(page, 12.1, 0.1).startswith("forecast: id 1")


def test_a_box_is_drawn_along_its_heading(page: Any) -> None:
    for layer in ("truth", "fans", "history"):
        page.set_checked(f"#{layer}", False)
    page.select_option("#realization", label="realization 1")
    slide(page, 6)
    x_m, y_m, yaw = TURNS_LEFT[-1]
    car = page.evaluate("colour(1)")
    for ahead, aside, drawn in (
        (2.15, 0.85, 1),
        (2.15, -0.85, 1),
        (-2.15, 0.85, 1),
        (-2.15, -0.85, 1),
        (0, 1.4, 0),
    ):
        x = x_m + ahead * np.cos(yaw) - aside * np.sin(yaw)
        y = y_m + ahead * np.sin(yaw) + aside * np.cos(yaw)
        assert (colour(page, float(x), float(y)) == car) == bool(drawn), (ahead, aside)


def test_keys_step_through_realizations(page: Any) -> None:
    slide(page, 6)
    page.locator("#help").click()
    seen = {picture(page)}
    for number in (0, 1, 2, 2):
        page.keyboard.press(".")
        chosen = page.evaluate("$('realization').selectedOptions[0].text")
        assert chosen == f"realization {number}"
        seen.add(picture(page))
    assert len(seen) == 4, "the last key found no further one"
    page.keyboard.press(",")
    assert page.evaluate("chosen()") == 1


def test_nothing_is_fetched_and_nothing_goes_wrong(page: Any) -> None:
    assert now(page) == "now"
    assert TROUBLES == []
    assert [url for url in ASKED if not url.startswith("file:")] == []
