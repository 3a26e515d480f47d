"""Properties of every page: accessible, without foreign requests, on every screen, by keyboard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.browser import axe, hostile
from tests.browser.conftest import Visit
from tests.browser.console import Console
from tests.browser.markup import Markup
from tests.browser.pages import PAGES, detail_pages, scanned

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

PHONE: Final = {"width": 360, "height": 740}
_WIDTHS: Final = "[document.documentElement.scrollWidth, window.innerWidth]"
_OUTLINE: Final = """() => {
  const style = getComputedStyle(document.activeElement);
  return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(reader: Console, visit: Visit, scheme: str) -> None:
    page = visit(reader, color_scheme=scheme)
    found = {path: axe.findings(page) for path in _opened(page, reader)}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_no_page_scrolls_sideways_on_a_phone(reader: Console, visit: Visit) -> None:
    page = visit(reader, viewport=PHONE, is_mobile=True, has_touch=True)
    for path in _opened(page, reader):
        width, visible = page.evaluate(_WIDTHS)
        assert width <= visible, path


def _opened(page: Page, running: Console) -> list[str]:
    ...
