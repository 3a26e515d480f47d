"""Properties of every page: accessible, confined, readable on a phone, usable by keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import pytest

from tests.browser import axe
from tests.browser.conftest import DEAD_LETTERS, Visit
from tests.browser.console import Console
from tests.browser.markup import Markup
from tests.browser.pages import PAGES, everywhere, scanned

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

PHONE: Final = {"width": 360, "height": 740}
_WIDTHS: Final = "[document.documentElement.scrollWidth, window.innerWidth]"
_FOCUSED: Final = """() => {
  const {activeElement: focused} = document;
  const {outlineStyle, outlineWidth} = getComputedStyle(focused);
  const box = focused.getBoundingClientRect();
  return [focused.tagName + " " + (focused.name || focused.textContent.trim().slice(0, 30)),
          outlineStyle !== "none" && parseFloat(outlineWidth) >= 1, box.width > 0];
}"""


def _opened(page: Page, running: Console) -> Iterator[str]:
    """Open every page, and yield its address."""
    for path in everywhere(running):
        page.goto(path)
        # The page of the checks is loaded again at their end.
        page.locator("body:not([data-live='/diagnostics/live'])").wait_for()
        yield path


@pytest.fixture(autouse=True)
def _scanned(reader: Console) -> None:
    scanned(reader, DEAD_LETTERS)


def test_axe_finds_nothing_serious_in_light_and_in_dark_colours(
    reader: Console, visit: Visit
) -> None:
    # Colours in transition have other contrasts.
    page = visit(reader, color_scheme="light", reduced_motion="reduce", expected="status of 40")
    found: dict[str, list[str]] = {}
    for path in _opened(page, reader):
        found[path] = axe.findings(page)
        page.emulate_media(color_scheme="dark")
        found[path] += axe.findings(page, "color-contrast")
        page.emulate_media(color_scheme="light")
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_no_page_scrolls_sideways_on_a_phone(reader: Console, visit: Visit) -> None:
    page = visit(reader, viewport=PHONE, is_mobile=True, has_touch=True, expected="status of 40")
    widths = {path: page.evaluate(_WIDTHS) for path in _opened(page, reader)}
    assert {path: each for path, each in widths.items() if each[0] > each[1]} == {}


def test_every_page_has_one_heading_a_title_of_its_own_and_only_markup_of_ours(
    reader: Console,
) -> None:
    titles: dict[str, str] = {}
    for path in everywhere(reader):
        text = reader.get(path).text
        assert Markup(text).problems == [], path
        assert text.count("<h1") == 1, path
        assert '<html lang="en">' in text
        titles[path] = text.partition("<title>")[2].partition("</title>")[0]
    assert len({titles[path] for path in PAGES}) == len(PAGES)


@pytest.mark.parametrize("path", PAGES)
def test_focus_is_visible_on_everything_that_tab_reaches(
    reader: Console, visit: Visit, path: str
) -> None:
    page = visit(reader, path)
    page.keyboard.press("Tab")
    assert page.evaluate(_FOCUSED)[0] == "A Skip to the content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")
    names = []
    for _ in range(12):
        name, is_outlined, is_visible = page.evaluate(_FOCUSED)
        if name.startswith("BODY"):
            break
        assert (is_outlined, is_visible) == (True, True), name
        names.append(name)
        page.keyboard.press("Tab")
    assert names
