"""The page in a browser: sliding, clicking, keys and hovering, read back from what is shown."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from forecast.visualization.page import write_page
from tests.support.stores import Mover, forecast_store, sequence_store

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
if BROWSER is None:
    pytest.skip(f"no browser: none of {', '.join(BROWSERS)}", allow_module_level=True)

TROUBLES: list[str] = []
ASKED: list[str] = []


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    folder = tmp_path_factory.mktemp("page")
    scenes = [[Mover(0.0, 0.0, speed=4.0)], [Mover(-4.0, -4.0, 1.0, label=2, length=2.0)]]
    data = sequence_store(folder / "s.zarr", scenes)
    path = folder / "page.html"
    write_page(str(path), data, forecast_store(folder / "f.zarr", data))
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
    for layer in ("map", "history", "truth", "forecast"):
        page.set_checked(f"#{layer}", True)
    for layer in ("flow", "ids"):
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


@pytest.mark.parametrize("layer", ["map", "history", "truth", "forecast", "flow", "ids"])
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


def test_nothing_is_fetched_and_nothing_goes_wrong(page: Any) -> None:
    assert now(page) == "now"
    assert TROUBLES == []
    assert [url for url in ASKED if not url.startswith("file:")] == []
