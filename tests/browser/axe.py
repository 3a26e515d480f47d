"""Checks of accessibility by axe-core."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

from tests.servers import parts

if TYPE_CHECKING:
    from playwright.sync_api import Page

_SERIOUS: Final = ("serious", "critical")
# Preloading would request style sheets again.
_RUN: Final = """(rules) => axe.run(document, {
  preload: false, resultTypes: ["violations"], ...(rules.length ? {runOnly: rules} : {})
})"""


@cache
def _source() -> str:
    return (parts.AXE_CORE.require() / "axe.min.js").read_text(encoding="utf-8")


def findings(page: Page, *rules: str) -> list[str]:
    """Return the serious and critical findings of a page, one line each.

    Args:
        page: The page.
        rules: Rules to check; all if none is given.
    """
    if not page.evaluate("'axe' in window"):
        page.evaluate(_source())
    violations: list[dict[str, Any]] = page.evaluate(_RUN, list(rules))["violations"]
    return [
        f"{each['id']}: {each['help']}: {node['html'][:200]} {node['any'][:1]}"
        for each in violations
        if each["impact"] in _SERIOUS
        for node in each["nodes"]
    ]
